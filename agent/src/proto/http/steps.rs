//! Which events the messages of a connection come to, as their bytes are stepped through.
//!
//! Never decides whether they are forwarded.

use std::borrow::Cow;

use crewtap_core::bodies::{Chunk, Note, Request, Response};
use crewtap_core::event::Body;
use crewtap_core::limits::RELAY_BUFFER_BYTES;
use crewtap_core::session::Side;
use crewtap_core::wire::http::Step;

use super::Exchanges;
use super::burst::Burst;
use crate::recorder::Told;
use crate::redacted::Redacted;
use crate::relay::{Blocked, Next, Tap};

impl Exchanges<'_> {
    pub(super) fn step<'b>(&mut self, side: Side, step: &Step<'b>, bytes: &'b [u8], burst: &mut Burst<'b>) {
        let covered = bytes.get(..step.len()).unwrap_or_default();
        burst.at += covered.len();
        match step {
            Step::RequestHead { exchange, head, .. } => {
                self.begin(side);
                self.teller.request(*exchange, head, covered, &mut burst.told);
            }
            Step::ResponseHead { exchange: 0, .. } => {
                let text = "the target spoke without having been asked, as it does before it closes an idle connection";
                burst.tell(0, Note { code: "http_unasked".into(), text: text.into() }, b"");
                self.begin(side);
                self.progress(side).body = covered.len() as u64;
                self.teller.fields(0, Chunk::new(side, 0), covered, &mut burst.told);
            }
            Step::ResponseHead { exchange, interim: true, .. } => {
                let chunk = Chunk { part: Some("interim".into()), ..Chunk::new(side, 0) };
                self.teller.fields(*exchange, chunk, covered, &mut burst.told);
            }
            Step::ResponseHead { exchange, head, .. } => {
                self.begin(side);
                self.answering = Some(*exchange);
                self.teller.response(*exchange, head, covered, &mut burst.told);
            }
            Step::Body { exchange, .. } => {
                for piece in covered.chunks(RELAY_BUFFER_BYTES) {
                    let chunk = self.chunk(side);
                    self.progress(side).body += piece.len() as u64;
                    if burst.framing == 0 && burst.join(*exchange, side, piece) {
                        continue;
                    }
                    let wire = (burst.framing > 0).then(|| piece.len() as u64 + std::mem::take(&mut burst.framing));
                    burst.tell(*exchange, Chunk { wire, ..chunk }, piece);
                }
            }
            Step::Framing { exchange, .. } if !is_canonical(covered) => {
                self.teller.framing(*exchange, side, covered, &mut burst.told);
            }
            Step::Framing { exchange, len } => {
                if !burst.add_wire(*exchange, *len as u64) {
                    burst.framing += *len as u64;
                }
            }
            Step::Trailers { exchange, .. } => {
                let offset = self.progress(side).trailers;
                self.progress(side).trailers += covered.len() as u64;
                let chunk = Chunk { part: Some("trailers".into()), ..Chunk::new(side, offset) };
                self.teller.fields(*exchange, chunk, covered, &mut burst.told);
            }
            Step::End { exchange, side } => self.complete(*exchange, *side, burst),
            Step::NeedMore | Step::Wait | Step::Over | Step::Upgraded => {}
        }
    }

    /// A message is whole; what follows in chunks says so with its last one.
    fn complete(&mut self, exchange: u32, side: Side, burst: &mut Burst<'_>) {
        if side == Side::Server && self.answering == Some(exchange) {
            self.answering = None;
        }
        if exchange == 0 {
            return;
        }
        let of_it = burst.told.iter_mut().rev().filter(|told| told.exchange == Some(exchange));
        match of_it.map(|told| &mut told.body).find(|body| !matches!(body, Body::Masked(_))) {
            Some(Body::Chunk(chunk)) if chunk.side == side && chunk.part.is_none() => chunk.end = true,
            // Nothing follows its head after all.
            Some(Body::Request(Request { parts, .. }) | Body::Response(Response { parts, .. })) => {
                parts.retain(|part| !part.follows);
            }
            _ => {
                let wire = Some(std::mem::take(&mut burst.framing));
                burst.tell(exchange, Chunk { end: true, wire, ..self.chunk(side) }, b"");
            }
        }
    }

    /// Bytes in the protocol that HTTP has given way to.
    pub(super) fn opaque(&mut self, side: Side, rest: &[u8], burst: &mut Burst<'_>) -> Result<Next, Blocked> {
        self.record(side, burst)?;
        let session = self.session;
        let upgraded = self.upgraded.get_or_insert_with(|| Redacted::new(session));
        if !rest.is_empty() {
            let taken = upgraded.take(side, rest)?;
            burst.at += taken.len;
            burst.pass();
            burst.recorded = burst.at;
            burst.position = taken.position;
        }
        Ok(Next::More)
    }

    pub(super) fn record(&mut self, side: Side, burst: &mut Burst<'_>) -> Result<(), Blocked> {
        if burst.framing > 0 {
            // Framing without content yet (a chunk's size line): its bytes are on record before they go, too.
            let wire = Some(std::mem::take(&mut burst.framing));
            let exchange = if side == Side::Client { Some(self.conversation.exchanges()) } else { self.answering };
            let exchange = exchange.filter(|exchange| *exchange > 0);
            let chunk = Chunk { wire, ..self.chunk(side) };
            burst.told.push(Told { exchange, body: chunk.into(), payload: Cow::Borrowed(b"") });
        }
        if !burst.told.is_empty() {
            let told = std::mem::take(&mut burst.told);
            burst.position = Some(self.session.record_burst(side, burst.at - burst.recorded, told)?);
            burst.recorded = burst.at;
        }
        Ok(())
    }
}

/// Framing that says nothing but how long a chunk is, in the one way to say it: its length on the wire is record enough.
fn is_canonical(framing: &[u8]) -> bool {
    let digits = framing.strip_suffix(b"\r\n").unwrap_or(framing);
    let digits = digits.strip_suffix(b"\r\n").unwrap_or(digits);
    digits.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        && (digits.len() < 2 || digits.first() != Some(&b'0'))
}
