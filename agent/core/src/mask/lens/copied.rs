//! Rows of COPY, cut into columns where rules are about them: text, and CSV with its quotes.
//!
//! Never looks at a row whose columns nobody has named.

use std::ops::Range;

use super::loose;
use crate::mask::flow::{How, Sink};
use crate::mask::plan::PlaceId;
use crate::wire::postgres::facts::Form;

/// Where in a row the next byte is.
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own, and most pairs of them occur")]
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Copied {
    column: usize,
    /// Bytes of the field have gone.
    begun: bool,
    /// Within quotes.
    is_quoted: bool,
    /// Behind a backslash.
    is_escaped: bool,
    /// The field at hand is one that a rule is about.
    is_placed: bool,
}

impl Copied {
    /// Reads a range of data; up to where. `ends`: nothing more comes that belongs to it.
    pub(super) fn read(
        &mut self,
        all: &[u8],
        range: Range<usize>,
        (form, places): (Form, &[Option<PlaceId>]),
        ends: bool,
        sink: &mut Sink<'_>,
    ) -> usize {
        let mut at = range.start;
        while at < range.end {
            let rest = all.get(at..range.end).unwrap_or_default();
            let Some(first) = rest.first().copied() else { break };
            if !self.begun {
                // What stands for no value is told by its third byte.
                if first == b'\\' && rest.len() < 3 && !ends {
                    return at;
                }
                self.begun = true;
                if form.quoted && first == b'"' {
                    sink.plain(b"\"", at, How::Plain);
                    (self.is_quoted, at) = (true, at + 1);
                    self.place(places, sink);
                    continue;
                }
                // What stands for no value stays readable as that.
                let is_null = rest.starts_with(b"\\N") && rest.get(2).is_none_or(|next| self.parts(form, *next));
                if !is_null && !self.parts(form, first) {
                    self.place(places, sink);
                }
            }
            if form.quoted && self.is_quoted && first == b'"' {
                match rest.get(1) {
                    Some(b'"') => {
                        sink.plain(b"\"\"", at, How::Plain);
                        at += 2;
                        continue;
                    }
                    None if !ends => return at,
                    _ => {
                        self.end(sink);
                        self.is_quoted = false;
                    }
                }
            } else if self.parts(form, first) {
                self.end(sink);
                self.begun = false;
                self.column = if first == b'\n' { 0 } else { self.column + 1 };
            }
            let was_escaped = self.is_escaped;
            self.is_escaped = !form.quoted && !self.is_escaped && first == b'\\';
            let stops = |byte: &u8| matches!(byte, b'\n' | b'"' | b'\\') || *byte == form.delimiter;
            let len = 1 + rest.iter().skip(1).position(stops).unwrap_or(rest.len() - 1);
            let is_field = self.begun && first != b'"';
            let len = if is_field { len } else { 1 };
            let read = loose::read(all, at..at + len, ends || at + len < range.end, sink);
            if read == at {
                self.is_escaped = was_escaped;
                return at;
            }
            // What follows a backslash stands for a letter.
            if len > 1 {
                self.is_escaped = false;
            }
            at = read;
        }
        at
    }

    fn parts(&self, form: Form, byte: u8) -> bool {
        !self.is_quoted && !self.is_escaped && (byte == b'\n' || byte == form.delimiter)
    }

    fn place(&mut self, places: &[Option<PlaceId>], sink: &mut Sink<'_>) {
        if let Some(place) = places.get(self.column).copied().flatten() {
            self.is_placed = true;
            sink.begin(place);
        }
    }

    fn end(&mut self, sink: &mut Sink<'_>) {
        if std::mem::take(&mut self.is_placed) {
            sink.end();
        }
    }

    /// The data is complete.
    pub(super) fn finish(&mut self, sink: &mut Sink<'_>) {
        self.end(sink);
        *self = Self::default();
    }
}
