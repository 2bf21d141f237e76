//! UDP sends: DNS goes to the relay, QUIC is refused so that clients fall back to TCP, the rest follows the mode.

use super::connect::{
    DNS_PORT, admit, destination_port, destination4, destination6, origin_of, relay_words, rewrite, socket_of, state_of,
};
use super::report::{Bypass, bypass, count};
use super::{PASS, REFUSE, Task, UDP, addr, current_run, is_loopback, is_mapped, maps, settings_of};
use aya_ebpf::{bindings::bpf_sock_addr, helpers::generated::bpf_get_socket_cookie};
use crewtap_ebpf::{
    BYPASS_QUIC, BYPASS_UDP, FAMILY_MAPPED, FAMILY_V4, FAMILY_V6, IPV6_PORTS, MODE_ENFORCE, Origin, RelayKey,
    RunSettings, SOCKET_DNS, Words, destination_hash,
};

/// The port of HTTP/3.
pub const QUIC_PORT: u16 = 443;

/// The program for IPv4 destinations.
#[inline(always)]
pub fn sendmsg4(ctx: *mut bpf_sock_addr) -> i32 {
    let destination = destination4(ctx);
    sendmsg(ctx, &destination, FAMILY_V4)
}

/// The program for IPv6 destinations.
#[inline(always)]
pub fn sendmsg6(ctx: *mut bpf_sock_addr) -> i32 {
    let destination = destination6(ctx);
    sendmsg(ctx, &destination, if is_mapped(&destination) { FAMILY_MAPPED } else { FAMILY_V6 })
}

/// Whether the agent relays DNS of this family.
#[inline(always)]
pub fn relays(settings: &RunSettings, family: u8) -> bool {
    if family == FAMILY_V6 { settings.dns6_ports[0] != 0 } else { settings.dns4_port != 0 }
}

#[inline(always)]
fn sendmsg(ctx: *mut bpf_sock_addr, destination: &Words, family: u8) -> i32 {
    let run = current_run();
    let Some(settings) = settings_of(run) else { return REFUSE };
    let task = Task::current();
    let port = destination_port(ctx);
    if port == DNS_PORT && relays(settings, family) {
        let Some((run, settings, _)) = admit(ctx, destination, &task) else { return REFUSE };
        let origin = origin_of(ctx, run, destination, family, UDP, &task);
        return relay(ctx, settings, &origin);
    }
    let Some(state) = state_of(socket_of(ctx)) else { return REFUSE };
    // An IPv6 socket connected to a mapped address sends by way of IPv4, and comes here with the relay's address.
    if state.kind == SOCKET_DNS && is_loopback(destination) && is_relay_of(ctx, destination, port) {
        return PASS;
    }
    // The egress program asks the socket who sends: keep it with the socket.
    state.origin = origin_of(ctx, run, destination, family, UDP, &task);
    let kind = if port == QUIC_PORT {
        count!(run, refused_quic);
        BYPASS_QUIC
    } else if settings.mode == MODE_ENFORCE {
        count!(run, refused_mode);
        BYPASS_UDP
    } else {
        return PASS;
    };
    let socket = addr!(ctx, type_) | addr!(ctx, protocol) << 16;
    let seen = Bypass { kind, address: *destination, port, family: addr!(ctx, family), socket, refused: true };
    bypass(run, &task, &seen);
    REFUSE
}

/// Whether this is the address that a connect of this socket was given.
#[inline(always)]
fn is_relay_of(ctx: *mut bpf_sock_addr, destination: &Words, port: u16) -> bool {
    // SAFETY: the helper takes the context.
    let cookie = unsafe { bpf_get_socket_cookie(ctx.cast()) };
    let key = RelayKey { cookie, relay: *destination, relay_port: port, padding: [0; 3] };
    maps::RELAYED.get_ptr(&key).is_some()
}

/// Sends the call to the relay and remembers whom the program meant. For IPv6 only the port is left to choose, and
/// two resolvers may want the same one: the next free one is taken.
#[inline(always)]
pub fn relay(ctx: *mut bpf_sock_addr, settings: &RunSettings, origin: &Origin) -> i32 {
    let hash = destination_hash(&origin.destination, origin.destination_port);
    let mut key =
        RelayKey { cookie: origin.cookie, relay: relay_words(hash), relay_port: settings.dns4_port, padding: [0; 3] };
    if origin.family == FAMILY_V6 {
        key.relay = [0, 0, 0, 1_u32.to_be()];
        let mut tried = 0;
        while tried < IPV6_PORTS {
            key.relay_port = settings.dns6_ports[(hash as usize + tried) % IPV6_PORTS];
            tried += 1;
            // SAFETY: read at once; an entry that is replaced meanwhile reads as another destination.
            match unsafe { maps::RELAYED.get(&key) } {
                Some(taken) if !same_destination(taken, origin) => {}
                _ => break,
            }
        }
    }
    if maps::RELAYED.insert(&key, origin, 0).is_err() {
        count!(origin.run, map_full);
        return REFUSE;
    }
    rewrite(ctx, &key.relay, key.relay_port, origin.family);
    PASS
}

#[inline(always)]
fn same_destination(one: &Origin, other: &Origin) -> bool {
    one.destination[0] == other.destination[0]
        && one.destination[1] == other.destination[1]
        && one.destination[2] == other.destination[2]
        && one.destination[3] == other.destination[3]
        && one.destination_port == other.destination_port
}
