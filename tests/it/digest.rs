//! SHA-256 of what is too large to be compared.

use std::io::Write;
use std::process::{Child, Command, Stdio};

use crewtap_tests::host::succeeded;

/// Feeds a `sha256sum`.
pub(crate) struct Digest(Child);

impl Digest {
    pub(crate) fn new() -> Self {
        Self(Command::new("sha256sum").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap())
    }

    pub(crate) fn feed(&mut self, bytes: &[u8]) {
        self.0.stdin.as_mut().unwrap().write_all(bytes).unwrap();
    }

    pub(crate) fn finish(self) -> String {
        succeeded(&self.0.wait_with_output().unwrap()).split_whitespace().next().unwrap().to_owned()
    }
}
