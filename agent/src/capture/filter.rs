//! A seccomp filter for runs in enforce mode: sockets that no program of the kernel side sees are not made.
//!
//! The tracepoint of socket(2) sees the 64-bit call alone, and only reports. So this refuses other families there, except
//! packet sockets, for which the capability is gone and which the tracepoint puts on record; every family of the 32-bit
//! calls that is not ordinary; the 32-bit socketcall(2) for new sockets, because a filter cannot read the memory with its
//! arguments; and `io_uring`, which makes sockets of every family without a system call of theirs.
//! It owns the filter's text; it never installs it by itself.

/// One instruction of classic BPF (`struct sock_filter`): code, jumps when true and when false, operand.
pub type Instruction = (u16, u8, u8, u32);

/// Families that carry nothing out past the kernel side, as in `agent-ebpf`: unspecified, unix, IPv4, IPv6, netlink, and
/// the kernel's cryptography.
const ORDINARY: [u32; 6] = [0, 1, 2, 10, 16, 38];
/// `AF_PACKET`.
const PACKET: u32 = 17;
/// `io_uring_setup`, `io_uring_enter`, `io_uring_register`: the same numbers everywhere.
const RINGS: [u32; 3] = [425, 426, 427];
/// The bit of x32 calls on x86-64; no other architecture has so many calls.
const X32_BIT: u32 = 0x4000_0000;
/// The first argument of socketcall(2) for a new socket.
const NEW_SOCKET: u32 = 1;

/// How one architecture makes sockets.
struct Calls {
    /// `AUDIT_ARCH_*`.
    architecture: u32,
    socket: u32,
    socketcall: Option<u32>,
    /// Whether the tracepoint sees its socket(2).
    is_watched: bool,
}

#[cfg(target_arch = "x86_64")]
const CALLS: &[Calls] = &[
    Calls { architecture: 0xc000_003e, socket: 41, socketcall: None, is_watched: true },
    Calls { architecture: 0x4000_0003, socket: 359, socketcall: Some(102), is_watched: false },
];
#[cfg(target_arch = "aarch64")]
const CALLS: &[Calls] = &[
    Calls { architecture: 0xc000_00b7, socket: 198, socketcall: None, is_watched: true },
    Calls { architecture: 0x4000_0028, socket: 281, socketcall: Some(102), is_watched: false },
];
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
const CALLS: &[Calls] = &[];

/// Offsets in `struct seccomp_data`: number, architecture, low half of the first argument (little-endian).
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const FIRST_ARGUMENT: u32 = 16;

const ALLOW: Instruction = (0x06, 0, 0, 0x7fff_0000);

const fn refuse(errno: i32) -> Instruction {
    (0x06, 0, 0, 0x0005_0000 | errno.cast_unsigned())
}

const fn load(offset: u32) -> Instruction {
    (0x20, 0, 0, offset)
}

/// Goes on where the value is `number`, else skips `count` instructions.
const fn only_for(number: u32, count: u8) -> Instruction {
    (0x15, 0, count, number)
}

/// The filter; empty on an architecture that it does not know.
#[must_use]
pub fn sockets() -> Vec<Instruction> {
    let mut filter = Vec::new();
    for calls in CALLS {
        let block = block(calls);
        filter.push(load(ARCHITECTURE));
        filter.push(only_for(calls.architecture, u8::try_from(block.len()).unwrap_or(u8::MAX)));
        filter.extend(block);
    }
    if !filter.is_empty() {
        // No kernel has a third architecture; if one had, nothing would be known of its calls.
        filter.push(refuse(libc::ENOSYS));
    }
    filter
}

/// All of one architecture; every path ends in it.
fn block(calls: &Calls) -> Vec<Instruction> {
    // x32 is another way to the same calls.
    let mut block = vec![load(NUMBER), (0x54, 0, 0, !X32_BIT)];
    for ring in RINGS {
        // As on a kernel without io_uring: programs have another way then.
        block.extend([only_for(ring, 1), refuse(libc::ENOSYS)]);
    }
    if let Some(socketcall) = calls.socketcall {
        block.extend([
            only_for(socketcall, 4),
            load(FIRST_ARGUMENT),
            only_for(NEW_SOCKET, 1),
            refuse(libc::EPERM),
            ALLOW,
        ]);
    }
    block.extend([(0x15, 1, 0, calls.socket), ALLOW, load(FIRST_ARGUMENT)]);
    for family in ORDINARY.into_iter().chain(calls.is_watched.then_some(PACKET)) {
        block.extend([only_for(family, 1), ALLOW]);
    }
    block.push(refuse(libc::EPERM));
    block
}
