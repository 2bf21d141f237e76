//! What a `PostgreSQL` client sends: passwords and SASL messages are hidden.
//!
//! Owns message boundaries of the frontend (`PostgreSQL` 17 manual, chapter 53.7). The startup packet is shown (user,
//! database), every `p` message (`PasswordMessage`, `SASLInitialResponse`, `SASLResponse`, `GSSResponse`) keeps its type and
//! length and loses its body. Where the boundaries are lost, everything that follows is hidden. SQL texts are shown,
//! passwords in them included: they are the masking engine's.

use super::ledger::Ledger;
use super::url::hide;
use super::{Fate, Walk};
use crate::wire::cursor::Cursor;

/// Longest startup packet that the server takes (`MAX_STARTUP_PACKET_LENGTH`).
const STARTUP_BYTES_MAX: u32 = 10_000;
const SSL_REQUEST: u32 = 80_877_103;
const GSSENC_REQUEST: u32 = 80_877_104;
/// Type of a message and its length, which counts itself.
const LENGTH_BYTES: u32 = 4;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Place {
    /// In the length and code of a packet without a type.
    Startup,
    /// In the type and length of a message.
    Header,
    /// In a body that is shown.
    Shown,
    /// In a body that is hidden.
    Hidden,
    /// Encrypted from here on.
    Encrypted,
    /// Not understood: hidden to the end.
    Lost,
}

/// The state between two bytes.
pub(super) struct Frames {
    place: Place,
    /// The header so far, at most 8 bytes.
    header: u64,
    filled: u8,
    left: u32,
    /// The client asked for encryption, so that what follows may be a handshake.
    asked: bool,
}

impl Default for Frames {
    fn default() -> Self {
        Self { place: Place::Startup, header: 0, filled: 0, left: 0, asked: false }
    }
}

impl Frames {
    fn startup_complete(&mut self, ledger: &mut Ledger) {
        let header = self.header.to_be_bytes();
        let mut fields = Cursor::new(&header);
        let (len, code) = (fields.u32().unwrap_or_default(), fields.u32().unwrap_or_default());
        let request = matches!(code, SSL_REQUEST | GSSENC_REQUEST) && len == 8;
        if request {
            self.asked = true;
            self.begin(Place::Startup);
        } else if (8..=STARTUP_BYTES_MAX).contains(&len) && matches!(code >> 16, 3 | 1234) {
            self.left = len - 8;
            self.begin(if self.left == 0 { Place::Header } else { Place::Shown });
        } else if self.asked {
            // A TLS or GSSAPI handshake, as agreed.
            self.begin(Place::Encrypted);
        } else {
            self.lose(ledger);
        }
    }

    fn message_complete(&mut self, ledger: &mut Ledger) {
        let [_, _, _, kind, a, b, c, d] = self.header.to_be_bytes();
        let Some(len) = u32::from_be_bytes([a, b, c, d]).checked_sub(LENGTH_BYTES) else {
            return self.lose(ledger);
        };
        self.left = len;
        self.begin(match (kind, len) {
            (_, 0) => Place::Header,
            (b'p', _) => {
                ledger.begin_next("postgres-password");
                Place::Hidden
            }
            _ => Place::Shown,
        });
    }

    fn lose(&mut self, ledger: &mut Ledger) {
        ledger.begin_next("postgres-unparsed");
        self.begin(Place::Lost);
    }

    fn begin(&mut self, place: Place) {
        self.place = place;
        self.header = 0;
        self.filled = 0;
    }

    fn collect(&mut self, byte: u8, wanted: u8) -> bool {
        self.header = self.header << 8 | u64::from(byte);
        self.filled += 1;
        self.filled == wanted
    }
}

impl Walk for Frames {
    fn idle(&mut self, bytes: &[u8]) -> usize {
        match self.place {
            Place::Encrypted => bytes.len(),
            Place::Shown => {
                let passing = bytes.len().min(self.left as usize);
                self.left -= u32::try_from(passing).unwrap_or(self.left);
                if self.left == 0 {
                    self.begin(Place::Header);
                }
                passing
            }
            _ => 0,
        }
    }

    fn step(&mut self, byte: u8, ledger: &mut Ledger) -> Fate {
        match self.place {
            Place::Startup => {
                if self.collect(byte, 8) {
                    self.startup_complete(ledger);
                }
                Fate::Show
            }
            Place::Header => {
                if self.collect(byte, 5) {
                    self.message_complete(ledger);
                }
                Fate::Show
            }
            Place::Hidden => {
                let fate = hide(byte, ledger);
                self.left -= 1;
                if self.left == 0 {
                    ledger.end();
                    self.begin(Place::Header);
                }
                fate
            }
            Place::Lost => hide(byte, ledger),
            Place::Shown | Place::Encrypted => Fate::Show,
        }
    }
}
