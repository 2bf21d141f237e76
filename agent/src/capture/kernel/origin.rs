//! Where a connection was going and who asked, as user space speaks of it.

use crate::capture::{cgroup::CgroupId, netns::from_words};
use crewtap_ebpf::{FAMILY_MAPPED, FAMILY_V6, ORIGIN_KERNEL_SOCKET, Origin as RawOrigin};
use std::net::SocketAddr;

/// How the program spelled the destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
    /// IPv4 through an IPv6 socket.
    Mapped,
}

/// The transport protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// TCP.
    Tcp,
    /// TCP below a multipath socket.
    Mptcp,
    /// UDP.
    Udp,
}

/// What the kernel knows of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The run.
    pub run: CgroupId,
    /// The client socket's cookie.
    pub cookie: u64,
    /// When: `CLOCK_MONOTONIC` nanoseconds.
    pub at_ns: u64,
    /// What the process ran, by when it began (exec, else fork): `CLOCK_MONOTONIC` nanoseconds; 0: not known.
    pub program_ns: u64,
    /// Where to; IPv4 also where it was spelled as mapped IPv6.
    pub destination: SocketAddr,
    /// The address and port that the socket was bound to before; address or port are zero where they were not chosen.
    pub source: Option<SocketAddr>,
    /// The process, in the initial pid namespace.
    pub tgid: u32,
    /// The thread.
    pub tid: u32,
    /// The effective user.
    pub uid: u32,
    /// The effective group.
    pub gid: u32,
    /// The thread's name.
    pub comm: String,
    /// How the destination was spelled.
    pub family: Family,
    /// The transport.
    pub transport: Transport,
}

impl From<&RawOrigin> for Origin {
    fn from(raw: &RawOrigin) -> Self {
        let source = SocketAddr::new(from_words(raw.source), raw.source_port);
        Self {
            run: CgroupId(raw.run),
            cookie: raw.cookie,
            at_ns: raw.at_ns,
            program_ns: raw.program_ns,
            destination: SocketAddr::new(from_words(raw.destination), raw.destination_port),
            source: (raw.source_port != 0 || raw.source != [0; 4]).then_some(source),
            tgid: raw.tgid,
            tid: raw.tid,
            uid: raw.uid,
            gid: raw.gid,
            comm: text(&raw.comm),
            family: match raw.family {
                FAMILY_V6 => Family::V6,
                FAMILY_MAPPED => Family::Mapped,
                _ => Family::V4,
            },
            transport: match raw.protocol {
                17 => Transport::Udp,
                _ if raw.flags & ORIGIN_KERNEL_SOCKET != 0 => Transport::Mptcp,
                _ => Transport::Tcp,
            },
        }
    }
}

/// A name of at most 16 bytes, ended by a zero.
pub(super) fn text(comm: &[u8]) -> String {
    let end = comm.iter().position(|byte| *byte == 0).unwrap_or(comm.len());
    String::from_utf8_lossy(comm.get(..end).unwrap_or_default()).into_owned()
}
