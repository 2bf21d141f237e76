//! `PostgreSQL`'s messages (chapter 55): texts, cells and values are fields, lengths and counts are not.
//!
//! Reads what the wire's own parsers have passed, and does not rely on it: what breaks the framing is read as loose text.

use std::ops::Range;

use super::copied::Copied;
use super::{loose, statement};
use crate::mask::flow::{How, Sink};
use crate::mask::plan::PlaceId;
use crate::wire::postgres::media::{Field, Media};

/// Tag and length.
const HEADER_BYTES: usize = 5;

/// Largest description of rows or values that is read whole for the names and forms in it, in bytes.
const WHOLE_BYTES_MAX: usize = 512 * 1024;

/// Largest number that is read as one, in bytes.
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
    /// In a cell: the same, bytes of the cell, and whether some of them have gone.
    Cell { left: usize, columns: usize, column: usize, cell: usize, begun: bool },
    /// The framing is broken.
    Lost,
}

#[derive(Debug)]
pub(in crate::mask) struct Frames {
    at: At,
    media: Media,
    /// Places that rules are about, by column.
    places: Vec<Option<PlaceId>>,
    /// They are those of the description that came last; else the media type's names say them.
    is_placed: bool,
    copied: Copied,
}

impl Frames {
    pub(super) fn new(media_type: &str) -> Self {
        let media = Media::parse(media_type).unwrap_or_default();
        Self { at: At::default(), media, places: Vec::new(), is_placed: false, copied: Copied::default() }
    }

    pub(super) fn describe(&mut self, media_type: &str) {
        if let Some(media) = Media::parse(media_type) {
            self.is_placed &= media.names.is_empty();
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
                At::Cell { left, columns, column, cell, begun } => {
                    self.cell(all, at, (left, columns, column, cell, begun), ends, sink)
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
        if *tag == b'd' {
            self.place(sink);
        } else {
            self.copied.finish(sink);
            sink.cut();
        }
        self.at = match (tag, body) {
            (b'D', _) if left >= 2 => {
                let count = rest.get(HEADER_BYTES..)?.first_chunk::<2>()?;
                let columns = usize::from(u16::from_be_bytes(*count));
                self.place(sink);
                self.at = At::Row { left: left - 2, columns, column: 0 };
                return Some(HEADER_BYTES + 2);
            }
            (b'T', Some(body)) => {
                self.places = names(body).map(|name| sink.plan.columns.get(&name).copied()).collect();
                self.is_placed = true;
                described(all, at + HEADER_BYTES..at + HEADER_BYTES + left, sink);
                At::Skip { left }
            }
            (b'T' | b'B', None) if left <= WHOLE_BYTES_MAX => return None,
            (b'B', Some(_)) => match self.bind(all, at + HEADER_BYTES..at + HEADER_BYTES + left, sink) {
                Some(()) => At::Skip { left },
                None => At::Text { left, goes_on: false },
            },
            (b'Q' | b'P', Some(body)) if sink.plan.has_columns() => {
                let sql = sql_in(*tag, body);
                let from = at + HEADER_BYTES;
                loose::read(all, from..from + sql.start, true, sink);
                statement(all, from + sql.start..from + sql.end, sink);
                sink.cut();
                At::Skip { left }
            }
            (b'Q' | b'P', None) if left <= WHOLE_BYTES_MAX && sink.plan.has_columns() => return None,
            (b'K' | b'R' | b'Z' | b'T', _) => At::Skip { left },
            (b'd', _) => At::Text { left, goes_on: true },
            _ => At::Text { left, goes_on: false },
        };
        Some(HEADER_BYTES)
    }

    /// Columns of what comes next, where its description is not what said them.
    fn place(&mut self, sink: &Sink<'_>) {
        if !self.is_placed && !self.media.names.is_empty() {
            let names = self.media.names.iter();
            self.places = names.map(|name| sink.plan.columns.get(&name.to_lowercase()).copied()).collect();
            self.is_placed = true;
        }
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
        let read = match self.media.copied.filter(|_| goes_on) {
            Some(form) => self.copied.read(all, at..end, (form, &self.places), ends || whole, sink),
            None => loose::read(all, at..end, ends || whole, sink),
        } - at;
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
                At::Cell { left: left - cell, columns, column, cell, begun: false }
            }
            _ => At::Row { left, columns, column: column + 1 },
        };
        Some(4)
    }

