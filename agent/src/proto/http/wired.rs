//! What the client receives of answers where masks hide values from it, too.
//!
//! Owns the way of each part of an answer: heads are masked whole, content as it comes, framing keeps its place in it. Content that
//! comes in a coding that nobody asked for is decoded, and goes on without it, in chunks of our own. Never records.

use std::borrow::Cow;
use std::sync::Arc;

use crewtap_core::limits::MASK_DECODED_BYTES_MAX;
use crewtap_core::mask::outgoing::Outgoing;
use crewtap_core::mask::plan::Plan;
use crewtap_core::view::coding::{Decoder, End};
use crewtap_core::wire::http::{Length, ResponseHead, Step, Version};

use crate::session::Session;

/// Fields of a request that ask for what masks cannot see through: parts of content, and codings.
const PARTS: [&[u8]; 2] = [b"range", b"if-range"];

/// The answers of one connection under masks.
pub(super) struct Wired<'s> {
    session: &'s Session,
    plan: Arc<Plan>,
    answer: Option<Answer>,
    /// The client speaks HTTP/1.0, and so knows no chunks.
    speaks_old: bool,
}

/// The content of one answer.
struct Answer {
    outgoing: Outgoing,
    coded: Option<Coded>,
    /// Content goes in chunks of our own.
    rechunked: bool,
    /// Field lines behind content in chunks of our own.
    trailers: Vec<u8>,
}

/// Content whose coding is undone.
struct Coded(Decoder);

/// Content that is cut off, because it cannot be decoded.
#[derive(Debug)]
pub(super) struct Undecodable;

impl<'s> Wired<'s> {
    /// None where nothing is hidden from the client.
    pub(super) fn new(session: &'s Session) -> Option<Self> {
        Some(Self { session, plan: session.wire_plan()?, answer: None, speaks_old: false })
    }

    /// A request has been made.
    pub(super) fn asked(&mut self, version: Version) {
        self.speaks_old |= version != Version::Http11;
    }

    /// A request's head that asks for no coding and for no part of the content.
    pub(super) fn request(head: &[u8]) -> Vec<u8> {
        let mut asked = Vec::with_capacity(head.len());
        for line in head.split_inclusive(|byte| *byte == b'\n') {
            let colon = line.iter().position(|byte| *byte == b':').unwrap_or(line.len());
            let (name, _) = line.split_at(colon);
            if name.eq_ignore_ascii_case(b"accept-encoding") {
                asked.extend_from_slice(&[name, b": identity\r\n"].concat());
            } else if !PARTS.iter().any(|part| name.eq_ignore_ascii_case(part)) {
                asked.extend_from_slice(line);
            }
        }
        asked
    }

    /// Why an answer cannot be masked, if so.
    pub(super) fn objection(&self, head: &ResponseHead<'_>, has_content: bool) -> Option<String> {
        if !has_content || !is_coded(head) {
            return None;
        }
        let list = codings(head);
        if decoder(head).end() == End::Unknown {
            return Some(format!("its coding ({list}) is not known"));
        }
        let needs_chunks = head.length != Length::Unsaid;
        let is_old = self.speaks_old || head.version != Version::Http11;
        (needs_chunks && is_old)
            .then(|| format!("its coding ({list}) would have to be undone in chunks, which HTTP/1.0 has not"))
    }

