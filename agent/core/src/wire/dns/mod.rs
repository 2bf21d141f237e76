//! What a DNS message says (RFC 1035 section 4): the question, and the answers as text and as addresses.
//!
//! Owns a view for the record and for naming addresses. Never resolves, never trusts a count: a message is read as far
//! as its bytes go, and what does not fit is malformed as a whole. A parser of our own because the record must hold the
//! question also where a resolver's library would refuse the message (one broken record fails all of it there), and
//! because that library reserves room for as many questions as a header claims.

mod answer;
mod framing;
mod name;

pub use answer::{Refusal, refuse};
pub use framing::Framing;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::limits;
use crate::wire::cursor::Cursor;
use name::{Name, read_name};

/// Why bytes are no DNS message.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum DnsError {
    /// Shorter than the header, or than its counts say.
    #[error("the dns message ends too early")]
    Truncated,
    /// A name that is too long, points forward, or uses a reserved kind of label.
    #[error("the dns message holds a name that breaks the format")]
    Name,
    /// The data of a record does not have the form of its type.
    #[error("the dns message holds a record that breaks the format")]
    Record,
}

/// What is asked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Question {
    /// Name asked for: lower case, without the trailing dot (empty for the root), what cannot be shown as `\DDD`.
    pub name: String,
    /// Type asked for: `A`, `AAAA`, …, `TYPE65280` for those without a name.
    pub record: String,
}

/// One record of the answer section.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Answer {
    /// Owner's name, spelled as in [`Question::name`].
    pub name: String,
    /// Type.
    pub record: String,
    /// Time to live in seconds.
    pub ttl: u32,
    /// The data as text, at most [`limits::DNS_ANSWER_TEXT_MAX`] bytes.
    pub text: String,
    /// The address of an A or AAAA record of class IN.
    pub address: Option<IpAddr>,
    /// The name that a CNAME record leads to.
    pub alias: Option<String>,
}

/// A DNS message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Message {
    /// Transaction id.
    pub id: u16,
    /// It is an answer.
    pub response: bool,
    /// Kind of query; 0 is an ordinary one.
    pub opcode: u8,
    /// The answer was cut to fit a datagram, and will be asked for again over TCP.
    pub truncated: bool,
    /// `NOERROR`, `NXDOMAIN`, …, the extended code of EDNS included.
    pub code: String,
    /// Questions; resolvers send exactly one. At most [`limits::DNS_ANSWERS_MAX`] are kept.
    pub questions: Vec<Question>,
    /// Answers, at most [`limits::DNS_ANSWERS_MAX`] of them.
    pub answers: Vec<Answer>,
    /// Answers that the message holds.
    pub answers_total: u16,
    /// The sender understands EDNS (RFC 6891).
    pub edns: bool,
}

const TYPE_OPT: u16 = 41;
const CLASS_IN: u16 = 1;
/// Bytes of the header.
const HEADER_BYTES: usize = 12;

struct Header {
    id: u16,
    flags: u16,
    counts: [u16; 4],
}

fn header(fields: &mut Cursor<'_>) -> Option<Header> {
    let (id, flags) = (fields.u16()?, fields.u16()?);
    Some(Header { id, flags, counts: [fields.u16()?, fields.u16()?, fields.u16()?, fields.u16()?] })
}

/// The id and first question of a message of which the rest may be broken.
#[must_use]
pub fn first_question(bytes: &[u8]) -> Option<(u16, Question)> {
    let mut fields = Cursor::new(bytes);
    let head = header(&mut fields)?;
    let [questions, ..] = head.counts;
    if questions == 0 {
        return None;
    }
    Some((head.id, question(bytes, &mut fields).ok()?))
}

impl Message {
    /// Reads a whole message, without the length that precedes it on TCP.
    ///
    /// # Errors
    /// [`DnsError`] where the bytes do not hold what the header counts.
    pub fn parse(bytes: &[u8]) -> Result<Self, DnsError> {
        let mut fields = Cursor::new(bytes);
        let Header { id, flags, counts } = header(&mut fields).ok_or(DnsError::Truncated)?;
        let [question_count, answer_count, authority_count, additional_count] = counts;
        let mut message = Self {
            id,
            response: flags & 0x8000 != 0,
            opcode: u8::try_from(flags >> 11 & 15).unwrap_or_default(),
            truncated: flags & 0x0200 != 0,
            code: String::new(),
            questions: Vec::new(),
            answers: Vec::new(),
            answers_total: answer_count,
            edns: false,
        };
        for _ in 0..question_count {
            let asked = question(bytes, &mut fields)?;
            if message.questions.len() < limits::DNS_ANSWERS_MAX {
                message.questions.push(asked);
            }
        }
        for _ in 0..answer_count {
            let record = record(bytes, &mut fields)?;
            if message.answers.len() < limits::DNS_ANSWERS_MAX {
                message.answers.push(answer::answer(bytes, &record)?);
            }
        }
        let mut code = flags & 15;
        for _ in 0..u32::from(authority_count) + u32::from(additional_count) {
            let record = record(bytes, &mut fields)?;
            if record.kind == TYPE_OPT {
                message.edns = true;
                code |= u16::from(record.ttl.to_be_bytes()[0]) << 4;
            }
        }
        message.code = code_text(code);
        Ok(message)
    }

    /// The name that is asked for; empty where there is no question.
    #[must_use]
    pub fn name(&self) -> &str {
        self.questions.first().map_or("", |question| &question.name)
    }

