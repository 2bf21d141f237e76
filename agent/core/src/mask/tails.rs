//! Bytes that passed before the masks had decided them, and of which nothing more is on record than length and digest.
//!
//! Follows events in their order. Never sees a payload.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::bodies::{Chunk, Part, Pending};
use crate::event::{Body, Event};
use crate::id::SessionId;
use crate::limits::FINDINGS_MAX;
use crate::session::Side;
use crate::wire::postgres::MEDIA_TYPE as POSTGRES;

#[cfg(test)]
mod tests;

/// Undecided bytes of one stream.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Tail {
    /// The record that tells of them.
    pub leaf: u64,
    /// Whose bytes.
    pub session: SessionId,
    /// The exchange in it, where they belong to one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exchange: Option<u32>,
    /// Who sent them.
    pub side: Side,
    /// How many.
    pub len: u64,
    /// Their keyed digest.
    pub digest: String,
    /// Their session has ended: nothing follows.
    pub ended: bool,
}

/// Which stream: of a session's side, of an exchange where it has one for each, and of which part.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Stream {
    session: SessionId,
    exchange: Option<u32>,
    is_server: bool,
    part: Option<String>,
}

/// What is undecided so far.
#[derive(Debug, Default)]
pub struct Tails {
    open: BTreeMap<Stream, Tail>,
    ended: Vec<Tail>,
    more: u64,
}

impl Tails {
    /// Whether an event's bytes in the journal are worth decoding.
    #[must_use]
    pub fn wants(&self, event: &[u8]) -> bool {
        const PENDING: &[u8] = b"gpending";
        !self.open.is_empty() || event.windows(PENDING.len()).any(|window| window == PENDING)
    }

    /// The next event.
    pub fn see(&mut self, leaf: u64, event: &Event) {
        let Some(session) = event.session else { return };
        let exchange = event.exchange;
        match &event.body {
            Body::SessionClosed(_) => self.close(session),
            Body::Request(request) => {
                self.message(leaf, (session, exchange, Side::Client), &request.parts, request.pending.as_ref());
            }
            Body::Response(response) => {
                self.message(leaf, (session, exchange, Side::Server), &response.parts, response.pending.as_ref());
            }
            Body::Chunk(chunk) => self.chunk(leaf, (session, exchange), chunk),
            _ => {}
        }
    }

    fn message(
        &mut self,
        leaf: u64,
        (session, exchange, side): (SessionId, Option<u32>, Side),
        parts: &[Part],
        pending: Option<&Pending>,
    ) {
        // Frames are one stream whatever exchange they belong to; other messages come whole.
        if parts.iter().any(|part| part.media_type.starts_with(POSTGRES) && part.len > 0) || pending.is_some() {
            let stream = Stream { session, exchange: None, is_server: side == Side::Server, part: None };
            self.set(stream, pending.map(|pending| tail(leaf, (session, exchange, side), pending)));
        }
    }

    fn chunk(&mut self, leaf: u64, (session, exchange): (SessionId, Option<u32>), chunk: &Chunk) {
        let is_frames = chunk.media_type.as_deref().is_some_and(|kind| kind.starts_with(POSTGRES));
        let of = if is_frames { None } else { exchange };
        let stream = Stream { session, exchange: of, is_server: chunk.side == Side::Server, part: chunk.part.clone() };
        let pending = chunk.pending.as_ref();
        self.set(stream, pending.map(|pending| tail(leaf, (session, exchange, chunk.side), pending)));
    }

    /// What a stream says last counts: what was undecided before is in it, or was decided by it.
    fn set(&mut self, stream: Stream, tail: Option<Tail>) {
        match tail {
            Some(tail) if self.open.len() < FINDINGS_MAX || self.open.contains_key(&stream) => {
                self.open.insert(stream, tail);
            }
            Some(_) => self.more += 1,
            None => {
                self.open.remove(&stream);
            }
        }
    }

    fn close(&mut self, session: SessionId) {
        let ended: Vec<Stream> = self.open.keys().filter(|stream| stream.session == session).cloned().collect();
        for stream in ended {
            let Some(tail) = self.open.remove(&stream) else { continue };
            if self.ended.len() < FINDINGS_MAX {
                self.ended.push(Tail { ended: true, ..tail });
            } else {
                self.more += 1;
            }
        }
    }

    /// All of them, by record, and how many more there are.
    #[must_use]
    pub fn finish(self) -> (Vec<Tail>, u64) {
        let mut all: Vec<Tail> = self.ended.into_iter().chain(self.open.into_values()).collect();
        all.sort_by_key(|tail| tail.leaf);
        (all, self.more)
    }
}

fn tail(leaf: u64, (session, exchange, side): (SessionId, Option<u32>, Side), pending: &Pending) -> Tail {
    let Pending { len, digest } = pending.clone();
    Tail { leaf, session, exchange, side, len, digest, ended: false }
}
