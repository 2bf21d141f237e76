//! HTTP/2 in clear text: header blocks are hidden as a whole.
//!
//! Owns frame boundaries (RFC 9113 section 4.1). Field names are compressed (RFC 7541), and a value cannot be found
//! in a block without the table of all blocks before it: until HTTP/2 is decoded, none of a block is shown.

use super::ledger::Ledger;
use super::url::hide;
use super::{Fate, Walk};
use crate::session::Side;

/// What a client says first.
pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Length, type, flags and stream of a frame.
const HEADER_BYTES: usize = 9;
const HEADERS: u8 = 1;
const PUSH_PROMISE: u8 = 5;
const CONTINUATION: u8 = 9;

/// The state between two bytes.
pub(super) struct Frames {
    /// Bytes of the preface that are still to come.
    preface: usize,
    header: [u8; HEADER_BYTES],
    filled: usize,
    /// Bytes of the payload that are still to come.
    left: u32,
    hidden: bool,
}

impl Frames {
    pub(super) const fn new(side: Side) -> Self {
        let preface = match side {
            Side::Client => PREFACE.len(),
            Side::Server => 0,
        };
        Self { preface, header: [0; HEADER_BYTES], filled: 0, left: 0, hidden: false }
    }

    fn header_complete(&mut self, ledger: &mut Ledger) {
        let [high, middle, low, kind, ..] = self.header;
        self.filled = 0;
        self.left = u32::from_be_bytes([0, high, middle, low]);
        self.hidden = matches!(kind, HEADERS | PUSH_PROMISE | CONTINUATION) && self.left > 0;
        if self.hidden {
            ledger.begin_next("http2-header-block");
        }
    }
}

impl Walk for Frames {
    fn idle(&mut self, bytes: &[u8]) -> usize {
        if self.preface > 0 {
            let passing = self.preface.min(bytes.len());
            self.preface -= passing;
            return passing;
        }
        if self.hidden || self.left == 0 {
            return 0;
        }
        let passing = bytes.len().min(self.left as usize);
        self.left -= u32::try_from(passing).unwrap_or(self.left);
        passing
    }

    fn step(&mut self, byte: u8, ledger: &mut Ledger) -> Fate {
        if self.hidden {
            let fate = hide(byte, ledger);
            self.left -= 1;
            if self.left == 0 {
                self.hidden = false;
                ledger.end();
            }
            return fate;
        }
        if let Some(place) = self.header.get_mut(self.filled) {
            *place = byte;
        }
        self.filled += 1;
        if self.filled == HEADER_BYTES {
            // The open value, if any, was closed by its own frame.
            self.header_complete(ledger);
        }
        Fate::Show
    }
}
