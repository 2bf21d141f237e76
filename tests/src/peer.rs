//! Servers that a test talks to: they count and keep what they got, so that a test can compare it with the record.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::missing_panics_doc)]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use crate::host::Host;

/// A TCP server inside a host's namespace.
#[derive(Clone)]
pub struct Peer {
    /// Where it listens.
    pub address: SocketAddr,
    seen: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Peer {
    /// A server that answers every connection with what it gets, until the client ends.
    #[must_use]
    pub fn echo(host: &Host, address: &str) -> Self {
        Self::serve(host, address, |stream, keep| {
            let mut bytes = vec![0; 16 * 1024];
            while let Ok(len @ 1..) = stream.read(&mut bytes) {
                keep(&bytes[..len]);
                if stream.write_all(&bytes[..len]).is_err() {
                    return;
                }
            }
        })
    }

    /// A server that only keeps what it gets.
    #[must_use]
    pub fn sink(host: &Host, address: &str) -> Self {
        Self::serve(host, address, |stream, keep| {
            let mut bytes = vec![0; 64 * 1024];
            while let Ok(len @ 1..) = stream.read(&mut bytes) {
                keep(&bytes[..len]);
            }
        })
    }

    /// A server with a conversation of its own: a thread per connection.
    #[must_use]
    pub fn serve(
        host: &Host,
        address: &str,
        talk: impl Fn(&mut TcpStream, &mut dyn FnMut(&[u8])) + Send + Sync + 'static,
    ) -> Self {
        let address = address.to_owned();
        let listener = host.inside(move || TcpListener::bind(address).unwrap()).join().unwrap();
        let peer = Self { address: listener.local_addr().unwrap(), seen: Arc::default() };
        let seen = peer.seen.clone();
        let talk = Arc::new(talk);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                let (seen, talk) = (seen.clone(), talk.clone());
                let number = {
                    let mut seen = seen.lock().unwrap();
                    seen.push(Vec::new());
                    seen.len() - 1
                };
                std::thread::spawn(move || {
                    talk(&mut stream, &mut |bytes| seen.lock().unwrap()[number].extend_from_slice(bytes));
                });
            }
        });
        peer
    }

    /// What each connection sent, in the order of their arrival.
    #[must_use]
    pub fn seen(&self) -> Vec<Vec<u8>> {
        self.seen.lock().unwrap().clone()
    }

    /// The port.
    #[must_use]
    pub fn port(&self) -> String {
        self.address.port().to_string()
    }
}
