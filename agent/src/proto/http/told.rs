//! What the heads of HTTP messages come to in the neutral set of events.
//!
//! Everything that is written here has its credentials hidden: the words are taken from the redacted head.

use std::borrow::Cow;
use std::collections::BTreeSet;

use crewtap_core::action::{Action, Fact, Facts, Verb};
use crewtap_core::bodies::{Chunk, Classified, Note, Part, Request, Response};
use crewtap_core::event::Body;
use crewtap_core::limits;
use crewtap_core::mask::digest::DigestKey;
use crewtap_core::mask::http::{Shown, shown_head};
use crewtap_core::mask::stream::Redactor;
use crewtap_core::session::Side;
use crewtap_core::sniff::Protocol;
use crewtap_core::wire::http::{Fields, Length, Refusal, RequestHead, ResponseHead, path::normal, target::name_of};

use crate::recorder::Told;
use crate::session::Session;

/// What stands for what is not understood.
const UNPARSED: &str = "UNPARSED";

/// Fields from which frameworks take a request's method instead of from its line.
const METHOD_FIELDS: &[&str] = &["x-http-method-override", "x-http-method", "x-method-override"];

/// Fields from which servers take the path.
const PATH_FIELDS: &[&str] = &["x-original-url", "x-rewrite-url"];

/// Makes events of heads.
pub(super) struct Teller<'s> {
    session: &'s Session,
    key: &'s DigestKey,
    scheme: &'static str,
    /// The target's name and port, for requests that do not say whom they are for.
    default_host: String,
    /// Facts of the connection, which every exchange has.
    facts: Facts,
}

impl<'s> Teller<'s> {
    pub(super) fn new(session: &'s Session, classified: &Classified, encrypted: bool) -> Self {
        let facts = classified.target.facts();
        Self {
            session,
            key: session.digest_key(),
            scheme: if encrypted { "https" } else { "http" },
            default_host: classified.target.label(),
            facts,
        }
    }

    pub(super) fn request(&self, exchange: u32, head: &RequestHead<'_>, bytes: &[u8], told: &mut Vec<Told<'_>>) {
        let shown = shown_head(bytes, self.key);
        let (subject, facts) = self.described(head, bytes, &shown);
        let parts = parts(&shown.bytes, head.length, &head.fields);
        let wire = wire(&shown.bytes, bytes);
        let request = Request { verb: head.method.into(), subject, facts, parts, wire, ..Request::default() };
        tell(exchange, request, shown, told);
    }

    /// What is asked, as it may be told: subject and facts.
    fn described(&self, head: &RequestHead<'_>, bytes: &[u8], shown: &Shown) -> (String, Facts) {
        let mut facts = self.facts.clone();
        let mut fact = |name: &str, value: String| facts.insert(name.into(), Fact::Text(value));
        fact("method", head.method.into());
        // `host` is whom the connection is known to lead to; whom the request names is a claim (domain fronting).
        let claimed = head.host().and_then(|host| name_of(host.as_bytes()));
        if let Some(claimed) = claimed.filter(|claimed| self.facts.get("host") != Some(&Fact::Text(claimed.clone()))) {
            fact("claimed_host", claimed);
        }
        // All words are the redacted head's, which still reads as one: a path can hold credentials, too.
        let safe = if shown.bytes == bytes { Some(*head) } else { RequestHead::parse(&shown.bytes).ok() };
        if let Some(path) = safe.and_then(|safe| safe.path()) {
            let whole = path.len() <= limits::FACT_TEXT_MAX;
            fact("raw_path", cut(lossy(path)));
            fact("path", normal(path).filter(|_| whole).unwrap_or_else(|| UNPARSED.into()));
        }
        if let Some(query) = safe.and_then(|safe| safe.query()) {
            fact("query", lossy(query));
        }
        if let Some(kind) = head.fields.get("content-type") {
            fact("content_type", media_type(kind));
        }
        let unclear = unclear(head);
        if !unclear.is_empty() {
            facts.insert("unclear".into(), Fact::Set(unclear));
        }
        let unread = || format!("{}://{}", self.scheme, self.default_host);
        let subject = cut(safe.map_or_else(unread, |safe| safe.url(self.scheme, &self.default_host)));
        (subject, facts)
    }

