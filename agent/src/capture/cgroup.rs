//! Capture cgroups (cgroup v2): one parent per agent, one child per run. It owns their making, watching and ending; it
//! never attaches programs.

use nix::{
    errno::Errno,
    mount::{MsFlags, mount},
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use std::{
    fs::{self, File},
    io::{self, Read, Seek, SeekFrom},
    os::{fd::AsFd, unix::fs::MetadataExt},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// The inode of the initial cgroup namespace (`include/linux/proc_ns.h)`: only there a path tells a cgroup's depth.
const INITIAL_CGROUP_NAMESPACE: u64 = 0xEFFF_FFFB;

/// Why a cgroup could not be used.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// There is no cgroup v2 hierarchy.
    #[error("no cgroup v2 hierarchy is mounted; mount one with: mount -t cgroup2 none /sys/fs/cgroup/unified")]
    NotMounted,
    /// The agent is in a container's cgroup namespace.
    #[error("crewtap must run in the host's own cgroup namespace, not inside a container")]
    Namespaced,
    /// The kernel refused.
    #[error("{action} {path}: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which path.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
}

impl CgroupError {
    fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { action, path: path.to_owned(), source }
    }
}

/// A cgroup's number: the inode of its directory, which is what the kernel programs see.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CgroupId(pub u64);

/// A cgroup v2 directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cgroup {
    path: PathBuf,
    id: CgroupId,
    level: u32,
}

/// Where process 1 sees what this process may not: `ip netns exec`, for one, lays a /sys without cgroups and without
/// bpffs over the host's. It is the same hierarchy, seen through another mount namespace.
pub(super) const HOST_ROOT: &str = "/proc/1/root";
/// Where a hierarchy is mounted by [`mount_if_missing`].
const OWN_MOUNT: &str = "/run/crewtap/cgroup2";

/// Where cgroup v2 is mounted, alone or beside v1; below `/proc/1/root` where only process 1 has it.
///
/// # Errors
/// When it is mounted nowhere, or this process is in a cgroup namespace of its own.
pub fn mount_point() -> Result<PathBuf, CgroupError> {
    let namespace = Path::new("/proc/self/ns/cgroup");
    let inode = fs::metadata(namespace).map_err(CgroupError::io("read", namespace))?.ino();
    if inode != INITIAL_CGROUP_NAMESPACE {
        return Err(CgroupError::Namespaced);
    }
    let table = Path::new("/proc/self/mountinfo");
    let text = fs::read_to_string(table).map_err(CgroupError::io("read", table))?;
    mount_point_in(&text).or_else(mount_point_of_host).ok_or(CgroupError::NotMounted)
}

/// Process 1 may be out of reach, with more capabilities than ours or behind a security module.
fn mount_point_of_host() -> Option<PathBuf> {
    let point = mount_point_in(&fs::read_to_string("/proc/1/mountinfo").ok()?)?;
    let path = Path::new(HOST_ROOT).join(point.strip_prefix("/").unwrap_or(&point));
    path.join("cgroup.procs").exists().then_some(path)
}

/// Mounts the hierarchy for this mount namespace where it is not to be seen. There is one in the kernel: what is made
/// in it is the same through every mount.
///
/// # Errors
/// When the kernel refuses.
pub fn mount_if_missing() -> Result<(), CgroupError> {
    match mount_point() {
        Err(CgroupError::NotMounted) => {}
        other => return other.map(drop),
    }
    let at = Path::new(OWN_MOUNT);
    fs::create_dir_all(at).map_err(CgroupError::io("make", at))?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("crewtap"), at, Some("cgroup2"), flags, None::<&str>)
        .map_err(|errno| CgroupError::io("mount cgroup2 at", at)(errno.into()))
}

