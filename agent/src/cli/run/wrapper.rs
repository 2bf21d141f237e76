//! The process between the shell and the command: it must not be noticed.
//!
//! Both are in one process group. What the terminal sends reaches the command by itself; what other processes
//! send to the wrapper is passed on; stops, continuations and the end are repeated towards the shell. Never
//! touches the command's terminal, output or input.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::errno::Errno;
use nix::sys::signal::{SigSet, Signal, raise};
use nix::sys::signalfd::{SfdFlags, SignalFd, siginfo};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::pause::Gap;
use super::spec::{NotStarted, Sheet, Spec};
use super::witness::Witness;
use crate::capture::{process, sys};
use crate::control::Exit;

/// `si_code` of a signal that the kernel itself has sent (a terminal, a timer).
const SI_KERNEL: i32 = 0x80;

/// Signals that the terminal sends to the whole process group, the command included.
const FROM_TERMINAL: [Signal; 8] = [
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGTSTP,
    Signal::SIGTTIN,
    Signal::SIGTTOU,
    Signal::SIGHUP,
    Signal::SIGCONT,
    Signal::SIGWINCH,
];

/// Signals of the wrapper's own faults, which must do what they do.
const FAULTS: [Signal; 7] =
    [Signal::SIGSEGV, Signal::SIGBUS, Signal::SIGFPE, Signal::SIGILL, Signal::SIGTRAP, Signal::SIGABRT, Signal::SIGSYS];

/// How the command ended.
#[derive(Debug)]
pub(super) enum End {
    Code(i32),
    Signal(Signal),
    NotStarted(NotStarted),
}

impl End {
    pub(super) fn exit(&self) -> Exit {
        match self {
            Self::Code(code) => Exit::Code { code: *code },
            Self::Signal(signal) => Exit::Signal { signal: *signal as i32 },
            Self::NotStarted(failure) => Exit::NotStarted { why: failure.why.clone() },
        }
    }
}

/// The signals of this process, taken as messages from now on.
pub(super) struct Signals {
    fd: SignalFd,
    before: SigSet,
}

