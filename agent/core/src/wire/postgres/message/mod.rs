//! Bodies of messages, read without a copy.
//!
//! Owns what a body says. Never knows which message came before: order and pairing are the conversation's. Texts are bytes,
//! because their encoding is the session's `client_encoding`.

mod client;
mod login;
mod server;

use std::ffi::CStr;
use std::slice::ChunksExact;

use crate::wire::cursor::Cursor;

pub use client::{Bind, CopyFail, Execute, FunctionCall, Named, Object, Parse, Query, names_of};
pub use login::{Authentication, Mechanisms, Negotiation, SaslInitial, password};
pub use server::{
    BackendKey, CommandComplete, CopyResponse, DataRow, Field, Notification, ParameterDescription, ParameterStatus,
    Report, RowDescription, Status,
};

/// A body that is not what its type says; servers answer such a message with SQLSTATE 08P01.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("a message of type {:?} is malformed: send it as chapter 54.7 of the manual has it", char::from(*tag))]
pub struct Malformed {
    /// Type of the message.
    pub tag: u8,
}

/// The bytes before the next NUL, which is taken with them.
pub(super) fn text_of<'b>(cursor: &mut Cursor<'b>) -> Option<&'b [u8]> {
    let text = CStr::from_bytes_until_nul(cursor.rest()).ok()?.to_bytes();
    cursor.take(text.len() + 1)?;
    Some(text)
}

/// What `read` finds, where it takes the whole body.
fn whole<'b, T>(tag: u8, body: &'b [u8], read: impl FnOnce(&mut Cursor<'b>) -> Option<T>) -> Result<T, Malformed> {
    let mut cursor = Cursor::new(body);
    read(&mut cursor).filter(|_| cursor.is_empty()).ok_or(Malformed { tag })
}

/// Type oids of parameters.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Oids<'b>(&'b [u8]);

impl<'b> Oids<'b> {
    fn read(cursor: &mut Cursor<'b>) -> Option<Self> {
        let count = usize::from(cursor.u16()?);
        cursor.take(count * 4).map(Self)
    }

    /// How many there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.0.len() / 4
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All in order; 0 leaves the type to the server.
    pub fn iter(&self) -> impl Iterator<Item = u32> + use<'b> {
        self.0.as_chunks::<4>().0.iter().map(|oid| u32::from_be_bytes(*oid))
    }
}

/// Format codes: none means text for all, one counts for all, else there is one for each.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Formats<'b>(&'b [u8]);

impl<'b> Formats<'b> {
    fn read(cursor: &mut Cursor<'b>) -> Option<Self> {
        let count = usize::from(cursor.u16()?);
        cursor.take(count * 2).map(Self)
    }

    /// Whether value number `index` (from 0) is binary.
    #[must_use]
    pub fn is_binary(&self, index: usize) -> bool {
        let (codes, _) = self.0.as_chunks::<2>();
        let code = if let [one] = codes { Some(one) } else { codes.get(index) };
        code.is_some_and(|code| *code != [0, 0])
    }

    /// The codes as they were sent.
    pub fn codes(&self) -> impl ExactSizeIterator<Item = u16> + use<'b> {
        let pairs: ChunksExact<'b, u8> = self.0.chunks_exact(2);
        pairs.map(|code| code.iter().fold(0, |code, byte| code << 8 | u16::from(*byte)))
    }
}

/// Values in order, none for NULL. Their lengths were checked when they were read.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Cells<'b> {
    count: u16,
    bytes: &'b [u8],
}

impl<'b> Cells<'b> {
    fn read(cursor: &mut Cursor<'b>) -> Option<Self> {
        let count = cursor.u16()?;
        let bytes = cursor.rest();
        for _ in 0..count {
            cell(cursor)?;
        }
        Some(Self { count, bytes: bytes.get(..bytes.len() - cursor.rest().len())? })
    }

    /// How many there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.count as usize
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The values.
    pub fn iter(&self) -> impl Iterator<Item = Option<&'b [u8]>> + use<'b> {
        let mut cursor = Cursor::new(self.bytes);
        std::iter::from_fn(move || cell(&mut cursor).map(|Cell(value)| value))
    }
}

/// A value; none for NULL.
struct Cell<'b>(Option<&'b [u8]>);

/// A length, -1 for NULL, and a value of so many bytes.
fn cell<'b>(cursor: &mut Cursor<'b>) -> Option<Cell<'b>> {
    let len = cursor.u32()?;
    if len == u32::MAX {
        return Some(Cell(None));
    }
    // Other negative lengths are above what any message holds.
    cursor.take(usize::try_from(len).ok()?).map(|value| Cell(Some(value)))
}
