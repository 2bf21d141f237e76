//! The place from which files are laid into a run's mount namespace: a tmpfs that no other process ever sees.
//!
//! Owns one thread's two namespaces (its own with the tmpfs, the run's) and what is mounted from the one into the
//! other. Never writes outside of its tmpfs, and never mounts over a path: only over what it has opened before.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use nix::unistd::{Gid, Uid, fchdir, fchown};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, ResolveFlags, fchmod, mkdirat, openat, openat2, symlinkat};
use rustix::mount::{MoveMountFlags, OpenTreeFlags, move_mount, open_tree};

use super::Bundles;

/// Source of the mounts that are laid, as `/proc/PID/mountinfo` shows it.
pub const SOURCE: &str = "crewtap-overlay";

/// Source of the mounts of files that the run may write to.
pub const SOURCE_WRITABLE: &str = "crewtap-known-hosts";

/// Bytes of one bundle or keystore; the largest known has 300 KB.
const BUNDLE_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// What one run's laid files may take of the memory, and how many there may be.
const TMPFS_OPTIONS: &str = "mode=0755,size=128m,nr_inodes=32k";

/// The same for what the run may write itself.
const TMPFS_WRITABLE_OPTIONS: &str = "mode=0700,size=64m,nr_inodes=1k";

/// Bundles of one run that are laid at one time.
const LAID_MAX: usize = 4096;

