//! Connections that may not be opened: asked for as long as their client waits, and told why in the terms of their protocol.
//!
//! Never tells the target anything.

use crewtap_core::bodies::Classified;
use crewtap_core::session::Outcome;
use tokio::net::TcpStream;

use super::unrecorded;
use crate::classify::Known;
use crate::gate::Permit;
use crate::leg::Leg;
use crate::proto;
use crate::recorder::Unrecorded;
use crate::relay::{self, End, First};
use crate::session::{AskError, Session};

/// A connection that may not be opened, or whose client has gone while that was asked.
pub(super) enum Declined {
    Refused { policies: Vec<String>, why: String },
    Unrecorded(Unrecorded),
    Left,
}

/// A client that was refused, and how it can be told.
pub(super) struct Caller<'c> {
    pub(super) leg: Leg,
    pub(super) first: First,
    pub(super) classified: &'c Classified,
    /// It waits for the answer to its `ClientHello`.
    pub(super) greets: bool,
}

/// A fatal alert `access_denied` in clear, as an answer to a `ClientHello` (RFC 8446, section 6.2).
const ACCESS_DENIED: [u8; 7] = [21, 3, 3, 0, 2, 2, 49];

/// Asks whether the connection may be opened, as long as its client waits for it.
pub(super) async fn ask(
    session: &Session,
    classified: &Classified,
    client: impl Future<Output = ()>,
) -> Result<Permit, Declined> {
    tokio::select! {
        // Who says something and goes at once is served: only who leaves while somebody is asked has left.
        biased;
        permit = session.ask_connect(classified) => permit.map_err(|error| match error {
            AskError::Refused { policies, why } => Declined::Refused { policies, why },
            AskError::Unrecorded(error) => Declined::Unrecorded(error),
        }),
        () = client => Err(Declined::Left),
    }
}

impl Declined {
    /// Tells the client, in the terms of its protocol, and how the session ends.
    pub(super) async fn tell(self, session: &Session, caller: Caller<'_>) -> End {
        let (policies, why) = match self {
            Self::Refused { policies, why } => (policies, why),
            Self::Unrecorded(error) => return unrecorded(&error),
            Self::Left => {
                let error = Some("the client has gone while an approval was waited for".into());
                return End { outcome: Outcome::ClientReset, error };
            }
        };
        let Caller { leg, first, classified, greets } = caller;
        let refused = proto::Refused { session: session.id(), policies, why };
        let answer = match proto::driver(&classified.driver).refuse {
            _ if greets => ACCESS_DENIED.to_vec(),
            Some(refuse) => refuse(&leg, first, &refused).await,
            None => Vec::new(),
        };
        relay::tell(&leg, &answer).await;
        End { outcome: Outcome::Refused, error: Some(refused.sentence()) }
    }
}

/// A client that was refused before anything was opened.
pub(super) async fn turn_away(session: &Session, declined: Declined, stream: TcpStream, known: Known) -> End {
    let Known { first, classified, hello } = known;
    let caller = Caller { leg: Leg::new(stream), first, classified: &classified, greets: hello.is_some() };
    declined.tell(session, caller).await
}