    /// The type that is asked for; empty where there is no question.
    #[must_use]
    pub fn record(&self) -> &str {
        self.questions.first().map_or("", |question| &question.record)
    }

    /// Addresses that this answer gives to the name that was asked for, by way of its aliases, and that name.
    /// Records of other names are not believed. Empty for a query, an error, and an answer without a question.
    #[must_use]
    pub fn addresses(&self) -> Vec<(IpAddr, String)> {
        let Some(question) = self.questions.first().filter(|_| self.response && self.code == "NOERROR") else {
            return Vec::new();
        };
        // Resolvers follow the chain in any order; each alias is taken once, so that a circle ends.
        let mut names = vec![question.name.as_str()];
        let mut grown = true;
        while grown {
            grown = false;
            for answer in &self.answers {
                if let Some(alias) = &answer.alias
                    && names.contains(&answer.name.as_str())
                    && !names.contains(&alias.as_str())
                {
                    names.push(alias);
                    grown = true;
                }
            }
        }
        let believed = self.answers.iter().filter(|answer| names.contains(&answer.name.as_str()));
        believed.filter_map(|answer| Some((answer.address?, question.name.clone()))).collect()
    }
}

/// One record, its data still raw.
struct Record<'a> {
    name: Name,
    kind: u16,
    class: u16,
    ttl: u32,
    data: &'a [u8],
    /// Where the data begins in the message: names in it may point back.
    data_at: usize,
}

fn question<'a>(bytes: &'a [u8], fields: &mut Cursor<'a>) -> Result<Question, DnsError> {
    let name = read_name(bytes, fields)?;
    let kind = fields.u16().ok_or(DnsError::Truncated)?;
    fields.u16().ok_or(DnsError::Truncated)?;
    Ok(Question { name: name.text(), record: type_text(kind) })
}

fn record<'a>(bytes: &'a [u8], fields: &mut Cursor<'a>) -> Result<Record<'a>, DnsError> {
    let name = read_name(bytes, fields)?;
    let mut fixed = || {
        let (kind, class, ttl) = (fields.u16()?, fields.u16()?, fields.u32()?);
        let data = fields.vec16()?;
        Some((kind, class, ttl, data))
    };
    let (kind, class, ttl, data) = fixed().ok_or(DnsError::Truncated)?;
    let data_at = bytes.len() - fields.rest().len() - data.len();
    Ok(Record { name, kind, class, ttl, data, data_at })
}

fn address(record: &Record<'_>) -> Option<IpAddr> {
    match (record.class, record.kind) {
        (CLASS_IN, 1) => <[u8; 4]>::try_from(record.data).ok().map(|octets| Ipv4Addr::from(octets).into()),
        (CLASS_IN, 28) => <[u8; 16]>::try_from(record.data).ok().map(|octets| Ipv6Addr::from(octets).into()),
        _ => None,
    }
}

/// Names of types (IANA registry of resource record types); others as RFC 3597 section 5 spells them.
fn type_text(kind: u16) -> String {
    let known = match kind {
        1 => "A",
        2 => "NS",
        5 => "CNAME",
        6 => "SOA",
        12 => "PTR",
        13 => "HINFO",
        15 => "MX",
        16 => "TXT",
        28 => "AAAA",
        29 => "LOC",
        33 => "SRV",
        35 => "NAPTR",
        39 => "DNAME",
        41 => "OPT",
        43 => "DS",
        44 => "SSHFP",
        46 => "RRSIG",
        47 => "NSEC",
        48 => "DNSKEY",
        50 => "NSEC3",
        52 => "TLSA",
        64 => "SVCB",
        65 => "HTTPS",
        99 => "SPF",
        251 => "IXFR",
        252 => "AXFR",
        255 => "ANY",
        257 => "CAA",
        other => return format!("TYPE{other}"),
    };
    known.into()
}

/// Names of response codes (IANA registry of DNS RCODEs).
fn code_text(code: u16) -> String {
    let known = match code {
        0 => "NOERROR",
        1 => "FORMERR",
        2 => "SERVFAIL",
        3 => "NXDOMAIN",
        4 => "NOTIMP",
        5 => "REFUSED",
        6 => "YXDOMAIN",
        7 => "YXRRSET",
        8 => "NXRRSET",
        9 => "NOTAUTH",
        10 => "NOTZONE",
        16 => "BADVERS",
        23 => "BADCOOKIE",
        other => return format!("RCODE{other}"),
    };
    known.into()
}

/// Fuzz entry: a message, its refusal, and the same bytes as a framed stream cut in two ways.
///
/// # Panics
/// Where a refusal does not parse, or a cut changes the messages; the fuzzer and the tests look for it.
pub fn fuzz_dns(data: &[u8]) {
    if let Ok(message) = Message::parse(data) {
        assert!(message.answers.len() <= limits::DNS_ANSWERS_MAX);
        let _ = message.addresses();
    }
    if let Some(refusal) = refuse(data, Refusal::Refused) {
        assert!(Message::parse(&refusal).is_ok_and(|message| message.code == "REFUSED" && message.response));
    }
    let mut whole = Vec::new();
    Framing::default().feed(data, |message| whole.push(message.to_vec()));
    let mut pieces = Vec::new();
    let mut framing = Framing::default();
    for piece in data.chunks(3) {
        framing.feed(piece, |message| pieces.push(message.to_vec()));
    }
    assert!(whole == pieces, "a cut changed the messages");
}

#[cfg(test)]
mod tests;
