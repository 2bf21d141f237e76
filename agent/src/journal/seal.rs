//! Sealing: the thread that compresses full segments which a checkpoint covers, one at a time, when the processor has
//! nothing better to do.
//!
//! A sealed segment is written beside the plain one, synced, compared with the signed tree as a reader would read it,
//! and then takes the plain one's place and name in one step: whenever the agent dies, there is the one or the other.
//! Never holds up an append, a checkpoint or the agent's end, and never takes the room that the next segment needs.

use std::fs::{self, OpenOptions};
use std::io;
use std::sync::{Condvar, Mutex, PoisonError};

use crewtap_core::chain::frame::{self, HEADER_BYTES};
use crewtap_core::chain::note::{SignedTree, VerifierKey};
use crewtap_core::chain::proof::{Nodes, inclusion, is_included};
use crewtap_core::chain::seal::Part;
use crewtap_core::chain::tree::{Hash, TILE_WIDTH, perfect_root};
use crewtap_core::limits;

use super::pack::Packer;
use super::scan::{Found, Scan};
use super::sealed::Source;
use super::signed::read_tile;
use super::store::{Layout, sync_dir};
use super::{locked, segment};

/// The lowest priority there is: any other thread goes first.
const NICE: i32 = 19;

#[derive(Debug, Default)]
struct State {
    /// The newest checkpoint covers all records before this number.
    signed: u64,
    /// What that checkpoint allows to seal was tried.
    settled: u64,
    stop: bool,
}

/// What the thread is told.
#[derive(Debug)]
pub(super) struct Sealing {
    state: Mutex<State>,
    wake: Condvar,
}

impl Sealing {
    pub(super) fn new() -> Self {
        Self { state: Mutex::default(), wake: Condvar::new() }
    }

    /// A checkpoint was published.
    pub(super) fn signed(&self, size: u64) {
        locked(&self.state).signed = size;
        self.wake.notify_all();
    }

    /// Leaves at once what it does: a segment that is not sealed now is sealed by the next agent.
    pub(super) fn stop(&self) {
        locked(&self.state).stop = true;
        self.wake.notify_all();
    }

    fn is_stopped(&self) -> bool {
        locked(&self.state).stop
    }

    /// Waits for a newer checkpoint, or for another try; none when it is time to stop.
    fn next(&self, seen: Option<u64>, again: bool) -> Option<u64> {
        let mut state = locked(&self.state);
        state.settled = seen.unwrap_or(0);
        self.wake.notify_all();
        let idle = |state: &mut State| !state.stop && Some(state.signed) <= seen;
        let state = if again {
            self.wake
                .wait_timeout_while(state, limits::SEAL_RETRY_INTERVAL, idle)
                .unwrap_or_else(PoisonError::into_inner)
                .0
        } else {
            self.wake.wait_while(state, idle).unwrap_or_else(PoisonError::into_inner)
        };
        (!state.stop).then_some(state.signed)
    }

    /// Waits until everything that a checkpoint covers was tried.
    #[cfg(test)]
    pub(super) fn settle(&self, size: u64) {
        let state = locked(&self.state);
        drop(self.wake.wait_while(state, |state| !state.stop && state.settled < size).unwrap());
    }

    /// The thread's work, until it is stopped.
    pub(super) fn run(&self, mut sealer: Sealer) {
        // Threads of Linux have priorities of their own. Without it sealing takes its share, and that is all.
        let _ = rustix::process::setpriority_process(None, NICE);
        let (mut seen, mut again) = (None, false);
        while let Some(signed) = self.next(seen, again) {
            again = !sealer.seal_all(signed, &|| self.is_stopped());
            seen = Some(signed);
        }
    }
}

/// Why a segment was not sealed.
#[derive(Debug, thiserror::Error)]
pub(super) enum SealError {
    #[error("the agent ends")]
    Stopped,
    #[error("the room that is left on the disk is for records")]
    NoRoom,
    #[error("{0}")]
    Io(#[from] io::Error),
    /// It stays as it is: evidence is not rewritten.
    #[error("{0}; `crewtap verify` tells more")]
    Damaged(String),
}

/// Seals the segments of one store.
#[derive(Debug)]
pub(super) struct Sealer {
    layout: Layout,
    key: VerifierKey,
    /// Size of further segments: so much room is left alone.
    segment_bytes: u64,
    /// All segments before the one that begins with this record were sealed or given up.
    next: u64,
    /// It was said that there is no room.
    told: bool,
}

impl Sealer {
    pub(super) fn new(layout: Layout, key: VerifierKey, segment_bytes: u64) -> Self {
        Self { layout, key, segment_bytes, next: 0, told: false }
    }

