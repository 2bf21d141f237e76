//! Passwords in URLs and connection strings.
//!
//! Owns the places: `scheme://user:password@host`, and `password=` with its sisters. What stands for a password in a
//! template is none.

use super::filter::{Bytes, Edge, Start};
use super::view::{Found, More, Outcome, View, is_alphanumeric};

/// Longest user name of a URL, in bytes.
const USER_MAX: usize = 256;

/// Longest password of a URL and in quotes, in bytes.
const PASSWORD_MAX: usize = 512;

/// Shortest and longest password in brackets, in bytes.
const WRAPPED_MIN: usize = 6;
const WRAPPED_MAX: usize = 64;

/// Names of a connection string's secrets: libpq, ADO.NET, ODBC, JDBC, Azure.
const NAMES: [&[u8]; 5] = [b"password", b"passwd", b"pwd", b"accountkey", b"sharedaccesskey"];

/// Where they can begin.
pub(super) fn starts() -> Vec<Start> {
    let name = |name: &'static [u8]| {
        let byte = |place| name.get(place).map_or(Bytes::Any, |byte| Bytes::Fold(*byte));
        Start { before: Edge::Any, bytes: [byte(0), byte(1), byte(2)], attempt: named }
    };
    let url =
        Start { before: Edge::Any, bytes: [Bytes::One(b':'), Bytes::One(b'/'), Bytes::One(b'/')], attempt: in_url };
    [b"password".as_slice(), b"pwd", b"accountkey", b"sharedaccesskey"].into_iter().map(name).chain([url]).collect()
}

/// `://user:password@`
fn in_url(view: View<'_>, at: usize) -> Outcome {
    if !view.before(at).is_some_and(is_alphanumeric) {
        return Ok(None);
    }
    let colon = view.run(at + 3, USER_MAX, |byte| is_userinfo(byte) && !matches!(byte, b':' | b'@'))?;
    if view.at(colon)? != Some(b':') {
        return Ok(None);
    }
    let start = colon + 1;
    let mut end = None;
    let mut here = start;
    // The last one counts: sloppy clients leave an `@` in a password as it is.
    while here - start <= PASSWORD_MAX
        && let Some(byte) = view.at(here)?.filter(|byte| is_userinfo(*byte))
    {
        if byte == b'@' {
            end = Some(here);
        }
        here += 1;
    }
    let found = end.filter(|end| !stands_for_one(view.slice(start, *end)));
    Ok(found.map(|end| Found::whole(start, end)))
}

/// `password=…`, and `PASSWORD '…'` as SQL has it.
fn named(view: View<'_>, at: usize) -> Outcome {
    let mut behind = None;
    for name in NAMES {
        if behind.is_none() {
            behind = view.word(at, name)?;
        }
    }
    let Some(behind) = behind else { return Ok(None) };
    // Of a name in quotes, or of a member in brackets.
    let behind = view.run(behind, 2, |byte| matches!(byte, b'"' | b'\'' | b']'))?;
    let equals = view.run(behind, 2, |byte| byte == b' ')?;
    if view.at(equals)? != Some(b'=') {
        return if equals > behind && view.at(equals)? == Some(b'\'') { quoted(view, equals, b'\'') } else { Ok(None) };
    }
    let start = view.run(equals + 1, 2, |byte| byte == b' ')?;
    if let Some(quote @ (b'\'' | b'"')) = view.at(start)? {
        return quoted(view, start, quote);
    }
    if let Some(open @ (b'{' | b'[' | b'<')) = view.at(start)?
        && let Some(found) = wrapped(view, start, open)?
    {
        return Ok(Some(found));
    }
    // A call or a comparison is code; where the first bytes say neither, it is a value.
    let looked = view.run(start, 64, is_value)?;
    if view.is(looked, |byte| matches!(byte, b'(' | b'[' | b'{'))?
        || view.at(start)? == Some(b'=')
        || looked - start < 64 && stands_for_one(view.slice(start, looked))
    {
        return Ok(None);
    }
    view.grown(start, looked, is_value)
}

