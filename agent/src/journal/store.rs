//! The data directory: who may read it, who writes it, its id and its keys.
//!
//! Never touches records. Everything is made 0750/0640 root:crewtap (keys 0700/0600) by explicit modes, so that
//! the umask of whoever starts the agent does not matter.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use crewtap_core::chain::note::{SignerKey, VerifierKey};
use crewtap_core::id::Ulid;
use crewtap_core::mask::digest::DigestKey;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::unistd::{Gid, Group, fchown};
use zeroize::Zeroizing;

use super::JournalError;

/// The group whose members may read evidence.
pub const GROUP: &str = "crewtap";

/// Paths of a data directory, and how files are made in it.
#[derive(Clone, Debug)]
pub struct Layout {
    root: PathBuf,
    group: Option<Gid>,
}

impl Layout {
    /// Of a data directory that may not exist yet.
    #[must_use]
    pub fn new(data_dir: &Path) -> Self {
        let group = Group::from_name(GROUP).ok().flatten().map(|group| group.gid);
        Self { root: data_dir.into(), group }
    }

    /// The segments' directory.
    #[must_use]
    pub fn journal(&self) -> PathBuf {
        self.root.join("journal")
    }

    /// The tiles' directory.
    #[must_use]
    pub fn tiles(&self) -> PathBuf {
        self.journal().join("tile")
    }

    /// The newest checkpoint.
    #[must_use]
    pub fn checkpoint(&self) -> PathBuf {
        self.journal().join("checkpoint")
    }

    /// All checkpoints, one after the other.
    #[must_use]
    pub fn history(&self) -> PathBuf {
        self.journal().join("checkpoints")
    }

    /// A segment by its first record.
    #[must_use]
    pub fn segment(&self, first: u64) -> PathBuf {
        self.journal().join(segment_name(first))
    }

    /// Where the next segment waits.
    #[must_use]
    pub fn spare(&self) -> PathBuf {
        self.journal().join("spare")
    }

    /// Where a segment is made that is needed at once.
    #[must_use]
    pub(super) fn spare_now(&self) -> PathBuf {
        self.journal().join("spare.now")
    }

    /// Where a segment is sealed, before it takes the plain one's place.
    #[must_use]
    pub(super) fn sealing(&self) -> PathBuf {
        self.journal().join("sealing")
    }

    /// The store's public key.
    #[must_use]
    pub fn host_pub(&self) -> PathBuf {
        self.root.join("host.pub")
    }

    /// The lock file.
    #[must_use]
    pub fn lock(&self) -> PathBuf {
        self.root.join("lock")
    }

    /// Pid of the agent that writes to this store at the moment; none where there is no such agent.
    #[must_use]
    pub fn holder(&self) -> Option<u32> {
        let file = File::open(self.lock()).ok().filter(|_| Lock::is_held(self))?;
        holder(&file).parse().ok()
    }

    pub(super) fn host_key(&self) -> PathBuf {
        self.keys().join("host.key")
    }

    fn keys(&self) -> PathBuf {
        self.root.join("keys")
    }

    /// Makes the directories that are missing.
    pub(super) fn create(&self) -> Result<(), JournalError> {
        for dir in [self.root.clone(), self.journal(), self.tiles()] {
            self.create_dir(&dir, 0o750, self.group)?;
        }
        self.create_dir(&self.keys(), 0o700, None)
    }

    /// Makes a directory for readers of the group, with its parents below the data directory.
    pub(super) fn create_dirs(&self, path: &Path) -> io::Result<()> {
        if path.is_dir() || !path.starts_with(&self.root) {
            return Ok(());
        }
        path.parent().map_or(Ok(()), |parent| self.create_dirs(parent))?;
        self.make_dir(path, 0o750, self.group)
    }

    fn create_dir(&self, path: &Path, mode: u32, group: Option<Gid>) -> Result<(), JournalError> {
        self.make_dir(path, mode, group).map_err(|e| JournalError::io("create the directory", path, e))
    }

    fn make_dir(&self, path: &Path, mode: u32, group: Option<Gid>) -> io::Result<()> {
        match DirBuilder::new().mode(mode).create(path) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
            Err(e) if e.kind() == io::ErrorKind::NotFound && path == self.root => {
                fs::create_dir_all(path)?;
            }
            outcome => outcome?,
        }
        let dir = File::open(path)?;
        give(&dir, mode, group)
    }

    /// Creates or opens a file for readers of the group.
    pub(super) fn file(&self, path: &Path, options: &mut OpenOptions) -> io::Result<File> {
        let file = options.mode(0o640).open(path)?;
        give(&file, 0o640, self.group)?;
        Ok(file)
    }

    /// Replaces a file at once: readers see the old bytes or the new ones, also after a power cut.
    pub(super) fn replace(&self, path: &Path, bytes: &[u8], sync: bool) -> io::Result<()> {
        let fresh = path.with_extension("new");
        let mut file = self.file(&fresh, OpenOptions::new().write(true).create(true).truncate(true))?;
        file.write_all(bytes)?;
        if sync {
            file.sync_data()?;
        }
        fs::rename(&fresh, path)?;
        if sync { sync_dir(path) } else { Ok(()) }
    }
}

/// Name of the segment that begins with a record.
pub(super) fn segment_name(first: u64) -> String {
    format!("{first:020}.seg")
}

