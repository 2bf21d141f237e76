//! Facts of a process, from `/proc`, pinned so that a reused pid is never taken for its predecessor.
//!
//! Owns the reading and a bounded cache of it. Never judges: who stands behind a process is `identity`'s.

use std::fs;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use crewtap_core::limits;
use crewtap_core::run::{Ancestor, Process};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Pid, PidfdFlags};

mod cache;
pub use cache::ProcessCache;

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
    parse_stat(&fs::read(format!("/proc/{pid}/stat"))?).ok_or_else(|| malformed("stat"))
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
    parse_status(&fs::read_to_string(format!("/proc/{pid}/status"))?).ok_or_else(|| malformed("status"))
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
    let text = fs::read_to_string(format!("/proc/{pid}/loginuid")).ok()?;
    text.trim().parse().ok().filter(|uid| *uid != u32::MAX)
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
    fs::read_link(format!("/proc/{pid}/exe"))
}

/// The environment that a process was started with, `NAME=value` each.
///
/// # Errors
/// When the process is gone or may not be looked at.
pub fn environment(pid: u32) -> io::Result<Vec<std::ffi::OsString>> {
    let bytes = fs::read(format!("/proc/{pid}/environ"))?;
    let words = bytes.split(|byte| *byte == 0).filter(|word| !word.is_empty());
    Ok(words.map(|word| std::ffi::OsString::from_vec(word.to_vec())).collect())
}

/// The arguments of a process, at most [`limits::ARGV_BYTES_MAX`] bytes of them, not redacted.
///
/// # Errors
/// When the process is gone.
pub fn arguments(pid: u32) -> io::Result<Vec<String>> {
    let mut bytes = Vec::new();
    let most = u64::try_from(limits::ARGV_BYTES_MAX + 1).unwrap_or(u64::MAX);
    fs::File::open(format!("/proc/{pid}/cmdline"))?.take(most).read_to_end(&mut bytes)?;
    let cut = bytes.len() > limits::ARGV_BYTES_MAX;
    bytes.truncate(limits::ARGV_BYTES_MAX);
    if bytes.last() == Some(&0) {
        bytes.pop();
    }
    if bytes.is_empty() {
        return Ok(Vec::new());
    }
    let words = bytes.split(|byte| *byte == 0);
    let mut argv: Vec<String> = words.map(|word| String::from_utf8_lossy(word).into_owned()).collect();
    if cut {
        argv.push("…".into());
    }
    Ok(argv)
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

/// A process that cannot be mistaken for another while this is held: its pid is not reused before it has
/// ended, and its end shows.
#[derive(Debug)]
pub struct Pinned(OwnedFd);

impl Pinned {
    /// Pins a living process.
    ///
    /// # Errors
    /// When there is none, or descriptors have run out.
    pub fn open(pid: u32) -> io::Result<Self> {
        let none = || io::Error::from_raw_os_error(libc::ESRCH);
        let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or_else(none)?;
        Ok(Self(rustix::process::pidfd_open(pid, PidfdFlags::empty())?))
    }

    /// Whether it has not ended yet.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        let mut fds = [PollFd::new(&self.0, PollFlags::IN)];
        matches!(rustix::event::poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })), Ok(0))
    }
}

/// The facts of a process; what could not be read any more is left empty.
#[must_use]
pub fn read(pid: u32, digest: &Digest) -> Process {
    let gone = Process { pid, ..Process::default() };
    let Ok(before) = stat(pid) else { return gone };
    let facts = facts(pid, &before, digest);
    match stat(pid) {
        Ok(after) if after.start_ticks == before.start_ticks => facts,
        // It ended meanwhile; what was read may be another process's.
        _ => Process { start_ticks: before.start_ticks, ppid: before.ppid, ..gone },
    }
}

fn facts(pid: u32, stat: &Stat, digest: &Digest) -> Process {
    let text = |path: io::Result<PathBuf>| path.map(|p| p.to_string_lossy().into_owned()).unwrap_or_default();
    Process {
        pid,
        start_ticks: stat.start_ticks,
        ppid: stat.ppid,
        exe: text(executable(pid)),
        argv: redacted(&arguments(pid).unwrap_or_default(), digest),
        cwd: text(fs::read_link(format!("/proc/{pid}/cwd"))),
        uid: status(pid).map(|status| status.uid).unwrap_or_default(),
        login_uid: login_uid(pid),
        ancestors: ancestors(stat.ppid),
    }
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
