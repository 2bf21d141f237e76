//! A network namespace in which crewtap serves runs: its listeners' ports, its reach, and sockets made inside it.
//!
//! Never dials and never decides: it says where a socket comes into being and which addresses are its own.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, PoisonError, RwLock};

use tokio::sync::watch;

use crate::capture::listen::ListenerPorts;
use crate::capture::netns::{NetworkNamespace, Reach};

/// Resolves when a namespace is held by no run any more.
#[derive(Debug)]
pub struct Tenure(watch::Receiver<()>);

impl Tenure {
    /// See [`Tenure`].
    pub async fn ended(mut self) {
        // Nothing is ever sent: the sender goes with the namespace.
        while self.0.changed().await.is_ok() {}
    }
}

/// A namespace with listeners of ours.
#[derive(Debug)]
pub struct Namespace {
    netns: NetworkNamespace,
    is_own: bool,
    ports: ListenerPorts,
    /// What else of ours listens in the agent's own namespace.
    beside: Option<u16>,
    reach: RwLock<Arc<Reach>>,
    held: watch::Sender<()>,
}

impl Namespace {
    /// A namespace in which the listeners with these ports have been bound.
    ///
    /// # Errors
    /// When its routes and addresses cannot be read.
    pub fn new(netns: NetworkNamespace, ports: ListenerPorts) -> io::Result<Self> {
        let is_own = NetworkNamespace::current()?.inode() == netns.inode();
        let reach = RwLock::new(Arc::new(netns.reach()?));
        Ok(Self { netns, is_own, ports, beside: None, reach, held: watch::Sender::new(()) })
    }

    /// The same, where the agent's own namespace has one more port that is ours: no captured process gets there.
    #[must_use]
    pub fn with(self, port: Option<u16>) -> Self {
        Self { beside: port.filter(|_| self.is_own), ..self }
    }

    /// What those who serve its listeners watch: it ends when nobody holds the namespace any more.
    #[must_use]
    pub fn tenure(&self) -> Tenure {
        Tenure(self.held.subscribe())
    }

    /// Its number, as in `net:[…]`.
    #[must_use]
    pub fn inode(&self) -> u64 {
        self.netns.inode()
    }

    /// The ports of our listeners.
    #[must_use]
    pub fn ports(&self) -> ListenerPorts {
        self.ports
    }

    /// What can be reached from it, as of the last look.
    #[must_use]
    pub fn reach(&self) -> Arc<Reach> {
        self.reach.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Looks again; tells whether something has changed.
    ///
    /// # Errors
    /// When its tables cannot be read.
    pub fn look(&self) -> io::Result<bool> {
        let now = self.netns.reach()?;
        let mut reach = self.reach.write().unwrap_or_else(PoisonError::into_inner);
        let changed = **reach != now;
        if changed {
            *reach = Arc::new(now);
        }
        Ok(changed)
    }

    /// Whether an address reaches a listener of ours: the port is ours, and the address is this host's in any spelling.
    #[must_use]
    pub fn is_ours(&self, address: SocketAddr) -> bool {
        let ip = address.ip().to_canonical();
        let local = |ip: IpAddr| ip.is_loopback() || ip.is_unspecified() || self.reach().addresses.contains(&ip);
        let port = address.port();
        (self.ports.contains(ip.is_ipv4(), port) || self.beside == Some(port)) && local(ip)
    }

    /// Makes a socket inside. In the agent's own namespace that is a plain call; in another one a thread enters it.
    ///
    /// # Errors
    /// When the kernel refuses to enter; what `make` returns is passed on.
    pub fn make<T: Send>(&self, make: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
        if self.is_own { make() } else { self.netns.enter(make)? }
    }
}
