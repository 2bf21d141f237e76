//! What the kernel knows of a connection at the moment it was asked for.
//!
//! Never a claim of the process: every field comes from the program on `connect()`.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

/// The original destination and the task that asked for it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Origin {
    /// Where the process wanted to go; an IPv4-mapped destination keeps its spelling.
    pub destination: SocketAddr,
    /// Source address that the client had bound itself, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bound: Option<SocketAddr>,
    /// Capture cgroup of the run (inode of its directory).
    pub cgroup: u64,
    /// Process (thread group) id.
    pub pid: u32,
    /// Thread id.
    pub tid: u32,
    /// Real user id.
    pub uid: u32,
    /// Real group id.
    pub gid: u32,
    /// Kernel's socket cookie of the client's socket.
    pub cookie: u64,
    /// When `connect()` was called: nanoseconds of `CLOCK_MONOTONIC`.
    pub mono_ns: u64,
    /// What the process ran, by when it began (exec, else fork): nanoseconds of `CLOCK_MONOTONIC`; 0: not known.
    #[serde(default)]
    pub program_ns: u64,
    /// Command name of the task, at most 15 bytes.
    pub comm: String,
}
