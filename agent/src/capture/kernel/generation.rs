//! One start of an agent in the kernel: its parent cgroup, and the directory in bpffs with its pinned links. What a
//! dead agent left is another generation: it is left as it is until nobody is in it.

use super::{KernelError, KernelOptions};
use crate::capture::cgroup::{Cgroup, mount_point};
use nix::{
    mount::{MsFlags, mount},
    sys::statfs::{BPF_FS_MAGIC, statfs},
};
use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

/// The inode of the initial pid namespace (`include/linux/proc_ns.h`).
const INITIAL_PID_NAMESPACE: u64 = 0xEFFF_FFFC;

/// This agent's generation.
pub(super) struct Generation {
    cgroup: Cgroup,
    pins: PathBuf,
    store: PathBuf,
    prefix: String,
}

/// What a dead agent left behind.
#[derive(Debug)]
pub struct Stale {
    /// Its parent cgroup.
    pub parent: Cgroup,
    /// The cgroups of its runs, by name.
    pub runs: Vec<Cgroup>,
}

impl Generation {
    /// Makes a new generation: a free number, a parent cgroup of that name, an empty directory for pins.
    pub(super) fn create(options: &KernelOptions) -> Result<Self, KernelError> {
        let namespace = fs::metadata("/proc/self/ns/pid").map_err(KernelError::io("read /proc/self/ns/pid"))?;
        if namespace.ino() != INITIAL_PID_NAMESPACE {
            return Err(KernelError::Namespaced);
        }
        mount_bpffs(&options.bpffs)?;
        let store = options.bpffs.join("crewtap").join(&options.store);
        fs::create_dir_all(&store).map_err(KernelError::io("make the directory for pins"))?;
        let prefix = format!("crewtap-{}", options.store);
        for number in 1..=u32::MAX {
            let pins = store.join(number.to_string());
            let name = format!("{prefix}.{number}");
            if mount_point()?.join(&name).exists() {
                continue;
            }
            match fs::create_dir(&pins) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                Err(error) => return Err(KernelError::io("make the directory for pins")(error)),
            }
            let cgroup = Cgroup::create_at_root(&name)?;
            let generation = Self { cgroup, pins, store, prefix };
            generation.remove_empty_stale()?;
            return Ok(generation);
        }
        Err(KernelError::Object("free generation"))
    }

    pub(super) fn cgroup(&self) -> &Cgroup {
        &self.cgroup
    }

    pub(super) fn pins(&self) -> &Path {
        &self.pins
    }

    /// The generations of this store that are not this one: their number, pins, and parent cgroup if it is there.
    fn others(&self) -> Result<Vec<(PathBuf, Option<Cgroup>)>, KernelError> {
        let mut others = Vec::new();
        let root = mount_point()?;
        for entry in fs::read_dir(&self.store).map_err(KernelError::io("list the pins"))?.flatten() {
            let pins = entry.path();
            let Some(number) = pins.file_name().and_then(|name| name.to_str()) else { continue };
            if pins == self.pins {
                continue;
            }
            let name = format!("{}.{number}", self.prefix);
            let cgroup = if root.join(&name).is_dir() { Some(Cgroup::create_at_root(&name)?) } else { None };
            others.push((pins, cgroup));
        }
        Ok(others)
    }

    /// What dead agents left.
    pub(super) fn stale(&self) -> Result<Vec<Stale>, KernelError> {
        let mut stale = Vec::new();
        for (_, cgroup) in self.others()? {
            if let Some(parent) = cgroup {
                stale.push(Stale { runs: parent.children()?, parent });
            }
        }
        Ok(stale)
    }

    /// Removes what dead agents left and nobody is in: first the cgroup, then the pins, so that a captured process is
    /// never without programs.
    pub(super) fn remove_empty_stale(&self) -> Result<(), KernelError> {
        for (pins, cgroup) in self.others()? {
            if let Some(cgroup) = cgroup
                && (cgroup.is_populated()? || cgroup.remove().is_err())
            {
                continue;
            }
            remove_pins(&pins)?;
        }
        Ok(())
    }

    /// Removes this generation's pins: everything is detached. The store's directory goes with its last generation.
    pub(super) fn remove_pins(&self) -> Result<(), KernelError> {
        remove_pins(&self.pins)?;
        let _ = fs::remove_dir(&self.store);
        Ok(())
    }
}

fn remove_pins(directory: &Path) -> Result<(), KernelError> {
    let remove = || -> io::Result<()> {
        for entry in fs::read_dir(directory)? {
            fs::remove_file(entry?.path())?;
        }
        fs::remove_dir(directory)
    };
    remove().map_err(KernelError::io("remove the pins"))
}

/// Mounts bpffs where it is missing.
fn mount_bpffs(at: &Path) -> Result<(), KernelError> {
    if statfs(at).is_ok_and(|found| found.filesystem_type() == BPF_FS_MAGIC) {
        return Ok(());
    }
    mount(Some("bpf"), at, Some("bpf"), MsFlags::empty(), Some("mode=0700"))
        .map_err(|errno| KernelError::Io { action: "mount bpffs at /sys/fs/bpf", source: errno.into() })
}
