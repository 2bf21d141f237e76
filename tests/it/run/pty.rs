//! A program on a terminal of its own, typed at and read like a person would.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::pty::{Winsize, openpty};

/// How long anything on the screen is waited for before the test has failed.
const PATIENCE: Duration = Duration::from_secs(30);

pub const SIZE: Winsize = Winsize { ws_row: 31, ws_col: 97, ws_xpixel: 0, ws_ypixel: 0 };

pub struct Terminal {
    master: File,
    child: Child,
    /// Everything on the screen so far, and how much of it has been expected.
    screen: String,
    seen: usize,
}

impl Terminal {
    /// Starts `command` as the leader of a session with this terminal.
    pub fn start(command: &[&str], prepare: impl FnOnce(&mut Command)) -> Self {
        let pty = openpty(Some(&SIZE), None).unwrap();
        let slave = |fd: &OwnedFd| Stdio::from(fd.try_clone().unwrap());
        // Whoever runs the tests in the background ignores the keyboard's signals, and so would the shell.
        let mut setsid = Command::new("env");
        setsid.args(["--default-signal", "setsid", "--ctty", "--"]).args(command).env("TERM", "dumb");
        setsid.stdin(slave(&pty.slave)).stdout(slave(&pty.slave)).stderr(slave(&pty.slave));
        prepare(&mut setsid);
        let child = setsid.spawn().unwrap();
        Self { master: File::from(pty.master), child, screen: String::new(), seen: 0 }
    }

    /// Types a line.
    pub fn line(&mut self, line: &str) {
        self.keys(&format!("{line}\n"));
    }

    /// Types exactly this.
    pub fn keys(&mut self, keys: &str) {
        self.master.write_all(keys.as_bytes()).unwrap();
    }

    /// Waits until `text` appears behind what was expected before; returns what stands before it.
    pub fn expect(&mut self, text: &str) -> String {
        let until = Instant::now() + PATIENCE;
        loop {
            let rest = &self.screen[self.seen..];
            if let Some(at) = rest.find(text) {
                let before = rest[..at].to_owned();
                self.seen += at + text.len();
                return before;
            }
            let left = until.saturating_duration_since(Instant::now());
            let mut fds = [PollFd::new(self.master.as_fd(), PollFlags::POLLIN)];
            let ready = poll(&mut fds, PollTimeout::try_from(left).unwrap()).unwrap();
            let mut buffer = [0; 4096];
            let read = if ready == 0 { 0 } else { self.master.read(&mut buffer).unwrap_or(0) };
            assert!(read > 0, "`{text}` did not appear; the screen:\n{}", self.screen);
            self.screen.push_str(&String::from_utf8_lossy(&buffer[..read]));
        }
    }

    /// Descriptor of the terminal's other side.
    pub fn master(&self) -> &File {
        &self.master
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // The session's leader: its end hangs the terminal up for all that is left.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
