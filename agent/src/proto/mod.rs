//! The table of protocols: one driver each, blind to each other.
//!
//! A driver serves one session to its end and closes it; adding a protocol is a driver and one row.

pub mod dns;
pub mod opaque;

use std::pin::Pin;

use crewtap_core::bodies::Classified;
use tokio::net::TcpStream;

use crate::relay::First;
use crate::session::Session;

/// A client whose first bytes have been read, and what they told.
#[derive(Debug)]
pub struct Client {
    /// The connection.
    pub stream: TcpStream,
    /// What the client has said so far; not yet forwarded.
    pub first: First,
    /// What is known of protocol and target.
    pub classified: Classified,
}

/// Serves one session to its end.
pub type Serve = fn(Session, Client) -> Pin<Box<dyn Future<Output = ()>>>;

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
pub static PROTOCOLS: &[Driver] = &[dns::DRIVER, opaque::DRIVER];

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
