//! The journal: append-only, hash-chained, signed. The truth of what happened.
//!
//! ```text
//! append -> writer (segment file) .. follower: tree, tiles, sink (the index), checkpoints
//!                                 .. syncer: fdatasync for those who wait, and before each checkpoint
//!                                 .. sealer: full segments that are signed, compressed in their place
//! ```
//! Never queues: an append is in the file when it returns, or it failed. Nobody is woken by it.

mod follower;
mod pack;
mod reader;
mod recover;
mod scan;
mod seal;
mod sealed;
mod segment;
mod signed;
mod store;
mod sync;
mod verify;
mod writer;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use crewtap_core::bodies;
use crewtap_core::chain::Record;
use crewtap_core::chain::frame::Head;
use crewtap_core::chain::note::VerifierKey;
use crewtap_core::event::{Event, EventError};
use crewtap_core::limits;
use crewtap_core::mask::digest::DigestKey;

pub use reader::{ReadError, Reader, Records};
pub use store::{GROUP, Layout};
pub use verify::{Report, verify};

use crate::clock;
use follower::{Checkpoints, Desk, Feed, Follower, Pace, Pause};
use reader::Cursor;
use seal::{Sealer, Sealing};
use store::{Keys, Lock};
use sync::Syncer;
use writer::{Burst, State, Writer};

/// When a record counts as kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Durability {
    /// Written to the file: it survives the agent's death. A power cut loses at most a second.
    #[default]
    Process,
    /// Synced to disk: it survives a power cut.
    Disk,
}

/// How a journal is opened.
#[derive(Clone, Debug)]
pub struct Options {
    /// What [`Journal::durable`] waits for.
    pub durability: Durability,
    /// Size of a segment in bytes; less on a small file system.
    pub segment_bytes: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self { durability: Durability::default(), segment_bytes: limits::SEGMENT_BYTES }
    }
}

/// Takes records in batches, in order, off the path of appends. What it refuses comes again.
pub type Sink = Box<dyn FnMut(&[Record]) -> Result<(), String> + Send>;

/// One record to be appended.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// The event.
    pub event: &'a Event,
    /// The payload in parts, never copied together.
    pub payload: &'a [&'a [u8]],
}

/// One record to be appended, its event in the journal's form.
#[derive(Clone, Copy, Debug)]
pub struct Formed<'a> {
    /// The event, as [`Event::to_cbor`] gives it.
    pub event: &'a [u8],
    /// The payload in parts, never copied together.
    pub payload: &'a [&'a [u8]],
}

/// Where a burst of records is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Position {
    /// Number of its first record.
    pub first: u64,
    /// Number after its last record.
    pub end: u64,
}

