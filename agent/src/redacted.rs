//! The tap of bytes that nobody here reads: records them as they came, but for credentials.
//!
//! Never interprets them beyond the credentials that a process sends in clear, which are redacted in the record.

use std::fmt;

use crewtap_core::bodies::{Note, Tls};
use crewtap_core::mask::digest::DigestKey;
use crewtap_core::mask::stream::Redactor;
use crewtap_core::run::Mode;
use crewtap_core::session::Side;
use crewtap_core::sniff;
use crewtap_core::wire::tls::begins_like_tls;

use crate::leg::Farewell;
use crate::recorder::Unrecorded;
use crate::relay::{Blocked, Next, Taken, Tap};
use crate::session::Session;

/// Redacts credentials in both directions, by what the bytes are. A port is no reason to look away: what says nothing of
/// itself is read as text.
pub struct Redacted<'s> {
    session: &'s Session,
    key: DigestKey,
    port: u16,
    sides: Option<(Redactor, Redactor)>,
    /// Which sides have said something.
    said: [bool; 2],
}

impl fmt::Debug for Redacted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redacted").field("port", &self.port).finish_non_exhaustive()
    }
}

impl<'s> Redacted<'s> {
    /// Of a session of which nothing was said yet.
    #[must_use]
    pub fn new(session: &'s Session) -> Self {
        let port = session.origin().destination.port();
        Self { session, key: session.digest_key().clone(), port, sides: None, said: [false; 2] }
    }

    /// The redactors, chosen by the first bytes of whoever speaks first.
    fn sides(&mut self, side: Side, first: &[u8]) -> &mut (Redactor, Redactor) {
        let (key, port) = (&self.key, self.port);
        self.sides.get_or_insert_with(|| {
            let protocol = match side {
                Side::Client => sniff::settle(first, &[], port),
                Side::Server => sniff::settle(&[], first, port),
            };
            (Redactor::new(protocol, Side::Client, key), Redactor::new(protocol, Side::Server, key))
        })
    }

    /// TLS where none was expected (behind a greeting, in a tunnel) is not opened, and says so; in enforce mode it does not
    /// pass, like all TLS that cannot be opened.
    fn mark(&self, side: Side, bytes: &[u8]) -> Result<(), Blocked> {
        let [begun, _] = self.said;
        if side == Side::Client && !begun && begins_like_tls(bytes) && !self.session.has_passed_tls() {
            let text = "the client speaks TLS where none was expected: what it says is not on record";
            self.session.record(Tls { why: Some(format!("tls_inside: {text}")), ..Tls::default() })?;
            self.session.record(Note { code: "tls_inside".into(), text: text.into() })?;
            if self.session.mode() == Mode::Enforce {
                return Err(Blocked::Refused { why: format!("TLS that cannot be opened: {text}"), answer: Vec::new() });
            }
        }
        Ok(())
    }

    /// Records what is known only at the end: how much was redacted.
    pub fn finish(self) {
        let session = self.session;
        if let Err(error) = self.count() {
            tracing::error!(session = %session.id(), %error, "what was redacted could not be counted on record");
        }
    }

    fn count(self) -> Result<(), Unrecorded> {
        let Some((client, server)) = self.sides else { return Ok(()) };
        for mut redactor in [client, server] {
            redactor.finish();
            if let Some(masked) = redactor.masked() {
                self.session.record(masked)?;
            }
        }
        Ok(())
    }
}

impl Tap for Redacted<'_> {
    fn take(&mut self, side: Side, bytes: &[u8]) -> Result<Taken, Blocked> {
        let session = self.session;
        if !session.may_be_unmasked("its bytes are not decoded")? {
            let why = "bytes that are not decoded, from a target whose values are masked".to_owned();
            return Err(Blocked::Refused { why, answer: Vec::new() });
        }
        self.mark(side, bytes)?;
        let [client, server] = &mut self.said;
        *(if side == Side::Client { client } else { server }) = true;
        let (client, server) = self.sides(side, bytes);
        let shown = match side {
            Side::Client => client.feed(bytes),
            Side::Server => server.feed(bytes),
        };
        let position = session.record_bytes(side, &shown)?;
        Ok(Taken::all(bytes, Some(position)))
    }

    fn ended(&mut self, side: Side, _rest: &[u8], farewell: Farewell) -> Result<Taken, Blocked> {
        // Who has said nothing has nothing that could be cut off.
        let [client, server] = self.said;
        let said = if side == Side::Client { client } else { server };
        if farewell == Farewell::Cut && said {
            let who = if side == Side::Client { "the client" } else { "the target" };
            let text = format!("{who} ended the connection without ending its TLS: what it said last may be cut off");
            self.session.record(Note { code: "tls_truncated".into(), text })?;
        }
        // Everything was taken as it came: what is left is nobody's to forward.
        Ok(Taken::some(0, None, Next::Over))
    }
}
