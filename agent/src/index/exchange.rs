//! Rows of exchanges: requests, responses and the pieces of their messages.
//!
//! Knows media types and content codings, which are any protocol's (law 6); never what a request means.

use std::borrow::Cow;

use crewtap_core::action::{Fact, Facts};
use crewtap_core::bodies::{Chunk, Part, Request, Response};
use crewtap_core::event::Stamp;
use crewtap_core::id::SessionId;
use crewtap_core::limits::{SEARCHED_PAYLOAD_BYTES, SEARCHED_STREAM_BYTES};
use crewtap_core::session::Side;
use crewtap_core::view::{self, coding::Decoder};
use rusqlite::params;

use super::apply::{Batch, Entry, json, microseconds};
use super::held::{HeldExchange, Place, Slot};
use super::{NUMBER_MAX, nanoseconds, number, text};

/// Where a payload belongs.
#[derive(Clone, Copy)]
struct Piece<'p> {
    side: Side,
    part: &'p str,
    /// What is needed to read it, where its bytes are not its text.
    media_type: Option<&'p str>,
    offset: u64,
    /// Bytes on the wire that it stands for; its own length when it is not said.
    wire: Option<u64>,
    /// Its bytes say nothing before they are decoded.
    coded: bool,
}

impl<'p> Piece<'p> {
    /// A message, or its beginning.
    fn head(side: Side, parts: &'p [Part], wire: Option<u64>) -> Self {
        Self { side, part: "head", media_type: media_type(parts), offset: 0, wire, coded: false }
    }
}

/// The part of a message that follows in chunks.
fn following(parts: &[Part]) -> Option<&Part> {
    parts.iter().find(|part| part.follows)
}

/// What is needed to read a message: the type of what follows, or of what is there.
fn media_type(parts: &[Part]) -> Option<&str> {
    following(parts).or_else(|| parts.first()).map(|part| part.media_type.as_str())
}

impl HeldExchange {
    /// The target has said something.
    fn spoken(&mut self, at: Stamp) {
        let since = self.started_mono_ns.map(|started| microseconds(started, at));
        self.first_byte_us = self.first_byte_us.or(since);
        self.duration_us = since;
    }
}

