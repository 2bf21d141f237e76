//! One process, held by its directory in `/proc`: everything is read through it, so that nothing that is read is another
//! process's, whatever becomes of the pid.
//!
//! Owns the reading and its limits. Never tells which program the process runs: an exec leaves the directory as it is.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use crewtap_core::limits;
use rustix::fs::{Mode, OFlags};

use super::{Stat, Status, malformed, parse_stat, parse_status};

/// A process that cannot be mistaken for another: when it has ended, reading fails.
#[derive(Debug)]
pub struct Pinned(OwnedFd);

impl Pinned {
    /// Pins the process that has this pid now.
    ///
    /// # Errors
    /// When there is none, or descriptors have run out.
    pub fn open(pid: u32) -> io::Result<Self> {
        Self::open_in(Path::new("/proc"), pid)
    }

    /// The same, where `/proc` is elsewhere.
    pub(super) fn open_in(proc: &Path, pid: u32) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self(rustix::fs::open(proc.join(pid.to_string()), flags, Mode::empty())?))
    }

    fn file(&self, name: &str) -> io::Result<File> {
        Ok(rustix::fs::openat(&self.0, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?.into())
    }

    fn bytes(&self, name: &str) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::with_capacity(1024);
        self.file(name)?.read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// Reads `stat`.
    ///
    /// # Errors
    /// When the process is gone or the line is not what proc(5) says.
    pub fn stat(&self) -> io::Result<Stat> {
        parse_stat(&self.bytes("stat")?).ok_or_else(|| malformed("stat"))
    }

    /// Reads `status`.
    ///
    /// # Errors
    /// When the process is gone or a line is not what proc(5) says.
    pub fn status(&self) -> io::Result<Status> {
        let bytes = self.bytes("status")?;
        parse_status(&String::from_utf8_lossy(&bytes)).ok_or_else(|| malformed("status"))
    }

    /// Audit login uid, as [`super::login_uid`].
    #[must_use]
    pub fn login_uid(&self) -> Option<u32> {
        let text = String::from_utf8(self.bytes("loginuid").ok()?).ok()?;
        text.trim().parse().ok().filter(|uid| *uid != u32::MAX)
    }

    /// The kernel's number of the login session; none where it keeps none, or where nobody has logged in.
    #[must_use]
    pub fn audit_session(&self) -> Option<u32> {
        let text = String::from_utf8(self.bytes("sessionid").ok()?).ok()?;
        text.trim().parse().ok().filter(|number| *number != u32::MAX && *number != 0)
    }

    /// Where a link leads, as text; empty where it cannot be read.
    #[must_use]
    pub fn link(&self, name: &str) -> String {
        let target = rustix::fs::readlinkat(&self.0, name, Vec::new());
        target.map(|target| String::from_utf8_lossy(target.as_bytes()).into_owned()).unwrap_or_default()
    }

    /// The arguments, at most [`limits::ARGV_BYTES_MAX`] bytes of them, not redacted.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn arguments(&self) -> io::Result<Vec<String>> {
        let mut bytes = Vec::new();
        let most = u64::try_from(limits::ARGV_BYTES_MAX + 1).unwrap_or(u64::MAX);
        self.file("cmdline")?.take(most).read_to_end(&mut bytes)?;
        let cut = bytes.len() > limits::ARGV_BYTES_MAX;
        bytes.truncate(limits::ARGV_BYTES_MAX);
        if bytes.last() == Some(&0) {
            bytes.pop();
        }
        if bytes.is_empty() {
            return Ok(Vec::new());
        }
        let words = bytes.split(|byte| *byte == 0);
        let mut argv: Vec<String> = words.map(|word| String::from_utf8_lossy(word).into_owned()).collect();
        if cut {
            argv.push("…".into());
        }
        Ok(argv)
    }

    /// The environment that it was started with, `NAME=value` each.
    ///
    /// # Errors
    /// When the process is gone or may not be looked at.
    pub fn environment(&self) -> io::Result<Vec<std::ffi::OsString>> {
        let bytes = self.bytes("environ")?;
        let words = bytes.split(|byte| *byte == 0).filter(|word| !word.is_empty());
        Ok(words.map(|word| std::ffi::OsString::from_vec(word.to_vec())).collect())
    }

    /// Path of the executable, as the kernel spells it (`… (deleted)` included).
    ///
    /// # Errors
    /// When the process is gone, is a kernel thread, or may not be looked at.
    pub fn executable(&self) -> io::Result<PathBuf> {
        let target = rustix::fs::readlinkat(&self.0, "exe", Vec::new())?;
        Ok(std::ffi::OsString::from_vec(target.into_bytes()).into())
    }
}
