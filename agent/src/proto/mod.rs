//! The table of protocols: one driver each, blind to each other.
//!
//! A driver serves one session between two legs to its end; adding a protocol is a driver and one row.

pub mod dns;
pub mod http;
pub mod opaque;
pub mod postgres;
pub mod ssh;

use std::path::PathBuf;
use std::pin::Pin;

use crewtap_core::bodies::Classified;
use crewtap_core::id::SessionId;
use crewtap_core::policy::catalog::Channel;
use tokio::net::TcpStream;

use crate::dial::Prelude;
use crate::gate::Permit;
use crate::intercept::Lesson;
use crate::leg::Leg;
use crate::relay::{End, First};
use crate::session::Session;

/// Both ends of a session, and what is known of it.
#[derive(Debug)]
pub struct Legs {
    /// The captured process's.
    pub client: Leg,
    /// The target's.
    pub target: Leg,
    /// What the client has said so far; neither on record nor forwarded.
    pub first: First,
    /// What is known of protocol and target.
    pub classified: Classified,
    /// What is known of the TLS around the bytes, where there was one.
    pub tls: Option<Opened>,
    /// What allowed the connection.
    pub permit: Permit,
}

/// TLS that was opened.
#[derive(Debug)]
pub struct Opened {
    /// The target's certificate, DER.
    pub certificate: Option<Vec<u8>>,
    /// The host's roots, or those of the configuration, vouch for it.
    pub proven: bool,
    /// The catalog's authority that vouches for it; none where it is the others.
    pub authority: Option<PathBuf>,
    /// What may be learned of the client.
    pub lesson: Lesson,
}

impl Opened {
    /// What a credential that goes to the target can rely on.
    #[must_use]
    pub fn channel(&self) -> Channel<'_> {
        Channel::Tls {
            certificate: self.certificate.as_deref().unwrap_or_default(),
            verified: self.proven,
            authority: self.authority.as_deref(),
        }
    }
}

/// What became of a connection whose protocol may turn to TLS before it begins.
#[derive(Debug)]
pub enum Upgrade {
    /// It begins in clear.
    Clear(First),
    /// Target and client have agreed: what the client says next is a handshake.
    Tls(First, Prelude),
    /// Something else was said: what follows is relayed as it is.
    Foreign(First),
}

/// Settles before anything else whether a connection turns to TLS.
pub type Turn = for<'s> fn(
    &'s Session,
    &'s TcpStream,
    &'s TcpStream,
    First,
) -> Pin<Box<dyn Future<Output = Result<Upgrade, End>> + 's>>;

/// Why a connection is refused, for its client.
#[derive(Clone, Debug)]
pub struct Refused {
    /// The session that tells more.
    pub session: SessionId,
    /// The policies that decided; empty where none allows it.
    pub policies: Vec<String>,
    /// In words.
    pub why: String,
}

impl Refused {
    /// All of it in a line.
    #[must_use]
    pub fn sentence(&self) -> String {
        let policies = if self.policies.is_empty() { "none allows it".into() } else { self.policies.join(", ") };
        format!("{}; session {}; policies: {policies}", self.why, self.session)
    }
}

/// What a client is told whose connection is refused before it is served, in the terms of its protocol. May read what a client
/// must have said first.
pub type Refuse = for<'s> fn(&'s Leg, First, &'s Refused) -> Pin<Box<dyn Future<Output = Vec<u8>> + 's>>;

/// Serves one session to its end.
pub type Serve = for<'s> fn(&'s Session, Legs) -> Pin<Box<dyn Future<Output = End> + 's>>;

/// One row of the table.
#[derive(Debug)]
pub struct Driver {
    /// Its name, as `Classified.driver` has it.
    pub name: &'static str,
    /// The protocols it decodes; empty for the last row, which takes everything.
    pub protocols: &'static [&'static str],
    /// How its connections turn to TLS, where they begin in clear.
    pub turn: Option<Turn>,
    /// What a refused client is told; none where its connection is reset.
    pub refuse: Option<Refuse>,
    /// Serves a session.
    pub serve: Serve,
}

/// Every driver; the first whose protocols fit serves.
pub static PROTOCOLS: &[Driver] = &[dns::DRIVER, http::DRIVER, postgres::DRIVER, ssh::DRIVER, opaque::DRIVER];

/// Drivers that mask what the client receives, where masks with `apply = "wire"` want that.
pub const MASKED_FOR_CLIENTS: [&str; 2] = [http::DRIVER.name, postgres::DRIVER.name];

/// The driver for a protocol.
#[must_use]
pub fn driver(protocol: &str) -> &'static Driver {
    PROTOCOLS.iter().find(|driver| driver.protocols.contains(&protocol)).unwrap_or(&opaque::DRIVER)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_has_a_driver_and_names_are_unique() {
        assert_eq!(driver("no such protocol").name, "opaque");
        assert_eq!(driver("dns").name, "dns");
        let mut names: Vec<_> = PROTOCOLS.iter().map(|driver| driver.name).collect();
        names.dedup();
        assert_eq!(names.len(), PROTOCOLS.len());
    }
}
