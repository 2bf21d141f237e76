//! Whose login session a process is in: the facts that a login is bound by, all of them the kernel's.
//!
//! Never believes what the process itself says. Captured processes are turned away before they get here.

use std::fmt;
use std::os::fd::{AsFd, OwnedFd};
use std::str::FromStr;

use crewtap_core::identity::Identity;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::os;
use crate::capture::process::{self, Pinned};

/// The namespace of process ids that the kernel began with (its `PROC_PID_INIT_INO`).
const INITIAL_PIDS: &str = "pid:[4026531836]";

/// init is 1, and 2 is what the kernel starts its own helpers from.
const KERNEL_THREADS: u32 = 2;

/// Processes between one and init at most.
const ANCESTORS_MAX: usize = 256;

/// A user in a login session of the host.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Key {
    /// Real user id.
    pub uid: u32,
    /// Which of their sessions.
    pub session: LoginSession,
}

/// A login session.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum LoginSession {
    /// The kernel's number of it, given once at log-in; sudo, su and screen keep it.
    Audit(u32),
    /// Where the kernel counts none (containers, cron): the leader of the terminal's session, and when it started. What init has
    /// started and that made no session for itself (some inits do not) counts as the leader of all that comes of it.
    Leader {
        /// Its process id.
        pid: u32,
        /// Its start, in clock ticks since boot.
        start_ticks: u64,
    },
}

/// Whoever asks.
#[derive(Clone, Debug)]
pub struct Caller {
    /// Who the operating system says it is.
    pub os: Identity,
    /// Where a login is bound to; none where the facts are gone.
    pub key: Option<Key>,
    /// The unit of systemd that it runs in.
    pub unit: Option<String>,
}

/// A process whose facts cannot be had.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the process that asked has ended: nobody can be told from what is left")]
pub struct Gone;

impl Caller {
    /// Who stands behind process `pid`. `life` holds it: what was read counts only if it was alive all the while, because its
    /// number could be another's by now.
    ///
    /// # Errors
    /// When it is not alive any more.
    pub fn of(pid: u32, life: Option<&OwnedFd>) -> Result<Self, Gone> {
        let caller = Self::read(pid);
        match life {
            Some(life) if !is_alive(life) => Err(Gone),
            _ => Ok(caller),
        }
    }

    fn read(pid: u32) -> Self {
        let claimed = process::environment(pid).ok().and_then(|words| os::sudo_uid(&words));
        let Ok(invoker) = os::invoker(pid, claimed) else {
            return Self { os: Identity::unknown(), key: None, unit: None };
        };
        // sudo may have made a session of its own around its command: the caller's is above it.
        let from = if invoker.sudo.is_some() { invoker.pid } else { pid };
        let key = LoginSession::of(from).map(|session| Key { uid: invoker.uid, session });
        Self { os: invoker.identity(), key, unit: unit_of(pid) }
    }
}

fn is_alive(life: &OwnedFd) -> bool {
    let mut waits = [PollFd::new(life.as_fd(), PollFlags::POLLIN)];
    // A pidfd is readable once its process has ended.
    matches!(poll(&mut waits, PollTimeout::ZERO), Ok(0))
}

impl LoginSession {
    /// The one that a process is in.
    fn of(pid: u32) -> Option<Self> {
        let pinned = Pinned::open(pid).ok()?;
        if let Some(number) = pinned.audit_session() {
            return Some(Self::Audit(number));
        }
        let stat = pinned.stat().ok()?;
        let leader = if stat.session == 0 { below_init(pid, stat.ppid)? } else { stat.session };
        let start_ticks = process::stat(leader).ok()?.start_ticks;
        Some(Self::Leader { pid: leader, start_ticks })
    }

    /// Whether it may still be there. The kernel does not say of its own numbers.
    #[must_use]
    pub fn is_there(&self) -> bool {
        match self {
            Self::Audit(_) => true,
            Self::Leader { pid, start_ticks } => {
                process::stat(*pid).is_ok_and(|stat| stat.start_ticks == *start_ticks && stat.state != 'Z')
            }
        }
    }
}

/// The process that init or the kernel has started and that `pid` comes of; none where the session is that of somebody whom
/// only a namespace around ours could show.
fn below_init(pid: u32, parent: u32) -> Option<u32> {
    let outermost = std::fs::read_link("/proc/self/ns/pid").is_ok_and(|link| link.as_os_str() == INITIAL_PIDS);
    let (mut pid, mut parent) = (pid, parent);
    for _ in 0..if outermost { ANCESTORS_MAX } else { 0 } {
        if parent <= KERNEL_THREADS {
            return Some(pid);
        }
        // A session ends where another begins: init's goes on up to init.
        let above = process::stat(parent).ok().filter(|stat| stat.session == 0)?;
        (pid, parent) = (parent, above.ppid);
    }
    None
}

