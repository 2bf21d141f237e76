//! Frames of both sides, message by message, into what is shown.
//!
//! Owns what must be kept between messages: the description of a result, a frame that was cut, what may still be shown.
//! Never keeps more than the bounds say.

use super::super::frame::{Frame, Frames, Header};
use super::super::media::{Field, Media};
use super::super::value;
use super::message::{self, Values};
use super::{Bounds, Column, Piece, Shown};
use crate::session::Side;
use crate::view::hexadecimal;

/// Bytes that a value takes of the bound beyond its text.
const VALUE_COST_BYTES: usize = 8;

/// What was read so far.
pub struct Reading<'c> {
    names: &'c [String],
    bounds: Bounds,
    /// Bytes that may still be shown.
    left: usize,
    shown: Vec<Shown>,
    described: Option<Vec<(String, Field)>>,
    /// The last of `shown` takes the next row.
    open: bool,
    /// A frame of each side whose end has not come.
    cut: [Cut; 2],
}

#[derive(Default)]
struct Cut {
    bytes: Vec<u8>,
    /// Bytes of the whole frame; 0 when none is cut.
    len: usize,
    /// Bytes of it that came.
    come: usize,
}

impl<'c> Reading<'c> {
    pub fn new(names: &'c [String], bounds: Bounds) -> Self {
        let cut = [Cut::default(), Cut::default()];
        Self { names, bounds, left: bounds.bytes, shown: Vec::new(), described: None, open: false, cut }
    }

    pub fn finish(self) -> Vec<Shown> {
        self.shown
    }

    pub fn piece(&mut self, piece: Piece<'_>) {
        let Some(media) = Media::parse(piece.media_type) else { return };
        let mut bytes = piece.bytes;
        if media.continued {
            bytes = self.continues(piece.side, &media, bytes);
        }
        let mut frames = Frames::new(bytes);
        for frame in frames.by_ref() {
            self.message(piece.side, frame, &media);
        }
        if let Ok(Some(Header { len, .. })) = Header::read(frames.rest()) {
            let rest = frames.rest();
            let kept = rest.get(..self.bounds.bytes).unwrap_or(rest).to_vec();
            *self.cut(piece.side) = Cut { bytes: kept, len, come: rest.len() };
        }
    }

    fn cut(&mut self, side: Side) -> &mut Cut {
        let [client, server] = &mut self.cut;
        if side == Side::Client { client } else { server }
    }

