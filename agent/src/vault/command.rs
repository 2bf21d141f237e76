//! What a program prints as a secret.
//!
//! Never goes through a shell, and never shows what the program says on standard error.

use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use crewtap_core::limits::SECRET_BYTES_MAX;
use crewtap_core::secret::Secret;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use nix::unistd::Pid;

use crate::capture::sys;

/// How long a program may take.
const WAIT: Duration = Duration::from_secs(10);

/// How often it is looked whether a program that has said everything has ended.
const LOOK: Duration = Duration::from_millis(5);

/// All that it needs to find others; nothing of the agent's environment, which can hold other secrets.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Runs a program to its end and returns what it has printed.
pub(super) fn printed(program: &Path, arguments: &[String]) -> Result<Secret, String> {
    may_run(program)?;
    let mut command = Command::new(program);
    command.args(arguments).env_clear().env("PATH", PATH).current_dir("/");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    sys::in_own_session(&mut command);
    let mut child = command.spawn().map_err(|error| format!("it cannot be run: {error}"))?;
    let deadline = Instant::now() + WAIT;
    let outcome = child.stdout.take().ok_or_else(|| "it has no output".to_owned()).and_then(|stdout| {
        let secret = read(stdout, deadline)?;
        end(&mut child, deadline)?;
        Ok(secret)
    });
    if outcome.is_err() {
        stop(&mut child);
    }
    outcome
}

/// Who can change the program has the secret.
fn may_run(program: &Path) -> Result<(), String> {
    let found = std::fs::metadata(program).map_err(|error| format!("it cannot be read: {error}"))?;
    if !found.is_file() || found.uid() != 0 || found.mode() & 0o022 != 0 {
        return Err("others than root could change the program: make it `chown root` and `chmod go-w`".into());
    }
    Ok(())
}

/// Reads to the end; the buffer never grows, which would leave a copy behind.
fn read(mut stdout: ChildStdout, deadline: Instant) -> Result<Secret, String> {
    let mut bytes = zeroize::Zeroizing::new(vec![0; SECRET_BYTES_MAX + 3]);
    let mut len = 0;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        let mut waits = [PollFd::new(stdout.as_fd(), PollFlags::POLLIN)];
        match poll(&mut waits, timeout) {
            Ok(0) => return Err(late()),
            Ok(_) | Err(nix::Error::EINTR) => {}
            Err(error) => return Err(error.to_string()),
        }
        if left.is_zero() {
            return Err(late());
        }
        match stdout.read(bytes.get_mut(len..).unwrap_or_default()) {
            Ok(0) if len == bytes.len() => return Err("it prints too much".into()),
            Ok(0) => break,
            Ok(read) => len += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.to_string()),
        }
    }
    Ok(Secret::new(bytes.get(..len).unwrap_or_default().to_vec()))
}

/// Waits for its end; what it printed counts only if it has succeeded.
fn end(child: &mut Child, deadline: Instant) -> Result<(), String> {
    loop {
        match child.try_wait().map_err(|error| error.to_string())? {
            Some(status) if status.success() => return Ok(()),
            Some(status) => return Err(format!("it ended with {status}")),
            None if Instant::now() >= deadline => return Err(late()),
            None => std::thread::sleep(LOOK),
        }
    }
}

fn late() -> String {
    format!("it took longer than {} s", WAIT.as_secs())
}

/// Ends it with all that it has started, and waits for it.
fn stop(child: &mut Child) {
    if let Ok(pid) = i32::try_from(child.id()) {
        let _ = nix::sys::signal::killpg(Pid::from_raw(pid), Signal::SIGKILL);
    }
    let _ = child.kill();
    let _ = child.wait();
}
