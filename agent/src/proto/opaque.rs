//! The driver of everything that is not decoded: relays and records bytes.
//!
//! Never interprets them beyond the credentials that a process sends in clear, which are redacted in the record.

use std::borrow::Cow;

use crewtap_core::bodies::Classified;
use crewtap_core::limits;
use crewtap_core::mask::digest::DigestKey;
use crewtap_core::mask::stream::Redactor;
use crewtap_core::session::{Outcome, Side};
use crewtap_core::sniff;
use tokio::net::TcpStream;

use super::{Client, Driver};
use crate::dial;
use crate::recorder::Unrecorded;
use crate::relay::{self, End, Tap};
use crate::session::{AskError, Session};

/// The last row of the table.
pub const DRIVER: Driver =
    Driver { name: "opaque", protocols: &[], serve: |session, client| Box::pin(serve(session, client)) };

async fn serve(session: Session, client: Client) {
    let tap = Redacted::new(&session);
    serve_with(session, client, tap).await;
}

/// Connects to the target and relays until both sides have ended; shared with drivers that only listen in.
pub(super) async fn serve_with(session: Session, client: Client, mut tap: impl Finish) {
    let end = tokio::select! {
        end = connect_and_relay(&session, &mut tap, client) => end,
        () = session.abandoned() => End {
            outcome: Outcome::Aborted,
            error: Some(format!("the run had ended, and nothing moved for {} s", limits::DRAIN_WAIT.as_secs())),
        },
    };
    if let Err(error) = tap.finish(&session) {
        tracing::error!(session = %session.id(), %error, "what was redacted could not be counted on record");
    }
    session.close(end.outcome, end.error);
}

async fn connect_and_relay(session: &Session, tap: &mut impl Finish, client: Client) -> End {
    let Client { stream, first, classified } = client;
    match connect(session, &classified).await {
        Ok(target) => relay::relay(session, tap, stream, target, first).await,
        Err(end) => {
            dial::reset(stream);
            end
        }
    }
}

async fn connect(session: &Session, classified: &Classified) -> Result<TcpStream, End> {
    let permit = session.ask_connect(classified).map_err(|error| End {
        outcome: match error {
            AskError::Refused => Outcome::Refused,
            AskError::Unrecorded(_) => Outcome::Unrecorded,
        },
        error: Some(error.to_string()),
    })?;
    session.dial(&permit).await.map_err(|error| End { outcome: error.outcome(), error: Some(error.to_string()) })
}

/// A tap with something to say when its session ends.
pub(super) trait Finish: Tap {
    /// Records what is known only at the end.
    fn finish(self, session: &Session) -> Result<(), Unrecorded>;
}

/// Redacts credentials in both directions, by what the bytes are. A port is no reason to look away: what says nothing of
/// itself is read as text.
pub(super) struct Redacted {
    key: DigestKey,
    port: u16,
    sides: Option<(Redactor, Redactor)>,
}

impl Redacted {
    pub(super) fn new(session: &Session) -> Self {
        Self { key: session.digest_key().clone(), port: session.origin().destination.port(), sides: None }
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
}

impl Tap for Redacted {
    fn shown<'a>(&mut self, side: Side, bytes: &'a [u8]) -> Cow<'a, [u8]> {
        let (client, server) = self.sides(side, bytes);
        match side {
            Side::Client => client.feed(bytes),
            Side::Server => server.feed(bytes),
        }
    }

    fn forwarding(&mut self, _side: Side, _bytes: &[u8]) -> Result<(), Unrecorded> {
        Ok(())
    }
}

impl Finish for Redacted {
    fn finish(self, session: &Session) -> Result<(), Unrecorded> {
        let Some((client, server)) = self.sides else { return Ok(()) };
        for mut redactor in [client, server] {
            redactor.finish();
            if let Some(masked) = redactor.masked() {
                session.record(masked)?;
            }
        }
        Ok(())
    }
}
