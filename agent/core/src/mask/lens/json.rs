//! JSON (RFC 8259), and events that carry it.
//!
//! Strings are read without their escapes, whatever stands around them as it is. Keeps the path to a value only where a rule or
//! a stream of deltas needs it. What is no JSON reads as text.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::Range;

use super::loose::{self, Written};
use crate::mask::flow::{How, Sink};
use crate::mask::plan::PlaceId;
use crate::mask::rule::JsonStep;

/// Containers whose path is kept; what is deeper has none.
const DEPTH_MAX: usize = 64;

/// Longest name of a member that can be in a path, in bytes.
const NAME_BYTES_MAX: usize = 256;

/// Members that tell a text in deltas, as the model APIs have them.
const DELTAS: &[&[u8]] = &[
    b"content",
    b"text",
    b"arguments",
    b"partial_json",
    b"delta",
    b"input",
    b"reasoning",
    b"reasoning_content",
    b"refusal",
    b"thinking",
    b"transcript",
];

/// A member that tells which of several texts a delta belongs to.
const INDEX: &[u8] = b"index";

#[derive(Debug, Default)]
struct Level {
    is_array: bool,
    /// In an array, of the element at hand.
    index: usize,
    /// In an object, of the member at hand.
    name: Vec<u8>,
}

/// What is read at the moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Within {
    #[default]
    Nothing,
    Name,
    Value,
    Number,
}

/// The state of a reader.
#[derive(Debug, Default)]
pub(in crate::mask) struct Json {
    within: Within,
    levels: Vec<Level>,
    deeper: usize,
    /// A name is expected, not a value.
    expects_name: bool,
    /// The value at hand is one that a rule is about.
    is_placed: bool,
    /// The newest `index`.
    index: u64,
    /// In a stream of events, what kind of line is read.
    line: Line,
}

/// A line of a stream of events.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Line {
    /// It has not begun, or there are none.
    #[default]
    None,
    /// Data, which is JSON.
    Data,
    /// Anything else.
    Other,
}

impl Json {
    /// Reads a range; up to where.
    pub(super) fn read(&mut self, all: &[u8], range: Range<usize>, ends: bool, sink: &mut Sink<'_>) -> usize {
        let tracks = self.line == Line::Data || !sink.plan.paths.is_empty();
        let mut at = range.start;
        while at < range.end {
            let rest = all.get(at..range.end).unwrap_or_default();
            let read = match self.within {
                Within::Name | Within::Value => self.string(rest, at, ends, sink),
                Within::Nothing | Within::Number if tracks => self.structure(rest, at, sink),
                Within::Nothing | Within::Number => self.outside(rest, at, sink),
            };
            if read == 0 {
                break;
            }
            at += read;
        }
        at
    }

    /// What is no string, up to the next one.
    fn outside(&mut self, rest: &[u8], at: usize, sink: &mut Sink<'_>) -> usize {
        let len = rest.iter().position(|byte| *byte == b'"').map_or(rest.len(), |at| at + 1);
        sink.plain(rest.get(..len).unwrap_or_default(), at, How::Number);
        if rest.get(len - 1) == Some(&b'"') {
            self.within = Within::Value;
        }
        len
    }

    /// Some bytes of a string; 0 where more is needed.
    fn string(&mut self, rest: &[u8], at: usize, ends: bool, sink: &mut Sink<'_>) -> usize {
        let plain = rest.iter().position(|byte| matches!(byte, b'"' | b'\\')).unwrap_or(rest.len());
        if plain > 0 {
            let text = rest.get(..plain).unwrap_or_default();
            sink.plain(text, at, How::Plain);
            self.named(text);
            return plain;
        }
        if rest.first() == Some(&b'"') {
            self.close(sink);
            sink.plain(b"\"", at, How::Plain);
            return 1;
        }
        let (len, letter) = match (loose::letter(rest), rest) {
            (Some(Written::Letter(len, letter)), _) => (len, letter),
            (Some(Written::More), _) if !ends => return 0,
            (_, [_, escaped, ..]) => (2, unescaped(*escaped)),
            _ => (1, '\\'),
        };
        let mut text = [0; 4];
        let text = letter.encode_utf8(&mut text).as_bytes();
        sink.written(text, at, len, How::Escape);
        self.named(text);
        len
    }

    fn named(&mut self, text: &[u8]) {
        if let (Within::Name, Some(level)) = (self.within, self.levels.last_mut())
            && level.name.len() + text.len() <= NAME_BYTES_MAX
        {
            level.name.extend_from_slice(text);
        }
    }

