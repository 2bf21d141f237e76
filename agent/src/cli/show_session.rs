//! A session or an exchange, as `crewtap show` tells it: origin, process, target, decision, timing, and the bytes.

use crewtap_core::bodies::{Negotiated, Tls};
use crewtap_core::run::Process as Facts;

use super::screen::{Screen, Style, bytes, duration, safe, short};
use super::show_run::{Tagged, ancestors, tagged};
use super::store::Store;
use super::stream::{self, Shown};
use super::{dialogue, message};
use crate::index::{ApprovalRow, Decision, Exchange, Session};

/// Characters of a command line.
const COMMAND_CHARS: usize = 1000;

/// Characters of an exchange's subject in a list.
const SUBJECT_CHARS: usize = 120;

/// Exchanges of a session that are listed before "… N more".
const EXCHANGES_MAX: usize = 100;

/// Exchanges whose dialogues a session shows unasked.
const DIALOGUES_MAX: usize = 20;

/// The two sides: how the index calls them, and what a reader sees.
const SIDES: [(&str, &str); 2] = [("client", "client → target"), ("server", "target → client")];

/// Prints a session.
///
/// # Errors
/// When the index fails or nothing can be written.
pub fn print(store: &Store, session: &Session, shown: Shown, screen: &mut Screen) -> anyhow::Result<()> {
    let index = &store.index;
    if screen.json {
        screen.json(&Tagged { table: "sessions", row: session })?;
        tagged("exchanges", &index.exchanges(&session.id)?, screen)?;
        tagged("decisions", &index.decisions_of_session(&session.id)?, screen)?;
        tagged("approvals", &index.approvals_of_session(&session.id)?, screen)?;
        tagged("masks", &index.masks_of_session(&session.id)?, screen)?;
        tagged("notes", &index.notes_of_session(&session.id)?, screen)?;
        for (side, _) in SIDES {
            let stream = stream::read(store, &session.id, side, shown)?;
            screen.json(&Tagged { table: "streams", row: &stream })?;
        }
        return Ok(());
    }
    let heading = format!("session {}  {}", session.id, safe(session.target.as_deref().unwrap_or("?")));
    screen.line(&screen.styled(&heading, Style::Heading))?;
    for (label, text) in facts(store, session, screen)? {
        screen.line(&format!("  {label:<9}  {}", safe(&text)))?;
    }
    for note in index.notes_of_session(&session.id)? {
        screen.line(&screen.styled(&format!("  ! {}: {}", safe(&note.code), safe(&note.text)), Style::Alarm))?;
    }
    if session.outcome.is_some()
        && (session.recorded_up < session.bytes_up || session.recorded_down < session.bytes_down)
    {
        let line = format!(
            "  ! forwarded {} up and {} down, but recorded {} and {}",
            session.bytes_up, session.bytes_down, session.recorded_up, session.recorded_down
        );
        screen.line(&screen.styled(&line, Style::Alarm))?;
    }
    for line in overridden(&index.decisions_of_session(&session.id)?) {
        screen.line(&screen.styled(&safe(&line), Style::Alarm))?;
    }
    let exchanges_of_it = index.exchanges(&session.id)?;
    exchanges(&exchanges_of_it, shown, screen)?;
    dialogues(store, &exchanges_of_it, shown, screen)?;
    streams(store, session, shown, screen)
}

/// Prints an exchange.
///
/// # Errors
/// When the index fails or nothing can be written.
pub fn exchange(store: &Store, exchange: &Exchange, shown: Shown, screen: &mut Screen) -> anyhow::Result<()> {
    if screen.json {
        screen.json(&Tagged { table: "exchanges", row: exchange })?;
        if let Some(dialogue) = dialogue::read(store, exchange, shown)? {
            screen.json(&Tagged { table: "dialogues", row: &dialogue })?;
            return Ok(());
        }
        for (side, _) in SIDES {
            let message = message::read(store, exchange, side, shown)?;
            screen.json(&Tagged { table: "messages", row: &message })?;
        }
        return Ok(());
    }
    let text = |text: &Option<String>| text.clone().unwrap_or_else(|| "?".into());
    let heading = format!("exchange {}  {} {}", exchange.id, text(&exchange.verb), text(&exchange.subject));
    screen.line(&screen.styled(&short(&heading, COMMAND_CHARS), Style::Heading))?;
    let outcome = format!(
        "{} {}{}",
        exchange.outcome.as_deref().unwrap_or("no response on record"),
        exchange.code.as_deref().unwrap_or_default(),
        exchange.count.map(|count| format!(", count {count}")).unwrap_or_default()
    );
    let when = format!(
        "{}, {}, first byte after {}",
        screen.time(exchange.started_ns),
        duration(exchange.duration_us),
        duration(exchange.first_byte_us)
    );
    for (label, line) in [
        ("run", text(&exchange.run)),
        ("target", format!("{} {}", text(&exchange.target), text(&exchange.protocol))),
        ("identity", text(&exchange.identity)),
        ("when", when),
        ("decision", exchange.verdict.clone().unwrap_or_else(|| "none on record".into())),
        ("outcome", outcome),
        ("facts", exchange.facts.0.to_string()),
    ] {
        screen.line(&format!("  {label:<9}  {}", short(&line, COMMAND_CHARS)))?;
    }
    let of_it = |n: Option<i64>| n == Some(exchange.n);
    for approval in store.index.approvals_of_session(&exchange.session)?.iter().filter(|one| of_it(one.n)) {
        screen.line(&format!("  approval   {}", short(&asked(approval), COMMAND_CHARS)))?;
    }
    let mut decisions = store.index.decisions_of_session(&exchange.session)?;
    decisions.retain(|decision| of_it(decision.n));
    for line in overridden(&decisions) {
        screen.line(&screen.styled(&safe(&line), Style::Alarm))?;
    }
    if let Some(dialogue) = dialogue::read(store, exchange, shown)? {
        screen.line("")?;
        dialogue.print(screen)?;
        return Ok(());
    }
    for (side, heading) in SIDES {
        screen.line("")?;
        message::read(store, exchange, side, shown)?.print(heading, shown, screen)?;
    }
    Ok(())
}

