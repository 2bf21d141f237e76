//! The thread behind the writer: hashes records into the tree, signs checkpoints, feeds the index, and keeps a spare
//! segment ready. Appends wake nobody; it looks by itself.
//!
//! Never holds back an append, and never holds more than one batch: what cannot be done now is read again later.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Condvar, Mutex};
use std::time::{Duration, Instant};

use crewtap_core::bodies;
use crewtap_core::chain::Record;
use crewtap_core::chain::note::{SignedTree, SignerKey};
use crewtap_core::chain::tree::Tree;
use crewtap_core::event::Event;
use crewtap_core::limits;
use tokio::sync::watch;

use super::reader::Cursor;
use super::segment::Spare;
use super::signed::{self, Tiles};
use super::{JournalError, Shared, Sink, locked};
use crate::clock;

/// How far the follower is.
#[derive(Clone, Debug, Default)]
pub(super) struct Progress {
    /// The sink has all records before this number.
    pub(super) fed: u64,
    /// The newest checkpoint covers all records before this number.
    pub(super) signed: u64,
    /// Attempts to sign that failed, and why the last one did.
    pub(super) failures: u64,
    pub(super) failure: String,
    /// The follower is gone: nothing further will happen.
    pub(super) ended: bool,
}

#[derive(Debug, Default)]
struct Wishes {
    /// Sign as soon as all records before this number are in the tree.
    sign: u64,
    /// A wish came in since the follower last looked.
    fresh: bool,
    stop: bool,
}

/// What others ask of the follower, and how far it is.
#[derive(Debug)]
pub(super) struct Desk {
    wishes: Mutex<Wishes>,
    wake: Condvar,
    pub(super) progress: watch::Sender<Progress>,
}

impl Desk {
    pub(super) fn new() -> Self {
        Self { wishes: Mutex::default(), wake: Condvar::new(), progress: watch::Sender::new(Progress::default()) }
    }

    /// Asks for a checkpoint over all records before `end`.
    pub(super) fn sign(&self, end: u64) {
        let mut wishes = locked(&self.wishes);
        wishes.sign = wishes.sign.max(end);
        wishes.fresh = true;
        self.wake.notify_one();
    }

    pub(super) fn stop(&self) {
        locked(&self.wishes).stop = true;
        self.wake.notify_one();
    }

    /// Rests until something is asked for or the time is over; true when it is time to stop.
    fn rest(&self, time: Duration) -> bool {
        let wishes = locked(&self.wishes);
        let (mut wishes, _) = self
            .wake
            .wait_timeout_while(wishes, time, |wishes| !wishes.stop && !wishes.fresh)
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        wishes.fresh = false;
        wishes.stop
    }
}

/// Tells those who wait that the thread is gone, however it went.
struct Ended<'a>(&'a Desk);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.progress.send_modify(|progress| progress.ended = true);
    }
}

/// The thread's state.
pub(super) struct Follower {
    pub(super) tree: Tree,
    pub(super) tiles: Tiles,
    pub(super) signer: SignerKey,
    pub(super) cursor: Cursor,
    /// The sink, and where it is.
    pub(super) sink: Option<(Cursor, Sink)>,
    pub(super) checkpoints: Checkpoints,
    pub(super) pause: Pause,
}

/// What is known of the last checkpoint.
#[derive(Debug, Default)]
pub(super) struct Checkpoints {
    pub(super) signed: u64,
    pub(super) at: Option<Instant>,
    /// Records above it, other than the event that tells of it.
    pub(super) active: bool,
    /// The event that tells of it.
    pub(super) told: Option<u64>,
    /// A checkpoint no event tells of yet.
    pub(super) untold: Option<SignedTree>,
    /// Partial tiles to be removed.
    pub(super) old: BTreeSet<PathBuf>,
}

/// When to try again what has failed.
#[derive(Debug, Default)]
pub(super) struct Pause {
    tree: Option<Instant>,
    sink: Option<Instant>,
    spare: Option<Instant>,
}

fn is_due(at: Option<Instant>) -> bool {
    at.is_none_or(|at| Instant::now() >= at)
}

fn later() -> Instant {
    Instant::now() + limits::FOLLOW_RETRY_INTERVAL
}

