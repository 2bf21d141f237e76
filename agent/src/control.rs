//! The control socket: how `crewtap run` and the verbs talk to the running agent.
//!
//! Owns the words of the conversation, its server and its client. JSON lines, one request and one reply at a
//! time. Never carries secrets except the command line, which stays between root and root, and never obeys a
//! captured process.

pub mod api;
pub mod approvals;
mod client;
pub mod identity;
pub mod launch;
mod server;

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crewtap_core::id::RunId;
use crewtap_core::run::Mode;
use serde::{Deserialize, Serialize};

pub use client::{Client, ClientError};
pub use server::{bind, serve};

/// Version of the conversation; both sides must speak the same.
pub const VERSION: u8 = 1;

/// Where the agent of a data directory listens.
#[must_use]
pub fn socket_path(data_dir: &Path) -> PathBuf {
    data_dir.join("control.sock")
}

/// What a client asks for.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(tag = "verb", rename_all = "snake_case")]
pub enum Request {
    /// Prepare the capture of one command; answered by [`Reply::Started`].
    StartRun(StartRun),
    /// The command of a run has ended, or could not be started; answered by [`Reply::Done`].
    RunExited {
        /// Which run.
        run: RunId,
        /// How.
        exit: Exit,
    },
    /// What the record of a run holds, once it has caught up; answered by [`Reply::Summary`].
    RunSummary {
        /// Which run.
        run: RunId,
    },
    /// The stage of a run has its own mount namespace: lay the trust overlay there, before the command is executed;
    /// answered by [`Reply::Laid`].
    LayOverlay {
        /// Which run.
        run: RunId,
        /// Home directory of the run's user, where there is one.
        home: Option<PathBuf>,
    },
    /// How the agent is; answered by [`Reply::Status`].
    Status,
    /// About approvals and overrides; answered by [`Reply::Approvals`].
    Approvals {
        /// What.
        #[serde(flatten)]
        request: approvals::Request,
    },
    /// About logins; answered by [`Reply::Identity`].
    Identity {
        /// What.
        #[serde(flatten)]
        request: identity::Request,
    },
}

/// A command that is to be captured.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct StartRun {
    /// Name given by the user.
    pub name: Option<String>,
    /// The command, in clear (the agent redacts it), at most [`crewtap_core::limits::ARGV_BYTES_MAX`] bytes.
    pub argv: Vec<String>,
    /// Working directory.
    pub cwd: String,
    /// User that the command will run as.
    pub uid: u32,
    /// Group that the command will run as.
    pub gid: u32,
    /// The process on whose behalf this is asked: the shell or program that started `crewtap` or its sudo.
    pub invoker: u32,
    /// Mode that the user asked for; the configuration's when none.
    pub mode: Option<Mode>,
}

/// How the command of a run ended.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "how", rename_all = "snake_case")]
pub enum Exit {
    /// It returned.
    Code {
        /// Exit status.
        code: i32,
    },
    /// A signal ended it.
    Signal {
        /// Its number.
        signal: i32,
    },
    /// It never ran.
    NotStarted {
        /// Why.
        why: String,
    },
    /// `crewtap run` itself ended without a word; the command may still run.
    Unreported,
}

/// What an agent answers.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "snake_case")]
pub enum Reply {
    /// The capture stands.
    Started(Started),
    /// Noted.
    Done,
    /// What is on record.
    Summary(Summary),
    /// What is laid.
    Laid(Laid),
    /// How the agent is.
    Status(Status),
    /// About approvals and overrides.
    Approvals {
        /// What.
        #[serde(flatten)]
        told: approvals::Reply,
    },
    /// About logins.
    Identity {
        /// What.
        #[serde(flatten)]
        answer: identity::Reply,
    },
    /// Not done, and why; a sentence for the user.
    Refused {
        /// Lower case, says what to do.
        why: String,
    },
}

/// A capture that stands: everything that joins its cgroup is on record.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Started {
    /// The run's id.
    pub run: RunId,
    /// Directory of the capture cgroup.
    pub cgroup: PathBuf,
    /// Directories that the run must not see (the data directory), canonical.
    pub hide: Vec<PathBuf>,
    /// Mode in force.
    pub mode: Mode,
    /// Sentences for the user, such as limits of this kernel.
    pub notes: Vec<String>,
}

/// The trust overlay of a run.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Laid {
    /// Names and values of variables that the command gets where it has none of that name.
    pub environment: Vec<(String, String)>,
    /// Sentences for the user: what will not be trusted.
    pub notes: Vec<String>,
}

