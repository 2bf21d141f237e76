//! connect(): TCP goes to the proxy, DNS to the relay, other UDP connects go through (they send nothing), and what
//! would leave by another way is refused.

use super::report::{Bypass, bypass, count};
use super::{
    AF_INET6, LOOPBACK_DEVICE, MAPPED, MPTCP, PASS, REFUSE, SOCK_DGRAM, SOCK_STREAM, TCP, Task, UDP, addr, agent_lives,
    create::NO_ORIGIN, current_run, datagram, has_set_retval, is_loopback, is_mapped, is_unspecified, maps, now,
    set_addr, settings_of, sock, socket,
};
use aya_ebpf::{
    bindings::{bpf_sock, bpf_sock_addr},
    helpers::generated::{bpf_get_netns_cookie, bpf_get_socket_cookie, bpf_set_retval},
};
use crewtap_ebpf::{
    BYPASS_DEVICE, BYPASS_FOREIGN, BYPASS_NAMESPACE, BYPASS_SOURCE, FAMILY_MAPPED, FAMILY_V4, FAMILY_V6, HAS_ROUTE4,
    HAS_ROUTE6, IPV6_PORTS, LocalAddress, ORIGIN_KERNEL_SOCKET, Origin, RunSettings, SOCKET_DATAGRAM, SOCKET_DNS,
    SOCKET_FRESH, SOCKET_REDIRECTED, SocketState, Words, destination_hash, relay_address_v4,
};

/// The port of DNS, the only UDP that the agent relays.
pub const DNS_PORT: u16 = 53;
/// `ENETUNREACH`.
const NETWORK_UNREACHABLE: i32 = 101;

/// The program for IPv4 destinations.
#[inline(always)]
pub fn connect4(ctx: *mut bpf_sock_addr) -> i32 {
    let destination = destination4(ctx);
    connect(ctx, destination, FAMILY_V4)
}

/// The program for IPv6 destinations, mapped ones among them.
#[inline(always)]
pub fn connect6(ctx: *mut bpf_sock_addr) -> i32 {
    let destination = destination6(ctx);
    let family = if is_mapped(&destination) { FAMILY_MAPPED } else { FAMILY_V6 };
    connect(ctx, destination, family)
}

/// The destination of an IPv4 call.
#[inline(always)]
pub fn destination4(ctx: *mut bpf_sock_addr) -> Words {
    [0, 0, MAPPED, addr!(ctx, user_ip4)]
}

/// The destination of an IPv6 call.
#[inline(always)]
pub fn destination6(ctx: *mut bpf_sock_addr) -> Words {
    [addr!(ctx, user_ip6[0]), addr!(ctx, user_ip6[1]), addr!(ctx, user_ip6[2]), addr!(ctx, user_ip6[3])]
}

/// The destination's port, in host order.
#[inline(always)]
pub fn destination_port(ctx: *mut bpf_sock_addr) -> u16 {
    u16::from_be(addr!(ctx, user_port) as u16)
}

/// The socket of a call.
#[inline(always)]
pub fn socket_of(ctx: *mut bpf_sock_addr) -> *mut bpf_sock {
    socket!(ctx, bpf_sock_addr, __bindgen_anon_1)
}

#[inline(always)]
fn connect(ctx: *mut bpf_sock_addr, destination: Words, family: u8) -> i32 {
    match (addr!(ctx, type_), addr!(ctx, protocol)) {
        (SOCK_STREAM, TCP | MPTCP) => connect_tcp(ctx, &destination, family),
        (SOCK_DGRAM, UDP) => connect_udp(ctx, &destination, family),
        // Counted when it was made; its packets meet the egress program.
        _ => PASS,
    }
}

