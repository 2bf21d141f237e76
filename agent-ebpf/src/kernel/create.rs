//! New sockets: each gets its state, and those that are neither TCP nor UDP are a way around the proxy.

use super::report::{Bypass, bypass, count};
use super::{MPTCP, PASS, REFUSE, SOCK_DGRAM, SOCK_STREAM, TCP, Task, UDP, current_run, maps, settings_of, sock};
use aya_ebpf::bindings::bpf_sock;
use crewtap_ebpf::{BYPASS_PING, BYPASS_PROTOCOL, BYPASS_RAW, MODE_ENFORCE, Origin, SOCKET_FRESH, SocketState};

/// `SOCK_RAW`.
const SOCK_RAW: u32 = 3;
/// `IPPROTO_ICMP`.
const ICMP: u32 = 1;
/// `IPPROTO_ICMPV6`.
const ICMPV6: u32 = 58;

/// The state of a socket that nothing is known of.
pub const NO_ORIGIN: Origin = Origin {
    run: 0,
    cookie: 0,
    at_ns: 0,
    program_ns: 0,
    destination: [0; 4],
    source: [0; 4],
    tgid: 0,
    tid: 0,
    uid: 0,
    gid: 0,
    comm: [0; 16],
    destination_port: 0,
    source_port: 0,
    family: 0,
    protocol: 0,
    flags: 0,
};

/// The program. A run that the agent does not know (it ended, or its agent died) makes no sockets.
#[inline(always)]
pub fn sock_create(socket: *mut bpf_sock) -> i32 {
    let run = current_run();
    let Some(settings) = settings_of(run) else { return REFUSE };
    let task = Task::current();
    let mut origin = NO_ORIGIN;
    origin.run = run;
    origin.tgid = task.tgid;
    origin.tid = task.tid;
    origin.uid = task.uid;
    origin.gid = task.gid;
    origin.comm = task.comm;
    let mut state =
        SocketState { run, creator: task.tgid, creator_uid: task.uid, kind: SOCKET_FRESH, padding: 0, origin };
    // SAFETY: the context of sock_create is the socket.
    if unsafe { maps::SOCKETS.get_or_insert(socket, &mut state) }.is_none() {
        return REFUSE;
    }
    let kind = match (sock!(socket, type_), sock!(socket, protocol)) {
        (SOCK_STREAM, TCP | MPTCP) | (SOCK_DGRAM, UDP) => return PASS,
        (SOCK_DGRAM, ICMP | ICMPV6) => BYPASS_PING,
        (SOCK_RAW, _) => BYPASS_RAW,
        _ => BYPASS_PROTOCOL,
    };
    let refused = settings.mode == MODE_ENFORCE;
    if refused {
        count!(run, refused_mode);
    }
    let seen = Bypass {
        kind,
        address: [0; 4],
        port: 0,
        family: sock!(socket, family),
        socket: sock!(socket, type_) | sock!(socket, protocol) << 16,
        refused,
    };
    bypass(run, &task, &seen);
    if refused { REFUSE } else { PASS }
}
