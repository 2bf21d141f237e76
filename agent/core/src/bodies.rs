//! The bodies of events: one neutral set for every protocol (law 6).
//!
//! Fields are only ever added, with a default; a reader keeps what it does not know.

mod message;

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::action::Facts;
use crate::identity::Identity;
use crate::origin::Origin;
use crate::run::{Mode, Process, RunOutcome, Start};
use crate::session::Outcome;
use crate::target::{Name, Resource, Target};
use crate::verdict::{Terms, Verdict};
pub use message::{Apply, Chunk, Masked, Part, Pending, Request, Resized, Response};

/// A run begins.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RunStarted {
    /// Name given by the user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The command, credentials redacted.
    pub argv: Vec<String>,
    /// Where it was started.
    pub cwd: String,
    /// User that the command runs as.
    pub uid: u32,
    /// Who started it.
    pub identity: Identity,
    /// The process that asked for the run, with its parents.
    pub invoker: Process,
    /// Mode in force.
    pub mode: Mode,
    /// Capture cgroup (inode of its directory).
    pub cgroup: u64,
    /// Host name.
    pub host: String,
    /// Kernel release.
    pub kernel: String,
    /// Version of crewtap.
    pub version: String,
    /// Boot id, so that pids and monotonic times can be compared.
    pub boot_id: String,
}

/// A process joins a run, or executes another program.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ProcessStarted {
    /// How.
    pub start: Start,
    /// Facts from `/proc`; only the pid when it was gone.
    pub process: Process,
    /// Path given to `execve`, as the kernel saw it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filename: Option<String>,
}

/// A process of a run ended.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ProcessExited {
    /// Process id.
    pub pid: u32,
    /// Wait status where the kernel told it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<i32>,
}

/// A run ended.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RunEnded {
    /// How.
    pub outcome: RunOutcome,
    /// Exit status of the command as a shell reports it (128 + signal when killed).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<i32>,
}

/// A connection was accepted and attributed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SessionOpened {
    /// What the kernel knew.
    pub origin: Origin,
    /// The client's address as the proxy saw it.
    pub client: SocketAddr,
    /// Facts of the process.
    pub process: Process,
    /// Who it belongs to.
    pub identity: Identity,
}

/// The protocol and the target's name are known as far as they will be.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Classified {
    /// What the first bytes or the port told: `tls`, `http`, `postgres`, `ssh`, `redis`, … or `unknown`.
    pub protocol: String,
    /// The driver that serves it.
    pub driver: String,
    /// Where it goes.
    pub target: Target,
    /// Name that the client's `ClientHello` asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sni: Option<String>,
    /// Application protocols offered in the `ClientHello`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub alpn: Vec<String>,
}

/// Policy judged an action.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Decided {
    /// Verb of the action.
    pub verb: String,
    /// Subject of the action.
    pub subject: String,
    /// The verdict.
    pub verdict: Verdict,
    /// Mode in force.
    pub mode: Mode,
    /// What policy saw.
    #[serde(default, skip_serializing_if = "Facts::is_empty")]
    pub facts: Facts,
    /// What policy took the target for, and its tags; empty where no policy was asked.
    #[serde(default, skip_serializing_if = "Resource::is_nothing")]
    pub resource: Resource,
    /// The override that let it pass against the verdict.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overridden: Option<String>,
}

/// An action waits for an approval. The payload is what would happen, as the approver may see it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ApprovalAsked {
    /// The approval's id, a ULID.
    pub id: String,
    /// Verb of the action.
    pub verb: String,
    /// Subject of the action.
    pub subject: String,
    /// What policy takes the target for.
    pub target: String,
    /// For whom.
    pub identity: Identity,
    /// Policies that ask for it.
    pub policies: Vec<String>,
    /// Who must approve.
    pub terms: Terms,
    /// Keyed digest over target, identity, verb and everything in clear that would be sent, hexadecimal: what a grant is bound to.
    pub digest: String,
    /// When it is denied by itself, nanoseconds since the Unix epoch.
    pub expires_ns: u64,
    /// Media type of the payload.
    pub media_type: String,
}

/// Somebody answered, or nobody will.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ApprovalAnswered {
    /// The approval's id.
    pub id: String,
    /// `approved`, `denied`, `expired`, `withdrawn` (its client has gone), `lost` (the agent has ended), `used` (a grant let a
    /// retry pass), `revealed` (clear values were shown).
    pub answer: String,
    /// Who; none where nobody did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<Identity>,
    /// By which way: `control`, `api`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub way: Option<String>,
    /// Why, in their words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What it waited for has been decided with this answer: one of several approvers may not be enough.
    pub settled: bool,
}

/// Somebody lets everything pass to a target for a while, whatever policy says (break glass).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Override {
    /// Its id, a ULID.
    pub id: String,
    /// What policy takes the target for.
    pub target: String,
    /// Who.
    pub by: Identity,
    /// Why, in their words.
    pub reason: String,
    /// Until when, nanoseconds since the Unix epoch.
    pub until_ns: u64,
    /// It was ended before its time by this event.
    #[serde(default)]
    pub ended: bool,
}

