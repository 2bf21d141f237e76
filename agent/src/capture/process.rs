//! Facts of a process, from `/proc`, pinned so that a reused pid is never taken for its predecessor.
//!
//! Owns the reading and a bounded cache of it. Never judges: who stands behind a process is `identity`'s.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::OnceLock;

use crewtap_core::limits;
use crewtap_core::run::{Ancestor, Process};

use crate::clock;

mod cache;
mod pinned;
mod readers;
pub use cache::{ProcessCache, Program, Programs};
pub use pinned::Pinned;

/// Keyed digest of a clear value (the store's HMAC), for what is redacted in an argument vector.
pub type Digest = dyn Fn(&[u8]) -> String + Send + Sync;

/// What `/proc/PID/stat` tells.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Stat {
    /// Command name, at most 15 bytes.
    pub comm: String,
    /// One letter: R, S, D, T (stopped), t (traced), Z (ended, not yet waited for).
    pub state: char,
    /// Parent's pid.
    pub ppid: u32,
    /// Process group.
    pub group: u32,
    /// Session (of terminals).
    pub session: u32,
    /// Start time in clock ticks since boot.
    pub start_ticks: u64,
}

/// What `/proc/PID/status` tells and `stat` does not.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Status {
    /// Real user id.
    pub uid: u32,
    /// Real group id.
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
    /// File mode creation mask; kernels before 4.7 do not tell.
    pub umask: Option<u32>,
    /// Ignored signals, bit 0 is signal 1.
    pub ignored: u64,
}

/// Reads `/proc/PID/stat`.
///
/// # Errors
/// When the process is gone or the line is not what proc(5) says.
pub fn stat(pid: u32) -> io::Result<Stat> {
    Pinned::open(pid)?.stat()
}

fn malformed(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("/proc/PID/{what} is not what proc(5) says"))
}

/// The name may contain blanks and parentheses, so the last `)` ends it.
fn parse_stat(line: &[u8]) -> Option<Stat> {
    let open = line.iter().position(|byte| *byte == b'(')?;
    let close = line.iter().rposition(|byte| *byte == b')')?;
    let comm = String::from_utf8_lossy(line.get(open + 1..close)?).into_owned();
    let rest = std::str::from_utf8(line.get(close + 1..)?).ok()?;
    let mut fields = rest.split_ascii_whitespace();
    let state = fields.next()?.chars().next()?;
    let mut number = || fields.next()?.parse::<u32>().ok();
    let (ppid, group, session) = (number()?, number()?, number()?);
    // Field 22 of the line; six is the session, so 15 fields lie between.
    let start_ticks = fields.nth(15)?.parse().ok()?;
    Some(Stat { comm, state, ppid, group, session, start_ticks })
}

/// Whether a thread id is that of a thread which does not lead its process; what is gone is taken for a process.
#[must_use]
pub fn is_thread(tid: u32) -> bool {
    let text = fs::read_to_string(format!("/proc/{tid}/status")).unwrap_or_default();
    let leader = text.lines().find_map(|line| line.strip_prefix("Tgid:")).and_then(|id| id.trim().parse().ok());
    leader.is_some_and(|leader: u32| leader != tid)
}

/// Ends a process.
///
/// # Errors
/// When it is gone already.
pub fn kill(pid: u32) -> io::Result<()> {
    let pid = i32::try_from(pid).map_err(io::Error::other)?;
    Ok(nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL)?)
}

/// Reads `/proc/PID/status`.
///
/// # Errors
/// When the process is gone or a line is not what proc(5) says.
pub fn status(pid: u32) -> io::Result<Status> {
    Pinned::open(pid)?.status()
}

fn parse_status(text: &str) -> Option<Status> {
    let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim);
    let first = |name: &str| field(name)?.split_ascii_whitespace().next()?.parse().ok();
    Some(Status {
        uid: first("Uid")?,
        gid: first("Gid")?,
        groups: field("Groups")?.split_ascii_whitespace().filter_map(|id| id.parse().ok()).collect(),
        umask: field("Umask").and_then(|mask| u32::from_str_radix(mask, 8).ok()),
        ignored: u64::from_str_radix(field("SigIgn")?, 16).ok()?,
    })
}

/// Audit login uid: who logged in, whatever sudo or su came after. None where the kernel keeps none, or
/// where nobody has logged in (a service).
#[must_use]
pub fn login_uid(pid: u32) -> Option<u32> {
    Pinned::open(pid).ok()?.login_uid()
}