impl Follower {
    /// The thread's work, until it is told to stop and everything is in the tree and signed, as far as that goes.
    pub(super) fn run(mut self, shared: &Shared) -> Result<(), JournalError> {
        let _ended = Ended(&shared.desk);
        let mut idle = limits::FOLLOW_INTERVAL;
        self.report(shared);
        if let Some(untold) = self.checkpoints.untold.take() {
            self.tell(shared, untold);
        }
        loop {
            let stop = shared.desk.rest(idle);
            if stop {
                self.pause = Pause::default();
            }
            let end = shared.end();
            let before = (self.cursor.position(), self.fed());
            self.keep_spare(shared);
            let followed = self.follow(end);
            self.feed(end);
            self.report(shared);
            if stop {
                if followed.is_err() || (self.cursor.position() < end && self.cursor.position() > before.0) {
                    followed?;
                    continue;
                }
                return self.finish(shared, end);
            }
            if let Err(error) = followed.and_then(|()| self.sign_if_due(shared)) {
                tracing::error!("the journal's tree stands still: {error}");
                self.pause.tree = Some(later());
                Self::fail(shared, &error);
            }
            let moved = before != (self.cursor.position(), self.fed());
            idle = if moved { limits::FOLLOW_INTERVAL } else { (idle * 2).min(limits::FOLLOW_IDLE_INTERVAL) };
        }
    }

    /// The last look: the sink gets what is left, and the end is signed.
    fn finish(&mut self, shared: &Shared, end: u64) -> Result<(), JournalError> {
        while self.fed() < end && self.sink.is_some() {
            let before = self.fed();
            self.feed(end);
            if self.fed() == before {
                break;
            }
        }
        if self.checkpoints.active && self.tree.size() > self.checkpoints.signed {
            self.sign(shared, true)?;
        }
        self.report(shared);
        Ok(())
    }

    fn fed(&self) -> u64 {
        self.sink.as_ref().map_or(u64::MAX, |(cursor, _)| cursor.position())
    }

    fn report(&self, shared: &Shared) {
        let (fed, signed) = (self.fed(), self.checkpoints.signed);
        shared.desk.progress.send_if_modified(|progress| {
            let changed = (progress.fed, progress.signed) != (fed, signed);
            (progress.fed, progress.signed) = (fed, signed);
            changed
        });
    }

    fn fail(shared: &Shared, error: &JournalError) {
        shared.desk.progress.send_modify(|progress| {
            progress.failures += 1;
            progress.failure = error.to_string();
        });
    }

    /// Takes one batch of records into the tree.
    fn follow(&mut self, end: u64) -> Result<(), JournalError> {
        if self.cursor.position() >= end || !is_due(self.pause.tree) {
            return Ok(());
        }
        let known = self.tree.clone();
        let outcome = self.take_batch(end);
        if outcome.is_err() {
            self.cursor = self.cursor.again(known.size());
            self.tree = known;
        }
        outcome
    }

    fn take_batch(&mut self, end: u64) -> Result<(), JournalError> {
        let (mut bytes, mut shared) = (0, Vec::new());
        let in_step = self.sink.as_ref().is_some_and(|(cursor, _)| cursor.position() == self.cursor.position())
            && is_due(self.pause.sink);
        while self.cursor.position() < end
            && bytes < limits::FOLLOW_BATCH_BYTES
            && shared.len() < limits::INDEX_BATCH_EVENTS
        {
            let Some(frame) = self.cursor.next_frame().map_err(JournalError::Behind)? else { break };
            bytes += frame.event.len() + frame.bytes().unwrap_or_default().len();
            let tiles = &mut self.tiles;
            self.tree
                .push(frame.leaf(), |tile| tiles.write(tile).map(drop))
                .map_err(|e| JournalError::io("write a tile", &PathBuf::from("journal/tile"), e))?;
            self.checkpoints.active |= self.checkpoints.told != Some(frame.seq);
            if in_step {
                shared.extend(Record::try_from(frame).ok());
            }
        }
        if let Some((cursor, sink)) = self.sink.as_mut().filter(|_| in_step) {
            match sink(&shared) {
                Ok(()) => *cursor = self.cursor.again(self.cursor.position()),
                Err(why) => {
                    tracing::warn!("the index did not take {} records: {why}", shared.len());
                    self.pause.sink = Some(later());
                }
            }
        }
        Ok(())
    }