/// What the record of a run holds so far.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Summary {
    /// Connections.
    pub sessions: u64,
    /// Requests in them.
    pub exchanges: u64,
    /// Refused by policy.
    pub refused: u64,
    /// Held for an approver.
    pub held: u64,
    /// Bypasses and differences between the kernel's count and the record.
    pub alarms: u64,
    /// Ways around the proxy that the kernel counted, each time.
    #[serde(default)]
    pub bypassed: u64,
    /// Packets that the kernel dropped on their way around the proxy.
    #[serde(default)]
    pub dropped: u64,
    /// Connections refused because the kernel had no room for their origin.
    #[serde(default)]
    pub map_full: u64,
    /// Processes of the run that are still alive.
    pub processes: u64,
    /// False when the journal or the index had not caught up in time: the numbers are a lower bound.
    pub complete: bool,
}

/// How the agent is.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Status {
    /// Its process id.
    pub pid: u32,
    /// Version of crewtap.
    pub version: String,
    /// Runs with a living process.
    pub runs: Vec<RunId>,
}

/// Who is on the other side of a control connection, as the kernel says.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Process id at the time of its connect.
    pub pid: u32,
    /// Effective user id at the time of its connect.
    pub uid: u32,
    /// Effective group id at the time of its connect.
    pub gid: u32,
    /// Holds it: tells whether the pid is still its own. None where the kernel gives none for a connection (before 6.5).
    pub life: Option<Arc<OwnedFd>>,
}

/// A request that was not granted; a sentence for the user.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0}")]
pub struct Refusal(pub String);

impl Refusal {
    /// From anything that explains itself.
    pub fn because(why: impl std::fmt::Display) -> Self {
        Self(why.to_string())
    }
}

/// What the control socket asks of the agent behind it. All of it is called on one thread.
#[allow(async_fn_in_trait, reason = "served on one thread: the futures need not be Send")]
pub trait Agent {
    /// Prepares a capture: cgroup, programs, self-test, `RunStarted` on record. The command joins afterwards.
    /// Every run that this grants gets exactly one [`Agent::run_exited`].
    async fn start_run(&self, peer: Peer, request: StartRun) -> Result<Started, Refusal>;

    /// The command of a run has ended, was never started, or nobody can tell. Its processes may live on: the
    /// run ends when none is left.
    async fn run_exited(&self, run: RunId, exit: Exit) -> Result<(), Refusal>;

    /// Lays the trust overlay over the mounts of the run's only process. An agent without an authority lays nothing.
    async fn lay_overlay(&self, run: RunId, home: Option<PathBuf>) -> Result<Laid, Refusal> {
        tracing::debug!(%run, ?home, "no authority, no overlay");
        Ok(Laid::default())
    }

    /// What is on record, as soon as journal and index have caught up with what has happened until now,
    /// at the latest after [`crewtap_core::limits::SUMMARY_WAIT`].
    async fn run_summary(&self, run: RunId) -> Result<Summary, Refusal>;

    /// How the agent is.
    async fn status(&self) -> Status;

    /// Questions that wait, their answers, and overrides. An agent that asks nobody has none.
    async fn approvals(&self, peer: Peer, request: approvals::Request) -> Result<approvals::Reply, Refusal> {
        tracing::debug!(?peer, ?request, "nobody is asked here");
        Err(Refusal("this agent asks nobody".into()))
    }

    /// Logins. An agent without providers has none.
    async fn identity(&self, peer: Peer, request: identity::Request) -> Result<identity::Reply, Refusal> {
        tracing::debug!(?peer, ?request, "nobody logs in here");
        Err(Refusal("this agent knows no identity provider".into()))
    }
}

/// One line of the conversation.
#[derive(Serialize, Deserialize)]
struct Line<T> {
    v: u8,
    #[serde(flatten)]
    said: T,
}

/// The version alone, so that an unknown verb of another version is told apart from nonsense.
#[derive(Deserialize)]
struct Spoken {
    v: u8,
}

/// A line that cannot be taken.
#[derive(Debug, thiserror::Error)]
enum LineError {
    #[error("it speaks version {0} of the control protocol, this is version {VERSION}: restart the agent")]
    Version(u8),
    #[error("not a line of the control protocol: {0}")]
    Malformed(serde_json::Error),
    #[error("the message has more than {max} bytes", max = crewtap_core::limits::CONTROL_BYTES_MAX)]
    TooLong,
}

fn encode<T: Serialize>(said: &T) -> Result<Vec<u8>, LineError> {
    let mut line = serde_json::to_vec(&Line { v: VERSION, said }).map_err(LineError::Malformed)?;
    line.push(b'\n');
    if line.len() > crewtap_core::limits::CONTROL_BYTES_MAX {
        return Err(LineError::TooLong);
    }
    Ok(line)
}

fn decode<T: for<'de> Deserialize<'de>>(line: &[u8]) -> Result<T, LineError> {
    let spoken: Spoken = serde_json::from_slice(line).map_err(LineError::Malformed)?;
    if spoken.v != VERSION {
        return Err(LineError::Version(spoken.v));
    }
    serde_json::from_slice::<Line<T>>(line).map(|line| line.said).map_err(LineError::Malformed)
}

#[cfg(test)]
mod tests;
