//! What the captured program is told: the peer that it asked for, not the relay.

use super::connect::{destination_port, destination4, destination6, rewrite, socket_of};
use super::{AF_INET6, MAPPED, PASS, is_loopback, is_mapped, maps, sock};
use aya_ebpf::{bindings::bpf_sock_addr, helpers::generated::bpf_get_socket_cookie};
use crewtap_ebpf::{
    FAMILY_MAPPED, FAMILY_V4, FAMILY_V6, Origin, PeerKey, RelayKey, SOCKET_DNS, SOCKET_REDIRECTED, Words,
};

/// The program for getpeername on IPv4 sockets.
#[inline(always)]
pub fn getpeername4(ctx: *mut bpf_sock_addr) -> i32 {
    let shown = destination4(ctx);
    getpeername(ctx, &shown, FAMILY_V4)
}

/// The program for getpeername on IPv6 sockets.
#[inline(always)]
pub fn getpeername6(ctx: *mut bpf_sock_addr) -> i32 {
    let shown = destination6(ctx);
    getpeername(ctx, &shown, FAMILY_V6)
}

/// The program for the source of a datagram, on IPv4 sockets.
#[inline(always)]
pub fn recvmsg4(ctx: *mut bpf_sock_addr) -> i32 {
    let shown = destination4(ctx);
    recvmsg(ctx, &shown, FAMILY_V4)
}

/// The program for the source of a datagram, on IPv6 sockets.
#[inline(always)]
pub fn recvmsg6(ctx: *mut bpf_sock_addr) -> i32 {
    let shown = destination6(ctx);
    recvmsg(ctx, &shown, if is_mapped(&shown) { FAMILY_MAPPED } else { FAMILY_V6 })
}

#[inline(always)]
fn getpeername(ctx: *mut bpf_sock_addr, shown: &Words, family: u8) -> i32 {
    if !is_loopback(shown) {
        return PASS;
    }
    // SAFETY: the socket of the call.
    if let Some(state) = unsafe { maps::SOCKETS.get(socket_of(ctx)) } {
        if state.kind == SOCKET_REDIRECTED || state.kind == SOCKET_DNS {
            show(ctx, &state.origin, family);
            return PASS;
        }
    }
    // An MPTCP socket keeps nothing itself: its subflow was redirected.
    let socket = socket_of(ctx);
    let client = if sock!(socket, family) == AF_INET6 {
        [sock!(socket, src_ip6[0]), sock!(socket, src_ip6[1]), sock!(socket, src_ip6[2]), sock!(socket, src_ip6[3])]
    } else {
        [0, 0, MAPPED, sock!(socket, src_ip4)]
    };
    let run = super::current_run();
    let key = PeerKey {
        run: [run as u32, (run >> 32) as u32],
        client,
        relay: *shown,
        client_port: sock!(socket, src_port) as u16,
        relay_port: destination_port(ctx),
    };
    // SAFETY: read at once.
    if let Some(origin) = unsafe { maps::PEERS.get(&key) } {
        show(ctx, origin, family);
    }
    PASS
}

#[inline(always)]
fn recvmsg(ctx: *mut bpf_sock_addr, shown: &Words, family: u8) -> i32 {
    if !is_loopback(shown) {
        return PASS;
    }
    // SAFETY: the helper takes the context.
    let cookie = unsafe { bpf_get_socket_cookie(ctx.cast()) };
    let key = RelayKey { cookie, relay: *shown, relay_port: destination_port(ctx), padding: [0; 3] };
    // SAFETY: read at once.
    if let Some(origin) = unsafe { maps::RELAYED.get(&key) } {
        show(ctx, origin, family);
        return PASS;
    }
    // SAFETY: the socket of the call.
    if let Some(state) = unsafe { maps::SOCKETS.get(socket_of(ctx)) }
        && state.kind == SOCKET_DNS
    {
        show(ctx, &state.origin, family);
    }
    PASS
}

/// Writes the original destination in the family of the call.
#[inline(always)]
fn show(ctx: *mut bpf_sock_addr, origin: &Origin, family: u8) {
    rewrite(ctx, &origin.destination, origin.destination_port, family);
}
