//! Redaction of clear-text streams that are recorded as opaque bytes.
//!
//! Owns one state machine per form of protocol. Law 1 lets nothing be held back: every byte is decided as it comes,
//! so a byte is hidden as soon as it could belong to a credential, and what the record shows has the stream's own
//! length and positions. The same stream gives the same record however it is cut into pieces.
//!
//! Covered: HTTP/1 and text of unknown kind ([`text`]), HTTP/2 in clear text (header blocks as a whole), `PostgreSQL`
//! log-ins, FTP, SMTP, POP3 and IMAP log-ins, Redis log-ins. TLS and SSH pass as they are: their log-ins are
//! encrypted. Not covered, and the masking engine's: credentials in bodies, in SQL texts, in compressed content, in
//! tokens that no header or parameter of the lists names, and log-ins of protocols that are not listed here.

mod command;
mod http2;
mod ledger;
mod postgres;
mod redis;
pub mod text;
mod url;

use std::borrow::Cow;

use crate::bodies::Masked;
use crate::mask::digest::DigestKey;
use crate::session::Side;
use crate::sniff::Protocol;
use ledger::Ledger;
pub use ledger::Value;

/// What the record shows for each hidden byte.
pub const HIDDEN: u8 = b'*';

/// Whether one byte may be shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fate {
    Show,
    Hide,
}

/// Reads one stream. Bytes that [`Walk::idle`] lets pass are not offered to [`Walk::step`].
trait Walk: Send {
    /// How many bytes at the start of `bytes` may be shown and change nothing.
    fn idle(&mut self, bytes: &[u8]) -> usize;
    /// Decides the next byte.
    fn step(&mut self, byte: u8, ledger: &mut Ledger) -> Fate;
}

/// Redacts one direction of one session.
pub struct Redactor {
    /// None where nothing is ever hidden.
    walk: Option<Box<dyn Walk>>,
    ledger: Ledger,
    /// Values that [`Redactor::masked`] has told already.
    told: u64,
}

impl Redactor {
    /// For what `side` sends in `protocol`; `None` is a stream of unknown kind.
    #[must_use]
    pub fn new(protocol: Option<Protocol>, side: Side, key: &DigestKey) -> Self {
        Self { walk: walk(protocol, side), ledger: Ledger::new(key), told: 0 }
    }

    /// What to record for `bytes`, the stream's next ones: as many, with the bytes of credentials hidden.
    pub fn feed<'a>(&mut self, bytes: &'a [u8]) -> Cow<'a, [u8]> {
        let mut shown = Cow::Borrowed(bytes);
        let Some(walk) = &mut self.walk else { return shown };
        let mut at = 0;
        while let Some(rest) = bytes.get(at..) {
            let idle = walk.idle(rest).min(rest.len());
            self.ledger.advance(idle);
            at += idle;
            let Some(byte) = bytes.get(at) else { break };
            if walk.step(*byte, &mut self.ledger) == Fate::Hide
                && let Some(place) = shown.to_mut().get_mut(at)
            {
                *place = HIDDEN;
            }
            self.ledger.advance(1);
            at += 1;
        }
        shown
    }

    /// The stream has ended: a value that was still open is complete.
    pub fn finish(&mut self) {
        self.ledger.end();
    }

    /// How many values were hidden so far, the open one not counted.
    #[must_use]
    pub const fn count(&self) -> u64 {
        self.ledger.count()
    }

    /// Complete values since the last [`Redactor::take`], at most [`crate::limits::REDACTED_VALUES_MAX`].
    #[must_use]
    pub fn values(&self) -> &[Value] {
        self.ledger.values()
    }

    /// What was hidden since the last call, as the body of an event; none where nothing was.
    pub fn masked(&mut self) -> Option<Masked> {
        let count = self.ledger.count().saturating_sub(self.told);
        self.told = self.ledger.count();
        let values = self.ledger.take().iter().map(ToString::to_string).collect();
        (count > 0).then(|| Masked { mask: "credentials".into(), count, values, ..Masked::default() })
    }

    /// Hands over the complete values, which makes room for more.
    pub fn take(&mut self) -> Vec<Value> {
        self.ledger.take()
    }
}

fn walk(protocol: Option<Protocol>, side: Side) -> Option<Box<dyn Walk>> {
    Some(match (protocol, side) {
        (Some(Protocol::H2c), side) => Box::new(http2::Frames::new(side)),
        (Some(Protocol::Postgres), Side::Client) => Box::new(postgres::Frames::default()),
        (Some(Protocol::Ftp | Protocol::Smtp | Protocol::Pop3), Side::Client) => Box::new(command::Lines::plain()),
        (Some(Protocol::Imap), Side::Client) => Box::new(command::Lines::tagged()),
        (Some(Protocol::Redis), Side::Client) => Box::new(redis::Requests::default()),
        // Encrypted, or servers that say nothing secret.
        (Some(Protocol::Tls | Protocol::Ssh), _)
        | (
            Some(
                Protocol::Postgres | Protocol::Redis | Protocol::Ftp | Protocol::Smtp | Protocol::Pop3 | Protocol::Imap,
            ),
            Side::Server,
        ) => return None,
        _ => Box::new(text::Lines::default()),
    })
}

/// Fuzz entry: first byte chooses protocol and side, the second where the rest is cut.
///
/// # Panics
/// Where the output's length differs from the input's, or a cut changes it; the fuzzer and the tests look for it.
pub fn fuzz_stream(data: &[u8]) {
    let Some(([choice, cut], bytes)) = data.split_first_chunk::<2>() else { return };
    let key = DigestKey::new(&[7; 32]);
    let protocols = [
        None,
        Some(Protocol::Http),
        Some(Protocol::H2c),
        Some(Protocol::Postgres),
        Some(Protocol::Smtp),
        Some(Protocol::Imap),
        Some(Protocol::Redis),
        Some(Protocol::Tls),
    ];
    let protocol = protocols.get(usize::from(choice >> 1) % protocols.len()).copied().flatten();
    let side = if choice & 1 == 0 { Side::Client } else { Side::Server };
    let mut whole = Redactor::new(protocol, side, &key);
    let expected = whole.feed(bytes).into_owned();
    assert_eq!(expected.len(), bytes.len());
    let mut pieces = Redactor::new(protocol, side, &key);
    let (head, tail) = bytes.split_at(usize::from(*cut).min(bytes.len()));
    let mut found = pieces.feed(head).into_owned();
    for byte in tail.chunks(1 + usize::from(*cut % 7)) {
        found.extend_from_slice(&pieces.feed(byte));
    }
    assert!(expected == found, "a cut changed what is shown");
    whole.finish();
    pieces.finish();
    assert_eq!(whole.values(), pieces.values());
}

#[cfg(test)]
mod tests;