fn facts(store: &Store, session: &Session, screen: &Screen) -> anyhow::Result<Vec<(&'static str, String)>> {
    let process: Facts = session.process.parsed();
    let text = |text: &Option<String>| text.clone().unwrap_or_else(|| "?".into());
    let number = |number: Option<i64>| number.map_or_else(|| "?".into(), |number| number.to_string());
    let login = process.login_uid.map(|uid| format!(", login uid {uid}")).unwrap_or_default();
    let mut facts = vec![
        ("run", text(&session.run)),
        (
            "when",
            format!(
                "{}, {}, first byte after {}",
                screen.time(session.started_ns),
                duration(session.duration_us),
                duration(session.first_byte_us)
            ),
        ),
        (
            "process",
            format!(
                "{} (pid {}, tid {}, uid {}{login}) {}",
                text(&session.comm),
                number(session.pid),
                number(session.tid),
                number(session.uid),
                text(&session.exe)
            ),
        ),
    ];
    if !process.argv.is_empty() {
        facts.push(("command", short(&process.argv.join(" "), COMMAND_CHARS)));
    }
    if !process.cwd.is_empty() {
        facts.push(("directory", process.cwd.clone()));
    }
    if let Some(missing) = &process.missing {
        facts.push(("not known", format!("what else the process was: {missing}")));
    }
    if !process.ancestors.is_empty() {
        facts.push(("parents", ancestors(&process.ancestors).trim_start_matches(" ← ").to_owned()));
    }
    facts.push(("identity", format!("{} ({})", text(&session.identity_name), text(&session.identity))));
    facts.push(("origin", format!("asked for {} from {}", text(&session.destination), text(&session.client))));
    facts.push(("target", target(session)));
    if let Some(dialled_from) = &session.dialled_from {
        facts.push(("dialled", format!("from {dialled_from}, which is what the target's own log shows")));
    }
    facts.push(("protocol", protocol(session)));
    if let Some(state) = &session.tls {
        facts.push(("tls", tls(state, &session.tls_facts.parsed())));
    }
    for decision in store.index.decisions_of_session(&session.id)? {
        facts.push(("decision", decided(&decision)));
    }
    for approval in store.index.approvals_of_session(&session.id)? {
        facts.push(("approval", short(&asked(&approval), COMMAND_CHARS)));
    }
    let error = session.error.as_deref().map(|error| format!(": {error}")).unwrap_or_default();
    let outcome = session.outcome.as_deref().unwrap_or("open");
    let (up, down) = (bytes(session.bytes_up), bytes(session.bytes_down));
    facts.push(("outcome", format!("{outcome}{error}; {up} up, {down} down")));
    for mask in store.index.masks_of_session(&session.id)? {
        facts.push(("masked", format!("{} × {}", mask.mask, mask.count)));
    }
    Ok(facts)
}

fn target(session: &Session) -> String {
    let address = session.address.as_deref().unwrap_or("?");
    match (&session.host, &session.proof) {
        (Some(host), Some(proof)) => {
            let why = match proof.as_str() {
                "claimed" => "the client said so",
                "dns" => "its look-up in this run was answered with this address",
                "certificate" => "proved by its certificate",
                "hostkey" => "proved by its host key",
                "config" => "the catalog says so",
                _ => "for a reason of a later version",
            };
            format!("{host} at {address}; name known by {proof}: {why}")
        }
        _ => format!("{address}; no name is known"),
    }
}

fn protocol(session: &Session) -> String {
    let Some(protocol) = &session.protocol else { return "not classified".into() };
    let driver = session.driver.as_deref().map(|driver| format!(", served as {driver}")).unwrap_or_default();
    let sni = session.sni.as_deref().map(|sni| format!("; SNI {sni}")).unwrap_or_default();
    let alpn = session.alpn.texts().collect::<Vec<_>>().join(", ");
    let alpn = if alpn.is_empty() { alpn } else { format!("; ALPN {alpn}") };
    format!("{protocol}{driver}{sni}{alpn}")
}

