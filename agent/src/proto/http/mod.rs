//! HTTP/1.1, in clear or inside TLS that was opened: exchanges, recorded as they pass.
//!
//! Bytes are forwarded exactly as they came; the conversation of the core says which of them are a head, framing or content,
//! and refuses what two readers could understand in two ways. Never buffers a body and never rebuilds a message.

mod foreign;
mod told;

use std::borrow::Cow;

use crewtap_core::bodies::{Chunk, Note, Request, Response};
use crewtap_core::event::Body;
use crewtap_core::run::Mode;
use crewtap_core::session::Side;
use crewtap_core::wire::http::{Conversation, Refusal, Step};

use super::{Driver, Legs};
use crate::journal::Position;
use crate::leg::Farewell;
use crate::recorder::Told;
use crate::redacted::Redacted;
use crate::relay::{self, Blocked, End, First, Next, Taken, Tap};
use crate::session::Session;

use told::Teller;

/// The row of the table.
pub const DRIVER: Driver =
    Driver { name: "http", protocols: &["http"], turn: None, serve: |session, legs| Box::pin(serve(session, legs)) };

async fn serve(session: &Session, legs: Legs) -> End {
    let Legs { client, target, first, classified, tls, .. } = legs;
    let mut tap = Exchanges {
        session,
        teller: Teller::new(session, &classified, tls.is_some()),
        conversation: Conversation::new(),
        sides: [Progress::default(), Progress::default()],
        answering: None,
        ended: [false; 2],
        refused: None,
        upgraded: None,
    };
    let end = relay::relay(session, &mut tap, (&client, first), (&target, First::default())).await;
    tap.finish();
    end
}

/// How far one side's message is.
#[derive(Default)]
struct Progress {
    /// Bytes of the present body that are on record.
    body: u64,
    /// Bytes of trailers that are on record.
    trailers: u64,
}

struct Exchanges<'s> {
    session: &'s Session,
    teller: Teller<'s>,
    conversation: Conversation,
    sides: [Progress; 2],
    /// The exchange whose answer has begun and is not complete.
    answering: Option<u32>,
    /// Which sides have said everything.
    ended: [bool; 2],
    /// The exchange that was refused, and has its outcome.
    refused: Option<u32>,
    /// After 101 or a tunnel is open, or when it never was HTTP: bytes that are relayed as they are.
    upgraded: Option<Redacted<'s>>,
}

/// What one call of the tap has come to so far.
#[derive(Default)]
struct Burst<'b> {
    told: Vec<Told<'b>>,
    len: usize,
    /// Bytes covered that no event stands for yet.
    framing: u64,
    /// The newest record so far.
    position: Option<Position>,
}

