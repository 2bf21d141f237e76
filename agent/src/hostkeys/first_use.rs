//! The host keys that were kept of the first use: a file of known hosts in the data directory, by address, to which lines
//! are only ever added. Never forgets one by itself: whoever has changed a host takes out its line.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use crewtap_core::limits::KNOWN_HOSTS_BYTES_MAX;
use crewtap_core::wire::ssh::known_hosts::{Known, KnownHosts, Shown, Verdict, algorithm_of, judge, known, written};

/// See the module.
#[derive(Debug)]
pub(super) struct FirstUse {
    path: PathBuf,
    /// One at a time looks and adds, so that no host gets two keys of its first use.
    turn: Mutex<()>,
}

/// What it says of a key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Kept {
    /// It is that of the first use, at this line.
    Same(usize),
    /// This was the first use; the key is on the disk now.
    Now,
    /// The first use was with another key, at this line.
    Other(usize),
}

impl FirstUse {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, turn: Mutex::default() }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// What keys the target of this address is known by.
    pub(super) fn known(&self, address: SocketAddr) -> io::Result<Known> {
        Ok(known(&[&self.read()?], &address.ip().to_string(), address.port()))
    }

    /// Compares with what was kept, or keeps it.
    ///
    /// # Errors
    /// When the file cannot be read or written: then nothing is known, and nothing was kept.
    pub(super) fn compare(&self, address: SocketAddr, key: &[u8]) -> io::Result<Kept> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let shown = Shown { key, authority: None };
        match judge(&[&self.read()?], &address.ip().to_string(), address.port(), shown) {
            Verdict::Known(at) | Verdict::Authority(at) => Ok(Kept::Same(at.line)),
            Verdict::Revoked(at) => Ok(Kept::Other(at.line)),
            // Another algorithm is another key: who has the host's own is asked for that.
            Verdict::Changed(at) | Verdict::OtherAlgorithm(at) => Ok(Kept::Other(at.first().map_or(0, |at| at.line))),
            Verdict::Unknown => self.keep(address, key).map(|()| Kept::Now),
        }
    }

    fn read(&self) -> io::Result<KnownHosts> {
        let file = match File::open(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(KnownHosts::default()),
            file => file?,
        };
        let mut text = Vec::new();
        file.take(KNOWN_HOSTS_BYTES_MAX + 1).read_to_end(&mut text)?;
        if text.len() as u64 > KNOWN_HOSTS_BYTES_MAX {
            return Err(io::Error::other("it is larger than 8 MiB: take out what is not needed any more"));
        }
        let known = KnownHosts::parse(&text);
        // A line that cannot be read may be the one that would have refused.
        if known.skipped() > 0 {
            Err(io::Error::other("a line in it is damaged: correct or remove it"))
        } else {
            Ok(known)
        }
    }

    fn keep(&self, address: SocketAddr, key: &[u8]) -> io::Result<()> {
        let algorithm = algorithm_of(key).ok_or_else(|| io::Error::other("the host key has no algorithm"))?;
        let host = written(&address.ip().to_string(), address.port());
        let line = format!("{host} {algorithm} {}\n", STANDARD.encode(key));
        let mut file = OpenOptions::new().append(true).create(true).mode(0o600).open(&self.path)?;
        file.write_all(line.as_bytes())?;
        file.sync_all()
    }
}
