//! Masks over the texts of events: subjects, facts, command lines, names, errors.
//!
//! Works on the journal's form, in place: an event is as long as it was. Never touches a key, a number, an address or an id.

use std::borrow::Cow;
use std::ops::Range;

use super::flow::Texts;
use super::plan::{Finds, Plan};

/// Members whose texts crewtap writes itself, or that say where and when: without them a record says nothing.
const STRUCTURE: [&[u8]; 16] = [
    b"kind",
    b"id",
    b"run",
    b"session",
    b"digest",
    b"values",
    b"mask",
    b"address",
    b"resolver",
    b"peer",
    b"bound",
    b"destination",
    b"dialled_from",
    b"code",
    b"outcome",
    b"media_type",
];

/// Containers in containers; an event has a handful.
const DEPTH_MAX: usize = 64;

/// Hides finds in the texts of an event in CBOR, in place. What is no CBOR of ours is left as it is.
pub fn hide(plan: &Plan, event: &mut Vec<u8>, finds: &mut Finds) {
    if plan.is_empty() {
        return;
    }
    let mut reader = Reader { bytes: event, at: 0, texts: Vec::new() };
    let _complete = reader.item(false, 0);
    let texts = reader.texts;
    let mut all = Cow::Borrowed(event.as_slice());
    Texts::default().hide(plan, &mut all, &texts, finds);
    let Cow::Owned(mut hidden) = all else { return };
    for text in texts {
        // A rule can hide a part of a letter: then no letter of the text is left.
        if let Some(bytes) = hidden.get_mut(text)
            && str::from_utf8(bytes).is_err()
        {
            bytes.fill(b'*');
        }
    }
    *event = hidden;
}

/// Walks CBOR (RFC 8949) for its texts.
struct Reader<'b> {
    bytes: &'b [u8],
    at: usize,
    texts: Vec<Range<usize>>,
}

impl Reader<'_> {
    /// One item; none where it is not whole.
    fn item(&mut self, skip: bool, depth: usize) -> Option<()> {
        let first = self.byte()?;
        let (major, short) = (first >> 5, first & 0x1f);
        let argument = self.argument(short)?;
        match major {
            2 => self.at = self.at.checked_add(argument?)?,
            3 => {
                let text = self.at..self.at.checked_add(argument?)?;
                self.at = text.end;
                if !skip {
                    self.bytes.get(text.clone())?;
                    self.texts.push(text);
                }
            }
            4 | 5 if depth < DEPTH_MAX => {
                let mut left = argument;
                while left != Some(0) {
                    if left.is_none() && self.bytes.get(self.at) == Some(&0xff) {
                        self.at += 1;
                        break;
                    }
                    let is_structure = major == 5 && self.key(depth)?;
                    self.item(skip || is_structure, depth + 1)?;
                    left = left.map(|left| left - 1);
                }
            }
            6 => self.item(skip, depth + 1)?,
            4 | 5 => return None,
            _ => {}
        }
        Some(())
    }

    /// A member's name; whether it belongs to the structure.
    fn key(&mut self, depth: usize) -> Option<bool> {
        let from = self.at;
        self.item(true, depth + 1)?;
        let key = self.bytes.get(from..self.at)?;
        Some(STRUCTURE.iter().any(|name| key.len() == name.len() + 1 && key.ends_with(name)))
    }

    /// The number in an item's head; within it none where the item's end is marked instead.
    #[allow(clippy::option_option, reason = "there is none, or it is not told")]
    fn argument(&mut self, short: u8) -> Option<Option<usize>> {
        let bytes = match short {
            0..=23 => return Some(Some(usize::from(short))),
            24..=27 => 1usize << (short - 24),
            31 => return Some(None),
            _ => return None,
        };
        let value =
            self.bytes.get(self.at..self.at + bytes)?.iter().fold(0u64, |all, byte| all << 8 | u64::from(*byte));
        self.at += bytes;
        usize::try_from(value).ok().map(Some)
    }

    fn byte(&mut self) -> Option<u8> {
        let byte = self.bytes.get(self.at).copied()?;
        self.at += 1;
        Some(byte)
    }
}
