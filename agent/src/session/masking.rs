//! The masks of one session: every byte that it records passes here.
//!
//! Owns what is undecided in each of its streams. Never forwards: targets and clients get what they were sent.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use crewtap_core::action::Fact;
use crewtap_core::bodies::{Chunk, Masked, Note, Part, Pending, Request, Response};
use crewtap_core::event::Body;
use crewtap_core::limits::MASK_DECODED_BYTES_MAX;
use crewtap_core::mask::digest::{Digest, DigestKey};
use crewtap_core::mask::flow::{Flow, field, shown};
use crewtap_core::mask::plan::{Finds, Plan, Reaches};
use crewtap_core::session::Side;
use crewtap_core::view::coding::{Decoder, End};
use crewtap_core::wire::postgres::MEDIA_TYPE as POSTGRES;
use crewtap_core::wire::postgres::media::recorded;

use crate::recorder::Told;

/// Which stream of a session, and of which side.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
struct Key {
    of: Of,
    is_server: bool,
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
enum Of {
    /// Bytes that nobody reads.
    Bytes,
    /// `PostgreSQL`'s messages: one stream, whatever exchange they belong to.
    Messages,
    /// The body of an exchange's message.
    Body(u32),
    /// Another part of it.
    Part(u32, String),
}

/// One stream under masks.
struct Stream {
    flow: Flow,
    coded: Option<Coded>,
    /// What its pieces say besides their bytes.
    like: Chunk,
    /// Bytes that are on record.
    shown: u64,
}

/// A body whose coding is undone before it is masked.
struct Coded {
    decoder: Decoder,
    name: String,
    key: DigestKey,
    /// What could not be decoded: bytes, and their digest.
    lost: Option<(u64, Digest)>,
}

/// Masks what one session records.
pub(super) struct Masking {
    key: DigestKey,
    state: RefCell<State>,
    /// What the client receives is masked as well, where rules want that.
    pub(super) is_wired: Cell<bool>,
    /// It is on record that such rules are not kept.
    pub(super) is_unkept: Cell<bool>,
}

struct State {
    plan: Arc<Plan>,
    streams: HashMap<Key, Stream>,
}

impl fmt::Debug for Masking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Masking")
    }
}

impl Masking {
    pub(super) fn new(plan: Arc<Plan>, key: &DigestKey) -> Self {
        let state = RefCell::new(State { plan, streams: HashMap::new() });
        Self { key: key.clone(), state, is_wired: Cell::new(false), is_unkept: Cell::new(false) }
    }

    /// What is in force.
    pub(super) fn plan(&self) -> Arc<Plan> {
        self.state.borrow().plan.clone()
    }

    /// What the client gets of what was found in something that this side said.
    fn reaches(&self, side: Option<Side>) -> Reaches {
        if self.is_wired.get() && side == Some(Side::Server) { Reaches::Masked } else { Reaches::Clear }
    }

    /// Other rules hold from now on: the target is known better.
    pub(super) fn change(&self, plan: Arc<Plan>) {
        self.state.borrow_mut().plan = plan;
    }

    /// What may be shown of a whole text, and what was hidden in it.
    pub(super) fn shown(&self, media_type: &str, bytes: &[u8]) -> Vec<u8> {
        let (plan, mut finds) = (self.plan(), Finds::new(&self.key));
        // A text can be a statement, whose values are of columns.
        if media_type.is_empty() || media_type.starts_with("text/plain") {
            return field(&plan, None, bytes, &mut finds);
        }
        shown(&plan, media_type, bytes, &mut finds)
    }

    /// The same of a line.
    pub(super) fn text(&self, text: &str) -> String {
        let shown = self.shown("", text.as_bytes());
        String::from_utf8(shown).unwrap_or_else(|_| "*".repeat(text.len()))
    }

    /// Some of what a session tells, as it may be recorded.
    pub(super) fn burst<'b>(&self, told: Vec<Told<'b>>) -> Vec<Told<'b>> {
        let mut state = self.state.borrow_mut();
        if state.plan.is_empty() {
            return told;
        }
        let mut finds = Finds::new(&self.key);
        let mut masked = Vec::with_capacity(told.len());
        for one in told {
            let exchange = one.exchange;
            let reaches = self.reaches(said_by(&one.body));
            let best_effort = matches!(&one.body, Body::Chunk(chunk) if exchange.is_none() && chunk.part.is_none());
            let (one, more) = state.told(one, &mut finds, &self.key);
            masked.push(one);
            masked.extend(more);
            for found in finds.take(&state.plan, reaches) {
                let found = Masked { best_effort, ..found };
                masked.push(Told { exchange, body: found.into(), payload: Cow::Borrowed(b"") });
            }
        }
        masked
    }

    /// What was given last is not on record, and nothing follows it: what was undecided before is told by its digest.
    pub(super) fn forget(&self) {
        self.state.borrow_mut().streams.clear();
    }

    /// What is still undecided, when nothing more comes.
    pub(super) fn finish(&self) -> Vec<Told<'static>> {
        let mut state = self.state.borrow_mut();
        let mut streams: Vec<(Key, Stream)> = state.streams.drain().collect();
        streams.sort_by(|(one, _), (other, _)| one.cmp(other));
        let (plan, mut told) = (state.plan.clone(), Vec::new());
        let mut finds = Finds::new(&self.key);
        for (key, mut stream) in streams {
            let exchange = match key.of {
                Of::Body(exchange) | Of::Part(exchange, _) => Some(exchange),
                Of::Bytes | Of::Messages => None,
            };
            let payload = stream.finish(&plan, &mut finds);
            if !payload.is_empty() {
                let chunk = Chunk { wire: Some(0), ..stream.like.clone() };
                told.push(Told { exchange, body: chunk.into(), payload: payload.into() });
            }
            told.extend(stream.lost(exchange));
            let side = if key.is_server { Side::Server } else { Side::Client };
            told.extend(finds.take(&plan, self.reaches(Some(side))).into_iter().map(|masked| Told {
                exchange,
                body: masked.into(),
                payload: Cow::Borrowed(b""),
            }));
        }
        told
    }
}

