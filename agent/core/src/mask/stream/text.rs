//! HTTP/1 messages, and text of unknown kind, line by line.
//!
//! Owns the rules for lines: a header of the list hides its value, continuation lines included (obs-fold, RFC 9112
//! section 5.2), with the scheme's word shown in `Authorization`; every other header and every request line is
//! scanned for URLs. Message framing is left alone on purpose: two peers can disagree about where a body ends, and
//! a line that looks like a credential is hidden in a body too. A body that does not end its last line is followed
//! by the next request in the middle of a line; so upper-case letters, a space and a path are a request line
//! wherever they stand.
//!
//! The word behind `Authorization:` is shown only as far as it spells a known scheme. A credential without a scheme
//! is hidden from its first byte that spells none; by then it may have shown the letters that it shares with one.

use super::ledger::Ledger;
use super::url::{Scan, hide};
use super::{Fate, Walk, http2};
use crate::mask::names::{self, HeaderRule};
use crate::session::Side;

/// Where in a line the next byte is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Place {
    /// Before its first byte.
    Start,
    /// In a word that may be a header's name.
    Name,
    /// Behind a listed header's name, before its colon.
    NameGap(&'static str, HeaderRule),
    /// Behind a listed header's colon, in the white space.
    ValueGap(&'static str, HeaderRule),
    /// In the word that may be a scheme.
    Scheme(&'static str),
    /// Behind the scheme, in the white space.
    SchemeGap,
    /// In a value that is hidden.
    Secret,
    /// In what is scanned for URLs.
    Url,
    /// In what is shown.
    Plain,
}

/// What a line that begins with white space continues.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Before {
    Secret,
    Header,
    Other,
}

/// The state between two bytes.
pub(super) struct Lines {
    place: Place,
    before: Before,
    /// The name or scheme under way; longer ones than the lists hold are cut one behind.
    word: Vec<u8>,
    /// What the next hidden byte begins.
    pending: Option<String>,
    scan: Scan,
    /// Upper-case letters in a row, then their space: what a request line begins with.
    method: Method,
    /// How much of the HTTP/2 preface has been seen; then its frames.
    preface: usize,
    frames: Option<http2::Frames>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Method {
    Letters(u8),
    Space,
}

impl Default for Lines {
    fn default() -> Self {
        Self {
            place: Place::Start,
            before: Before::Other,
            word: Vec::new(),
            pending: None,
            scan: Scan::new(false),
            method: Method::Letters(0),
            preface: 0,
            frames: None,
        }
    }
}

impl Walk for Lines {
    fn idle(&mut self, bytes: &[u8]) -> usize {
        if let Some(frames) = &mut self.frames {
            return frames.idle(bytes);
        }
        match self.place {
            Place::Plain if self.method == Method::Letters(0) => {
                let passing = quiet(bytes, |byte| byte == b'\n' || byte.is_ascii_uppercase());
                if passing > 0 {
                    self.preface = 0;
                }
                passing
            }
            // No listed header has so long a name; what ends it still counts.
            Place::Name if self.preface == 0 && self.word.len() > names::HEADER_NAME_MAX => {
                quiet(bytes, |byte| !is_token(byte))
            }
            Place::Url if self.preface == 0 && self.scan.is_idle() => quiet(bytes, Scan::wakes),
            _ => 0,
        }
    }

    fn step(&mut self, byte: u8, ledger: &mut Ledger) -> Fate {
        if let Some(frames) = &mut self.frames {
            return frames.step(byte, ledger);
        }
        self.watch_preface(byte);
        if byte == b'\n' {
            self.line_end(ledger);
            return Fate::Show;
        }
        match self.place {
            Place::Start => self.start(byte, ledger),
            Place::Name => self.name(byte),
            Place::NameGap(name, rule) => self.name_gap(byte, name, rule),
            Place::ValueGap(name, rule) => return self.value_gap(byte, name, rule, ledger),
            Place::Scheme(name) => return self.scheme(byte, name, ledger),
            Place::SchemeGap if is_blank(byte) || byte == b'\r' => {}
            Place::SchemeGap | Place::Secret => return self.secret(byte, ledger),
            Place::Url => return self.scan.step(byte, ledger),
            Place::Plain => self.plain(byte),
        }
        Fate::Show
    }
}

impl Lines {
    /// A connection that was upgraded goes on with the preface of RFC 9113 section 3.4.
    fn watch_preface(&mut self, byte: u8) {
        let expected = http2::PREFACE.get(self.preface);
        if expected == Some(&byte) && (self.preface > 0 || self.place == Place::Start) {
            self.preface += 1;
            if self.preface == http2::PREFACE.len() {
                self.frames = Some(http2::Frames::new(Side::Server));
            }
        } else {
            self.preface = 0;
        }
    }

    fn line_end(&mut self, ledger: &mut Ledger) {
        self.before = match self.place {
            Place::Scheme(name) => {
                self.scheme_alone(name, ledger);
                Before::Secret
            }
            Place::ValueGap(name, _) => {
                self.pending.get_or_insert_with(|| name.into());
                Before::Secret
            }
            Place::SchemeGap | Place::Secret => Before::Secret,
            Place::Url => {
                self.scan.line_end(ledger);
                self.before
            }
            _ => Before::Other,
        };
        self.place = Place::Start;
        self.method = Method::Letters(0);
    }

    fn start(&mut self, byte: u8, ledger: &mut Ledger) {
        self.scan.restart(true);
        if is_blank(byte) {
            self.place = match self.before {
                Before::Secret => Place::SchemeGap,
                Before::Header => Place::Url,
                Before::Other => Place::Plain,
            };
            return;
        }
        ledger.end();
        self.pending = None;
        self.before = Before::Other;
        self.word.clear();
        self.place = Place::Name;
        self.name(byte);
    }

    fn name(&mut self, byte: u8) {
        match byte {
            b':' => {
                self.before = Before::Header;
                self.place = match names::header(&self.word) {
                    Some((name, rule)) => Place::ValueGap(name, rule),
                    None => self.url(true),
                };
            }
            b' ' | b'\t' => {
                self.place = match names::header(&self.word) {
                    Some((name, rule)) => Place::NameGap(name, rule),
                    None => self.url(false),
                };
            }
            byte if is_token(byte) => {
                if self.word.len() <= names::HEADER_NAME_MAX {
                    self.word.push(byte);
                }
            }
            _ => {
                self.place = Place::Plain;
                self.plain(byte);
            }
        }
    }

    fn name_gap(&mut self, byte: u8, name: &'static str, rule: HeaderRule) {
        match byte {
            b':' => {
                self.before = Before::Header;
                self.place = Place::ValueGap(name, rule);
            }
            byte if is_blank(byte) => {}
            _ => self.place = self.url(false),
        }
    }

    fn url(&mut self, header: bool) -> Place {
        self.scan.restart(header);
        if header {
            self.scan.after_colon();
        }
        Place::Url
    }

    fn value_gap(&mut self, byte: u8, name: &'static str, rule: HeaderRule, ledger: &mut Ledger) -> Fate {
        if is_blank(byte) || byte == b'\r' {
            return Fate::Show;
        }
        match rule {
            HeaderRule::Whole => {
                self.pending = Some(name.into());
                self.secret(byte, ledger)
            }
            HeaderRule::AfterScheme => {
                self.word.clear();
                self.place = Place::Scheme(name);
                self.scheme(byte, name, ledger)
            }
        }
    }

    fn scheme(&mut self, byte: u8, name: &'static str, ledger: &mut Ledger) -> Fate {
        if is_blank(byte)
            && let Some(scheme) = names::scheme(&self.word)
        {
            self.pending = Some(format!("{name}:{scheme}"));
            self.place = Place::SchemeGap;
            return Fate::Show;
        }
        if byte == b'\r' {
            return Fate::Show;
        }
        self.word.push(byte);
        if names::begins_scheme(&self.word) {
            return Fate::Show;
        }
        self.word.pop();
        ledger.begin(name.into(), &self.word);
        self.secret(byte, ledger)
    }

    /// The line ends in the scheme's word; where it is none, it was the credential.
    fn scheme_alone(&mut self, name: &'static str, ledger: &mut Ledger) {
        if let Some(scheme) = names::scheme(&self.word) {
            self.pending = Some(format!("{name}:{scheme}"));
        } else {
            ledger.begin(name.into(), &self.word);
        }
    }

    fn secret(&mut self, byte: u8, ledger: &mut Ledger) -> Fate {
        self.place = Place::Secret;
        if byte == b'\r' {
            return Fate::Show;
        }
        if let Some(scheme) = self.pending.take() {
            ledger.begin(scheme, &[]);
        }
        hide(byte, ledger)
    }

    fn plain(&mut self, byte: u8) {
        /// The shortest method has three letters.
        const LETTERS_MIN: u8 = 3;
        self.method = match (self.method, byte) {
            (Method::Letters(count), b'A'..=b'Z') => Method::Letters(count.saturating_add(1)),
            (Method::Letters(LETTERS_MIN..), b' ') => Method::Space,
            (Method::Space, b'/' | b'h' | b'H') => {
                self.before = Before::Other;
                self.place = self.url(false);
                Method::Letters(0)
            }
            (Method::Space, b'A'..=b'Z') => Method::Letters(1),
            _ => Method::Letters(0),
        };
    }
}

/// How many bytes at the start of `bytes` are not `loud`. In blocks, which the compiler turns into vector instructions:
/// bodies are nearly all that passes here.
fn quiet(bytes: &[u8], loud: impl Fn(u8) -> bool) -> usize {
    const BLOCK: usize = 32;
    let (blocks, _) = bytes.as_chunks::<BLOCK>();
    let is_quiet = |block: &&[u8; BLOCK]| !block.iter().fold(false, |any, byte| any | loud(*byte));
    let passed = BLOCK * blocks.iter().take_while(is_quiet).count();
    let rest = bytes.get(passed..).unwrap_or_default();
    passed + rest.iter().position(|byte| loud(*byte)).unwrap_or(rest.len())
}

const fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

/// What a header's name or a method may consist of (RFC 9110 section 5.6.2).
const fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~'
        )
}