/// Soft and hard limit of core files, in bytes ([`u64::MAX`]: none).
///
/// # Errors
/// When the process is gone or the table is not what proc(5) says.
pub fn core_limits(pid: u32) -> io::Result<(u64, u64)> {
    let table = fs::read_to_string(format!("/proc/{pid}/limits"))?;
    let row = table.lines().find_map(|line| line.strip_prefix("Max core file size"));
    let number = |word: &str| if word == "unlimited" { Some(u64::MAX) } else { word.parse().ok() };
    let mut words = row.unwrap_or_default().split_ascii_whitespace().filter_map(number);
    words.next().zip(words.next()).ok_or_else(|| malformed("limits"))
}

/// Path of the executable, as the kernel spells it (`… (deleted)` included).
///
/// # Errors
/// When the process is gone, is a kernel thread, or may not be looked at.
pub fn executable(pid: u32) -> io::Result<PathBuf> {
    Pinned::open(pid)?.executable()
}

/// The environment that a process was started with, `NAME=value` each.
///
/// # Errors
/// When the process is gone or may not be looked at.
pub fn environment(pid: u32) -> io::Result<Vec<std::ffi::OsString>> {
    Pinned::open(pid)?.environment()
}

/// The arguments of a process, at most [`limits::ARGV_BYTES_MAX`] bytes of them, not redacted.
///
/// # Errors
/// When the process is gone.
pub fn arguments(pid: u32) -> io::Result<Vec<String>> {
    Pinned::open(pid)?.arguments()
}

/// At most [`limits::ARGV_BYTES_MAX`] bytes of an argument vector, each argument's end counted as one (as the kernel
/// does); `…` stands for the rest.
#[must_use]
pub fn bounded(argv: impl IntoIterator<Item = String>) -> Vec<String> {
    let mut kept = Vec::new();
    let mut room = limits::ARGV_BYTES_MAX;
    for mut word in argv {
        let Some(left) = room.checked_sub(word.len() + 1) else {
            word.truncate(word.floor_char_boundary(room.saturating_sub(1)));
            kept.extend([word, "…".into()]);
            break;
        };
        room = left;
        kept.push(word);
    }
    kept
}

/// The form of an argument vector that may be written down: credentials in it are redacted.
/// The only way from a command line to the journal; what stands for a credential may be longer than it, so the bound
/// holds for what is written.
#[must_use]
pub fn redacted(argv: &[String], digest: &Digest) -> Vec<String> {
    bounded(crewtap_core::mask::argv::redact(argv, &|value| digest(value)).argv)
}

/// All facts but the arguments, which the process itself could hold back.
fn facts(pid: u32, pinned: &Pinned) -> Option<Process> {
    let stat = pinned.stat().ok()?;
    Some(Process {
        pid,
        start_ticks: stat.start_ticks,
        ppid: stat.ppid,
        exe: pinned.link("exe"),
        argv: Vec::new(),
        cwd: pinned.link("cwd"),
        uid: pinned.status().map(|status| status.uid).unwrap_or_default(),
        login_uid: pinned.login_uid(),
        ancestors: ancestors(stat.ppid),
        missing: None,
    })
}

/// Whether a process had certainly started at a time of `CLOCK_MONOTONIC`. The kernel tells its start in ticks of 10 ms:
/// within the tick nothing is certain.
#[must_use]
pub fn started_before(stat: &Stat, at_ns: u64) -> bool {
    static TICKS: OnceLock<u64> = OnceLock::new();
    let per_second = *TICKS.get_or_init(|| {
        let ticks = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK);
        ticks.ok().flatten().and_then(|ticks| u64::try_from(ticks).ok()).filter(|ticks| *ticks > 0).unwrap_or(100)
    });
    let tick_ns = 1_000_000_000 / per_second;
    stat.start_ticks.saturating_add(1).saturating_mul(tick_ns) <= clock::boot_ns(at_ns)
}

/// The parents of a process whose parent is `ppid`, nearest first.
fn ancestors(ppid: u32) -> Vec<Ancestor> {
    let mut found = Vec::new();
    let mut next = ppid;
    while next != 0 && found.len() < limits::ANCESTORS_MAX {
        let (Ok(stat), Ok(status)) = (stat(next), status(next)) else { break };
        found.push(Ancestor { pid: next, comm: stat.comm, uid: status.uid });
        next = stat.ppid;
    }
    found
}

#[cfg(test)]
mod tests;
