//! What is asked of the agent about approvals and overrides, and what it answers.
//!
//! Never carries what is in clear, but for [`Request::Reveal`], which is on record before it is answered.

use serde::{Deserialize, Serialize};

use crate::approvals::{InForce, Page, Waiting};

/// Longest time that a [`Request::List`] waits for a change: the client gives up after 30 s.
pub const WATCH_MS_MAX: u64 = 15_000;

/// Bytes of a list that are sent; what is left off is counted. Its other half is for escapes.
pub const LIST_BYTES_MAX: usize = crewtap_core::limits::CONTROL_BYTES_MAX / 2;

/// About approvals and overrides.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum Request {
    /// What waits; answered by [`Reply::List`].
    List {
        /// Answered as soon as the generation is another one; at once, when none is named.
        #[serde(default)]
        generation: Option<u64>,
        /// But after so many milliseconds at the latest, and at most [`WATCH_MS_MAX`].
        #[serde(default)]
        wait_ms: u64,
    },
    /// One of them, with a piece of what would be sent; answered by [`Reply::Shown`].
    Show {
        /// A unique prefix of its id.
        id: String,
        /// From which byte on.
        #[serde(default)]
        from: u64,
    },
    /// The same in clear, where `approvals.reveal` allows it; answered by [`Reply::Shown`].
    Reveal {
        /// A unique prefix of its id.
        id: String,
        /// From which byte on.
        #[serde(default)]
        from: u64,
    },
    /// Approves or denies; answered by [`Reply::Answered`].
    Answer {
        /// A unique prefix of its id.
        id: String,
        /// Whether it may happen.
        approve: bool,
        /// Why.
        #[serde(default)]
        reason: Option<String>,
    },
    /// Lets everything pass to a target for a while; answered by [`Reply::Overrides`] with it.
    Override {
        /// A name of the catalog, or `tcp:ADDRESS:PORT`.
        target: String,
        /// Why.
        reason: String,
        /// For so many seconds.
        for_s: u64,
    },
    /// Ends an override before its time; answered by [`Reply::Overrides`] with it.
    EndOverride {
        /// A unique prefix of its id.
        id: String,
    },
    /// What overrides are in force; answered by [`Reply::Overrides`].
    Overrides,
}

/// The answer to a [`Request`].
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(tag = "told", rename_all = "snake_case")]
pub enum Reply {
    /// What waits, the oldest first.
    List {
        /// Changes whenever the list does.
        generation: u64,
        /// As many as there is room for.
        waiting: Vec<Waiting>,
        /// How many more wait.
        #[serde(default)]
        left_off: usize,
    },
    /// A question, and a piece of what would be sent.
    Shown {
        /// The question.
        waiting: Box<Waiting>,
        /// The piece.
        page: Page,
    },
    /// The answer is on record.
    Answered {
        /// Of which approval.
        id: String,
        /// What waited has its answer.
        settled: bool,
        /// So many more people must approve it.
        missing: u32,
    },
    /// Overrides.
    Overrides {
        /// The ones that were asked for.
        overrides: Vec<InForce>,
    },
}
