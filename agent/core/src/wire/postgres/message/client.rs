//! What a client says once it is in.

use super::{Cells, Formats, Malformed, Oids, text_of, whole};
use crate::wire::cursor::Cursor;

/// `Query`: one or several statements in one text.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Query<'b> {
    /// The statements.
    pub text: &'b [u8],
}

/// `Parse`: makes a statement.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Parse<'b> {
    /// Its name; empty for the unnamed one.
    pub name: &'b [u8],
    /// One statement.
    pub sql: &'b [u8],
    /// Types of its first parameters, as far as the client says them.
    pub types: Oids<'b>,
}

/// `Bind`: makes a portal of a statement and values.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bind<'b> {
    /// Name of the portal.
    pub portal: &'b [u8],
    /// Name of the statement.
    pub statement: &'b [u8],
    /// Formats of the values.
    pub formats: Formats<'b>,
    /// One value for each parameter.
    pub values: Cells<'b>,
    /// In which formats the result is to come.
    pub result_formats: Formats<'b>,
}

/// What a name stands for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Object {
    /// A prepared statement.
    Statement,
    /// A portal: a statement with values.
    Portal,
}

/// `Describe` or `Close`: a name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Named<'b> {
    /// Of what.
    pub object: Object,
    /// Empty for the unnamed one.
    pub name: &'b [u8],
}

/// `Execute`: runs a portal, or goes on with it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Execute<'b> {
    /// Name of the portal.
    pub portal: &'b [u8],
    /// Rows after which it is suspended; 0 for no limit, as are negative numbers.
    pub max_rows: u32,
}

/// `FunctionCall`: calls a function by its oid, past SQL.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FunctionCall<'b> {
    /// Oid of the function.
    pub function: u32,
    /// Formats of the arguments.
    pub formats: Formats<'b>,
    /// The arguments.
    pub arguments: Cells<'b>,
    /// Whether the result is to come in binary.
    pub result_binary: bool,
}

/// `CopyFail`: the client gives up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CopyFail<'b> {
    /// Why, for the server's error.
    pub reason: &'b [u8],
}

impl<'b> Query<'b> {
    /// Reads the body of `Q`.
    ///
    /// # Errors
    /// When it is not one text.
    pub fn read(body: &'b [u8]) -> Result<Self, Malformed> {
        whole(b'Q', body, |cursor| Some(Self { text: text_of(cursor)? }))
    }
}

impl<'b> Parse<'b> {
    /// Reads the body of `P`.
    ///
    /// # Errors
    /// When it is cut off or too long.
    pub fn read(body: &'b [u8]) -> Result<Self, Malformed> {
        whole(b'P', body, |cursor| {
            Some(Self { name: text_of(cursor)?, sql: text_of(cursor)?, types: Oids::read(cursor)? })
        })
    }
}

impl<'b> Bind<'b> {
    /// Reads the body of `B`.
    ///
    /// # Errors
    /// When it is cut off or too long.
    pub fn read(body: &'b [u8]) -> Result<Self, Malformed> {
        whole(b'B', body, |cursor| {
            Some(Self {
                portal: text_of(cursor)?,
                statement: text_of(cursor)?,
                formats: Formats::read(cursor)?,
                values: Cells::read(cursor)?,
                result_formats: Formats::read(cursor)?,
            })
        })
    }
}

impl<'b> Named<'b> {
    /// Reads the body of `D` or `C`, which `tag` is.
    ///
    /// # Errors
    /// When it names neither a statement nor a portal.
    pub fn read(tag: u8, body: &'b [u8]) -> Result<Self, Malformed> {
        whole(tag, body, |cursor| {
            let object = match cursor.u8()? {
                b'S' => Object::Statement,
                b'P' => Object::Portal,
                _ => return None,
            };
            Some(Self { object, name: text_of(cursor)? })
        })
    }
}

impl<'b> Execute<'b> {
    /// Reads the body of `E`.
    ///
    /// # Errors
    /// When it is cut off or too long.
    pub fn read(body: &'b [u8]) -> Result<Self, Malformed> {
        whole(b'E', body, |cursor| {
            let (portal, rows) = (text_of(cursor)?, cursor.u32()?);
            Some(Self { portal, max_rows: if rows > i32::MAX.unsigned_abs() { 0 } else { rows } })
        })
    }
}

impl<'b> FunctionCall<'b> {
    /// Reads the body of `F`.
    ///
    /// # Errors
    /// When it is cut off or too long.
    pub fn read(body: &'b [u8]) -> Result<Self, Malformed> {
        whole(b'F', body, |cursor| {
            Some(Self {
                function: cursor.u32()?,
                formats: Formats::read(cursor)?,
                arguments: Cells::read(cursor)?,
                result_binary: cursor.u16()? != 0,
            })
        })
    }
}

impl<'b> CopyFail<'b> {
    /// Reads the body of `f`.
    ///
    /// # Errors
    /// When it is not one text.
    pub fn read(body: &'b [u8]) -> Result<Self, Malformed> {
        whole(b'f', body, |cursor| Some(Self { reason: text_of(cursor)? }))
    }
}

/// The names at the beginning of a message of type `tag` that is not whole: the statement of `P`, the portal and the
/// statement of `B`, else empty ones; none where they are not whole either.
#[must_use]
pub fn names_of(tag: u8, body: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut cursor = Cursor::new(body);
    Some(match tag {
        b'P' => (text_of(&mut cursor)?, b""),
        b'B' => (text_of(&mut cursor)?, text_of(&mut cursor)?),
        _ => (b"", b""),
    })
}
