//! Who the command runs as, and with what environment: exactly what it would have had without crewtap.
//!
//! Nothing read here is ever used by crewtap itself.

use std::ffi::{CString, OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use anyhow::Context;
use nix::unistd::{Gid, User, getgrouplist};

use crate::capture::process;
use crate::identity::os::{self, Invoker};

/// The user, groups and environment of the command.
#[derive(Debug)]
pub(super) struct Invocation {
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) groups: Vec<u32>,
    pub(super) environment: Vec<OsString>,
    pub(super) umask: u32,
    /// Soft and hard limit of core files, where sudo has taken them away.
    pub(super) core_limits: Option<(u64, u64)>,
    /// The process on whose behalf all this is.
    pub(super) invoker: u32,
    /// Named with --user, and not the user who asks.
    pub(super) foreign_user: Option<String>,
}

/// `umask` is the one that crewtap itself was started with.
pub(super) fn resolve(user: Option<&str>, umask: u32) -> anyhow::Result<Invocation> {
    let own: Vec<OsString> = std::env::vars_os().map(|(name, value)| joined(&name, &value)).collect();
    let invoker = os::invoker(std::process::id(), os::sudo_uid(&own))?;
    let (environment, umask) = match invoker.sudo {
        None => (own, umask),
        Some(sudo) => {
            let before = process::environment(sudo.pid).context("cannot read the environment of sudo")?;
            let words = process::arguments(sudo.pid).unwrap_or_default();
            (with_assignments(before, &words, &own), umask_before_sudo(sudo.pid, invoker.pid, umask))
        }
    };
    let core_limits = invoker.sudo.and_then(|_| process::core_limits(invoker.pid).ok());
    let wanted = user.map(find_user).transpose()?.filter(|user| user.uid.as_raw() != invoker.uid);
    match wanted {
        None => as_invoker(invoker, environment, umask),
        Some(user) => as_other(user, &invoker, environment, umask),
    }
    .map(|invocation| Invocation { core_limits, ..invocation })
}

/// sudo adds 022 to the mask of its caller, for itself too. A subshell that has become sudo had a mask of its
/// own, which the process above it does not show: then sudo's is the best that is known.
fn umask_before_sudo(sudo: u32, caller: u32, own: u32) -> u32 {
    let mask_of = |pid| process::status(pid).ok().and_then(|status| status.umask);
    match (mask_of(sudo), mask_of(caller)) {
        (Some(sudo), Some(caller)) if sudo == caller | 0o022 => caller,
        (Some(sudo), _) => sudo,
        (None, _) => own,
    }
}

fn as_invoker(invoker: Invoker, environment: Vec<OsString>, umask: u32) -> anyhow::Result<Invocation> {
    let groups = match invoker.groups {
        Some(groups) => groups,
        None => match User::from_uid(invoker.uid.into())? {
            Some(user) => groups_of(&user)?,
            None => vec![invoker.gid],
        },
    };
    Ok(Invocation {
        uid: invoker.uid,
        gid: invoker.gid,
        groups,
        environment,
        umask,
        core_limits: None,
        invoker: invoker.pid,
        foreign_user: None,
    })
}

fn as_other(user: User, invoker: &Invoker, mut environment: Vec<OsString>, umask: u32) -> anyhow::Result<Invocation> {
    let name = OsStr::new(&user.name);
    for (key, value) in
        [("HOME", user.dir.as_os_str()), ("USER", name), ("LOGNAME", name), ("SHELL", user.shell.as_os_str())]
    {
        set(&mut environment, joined(OsStr::new(key), value));
    }
    Ok(Invocation {
        uid: user.uid.as_raw(),
        gid: user.gid.as_raw(),
        groups: groups_of(&user)?,
        environment,
        umask,
        core_limits: None,
        invoker: invoker.pid,
        foreign_user: Some(user.name),
    })
}

fn find_user(name: &str) -> anyhow::Result<User> {
    if let Some(user) = User::from_name(name)? {
        return Ok(user);
    }
    let by_number = name.parse().ok().map(|uid: u32| User::from_uid(uid.into())).transpose()?.flatten();
    by_number.with_context(|| format!("there is no user `{name}`"))
}

fn groups_of(user: &User) -> anyhow::Result<Vec<u32>> {
    let name = CString::new(user.name.as_bytes())?;
    let groups = getgrouplist(&name, user.gid).context("cannot look up the user's groups")?;
    Ok(groups.into_iter().map(Gid::as_raw).collect())
}

fn joined(name: &OsStr, value: &OsStr) -> OsString {
    OsString::from_vec([name.as_bytes(), value.as_bytes()].join(&b'='))
}

fn name_of(word: &OsStr) -> &[u8] {
    word.as_bytes().split(|byte| *byte == b'=').next().unwrap_or_default()
}

fn set(environment: &mut Vec<OsString>, word: OsString) {
    match environment.iter_mut().find(|there| name_of(there) == name_of(&word)) {
        Some(there) => *there = word,
        None => environment.push(word),
    }
}

/// `sudo NAME=value crewtap run …`: meant for the command as well. Taken where sudo has let it through, that
/// is, where crewtap itself got exactly this.
fn with_assignments(mut before: Vec<OsString>, sudo_words: &[String], own: &[OsString]) -> Vec<OsString> {
    for word in sudo_words.iter().skip(1) {
        let word = OsString::from(word);
        if word.as_bytes().contains(&b'=') && own.contains(&word) {
            set(&mut before, word);
        }
    }
    before
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(list: &[&str]) -> Vec<OsString> {
        list.iter().map(OsString::from).collect()
    }

    #[test]
    fn assignments_on_sudos_command_line_count_when_sudo_let_them_through() {
        let before = words(&["PATH=/home/u/bin", "KEY=old"]);
        let line = ["sudo", "KEY=new", "LD_PRELOAD=/evil.so", "crewtap", "run"].map(String::from);
        let own = words(&["PATH=/usr/bin", "KEY=new", "SUDO_UID=1000"]);
        assert_eq!(with_assignments(before, &line, &own), words(&["PATH=/home/u/bin", "KEY=new"]));
    }

    #[test]
    fn an_unknown_user_is_named() {
        let error = resolve(Some("no-such-user"), 0o022).unwrap_err();
        assert_eq!(error.to_string(), "there is no user `no-such-user`");
    }
}
