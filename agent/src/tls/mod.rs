//! Both ends of an opened TLS connection: crewtap as the target's client, and as the client's target.
//!
//! Owns the two handshakes, what they agreed on, the judgement of the target's certificate, the roots for it, and the
//! memory of programs that reject our leaves. Never dials, never decides whether a connection may be opened, and never
//! lets one leg be weaker than what the peers would have agreed on without us.
//!
//! The order: [`client::handshake`] with the target, then [`server::end`] towards the client with the report of the
//! first, so that the client sees what it would have seen: the target's version, protocol and validity.

pub mod client;
pub mod learned;
mod prefixed;
pub mod roots;
pub mod server;
pub mod validity;

use std::sync::{Arc, LazyLock};

use crewtap_core::wire::tls::{ClientHello, TLS_1_2, TLS_1_3};
use rustls::crypto::{CryptoProvider, SupportedKxGroup, aws_lc_rs};
use rustls::{CommonState, NamedGroup, SupportedProtocolVersion, version};

pub use self::prefixed::Prefixed;

/// What a handshake agreed on.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Negotiated {
    /// `TLSv1_2` or `TLSv1_3`.
    pub version: String,
    /// The cipher suite by its registered name, `TLS13_AES_128_GCM_SHA256` for instance.
    pub cipher_suite: String,
    /// The key exchange group by its registered name, `X25519MLKEM768` for instance.
    pub group: String,
    /// The application protocol; none where none was agreed on.
    pub alpn: Option<String>,
}

impl Negotiated {
    fn of(state: &CommonState) -> Self {
        let suite = state.negotiated_cipher_suite().map(|suite| suite.suite());
        let group = state.negotiated_key_exchange_group().map(SupportedKxGroup::name);
        Self {
            version: state.protocol_version().map_or_else(String::new, |version| format!("{version:?}")),
            cipher_suite: suite.map_or_else(String::new, |suite| format!("{suite:?}")),
            group: group.map_or_else(String::new, |group| format!("{group:?}")),
            alpn: state.alpn_protocol().map(|protocol| protocol.escape_ascii().to_string()),
        }
    }
}

/// All that this build can do, hybrid key exchange first.
static HYBRID: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| Arc::new(aws_lc_rs::default_provider()));

/// The same with key exchange groups of before, for clients that offer no other: some old targets and middle boxes fail on
/// a hello that does not fit into one packet, which such a client would not have sent.
static CLASSIC: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| {
    let mut provider = aws_lc_rs::default_provider();
    provider.kx_groups.retain(|group| !is_hybrid(group.name()));
    Arc::new(provider)
});

fn is_hybrid(group: NamedGroup) -> bool {
    matches!(group, NamedGroup::X25519MLKEM768 | NamedGroup::secp256r1MLKEM768 | NamedGroup::MLKEM768)
}

/// The cryptography for the target of a client that sent `hello`.
fn provider_for(hello: &ClientHello) -> Arc<CryptoProvider> {
    let hybrid = hello.groups.iter().any(|group| is_hybrid(NamedGroup::from(*group)));
    Arc::clone(if hybrid { &HYBRID } else { &CLASSIC })
}

/// The versions that both `hello` and this build know.
fn versions_for(hello: &ClientHello) -> Vec<&'static SupportedProtocolVersion> {
    let known = [(TLS_1_3, &version::TLS13), (TLS_1_2, &version::TLS12)];
    known.into_iter().filter(|(number, _)| hello.versions.contains(number)).map(|(_, version)| version).collect()
}

/// The peer's alert in a failed handshake or read, by its registered name; none where there was none.
fn alert_in(error: &std::io::Error) -> Option<rustls::AlertDescription> {
    match rustls_error(error)? {
        rustls::Error::AlertReceived(alert) => Some(*alert),
        _ => None,
    }
}

fn rustls_error(error: &std::io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}

/// The peer closed or reset the connection.
fn is_closed(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, NotConnected, UnexpectedEof};
    matches!(error.kind(), UnexpectedEof | ConnectionReset | ConnectionAborted | BrokenPipe | NotConnected)
}

#[cfg(test)]
mod tests;