    /// Adds bytes to the frame that is cut; gives those behind it.
    fn continues<'b>(&mut self, side: Side, media: &Media, bytes: &'b [u8]) -> &'b [u8] {
        let max = self.bounds.bytes;
        let cut = self.cut(side);
        let wanted = cut.len.saturating_sub(cut.come);
        let (part, rest) = bytes.split_at_checked(wanted).unwrap_or((bytes, &[]));
        cut.come += part.len();
        let room = max.saturating_sub(cut.bytes.len());
        cut.bytes.extend_from_slice(part.get(..room).unwrap_or(part));
        if cut.come < cut.len || cut.len == 0 {
            return rest;
        }
        let cut = std::mem::take(cut);
        match Frames::new(&cut.bytes).next() {
            Some(frame) => self.message(side, frame, media),
            None => self.note(format!("a message of {} bytes is too large to be shown", cut.len)),
        }
        rest
    }

    fn message(&mut self, side: Side, frame: Frame<'_>, media: &Media) {
        match side {
            Side::Client => self.client(frame, media),
            Side::Server => self.server(frame, media),
        }
    }

    fn client(&mut self, frame: Frame<'_>, media: &Media) {
        match frame.tag {
            b'Q' => self.statement(message::text(frame.body)),
            b'P' => self.statement(message::parse(frame.body).map(|(_, text)| text)),
            b'B' => {
                let Some(bound) = message::bind(frame.body, media) else { return };
                if bound.is_empty() {
                    return;
                }
                let values = bound.into_iter().map(|(field, value)| self.value(field, value)).collect();
                self.show(Shown::Parameters { values });
            }
            b'd' => self.copy(Side::Client, frame.body),
            b'f' => self.note(format!("COPY fails: {}", message::text(frame.body).unwrap_or_default())),
            b'F' => self.note("a function is called by its number (fast path)".to_owned()),
            _ => {}
        }
    }

    fn server(&mut self, frame: Frame<'_>, media: &Media) {
        match frame.tag {
            b'T' => {
                self.described = message::description(frame.body);
                self.open = false;
            }
            b'D' => {
                let Some(row) = message::row(frame.body) else { return };
                self.row(&row, media);
            }
            b'C' => {
                let tag = message::text(frame.body).unwrap_or_default();
                // A result without rows has its table too.
                if self.described.is_some() && !self.open && !tag.starts_with("COPY") {
                    self.table(0, media);
                }
                self.described = None;
                self.show(Shown::Tag { text: tag });
            }
            b'I' => self.note("(empty statement)".to_owned()),
            b's' => self.note("(portal suspended: more rows can be fetched)".to_owned()),
            b'E' | b'N' => {
                if let Some(report) = message::report(frame.body) {
                    self.left = self.left.saturating_sub(report.message.len());
                    self.show(Shown::Report(report));
                }
            }
            b'A' => {
                if let Some((process, channel, payload)) = message::notification(frame.body) {
                    let line = format!("notification \"{channel}\" with payload \"{payload}\" from process {process}");
                    self.note(line);
                }
            }
            b'd' => self.copy(Side::Server, frame.body),
            _ => {}
        }
    }

    fn show(&mut self, shown: Shown) {
        self.open = false;
        self.shown.push(shown);
    }

    fn note(&mut self, text: String) {
        let text = self.fitting(text);
        self.show(Shown::Note { text });
    }

    fn statement(&mut self, text: Option<String>) {
        if let Some(text) = text {
            let text = self.fitting(text);
            self.show(Shown::Statement { text });
        }
    }

    /// A text, cut to what may still be shown.
    fn fitting(&mut self, mut text: String) -> String {
        if text.len() > self.left {
            let fits = (0..=self.left).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
            text.truncate(fits);
            text.push('…');
        }
        self.left = self.left.saturating_sub(text.len());
        text
    }

    fn value(&mut self, field: Field, value: Option<&[u8]>) -> Option<String> {
        let text = value.map(|value| value::text(field, value, self.left));
        let cost = text.as_ref().map_or(0, String::len) + VALUE_COST_BYTES;
        self.left = self.left.saturating_sub(cost);
        text
    }

    /// Opens a table of as many columns as are described, or of `count`.
    fn table(&mut self, count: usize, media: &Media) {
        let described = self.described.as_deref().unwrap_or_default();
        let count = if described.is_empty() { count } else { described.len() };
        let column = |at: usize| {
            let name = described.get(at).map(|(name, _)| name).or_else(|| self.names.get(at)).cloned();
            let field = media.columns.get(at).or_else(|| described.get(at).map(|(_, field)| field));
            let kind = field.filter(|field| field.oid != 0).map(|field| value::type_name(field.oid).into_owned());
            Column { name: name.unwrap_or_else(|| format!("column{}", at + 1)), kind: kind.unwrap_or_default() }
        };
        let columns = (0..count).map(column).collect();
        self.show(Shown::Rows { columns, rows: Vec::new(), more: 0 });
    }

    fn row(&mut self, values: &Values<'_>, media: &Media) {
        if !self.open {
            self.table(values.len(), media);
            self.open = true;
        }
        let (max, left) = (self.bounds.rows, self.left);
        if let Some(Shown::Rows { rows, more, .. }) = self.shown.last_mut()
            && (rows.len() >= max || left == 0)
        {
            *more += 1;
            return;
        }
        // How values are written is told by the media type; a description from before the Bind does not know it.
        let described = self.described.clone().unwrap_or_default();
        let field = |at: usize| {
            let told = media.columns.get(at).or_else(|| described.get(at).map(|(_, field)| field));
            told.copied().unwrap_or(Field { oid: 0, binary: false })
        };
        let row = values.iter().enumerate().map(|(at, value)| self.value(field(at), *value)).collect();
        if let Some(Shown::Rows { rows, .. }) = self.shown.last_mut() {
            rows.push(row);
        }
    }

    fn copy(&mut self, from: Side, bytes: &[u8]) {
        if !matches!(self.shown.last(), Some(Shown::Copy { side, .. }) if *side == from) {
            self.show(Shown::Copy { side: from, text: String::new(), more: 0 });
        }
        let left = self.left;
        let Some(Shown::Copy { text, more, .. }) = self.shown.last_mut() else { return };
        if left == 0 || bytes.len() > left {
            *more += bytes.len() as u64;
            self.left = 0;
            return;
        }
        let before = text.len();
        match std::str::from_utf8(bytes) {
            Ok(piece) if !piece.contains('\0') => text.push_str(piece),
            _ => {
                text.push_str("\\x");
                text.push_str(&hexadecimal(bytes));
                text.push('\n');
            }
        }
        self.left = left.saturating_sub(text.len() - before);
    }
}
