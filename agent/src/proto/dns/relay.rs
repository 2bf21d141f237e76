//! DNS over UDP: takes the questions of captured processes, asks the resolver that each wanted, and brings back its answer.
//!
//! A question is on record before the resolver sees it, an answer before the process does. A question without an
//! origin is dropped (law 2); resolvers ask again.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::rc::Rc;
use std::sync::Arc;

use crewtap_core::bodies::Bypass;
use crewtap_core::event::Body;
use crewtap_core::limits;
use crewtap_core::origin::Origin;
use crewtap_core::wire::dns::{self as wire, Refusal};
use tokio::io::Interest;

use super::judged;
use super::view::Asked;
use crate::attribute;
use crate::capture::kernel::Kernel;
use crate::capture::listen::{DatagramPath, DnsSocket};
use crate::capture::sys;
use crate::capture::user::AsUser;
use crate::journal::Position;
use crate::runs::{Counts, Run, Runs};
use crate::session::{Ground, Grounds};

/// Largest DNS message over UDP that is relayed: what an IPv4 datagram can hold.
const MESSAGE_BYTES_MAX: usize = 65_507;

/// The relay of one agent, shared by all its sockets.
pub struct Relay {
    kernel: Arc<Kernel>,
    runs: Arc<Runs>,
    grounds: Arc<Grounds>,
}

impl std::fmt::Debug for Relay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Relay")
    }
}

/// One question on its way.
struct Question {
    run: Arc<Run>,
    ground: Arc<Ground>,
    origin: Origin,
    path: DatagramPath,
    message: Vec<u8>,
}

impl Relay {
    /// A relay that attributes questions by these.
    #[must_use]
    pub fn new(kernel: Arc<Kernel>, runs: Arc<Runs>, grounds: Arc<Grounds>) -> Self {
        Self { kernel, runs, grounds }
    }

    /// Serves one socket until the task is dropped. Runs inside a `LocalSet`.
    pub async fn serve(self: Arc<Self>, socket: DnsSocket) {
        let socket = match sys::watched(socket, Interest::READABLE) {
            Ok(socket) => Rc::new(socket),
            Err(error) => return tracing::error!(%error, "a DNS socket cannot be served"),
        };
        let mut buffer = vec![0; MESSAGE_BYTES_MAX];
        loop {
            let Ok(mut ready) = socket.readable().await else { return };
            let received = match ready.try_io(|socket| socket.get_ref().receive(&mut buffer)) {
                Ok(received) => received,
                Err(_would_block) => continue,
            };
            let Ok((len, path)) = received else { continue };
            let Some(question) = self.attribute(buffer.get(..len).unwrap_or_default(), path) else { continue };
            // A full house drops questions: resolvers ask again, and nothing is answered that is not on record.
            let Ok(place) = question.run.questions.clone().try_acquire_owned() else { continue };
            let socket = socket.clone();
            tokio::task::spawn_local(async move {
                if let Err(error) = question.relay(socket.get_ref()).await {
                    tracing::debug!(%error, "a DNS question was not answered");
                }
                drop(place);
            });
        }
    }

    fn attribute(&self, message: &[u8], path: DatagramPath) -> Option<Question> {
        let raw = self.kernel.take_udp_origin(&path.key(message)).ok().flatten()?;
        let run = self.runs.get(raw.run.0)?;
        let ground = self.grounds.now();
        Some(Question { run, ground, origin: attribute::origin(&raw), path, message: message.to_vec() })
    }
}

