//! `crewtap verify`: whether the journal is what was recorded and signed, and if not, what in it is not.
//!
//! Judges nothing itself: what is wrong, and how much it weighs, is the journal's answer.

use std::process::ExitCode;

use crewtap_core::chain::finding::{Finding, Weight};
use crewtap_core::mask::tails::Tail;
use crewtap_core::session::Side;
use serde::Serialize;

use super::reindex::bar;
use super::runs::finish;
use super::screen::{Screen, Style, ViewArgs, counted, safe};
use super::store::StoreDir;
use crate::journal::{Report, verify};

/// Check that the journal is what was recorded and signed: every record, the tree over them, and its signatures.
#[derive(clap::Args, Clone, Debug)]
pub struct VerifyArgs {
    /// Print JSON Lines: a line for each finding, then the summary.
    #[arg(long)]
    pub json: bool,
}

/// Undecided bytes that are shown to people; the last line counts all of them.
const TAILS_SHOWN: usize = 20;

/// A line of `--json`.
#[derive(Serialize)]
struct Undecided<'r> {
    what: &'static str,
    #[serde(flatten)]
    tail: &'r Tail,
}

/// The last line of `--json`.
#[derive(Serialize)]
struct Summary {
    intact: bool,
    records: u64,
    size: u64,
    signed: u64,
    checkpoints: u64,
    erased: u64,
    segments: u64,
    sealed: u64,
    /// Streams whose last bytes no record decides under the masks.
    undecided: u64,
    findings: u64,
}

/// Verifies the journal.
///
/// # Errors
/// When it cannot be read; exit status 1 when something that was signed is not what it was.
pub fn run(store: &StoreDir, args: &VerifyArgs) -> anyhow::Result<ExitCode> {
    store.readable()?;
    let total = store.journal().and_then(|journal| journal.count()).unwrap_or(0);
    let bar = bar(total, "records");
    let report = verify(store.path(), &mut |done| bar.set_position(done))?;
    bar.finish_and_clear();
    let view = ViewArgs { json: args.json, utc: false };
    finish(print(&report, &mut Screen::new(&mut std::io::stdout().lock(), &view)))
}

pub(super) fn print(report: &Report, screen: &mut Screen) -> anyhow::Result<bool> {
    let intact = report.is_intact();
    let listed = u64::try_from(report.findings.list.len()).unwrap_or(u64::MAX);
    let findings = listed.saturating_add(report.findings.more);
    let tails = u64::try_from(report.undecided.len()).unwrap_or(u64::MAX).saturating_add(report.undecided_more);
    if screen.json {
        for finding in &report.findings.list {
            screen.json(finding)?;
        }
        report.undecided.iter().try_for_each(|tail| screen.json(&Undecided { what: "undecided", tail }))?;
        screen.json(&Summary {
            intact,
            records: report.records,
            size: report.size,
            signed: report.signed,
            checkpoints: report.checkpoints,
            erased: report.erased,
            segments: report.segments,
            sealed: report.sealed,
            undecided: tails,
            findings,
        })?;
        return Ok(intact);
    }
    for finding in &report.findings.list {
        let line = line(finding);
        let style = if finding.weight == Weight::Tampering { Style::Alarm } else { Style::Heading };
        screen.line(&screen.styled(&line, style))?;
    }
    if report.findings.more > 0 {
        screen.line(&format!("… and {} more", counted_of(report.findings.more, "finding", "findings")))?;
    }
    for tail in report.undecided.iter().take(TAILS_SHOWN) {
        screen.line(&safe(&undecided(tail)))?;
    }
    let sealed = match report.sealed {
        0 => String::new(),
        sealed => format!(" in {} ({sealed} sealed)", counted_of(report.segments, "segment", "segments")),
    };
    let words = format!(
        "{}{sealed}, {} under {}",
        counted_of(report.records, "record", "records"),
        report.signed,
        counted_of(report.checkpoints, "signed checkpoint", "signed checkpoints"),
    );
    let erased = match report.erased {
        0 => String::new(),
        erased => format!(", {} erased", counted_of(erased, "payload", "payloads")),
    };
    let erased = match tails {
        0 => erased,
        tails => format!("{erased}, {} never decided under the masks", counted_of(tails, "tail", "tails")),
    };
    let verdict = match (intact, findings) {
        (true, 0) => format!("intact: {words}{erased}"),
        (true, count) => {
            format!("intact: {words}{erased}; {} above the last checkpoint", counted_of(count, "loss", "losses"))
        }
        (false, count) => {
            let count = counted_of(count, "finding", "findings");
            screen.styled(&format!("NOT INTACT: {count}; {words}{erased}"), Style::Alarm)
        }
    };
    screen.line(&verdict)?;
    Ok(intact)
}

fn counted_of(count: u64, one: &str, many: &str) -> String {
    counted(i64::try_from(count).unwrap_or(i64::MAX), one, many)
}

/// Undecided bytes in one line.
fn undecided(tail: &Tail) -> String {
    let Tail { leaf, session, side, len, digest, .. } = tail;
    let exchange = tail.exchange.map(|exchange| format!(".{exchange}")).unwrap_or_default();
    let who = if *side == Side::Client { "client" } else { "target" };
    let why = if tail.ended { "and nothing follows" } else { "and their session has no end yet" };
    format!(
        "undecided record {leaf}: {} that the {who} of {session}{exchange} said last passed before the masks had decided them, \
         {why}: on record are their length and keyed digest {digest}",
        counted_of(*len, "byte", "bytes")
    )
}

/// A finding in one line: what, where, and the sentence.
fn line(finding: &Finding) -> String {
    let what = serde_json::to_value(finding.what).ok();
    let what = what.as_ref().and_then(serde_json::Value::as_str).unwrap_or("finding");
    let leaf = finding.leaf.map(|leaf| format!(" record {leaf}")).unwrap_or_default();
    let file = finding.file.as_deref().map(|file| format!(" {}", safe(file))).unwrap_or_default();
    let offset = finding.offset.map(|offset| format!(" at byte {offset}")).unwrap_or_default();
    format!("{what}{leaf}{file}{offset}: {}", safe(&finding.text))
}