    /// Seals what can be sealed; false when there is something to be tried again later.
    fn seal_all(&mut self, signed: u64, is_stopped: &dyn Fn() -> bool) -> bool {
        let Ok(firsts) = segment::list(&self.layout) else { return false };
        for (first, limit) in firsts.iter().copied().zip(firsts.iter().copied().skip(1)) {
            if limit > signed {
                break;
            }
            if first < self.next {
                continue;
            }
            let path = self.layout.segment(first);
            match self.seal(first, limit, is_stopped) {
                Ok(()) => self.told = false,
                Err(SealError::Stopped) => return true,
                Err(SealError::Damaged(why)) => tracing::warn!("{} is not compressed: {why}", path.display()),
                Err(error) => {
                    if !std::mem::replace(&mut self.told, true) {
                        tracing::info!("{} is not compressed yet: {error}", path.display());
                    }
                    return false;
                }
            }
            self.next = limit;
        }
        true
    }

    /// Seals one segment, if it is not sealed yet. What was begun and cannot be finished is removed.
    fn seal(&self, first: u64, limit: u64, is_stopped: &dyn Fn() -> bool) -> Result<(), SealError> {
        if Source::open(&self.layout.segment(first))?.sealed().is_some() {
            return Ok(());
        }
        let outcome = self
            .pack(first, limit, is_stopped)
            .and_then(|used| self.check(first, limit, used, is_stopped))
            .and_then(|()| Ok(self.replace(first)?));
        if outcome.is_err() {
            // It may never have been made; what is left of it is swept by the next agent.
            let _ = fs::remove_file(self.layout.sealing());
        }
        outcome
    }

    /// Writes the sealed form beside the plain one, and syncs it; answers the bytes that it stands for.
    pub(super) fn pack(&self, first: u64, limit: u64, is_stopped: &dyn Fn() -> bool) -> Result<u64, SealError> {
        let path = self.layout.segment(first);
        let (source, header) = segment::open(&self.layout, self.key.store(), first)?;
        header.map_err(|fault| SealError::Damaged(fault.to_string()))?;
        let mut options = OpenOptions::new();
        let file = self.layout.file(&self.layout.sealing(), options.write(true).create(true).truncate(true))?;
        let mut packer = Packer::new(file, &frame::header(self.key.store(), first))?;
        let mut scan = Scan::new(source, HEADER_BYTES as u64, first, limit);
        loop {
            let seq = scan.next;
            match scan.step()? {
                Found::Record { offset, bytes } => {
                    let record = scan.bytes(offset, bytes).unwrap_or_default();
                    if packer.is_full(record) {
                        self.may_go_on(packer.bytes_max(), is_stopped)?;
                        packer.flush()?;
                    }
                    packer.add(seq, record);
                }
                Found::End { garbage: None, .. } if scan.next == limit => break,
                _ => return Err(SealError::Damaged(format!("record {} is damaged or missing", scan.next))),
            }
        }
        self.may_go_on(packer.bytes_max(), is_stopped)?;
        packer.finish(fs::metadata(path)?.modified()?)?;
        Ok(scan.offset)
    }

    fn may_go_on(&self, bytes: u64, is_stopped: &dyn Fn() -> bool) -> Result<(), SealError> {
        if is_stopped() {
            return Err(SealError::Stopped);
        }
        let disk = nix::sys::statvfs::statvfs(&self.layout.journal()).map_err(io::Error::from)?;
        let left = disk.blocks_available().saturating_mul(disk.fragment_size());
        if left < self.segment_bytes.saturating_add(bytes) { Err(SealError::NoRoom) } else { Ok(()) }
    }

