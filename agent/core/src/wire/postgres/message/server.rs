//! What a server says once a client is in.

use super::{Cells, Formats, Malformed, Oids, text_of, whole};
use crate::wire::cursor::Cursor;

/// `RowDescription`: the columns of rows that follow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RowDescription<'b> {
    count: u16,
    fields: &'b [u8],
}

/// One column.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Field<'b> {
    /// Its name.
    pub name: &'b [u8],
    /// Oid of the table that it comes from, 0 for none.
    pub table: u32,
    /// Its number in that table, 0 for none.
    pub column: u16,
    /// Oid of its type.
    pub type_oid: u32,
    /// Bytes of a value, negative where they differ.
    pub size: i16,
    /// What the type says of it beyond its oid, -1 for nothing.
    pub modifier: i32,
    /// Whether values are binary; never where a statement is described, because its portals decide.
    pub binary: bool,
}

/// `ParameterDescription`: the types of a statement's parameters.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ParameterDescription<'b> {
    /// One oid for each.
    pub types: Oids<'b>,
}

/// `DataRow`: one row.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DataRow<'b> {
    /// One value for each column.
    pub cells: Cells<'b>,
}

/// `CommandComplete`: a statement is done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CommandComplete<'b> {
    /// What was done, as `INSERT 0 3`.
    pub tag: &'b [u8],
}

/// `ErrorResponse` or `NoticeResponse`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Report<'b> {
    fields: &'b [u8],
}

/// State of the transaction, told with each `ReadyForQuery`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Status {
    /// None is open.
    #[default]
    Idle,
    /// One is open.
    Open,
    /// One has failed: everything but its end is refused.
    Failed,
}

/// `CopyInResponse`, `CopyOutResponse` or `CopyBothResponse`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CopyResponse<'b> {
    /// Whether the whole copy is binary; else it is lines of text.
    pub binary: bool,
    /// One format for each column.
    pub formats: Formats<'b>,
}

/// `ParameterStatus`: a setting that clients want to know.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ParameterStatus<'b> {
    /// Its name.
    pub name: &'b [u8],
    /// Its value from now on.
    pub value: &'b [u8],
}

/// `NotificationResponse`: what `NOTIFY` sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Notification<'b> {
    /// Process of the server that sent it.
    pub process: u32,
    /// Its channel.
    pub channel: &'b [u8],
    /// What was sent.
    pub payload: &'b [u8],
}

/// `BackendKeyData`: what a cancel request must show.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BackendKey<'b> {
    /// Process that serves this session.
    pub process: u32,
    /// The key: 4 bytes in protocol 3.0, 4 to 256 in 3.2.
    pub key: &'b [u8],
}

impl<'b> RowDescription<'b> {
    /// Reads the body of `T`.
    ///
    /// # Errors
    /// When it is cut off or too long.
    pub fn read(body: &'b [u8]) -> Result<Self, Malformed> {
        whole(b'T', body, |cursor| {
            let count = cursor.u16()?;
            let fields = cursor.rest();
            for _ in 0..count {
                field(cursor)?;
            }
            Some(Self { count, fields })
        })
    }

    /// How many columns there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.count as usize
    }

    /// Whether there are none, as in `select`.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The columns in order.
    pub fn fields(&self) -> impl Iterator<Item = Field<'b>> + use<'b> {
        let mut cursor = Cursor::new(self.fields);
        std::iter::from_fn(move || field(&mut cursor))
    }
}

fn field<'b>(cursor: &mut Cursor<'b>) -> Option<Field<'b>> {
    Some(Field {
        name: text_of(cursor)?,
        table: cursor.u32()?,
        column: cursor.u16()?,
        type_oid: cursor.u32()?,
        size: cursor.array().map(i16::from_be_bytes)?,
        modifier: cursor.array().map(i32::from_be_bytes)?,
        binary: cursor.u16()? != 0,
    })
}

impl<'b> ParameterDescription<'b> {
    /// Reads the body of `t`.
    ///
    /// # Errors
    /// When it is cut off or too long.
    pub fn read(body: &'b [u8]) -> Result<Self, Malformed> {
        whole(b't', body, |cursor| Some(Self { types: Oids::read(cursor)? }))
    }
}

impl<'b> DataRow<'b> {
    /// Reads the body of `D`.
    ///
    /// # Errors
    /// When it is cut off or too long.
    pub fn read(body: &'b [u8]) -> Result<Self, Malformed> {
        whole(b'D', body, |cursor| Some(Self { cells: Cells::read(cursor)? }))
    }
}

