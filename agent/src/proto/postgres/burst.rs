//! What one call of the tap comes to: the bytes that go on, and the events that tell of them.
//!
//! Owns the cutting of bytes into events, one for each exchange that they belong to. Never judges.

use std::borrow::Cow;
use std::rc::Rc;

use crewtap_core::bodies::Chunk;
use crewtap_core::event::Body;
use crewtap_core::limits::POSTGRES_PIPELINE_MAX;
use crewtap_core::session::Side;
use crewtap_core::wire::postgres::MEDIA_TYPE;

use super::exchange::Exchange;
use super::login;
use super::statements::Statements;
use super::told::Described;
use crate::journal::Position;
use crate::recorder::{Told, Unrecorded};
use crate::relay::Forward;

/// Bytes of one exchange that go on record as one event.
pub(super) struct Piece<'b> {
    pub(super) exchange: u32,
    pub(super) shown: Forward<'b>,
    /// A request begins with it.
    pub(super) request: Option<(Rc<Described>, Option<String>)>,
    /// It begins within a message.
    continued: bool,
}

/// What one call of the tap has come to so far.
pub(super) struct Burst<'b> {
    pub(super) side: Side,
    bytes: &'b [u8],
    pub(super) forward: Forward<'b>,
    pub(super) piece: Option<Piece<'b>>,
    pub(super) told: Vec<Told<'b>>,
    /// Bytes that are on record already.
    pub(super) recorded: usize,
    /// The newest record that must be durable before the bytes go.
    pub(super) position: Option<Position>,
}

impl<'b> Burst<'b> {
    pub(super) fn new(side: Side, bytes: &'b [u8]) -> Self {
        Self { side, bytes, forward: Forward::at(bytes, 0), piece: None, told: Vec::new(), recorded: 0, position: None }
    }

    pub(super) fn rest(&self) -> &'b [u8] {
        self.bytes.get(self.forward.end()..).unwrap_or_default()
    }

    /// So many bytes go on as they are.
    pub(super) fn pass(&mut self, len: usize) {
        self.forward.pass(len);
        if let Some(piece) = &mut self.piece {
            piece.shown.pass(len);
        }
    }

    /// Something else goes in the place of so many bytes; the record shows `shown`, where that is another thing again.
    pub(super) fn replace(&mut self, len: usize, with: &[u8], shown: Option<&[u8]>) {
        self.forward.replace(len, with);
        if let Some(piece) = &mut self.piece {
            match shown {
                Some(shown) => piece.shown.replace(len, shown),
                None => piece.shown.pass(len),
            }
        }
    }

    /// An event without bytes.
    pub(super) fn tell(&mut self, exchange: u32, body: impl Into<Body>) {
        self.told.push(Told { exchange: Some(exchange), body: body.into(), payload: Cow::Borrowed(b"") });
    }
}

impl Statements<'_> {
    /// The next bytes belong to an exchange.
    pub(super) fn attach(&mut self, burst: &mut Burst<'_>, exchange: u32) {
        let [client, server] = &mut self.newest;
        *(if burst.side == Side::Client { client } else { server }) = exchange;
        if burst.piece.as_ref().is_some_and(|piece| piece.exchange != exchange) {
            self.flush(burst);
        }
        self.remember(exchange);
        let at = burst.forward.end();
        burst.piece.get_or_insert_with(|| Piece {
            exchange,
            shown: Forward::at(burst.bytes, at),
            request: None,
            continued: false,
        });
    }

    /// Those that are over are forgotten at every `ReadyForQuery`. A client that never asks for one has its answers by Flush:
    /// then it is done here, before there are too many.
    fn remember(&mut self, exchange: u32) {
        if self.exchanges.len() >= 2 * POSTGRES_PIPELINE_MAX && !self.exchanges.contains_key(&exchange) {
            self.exchanges.retain(|_, state| !state.told);
        }
        self.exchanges.entry(exchange).or_insert_with(Exchange::settled);
    }

    /// The same as [`Self::attach`], where they may begin within a message.
    pub(super) fn attach_piece(&mut self, burst: &mut Burst<'_>, exchange: u32, first: bool) {
        let begun = burst.piece.as_ref().is_some_and(|piece| piece.exchange == exchange);
        self.attach(burst, exchange);
        if let Some(piece) = burst.piece.as_mut().filter(|_| !begun) {
            piece.continued = !first;
        }
    }

    /// The piece becomes an event: a request, an answer, or some bytes of either.
    pub(super) fn flush(&mut self, burst: &mut Burst<'_>) {
        let Some(Piece { exchange, shown, request, continued }) = burst.piece.take() else { return };
        let transaction = self.conversation.status();
        let state = self.exchanges.entry(exchange).or_default();
        let wire = shown.covers() as u64;
        let payload = shown.into_shown();
        let [up, down] = &mut state.offsets;
        let offset = if burst.side == Side::Client { up } else { down };
        let at = std::mem::replace(offset, *offset + wire);
        let stands_for = (wire != payload.len() as u64).then_some(wire);
        let answers = burst.side == Side::Server && state.answered;
        let body: Body = match request {
            Some((described, parameters)) => {
                let mut request = described.request(transaction, parameters, payload.len());
                request.wire = stands_for;
                request.into()
            }
            // An answer can be read from its beginning.
            None if answers && !continued => {
                let mut response = state.response(transaction, payload.len());
                response.wire = stands_for;
                response.into()
            }
            None => {
                let told = state.media_type().filter(|_| burst.side == Side::Server || state.is_copied);
                let continued = if continued { "; continued=true" } else { "" };
                let media_type = Some(format!("{}{continued}", told.unwrap_or(MEDIA_TYPE)));
                Chunk { wire: stands_for, media_type, ..Chunk::new(burst.side, at) }.into()
            }
        };
        burst.told.push(Told { exchange: Some(exchange), body, payload });
        if answers && continued {
            let response = state.response(transaction, 0);
            burst.tell(exchange, response);
        }
    }

    /// Everything up to a position is on record.
    pub(super) fn record(&mut self, burst: &mut Burst<'_>, up_to: usize) -> Result<(), Unrecorded> {
        self.flush(burst);
        if !burst.told.is_empty() {
            let told = std::mem::take(&mut burst.told);
            burst.position = Some(self.session.record_burst(burst.side, up_to - burst.recorded, told)?);
            burst.recorded = up_to;
        }
        Ok(())
    }

    /// The server has read a message of an exchange without doing what it says.
    pub(super) fn skip(&mut self, burst: &mut Burst<'_>, exchange: u32) {
        self.flush(burst);
        let exchange = exchange + login::EXCHANGE;
        let response = self.exchanges.entry(exchange).or_default().skipped();
        burst.tell(exchange, response);
        // What stands in its place was skipped with it: its error does not come.
        self.refused.remove(&exchange);
    }
}
