//! What cannot be PostgreSQL.
//!
//! Owns the list and its codes for the record. Never decides what becomes of the connection.

use super::frame::BadLength;
use super::message::Malformed;
use crate::limits;
use crate::session::Side;

/// What is wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Flaw {
    /// A length that no message has.
    #[error("{0}: send between 4 bytes and 1 GiB")]
    Length(#[from] BadLength),
    /// A body that its type does not have.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// A message whose type is always short, and is not.
    #[error("a message of type {:?} has more than {max} bytes: send less", char::from(*tag), max = limits::POSTGRES_JUDGED_BYTES_MAX)]
    TooLarge {
        /// Type of the message.
        tag: u8,
    },
    /// An answer that nothing asked for, or not now.
    #[error("the target sent a message of type {:?} that nothing asked for: answer in the order of the requests", char::from(*tag))]
    Unasked {
        /// Type of the message.
        tag: u8,
    },
}

/// Where a conversation stops being one: what follows cannot be told.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{flaw}")]
pub struct Fault {
    /// What is wrong.
    pub flaw: Flaw,
    /// Who sent it.
    pub side: Side,
}

impl Fault {
    /// The word for the record.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self.flaw {
            Flaw::Length(_) => "length",
            Flaw::Malformed(_) => "malformed",
            Flaw::TooLarge { .. } => "too_large",
            Flaw::Unasked { .. } => "unasked",
        }
    }
}