impl<'b> CommandComplete<'b> {
    /// Reads the body of `C`.
    ///
    /// # Errors
    /// When it is not one text.
    pub fn read(body: &'b [u8]) -> Result<Self, Malformed> {
        whole(b'C', body, |cursor| Some(Self { tag: text_of(cursor)? }))
    }

    /// Rows that were returned or changed, where the tag says it: its last word.
    #[must_use]
    pub fn rows(&self) -> Option<u64> {
        let count = self.tag.rsplit(|byte| *byte == b' ').next().filter(|word| word.len() < self.tag.len())?;
        std::str::from_utf8(count).ok()?.parse().ok()
    }
}

impl<'b> Report<'b> {
    /// Reads the body of `E` or `N`, which `tag` is.
    ///
    /// # Errors
    /// When a field is cut off, or the end is missing.
    pub fn read(tag: u8, body: &'b [u8]) -> Result<Self, Malformed> {
        whole(tag, body, |cursor| {
            let fields = cursor.rest();
            while cursor.u8()? != 0 {
                text_of(cursor)?;
            }
            Some(Self { fields })
        })
    }

    /// All fields in order: their type and their text.
    pub fn fields(&self) -> impl Iterator<Item = (u8, &'b [u8])> + use<'b> {
        let mut cursor = Cursor::new(self.fields);
        std::iter::from_fn(move || Some((cursor.u8().filter(|kind| *kind != 0)?, text_of(&mut cursor)?)))
    }

    /// The first field of this type: `C` SQLSTATE, `M` message, `D` detail, `H` hint, `P` position.
    #[must_use]
    pub fn get(&self, kind: u8) -> Option<&'b [u8]> {
        self.fields().find(|(field, _)| *field == kind).map(|(_, text)| text)
    }

    /// The severity in English, where the server says it so (from 9.6 on), else in its language.
    #[must_use]
    pub fn severity(&self) -> &'b [u8] {
        self.get(b'V').or_else(|| self.get(b'S')).unwrap_or_default()
    }

    /// Whether the session ends with it.
    #[must_use]
    pub fn is_fatal(&self) -> bool {
        matches!(self.severity(), b"FATAL" | b"PANIC")
    }
}

impl Status {
    /// Reads the body of `Z`.
    ///
    /// # Errors
    /// When it is none of the three letters.
    pub fn read(body: &[u8]) -> Result<Self, Malformed> {
        match body {
            b"I" => Ok(Self::Idle),
            b"T" => Ok(Self::Open),
            b"E" => Ok(Self::Failed),
            _ => Err(Malformed { tag: b'Z' }),
        }
    }

    /// As the record spells it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Open => "open",
            Self::Failed => "failed",
        }
    }
}

impl<'b> CopyResponse<'b> {
    /// Reads the body of `G`, `H` or `W`, which `tag` is.
    ///
    /// # Errors
    /// When it is cut off or too long.
    pub fn read(tag: u8, body: &'b [u8]) -> Result<Self, Malformed> {
        whole(tag, body, |cursor| Some(Self { binary: cursor.u8()? != 0, formats: Formats::read(cursor)? }))
    }
}

impl<'b> ParameterStatus<'b> {
    /// Reads the body of `S`.
    ///
    /// # Errors
    /// When it is not two texts.
    pub fn read(body: &'b [u8]) -> Result<Self, Malformed> {
        whole(b'S', body, |cursor| Some(Self { name: text_of(cursor)?, value: text_of(cursor)? }))
    }
}

impl<'b> Notification<'b> {
    /// Reads the body of `A`.
    ///
    /// # Errors
    /// When it is cut off or too long.
    pub fn read(body: &'b [u8]) -> Result<Self, Malformed> {
        whole(b'A', body, |cursor| {
            Some(Self { process: cursor.u32()?, channel: text_of(cursor)?, payload: text_of(cursor)? })
        })
    }
}

impl<'b> BackendKey<'b> {
    /// Reads the body of `K`.
    ///
    /// # Errors
    /// When the key has no length that a key has.
    pub fn read(body: &'b [u8]) -> Result<Self, Malformed> {
        whole(b'K', body, |cursor| {
            let process = cursor.u32()?;
            let key = cursor.take(cursor.rest().len())?;
            (4..=256).contains(&key.len()).then_some(Self { process, key })
        })
    }
}
