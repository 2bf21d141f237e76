//! The only place that reads the clocks.

use std::time::{SystemTime, UNIX_EPOCH};

use crewtap_core::action::{Fact, Facts};
use crewtap_core::event::Stamp;
use jiff::Timestamp;
use jiff::tz::TimeZone;
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

/// Where hours and days of the week are counted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Zone(TimeZone);

impl Default for Zone {
    /// The host's own.
    fn default() -> Self {
        Self(TimeZone::system())
    }
}

impl Zone {
    /// The zone of this name in the time zone database; none where there is no such.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        TimeZone::get(name).ok().map(Self)
    }

    /// What policy may know of a time, in nanoseconds since the Unix epoch: `hour` (0 to 23) and `weekday` (`monday` …).
    #[must_use]
    pub fn facts(&self, wall_ns: u64) -> Facts {
        let Ok(time) = Timestamp::from_nanosecond(i128::from(wall_ns)) else { return Facts::new() };
        let time = time.to_zoned(self.0.clone());
        let weekday = match time.weekday() {
            jiff::civil::Weekday::Monday => "monday",
            jiff::civil::Weekday::Tuesday => "tuesday",
            jiff::civil::Weekday::Wednesday => "wednesday",
            jiff::civil::Weekday::Thursday => "thursday",
            jiff::civil::Weekday::Friday => "friday",
            jiff::civil::Weekday::Saturday => "saturday",
            jiff::civil::Weekday::Sunday => "sunday",
        };
        Facts::from([
            ("hour".to_owned(), Fact::Int(i64::from(time.hour()))),
            ("weekday".to_owned(), Fact::Text(weekday.to_owned())),
        ])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hours_and_days_are_those_of_the_zone() {
        // Sunday, 2026-11-22 23:30 UTC.
        let at = 1_795_390_200_000_000_000;
        let told = |zone: &str| Zone::named(zone).unwrap().facts(at);
        let wanted = |hour, day: &str| {
            Facts::from([("hour".to_owned(), Fact::Int(hour)), ("weekday".to_owned(), Fact::Text(day.to_owned()))])
        };
        assert_eq!(told("UTC"), wanted(23, "sunday"));
        assert_eq!(told("Europe/Berlin"), wanted(0, "monday"));
        assert_eq!(Zone::named("Europe/Atlantis"), None);
    }
}
