//! The pause between the stage and the command: the stage has made the run's mounts private, and goes on when the agent
//! has laid the trust overlay over them.
//!
//! Two pipes of the wrapper, which the stage opens through `/proc`: no descriptor is left to the command.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::process::Child;

use anyhow::{Context, bail};
use nix::fcntl::OFlag;
use nix::unistd::pipe2;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

/// Variables to be set, at most this many bytes of them: a pipe takes 64 KiB without anybody reading.
const ADDITIONS_BYTES_MAX: u64 = 32 * 1024;

/// The wrapper's side.
pub(super) struct Gap {
    ready: (OwnedFd, OwnedFd),
    laid: (OwnedFd, OwnedFd),
}

impl Gap {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self { ready: pipe2(OFlag::O_CLOEXEC)?, laid: pipe2(OFlag::O_CLOEXEC)? })
    }

    /// What the stage is to open: the end it writes to, and the end it reads from.
    pub(super) fn numbers(&self) -> [String; 2] {
        [self.ready.1.as_raw_fd().to_string(), self.laid.0.as_raw_fd().to_string()]
    }

    /// Waits for the stage, does `lay`, lets it go on. A stage that ends before is no error here: how it ended is told
    /// by its report.
    pub(super) fn bridge(
        self,
        stage: &Child,
        lay: impl FnOnce() -> anyhow::Result<Vec<(String, String)>>,
    ) -> anyhow::Result<()> {
        if !self.is_ready(stage)? {
            return Ok(());
        }
        let mut encoded = Vec::new();
        ciborium::into_writer(&lay()?, &mut encoded)?;
        if encoded.len() as u64 > ADDITIONS_BYTES_MAX {
            bail!("the overlay adds more variables than the stage takes");
        }
        Ok(File::from(self.laid.1).write_all(&encoded)?)
    }

    fn is_ready(&self, stage: &Child) -> anyhow::Result<bool> {
        let pid = i32::try_from(stage.id()).ok().and_then(Pid::from_raw).context("the stage has no pid")?;
        let end = pidfd_open(pid, PidfdFlags::empty())?;
        loop {
            let mut watched = [PollFd::new(&self.ready.0, PollFlags::IN), PollFd::new(&end, PollFlags::IN)];
            match poll(&mut watched, None) {
                Ok(_) => return Ok(watched.first().is_some_and(|ready| ready.revents().contains(PollFlags::IN))),
                Err(rustix::io::Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}

/// The stage's side.
pub(in crate::cli) struct Pause {
    ready: File,
    laid: File,
}

impl Pause {
    /// Opens what the parent has under these numbers.
    pub(in crate::cli) fn of_parent(parent: u32, ready: i32, laid: i32) -> io::Result<Self> {
        let of = |number| format!("/proc/{parent}/fd/{number}");
        Ok(Self { ready: File::options().write(true).open(of(ready))?, laid: File::open(of(laid))? })
    }

    /// Says that the mounts are private and waits; the variables to be added.
    pub(in crate::cli) fn until_laid(mut self) -> anyhow::Result<Vec<(String, String)>> {
        self.ready.write_all(b"1")?;
        let mut encoded = Vec::new();
        self.laid.take(ADDITIONS_BYTES_MAX).read_to_end(&mut encoded)?;
        ciborium::from_reader(encoded.as_slice()).context("`crewtap run` has ended before the command could begin")
    }
}
