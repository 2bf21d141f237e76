//! `crewtap timeline RUN`: every event of a run in order, one line each.
//!
//! Payloads are left out: a session's line says how much there was, `show` shows it.

use std::process::ExitCode;

use serde::Serialize;

use super::processes;
use super::runs::{complete, finish, id_len, status};
use super::screen::{Screen, Style, ViewArgs, bytes, duration, safe, short};
use super::show::nothing;
use super::store::{Store, StoreDir};
use crate::index::{Index, IndexError, Process, Run, Session};

/// Characters of a line's text.
const TEXT_CHARS: usize = 200;

/// Print every event of a run in order.
#[derive(clap::Args, Clone, Debug)]
pub struct TimelineArgs {
    /// Any unique prefix of the run's id; the newest run when it is left out.
    pub run: Option<String>,
    /// The newest run of this person: user, e-mail address or identity; `*` stands for anything.
    #[arg(long, value_name = "WHO", conflicts_with = "run")]
    pub identity: Option<String>,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub view: ViewArgs,
}

/// One line of a timeline.
#[derive(Clone, Debug, Serialize)]
#[allow(missing_docs, reason = "columns are documented in schema.sql")]
pub struct Moment {
    pub at_ns: i64,
    pub leaf: i64,
    pub run: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub n: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pid: Option<i64>,
    /// The kind of event, as the journal spells it.
    pub event: &'static str,
    /// What happened, in words.
    pub text: String,
    /// Whether an analyst must see it.
    pub alarm: bool,
}

/// Prints the timeline.
///
/// # Errors
/// When the store cannot be read or the id is ambiguous; exit status 1 when there is no such run.
pub fn run(store: &StoreDir, args: &TimelineArgs) -> anyhow::Result<ExitCode> {
    let store = store.open()?;
    store.tell();
    finish(print(&store, args, &mut Screen::new(&mut std::io::stdout().lock(), &args.view)))
}

pub(super) fn print(store: &Store, args: &TimelineArgs, screen: &mut Screen) -> anyhow::Result<bool> {
    let found = args.run.as_deref().map(|typed| store.index.find_run(typed));
    let run = match found {
        Some(Ok(run)) => Some(run),
        Some(Err(error)) => return nothing(error),
        None => store.index.runs_of(0, args.identity.as_deref(), None, 1)?.pop(),
    };
    let Some(run) = run else {
        eprintln!("crewtap: no runs on record");
        return Ok(false);
    };
    let moments = moments(&store.index, &run)?;
    if screen.json {
        for moment in &moments {
            screen.json(moment)?;
        }
        return Ok(true);
    }
    let ids = id_len(&store.index, moments.iter().filter_map(|moment| moment.session.as_deref()))?;
    let command = short(run.command.as_deref().unwrap_or("?"), TEXT_CHARS);
    let heading = format!("run {}  {}  {command}", run.id, screen.time(run.started_ns));
    screen.line(&screen.styled(&heading, Style::Heading))?;
    let width = moments.iter().map(|moment| moment.event.len()).max().unwrap_or(0);
    for moment in &moments {
        let session: String = moment.session.as_deref().unwrap_or_default().chars().take(ids).collect();
        let text = short(&moment.text, TEXT_CHARS);
        let text = if moment.alarm { screen.styled(&text, Style::Alarm) } else { text };
        let line = format!("{}  {:width$}  {session:ids$}  {text}", screen.clock(moment.at_ns), moment.event);
        screen.line(&line)?;
    }
    Ok(true)
}

/// All events of a run, by time, and by their place in the journal within one instant.
fn moments(index: &Index, run: &Run) -> Result<Vec<Moment>, IndexError> {
    let mut out = Moments { run: &run.id, list: Vec::new() };
    out.of_run(run);
    for process in index.processes(&run.id)? {
        out.of_process(&process);
    }
    for session in index.sessions(&run.id)? {
        out.of_session(&session);
    }
    out.of_exchanges(index)?;
    out.of_approvals(index, run)?;
    out.of_names(index)?;
    out.of_network(index)?;
    out.of_notes(index, run)?;
    let mut list = out.list;
    list.sort_by_key(|moment| (moment.at_ns, moment.leaf));
    Ok(list)
}

struct Moments<'r> {
    run: &'r str,
    list: Vec<Moment>,
}

