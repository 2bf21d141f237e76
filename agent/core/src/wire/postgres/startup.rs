//! The first packets of a client, which have no type: a length, a code, and what the code says.
//!
//! Owns reading and building them. Never decides whether a version or a setting is taken.

use std::borrow::Cow;

use super::message::text_of;
use crate::limits;
use crate::wire::cursor::Cursor;

/// Protocol 3.0.
pub const VERSION_3_0: u32 = 0x0003_0000;
/// Protocol 3.2, of PostgreSQL 18.
pub const VERSION_3_2: u32 = 0x0003_0002;

const CANCEL: u32 = 80_877_102;
const SSL: u32 = 80_877_103;
const GSS: u32 = 80_877_104;

/// `SSLRequest`, as it is sent.
pub const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];

/// `GSSENCRequest`, as it is sent.
pub const GSSENC_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 48];

/// Name and value of a setting.
pub type Setting<'b> = (Cow<'b, [u8]>, Cow<'b, [u8]>);

/// A first packet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum First<'b> {
    /// Asks for TLS; a letter answers.
    SslRequest,
    /// Asks for GSSAPI encryption; a letter answers.
    GssRequest,
    /// Asks that what a session does be cancelled; the connection ends without an answer.
    Cancel {
        /// Process of the server that serves the session.
        process: u32,
        /// Its key, 4 to 256 bytes.
        key: &'b [u8],
    },
    /// Begins a session.
    Startup(Startup<'b>),
    /// A version of the protocol that is not 3.
    OtherVersion(u32),
}

/// `StartupMessage`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Startup<'b> {
    /// Version: the major number, 3, in the upper two bytes, the minor in the lower.
    pub version: u32,
    /// Settings in order.
    pub settings: Vec<Setting<'b>>,
}

/// A packet that no client sends first.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BadStartup {
    /// Its length is below what its code needs, or above the server's limit.
    #[error("the first packet says that it has {0} bytes: send at most {max}", max = limits::POSTGRES_STARTUP_BYTES_MAX)]
    Length(u32),
    /// Its settings are not pairs of texts with an empty one behind them, or its key is none.
    #[error(
        "the first packet is malformed: send pairs of texts and an empty one behind them, or a key of 4 to 256 bytes"
    )]
    Malformed,
}

impl<'b> First<'b> {
    /// Reads the first packet, and tells how many bytes it has; none when it is not there whole.
    ///
    /// # Errors
    /// When it cannot be one.
    pub fn read(bytes: &'b [u8]) -> Result<Option<(Self, usize)>, BadStartup> {
        let mut cursor = Cursor::new(bytes);
        let Some(len) = cursor.u32() else { return Ok(None) };
        let size = len as usize;
        if !(8..=limits::POSTGRES_STARTUP_BYTES_MAX + 4).contains(&size) {
            return Err(BadStartup::Length(len));
        }
        let Some(rest) = bytes.get(4..size) else { return Ok(None) };
        let mut cursor = Cursor::new(rest);
        let code = cursor.u32().ok_or(BadStartup::Malformed)?;
        let first = match code {
            SSL | GSS if !cursor.is_empty() => return Err(BadStartup::Malformed),
            SSL => Self::SslRequest,
            GSS => Self::GssRequest,
            CANCEL => {
                let (process, key) = (cursor.u32().ok_or(BadStartup::Malformed)?, cursor.rest());
                if !(4..=256).contains(&key.len()) {
                    return Err(BadStartup::Malformed);
                }
                Self::Cancel { process, key }
            }
            version if version >> 16 == 3 => Self::Startup(Startup { version, settings: settings(cursor)? }),
            version => Self::OtherVersion(version),
        };
        Ok(Some((first, size)))
    }
}

fn settings<'b>(mut cursor: Cursor<'b>) -> Result<Vec<Setting<'b>>, BadStartup> {
    let mut settings = Vec::new();
    loop {
        let name: &'b [u8] = text_of(&mut cursor).ok_or(BadStartup::Malformed)?;
        if name.is_empty() {
            break;
        }
        let value: &'b [u8] = text_of(&mut cursor).ok_or(BadStartup::Malformed)?;
        settings.push((Cow::Borrowed(name), Cow::Borrowed(value)));
    }
    if cursor.is_empty() { Ok(settings) } else { Err(BadStartup::Malformed) }
}

impl<'b> Startup<'b> {
    /// The value of a setting; the last one counts, as for the server.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.settings.iter().rev().find(|(key, _)| **key == *name.as_bytes()).map(|(_, value)| &**value)
    }

    /// Gives a setting this value: in the place of the first one of that name, and of no other, or at the end.
    pub fn set(&mut self, name: &str, value: impl Into<Cow<'b, [u8]>>) {
        let mut value = Some(value.into());
        self.settings.retain_mut(|(key, old)| {
            if **key != *name.as_bytes() {
                return true;
            }
            let new = value.take();
            let first = new.is_some();
            if let Some(new) = new {
                *old = new;
            }
            first
        });
        if let Some(value) = value {
            self.settings.push((Cow::Owned(name.into()), value));
        }
    }

    /// Takes a setting out.
    pub fn remove(&mut self, name: &str) {
        self.settings.retain(|(key, _)| **key != *name.as_bytes());
    }

    /// The packet.
    ///
    /// # Errors
    /// When it would have more bytes than a server takes, or a text has a NUL.
    pub fn build(&self) -> Result<Vec<u8>, BadStartup> {
        let mut packet = vec![0; 4];
        packet.extend_from_slice(&self.version.to_be_bytes());
        for text in self.settings.iter().flat_map(|(name, value)| [name, value]) {
            if text.contains(&0) {
                return Err(BadStartup::Malformed);
            }
            packet.extend_from_slice(text);
            packet.push(0);
        }
        packet.push(0);
        let len = u32::try_from(packet.len()).unwrap_or(u32::MAX);
        if packet.len() > limits::POSTGRES_STARTUP_BYTES_MAX + 4 {
            return Err(BadStartup::Length(len));
        }
        if let Some(first) = packet.first_chunk_mut() {
            *first = len.to_be_bytes();
        }
        Ok(packet)
    }
}

/// A cancel request.
#[must_use]
pub fn cancel(process: u32, key: &[u8]) -> Vec<u8> {
    let len = u32::try_from(12 + key.len()).unwrap_or(u32::MAX);
    [&len.to_be_bytes()[..], &CANCEL.to_be_bytes(), &process.to_be_bytes(), key].concat()
}
