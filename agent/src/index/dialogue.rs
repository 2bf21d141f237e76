//! Rows of sessions and their exchanges: who spoke to what, how much, and where each payload lies.
//!
//! Never looks into a payload beyond the words that make it findable; protocols are unknown here (law 6).

use crewtap_core::bodies::{Classified, Decided, Masked, SessionClosed, SessionOpened, Tls};
use crewtap_core::id::{RunId, SessionId};
use crewtap_core::session::{Outcome, Side};
use crewtap_core::verdict::Effect;
use rusqlite::params;

use super::apply::{Batch, Entry, json, word};
use super::held::{HeldSession, Slot};
use super::{NUMBER_MAX, number};

impl Batch<'_> {
    /// The row of the entry's session, also when its first records are gone.
    pub(super) fn session(&mut self, entry: &Entry, session: SessionId) -> Result<&mut HeldSession, rusqlite::Error> {
        if !self.held.bring_session(self.db, session)? {
            let row = HeldSession {
                id: session.to_string(),
                leaf: entry.leaf,
                run: entry.run.clone(),
                ..HeldSession::default()
            };
            self.held.sessions.insert(session, Slot { row, changed: true });
            self.count(entry, |run| &mut run.sessions, 1)?;
        }
        let new = || Slot { row: HeldSession::default(), changed: true };
        let slot = self.held.sessions.entry(session).or_insert_with(new);
        slot.changed = true;
        Ok(&mut slot.row)
    }

    pub(super) fn session_opened(&mut self, entry: &Entry, body: &SessionOpened) -> Result<(), rusqlite::Error> {
        let Some((session, _)) = entry.in_session() else { return Ok(()) };
        let destination = body.origin.destination.to_string();
        let row = self.session(entry, session)?;
        row.started_ns = Some(entry.at_ns);
        row.identity = Some(body.identity.id.clone());
        row.identity_name = Some(body.identity.name.clone());
        row.pid = Some(body.origin.pid.into());
        row.tid = Some(body.origin.tid.into());
        row.uid = Some(body.origin.uid.into());
        row.comm = Some(body.origin.comm.clone());
        row.exe = Some(body.process.exe.clone());
        row.client = Some(body.client.to_string());
        row.process = Some(json(&body.process));
        row.origin = Some(json(&body.origin));
        row.target.get_or_insert_with(|| destination.clone());
        row.address.get_or_insert_with(|| destination.clone());
        row.destination = Some(destination.clone());
        self.text(entry, &format!("{destination} {} {}", body.origin.comm, body.process.exe))
    }

    pub(super) fn classified(&mut self, entry: &Entry, body: &Classified) -> Result<(), rusqlite::Error> {
        let Some((session, _)) = entry.in_session() else { return Ok(()) };
        let name = body.target.name.as_ref();
        let label = body.target.label();
        let row = self.session(entry, session)?;
        row.protocol = Some(body.protocol.clone());
        row.driver = Some(body.driver.clone());
        row.target = Some(label.clone());
        row.address = Some(body.target.address.to_string());
        row.host = name.map(|name| name.host.clone());
        row.proof = name.and_then(|name| word(&name.proof));
        row.sni.clone_from(&body.sni);
        row.alpn = Some(json(&body.alpn));
        let sni = body.sni.as_deref().unwrap_or_default();
        self.text(entry, &format!("{label} {} {sni} {}", body.target.address, body.protocol))
    }

    pub(super) fn decided(&mut self, entry: &Entry, body: &Decided) -> Result<(), rusqlite::Error> {
        let effect = word(&body.verdict.effect);
        self.db
            .prepare_cached(
                "INSERT INTO decisions VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)",
            )?
            .execute(params![
                entry.leaf,
                entry.run,
                entry.session,
                entry.n,
                entry.at_ns,
                body.verb,
                body.subject,
                effect,
                json(&body.verdict.policies),
                word(&body.mode),
                json(&body.facts),
                Some(&body.resource.id).filter(|id| !id.is_empty()),
                body.overridden,
                json(&body.verdict.errors)
            ])?;
        if let Some((session, _)) = entry.in_session() {
            let row = self.session(entry, session)?;
            // A denial stays: a later allow of something else in the session does not undo it. What passed against the verdict
            // says so above all.
            let effect = if body.overridden.is_some() { Some("overridden".to_owned()) } else { effect };
            let weight = |verdict: &Option<String>| match verdict.as_deref() {
                Some("overridden") => 2,
                Some("deny") => 1,
                _ => 0,
            };
            let judge = |verdict: &mut Option<String>| {
                if weight(verdict) <= weight(&effect) {
                    verdict.clone_from(&effect);
                }
            };
            match entry.event.exchange {
                None => judge(&mut row.verdict),
                Some(n) => {
                    if self.held.bring_exchange(self.db, (session, n))?
                        && let Some(slot) = self.held.exchanges.get_mut(&(session, n))
                    {
                        judge(&mut slot.row.verdict);
                        slot.changed = true;
                    }
                }
            }
        }
        // Allowed connections say nothing that the session does not say.
        if body.verdict.effect == Effect::Allow && body.verdict.policies.is_empty() {
            return Ok(());
        }
        let (policies, errors) = (body.verdict.policies.join(" "), body.verdict.errors.join(" "));
        self.text(entry, &format!("{} {} {policies} {errors}", body.verb, body.subject))
    }

    pub(super) fn tls(&mut self, entry: &Entry, body: &Tls) -> Result<(), rusqlite::Error> {
        let Some((session, _)) = entry.in_session() else { return Ok(()) };
        let state = match (body.opened, body.defects.is_empty()) {
            (false, _) if body.certificate_sha256.is_some() => "rejected",
            (false, _) => "passed",
            (true, true) if body.by_process => "by_process",
            (true, true) => "verified",
            (true, false) => "unverified",
        };
        let row = self.session(entry, session)?;
        row.tls = Some(state.into());
        row.tls_facts = Some(json(body));
        let why = body.why.as_deref().unwrap_or_default();
        self.text(entry, &format!("tls {state} {why} {}", body.defects.join(" ")))
    }

    pub(super) fn masked(&mut self, entry: &Entry, body: &Masked) -> Result<(), rusqlite::Error> {
        let count = number(body.count);
        self.count(entry, |run| &mut run.masked, count)?;
        self.db.prepare_cached("INSERT INTO masks VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)")?.execute(params![
            entry.leaf,
            entry.run,
            entry.session,
            entry.n,
            entry.at_ns,
            body.mask,
            count,
            json(&body.values)
        ])?;
        let Some((session, _)) = entry.in_session() else { return Ok(()) };
        let masked = &mut self.session(entry, session)?.masked;
        *masked = (*masked + count).min(NUMBER_MAX);
        if let Some(n) = entry.event.exchange {
            let masked = &mut self.exchange(entry, (session, n))?.masked;
            *masked = (*masked + count).min(NUMBER_MAX);
        }
        Ok(())
    }

    pub(super) fn session_closed(&mut self, entry: &Entry, body: &SessionClosed) -> Result<(), rusqlite::Error> {
        let Some((session, id)) = entry.in_session() else { return Ok(()) };
        self.session(entry, session)?;
        self.cut(session)?;
        // A coded body that never became complete.
        self.db.prepare_cached("DELETE FROM coded WHERE session = ?1")?.execute([id])?;
        let (bytes_up, bytes_down) = (number(body.bytes_up), number(body.bytes_down));
        let row = self.session(entry, session)?;
        let (up, down) = (bytes_up - row.bytes_up, bytes_down - row.bytes_down);
        let closed = row.outcome.is_some();
        let run = run_of(row);
        row.outcome = Some(body.outcome.as_str().into());
        (row.bytes_up, row.bytes_down) = (bytes_up, bytes_down);
        row.duration_us = Some(number(body.duration_us));
        row.first_byte_us = body.first_byte_us.map(number);
        row.error.clone_from(&body.error);
        row.end_leaf = Some(entry.leaf);
        row.ended_ns = Some(entry.at_ns);
        row.dialled_from = body.dialled_from.map(|address| address.to_string());
        // What was recorded is counted in the session's run; what was forwarded takes its place.
        if let Some(run) = run {
            self.count_in(run, entry.leaf, |run| &mut run.bytes_up, up)?;
            self.count_in(run, entry.leaf, |run| &mut run.bytes_down, down)?;
        }
        match body.outcome {
            _ if closed => {}
            Outcome::Completed => {}
            Outcome::Refused => self.count(entry, |run| &mut run.refused, 1)?,
            _ => self.count(entry, |run| &mut run.failed, 1)?,
        }
        match &body.error {
            Some(error) => self.text(entry, &format!("{} {error}", body.outcome.as_str())),
            None => Ok(()),
        }
    }

    /// Counts recorded bytes of a session. While it is open, what is recorded stands for what was forwarded.
    pub(super) fn recorded(
        &mut self,
        entry: &Entry,
        session: SessionId,
        side: Side,
        bytes: i64,
    ) -> rusqlite::Result<()> {
        let row = self.session(entry, session)?;
        let add = |sum: &mut i64| *sum = (*sum + bytes).min(NUMBER_MAX);
        let is_open = row.outcome.is_none();
        match side {
            Side::Client => {
                add(&mut row.recorded_up);
                is_open.then(|| add(&mut row.bytes_up));
            }
            Side::Server => {
                add(&mut row.recorded_down);
                is_open.then(|| add(&mut row.bytes_down));
            }
        }
        let leaf = row.leaf;
        match run_of(row).filter(|_| is_open) {
            Some(run) if side == Side::Client => self.count_in(run, leaf, |run| &mut run.bytes_up, bytes),
            Some(run) => self.count_in(run, leaf, |run| &mut run.bytes_down, bytes),
            None => Ok(()),
        }
    }
}

/// The run that a session belongs to.
fn run_of(row: &HeldSession) -> Option<RunId> {
    row.run.as_deref().and_then(|run| run.parse().ok())
}