    /// Brings the sink after the tree, where it fell behind.
    fn feed(&mut self, end: u64) {
        let Some((cursor, sink)) = &mut self.sink else { return };
        let from = cursor.position();
        if from >= end.min(self.cursor.position()) || !is_due(self.pause.sink) {
            return;
        }
        let (mut bytes, mut batch) = (0, Vec::new());
        let mut broken = None;
        // A record behind `end` must not be read: the cursor goes on, and it would be missing.
        while cursor.position() < end && bytes < limits::FOLLOW_BATCH_BYTES && batch.len() < limits::INDEX_BATCH_EVENTS
        {
            match cursor.next_record() {
                Ok(Some(record)) => {
                    bytes += record.payload.len();
                    batch.push(record);
                }
                Ok(None) => break,
                Err(e) => {
                    broken = Some(e.to_string());
                    break;
                }
            }
        }
        let fed = if batch.is_empty() { Ok(()) } else { sink(&batch) };
        match (fed, broken) {
            (Ok(()), None) => {}
            (Ok(()), Some(why)) => {
                tracing::error!("the index misses records: {why}");
                self.pause.sink = Some(later());
            }
            (Err(why), _) => {
                tracing::warn!("the index did not take {} records: {why}", batch.len());
                *cursor = cursor.again(from);
                self.pause.sink = Some(later());
            }
        }
    }

    fn sign_if_due(&mut self, shared: &Shared) -> Result<(), JournalError> {
        let wished = locked(&shared.desk.wishes).sign;
        let size = self.tree.size();
        let asked = wished > self.checkpoints.signed && size >= wished;
        let time = self.checkpoints.at.is_none_or(|at| at.elapsed() >= limits::CHECKPOINT_INTERVAL);
        if !is_due(self.pause.tree) || !(asked || (self.checkpoints.active && time)) {
            return Ok(());
        }
        self.sign(shared, false)
    }

    /// Signs the tree as it is, after everything that it covers is on disk.
    fn sign(&mut self, shared: &Shared, last: bool) -> Result<(), JournalError> {
        let size = self.tree.size();
        shared.syncer.wait_blocking(size)?;
        let signed = SignedTree::sign(size, self.tree.root(), &self.signer);
        let path = shared.layout.checkpoint();
        let settled = self.tiles.settle(&self.tree).and_then(|old| {
            self.checkpoints.old.extend(old);
            signed::publish(&shared.layout, &signed)
        });
        settled.map_err(|e| JournalError::io("sign a checkpoint", &path, e))?;
        signed::remove_tiles(&std::mem::take(&mut self.checkpoints.old));
        self.checkpoints.signed = size;
        self.checkpoints.at = Some(Instant::now());
        self.checkpoints.active = false;
        // Told before it is reported: who waited for it finds it in the journal as well.
        if !last {
            self.tell(shared, signed);
        }
        self.report(shared);
        shared.sealing.signed(size);
        Ok(())
    }

    /// Puts a checkpoint into the journal itself. With a full disk it stays in the history alone.
    fn tell(&mut self, shared: &Shared, signed: SignedTree) {
        let event = Event::new(clock::now(), bodies::Checkpoint { size: signed.size, note: signed.note });
        if let Ok(position) = shared.append_event(&event) {
            self.checkpoints.told = Some(position.first);
        }
    }

    /// Has a spare segment ready, so that appending never waits for one.
    fn keep_spare(&mut self, shared: &Shared) {
        let (missing, bytes) = {
            let writer = locked(&shared.writer);
            (writer.spare.is_none() || writer.full, writer.segment_bytes)
        };
        if !missing || !is_due(self.pause.spare) {
            return;
        }
        let Ok(spare) = Spare::make(&shared.layout, shared.layout.spare(), bytes) else {
            locked(&shared.writer).full = true;
            self.pause.spare = Some(later());
            return;
        };
        self.pause.spare = None;
        let mut writer = locked(&shared.writer);
        writer.full = false;
        if writer.spare.is_none() {
            writer.spare = Some(spare);
        } else {
            // One was made in between where it was needed at once.
            let _ = std::fs::remove_file(spare.path);
        }
    }
}
