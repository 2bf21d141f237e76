//! One start of an agent in the kernel: its parent cgroup, and the directory in bpffs with its pinned links. What a
//! dead agent left is another generation: it is left as it is until nobody is in it.

use super::foreign::{self, Held};
use super::{KernelError, KernelOptions};
use crate::capture::cgroup::{Cgroup, HOST_ROOT, mount_if_missing, mount_point};
use nix::{
    mount::{MsFlags, mount},
    sys::statfs::{BPF_FS_MAGIC, statfs},
};
use std::{
    collections::BTreeSet,
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
    /// Says that this process lives.
    _held: Held,
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
        mount_if_missing()?;
        let all = bpffs(&options.bpffs)?.join("crewtap");
        let store = all.join(&options.store);
        let refused = || KernelError::io("make the directory for pins");
        fs::create_dir_all(&all).map_err(refused())?;
        // One at a time: what has just been made is not yet held, and looks dead.
        let _turn = foreign::turn(&all).map_err(refused())?;
        fs::create_dir_all(&store).map_err(refused())?;
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
                Err(error) => return Err(refused()(error)),
            }
            let Some(held) = foreign::hold(&pins).map_err(refused())? else { continue };
            let cgroup = Cgroup::create_at_root(&name)?;
            let generation = Self { cgroup, pins, store, prefix, _held: held };
            generation.remove_empty_stale()?;
            foreign::remove_dead(&all, &generation.store);
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

    /// The generations of this store that are not this one: their pins, and parent cgroup if it is there. One whose
    /// bpffs went with its mount namespace has a cgroup alone.
    fn others(&self) -> Result<Vec<(PathBuf, Option<Cgroup>)>, KernelError> {
        let root = mount_point()?;
        let names = |directory: &Path| -> Result<Vec<String>, KernelError> {
            let entries = fs::read_dir(directory).map_err(KernelError::io("list what dead agents left"))?;
            Ok(entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect())
        };
        let mut numbers: BTreeSet<String> = names(&self.store)?.into_iter().collect();
        let number = |name: String| name.strip_prefix(&self.prefix)?.strip_prefix('.').map(str::to_owned);
        numbers.extend(names(&root)?.into_iter().filter_map(number));
        let mut others = Vec::new();
        for number in numbers {
            let pins = self.store.join(&number);
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
        // It stays where a dead agent's processes are left; the next one sees to them.
        let _not_empty = fs::remove_dir(&self.store);
        Ok(())
    }
}

/// Detaches what is pinned in a directory, and removes it.
pub(super) fn remove_pins(directory: &Path) -> Result<(), KernelError> {
    if !directory.exists() {
        return Ok(());
    }
    let remove = || -> io::Result<()> {
        for entry in fs::read_dir(directory)? {
            fs::remove_file(entry?.path())?;
        }
        fs::remove_dir(directory)
    };
    remove().map_err(KernelError::io("remove the pins"))
}

/// Where bpffs is: at its place, or where process 1 has it, or mounted now. In a private mount namespace that lasts as
/// long as the captured processes, which are started from there.
fn bpffs(at: &Path) -> Result<PathBuf, KernelError> {
    let of_host = Path::new(HOST_ROOT).join(at.strip_prefix("/").unwrap_or(at));
    let is_bpffs = |path: &Path| statfs(path).is_ok_and(|found| found.filesystem_type() == BPF_FS_MAGIC);
    if let Some(found) = [at, &of_host].into_iter().find(|path| is_bpffs(path)) {
        return Ok(found.to_owned());
    }
    mount(Some("bpf"), at, Some("bpf"), MsFlags::empty(), Some("mode=0700"))
        .map_err(|errno| KernelError::Io { action: "mount bpffs at /sys/fs/bpf", source: errno.into() })?;
    Ok(at.to_owned())
}
