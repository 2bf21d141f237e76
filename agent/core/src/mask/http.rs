//! HTTP heads and trailer sections, as they are recorded.
//!
//! Owns the form in which a hidden value is shown. Which bytes are credentials is decided by the same state machine
//! that reads opaque streams ([`crate::mask::stream`]), so that there is one list and one rule; but a head is there as
//! a whole, so a port is shown as the port that it proved to be, and a value by its length and digest instead of one
//! `*` a byte. Never changes what is forwarded, and never reads a body.

use crate::bodies::Masked;
use crate::limits;
use crate::mask::digest::DigestKey;
use crate::mask::stream::{Redactor, Value};
use crate::session::Side;
use crate::sniff::Protocol;

/// What the record shows of a head.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Shown {
    /// The head with each credential replaced by `[hidden:LENGTH:DIGEST]`: no blank, comma or line end in it, so that
    /// what could be read as a head still can.
    pub bytes: Vec<u8>,
    /// What was hidden, at most [`limits::REDACTED_VALUES_MAX`]; offsets are those of the head as sent.
    pub values: Vec<Value>,
    /// How many values were hidden.
    pub count: u64,
}

impl Shown {
    /// What was hidden, as the body of an event; none where nothing was.
    #[must_use]
    pub fn masked(&self) -> Option<Masked> {
        let values = self.values.iter().map(ToString::to_string).collect();
        (self.count > 0).then(|| Masked { mask: "credentials".into(), count: self.count, values, ..Masked::default() })
    }
}

/// What to record of `head`: a request or response head, a trailer section, or what was refused as one.
#[must_use]
pub fn shown_head(head: &[u8], key: &DigestKey) -> Shown {
    let mut redactor = Redactor::new(Some(Protocol::Http), Side::Client, key);
    let mut shown = Shown { bytes: Vec::with_capacity(head.len()), values: Vec::new(), count: 0 };
    let mut starred = Vec::with_capacity(head.len());
    let mut found = Vec::new();
    for line in head.split_inclusive(|byte| *byte == b'\n') {
        starred.extend_from_slice(&redactor.feed(line));
        // Line by line, so that the redactor's own bound is one for a line: what it does not list stays starred.
        found.append(&mut redactor.take());
    }
    redactor.finish();
    found.append(&mut redactor.take());
    shown.count = redactor.count();
    let mut at = 0;
    for value in found {
        let Some((begin, end)) = place(&value, head) else { continue };
        let Some(before) = starred.get(at..begin) else { continue };
        shown.bytes.extend_from_slice(before);
        at = end;
        if value.scheme == PORT {
            shown.bytes.extend_from_slice(value.digest.as_bytes());
            shown.count -= 1;
            continue;
        }
        shown.bytes.extend_from_slice(format!("[hidden:{}:{}]", value.len, value.digest).as_bytes());
        if shown.values.len() < limits::REDACTED_VALUES_MAX {
            shown.values.push(value);
        }
    }
    shown.bytes.extend_from_slice(starred.get(at..).unwrap_or_default());
    shown
}

/// What the stream's redactor calls a number that was hidden before it proved to be a port.
const PORT: &str = "url-port";

/// Where a value stands; none where a line ends inside, which only a refused head has: it stays starred.
fn place(value: &Value, head: &[u8]) -> Option<(usize, usize)> {
    let begin = usize::try_from(value.offset).ok()?;
    let end = begin.checked_add(usize::try_from(value.len).ok()?)?;
    let bytes = head.get(begin..end)?;
    (!bytes.iter().any(|byte| matches!(byte, b'\r' | b'\n'))).then_some((begin, end))
}

#[cfg(test)]
mod tests;
