//! Text of any kind: terminal escapes between the letters, `\u0034` and `%34` for a letter.

use std::ops::Range;

use crate::mask::flow::{How, Sink};

/// Longest terminal escape that is passed over, in bytes.
const ESCAPE_BYTES_MAX: usize = 256;

/// Backslashes before a letter: each level of quoting doubles them.
const BACKSLASHES_MAX: usize = 64;

const ESC: u8 = 0x1b;

/// Something that is not as it reads.
pub(super) enum Written {
    /// So many bytes that stand for no text.
    Nothing(usize),
    /// So many bytes that stand for a character.
    Letter(usize, char),
    /// So many bytes that stand for one byte.
    Byte(usize, u8),
    /// So many bytes as they are.
    Plain(usize),
    /// More is needed to tell.
    More,
}

/// Reads a range; up to where.
pub(super) fn read(all: &[u8], range: Range<usize>, ends: bool, sink: &mut Sink<'_>) -> usize {
    read_as(all, range, ends, None, sink)
}

/// Reads a form; up to where.
pub(super) fn form(all: &[u8], range: Range<usize>, ends: bool, sink: &mut Sink<'_>) -> usize {
    read_as(all, range, ends, Some(b'+'), sink)
}

/// The same, where one byte stands for a blank.
fn read_as(all: &[u8], range: Range<usize>, ends: bool, blank: Option<u8>, sink: &mut Sink<'_>) -> usize {
    let how = How::Plain;
    let mut at = range.start;
    while at < range.end {
        let rest = all.get(at..range.end).unwrap_or_default();
        let is_written = |byte: &u8| matches!(byte, &ESC | b'\\' | b'%') || Some(*byte) == blank;
        let plain = rest.iter().position(is_written).unwrap_or(rest.len());
        sink.plain(rest.get(..plain).unwrap_or_default(), at, how);
        at += plain;
        let rest = rest.get(plain..).unwrap_or_default();
        if rest.is_empty() {
            break;
        }
        let found = match rest.first() {
            first if first == blank.as_ref() => Written::Byte(1, b' '),
            _ => written(rest),
        };
        match found {
            Written::More if !ends => return at,
            Written::More => {
                sink.plain(rest, at, how);
                at += rest.len();
            }
            Written::Nothing(len) => at += len,
            Written::Plain(len) => {
                sink.plain(rest.get(..len).unwrap_or_default(), at, how);
                at += len;
            }
            Written::Letter(len, letter) => {
                sink.written(letter.encode_utf8(&mut [0; 4]).as_bytes(), at, len, How::Escape);
                at += len;
            }
            Written::Byte(len, byte) => {
                sink.written(&[byte], at, len, How::Escape);
                at += len;
            }
        }
    }
    at
}

/// What begins with an escape, a backslash or a percent sign.
fn written(rest: &[u8]) -> Written {
    match rest {
        [ESC, ..] => terminal(rest),
        [b'%', high, low, ..] => match (hex(*high), hex(*low)) {
            (Some(high), Some(low)) => Written::Byte(3, high << 4 | low),
            _ => Written::Plain(1),
        },
        [b'%'] => Written::More,
        [b'%', high] if hex(*high).is_some() => Written::More,
        [b'\\', ..] => letter(rest).unwrap_or(Written::Plain(1)),
        _ => Written::Plain(1),
    }
}

/// `\u0034` behind any number of backslashes: what is quoted twice has two.
pub(super) fn letter(rest: &[u8]) -> Option<Written> {
    let slashes = rest.iter().take(BACKSLASHES_MAX).take_while(|byte| **byte == b'\\').count();
    let behind = rest.get(slashes..).unwrap_or_default();
    let (digits, wide) = match behind {
        [] if slashes < BACKSLASHES_MAX => return Some(Written::More),
        [b'u', digits @ ..] => (digits, 4),
        [b'x', digits @ ..] => (digits, 2),
        _ => return None,
    };
    let mut value = 0;
    for at in 0..wide {
        match digits.get(at) {
            None => return Some(Written::More),
            Some(digit) => value = value << 4 | u32::from(hex(*digit)?),
        }
    }
    Some(Written::Letter(slashes + 1 + wide, char::from_u32(value).unwrap_or(char::REPLACEMENT_CHARACTER)))
}

/// A control sequence (ECMA-48 section 5.4) or a string of an operating system command.
fn terminal(rest: &[u8]) -> Written {
    let bounded = rest.get(..ESCAPE_BYTES_MAX).unwrap_or(rest);
    let end = match bounded {
        [_, b'[', sequence @ ..] => sequence.iter().position(|byte| matches!(byte, 0x40..=0x7e)).map(|at| at + 3),
        [_, b']', string @ ..] => string.iter().position(|byte| matches!(byte, 0x07 | b'\\')).map(|at| at + 3),
        [_, _, ..] => Some(2),
        _ => None,
    };
    match end {
        Some(end) => Written::Nothing(end),
        None if bounded.len() < ESCAPE_BYTES_MAX => Written::More,
        None => Written::Plain(1),
    }
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

/// The head of an HTTP message, which comes whole: rules can be about its fields.
pub(super) fn head(all: &[u8], from: usize, ends: bool, sink: &mut Sink<'_>) -> usize {
    if sink.plan.headers.is_empty() {
        return read(all, from..all.len(), ends, sink);
    }
    let mut at = from;
    for line in all.get(from..).unwrap_or_default().split_inclusive(|byte| *byte == b'\n') {
        let colon = line.iter().position(|byte| *byte == b':').unwrap_or_default();
        let name = String::from_utf8_lossy(line.get(..colon).unwrap_or_default()).to_ascii_lowercase();
        let value = line.get(colon..).unwrap_or_default();
        let blank = value.iter().take_while(|byte| matches!(byte, b':' | b' ' | b'\t')).count();
        let end = line.len() - line.iter().rev().take_while(|byte| matches!(byte, b'\r' | b'\n' | b' ')).count();
        match sink.plan.headers.get(&name).copied().filter(|_| colon > 0 && end > colon + blank) {
            Some(place) => {
                read(all, at..at + colon + blank, true, sink);
                sink.begin(place);
                read(all, at + colon + blank..at + end, true, sink);
                sink.end();
                read(all, at + end..at + line.len(), true, sink);
            }
            None => {
                read(all, at..at + line.len(), true, sink);
            }
        }
        at += line.len();
    }
    at
}
