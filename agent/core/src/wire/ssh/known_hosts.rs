//! The file of known hosts (sshd(8), "`SSH_KNOWN_HOSTS` FILE FORMAT"): which keys a host is known by, and what a key that it
//! shows is worth by that.
//!
//! Never opens a file, and never checks a certificate: whoever asks has done that, and says who signed it.

mod judge;
mod line;
mod named;
mod rewrite;
#[cfg(test)]
mod tests;

pub use judge::{At, Known, Shown, Verdict, judge, known};
pub use line::{Line, Marker, algorithm_of, matches};
pub use named::{Named, expand, named};
pub use rewrite::rewrite;

use crate::limits::{KNOWN_HOSTS_LINE_BYTES_MAX, KNOWN_HOSTS_LINES_MAX};

/// The port that a name without one means.
pub const PORT: u16 = 22;

/// One file of known hosts.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct KnownHosts {
    lines: Vec<Line>,
    skipped: usize,
}

impl KnownHosts {
    /// What `text` says. A line that cannot be read is skipped and counted, as OpenSSH does; so is what is beyond the limits.
    #[must_use]
    pub fn parse(text: &[u8]) -> Self {
        let mut read = Self::default();
        for (at, text) in text.split(|byte| *byte == b'\n').enumerate() {
            if line::is_blank(text) {
                continue;
            }
            let fits = text.len() <= KNOWN_HOSTS_LINE_BYTES_MAX && read.lines.len() < KNOWN_HOSTS_LINES_MAX;
            match fits.then(|| Line::parse(at + 1, text)).flatten() {
                Some(line) => read.lines.push(line),
                None => read.skipped += 1,
            }
        }
        read
    }

    /// What could be read, in the order of the file.
    #[must_use]
    pub fn lines(&self) -> &[Line] {
        &self.lines
    }

    /// How many lines could not be read.
    #[must_use]
    pub fn skipped(&self) -> usize {
        self.skipped
    }
}

/// How a host is written in such a file: lower case, and with another port than 22 as `[HOST]:PORT`.
#[must_use]
pub fn written(host: &str, port: u16) -> String {
    let host = host.to_ascii_lowercase();
    if port == PORT { host } else { format!("[{host}]:{port}") }
}

/// Entry point of the fuzzer: any text is read, judged and rewritten.
#[doc(hidden)]
pub fn fuzz_known_hosts(bytes: &[u8]) {
    let file = KnownHosts::parse(bytes);
    let key = file.lines.first().map(|line| line.key.clone()).unwrap_or_default();
    let shown = Shown { key: &key, authority: None };
    let _ = judge(&[&file], "host.test", 2222, shown);
    let rewritten = rewrite(bytes, &["ssh-ed25519 AAAA".into()], false);
    assert!(
        KnownHosts::parse(&rewritten).lines().iter().all(|line| line.marker == Marker::None),
        "a marker was left in the text"
    );
}