/// What became of the encryption, in one line.
fn tls(state: &str, facts: &Tls) -> String {
    let leg = |leg: &Option<Negotiated>| match leg {
        Some(Negotiated { version, cipher, group, .. }) => format!("{version} {cipher} {group}"),
        None => "?".into(),
    };
    let legs = format!("to the process {}; to the target {}", leg(&facts.client), leg(&facts.target));
    let certificate = facts.certificate_sha256.as_deref().unwrap_or("?");
    match state {
        "passed" => format!("NOT OPENED, only its bytes are on record: {}", facts.why.as_deref().unwrap_or("?")),
        "rejected" => {
            format!("the process did not take crewtap's certificate: {}", facts.why.as_deref().unwrap_or("?"))
        }
        "unverified" => format!(
            "opened; the target's certificate is NOT valid ({}), SHA-256 {certificate}; {legs}",
            facts.defects.join(", ")
        ),
        "by_process" => format!(
            "opened; only bundles that the process brings itself vouch for the target, SHA-256 {certificate}; {legs}"
        ),
        _ => format!("opened; the target's certificate is valid, SHA-256 {certificate}; {legs}"),
    }
}

fn decided(decision: &Decision) -> String {
    let policies = decision.policies.texts().collect::<Vec<_>>().join(", ");
    let by = if policies.is_empty() { format!("by mode {}", decision.mode) } else { format!("by {policies}") };
    format!("{} {} {} {by}", decision.effect, decision.verb, decision.subject)
}

/// What passed against its verdict, as lines that cannot be missed.
fn overridden(decisions: &[Decision]) -> Vec<String> {
    let passed = |decision: &Decision| {
        let id = decision.overridden.as_deref()?;
        let n = decision.n.map_or_else(|| "the connection".into(), |n| format!(".{n}"));
        Some(format!("  ! {n} PASSED by override {id}, against the verdict {}", decided(decision)))
    };
    decisions.iter().filter_map(passed).collect()
}

/// A question to a human and its answer, in one line.
fn asked(approval: &ApprovalRow) -> String {
    let n = approval.n.map_or_else(String::new, |n| format!(".{n} "));
    let by = approval.by_name.as_deref().map(|name| format!(" by {name}")).unwrap_or_default();
    let reason = approval.reason.as_deref().map(|reason| format!(": {reason}")).unwrap_or_default();
    let answer = approval.answer.as_deref().unwrap_or("waits");
    format!("{n}{} {} {answer}{by}{reason} ({})", approval.verb, approval.subject, approval.id)
}

fn exchanges(exchanges: &[Exchange], shown: Shown, screen: &mut Screen) -> std::io::Result<()> {
    if exchanges.is_empty() {
        return Ok(());
    }
    screen.line("")?;
    let limit = if shown == Shown::All { exchanges.len() } else { EXCHANGES_MAX };
    for exchange in exchanges.iter().take(limit) {
        let text = |text: &Option<String>| text.clone().unwrap_or_else(|| "?".into());
        let outcome = exchange.outcome.as_deref().unwrap_or("no response");
        let subject = short(&text(&exchange.subject), SUBJECT_CHARS);
        let line = format!("  .{}  {} {subject}  {}", exchange.n, safe(&text(&exchange.verb)), safe(outcome));
        let line = match exchange.verdict.as_deref() {
            Some("overridden") => screen.styled(&format!("{line}  OVERRIDDEN"), Style::Alarm),
            _ => line,
        };
        screen.line(&line)?;
    }
    if exchanges.len() > limit {
        let more = format!("  … {} more exchanges; --all shows them", exchanges.len() - limit);
        screen.line(&screen.styled(&more, Style::Faint))?;
    }
    Ok(())
}

/// What was said in exchanges that are read as a dialogue, one after the other.
fn dialogues(store: &Store, exchanges: &[Exchange], shown: Shown, screen: &mut Screen) -> anyhow::Result<()> {
    let limit = if shown == Shown::All { exchanges.len() } else { DIALOGUES_MAX };
    for exchange in exchanges.iter().take(limit) {
        if let Some(dialogue) = dialogue::read(store, exchange, shown)? {
            screen.line("")?;
            screen.line(&screen.styled(&format!("  .{}", exchange.n), Style::Faint))?;
            dialogue.print(screen)?;
        }
    }
    Ok(())
}

/// The bytes that belong to no exchange. A session that is all exchanges has none, and says where to look.
fn streams(store: &Store, session: &Session, shown: Shown, screen: &mut Screen) -> anyhow::Result<()> {
    for (side, heading) in SIDES {
        let stream = stream::read(store, &session.id, side, shown)?;
        if session.exchanges == 0 || stream.total > 0 {
            screen.line("")?;
            stream.print(heading, &session.id, shown, screen)?;
        }
    }
    if session.exchanges > 0 {
        screen.line("")?;
        let next = format!("crewtap show {}.1   shows an exchange with its heads and bodies", session.id);
        screen.line(&screen.styled(&next, Style::Faint))?;
    }
    Ok(())
}
