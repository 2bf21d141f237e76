//! The driver of everything that is not decoded: relays and records bytes.
//!
//! Never interprets them beyond the credentials that a process sends in clear, which are redacted in the record.

use std::borrow::Cow;

use crewtap_core::bodies::Classified;
use crewtap_core::mask::stream::Redactor;
use crewtap_core::session::{Outcome, Side};
use crewtap_core::sniff::Protocol;
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
    let tap = Redacted::new(&session, &client.classified.protocol);
    serve_with(session, client, tap).await;
}

/// Connects to the target and relays until both sides have ended; shared with drivers that only listen in.
pub(super) async fn serve_with(session: Session, client: Client, mut tap: impl Finish) {
    let Client { stream, first, classified } = client;
    let target = match connect(&session, &classified).await {
        Ok(target) => target,
        Err(end) => {
            dial::reset(stream);
            return session.close(end.outcome, end.error);
        }
    };
    let run = session.run().clone();
    let end = tokio::select! {
        end = relay::relay(&session, &mut tap, stream, target, first) => end,
        () = run.ended() => End {
            outcome: Outcome::Aborted,
            error: Some("the run had ended while the target kept the connection open".into()),
        },
    };
    if let Err(error) = tap.finish(&session) {
        tracing::error!(session = %session.id(), %error, "what was redacted could not be counted on record");
    }
    session.close(end.outcome, end.error);
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

/// Redacts credentials in both directions.
pub(super) struct Redacted {
    client: Redactor,
    server: Redactor,
}

impl Redacted {
    pub(super) fn new(session: &Session, protocol: &str) -> Self {
        let protocol = Protocol::ALL.iter().copied().find(|known| known.as_str() == protocol);
        let key = session.digest_key();
        Self { client: Redactor::new(protocol, Side::Client, key), server: Redactor::new(protocol, Side::Server, key) }
    }
}

impl Tap for Redacted {
    fn shown<'a>(&mut self, side: Side, bytes: &'a [u8]) -> Cow<'a, [u8]> {
        match side {
            Side::Client => self.client.feed(bytes),
            Side::Server => self.server.feed(bytes),
        }
    }

    fn forwarding(&mut self, _side: Side, _bytes: &[u8]) -> Result<(), Unrecorded> {
        Ok(())
    }
}

impl Finish for Redacted {
    fn finish(self, session: &Session) -> Result<(), Unrecorded> {
        for mut redactor in [self.client, self.server] {
            redactor.finish();
            if let Some(masked) = redactor.masked() {
                session.record(masked)?;
            }
        }
        Ok(())
    }
}
