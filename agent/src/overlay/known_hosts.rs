//! Files of known hosts as the processes of a run are to see them: the same hosts, known by crewtap's keys.
//!
//! The host's own get a line for the authority, which OpenSSH reads; a user's get plain keys only, because there are clients
//! that read no file with an authority in it, and may be written to: what a client adds during the run is gone with it.
//! Never writes an original.

use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crewtap_core::wire::ssh::known_hosts::{KnownHosts, rewrite};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, ResolveFlags, mkdirat, openat, openat2, statat, unlinkat};

use super::Ssh;
use super::ground::{Ground, LayError, Place, make_directory, make_link, write_file};
use crate::capture::user::AsUser;

/// The host's files, in the order in which OpenSSH reads them.
const OF_HOST: [&str; 2] = ["/etc/ssh/ssh_known_hosts", "/etc/ssh/ssh_known_hosts2"];

/// Where the first of them is.
const DIRECTORY: &str = "/etc/ssh";

/// Its name there.
const NAME: &str = "ssh_known_hosts";

/// Entries of that directory; OpenSSH's packages have a dozen.
const ENTRIES_MAX: usize = 256;

/// Where a user's files are, in the home directory.
const OF_HOME: [&str; 2] = [".ssh/known_hosts", ".ssh/known_hosts2"];

/// The user's files.
pub(super) fn of_home(home: &Path) -> [PathBuf; 2] {
    OF_HOME.map(|file| home.join(file))
}

/// Lays the host's own files. Where there is none, its directory is laid with one in it, and with all else as it is.
pub(super) fn lay_of_host(ground: &mut Ground, ssh: &Ssh, failed: &mut Vec<String>) {
    for (at, path) in OF_HOST.map(Path::new).into_iter().enumerate() {
        let laid = match lay_global(ground, ssh, path) {
            Err(LayError::Missing) if at == 0 => lay_directory(ground, ssh),
            laid => laid.map(drop),
        };
        match laid {
            Ok(()) | Err(LayError::Missing) => {}
            Err(error) => failed.push(format!("{}: {error}", path.display())),
        }
    }
}

/// Lays one file that only OpenSSH reads; where it is when all links are followed.
fn lay_global(ground: &mut Ground, ssh: &Ssh, path: &Path) -> Result<PathBuf, LayError> {
    let place = Ground::find(path)?;
    ground.lay_file(&place, |content| Ok(global(&content, ssh)))?;
    Ok(place.path)
}

/// The same for a file that a command names: only one that is nothing but known hosts, so that nobody adds a line to whatever
/// file of the run's view.
pub(super) fn lay_named_global(ground: &mut Ground, ssh: &Ssh, path: &Path) -> Result<PathBuf, LayError> {
    let place = Ground::find(path)?;
    ground.lay_file(&place, |content| {
        let known = KnownHosts::parse(&content);
        if known.lines().is_empty() || known.skipped() > 0 {
            return Err(LayError::Unfit("no file of known hosts"));
        }
        Ok(global(&content, ssh))
    })?;
    Ok(place.path)
}

fn global(content: &[u8], ssh: &Ssh) -> Vec<u8> {
    let mut text = rewrite(content, &ssh.keys, true);
    text.extend(plain(content));
    text.extend_from_slice(format!("@cert-authority * {} crewtap\n", ssh.authority).as_bytes());
    text
}

/// The targets' own keys, behind ours: a connection that passes unopened shows them. Who takes the first of a kind only
/// (paramiko) knows ours alone.
fn plain(content: &[u8]) -> Vec<u8> {
    let lines = content.split(|byte| *byte == b'\n').filter(|line| !line.is_empty() && !line.starts_with(b"@"));
    lines.flat_map(|line| [line, b"\n"].concat()).collect()
}

