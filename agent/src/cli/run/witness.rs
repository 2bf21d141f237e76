//! Tells a signal for the process group from one for the wrapper alone.
//!
//! `kill %1` and a harness's `killpg` reach the wrapper and the command; `kill PID` reaches the wrapper only, and
//! must be passed on. Nothing in a signal tells which it was. So a second member of the group, which does
//! nothing but block and remember signals, is asked whether it has got the same one. The kernel signals the
//! youngest member of a group first: what has reached the wrapper has reached the witness.

use std::fmt::Write as _;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{ChildStdin, ChildStdout, Command, ExitCode, Stdio};

use nix::sys::signal::SigSet;
use nix::sys::signalfd::{SfdFlags, SignalFd};

use crate::capture::sys;

/// A signal and its sender.
type Seen = (i32, u32);

/// The wrapper's end.
pub(super) struct Witness {
    ask: ChildStdin,
    answer: BufReader<ChildStdout>,
    /// Signals that the wrapper has not come to yet.
    seen: Vec<Seen>,
}

impl Witness {
    /// Starts one, in this process group.
    pub(super) fn start() -> io::Result<Self> {
        let mut child = Command::new("/proc/self/exe")
            .arg0("crewtap")
            .arg("witness")
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let pipes = child.stdin.take().zip(child.stdout.take());
        let (ask, answer) = pipes.ok_or_else(|| io::Error::other("no pipes"))?;
        Ok(Self { ask, answer: BufReader::new(answer), seen: Vec::new() })
    }

    /// Whether the whole group got this signal. No, when the witness is gone: rather twice than never.
    pub(super) fn saw(&mut self, signal: i32, sender: u32) -> bool {
        let _gone = self.question();
        let before = self.seen.len();
        self.seen.retain(|seen| *seen != (signal, sender));
        self.seen.len() < before
    }

    fn question(&mut self) -> io::Result<()> {
        self.ask.write_all(b"?")?;
        loop {
            let mut line = String::new();
            self.answer.read_line(&mut line)?;
            let mut numbers = line.split_ascii_whitespace();
            let Some(signal) = numbers.next().and_then(|number| number.parse().ok()) else { return Ok(()) };
            let Some(sender) = numbers.next().and_then(|number| number.parse().ok()) else { return Ok(()) };
            if !self.seen.contains(&(signal, sender)) {
                self.seen.push((signal, sender));
            }
        }
    }
}

/// The witness itself, until nobody can ask any more.
pub(in crate::cli) fn run() -> anyhow::Result<ExitCode> {
    // What the command may close must not be open here.
    sys::Inherited::look()?.close();
    let signals = SigSet::all();
    signals.thread_block()?;
    let fd = SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
    let mut question = [0];
    while io::stdin().read(&mut question)? == 1 {
        let mut answer = String::new();
        while let Some(signal) = fd.read_signal()? {
            let _ = writeln!(answer, "{} {}", signal.ssi_signo, signal.ssi_pid);
        }
        answer.push('\n');
        io::stdout().write_all(answer.as_bytes())?;
        io::stdout().flush()?;
    }
    Ok(ExitCode::SUCCESS)
}
