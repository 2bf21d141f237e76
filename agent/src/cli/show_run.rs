//! A run, as `crewtap show` tells it: who, what was touched, what came back, what was refused; then the details.
//!
//! What an analyst must not miss (counts that differ, traffic past the proxy, losses) stands before the tables.

use std::collections::BTreeMap;

use crewtap_core::identity::{Basis, Kubernetes, Oidc, Way};
use crewtap_core::run::{Ancestor, Process as Facts};
use serde::Serialize;

use super::processes;
use super::run::past_the_proxy;
use super::runs::{complete, id_len, status};
use super::screen::{Screen, Style, bytes, counted, duration, safe, short};
use super::store::Store;
use super::table::{Align, Table};
use crate::index::{ApprovalRow, Decision, Index, Reconciliation, Run, Session};

/// Sessions of a run that are listed before "… N more".
const SESSIONS_MAX: usize = 100;

/// Targets that the line of targets names.
const TARGETS_MAX: usize = 8;

/// Characters of a command line, a target, and an error.
const COMMAND_CHARS: usize = 300;
const TARGET_CHARS: usize = 60;
const ERROR_CHARS: usize = 60;

/// Prints a run.
///
/// # Errors
/// When the index fails or nothing can be written.
pub fn print(store: &Store, run: &Run, all: bool, screen: &mut Screen) -> anyhow::Result<()> {
    let index = &store.index;
    let sessions = index.sessions(&run.id)?;
    if screen.json {
        return json(index, run, &sessions, screen);
    }
    heading(run, screen)?;
    four_lines(index, run, &sessions, screen)?;
    for alarm in alarms(index, run, &sessions)? {
        screen.line(&screen.styled(&format!("  ! {}", safe(&alarm)), Style::Alarm))?;
    }
    for note in index.notes(&run.id)? {
        screen.line(&format!("  note {}: {}", safe(&note.code), safe(&note.text)))?;
    }
    if !sessions.is_empty() {
        screen.line("")?;
        let shown = if all { sessions.len() } else { SESSIONS_MAX.min(sessions.len()) };
        table(index, sessions.get(..shown).unwrap_or(&sessions), screen)?.print(screen)?;
        if shown < sessions.len() {
            let more = format!("… {} more sessions; --all shows them", sessions.len() - shown);
            screen.line(&screen.styled(&more, Style::Faint))?;
        }
    }
    let tree = index.processes(&run.id)?;
    if !tree.is_empty() {
        screen.line("")?;
        let heading = format!("PROCESSES  {}", run.processes);
        screen.line(&screen.styled(&heading, Style::Heading))?;
        processes::print(&tree, all, screen)?;
    }
    screen.line("")?;
    let next = format!("crewtap timeline {}   crewtap show SESSION   crewtap search run:{} …", run.id, run.id);
    screen.line(&screen.styled(&next, Style::Faint))?;
    Ok(())
}

fn heading(run: &Run, screen: &mut Screen) -> std::io::Result<()> {
    let name = run.name.as_deref().map(|name| format!("  {}", safe(name))).unwrap_or_default();
    let command = short(run.command.as_deref().unwrap_or("?"), COMMAND_CHARS);
    let line = format!("run {}{name}  {command}", run.id);
    screen.line(&screen.styled(&line, Style::Heading))?;
    let on = run.host.as_deref().map(|host| format!(" on {}", safe(host))).unwrap_or_default();
    let lasted = run.duration_us.map(|us| format!(", {}", duration(Some(us)))).unwrap_or_default();
    screen.line(&format!(
        "  {}{on}{lasted}, {}, mode {}, complete: {}",
        screen.time(run.started_ns),
        status(run),
        safe(run.mode.as_deref().unwrap_or("?")),
        complete(run)
    ))
}

