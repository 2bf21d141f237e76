//! Words of a session that events and the index share: side, protocol, outcome.

use serde::{Deserialize, Serialize};

/// Which end of a session bytes came from.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// The captured process.
    Client,
    /// The target.
    Server,
}

/// Why a session ended; exactly one per session.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Both sides closed.
    Completed,
    /// Policy refused it.
    Refused,
    /// The target refused the connection.
    UpstreamRefused,
    /// The target did not answer in time.
    UpstreamTimeout,
    /// There was no way to the target.
    UpstreamUnreachable,
    /// The client reset the connection.
    ClientReset,
    /// The target reset the connection.
    UpstreamReset,
    /// What was to be forwarded could not be recorded (disk full, journal closed).
    Unrecorded,
    /// The session ended without its driver saying why: the agent stopped, or a defect.
    Aborted,
}

impl Outcome {
    /// As the index and `--json` spell it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Refused => "refused",
            Self::UpstreamRefused => "upstream_refused",
            Self::UpstreamTimeout => "upstream_timeout",
            Self::UpstreamUnreachable => "upstream_unreachable",
            Self::ClientReset => "client_reset",
            Self::UpstreamReset => "upstream_reset",
            Self::Unrecorded => "unrecorded",
            Self::Aborted => "aborted",
        }
    }
}