/// The first cgroup2 mount of the hierarchy's root in a mountinfo table (`proc_pid_mountinfo(5)`).
fn mount_point_in(mountinfo: &str) -> Option<PathBuf> {
    mountinfo.lines().find_map(|line| {
        let (mount, filesystem) = line.split_once(" - ")?;
        let mut fields = mount.split(' ').skip(3);
        let (root, point) = (fields.next()?, fields.next()?);
        (filesystem.split(' ').next() == Some("cgroup2") && root == "/")
            .then(|| PathBuf::from(point.replace("\\040", " ")))
    })
}

impl Cgroup {
    /// Makes (or opens) the cgroup `name` at the root of the hierarchy.
    ///
    /// # Errors
    /// When there is no hierarchy, or the kernel refuses.
    pub fn create_at_root(name: &str) -> Result<Self, CgroupError> {
        Self::create(mount_point()?.join(name), 1)
    }

    /// Makes (or opens) the child `name`.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn create_child(&self, name: &str) -> Result<Self, CgroupError> {
        Self::create(self.path.join(name), self.level + 1)
    }

    fn create(path: PathBuf, level: u32) -> Result<Self, CgroupError> {
        match fs::create_dir(&path) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(source) => return Err(CgroupError::Io { action: "make the cgroup", path, source }),
        }
        let id = CgroupId(fs::metadata(&path).map_err(CgroupError::io("read", &path))?.ino());
        Ok(Self { path, id, level })
    }

    /// Its children.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn children(&self) -> Result<Vec<Self>, CgroupError> {
        let entries = fs::read_dir(&self.path).map_err(CgroupError::io("list", &self.path))?;
        let directories = entries.filter_map(Result::ok).filter(|entry| entry.path().is_dir());
        directories.map(|entry| Self::create(entry.path(), self.level + 1)).collect()
    }

    /// Its number.
    #[must_use]
    pub fn id(&self) -> CgroupId {
        self.id
    }

    /// Its directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its depth; the root of the hierarchy is 0.
    #[must_use]
    pub fn level(&self) -> u32 {
        self.level
    }

    /// Moves a process, with all its threads, into this cgroup. 0 is the calling process.
    ///
    /// # Errors
    /// When the process is gone or the kernel refuses.
    pub fn add(&self, pid: u32) -> Result<(), CgroupError> {
        let file = self.path.join("cgroup.procs");
        fs::write(&file, pid.to_string()).map_err(CgroupError::io("move a process into", &file))
    }

    /// The processes in this cgroup and in the cgroups below.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn pids(&self) -> Result<Vec<u32>, CgroupError> {
        let file = self.path.join("cgroup.procs");
        let text = fs::read_to_string(&file).map_err(CgroupError::io("read", &file))?;
        let mut pids: Vec<u32> = text.lines().filter_map(|line| line.parse().ok()).collect();
        for child in self.children()? {
            pids.extend(child.pids()?);
        }
        Ok(pids)
    }

    /// Opens `cgroup.events`, on which poll reports POLLPRI at each change.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn events(&self) -> Result<CgroupEvents, CgroupError> {
        let path = self.path.join("cgroup.events");
        Ok(CgroupEvents { file: File::open(&path).map_err(CgroupError::io("open", &path))?, path })
    }

    /// Whether a process is in it or below; a cgroup that is gone has none.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn is_populated(&self) -> Result<bool, CgroupError> {
        match self.events() {
            Ok(mut events) => events.is_populated(),
            Err(CgroupError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Waits until no process is left in it and below; false: time is up.
    ///
    /// # Errors
    /// When it cannot be watched.
    pub fn wait_until_empty(&self, limit: Duration) -> Result<bool, CgroupError> {
        let deadline = Instant::now() + limit;
        let mut events = self.events()?;
        while events.is_populated()? {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(false);
            }
            events.wait(left)?;
        }
        Ok(true)
    }

    /// Kills every process in it and below (`cgroup.kill`, Linux 5.14; before that one by one until none is left).
    ///
    /// # Errors
    /// When it cannot be read or written.
    pub fn kill(&self) -> Result<(), CgroupError> {
        let file = self.path.join("cgroup.kill");
        match fs::write(&file, "1") {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(CgroupError::Io { action: "kill", path: file, source }),
        }
        // A fork between reading and killing is met at the next round; a zombie stays listed, so rounds are counted.
        for _ in 0..1000 {
            let pids = self.pids()?;
            if pids.is_empty() || !self.is_populated()? {
                return Ok(());
            }
            for pid in pids {
                let _ = kill(Pid::from_raw(pid.cast_signed()), Signal::SIGKILL);
            }
            self.wait_until_empty(Duration::from_millis(10))?;
        }
        Ok(())
    }

    /// Removes it and the empty cgroups below.
    ///
    /// # Errors
    /// When a process is left in it.
    pub fn remove(&self) -> Result<(), CgroupError> {
        if !self.path.exists() {
            return Ok(());
        }
        for child in self.children()? {
            child.remove()?;
        }
        match fs::remove_dir(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(CgroupError::io("remove the cgroup", &self.path)(error))
            }
            _ => Ok(()),
        }
    }
}

