//! The table of protocols: one driver each, blind to each other.
//!
//! A driver serves one session between two legs to its end; adding a protocol is a driver and one row.

pub mod dns;
pub mod http;
pub mod opaque;

use std::pin::Pin;

use crewtap_core::bodies::Classified;

use crate::gate::Permit;
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
    /// Whether the bytes are what is inside of TLS that was opened.
    pub encrypted: bool,
    /// What allowed the connection.
    pub permit: Permit,
}

/// Serves one session to its end.
pub type Serve = for<'s> fn(&'s Session, Legs) -> Pin<Box<dyn Future<Output = End> + 's>>;

/// One row of the table.
#[derive(Debug)]
pub struct Driver {
    /// Its name, as `Classified.driver` has it.
    pub name: &'static str,
    /// The protocols it decodes; empty for the last row, which takes everything.
    pub protocols: &'static [&'static str],
    /// Serves a session.
    pub serve: Serve,
}

/// Every driver; the first whose protocols fit serves.
pub static PROTOCOLS: &[Driver] = &[dns::DRIVER, http::DRIVER, opaque::DRIVER];

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
