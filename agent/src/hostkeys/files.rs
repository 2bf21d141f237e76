//! Files of known hosts as they are on the disk, and kept until they change.
//!
//! A user's file is opened with the user's own permissions. Never reads what is no regular file, and nothing of `/proc`,
//! where a link could lead to the agent itself.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::{File, Metadata};
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use crewtap_core::limits::{KNOWN_HOSTS_BYTES_MAX, KNOWN_HOSTS_CACHED_MAX};
use crewtap_core::run::Process;
use crewtap_core::wire::ssh::known_hosts::{KnownHosts, expand, named};
use rustix::fs::{CWD, FsWord, Mode, OFlags, PROC_SUPER_MAGIC, ResolveFlags, fstatfs, openat2};

use crate::capture::user::AsUser;

/// Bytes of a process's environment that are read.
const ENVIRONMENT_BYTES_MAX: u64 = 256 * 1024;

/// Where a user's known hosts are, in the home directory.
const USER_FILES: [&str; 2] = [".ssh/known_hosts", ".ssh/known_hosts2"];

/// File systems of the kernel's own, besides `/proc`.
const SYSFS_MAGIC: FsWord = 0x6265_6572;

/// Whose files are read.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct User {
    /// With whose permissions: the user of the captured process.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// Home directories: that of the user database, and `HOME` of the process where it is another.
    pub homes: Vec<PathBuf>,
    /// Files that the process names in place of those in its home (`UserKnownHostsFile`).
    pub named: Option<Vec<PathBuf>>,
    /// The name that it looks the target up by, whatever it has connected to (`HostKeyAlias`).
    pub alias: Option<String>,
}

impl User {
    /// The user of a process, and what its command line says, where it is OpenSSH's. Asks the user database, which may block.
    #[must_use]
    pub fn of(process: &Process) -> Self {
        let found = nix::unistd::User::from_uid(process.uid.into()).ok().flatten();
        let gid = found.as_ref().map_or(process.uid, |user| user.gid.as_raw());
        let mut homes: Vec<PathBuf> = found.into_iter().map(|user| user.dir).collect();
        let by_environment = home_of(process.pid).filter(|home| home.is_absolute() && !homes.contains(home));
        homes.extend(by_environment);
        let named = named(process.argv.iter().map(String::as_bytes));
        let home = homes.first().and_then(|home| home.to_str()).unwrap_or_default();
        let expanded = |file: &String| Some(Path::new(&process.cwd).join(expand(file, home)?));
        let files = named.user.as_ref().map(|files| files.iter().filter_map(expanded).collect());
        Self { uid: process.uid, gid, homes, named: files, alias: named.alias }
    }

    /// Has no files, and no permissions.
    pub(super) fn nobody() -> Self {
        const NOBODY: u32 = 65_534;
        Self { uid: NOBODY, gid: NOBODY, named: Some(Vec::new()), ..Self::default() }
    }

    /// The files, in the order in which they are read.
    pub(super) fn files(&self) -> Vec<PathBuf> {
        match &self.named {
            Some(named) => named.clone(),
            None => self.homes.iter().flat_map(|home| USER_FILES.map(|file| home.join(file))).collect(),
        }
    }
}

/// `HOME` of a process. Another one that has its number by now would only name a directory that its user may not read.
fn home_of(pid: u32) -> Option<PathBuf> {
    let mut environment = Vec::new();
    let file = File::open(format!("/proc/{pid}/environ")).ok()?;
    file.take(ENVIRONMENT_BYTES_MAX).read_to_end(&mut environment).ok()?;
    let home = environment.split(|byte| *byte == 0).find_map(|word| word.strip_prefix(b"HOME="))?;
    Some(PathBuf::from(OsString::from_vec(home.to_vec())))
}

/// A file that was read.
#[derive(Clone, Debug)]
pub(super) struct Read {
    pub(super) path: PathBuf,
    pub(super) known: Arc<KnownHosts>,
}

/// What was read, by its path and with whose permissions.
#[derive(Debug, Default)]
pub(super) struct Files {
    kept: Mutex<HashMap<(PathBuf, Option<u32>), Kept>>,
}

#[derive(Debug)]
struct Kept {
    version: Version,
    known: Arc<KnownHosts>,
}

/// Tells whether a file is still the one that was read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Version {
    device: u64,
    inode: u64,
    changed: (i64, i64),
    len: u64,
}

impl Files {
    /// A file of the host's owner; none where there is none, or it cannot be read.
    pub(super) fn of_host(&self, path: &Path) -> Option<Read> {
        self.read(path, None)
    }

    /// A file of a user; the same.
    pub(super) fn of_user(&self, path: &Path, user: &User) -> Option<Read> {
        self.read(path, Some(user))
    }

    fn read(&self, path: &Path, user: Option<&User>) -> Option<Read> {
        match self.try_read(path, user) {
            Ok(known) => Some(Read { path: path.to_path_buf(), known }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                tracing::debug!(path = %path.display(), %error, "a file of known hosts could not be read");
                None
            }
        }
    }

    fn try_read(&self, path: &Path, user: Option<&User>) -> io::Result<Arc<KnownHosts>> {
        let file = match user {
            Some(user) => {
                let _as_user = AsUser::new(user.uid, user.gid)?;
                open(path)?
            }
            None => open(path)?,
        };
        let found = file.metadata()?;
        let version = Version::from(&found);
        let name = (path.to_path_buf(), user.map(|user| user.uid));
        let kept = || self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(kept) = kept().get(&name).filter(|kept| kept.version == version) {
            return Ok(Arc::clone(&kept.known));
        }
        if found.len() > KNOWN_HOSTS_BYTES_MAX {
            return Err(io::Error::other("it is larger than 8 MiB"));
        }
        let mut text = Vec::new();
        file.take(KNOWN_HOSTS_BYTES_MAX).read_to_end(&mut text)?;
        let known = Arc::new(KnownHosts::parse(&text));
        if known.skipped() > 0 {
            let lines = known.skipped();
            tracing::debug!(path = %path.display(), lines, "lines of known hosts could not be read");
        }
        let mut kept = kept();
        if kept.len() >= KNOWN_HOSTS_CACHED_MAX {
            // A host has a handful of users that are captured; where there are more, all are read again.
            kept.clear();
        }
        kept.insert(name, Kept { version, known: Arc::clone(&known) });
        Ok(known)
    }
}

impl From<&Metadata> for Version {
    fn from(found: &Metadata) -> Self {
        Self { device: found.dev(), inode: found.ino(), changed: (found.ctime(), found.ctime_nsec()), len: found.len() }
    }
}

/// Follows links, because people keep such files elsewhere, but not into the kernel's own file systems, and waits for
/// nobody at the other end of a pipe.
fn open(path: &Path) -> io::Result<File> {
    let how = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = File::from(openat2(CWD, path, how, Mode::empty(), ResolveFlags::NO_MAGICLINKS)?);
    let kind = fstatfs(&file)?.f_type;
    if !file.metadata()?.is_file() || kind == PROC_SUPER_MAGIC || kind == SYSFS_MAGIC {
        return Err(io::Error::other("it is no regular file"));
    }
    Ok(file)
}
