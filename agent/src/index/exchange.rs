//! Rows of exchanges: requests, responses and the pieces of their messages.
//!
//! Knows media types and content codings, which are any protocol's (law 6); never what a request means.

use crewtap_core::bodies::{Chunk, Part, Request, Response};
use crewtap_core::limits::{SEARCHED_PAYLOAD_BYTES, SEARCHED_STREAM_BYTES};
use crewtap_core::session::Side;
use crewtap_core::view::coding::Decoder;
use rusqlite::{OptionalExtension, params};

use super::apply::{Batch, Entry, json, microseconds, word};
use super::{NUMBER_MAX, nanoseconds, number, text};

/// Where a payload belongs.
#[derive(Clone, Copy)]
struct Piece<'p> {
    side: Side,
    part: &'p str,
    offset: u64,
    /// Bytes on the wire that it stands for; its own length when it is not said.
    wire: Option<u64>,
    /// Its bytes say nothing before they are decoded.
    coded: bool,
}

/// The part of a message that follows in chunks.
fn following(parts: &[Part]) -> Option<&Part> {
    parts.iter().find(|part| part.follows)
}

impl Batch<'_> {
    pub(super) fn request(&mut self, entry: &Entry, body: &Request) -> Result<(), rusqlite::Error> {
        let (Some(session), Some(n)) = (&entry.session, entry.n) else { return Ok(()) };
        self.ensure_exchange(entry, session, n)?;
        let following = following(&body.parts);
        self.db
            .prepare_cached(
                "UPDATE exchanges SET started_ns = ?2, started_mono_ns = ?3, verb = ?4, subject = ?5, facts = ?6,
                     request_type = ?7, request_coding = ?8
                 WHERE id = ?1",
            )?
            .execute(params![
                format!("{session}.{n}"),
                entry.at_ns,
                nanoseconds(entry.at.mono_ns),
                body.verb,
                body.subject,
                json(&body.facts),
                following.map(|part| &part.media_type),
                following.and_then(|part| part.coding.as_ref())
            ])?;
        let words = format!("{} {} {}", body.verb, body.subject, json(&body.facts));
        let piece = Piece { side: Side::Client, part: "head", offset: 0, wire: body.wire, coded: false };
        self.payload(entry, session, piece, words)
    }

    pub(super) fn response(&mut self, entry: &Entry, body: &Response) -> Result<(), rusqlite::Error> {
        let (Some(session), Some(n)) = (&entry.session, entry.n) else { return Ok(()) };
        self.ensure_exchange(entry, session, n)?;
        let following = following(&body.parts);
        let id = format!("{session}.{n}");
        self.first_byte(entry, &id)?;
        let (started, outcome): (Option<i64>, Option<String>) = self
            .db
            .prepare_cached("SELECT started_mono_ns, outcome FROM exchanges WHERE id = ?1")?
            .query_row([&id], |row| Ok((row.get(0)?, row.get(1)?)))?;
        self.db
            .prepare_cached(
                "UPDATE exchanges SET outcome = ?2, code = coalesce(?3, code), count = ?4, duration_us = ?5, end_leaf = ?6,
                     response_type = coalesce(?7, response_type), response_coding = coalesce(?8, response_coding)
                 WHERE id = ?1",
            )?
            .execute(params![
                id,
                body.outcome,
                body.code,
                body.count.map(number),
                started.map(|started| microseconds(started, entry.at)),
                entry.leaf,
                following.map(|part| &part.media_type),
                following.and_then(|part| part.coding.as_ref())
            ])?;
        if following.is_some() {
            self.db
                .prepare_cached("INSERT INTO unfinished VALUES (?1, ?2) ON CONFLICT DO NOTHING")?
                .execute(params![session, n])?;
        } else {
            self.finished(session, n)?;
        }
        if body.outcome == "blocked" && outcome.is_none() {
            self.count(entry, "refused", 1)?;
        }
        let words = format!("{} {}", body.code.as_deref().unwrap_or_default(), json(&body.facts));
        let piece = Piece { side: Side::Server, part: "head", offset: 0, wire: body.wire, coded: false };
        self.payload(entry, session, piece, words)
    }

    pub(super) fn ensure_exchange(&mut self, entry: &Entry, session: &str, n: i64) -> Result<(), rusqlite::Error> {
        self.ensure_session(entry, session)?;
        let created = self
            .db
            .prepare_cached(
                "INSERT INTO exchanges (id, leaf, run, session, n, identity, target, protocol)
                 SELECT ?1, ?2, ?3, id, ?4, identity, target, protocol FROM sessions WHERE id = ?5
                 ON CONFLICT DO NOTHING",
            )?
            .execute(params![format!("{session}.{n}"), entry.leaf, entry.run, n, session])?;
        if created == 1 {
            self.count(entry, "exchanges", 1)?;
            self.db
                .prepare_cached("UPDATE sessions SET exchanges = exchanges + 1 WHERE id = ?1")?
                .execute([session])?;
        }
        Ok(())
    }

    /// The first thing that an exchange's target said.
    fn first_byte(&self, entry: &Entry, exchange: &str) -> Result<(), rusqlite::Error> {
        self.db
            .prepare_cached(
                "UPDATE exchanges SET first_byte_us = max(0, ?2 - started_mono_ns) / 1000
                 WHERE id = ?1 AND first_byte_us IS NULL",
            )?
            .execute(params![exchange, nanoseconds(entry.at.mono_ns)])?;
        Ok(())
    }

    pub(super) fn chunk(&mut self, entry: &Entry, body: &Chunk) -> Result<(), rusqlite::Error> {
        let Some(session) = &entry.session else { return Ok(()) };
        match entry.n {
            Some(n) => self.ensure_exchange(entry, session, n)?,
            None if !self.recorded.0.contains_key(session) => self.ensure_session(entry, session)?,
            None => {}
        }
        let mut coding = None;
        if let Some(n) = entry.n {
            let id = format!("{session}.{n}");
            if body.side == Side::Server {
                self.last_byte(entry, &id)?;
            }
            coding = self.coding(&id, body.side)?.filter(|_| body.part.is_none());
        }
        let part = body.part.as_deref().unwrap_or(if entry.n.is_some() { "body" } else { "stream" });
        let coded = coding.is_some();
        self.payload(
            entry,
            session,
            Piece { side: body.side, part, offset: body.offset, wire: body.wire, coded },
            String::new(),
        )?;
        if let Some(n) = entry.n.filter(|_| body.end && body.side == Side::Server) {
            self.finished(session, n)?;
        }
        match (coding, entry.n) {
            (Some(coding), Some(n)) => self.coded(entry, session, n, body, &coding),
            _ => Ok(()),
        }
    }

    /// The answer is complete.
    fn finished(&self, session: &str, n: i64) -> Result<(), rusqlite::Error> {
        self.db.prepare_cached("DELETE FROM unfinished WHERE session = ?1 AND n = ?2")?.execute(params![session, n])?;
        Ok(())
    }

    /// The session is closed: what is not answered whole never will be. An agent that was killed could not say so itself.
    pub(super) fn cut(&self, session: &str) -> Result<(), rusqlite::Error> {
        self.db
            .prepare_cached(
                "UPDATE exchanges SET outcome = 'aborted' WHERE session = ?1
                 AND (outcome IS NULL OR n IN (SELECT n FROM unfinished WHERE session = ?1))",
            )?
            .execute([session])?;
        self.db.prepare_cached("DELETE FROM unfinished WHERE session = ?1")?.execute([session])?;
        Ok(())
    }

    /// The newest thing that an exchange's target said.
    fn last_byte(&self, entry: &Entry, exchange: &str) -> Result<(), rusqlite::Error> {
        self.first_byte(entry, exchange)?;
        self.db
            .prepare_cached(
                "UPDATE exchanges SET duration_us = max(0, ?2 - started_mono_ns) / 1000, end_leaf = ?3 WHERE id = ?1",
            )?
            .execute(params![exchange, nanoseconds(entry.at.mono_ns), entry.leaf])?;
        Ok(())
    }

    fn coding(&self, exchange: &str, side: Side) -> Result<Option<String>, rusqlite::Error> {
        let column = if side == Side::Client { "request_coding" } else { "response_coding" };
        let sql = format!("SELECT {column} FROM exchanges WHERE id = ?1");
        self.db.prepare_cached(&sql)?.query_row([exchange], |row| row.get(0))
    }

    /// Keeps a piece of a coded body, and makes the words of all its pieces findable with the last one.
    fn coded(&self, entry: &Entry, session: &str, n: i64, body: &Chunk, coding: &str) -> Result<(), rusqlite::Error> {
        let side = word(&body.side);
        if body.offset < SEARCHED_STREAM_BYTES && !entry.payload.is_empty() {
            self.db
                .prepare_cached("INSERT INTO coded VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT DO NOTHING")?
                .execute(params![session, n, side, entry.leaf, entry.payload])?;
        }
        if !body.end {
            return Ok(());
        }
        let mut decoder = Decoder::of(coding, SEARCHED_PAYLOAD_BYTES);
        {
            let mut select = self
                .db
                .prepare_cached("SELECT bytes FROM coded WHERE session = ?1 AND n = ?2 AND side = ?3 ORDER BY leaf")?;
            let mut rows = select.query(params![session, n, side])?;
            while let Some(row) = rows.next()? {
                decoder.feed(row.get_ref(0)?.as_blob()?);
            }
        }
        self.db
            .prepare_cached("DELETE FROM coded WHERE session = ?1 AND n = ?2 AND side = ?3")?
            .execute(params![session, n, side])?;
        match text::searchable(&decoder.finish().bytes, 0, "") {
            Some(text) => self.text(entry, &text),
            None => Ok(()),
        }
    }

    /// Remembers where a payload lies, counts it, and makes its words findable together with the given ones.
    fn payload(
        &mut self,
        entry: &Entry,
        session: &str,
        piece: Piece<'_>,
        mut words: String,
    ) -> Result<(), rusqlite::Error> {
        let Piece { side, part, offset, wire, coded } = piece;
        let len = number(entry.payload.len());
        let wire = wire.map_or(len, number);
        if len > 0 {
            self.db.prepare_cached("INSERT INTO payloads VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)")?.execute(params![
                session,
                word(&side),
                entry.leaf,
                entry.n,
                part,
                number(offset),
                len
            ])?;
        }
        if len > 0 || wire > 0 {
            if let Some(n) = entry.n {
                let column = if side == Side::Client { "bytes_up" } else { "bytes_down" };
                let sql = format!("UPDATE exchanges SET {column} = min({column} + ?2, ?3) WHERE id = ?1");
                self.db.prepare_cached(&sql)?.execute(params![format!("{session}.{n}"), wire, NUMBER_MAX])?;
            }
            let protocol = self.protocol(session)?;
            let text = if coded { None } else { text::searchable(entry.payload, offset, &protocol) };
            let sums = self.recorded.0.entry(session.to_owned()).or_default();
            let sum = if side == Side::Client { &mut sums.up } else { &mut sums.down };
            *sum = sum.saturating_add(wire).min(NUMBER_MAX);
            sums.protocol = Some(protocol);
            if let Some(text) = text {
                words.push(' ');
                words.push_str(&text);
            }
        }
        self.text(entry, words.trim_end_matches("{}"))
    }

    fn protocol(&mut self, session: &str) -> Result<String, rusqlite::Error> {
        if let Some(protocol) = self.recorded.0.get_mut(session).and_then(|sums| sums.protocol.take()) {
            return Ok(protocol);
        }
        let mut select = self.db.prepare_cached("SELECT coalesce(protocol, '') FROM sessions WHERE id = ?1")?;
        Ok(select.query_row([session], |row| row.get(0)).optional()?.unwrap_or_default())
    }
}
