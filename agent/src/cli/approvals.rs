//! `crewtap approvals`: what waits for a human, and the human's answers.
//!
//! Speaks with the running agent, as root: who answers is whoever ran sudo. Never decides who may.

mod lines;
mod view;
mod watch;

use std::process::ExitCode;

use clap::{Args, Subcommand};
use crewtap_core::identity::Identity;
use serde::Serialize;

use super::Global;
use super::runs::finish;
use super::screen::{Screen, Style, ViewArgs, is_unsafe, safe, short};
use super::table::{Align, Table};
use crate::approvals::Waiting;
use crate::clock;
use crate::control::approvals::{Reply, Request};
use crate::control::{Client, ClientError};

/// Characters of a subject in the table.
const SUBJECT_CHARS: usize = 80;

/// Characters of an id in the table: its time, and enough of its chance part.
const ID_CHARS: usize = 16;

/// List what waits for an approval, watch it, approve and deny.
///
/// Who answers is whoever ran sudo; nobody approves what runs on their own behalf (`approvals.four_eyes`).
#[derive(Args, Clone, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub struct ApprovalsArgs {
    #[command(subcommand)]
    verb: Option<Verb>,
    #[command(flatten)]
    view: ViewArgs,
}

#[derive(Subcommand, Clone, Debug)]
enum Verb {
    /// Watch what waits, full-screen: a approves, d denies, q leaves; line by line without a terminal
    Watch,
    /// Approve what waits: any unique prefix of its id
    Approve(AnswerArgs),
    /// Deny what waits: any unique prefix of its id
    Deny(AnswerArgs),
    /// Show all of what would be sent
    Show(ShowArgs),
}

