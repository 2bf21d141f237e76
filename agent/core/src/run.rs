//! What is known of a run and its processes: plain facts, as the kernel and `/proc` gave them.
//!
//! Never interprets them; attribution to a person is `identity`'s.

use serde::{Deserialize, Serialize};

/// What happens with what policy would refuse, and with what cannot be recorded; the strictest last.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Everything passes and is on record.
    #[default]
    Record,
    /// Everything passes; what enforce would have done is on record.
    Shadow,
    /// Nothing passes that no policy permits.
    Enforce,
}

/// One process, pinned by pid and start time so that a reused pid is another process.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Process {
    /// Process id (thread group id) in the initial pid namespace.
    pub pid: u32,
    /// Start time in clock ticks since boot, field 22 of `/proc/PID/stat`.
    pub start_ticks: u64,
    /// Parent's pid at the time of reading.
    pub ppid: u32,
    /// Path of the executable; empty when it could not be read.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub exe: String,
    /// Arguments; credentials in them are redacted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub argv: Vec<String>,
    /// Working directory.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub cwd: String,
    /// Real user id.
    pub uid: u32,
    /// Audit login uid: who was behind sudo; absent where the kernel keeps none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub login_uid: Option<u32>,
    /// Parents, nearest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ancestors: Vec<Ancestor>,
    /// Why facts are missing: what could not be proven to be this process's, running this program, is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing: Option<String>,
}

/// A parent of a process, as far as it is told in a line.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Ancestor {
    /// Process id.
    pub pid: u32,
    /// Command name, at most 15 bytes.
    pub comm: String,
    /// Real user id.
    pub uid: u32,
}

/// How a process came to be part of a run.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Start {
    /// It was forked by a process of the run.
    Fork,
    /// It executed a program.
    Exec,
    /// It was there when the agent first looked.
    Found,
}

/// How a run ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RunOutcome {
    /// Its last process has ended.
    Exited,
    /// The agent died before it: what came after is not on record (and could not connect).
    Lost,
    /// The command could not be started.
    Failed,
}
