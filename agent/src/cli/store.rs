//! A store as the analyst's verbs see it: the index, and the journal behind it.
//!
//! A reader changes nothing. Only root, and only where no agent is alive, lets the index catch up first.

use std::path::{Path, PathBuf};

use crewtap_core::chain::Record;
use crewtap_core::event::Stamp;
use crewtap_core::limits::INDEX_BATCH_EVENTS;
use nix::unistd::geteuid;

use crate::index::{AgentLock, Index, IndexError, Indexer};
use crate::journal::Reader;

/// A data directory.
#[derive(Clone, Debug)]
pub struct StoreDir(PathBuf);

/// Records of the journal, by number; what the verbs need of it.
pub trait Evidence {
    /// One record; none when it is not written yet.
    ///
    /// # Errors
    /// A sentence: it is damaged, or may not be read.
    fn record(&self, leaf: u64) -> Result<Option<Record>, String>;
    /// Records from a number on; what is damaged comes as an error, and what follows it comes after.
    fn records(&self, from: u64) -> Box<dyn Iterator<Item = Result<Record, String>> + '_>;
    /// How many there are.
    ///
    /// # Errors
    /// A sentence.
    fn count(&self) -> Result<u64, String>;
}

impl Evidence for Reader {
    fn record(&self, leaf: u64) -> Result<Option<Record>, String> {
        Reader::record(self, leaf).map_err(|error| error.to_string())
    }

    fn records(&self, from: u64) -> Box<dyn Iterator<Item = Result<Record, String>> + '_> {
        Box::new(self.from(from).map(|record| record.map_err(|error| error.to_string())))
    }

    fn count(&self) -> Result<u64, String> {
        Reader::len(self).map_err(|error| error.to_string())
    }
}

/// An open store.
pub struct Store {
    /// Its rows.
    pub index: Index,
    /// Its records, or why they cannot be read.
    pub journal: Result<Box<dyn Evidence>, String>,
    /// What the analyst should know before reading: the index is behind, ….
    pub notices: Vec<String>,
}

impl StoreDir {
    /// The store at a path.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// Its path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Opens it for reading.
    ///
    /// # Errors
    /// One sentence that says what is in the way.
    pub fn open(&self) -> Result<Store, StoreError> {
        self.readable()?;
        self.open_with(self.journal())
    }

    /// The journal, or why it cannot be read.
    pub(super) fn journal(&self) -> Result<Box<dyn Evidence>, String> {
        match Reader::open(&self.0) {
            Ok(reader) => Ok(Box::new(reader)),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Whether it is there and may be read, before anything else is tried.
    pub(super) fn readable(&self) -> Result<(), StoreError> {
        match std::fs::read_dir(&self.0) {
            Ok(_) => Ok(()),
            Err(error) => Err(match error.kind() {
                std::io::ErrorKind::NotFound => StoreError::Absent(self.0.clone()),
                std::io::ErrorKind::PermissionDenied => IndexError::Forbidden(self.0.clone()).into(),
                _ => StoreError::Unreadable(self.0.clone(), error),
            }),
        }
    }

    pub(super) fn open_with(&self, journal: Result<Box<dyn Evidence>, String>) -> Result<Store, StoreError> {
        let mut notices = Vec::new();
        if let Ok(journal) = &journal {
            notices.extend(self.catch_up(journal.as_ref()));
        }
        let index = Index::open(&self.0)?;
        if let Ok(journal) = &journal {
            notices.extend(self.behind(&index, journal.as_ref()));
        }
        Ok(Store { index, journal, notices })
    }

    /// Root indexes what a killed agent left behind. Returns what it did.
    fn catch_up(&self, journal: &dyn Evidence) -> Option<String> {
        if !geteuid().is_root() || AgentLock::is_taken(&self.0) {
            return None;
        }
        let progress = Index::open(&self.0).and_then(|index| index.progress());
        let stamp_at = |leaf| stamp_at(journal, leaf);
        if let (Ok(progress), Ok(len)) = (&progress, journal.count())
            && progress.next_leaf >= len
            && progress.agrees_with(stamp_at)
        {
            return None;
        }
        let caught_up = || -> Result<u64, IndexError> {
            let mut indexer = Indexer::open(&self.0, stamp_at)?;
            let from = indexer.indexed_leaf();
            let mut records = journal.records(from).filter_map(Result::ok);
            loop {
                let batch: Vec<Record> = records.by_ref().take(INDEX_BATCH_EVENTS).collect();
                if batch.is_empty() {
                    return Ok(indexer.indexed_leaf() - from);
                }
                indexer.apply(&batch)?;
            }
        };
        match caught_up() {
            Ok(0) | Err(IndexError::Busy(_)) => None,
            Ok(count) => Some(format!("the index was {count} records behind the journal, and has caught up")),
            Err(error) => Some(format!("the index is behind the journal, and cannot catch up: {error}")),
        }
    }

    fn behind(&self, index: &Index, journal: &dyn Evidence) -> Option<String> {
        let (Ok(progress), Ok(len)) = (index.progress(), journal.count()) else { return None };
        if progress.next_leaf > len || !progress.agrees_with(|leaf| stamp_at(journal, leaf)) {
            return Some("the index is not this journal's: run `sudo crewtap reindex`".into());
        }
        let behind = len - progress.next_leaf;
        let alive = AgentLock::is_taken(&self.0);
        match behind {
            0 => None,
            // The follower is at it.
            _ if alive && behind <= INDEX_BATCH_EVENTS as u64 => None,
            _ if alive => Some(format!("{behind} records are not indexed yet")),
            _ => Some(format!(
                "the index is {behind} records behind the journal, and no agent is running: run `sudo crewtap reindex`"
            )),
        }
    }
}

impl Store {
    /// A record, or why it cannot be shown.
    pub(super) fn record(&self, leaf: i64) -> Result<Record, String> {
        let record = match &self.journal {
            Ok(journal) => journal.record(leaf.unsigned_abs())?,
            Err(error) => return Err(error.clone()),
        };
        record.ok_or_else(|| format!("record {leaf} is not in the journal"))
    }

    /// The payload of a record, or why it cannot be shown.
    pub(super) fn payload(&self, leaf: i64) -> Result<Vec<u8>, String> {
        self.record(leaf).map(|record| record.payload)
    }
}

fn stamp_at(journal: &dyn Evidence, leaf: u64) -> Option<Stamp> {
    journal.record(leaf).ok().flatten().map(|record| record.event.at)
}

/// A store that cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// There is none.
    #[error("there is no store at {}: nothing was recorded here yet (`sudo crewtap run -- COMMAND` records)", .0.display())]
    Absent(PathBuf),
    /// It is not a directory, or worse.
    #[error("{}: {}", .0.display(), .1)]
    Unreadable(PathBuf, std::io::Error),
    /// The index is not there or cannot be read.
    #[error(transparent)]
    Index(#[from] IndexError),
}
