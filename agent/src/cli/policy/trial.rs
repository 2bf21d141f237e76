//! `crewtap policy test`: what was recorded, judged again by other policies.

use std::collections::HashMap;

use crewtap_core::chain::Record;
use crewtap_core::id::RunId;
use crewtap_core::identity::Groups;
use crewtap_core::policy::catalog::Catalog;
use crewtap_core::policy::rules::{Rules, Scope};
use crewtap_core::verdict::{Effect, Verdict};
use serde::Serialize;

use super::recorded::{Asked, Reading};
use super::{mode, spelled};
use crate::cli::screen::{Screen, Style, counted, safe, short};
use crate::cli::store::Evidence;
use crate::clock::Zone;
use crate::index::Run;

/// Scopes that are kept: identities times targets.
const SCOPES_MAX: usize = 4096;

/// Characters of a subject in a line.
const SUBJECT_CHARS: usize = 80;

/// One verdict that would be another.
#[derive(Serialize)]
struct Difference<'d> {
    at_ns: u64,
    run: String,
    session: Option<String>,
    n: Option<u32>,
    identity: &'d str,
    target: &'d str,
    verb: &'static str,
    subject: &'d str,
    mode: &'static str,
    was: &'static str,
    now: &'static str,
    policies: &'d [String],
    errors: &'d [String],
}

/// The last line of `--json`.
#[derive(Serialize, Default, Debug, PartialEq, Eq)]
pub(super) struct Summary {
    pub(super) runs: u64,
    pub(super) judged: u64,
    pub(super) differ: u64,
    /// Records that could not be read.
    pub(super) damaged: u64,
    /// How many of each, as `allow_deny`.
    pub(super) changes: std::collections::BTreeMap<String, u64>,
}

/// Policies, and what was cut from them.
pub(super) struct Judging<'r> {
    rules: &'r Rules,
    scopes: HashMap<(String, Groups, crewtap_core::target::Resource), Scope>,
}

impl<'r> Judging<'r> {
    pub(super) fn new(rules: &'r Rules) -> Self {
        Self { rules, scopes: HashMap::new() }
    }

    pub(super) fn judge(&mut self, asked: &Asked) -> Verdict {
        if self.scopes.len() >= SCOPES_MAX {
            self.scopes.clear();
        }
        let Asked { identity, resource, .. } = asked;
        let key = (identity.id.clone(), identity.groups.clone(), resource.clone());
        let scope = self.scopes.entry(key).or_insert_with(|| self.rules.scope(identity, resource));
        scope.judge(asked.verb, &asked.facts)
    }
}

/// Everything that was asked in some runs, in order; how many records were read, and how many could not be.
pub(super) fn each(
    journal: &dyn Evidence,
    runs: &[Run],
    (catalog, zone): (&Catalog, &Zone),
    progress: &mut dyn FnMut(u64),
    asked: &mut dyn FnMut(Asked),
) -> u64 {
    let wanted: Vec<RunId> = runs.iter().filter_map(|run| run.id.parse().ok()).collect();
    let mut reading = Reading::new(catalog, zone, wanted);
    let mut damaged = 0;
    let (from, end) = span(runs);
    for record in journal.records(from) {
        let record: Result<Record, _> = record;
        let Ok(record) = record else {
            damaged += 1;
            continue;
        };
        if end.is_some_and(|end| record.leaf > end) {
            break;
        }
        progress(record.leaf - from);
        reading.take(&record, asked);
    }
    reading.finish(asked);
    damaged
}

/// First and last record of some runs; no last one while one of them goes on.
pub(super) fn span(runs: &[Run]) -> (u64, Option<u64>) {
    let first = runs.iter().map(|run| run.leaf.unsigned_abs()).min().unwrap_or(0);
    let last = runs.iter().map(|run| run.end_leaf.map(i64::unsigned_abs)).collect::<Option<Vec<_>>>();
    (first, last.and_then(|last| last.into_iter().max()))
}

