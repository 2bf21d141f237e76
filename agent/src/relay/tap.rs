//! What a protocol's driver does with the bytes of a relay, and what it may say about them.
//!
//! Never reads or writes a leg: only the relay moves bytes.

use std::pin::Pin;

use crewtap_core::session::Side;

use crate::journal::Position;
use crate::leg::Farewell;
use crate::recorder::Unrecorded;

/// What a tap did with bytes that it was shown.
#[derive(Clone, Debug)]
pub struct Taken {
    /// So many of them are on record, and may be forwarded; the rest is shown again with more behind it.
    pub len: usize,
    /// What is forwarded in their place.
    pub instead: Option<Vec<u8>>,
    /// What their own side is told, once it has been told everything else.
    pub answer: Option<Vec<u8>>,
    /// The newest record that must be durable before they go.
    pub position: Option<Position>,
    /// How it goes on with the rest.
    pub next: Next,
}

/// How a direction goes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Next {
    /// With more bytes behind the rest.
    More,
    /// With the rest as it is, once what was taken is forwarded.
    Again,
    /// Nothing is read from this side before the other side has moved; then the rest is shown again.
    Wait,
    /// What comes next waits for somebody's decision ([`Tap::decision`]); then the rest is shown again.
    Held,
    /// Nothing may come from this side any more: the rest is dropped. A server's end is told to the client at once. A client
    /// is read on and what it says is dropped, until it ends by itself: its target must not take a request's end for the
    /// client's, and a socket that is closed with unread bytes would destroy the answer that its client has not read yet.
    Over,
}

impl Taken {
    /// All of it, and more may come.
    #[must_use]
    pub fn all(bytes: &[u8], position: Option<Position>) -> Self {
        Self::some(bytes.len(), position, Next::More)
    }

    /// So much of it, as it is.
    #[must_use]
    pub fn some(len: usize, position: Option<Position>, next: Next) -> Self {
        Self { len, instead: None, answer: None, position, next }
    }

    /// What goes to the other side for it.
    pub(super) fn forwarded<'t>(&'t self, bytes: &'t [u8]) -> &'t [u8] {
        self.instead.as_deref().unwrap_or_else(|| bytes.get(..self.len).unwrap_or_default())
    }
}

/// Resolves when a decision has been made, or will not be.
pub type Decision = Pin<Box<dyn Future<Output = ()>>>;

/// Why a tap does not let bytes pass.
#[derive(Debug)]
pub enum Blocked {
    /// What the bytes are cannot be recorded.
    Unrecorded(Unrecorded),
    /// They must not be forwarded.
    Refused {
        /// Why, for the record.
        why: String,
        /// What the client is told before its connection ends; nothing where an answer has begun already.
        answer: Vec<u8>,
    },
}

impl From<Unrecorded> for Blocked {
    fn from(error: Unrecorded) -> Self {
        Self::Unrecorded(error)
    }
}

/// Sees everything before it is forwarded, and puts it on record.
pub trait Tap {
    /// Records the next bytes of one side, or as many of them as it can make sense of now.
    ///
    /// # Errors
    /// When they cannot be recorded or must not pass: then none of them is forwarded.
    fn take(&mut self, side: Side, bytes: &[u8]) -> Result<Taken, Blocked>;

    /// A side has said everything; `rest` are its bytes that were not taken yet. What it returns is forwarded.
    ///
    /// # Errors
    /// As [`Tap::take`].
    fn ended(&mut self, side: Side, rest: &[u8], farewell: Farewell) -> Result<Taken, Blocked>;

    /// What is waited for after [`Next::Held`]. A side that ends meanwhile ends the wait: then what was held is the rest that
    /// [`Tap::ended`] is shown. Where the other side has ended, [`Tap::take`] is asked again, and answers [`Next::Over`].
    fn decision(&mut self) -> Decision {
        Box::pin(std::future::ready(()))
    }
}