/// Whose words an event's payload is.
fn said_by(body: &Body) -> Option<Side> {
    match body {
        Body::Request(_) => Some(Side::Client),
        Body::Response(_) => Some(Side::Server),
        Body::Chunk(chunk) => Some(chunk.side),
        _ => None,
    }
}

impl State {
    /// One event with its payload masked; and one more, where something could not be.
    fn told<'b>(&mut self, told: Told<'b>, finds: &mut Finds, key: &DigestKey) -> (Told<'b>, Option<Told<'b>>) {
        let Told { exchange, body, payload } = told;
        let n = exchange.unwrap_or_default();
        match body {
            Body::Request(mut request) => {
                let Request { parts, facts, wire, pending, .. } = &mut request;
                let payload = self.message(Side::Client, parts, (wire, pending), payload, finds);
                if let Some(coding) = self.follows((n, Side::Client), parts, key) {
                    facts.insert("content_coding".into(), Fact::Text(coding));
                }
                (Told { exchange, body: request.into(), payload }, None)
            }
            Body::Response(mut response) => {
                let Response { parts, facts, wire, pending, .. } = &mut response;
                let payload = self.message(Side::Server, parts, (wire, pending), payload, finds);
                if let Some(coding) = self.follows((n, Side::Server), parts, key) {
                    facts.insert("content_coding".into(), Fact::Text(coding));
                }
                (Told { exchange, body: response.into(), payload }, None)
            }
            Body::Chunk(chunk) => self.chunk(exchange, chunk, payload, finds),
            body if payload.is_empty() => (Told { exchange, body, payload }, None),
            body => {
                let payload = shown(&self.plan, "", &payload, finds).into();
                (Told { exchange, body, payload }, None)
            }
        }
    }

    /// The payload of a message: its first part stands for all of it.
    fn message<'b>(
        &mut self,
        side: Side,
        parts: &mut [Part],
        (wire, pending): (&mut Option<u64>, &mut Option<Pending>),
        payload: Cow<'b, [u8]>,
        finds: &mut Finds,
    ) -> Cow<'b, [u8]> {
        let mut first = parts.iter_mut().find(|part| !part.follows);
        let kind = first.as_ref().map_or_else(String::new, |part| part.media_type.clone());
        if !kind.starts_with(POSTGRES) {
            return shown(&self.plan, &kind, &payload, finds).into();
        }
        let like = Chunk { media_type: Some(recorded(&kind).into_owned()), ..Chunk::new(side, 0) };
        let key = Key::new(Of::Messages, side);
        let stream = self.streams.entry(key).or_insert_with(|| Stream::new(&kind, like));
        stream.flow.describe(&kind);
        if let (Some(part), Cow::Owned(recorded)) = (&mut first, recorded(&kind)) {
            part.media_type = recorded;
        }
        let len = payload.len();
        let payload = stream.feed(&self.plan, payload, finds);
        if payload.len() != len {
            wire.get_or_insert(len as u64);
        }
        *pending = stream.pending(finds);
        if let Some(part) = first {
            part.len = payload.len() as u64;
        }
        payload
    }

    /// Prepares for a body that follows; its coding, where that is undone in the record.
    fn follows(&mut self, (n, side): (u32, Side), parts: &mut [Part], key: &DigestKey) -> Option<String> {
        let part = parts.iter_mut().find(|part| part.follows)?;
        let coding = part.coding.take();
        let coded = coding.as_ref().map(|name| {
            part.len = 0;
            let (decoder, key) = (Decoder::of(name, MASK_DECODED_BYTES_MAX), key.clone());
            Coded { decoder, name: name.clone(), key, lost: None }
        });
        let stream = Stream { coded, ..Stream::new(&part.media_type, Chunk::new(side, 0)) };
        self.streams.insert(Key::new(Of::Body(n), side), stream);
        coding
    }

    fn chunk<'b>(
        &mut self,
        exchange: Option<u32>,
        mut chunk: Chunk,
        payload: Cow<'b, [u8]>,
        finds: &mut Finds,
    ) -> (Told<'b>, Option<Told<'b>>) {
        // Heads behind the head, and what was refused, come whole.
        if let Some("interim" | "trailers" | "framing" | "refused") = chunk.part.as_deref() {
            let payload = shown(&self.plan, "message/http", &payload, finds).into();
            return (Told { exchange, body: chunk.into(), payload }, None);
        }
        let is_messages = chunk.media_type.as_ref().is_some_and(|kind| kind.starts_with(POSTGRES));
        let of = match (exchange, &chunk.part) {
            (_, None) if is_messages => Of::Messages,
            (None, _) => Of::Bytes,
            (Some(exchange), None) => Of::Body(exchange),
            (Some(exchange), Some(part)) => Of::Part(exchange, part.clone()),
        };
        let key = Key::new(of, chunk.side);
        let plan = self.plan.clone();
        let stream = self.streams.entry(key.clone()).or_insert_with(|| {
            let kind = chunk.media_type.clone().unwrap_or_default();
            let media_type = chunk.media_type.as_deref().map(|kind| recorded(kind).into_owned());
            Stream::new(&kind, Chunk { wire: None, end: false, media_type, ..chunk.clone() })
        });
        if let Some(kind) = &mut chunk.media_type {
            stream.flow.describe(kind);
            if let Cow::Owned(recorded) = recorded(kind) {
                *kind = recorded;
            }
        }
        let len = payload.len();
        chunk.offset = match stream.coded {
            Some(_) => stream.shown,
            None => chunk.offset.saturating_sub(stream.flow.pending().len() as u64),
        };
        stream.like.offset = chunk.offset;
        let mut payload = stream.feed(&plan, payload, finds);
        if chunk.end {
            payload.to_mut().extend(stream.finish(&plan, finds));
        }
        stream.shown += payload.len() as u64;
        stream.like.offset += payload.len() as u64;
        if payload.len() != len || stream.coded.is_some() {
            chunk.wire.get_or_insert(len as u64);
        }
        chunk.pending = stream.pending(finds);
        let mut more = None;
        if chunk.end
            && let Some(stream) = self.streams.remove(&key)
        {
            more = stream.lost(exchange);
        }
        (Told { exchange, body: chunk.into(), payload }, more)
    }
}

