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

/// Reads the first bytes, as far as they are needed to tell, and names the target.
pub async fn classify(session: &Session, stream: &TcpStream) -> (First, Classified) {
    let destination = session.origin().destination;
    let port = destination.port();
    let mut known = First::default();
    let first = &mut known;
    let sniffed = if sniff::server_speaks_first(port) {
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
    (known, describe(session, protocol, hello))
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