/// The first record of a segment by its name; none for other files.
pub(super) fn segment_first(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".seg")?;
    if digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit()) { digits.parse().ok() } else { None }
}

/// Makes a new or renamed entry of its directory survive a power cut.
pub(super) fn sync_dir(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |parent| File::open(parent)?.sync_all())
}

fn give(file: &File, mode: u32, group: Option<Gid>) -> io::Result<()> {
    file.set_permissions(fs::Permissions::from_mode(mode))?;
    match group.map_or(Ok(()), |group| fchown(file, None, Some(group))) {
        // A user without the right to give files away keeps a store of his own.
        Err(Errno::EPERM) | Ok(()) => Ok(()),
        Err(e) => Err(e.into()),
    }
}

/// The lock of the one agent that writes; gone with the process, however it ends.
#[derive(Debug)]
pub struct Lock {
    file: File,
}

impl Drop for Lock {
    /// A child that was forked and has not executed its program yet shares the lock: closing the file would not do.
    fn drop(&mut self) {
        let _ = fcntl(&self.file, FcntlArg::F_OFD_SETLK(&whole(libc::F_UNLCK)));
    }
}

impl Lock {
    /// Takes the lock.
    pub(super) fn take(layout: &Layout) -> Result<Self, JournalError> {
        let path = layout.lock();
        let io_error = |e| JournalError::io("take the lock", &path, e);
        let mut options = OpenOptions::new();
        let file = layout.file(&path, options.read(true).write(true).create(true)).map_err(io_error)?;
        match fcntl(&file, FcntlArg::F_OFD_SETLK(&whole(libc::F_WRLCK))) {
            Ok(_) => {}
            Err(Errno::EAGAIN | Errno::EACCES) => {
                return Err(JournalError::InUse { path, pid: holder(&file) });
            }
            Err(e) => return Err(io_error(e.into())),
        }
        file.set_len(0).map_err(io_error)?;
        (&file).write_all(format!("{}\n", std::process::id()).as_bytes()).map_err(io_error)?;
        Ok(Self { file })
    }

    /// Whether an agent writes to this store at the moment; asked without getting in its way.
    #[must_use]
    pub fn is_held(layout: &Layout) -> bool {
        let Ok(file) = File::open(layout.lock()) else { return false };
        let mut lock = whole(libc::F_RDLCK);
        fcntl(&file, FcntlArg::F_OFD_GETLK(&mut lock)).is_ok() && i32::from(lock.l_type) != libc::F_UNLCK
    }
}

fn holder(mut file: &File) -> String {
    let mut text = String::new();
    match file.read_to_string(&mut text) {
        Ok(_) if !text.trim().is_empty() => text.trim().to_owned(),
        _ => "unknown".into(),
    }
}

fn whole(kind: i32) -> libc::flock {
    #[expect(clippy::cast_possible_truncation, reason = "the constants are 0, 1 and 2")]
    libc::flock { l_type: kind as i16, l_whence: 0, l_start: 0, l_len: 0, l_pid: 0 }
}

/// The keys of a store.
pub struct Keys {
    /// Signs checkpoints.
    pub signer: SignerKey,
    /// Digests clear values.
    pub store: DigestKey,
}

impl Keys {
    /// Reads the keys, or makes them for a store without records.
    pub(super) fn open(layout: &Layout, empty: bool) -> Result<Self, JournalError> {
        let (host, store) = (layout.host_key(), layout.keys().join("store.key"));
        let public = layout.host_pub();
        if empty && !public.exists() {
            make_key(&host)?;
            make_key(&store)?;
            let signer = SignerKey::new(Ulid::generate(), &*read_key(&host)?);
            layout
                .replace(&public, signer.verifier().to_line().as_bytes(), true)
                .map_err(|e| JournalError::io("write the public key", &public, e))?;
        }
        let line =
            fs::read_to_string(&public).map_err(|e| JournalError::io("read the store's public key", &public, e))?;
        let verifier =
            VerifierKey::from_line(&line).map_err(|e| JournalError::Tampered(format!("{}: {e}", public.display())))?;
        let signer = SignerKey::new(verifier.store(), &*read_key(&host)?);
        if signer.verifier() != verifier {
            return Err(JournalError::Tampered(format!(
                "{} does not belong to the key in {}",
                public.display(),
                host.display()
            )));
        }
        Ok(Self { signer, store: DigestKey::new(&*read_key(&store)?) })
    }
}

fn make_key(path: &Path) -> Result<(), JournalError> {
    let mut seed = Zeroizing::new([0; 32]);
    let written = getrandom::fill(&mut *seed).map_err(io::Error::from).and_then(|()| {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
        give(&file, 0o600, None)?;
        file.write_all(&*seed)?;
        file.sync_all()?;
        sync_dir(path)
    });
    written.map_err(|e| JournalError::io("make the key", path, e))
}

pub(super) fn read_key(path: &Path) -> Result<Zeroizing<[u8; 32]>, JournalError> {
    let mut seed = Zeroizing::new([0; 32]);
    File::open(path)
        .and_then(|mut file| file.read_exact(&mut *seed))
        .map_err(|e| JournalError::io("read the key", path, e))?;
    Ok(seed)
}
