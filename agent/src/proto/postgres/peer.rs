//! One end of a log-in: whole messages in, whole messages out.
//!
//! Never holds more than one message of bounded size, never loses what came behind it, which is the relay's, and leaves no
//! copy of what it has dealt with, which can be a password.

use std::future::poll_fn;
use std::io;

use crewtap_core::limits::LOGIN_TOKEN_BYTES_MAX;
use crewtap_core::wire::postgres::frame::Header;
use zeroize::Zeroize;

use crate::leg::{Leg, Read};
use crate::relay::First;

/// Bytes read at once: a log-in's messages are small.
const READ_BYTES: usize = 4096;

pub(super) struct Peer<'l> {
    leg: &'l Leg,
    said: First,
}

impl<'l> Peer<'l> {
    pub(super) fn new(leg: &'l Leg, said: First) -> Self {
        Self { leg, said }
    }

    /// The next message with a type, as it came; none when the peer has ended. It stays until [`Peer::took`].
    pub(super) async fn message(&mut self) -> io::Result<Option<&[u8]>> {
        let len = |bytes: &[u8]| match Header::read(bytes) {
            Ok(header) => Ok(header.map(|header| header.len)),
            Err(error) => Err(io::Error::other(error)),
        };
        let len = self.whole(len).await?;
        Ok(len.and_then(|len| self.said.bytes.get(..len)))
    }

    /// The client's first packet, which has no type.
    pub(super) async fn packet(&mut self) -> io::Result<Option<&[u8]>> {
        let len = |bytes: &[u8]| {
            let len = bytes.first_chunk::<4>().map(|len| u32::from_be_bytes(*len) as usize);
            // One that is too large is none: what is there of it is all that is looked at.
            Ok(len.map(|len| if len > LOGIN_TOKEN_BYTES_MAX { bytes.len() } else { len }))
        };
        let len = self.whole(len).await?;
        Ok(len.and_then(|len| self.said.bytes.get(..len)))
    }

    /// Resolves when it has ended. What it says meanwhile is kept; when that is too much, nothing more is read.
    pub(super) async fn gone(&mut self) {
        while self.said.gone.is_none() && self.said.bytes.len() < LOGIN_TOKEN_BYTES_MAX {
            match self.more().await {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => self.said.gone = Some(error),
            }
        }
        if self.said.gone.is_none() {
            std::future::pending::<()>().await;
        }
    }

    /// Reads until a message is there; its length.
    async fn whole(&mut self, len: impl Fn(&[u8]) -> io::Result<Option<usize>>) -> io::Result<Option<usize>> {
        loop {
            match len(&self.said.bytes)? {
                Some(len) if len > LOGIN_TOKEN_BYTES_MAX => {
                    return Err(io::Error::other(format!("a message of {len} bytes before the log-in")));
                }
                Some(len) if self.said.bytes.len() >= len => return Ok(Some(len)),
                _ => {}
            }
            if let Some(error) = self.said.gone.take() {
                return Err(error);
            }
            if !self.more().await? {
                return Ok(None);
            }
        }
    }

    /// Reads more; whether there is any. Loses nothing when it is given up.
    async fn more(&mut self) -> io::Result<bool> {
        let (leg, bytes) = (self.leg, &mut self.said.bytes);
        poll_fn(|cx| {
            let begun = bytes.len();
            make_room(bytes);
            bytes.resize(begun + READ_BYTES, 0);
            let read = leg.poll_read(cx, bytes.get_mut(begun..).unwrap_or_default());
            let len = if let std::task::Poll::Ready(Ok(Read::Bytes(len))) = read { len } else { 0 };
            bytes.truncate(begun + len);
            read.map_ok(|read| matches!(read, Read::Bytes(_)))
        })
        .await
    }

    /// So many bytes have been dealt with.
    pub(super) fn took(&mut self, len: usize) {
        let bytes = &mut self.said.bytes;
        let len = len.min(bytes.len());
        let rest = bytes.len() - len;
        bytes.copy_within(len.., 0);
        if let Some(behind) = bytes.get_mut(rest..) {
            behind.zeroize();
        }
        bytes.truncate(rest);
    }

    /// Sends bytes, all of them.
    pub(super) async fn send(&self, bytes: &[u8]) -> io::Result<()> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let written = self.leg.write(rest).await?;
            rest = rest.get(written..).unwrap_or_default();
        }
        self.leg.flush().await
    }

    /// What it said beyond the log-in.
    pub(super) fn into_said(mut self) -> First {
        std::mem::take(&mut self.said)
    }
}

impl Drop for Peer<'_> {
    fn drop(&mut self) {
        // A log-in can end before what was said for it was dealt with.
        self.said.bytes.zeroize();
    }
}

/// Room for one more read. A buffer that grows by itself would leave what it held behind.
fn make_room(bytes: &mut Vec<u8>) {
    if bytes.capacity() - bytes.len() < READ_BYTES {
        let mut larger = Vec::with_capacity(2 * bytes.len() + READ_BYTES);
        larger.extend_from_slice(bytes);
        bytes.zeroize();
        *bytes = larger;
    }
}