fn four_lines(index: &Index, run: &Run, sessions: &[Session], screen: &mut Screen) -> anyhow::Result<()> {
    screen.line(&format!("  invoked by  {}", safe(&invoked_by(run, screen))))?;
    screen.line(&format!("  touched     {}", safe(&touched(sessions))))?;
    let mut kinds = BTreeMap::<String, i64>::new();
    for mask in index.masks(&run.id)? {
        *kinds.entry(mask.mask).or_default() += mask.count;
    }
    let masked = if kinds.is_empty() {
        "nothing masked".into()
    } else {
        let kinds: Vec<String> = kinds.iter().map(|(kind, count)| format!("{kind} {count}")).collect();
        format!("masked: {}", kinds.join(", "))
    };
    let rows: i64 = index.exchanges_of_run(&run.id)?.iter().filter_map(|exchange| exchange.count).sum();
    let rows = if run.exchanges > 0 {
        format!("{}, {}, ", counted(run.exchanges, "exchange", "exchanges"), counted(rows, "row", "rows"))
    } else {
        String::new()
    };
    let returned = format!("{rows}{} down, {} up, {masked}", bytes(run.bytes_down), bytes(run.bytes_up));
    screen.line(&format!("  returned    {}", safe(&returned)))?;
    let decisions = index.decisions(&run.id)?;
    let denied = decisions.iter().filter(|decision| decision.effect == "deny").count();
    let denied = i64::try_from(denied).unwrap_or(i64::MAX);
    let line = format!(
        "  refused     {}, {}, {}, {}",
        counted(run.refused, "session or exchange", "sessions or exchanges"),
        counted(denied, "denial", "denials"),
        approvals(&index.approvals(&run.id)?),
        overrides(&decisions, index.overrides_during(run)?.len()),
    );
    screen.line(&line)?;
    Ok(())
}

/// What humans were asked, and what they said.
fn approvals(asked: &[ApprovalRow]) -> String {
    if asked.is_empty() {
        return "no approvals".into();
    }
    let mut kinds = BTreeMap::<&str, usize>::new();
    for one in asked {
        *kinds.entry(one.answer.as_deref().unwrap_or("waiting")).or_default() += 1;
    }
    let kinds: Vec<String> = kinds.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
    let count = i64::try_from(asked.len()).unwrap_or(i64::MAX);
    format!("{} ({})", counted(count, "approval asked", "approvals asked"), kinds.join(", "))
}

/// What passed against a verdict.
fn overrides(decisions: &[Decision], in_force: usize) -> String {
    let passed = decisions.iter().filter(|decision| decision.overridden.is_some()).count();
    match (passed, i64::try_from(in_force).unwrap_or(i64::MAX)) {
        (0, 0) => "no overrides".into(),
        (0, count) => format!("{}, nothing passed by one", counted(count, "override", "overrides")),
        (passed, count) => format!("{}, {passed} PASSED BY IT", counted(count, "override", "overrides")),
    }
}

/// Who started the run, and why we say so.
fn invoked_by(run: &Run, screen: &Screen) -> String {
    let name = run.identity_name.as_deref().unwrap_or("?");
    let id = run.identity.as_deref().unwrap_or("unknown");
    let basis = match serde_json::from_value::<Basis>(run.basis.0.clone()) {
        Ok(Basis::Os { uid, login_uid, sudo_user }) => {
            let sudo = sudo_user.map(|user| format!(", through sudo by {user}")).unwrap_or_default();
            let login = login_uid.map(|uid| format!(", login uid {uid}")).unwrap_or_default();
            format!("known by the operating system: uid {uid}{login}{sudo}")
        }
        Ok(Basis::Oidc(oidc)) => vouched_for(&oidc, screen),
        Ok(Basis::Unknown) => "nothing is known of the process".into(),
        Err(_) => "on a basis that this version does not know".into(),
    };
    let invoker: Facts = run.invoker.parsed();
    let parents = ancestors(&invoker.ancestors);
    let from = if invoker.pid == 0 { String::new() } else { format!("; from pid {}{parents}", invoker.pid) };
    let accepted = match run.accepted {
        0 => String::new(),
        count => format!("; {} from others", counted(count, "connection accepted", "connections accepted")),
    };
    format!("{name} ({id}), {basis}{from}{accepted}")
}