    /// What goes to the client for the bytes of a step, and for what was held back.
    pub(super) fn pass<'b>(
        &mut self,
        step: &Step<'_>,
        bytes: &'b [u8],
        has_content: bool,
    ) -> Result<Cow<'b, [u8]>, Undecodable> {
        match (step, &mut self.answer) {
            (Step::ResponseHead { interim: true, .. }, _) => Ok(self.fields(bytes).into()),
            (Step::ResponseHead { head, .. }, _) => Ok(self.head(head, bytes, has_content).into()),
            (Step::Trailers { .. }, _) => {
                let fields = self.fields(bytes);
                Ok(match &mut self.answer {
                    Some(answer) if answer.rechunked => {
                        answer.trailers = fields;
                        Cow::Borrowed(b"")
                    }
                    Some(answer) => answer.outgoing.framing(&fields).into_owned().into(),
                    None => fields.into(),
                })
            }
            (Step::Body { .. }, Some(answer)) => answer.content(bytes),
            (Step::Framing { .. }, Some(answer)) if answer.rechunked => Ok(Cow::Borrowed(b"")),
            (Step::Framing { .. }, Some(answer)) if bytes.contains(&b';') => {
                let shown = Outgoing::whole(&self.plan, self.session.digest_key(), "", bytes);
                Ok(answer.outgoing.framing(&shown).into_owned().into())
            }
            (Step::Framing { .. }, Some(answer)) => Ok(answer.outgoing.framing(bytes)),
            (Step::End { .. }, _) => Ok(self.finish(true)?.into()),
            _ => Ok(bytes.into()),
        }
    }

    /// An answer is over, whole or not: what is left of it.
    pub(super) fn finish(&mut self, whole: bool) -> Result<Vec<u8>, Undecodable> {
        self.answer.take().map_or(Ok(Vec::new()), |answer| answer.finish(whole))
    }

    fn fields(&self, bytes: &[u8]) -> Vec<u8> {
        Outgoing::whole(&self.plan, self.session.digest_key(), "message/http", bytes)
    }

    fn head(&mut self, head: &ResponseHead<'_>, bytes: &[u8], has_content: bool) -> Vec<u8> {
        let kind = String::from_utf8_lossy(head.fields.get("content-type").unwrap_or_default()).into_owned();
        let coded = has_content && is_coded(head);
        let rechunked = coded && head.length != Length::Unsaid;
        let coding = coded.then(|| Coded(decoder(head)));
        let outgoing = self.session.outgoing(&self.plan, &kind);
        self.answer = has_content.then(|| Answer { outgoing, coded: coding, rechunked, trailers: Vec::new() });
        let shown = self.fields(bytes);
        if coded { decoded_head(&shown, rechunked) } else { shown }
    }
}

impl Answer {
    fn content<'b>(&mut self, bytes: &'b [u8]) -> Result<Cow<'b, [u8]>, Undecodable> {
        let Some(Coded(decoder)) = &mut self.coded else { return Ok(self.outgoing.content(bytes)) };
        decoder.feed(bytes);
        let decoded = decoder.take();
        if decoder.end() != End::Whole {
            return Err(Undecodable);
        }
        let shown = self.outgoing.content(&decoded).into_owned();
        Ok(if self.rechunked { chunk(&shown).into() } else { shown.into() })
    }

    fn finish(mut self, whole: bool) -> Result<Vec<u8>, Undecodable> {
        let mut rest = Vec::new();
        if let Some(Coded(decoder)) = self.coded.take() {
            let decoded = decoder.finish();
            if whole && decoded.end != End::Whole {
                return Err(Undecodable);
            }
            rest.extend_from_slice(&self.outgoing.content(&decoded.bytes));
        }
        rest.extend(self.outgoing.finish());
        if !self.rechunked {
            return Ok(rest);
        }
        let mut rest = chunk(&rest);
        if whole {
            rest.extend_from_slice(b"0\r\n");
            rest.extend_from_slice(if self.trailers.is_empty() { b"\r\n" } else { &self.trailers });
        }
        Ok(rest)
    }
}

fn codings(head: &ResponseHead<'_>) -> String {
    let members = head.fields.members("content-encoding").map(String::from_utf8_lossy);
    members.collect::<Vec<_>>().join(", ")
}

fn is_coded(head: &ResponseHead<'_>) -> bool {
    head.fields.members("content-encoding").any(|coding| !coding.eq_ignore_ascii_case(b"identity"))
}

fn decoder(head: &ResponseHead<'_>) -> Decoder {
    let codings: Vec<&[u8]> = head.fields.members("content-encoding").collect();
    Decoder::new(&codings, MASK_DECODED_BYTES_MAX)
}

/// One chunk; none of nothing, which would be the last.
fn chunk(content: &[u8]) -> Vec<u8> {
    if content.is_empty() {
        return Vec::new();
    }
    [format!("{:x}\r\n", content.len()).as_bytes(), content, b"\r\n"].concat()
}

/// A head of content whose coding is undone.
fn decoded_head(head: &[u8], rechunked: bool) -> Vec<u8> {
    let gone: &[&[u8]] = if rechunked {
        &[b"content-encoding", b"content-length", b"transfer-encoding"]
    } else {
        &[b"content-encoding"]
    };
    let mut decoded = Vec::with_capacity(head.len() + 32);
    for line in head.split_inclusive(|byte| *byte == b'\n') {
        let name = line.split(|byte| *byte == b':').next().unwrap_or_default();
        if line == b"\r\n" && rechunked {
            decoded.extend_from_slice(b"transfer-encoding: chunked\r\n");
        }
        if !gone.iter().any(|gone| name.eq_ignore_ascii_case(gone)) {
            decoded.extend_from_slice(line);
        }
    }
    decoded
}