#[derive(Args, Clone, Debug)]
struct AnswerArgs {
    /// Any unique prefix of the approval's id
    id: String,
    /// Why; on record, and told to who asked
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

#[derive(Args, Clone, Debug)]
struct ShowArgs {
    /// Any unique prefix of the approval's id
    id: String,
    /// Show clear values, where `approvals.reveal` allows it; that you did is on record
    #[arg(long)]
    reveal: bool,
    #[command(flatten)]
    view: ViewArgs,
}

pub(super) fn run(args: &ApprovalsArgs, global: &Global) -> anyhow::Result<ExitCode> {
    let data_dir = global.config()?.data_dir;
    if matches!(args.verb, Some(Verb::Watch)) {
        return watch::run(&data_dir);
    }
    let Some(mut agent) = agent(&data_dir)? else {
        eprintln!("crewtap: nothing waits: no agent is running for {}", data_dir.display());
        return Ok(ExitCode::from(1));
    };
    let mut out = std::io::stdout().lock();
    match &args.verb {
        None => finish(list(&mut agent, &mut Screen::new(&mut out, &args.view))),
        Some(Verb::Show(show)) => finish(one(&mut agent, show, &mut Screen::new(&mut out, &show.view))),
        Some(Verb::Approve(given)) => answer(&mut agent, given, true),
        Some(Verb::Deny(given)) => answer(&mut agent, given, false),
        Some(Verb::Watch) => Ok(ExitCode::SUCCESS),
    }
}

/// The running agent; none where there is none.
pub(super) fn agent(data_dir: &std::path::Path) -> anyhow::Result<Option<Client>> {
    anyhow::ensure!(nix::unistd::geteuid().is_root(), "the agent speaks with root alone: run the same with sudo");
    match Client::connect(data_dir) {
        Ok(client) => Ok(Some(client)),
        Err(ClientError::NoAgent(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// An answer that does not count is no failure of crewtap: status 1 says so.
fn answer(agent: &mut Client, given: &AnswerArgs, approve: bool) -> anyhow::Result<ExitCode> {
    let AnswerArgs { id, reason } = given.clone();
    match agent.approvals(Request::Answer { id, approve, reason }) {
        Ok(Reply::Answered { id, settled, missing }) => {
            println!("{id} {}", answered(approve, settled, missing));
            Ok(ExitCode::SUCCESS)
        }
        Ok(other) => anyhow::bail!("the running agent is not of this version: {other:?}"),
        Err(ClientError::Refused(why)) => {
            eprintln!("crewtap: {}", safe(&why));
            Ok(ExitCode::from(1))
        }
        Err(error) => Err(error.into()),
    }
}

fn answered(approve: bool, settled: bool, missing: u32) -> String {
    match (approve, settled) {
        (false, _) => "denied".into(),
        (true, true) => "approved".into(),
        (true, false) => format!("approved by you; {missing} more must approve it"),
    }
}

fn list(agent: &mut Client, screen: &mut Screen) -> anyhow::Result<bool> {
    let Reply::List { waiting, left_off, .. } = agent.approvals(Request::List { generation: None, wait_ms: 0 })? else {
        anyhow::bail!("the running agent is not of this version");
    };
    print_list(&waiting, left_off, clock::now().wall_ns, screen)
}

fn print_list(waiting: &[Waiting], left_off: usize, now_ns: u64, screen: &mut Screen) -> anyhow::Result<bool> {
    if screen.json {
        for one in waiting {
            screen.json(one)?;
        }
        return Ok(!waiting.is_empty());
    }
    if waiting.is_empty() {
        screen.line("nothing waits for an approval")?;
        return Ok(false);
    }
    let headings = ["ID", "ASKED", "LEFT", "FOR", "TARGET", "VERB", "SUBJECT", "NEEDS"];
    let mut table = Table::new(&headings.map(|heading| (heading, Align::Left)));
    for one in waiting {
        table.row([
            one.id.chars().take(ID_CHARS).collect(),
            screen.clock(i64::try_from(one.asked_ns).unwrap_or(i64::MAX)),
            left(one, now_ns),
            who(&one.identity),
            one.target.clone(),
            one.verb.clone(),
            short(&one.subject, SUBJECT_CHARS),
            needs(one),
        ]);
    }
    table.print(screen)?;
    if left_off > 0 {
        screen.line(&format!("… {left_off} more wait"))?;
    }
    let next = "crewtap approvals show ID   approve ID --reason …   deny ID --reason …";
    screen.line(&screen.styled(next, Style::Faint))?;
    Ok(true)
}

fn one(agent: &mut Client, args: &ShowArgs, screen: &mut Screen) -> anyhow::Result<bool> {
    let mut from = 0;
    loop {
        let id = args.id.clone();
        let request = if args.reveal { Request::Reveal { id, from } } else { Request::Show { id, from } };
        let (waiting, page) = match agent.approvals(request) {
            Ok(Reply::Shown { waiting, page }) => (waiting, page),
            Ok(other) => anyhow::bail!("the running agent is not of this version: {other:?}"),
            Err(ClientError::Refused(why)) => {
                eprintln!("crewtap: {}", safe(&why));
                return Ok(false);
            }
            Err(error) => return Err(error.into()),
        };
        if screen.json {
            screen.json(&Shown { waiting: &waiting, content: &page.text, revealed: args.reveal })?;
        } else {
            if from == 0 {
                for (label, text) in facts(&waiting, clock::now().wall_ns) {
                    screen.line(&format!("{label:<9}  {}", safe(&text)))?;
                }
                screen.line("")?;
            }
            for line in page.text.lines() {
                screen.line(&plain(line))?;
            }
        }
        match page.next {
            Some(next) => from = next,
            None => return Ok(true),
        }
    }
}

/// One piece of a question, for `--json`.
#[derive(Serialize)]
struct Shown<'s> {
    #[serde(flatten)]
    waiting: &'s Waiting,
    content: &'s str,
    revealed: bool,
}

/// What is known of a question, label by label.
fn facts(one: &Waiting, now_ns: u64) -> Vec<(&'static str, String)> {
    let exchange = one.n.map(|n| format!(".{n}")).unwrap_or_default();
    let policies = if one.policies.is_empty() { "-".into() } else { one.policies.join(", ") };
    vec![
        ("approval", one.id.clone()),
        ("left", left(one, now_ns)),
        ("for", format!("{} ({})", who(&one.identity), one.identity.id)),
        ("run", one.run.to_string()),
        ("exchange", format!("{}{exchange}", one.session)),
        ("target", one.target.clone()),
        ("action", format!("{} {}", one.verb, one.subject)),
        ("policies", policies),
        ("needs", needs(one)),
        ("digest", one.digest.clone()),
        ("content", format!("{} bytes, {}", one.len, one.media_type)),
    ]
}

fn who(identity: &Identity) -> String {
    identity.name.clone()
}

/// The time that is left to answer.
fn left(one: &Waiting, now_ns: u64) -> String {
    let seconds = one.expires_ns.saturating_sub(now_ns) / 1_000_000_000;
    format!("{}:{:02}", seconds / 60, seconds % 60)
}

/// Who must still approve it.
fn needs(one: &Waiting) -> String {
    let groups: Vec<&str> = one.terms.groups.iter().map(String::as_str).collect();
    let of = if groups.is_empty() { String::new() } else { format!(" of {}", groups.join(" and ")) };
    let by: Vec<&str> = one.approved_by.iter().map(|by| by.name.as_str()).collect();
    let by = if by.is_empty() { String::new() } else { format!(", has {}", by.join(", ")) };
    let session = if one.terms.whole_session { ", for the session" } else { "" };
    format!("{}{of}{by}{session}", one.terms.approvers)
}

/// A line of a content: as it is, with tabs as spaces, and everything that a terminal would obey spelled out.
fn plain(line: &str) -> String {
    let line = line.replace('\t', "    ");
    if line.contains(is_unsafe) { safe(&line).into_owned() } else { line }
}

#[cfg(test)]
mod tests;
