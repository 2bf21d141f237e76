//! What a side had said before its relay began: it was read to learn what it speaks.
//!
//! Never decides what it is.

use std::io;

use crewtap_core::limits;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

/// What a side had said, and whether it had gone, before the relay began.
#[derive(Debug, Default)]
pub struct First {
    /// Its bytes; not yet on record and not yet forwarded.
    pub bytes: Vec<u8>,
    /// Why it cannot say more: a socket tells its reset only once.
    pub gone: Option<io::Error>,
}

impl First {
    /// Reads until the bytes tell enough, the deadline has come, there is no more room, or the side has ended.
    pub async fn read_until(&mut self, stream: &TcpStream, deadline: Instant, enough: impl Fn(&[u8]) -> bool) {
        let Self { bytes, gone } = self;
        while gone.is_none() && bytes.len() < limits::PEEK_BYTES_MAX && (bytes.is_empty() || !enough(bytes)) {
            let Ok(Ok(())) = timeout_at(deadline, stream.readable()).await else { return };
            let begun = bytes.len();
            bytes.resize((begun + 4096).min(limits::PEEK_BYTES_MAX), 0);
            let read = stream.try_read(bytes.get_mut(begun..).unwrap_or_default());
            bytes.truncate(begun + read.as_ref().copied().unwrap_or(0));
            match read {
                Ok(0) => return,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => *gone = Some(error),
            }
        }
    }
}