impl Signals {
    /// Must be called before the command is there, and after everything that Ctrl-C may simply end.
    pub(super) fn take() -> nix::Result<Self> {
        let mut taken = SigSet::all();
        for fault in FAULTS {
            taken.remove(fault);
        }
        let before = taken.thread_swap_mask(nix::sys::signal::SigmaskHow::SIG_SETMASK)?;
        let fd = SignalFd::with_flags(&taken, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
        Ok(Self { fd, before })
    }

    /// What was blocked before.
    pub(super) fn blocked_before(&self) -> Vec<i32> {
        self.before.iter().map(|signal| signal as i32).collect()
    }

    /// Whether somebody has asked for an end since; takes all that has arrived.
    pub(super) fn asked_to_end(&self) -> bool {
        let mut asked = false;
        while let Ok(Some(signal)) = self.fd.read_signal() {
            let number = i32::try_from(signal.ssi_signo).unwrap_or_default();
            asked |= [libc::SIGINT, libc::SIGTERM, libc::SIGQUIT, libc::SIGHUP].contains(&number);
        }
        asked
    }

    fn wait(&self) -> io::Result<siginfo> {
        loop {
            match self.fd.read_signal() {
                Ok(Some(signal)) => return Ok(signal),
                Ok(None) => {
                    let mut fds = [nix::poll::PollFd::new(self.as_fd(), nix::poll::PollFlags::POLLIN)];
                    match nix::poll::poll(&mut fds, nix::poll::PollTimeout::NONE) {
                        Ok(_) | Err(Errno::EINTR) => {}
                        Err(errno) => return Err(errno.into()),
                    }
                }
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// The command, from its start to its end.
pub(super) struct Wrapped {
    pid: Pid,
    report: Sheet,
    /// As `/proc/PID/cgroup` spells the capture cgroup.
    cgroup: PathBuf,
    /// Kept open until the stage has read it.
    _spec: Sheet,
    witness: io::Result<Witness>,
}

impl Wrapped {
    /// Starts the stage that becomes the command; `lay` is done when the run's mounts are private, and brings variables.
    pub(super) fn start(
        spec: &Spec,
        lay: impl FnOnce() -> anyhow::Result<Vec<(String, String)>>,
    ) -> anyhow::Result<Self> {
        let mut sheet = Sheet::new("crewtap-spec")?;
        sheet.write(spec)?;
        let report = Sheet::new("crewtap-report")?;
        let numbers = [sheet.number().to_string(), report.number().to_string()];
        let gap = Gap::new()?;
        let mut child = Command::new("/proc/self/exe")
            .arg0("crewtap")
            .args(["stage", &std::process::id().to_string()])
            .args(numbers)
            .args(gap.numbers())
            .env_clear()
            .spawn()?;
        if let Err(error) = gap.bridge(&child, lay) {
            child.kill()?;
            child.wait()?;
            return Err(error);
        }
        let pid = Pid::from_raw(i32::try_from(child.id()).map_err(io::Error::other)?);
        Ok(Self { pid, report, cgroup: spec.cgroup.clone(), _spec: sheet, witness: Witness::start() })
    }

    /// Passes signals and stops on until the command has ended.
    pub(super) fn supervise(&mut self, signals: &Signals) -> io::Result<End> {
        loop {
            let signal = signals.wait()?;
            let number = i32::try_from(signal.ssi_signo).unwrap_or_default();
            if number == libc::SIGCHLD {
                if let Some(end) = self.look()? {
                    return Ok(end);
                }
            } else if number == libc::SIGCONT {
                self.wake();
            } else if self.is_for_command(&signal, number) {
                // It may have ended; then SIGCHLD is next.
                let _ = sys::kill(self.pid, number);
            }
        }
    }

    /// Whether a signal that reached the wrapper has not reached the command as well.
    fn is_for_command(&mut self, signal: &siginfo, number: i32) -> bool {
        if signal.ssi_code == SI_KERNEL {
            return !FROM_TERMINAL.iter().any(|known| *known as i32 == number);
        }
        // What the command's own tree sends goes to its process group, or is not meant for the wrapper.
        if signal.ssi_pid == std::process::id() || is_in_cgroup(signal.ssi_pid, &self.cgroup) {
            return false;
        }
        !self.witness.as_mut().is_ok_and(|witness| witness.saw(number, signal.ssi_pid))
    }

    fn look(&mut self) -> io::Result<Option<End>> {
        loop {
            let flags = WaitPidFlag::WNOHANG | WaitPidFlag::WUNTRACED;
            match waitpid(self.pid, Some(flags)) {
                Ok(WaitStatus::Exited(_, code)) => {
                    return Ok(Some(match self.report.read::<NotStarted>()? {
                        Some(failure) => End::NotStarted(failure),
                        None => End::Code(code),
                    }));
                }
                Ok(WaitStatus::Signaled(_, signal, _)) => return Ok(Some(End::Signal(signal))),
                Ok(WaitStatus::Stopped(_, signal)) => self.stop_like(signal)?,
                Ok(_) => return Ok(None),
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    /// Stops this process as the command is stopped, so that the shell sees it; returns when it goes on.
    fn stop_like(&self, signal: Signal) -> io::Result<()> {
        // Nobody would ever continue this process: whoever continues the command does not know of it.
        if signal == Signal::SIGSTOP && is_orphaned_group() {
            return Ok(());
        }
        if signal == Signal::SIGSTOP {
            if self.is_stopped() {
                raise(signal)?;
            }
        } else {
            let mut only = SigSet::empty();
            only.add(signal);
            sys::set_disposition(signal, sys::Disposition::Default)?;
            // Pending until it is unblocked, so that it comes once, together with the terminal's own, and so
            // that a SIGCONT that comes first takes it away.
            raise(signal)?;
            if !self.is_stopped() {
                // The shell has continued both before the signal was pending: a SIGCONT takes it back.
                raise(Signal::SIGCONT)?;
            }
            only.thread_unblock()?;
            only.thread_block()?;
        }
        self.wake();
        Ok(())
    }

    fn is_stopped(&self) -> bool {
        let pid = u32::try_from(self.pid.as_raw()).unwrap_or_default();
        process::stat(pid).is_ok_and(|stat| stat.state == 'T')
    }

    /// Continues the command where only this process was continued (`kill -CONT` by pid).
    fn wake(&self) {
        if self.is_stopped() {
            let _ = sys::kill(self.pid, libc::SIGCONT);
        }
    }
}

/// Whether a process is in the cgroup or below it.
fn is_in_cgroup(pid: u32, directory: &Path) -> bool {
    let Ok(text) = std::fs::read_to_string(format!("/proc/{pid}/cgroup")) else { return false };
    let line = text.lines().find_map(|line| line.strip_prefix("0::"));
    // The directory is seen through some mount of the hierarchy, the line counts from its root.
    let below = Path::new(line.unwrap_or_default().trim_start_matches('/'));
    below.ancestors().any(|above| !above.as_os_str().is_empty() && directory.ends_with(above))
}

/// Whether no process outside of this process group but in its session could continue it: POSIX calls such a
/// group orphaned, and the kernel does not stop its members either.
fn is_orphaned_group() -> bool {
    let Ok(own) = process::stat(std::process::id()) else { return true };
    let mut next = own.ppid;
    while next > 1 {
        let Ok(parent) = process::stat(next) else { return true };
        if parent.session != own.session {
            return true;
        }
        if parent.group != own.group {
            return false;
        }
        next = parent.ppid;
    }
    true
}

/// Ends this process as the command has ended.
pub(super) fn end_like(end: &End) -> ! {
    match end {
        End::Code(code) => std::process::exit(*code),
        End::NotStarted(failure) => std::process::exit(failure.status.into()),
        End::Signal(signal) => {
            // The command has dumped its core where that was wanted; the wrapper's is of no use.
            let _ = nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_CORE, 0, 0);
            let _ = nix::sys::prctl::set_dumpable(false);
            if *signal != Signal::SIGKILL {
                let _ = sys::set_disposition(*signal, sys::Disposition::Default);
            }
            let mut only = SigSet::empty();
            only.add(*signal);
            let _ = raise(*signal);
            let _ = only.thread_unblock();
            // Reached only when the signal does not end a process; shells spell it so.
            std::process::exit(128 + *signal as i32)
        }
    }
}