    /// One piece outside of strings, with the path kept.
    fn structure(&mut self, rest: &[u8], at: usize, sink: &mut Sink<'_>) -> usize {
        let Some(byte) = rest.first().copied() else { return 0 };
        if self.within == Within::Number && !is_scalar(byte) {
            self.close(sink);
        }
        match byte {
            b'{' | b'[' => self.open(byte == b'['),
            b'}' | b']' => {
                if self.deeper > 0 {
                    self.deeper -= 1;
                } else {
                    self.levels.pop();
                }
                self.expects_name = false;
            }
            b',' => match self.levels.last_mut() {
                Some(level) if level.is_array => level.index += 1,
                Some(_) => self.expects_name = true,
                None => {}
            },
            b':' => self.expects_name = false,
            b'"' => {
                sink.plain(b"\"", at, How::Plain);
                self.begin_string(sink);
                return 1;
            }
            byte if is_scalar(byte) => {
                let len = rest.iter().position(|byte| !is_scalar(*byte)).unwrap_or(rest.len());
                let text = rest.get(..len).unwrap_or_default();
                if self.within != Within::Number {
                    self.within = Within::Number;
                    self.begin_place(sink);
                    self.note_index(text);
                }
                sink.plain(text, at, How::Number);
                return len;
            }
            _ => {}
        }
        sink.plain(&[byte], at, How::Number);
        1
    }

    fn open(&mut self, is_array: bool) {
        if self.levels.len() >= DEPTH_MAX {
            self.deeper += 1;
        } else {
            self.levels.push(Level { is_array, ..Level::default() });
        }
        self.expects_name = !is_array;
    }

    fn begin_string(&mut self, sink: &mut Sink<'_>) {
        if self.expects_name && self.deeper == 0 {
            self.within = Within::Name;
            if let Some(level) = self.levels.last_mut() {
                level.name.clear();
            }
            return;
        }
        self.within = Within::Value;
        let name = self.levels.iter().rev().find(|level| !level.is_array).map(|level| level.name.as_slice());
        if let Some(name) = name.filter(|name| self.line == Line::Data && DELTAS.contains(name)) {
            let mut key = DefaultHasher::new();
            (name, self.index).hash(&mut key);
            sink.turn_to(key.finish().max(1));
        }
        self.begin_place(sink);
    }

    fn begin_place(&mut self, sink: &mut Sink<'_>) {
        if let Some(place) = self.place(sink) {
            self.is_placed = true;
            sink.begin(place);
        }
    }

    /// The value at hand has ended.
    fn close(&mut self, sink: &mut Sink<'_>) {
        if std::mem::take(&mut self.is_placed) {
            sink.end();
        }
        if self.within == Within::Value {
            sink.turn_to(0);
        }
        self.within = Within::Nothing;
    }

    fn note_index(&mut self, text: &[u8]) {
        if self.levels.last().is_some_and(|level| !level.is_array && level.name == INDEX) {
            let digits = text.iter().take_while(|byte| byte.is_ascii_digit());
            self.index = digits.fold(0, |value, digit| (value * 10 + u64::from(digit - b'0')) % 1_000_000);
        }
    }

    fn place(&self, sink: &Sink<'_>) -> Option<PlaceId> {
        if self.deeper > 0 {
            return None;
        }
        sink.plan.paths.iter().find(|(path, _)| matches(path, &self.levels)).map(|(_, place)| *place)
    }

    /// Reads an event stream (WHATWG HTML section 9.2); up to where. Each `data` line is JSON of its own.
    pub(super) fn events(&mut self, all: &[u8], from: usize, ends: bool, sink: &mut Sink<'_>) -> usize {
        let mut at = from;
        while at < all.len() {
            let rest = all.get(at..).unwrap_or_default();
            if self.line == Line::None {
                const DATA: &[u8] = b"data:";
                if rest.len() < DATA.len() && DATA.starts_with(rest) && !ends {
                    return at;
                }
                if rest.starts_with(DATA) {
                    *self = Self { line: Line::Data, ..Self::default() };
                    sink.plain(DATA, at, How::Plain);
                    at += DATA.len();
                    continue;
                }
                self.line = Line::Other;
            }
            let line = rest.iter().position(|byte| *byte == b'\n').map(|newline| newline + 1);
            let end = at + line.unwrap_or(rest.len());
            let whole = ends || line.is_some();
            let to = if self.line == Line::Data {
                self.read(all, at..end, whole, sink)
            } else {
                loose::read(all, at..end, whole, sink)
            };
            if line.is_some() {
                self.close(sink);
                self.line = Line::None;
            }
            if to < end {
                return to;
            }
            at = end;
        }
        at
    }
}

/// Letters of numbers, `true`, `false` and `null`; and of whatever is no JSON.
fn is_scalar(byte: u8) -> bool {
    !matches!(byte, b'{' | b'}' | b'[' | b']' | b',' | b':' | b'"' | b' ' | b'\t' | b'\r' | b'\n')
}

fn unescaped(escaped: u8) -> char {
    match escaped {
        b'n' => '\n',
        b'r' => '\r',
        b't' => '\t',
        b'b' => '\u{8}',
        b'f' => '\u{c}',
        other => char::from(other),
    }
}

fn matches(path: &[JsonStep], levels: &[Level]) -> bool {
    match (path, levels) {
        ([], []) => true,
        ([JsonStep::Deep, rest @ ..], _) => (0..=levels.len()).any(|at| matches(rest, levels.get(at..).unwrap_or(&[]))),
        ([step, rest @ ..], [level, inner @ ..]) => {
            let fits = match step {
                JsonStep::Key(name) => !level.is_array && level.name == name.as_bytes(),
                JsonStep::Every => true,
                JsonStep::At(index) => level.is_array && level.index == *index,
                JsonStep::Deep => false,
            };
            fits && matches(rest, inner)
        }
        _ => false,
    }
}