/// What an identity provider has said, and by which facts of the host it is about this run.
fn vouched_for(oidc: &Oidc, screen: &Screen) -> String {
    let at_ns = |seconds: u64| i64::try_from(seconds.saturating_mul(1_000_000_000)).ok();
    let when = screen.time(at_ns(oidc.auth_time.unwrap_or(oidc.since)));
    let how = match oidc.way {
        Way::Code | Way::Device => format!("logged in {when}"),
        Way::TokenFile => "by a token file".into(),
        Way::ClientCredentials => "by the client's own credentials".into(),
    };
    let by = if oidc.amr.is_empty() { String::new() } else { format!(" by {}", oidc.amr.join("+")) };
    let acr = oidc.acr.as_ref().map(|acr| format!(" ({acr})")).unwrap_or_default();
    let login = oidc.login_uid.map(|uid| format!(", login uid {uid}")).unwrap_or_default();
    let sudo = oidc.sudo_user.as_ref().map(|user| format!(", through sudo by {user}")).unwrap_or_default();
    let pod = oidc.kubernetes.as_ref().map(in_cluster).unwrap_or_default();
    let Oidc { provider, issuer, uid, bound, .. } = oidc;
    format!("known by {provider} ({issuer}): {how}{by}{acr}{pod}; bound to uid {uid}, {bound}{login}{sudo}")
}

/// Where a cluster has given out the token.
fn in_cluster(told: &Kubernetes) -> String {
    let Kubernetes { namespace, service_account, pod, node } = told;
    let pod = pod.as_ref().map(|pod| format!(", pod {pod}")).unwrap_or_default();
    let node = node.as_ref().map(|node| format!(" on {node}")).unwrap_or_default();
    format!(", service account {service_account} of namespace {namespace}{pod}{node}")
}

/// Parents of a process in one line, nearest first.
pub(super) fn ancestors(parents: &[Ancestor]) -> String {
    parents.iter().fold(String::new(), |line, parent| format!("{line} ← {}({})", parent.comm, parent.pid))
}

fn touched(sessions: &[Session]) -> String {
    let mut targets = BTreeMap::<(&str, &str), i64>::new();
    for session in sessions {
        let target = session.target.as_deref().unwrap_or("?");
        *targets.entry((target, session.proof.as_deref().unwrap_or("address"))).or_default() += 1;
    }
    if targets.is_empty() {
        return "nothing: no session".into();
    }
    let mut named: Vec<_> = targets.into_iter().collect();
    named.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let count = i64::try_from(named.len()).unwrap_or(i64::MAX);
    let more = named.len().saturating_sub(TARGETS_MAX);
    let list: Vec<String> = named
        .iter()
        .take(TARGETS_MAX)
        .map(|((target, proof), count)| format!("{} ({proof}) × {count}", short(target, TARGET_CHARS)))
        .collect();
    let more = if more > 0 { format!(", and {more} more") } else { String::new() };
    format!("{}: {}{more}", counted(count, "target", "targets"), list.join(", "))
}

/// What an analyst must not miss.
fn alarms(index: &Index, run: &Run, sessions: &[Session]) -> anyhow::Result<Vec<String>> {
    let mut alarms = Vec::new();
    for count in index.reconciliations(&run.id)? {
        let beside = count.beside();
        if !count.complete {
            alarms.push(format!(
                "not everything is on record: the kernel saw {} connections established, {} sessions are recorded \
                 ({} refused, {} unattributed, {} events lost)",
                count.established, count.sessions, count.refused, count.unattributed, count.events_lost
            ));
        }
        if let Some(beside) = beside.strip_prefix(", ") {
            alarms.push(format!("the kernel counted besides: {beside}"));
        }
    }
    let mut kinds = BTreeMap::<(String, bool), i64>::new();
    for bypass in index.bypasses(&run.id)? {
        *kinds.entry((bypass.kind, bypass.refused)).or_default() += 1;
    }
    for ((kind, refused), count) in kinds {
        let end = if refused { "and was refused" } else { "and PASSED" };
        alarms.push(format!("traffic past the proxy: {kind} × {count} {end}"));
    }
    for row in index.overrides_during(run)? {
        alarms.push(format!(
            "OVERRIDE: policy did not hold for {}, by {} ({}): {}",
            row.target, row.by_name, row.by, row.reason
        ));
    }
    let passed = index.decisions(&run.id)?.iter().filter(|decision| decision.overridden.is_some()).count();
    if passed > 0 {
        let passed = counted(i64::try_from(passed).unwrap_or(i64::MAX), "action", "actions");
        alarms.push(format!("{passed} PASSED by an override, against the verdict: crewtap timeline {}", run.id));
    }
    for lost in index.recoveries(run)? {
        alarms.push(format!(
            "the journal was cut while the run was open: records {} to {}, {}",
            lost.from_leaf,
            lost.to_leaf,
            bytes(lost.cut_bytes)
        ));
    }
    if run.outcome.as_deref() == Some("lost") {
        alarms.push("the agent died before the run: what came after is not on record, and could not connect".into());
    }
    for session in sessions.iter().filter(|session| session.outcome.as_deref() == Some("unrecorded")) {
        alarms.push(format!("session {} was closed because it could not be recorded", session.id));
    }
    let short_of = |session: &&Session| {
        session.outcome.is_some()
            && (session.recorded_up < session.bytes_up || session.recorded_down < session.bytes_down)
    };
    let short = sessions.iter().filter(short_of).count();
    if short > 0 {
        alarms.push(format!("{short} sessions have forwarded more bytes than are recorded"));
    }
    let unknown = index.unknown_events(&run.id)?.len();
    if unknown > 0 {
        alarms.push(format!("{unknown} events are of kinds that this version of crewtap does not know"));
    }
    Ok(alarms)
}