/// Policies came into force, or did not.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct PolicyLoaded {
    /// SHA-256 over names and texts of the files that are in force now, hexadecimal.
    pub digest: String,
    /// The files that are in force now.
    pub files: Vec<String>,
    /// How many policies they hold.
    pub policies: u64,
    /// Why the files on disk are not the ones in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// What became of the encryption of a session.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Tls {
    /// crewtap read what is inside; otherwise it passed as it was, and only its bytes are on record.
    pub opened: bool,
    /// Why it was not opened, as one word and a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// What the process would have found wrong with the target's certificate; empty when it is valid.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub defects: Vec<String>,
    /// Only bundles that the process brings itself vouch for the certificate: valid for the process, and no proof of a name.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub by_process: bool,
    /// Name that the target's certificate was checked against.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_name: Option<String>,
    /// SHA-256 of the target's certificate, hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate_sha256: Option<String>,
    /// What was negotiated with the captured process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<Negotiated>,
    /// What was negotiated with the target.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<Negotiated>,
}

/// What one TLS connection has agreed on.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Negotiated {
    /// Protocol version, as `TLSv1.3`.
    pub version: String,
    /// Cipher suite.
    pub cipher: String,
    /// Key-exchange group.
    pub group: String,
    /// Application protocol; none when nothing was agreed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alpn: Option<String>,
}

/// A credential was taken from the catalog, to log in to a target with: which one, never its value.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Injected {
    /// Name of the target in the catalog.
    pub target: String,
    /// Where the credential is kept, as the catalog writes it: `file:PATH`, `env:NAME`, or `none`.
    pub credential: String,
    /// Who crewtap logs in as.
    pub user: String,
}

/// Something that an analyst should know.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Note {
    /// A stable word to search for: `unattributed`, `port_reused`, ….
    pub code: String,
    /// One sentence.
    pub text: String,
}

/// A session ended; exactly one per session.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SessionClosed {
    /// Why.
    pub outcome: Outcome,
    /// Bytes from the client that were forwarded.
    pub bytes_up: u64,
    /// Bytes from the target that were forwarded.
    pub bytes_down: u64,
    /// From accept to close, microseconds.
    pub duration_us: u64,
    /// From accept to the target's first byte, microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_byte_us: Option<u64>,
    /// Our own address of the connection to the target: what the target's logs call the client.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dialled_from: Option<SocketAddr>,
    /// The operating system's words for a failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// A captured process accepted a connection.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Accepted {
    /// Who connected.
    pub peer: SocketAddr,
    /// To which address of the run.
    pub local: SocketAddr,
    /// The process that made the listening socket.
    pub pid: u32,
}

/// A name was looked up through the relay: the question (`answered` false), or its answer.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Dns {
    /// Transaction id.
    pub id: u16,
    /// `udp` or `tcp`.
    pub transport: String,
    /// The resolver that was asked.
    pub resolver: SocketAddr,
    /// Process that asked.
    pub pid: u32,
    /// Name asked for, lower case, without the trailing dot.
    pub name: String,
    /// `A`, `AAAA`, `TXT`, ….
    pub record: String,
    /// Whether this is the answer.
    pub answered: bool,
    /// Response code of an answer: `NOERROR`, `NXDOMAIN`, …, or `TIMEOUT`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// Answers, as text.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub answers: Vec<String>,
}

/// Traffic that did not go through the proxy, or tried not to.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Bypass {
    /// `raw_socket`, `packet_socket`, `udp`, `quic`, `egress`, `device_bound`, `foreign_source`, `left_cgroup`, `self_connect`, ….
    pub kind: String,
    /// Whether it was stopped.
    pub refused: bool,
    /// The destination, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<SocketAddr>,
    /// The process, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// What else is known, in words.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
}

/// What the kernel counted against what was recorded, at the end of a run.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Reconciled {
    /// Connections that the kernel saw established towards the proxy.
    pub established: u64,
    /// Sessions recorded.
    pub sessions: u64,
    /// Connections that the kernel side refused.
    pub refused: u64,
    /// Connections that the proxy closed because it found no origin.
    pub unattributed: u64,
    /// Events that the kernel side could not deliver.
    pub events_lost: u64,
    /// Ways around the proxy that the kernel side saw, each time: `Bypass` events tell each process and destination once.
    #[serde(default)]
    pub bypassed: u64,
    /// Packets that the kernel side dropped: of redirected sockets on another way, or after the agent's death.
    #[serde(default)]
    pub dropped: u64,
    /// Connections and datagrams whose origin found no room in the kernel, and which were refused for that.
    #[serde(default)]
    pub map_full: u64,
    /// `established` equals `sessions`, nothing was lost, and every origin found room. Ways around the proxy are alarms of
    /// their own: they do not make the record of connections incomplete.
    pub complete: bool,
}

/// The tree was signed up to a size.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Checkpoint {
    /// Leaves covered.
    pub size: u64,
    /// The signed note (C2SP tlog-checkpoint).
    pub note: String,
}

/// Records above the last checkpoint were lost or torn; the journal goes on at `to`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Recovered {
    /// First leaf number that could not be kept.
    pub from: u64,
    /// Leaf number of this record.
    pub to: u64,
    /// Bytes cut off.
    pub cut_bytes: u64,
}

/// Claims about names, for readers of `Classified`.
impl Classified {
    /// The best name known.
    #[must_use]
    pub fn name(&self) -> Option<&Name> {
        self.target.name.as_ref()
    }
}
