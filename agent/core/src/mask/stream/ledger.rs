//! What was hidden: for every value its scheme, its length and its keyed digest.
//!
//! Owns the count and a bounded list. Never holds a byte of a value.

use std::fmt;

use crate::limits;
use crate::mask::digest::{Digest, DigestKey};

/// One value that was hidden.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Value {
    /// Where it stood: `authorization:bearer`, `query:api_key`, `url-password`, `postgres-password`, ….
    pub scheme: String,
    /// Position of its first byte in that side's stream.
    pub offset: u64,
    /// Its length in bytes, without line ends inside.
    pub len: u64,
    /// Its keyed digest; for a `url-port` the digits themselves.
    pub digest: String,
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.scheme, self.len, self.digest)
    }
}

/// The value that is passing.
struct Open {
    scheme: String,
    offset: u64,
    len: u64,
    digest: Digest,
    /// The first bytes, as long as they could be a port number.
    port: Option<Vec<u8>>,
}

/// Values of one stream.
pub(super) struct Ledger {
    key: DigestKey,
    open: Option<Open>,
    closed: Vec<Value>,
    count: u64,
    position: u64,
}

/// Digits of the largest port number.
const PORT_DIGITS_MAX: usize = 5;

impl Ledger {
    pub(super) fn new(key: &DigestKey) -> Self {
        Self { key: key.clone(), open: None, closed: Vec::new(), count: 0, position: 0 }
    }

    /// The stream has moved on by `bytes`.
    pub(super) fn advance(&mut self, bytes: usize) {
        self.position = self.position.saturating_add(bytes as u64);
    }

    /// A value begins at the present position, or began with `shown` right before it.
    pub(super) fn begin(&mut self, scheme: String, shown: &[u8]) {
        self.end();
        let mut digest = self.key.begin();
        digest.update(shown);
        let len = shown.len() as u64;
        self.open = Some(Open { scheme, offset: self.position.saturating_sub(len), len, digest, port: None });
    }

    /// A value begins behind the byte that is passing.
    pub(super) fn begin_next(&mut self, scheme: &str) {
        self.begin(scheme.into(), &[]);
        if let Some(open) = &mut self.open {
            open.offset = open.offset.saturating_add(1);
        }
    }

    /// A value begins that may turn out to be a port number.
    pub(super) fn begin_port(&mut self, scheme: &str) {
        self.begin_next(scheme);
        if let Some(open) = &mut self.open {
            open.port = Some(Vec::with_capacity(PORT_DIGITS_MAX));
        }
    }

    /// The open value's next bytes.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        let Some(open) = &mut self.open else { return };
        open.len = open.len.saturating_add(bytes.len() as u64);
        open.digest.update(bytes);
        if let Some(digits) = &mut open.port {
            if digits.len() + bytes.len() <= PORT_DIGITS_MAX && bytes.iter().all(u8::is_ascii_digit) {
                digits.extend_from_slice(bytes);
            } else {
                open.port = None;
            }
        }
    }

    /// What was open was no credential but a port.
    pub(super) fn end_as_port(&mut self) {
        let Some(open) = self.open.take() else { return };
        match open.port {
            Some(digits) if !digits.is_empty() => self.close(Value {
                scheme: "url-port".into(),
                offset: open.offset,
                len: open.len,
                digest: digits.iter().copied().map(char::from).collect(),
            }),
            port => {
                self.open = Some(Open { port, ..open });
                self.end();
            }
        }
    }

    /// The open value is complete; an empty one was none.
    pub(super) fn end(&mut self) {
        let Some(open) = self.open.take() else { return };
        if open.len > 0 {
            let digest = open.digest.finish();
            self.close(Value { scheme: open.scheme, offset: open.offset, len: open.len, digest });
        }
    }

    fn close(&mut self, value: Value) {
        self.count = self.count.saturating_add(1);
        if self.closed.len() < limits::REDACTED_VALUES_MAX {
            self.closed.push(value);
        }
    }

    pub(super) const fn count(&self) -> u64 {
        self.count
    }

    pub(super) fn values(&self) -> &[Value] {
        &self.closed
    }

    pub(super) fn take(&mut self) -> Vec<Value> {
        std::mem::take(&mut self.closed)
    }
}
