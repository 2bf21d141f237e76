//! Passwords and tokens in URLs, met byte by byte.
//!
//! Owns the rule for a text in which URLs may stand (a request line, a header's value). A password cannot be told
//! from a port number before the `@` or the `/` behind it has come, and by then its bytes are on record; so what
//! follows the first `:` of an authority is always hidden. Where it proves to be a port, the ledger says which
//! (`url-port 8080`), and nothing is lost. A user name without a password is shown; so is what follows an `@`, even
//! if another one comes: RFC 3986 section 3.2.1 wants that one percent-encoded.

use super::Fate;
use super::ledger::Ledger;
use crate::mask::names;

/// Raw bytes of the longest parameter name, each percent-encoded.
const NAME_BYTES_MAX: usize = 3 * names::PARAMETER_NAME_MAX;

/// Where in a URL the next byte is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Place {
    /// Nowhere special; so many bytes of `://` have been seen.
    #[default]
    Any,
    Colon,
    ColonSlash,
    /// Behind `://`, before what ends the authority.
    Authority,
    /// In the brackets of an IPv6 address.
    Bracket,
    /// Behind the authority's `:`.
    Password,
    /// In the name of a parameter.
    Name,
    /// In the value of a parameter that is a credential.
    Secret,
}

/// Scans one line.
#[derive(Clone, Debug)]
pub(super) struct Scan {
    place: Place,
    name: Vec<u8>,
    /// Whether `#` ends a parameter and begins others: in a `Location` it does, a request line has no fragment.
    fragments: bool,
}

impl Scan {
    pub(super) const fn new(fragments: bool) -> Self {
        Self { place: Place::Any, name: Vec::new(), fragments }
    }

    /// Begins a new line.
    pub(super) fn restart(&mut self, fragments: bool) {
        self.place = Place::Any;
        self.fragments = fragments;
    }

    /// The `:` right before the first byte counts: a line may begin with `http://`.
    pub(super) const fn after_colon(&mut self) {
        self.place = Place::Colon;
    }

    /// Nothing of a URL is under way: bytes that do not wake it change nothing.
    pub(super) fn is_idle(&self) -> bool {
        self.place == Place::Any
    }

    /// Whether a byte ends the line, or may begin a part of a URL.
    pub(super) const fn wakes(byte: u8) -> bool {
        matches!(byte, b'\n' | b':' | b'?' | b'&' | b'#')
    }

    /// Decides the next byte; the caller ends the line.
    pub(super) fn step(&mut self, byte: u8, ledger: &mut Ledger) -> Fate {
        match self.place {
            Place::Secret if !self.ends_parameter(byte) => return hide(byte, ledger),
            Place::Password if !ends_password(byte) => return hide(byte, ledger),
            Place::Secret => ledger.end(),
            Place::Password if byte == b'@' => ledger.end(),
            Place::Password => ledger.end_as_port(),
            _ => {}
        }
        self.place = self.next(byte, ledger);
        Fate::Show
    }

    /// The line is over, and with it what was open.
    pub(super) fn line_end(&mut self, ledger: &mut Ledger) {
        match self.place {
            Place::Password => ledger.end_as_port(),
            Place::Secret => ledger.end(),
            _ => {}
        }
        self.place = Place::Any;
    }

    fn next(&mut self, byte: u8, ledger: &mut Ledger) -> Place {
        match (self.place, byte) {
            (Place::Bracket, b']') | (Place::Password, b'@') | (Place::ColonSlash, b'/') => {
                return Place::Authority;
            }
            (Place::Bracket, byte) if !ends_authority(byte) => return Place::Bracket,
            (Place::Authority, b'[') => return Place::Bracket,
            (Place::Authority, b':') => {
                ledger.begin_port("url-password");
                return Place::Password;
            }
            (Place::Authority, byte) if !ends_authority(byte) => return Place::Authority,
            (Place::Name, b'=') => return self.parameter(ledger),
            (Place::Colon, b'/') => return Place::ColonSlash,
            _ => {}
        }
        match byte {
            b'?' | b'&' => self.begin_name(),
            b'#' if self.fragments => self.begin_name(),
            b':' => Place::Colon,
            b' ' | b'\t' | b'/' | b'<' | b'>' | b'"' => Place::Any,
            byte if self.place == Place::Name && self.name.len() < NAME_BYTES_MAX => {
                self.name.push(byte);
                Place::Name
            }
            _ => Place::Any,
        }
    }

    fn begin_name(&mut self) -> Place {
        self.name.clear();
        Place::Name
    }

    fn parameter(&self, ledger: &mut Ledger) -> Place {
        match names::parameter(&percent_decoded(&self.name)) {
            Some(known) => {
                ledger.begin_next(&format!("query:{known}"));
                Place::Secret
            }
            None => Place::Any,
        }
    }

    const fn ends_parameter(&self, byte: u8) -> bool {
        match byte {
            b'&' => true,
            b'#' => self.fragments,
            byte => byte.is_ascii_whitespace(),
        }
    }
}

/// Hides `byte` as part of the open value.
pub(super) fn hide(byte: u8, ledger: &mut Ledger) -> Fate {
    ledger.push(&[byte]);
    Fate::Hide
}

const fn ends_authority(byte: u8) -> bool {
    matches!(byte, b'/' | b'?' | b'#' | b'"' | b'<' | b'>') || byte.is_ascii_whitespace()
}

/// Quotation marks and angle brackets stay hidden: sloppy clients leave them unescaped in passwords.
const fn ends_password(byte: u8) -> bool {
    matches!(byte, b'/' | b'?' | b'#' | b'@') || byte.is_ascii_whitespace()
}

/// `name` with its percent-encodings resolved; broken ones stay.
fn percent_decoded(name: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(name.len());
    let mut rest = name;
    while let Some((byte, tail)) = rest.split_first() {
        let digits = tail.first_chunk::<2>().map(|pair| pair.map(|digit| char::from(digit).to_digit(16)));
        if let (b'%', Some([Some(high), Some(low)])) = (byte, digits) {
            decoded.extend(u8::try_from(high * 16 + low));
            rest = tail.get(2..).unwrap_or_default();
        } else {
            decoded.push(*byte);
            rest = tail;
        }
    }
    decoded
}
