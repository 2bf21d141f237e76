//! The safety net: every packet that a captured socket sends. It judges sockets, not destinations: a TCP socket is
//! legitimate when it was redirected (and stays on the loopback device) or when it is passive.

use super::report::{Bypass, bypass, count};
use super::{
    LOOPBACK_DEVICE, MAPPED, PASS, REFUSE, SOCK_DGRAM, SOCK_STREAM, TCP, Task, UDP, agent_lives, datagram::QUIC_PORT,
    is_loopback, maps, settings_of, skb, sock, socket,
};
use aya_ebpf::{
    bindings::{__sk_buff, bpf_sock},
    helpers::generated::{
        bpf_get_socket_cookie, bpf_ktime_get_ns, bpf_sk_fullsock, bpf_skb_ancestor_cgroup_id, bpf_skb_load_bytes,
    },
};
use crewtap_ebpf::{
    BYPASS_ESCAPE, BYPASS_PACKET, BYPASS_QUIC, BYPASS_TCP, BYPASS_UDP, DatagramKey, MODE_ENFORCE, Origin, RelayKey,
    SOCKET_DNS, SOCKET_PASSIVE, SOCKET_REDIRECTED, SocketState, Words,
};

/// `ETH_P_IP`.
const ETHERTYPE_IPV4: u32 = 0x0800;
/// `TCP_LISTEN`.
const STATE_LISTEN: u32 = 10;
/// QUIC version 1 (RFC 9000) and version 2 (RFC 9369).
const QUIC_VERSIONS: [u32; 2] = [1, 0x6b33_43cf];

/// A packet's addresses, and its UDP ports.
struct Packet {
    source: Words,
    destination: Words,
    source_port: u16,
    destination_port: u16,
    /// Where the transport header starts; 0: not right behind a plain IP header.
    transport: u32,
}

/// The program: 1 sends the packet, 0 drops it (send() then fails with EPERM).
#[inline(always)]
pub fn egress(skb: *mut __sk_buff) -> i32 {
    let socket = socket!(skb, __sk_buff, __bindgen_anon_2);
    if socket.is_null() {
        return PASS;
    }
    // SAFETY: not null; the helper returns null for a socket that is not a full one.
    let socket = unsafe { bpf_sk_fullsock(socket) };
    if socket.is_null() {
        return REFUSE;
    }
    // SAFETY: a full socket.
    let state = unsafe { maps::SOCKETS.get(socket) };
    let kind = (sock!(socket, type_), sock!(socket, protocol));
    let Some(packet) = read_packet(skb, kind.1) else { return REFUSE };
    let stays = skb!(skb, ifindex) == LOOPBACK_DEVICE;
    let to_loopback = is_loopback(&packet.destination);
    if kind == (SOCK_STREAM, TCP)
        && let Some(state) = &state
    {
        if state.kind == SOCKET_REDIRECTED && to_loopback && stays {
            return PASS;
        }
        if state.kind == SOCKET_PASSIVE && (stays || !to_loopback) {
            return PASS;
        }
    }
    judge(skb, socket, state, kind, &packet, to_loopback && stays, to_loopback && !stays)
}

/// What is left: datagrams, other protocols, and everything that should not be.
#[inline(always)]
fn judge(
    skb: *mut __sk_buff,
    socket: *mut bpf_sock,
    state: Option<&'static mut SocketState>,
    kind: (u32, u32),
    packet: &Packet,
    inside: bool,
    escapes: bool,
) -> i32 {
    let level = maps::GLOBAL.get(0).map_or(0, |global| global.cgroup_level);
    // SAFETY: the helper takes the context and a number.
    let run = unsafe { bpf_skb_ancestor_cgroup_id(skb, level as i32) };
    let Some(settings) = settings_of(run) else { return REFUSE };
    let mut task = Task { tgid: 0, tid: 0, uid: 0, gid: 0, comm: [0; 16] };
    let mut redirected = false;
    if let Some(state) = &state {
        redirected = state.kind == SOCKET_REDIRECTED;
        let origin = &state.origin;
        task = Task { tgid: origin.tgid, tid: origin.tid, uid: origin.uid, gid: origin.gid, comm: origin.comm };
    }
    let (bypassed, refused) = if escapes || redirected && kind == (SOCK_STREAM, TCP) {
        count!(run, dropped_escape);
        (BYPASS_ESCAPE, true)
    } else if !agent_lives() {
        count!(run, dropped_dead);
        return REFUSE;
    } else if kind == (SOCK_STREAM, TCP) {
        if sock!(socket, state) == STATE_LISTEN {
            return PASS;
        }
        (BYPASS_TCP, settings.mode == MODE_ENFORCE)
    } else if kind == (SOCK_DGRAM, UDP) {
        if inside && is_relayed(skb, packet, state) {
            return PASS;
        }
        if is_quic(skb, packet) {
            count!(run, refused_quic);
            (BYPASS_QUIC, true)
        } else {
            (BYPASS_UDP, settings.mode == MODE_ENFORCE)
        }
    } else {
        (BYPASS_PACKET, settings.mode == MODE_ENFORCE)
    };
    if refused && bypassed != BYPASS_QUIC && bypassed != BYPASS_ESCAPE {
        count!(run, refused_mode);
    }
    let seen = Bypass {
        kind: bypassed,
        address: packet.destination,
        port: packet.destination_port,
        family: sock!(socket, family),
        socket: kind.0 | kind.1 << 16,
        refused,
    };
    bypass(run, &task, &seen);
    if refused { REFUSE } else { PASS }
}