#[inline(always)]
fn connect_tcp(ctx: *mut bpf_sock_addr, destination: &Words, family: u8) -> i32 {
    let task = Task::current();
    let Some((run, settings, state)) = admit(ctx, destination, &task) else { return REFUSE };
    let needed = if family == FAMILY_V6 { HAS_ROUTE6 } else { HAS_ROUTE4 };
    let leads_nowhere = settings.flags & needed == 0 && !is_own(run, destination);
    if leads_nowhere || family == FAMILY_V6 && settings.tcp6_ports[0] == 0 {
        count!(run, refused_route);
        return refuse_with(NETWORK_UNREACHABLE);
    }
    state.origin = origin_of(ctx, run, destination, family, TCP, &task);
    if state.run == 0 {
        state.origin.flags = ORIGIN_KERNEL_SOCKET;
    }
    state.kind = SOCKET_REDIRECTED;
    let hash = destination_hash(destination, destination_port(ctx));
    if family == FAMILY_V6 {
        rewrite(ctx, &[0, 0, 0, 1_u32.to_be()], settings.tcp6_ports[hash as usize % IPV6_PORTS], family);
    } else {
        rewrite(ctx, &relay_words(hash), settings.tcp4_port, family);
    }
    count!(run, redirected);
    PASS
}

/// UDP: connecting sends nothing. glibc and musl connect to sort addresses; that is neither session nor bypass.
#[inline(always)]
fn connect_udp(ctx: *mut bpf_sock_addr, destination: &Words, family: u8) -> i32 {
    let run = current_run();
    let Some(settings) = settings_of(run) else { return REFUSE };
    let task = Task::current();
    let is_dns = destination_port(ctx) == DNS_PORT && datagram::relays(settings, family);
    if !is_dns {
        let Some(state) = state_of(socket_of(ctx)) else { return REFUSE };
        state.origin = origin_of(ctx, run, destination, family, UDP, &task);
        state.kind = SOCKET_DATAGRAM;
        return PASS;
    }
    let Some((run, settings, state)) = admit(ctx, destination, &task) else { return REFUSE };
    state.origin = origin_of(ctx, run, destination, family, UDP, &task);
    state.kind = SOCKET_DNS;
    datagram::relay(ctx, settings, &state.origin)
}

/// What holds for every connect that the agent answers: a known run, its own socket, a living agent, and no binding
/// that would take the packets elsewhere.
#[inline(always)]
pub fn admit(
    ctx: *mut bpf_sock_addr,
    destination: &Words,
    task: &Task,
) -> Option<(u64, &'static RunSettings, &'static mut SocketState)> {
    let run = current_run();
    let socket = socket_of(ctx);
    let state = state_of(socket)?;
    let Some(settings) = settings_of(run) else {
        // A task from outside uses a socket of a run: the run's owner wants to know.
        if state.run != 0 {
            count!(state.run, refused_foreign);
            bypass(state.run, task, &seen(ctx, destination, BYPASS_FOREIGN));
        }
        return None;
    };
    if !agent_lives() {
        count!(run, refused_dead);
        return None;
    }
    let device = sock!(socket, bound_dev_if);
    let kind = if state.run != 0 && state.run != run {
        count!(run, refused_foreign);
        BYPASS_FOREIGN
    } else if settings.netns_cookie != 0 && namespace_of(ctx) != settings.netns_cookie {
        count!(run, refused_namespace);
        BYPASS_NAMESPACE
    } else if device != 0 && device != LOOPBACK_DEVICE {
        count!(run, refused_device);
        BYPASS_DEVICE
    } else if !is_own(run, &source_of(socket)) {
        count!(run, refused_source);
        BYPASS_SOURCE
    } else {
        return Some((run, settings, state));
    };
    bypass(run, task, &seen(ctx, destination, kind));
    None
}

#[inline(always)]
fn seen(ctx: *mut bpf_sock_addr, destination: &Words, kind: u32) -> Bypass {
    Bypass {
        kind,
        address: *destination,
        port: destination_port(ctx),
        family: addr!(ctx, family),
        socket: addr!(ctx, type_) | addr!(ctx, protocol) << 16,
        refused: true,
    }
}

