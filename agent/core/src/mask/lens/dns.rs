//! A message of DNS (RFC 1035 section 4): names are text with dots where it has lengths, so that a value over several labels is
//! found. What is no such message reads as loose text.

use std::ops::Range;

use super::loose;
use crate::mask::flow::{How, Sink};

/// Bytes before the first question.
const HEADER_BYTES: usize = 12;

/// Type, class, time to live and length before the content of a record.
const RECORD_BYTES: usize = 10;

/// Records of a message that are read as such; far more than fit in one that has names.
const RECORDS_MAX: usize = 4096;

/// Reads a whole message; up to where. `joint` is what stands between labels: a dot, or a blank, since what is behind a dot could be a fraction.
pub(super) fn read(all: &[u8], from: usize, ends: bool, joint: u8, sink: &mut Sink<'_>) -> usize {
    if !ends {
        return from;
    }
    let read = message(all, from, joint, sink);
    if read < all.len() {
        sink.cut();
        loose::read(all, read..all.len(), true, sink);
    }
    all.len()
}

/// As far as it is one.
fn message(all: &[u8], from: usize, joint: u8, sink: &mut Sink<'_>) -> usize {
    let count = |at: usize| all.get(from + at..).and_then(<[u8]>::first_chunk).map(|two| u16::from_be_bytes(*two));
    let (Some(questions), Some(answers), Some(authorities), Some(more)) = (count(4), count(6), count(8), count(10))
    else {
        return from;
    };
    let mut at = from + HEADER_BYTES;
    for _ in 0..questions {
        let Some(end) = name(all, at, joint, sink).filter(|end| end + 4 <= all.len()) else { return at };
        at = end + 4;
    }
    let records = usize::from(answers) + usize::from(authorities) + usize::from(more);
    for _ in 0..records.min(RECORDS_MAX) {
        let Some(end) = name(all, at, joint, sink) else { return at };
        let Some(head) = all.get(end..).and_then(<[u8]>::first_chunk::<RECORD_BYTES>) else { return end };
        let [kind_high, kind_low, .., len_high, len_low] = *head;
        let content = end + RECORD_BYTES;
        let whole = content..content + usize::from(u16::from_be_bytes([len_high, len_low]));
        if whole.end > all.len() {
            return content;
        }
        record(all, u16::from_be_bytes([kind_high, kind_low]), whole.clone(), joint, sink);
        at = whole.end;
    }
    at
}

/// The content of a record: names, or bytes of any kind.
fn record(all: &[u8], kind: u16, content: Range<usize>, joint: u8, sink: &mut Sink<'_>) {
    // NS, CNAME, SOA, PTR, DNAME; MX and SRV have numbers before their name.
    let begins = match kind {
        2 | 5 | 6 | 12 | 39 => Some(0),
        15 => Some(2),
        33 => Some(6),
        _ => None,
    };
    let read = begins.and_then(|skip| name(all, content.start + skip, joint, sink)).unwrap_or(content.start);
    if read < content.end {
        loose::read(all, read..content.end, true, sink);
        sink.cut();
    }
}

/// A name; behind it, or none where it is not one.
fn name(all: &[u8], from: usize, joint: u8, sink: &mut Sink<'_>) -> Option<usize> {
    let mut at = from;
    loop {
        let len = *all.get(at)?;
        match len {
            0 => {
                sink.cut();
                return Some(at + 1);
            }
            1..=63 => {
                if at > from {
                    sink.written(&[joint], at, 1, How::Nothing);
                }
                let label = all.get(at + 1..at + 1 + usize::from(len))?;
                sink.plain(label, at + 1, How::Plain);
                at += 1 + label.len();
            }
            // What it points to was read where it stands.
            0xc0.. => {
                sink.cut();
                return all.get(at + 1).map(|_| at + 2);
            }
            _ => return None,
        }
    }
}