    /// Reads the sealed form back, and compares every leaf in it with the root that was signed.
    pub(super) fn check(
        &self,
        first: u64,
        limit: u64,
        used: u64,
        is_stopped: &dyn Fn() -> bool,
    ) -> Result<(), SealError> {
        let wrong = |why: String| SealError::Damaged(format!("its sealed form is not right: {why}"));
        let source = Source::open(&self.layout.sealing())?;
        let parts: Vec<Part> = match source.sealed() {
            Some(sealed) if sealed.fault.is_none() => sealed.parts.clone(),
            _ => return Err(wrong("its tables are damaged".into())),
        };
        let mut scan = Scan::new(source.into(), HEADER_BYTES as u64, first, limit);
        let (mut tree, mut row) = (SignedTiles::new(self), Vec::new());
        while scan.next < limit {
            let seq = scan.next;
            let Found::Record { offset, bytes } = scan.step()? else {
                return Err(wrong(format!("record {seq} is not in it")));
            };
            let leaf = scan.frame(offset, bytes).ok_or_else(|| wrong(format!("record {seq} is not whole")))?.leaf();
            row.push(leaf);
            if scan.next == limit || scan.next.is_multiple_of(TILE_WIDTH) {
                if is_stopped() {
                    return Err(SealError::Stopped);
                }
                let start = scan.next - row.len() as u64;
                tree.compare(start, &std::mem::take(&mut row))?;
            }
        }
        let damaged = scan.file().faults().next();
        match (scan.step()?, damaged) {
            (Found::End { garbage: None, offset }, None) if offset == used => {}
            _ => return Err(wrong("it is not what was put in".into())),
        }
        if parts.iter().map(|part| u64::from(part.plain)).sum::<u64>() == used {
            Ok(())
        } else {
            Err(wrong("it has another length".into()))
        }
    }

    /// The sealed form takes the place of the plain one. Who has that open reads on in it.
    pub(super) fn replace(&self, first: u64) -> io::Result<()> {
        let path = self.layout.segment(first);
        fs::rename(self.layout.sealing(), &path)?;
        sync_dir(&path)
    }
}

/// The tree of the newest checkpoint, from its tiles.
struct SignedTiles<'a> {
    sealer: &'a Sealer,
    signed: Option<SignedTree>,
}

impl<'a> SignedTiles<'a> {
    fn new(sealer: &'a Sealer) -> Self {
        Self { sealer, signed: None }
    }

    /// Whether these neighbouring leaves, of one tile, are the ones that were signed.
    fn compare(&mut self, start: u64, leaves: &[Hash]) -> Result<(), SealError> {
        for _ in 0..limits::SEAL_LOOKS {
            if self.signed.is_none() {
                let note = fs::read_to_string(self.sealer.layout.checkpoint())?;
                let signed = SignedTree::open(&note, &self.sealer.key);
                self.signed = Some(signed.map_err(|e| SealError::Damaged(format!("the checkpoint: {e}")))?);
            }
            match self.signed.as_ref().and_then(|signed| self.is_signed(signed, start, leaves)) {
                Some(true) => return Ok(()),
                Some(false) => {
                    let end = start + leaves.len() as u64;
                    let why = format!("the records from {start} to before {end} are not those that were signed");
                    return Err(SealError::Damaged(why));
                }
                // The follower has put a wider tile in the place of one that this checkpoint needs.
                None => self.signed = None,
            }
        }
        Err(SealError::Damaged("tiles of the newest checkpoint are missing".into()))
    }

    /// None when a tile is missing.
    fn is_signed(&self, signed: &SignedTree, start: u64, leaves: &[Hash]) -> Option<bool> {
        let within = usize::try_from(start % TILE_WIDTH).ok()?;
        let mut nodes = Stored { layout: &self.sealer.layout, size: signed.size };
        let row = nodes.tile(0, start / TILE_WIDTH)?;
        if row.get(within..within + leaves.len()) != Some(leaves) {
            return Some(false);
        }
        // The path holds the rest of the tile: it proves every leaf of it.
        let path = inclusion(start, signed.size, &mut nodes)?;
        Some(is_included(leaves.first()?, start, signed.size, &path, &signed.root))
    }
}

/// Nodes of a tree of a size, from its tiles.
struct Stored<'a> {
    layout: &'a Layout,
    size: u64,
}

impl Stored<'_> {
    fn tile(&self, level: u32, index: u64) -> Option<Vec<Hash>> {
        let nodes = self.size.checked_shr(8 * level).unwrap_or(0);
        let width = nodes.checked_sub(index * TILE_WIDTH)?.min(TILE_WIDTH);
        if width == 0 { None } else { read_tile(self.layout, level, index, width) }
    }
}

impl Nodes for Stored<'_> {
    fn node(&mut self, level: u32, index: u64) -> Option<Hash> {
        let (tile_level, height) = (level / 8, level % 8);
        let start = index << height;
        let row = self.tile(tile_level, start / TILE_WIDTH)?;
        let from = usize::try_from(start % TILE_WIDTH).ok()?;
        perfect_root(row.get(from..from + (1 << height))?)
    }
}
