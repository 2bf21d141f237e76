//! Log-ins of Redis clients: AUTH, HELLO … AUTH, MIGRATE … AUTH, passwords in CONFIG SET and ACL SETUSER.
//!
//! Owns requests in both forms, arrays of bulk strings and inline commands (RESP specification). Keys and values of
//! other commands are shown: they are data. Where an array breaks the format, its rest is read as inline commands.

use super::ledger::Ledger;
use super::url::hide;
use super::{Fate, Walk};

/// Longest word that matters (`tls-client-key-file-pass`).
const WORD_MAX: usize = 24;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Place {
    /// Before a request.
    Start,
    /// In the number of arguments.
    Count,
    /// Before the `$` of an argument.
    Bulk,
    /// In an argument's length.
    Length,
    /// In an argument that is shown, or hidden, with so many bytes left.
    Shown(u64),
    Hidden(u64),
    /// In the line end behind an argument.
    Trailer,
    /// In an inline command.
    Inline,
    /// In an inline command's rest, which is hidden.
    InlineHidden,
}

/// The state between two bytes.
pub(super) struct Requests {
    place: Place,
    number: u64,
    /// Arguments announced, and the index of the present one.
    count: u64,
    index: u64,
    command: Vec<u8>,
    word: Vec<u8>,
    /// What the next argument is because of those before it.
    next: Next,
}

/// What an argument is because of those before it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Next {
    Ordinary,
    /// A user name, then a password.
    User,
    Password,
}

impl Default for Requests {
    fn default() -> Self {
        Self {
            place: Place::Start,
            number: 0,
            count: 0,
            index: 0,
            command: Vec::new(),
            word: Vec::new(),
            next: Next::Ordinary,
        }
    }
}

impl Requests {
    fn begin_request(&mut self) {
        self.index = 0;
        self.count = 0;
        self.command.clear();
        self.word.clear();
        self.next = Next::Ordinary;
    }

    /// A shown argument is complete: what does it make of the next one?
    fn argument_end(&mut self) {
        let word = std::mem::take(&mut self.word).to_ascii_lowercase();
        if self.index == 0 {
            self.command.clone_from(&word);
        }
        let after_user = self.next == Next::User;
        self.next = match (self.command.as_slice(), word.as_slice()) {
            _ if after_user => Next::Password,
            (b"auth", _) if self.index == 0 => {
                if self.count >= 3 {
                    Next::User
                } else {
                    Next::Password
                }
            }
            (b"hello" | b"migrate", b"auth2") | (b"hello", b"auth") => Next::User,
            (b"migrate", b"auth")
            | (b"config" | b"sentinel", b"requirepass" | b"masterauth" | b"auth-pass" | b"sentinel-pass")
            | (b"config", b"tls-key-file-pass" | b"tls-client-key-file-pass") => Next::Password,
            _ => Next::Ordinary,
        };
        self.index += 1;
    }

    /// Whether an argument that begins with `byte` is a password behind its sign (ACL SETUSER name >password).
    fn is_acl_password(&self, byte: u8) -> bool {
        self.command == b"acl" && self.index >= 2 && self.word.is_empty() && matches!(byte, b'>' | b'<' | b'#' | b'!')
    }

    fn argument_begin(&mut self, ledger: &mut Ledger) {
        self.place = match (self.number, self.next) {
            (0, _) => {
                self.argument_end();
                Place::Trailer
            }
            (len, Next::Password) => {
                ledger.begin_next("redis-password");
                Place::Hidden(len)
            }
            (len, _) => Place::Shown(len),
        };
    }

    fn number_step(&mut self, byte: u8) {
        if byte.is_ascii_digit() {
            self.number = self.number.saturating_mul(10).saturating_add(u64::from(byte - b'0'));
        }
    }

    fn shown_step(&mut self, byte: u8, left: u64, ledger: &mut Ledger) {
        if self.is_acl_password(byte) && left > 1 {
            ledger.begin_next("redis-password");
            self.word.push(byte);
            self.place = Place::Hidden(left - 1);
            return;
        }
        if self.word.len() <= WORD_MAX {
            self.word.push(byte);
        }
        self.place = Place::Shown(left - 1);
        if left == 1 {
            self.argument_end();
            self.place = Place::Trailer;
        }
    }

    fn inline_step(&mut self, byte: u8, ledger: &mut Ledger) {
        match byte {
            b' ' | b'\t' if self.word.is_empty() => {}
            b' ' | b'\t' => {
                self.argument_end();
                // How many words follow is not known yet, so a user name is hidden with its password.
                if self.next != Next::Ordinary {
                    ledger.begin_next("redis-password");
                    self.place = Place::InlineHidden;
                }
            }
            byte if self.is_acl_password(byte) => {
                ledger.begin_next("redis-password");
                self.place = Place::InlineHidden;
            }
            byte if self.word.len() <= WORD_MAX => self.word.push(byte),
            _ => {}
        }
    }

    fn line_end(&mut self, ledger: &mut Ledger) {
        self.place = match self.place {
            Place::Count => {
                self.count = self.number;
                self.after_argument()
            }
            Place::Length => return self.argument_begin(ledger),
            Place::Trailer => self.after_argument(),
            _ => {
                ledger.end();
                Place::Start
            }
        };
    }

    const fn after_argument(&self) -> Place {
        if self.index < self.count { Place::Bulk } else { Place::Start }
    }
}

impl Walk for Requests {
    fn idle(&mut self, bytes: &[u8]) -> usize {
        let Place::Shown(left) = self.place else { return 0 };
        if self.word.len() <= WORD_MAX {
            return 0;
        }
        // The last byte of an argument is a step of its own: it ends the word.
        let passing = usize::try_from(left - 1).unwrap_or(usize::MAX).min(bytes.len());
        self.place = Place::Shown(left - passing as u64);
        passing
    }

    fn step(&mut self, byte: u8, ledger: &mut Ledger) -> Fate {
        match (self.place, byte) {
            (Place::Hidden(left), byte) => {
                self.place = Place::Hidden(left - 1);
                let fate = hide(byte, ledger);
                if left == 1 {
                    ledger.end();
                    self.next = Next::Ordinary;
                    self.word.clear();
                    self.index += 1;
                    self.place = Place::Trailer;
                }
                return fate;
            }
            (Place::Shown(left), byte) => self.shown_step(byte, left, ledger),
            (_, b'\n') => self.line_end(ledger),
            (_, b'\r') => {}
            (Place::InlineHidden, byte) => return hide(byte, ledger),
            (Place::Start, b'*') => {
                self.begin_request();
                self.number = 0;
                self.place = Place::Count;
            }
            (Place::Bulk, b'$') => {
                self.number = 0;
                self.place = Place::Length;
            }
            (Place::Count | Place::Length, byte) => self.number_step(byte),
            (Place::Trailer | Place::Bulk | Place::Start, byte) => {
                self.begin_request();
                self.place = Place::Inline;
                self.inline_step(byte, ledger);
            }
            (Place::Inline, byte) => self.inline_step(byte, ledger),
        }
        Fate::Show
    }
}