impl Tap for Exchanges<'_> {
    fn take(&mut self, side: Side, bytes: &[u8]) -> Result<Taken, Blocked> {
        let mut burst = Burst::default();
        // Nobody is left to answer another request.
        if side == Side::Client
            && self.has_ended(Side::Server)
            && self.upgraded.is_none()
            && !self.conversation.is_in_content(side)
        {
            return Ok(Taken::some(0, None, Next::Over));
        }
        if self.is_foreign(side, bytes) {
            self.give_way()?;
        }
        if self.upgraded.is_some() && self.conversation.exchanges() == 0 {
            self.opaque(side, bytes, &mut burst)?;
            return Ok(Taken::some(burst.len, burst.position, Next::More));
        }
        let next = loop {
            let rest = bytes.get(burst.len..).unwrap_or_default();
            let step = match self.conversation.next(side, rest) {
                Ok(step) => step,
                // What came before it goes its way first.
                Err(_) if burst.len > 0 => break Next::Again,
                Err(refusal) => return Err(self.refuse(side, refusal, rest)),
            };
            match step {
                Step::NeedMore => break Next::More,
                Step::Wait if self.has_ended(Side::Server) => break Next::Over,
                Step::Wait => break Next::Wait,
                Step::Over => break Next::Over,
                Step::Upgraded => break self.opaque(side, rest, &mut burst)?,
                step => self.step(side, &step, rest, &mut burst),
            }
        };
        self.record(side, &mut burst)?;
        Ok(Taken::some(burst.len, burst.position, next))
    }

    fn ended(&mut self, side: Side, rest: &[u8], farewell: Farewell) -> Result<Taken, Blocked> {
        let [client, server] = &mut self.ended;
        *(if side == Side::Client { client } else { server }) = true;
        if let Some(upgraded) = self.upgraded.as_mut().filter(|_| rest.is_empty()) {
            return upgraded.ended(side, rest, farewell);
        }
        let mut burst = Burst::default();
        if !rest.is_empty() && self.conversation.is_over(side) {
            burst.tell(0, dropped(rest), b"");
        }
        let ended = self.conversation.end(side);
        // A body that the end completes is complete only where the end is one: TLS says so, or it was cut off.
        let (whole, cut) = if farewell == Farewell::Cut { (None, ended.completed) } else { (ended.completed, None) };
        if let Some(exchange) = whole {
            burst.tell(exchange, Chunk { end: true, wire: Some(0), ..self.chunk(side) }, b"");
            self.answering = None;
        }
        let unanswered = ended.unanswered;
        let cut = cut.into_iter().chain(ended.cut).filter(|exchange| !unanswered.contains(exchange));
        for exchange in cut.chain(unanswered.iter().copied()) {
            let answered = self.answering == Some(exchange);
            burst.tell(exchange, Teller::cut(side, answered), b"");
        }
        self.record(side, &mut burst)?;
        // A head that never became whole is not a message, and is not forwarded.
        Ok(Taken::some(0, None, Next::Over))
    }
}

impl Exchanges<'_> {
    fn step<'b>(&mut self, side: Side, step: &Step<'b>, bytes: &'b [u8], burst: &mut Burst<'b>) {
        let covered = bytes.get(..step.len()).unwrap_or_default();
        burst.len += covered.len();
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
                let chunk = self.chunk(side);
                self.progress(side).body += covered.len() as u64;
                if burst.framing == 0 && burst.join(*exchange, side, covered) {
                    return;
                }
                let wire = (burst.framing > 0).then(|| covered.len() as u64 + std::mem::take(&mut burst.framing));
                burst.tell(*exchange, Chunk { wire, ..chunk }, covered);
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
    fn opaque(&mut self, side: Side, rest: &[u8], burst: &mut Burst<'_>) -> Result<Next, Blocked> {
        self.record(side, burst)?;
        let session = self.session;
        let upgraded = self.upgraded.get_or_insert_with(|| Redacted::new(session));
        if !rest.is_empty() {
            let taken = upgraded.take(side, rest)?;
            burst.len += taken.len;
            burst.position = taken.position;
        }
        Ok(Next::More)
    }

    fn record(&mut self, side: Side, burst: &mut Burst<'_>) -> Result<(), Blocked> {
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
            burst.position = Some(self.session.record_burst(side, burst.len, told)?);
        }
        Ok(())
    }

    /// Records why the rest goes nowhere, and says what the client is told.
    fn refuse(&mut self, side: Side, refusal: Refusal, rest: &[u8]) -> Blocked {
        // What is wrong may be in the content of a request that has begun.
        let begun = side == Side::Server || self.conversation.is_in_content(side);
        let exchange = match side {
            Side::Client => self.conversation.exchanges() + u32::from(!begun),
            Side::Server => self.conversation.answered_next(),
        };
        self.refused = Some(exchange);
        let told = self.teller.refused(exchange, begun, refusal, rest);
        if let Err(error) = self.session.record_burst(side, 0, told) {
            return error.into();
        }
        // An answer that has begun, or requests that wait for theirs, leave no room for one of ours.
        let waiting = self.conversation.outstanding();
        let room = self.answering.is_none() && waiting == usize::from(begun);
        let answer = if room { self.teller.answer(side, refusal) } else { Vec::new() };
        Blocked::Refused { why: format!("HTTP {}: {refusal}", refusal.code()), answer }
    }

    fn begin(&mut self, side: Side) {
        *self.progress(side) = Progress::default();
    }

    fn progress(&mut self, side: Side) -> &mut Progress {
        let [client, server] = &mut self.sides;
        match side {
            Side::Client => client,
            Side::Server => server,
        }
    }

    fn chunk(&mut self, side: Side) -> Chunk {
        Chunk::new(side, self.progress(side).body)
    }

    fn has_ended(&self, side: Side) -> bool {
        let [client, server] = self.ended;
        if side == Side::Client { client } else { server }
    }

    /// A protocol that only looked like HTTP until its first line was whole, in a mode that refuses nothing.
    fn is_foreign(&self, side: Side, bytes: &[u8]) -> bool {
        side == Side::Client
            && self.conversation.exchanges() == 0
            && self.upgraded.is_none()
            && self.session.run().mode != Mode::Enforce
            && foreign::is_foreign(bytes)
    }

    /// From now on nothing is taken for HTTP.
    fn give_way(&mut self) -> Result<(), Blocked> {
        let text = "the first line looks like HTTP and is none: the bytes are relayed and recorded as they are";
        self.session.record(Note { code: "http_foreign".into(), text: text.into() })?;
        self.upgraded = Some(Redacted::new(self.session));
        Ok(())
    }

    /// Records what is known only at the end: which messages never became whole, and how much was redacted.
    fn finish(mut self) {
        let mut told = Vec::new();
        for side in [Side::Client, Side::Server] {
            if self.upgraded.is_some() || self.has_ended(side) {
                continue;
            }
            let ended = self.conversation.end(side);
            for exchange in ended.completed.into_iter().chain(ended.cut).chain(ended.unanswered) {
                if self.refused != Some(exchange) && exchange > 0 {
                    let body = Teller::cut(side, self.answering == Some(exchange));
                    told.push(Told { exchange: Some(exchange), body, payload: Cow::Borrowed(b"") });
                }
            }
        }
        if !told.is_empty()
            && let Err(error) = self.session.record_burst(Side::Client, 0, told)
        {
            tracing::error!(session = %self.session.id(), %error, "what was cut off could not be recorded");
        }
        if let Some(upgraded) = self.upgraded {
            upgraded.finish();
        }
    }
}