    /// What a request would do, for policy; what two readers could take in two ways is `UNPARSED`.
    pub(super) fn action(&self, head: &RequestHead<'_>, bytes: &[u8]) -> Action {
        let shown = shown_head(bytes, self.key);
        let (subject, mut facts) = self.described(head, bytes, &shown);
        facts.remove("claimed_host");
        // Servers are known that take a method in small letters.
        facts.insert("method".into(), Fact::Text(head.method.to_ascii_uppercase()));
        if let Some(Fact::Set(unclear)) = facts.remove("unclear") {
            facts.extend(unclear.into_iter().map(|name| (name, Fact::Text(UNPARSED.into()))));
        }
        for name in ["path", "raw_path"] {
            facts.entry(name.into()).or_insert_with(|| Fact::Text(UNPARSED.into()));
        }
        Action { verb: Verb::HttpRequest, subject, facts }
    }

    /// A head, as it may be shown.
    pub(super) fn shown(&self, head: &[u8]) -> Vec<u8> {
        shown_head(head, self.key).bytes
    }

    /// The answer to a request that crewtap gave itself.
    pub(super) fn blocked(exchange: u32, status: u16) -> Told<'static> {
        let code = Some(status.to_string());
        let blocked = Response { outcome: "blocked".into(), code, ..Response::default() };
        Told { exchange: Some(exchange), body: blocked.into(), payload: Cow::Borrowed(b"") }
    }

    pub(super) fn response(&self, exchange: u32, head: &ResponseHead<'_>, bytes: &[u8], told: &mut Vec<Told<'_>>) {
        let shown = shown_head(bytes, self.key);
        let mut facts = Facts::new();
        if let Some(kind) = head.fields.get("content-type") {
            facts.insert("content_type".into(), Fact::Text(media_type(kind)));
        }
        if let Some(id) = head.fields.get("x-request-id") {
            facts.insert("request_id".into(), Fact::Text(cut(lossy(id))));
        }
        let response = Response {
            outcome: if head.status < 400 { "success" } else { "failure" }.into(),
            code: Some(head.status.to_string()),
            facts,
            parts: parts(&shown.bytes, head.length, &head.fields),
            wire: wire(&shown.bytes, bytes),
            ..Response::default()
        };
        tell(exchange, response, shown, told);
    }

    /// Header fields outside of a request's or a final response's head.
    pub(super) fn fields(&self, exchange: u32, chunk: Chunk, bytes: &[u8], told: &mut Vec<Told<'_>>) {
        let shown = shown_head(bytes, self.key);
        let chunk = Chunk { wire: wire(&shown.bytes, bytes), ..chunk };
        tell(exchange, chunk, shown, told);
    }

    /// Framing that says more than a length (chunk extensions), with its credentials hidden.
    pub(super) fn framing(&self, exchange: u32, side: Side, bytes: &[u8], told: &mut Vec<Told<'_>>) {
        let mut redactor = Redactor::new(None, side, self.key);
        let shown = redactor.feed(bytes).into_owned();
        let chunk = Chunk { part: Some("framing".into()), ..Chunk::new(side, 0) };
        let exchange = Some(exchange).filter(|exchange| *exchange > 0);
        told.push(Told { exchange, body: chunk.into(), payload: Cow::Owned(shown) });
    }

    /// A message, or the answer to one, that never became whole.
    pub(super) fn cut(side: Side, answered: bool, held: bool) -> Body {
        match (side, answered) {
            _ if held => aborted("the session ended while it was held: it was not sent"),
            (Side::Client, _) => {
                let text = "the request was cut off in the middle".into();
                Note { code: "http_cut".into(), text }.into()
            }
            (Side::Server, answered) => aborted(if answered { "the answer was cut off" } else { "no answer came" }),
        }
    }

    /// A message that is not forwarded, with what can be shown of it; `begun` where a part of its exchange was.
    pub(super) fn refused(&self, exchange: u32, begun: bool, refusal: Refusal, rest: &[u8]) -> Vec<Told<'static>> {
        let side = refusal.side;
        let first = rest.get(..limits::SHOWN_BYTES_MAX).unwrap_or(rest);
        let shown = shown_refused(first, side, self.key);
        let note = Note { code: format!("http_{}", refusal.code()), text: format!("{refusal}") };
        let mut told = Vec::new();
        // What a target says unasked belongs to no exchange.
        let exchange = Some(exchange).filter(|exchange| *exchange > 0);
        if begun {
            let chunk = Chunk { wire: Some(0), part: Some("refused".into()), ..Chunk::new(side, 0) };
            told.push(Told { exchange, body: chunk.into(), payload: Cow::Owned(shown) });
        } else {
            let request = Request {
                verb: "UNPARSED".into(),
                subject: format!("{}://{}", self.scheme, self.default_host),
                facts: self.facts.clone(),
                wire: Some(0),
                ..Request::default()
            };
            told.push(Told { exchange, body: request.into(), payload: Cow::Owned(shown) });
        }
        told.push(Told { exchange, body: note.into(), payload: Cow::Borrowed(b"") });
        told.extend(exchange.map(|exchange| Self::blocked(exchange, refusal.status())));
        told
    }

    /// What the client is told of a refusal.
    pub(super) fn answer(&self, side: Side, refusal: Refusal) -> Vec<u8> {
        let (status, whose) = match side {
            Side::Client => (refusal.status(), "this request"),
            Side::Server => (502, "the target's answer to this request"),
        };
        let reason = match status {
            431 => "Request Header Fields Too Large",
            501 => "Not Implemented",
            502 => "Bad Gateway",
            505 => "HTTP Version Not Supported",
            _ => "Bad Request",
        };
        let body = format!("crewtap refused {whose}: {refusal} (session {})\n", self.session.id());
        format!(
            "HTTP/1.1 {status} {reason}\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: {}\r\n\
             connection: close\r\n\r\n{body}",
            body.len()
        )
        .into_bytes()
    }
}

