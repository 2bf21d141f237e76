//! Interrupts from the terminal: the command that runs gets them, the world's maker survives them to clean up.

use std::process::{Child, Command, ExitStatus};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, kill};
use nix::unistd::Pid;

/// Interrupt signals of this process, blocked in all its threads and taken by one.
#[derive(Debug, Clone)]
pub struct Interrupts {
    received: Arc<AtomicBool>,
    /// The command that runs now, else 0.
    running: Arc<AtomicI32>,
}

impl Interrupts {
    /// Blocks SIGINT, SIGTERM and SIGHUP. To be called before there is a second thread.
    ///
    /// # Errors
    /// When the mask cannot be set.
    pub fn block() -> Result<Self> {
        let signals = signals();
        signals.thread_block().context("cannot block interrupts")?;
        let interrupts = Self { received: Arc::default(), running: Arc::default() };
        let taker = interrupts.clone();
        std::thread::Builder::new().name("interrupts".to_owned()).spawn(move || {
            while let Ok(signal) = signals.wait() {
                taker.received.store(true, Ordering::SeqCst);
                let running = taker.running.load(Ordering::SeqCst);
                // The terminal sends SIGINT to the command itself; the others were sent to us alone.
                if signal != Signal::SIGINT && running != 0 {
                    let _ = kill(Pid::from_raw(running), Signal::SIGTERM);
                }
            }
        })?;
        Ok(interrupts)
    }

    /// Whether one has arrived.
    pub fn arrived(&self) -> bool {
        self.received.load(Ordering::SeqCst)
    }

    /// Starts a command with nothing blocked: a child inherits the mask of the thread that makes it.
    pub(super) fn spawn(&self, command: &mut Command) -> Result<Child> {
        ensure!(!self.arrived(), "interrupted");
        let blocked = SigSet::empty().thread_swap_mask(SigmaskHow::SIG_SETMASK).context("cannot unblock interrupts")?;
        let child = command.spawn();
        blocked.thread_set_mask().context("cannot block interrupts")?;
        Ok(child?)
    }

    pub(super) fn wait(&self, child: &mut Child) -> Result<ExitStatus> {
        let pid = i32::try_from(child.id()).context("not a process number")?;
        self.running.store(pid, Ordering::SeqCst);
        let status = child.wait();
        self.running.store(0, Ordering::SeqCst);
        status.context("cannot wait for the command")
    }
}

fn signals() -> SigSet {
    [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP].into_iter().collect()
}