/// Judges again, and prints each verdict that would be another.
///
/// # Errors
/// When nothing can be printed.
pub(super) fn run(
    journal: &dyn Evidence,
    runs: &[Run],
    rules: &Rules,
    basis: (&Catalog, &Zone),
    progress: &mut dyn FnMut(u64),
    screen: &mut Screen,
) -> anyhow::Result<Summary> {
    let mut judging = Judging::new(rules);
    let mut summary = Summary { runs: runs.len() as u64, ..Summary::default() };
    let mut failed = None;
    summary.damaged = each(journal, runs, basis, progress, &mut |asked| {
        let verdict = judging.judge(&asked);
        summary.judged += 1;
        if verdict.effect == asked.verdict.effect {
            return;
        }
        summary.differ += 1;
        let change = format!("{}_{}", spelled(asked.verdict.effect), spelled(verdict.effect));
        *summary.changes.entry(change).or_default() += 1;
        failed = failed.take().or_else(|| tell(&asked, &verdict, screen).err());
    });
    if let Some(error) = failed {
        return Err(error.into());
    }
    total(&summary, rules, screen)?;
    Ok(summary)
}

fn tell(asked: &Asked, verdict: &Verdict, screen: &mut Screen) -> std::io::Result<()> {
    if screen.json {
        return screen.json(&Difference {
            at_ns: asked.at_ns,
            run: asked.run.to_string(),
            session: asked.session.map(|session| session.to_string()),
            n: asked.n,
            identity: &asked.identity.id,
            target: &asked.resource.id,
            verb: asked.verb.as_str(),
            subject: &asked.subject,
            mode: mode(asked.mode),
            was: spelled(asked.verdict.effect),
            now: spelled(verdict.effect),
            policies: &verdict.policies,
            errors: &verdict.errors,
        });
    }
    let place = match (asked.session, asked.n) {
        (Some(session), Some(n)) => format!("{session}.{n}"),
        (Some(session), None) => session.to_string(),
        _ => asked.run.to_string(),
    };
    let change = format!("{} -> {}", spelled(asked.verdict.effect), spelled(verdict.effect));
    let style = if verdict.effect == Effect::Allow { Style::Heading } else { Style::Alarm };
    let why = match verdict.policies.as_slice() {
        [] if verdict.effect == Effect::Deny => "no policy permits it".to_owned(),
        policies => policies.join(", "),
    };
    let line = format!(
        "{}  {place}  {}  {} on {}  {}",
        screen.time(i64::try_from(asked.at_ns).ok()),
        screen.styled(&format!("{change:14}"), style),
        short(&format!("{} {}", asked.verb.as_str(), asked.subject), SUBJECT_CHARS),
        safe(&asked.resource.id),
        safe(&why),
    );
    screen.line(&line)?;
    for error in &verdict.errors {
        screen.line(&format!("    {}", safe(error)))?;
    }
    Ok(())
}

fn total(summary: &Summary, rules: &Rules, screen: &mut Screen) -> std::io::Result<()> {
    if screen.json {
        return screen.json(summary);
    }
    let many = |count: u64, one: &str, many: &str| counted(i64::try_from(count).unwrap_or(i64::MAX), one, many);
    let changes: Vec<String> =
        summary.changes.iter().map(|(change, count)| format!("{} {count}", change.replace('_', " -> "))).collect();
    let by = many(rules.len() as u64, "policy", "policies");
    let judged = many(summary.judged, "verdict", "verdicts");
    let verdict = match summary.differ {
        0 => format!("{judged} in {} by {by}: none would differ", many(summary.runs, "run", "runs")),
        differ => format!(
            "{judged} in {} by {by}: {differ} would differ ({})",
            many(summary.runs, "run", "runs"),
            changes.join(", ")
        ),
    };
    screen.line(&verdict)?;
    if summary.damaged > 0 {
        let damaged = many(summary.damaged, "record", "records");
        screen.line(&format!("{damaged} could not be read: run `crewtap verify`"))?;
    }
    Ok(())
}
