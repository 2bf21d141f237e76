//! The files of known hosts that one execve of a run will look for: whose they are, and where.
//!
//! Owns what was made on the host so that something can be laid over it, until the run ends. Never lays.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use crewtap_core::wire::ssh::known_hosts::{Named, expand, named};

use super::execution::Execution;
use super::ground::Ground;
use super::known_hosts::{Stand, of_home};

/// The user database, as the run has it.
const USERS: &str = "/etc/passwd";

/// Users of one run whose home is remembered.
const USERS_MAX: usize = 256;

/// Files that are made for one run; one for each home from which `ssh` is called.
const STANDS_MAX: usize = 64;

/// See the module.
#[derive(Default)]
pub(super) struct Homes {
    of_users: HashMap<u32, Option<PathBuf>>,
    stands: Vec<Stand>,
}

/// What one execve looks for.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Wanted {
    /// Who executes.
    pub(super) uid: u32,
    /// The user's own files.
    pub(super) files: Vec<PathBuf>,
    /// Files that are named in place of the host's.
    pub(super) global: Vec<PathBuf>,
}

impl Homes {
    /// What the execve of a process looks for, and the files that were made for it. Relative to `/proc`, which is the working
    /// directory of the caller.
    pub(super) fn of(&mut self, pid: u32, execution: &Execution) -> Option<(Wanted, Vec<PathBuf>)> {
        let (uid, gid) = user_of(pid)?;
        let by_environment =
            execution.variable("HOME").filter(|home| !home.is_empty()).map(|home| execution.path(home));
        let mut homes: Vec<PathBuf> = self.home(uid).into_iter().collect();
        if let Some(home) = by_environment.filter(|home| !homes.contains(home)) {
            homes.push(home);
        }
        let named = named(execution.words.iter().map(Vec::as_slice));
        let wanted = wanted(uid, &homes, &named, &execution.directory);
        let mut made = Vec::new();
        // OpenSSH is what notes new hosts by itself, in the home of the user database.
        if execution.name.file_name().is_some_and(|name| name == "ssh")
            && named.user.is_none()
            && let Some(home) = homes.first()
            && let Some(path) = self.stand(home, uid, gid)
        {
            made.push(path);
        }
        Some((wanted, made))
    }

    /// Removes what was made.
    pub(super) fn leave(&mut self, ground: &mut Ground) {
        for stand in std::mem::take(&mut self.stands) {
            let removed = ground.lift(&stand.path()).map_err(|error| error.to_string());
            if let Err(error) = removed.and_then(|_| stand.remove().map_err(|error| error.to_string())) {
                tracing::debug!(path = %stand.path().display(), error, "an empty file of known hosts stays");
            }
        }
    }

    fn stand(&mut self, home: &Path, uid: u32, gid: u32) -> Option<PathBuf> {
        let [first, _] = of_home(home);
        let is_there = fs::symlink_metadata(&first).is_ok();
        if is_there || self.stands.len() >= STANDS_MAX {
            return None;
        }
        match Stand::make(home, uid, gid) {
            Ok(Some(stand)) => {
                self.stands.push(stand);
                Some(first)
            }
            Ok(None) => None,
            Err(error) => {
                tracing::debug!(path = %first.display(), %error, "no file of known hosts can be made to be laid over");
                None
            }
        }
    }

    fn home(&mut self, uid: u32) -> Option<PathBuf> {
        if let Some(home) = self.of_users.get(&uid) {
            return home.clone();
        }
        let text = Ground::find(Path::new(USERS)).and_then(|place| Ground::read(&place)).unwrap_or_default();
        let home = home_in(&String::from_utf8_lossy(&text), uid);
        if self.of_users.len() >= USERS_MAX {
            self.of_users.clear();
        }
        self.of_users.insert(uid, home.clone());
        home
    }
}

fn wanted(uid: u32, homes: &[PathBuf], named: &Named, directory: &Path) -> Wanted {
    let expanded = |files: &[String]| -> Vec<PathBuf> {
        let home = homes.first().and_then(|home| home.to_str()).unwrap_or_default();
        let files = files.iter().filter_map(|file| expand(file, home));
        files.map(|file| super::execution::normal(&directory.join(file))).collect()
    };
    let files = match &named.user {
        Some(files) => expanded(files),
        None => homes.iter().flat_map(|home| of_home(home)).collect(),
    };
    Wanted { uid, files, global: named.global.as_deref().map(expanded).unwrap_or_default() }
}

/// Real user and group of a process.
fn user_of(pid: u32) -> Option<(u32, u32)> {
    let status = fs::read_to_string(format!("{pid}/status")).ok()?;
    let number = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_ascii_whitespace().next()?.parse::<u32>().ok()
    };
    Some((number("Uid:")?, number("Gid:")?))
}

/// The home directory of a user (passwd(5)). Read here, and not by the C library, which would load what the run names.
fn home_in(text: &str, uid: u32) -> Option<PathBuf> {
    let line = text.lines().find(|line| line.split(':').nth(2).and_then(|id| id.parse::<u32>().ok()) == Some(uid))?;
    let home = line.split(':').nth(5).map(PathBuf::from)?;
    home.is_absolute().then_some(home)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn homes_are_those_of_the_user_database() {
        let text = "root:x:0:0:root:/root:/bin/bash\n# comment\ncrew:x:1001:1001::/srv/crew:/bin/sh\nbad:x:7:7::rel:\n";
        assert_eq!(home_in(text, 1001), Some("/srv/crew".into()));
        assert_eq!(home_in(text, 1), None);
        assert_eq!(home_in(text, 7), None, "a home that is no whole path");
    }

    #[test]
    fn what_the_command_line_names_stands_in_for_the_files_of_the_homes() {
        let homes = [PathBuf::from("/root"), "/srv/x".into()];
        let of = |words: &[&str]| {
            let named = named(words.iter().map(|word| word.as_bytes()));
            wanted(0, &homes, &named, Path::new("/srv"))
        };
        let plain = of(&["ssh", "h"]).files;
        let expected =
            ["/root/.ssh/known_hosts", "/root/.ssh/known_hosts2", "/srv/x/.ssh/known_hosts"].map(PathBuf::from);
        assert_eq!(plain[..3], expected);
        let named = of(&["ssh", "-oUserKnownHostsFile=kh ~/k", "-o", "GlobalKnownHostsFile /g", "h"]);
        assert_eq!((named.files, named.global), (vec!["/srv/kh".into(), "/root/k".into()], vec!["/g".into()]));
        assert_eq!(of(&["ssh", "h", "ls", "-oUserKnownHostsFile=x"]).files, plain, "the other side's command");
    }
}
