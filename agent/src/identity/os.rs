//! The user on whose behalf a process asks, also behind sudo: by kernel facts, not by what the environment says.
//!
//! sudo's variables are only ever compared with what the kernel knows. Never reads the user's environment for
//! a decision.

use std::ffi::{OsStr, OsString};
use std::os::unix::fs::MetadataExt;

use crewtap_core::identity::{Basis, Groups, Identity};

use crate::capture::process::{self, Stat, Status};

/// Processes that are looked at between a command and the sudo that started it (make, sh, a script …).
const SUDO_DEPTH_MAX: usize = 64;

/// The user behind a process.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Invoker {
    /// Real user id.
    pub uid: u32,
    /// Real group id.
    pub gid: u32,
    /// Supplementary groups; none when they must be looked up in the user database.
    pub groups: Option<Vec<u32>>,
    /// The process on whose behalf it is: the parent of sudo or of the process itself.
    pub pid: u32,
    /// Audit login uid.
    pub login_uid: Option<u32>,
    /// The sudo in between.
    pub sudo: Option<Sudo>,
    /// User name that the nearest sudo above was called by, also where it is only part of the story.
    pub sudo_user: Option<String>,
}

/// A sudo, found among the parents.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sudo {
    /// Its process id: the one that started the command.
    pub pid: u32,
}

/// Why the user behind a process cannot be told.
#[derive(Debug, thiserror::Error)]
pub enum InvokerError {
    /// A process of the chain cannot be read.
    #[error("cannot read the facts of process {pid}: {source}")]
    Facts {
        /// Which.
        pid: u32,
        /// Why.
        source: std::io::Error,
    },
    /// sudo says one user, the kernel another.
    #[error("SUDO_UID says {claimed}, but sudo was started by uid {found}: name the user with --user")]
    Contradiction {
        /// What the environment says.
        claimed: u32,
        /// What the kernel says.
        found: u32,
    },
}

fn facts_of(pid: u32) -> Result<(Stat, Status), InvokerError> {
    let read = || Ok((process::stat(pid)?, process::status(pid)?));
    read().map_err(|source| InvokerError::Facts { pid, source })
}

/// The user behind process `pid`; `claimed` is the `SUDO_UID` of its environment.
///
/// # Errors
/// See [`InvokerError`].
pub fn invoker(pid: u32, claimed: Option<u32>) -> Result<Invoker, InvokerError> {
    let (stat, status) = facts_of(pid)?;
    let login_uid = process::login_uid(pid);
    let plain = Invoker {
        uid: status.uid,
        gid: status.gid,
        groups: Some(status.groups),
        pid: stat.ppid,
        login_uid,
        sudo: None,
        sudo_user: None,
    };
    let found = if status.uid == 0 { nearest_sudo(&stat) } else { None };
    let Some(found) = found else { return Ok(plain) };
    let call = call_of_sudo(found.pid)?;
    let uid = judge(claimed, call.uid, login_uid)?;
    let sudo_user = user_name(uid);
    if found.behind_a_shell {
        return Ok(Invoker { sudo_user, ..plain });
    }
    let sudo = Some(Sudo { pid: found.pid });
    Ok(match call.caller {
        Some((pid, status)) if status.uid == uid => {
            Invoker { uid, gid: status.gid, groups: Some(status.groups), pid, login_uid, sudo, sudo_user }
        }
        // sudo took the place of the shell that called it, or that one has ended.
        other => {
            let gid = nix::unistd::User::from_uid(uid.into()).ok().flatten().map(|user| user.gid.as_raw());
            let pid = other.map_or(found.pid, |(pid, _)| pid);
            Invoker { uid, gid: gid.unwrap_or(uid), groups: None, pid, login_uid, sudo, sudo_user }
        }
    })
}

/// Who sudo was called by: what it put into the environment, as far as the kernel does not contradict.
fn judge(claimed: Option<u32>, kernel: Option<u32>, login: Option<u32>) -> Result<u32, InvokerError> {
    match (claimed, kernel) {
        (None, Some(found)) => Ok(found),
        (Some(claimed), Some(found)) if claimed == found => Ok(claimed),
        (Some(claimed), Some(found)) => Err(InvokerError::Contradiction { claimed, found }),
        // The login is all that is left to compare with.
        (Some(claimed), None) => match login {
            Some(found) if found != claimed && found != 0 => Err(InvokerError::Contradiction { claimed, found }),
            _ => Ok(claimed),
        },
        (None, None) => Ok(login.unwrap_or(0)),
    }
}

struct FoundSudo {
    pid: u32,
    /// Between sudo and the process is a shell with job control: somebody is root there and types as root.
    behind_a_shell: bool,
}

fn nearest_sudo(stat: &Stat) -> Option<FoundSudo> {
    let (mut child_group, mut next) = (stat.group, stat.ppid);
    let mut behind_a_shell = false;
    for _ in 0..SUDO_DEPTH_MAX {
        if next <= 1 {
            return None;
        }
        if is_sudo(next) {
            return Some(FoundSudo { pid: next, behind_a_shell });
        }
        let parent = process::stat(next).ok()?;
        // Only a shell with job control puts its commands into process groups of their own.
        behind_a_shell |= parent.session == stat.session && parent.group != child_group;
        child_group = parent.group;
        next = parent.ppid;
    }
    None
}

