//! The files of the authorities: one for each, certificate and key together, so that no half of one can be there.
//!
//! Never overwrites a file: whoever comes second takes what the first has made.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::AuthorityError;
use super::issuer::Issuing;

/// Largest file of an authority, in bytes; a P-256 certificate and its key have about 1,000.
const FILE_BYTES_MAX: u64 = 64 * 1024;

/// Which authority a file holds.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Kind {
    /// The one that overlays contain.
    Trusted,
    /// The one that none contains.
    Untrusted,
}

impl Kind {
    const fn prefix(self) -> &'static str {
        match self {
            Self::Trusted => "trusted-",
            Self::Untrusted => "untrusted-",
        }
    }
}

/// A directory that only its owner may enter.
pub(super) struct Store {
    directory: PathBuf,
}

impl Store {
    pub(super) fn open(directory: &Path) -> Result<Self, AuthorityError> {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(directory);
        made.map_err(io("make", directory))?;
        let metadata = fs::metadata(directory).map_err(io("read", directory))?;
        closed(directory, metadata.mode())?;
        Ok(Self { directory: directory.to_path_buf() })
    }

    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// The numbers of the authorities of a kind, ascending.
    pub(super) fn numbers(&self, kind: Kind) -> Result<Vec<u32>, AuthorityError> {
        let mut numbers = Vec::new();
        for entry in fs::read_dir(&self.directory).map_err(io("read", &self.directory))? {
            let name = entry.map_err(io("read", &self.directory))?.file_name();
            let number = name.to_str().and_then(|name| name.strip_prefix(kind.prefix())?.strip_suffix(".pem"));
            numbers.extend(number.and_then(|number| number.parse::<u32>().ok()));
        }
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// Reads one authority.
    pub(super) fn load(&self, kind: Kind, number: u32) -> Result<Issuing, AuthorityError> {
        let path = self.path(kind, number);
        let text = read(&path)?;
        Issuing::read(number, &text).map_err(|why| AuthorityError::Damaged { path, why })
    }

    /// Makes authority `number`, or takes it from whoever has made it meanwhile.
    pub(super) fn make(&self, kind: Kind, number: u32, now: i64) -> Result<Issuing, AuthorityError> {
        let text = Issuing::make(kind, number, now)?;
        let path = self.path(kind, number);
        self.place(&path, text.as_bytes()).map_err(io("write", &path))?;
        self.load(kind, number)
    }

    /// Removes the authorities before `number`: their keys are of no more use.
    pub(super) fn remove_before(&self, kind: Kind, number: u32) {
        for old in self.numbers(kind).unwrap_or_default().into_iter().filter(|old| *old < number) {
            for path in [self.path(kind, old), self.ssh_path(kind, old)] {
                match fs::remove_file(&path) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => {
                        tracing::warn!(path = %path.display(), %error, "an expired authority could not be removed");
                    }
                    _ => {}
                }
            }
        }
    }

    /// The text of the SSH side of an authority; none where it was not used yet.
    pub(super) fn ssh(&self, kind: Kind, number: u32) -> Result<Option<Zeroizing<Vec<u8>>>, AuthorityError> {
        match read(&self.ssh_path(kind, number)) {
            Err(AuthorityError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(None),
            text => text.map(Some),
        }
    }

    /// Places the SSH side of an authority, unless somebody else has done it meanwhile.
    pub(super) fn place_ssh(&self, kind: Kind, number: u32, text: &str) -> Result<(), AuthorityError> {
        let path = self.ssh_path(kind, number);
        self.place(&path, text.as_bytes()).map_err(io("write", &path))
    }

    pub(super) fn ssh_path(&self, kind: Kind, number: u32) -> PathBuf {
        self.directory.join(format!("ssh-{}{number}", kind.prefix()))
    }

    fn path(&self, kind: Kind, number: u32) -> PathBuf {
        self.directory.join(format!("{}{number}.pem", kind.prefix()))
    }

    /// Writes `bytes` to a file that nobody reads, then gives it its name unless the name is taken. Both survive a power
    /// cut once this returns.
    fn place(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let temporary = self.directory.join(format!(".new-{:016x}", unpredictable()?));
        let _remove = RemoveAtEnd(&temporary);
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        match fs::hard_link(&temporary, path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        File::open(&self.directory)?.sync_all()
    }
}

fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, AuthorityError> {
    let file = File::open(path).map_err(io("read", path))?;
    closed(path, file.metadata().map_err(io("read", path))?.mode())?;
    let mut text = Zeroizing::new(Vec::with_capacity(8192));
    file.take(FILE_BYTES_MAX).read_to_end(&mut text).map_err(io("read", path))?;
    Ok(text)
}

struct RemoveAtEnd<'a>(&'a Path);

impl Drop for RemoveAtEnd<'_> {
    fn drop(&mut self) {
        // What stays behind is a key that nobody trusts, readable by its owner only.
        let _ = fs::remove_file(self.0);
    }
}

fn unpredictable() -> io::Result<u64> {
    getrandom::u64().map_err(io::Error::other)
}

fn closed(path: &Path, mode: u32) -> Result<(), AuthorityError> {
    const OTHERS: u32 = 0o077;
    if mode & OTHERS == 0 {
        return Ok(());
    }
    Err(AuthorityError::Open { path: path.to_path_buf(), mode: mode & 0o7777 })
}

fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> AuthorityError {
    let path = path.to_path_buf();
    move |source| AuthorityError::Io { doing, path, source }
}
