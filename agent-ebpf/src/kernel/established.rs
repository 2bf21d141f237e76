//! TCP milestones: a completed handshake is where an origin gets the key that accept can know, and a listener is where
//! a socket becomes passive.
//!
//! The key holds the client's initial sequence number. At ACTIVE_ESTABLISHED the proxy's SYN-ACK has just been read and
//! nothing but the SYN is acknowledged (the proxy's listener takes no data in a SYN), so `snd_una - 1` is that number,
//! and the final ACK, which lets accept return, is not sent yet: accept cannot come first.

use super::report::{count, header, send};
use super::{AF_INET6, MAPPED, Task, connect::state_of, maps, ops, socket};
use aya_ebpf::bindings::{
    BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB, BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB, BPF_SOCK_OPS_TCP_LISTEN_CB, bpf_sock_ops,
};
use crewtap_ebpf::{
    AcceptedEvent, ConnectionKey, EVENT_ACCEPTED, ORIGIN_KERNEL_SOCKET, PeerKey, SOCKET_PASSIVE, SOCKET_REDIRECTED,
    Words,
};

/// The program. Its return value means nothing for these operations.
#[inline(always)]
pub fn sock_ops(ops: *mut bpf_sock_ops) -> u32 {
    match ops!(ops, op) {
        BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB => established(ops),
        BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB => accepted(ops),
        BPF_SOCK_OPS_TCP_LISTEN_CB => listening(ops),
        _ => {}
    }
    1
}

#[inline(always)]
fn local(ops: *mut bpf_sock_ops) -> Words {
    if ops!(ops, family) == AF_INET6 {
        [ops!(ops, local_ip6[0]), ops!(ops, local_ip6[1]), ops!(ops, local_ip6[2]), ops!(ops, local_ip6[3])]
    } else {
        [0, 0, MAPPED, ops!(ops, local_ip4)]
    }
}

#[inline(always)]
fn remote(ops: *mut bpf_sock_ops) -> Words {
    if ops!(ops, family) == AF_INET6 {
        [ops!(ops, remote_ip6[0]), ops!(ops, remote_ip6[1]), ops!(ops, remote_ip6[2]), ops!(ops, remote_ip6[3])]
    } else {
        [0, 0, MAPPED, ops!(ops, remote_ip4)]
    }
}

#[inline(always)]
fn established(ops: *mut bpf_sock_ops) {
    let socket = socket!(ops, bpf_sock_ops, __bindgen_anon_2);
    if socket.is_null() {
        return;
    }
    // SAFETY: the socket of the callback, not null.
    let Some(state) = (unsafe { maps::SOCKETS.get(socket) }) else { return };
    if state.kind != SOCKET_REDIRECTED {
        return;
    }
    let run = state.origin.run;
    count!(run, established);
    let key = ConnectionKey {
        client: local(ops),
        listener: remote(ops),
        client_port: ops!(ops, local_port) as u16,
        listener_port: u32::from_be(ops!(ops, remote_port)) as u16,
        sequence: ops!(ops, snd_una).wrapping_sub(1),
    };
    if maps::ORIGINS.insert(&key, &state.origin, 0).is_err() {
        count!(run, map_full);
    }
    if state.origin.flags & ORIGIN_KERNEL_SOCKET != 0 {
        let peer = PeerKey {
            run: [run as u32, (run >> 32) as u32],
            client: key.client,
            relay: key.listener,
            client_port: key.client_port,
            relay_port: key.listener_port,
        };
        let _ = maps::PEERS.insert(&peer, &state.origin, 0);
    }
}

#[inline(always)]
fn accepted(ops: *mut bpf_sock_ops) {
    let socket = socket!(ops, bpf_sock_ops, __bindgen_anon_2);
    if socket.is_null() {
        return;
    }
    let Some(state) = state_of(socket) else { return };
    state.kind = SOCKET_PASSIVE;
    let run = state.run;
    count!(run, accepted);
    // The listener's state was inherited: its maker is who serves.
    let maker = Task { tgid: state.creator, tid: 0, uid: state.creator_uid, gid: 0, comm: state.origin.comm };
    send(
        run,
        AcceptedEvent {
            header: header(EVENT_ACCEPTED, run, &maker),
            peer: remote(ops),
            local: local(ops),
            peer_port: u32::from_be(ops!(ops, remote_port)) as u16,
            local_port: ops!(ops, local_port) as u16,
            padding: 0,
        },
    );
}

#[inline(always)]
fn listening(ops: *mut bpf_sock_ops) {
    let socket = socket!(ops, bpf_sock_ops, __bindgen_anon_2);
    if !socket.is_null()
        && let Some(state) = state_of(socket)
    {
        state.kind = SOCKET_PASSIVE;
    }
}