/// The socket's state; a socket that the kernel made for another one (MPTCP) has none before its connect.
#[inline(always)]
pub fn state_of(socket: *mut bpf_sock) -> Option<&'static mut SocketState> {
    let mut initial =
        SocketState { run: 0, creator: 0, creator_uid: 0, kind: SOCKET_FRESH, padding: 0, origin: NO_ORIGIN };
    // SAFETY: the socket of the call.
    unsafe { maps::SOCKETS.get_or_insert(socket, &mut initial) }
}

/// The address that a socket is bound to.
#[inline(always)]
fn source_of(socket: *mut bpf_sock) -> Words {
    if sock!(socket, family) == AF_INET6 {
        [sock!(socket, src_ip6[0]), sock!(socket, src_ip6[1]), sock!(socket, src_ip6[2]), sock!(socket, src_ip6[3])]
    } else {
        [0, 0, MAPPED, sock!(socket, src_ip4)]
    }
}

/// Whether an address is loopback, unspecified, or one of the network namespace's own.
#[inline(always)]
fn is_own(run: u64, address: &Words) -> bool {
    is_loopback(address) || maps::LOCAL_ADDRESSES.get_ptr(&LocalAddress { run, address: *address }).is_some()
}

/// The network namespace of the socket.
#[inline(always)]
fn namespace_of(ctx: *mut bpf_sock_addr) -> u64 {
    // SAFETY: the helper takes the context.
    unsafe { bpf_get_netns_cookie(ctx.cast()) }
}

/// All that is known at this moment.
#[inline(always)]
pub fn origin_of(
    ctx: *mut bpf_sock_addr,
    run: u64,
    destination: &Words,
    family: u8,
    protocol: u32,
    task: &Task,
) -> Origin {
    let socket = socket_of(ctx);
    let source = source_of(socket);
    Origin {
        run,
        // SAFETY: the helper takes the context.
        cookie: unsafe { bpf_get_socket_cookie(ctx.cast()) },
        at_ns: now(),
        program_ns: program_of(task.tgid),
        destination: *destination,
        source: if is_unspecified(&source) { [0; 4] } else { source },
        tgid: task.tgid,
        tid: task.tid,
        uid: task.uid,
        gid: task.gid,
        comm: task.comm,
        destination_port: destination_port(ctx),
        source_port: sock!(socket, src_port) as u16,
        family,
        protocol: protocol as u8,
        flags: 0,
    }
}

/// What a process runs now, by when it began; 0: not known.
#[inline(always)]
fn program_of(tgid: u32) -> u64 {
    // SAFETY: a number, copied at once.
    unsafe { maps::PROGRAMS.get(&tgid) }.map_or(0, |since| *since)
}

/// The IPv4 relay address of a destination's hash.
#[inline(always)]
pub fn relay_words(hash: u32) -> Words {
    [0, 0, MAPPED, u32::from_ne_bytes(relay_address_v4(hash))]
}

/// Sends the call elsewhere, in the family that the program chose.
#[inline(always)]
pub fn rewrite(ctx: *mut bpf_sock_addr, address: &Words, port: u16, family: u8) {
    if family == FAMILY_V4 {
        set_addr!(ctx, user_ip4, address[3]);
    } else {
        set_addr!(ctx, user_ip6[0], address[0]);
        set_addr!(ctx, user_ip6[1], address[1]);
        set_addr!(ctx, user_ip6[2], address[2]);
        set_addr!(ctx, user_ip6[3], address[3]);
    }
    set_addr!(ctx, user_port, u32::from(port.to_be()));
}

/// Refuses with `errno` where the kernel lets a program choose it, else with EPERM.
#[inline(always)]
fn refuse_with(errno: i32) -> i32 {
    if has_set_retval() != 0 {
        // SAFETY: the helper takes a number.
        unsafe { bpf_set_retval(-errno) };
    }
    REFUSE
}
