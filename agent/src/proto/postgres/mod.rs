//! PostgreSQL, in clear or inside TLS that was opened: log-ins, statements with their values, and rows.
//!
//! Owns the order of a session: whether it turns to TLS, the log-in, then statements. Never keeps a password or a row.

mod answers;
pub mod authenticate;
mod burst;
mod cancel;
mod exchange;
mod held;
mod login;
mod peer;
mod refuse;
mod settings;
mod statements;
mod told;
mod turn;

use crewtap_core::bodies::Note;
use crewtap_core::limits::FAREWELL_WAIT;
use crewtap_core::policy::catalog::Channel;
use crewtap_core::run::Mode;
use crewtap_core::session::{Outcome, Side};
use crewtap_core::wire::postgres::reply::Complaint;
use crewtap_core::wire::postgres::startup::{self, First as Packet};

use super::{Driver, Legs, Opened};
use crate::leg::Farewell;
use crate::redacted::Redacted;
use crate::relay::{self, End};
use crate::session::Session;

use login::{Account, Login};
use peer::Peer;
use statements::Statements;
use told::Teller;

/// The row of the table.
pub const DRIVER: Driver = Driver {
    name: "postgres",
    protocols: &["postgres"],
    turn: Some(|session, client, target, first| Box::pin(turn::turn(session, client, target, first))),
    refuse: Some(|client, first, refused| Box::pin(refuse::refuse(client, first, refused))),
    serve: |session, legs| Box::pin(serve(session, legs)),
};

async fn serve(session: &Session, mut legs: Legs) -> End {
    // Until both sides have ended it, no end is an orderly one; a client that is refused is told why, and ends itself.
    let first = std::mem::take(&mut legs.first);
    let enter = enter(session, &legs, first);
    let entered = tokio::select! {
        entered = enter => entered,
        () = session.abandoned() => Err(End::abandoned()),
    };
    match entered {
        Ok(Entered::In(mut tap, client, target)) => {
            let end = relay::relay(session, &mut *tap, (&legs.client, client), (&legs.target, target)).await;
            tap.finish();
            end
        }
        Ok(Entered::Foreign(first)) => {
            let mut tap = Redacted::new(session);
            let end =
                relay::relay(session, &mut tap, (&legs.client, first), (&legs.target, relay::First::default())).await;
            tap.finish();
            end
        }
        Err(end) => {
            if matches!(end.outcome, Outcome::Completed | Outcome::Aborted | Outcome::Refused) {
                // Inside of TLS its end is a message of its own. Who does not take it is not waited for.
                let told = legs.client.end(Farewell::Orderly);
                let _ = tokio::time::timeout(FAREWELL_WAIT, told).await;
                legs.client.end_in_order();
            }
            end
        }
    }
}

enum Entered<'s> {
    /// The client is in; with what both sides have said since.
    In(Box<Statements<'s>>, relay::First, relay::First),
    /// It speaks another version: nobody here does.
    Foreign(relay::First),
}

/// Reads the first packet, and does what it asks for.
async fn enter<'s>(session: &'s Session, legs: &Legs, first: relay::First) -> Result<Entered<'s>, End> {
    let Legs { client, target, classified, tls, permit, .. } = legs;
    let mut client = Peer::new(client, first);
    let mut target = Peer::new(target, relay::First::default());
    let packet = client.packet().await.map_err(|error| login::from(Side::Client, &error))?;
    let Some(packet) = packet.map(<[u8]>::to_vec) else {
        let begun = client.into_said().bytes.len();
        if begun > 0 {
            let text = format!("the client ended in its first packet: {begun} bytes were not forwarded");
            note(session, "postgres_cut", &text)?;
        }
        return Err(End { outcome: Outcome::Completed, error: None });
    };
    let startup = match Packet::read(&packet) {
        Ok(Some((Packet::Startup(startup), _))) => startup,
        Ok(Some((Packet::Cancel { process, key }, _))) => {
            return Err(cancel::cancel(session, &packet, process, key, &mut target).await);
        }
        // Servers end the connection over one that comes again, and would take one of another length than we know: then they
        // and the client would go on in a way that nobody here follows.
        Ok(Some((Packet::SslRequest | Packet::GssRequest, _))) | Err(_) if asks_to_turn(&packet) => {
            return Err(turned_again(session, &client, &packet).await);
        }
        // Versions before 3, and packets that no server takes: it says so itself.
        Ok(_) | Err(_) => {
            let text = "the client begins in no way that is known here: its bytes are relayed and recorded as they are";
            note(session, "postgres_foreign", text)?;
            if session.mode() == Mode::Enforce {
                return Err(End { outcome: Outcome::Refused, error: Some("what it says cannot be judged".into()) });
            }
            return Ok(Entered::Foreign(client.into_said()));
        }
    };
    client.took(packet.len());
    let channel = tls.as_ref().map_or(Channel::Clear, Opened::channel);
    let leased = session.lease(permit, DRIVER.name, channel).await;
    let found = session.catalogued(permit, DRIVER.name);
    let is_proven = found.as_ref().is_some_and(|found| found.has_proven_itself(channel));
    let database = found.and_then(|found| found.entry.database.clone());
    let account = Account::new(session);
    let mut login = Login {
        session,
        tls: tls.as_ref(),
        packet: &packet,
        startup,
        client,
        target,
        account,
        leg: &legs.target,
        lease: None,
        database,
        is_proven,
        aim: &classified.target,
    };
    match leased {
        Ok(lease) => login.lease = lease,
        Err(error) => return Err(login.withheld(&error).await),
    }
    let mut entered = login.log_in().await?;
    let teller = Teller::new(classified, std::mem::take(&mut entered.facts));
    if entered.replicates {
        let text = "the client asks for the replication protocol: its bytes are relayed and recorded as they are";
        note(session, "postgres_replication", text)?;
    }
    let (from_client, from_target) = (std::mem::take(&mut entered.client), std::mem::take(&mut entered.target));
    let tap = Statements::new(session, classified.target.clone(), teller, &entered);
    Ok(Entered::In(Box::new(tap), from_client, from_target))
}

fn note(session: &Session, code: &str, text: &str) -> Result<(), End> {
    let noted = session.record(Note { code: code.into(), text: text.into() });
    noted.map(drop).map_err(|error| login::unrecorded(&error))
}

/// The client is refused that asks again.
async fn turned_again(session: &Session, client: &Peer<'_>, packet: &[u8]) -> End {
    let message = "crewtap: a request for TLS or GSSAPI that comes again, or has not 8 bytes";
    let complaint = Complaint { severity: "FATAL", code: "0A000", message, detail: "", hint: "" };
    if let Err(error) = session.record_bytes(Side::Client, packet) {
        return login::unrecorded(&error);
    }
    // Who has gone does not need to be told.
    let _ = client.send(&complaint.error()).await;
    End { outcome: Outcome::Refused, error: Some(message.into()) }
}

/// Whether a packet has the code of `SSLRequest` or `GSSENCRequest`, whatever its length.
fn asks_to_turn(packet: &[u8]) -> bool {
    packet.get(4..8).is_some_and(|code| code == &startup::SSL_REQUEST[4..] || code == &startup::GSSENC_REQUEST[4..])
}
