//! Process facts read once per program that a process executes, not once per connection.
//!
//! A program is known by its process and by when it began, which the kernel says with each connection and which no other
//! program of that pid shares. What was read counts as the program's when the process was pinned before the kernel said
//! that this program runs, and the kernel says so still after the reading. Never tells facts without this proof.

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use crewtap_core::limits;
use crewtap_core::run::Process;

use super::readers::Readers;
use super::{Digest, Pinned, ancestors, facts, redacted, started_before};

/// Tells when a process began the program that it runs now (as [`Program::since_ns`]); None: it is not known, or has ended.
pub type Programs = dyn Fn(u32) -> Option<u64> + Send + Sync;

/// What a process ran at some moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Program {
    /// The process.
    pub pid: u32,
    /// When it began this program: nanoseconds of `CLOCK_MONOTONIC`; 0: the kernel does not know.
    pub since_ns: u64,
    /// The moment: nanoseconds of `CLOCK_MONOTONIC`.
    pub at_ns: u64,
}

struct Entry {
    process: Arc<Process>,
    /// Tells the entry that was used longest ago.
    used: u64,
}

#[derive(Default)]
struct Entries {
    by_program: HashMap<(u32, u64), Entry>,
    clock: u64,
}

/// Facts of programs, bounded; shared by all threads of the agent.
pub struct ProcessCache {
    digest: Box<Digest>,
    programs: Box<Programs>,
    readers: Readers,
    proc: PathBuf,
    entries: Mutex<Entries>,
}

impl ProcessCache {
    /// An empty cache; `digest` is the store's keyed digest for redacted arguments, `programs` the kernel's word.
    ///
    /// # Errors
    /// When its threads cannot be started.
    pub fn new(digest: Box<Digest>, programs: Box<Programs>) -> io::Result<Self> {
        Ok(Self { digest, programs, readers: Readers::start()?, proc: "/proc".into(), entries: Mutex::default() })
    }

    /// The same, where `/proc` is elsewhere.
    #[cfg(test)]
    pub(super) fn under(proc: &std::path::Path, programs: Box<Programs>) -> Self {
        let cache = Self::new(Box::new(|_| String::new()), programs).unwrap_or_else(|error| panic!("{error}"));
        Self { proc: proc.into(), ..cache }
    }

    /// The facts of a process that ran this program, read at most once. Where they cannot be proven, what is missing is
    /// left out, and [`Process::missing`] says why.
    /// Takes [`limits::ARGUMENTS_WAIT`] at most, and nothing is awaited where they are known.
    pub async fn of_program(&self, program: Program) -> Arc<Process> {
        if let Some(known) = self.known(program) {
            return known;
        }
        let Ok(pinned) = Pinned::open_in(&self.proc, program.pid).map(Arc::new) else {
            return Arc::new(unknown(program.pid));
        };
        match self.prove(program, &pinned).await {
            Some(process) => self.keep(program, process),
            None => Arc::new(task(program, &pinned)),
        }
    }

    /// The facts of a process that is in no run.
    /// What could not be read any more is left empty.
    pub async fn outside(&self, pid: u32) -> Process {
        let Ok(pinned) = Pinned::open_in(&self.proc, pid).map(Arc::new) else { return unknown(pid) };
        self.read(pid, &pinned).await.unwrap_or_else(|| unknown(pid))
    }

    /// An exec between two readings mixes the facts of two programs.
    async fn read(&self, pid: u32, pinned: &Arc<Pinned>) -> Option<Process> {
        let mut process = facts(pid, pinned)?;
        match self.readers.arguments(pinned).await {
            Some(argv) => process.argv = redacted(&argv, &self.digest),
            None => process.missing = Some("its arguments were not readable in time".into()),
        }
        Some(process)
    }

    async fn prove(&self, program: Program, pinned: &Arc<Pinned>) -> Option<Process> {
        // Pinned first: who has the pid while this program runs is who was pinned. And no program comes back.
        let runs = || program.since_ns != 0 && (self.programs)(program.pid) == Some(program.since_ns);
        if !runs() {
            return None;
        }
        let process = self.read(program.pid, pinned).await?;
        runs().then_some(process)
    }

    fn known(&self, program: Program) -> Option<Arc<Process>> {
        let mut entries = self.lock();
        entries.clock += 1;
        let clock = entries.clock;
        let entry = entries.by_program.get_mut(&(program.pid, program.since_ns))?;
        entry.used = clock;
        Some(Arc::clone(&entry.process))
    }

    /// Programs that have ended stay until there are too many: their last connections may be accepted later.
    fn keep(&self, program: Program, process: Process) -> Arc<Process> {
        let process = Arc::new(process);
        let mut entries = self.lock();
        if entries.by_program.len() >= limits::PROCESSES_CACHED_MAX {
            let oldest = entries.by_program.iter().min_by_key(|(_, entry)| entry.used).map(|(key, _)| *key);
            oldest.and_then(|key| entries.by_program.remove(&key));
        }
        let used = entries.clock;
        let entry = Entry { process: Arc::clone(&process), used };
        entries.by_program.insert((program.pid, program.since_ns), entry);
        process
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn unknown(pid: u32) -> Process {
    Process { pid, missing: Some("it had ended when it was looked at".into()), ..Process::default() }
}

/// What an exec does not change, of the process that had the pid at the program's moment.
fn task(program: Program, pinned: &Pinned) -> Process {
    let Ok(stat) = pinned.stat() else { return unknown(program.pid) };
    // Alive before that moment and now: nobody else had its pid then.
    if !started_before(&stat, program.at_ns) {
        return unknown(program.pid);
    }
    Process {
        pid: program.pid,
        start_ticks: stat.start_ticks,
        ppid: stat.ppid,
        uid: pinned.status().map(|status| status.uid).unwrap_or_default(),
        login_uid: pinned.login_uid(),
        ancestors: ancestors(stat.ppid),
        missing: Some("it ran another program, or was ending, when it was looked at".into()),
        ..Process::default()
    }
}