    fn cell(
        &mut self,
        all: &[u8],
        at: usize,
        (left, columns, column, cell, begun): (usize, usize, usize, usize, bool),
        ends: bool,
        sink: &mut Sink<'_>,
    ) -> Option<usize> {
        let field = self.media.columns.get(column).copied();
        let place = self.places.get(column).copied().flatten();
        let end = all.len().min(at + cell);
        let is_whole = end == at + cell;
        // A number is looked at as a whole.
        if !is_whole && !begun && !ends && is_number(field, cell) {
            return None;
        }
        let read = if is_whole && !begun {
            value(all, at..end, field, place, sink);
            cell
        } else {
            if let Some(place) = place.filter(|_| !begun) {
                sink.begin(place);
            }
            loose::read(all, at..end, ends || is_whole, sink) - at
        };
        if read < cell {
            self.at = At::Cell { left, columns, column, cell: cell - read, begun: true };
            return (read > 0).then_some(read);
        }
        if place.is_some() {
            sink.end();
        }
        sink.cut();
        self.at = At::Row { left, columns, column: column + 1 };
        Some(read)
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
            let name = self.media.names.get(parameter).map(|name| name.to_lowercase());
            let place = name.and_then(|name| sink.plan.columns.get(&name).copied());
            found.push((at..at + len, self.media.parameters.get(parameter).copied(), place));
            at += len;
        }
        for (range, field, place) in found {
            value(all, range, field, place, sink);
            sink.cut();
        }
        Some(())
    }
}

/// Where the text of a Query or a Parse is: behind the name of the latter.
fn sql_in(tag: u8, body: &[u8]) -> Range<usize> {
    let behind_name = body.iter().position(|byte| *byte == 0).map_or(0, |at| at + 1);
    let begins = if tag == b'P' { behind_name } else { 0 };
    let rest = body.get(begins..).unwrap_or_default();
    begins..begins + rest.iter().position(|byte| *byte == 0).unwrap_or(rest.len())
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
        Some(Field { oid, binary: false }) if NUMBERS.contains(&oid) && bytes.len() <= NUMBER_BYTES_MAX => {
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

fn is_number(field: Option<Field>, bytes: usize) -> bool {
    bytes <= NUMBER_BYTES_MAX && field.is_some_and(|field| NUMBERS.contains(&field.oid))
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

/// What stands behind the name of a column in a description of rows, in bytes.
const BEHIND_NAME: usize = 18;

/// Reads the names in a description of rows, which a statement can make up.
fn described(all: &[u8], body: Range<usize>, sink: &mut Sink<'_>) {
    let mut at = body.start + 2;
    while at < body.end {
        let rest = all.get(at..body.end).unwrap_or_default();
        let Some(len) = rest.iter().position(|byte| *byte == 0) else { break };
        loose::read(all, at..at + len, true, sink);
        sink.cut();
        at += len + 1 + BEHIND_NAME;
    }
}

/// Names of the columns in a description of rows, in lower case.
fn names(body: &[u8]) -> impl Iterator<Item = String> {
    let mut rest = body.get(2..).unwrap_or_default();
    std::iter::from_fn(move || {
        let end = rest.iter().position(|byte| *byte == 0)?;
        let name = String::from_utf8_lossy(rest.get(..end)?).to_lowercase();
        rest = rest.get(end + 1 + BEHIND_NAME..).unwrap_or_default();
        Some(name)
    })
}
