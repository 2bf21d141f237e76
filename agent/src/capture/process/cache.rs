//! Process facts read once per program that a process executes, not once per connection.
//!
//! An entry is good while its process lives (its pidfd says so) and has executed nothing since.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crewtap_core::limits;
use crewtap_core::run::Process;

use super::{Digest, Pinned, read};

struct Entry {
    pinned: Pinned,
    process: Arc<Process>,
    /// Tells the entry that was used longest ago.
    used: u64,
}

#[derive(Default)]
struct Entries {
    by_pid: HashMap<u32, Entry>,
    clock: u64,
    /// Grows with every exec, so that a reading that an exec has overtaken is not kept.
    execs: u64,
}

/// Facts of living processes, bounded; shared by all threads of the agent.
pub struct ProcessCache {
    digest: Box<Digest>,
    entries: Mutex<Entries>,
}

impl ProcessCache {
    /// An empty cache; `digest` is the store's keyed digest for redacted arguments.
    #[must_use]
    pub fn new(digest: Box<Digest>) -> Self {
        Self { digest, entries: Mutex::default() }
    }

    /// The facts of a process, read at most once for each program it executes.
    pub fn get(&self, pid: u32) -> Arc<Process> {
        let execs = {
            let mut entries = self.lock();
            entries.clock += 1;
            let clock = entries.clock;
            if let Some(entry) = entries.by_pid.get_mut(&pid) {
                if entry.pinned.is_alive() {
                    entry.used = clock;
                    return Arc::clone(&entry.process);
                }
                entries.by_pid.remove(&pid);
            }
            entries.execs
        };
        // Pinned before it is read: an entry is never the facts of a predecessor.
        let pinned = Pinned::open(pid);
        let process = Arc::new(read(pid, &self.digest));
        if let Ok(pinned) = pinned
            && pinned.is_alive()
        {
            self.keep(pid, pinned, &process, execs);
        }
        process
    }

    fn keep(&self, pid: u32, pinned: Pinned, process: &Arc<Process>, execs: u64) {
        let mut entries = self.lock();
        if entries.execs != execs {
            return;
        }
        if entries.by_pid.len() >= limits::PROCESSES_CACHED_MAX {
            let oldest = entries.by_pid.iter().min_by_key(|(_, entry)| entry.used).map(|(pid, _)| *pid);
            oldest.and_then(|pid| entries.by_pid.remove(&pid));
        }
        let used = entries.clock;
        entries.by_pid.insert(pid, Entry { pinned, process: Arc::clone(process), used });
    }

    /// To be called for every exec event: the process runs another program now.
    pub fn executed(&self, pid: u32) {
        let mut entries = self.lock();
        entries.execs += 1;
        entries.by_pid.remove(&pid);
    }

    /// To be called for every exit event; frees the entry early.
    pub fn exited(&self, pid: u32) {
        self.lock().by_pid.remove(&pid);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
