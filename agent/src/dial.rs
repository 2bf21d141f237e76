//! Connects to a target: from the run's network namespace, as the run's user, from the client's own source address.
//!
//! Never chooses a destination: it is the permit's. Never retries: the client's own policy does that.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::time::Duration;

use crewtap_core::limits;
use crewtap_core::origin::Origin;
use crewtap_core::session::Outcome;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use socket2::{Domain, Protocol, SockAddr, Socket, TcpKeepalive, Type};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use crate::capture::user::AsUser;
use crate::namespace::Namespace;
use crate::recorder::Unrecorded;

/// Why there is no connection to the target.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// The target is crewtap itself.
    #[error("the target is crewtap's own listener")]
    Ourselves,
    /// The target did not answer in time.
    #[error("no answer within {} s", limits::DIAL_TIMEOUT.as_secs())]
    Timeout,
    /// The host in between has connected once, and is not asked again.
    #[error("a connection through another host is not made twice")]
    Behind,
    /// What must be on record before the dial is not.
    #[error(transparent)]
    Unrecorded(Unrecorded),
    /// This host has no socket, port or memory left for it: not the target's fault.
    #[error("no connection can be made from here: {0}")]
    Local(io::Error),
    /// What the operating system said of the target.
    #[error(transparent)]
    Io(io::Error),
}

impl From<io::Error> for DialError {
    fn from(error: io::Error) -> Self {
        let local = [libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM, libc::EADDRNOTAVAIL, libc::EAGAIN];
        if error.raw_os_error().is_some_and(|code| local.contains(&code)) {
            return Self::Local(error);
        }
        Self::Io(error)
    }
}

impl DialError {
    /// How a session ends that could not reach its target.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        match self {
            Self::Ourselves => Outcome::Refused,
            Self::Unrecorded(_) => Outcome::Unrecorded,
            Self::Local(_) | Self::Behind => Outcome::Aborted,
            Self::Timeout => Outcome::UpstreamTimeout,
            Self::Io(error) => match error.kind() {
                io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionReset => Outcome::UpstreamRefused,
                io::ErrorKind::TimedOut => Outcome::UpstreamTimeout,
                _ => Outcome::UpstreamUnreachable,
            },
        }
    }
}

/// Opens the connection.
///
/// # Errors
/// As the target or the operating system says, or after [`limits::DIAL_TIMEOUT`].
pub async fn connect(namespace: &Namespace, address: SocketAddr, origin: &Origin) -> Result<TcpStream, DialError> {
    let address = SocketAddr::new(address.ip().to_canonical(), address.port());
    let kind = Type::STREAM.nonblocking().cloexec();
    let (uid, gid) = (origin.uid, origin.gid);
    // The kernel writes the file system identity of the run's user into the socket: firewall rules by owner still hold.
    let socket = namespace.make(|| {
        let _as_user = AsUser::new(uid, gid)?;
        Socket::new(Domain::for_address(address), kind, Some(Protocol::TCP))
    })?;
    socket.set_tcp_nodelay(true)?;
    socket.set_keepalive(true)?;
    if let Some(bound) = origin.bound.filter(|bound| !bound.ip().is_unspecified()) {
        // The port stays the kernel's choice: the client's own socket holds the one it bound.
        socket.bind(&SockAddr::from(SocketAddr::new(bound.ip().to_canonical(), 0)))?;
    }
    let socket = TcpSocket::from_std_stream(socket.into());
    match tokio::time::timeout(limits::DIAL_TIMEOUT, socket.connect(address)).await {
        Ok(stream) => stream.map_err(DialError::from),
        Err(_) => Err(DialError::Timeout),
    }
}

/// What a target is told, and answers, before its connection turns to TLS.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Prelude {
    /// What it is told.
    pub ask: &'static [u8],
    /// What it has to answer.
    pub answer: &'static [u8],
}

impl Prelude {
    /// Says it on a new connection to a target that has agreed to it before.
    ///
    /// # Errors
    /// When the target does not agree this time.
    pub async fn say(self, target: &mut TcpStream) -> io::Result<()> {
        target.write_all(self.ask).await?;
        let mut answer = vec![0; self.answer.len()];
        tokio::time::timeout(limits::HANDSHAKE_WAIT, target.read_exact(&mut answer)).await??;
        if answer == self.answer { Ok(()) } else { Err(io::Error::other("the target does not agree to TLS any more")) }
    }
}

/// Settings of a client's connection: no delay, and a dead peer is noticed.
///
/// # Errors
/// When the client has reset it already and left nothing to read.
pub fn settle_client(stream: &TcpStream) -> io::Result<()> {
    let socket = socket2::SockRef::from(stream);
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(Duration::from_mins(5)))
}

/// Whether the other end has gone, whatever is still to be read of it.
#[must_use]
pub fn has_gone(stream: &TcpStream) -> bool {
    let mut fds = [PollFd::new(stream.as_fd(), PollFlags::from_bits_retain(libc::POLLRDHUP))];
    // An error is no news of its end.
    poll(&mut fds, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
}

/// Resolves when the other end has gone.
pub async fn gone(stream: &TcpStream) {
    while !has_gone(stream) {
        tokio::time::sleep(limits::HELD_LOOK_INTERVAL).await;
    }
}

/// From now on the connection ends with a reset, whatever ends it, unless [`end_in_order`] is called: an end that nobody
/// meant must not look like one.
pub fn end_abruptly(stream: &TcpStream) {
    // A socket that is gone already needs no reset.
    let _ = socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO));
}

/// Both directions have ended: what is still in the buffers goes out, then the connection ends in order.
pub fn end_in_order(stream: &TcpStream) {
    let _ = socket2::SockRef::from(stream).set_linger(None);
}

/// Closes with a reset, so that the peer sees an error and not an orderly end.
pub fn reset(stream: TcpStream) {
    end_abruptly(&stream);
    drop(stream);
}