/// Whether a datagram is on its way to the relay; if so, the relay will find its origin.
#[inline(always)]
fn is_relayed(skb: *mut __sk_buff, packet: &Packet, state: Option<&'static mut SocketState>) -> bool {
    // SAFETY: the helper takes the context.
    let cookie = unsafe { bpf_get_socket_cookie(skb.cast()) };
    let key = RelayKey { cookie, relay: packet.destination, relay_port: packet.destination_port, padding: [0; 3] };
    let datagram = DatagramKey {
        client: packet.source,
        relay: packet.destination,
        client_port: packet.source_port,
        relay_port: packet.destination_port,
        id: message_id(skb, packet),
        padding: 0,
    };
    // SAFETY: copied at once.
    if let Some(origin) = unsafe { maps::RELAYED.get(&key) } {
        leave(&datagram, origin);
        return true;
    }
    // A connected socket that was silent for so long that others took its place.
    if let Some(state) = state
        && state.kind == SOCKET_DNS
    {
        leave(&datagram, &state.origin);
        return true;
    }
    false
}

/// Leaves a datagram's origin for the relay, as of now: a connect may be long ago, and the relay takes fresh ones only.
#[inline(always)]
fn leave(datagram: &DatagramKey, origin: &Origin) {
    let _ = maps::DATAGRAMS.insert(datagram, origin, 0);
    if let Some(left) = maps::DATAGRAMS.get_ptr_mut(datagram) {
        // SAFETY: an entry of the map, which stays readable and writable while the program runs.
        unsafe { (*left).at_ns = bpf_ktime_get_ns() };
    }
}

/// The id of a DNS message; 0: the datagram is shorter.
#[inline(always)]
fn message_id(skb: *mut __sk_buff, packet: &Packet) -> u16 {
    if packet.transport == 0 {
        return 0;
    }
    load::<[u8; 2]>(skb, packet.transport + 8).map_or(0, u16::from_be_bytes)
}

/// The port of HTTP/3, or the long header of a QUIC version in use (RFC 8999 section 5.1) on any port.
#[inline(always)]
fn is_quic(skb: *mut __sk_buff, packet: &Packet) -> bool {
    if packet.destination_port == QUIC_PORT {
        return true;
    }
    if packet.transport == 0 {
        return false;
    }
    let Some(first) = load::<u8>(skb, packet.transport + 8) else { return false };
    let Some(version) = load::<[u8; 4]>(skb, packet.transport + 9) else { return false };
    let version = u32::from_be_bytes(version);
    first & 0xc0 == 0xc0 && (version == QUIC_VERSIONS[0] || version == QUIC_VERSIONS[1])
}

#[inline(always)]
fn read_packet(skb: *mut __sk_buff, protocol: u32) -> Option<Packet> {
    let (source, destination, transport) = if skb!(skb, protocol) == ETHERTYPE_IPV4.to_be() >> 16 {
        let first: u8 = load(skb, 0)?;
        let carries: u8 = load(skb, 9)?;
        let addresses: [u32; 2] = load(skb, 12)?;
        let transport = if u32::from(carries) == protocol { u32::from(first & 0xf) * 4 } else { 0 };
        ([0, 0, MAPPED, addresses[0]], [0, 0, MAPPED, addresses[1]], transport)
    } else {
        let carries: u8 = load(skb, 6)?;
        let addresses: [Words; 2] = load(skb, 8)?;
        (addresses[0], addresses[1], if u32::from(carries) == protocol { 40 } else { 0 })
    };
    let mut packet = Packet { source, destination, source_port: 0, destination_port: 0, transport };
    if transport != 0 && (protocol == UDP || protocol == TCP) {
        let ports: [u16; 2] = load(skb, transport)?;
        packet.source_port = u16::from_be(ports[0]);
        packet.destination_port = u16::from_be(ports[1]);
    }
    Some(packet)
}

/// Reads `T` (integers only) at `offset` of the packet.
#[inline(always)]
fn load<T: Copy>(skb: *mut __sk_buff, offset: u32) -> Option<T> {
    let mut value = core::mem::MaybeUninit::<T>::uninit();
    let size = size_of::<T>() as u32;
    // SAFETY: `value` has room for `size` bytes; the helper fills all of them or fails.
    unsafe {
        if bpf_skb_load_bytes(skb.cast(), offset, value.as_mut_ptr().cast(), size) == 0 {
            Some(value.assume_init())
        } else {
            None
        }
    }
}
