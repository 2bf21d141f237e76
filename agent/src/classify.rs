//! What a connection is and where it goes, from the client's first bytes, its port and the names that were looked up.
//!
//! Never decides and never forwards: the bytes read here are handed to the driver, which records them first.

use crewtap_core::bodies::Classified;
use crewtap_core::limits;
use crewtap_core::sniff::{self, Protocol, Sniff};
use crewtap_core::target::{Name, Proof, Target};
use crewtap_core::wire::tls::{self, ClientHello, Hello};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

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
        read_until(stream, first, begin + limits::PEEK_WAIT, |bytes| told(bytes, port)).await;
        // A hello that has begun is worth waiting for: without its name, the session has none.
        if tls::client_hello(&first.bytes) == Hello::NeedMore && !first.bytes.is_empty() {
            let whole = |bytes: &[u8]| tls::client_hello(bytes) != Hello::NeedMore;
            read_until(stream, first, begin + limits::HELLO_WAIT, whole).await;
        }
        sniff::settle(&first.bytes, &[], port)
    };
    let protocol = sniffed.or_else(|| first.bytes.is_empty().then(|| sniff::by_port(port)).flatten());
    let hello = match tls::client_hello(&first.bytes) {
        Hello::Is(hello) => Some(hello),
        _ => None,
    };
    let classified = describe(session, protocol, hello.clone());
    Known { first: known, classified, hello }
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
pub fn inside(outer: &Classified, proven: Option<Name>, alpn: Option<&str>, first: &[u8], port: u16) -> Classified {
    let agreed = alpn.filter(|alpn| *alpn == "http/1.1").and(Some(Protocol::Http));
    let protocol = agreed.or_else(|| sniff::settle(first, &[], port)).map_or("unknown", Protocol::as_str);
    let name = proven.or_else(|| outer.target.name.clone());
    Classified {
        protocol: protocol.into(),
        driver: proto::driver(protocol).name.into(),
        target: Target { address: outer.target.address, name },
        ..outer.clone()
    }
}

fn told(bytes: &[u8], port: u16) -> bool {
    sniff::sniff(bytes, &[], port) != Sniff::NeedMore
}

fn describe(session: &Session, protocol: Option<Protocol>, hello: Option<ClientHello>) -> Classified {
    let address = session.origin().destination;
    let hello = hello.unwrap_or_default();
    let looked_up = session.run().names().get(address.ip()).map(str::to_owned);
    // A name that was answered with this address says more than one that the client merely claims.
    let name = match (looked_up, hello.sni.clone()) {
        (Some(dns), Some(sni)) if dns != sni => Some(Name { host: sni, proof: Proof::Claimed }),
        (Some(host), _) => Some(Name { host, proof: Proof::Dns }),
        (None, Some(host)) => Some(Name { host, proof: Proof::Claimed }),
        (None, None) => None,
    };
    let protocol = protocol.map_or("unknown", Protocol::as_str);
    Classified {
        protocol: protocol.into(),
        driver: proto::driver(protocol).name.into(),
        target: Target { address, name },
        sni: hello.sni,
        alpn: hello.alpn,
    }
}

/// Reads until the bytes tell enough, the deadline has come, the buffer is full, or the client has ended.
async fn read_until(stream: &TcpStream, first: &mut First, deadline: Instant, enough: impl Fn(&[u8]) -> bool) {
    let First { bytes, gone } = first;
    while gone.is_none() && bytes.len() < limits::PEEK_BYTES_MAX && (bytes.is_empty() || !enough(bytes)) {
        let Ok(Ok(())) = timeout_at(deadline, stream.readable()).await else { return };
        let begun = bytes.len();
        bytes.resize((begun + 4096).min(limits::PEEK_BYTES_MAX), 0);
        let read = stream.try_read(bytes.get_mut(begun..).unwrap_or_default());
        bytes.truncate(begun + read.as_ref().copied().unwrap_or(0));
        match read {
            Ok(0) => return,
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(error) => *gone = Some(error),
        }
    }
}

const _: () = assert!(limits::PEEK_WAIT.as_millis() < limits::HELLO_WAIT.as_millis());