impl Batch<'_> {
    pub(super) fn request(&mut self, entry: &Entry, body: &Request) -> Result<(), rusqlite::Error> {
        let Some(place) = place(entry) else { return Ok(()) };
        let following = following(&body.parts);
        let facts = json(&body.facts);
        let mut words = format!("{} {}", body.verb, body.subject);
        add_facts(&mut words, &body.facts);
        let row = self.exchange(entry, place)?;
        row.started_ns = Some(entry.at_ns);
        row.started_mono_ns = Some(nanoseconds(entry.at.mono_ns));
        row.verb = Some(body.verb.clone());
        row.subject = Some(body.subject.clone());
        row.facts = Some(facts);
        row.request_type = media_type(&body.parts).map(str::to_owned);
        row.request_coding = following.and_then(|part| part.coding.clone());
        self.payload(entry, place.0, Piece::head(Side::Client, &body.parts, body.wire), words)
    }

    pub(super) fn response(&mut self, entry: &Entry, body: &Response) -> Result<(), rusqlite::Error> {
        let Some(place) = place(entry) else { return Ok(()) };
        let following = following(&body.parts);
        let row = self.exchange(entry, place)?;
        let is_first = row.outcome.is_none();
        row.spoken(entry.at);
        row.outcome = Some(body.outcome.clone());
        row.code = body.code.clone().or_else(|| row.code.take());
        row.count = body.count.map(number);
        row.end_leaf = Some(entry.leaf);
        merge(&mut row.facts, &body.facts);
        row.following = following.is_some();
        row.response_type = media_type(&body.parts).map(str::to_owned).or_else(|| row.response_type.take());
        if let Some(part) = following {
            row.response_coding = part.coding.clone().or_else(|| row.response_coding.take());
        }
        if body.outcome == "blocked" && is_first {
            self.count(entry, |run| &mut run.refused, 1)?;
        }
        let mut words = body.code.clone().unwrap_or_default();
        add_facts(&mut words, &body.facts);
        self.payload(entry, place.0, Piece::head(Side::Server, &body.parts, body.wire), words)
    }

    /// The row of an exchange, also when its first records are gone.
    pub(super) fn exchange(&mut self, entry: &Entry, place: Place) -> Result<&mut HeldExchange, rusqlite::Error> {
        let (session, n) = place;
        self.session(entry, session)?;
        if !self.held.bring_exchange(self.db, place)? {
            let of = self.session(entry, session)?;
            of.exchanges += 1;
            of.newest = of.newest.max(n);
            let row = HeldExchange {
                leaf: entry.leaf,
                run: entry.run.clone(),
                session: of.id.clone(),
                n: n.into(),
                identity: of.identity.clone(),
                target: of.target.clone(),
                protocol: of.protocol.clone(),
                ..HeldExchange::default()
            };
            self.held.exchanges.insert(place, Slot { row, changed: true });
            self.count(entry, |run| &mut run.exchanges, 1)?;
        }
        let new = || Slot { row: HeldExchange::default(), changed: true };
        let slot = self.held.exchanges.entry(place).or_insert_with(new);
        slot.changed = true;
        Ok(&mut slot.row)
    }

    pub(super) fn chunk(&mut self, entry: &Entry, body: &Chunk) -> Result<(), rusqlite::Error> {
        let Some((session, _)) = entry.in_session() else { return Ok(()) };
        self.session(entry, session)?;
        let mut coding = None;
        if let Some(place) = place(entry) {
            let row = self.exchange(entry, place)?;
            if body.side == Side::Server {
                row.spoken(entry.at);
                row.end_leaf = Some(entry.leaf);
                row.following &= !body.end;
            }
            let of_side = if body.side == Side::Client { &row.request_coding } else { &row.response_coding };
            coding = of_side.clone().filter(|_| body.part.is_none());
        }
        let part = body.part.as_deref().unwrap_or(if entry.n.is_some() { "body" } else { "stream" });
        let coded = coding.is_some();
        let piece = Piece {
            side: body.side,
            part,
            media_type: body.media_type.as_deref(),
            offset: body.offset,
            wire: body.wire,
            coded,
        };
        self.payload(entry, session, piece, String::new())?;
        match (coding, &entry.session, entry.n) {
            (Some(coding), Some(session), Some(n)) => self.coded(entry, session, n, body, &coding),
            _ => Ok(()),
        }
    }

    /// The session is closed: what is not answered whole never will be. An agent that was killed could not say so itself.
    pub(super) fn cut(&mut self, session: SessionId) -> Result<(), rusqlite::Error> {
        for place in self.held.unfinished(self.db, session)? {
            if let Some(Slot { row, changed }) = self.held.exchanges.get_mut(&place) {
                row.outcome = Some("aborted".into());
                (row.following, *changed) = (false, true);
            }
        }
        Ok(())
    }

    /// Keeps a piece of a coded body, and makes the words of all its pieces findable with the last one.
    fn coded(&self, entry: &Entry, session: &str, n: i64, body: &Chunk, coding: &str) -> Result<(), rusqlite::Error> {
        let side = word(body.side);
        let mut decoder = Decoder::of(coding, SEARCHED_PAYLOAD_BYTES);
        if body.end && body.offset == 0 {
            decoder.feed(entry.payload);
        } else {
            if body.offset < SEARCHED_STREAM_BYTES && !entry.payload.is_empty() {
                self.db
                    .prepare_cached("INSERT INTO coded VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT DO NOTHING")?
                    .execute(params![session, n, side, entry.leaf, entry.payload])?;
            }
            if !body.end {
                return Ok(());
            }
            let sql = "SELECT bytes FROM coded WHERE session = ?1 AND n = ?2 AND side = ?3 ORDER BY leaf";
            let mut select = self.db.prepare_cached(sql)?;
            let mut rows = select.query(params![session, n, side])?;
            while let Some(row) = rows.next()? {
                decoder.feed(row.get_ref(0)?.as_blob()?);
            }
            drop(rows);
            self.db
                .prepare_cached("DELETE FROM coded WHERE session = ?1 AND n = ?2 AND side = ?3")?
                .execute(params![session, n, side])?;
        }
        match text::searchable(&decoder.finish().bytes, 0, "") {
            Some(text) => self.text(entry, &text),
            None => Ok(()),
        }
    }

    /// Remembers where a payload lies, counts it, and makes its words findable together with the given ones.
    fn payload(
        &mut self,
        entry: &Entry,
        session: SessionId,
        piece: Piece<'_>,
        mut words: String,
    ) -> Result<(), rusqlite::Error> {
        let Piece { side, part, media_type, offset, wire, coded } = piece;
        let len = number(entry.payload.len());
        let wire = wire.map_or(len, number);
        if len > 0 {
            let session_leaf = self.session(entry, session)?.leaf;
            self.db.prepare_cached("INSERT INTO places VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)")?.execute(params![
                session_leaf,
                side == Side::Server,
                entry.leaf,
                entry.n,
                part,
                number(offset),
                len
            ])?;
        }
        if len > 0 || wire > 0 {
            if let Some(place) = place(entry) {
                let row = self.exchange(entry, place)?;
                let sum = if side == Side::Client { &mut row.bytes_up } else { &mut row.bytes_down };
                *sum = (*sum + wire).min(NUMBER_MAX);
            }
            self.recorded(entry, session, side, wire)?;
            let protocol = self.session(entry, session)?.protocol.as_deref().unwrap_or_default();
            let read = media_type.filter(|_| offset < SEARCHED_STREAM_BYTES);
            let text = match read.and_then(|media_type| view::words(media_type, entry.payload)) {
                _ if coded => None,
                Some(text) => Some(Cow::Owned(text)),
                None => text::searchable(entry.payload, offset, protocol),
            };
            if let Some(text) = text {
                words.push(' ');
                words.push_str(&text);
            }
        }
        self.text(entry, &words)
    }
}

