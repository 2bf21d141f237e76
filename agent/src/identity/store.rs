//! The file of logins: one, beside journal and index, that only root can read.
//!
//! Owns its form and its modes. Never exports it, and never lets a token out but as a secret.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crewtap_core::identity::Way;
use crewtap_core::secret::Secret;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::caller::Key;
use super::claims::Person;
use super::session::Session;

/// Its name in the data directory.
pub const FILE_NAME: &str = "logins.json";

/// Its form.
const VERSION: u8 = 1;

/// Largest file that is read, in bytes.
const BYTES_MAX: u64 = 256 * 1024 * 1024;

/// Logins that cannot be kept or read.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file.
    #[error("cannot keep logins in {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Others could read it, or it is not what it should be.
    #[error("{path} {what}: remove it, and log in again")]
    Shape {
        /// The file.
        path: PathBuf,
        /// What it is.
        what: &'static str,
    },
}

/// A login as it stands in the file.
#[derive(Serialize, Deserialize)]
struct Kept<P, T> {
    uid: u32,
    session: String,
    provider: String,
    issuer: String,
    person: P,
    way: Way,
    since: u64,
    ends: u64,
    expires: u64,
    checked: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    refresh: Option<T>,
    #[serde(skip_serializing_if = "Option::is_none")]
    access: Option<T>,
}

#[derive(Serialize, Deserialize)]
struct Whole<L> {
    v: u8,
    /// Numbers of login sessions and processes begin anew with each boot.
    boot: String,
    logins: Vec<L>,
}

/// Where logins are kept.
#[derive(Clone, Debug)]
pub struct Store {
    path: PathBuf,
    boot: String,
    /// Bytes.
    most: u64,
}

impl Store {
    /// The one of a data directory.
    #[must_use]
    pub fn new(data_dir: &Path) -> Self {
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        Self { path: data_dir.join(FILE_NAME), boot: boot.trim().to_owned(), most: BYTES_MAX }
    }

    fn failed(&self) -> impl FnOnce(io::Error) -> StoreError {
        |source| StoreError::Io { path: self.path.clone(), source }
    }

    fn shape(&self, what: &'static str) -> StoreError {
        StoreError::Shape { path: self.path.clone(), what }
    }

    /// What is kept, of this boot. No file is no login.
    ///
    /// # Errors
    /// When it cannot be read, or others could have.
    pub fn load(&self) -> Result<Vec<Session>, StoreError> {
        let file = OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC).open(&self.path);
        let file = match file {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            file => file.map_err(self.failed())?,
        };
        let found = file.metadata().map_err(self.failed())?;
        if !found.is_file() || found.uid() != nix::unistd::geteuid().as_raw() || found.mode() & 0o077 != 0 {
            return Err(self.shape("is not root's alone"));
        }
        if found.len() > self.most {
            return Err(self.shape("is too large"));
        }
        // As large as it will be: a buffer that grows leaves copies behind.
        let size = usize::try_from(found.len()).unwrap_or_default();
        let mut bytes = Zeroizing::new(Vec::with_capacity(size.saturating_add(1)));
        file.take(self.most).read_to_end(&mut bytes).map_err(self.failed())?;
        let whole: Whole<Kept<Person, String>> =
            serde_json::from_slice(&bytes).map_err(|_| self.shape("is no file of logins"))?;
        if whole.v != VERSION || whole.boot != self.boot {
            return Ok(Vec::new());
        }
        Ok(whole.logins.into_iter().filter_map(of_kept).collect())
    }

    /// Keeps these and no others: whole, or as it was before.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn save<'s>(&self, sessions: impl Iterator<Item = &'s Session>) -> Result<(), StoreError> {
        let logins: Vec<Kept<&Person, &str>> = sessions.map(kept).collect();
        let size = logins.iter().map(|one| {
            let tokens = one.refresh.map_or(0, str::len) + one.access.map_or(0, str::len);
            let groups: usize = one.person.groups.iter().map(|group| 6 * group.len() + 3).sum();
            2 * tokens + groups + 8192
        });
        let mut bytes = Zeroizing::new(Vec::with_capacity(size.sum::<usize>() + 1024));
        let whole = Whole { v: VERSION, boot: self.boot.clone(), logins };
        serde_json::to_writer(&mut *bytes, &whole).map_err(io::Error::other).map_err(self.failed())?;
        // What could not be read again would keep the next agent from beginning at all.
        if u64::try_from(bytes.len()).is_ok_and(|len| len > self.most) {
            return Err(self.failed()(io::Error::other(format!("it would have more than {} bytes", self.most))));
        }
        self.replace(&bytes).map_err(self.failed())
    }

    fn replace(&self, bytes: &[u8]) -> io::Result<()> {
        let beside = self.path.with_extension("json.new");
        match fs::remove_file(&beside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(0o600).custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC);
        let mut file = options.open(&beside)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&beside, &self.path)?;
        match self.path.parent() {
            Some(directory) => File::open(directory)?.sync_all(),
            None => Ok(()),
        }
    }
}

fn kept(session: &Session) -> Kept<&Person, &str> {
    Kept {
        uid: session.key.uid,
        session: session.key.session.to_string(),
        provider: session.provider.clone(),
        issuer: session.issuer.clone(),
        person: &session.person,
        way: session.way,
        since: session.since,
        ends: session.ends,
        expires: session.expires,
        checked: session.checked,
        refresh: text(session.refresh.as_ref()),
        access: text(session.access.as_ref()),
    }
}

fn text(secret: Option<&Secret>) -> Option<&str> {
    std::str::from_utf8(secret?.expose()).ok()
}

fn of_kept(kept: Kept<Person, String>) -> Option<Session> {
    let secret = |text: String| Secret::new(text.into_bytes());
    Some(Session {
        key: Key { uid: kept.uid, session: kept.session.parse().ok()? },
        provider: kept.provider,
        issuer: kept.issuer,
        person: kept.person,
        way: kept.way,
        since: kept.since,
        ends: kept.ends,
        expires: kept.expires,
        checked: kept.checked,
        refresh: kept.refresh.map(secret),
        access: kept.access.map(secret),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn what_could_not_be_read_again_is_not_written() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::new(dir.path());
        store.save(std::iter::empty()).unwrap();
        let before = fs::read(dir.path().join(FILE_NAME)).unwrap();
        let small = Store { most: 8, ..store };
        assert!(small.save(std::iter::empty()).unwrap_err().to_string().contains("more than 8 bytes"));
        assert_eq!(fs::read(dir.path().join(FILE_NAME)).unwrap(), before, "and the file is as it was");
    }
}