impl Moments<'_> {
    fn add(&mut self, event: &'static str, at_ns: i64, leaf: i64, text: String) -> &mut Moment {
        let at = self.list.len();
        let run = self.run.to_owned();
        self.list.push(Moment { at_ns, leaf, run, session: None, n: None, pid: None, event, text, alarm: false });
        // Just pushed.
        #[allow(clippy::indexing_slicing)]
        &mut self.list[at]
    }

    fn of_run(&mut self, run: &Run) {
        if let Some(at) = run.started_ns {
            let name = run.identity_name.as_deref().unwrap_or("?");
            let mode = run.mode.as_deref().unwrap_or("?");
            let command = run.command.as_deref().unwrap_or("?");
            self.add("run_started", at, run.leaf, format!("{command}  by {name}, mode {mode}"));
        }
        if let (Some(at), Some(leaf)) = (run.ended_ns, run.end_leaf) {
            let text = format!("{} after {}, complete: {}", status(run), duration(run.duration_us), complete(run));
            self.add("run_ended", at, leaf, text).alarm = run.outcome.as_deref() == Some("lost");
        }
    }

    fn of_process(&mut self, process: &Process) {
        if let Some(start) = process.start.as_deref() {
            let text = match start {
                "fork" => format!("pid {} forked by {}", process.pid, process.ppid.unwrap_or_default()),
                start => format!("pid {} {start} {}", process.pid, processes::command(process)),
            };
            self.add("process_started", process.at_ns, process.leaf, text).pid = Some(process.pid);
        }
        if let (Some(at), Some(leaf)) = (process.ended_ns, process.end_leaf) {
            let exit = process.status.map(processes::exit).unwrap_or_default();
            self.add("process_exited", at, leaf, format!("pid {}{exit}", process.pid)).pid = Some(process.pid);
        }
    }

    fn of_session(&mut self, session: &Session) {
        let target = session.target.as_deref().unwrap_or("?");
        if let Some(at) = session.started_ns {
            let proof = session.proof.as_deref().map(|proof| format!(" ({proof})")).unwrap_or_default();
            let protocol = session.protocol.as_deref().unwrap_or("not classified");
            let comm = session.comm.as_deref().unwrap_or("?");
            let pid = session.pid.unwrap_or_default();
            let text = format!("{target}{proof} {protocol}, by {comm} (pid {pid})");
            let moment = self.add("session_opened", at, session.leaf, text);
            (moment.session, moment.pid) = (Some(session.id.clone()), session.pid);
        }
        if let (Some(outcome), Some(at), Some(leaf)) = (session.outcome.as_deref(), session.ended_ns, session.end_leaf)
        {
            let error = session.error.as_deref().map(|error| format!(": {error}")).unwrap_or_default();
            let text = format!(
                "{target} {outcome}{error}, {} up, {} down, {}",
                bytes(session.bytes_up),
                bytes(session.bytes_down),
                duration(session.duration_us)
            );
            let moment = self.add("session_closed", at, leaf, text);
            moment.alarm = matches!(outcome, "unrecorded" | "aborted" | "refused");
            moment.session = Some(session.id.clone());
        }
    }

    fn of_exchanges(&mut self, index: &Index) -> Result<(), IndexError> {
        for exchange in index.exchanges_of_run(self.run)? {
            let word = |text: &Option<String>| text.clone().unwrap_or_else(|| "?".into());
            let code = exchange.code.as_deref().map(|code| format!(" {code}")).unwrap_or_default();
            let count = exchange.count.map(|count| format!(", count {count}")).unwrap_or_default();
            let text = format!(
                "{} {} → {}{code}{count}",
                word(&exchange.verb),
                word(&exchange.subject),
                exchange.outcome.as_deref().unwrap_or("no response")
            );
            let moment = self.add("request", exchange.started_ns.unwrap_or_default(), exchange.leaf, text);
            moment.alarm = exchange.outcome.as_deref() == Some("blocked");
            (moment.session, moment.n) = (Some(exchange.session), Some(exchange.n));
        }
        for decision in index.decisions(self.run)? {
            let policies = decision.policies.texts().collect::<Vec<_>>().join(", ");
            let by = if policies.is_empty() { format!("mode {}", decision.mode) } else { policies };
            let mut text = format!("{} {} {} by {by}", decision.effect, decision.verb, decision.subject);
            for error in decision.errors.texts() {
                text = format!("{text}; could not be evaluated: {error}");
            }
            if let Some(id) = &decision.overridden {
                text = format!("OVERRIDDEN: it passed by override {id} against {text}");
            }
            let moment = self.add("decided", decision.at_ns, decision.leaf, text);
            moment.alarm = decision.effect == "deny" || decision.overridden.is_some();
            (moment.session, moment.n) = (decision.session, decision.n);
        }
        for mask in index.masks(self.run)? {
            let text = format!("{} × {}", mask.mask, mask.count);
            let moment = self.add("masked", mask.at_ns, mask.leaf, text);
            (moment.session, moment.n) = (mask.session, mask.n);
        }
        Ok(())
    }

    fn of_approvals(&mut self, index: &Index, run: &Run) -> Result<(), IndexError> {
        for asked in index.approvals(self.run)? {
            let policies = asked.policies.texts().collect::<Vec<_>>().join(", ");
            let text = format!("held {} {} on {}, asked by {policies}", asked.verb, asked.subject, asked.target);
            let moment = self.add("asked", asked.asked_ns, asked.leaf, text);
            (moment.session, moment.n, moment.alarm) = (asked.session, asked.n, asked.answer.is_none());
        }
        for answer in index.answers(self.run)? {
            let by = answer.by_name.as_deref().map(|name| format!(" by {name}")).unwrap_or_default();
            let identity = answer.by.as_deref().map(|id| format!(" ({id})")).unwrap_or_default();
            let reason = answer.reason.as_deref().map(|reason| format!(": {reason}")).unwrap_or_default();
            let more = if answer.settled { "" } else { ", not settled by it" };
            let text = format!("approval {} {}{by}{identity}{reason}{more}", answer.approval, answer.answer);
            let moment = self.add("answered", answer.at_ns, answer.leaf, text);
            moment.alarm = matches!(answer.answer.as_str(), "denied" | "expired" | "lost" | "revealed");
            (moment.session, moment.n) = (answer.session, answer.n);
        }
        for row in index.overrides_during(run)? {
            let until = duration(Some(row.until_ns.saturating_sub(row.at_ns) / 1000));
            let (by, id, target) = (&row.by_name, &row.by, &row.target);
            let text = format!("OVERRIDE: everything passes to {target} for {until}, by {by} ({id}): {}", row.reason);
            self.add("override", row.at_ns, row.leaf, text).alarm = true;
            if let (Some(at), Some(leaf)) = (row.ended_ns, row.end_leaf) {
                let by = row.ended_by.as_deref().unwrap_or("?");
                self.add("override", at, leaf, format!("OVERRIDE of {target} ended by {by}")).alarm = true;
            }
        }
        Ok(())
    }

    fn of_names(&mut self, index: &Index) -> Result<(), IndexError> {
        for name in index.names(self.run)? {
            let answers = name.answers.texts().collect::<Vec<_>>().join(" ");
            let text = if name.answered {
                format!("{} {} = {} {answers}", name.name, name.record, name.code.as_deref().unwrap_or("?"))
            } else {
                format!("{} {} ? asked of {} by pid {}", name.name, name.record, name.resolver, name.pid)
            };
            self.add("dns", name.at_ns, name.leaf, text).pid = Some(name.pid);
        }
        Ok(())
    }

    fn of_network(&mut self, index: &Index) -> Result<(), IndexError> {
        for accepted in index.accepted(self.run)? {
            let text = format!("from {} at {} by pid {}", accepted.peer, accepted.local, accepted.pid);
            self.add("accepted", accepted.at_ns, accepted.leaf, text).pid = Some(accepted.pid);
        }
        for bypass in index.bypasses(self.run)? {
            let what = if bypass.refused { "refused" } else { "PASSED" };
            let address = bypass.address.as_deref().map(|address| format!(" to {address}")).unwrap_or_default();
            let pid = bypass.pid.map(|pid| format!(" by pid {pid}")).unwrap_or_default();
            let text = format!("{}{address}{pid} {what} {}", bypass.kind, bypass.detail);
            let moment = self.add("bypass", bypass.at_ns, bypass.leaf, text);
            (moment.session, moment.pid, moment.alarm) = (bypass.session, bypass.pid, true);
        }
        for count in index.reconciliations(self.run)? {
            let beside = count.beside();
            let text = format!(
                "the kernel saw {} connections established, {} sessions are recorded; {} refused, {} unattributed, {} events lost{beside}",
                count.established, count.sessions, count.refused, count.unattributed, count.events_lost
            );
            self.add("reconciled", count.at_ns, count.leaf, text).alarm = !count.complete;
        }
        Ok(())
    }

    fn of_notes(&mut self, index: &Index, run: &Run) -> Result<(), IndexError> {
        for note in index.notes(self.run)? {
            let moment = self.add("note", note.at_ns, note.leaf, format!("{}: {}", note.code, note.text));
            (moment.session, moment.n) = (note.session, note.n);
        }
        for lost in index.recoveries(run)? {
            let text = format!(
                "the journal was cut: records {} to {} could not be kept, {} cut off",
                lost.from_leaf,
                lost.to_leaf,
                bytes(lost.cut_bytes)
            );
            self.add("recovered", lost.at_ns, lost.leaf, text).alarm = true;
        }
        for event in index.unknown_events(self.run)? {
            let text = format!("an event of a later version: {}", safe(&event.kind));
            let moment = self.add("unknown", event.at_ns, event.leaf, text);
            (moment.session, moment.n, moment.alarm) = (event.session, event.n, true);
        }
        Ok(())
    }
}
