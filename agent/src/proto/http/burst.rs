//! What one call of the tap comes to: the bytes that go on, and the events that tell of them.
//!
//! Never decides which bytes those are.

use std::borrow::Cow;

use crewtap_core::event::Body;
use crewtap_core::limits::RELAY_BUFFER_BYTES;
use crewtap_core::session::Side;

use crate::journal::Position;
use crate::recorder::Told;
use crate::relay::{Forward, Next, Taken};

/// What one call of the tap has come to so far.
pub(super) struct Burst<'b> {
    bytes: &'b [u8],
    /// Bytes that steps have covered; those behind what is forwarded wait for a decision.
    pub(super) at: usize,
    pub(super) forward: Forward<'b>,
    pub(super) told: Vec<Told<'b>>,
    /// Bytes covered that no event stands for yet.
    pub(super) framing: u64,
    /// Bytes that are on record.
    pub(super) recorded: usize,
    /// The newest record so far.
    pub(super) position: Option<Position>,
    /// What the side itself is told.
    pub(super) answer: Option<Vec<u8>>,
}

impl<'b> Burst<'b> {
    pub(super) fn new(bytes: &'b [u8]) -> Self {
        Self {
            bytes,
            at: 0,
            forward: Forward::at(bytes, 0),
            told: Vec::new(),
            framing: 0,
            recorded: 0,
            position: None,
            answer: None,
        }
    }

    /// What no step has covered.
    pub(super) fn rest(&self) -> &'b [u8] {
        self.bytes.get(self.at..).unwrap_or_default()
    }

    /// The bytes that are covered and neither forwarded nor dropped.
    pub(super) fn waiting(&self) -> &'b [u8] {
        self.bytes.get(self.forward.end()..self.at).unwrap_or_default()
    }

    /// Whether nothing of it has been decided.
    pub(super) fn is_empty(&self) -> bool {
        self.forward.end() == 0 && self.answer.is_none()
    }

    /// Everything covered goes on as it is.
    pub(super) fn pass(&mut self) {
        self.forward.pass(self.at - self.forward.end());
    }

    /// Nothing of what is covered and waits goes on.
    pub(super) fn discard(&mut self) {
        self.forward.replace(self.at - self.forward.end(), b"");
    }

    /// What the relay does with it.
    pub(super) fn taken(self, next: Next) -> Taken {
        let (len, position) = (self.forward.end(), self.position);
        Taken { instead: self.forward.instead(), answer: self.answer, ..Taken::some(len, position, next) }
    }

    /// Exchange 0 is none: what was said outside of any.
    pub(super) fn tell(&mut self, exchange: u32, body: impl Into<Body>, payload: &'b [u8]) {
        let exchange = Some(exchange).filter(|exchange| *exchange > 0);
        self.told.push(Told { exchange, body: body.into(), payload: Cow::Borrowed(payload) });
    }

    /// Adds content to the piece before it, with which it came: a body in tiny chunks is not a record for each of them.
    pub(super) fn join(&mut self, exchange: u32, side: Side, content: &'b [u8]) -> bool {
        match self.told.last_mut() {
            Some(Told { exchange: Some(last), body: Body::Chunk(chunk), payload })
                if *last == exchange
                    && chunk.side == side
                    && chunk.part.is_none()
                    && payload.len() + content.len() <= RELAY_BUFFER_BYTES =>
            {
                chunk.wire = Some(chunk.wire.unwrap_or(payload.len() as u64) + content.len() as u64);
                payload.to_mut().extend_from_slice(content);
                true
            }
            _ => false,
        }
    }

    /// Adds framing to the piece of content before it.
    pub(super) fn add_wire(&mut self, exchange: u32, bytes: u64) -> bool {
        match self.told.last_mut() {
            Some(Told { exchange: Some(last), body: Body::Chunk(chunk), payload })
                if *last == exchange && chunk.part.is_none() =>
            {
                chunk.wire = Some(chunk.wire.unwrap_or(payload.len() as u64) + bytes);
                true
            }
            _ => false,
        }
    }
}
