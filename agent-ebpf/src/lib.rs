//! The ABI between the kernel programs and user space: plain `#[repr(C)]` values, 64-bit fields first, padding named,
//! sizes asserted. It owns layouts and the meaning of every number in them; it never touches a map or a packet.
//!
//! Addresses are four 32-bit words in network byte order, IPv4 as `::ffff:a.b.c.d`. Ports are in host byte order.
#![no_std]
#![allow(clippy::inline_always)] // The verifier of old kernels knows no pointers across calls.

/// Version of this layout; user space refuses an object that carries another one.
pub const ABI_VERSION: u32 = 2;

/// Nanoseconds after which a heartbeat is stale and captured processes cannot connect (law 3).
pub const HEARTBEAT_STALE_NS: u64 = 5_000_000_000;

/// Listener ports for native IPv6, where one address (`::1`) has to serve: the destination's hash chooses the port.
pub const IPV6_PORTS: usize = 16;

/// The longest executed name, in bytes, that an exec event carries.
pub const FILENAME_LEN: usize = 240;

/// Declares ABI structs: `#[repr(C)]`, copyable, of an asserted size, `aya::Pod` for user space.
macro_rules! abi {
    ($($(#[$doc:meta])* $name:ident = $size:literal { $($(#[$field_doc:meta])* $field:ident: $ty:ty,)+ })+) => {$(
        $(#[$doc])*
        #[repr(C)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct $name { $($(#[$field_doc])* pub $field: $ty,)+ }
        const _: () = assert!(core::mem::size_of::<$name>() == $size);
        // SAFETY: `repr(C)`, integers only, and the padding is spelled out: every bit pattern is a value, and no byte
        // is uninitialised (the sum of the fields is the size asserted above).
        #[cfg(feature = "user")]
        #[allow(unsafe_code)]
        unsafe impl aya::Pod for $name {}
        const _: () = assert!($size == 0 $(+ core::mem::size_of::<$ty>())+);
    )+};
}

/// An IPv6 or IPv4-mapped address: four words in network byte order.
pub type Words = [u32; 4];

abi! {
    /// What the programs know of the agent. One entry. The heartbeat is apart, so that beating never undoes `alive = 0`.
    Global = 16 {
        /// The agent's thread group in the initial pid namespace.
        agent_tgid: u32,
        /// 1 while the agent lives; the exit tracepoint writes 0 before the agent's ports are free.
        alive: u32,
        /// Depth of a run's cgroup below the root of the hierarchy.
        cgroup_level: u32,
        /// [`ABI_VERSION`] of the agent.
        abi: u32,
    }
    /// What holds for one run.
    RunSettings = 88 {
        /// `SO_NETNS_COOKIE` of the namespace in which the listeners are; 0: not checked.
        netns_cookie: u64,
        /// [`MODE_RECORD`] or [`MODE_ENFORCE`].
        mode: u32,
        /// [`HAS_ROUTE4`], [`HAS_ROUTE6`].
        flags: u32,
        /// The TCP listener on 0.0.0.0 (device lo).
        tcp4_port: u16,
        /// The DNS relay on 0.0.0.0 (device lo); 0: UDP port 53 is other UDP.
        dns4_port: u16,
        /// The TCP listeners on `::1`; 0: IPv6 is refused.
        tcp6_ports: [u16; IPV6_PORTS],
        /// The DNS relays on `::1`.
        dns6_ports: [u16; IPV6_PORTS],
        /// Zero.
        padding: u32,
    }
    /// An address that a run's sockets may be bound to.
    LocalAddress = 24 {
        /// The run's cgroup id.
        run: u64,
        /// The address.
        address: Words,
    }
    /// What the kernel knows of one captured connection or datagram flow.
    Origin = 104 {
        /// Cgroup id of the run.
        run: u64,
        /// Cookie of the client's socket.
        cookie: u64,
        /// `CLOCK_MONOTONIC` nanoseconds of the connect or send.
        at_ns: u64,
        /// What the process ran: `CLOCK_MONOTONIC` nanoseconds of its last exec, or of its fork where it has executed
        /// nothing since, or of its coming into the run; no two programs of a process have the same. 0: not known.
        program_ns: u64,
        /// The destination that the program asked for.
        destination: Words,
        /// The address that the socket was bound to; all zero: none.
        source: Words,
        /// Process.
        tgid: u32,
        /// Thread.
        tid: u32,
        /// Effective user in the initial user namespace.
        uid: u32,
        /// Effective group.
        gid: u32,
        /// The thread's name.
        comm: [u8; 16],
        /// The destination's port.
        destination_port: u16,
        /// The port that the socket was bound to; 0: none.
        source_port: u16,
        /// [`FAMILY_V4`], [`FAMILY_V6`] or [`FAMILY_MAPPED`]: how the program spelled the destination.
        family: u8,
        /// `IPPROTO_TCP` or `IPPROTO_UDP`.
        protocol: u8,
        /// [`ORIGIN_KERNEL_SOCKET`].
        flags: u16,
    }
    /// How an accepted connection finds its origin. The initial sequence number tells a connection from every other
    /// one that used the same ports: a reused source port cannot inherit an origin.
    ConnectionKey = 40 {
        /// The client's address, as accept sees it.
        client: Words,
        /// The listener's address.
        listener: Words,
        /// The client's port.
        client_port: u16,
        /// The listener's port.
        listener_port: u16,
        /// The client's initial sequence number (RFC 9293 section 3.4).
        sequence: u32,
    }
    /// How a datagram at the DNS relay finds its origin. Each datagram leaves one and the relay takes it: who uses the
    /// port after the socket finds none.
    DatagramKey = 40 {
        /// The client's address.
        client: Words,
        /// The relay's address.
        relay: Words,
        /// The client's port.
        client_port: u16,
        /// The relay's port.
        relay_port: u16,
        /// The message's id (RFC 1035 section 4.1.1): the first two bytes behind the UDP header, 0 when there are less.
        id: u16,
        /// Zero.
        padding: u16,
    }
    /// How a client's socket finds the original peer of a relayed datagram.
    RelayKey = 32 {
        /// Cookie of the client's socket.
        cookie: u64,
        /// The relay's address.
        relay: Words,
        /// The relay's port.
        relay_port: u16,
        /// Zero.
        padding: [u16; 3],
    }
    /// What the programs keep with a socket; it goes with the socket, and children of a listener inherit it.
    SocketState = 128 {
        /// Cgroup id of the run in which the socket was made; 0: a socket that the kernel made (an MPTCP subflow).
        run: u64,
        /// The process that made the socket.
        creator: u32,
        /// The user that made the socket.
        creator_uid: u32,
        /// [`SOCKET_FRESH`], [`SOCKET_REDIRECTED`], [`SOCKET_PASSIVE`], [`SOCKET_DNS`], [`SOCKET_DATAGRAM`].
        kind: u32,
        /// Zero.
        padding: u32,
        /// The last connect.
        origin: Origin,
    }
    /// Identifies a bypass that was already reported.
    BypassKey = 40 {
        /// The run.
        run: u64,
        /// The destination.
        address: Words,
        /// One of the `BYPASS_` numbers.
        kind: u32,
        /// The process.
        tgid: u32,
        /// The destination's port.
        port: u32,
        /// Zero.
        padding: u32,
    }
    /// One end of a connection and the other, where an MPTCP socket looks for its peer.
    PeerKey = 44 {
        /// Cgroup id of the run, in two halves (which keeps the alignment at 4).
        run: [u32; 2],
        /// The client's address.
        client: Words,
        /// The relay's address.
        relay: Words,
        /// The client's port.
        client_port: u16,
        /// The relay's port.
        relay_port: u16,
    }
    /// What happened in one run, counted by the kernel. Counters only grow.
    Counters = 240 {
        /// TCP connects sent to the proxy.
        redirected: u64,
        /// Of these, handshakes that completed: what the agent must have accepted.
        established: u64,
        /// Connections that the run's own listeners accepted.
        accepted: u64,
        /// Established connections whose origin found no room.
        map_full: u64,
        /// Refused: the agent is dead or hung.
        refused_dead: u64,
        /// Refused: no route of that family.
        refused_route: u64,
        /// Refused: the socket is bound to a device.
        refused_device: u64,
        /// Refused: the socket is bound to an address that is not local.
        refused_source: u64,
        /// Refused: the socket belongs to another run or to a task outside.
        refused_foreign: u64,
        /// Refused: the socket is in a network namespace without listeners.
        refused_namespace: u64,
        /// Refused: QUIC.
        refused_quic: u64,
        /// Refused by the mode: UDP, raw sockets and other ways around the proxy in enforce mode.
        refused_mode: u64,
        /// Packets of redirected sockets, or to loopback, that were about to leave by another device.
        dropped_escape: u64,
        /// Packets dropped because the agent is dead.
        dropped_dead: u64,
        /// Events that found the ring buffer full.
        events_lost: u64,
        /// Ways around the proxy seen, by `BYPASS_` number.
        bypass: [u64; 15],
    }
    /// What every event starts with.
    EventHeader = 48 {
        /// `CLOCK_MONOTONIC` nanoseconds.
        at_ns: u64,
        /// Cgroup id of the run.
        run: u64,
        /// One of the `EVENT_` numbers.
        kind: u32,
        /// The process.
        tgid: u32,
        /// The thread.
        tid: u32,
        /// The user.
        uid: u32,
        /// The thread's name.
        comm: [u8; 16],
    }
    /// A program was executed.
    ExecEvent = 296 {
        /// Who.
        header: EventHeader,
        /// The thread id before the exec (a thread other than the leader takes the leader's id).
        old_tid: u32,
        /// Bytes of `filename`, without a terminator.
        filename_len: u32,
        /// What was executed, as the kernel resolved it; longer names are cut.
        filename: [u8; FILENAME_LEN],
    }
    /// A process or thread was made.
    ForkEvent = 56 {
        /// The parent.
        header: EventHeader,
        /// The child's thread id.
        child: u32,
        /// Zero.
        padding: u32,
    }
    /// A thread ended.
    ExitEvent = 56 {
        /// Who.
        header: EventHeader,
        /// 1: it was the last thread of its process; 0: it was not, or the kernel does not say (before 6.16).
        last: u32,
        /// Zero.
        padding: u32,
    }
    /// A listener of the run accepted a connection. The header names who made the listening socket.
    AcceptedEvent = 88 {
        /// Who made the listener.
        header: EventHeader,
        /// The peer.
        peer: Words,
        /// The local address.
        local: Words,
        /// The peer's port.
        peer_port: u16,
        /// The local port.
        local_port: u16,
        /// Zero.
        padding: u32,
    }
    /// Something tried to go, or went, around the proxy.
    BypassEvent = 80 {
        /// Who.
        header: EventHeader,
        /// The destination, if there is one.
        address: Words,
        /// One of the `BYPASS_` numbers.
        kind: u32,
        /// Address family of the socket (`AF_*`).
        family: u32,
        /// Socket type in the low half, protocol in the high half.
        socket: u32,
        /// The destination's port.
        port: u16,
        /// 1: the kernel refused it.
        refused: u16,
    }
    /// A task of a run was seen in another cgroup. The header names the task.
    MovedEvent = 64 {
        /// The task.
        header: EventHeader,
        /// The cgroup in which it is now; 0: somewhere outside.
        cgroup: u64,
        /// The process that moved it; 0: not known.
        by: u32,
        /// Zero.
        padding: u32,
    }
}

/// Record mode: everything passes and is recorded.
pub const MODE_RECORD: u32 = 0;
/// Enforce mode: ways around the proxy are refused.
pub const MODE_ENFORCE: u32 = 1;

/// [`RunSettings::flags`]: the namespace has an IPv4 route that is not loopback.
pub const HAS_ROUTE4: u32 = 1;
/// [`RunSettings::flags`]: the namespace has an IPv6 route that is not loopback.
pub const HAS_ROUTE6: u32 = 2;

/// [`Origin::family`]: IPv4.
pub const FAMILY_V4: u8 = 4;
/// [`Origin::family`]: IPv6.
pub const FAMILY_V6: u8 = 6;
/// [`Origin::family`]: IPv4 through an IPv6 socket (`::ffff:a.b.c.d`).
pub const FAMILY_MAPPED: u8 = 46;

/// [`Origin::flags`]: the kernel made this socket for another one, as MPTCP does with its subflows.
pub const ORIGIN_KERNEL_SOCKET: u16 = 1;

/// [`SocketState::kind`]: made, not connected.
pub const SOCKET_FRESH: u32 = 0;
/// [`SocketState::kind`]: TCP, connected to the proxy.
pub const SOCKET_REDIRECTED: u32 = 1;
/// [`SocketState::kind`]: TCP, listening or accepted.
pub const SOCKET_PASSIVE: u32 = 2;
/// [`SocketState::kind`]: UDP, connected to the DNS relay.
pub const SOCKET_DNS: u32 = 3;
/// [`SocketState::kind`]: UDP, connected to something else.
pub const SOCKET_DATAGRAM: u32 = 4;

/// [`EventHeader::kind`] of an [`ExecEvent`].
pub const EVENT_EXEC: u32 = 1;
/// [`EventHeader::kind`] of a [`ForkEvent`].
pub const EVENT_FORK: u32 = 2;
/// [`EventHeader::kind`] of an [`ExitEvent`].
pub const EVENT_EXIT: u32 = 3;
/// [`EventHeader::kind`] of an [`AcceptedEvent`].
pub const EVENT_ACCEPTED: u32 = 4;
/// [`EventHeader::kind`] of a [`BypassEvent`].
pub const EVENT_BYPASS: u32 = 5;
/// [`EventHeader::kind`] of a [`MovedEvent`].
pub const EVENT_MOVED: u32 = 6;

/// A raw IP socket.
pub const BYPASS_RAW: u32 = 0;
/// An ICMP datagram socket.
pub const BYPASS_PING: u32 = 1;
/// Another type or protocol of an internet socket: SCTP, DCCP, UDP-Lite, L2TP.
pub const BYPASS_PROTOCOL: u32 = 2;
/// A socket of a family that can carry data out and is not the internet's: packet, vsock, Bluetooth, …
pub const BYPASS_FAMILY: u32 = 3;
/// A socket bound to a device.
pub const BYPASS_DEVICE: u32 = 4;
/// A socket bound to an address that is not local.
pub const BYPASS_SOURCE: u32 = 5;
/// A run's socket used from another run or from outside.
pub const BYPASS_FOREIGN: u32 = 6;
/// A socket in a network namespace that has no listeners of ours.
pub const BYPASS_NAMESPACE: u32 = 7;
/// UDP that is neither DNS nor QUIC.
pub const BYPASS_UDP: u32 = 8;
/// QUIC.
pub const BYPASS_QUIC: u32 = 9;
/// A TCP packet of a socket that was neither redirected nor accepted.
pub const BYPASS_TCP: u32 = 10;
/// A packet of another protocol.
pub const BYPASS_PACKET: u32 = 11;
/// A packet of a redirected socket, or to loopback, on its way out of another device.
pub const BYPASS_ESCAPE: u32 = 12;

/// A loopback address for a destination: 24 bits of its hash in 127.0.0.0/8, never a network or broadcast address.
#[must_use]
#[inline(always)]
pub const fn relay_address_v4(hash: u32) -> [u8; 4] {
    let [_, second, third, fourth] = hash.to_le_bytes();
    [127, second, third, 1 + fourth % 254]
}

/// Hash of a destination, which chooses the relay's address or port: the same destination always gets the same one.
#[must_use]
#[inline(always)]
pub const fn destination_hash(address: &Words, port: u16) -> u32 {
    let mut hash = 0x9e37_79b9 ^ port as u32;
    hash = mix(hash ^ address[0]);
    hash = mix(hash ^ address[1]);
    hash = mix(hash ^ address[2]);
    mix(hash ^ address[3])
}

/// The 32-bit finaliser of `MurmurHash3`: every input bit reaches every output bit.
#[inline(always)]
const fn mix(mut x: u32) -> u32 {
    x ^= x >> 16;
    x = x.wrapping_mul(0x85eb_ca6b);
    x ^= x >> 13;
    x = x.wrapping_mul(0xc2b2_ae35);
    x ^ (x >> 16)
}
