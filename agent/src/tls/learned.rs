//! Which programs have rejected our leaves, and for which names.
//!
//! Never decides what follows: record mode passes the next connection on unopened and marks it, enforce mode refuses.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crewtap_core::limits;

use super::server::Rejection;

/// Closes in or after a handshake, one after the other without a connection that was used, that count as a rejection: a
/// client whose patience ends while its target is slow closes, too.
const CLOSES_LEARNED: u32 = 2;

/// For how long what was learned holds. Afterwards one connection is opened again: what is never tried is never unlearned.
const LEARNED_FOR: Duration = Duration::from_mins(10);

/// The memory; the oldest entries go first.
#[derive(Debug, Default)]
pub struct Learned {
    entries: Mutex<Entries>,
}

#[derive(Debug, Default)]
struct Entries {
    by_key: HashMap<Key, Entry>,
    recorded: u64,
}

type Key = (String, String);

#[derive(Debug, Default)]
struct Entry {
    /// Which record it was, for finding the oldest.
    at: u64,
    closes: u32,
    learned: Option<Instant>,
}

impl Learned {
    /// Remembers that `program` (its script, where an interpreter runs one, else its executable) rejected the leaf for
    /// `name`, of a target that was verified. Answers whether it counts as learned now: an alert does at once; a close only
    /// when it comes twice in a row, because health checks, connection pools and impatient clients do the same.
    pub fn record(&self, program: &str, name: &str, rejection: &Rejection) -> bool {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.recorded += 1;
        let at = entries.recorded;
        let key = (program.to_owned(), name.to_owned());
        if !entries.by_key.contains_key(&key) && entries.by_key.len() >= limits::REJECTIONS_MAX {
            let oldest = entries.by_key.iter().min_by_key(|(_, entry)| entry.at).map(|(key, _)| key.clone());
            oldest.map(|oldest| entries.by_key.remove(&oldest));
        }
        let entry = entries.by_key.entry(key).or_default();
        entry.at = at;
        let counts = match rejection {
            Rejection::ClosedAfterHandshake | Rejection::ClosedInHandshake => {
                entry.closes = entry.closes.saturating_add(1);
                entry.closes >= CLOSES_LEARNED
            }
            Rejection::Alert(_) | Rejection::Incompatible(_) => true,
        };
        if counts {
            entry.learned = Some(Instant::now());
        }
        entry.learned.is_some()
    }

    /// Whether `program` is known to reject leaves for `name`.
    pub fn is_learned(&self, program: &str, name: &str) -> bool {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let learned = entries.by_key.get(&(program.to_owned(), name.to_owned())).and_then(|entry| entry.learned);
        learned.is_some_and(|since| since.elapsed() < LEARNED_FOR)
    }

    /// `program` sent data under the leaf for `name`: it takes it.
    pub fn accepted(&self, program: &str, name: &str) {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        if !entries.by_key.is_empty() {
            entries.by_key.remove(&(program.to_owned(), name.to_owned()));
        }
    }
}
