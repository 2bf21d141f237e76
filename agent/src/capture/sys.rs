//! The one file of the agent that contains `unsafe`: what the safe crates do not offer.
//!
//! Owns signal dispositions: the standard library changes SIGPIPE before `main`, and `run` must hand the
//! command exactly what it was given. Never decides anything.
#![allow(unsafe_code)]

use std::sync::atomic::{AtomicBool, Ordering};

use nix::sys::signal::{SigHandler, Signal, signal};

/// What a process does with a signal, as far as it survives `execve`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Disposition {
    /// The kernel's default action.
    Default,
    /// Nothing.
    Ignore,
}

static SIGPIPE_IGNORED: AtomicBool = AtomicBool::new(false);

extern "C" fn look_at_sigpipe() {
    // SAFETY: an all-zero sigaction is a valid value of this plain C structure; sigaction(2) with a null
    // new action only writes into it. Nothing of the Rust runtime, which does not run yet, is used.
    let ignored = unsafe {
        let mut found: libc::sigaction = std::mem::zeroed();
        libc::sigaction(libc::SIGPIPE, std::ptr::null(), &raw mut found) == 0
            && found.sa_sigaction == libc::SIG_IGN
    };
    SIGPIPE_IGNORED.store(ignored, Ordering::Relaxed);
}

// SAFETY: `.init_array` holds pointers to functions that the C runtime calls before `main`; extra arguments
// that it passes are ignored by the C calling convention.
#[used]
#[unsafe(link_section = ".init_array")]
static BEFORE_MAIN: extern "C" fn() = look_at_sigpipe;

/// Whether the process was started with SIGPIPE ignored (systemd units are); the Rust runtime ignores it
/// in any case, so only a look before `main` can tell.
#[must_use]
pub fn sigpipe_was_ignored() -> bool {
    SIGPIPE_IGNORED.load(Ordering::Relaxed)
}

/// Sets what this process does with a signal.
///
/// # Errors
/// When the kernel does not allow it (SIGKILL, SIGSTOP).
pub fn set_disposition(which: Signal, disposition: Disposition) -> nix::Result<()> {
    let action = match disposition {
        Disposition::Default => SigHandler::SigDfl,
        Disposition::Ignore => SigHandler::SigIgn,
    };
    // SAFETY: neither SIG_DFL nor SIG_IGN runs code of ours in a signal context.
    unsafe { signal(which, action) }.map(|_| ())
}

/// Sends a signal by number, real-time signals included (which the safe crates cannot name).
///
/// # Errors
/// When there is no such process or signal.
pub fn kill(pid: nix::unistd::Pid, number: i32) -> nix::Result<()> {
    // SAFETY: kill(2) takes two integers and touches no memory of ours.
    nix::errno::Errno::result(unsafe { libc::kill(pid.as_raw(), number) }).map(|_| ())
}

/// Descriptors that this process was started with, beyond the standard three: they are for the command, and
/// whoever reads from or writes to their other ends must not find crewtap there.
#[derive(Debug)]
pub struct Inherited(Vec<i32>);

impl Inherited {
    /// To be called before anything is opened.
    ///
    /// # Errors
    /// When `/proc` cannot be read.
    pub fn look() -> std::io::Result<Self> {
        let entries: Vec<_> = std::fs::read_dir("/proc/self/fd")?.collect::<Result<_, _>>()?;
        let numbers = entries.iter().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        // The directory just read is closed by now; what is close-on-exec belongs to this process.
        Ok(Self(numbers.filter(|number| *number > 2 && is_for_children(*number)).collect()))
    }

    /// Closes them; children that are there keep them.
    pub fn close(self) {
        for number in self.0 {
            // SAFETY: it was open before `main`, so no owner of it exists in this process, and `self` is used
            // up, so that it is closed once.
            unsafe { libc::close(number) };
        }
    }
}

fn is_for_children(number: i32) -> bool {
    // SAFETY: F_GETFD takes no argument and only reads the flags of the descriptor.
    let flags = unsafe { libc::fcntl(number, libc::F_GETFD) };
    flags >= 0 && flags & libc::FD_CLOEXEC == 0
}