/// Adds the facts of an answer to those of its request, which stay what they are. They are JSON: a name in quotes before a
/// colon stands nowhere else in it.
fn merge(facts: &mut Option<String>, more: &Facts) {
    let known = facts.get_or_insert_with(|| "{}".into());
    for (name, fact) in more {
        let name = format!("{}:", json(name));
        if known.contains(&name) || !known.ends_with('}') {
            continue;
        }
        known.pop();
        if known.len() > 1 {
            known.push(',');
        }
        known.push_str(&name);
        known.push_str(&json(fact));
        known.push('}');
    }
}

/// Makes facts findable, but for what is there already: a request's address is, in parts, what its facts say.
fn add_facts(words: &mut String, facts: &Facts) {
    for (name, fact) in facts {
        let value = match fact {
            Fact::Text(text) if says(words, text) => continue,
            Fact::Text(text) => Cow::Borrowed(text.as_str()),
            other => Cow::Owned(json(other)),
        };
        for word in [name, &*value] {
            words.push(' ');
            words.push_str(word);
        }
    }
}

/// Whether a text is there, in whole words.
fn says(words: &str, text: &str) -> bool {
    let continues = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
    words.match_indices(text).any(|(at, _)| {
        let (before, behind) = (words.get(..at).unwrap_or_default(), words.get(at + text.len()..).unwrap_or_default());
        !continues(before.chars().next_back()) && !continues(behind.chars().next())
    })
}

/// Where an event's exchange is.
fn place(entry: &Entry) -> Option<Place> {
    entry.event.session.zip(entry.event.exchange)
}

fn word(side: Side) -> &'static str {
    match side {
        Side::Client => "client",
        Side::Server => "server",
    }
}