/// `'…'` behind a name.
fn quoted(view: View<'_>, start: usize, quote: u8) -> Outcome {
    let mut end = start + 1;
    while end - start <= PASSWORD_MAX
        && let Some(byte) = view.at(end)?.filter(|byte| *byte != b'\n')
    {
        // SQL doubles a quote that belongs to the text, most others escape it.
        let is_double = byte == quote && view.at(end + 1)? == Some(quote) && end > start + 1;
        if byte == quote && !is_double {
            break;
        }
        end += if byte == b'\\' || is_double { 2 } else { 1 };
    }
    let value = view.slice(start + 1, end);
    let found = view.at(end)? == Some(quote) && !stands_for_one(value);
    Ok(found.then(|| Found::whole(start + 1, end)))
}

/// `{…}` as ODBC has it, and `[…]` and `<…>` of people: what has a digit, and is no code, is a value and no name for one.
fn wrapped(view: View<'_>, at: usize, open: u8) -> Result<Option<Found>, More> {
    let close = match open {
        b'{' => b'}',
        b'[' => b']',
        _ => b'>',
    };
    let mut end = at + 1;
    while end - at <= WRAPPED_MAX && view.at(end)?.is_some_and(|byte| byte != close && is_wrapped(byte)) {
        end += 1;
    }
    let value = view.slice(at + 1, end);
    let has = |class: fn(&u8) -> bool| value.iter().any(class);
    let is_one = view.at(end)? == Some(close)
        && value.len() >= WRAPPED_MIN
        && has(u8::is_ascii_digit)
        && has(u8::is_ascii_alphabetic)
        && !stands_for_one(value);
    Ok(is_one.then(|| Found::whole(at + 1, end)))
}

/// What a value in brackets consists of: neither blanks, nor what code has in its place.
const fn is_wrapped(byte: u8) -> bool {
    byte > b' '
        && byte != 0x7f
        && !matches!(byte, b'"' | b'\'' | b',' | b'(' | b')' | b'[' | b']' | b'{' | b'}' | b'<' | b'>' | b'`')
}

/// What a bare value consists of.
pub(super) const fn is_value(byte: u8) -> bool {
    !byte.is_ascii_whitespace()
        && !matches!(byte, b';' | b'&' | b'"' | b'\'' | b',' | b'(' | b')' | b'[' | b'<' | b'>' | b'`' | b'\\')
}

const fn is_userinfo(byte: u8) -> bool {
    byte > b' '
        && byte != 0x7f
        && !matches!(byte, b'/' | b'?' | b'#' | b'"' | b'\'' | b'<' | b'>' | b'`' | b'\\' | b',' | b')')
}

/// Whether a text is empty, a variable, or stars.
/// What is left of a credential already, in or without its brackets (see `mask::argv`): its digest must stay.
fn is_redacted(text: &[u8]) -> bool {
    let text = text.strip_prefix(b"[").and_then(|text| text.strip_suffix(b"]")).unwrap_or(text);
    let mut parts = text.split(|byte| *byte == b':');
    let mut next =
        |is_such: fn(&u8) -> bool| parts.next().is_some_and(|part| !part.is_empty() && part.iter().all(is_such));
    text.starts_with(b"redacted:")
        && next(u8::is_ascii_lowercase)
        && next(|byte| byte.is_ascii_lowercase() || *byte == b'-')
        && next(u8::is_ascii_digit)
        && next(|byte| byte.is_ascii_digit() || matches!(byte, b'a'..=b'f'))
        && parts.next().is_none()
}

fn stands_for_one(text: &[u8]) -> bool {
    let wrapped = |open: &[u8], close: &[u8]| text.starts_with(open) && text.ends_with(close);
    text.is_empty()
        || is_redacted(text)
        || text == b"{"
        || wrapped(b"{", b"}")
        || wrapped(b"${", b"}")
        || wrapped(b"%(", b")s")
        || text == b"%s"
        || text.iter().all(|byte| matches!(byte, b'*' | b'x' | b'X' | b'.'))
        || text.first() == Some(&b'$') && text.iter().skip(1).all(|byte| byte.is_ascii_uppercase() || *byte == b'_')
        || [b"None".as_slice(), b"none", b"null", b"NULL", b"nil", b"true", b"false", b"undefined"].contains(&text)
}