impl Question {
    async fn relay(self, socket: &DnsSocket) -> io::Result<()> {
        let resolver = self.origin.destination;
        let asked = Asked { transport: "udp", resolver, pid: self.origin.pid };
        let position = self.record(asked.question(&self.message), &self.message)?;
        self.run.recorder().journal().durable(position).await.map_err(io::Error::other)?;
        if let Some((decided, passes)) = judged::judge(&self.ground, &self.run, &asked, &self.message) {
            let position = self.record(decided.into(), &[])?;
            self.run.recorder().journal().durable(position).await.map_err(io::Error::other)?;
            if !passes {
                Counts::add(&self.run.counts.refused);
                return self.refuse(&asked, socket, Refusal::Refused);
            }
        }
        if self.run.namespace.is_ours(resolver) {
            Counts::add(&self.run.counts.bypasses);
            self.record(self.self_connect(), &[])?;
            return self.refuse(&asked, socket, Refusal::Refused);
        }
        let upstream = match self.ask(resolver).await {
            Ok(upstream) => upstream,
            Err(error) => {
                tracing::debug!(%resolver, %error, "a resolver cannot be asked");
                return self.refuse(&asked, socket, Refusal::Servfail);
            }
        };
        let mut buffer = vec![0; MESSAGE_BYTES_MAX];
        let answered = tokio::time::timeout(limits::DNS_TIMEOUT, self.receive(&upstream, &mut buffer)).await;
        let len = match answered {
            Err(_elapsed) => return self.record(asked.timeout(&self.message), &[]).map(drop),
            Ok(Err(_refused)) => return self.refuse(&asked, socket, Refusal::Servfail),
            Ok(Ok(len)) => len,
        };
        let answer = buffer.get(..len).unwrap_or_default();
        let (told, names) = asked.answer(answer);
        self.record(told, answer)?;
        for (address, name) in names {
            self.run.names().learn(address, &name);
        }
        self.answer(socket, answer)
    }

    async fn ask(&self, resolver: SocketAddr) -> io::Result<tokio::net::UdpSocket> {
        let upstream = self.upstream(resolver)?;
        upstream.send(&self.message).await?;
        Ok(upstream)
    }

    /// Answers in the resolver's stead, on record like an answer of its own.
    fn refuse(&self, asked: &Asked, socket: &DnsSocket, refusal: Refusal) -> io::Result<()> {
        let Some(answer) = wire::refuse(&self.message, refusal) else { return Ok(()) };
        self.record(asked.answer(&answer).0, &answer)?;
        self.answer(socket, &answer)
    }

    fn self_connect(&self) -> Body {
        let bypass = Bypass {
            kind: "self_connect".into(),
            refused: true,
            address: Some(self.origin.destination),
            pid: Some(self.origin.pid),
            detail: "a captured process asked crewtap's own listener for a name".into(),
        };
        bypass.into()
    }

    /// A socket of its own per question, so that answers cannot be mixed up and ports stay unpredictable.
    fn upstream(&self, resolver: SocketAddr) -> io::Result<tokio::net::UdpSocket> {
        let any: SocketAddr = match resolver.ip().to_canonical() {
            std::net::IpAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            std::net::IpAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        let resolver = SocketAddr::new(resolver.ip().to_canonical(), resolver.port());
        let (uid, gid) = (self.origin.uid, self.origin.gid);
        let socket = self.run.namespace.make(|| {
            let _as_user = AsUser::new(uid, gid)?;
            let socket = UdpSocket::bind(any)?;
            socket.connect(resolver)?;
            socket.set_nonblocking(true)?;
            Ok(socket)
        })?;
        tokio::net::UdpSocket::from_std(socket)
    }

    /// The first datagram that answers this question; others on the connected socket are not for us.
    async fn receive(&self, upstream: &tokio::net::UdpSocket, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let len = upstream.recv(buffer).await?;
            if buffer.get(..2) == self.message.get(..2) && len >= 12 {
                return Ok(len);
            }
        }
    }

    fn answer(&self, socket: &DnsSocket, answer: &[u8]) -> io::Result<()> {
        socket.send(answer, &self.path).map(drop)
    }

    /// The payload is the message as it passes: whatever a process packs into it is on record.
    fn record(&self, body: Body, message: &[u8]) -> io::Result<Position> {
        self.run.record_with(body, message).map_err(io::Error::other)
    }
}
