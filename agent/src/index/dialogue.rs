//! Rows of sessions and their exchanges: who spoke to what, how much, and where each payload lies.
//!
//! Never looks into a payload beyond the words that make it findable; protocols are unknown here (law 6).

use std::collections::BTreeMap;

use crewtap_core::bodies::{Classified, Decided, Masked, SessionClosed, SessionOpened, Tls};
use crewtap_core::session::Outcome;
use crewtap_core::verdict::Effect;
use rusqlite::{OptionalExtension, params};

use super::apply::{Batch, Entry, json, word};
use super::{NUMBER_MAX, number};

/// Payload bytes of a batch by session, so that a session's row is written once per batch and not once per chunk.
#[derive(Default)]
pub(super) struct Recorded(pub(super) BTreeMap<String, Sums>);

#[derive(Default)]
pub(super) struct Sums {
    pub(super) up: i64,
    pub(super) down: i64,
    /// Learned once per batch, empty when it is not classified; what is ciphertext is not searched.
    pub(super) protocol: Option<String>,
}

impl Batch<'_> {
    /// Makes sure that the entry's session has its row, also when its first records are gone.
    pub(super) fn ensure_session(&self, entry: &Entry, session: &str) -> Result<(), rusqlite::Error> {
        let created = self
            .db
            .prepare_cached("INSERT INTO sessions (id, leaf, run) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING")?
            .execute(params![session, entry.leaf, entry.run])?;
        if created == 1 { self.count(entry, "sessions", 1) } else { Ok(()) }
    }

    pub(super) fn session_opened(&mut self, entry: &Entry, body: &SessionOpened) -> Result<(), rusqlite::Error> {
        let Some(session) = &entry.session else { return Ok(()) };
        self.ensure_session(entry, session)?;
        let destination = body.origin.destination.to_string();
        self.db
            .prepare_cached(
                "UPDATE sessions SET started_ns = ?2, identity = ?3, identity_name = ?4, pid = ?5, tid = ?6, uid = ?7,
                     comm = ?8, exe = ?9, client = ?10, destination = ?11, process = ?12, origin = ?13,
                     target = coalesce(target, ?11), address = coalesce(address, ?11)
                 WHERE id = ?1",
            )?
            .execute(params![
                session,
                entry.at_ns,
                body.identity.id,
                body.identity.name,
                body.origin.pid,
                body.origin.tid,
                body.origin.uid,
                body.origin.comm,
                body.process.exe,
                body.client.to_string(),
                destination,
                json(&body.process),
                json(&body.origin)
            ])?;
        self.text(entry, &format!("{destination} {} {}", body.origin.comm, body.process.exe))
    }

    pub(super) fn classified(&mut self, entry: &Entry, body: &Classified) -> Result<(), rusqlite::Error> {
        let Some(session) = &entry.session else { return Ok(()) };
        self.ensure_session(entry, session)?;
        let name = body.target.name.as_ref();
        let label = body.target.label();
        self.db
            .prepare_cached(
                "UPDATE sessions SET protocol = ?2, driver = ?3, target = ?4, address = ?5, host = ?6, proof = ?7,
                     sni = ?8, alpn = ?9
                 WHERE id = ?1",
            )?
            .execute(params![
                session,
                body.protocol,
                body.driver,
                label,
                body.target.address.to_string(),
                name.map(|name| &name.host),
                name.and_then(|name| word(&name.proof)),
                body.sni,
                json(&body.alpn)
            ])?;
        if let Some(sums) = self.recorded.0.get_mut(session) {
            sums.protocol = None;
        }
        let sni = body.sni.as_deref().unwrap_or_default();
        self.text(entry, &format!("{label} {} {sni} {}", body.target.address, body.protocol))
    }

    pub(super) fn decided(&mut self, entry: &Entry, body: &Decided) -> Result<(), rusqlite::Error> {
        let effect = word(&body.verdict.effect);
        self.db
            .prepare_cached("INSERT INTO decisions VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)")?
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
                json(&body.facts)
            ])?;
        if let Some(session) = &entry.session {
            self.ensure_session(entry, session)?;
            // A denial stays: a later allow of something else in the session does not undo it.
            let (table, id) = match entry.n {
                Some(n) => ("exchanges", format!("{session}.{n}")),
                None => ("sessions", session.clone()),
            };
            let sql =
                format!("UPDATE {table} SET verdict = ?2 WHERE id = ?1 AND (verdict IS NULL OR verdict <> 'deny')");
            self.db.prepare_cached(&sql)?.execute(params![id, effect])?;
        }
        // Allowed connections say nothing that the session does not say.
        if body.verdict.effect == Effect::Allow && body.verdict.policies.is_empty() {
            return Ok(());
        }
        self.text(entry, &format!("{} {} {}", body.verb, body.subject, body.verdict.policies.join(" ")))
    }

    pub(super) fn tls(&mut self, entry: &Entry, body: &Tls) -> Result<(), rusqlite::Error> {
        let Some(session) = &entry.session else { return Ok(()) };
        self.ensure_session(entry, session)?;
        let state = match (body.opened, body.defects.is_empty()) {
            (false, _) if body.certificate_sha256.is_some() => "rejected",
            (false, _) => "passed",
            (true, true) if body.by_process => "by_process",
            (true, true) => "verified",
            (true, false) => "unverified",
        };
        self.db.prepare_cached("UPDATE sessions SET tls = ?2, tls_facts = ?3 WHERE id = ?1")?.execute(params![
            session,
            state,
            json(body)
        ])?;
        let why = body.why.as_deref().unwrap_or_default();
        self.text(entry, &format!("tls {state} {why} {}", body.defects.join(" ")))
    }

    pub(super) fn masked(&mut self, entry: &Entry, body: &Masked) -> Result<(), rusqlite::Error> {
        let count = number(body.count);
        self.count(entry, "masked", count)?;
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
        let Some(session) = &entry.session else { return Ok(()) };
        self.ensure_session(entry, session)?;
        self.db
            .prepare_cached("UPDATE sessions SET masked = min(masked + ?2, ?3) WHERE id = ?1")?
            .execute(params![session, count, NUMBER_MAX])?;
        if let Some(n) = entry.n {
            self.ensure_exchange(entry, session, n)?;
            self.db
                .prepare_cached("UPDATE exchanges SET masked = min(masked + ?2, ?3) WHERE id = ?1")?
                .execute(params![format!("{session}.{n}"), count, NUMBER_MAX])?;
        }
        Ok(())
    }

    pub(super) fn session_closed(&mut self, entry: &Entry, body: &SessionClosed) -> Result<(), rusqlite::Error> {
        let Some(session) = &entry.session else { return Ok(()) };
        self.ensure_session(entry, session)?;
        self.settle(session)?;
        self.cut(session)?;
        // A coded body that never became complete.
        self.db.prepare_cached("DELETE FROM coded WHERE session = ?1")?.execute([session])?;
        let (bytes_up, bytes_down) = (number(body.bytes_up), number(body.bytes_down));
        let (run, up, down, closed): (Option<String>, i64, i64, bool) = self
            .db
            .prepare_cached("SELECT run, bytes_up, bytes_down, outcome IS NOT NULL FROM sessions WHERE id = ?1")?
            .query_row([session], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))?;
        self.db
            .prepare_cached(
                "UPDATE sessions SET outcome = ?2, bytes_up = ?3, bytes_down = ?4, duration_us = ?5, first_byte_us = ?6,
                     error = ?7, end_leaf = ?8, ended_ns = ?9, dialled_from = ?10
                 WHERE id = ?1",
            )?
            .execute(params![
                session,
                body.outcome.as_str(),
                bytes_up,
                bytes_down,
                number(body.duration_us),
                body.first_byte_us.map(number),
                body.error,
                entry.leaf,
                entry.at_ns,
                body.dialled_from.map(|address| address.to_string())
            ])?;
        // What was recorded is counted in the session's run; what was forwarded takes its place.
        if let Some(run) = &run {
            self.count_in(run, entry.leaf, "bytes_up", bytes_up - up)?;
            self.count_in(run, entry.leaf, "bytes_down", bytes_down - down)?;
        }
        match body.outcome {
            _ if closed => {}
            Outcome::Completed => {}
            Outcome::Refused => self.count(entry, "refused", 1)?,
            _ => self.count(entry, "failed", 1)?,
        }
        match &body.error {
            Some(error) => self.text(entry, &format!("{} {error}", body.outcome.as_str())),
            None => Ok(()),
        }
    }

    /// Writes the batch's sums of every session.
    pub(super) fn settle_all(&mut self) -> Result<(), rusqlite::Error> {
        let sessions: Vec<String> = self.recorded.0.keys().cloned().collect();
        sessions.iter().try_for_each(|session| self.settle(session))
    }

    /// Writes the batch's sums of one session. While it is open, what is recorded stands for what was forwarded.
    fn settle(&mut self, session: &str) -> Result<(), rusqlite::Error> {
        let Some(sums) = self.recorded.0.remove(session) else { return Ok(()) };
        self.db
            .prepare_cached(
                "UPDATE sessions SET
                     bytes_up = iif(outcome IS NULL, min(bytes_up + ?2, ?4), bytes_up),
                     bytes_down = iif(outcome IS NULL, min(bytes_down + ?3, ?4), bytes_down),
                     recorded_up = min(recorded_up + ?2, ?4),
                     recorded_down = min(recorded_down + ?3, ?4)
                 WHERE id = ?1",
            )?
            .execute(params![session, sums.up, sums.down, NUMBER_MAX])?;
        let open: Option<(String, i64)> = self
            .db
            .prepare_cached("SELECT run, leaf FROM sessions WHERE id = ?1 AND outcome IS NULL AND run IS NOT NULL")?
            .query_row([session], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        if let Some((run, leaf)) = open {
            self.count_in(&run, leaf, "bytes_up", sums.up)?;
            self.count_in(&run, leaf, "bytes_down", sums.down)?;
        }
        Ok(())
    }
}
