//! A store of its own for a test that runs `crewtap-bare`.

use std::path::{Path, PathBuf};

use tempfile::TempDir;

/// The program under test.
pub const CREWTAP: &str = concat!(env!("CARGO_TARGET_TMPDIR"), "/../debug/examples/crewtap-bare");

pub struct Store(TempDir);

impl Store {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub fn path(&self) -> PathBuf {
        self.0.path().join("store")
    }

    /// The beginning of a command line.
    pub fn crewtap(&self, verb: &str) -> String {
        format!("{CREWTAP} --data-dir {} {verb}", self.path().display())
    }

    /// What the agent was asked, one JSON object per line.
    pub fn requests(&self) -> Vec<serde_json::Value> {
        let text = std::fs::read_to_string(self.path().join("requests")).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

/// Whether the tests are root; what needs root says so when it is skipped.
pub fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// Whether there is such a program.
pub fn has(program: &str) -> bool {
    ["/usr/bin", "/bin", "/usr/sbin"].iter().any(|dir| Path::new(dir).join(program).exists())
}
