//! Events from the kernel, read from its ring buffer.

use super::origin::text;
use crate::capture::{cgroup::CgroupId, netns::from_words, sys::read_pod};
use aya::maps::{MapData, RingBuf};
use crewtap_ebpf::{
    AcceptedEvent, BypassEvent, EVENT_ACCEPTED, EVENT_BYPASS, EVENT_EXEC, EVENT_EXIT, EVENT_FORK, EVENT_MOVED,
    EventHeader, ExecEvent, ExitEvent, ForkEvent, MovedEvent,
};
use std::{
    net::SocketAddr,
    os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd},
};

/// Who, when and in which run. For [`KernelEvent::Accepted`] the maker of the listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moment {
    /// `CLOCK_MONOTONIC` nanoseconds.
    pub at_ns: u64,
    /// The run.
    pub run: CgroupId,
    /// The process, in the initial pid namespace.
    pub tgid: u32,
    /// The thread; 0: not known.
    pub tid: u32,
    /// The effective user.
    pub uid: u32,
    /// The thread's name.
    pub comm: String,
}

/// A way around the proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BypassKind {
    /// A raw IP socket.
    RawSocket,
    /// An ICMP datagram socket.
    PingSocket,
    /// Another type or protocol of an internet socket: SCTP, DCCP, UDP-Lite, L2TP.
    OddProtocol,
    /// A socket of another family: packet, vsock, Bluetooth, …
    OddFamily,
    /// A socket bound to a device.
    Device,
    /// A socket bound to an address that is not local.
    Source,
    /// A run's socket used from another run or from outside.
    ForeignTask,
    /// A socket in a network namespace without listeners of ours.
    Namespace,
    /// UDP that is neither DNS nor QUIC.
    Udp,
    /// QUIC.
    Quic,
    /// TCP of a socket that was neither redirected nor accepted.
    Tcp,
    /// Packets of another protocol.
    Packet,
    /// A packet of a redirected socket, or to loopback, on its way out of another device.
    Escape,
}

impl BypassKind {
    /// All, in the order of their numbers in the ABI and in [`crewtap_ebpf::Counters::bypass`].
    pub const ALL: [Self; 13] = [
        Self::RawSocket,
        Self::PingSocket,
        Self::OddProtocol,
        Self::OddFamily,
        Self::Device,
        Self::Source,
        Self::ForeignTask,
        Self::Namespace,
        Self::Udp,
        Self::Quic,
        Self::Tcp,
        Self::Packet,
        Self::Escape,
    ];

    /// Its name in the journal.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::RawSocket => "raw_socket",
            Self::PingSocket => "ping_socket",
            Self::OddProtocol => "odd_protocol",
            Self::OddFamily => "odd_family",
            Self::Device => "device",
            Self::Source => "source",
            Self::ForeignTask => "foreign_task",
            Self::Namespace => "namespace",
            Self::Udp => "udp",
            Self::Quic => "quic",
            Self::Tcp => "tcp",
            Self::Packet => "packet",
            Self::Escape => "escape",
        }
    }
}

/// Something that happened in a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KernelEvent {
    /// A program was executed.
    Exec {
        /// Who.
        moment: Moment,
        /// The thread id before (another thread than the leader takes the leader's id).
        old_tid: u32,
        /// What, as the kernel resolved it; cut after 239 bytes.
        filename: Vec<u8>,
    },
    /// A process or thread was made.
    Fork {
        /// The parent.
        moment: Moment,
        /// The child's thread id; which process it belongs to is in /proc.
        child: u32,
    },
    /// A thread ended.
    Exit {
        /// Who.
        moment: Moment,
        /// Whether it was the last thread of its process; None: the kernel does not say (before 6.16).
        last: Option<bool>,
    },
    /// A listener of the run accepted a connection.
    Accepted {
        /// Who made the listener.
        moment: Moment,
        /// Who called.
        peer: SocketAddr,
        /// Where.
        local: SocketAddr,
    },
    /// Something tried to go, or went, around the proxy.
    Bypass {
        /// Who.
        moment: Moment,
        /// How.
        kind: BypassKind,
        /// Where to; None: not known yet (a socket was made).
        destination: Option<SocketAddr>,
        /// `AF_*` of the socket.
        family: u32,
        /// `SOCK_*`.
        socket_type: u16,
        /// `IPPROTO_*`.
        protocol: u16,
        /// Whether the kernel refused it.
        refused: bool,
    },
    /// A task of a run was seen in another cgroup; one below its own is no leaving: ask
    /// [`crate::capture::cgroup::run_of_process`].
    Moved {
        /// The task.
        moment: Moment,
        /// Where it is now; None: outside every run.
        cgroup: Option<CgroupId>,
        /// Who moved it; None: it was born there.
        by: Option<u32>,
    },
}

