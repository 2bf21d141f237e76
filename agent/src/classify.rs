//! What a connection is and where it goes, from the client's first bytes, its port and the names that were looked up.
//!
//! Never decides and never forwards: the bytes read here are handed to the driver, which records them first.

use std::time::Duration;

use crewtap_core::bodies::Classified;
use crewtap_core::limits;
use crewtap_core::sniff::{self, Protocol, Sniff};
use crewtap_core::target::{Name, Proof, Target};
use crewtap_core::wire::tls::{self, ClientHello, Hello};
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::proto;
use crate::relay::First;
use crate::session::Session;

/// What is known of a connection before anything is forwarded.
#[derive(Debug)]
pub struct Known {
    /// What the client has said.
    pub first: First,
    /// What it is, and where it goes.
    pub classified: Classified,
    /// How it begins, where that is TLS.
    pub hello: Option<ClientHello>,
}

/// What is decoded, so that its beginning is worth a wait; of TLS `hello` waits for more.
const DECODED: &[Protocol] = &[Protocol::Postgres, Protocol::Http];

/// Reads the first bytes, as far as they are needed to tell, and names the target.
pub async fn classify(session: &Session, stream: &TcpStream) -> Known {
    look(session, stream, false).await
}

/// `begun`: the client is known to speak, whatever its port says.
async fn look(session: &Session, stream: &TcpStream, begun: bool) -> Known {
    let destination = session.origin().destination;
    let port = destination.port();
    let mut known = First::default();
    let first = &mut known;
    let sniffed = if sniff::server_speaks_first(port) && !begun {
        None
    } else {
        let begin = Instant::now();
        first.read_until(stream, begin + limits::PEEK_WAIT, |bytes| told(bytes, port)).await;
        // A hello that has begun is worth waiting for: without its name, the session has none.
        if tls::client_hello(&first.bytes) == Hello::NeedMore && !first.bytes.is_empty() {
            hello(stream, first, limits::HELLO_WAIT).await;
        }
        // So is what can still become something that is decoded: who says it byte by byte is no less judged.
        if !first.bytes.is_empty() {
            let settled = |bytes: &[u8]| !sniff::may_become(DECODED, bytes, port);
            first.read_until(stream, begin + limits::HELLO_WAIT, settled).await;
        }
        sniff::settle(&first.bytes, &[], port)
    };
    let expected = || {
        let catalog = session.catalog();
        catalog.find(destination, None, "postgres").map(|_| Protocol::Postgres).or_else(|| sniff::by_port(port))
    };
    let unsettled = first.bytes.is_empty() || sniff::may_become(DECODED, &first.bytes, port);
    let protocol = sniffed.or_else(|| unsettled.then(expected).flatten());
    let hello = match tls::client_hello(&first.bytes) {
        Hello::Is(hello) => Some(hello),
        _ => None,
    };
    let classified = describe(session, protocol, hello.clone());
    Known { first: known, classified, hello }
}

/// Waits for the whole of a `ClientHello`; none where something else comes, or nothing more.
pub async fn hello(stream: &TcpStream, first: &mut First, wait: Duration) -> Option<ClientHello> {
    let whole = |bytes: &[u8]| tls::client_hello(bytes) != Hello::NeedMore;
    first.read_until(stream, Instant::now() + wait, whole).await;
    match tls::client_hello(&first.bytes) {
        Hello::Is(hello) => Some(hello),
        _ => None,
    }
}

/// Waits, where the client has said nothing yet, until one side speaks: many clients connect first and prepare their
/// greeting afterwards, some for longer than a first byte is waited for. None when there is nothing new to tell: the client
/// had spoken, or the target speaks first.
pub async fn spoken(session: &Session, known: &Known, client: &TcpStream, target: &TcpStream) -> Option<Known> {
    let is_silent = known.first.bytes.is_empty() && known.first.gone.is_none();
    if !is_silent {
        return None;
    }
    tokio::select! {
        _ = client.readable() => Some(look(session, client, true).await),
        _ = target.readable() => None,
    }
}

/// What the first bytes inside of an opened connection are; the target keeps its address, and has the name that it proved.
#[must_use]
pub fn inside(
    outer: &Classified,
    proven: Option<Name>,
    agreed: Option<Protocol>,
    first: &[u8],
    port: u16,
) -> Classified {
    let protocol = agreed.or_else(|| sniff::settle(first, &[], port)).map_or("unknown", Protocol::as_str);
    let name = proven.or_else(|| outer.target.name.clone());
    Classified {
        protocol: protocol.into(),
        driver: proto::driver(protocol).name.into(),
        target: Target { address: outer.target.address, name },
        ..outer.clone()
    }
}

/// The protocol that two sides agree on by a name of ALPN.
#[must_use]
pub fn agreed(alpn: &str) -> Option<Protocol> {
    match alpn {
        "http/1.1" => Some(Protocol::Http),
        "postgresql" => Some(Protocol::Postgres),
        _ => None,
    }
}

fn told(bytes: &[u8], port: u16) -> bool {
    sniff::sniff(bytes, &[], port) != Sniff::NeedMore
}

/// The same connection, once it has turned to TLS with this hello.
#[must_use]
pub fn turned(session: &Session, outer: &Classified, hello: &ClientHello) -> Classified {
    let address = outer.target.address;
    Classified {
        target: Target { address, name: name(session, hello) },
        sni: hello.sni.clone(),
        alpn: hello.alpn.clone(),
        ..outer.clone()
    }
}

/// What the destination is called. A name that was answered with this address says more than one that the client merely
/// claims.
fn name(session: &Session, hello: &ClientHello) -> Option<Name> {
    if let Some(host) = session.asked_behind() {
        return Some(Name { host: host.to_owned(), proof: Proof::Claimed });
    }
    if session.is_behind() {
        return hello.sni.clone().map(|host| Name { host, proof: Proof::Claimed });
    }
    let looked_up = session.run().names().get(session.origin().destination.ip()).map(str::to_owned);
    match (looked_up, hello.sni.clone()) {
        (Some(dns), Some(sni)) if dns != sni => Some(Name { host: sni, proof: Proof::Claimed }),
        (Some(host), _) => Some(Name { host, proof: Proof::Dns }),
        (None, Some(host)) => Some(Name { host, proof: Proof::Claimed }),
        (None, None) => None,
    }
}

fn describe(session: &Session, protocol: Option<Protocol>, hello: Option<ClientHello>) -> Classified {
    let address = session.origin().destination;
    let hello = hello.unwrap_or_default();
    let name = name(session, &hello);
    let protocol = protocol.map_or("unknown", Protocol::as_str);
    Classified {
        protocol: protocol.into(),
        driver: proto::driver(protocol).name.into(),
        target: Target { address, name },
        sni: hello.sni,
        alpn: hello.alpn,
    }
}

const _: () = assert!(limits::PEEK_WAIT.as_millis() < limits::HELLO_WAIT.as_millis());