/// Lays a directory with the file over the one without it. Every other entry is shown as it is and stays what it is; only
/// new ones cannot be made there in the run.
fn lay_directory(ground: &mut Ground, ssh: &Ssh) -> Result<(), LayError> {
    let place = Ground::find(Path::new(DIRECTORY))?;
    if ground.is_laid(&place.found) {
        return Ok(());
    }
    let entries = Ground::entries(&place, ENTRIES_MAX)?;
    let (name, directory) = ground.make_directory(&place)?;
    let filled = fill(&place, &entries, &directory, ssh).and_then(|()| ground.attach(&name, &place));
    if let Err(error) = filled {
        ground.discard(&name);
        return Err(error);
    }
    for entry in entries.iter().filter(|entry| !entry.place.found.is_symlink()) {
        if let Err(error) = Ground::show_original(&entry.place, &place.path.join(&entry.name)) {
            // Half of it would be worse than nothing of it.
            ground.lift(&place.path)?;
            return Err(error);
        }
    }
    Ok(())
}

/// An empty file or directory for each entry, and the file of known hosts.
fn fill(place: &Place, entries: &[super::ground::Entry], directory: &OwnedFd, ssh: &Ssh) -> Result<(), LayError> {
    use std::os::fd::AsFd as _;
    for super::ground::Entry { name, place } in entries {
        if place.found.is_symlink() {
            make_link(directory.as_fd(), name, &place.link()?)?;
        } else if place.found.is_dir() {
            drop(make_directory(directory.as_fd(), name, &place.found)?);
        } else {
            write_file(directory.as_fd(), name, b"", &place.found)?;
        }
    }
    write_file(directory.as_fd(), NAME, &global(b"", ssh), &place.found)
}

/// Lays a file of a user; where it is when all links are followed. `owner`: who must own it, because one of its processes has
/// named it; none where root or the host's user database has.
pub(super) fn lay_of_user(
    ground: &mut Ground,
    ssh: &Ssh,
    path: &Path,
    owner: Option<u32>,
) -> Result<PathBuf, LayError> {
    let place = Ground::find(path)?;
    if owner.is_some_and(|owner| place.found.uid() != owner) {
        return Err(LayError::Unfit("another user's"));
    }
    ground.lay_writable(&place, |content| [rewrite(content, &ssh.keys, false), plain(content)].concat())?;
    Ok(place.path)
}

/// An empty file of known hosts on the host, so that there is something to lay over: without it, a client that notes new hosts
/// would note crewtap's keys in the user's home for good.
#[derive(Debug)]
pub(super) struct Stand {
    uid: u32,
    gid: u32,
    home: PathBuf,
    inode: u64,
    /// Its directory was not there either.
    has_made_directory: bool,
}

impl Stand {
    /// Makes it as the user would. None where there is no such home, or a file is there already.
    pub(super) fn make(home: &Path, uid: u32, gid: u32) -> io::Result<Option<Self>> {
        let _as_user = AsUser::new(uid, gid)?;
        let Ok(at) = open_directory(home) else { return Ok(None) };
        let has_made_directory = match mkdirat(&at, ".ssh", Mode::from_raw_mode(0o700)) {
            Ok(()) => true,
            Err(rustix::io::Errno::EXIST) => false,
            Err(errno) => return Err(errno.into()),
        };
        let directory = open_directory(&home.join(".ssh"))?;
        let how = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match openat(&directory, "known_hosts", how, Mode::from_raw_mode(0o600)) {
            Ok(file) => {
                let inode = File::from(file).metadata()?.ino();
                Ok(Some(Self { uid, gid, home: home.to_path_buf(), inode, has_made_directory }))
            }
            Err(rustix::io::Errno::EXIST) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Its file.
    pub(super) fn path(&self) -> PathBuf {
        self.home.join(".ssh/known_hosts")
    }

    /// Removes what was made, unless somebody has written to it. What is laid over it must be lifted before.
    pub(super) fn remove(&self) -> io::Result<()> {
        let _as_user = AsUser::new(self.uid, self.gid)?;
        let directory = open_directory(&self.home.join(".ssh"))?;
        let found = statat(&directory, "known_hosts", AtFlags::SYMLINK_NOFOLLOW)?;
        if found.st_ino != self.inode || found.st_size != 0 {
            return Ok(());
        }
        unlinkat(&directory, "known_hosts", AtFlags::empty())?;
        if self.has_made_directory {
            // Something else may be in it by now.
            let _stays = fs::remove_dir(self.home.join(".ssh"));
        }
        Ok(())
    }
}

fn open_directory(path: &Path) -> io::Result<OwnedFd> {
    let how = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(openat2(CWD, path, how, Mode::empty(), ResolveFlags::NO_MAGICLINKS)?)
}