/// The real sudo: a setuid program of root, whatever is called like it.
fn is_sudo(pid: u32) -> bool {
    let named = process::executable(pid).is_ok_and(|path| path.file_name() == Some(OsStr::new("sudo")));
    let file = std::fs::metadata(format!("/proc/{pid}/exe"));
    named && file.is_ok_and(|file| file.uid() == 0 && file.mode() & libc::S_ISUID != 0)
}

/// What the kernel knows of the call of a sudo.
struct Call {
    /// Real user id of whoever called; none when only root's is left to see, which proves nothing: a parent that
    /// is root may have become the user before it became sudo.
    uid: Option<u32>,
    /// The process above; none when that one has ended.
    caller: Option<(u32, Status)>,
}

/// With `use_pty` there are two sudos, one above the other. A setuid program keeps the real uid of its caller, and
/// current versions of sudo leave it.
fn call_of_sudo(sudo: u32) -> Result<Call, InvokerError> {
    let (mut below, (mut stat, own)) = (sudo, facts_of(sudo)?);
    let mut real = Some(own.uid).filter(|uid| *uid != 0);
    loop {
        let pid = stat.ppid;
        if pid <= 1 {
            return Ok(Call { uid: real, caller: None });
        }
        let (above, status) = facts_of(pid)?;
        let uid = Some(status.uid).filter(|uid| *uid != 0);
        if !is_sudo(pid) {
            // A child subreaper (systemd --user, a container's init) adopts orphans, but in its own session.
            let adopted = above.session != stat.session && stat.session != below && above.ppid <= 1;
            let caller = (!adopted).then_some((pid, status));
            return Ok(Call { uid: real.or(uid.filter(|_| caller.is_some())), caller });
        }
        real = real.or(uid);
        (below, stat) = (pid, above);
    }
}

/// The name of a user, as the user database has it.
#[must_use]
pub fn user_name(uid: u32) -> Option<String> {
    nix::unistd::User::from_uid(uid.into()).ok().flatten().map(|user| user.name)
}

impl Invoker {
    /// `os:NAME` of every group that the process had, or that the user database has for the user; sorted.
    fn group_names(&self) -> Groups {
        let looked_up = || {
            let name = std::ffi::CString::new(user_name(self.uid)?).ok()?;
            let groups = nix::unistd::getgrouplist(&name, self.gid.into()).ok()?;
            Some(groups.into_iter().map(nix::unistd::Gid::as_raw).collect())
        };
        let mut numbers = self.groups.clone().or_else(looked_up).unwrap_or_default();
        numbers.push(self.gid);
        let name = |number: u32| {
            let group = nix::unistd::Group::from_gid(number.into()).ok().flatten();
            format!("os:{}", group.map_or_else(|| number.to_string(), |group| group.name))
        };
        numbers.into_iter().map(name).collect()
    }

    /// The identity that goes on record.
    #[must_use]
    pub fn identity(&self) -> Identity {
        let sudo_user = self.sudo_user.clone();
        Identity {
            id: format!("os:{}", self.uid),
            name: user_name(self.uid).unwrap_or_else(|| self.uid.to_string()),
            groups: self.group_names(),
            groups_left_off: 0,
            basis: Basis::Os { uid: self.uid, login_uid: self.login_uid, sudo_user },
        }
    }
}

/// The identity behind a process, for the record; `unknown` when its facts are gone or contradict each other.
#[must_use]
pub fn identity_of(pid: u32) -> Identity {
    let claimed = process::environment(pid).ok().and_then(|words| sudo_uid(&words));
    invoker(pid, claimed).map_or_else(|_| Identity::unknown(), |invoker| invoker.identity())
}

/// The `SUDO_UID` of an environment.
#[must_use]
pub fn sudo_uid(environment: &[OsString]) -> Option<u32> {
    environment.iter().find_map(|word| word.to_str()?.strip_prefix("SUDO_UID=")?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_is_believed_before_the_environment() {
        assert_eq!(judge(None, Some(1000), None).unwrap(), 1000);
        assert_eq!(judge(Some(1000), Some(1000), None).unwrap(), 1000);
        assert!(judge(Some(0), Some(1000), None).is_err());
        assert!(judge(Some(1001), Some(1000), Some(1001)).is_err());
    }

    #[test]
    fn without_a_kernel_fact_sudo_is_believed_unless_the_login_contradicts() {
        assert_eq!(judge(None, None, None).unwrap(), 0);
    }

    #[test]
    fn an_orphaned_sudo_is_compared_with_the_login() {
        assert_eq!(judge(Some(1000), None, None).unwrap(), 1000);
        assert_eq!(judge(Some(1000), None, Some(1000)).unwrap(), 1000);
        assert!(judge(Some(1000), None, Some(1001)).is_err());
    }

    #[test]
    fn a_program_that_is_only_called_sudo_is_not_sudo() {
        let dir = tempfile::tempdir().unwrap();
        let fake = dir.path().join("sudo");
        std::fs::copy("/bin/sleep", &fake).unwrap();
        let mut child = std::process::Command::new(&fake).arg("60").spawn().unwrap();
        assert!(!is_sudo(child.id()));
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn the_test_itself_belongs_to_a_user_that_has_an_identity() {
        let identity = identity_of(std::process::id());
        assert_eq!(identity.id, format!("os:{}", nix::unistd::getuid()));
    }
}
