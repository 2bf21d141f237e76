//! `PostgreSQL`'s messages (chapter 55): texts, cells and values are fields, lengths and counts are not.
//!
//! Reads what the wire's own parsers have passed, and does not rely on it: what breaks the framing is read as loose text.

use std::ops::Range;

use super::loose;
use crate::mask::flow::{How, Sink};
use crate::mask::plan::PlaceId;
use crate::wire::postgres::media::{Field, Media};

/// Tag and length.
const HEADER_BYTES: usize = 5;

/// Largest description of rows or values that is read whole for the names and forms in it, in bytes.
const WHOLE_BYTES_MAX: usize = 1024 * 1024;

/// Largest value in a number's binary form, in bytes.
const NUMBER_BYTES_MAX: usize = 4096;

/// Types that read as numbers: int8, int2, int4, oid, float4, float8, numeric.
const NUMBERS: [u32; 7] = [20, 21, 23, 26, 700, 701, 1700];
const INTEGERS: [u32; 4] = [20, 21, 23, 26];
const NUMERIC: u32 = 1700;

#[derive(Clone, Copy, Debug, Default)]
enum At {
    /// Before a message.
    #[default]
    Header,
    /// So many bytes of text; a field of its own, or one that goes on in the next message.
    Text { left: usize, goes_on: bool },
    /// So many bytes that are none.
    Skip { left: usize },
    /// In a row: bytes of the message, columns that follow, and which one is next.
    Row { left: usize, columns: usize, column: usize },
    /// In a cell: the same, and bytes of the cell.
    Cell { left: usize, columns: usize, column: usize, cell: usize },
    /// The framing is broken.
    Lost,
}

#[derive(Debug)]
pub(in crate::mask) struct Frames {
    at: At,
    media: Media,
    /// Places that rules are about, by column.
    places: Vec<Option<PlaceId>>,
}

impl Frames {
    pub(super) fn new(media_type: &str) -> Self {
        let media = Media::parse(media_type).unwrap_or_default();
        Self { at: At::default(), media, places: Vec::new() }
    }

    pub(super) fn describe(&mut self, media_type: &str) {
        if let Some(media) = Media::parse(media_type) {
            self.media = media;
        }
    }

    pub(super) fn read(&mut self, all: &[u8], from: usize, ends: bool, sink: &mut Sink<'_>) -> usize {
        let mut at = from;
        while at < all.len() {
            let rest = all.get(at..).unwrap_or_default();
            let read = match self.at {
                At::Header => self.header(all, at, sink),
                At::Text { left, goes_on } => self.text(all, at, (left, goes_on), ends, sink),
                At::Skip { left } => {
                    let len = left.min(rest.len());
                    self.at = if len == left { At::Header } else { At::Skip { left: left - len } };
                    Some(len)
                }
                At::Row { left, columns, column } => self.row(rest, (left, columns, column)),
                At::Cell { left, columns, column, cell } => {
                    self.cell(all, at, (left, columns, column, cell), ends, sink)
                }
                At::Lost => Some(loose::read(all, at..all.len(), ends, sink) - at).filter(|read| *read > 0),
            };
            match read {
                Some(read) => at += read,
                None if !ends => return at,
                // More is needed, and there is none: what is left is shown as text.
                None => return loose::read(all, at..all.len(), true, sink),
            }
        }
        at
    }

    /// The beginning of a message; none where more is needed.
    fn header(&mut self, all: &[u8], at: usize, sink: &mut Sink<'_>) -> Option<usize> {
        let rest = all.get(at..)?;
        let [tag, a, b, c, d] = rest.first_chunk::<HEADER_BYTES>()?;
        let left = usize::try_from(u32::from_be_bytes([*a, *b, *c, *d])).ok().and_then(|len| len.checked_sub(4));
        let Some(left) = left else {
            self.at = At::Lost;
            return Some(0);
        };
        let body = rest.get(HEADER_BYTES..HEADER_BYTES + left);
        if *tag != b'd' {
            sink.cut();
        }
        self.at = match (tag, body) {
            (b'D', _) if left >= 2 => {
                let count = rest.get(HEADER_BYTES..)?.first_chunk::<2>()?;
                let columns = usize::from(u16::from_be_bytes(*count));
                self.at = At::Row { left: left - 2, columns, column: 0 };
                return Some(HEADER_BYTES + 2);
            }
            (b'T', Some(body)) => {
                self.places = names(body).map(|name| sink.plan.columns.get(&name).copied()).collect();
                At::Skip { left }
            }
            (b'T', None) if left <= WHOLE_BYTES_MAX && !sink.plan.columns.is_empty() => return None,
            (b'B', Some(_)) => match self.bind(all, at + HEADER_BYTES..at + HEADER_BYTES + left, sink) {
                Some(()) => At::Skip { left },
                None => At::Text { left, goes_on: false },
            },
            (b'B', None) if left <= WHOLE_BYTES_MAX => return None,
            (b'K' | b'R' | b'Z' | b'T', _) => At::Skip { left },
            (b'd', _) => At::Text { left, goes_on: true },
            _ => At::Text { left, goes_on: false },
        };
        Some(HEADER_BYTES)
    }

    fn text(
        &mut self,
        all: &[u8],
        at: usize,
        (left, goes_on): (usize, bool),
        ends: bool,
        sink: &mut Sink<'_>,
    ) -> Option<usize> {
        let end = all.len().min(at + left);
        let whole = end == at + left;
        let read = loose::read(all, at..end, ends || whole, sink) - at;
        self.at = At::Text { left: left - read, goes_on };
        if read == left {
            self.at = At::Header;
            if !goes_on {
                sink.cut();
            }
        }
        (read > 0 || left == 0).then_some(read)
    }