impl<'b> Burst<'b> {
    /// Exchange 0 is none: what was said outside of any.
    fn tell(&mut self, exchange: u32, body: impl Into<Body>, payload: &'b [u8]) {
        let exchange = Some(exchange).filter(|exchange| *exchange > 0);
        self.told.push(Told { exchange, body: body.into(), payload: Cow::Borrowed(payload) });
    }

    /// Adds content to the piece before it, with which it came: a body in tiny chunks is not a record for each of them.
    fn join(&mut self, exchange: u32, side: Side, content: &'b [u8]) -> bool {
        match self.told.last_mut() {
            Some(Told { exchange: Some(last), body: Body::Chunk(chunk), payload })
                if *last == exchange && chunk.side == side && chunk.part.is_none() =>
            {
                chunk.wire = Some(chunk.wire.unwrap_or(payload.len() as u64) + content.len() as u64);
                payload.to_mut().extend_from_slice(content);
                true
            }
            _ => false,
        }
    }

    /// Adds framing to the piece of content before it.
    fn add_wire(&mut self, exchange: u32, bytes: u64) -> bool {
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

/// Framing that says nothing but how long a chunk is, in the one way to say it: its length on the wire is record enough.
fn is_canonical(framing: &[u8]) -> bool {
    let digits = framing.strip_suffix(b"\r\n").unwrap_or(framing);
    let digits = digits.strip_suffix(b"\r\n").unwrap_or(digits);
    digits.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        && (digits.len() < 2 || digits.first() != Some(&b'0'))
}

/// Bytes that came behind the last message that may come.
fn dropped(rest: &[u8]) -> Note {
    let text =
        format!("bytes came behind the last message of the connection and were not forwarded, {} at least", rest.len());
    Note { code: "http_behind_the_end".into(), text }
}