/// Why something was not recorded, or a store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The operating system's words.
    #[error("cannot {doing} {}: {source}", path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// With which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Another agent writes to the store.
    #[error("another crewtap agent (pid {pid}) writes to this store; it holds {}", path.display())]
    InUse {
        /// The lock file.
        path: PathBuf,
        /// Its process id.
        pid: String,
    },
    /// The disk is full.
    #[error("the disk of the journal is full: free some space; recording goes on within a second of it")]
    Full,
    /// The records do not fit.
    #[error("{bytes} bytes do not fit into a record or segment of at most {max}")]
    TooLarge {
        /// Bytes wanted.
        bytes: u64,
        /// Bytes possible.
        max: u64,
    },
    /// The event cannot be encoded.
    #[error(transparent)]
    Event(#[from] EventError),
    /// What was signed is not there any more.
    #[error("the store was changed by somebody else: {0}; run `crewtap verify`, and move it away to start a new one")]
    Tampered(String),
    /// The follower cannot read what was written.
    #[error("the journal cannot be read back: {0}")]
    Behind(#[source] ReadError),
    /// The journal was closed.
    #[error("the journal is closed")]
    Closed,
    /// A write to disk was lost.
    #[error("{0}")]
    Failed(String),
    /// No checkpoint could be signed.
    #[error("no checkpoint could be signed: {0}")]
    Unsigned(String),
}

impl JournalError {
    fn io(doing: &'static str, path: &Path, source: io::Error) -> Self {
        if source.raw_os_error() == Some(libc::ENOSPC) {
            return Self::Full;
        }
        Self::Io { doing, path: path.into(), source }
    }
}

/// What the threads share.
pub(crate) struct Shared {
    layout: Layout,
    writer: Mutex<Writer>,
    /// Number of the next record; for those who only want to know.
    end: AtomicU64,
    syncer: Syncer,
    desk: Desk,
    sealing: Sealing,
}

impl Shared {
    fn end(&self) -> u64 {
        self.end.load(Ordering::Acquire)
    }

    fn append(&self, entries: &[Formed<'_>], closing: bool) -> Result<Position, JournalError> {
        let mut burst = encode(entries)?;
        let mut writer = locked(&self.writer);
        if burst.bytes() > writer.burst_max() && entries.len() > 1 {
            drop(writer);
            return self.append_apart(entries, closing);
        }
        let position = writer.append(&mut burst, closing)?;
        self.end.store(position.end, Ordering::Release);
        Ok(position)
    }

    /// A burst larger than a segment goes record by record.
    fn append_apart(&self, entries: &[Formed<'_>], closing: bool) -> Result<Position, JournalError> {
        let mut whole: Option<Position> = None;
        for entry in entries {
            let one = self.append(std::slice::from_ref(entry), closing)?;
            whole = Some(Position { first: whole.map_or(one.first, |whole| whole.first), end: one.end });
        }
        whole.ok_or(JournalError::Closed)
    }

    fn append_event(&self, event: &Event) -> Result<Position, JournalError> {
        self.append(&[Formed { event: &event.to_cbor()?, payload: &[] }], false)
    }
}

/// Everything that needs no lock.
fn encode<'a>(entries: &[Formed<'a>]) -> Result<Burst<'a>, JournalError> {
    let mut random = rand::rng();
    let mut burst = Burst { heads: Vec::with_capacity(entries.len() * 512), records: Vec::new() };
    for entry in entries {
        let bytes: usize = entry.payload.iter().map(|part| part.len()).sum();
        if bytes > limits::PAYLOAD_BYTES_MAX {
            return Err(JournalError::TooLarge { bytes: bytes as u64, max: limits::PAYLOAD_BYTES_MAX as u64 });
        }
        let salt = rand::RngExt::random(&mut random);
        let head = Head::write(&mut burst.heads, salt, entry.event, entry.payload);
        burst.records.push((head, burst.heads.len(), entry.payload));
    }
    Ok(burst)
}

/// The journal of a data directory, open for appending. Clones are the same journal; the last one closes it.
#[derive(Clone)]
pub struct Journal {
    inner: Arc<Inner>,
}

struct Inner {
    shared: Arc<Shared>,
    durability: Durability,
    verifier: VerifierKey,
    store_key: DigestKey,
    threads: Mutex<Option<Threads>>,
}

struct Threads {
    follower: JoinHandle<Result<(), JournalError>>,
    syncer: JoinHandle<()>,
    sealer: JoinHandle<()>,
    _lock: Lock,
}

