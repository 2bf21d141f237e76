//! The only place that reads the clocks.

use std::time::{SystemTime, UNIX_EPOCH};

use crewtap_core::event::Stamp;
use nix::time::{ClockId, clock_gettime};

/// Now, on both clocks. A wall clock before 1970 reads as 0.
#[must_use]
pub fn now() -> Stamp {
    let wall_ns = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| u64::try_from(since.as_nanos()).unwrap_or(u64::MAX));
    Stamp { wall_ns, mono_ns: mono_ns() }
}

/// The time of `CLOCK_BOOTTIME` (the clock of `/proc/PID/stat`) at a time of `CLOCK_MONOTONIC`, in nanoseconds. They
/// differ by the time that the machine was suspended; what came after `mono_ns` is counted, too.
#[must_use]
pub fn boot_ns(mono_ns: u64) -> u64 {
    let suspended = nanoseconds(ClockId::CLOCK_BOOTTIME).saturating_sub(nanoseconds(ClockId::CLOCK_MONOTONIC));
    mono_ns.saturating_add(suspended)
}

/// Nanoseconds of `CLOCK_MONOTONIC`, the clock of the kernel side's `bpf_ktime_get_ns`.
#[must_use]
pub fn mono_ns() -> u64 {
    nanoseconds(ClockId::CLOCK_MONOTONIC)
}

fn nanoseconds(clock: ClockId) -> u64 {
    clock_gettime(clock).map_or(0, |time| {
        let seconds = u64::try_from(time.tv_sec()).unwrap_or(0);
        let nanos = u64::try_from(time.tv_nsec()).unwrap_or(0);
        seconds.saturating_mul(1_000_000_000).saturating_add(nanos)
    })
}
