//! Cancel requests: a connection of their own, which asks the target to stop what another session runs.
//!
//! Owns the exchange of our key for the target's. Never cancels anything of another run, or of another target.

use std::borrow::Cow;

use crewtap_core::action::{Fact, Facts};
use crewtap_core::bodies::{Request, Response};
use crewtap_core::event::Body;
use crewtap_core::limits::LOGIN_TIMEOUT;
use crewtap_core::run::Mode;
use crewtap_core::secret::Secret;
use crewtap_core::session::{Outcome, Side};
use crewtap_core::wire::postgres::{MEDIA_TYPE, reply};

use tokio::time::timeout;

use super::login::{EXCHANGE, from, unrecorded};
use super::peer::Peer;
use super::told::part;
use crate::recorder::Told;
use crate::relay::End;
use crate::session::Session;

/// Passes a cancel request on, with the key that the target knows. One that is known here is not shown in the record; another is, whole.
pub(super) async fn cancel(session: &Session, packet: &[u8], process: u32, key: &[u8], target: &mut Peer<'_>) -> End {
    let destination = session.origin().destination;
    let found = session.run().cancels.find(process, key).filter(|cancel| cancel.target == destination);
    // A key that is not ours can be that of a session that passed unopened, or anything that somebody wants to say.
    let refused = found.is_none() && session.mode() == Mode::Enforce;
    let (subject, outcome) = match &found {
        Some(cancel) => (format!("session {}", cancel.session), "success"),
        None if refused => ("a session that is not known by this key".into(), "blocked"),
        None => ("a session that is not known by this key".into(), "unknown"),
    };
    let facts = Facts::from([("process".to_owned(), Fact::Int(process.into()))]);
    let mut shown = packet.to_vec();
    if found.is_some() {
        let keyless = packet.len() - key.len();
        shown.get_mut(keyless..).unwrap_or_default().fill(b'*');
    }
    let parts = vec![part(MEDIA_TYPE.into(), shown.len())];
    let request = Request { verb: "CANCEL".into(), subject, facts, parts, ..Request::default() };
    let response = Response { outcome: outcome.into(), parts: vec![part(MEDIA_TYPE.into(), 0)], ..Response::default() };
    let told = |body: Body, payload| Told { exchange: Some(EXCHANGE), body, payload };
    let told = vec![told(request.into(), Cow::Owned(shown)), told(response.into(), Cow::Borrowed(&b""[..]))];
    if let Err(error) = session.record_burst(Side::Client, packet.len(), told) {
        return unrecorded(&error);
    }
    if refused {
        return End { outcome: Outcome::Refused, error: Some("a cancel request with a key of nobody's".into()) };
    }
    if let Err(error) = session.settled().await {
        return unrecorded(&error);
    }
    let forwarded = match &found {
        Some(cancel) => {
            cancel.cancelled.notify_waiters();
            Secret::new(reply::cancel_request(process, cancel.key.expose()))
        }
        None => Secret::new(packet.to_vec()),
    };
    if let Err(error) = target.send(forwarded.expose()).await {
        return from(Side::Server, &error);
    }
    // The target says nothing; its end tells that it was done, and the client waits for ours.
    match timeout(LOGIN_TIMEOUT, target.message()).await.unwrap_or(Ok(None)) {
        Ok(_) => End { outcome: Outcome::Completed, error: None },
        Err(error) => from(Side::Server, &error),
    }
}
