//! Log-ins of line protocols: FTP (RFC 959), SMTP (RFC 4954), POP3 (RFC 1939, 5034), IMAP (RFC 3501).
//!
//! Owns the client's command lines. What follows PASS, ACCT, APOP's name and IMAP's LOGIN is hidden, and so is a SASL
//! exchange: the initial response and as many lines as the mechanism needs, whatever they look like. The number
//! errs on the side of one line too many: a command that follows a refused log-in may be hidden with it.

use super::ledger::Ledger;
use super::url::hide;
use super::{Fate, Walk};

/// Longest word that matters (`authenticate`, names of mechanisms).
const WORD_MAX: usize = 20;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Place {
    /// In IMAP's tag.
    Tag,
    /// In the command's name.
    Verb,
    /// In an argument that is shown before one that is hidden.
    Name(&'static str),
    /// In the mechanism's name.
    Mechanism,
    /// In what is hidden until the line ends.
    Secret,
    /// In an IMAP literal of so many bytes, which is hidden.
    Literal(u64),
    /// In what is shown until the line ends.
    Rest,
}

/// Whether a line ends in an IMAP literal's announcement, `{12}` or `{12+}`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Announced {
    No,
    Digits(u64),
    Closed(u64),
}

/// The state between two bytes.
pub(super) struct Lines {
    tagged: bool,
    place: Place,
    word: Vec<u8>,
    /// Whole lines that are still to be hidden, and the mechanism's name.
    to_hide: u8,
    scheme: String,
    announced: Announced,
}

impl Lines {
    /// For commands that begin with their name.
    pub(super) const fn plain() -> Self {
        Self::new(false, Place::Verb)
    }

    /// For commands behind a tag.
    pub(super) const fn tagged() -> Self {
        Self::new(true, Place::Tag)
    }

    const fn new(tagged: bool, place: Place) -> Self {
        Self { tagged, place, word: Vec::new(), to_hide: 0, scheme: String::new(), announced: Announced::No }
    }

    fn line_end(&mut self, ledger: &mut Ledger) {
        if let (Place::Secret, true, Announced::Closed(len @ 1..)) = (self.place, self.tagged, self.announced) {
            self.place = Place::Literal(len);
            self.announced = Announced::No;
            return;
        }
        match self.place {
            Place::Mechanism => self.to_hide = lines_of(&self.word, false),
            Place::Secret => ledger.end(),
            _ => {}
        }
        self.word.clear();
        self.announced = Announced::No;
        self.place = if self.to_hide > 0 {
            self.to_hide -= 1;
            ledger.begin_next(&self.scheme);
            Place::Secret
        } else if self.tagged {
            Place::Tag
        } else {
            Place::Verb
        };
    }

    /// A word is complete, and a space follows.
    fn word_end(&mut self, ledger: &mut Ledger) {
        let word = std::mem::take(&mut self.word).to_ascii_lowercase();
        self.place = match self.place {
            Place::Tag => Place::Verb,
            Place::Verb => match (self.tagged, word.as_slice()) {
                (false, b"pass") => secret("pass", ledger),
                (false, b"acct") => secret("acct", ledger),
                (false, b"apop") => Place::Name("apop"),
                (true, b"login") => secret("imap-login", ledger),
                (false, b"auth") | (true, b"authenticate") => Place::Mechanism,
                _ => Place::Rest,
            },
            Place::Name(scheme) => secret(scheme, ledger),
            Place::Mechanism => {
                self.to_hide = lines_of(&word, true);
                let place = secret("sasl", ledger);
                self.scheme = "sasl".into();
                place
            }
            other => other,
        };
        if self.place == Place::Mechanism {
            self.scheme = "sasl".into();
        }
    }

    fn watch_literal(&mut self, byte: u8) {
        self.announced = match (self.announced, byte) {
            (_, b'{') => Announced::Digits(0),
            (Announced::Digits(value), b'0'..=b'9') => {
                Announced::Digits(value.saturating_mul(10).saturating_add(u64::from(byte - b'0')))
            }
            (Announced::Digits(value), b'+' | b'-') => Announced::Digits(value),
            (Announced::Digits(value), b'}') => Announced::Closed(value),
            _ => Announced::No,
        };
    }
}

fn secret(scheme: &str, ledger: &mut Ledger) -> Place {
    // The value begins behind the space that is about to pass.
    ledger.begin_next(scheme);
    Place::Secret
}

/// Lines that a SASL mechanism still needs, with or without an initial response.
fn lines_of(mechanism: &[u8], initial: bool) -> u8 {
    let (without, with) = match mechanism.to_ascii_lowercase().as_slice() {
        b"tls" | b"tls-c" | b"ssl" => (0, 0),
        b"plain" | b"external" | b"xoauth2" | b"oauthbearer" | b"anonymous" => (1, 0),
        b"cram-md5" => (1, 1),
        b"login" | b"ntlm" | b"digest-md5" => (2, 1),
        _ => (3, 2),
    };
    if initial { with } else { without }
}

impl Walk for Lines {
    fn idle(&mut self, bytes: &[u8]) -> usize {
        if self.place != Place::Rest {
            return 0;
        }
        bytes.iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len())
    }

    fn step(&mut self, byte: u8, ledger: &mut Ledger) -> Fate {
        if let Place::Literal(left) = self.place {
            self.place = if left > 1 { Place::Literal(left - 1) } else { Place::Secret };
            return hide(byte, ledger);
        }
        match byte {
            b'\n' => self.line_end(ledger),
            b'\r' => {}
            byte if self.place == Place::Secret => {
                self.watch_literal(byte);
                return hide(byte, ledger);
            }
            b' ' if !self.word.is_empty() => self.word_end(ledger),
            b' ' => {}
            byte if self.word.len() <= WORD_MAX => self.word.push(byte),
            _ => {}
        }
        Fate::Show
    }
}