impl Coded {
    /// The text of some bytes; what has none is counted, and goes nowhere.
    fn decode(&mut self, bytes: &[u8]) -> Vec<u8> {
        if self.lost.is_none() {
            self.decoder.feed(bytes);
            let decoded = self.decoder.take();
            match self.decoder.end() {
                End::Whole => return decoded,
                // What came before the fault is text.
                End::Bounded | End::Broken | End::Truncated => {
                    self.lose(bytes);
                    return decoded;
                }
                End::Unknown => {}
            }
        }
        self.lose(bytes);
        Vec::new()
    }

    fn lose(&mut self, bytes: &[u8]) {
        let (len, digest) = self.lost.get_or_insert_with(|| (0, self.key.begin()));
        *len += bytes.len() as u64;
        digest.update(bytes);
    }

    fn finish(&mut self) -> Vec<u8> {
        let decoder = std::mem::replace(&mut self.decoder, Decoder::new(&[], 0));
        if self.lost.is_some() { Vec::new() } else { decoder.finish().bytes }
    }
}

impl Key {
    fn new(of: Of, side: Side) -> Self {
        Self { of, is_server: side == Side::Server }
    }
}

impl Stream {
    fn new(media_type: &str, like: Chunk) -> Self {
        Self { flow: Flow::new(media_type), coded: None, like, shown: 0 }
    }

    fn feed<'b>(&mut self, plan: &Plan, payload: Cow<'b, [u8]>, finds: &mut Finds) -> Cow<'b, [u8]> {
        match &mut self.coded {
            Some(coded) => self.flow.feed(plan, &coded.decode(&payload), finds).into_owned().into(),
            None => match payload {
                Cow::Borrowed(payload) => self.flow.feed(plan, payload, finds),
                Cow::Owned(payload) => self.flow.feed(plan, &payload, finds).into_owned().into(),
            },
        }
    }

    fn finish(&mut self, plan: &Plan, finds: &mut Finds) -> Vec<u8> {
        let rest = self.coded.as_mut().map(Coded::finish).unwrap_or_default();
        let mut shown = self.flow.feed(plan, &rest, finds).into_owned();
        shown.extend(self.flow.finish(plan, finds));
        shown
    }

    fn pending(&self, finds: &Finds) -> Option<Pending> {
        let held = self.flow.pending();
        (!held.is_empty()).then(|| Pending { len: held.len() as u64, digest: finds.key().digest(held) })
    }

    /// What is told of bytes that could not be decoded, and so not be masked: they are not on record.
    fn lost(self, exchange: Option<u32>) -> Option<Told<'static>> {
        let Coded { name, lost, .. } = self.coded?;
        let (len, digest) = lost?;
        let text = format!(
            "{len} bytes of a body could not be decoded ({name}) and so not be masked: their keyed digest is {}",
            digest.finish()
        );
        let note = Note { code: "mask_undecoded".into(), text };
        Some(Told { exchange, body: note.into(), payload: Cow::Borrowed(b"") })
    }
}