impl Journal {
    /// Opens the store, makes it where there is none, and cuts off a torn end (a `Recovered` event tells of it).
    /// The sink gets every record from the given number on.
    ///
    /// # Errors
    /// When another agent writes to the store, when something that was signed is not there any more, or for want
    /// of rights or space.
    pub fn open(data_dir: &Path, options: &Options, sink: Option<(u64, Sink)>) -> Result<Self, JournalError> {
        let layout = Layout::new(data_dir);
        layout.create()?;
        let lock = Lock::take(&layout)?;
        let firsts =
            segment::list(&layout).map_err(|e| JournalError::io("list the segments of", &layout.journal(), e))?;
        let keys = Keys::open(&layout, firsts.is_empty())?;
        let verifier = keys.signer.verifier();
        let ready = recover::recover(&layout, &verifier, options)?;
        let bytes = segment::fitting(&layout.journal(), options.segment_bytes)
            .map_err(|e| JournalError::io("measure the disk of", &layout.journal(), e))?;
        let writer = Writer {
            layout: layout.clone(),
            store: verifier.store(),
            file: Arc::new(ready.end.file),
            capacity: ready.end.capacity,
            offset: ready.end.offset,
            next: ready.end.next,
            segment_bytes: bytes,
            spare: None,
            full: false,
            dirty: None,
            state: State::Open,
            retired: Vec::new(),
            renamed: true,
        };
        let shared = Arc::new(Shared {
            layout: layout.clone(),
            end: AtomicU64::new(writer.next),
            writer: Mutex::new(writer),
            syncer: Syncer::new(),
            desk: Desk::new(),
            sealing: Sealing::new(),
        });
        if let Some(cut_bytes) = ready.end.cut {
            let next = ready.end.next;
            shared.append_event(&Event::new(clock::now(), bodies::Recovered { from: next, to: next, cut_bytes }))?;
        }
        let sealer = Sealer::new(layout.clone(), verifier.clone(), bytes);
        let reader = Reader::of(layout, verifier.clone());
        let signed = ready.tree.size();
        shared.sealing.signed(signed);
        let follower = Follower {
            cursor: Cursor::new(reader.clone(), signed),
            tree: ready.tree,
            tiles: ready.tiles,
            signer: keys.signer,
            sink: sink.map(|(from, sink)| Feed::new(Cursor::new(reader, from), sink)),
            checkpoints: Checkpoints { signed, untold: ready.end.untold, ..Checkpoints::default() },
            pause: Pause::default(),
            pace: Pace::default(),
        };
        let threads = spawn(&shared, follower, sealer, lock)?;
        let (durability, store_key) = (options.durability, keys.store);
        let inner = Inner { shared, durability, verifier, store_key, threads: Mutex::new(Some(threads)) };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Appends records as one burst. When it returns they are in the file.
    ///
    /// # Errors
    /// When they are not: the disk is full, a record is too large, or the journal is closed. Nothing of the burst
    /// is kept then, unless it is larger than a whole segment.
    pub fn append(&self, entries: &[Entry<'_>]) -> Result<Position, JournalError> {
        let events = entries.iter().map(|entry| entry.event.to_cbor()).collect::<Result<Vec<_>, _>>()?;
        let formed = events.iter().zip(entries).map(|(event, entry)| Formed { event, payload: entry.payload });
        self.append_formed(&formed.collect::<Vec<_>>())
    }

    /// The same, of events that are in the journal's form already.
    ///
    /// # Errors
    /// As [`Self::append`].
    pub fn append_formed(&self, entries: &[Formed<'_>]) -> Result<Position, JournalError> {
        self.inner.shared.append(entries, false)
    }

    /// The same for the events that close what is open; they may use the reserve of a full disk.
    ///
    /// # Errors
    /// As [`Self::append`].
    pub fn append_closing(&self, entries: &[Formed<'_>]) -> Result<Position, JournalError> {
        self.inner.shared.append(entries, true)
    }

    /// Waits until a burst is kept as the configured durability says.
    ///
    /// # Errors
    /// When the disk refused it: the journal takes nothing more then.
    pub async fn durable(&self, position: Position) -> Result<(), JournalError> {
        match self.inner.durability {
            Durability::Process => Ok(()),
            Durability::Disk => self.inner.shared.syncer.wait(position.end).await,
        }
    }

    /// Signs a checkpoint over everything appended so far; answers how many records it covers.
    ///
    /// # Errors
    /// When the attempt fails, as on a full disk. It is tried again later by itself.
    pub async fn checkpoint_now(&self) -> Result<u64, JournalError> {
        let shared = &self.inner.shared;
        let end = shared.end();
        let mut progress = shared.desk.progress.subscribe();
        let failures = progress.borrow().failures;
        shared.desk.sign(end);
        let done = progress
            .wait_for(|now| now.signed >= end || now.failures > failures || now.ended)
            .await
            .map_err(|_| JournalError::Closed)?;
        match () {
            () if done.signed >= end => Ok(done.signed),
            () if done.failures > failures => Err(JournalError::Unsigned(done.failure.clone())),
            () => Err(JournalError::Closed),
        }
    }

    /// Waits until the sink has taken the record of this number.
    ///
    /// # Errors
    /// When the journal is closed before.
    pub async fn caught_up(&self, leaf: u64) -> Result<(), JournalError> {
        let desk = &self.inner.shared.desk;
        let mut progress = desk.progress.subscribe();
        desk.feed(leaf.saturating_add(1));
        let done = progress.wait_for(|now| now.fed > leaf || now.ended).await;
        let done = done.map_err(|_| JournalError::Closed)?;
        if done.fed > leaf { Ok(()) } else { Err(JournalError::Closed) }
    }

    /// Resolves when nothing hashes, signs and indexes any more: the journal was closed, or its thread has failed.
    pub async fn ended(&self) {
        let mut progress = self.inner.shared.desk.progress.subscribe();
        // The sender lives as long as the journal: an error is an end, too.
        let _ = progress.wait_for(|now| now.ended).await;
    }

    /// Number of the next record.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.inner.shared.end()
    }

    /// The key for digests of values that are not kept.
    #[must_use]
    pub fn store_key(&self) -> DigestKey {
        self.inner.store_key.clone()
    }

    /// The store's public key.
    #[must_use]
    pub fn verifier(&self) -> &VerifierKey {
        &self.inner.verifier
    }

    /// Takes nothing more, signs what is there, and lets another agent have the store.
    ///
    /// # Errors
    /// When the last checkpoint could not be signed; the records are in the file all the same.
    pub fn close(&self) -> Result<(), JournalError> {
        self.inner.close()
    }
}

impl std::fmt::Debug for Journal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Journal").field("end", &self.end()).finish_non_exhaustive()
    }
}

impl Inner {
    fn close(&self) -> Result<(), JournalError> {
        let Some(threads) = locked(&self.threads).take() else { return Ok(()) };
        {
            let mut writer = locked(&self.shared.writer);
            if matches!(writer.state, State::Open) {
                writer.state = State::Closed;
            }
        }
        self.shared.sealing.stop();
        self.shared.desk.stop();
        let followed = threads.follower.join();
        self.shared.syncer.stop();
        let synced = threads.syncer.join();
        let sealed = threads.sealer.join();
        // The spare is nobody's evidence; the next agent makes its own.
        locked(&self.shared.writer).spare = None;
        let _ = segment::remove_spares(&self.shared.layout);
        match (followed, synced, sealed) {
            (Ok(outcome), Ok(()), Ok(())) => outcome,
            _ => Err(JournalError::Failed("a thread of the journal ended early".into())),
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Err(error) = self.close() {
            tracing::error!("the journal was closed without a checkpoint: {error}");
        }
    }
}

fn spawn(shared: &Arc<Shared>, follower: Follower, sealer: Sealer, lock: Lock) -> Result<Threads, JournalError> {
    let start = |name: &str| std::thread::Builder::new().name(name.into());
    let failed = |e| JournalError::io("start a thread for", &shared.layout.journal(), e);
    let (for_sync, for_follow, for_seal) = (Arc::clone(shared), Arc::clone(shared), Arc::clone(shared));
    let syncer = start("journal-sync").spawn(move || for_sync.syncer.run(&for_sync.writer)).map_err(failed)?;
    let follower = start("journal-follow").spawn(move || follower.run(&for_follow)).map_err(failed)?;
    let sealer = start("journal-seal").spawn(move || for_seal.sealing.run(sealer)).map_err(failed)?;
    Ok(Threads { follower, syncer, sealer, _lock: lock })
}

/// A lock whose holder panicked holds a value that is still whole: every change to it is made in one go.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