impl Reconciliation {
    /// What the kernel counted beside connections, behind a comma; empty where there was nothing.
    pub(super) fn beside(&self) -> String {
        let number = |count: i64| u64::try_from(count).unwrap_or(0);
        let told = past_the_proxy(number(self.bypassed), number(self.dropped), number(self.map_full));
        if told.is_empty() { told } else { format!(", {told}") }
    }
}

fn table(index: &Index, sessions: &[Session], screen: &Screen) -> anyhow::Result<Table> {
    let mut table = Table::new(&[
        ("SESSION", Align::Left),
        ("TIME", Align::Left),
        ("TARGET", Align::Left),
        ("PROOF", Align::Left),
        ("PROTOCOL", Align::Left),
        ("PROCESS", Align::Left),
        ("DURATION", Align::Right),
        ("UP", Align::Right),
        ("DOWN", Align::Right),
        ("OUTCOME", Align::Left),
        ("ERROR", Align::Left),
    ]);
    let len = id_len(index, sessions.iter().map(|session| session.id.as_str()))?;
    for session in sessions {
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        table.row([
            session.id.chars().take(len).collect(),
            session.started_ns.map(|at| screen.clock(at)).unwrap_or_default(),
            short(session.target.as_deref().unwrap_or("?"), TARGET_CHARS),
            text(&session.proof),
            text(&session.protocol),
            format!("{} {}", text(&session.comm), session.pid.unwrap_or_default()),
            duration(session.duration_us),
            bytes(session.bytes_up),
            bytes(session.bytes_down),
            session.outcome.clone().unwrap_or_else(|| "open".into()),
            short(session.error.as_deref().unwrap_or_default(), ERROR_CHARS),
        ]);
    }
    Ok(table)
}

/// A row with the name of its table.
#[derive(Serialize)]
pub(super) struct Tagged<'r, R> {
    pub(super) table: &'static str,
    #[serde(flatten)]
    pub(super) row: &'r R,
}

/// Prints rows as JSON Lines, each with the name of its table.
pub(super) fn tagged<R: Serialize>(table: &'static str, rows: &[R], screen: &mut Screen) -> std::io::Result<()> {
    rows.iter().try_for_each(|row| screen.json(&Tagged { table, row }))
}

fn json(index: &Index, run: &Run, sessions: &[Session], screen: &mut Screen) -> anyhow::Result<()> {
    screen.json(&Tagged { table: "runs", row: run })?;
    tagged("sessions", sessions, screen)?;
    tagged("exchanges", &index.exchanges_of_run(&run.id)?, screen)?;
    tagged("processes", &index.processes(&run.id)?, screen)?;
    tagged("decisions", &index.decisions(&run.id)?, screen)?;
    tagged("approvals", &index.approvals(&run.id)?, screen)?;
    tagged("answers", &index.answers(&run.id)?, screen)?;
    tagged("overrides", &index.overrides_during(run)?, screen)?;
    tagged("masks", &index.masks(&run.id)?, screen)?;
    tagged("names", &index.names(&run.id)?, screen)?;
    tagged("accepted", &index.accepted(&run.id)?, screen)?;
    tagged("bypasses", &index.bypasses(&run.id)?, screen)?;
    tagged("notes", &index.notes(&run.id)?, screen)?;
    tagged("reconciliations", &index.reconciliations(&run.id)?, screen)?;
    tagged("recoveries", &index.recoveries(run)?, screen)?;
    Ok(())
}
