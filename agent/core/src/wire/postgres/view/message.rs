//! Bodies of single messages.
//!
//! Owns their fields. Never knows which side sent one: where two kinds share a letter, only one of them fits.

use super::super::frame::Frame;
use super::super::media::{Field, Media};
use super::super::value;
use super::{Report, WORD_BYTES_MAX, Words};
use crate::wire::cursor::Cursor;

/// Bytes up to a NUL, which is read too.
pub fn string<'b>(cursor: &mut Cursor<'b>) -> Option<&'b [u8]> {
    let len = cursor.rest().iter().position(|byte| *byte == 0)?;
    let text = cursor.take(len)?;
    cursor.u8()?;
    Some(text)
}

pub fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A list behind a 16-bit count.
fn list<'b, T>(cursor: &mut Cursor<'b>, mut item: impl FnMut(&mut Cursor<'b>) -> Option<T>) -> Option<Vec<T>> {
    let count = cursor.u16()?;
    (0..count).map(|_| item(cursor)).collect()
}

/// Values with their 32-bit lengths; `None` is NULL.
pub type Values<'b> = Vec<Option<&'b [u8]>>;

fn values<'b>(cursor: &mut Cursor<'b>) -> Option<Values<'b>> {
    list(cursor, |cursor| match cursor.u32()? {
        u32::MAX => Some(None),
        len => cursor.take(usize::try_from(len).ok()?).map(Some),
    })
}

/// The fields of a `DataRow`.
pub fn row(body: &[u8]) -> Option<Values<'_>> {
    let mut cursor = Cursor::new(body);
    let row = values(&mut cursor)?;
    cursor.is_empty().then_some(row)
}

/// Names, types and formats of a `RowDescription`.
pub fn description(body: &[u8]) -> Option<Vec<(String, Field)>> {
    let mut cursor = Cursor::new(body);
    let columns = list(&mut cursor, |cursor| {
        let name = lossy(string(cursor)?);
        // Table, column in it; type; length, modifier; format.
        cursor.take(6)?;
        let oid = cursor.u32()?;
        cursor.take(6)?;
        Some((name, Field { oid, binary: cursor.u16()? == 1 }))
    })?;
    cursor.is_empty().then_some(columns)
}

/// A value of a Bind, and how it is written; `None` is NULL.
pub type Bound<'b> = (Field, Option<&'b [u8]>);

/// The values of a Bind, with how each is written.
pub fn bind<'b>(body: &'b [u8], media: &Media) -> Option<Vec<Bound<'b>>> {
    let mut cursor = Cursor::new(body);
    string(&mut cursor)?;
    string(&mut cursor)?;
    let formats = list(&mut cursor, Cursor::u16)?;
    let values = values(&mut cursor)?;
    let field = |at: usize| {
        let format = if formats.len() == 1 { formats.first() } else { formats.get(at) };
        let told = media.parameters.get(at);
        Field { oid: told.map_or(0, |told| told.oid), binary: format.is_some_and(|format| *format == 1) }
    };
    Some(values.into_iter().enumerate().map(|(at, value)| (field(at), value)).collect())
}

/// The name and text of a Parse.
pub fn parse(body: &[u8]) -> Option<(String, String)> {
    let mut cursor = Cursor::new(body);
    Some((lossy(string(&mut cursor)?), lossy(string(&mut cursor)?)))
}

/// The text of a message that is one string.
pub fn text(body: &[u8]) -> Option<String> {
    let (text, end) = body.split_at_checked(body.len().checked_sub(1)?)?;
    (end == [0] && !text.contains(&0)).then(|| lossy(text))
}

/// An `ErrorResponse` or `NoticeResponse`.
pub fn report(body: &[u8]) -> Option<Report> {
    let mut report = Report::default();
    let mut cursor = Cursor::new(body);
    loop {
        let code = cursor.u8()?;
        if code == 0 {
            return (cursor.is_empty() && !report.message.is_empty()).then_some(report);
        }
        let text = lossy(string(&mut cursor)?);
        match code {
            b'S' if report.severity.is_empty() => report.severity = text,
            b'V' => report.severity = text,
            b'C' => report.code = text,
            b'M' => report.message = text,
            b'D' => report.detail = Some(text),
            b'H' => report.hint = Some(text),
            b'W' => report.context = Some(text),
            _ => {}
        }
    }
}

/// Process, channel and payload of a `NotificationResponse`.
pub fn notification(body: &[u8]) -> Option<(u32, String, String)> {
    let mut cursor = Cursor::new(body);
    Some((cursor.u32()?, lossy(string(&mut cursor)?), lossy(string(&mut cursor)?)))
}

/// Adds the texts of one message.
pub fn words(frame: Frame<'_>, media: &Media, words: &mut Words) {
    let add = |words: &mut Words, text: Option<String>| words.add(&text.unwrap_or_default());
    let report_of = |words: &mut Words, report: Report| {
        let Report { code, message, detail, hint, context, .. } = report;
        for text in [Some(code), Some(message), detail, hint, context].into_iter().flatten() {
            words.add(&text);
        }
    };
    match frame.tag {
        b'P' => add(words, parse(frame.body).map(|(_, text)| text)),
        b'B' => {
            for (field, value) in bind(frame.body, media).unwrap_or_default() {
                words.add(&value.map(|value| value::text(field, value, WORD_BYTES_MAX)).unwrap_or_default());
            }
        }
        b'D' => {
            for (at, value) in row(frame.body).unwrap_or_default().into_iter().enumerate() {
                let field = media.columns.get(at).copied().unwrap_or(Field { oid: 0, binary: false });
                words.add(&value.map(|value| value::text(field, value, WORD_BYTES_MAX)).unwrap_or_default());
            }
        }
        b'T' => {
            for (name, _) in description(frame.body).unwrap_or_default() {
                words.add(&name);
            }
        }
        b'E' | b'N' => report(frame.body).into_iter().for_each(|report| report_of(words, report)),
        b'Q' | b'C' | b'f' => add(words, text(frame.body)),
        b'A' => {
            for text in notification(frame.body).into_iter().flat_map(|(_, channel, payload)| [channel, payload]) {
                words.add(&text);
            }
        }
        b'd' => words.raw(frame.body),
        _ => {}
    }
}
