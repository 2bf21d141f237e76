//! A few threads that read command lines. Those lie in the memory of the process, and reading it waits for the lock of its
//! address space, which the process can make somebody hold for ever (on a file system of its own, FUSE). A page that lies
//! in a file does no harm: since Linux 4.17 the kernel reads anonymous memory only, and breaks off there.
//!
//! Owns the threads, their number and their patience. Whoever asks never waits longer, and never blocks its own thread.
//! Never reads anything else: what else `/proc` tells is the kernel's own.

use std::io;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use crewtap_core::limits;
use tokio::sync::oneshot;

use super::Pinned;

struct Job {
    of: Arc<Pinned>,
    answer: oneshot::Sender<io::Result<Vec<String>>>,
}

/// The threads. Dropped, those that are held up stay until their process ends.
pub(super) struct Readers(SyncSender<Job>);

impl Readers {
    /// Starts them; they rest until they are asked.
    pub(super) fn start() -> io::Result<Self> {
        let (queue, jobs) = sync_channel(limits::ARGUMENT_READS_WAITING_MAX);
        let jobs = Arc::new(Mutex::new(jobs));
        for number in 0..limits::ARGUMENT_READERS {
            let jobs = Arc::clone(&jobs);
            std::thread::Builder::new().name(format!("argv-{number}")).spawn(move || read_all(&jobs))?;
        }
        Ok(Self(queue))
    }

    /// The arguments of a process, not redacted; None: they were not readable in time.
    pub(super) async fn arguments(&self, of: &Arc<Pinned>) -> Option<Vec<String>> {
        let (answer, answered) = oneshot::channel();
        self.0.try_send(Job { of: Arc::clone(of), answer }).ok()?;
        let read = tokio::time::timeout(limits::ARGUMENTS_WAIT, answered).await.ok()?.ok()?;
        Some(read.unwrap_or_default())
    }
}

fn read_all(jobs: &Mutex<Receiver<Job>>) {
    loop {
        // The lock is held while waiting: the threads take turns at it.
        let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(Job { of, answer }) = job else { return };
        // Whoever has lost patience needs no answer.
        if !answer.is_closed() {
            let _gone = answer.send(of.arguments());
        }
    }
}
