//! Connections whose TLS is not opened: why, and what is said about it.
//!
//! Never hides that what they say is not on record, and lets none of them on where policy is in force and nobody wanted it.

use crewtap_core::bodies::Tls;
use crewtap_core::run::Mode;
use crewtap_core::session::Outcome;
use crewtap_core::wire::tls::Unopened;
use tokio::net::TcpStream;

use crate::leg::Leg;
use crate::relay::{End, First};
use crate::session::Session;

use super::{Connected, note, unrecorded};

/// Why a connection is not opened.
pub(super) struct Closed {
    pub(super) code: &'static str,
    pub(super) text: String,
    /// Somebody wanted it so; else it is to be noticed, and refused where policy is in force.
    pub(super) wanted: bool,
}

impl Closed {
    /// To be noticed.
    pub(super) fn unwanted(code: &'static str, text: impl Into<String>) -> Self {
        Self { code, text: text.into(), wanted: false }
    }
}

impl From<Unopened> for Closed {
    fn from(why: Unopened) -> Self {
        let text = match why {
            Unopened::Alpn => "the client offers no application protocol that is spoken here (http/1.1, postgresql)",
            Unopened::Old => "the client speaks no version of TLS from 1.2 on",
            Unopened::TooLarge => "the ClientHello is too large to be understood",
            Unopened::ClientCertificate => "the target asks for a certificate that only the client has",
            Unopened::Rejected => "this program has rejected crewtap's certificate for this name before",
        };
        Self::unwanted(why.code(), text)
    }
}

/// Lets the connection go on as it is, and says so.
pub(super) fn pass(
    session: &Session,
    closed: Closed,
    stream: TcpStream,
    target: TcpStream,
    first: First,
) -> Result<Connected, End> {
    let Closed { code, text, wanted } = closed;
    let told = Tls { opened: false, why: Some(format!("{code}: {text}")), ..Tls::default() };
    session.record(told).map_err(unrecorded)?;
    if !wanted {
        note(session, code, &format!("what this session says is not on record: {text}")).map_err(unrecorded)?;
        if session.mode() == Mode::Enforce {
            return Err(End { outcome: Outcome::Refused, error: Some(format!("TLS that cannot be opened: {text}")) });
        }
    }
    Ok(Connected { client: Leg::new(stream), target: Leg::new(target), first, proven: None, opened: None })
}
