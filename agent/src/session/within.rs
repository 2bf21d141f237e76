//! Connections that a captured process makes through another host: sessions of their own, within the one that carries them.
//!
//! Owns how such a session begins. What it carries is classified, judged and recorded like any other; only its target is not
//! dialled: the host that it goes through has connected already.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::Arc;

use crewtap_core::bodies::Note;
use crewtap_core::limits;
use crewtap_core::origin::Origin;
use tokio::net::{TcpStream, UnixStream};

use super::Session;
use crate::intercept::Interceptor;
use crate::recorder::Unrecorded;
use crate::runs::Counts;

/// Serves a session whose client speaks on a stream.
pub type Carry = for<'s> fn(Session, &'s Interceptor, TcpStream) -> Pin<Box<dyn Future<Output = ()> + 's>>;

/// What serves sessions within sessions.
#[derive(Clone)]
pub struct Tunnels {
    /// Serves one.
    pub carry: Carry,
    /// Opens TLS within.
    pub interceptor: Arc<Interceptor>,
}

impl fmt::Debug for Tunnels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tunnels").finish_non_exhaustive()
    }
}

/// What is known of a target behind another host.
#[derive(Debug)]
pub(super) struct Behind {
    /// The name that it was asked for by: only the other host knows what that means.
    name: Option<String>,
    /// Hosts in between.
    depth: u32,
}

/// A host behind a host behind a host is usual; much more is a loop, and each is served within the one before.
const DEPTH_MAX: u32 = 8;

/// Both ends of a connection that never leaves the agent: one for a session, one for who carries it.
///
/// # Errors
/// When there is no descriptor left.
pub fn pair() -> std::io::Result<(TcpStream, UnixStream)> {
    let (near, far) = std::os::unix::net::UnixStream::pair()?;
    near.set_nonblocking(true)?;
    far.set_nonblocking(true)?;
    // Legs are read and written as sockets are; nothing of them hangs on the family.
    let near = std::net::TcpStream::from(OwnedFd::from(near));
    Ok((TcpStream::from_std(near)?, UnixStream::from_std(far)?))
}

impl Session {
    /// Opens a session within this one, to `host` and `port` as the process names them; `target`: the connection there, made by
    /// the host in between.
    ///
    /// # Errors
    /// When it cannot be recorded. None where too many are open, or within each other.
    pub fn within(
        &self,
        exchange: u32,
        (host, port): (&str, u16),
        target: TcpStream,
    ) -> Result<Option<Self>, Unrecorded> {
        let depth = self.behind.get().map_or(0, |behind| behind.depth) + 1;
        if depth > DEPTH_MAX || Counts::get(&self.run.counts.open) >= limits::SESSIONS_PER_RUN_MAX {
            return Ok(None);
        }
        let address = host.parse::<IpAddr>().ok();
        let name = address.is_none().then(|| host.to_owned());
        let destination = SocketAddr::new(address.unwrap_or(Ipv4Addr::UNSPECIFIED.into()), port);
        let origin = Origin { destination, bound: None, ..self.origin.clone() };
        let client = self.origin.destination;
        let session = Self::open(self.ground.clone(), self.run.clone(), origin, client, self.process.clone())?;
        let text = format!("made through {client}: session {}, exchange {exchange}", self.id);
        session.record(Note { code: "tunnel".into(), text })?;
        session.through.replace(Some(target));
        // A session that was just made has none.
        let _ = session.behind.set(Behind { name, depth });
        Ok(Some(session))
    }

    /// Another host has connected to the target: its address proves nothing, and means what that host wants.
    #[must_use]
    pub fn is_behind(&self) -> bool {
        self.behind.get().is_some()
    }

    /// The name by which a target behind another host was asked for.
    #[must_use]
    pub fn asked_behind(&self) -> Option<&str> {
        self.behind.get()?.name.as_deref()
    }
}