/// Why something could not be laid.
#[derive(Debug, thiserror::Error)]
pub enum LayError {
    /// It is not there.
    #[error("it is not there")]
    Missing,
    /// It is there, but is no file of certificates, so that it is left as it is.
    #[error("it is {0}, so it stays as it is")]
    Unfit(&'static str),
    /// The keystore.
    #[error(transparent)]
    Keystore(#[from] super::keystore::KeystoreError),
    /// The kernel.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl From<nix::Error> for LayError {
    fn from(errno: nix::Error) -> Self {
        Self::Io(errno.into())
    }
}

impl From<rustix::io::Errno> for LayError {
    fn from(errno: rustix::io::Errno) -> Self {
        match errno {
            rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR => Self::Missing,
            errno => Self::Io(errno.into()),
        }
    }
}

/// Which file it is, as long as nobody writes to it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Identity {
    device: u64,
    inode: u64,
    size: u64,
    changed: (i64, i64),
}

impl From<&fs::Metadata> for Identity {
    fn from(found: &fs::Metadata) -> Self {
        Self {
            device: found.dev(),
            inode: found.ino(),
            size: found.size(),
            changed: (found.ctime(), found.ctime_nsec()),
        }
    }
}

/// Something in the run that was opened without touching it: its place and what is there.
pub(super) struct Place {
    fd: OwnedFd,
    pub(super) path: PathBuf,
    pub(super) found: fs::Metadata,
}

/// See the module.
pub(super) struct Ground {
    own: File,
    run: File,
    /// `/proc` of the agent, the working directory of this thread: the run's own may be a forgery.
    proc: OwnedFd,
    /// Where files are written.
    files: OwnedFd,
    /// The same, as it is laid: read-only.
    laid_root: OwnedFd,
    /// Where files are that the run may write to: of another tmpfs, so that a run that fills it fills only that.
    writable: OwnedFd,
    /// Device numbers of both: whatever has one was laid by this.
    devices: [u64; 2],
    next: u64,
    /// Made for an original, to be laid wherever the same file appears (hard links).
    made: HashMap<Identity, String>,
    /// How many mounts there are.
    count: usize,
    /// Told of what is laid.
    bundles: Bundles,
}

impl Ground {
    /// Takes this thread into the mount namespace `run`, for good. To be called on a thread of its own.
    ///
    /// # Errors
    /// When the kernel refuses, or `run` is the agent's own namespace.
    pub(super) fn enter(run: File, bundles: Bundles) -> Result<Self, LayError> {
        let host = fs::metadata("/proc/self/ns/mnt")?.ino();
        if run.metadata()?.ino() == host {
            return Err(LayError::Unfit("the namespace that all processes of this host share"));
        }
        unshare(CloneFlags::CLONE_FS | CloneFlags::CLONE_NEWNS)?;
        let nothing = None::<&str>;
        // Slave, not private: what the host unmounts must not live on here.
        mount(nothing, "/", nothing, MsFlags::MS_REC | MsFlags::MS_SLAVE, nothing)?;
        let proc = openat(CWD, "/proc", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        let closed = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
        // Any directory will do: nobody but this thread is in this namespace, and it goes on by descriptors.
        mount(Some(SOURCE), "/dev", Some("tmpfs"), closed, Some(TMPFS_OPTIONS))?;
        let files = openat(CWD, "/dev", OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        mount(Some("/dev"), "/sys", nothing, MsFlags::MS_BIND, nothing)?;
        let again = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY;
        mount(nothing, "/sys", nothing, again | closed, nothing)?;
        let laid_root = openat(CWD, "/sys", OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        mount(Some(SOURCE_WRITABLE), "/sys", Some("tmpfs"), closed, Some(TMPFS_WRITABLE_OPTIONS))?;
        let writable = openat(CWD, "/sys", OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        let devices = [rustix::fs::fstat(&files)?.st_dev, rustix::fs::fstat(&writable)?.st_dev];
        let own = File::open("/proc/thread-self/ns/mnt")?;
        let (next, made, count) = (0, HashMap::new(), 0);
        let ground = Self { own, run, proc, files, laid_root, writable, devices, next, made, count, bundles };
        ground.go_to_run()?;
        Ok(ground)
    }

    fn go_to_run(&self) -> io::Result<()> {
        setns(&self.run, CloneFlags::CLONE_NEWNS)?;
        // setns has put the working directory to the root of the run.
        fchdir(&self.proc)?;
        Ok(())
    }

    /// Opens what is at an absolute path of the run, following links, without touching it.
    pub(super) fn find(path: &Path) -> Result<Place, LayError> {
        let how = OFlags::PATH | OFlags::CLOEXEC;
        let fd = openat2(CWD, path, how, Mode::empty(), ResolveFlags::NO_MAGICLINKS)?;
        Self::place(fd)
    }

    fn place(fd: OwnedFd) -> Result<Place, LayError> {
        let path = fs::read_link(of_descriptor(&fd))?;
        let file = File::from(fd);
        let found = file.metadata()?;
        Ok(Place { fd: file.into(), path, found })
    }

    /// Whether this is what was laid, and not the run's own.
    pub(super) fn is_laid(&self, found: &fs::Metadata) -> bool {
        self.devices.contains(&found.dev())
    }

    /// The content of a regular file of certificates; a device or a pipe is never opened.
    pub(super) fn read(place: &Place) -> Result<Vec<u8>, LayError> {
        if !place.found.is_file() {
            return Err(LayError::Unfit("no regular file"));
        }
        if place.found.size() > BUNDLE_BYTES_MAX {
            return Err(LayError::Unfit("larger than 16 MiB"));
        }
        place.refuse_list()?;
        let how = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let fd = openat(CWD, of_descriptor(&place.fd), how, Mode::empty())?;
        let mut content = Vec::new();
        File::from(fd).take(BUNDLE_BYTES_MAX + 1).read_to_end(&mut content)?;
        if content.len() as u64 > BUNDLE_BYTES_MAX {
            return Err(LayError::Unfit("larger than 16 MiB"));
        }
        Ok(content)
    }

    /// Lays what `make` makes of the content of a file over that file; a file that is laid already stays. The copy has
    /// the owner and the mode of the original: who could not read that one reads nothing new.
    pub(super) fn lay_file(
        &mut self,
        place: &Place,
        make: impl FnOnce(Vec<u8>) -> Result<Vec<u8>, LayError>,
    ) -> Result<(), LayError> {
        if self.is_laid(&place.found) {
            return Ok(());
        }
        let identity = Identity::from(&place.found);
        let name = if let Some(name) = self.made.get(&identity) {
            name.clone()
        } else {
            let content = make(Self::read(place)?)?;
            let name = self.fresh("file");
            if let Err(error) = write_file(self.files.as_fd(), &name, &content, &place.found) {
                self.discard(&name);
                return Err(error);
            }
            self.made.insert(identity, name.clone());
            name
        };
        self.attach(&name, place)
    }

    /// The original of a bundle that is laid vouches for targets towards this run.
    pub(super) fn remember(&self, place: &Place) {
        self.bundles.add(&place.path);
    }

    /// A new empty directory to be filled and laid over `place`; its name, and itself.
    pub(super) fn make_directory(&mut self, place: &Place) -> Result<(String, OwnedFd), LayError> {
        place.refuse_list()?;
        let name = self.fresh("directory");
        let directory = make_directory(self.files.as_fd(), &name, &place.found)?;
        Ok((name, directory))
    }

    /// As [`Ground::lay_file`], for a file that the run is to write to; what it writes is gone with the run.
    pub(super) fn lay_writable(&mut self, place: &Place, make: impl FnOnce(&[u8]) -> Vec<u8>) -> Result<(), LayError> {
        if self.is_laid(&place.found) {
            return Ok(());
        }
        let content = make(&Self::read(place)?);
        let name = self.fresh("file");
        write_file(self.writable.as_fd(), &name, &content, &place.found)
            .and_then(|()| self.attach_from(Root::Writable, &name, place))
            .inspect_err(|_| {
                // Not laid, it is of no use; that it stays is known by nobody.
                let _stays = rustix::fs::unlinkat(&self.writable, &name, AtFlags::empty());
            })
    }

    /// Puts what was at `original` before into the place of the empty file or directory at `path` that was laid.
    pub(super) fn show_original(original: &Place, path: &Path) -> Result<(), LayError> {
        let how = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let at = openat2(CWD, path, how, Mode::empty(), resolve)?;
        let flags = OpenTreeFlags::OPEN_TREE_CLONE
            | OpenTreeFlags::OPEN_TREE_CLOEXEC
            | OpenTreeFlags::AT_EMPTY_PATH
            | OpenTreeFlags::AT_RECURSIVE;
        let cloned = open_tree(&original.fd, "", flags)?;
        let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
        Ok(move_mount(&cloned, "", &at, "", flags)?)
    }

    fn fresh(&mut self, kind: &str) -> String {
        self.next += 1;
        format!("{kind}-{}", self.next)
    }

    /// Takes what was made in vain out of the tmpfs, which a run could fill with it otherwise.
    pub(super) fn discard(&self, name: &str) {
        let path = of_descriptor(&self.files).join(name);
        let is_directory = fs::symlink_metadata(&path).is_ok_and(|found| found.is_dir());
        let removed = if is_directory { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        if let Err(error) =
            removed.or_else(|error| if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) })
        {
            tracing::debug!(%error, name, "a copy that was not laid stays");
        }
    }

    /// Lays what was made under `name` over `place`.
    pub(super) fn attach(&mut self, name: &str, place: &Place) -> Result<(), LayError> {
        self.attach_from(Root::Laid, name, place)
    }

    fn attach_from(&mut self, root: Root, name: &str, place: &Place) -> Result<(), LayError> {
        if self.count >= LAID_MAX {
            return Err(LayError::Unfit("one bundle more than a run may have laid"));
        }
        // A tree can be cloned only in its own namespace, and attached only in the other.
        setns(&self.own, CloneFlags::CLONE_NEWNS)?;
        let root = match root {
            Root::Laid => &self.laid_root,
            Root::Writable => &self.writable,
        };
        let cloned = open_tree(root, name, OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC);
        self.go_to_run()?;
        let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
        move_mount(&cloned?, "", &place.fd, "", flags)?;
        self.count += 1;
        Ok(())
    }

    /// Takes away what was laid at a path, so that the run's own file can be replaced; false when nothing of ours is
    /// there.
    pub(super) fn lift(&mut self, path: &Path) -> Result<bool, LayError> {
        let how = OFlags::PATH | OFlags::CLOEXEC;
        // The path was resolved when it was laid: a link in it now is somebody's trick.
        let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let fd = match openat2(CWD, path, how, Mode::empty(), resolve) {
            Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR | rustix::io::Errno::LOOP) => return Ok(false),
            opened => opened?,
        };
        if !self.devices.contains(&rustix::fs::fstat(&fd)?.st_dev) {
            return Ok(false);
        }
        umount2(&of_descriptor(&fd), MntFlags::MNT_DETACH)?;
        self.count = self.count.saturating_sub(1);
        Ok(true)
    }
}

/// Where what is laid comes from.
#[derive(Clone, Copy)]
enum Root {
    /// Read-only.
    Laid,
    /// The run may write to it.
    Writable,
}

/// Relative to the agent's `/proc`, which is this thread's working directory.
fn of_descriptor(fd: &impl AsRawFd) -> PathBuf {
    PathBuf::from(format!("thread-self/fd/{}", fd.as_raw_fd()))
}

/// A file of the tmpfs with this content, and owner and mode of `like`.
pub(super) fn write_file(
    directory: BorrowedFd<'_>,
    name: &str,
    content: &[u8],
    like: &fs::Metadata,
) -> Result<(), LayError> {
    let how = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut file = File::from(openat(directory, name, how, Mode::from_raw_mode(0o600))?);
    file.write_all(content)?;
    take_owner(&file, like)
}

/// A directory of the tmpfs with owner and mode of `like`.
pub(super) fn make_directory(parent: BorrowedFd<'_>, name: &str, like: &fs::Metadata) -> Result<OwnedFd, LayError> {
    mkdirat(parent, name, Mode::from_raw_mode(0o700))?;
    let how = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = File::from(openat(parent, name, how, Mode::empty())?);
    take_owner(&directory, like)?;
    Ok(directory.into())
}

fn take_owner(file: &File, like: &fs::Metadata) -> Result<(), LayError> {
    fchown(file, Some(Uid::from_raw(like.uid())), Some(Gid::from_raw(like.gid())))?;
    // A file may take its owner from a directory.
    let all = if file.metadata()?.is_dir() { 0o777 } else { 0o666 };
    fchmod(file, Mode::from_raw_mode(like.mode() & all))?;
    Ok(())
}

/// One entry of a directory of the run.
pub(super) struct Entry {
    pub(super) name: String,
    pub(super) place: Place,
}

impl Ground {
    /// What is in a directory, links as links, `most` entries at most; names that are no UTF-8 are left out.
    pub(super) fn entries(directory: &Place, most: usize) -> Result<Vec<Entry>, LayError> {
        let opened = openat(
            CWD,
            of_descriptor(&directory.fd),
            OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC,
            Mode::empty(),
        )?;
        let mut found = Vec::new();
        for entry in rustix::fs::Dir::read_from(&opened)? {
            let entry = entry?;
            let Ok(name) = entry.file_name().to_str() else { continue };
            if name == "." || name == ".." {
                continue;
            }
            if found.len() >= most {
                return Err(LayError::Unfit("a directory with too many entries"));
            }
            let how = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            match openat(&opened, name, how, Mode::empty()) {
                Ok(fd) => found.push(Entry { name: name.to_owned(), place: Self::place(fd)? }),
                Err(rustix::io::Errno::NOENT) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(found)
    }
}

impl Place {
    /// An access control list says more than the mode that the copy gets.
    fn refuse_list(&self) -> Result<(), LayError> {
        let mut list = [0u8; 1];
        match rustix::fs::getxattr(of_descriptor(&self.fd), "system.posix_acl_access", &mut list) {
            Ok(_) | Err(rustix::io::Errno::RANGE) => Err(LayError::Unfit("under an access control list")),
            Err(_) => Ok(()),
        }
    }

    /// Where a link leads, as it is spelled.
    pub(super) fn link(&self) -> Result<PathBuf, LayError> {
        let target = rustix::fs::readlinkat(&self.fd, "", Vec::new())?;
        Ok(Path::new(std::ffi::OsStr::from_bytes(target.as_bytes())).to_path_buf())
    }
}

/// A link in a directory of the tmpfs.
pub(super) fn make_link(directory: BorrowedFd<'_>, name: &str, target: &Path) -> Result<(), LayError> {
    Ok(symlinkat(target, directory, name)?)
}

/// Whether a directory of the tmpfs has an entry of this name.
pub(super) fn has(directory: BorrowedFd<'_>, name: &str) -> bool {
    rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW).is_ok()
}