/// An open `cgroup.events`. Polled for POLLPRI it tells of each change.
#[derive(Debug)]
pub struct CgroupEvents {
    file: File,
    path: PathBuf,
}

impl AsFd for CgroupEvents {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl CgroupEvents {
    /// Whether a process is left; reading also takes note of the change.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn is_populated(&mut self) -> Result<bool, CgroupError> {
        let mut text = String::new();
        let read = self.file.seek(SeekFrom::Start(0)).and_then(|_| self.file.read_to_string(&mut text));
        match read {
            Ok(_) => Ok(text.lines().any(|line| line == "populated 1")),
            // The cgroup was removed: nothing is in it.
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(false),
            Err(source) => Err(CgroupError::Io { action: "read", path: self.path.clone(), source }),
        }
    }

    /// Waits for a change.
    ///
    /// # Errors
    /// When it cannot be polled.
    pub fn wait(&self, limit: Duration) -> Result<(), CgroupError> {
        let mut fds = [PollFd::new(self.file.as_fd(), PollFlags::POLLPRI)];
        let limit = PollTimeout::try_from(limit).unwrap_or(PollTimeout::MAX);
        match poll(&mut fds, limit) {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(errno) => Err(CgroupError::Io { action: "poll", path: self.path.clone(), source: errno.into() }),
        }
    }
}

/// The cgroup v2 directory in which a process is; None: it is gone.
///
/// # Errors
/// When there is no hierarchy.
pub fn of_process(pid: u32) -> Result<Option<PathBuf>, CgroupError> {
    let mount = mount_point()?;
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok();
    Ok(text.and_then(|text| {
        let path = text.lines().find_map(|line| line.strip_prefix("0::/"))?;
        Some(mount.join(path.strip_suffix(" (deleted)").unwrap_or(path)))
    }))
}

/// Which child of `parent` a process is in, at any depth; None: none, or it is gone.
///
/// # Errors
/// When there is no hierarchy.
pub fn run_of_process(parent: &Cgroup, pid: u32) -> Result<Option<String>, CgroupError> {
    let path = of_process(pid)?;
    Ok(path.and_then(|path| {
        let below = path.strip_prefix(parent.path()).ok()?;
        Some(below.components().next()?.as_os_str().to_str()?.to_owned())
    }))
}

/// Whether a process is captured: by this agent, by another one, or by one that is dead. What cannot be told (the
/// process is gone) counts as captured.
#[must_use]
pub fn is_captured(pid: u32) -> bool {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok();
    let path = text.as_ref().and_then(|text| text.lines().find_map(|line| line.strip_prefix("0::/")));
    path.is_none_or(is_capture_path)
}

/// Whether a path below the hierarchy's root leads into a generation (`crewtap-<store>.<number>`).
fn is_capture_path(path: &str) -> bool {
    path.starts_with("crewtap-")
}

#[cfg(test)]
mod tests;