impl fmt::Display for LoginSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Audit(number) => write!(f, "audit:{number}"),
            Self::Leader { pid, start_ticks } => write!(f, "leader:{pid}@{start_ticks}"),
        }
    }
}

impl FromStr for LoginSession {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        if let Some(number) = text.strip_prefix("audit:") {
            return number.parse().map(Self::Audit).map_err(drop);
        }
        let (pid, start_ticks) = text.strip_prefix("leader:").and_then(|rest| rest.split_once('@')).ok_or(())?;
        Ok(Self::Leader { pid: pid.parse().map_err(drop)?, start_ticks: start_ticks.parse().map_err(drop)? })
    }
}

/// The outermost unit in a process's cgroup, which only systemd makes: what is below it, whoever the unit belongs to may call as
/// they like, a user's own manager too.
fn unit_of(pid: u32) -> Option<String> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    unit_in(&text)
}

fn unit_in(text: &str) -> Option<String> {
    // The unified hierarchy, else the one that systemd names.
    let path = |wanted: &str| {
        let fields = text.lines().map(|line| line.splitn(3, ':').collect::<Vec<_>>());
        fields.filter(|fields| fields.get(1).copied() == Some(wanted)).find_map(|fields| fields.get(2).copied())
    };
    let path = path("").filter(|path| *path != "/").or_else(|| path("name=systemd"))?;
    let is_unit = |part: &&str| matches!(part.rsplit_once('.'), Some((_, "service" | "scope")));
    path.split('/').find(is_unit).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_login_session_is_read_as_it_was_written() {
        for session in [LoginSession::Audit(7), LoginSession::Leader { pid: 12, start_ticks: 345 }] {
            assert_eq!(session.to_string().parse(), Ok(session));
        }
        for wrong in ["", "audit:", "audit:-1", "leader:1", "leader:1@", "leader:@2"] {
            assert!(wrong.parse::<LoginSession>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_outermost_unit_counts() {
        assert_eq!(unit_in("0::/system.slice/crew.service\n").as_deref(), Some("crew.service"));
        assert_eq!(unit_in("0::/system.slice/crew.service/payload\n").as_deref(), Some("crew.service"));
        let user = "0::/user.slice/user-1000.slice/user@1000.service/app.slice/crew.service\n";
        assert_eq!(unit_in(user).as_deref(), Some("user@1000.service"), "a user's unit may have any name");
        let inner = "0::/system.slice/other.service/crew.service\n";
        assert_eq!(unit_in(inner).as_deref(), Some("other.service"));
        assert_eq!(unit_in("1:name=systemd:/system.slice/a.service\n0::/\n").as_deref(), Some("a.service"));
        assert_eq!(unit_in("0::/\n"), None);
        assert_eq!(unit_in("0::/x.service.d\n"), None);
    }

    #[test]
    fn this_process_has_a_session_and_one_that_has_ended_has_none() {
        let own = Caller::of(std::process::id(), None).unwrap();
        let key = own.key.unwrap();
        assert!(key.session.is_there());
        assert_eq!(key.uid, nix::unistd::getuid().as_raw());
        let mut child = std::process::Command::new("/bin/sleep").arg("60").spawn().unwrap();
        let pid = rustix::process::Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
        let life = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).unwrap();
        assert_eq!(Caller::of(child.id(), Some(&life)).unwrap().key, Some(key), "it is in the same session");
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(Caller::of(child.id(), Some(&life)).unwrap_err(), Gone);
    }

    #[test]
    fn what_has_no_session_belongs_to_what_init_started() {
        // kthreadd, which never calls setsid(2), and a thread that it has started.
        let kthreadd = LoginSession::of(2).unwrap();
        assert!(matches!(kthreadd, LoginSession::Leader { pid: 2, .. }) && kthreadd.is_there(), "{kthreadd}");
        assert_eq!(below_init(std::process::id(), 2), Some(std::process::id()));
        let own = process::stat(std::process::id()).unwrap();
        if own.session != 0 && own.ppid > KERNEL_THREADS {
            assert_eq!(below_init(std::process::id(), own.ppid), None, "the parent has a session of its own");
        }
    }

    #[test]
    fn a_leader_that_has_ended_is_not_there_even_if_its_number_is() {
        let gone = LoginSession::Leader { pid: std::process::id(), start_ticks: 1 };
        assert!(!gone.is_there());
    }
}
