//! Frames: one byte of type, four of length, which counts itself but not the type, and a body.
//!
//! Owns boundaries only. Never looks into a body and never waits for one: a frame is told when it is whole.

use crate::wire::cursor::Cursor;

/// Bytes before a body.
pub const HEADER_BYTES: usize = 5;

/// The beginning of a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    /// Type of the message.
    pub tag: u8,
    /// Bytes of the whole frame, this header included.
    pub len: usize,
}

/// One whole frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Frame<'b> {
    /// Type of the message.
    pub tag: u8,
    /// What follows the header.
    pub body: &'b [u8],
}

/// A length that no frame can have; where the next frame would begin is not known.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("a message says that it has {0} bytes, its length included")]
pub struct BadLength(pub u32);

impl Header {
    /// Reads the beginning of a frame; none when it is not there whole.
    ///
    /// # Errors
    /// When the length is below its own four bytes, or above the 1 GiB that servers and libpq take at most.
    pub fn read(bytes: &[u8]) -> Result<Option<Self>, BadLength> {
        let mut cursor = Cursor::new(bytes);
        let (Some(tag), Some(len)) = (cursor.u8(), cursor.u32()) else { return Ok(None) };
        if !(4..=0x4000_0000).contains(&len) {
            return Err(BadLength(len));
        }
        Ok(Some(Self { tag, len: len as usize + 1 }))
    }
}

/// The whole frames at the beginning of some bytes. Stops at the first that is not whole or not a frame.
#[derive(Clone, Debug)]
pub struct Frames<'b> {
    rest: &'b [u8],
}

impl<'b> Frames<'b> {
    /// The frames of these bytes.
    #[must_use]
    pub const fn new(bytes: &'b [u8]) -> Self {
        Self { rest: bytes }
    }

    /// What has not been told yet.
    #[must_use]
    pub const fn rest(&self) -> &'b [u8] {
        self.rest
    }
}

impl<'b> Iterator for Frames<'b> {
    type Item = Frame<'b>;

    fn next(&mut self) -> Option<Frame<'b>> {
        let Header { tag, len } = Header::read(self.rest).ok()??;
        let (frame, rest) = self.rest.split_at_checked(len)?;
        self.rest = rest;
        Some(Frame { tag, body: frame.get(HEADER_BYTES..).unwrap_or_default() })
    }
}

#[cfg(test)]
mod tests {
    use super::{BadLength, Frame, Frames, Header};

    #[test]
    fn frames_are_told_when_they_are_whole() {
        let bytes = b"Q\0\0\0\x06a\0S\0\0\0\x04X\0\0";
        let mut frames = Frames::new(bytes);
        assert_eq!(frames.next(), Some(Frame { tag: b'Q', body: b"a\0" }));
        assert_eq!(frames.next(), Some(Frame { tag: b'S', body: b"" }));
        assert_eq!(frames.next(), None);
        assert_eq!(frames.rest(), b"X\0\0");
    }

    #[test]
    fn lengths_that_cannot_be_are_refused() {
        assert_eq!(Header::read(b"Q\0\0\0\x03"), Err(BadLength(3)));
        assert_eq!(Header::read(b"Q\xff\0\0\0"), Err(BadLength(0xff00_0000)));
        assert_eq!(Header::read(b"Q\0\0\0"), Ok(None));
        assert_eq!(Header::read(b"Q\0\0\0\x04"), Ok(Some(Header { tag: b'Q', len: 5 })));
    }
}
