//! Private keys in PEM (RFC 7468), also in the quoted forms that JSON and environments give them.
//!
//! Owns where one begins and ends. A key whose end is missing goes on to the first byte that no key has.

use super::view::{More, Outcome, View};

const BEGIN: &[u8] = b"-----BEGIN ";
const END: &[u8] = b"-----END ";
const DASHES: &[u8] = b"-----";

/// Longest words between `BEGIN` and the dashes: `ENCRYPTED PRIVATE KEY` is usual.
const LABEL_MAX: usize = 40;

/// What a key's headers begin with, where it has some.
const HEADERS: [&[u8]; 6] = [b"Proc-Type:", b"DEK-Info:", b"Version:", b"Comment:", b"Hash:", b"Charset:"];

/// Bytes of base64 that make it a key and not a word about one.
const BODY_MIN: usize = 16;

/// Looks for a key at a position.
pub(super) fn attempt(view: View<'_>, at: usize) -> Outcome {
    if view.before(at) == Some(b'-') {
        return Ok(None);
    }
    let Some(label) = view.literal(at, BEGIN)? else { return Ok(None) };
    let label_end = view.run(label, LABEL_MAX, is_label)?;
    let Some(behind) = view.literal(label_end, DASHES)? else { return Ok(None) };
    let words = view.slice(label, label_end);
    if !words.ends_with(b"PRIVATE KEY") && !words.ends_with(b"PRIVATE KEY BLOCK") {
        return Ok(None);
    }
    // Line ends, as such or escaped once or twice, quotes and what joins strings in code.
    let mut body = behind;
    for _ in 0..24 {
        body = view.run(body, 24, is_gap)?;
        match view.at(body)? {
            Some(b'n' | b'r') if view.before(body) == Some(b'\\') => body += 1,
            _ => break,
        }
    }
    let sure = view.run(body, BODY_MIN, is_base64)? - body == BODY_MIN || begins_header(view, body)?;
    if sure { rest(view, at, body) } else { Ok(None) }
}

fn begins_header(view: View<'_>, at: usize) -> Result<bool, More> {
    for header in HEADERS {
        if view.literal(at, header)?.is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// A key goes on to its end.
pub(super) fn rest(view: View<'_>, start: usize, from: usize) -> Outcome {
    let mut at = from;
    while let Some(byte) = view.bytes.get(at) {
        if !is_body(*byte) {
            return Ok(Some(view.closed(start, at)));
        }
        if *byte == b'-' {
            match end(view, at) {
                Ok(Some(end)) => return Ok(Some(view.closed(start, end))),
                Ok(None) => {}
                Err(More) => return view.unfinished(start, at),
            }
        }
        at += 1;
    }
    view.unfinished(start, at)
}

/// Behind `-----END … KEY-----`, if that stands at a position.
fn end(view: View<'_>, at: usize) -> Result<Option<usize>, More> {
    // The key may be longer than what an attempt reads; its end is not.
    let view = View::new(view.bytes, None, view.ends());
    let Some(label) = view.literal(at, END)? else { return Ok(None) };
    view.literal(view.run(label, LABEL_MAX, is_label)?, DASHES)
}

const fn is_label(byte: u8) -> bool {
    byte.is_ascii_uppercase() || byte == b' '
}

const fn is_base64(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=')
}

const fn is_gap(byte: u8) -> bool {
    byte.is_ascii_whitespace() || matches!(byte, b'\\' | b'"' | b'\'' | b'+')
}

const fn is_body(byte: u8) -> bool {
    is_base64(byte) || is_gap(byte) || matches!(byte, b'-' | b':' | b',' | b'.' | b'(' | b')' | b'@')
}
