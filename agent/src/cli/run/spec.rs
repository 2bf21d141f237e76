//! What `crewtap run` tells its second stage: everything that the command is to be, in one sealed piece.
//!
//! It travels in a memory file that the stage opens through its parent's `/proc` entry: nothing of it is in
//! an environment or on a command line, and no descriptor is left to the command.

use std::ffi::{CString, OsStr};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use nix::sys::memfd::{MFdFlags, memfd_create};
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

/// The command and what it runs as.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::cli) struct Spec {
    /// Directory of the capture cgroup.
    pub(in crate::cli) cgroup: PathBuf,
    /// Directories that the run must not see.
    pub(in crate::cli) hide: Vec<PathBuf>,
    /// User.
    pub(in crate::cli) uid: u32,
    /// Group.
    pub(in crate::cli) gid: u32,
    /// Supplementary groups.
    pub(in crate::cli) groups: Vec<u32>,
    /// Words of the command.
    pub(in crate::cli) argv: Vec<ByteBuf>,
    /// `NAME=value` each.
    pub(in crate::cli) environment: Vec<ByteBuf>,
    /// File mode creation mask.
    pub(in crate::cli) umask: u32,
    /// Soft and hard limit of core files, where they are to be set.
    pub(in crate::cli) core_limits: Option<(u64, u64)>,
    /// Signals that were blocked, by number.
    pub(in crate::cli) blocked: Vec<i32>,
    /// SIGPIPE was ignored.
    pub(in crate::cli) ignore_pipe: bool,
    /// SIGCHLD was ignored.
    pub(in crate::cli) ignore_child: bool,
    /// Take away what raw and packet sockets need.
    pub(in crate::cli) no_raw_sockets: bool,
    /// Name of a user who did not choose the working directory and must be able to enter it.
    pub(in crate::cli) foreign_user: Option<String>,
}

/// Why the command did not start, as the stage reports it.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::cli) struct NotStarted {
    /// 125, 126 or 127.
    pub(in crate::cli) status: u8,
    /// For the record.
    pub(in crate::cli) why: String,
}

pub(in crate::cli) fn bytes(text: &OsStr) -> ByteBuf {
    ByteBuf::from(text.as_bytes().to_vec())
}

/// A C string; the bytes come from one or from the kernel, so that a NUL byte is an error of ours.
pub(in crate::cli) fn c_string(bytes: &[u8]) -> io::Result<CString> {
    CString::new(bytes).map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "a NUL byte in a word"))
}

/// A piece of memory that a child can open by the number of its descriptor.
pub(in crate::cli) struct Sheet(File);

impl Sheet {
    /// An empty one.
    pub(in crate::cli) fn new(name: &str) -> io::Result<Self> {
        let fd = memfd_create(name, MFdFlags::MFD_CLOEXEC)?;
        Ok(Self(File::from(fd)))
    }

    /// The one that the parent has as `number`.
    pub(in crate::cli) fn of_parent(parent: u32, number: i32) -> io::Result<Self> {
        let path = format!("/proc/{parent}/fd/{number}");
        Ok(Self(File::options().read(true).write(true).open(path)?))
    }

    pub(in crate::cli) fn number(&self) -> i32 {
        self.0.as_raw_fd()
    }

    pub(in crate::cli) fn write<T: Serialize>(&mut self, value: &T) -> io::Result<()> {
        let mut encoded = Vec::new();
        ciborium::into_writer(value, &mut encoded).map_err(io::Error::other)?;
        self.0.write_all(&encoded)
    }

    /// What was written; none when nothing was.
    pub(in crate::cli) fn read<T: for<'de> Deserialize<'de>>(&mut self) -> io::Result<Option<T>> {
        let mut encoded = Vec::new();
        self.0.seek(SeekFrom::Start(0))?;
        self.0.read_to_end(&mut encoded)?;
        if encoded.is_empty() {
            return Ok(None);
        }
        ciborium::from_reader(encoded.as_slice()).map(Some).map_err(io::Error::other)
    }
}
