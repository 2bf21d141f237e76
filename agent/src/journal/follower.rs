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
use crewtap_core::chain::frame::Frame;
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

/// Below the threads that move bytes, and above what only tidies up.
const NICE: i32 = 5;

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
    /// The sink is to have all records before this number at once.
    feed: u64,
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

    /// Asks that the sink gets all records before `end` without delay.
    pub(super) fn feed(&self, end: u64) {
        let mut wishes = locked(&self.wishes);
        wishes.feed = wishes.feed.max(end);
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
    pub(super) sink: Option<Feed>,
    pub(super) checkpoints: Checkpoints,
    pub(super) pause: Pause,
    pub(super) pace: Pace,
}

/// How fast records come: while they come fast, the sink waits for a quieter moment.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// When was looked, and how many records there were.
    last: Option<(Instant, u64)>,
    is_fast: bool,
}

impl Pace {
    fn look(&mut self, end: u64) {
        let now = Instant::now();
        let Some((at, count)) = self.last else {
            self.last = Some((now, end));
            return;
        };
        let since = now - at;
        if since >= limits::FOLLOW_INTERVAL {
            let per_second = (end - count).saturating_mul(1000) / u64::try_from(since.as_millis()).unwrap_or(1).max(1);
            self.is_fast = per_second >= limits::INDEX_DEFERRED_AT;
            self.last = Some((now, end));
        }
    }
}

/// The sink, and where it is.
pub(super) struct Feed {
    sink: Sink,
    /// Stands behind the last record that the sink has taken.
    cursor: Cursor,
    /// Records behind that which the tree has just got: they wait for others, so that the sink gets few and large batches.
    waiting: Vec<Record>,
    /// The number behind them, and their bytes.
    reach: u64,
    bytes: usize,
    /// Since when the first of them waits.
    since: Instant,
}

impl Feed {
    pub(super) fn new(cursor: Cursor, sink: Sink) -> Self {
        let reach = cursor.position();
        Self { sink, cursor, waiting: Vec::new(), reach, bytes: 0, since: Instant::now() }
    }

    fn add(&mut self, frame: Frame<'_>) {
        if self.reach == self.cursor.position() {
            self.since = Instant::now();
        }
        self.reach = frame.seq + 1;
        self.bytes += frame.event.len() + frame.bytes().unwrap_or_default().len();
        self.waiting.extend(Record::try_from(frame).ok());
    }

    fn is_full(&self) -> bool {
        self.bytes >= limits::FOLLOW_BATCH_BYTES || self.waiting.len() >= limits::FOLLOW_BATCH_EVENTS
    }

    /// Nothing waits any more: it is read again.
    fn forget(&mut self) {
        self.waiting.clear();
        (self.reach, self.bytes) = (self.cursor.position(), 0);
    }