fn aborted(why: &str) -> Body {
    let facts = Facts::from([("cut".to_owned(), Fact::Text(why.into()))]);
    Response { outcome: "aborted".into(), facts, ..Response::default() }.into()
}

/// What was refused, credentials hidden: also those that stand in a header only for a reader that takes a lone CR or a NUL for
/// the end of a line, or a line that begins with a blank for one of its own. Byte for byte as long as it was.
fn shown_refused(bytes: &[u8], side: Side, key: &DigestKey) -> Vec<u8> {
    let mut lines = bytes.to_vec();
    let mut at_start = true;
    for at in 0..lines.len() {
        let next = bytes.get(at + 1);
        let Some(byte) = lines.get_mut(at) else { break };
        let ends = matches!(byte, b'\0' | b'\n') || *byte == b'\r' && next != Some(&b'\n');
        if ends || at_start && matches!(byte, b' ' | b'\t') {
            *byte = b'\n';
        }
        at_start = *byte == b'\n';
    }
    let mut redactor = Redactor::new(Some(Protocol::Http), side, key);
    let redacted = redactor.feed(&lines).into_owned();
    let shown = bytes.iter().zip(&lines).zip(&redacted);
    shown.map(|((byte, line), redacted)| if line == redacted { *byte } else { *redacted }).collect()
}

/// Puts a head on record, and how much of it was hidden.
fn tell(exchange: u32, body: impl Into<Body>, shown: Shown, told: &mut Vec<Told<'_>>) {
    let masked = shown.masked();
    let exchange = Some(exchange).filter(|exchange| *exchange > 0);
    told.push(Told { exchange, body: body.into(), payload: Cow::Owned(shown.bytes) });
    if let Some(masked) = masked {
        told.push(Told { exchange, body: masked.into(), payload: Cow::Borrowed(b"") });
    }
}

/// Facts that a server could take from somewhere else than we do: on record, so that who judges the request later knows it too.
fn unclear(head: &RequestHead<'_>) -> BTreeSet<String> {
    let has = |names: &[&str]| names.iter().any(|name| head.fields.get(name).is_some());
    let all = [
        ("method", has(METHOD_FIELDS)),
        ("path", has(PATH_FIELDS)),
        ("content_type", head.fields.all("content-type").nth(1).is_some()),
    ];
    all.into_iter().filter(|(_, unclear)| *unclear).map(|(name, _)| name.to_owned()).collect()
}

fn parts(shown: &[u8], length: Length, fields: &Fields<'_>) -> Vec<Part> {
    let head = Part {
        name: "head".into(),
        media_type: "message/http".into(),
        len: shown.len() as u64,
        coding: None,
        follows: false,
    };
    let len = match length {
        Length::Bytes(0) => return vec![head],
        Length::Bytes(len) => len,
        _ => 0,
    };
    let kind = fields.get("content-type").map(media_type);
    let body = Part {
        name: "body".into(),
        media_type: kind.unwrap_or_else(|| "application/octet-stream".into()),
        len,
        coding: fields.get("content-encoding").map(|coding| cut(lossy(coding)).to_ascii_lowercase()),
        follows: true,
    };
    vec![head, body]
}

/// Bytes on the wire, where redaction has changed how many there are.
fn wire(shown: &[u8], bytes: &[u8]) -> Option<u64> {
    (shown.len() != bytes.len()).then_some(bytes.len() as u64)
}

fn media_type(value: &[u8]) -> String {
    let kind = value.split(|byte| *byte == b';').next().unwrap_or_default();
    cut(lossy(kind).trim().to_ascii_lowercase())
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// What a client may write without a bound has one in a fact.
fn cut(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(limits::FACT_TEXT_MAX));
    text
}