    /// The length of the next cell.
    fn row(&mut self, rest: &[u8], (left, columns, column): (usize, usize, usize)) -> Option<usize> {
        if columns == 0 || left < 4 {
            self.at = if left == 0 { At::Header } else { At::Text { left, goes_on: false } };
            return Some(0);
        }
        let len = rest.first_chunk::<4>()?;
        let (left, columns) = (left - 4, columns - 1);
        self.at = match i32::from_be_bytes(*len) {
            len if len > 0 && usize::try_from(len).is_ok_and(|len| len <= left) => {
                let cell = usize::try_from(len).unwrap_or_default();
                At::Cell { left: left - cell, columns, column, cell }
            }
            _ => At::Row { left, columns, column: column + 1 },
        };
        Some(4)
    }

    fn cell(
        &mut self,
        all: &[u8],
        at: usize,
        (left, columns, column, cell): (usize, usize, usize, usize),
        ends: bool,
        sink: &mut Sink<'_>,
    ) -> Option<usize> {
        let field = self.media.columns.get(column).copied();
        let place = self.places.get(column).copied().flatten();
        let end = all.len().min(at + cell);
        let is_whole = end == at + cell;
        // A value that rules are about, and a number, is looked at as a whole.
        if !is_whole && !ends && (place.is_some() || is_number(field)) && cell <= WHOLE_BYTES_MAX {
            return None;
        }
        let read = if is_whole {
            value(all, at..end, field, place, sink);
            sink.cut();
            cell
        } else {
            loose::read(all, at..end, ends, sink) - at
        };
        self.at = if read == cell {
            At::Row { left, columns, column: column + 1 }
        } else {
            At::Cell { left, columns, column, cell: cell - read }
        };
        (read > 0).then_some(read)
    }

    /// The values of a Bind; none where it is not one.
    fn bind(&self, all: &[u8], body: Range<usize>, sink: &mut Sink<'_>) -> Option<()> {
        let bytes = all.get(..body.end)?;
        let mut at = body.start;
        // The names of its portal and its statement.
        for _ in 0..2 {
            at += bytes.get(at..)?.iter().position(|byte| *byte == 0)? + 1;
        }
        let count = |at: usize| Some(usize::from(u16::from_be_bytes(*bytes.get(at..)?.first_chunk::<2>()?)));
        at += 2 + 2 * count(at)?;
        let values = count(at)?;
        at += 2;
        let mut found = Vec::new();
        for parameter in 0..values {
            let len = i32::from_be_bytes(*bytes.get(at..)?.first_chunk::<4>()?);
            at += 4;
            let Ok(len) = usize::try_from(len) else { continue };
            bytes.get(at..at + len)?;
            found.push((at..at + len, self.media.parameters.get(parameter).copied()));
            at += len;
        }
        for (range, field) in found {
            value(all, range, field, None, sink);
            sink.cut();
        }
        Some(())
    }
}

/// One whole value.
fn value(all: &[u8], range: Range<usize>, field: Option<Field>, place: Option<PlaceId>, sink: &mut Sink<'_>) {
    if let Some(place) = place {
        sink.begin(place);
    }
    let bytes = all.get(range.clone()).unwrap_or_default();
    match field {
        Some(Field { oid, binary: true }) if INTEGERS.contains(&oid) && bytes.len() <= 8 => {
            let wide = bytes.iter().fold(0u64, |value, byte| value << 8 | u64::from(*byte));
            sink.written(wide.to_string().as_bytes(), range.start, bytes.len(), How::Integer);
        }
        Some(Field { oid: NUMERIC, binary: true }) if bytes.len() <= NUMBER_BYTES_MAX => {
            sink.written(numeric(bytes).as_bytes(), range.start, bytes.len(), How::Numeric);
        }
        Some(Field { oid, binary: false }) if NUMBERS.contains(&oid) => {
            sink.plain(bytes, range.start, How::Number);
        }
        _ => {
            loose::read(all, range, true, sink);
        }
    }
    if place.is_some() {
        sink.end();
    }
}

fn is_number(field: Option<Field>) -> bool {
    field.is_some_and(|field| field.binary && NUMBERS.contains(&field.oid))
}

/// The whole digits of a numeric in binary.
fn numeric(bytes: &[u8]) -> String {
    let groups: Vec<u16> =
        bytes.chunks_exact(2).filter_map(|two| two.first_chunk().map(|two| u16::from_be_bytes(*two))).collect();
    let Some([count, weight, _, _]) = groups.first_chunk::<4>() else { return String::new() };
    let wanted = usize::from(*weight).saturating_add(1).min(NUMBER_BYTES_MAX);
    // A negative weight has no whole digits.
    let wanted = if *weight > 0x7fff { 0 } else { wanted };
    let digits = groups.iter().skip(4).take(usize::from(*count)).copied().chain(std::iter::repeat(0)).take(wanted);
    let text = digits.fold(String::new(), |text, group| text + &format!("{group:04}"));
    text.trim_start_matches('0').to_owned()
}

/// Names of the columns in a description of rows, in lower case.
fn names(body: &[u8]) -> impl Iterator<Item = String> {
    const BEHIND_NAME: usize = 18;
    let mut rest = body.get(2..).unwrap_or_default();
    std::iter::from_fn(move || {
        let end = rest.iter().position(|byte| *byte == 0)?;
        let name = String::from_utf8_lossy(rest.get(..end)?).to_lowercase();
        rest = rest.get(end + 1 + BEHIND_NAME..).unwrap_or_default();
        Some(name)
    })
}
