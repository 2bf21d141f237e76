//! Recorded frames as a person reads them: statements, parameters, results, notices and errors.
//!
//! Owns the way from frames to texts. Never looks for more than the frames hold, and keeps no more than it is asked for.

mod message;
mod reading;
mod table;

use serde::Serialize;

use super::frame::{Frames, HEADER_BYTES};
use super::media::Media;
use crate::session::Side;

/// Bytes of text that one recorded payload gives to a search.
const WORDS_BYTES_MAX: usize = 1024 * 1024;

/// Bytes of one value in a search.
const WORD_BYTES_MAX: usize = 64 * 1024;

/// One recorded piece of one side: whole frames, or a part of a very large one.
#[derive(Clone, Copy, Debug)]
pub struct Piece<'r> {
    /// Who sent it.
    pub side: Side,
    /// Its media type, with parameters.
    pub media_type: &'r str,
    /// The frames.
    pub bytes: &'r [u8],
}

/// How much is shown.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Rows of each result; more are counted.
    pub rows: usize,
    /// Bytes of text in all; more is cut, and counted.
    pub bytes: usize,
}

/// A column of a result.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// Its type's name, or oid; empty where it is not known.
    #[serde(rename = "type")]
    pub kind: String,
}

/// What an error or a notice says (PostgreSQL manual, section 55.8).
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize)]
pub struct Report {
    /// `ERROR`, `NOTICE`, …, not translated where the server tells it so.
    pub severity: String,
    /// SQLSTATE.
    pub code: String,
    /// The message.
    pub message: String,
    /// More about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// Where it happened.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub context: Option<String>,
}

/// Something that an exchange said, in order.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(tag = "what", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Shown {
    /// A statement's text.
    Statement {
        /// The text.
        text: String,
    },
    /// Values that were bound; `None` is NULL.
    Parameters {
        /// In the order of `$1`, `$2`, …
        values: Vec<Option<String>>,
    },
    /// A result's rows; `None` is NULL.
    Rows {
        /// The columns.
        columns: Vec<Column>,
        /// The rows that are shown.
        rows: Vec<Vec<Option<String>>>,
        /// How many more there are.
        more: u64,
    },
    /// A command tag.
    Tag {
        /// The tag.
        text: String,
    },
    /// An error or a notice.
    Report(Report),
    /// COPY data of one side.
    Copy {
        /// Who sent it.
        side: Side,
        /// The data; in hexadecimal where it is no text.
        text: String,
        /// Bytes that are not shown.
        more: u64,
    },
    /// Anything else worth a line.
    Note {
        /// The line.
        text: String,
    },
}

/// What an exchange said. `columns` are names for results whose description is not among the frames.
pub fn read<'r>(pieces: impl IntoIterator<Item = Piece<'r>>, columns: &[String], bounds: Bounds) -> Vec<Shown> {
    let mut reading = reading::Reading::new(columns, bounds);
    for piece in pieces {
        reading.piece(piece);
    }
    reading.finish()
}

/// What an exchange said, as psql prints it. Lines end in `\n`; a value never breaks one.
pub fn transcript<'r>(pieces: impl IntoIterator<Item = Piece<'r>>, columns: &[String], bounds: Bounds) -> String {
    table::print(&read(pieces, columns, bounds))
}

/// The texts in recorded frames, for a search: statements, values, cells, notices, errors and COPY data.
/// None when the media type is another one.
#[must_use]
pub fn words(media_type: &str, bytes: &[u8]) -> Option<String> {
    let media = Media::parse(media_type)?;
    let mut words = Words::default();
    if media.continued {
        words.raw(bytes);
        return Some(words.text);
    }
    let mut frames = Frames::new(bytes);
    for frame in frames.by_ref() {
        message::words(frame, &media, &mut words);
        if words.text.len() > WORDS_BYTES_MAX {
            break;
        }
    }
    // The beginning of a frame that goes on in another piece.
    words.raw(frames.rest().get(HEADER_BYTES..).unwrap_or_default());
    Some(words.text)
}

/// Texts, one a line.
#[derive(Default)]
pub struct Words {
    text: String,
}

impl Words {
    /// Adds a text.
    fn add(&mut self, text: &str) {
        let left = WORDS_BYTES_MAX.saturating_sub(self.text.len()).min(text.len());
        let fits = (0..=left).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        let text = text.get(..fits).unwrap_or_default();
        if !text.is_empty() {
            self.text.push_str(text);
            self.text.push('\n');
        }
    }

    /// Adds what is text in some bytes.
    fn raw(&mut self, bytes: &[u8]) {
        let bytes = bytes.get(..WORDS_BYTES_MAX).unwrap_or(bytes);
        let text: String = String::from_utf8_lossy(bytes)
            .chars()
            .map(|letter| if letter.is_control() || letter == char::REPLACEMENT_CHARACTER { ' ' } else { letter })
            .collect();
        self.add(text.trim());
    }
}

#[cfg(test)]
mod tests;