impl KernelEvent {
    /// Who, when and in which run.
    #[must_use]
    pub fn moment(&self) -> &Moment {
        match self {
            Self::Exec { moment, .. }
            | Self::Fork { moment, .. }
            | Self::Exit { moment, .. }
            | Self::Accepted { moment, .. }
            | Self::Bypass { moment, .. }
            | Self::Moved { moment, .. } => moment,
        }
    }

    /// Reads one record. None: not one of ours.
    fn read(record: &[u8], exit_tells_last: bool) -> Option<Self> {
        let header: EventHeader = read_pod(record)?;
        let moment = Moment {
            at_ns: header.at_ns,
            run: CgroupId(header.run),
            tgid: header.tgid,
            tid: header.tid,
            uid: header.uid,
            comm: text(&header.comm),
        };
        Some(match header.kind {
            EVENT_EXEC => {
                let raw: ExecEvent = read_pod(record)?;
                let filename = raw.filename.get(..raw.filename_len as usize)?.to_vec();
                Self::Exec { moment, old_tid: raw.old_tid, filename }
            }
            EVENT_FORK => Self::Fork { moment, child: read_pod::<ForkEvent>(record)?.child },
            EVENT_EXIT => {
                let last = read_pod::<ExitEvent>(record)?.last == 1;
                Self::Exit { moment, last: exit_tells_last.then_some(last) }
            }
            EVENT_ACCEPTED => {
                let raw: AcceptedEvent = read_pod(record)?;
                Self::Accepted {
                    moment,
                    peer: SocketAddr::new(from_words(raw.peer), raw.peer_port),
                    local: SocketAddr::new(from_words(raw.local), raw.local_port),
                }
            }
            EVENT_BYPASS => read_bypass(moment, &read_pod(record)?)?,
            EVENT_MOVED => {
                let raw: MovedEvent = read_pod(record)?;
                let (cgroup, by) = (Some(raw.cgroup).filter(|id| *id != 0), Some(raw.by).filter(|by| *by != 0));
                Self::Moved { moment, cgroup: cgroup.map(CgroupId), by }
            }
            _ => return None,
        })
    }
}

fn read_bypass(moment: Moment, raw: &BypassEvent) -> Option<KernelEvent> {
    let kind = *BypassKind::ALL.get(raw.kind as usize)?;
    let destination = (raw.address != [0; 4]).then(|| SocketAddr::new(from_words(raw.address), raw.port));
    Some(KernelEvent::Bypass {
        moment,
        kind,
        destination,
        family: raw.family,
        socket_type: (raw.socket & 0xffff) as u16,
        protocol: (raw.socket >> 16) as u16,
        refused: raw.refused != 0,
    })
}

/// The reader of events. Its file descriptor is readable when there are some.
pub struct Events {
    ring: RingBuf<MapData>,
    exit_tells_last: bool,
}

impl Events {
    pub(super) fn new(ring: RingBuf<MapData>, exit_tells_last: bool) -> Self {
        Self { ring, exit_tells_last }
    }

    /// The next event; None: there is none now.
    pub fn next_event(&mut self) -> Option<KernelEvent> {
        loop {
            let record = self.ring.next()?;
            if let Some(event) = KernelEvent::read(&record, self.exit_tells_last) {
                return Some(event);
            }
        }
    }
}

impl AsFd for Events {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.ring.as_fd()
    }
}

impl AsRawFd for Events {
    fn as_raw_fd(&self) -> RawFd {
        self.ring.as_raw_fd()
    }
}