    /// Gives the sink what waits.
    fn give(&mut self) -> Result<(), String> {
        if self.reach == self.cursor.position() {
            return Ok(());
        }
        let given = if self.waiting.is_empty() { Ok(()) } else { (self.sink)(&self.waiting) };
        if given.is_ok() {
            self.cursor = self.cursor.again(self.reach);
        }
        self.forget();
        given
    }
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
        // Traffic goes first: what is behind catches up when there is time. Without it the thread takes its share.
        let _ = rustix::process::setpriority_process(None, NICE);
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
            self.pace.look(end);
            let deferred = !stop && self.is_deferred(shared, end);
            let followed = self.follow(end, deferred);
            self.give(shared, stop);
            if !deferred {
                self.feed(end);
            }
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
            idle = match moved {
                // Nobody waits for an interval while there is work.
                true if self.cursor.position() < shared.end() => Duration::ZERO,
                true if !deferred && self.reach() < shared.end() => Duration::ZERO,
                true => limits::FOLLOW_INTERVAL,
                false => (idle * 2).clamp(limits::FOLLOW_INTERVAL, limits::FOLLOW_IDLE_INTERVAL),
            };
        }
    }

    /// The last look: the sink gets what is left, and the end is signed.
    fn finish(&mut self, shared: &Shared, end: u64) -> Result<(), JournalError> {
        while self.fed() < end && self.sink.is_some() {
            let before = self.fed();
            self.give(shared, true);
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

    /// Records that the sink has taken.
    fn fed(&self) -> u64 {
        self.sink.as_ref().map_or(u64::MAX, |feed| feed.cursor.position())
    }

    /// Those, and the ones that wait for it.
    fn reach(&self) -> u64 {
        self.sink.as_ref().map_or(u64::MAX, |feed| feed.reach)
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
    fn follow(&mut self, end: u64, deferred: bool) -> Result<(), JournalError> {
        if self.cursor.position() >= end || !is_due(self.pause.tree) {
            return Ok(());
        }
        let known = self.tree.clone();
        let outcome = self.take_batch(end, deferred);
        if outcome.is_err() {
            self.cursor = self.cursor.again(known.size());
            self.tree = known;
            // What of the batch waits for the sink is not in the tree after all.
            self.sink.iter_mut().for_each(Feed::forget);
        }
        outcome
    }

    fn take_batch(&mut self, end: u64, deferred: bool) -> Result<(), JournalError> {
        let (mut bytes, mut count) = (0, 0);
        let in_step = self.reach() == self.cursor.position() && is_due(self.pause.sink) && !deferred;
        let mut feed = self.sink.as_mut().filter(|_| in_step);
        while self.cursor.position() < end
            && bytes < limits::FOLLOW_BATCH_BYTES
            && count < limits::FOLLOW_BATCH_EVENTS
            && !feed.as_ref().is_some_and(|feed| feed.is_full())
        {
            let Some(frame) = self.cursor.next_frame().map_err(JournalError::Behind)? else { break };
            bytes += frame.event.len() + frame.bytes().unwrap_or_default().len();
            count += 1;
            let tiles = &mut self.tiles;
            self.tree
                .push(frame.leaf(), |tile| tiles.write(tile).map(drop))
                .map_err(|e| JournalError::io("write a tile", &PathBuf::from("journal/tile"), e))?;
            self.checkpoints.active |= self.checkpoints.told != Some(frame.seq);
            if let Some(feed) = &mut feed {
                feed.add(frame);
            }
        }
        Ok(())
    }

    /// Whether the sink waits: records come fast, nobody asks for what it has, and it is not far behind.
    fn is_deferred(&self, shared: &Shared, end: u64) -> bool {
        let fed = self.fed();
        self.pace.is_fast
            && locked(&shared.desk.wishes).feed <= fed
            && end.saturating_sub(fed) < limits::INDEX_BEHIND_MAX
    }

    /// Gives the sink what waits for it, when that is enough, or for long enough, or somebody asks for it.
    fn give(&mut self, shared: &Shared, now: bool) {
        let Some(feed) = &mut self.sink else { return };
        let wished = locked(&shared.desk.wishes).feed;
        let asked = wished > feed.cursor.position() && feed.reach >= wished;
        if !(now || asked || feed.is_full() || feed.since.elapsed() >= limits::INDEX_LINGER) {
            return;
        }
        let count = feed.waiting.len();
        if let Err(why) = feed.give() {
            tracing::warn!("the index did not take {count} records: {why}");
            self.pause.sink = Some(later());
        }
    }

    /// Brings the sink after the tree, where it fell behind.
    fn feed(&mut self, end: u64) {
        let Some(feed) = &mut self.sink else { return };
        let from = feed.cursor.position();
        if feed.reach > from || from >= end.min(self.cursor.position()) || !is_due(self.pause.sink) {
            return;
        }
        let Feed { cursor, sink, .. } = feed;
        let (mut bytes, mut batch) = (0, Vec::new());
        let mut broken = None;
        // A record behind `end` must not be read: the cursor goes on, and it would be missing.
        while cursor.position() < end && bytes < limits::FOLLOW_BATCH_BYTES && batch.len() < limits::FOLLOW_BATCH_EVENTS
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
        feed.forget();
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
