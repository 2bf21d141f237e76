//! What both sides say while a client logs in.

use super::{Malformed, cell, text_of, whole};
use crate::wire::cursor::Cursor;

/// What a server wants to see, or that it is content.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Authentication<'b> {
    /// The client is in.
    Ok,
    /// The password as it is.
    CleartextPassword,
    /// The password, hashed with the user's name and this salt.
    Md5Password {
        /// Of this connection.
        salt: [u8; 4],
    },
    /// A SASL exchange by one of these mechanisms.
    Sasl(Mechanisms<'b>),
    /// The next message of the exchange.
    SaslContinue(&'b [u8]),
    /// The last message of the exchange.
    SaslFinal(&'b [u8]),
    /// GSSAPI.
    Gss,
    /// The next message of GSSAPI or SSPI.
    GssContinue(&'b [u8]),
    /// SSPI.
    Sspi,
    /// A kind that is not known here (Kerberos V4 and V5, crypt, SCM, OAuth's own).
    Other(u32),
}

/// Names of SASL mechanisms, the server's favourite first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mechanisms<'b>(&'b [u8]);

/// `SASLInitialResponse`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SaslInitial<'b> {
    /// The mechanism chosen.
    pub mechanism: &'b [u8],
    /// The client's first message, where the mechanism has one.
    pub response: Option<&'b [u8]>,
}

/// `NegotiateProtocolVersion`: the server takes less than the client asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Negotiation<'b> {
    /// The newest version that it takes: `0x0003_0000` or, of servers before 18, only the minor number.
    pub version: u32,
    options: &'b [u8],
}

impl<'b> Authentication<'b> {
    /// Reads the body of `R`.
    ///
    /// # Errors
    /// When it is cut off or too long.
    pub fn read(body: &'b [u8]) -> Result<Self, Malformed> {
        whole(b'R', body, |cursor| {
            let kind = cursor.u32()?;
            Some(match kind {
                0 => Self::Ok,
                3 => Self::CleartextPassword,
                5 => Self::Md5Password { salt: cursor.array()? },
                7 => Self::Gss,
                8 => Self::GssContinue(cursor.take(cursor.rest().len())?),
                9 => Self::Sspi,
                10 => Self::Sasl(Mechanisms::read(cursor)?),
                11 => Self::SaslContinue(cursor.take(cursor.rest().len())?),
                12 => Self::SaslFinal(cursor.take(cursor.rest().len())?),
                other => {
                    cursor.take(cursor.rest().len())?;
                    Self::Other(other)
                }
            })
        })
    }
}

impl<'b> Mechanisms<'b> {
    fn read(cursor: &mut Cursor<'b>) -> Option<Self> {
        let names = cursor.rest();
        while !text_of(cursor)?.is_empty() {}
        Some(Self(names))
    }

    /// The names in order.
    pub fn iter(&self) -> impl Iterator<Item = &'b [u8]> + use<'b> {
        self.0.split(|byte| *byte == 0).take_while(|name| !name.is_empty())
    }

    /// Whether this one is among them.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.iter().any(|mechanism| mechanism == name.as_bytes())
    }
}

impl<'b> SaslInitial<'b> {
    /// Reads the body of a `p` that answers [`Authentication::Sasl`].
    ///
    /// # Errors
    /// When it is cut off or too long.
    pub fn read(body: &'b [u8]) -> Result<Self, Malformed> {
        whole(b'p', body, |cursor| Some(Self { mechanism: text_of(cursor)?, response: cell(cursor)?.0 }))
    }
}

impl<'b> Negotiation<'b> {
    /// Reads the body of `v`.
    ///
    /// # Errors
    /// When it is cut off or too long.
    pub fn read(body: &'b [u8]) -> Result<Self, Malformed> {
        whole(b'v', body, |cursor| {
            let (version, count) = (cursor.u32()?, cursor.u32()?);
            let options = cursor.rest();
            for _ in 0..count {
                text_of(cursor)?;
            }
            Some(Self { version, options })
        })
    }

    /// Names of the options that the server does not know.
    pub fn unknown_options(&self) -> impl Iterator<Item = &'b [u8]> + use<'b> {
        let mut cursor = Cursor::new(self.options);
        std::iter::from_fn(move || text_of(&mut cursor))
    }
}

/// Reads the body of a `p` that answers a request for a password in clear or by MD5.
///
/// # Errors
/// When it is not one text.
pub fn password(body: &[u8]) -> Result<&[u8], Malformed> {
    whole(b'p', body, text_of)
}
