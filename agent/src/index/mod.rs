//! The index: a `SQLite` database that says in rows what the journal says in records.
//!
//! Written by one [`Indexer`] that follows the journal, read by analysts who may write nothing. Never the truth: it
//! holds leaf numbers instead of file offsets, keeps nothing that the journal does not, and can be rebuilt at any time.

mod apply;
mod approval;
mod dialogue;
mod exchange;
mod extent;
mod held;
mod open;
mod passage;
mod query;
mod read;
mod rebuild;
mod rows;
mod search;
mod text;

#[cfg(test)]
pub(crate) mod sample;
#[cfg(test)]
pub(crate) mod tests;
#[cfg(test)]
mod tests_access;
#[cfg(test)]
mod tests_approval;
#[cfg(test)]
mod tests_cost;
#[cfg(test)]
mod tests_message;
#[cfg(test)]
mod tests_search;

use std::path::{Path, PathBuf};

use crewtap_core::event::Stamp;

pub use apply::{Indexer, Sink};
pub use open::{AgentLock, FILE_NAME};
pub use query::{Query, QueryError, SEARCH_COLUMNS};
pub use read::{Found, Index, NotFound};
pub use rebuild::rebuild;
pub use rows::{
    Accepted, AnswerRow, ApprovalRow, Bypass, Decision, Exchange, Json, Mask, Name, Note, OverrideRow, Payload,
    Process, Reconciliation, Recovery, Run, Session, UnknownEvent,
};
pub use search::Hit;
pub use text::is_text;

/// Version of the schema; an index of another version is rebuilt, never migrated.
pub const SCHEMA_VERSION: i32 = 7;

/// The index cannot be opened, read or written.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// There is none.
    #[error("there is no index at {}: nothing was recorded here yet, or `crewtap reindex` must make it", .0.display())]
    Absent(PathBuf),
    /// The caller may not read it.
    #[error("{} is readable by root and members of the group crewtap", .0.display())]
    Forbidden(PathBuf),
    /// The caller may not write it.
    #[error("only root writes the index of {}: run the same with sudo", .0.display())]
    ReadOnly(PathBuf),
    /// Another process writes it.
    #[error("an agent is writing the index of {}: stop it first", .0.display())]
    Busy(PathBuf),
    /// It was made by another version of crewtap.
    #[error("{} has version {found}, this crewtap reads {SCHEMA_VERSION}: run `crewtap reindex`", path.display())]
    Version {
        /// The index.
        path: PathBuf,
        /// Its version.
        found: i32,
    },
    /// A file could not be created, locked, or renamed.
    #[error("{}: {error}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        error: std::io::Error,
    },
    /// `SQLite` failed.
    #[error("the index: {0}; when it is damaged, `crewtap reindex` makes it anew")]
    Sqlite(#[from] rusqlite::Error),
}

impl IndexError {
    fn file(path: &Path, error: std::io::Error) -> Self {
        let path = path.to_owned();
        match error.kind() {
            std::io::ErrorKind::NotFound => Self::Absent(path),
            std::io::ErrorKind::PermissionDenied => Self::Forbidden(path),
            _ => Self::File { path, error },
        }
    }
}

/// How far the index is, and the stamp of the last record it holds: a journal that was cut and went on differs there.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Progress {
    /// Leaves below are indexed.
    pub next_leaf: u64,
    /// Stamp of the record `next_leaf - 1`.
    pub last: Option<Stamp>,
}

/// Largest number that a column holds: what JSON readers hold exactly, and sums of which `SQLite` never turns into reals.
pub(crate) const NUMBER_MAX: i64 = (1 << 53) - 1;

/// A count or a size as a column: never an error, never negative.
pub(crate) fn number(value: impl TryInto<i64>) -> i64 {
    value.try_into().unwrap_or(NUMBER_MAX).clamp(0, NUMBER_MAX)
}

/// Nanoseconds as a column: times of this age do not fit 53 bits.
pub(crate) fn nanoseconds(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
