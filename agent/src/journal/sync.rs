//! Making records survive a power cut: one fdatasync in flight, shared by all who wait.
//!
//! Never retries a failed fdatasync: the kernel drops the pages that it could not write, so a second success
//! would be a lie. The journal is closed for good instead.

use std::io;
use std::sync::{Arc, Condvar, Mutex};

use nix::unistd::fdatasync;
use tokio::sync::watch;

use super::store::sync_dir;
use super::writer::{State, Writer};
use super::{JournalError, locked};

/// How far the journal is on disk.
#[derive(Clone, Debug, Default)]
struct Durable {
    /// Records before this number are.
    end: u64,
    failed: Option<String>,
}

#[derive(Debug, Default)]
struct Wanted {
    end: u64,
    stop: bool,
}

/// Asks for syncs and waits for them.
#[derive(Debug)]
pub(super) struct Syncer {
    wanted: Mutex<Wanted>,
    wake: Condvar,
    durable: watch::Sender<Durable>,
    /// For those who wait without a runtime.
    reached: (Mutex<()>, Condvar),
}

impl Syncer {
    pub(super) fn new() -> Self {
        Self {
            wanted: Mutex::default(),
            wake: Condvar::new(),
            durable: watch::Sender::new(Durable::default()),
            reached: (Mutex::new(()), Condvar::new()),
        }
    }

    fn ask(&self, end: u64) {
        let mut wanted = locked(&self.wanted);
        if wanted.end < end {
            wanted.end = end;
            self.wake.notify_one();
        }
    }

    /// Waits until all records before `end` are on disk.
    pub(super) async fn wait(&self, end: u64) -> Result<(), JournalError> {
        if self.is_done(end)? {
            return Ok(());
        }
        let mut durable = self.durable.subscribe();
        self.ask(end);
        let done = durable.wait_for(|durable| durable.failed.is_some() || durable.end >= end).await;
        drop(done.map_err(|_| JournalError::Closed)?);
        self.is_done(end).map(drop)
    }

    /// The same for a thread without a runtime.
    pub(super) fn wait_blocking(&self, end: u64) -> Result<(), JournalError> {
        self.ask(end);
        let mut guard = locked(&self.reached.0);
        while !self.is_done(end)? {
            guard = self.reached.1.wait(guard).unwrap_or_else(std::sync::PoisonError::into_inner);
        }
        Ok(())
    }

    fn is_done(&self, end: u64) -> Result<bool, JournalError> {
        let durable = self.durable.borrow();
        match &durable.failed {
            _ if durable.end >= end => Ok(true),
            Some(why) => Err(JournalError::Failed(why.clone())),
            None => Ok(false),
        }
    }

    pub(super) fn stop(&self) {
        locked(&self.wanted).stop = true;
        self.wake.notify_one();
    }

    /// The thread's work, until [`Self::stop`] and nothing is asked for any more.
    pub(super) fn run(&self, writer: &Mutex<Writer>) {
        let mut done = 0;
        loop {
            let mut wanted = locked(&self.wanted);
            while wanted.end <= done && !wanted.stop {
                wanted = self.wake.wait(wanted).unwrap_or_else(std::sync::PoisonError::into_inner);
            }
            if wanted.end <= done {
                self.finish(Durable { end: done, failed: Some("the journal is closed".into()) });
                return;
            }
            drop(wanted);
            let outcome = match sync_all(writer) {
                Ok(end) => Durable { end, failed: None },
                Err(e) => Durable { end: done, failed: Some(fail(writer, &e)) },
            };
            let failed = outcome.failed.is_some();
            done = outcome.end;
            self.finish(outcome);
            if failed {
                return;
            }
        }
    }

    fn finish(&self, outcome: Durable) {
        self.durable.send_replace(outcome);
        // Whoever is between looking and waiting is waited for.
        drop(locked(&self.reached.0));
        self.reached.1.notify_all();
    }
}

/// Syncs what was appended up to now, and gives back the unused ends of full segments.
fn sync_all(writer: &Mutex<Writer>) -> io::Result<u64> {
    let (end, retired, file, renamed, path) = {
        let mut writer = locked(writer);
        let retired = std::mem::take(&mut writer.retired);
        let renamed = std::mem::take(&mut writer.renamed);
        (writer.next, retired, Arc::clone(&writer.file), renamed, writer.layout.spare())
    };
    for full in &retired {
        fdatasync(&full.file)?;
        full.file.set_len(full.used)?;
    }
    fdatasync(&file)?;
    if renamed {
        sync_dir(&path)?;
    }
    Ok(end)
}

fn fail(writer: &Mutex<Writer>, error: &io::Error) -> String {
    let why = format!("fdatasync of the journal failed ({error}); check the disk and start the agent again");
    locked(writer).state = State::Failed(why.clone());
    why
}
