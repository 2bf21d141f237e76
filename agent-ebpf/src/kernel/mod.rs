//! What the programs share: maps, the constants that user space sets, the run and the task at hand. It never decides.

pub mod connect;
pub mod create;
pub mod datagram;
pub mod egress;
pub mod established;
pub mod maps;
pub mod peer;
pub mod report;
pub mod tasks;

use aya_ebpf::helpers::{
    bpf_get_current_comm, bpf_get_current_pid_tgid, bpf_get_current_uid_gid,
    generated::{bpf_get_current_ancestor_cgroup_id, bpf_ktime_get_ns},
};
use crewtap_ebpf::{HEARTBEAT_STALE_NS, RunSettings, Words};

/// The program lets the call or packet pass.
pub const PASS: i32 = 1;
/// The program refuses: EPERM, unless another errno was set.
pub const REFUSE: i32 = 0;

/// IPv4 addresses as IPv6 ones: the third word of `::ffff:a.b.c.d`, in network byte order.
pub const MAPPED: u32 = 0xffff_u32.to_be();

/// `AF_INET6`.
pub const AF_INET6: u32 = 10;
/// `SOCK_STREAM`.
pub const SOCK_STREAM: u32 = 1;
/// `SOCK_DGRAM`.
pub const SOCK_DGRAM: u32 = 2;
/// `IPPROTO_TCP`.
pub const TCP: u32 = 6;
/// `IPPROTO_UDP`.
pub const UDP: u32 = 17;
/// `IPPROTO_MPTCP`.
pub const MPTCP: u32 = 262;
/// The index of the loopback device, the same in every network namespace.
pub const LOOPBACK_DEVICE: u32 = 1;

