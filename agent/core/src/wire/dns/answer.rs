//! Records as text, and the answer that refuses a query.
//!
//! Owns the forms of the types that an analyst meets; every other type is shown in hexadecimal (RFC 3597).

use super::name::read_name;
use super::{Answer, CLASS_IN, DnsError, HEADER_BYTES, Message, Record, address, header, question, type_text};
use crate::limits;
use crate::wire::cursor::Cursor;

/// Reads an answer's data.
pub(super) fn answer(bytes: &[u8], record: &Record<'_>) -> Result<Answer, DnsError> {
    let mut text = if record.class == CLASS_IN { data_text(bytes, record)? } else { unknown(record.data) };
    let alias = (record.class == CLASS_IN && record.kind == 5).then(|| text.clone());
    if text.len() > limits::DNS_ANSWER_TEXT_MAX {
        // Everything is ASCII here, so any place is between two letters.
        text.truncate(limits::DNS_ANSWER_TEXT_MAX - 1);
        text.push('~');
    }
    Ok(Answer {
        name: record.name.text(),
        record: type_text(record.kind),
        ttl: record.ttl,
        text,
        address: address(record),
        alias,
    })
}

fn data_text(bytes: &[u8], record: &Record<'_>) -> Result<String, DnsError> {
    let end = record.data_at + record.data.len();
    let mut fields = Cursor::new(bytes.get(record.data_at..end).unwrap_or_default());
    // Names in the data may point to before it, and must end with it.
    let message = bytes.get(..end).unwrap_or_default();
    let number = |fields: &mut Cursor<'_>| fields.u16().ok_or(DnsError::Record);
    let text = match record.kind {
        1 | 28 => address(record).ok_or(DnsError::Record)?.to_string(),
        2 | 5 | 12 | 39 => read_name(message, &mut fields)?.text(),
        15 => format!("{} {}", number(&mut fields)?, read_name(message, &mut fields)?.text()),
        33 => {
            let (priority, weight, port) = (number(&mut fields)?, number(&mut fields)?, number(&mut fields)?);
            format!("{priority} {weight} {port} {}", read_name(message, &mut fields)?.text())
        }
        6 => {
            let (primary, contact) = (read_name(message, &mut fields)?, read_name(message, &mut fields)?);
            let serial = fields.u32().ok_or(DnsError::Record)?;
            fields.take(16).ok_or(DnsError::Record)?;
            format!("{} {} {serial}", primary.text(), contact.text())
        }
        16 | 99 => return strings(record.data).ok_or(DnsError::Record),
        257 => {
            let flags = fields.u8().ok_or(DnsError::Record)?;
            let tag = fields.vec8().ok_or(DnsError::Record)?;
            return Ok(format!("{flags} {} \"{}\"", tag.escape_ascii(), fields.rest().escape_ascii()));
        }
        64 | 65 => {
            let priority = number(&mut fields)?;
            let target = read_name(message, &mut fields)?.text();
            return Ok(format!("{priority} {}{}", if target.is_empty() { "." } else { &target }, parameters(fields)?));
        }
        _ => return Ok(unknown(record.data)),
    };
    // Addresses were read as a whole.
    if matches!(record.kind, 1 | 28) || fields.is_empty() { Ok(text) } else { Err(DnsError::Record) }
}

/// Texts behind their lengths, quoted.
fn strings(data: &[u8]) -> Option<String> {
    let mut fields = Cursor::new(data);
    let mut text = String::new();
    while !fields.is_empty() {
        if !text.is_empty() {
            text.push(' ');
        }
        let string = fields.vec8()?;
        text.push('"');
        text.extend(string.escape_ascii().map(char::from));
        text.push('"');
    }
    Some(text)
}

/// Service parameters (RFC 9460 section 14.3.2): names for those that say where a connection goes.
fn parameters(mut fields: Cursor<'_>) -> Result<String, DnsError> {
    let mut text = String::new();
    while !fields.is_empty() {
        let key = fields.u16().ok_or(DnsError::Record)?;
        let value = fields.vec16().ok_or(DnsError::Record)?;
        let shown = match (key, value) {
            (1, _) => format!(" alpn={}", value.escape_ascii()),
            (3, [high, low]) => format!(" port={}", u16::from_be_bytes([*high, *low])),
            (4, _) => format!(" ipv4hint={} addresses", value.len() / 4),
            (5, _) => " ech".into(),
            (6, _) => format!(" ipv6hint={} addresses", value.len() / 16),
            _ => format!(" key{key}"),
        };
        text.push_str(&shown);
    }
    Ok(text)
}

/// Data of a type that has no form here: its length and its first bytes.
fn unknown(data: &[u8]) -> String {
    /// Enough to recognise a digest or a key's beginning.
    const SHOWN_BYTES: usize = 32;
    let mut text = format!("\\# {} ", data.len());
    for byte in data.iter().take(SHOWN_BYTES) {
        text.extend([byte >> 4, byte & 15].into_iter().filter_map(|nibble| char::from_digit(u32::from(nibble), 16)));
    }
    if data.len() > SHOWN_BYTES {
        text.push('~');
    }
    text
}

/// How a query is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// The relay could not get an answer: the client may try another resolver.
    Servfail,
    /// Policy does not permit the look-up.
    Refused,
}

/// The answer that refuses `query`: its id, question and EDNS, and no records. None where it is no query with exactly
/// one question: such a message is not answered at all.
#[must_use]
pub fn refuse(query: &[u8], refusal: Refusal) -> Option<Vec<u8>> {
    let mut fields = Cursor::new(query);
    let head = header(&mut fields)?;
    let is_query = head.flags & 0x8000 == 0;
    let [1, ..] = head.counts else { return None };
    question(query, &mut fields).ok().filter(|_| is_query)?;
    let question_end = query.len() - fields.rest().len();
    let code = match refusal {
        Refusal::Servfail => 2,
        Refusal::Refused => 5,
    };
    // Kept: opcode and "recursion desired"; set: response, recursion available.
    let flags = 0x8080 | head.flags & 0x7900 | code;
    let edns = Message::parse(query).is_ok_and(|message| message.edns);
    let mut answer = head.id.to_be_bytes().to_vec();
    answer.extend(flags.to_be_bytes());
    answer.extend([0, 1, 0, 0, 0, 0, 0, u8::from(edns)]);
    answer.extend_from_slice(query.get(HEADER_BYTES..question_end)?);
    if edns {
        // The root's name, OPT, 1232 bytes of payload, no extended code, version 0, no options (RFC 6891 section 6.1.2).
        answer.extend([0, 0, 41, 0x04, 0xd0, 0, 0, 0, 0, 0, 0]);
    }
    Some(answer)
}
