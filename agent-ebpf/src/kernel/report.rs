//! Counting and events. It owns the way into the ring buffer and the counters; it never refuses anything.

use super::{Task, maps, now};
use aya_ebpf::bindings::BPF_NOEXIST;
use crewtap_ebpf::{BypassEvent, BypassKey, Counters, EVENT_BYPASS, EventHeader, Words};

/// Adds one to a counter of `run`, in one atomic instruction.
macro_rules! count {
    ($run:expr, $($counter:tt)+) => {
        $crate::kernel::report::add_one($run, core::mem::offset_of!(crewtap_ebpf::Counters, $($counter)+))
    };
}
pub(crate) use count;

/// Adds one to the counter at `offset` of `run`'s counters.
#[inline(always)]
pub fn add_one(run: u64, offset: usize) {
    if let Some(counters) = maps::COUNTERS.get_ptr_mut(&run) {
        // SAFETY: `offset` is that of a u64 in `Counters`, and the entry is `Counters`.
        unsafe { atomic_add(counters.cast::<u8>().add(offset).cast(), 1) };
    }
}

/// `*at += value`, atomically; the instruction set of 5.10 has no other form.
#[inline(always)]
unsafe fn atomic_add(at: *mut u64, value: u64) {
    // SAFETY: the caller's pointer is to an aligned u64 of a map value.
    unsafe { core::arch::asm!("lock *(u64 *)({at} + 0) += {value}", at = in(reg) at, value = in(reg) value) };
}

/// The header of an event.
#[inline(always)]
pub fn header(kind: u32, run: u64, task: &Task) -> EventHeader {
    EventHeader { at_ns: now(), run, kind, tgid: task.tgid, tid: task.tid, uid: task.uid, comm: task.comm }
}

/// Sends `event`; counts it as lost where the buffer is full.
#[inline(always)]
pub fn send<T: 'static>(run: u64, event: T) {
    match maps::EVENTS.reserve_untyped::<T>(0) {
        Some(mut entry) => {
            entry.write(event);
            entry.submit(0);
        }
        None => count!(run, events_lost),
    }
}

/// One way around the proxy.
pub struct Bypass {
    /// One of the `BYPASS_` numbers.
    pub kind: u32,
    /// Destination address.
    pub address: Words,
    /// Destination port.
    pub port: u16,
    /// Address family of the socket.
    pub family: u32,
    /// Type in the low half, protocol in the high half.
    pub socket: u32,
    /// Whether it was refused.
    pub refused: bool,
}

/// Counts a bypass, and reports it once per process, kind and destination.
#[inline(always)]
pub fn bypass(run: u64, task: &Task, seen: &Bypass) {
    let kind = seen.kind & 0xf;
    if kind < 15 {
        add_one(run, core::mem::offset_of!(Counters, bypass) + 8 * kind as usize);
    }
    let key = BypassKey {
        run,
        address: seen.address,
        kind: seen.kind,
        tgid: task.tgid,
        port: u32::from(seen.port),
        padding: 0,
    };
    if maps::REPORTED.insert(&key, &1, u64::from(BPF_NOEXIST)).is_err() {
        return;
    }
    send(
        run,
        BypassEvent {
            header: header(EVENT_BYPASS, run, task),
            address: seen.address,
            kind: seen.kind,
            family: seen.family,
            socket: seen.socket,
            port: seen.port,
            refused: u16::from(seen.refused),
        },
    );
}