/// Declares constants that user space sets at load.
macro_rules! settings {
    ($($(#[$doc:meta])* $name:ident $read:ident;)+) => {$(
        $(#[$doc])*
        #[unsafe(no_mangle)]
        static $name: u32 = 0;
        $(#[$doc])*
        #[inline(always)]
        pub fn $read() -> u32 {
            // SAFETY: a static of our own; volatile because the loader rewrites it after compilation.
            unsafe { core::ptr::read_volatile(&raw const $name) }
        }
    )+};
}

settings! {
    /// 1: the kernel has bpf_set_retval (5.18) and refusals carry their true errno.
    HAS_SET_RETVAL has_set_retval;
    /// Offset of `filename` in sched_process_exec.
    EXEC_FILENAME exec_filename;
    /// Offset of `old_pid` in sched_process_exec.
    EXEC_OLD_PID exec_old_pid;
    /// Offset of `child_pid` in sched_process_fork.
    FORK_CHILD_PID fork_child_pid;
    /// Offset of `group_dead` in sched_process_exit; 0: this kernel has none.
    EXIT_GROUP_DEAD exit_group_dead;
    /// Offset of `dst_root` in cgroup_attach_task.
    ATTACH_ROOT attach_root;
    /// Offset of `dst_id` in cgroup_attach_task.
    ATTACH_ID attach_id;
    /// Offset of `pid` in cgroup_attach_task.
    ATTACH_PID attach_pid;
    /// Offset of `family` in sys_enter_socket.
    SOCKET_FAMILY socket_family;
}

/// Reads a 32-bit context field in one load with its own constant offset. In assembly, because the optimiser joins
/// loads of two branches into one from a chosen address, and the verifier allows none but constant offsets.
///
/// # Safety
/// `base` is a context or socket that the verifier knows, with a 32-bit field at `OFFSET`.
#[inline(always)]
pub unsafe fn load_word<const OFFSET: usize, T>(base: *const T) -> u32 {
    let value: u64;
    // SAFETY: by contract; the verifier checks it again.
    unsafe {
        core::arch::asm!("{value} = *(u32 *)({base} + {offset})", value = out(reg) value, base = in(reg) base,
            offset = const OFFSET, options(pure, readonly, nostack, preserves_flags));
    }
    value as u32
}

/// [`load_word`] for a 64-bit field, which holds a pointer.
///
/// # Safety
/// As for [`load_word`].
#[inline(always)]
pub unsafe fn load_pointer<const OFFSET: usize, T, P>(base: *const T) -> *mut P {
    let value: *mut P;
    // SAFETY: by contract; the verifier checks it again.
    unsafe {
        core::arch::asm!("{value} = *(u64 *)({base} + {offset})", value = out(reg) value, base = in(reg) base,
            offset = const OFFSET, options(pure, readonly, nostack, preserves_flags));
    }
    value
}

/// Writes a 32-bit context field.
///
/// # Safety
/// As for [`load_word`], of a field that may be written.
#[inline(always)]
pub unsafe fn store_word<const OFFSET: usize, T>(base: *mut T, value: u32) {
    // SAFETY: by contract; the verifier checks it again.
    unsafe {
        core::arch::asm!("*(u32 *)({base} + {offset}) = {value}", value = in(reg) u64::from(value),
            base = in(reg) base, offset = const OFFSET, options(nostack, preserves_flags));
    }
}

/// Declares how fields of one kind of context are read.
macro_rules! context {
    ($dollar:tt $name:ident $type:ident) => {
        /// Reads a 32-bit field, or one word of an array of them.
        macro_rules! $name {
            ($dollar base:expr, $dollar field:ident $dollar([$dollar index:literal])?) => {
                // SAFETY: the kernel gave us this pointer and keeps it for the time of the program.
                unsafe {
                    $crate::kernel::load_word::<
                        { core::mem::offset_of!(aya_ebpf::bindings::$type, $dollar field) $dollar(+ 4 * $dollar index)? },
                        aya_ebpf::bindings::$type,
                    >($dollar base)
                }
            };
        }
        pub(crate) use $name;
    };
}
context!($ addr bpf_sock_addr);
context!($ sock bpf_sock);
context!($ ops bpf_sock_ops);
context!($ skb __sk_buff);

/// Writes a 32-bit field of a sock_addr context.
macro_rules! set_addr {
    ($base:expr, $field:ident $([$index:literal])?, $value:expr) => {
        // SAFETY: as for reading; the verifier refuses fields that may not be written.
        unsafe {
            $crate::kernel::store_word::<
                { core::mem::offset_of!(aya_ebpf::bindings::bpf_sock_addr, $field) $(+ 4 * $index)? },
                aya_ebpf::bindings::bpf_sock_addr,
            >($base, $value)
        }
    };
}
pub(crate) use set_addr;

/// Reads the socket of a context.
macro_rules! socket {
    ($base:expr, $type:ident, $union:ident) => {
        // SAFETY: as for words.
        unsafe {
            $crate::kernel::load_pointer::<
                { core::mem::offset_of!(aya_ebpf::bindings::$type, $union) },
                aya_ebpf::bindings::$type,
                aya_ebpf::bindings::bpf_sock,
            >($base)
        }
    };
}
pub(crate) use socket;

/// Who is calling.
#[derive(Clone, Copy)]
pub struct Task {
    /// Process.
    pub tgid: u32,
    /// Thread.
    pub tid: u32,
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// The thread's name.
    pub comm: [u8; 16],
}

impl Task {
    /// The task that runs now. Only for programs that run in the caller's context.
    #[inline(always)]
    pub fn current() -> Self {
        let ids = bpf_get_current_pid_tgid();
        let owner = bpf_get_current_uid_gid();
        Self {
            tgid: (ids >> 32) as u32,
            tid: ids as u32,
            uid: owner as u32,
            gid: (owner >> 32) as u32,
            comm: bpf_get_current_comm().unwrap_or([0; 16]),
        }
    }
}

/// Monotonic nanoseconds.
#[inline(always)]
pub fn now() -> u64 {
    // SAFETY: the helper takes nothing and returns a number.
    unsafe { bpf_ktime_get_ns() }
}

/// The current task's run: the ancestor of its cgroup at the level of run cgroups; 0 where there is none.
#[inline(always)]
pub fn current_run() -> u64 {
    let level = maps::GLOBAL.get(0).map_or(0, |global| global.cgroup_level);
    // SAFETY: the helper takes a number and returns one.
    unsafe { bpf_get_current_ancestor_cgroup_id(level as i32) }
}

/// The settings of a run, if the agent knows it.
#[inline(always)]
pub fn settings_of(run: u64) -> Option<&'static RunSettings> {
    // SAFETY: entries of a preallocated hash stay mapped while a program runs; a concurrent update may be seen in
    // part, and every part of it is a valid setting.
    unsafe { maps::RUNS.get(&run) }
}

/// Whether the agent lives and has said so in time (law 3).
#[inline(always)]
pub fn agent_lives() -> bool {
    let alive = maps::GLOBAL.get(0).is_some_and(|global| {
        // SAFETY: an aligned word of an array map.
        unsafe { core::ptr::read_volatile(&raw const global.alive) == 1 }
    });
    let beat = maps::HEARTBEAT.get(0).map_or(0, |beat| {
        // SAFETY: an aligned word of an array map.
        unsafe { core::ptr::read_volatile(beat) }
    });
    alive && now().wrapping_sub(beat).cast_signed() < HEARTBEAT_STALE_NS.cast_signed()
}

/// ::1, 127.0.0.0/8 and the unspecified addresses, which mean the same.
#[inline(always)]
pub fn is_loopback(address: &Words) -> bool {
    if address[0] | address[1] != 0 {
        return false;
    }
    match address[2] {
        MAPPED => address[3] == 0 || address[3].to_ne_bytes()[0] == 127,
        0 => address[3] == 0 || address[3] == 1_u32.to_be(),
        _ => false,
    }
}

/// No address at all.
#[inline(always)]
pub fn is_unspecified(address: &Words) -> bool {
    address[0] | address[1] == 0 && (address[2] == 0 || address[2] == MAPPED) && address[3] == 0
}

/// ::ffff:a.b.c.d
#[inline(always)]
pub fn is_mapped(address: &Words) -> bool {
    address[0] | address[1] == 0 && address[2] == MAPPED
}
