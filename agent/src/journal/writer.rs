//! The one place that writes records: numbers them, puts them into the active segment, goes on to the next.
//!
//! Never leaves half a record before a good one: what a failed write may have left is zeroed before anything else
//! is written, and the position moves only over whole bursts.

use std::fs::File;
use std::io::{self, IoSlice};
use std::path::PathBuf;
use std::sync::Arc;

use crewtap_core::chain::frame::{HEADER_BYTES, Head};
use crewtap_core::id::Ulid;
use crewtap_core::limits;
use nix::errno::Errno;
use nix::sys::uio::pwritev;

use super::segment::{self, Spare};
use super::store::Layout;
use super::{JournalError, Position};

/// Records that are ready but for their numbers.
pub(super) struct Burst<'a> {
    /// Frames and events, one after the other.
    pub(super) heads: Vec<u8>,
    /// Per record: where its head ends in `heads`, and its payload.
    pub(super) records: Vec<(Head, usize, &'a [&'a [u8]])>,
}

impl Burst<'_> {
    pub(super) fn bytes(&self) -> u64 {
        self.records.iter().map(|(head, ..)| head.record_bytes()).sum()
    }

    fn number(&mut self, first: u64) {
        let mut start = 0;
        for ((head, end, _), seq) in self.records.iter().zip(first..) {
            if let Some(frame) = self.heads.get_mut(start..*end) {
                head.number(frame, seq);
            }
            start = *end;
        }
    }

    fn slices(&self) -> Vec<IoSlice<'_>> {
        let mut slices = Vec::with_capacity(self.records.len() * 2);
        let mut start = 0;
        for (_, end, payload) in &self.records {
            slices.push(IoSlice::new(self.heads.get(start..*end).unwrap_or_default()));
            slices.extend(payload.iter().map(|part| IoSlice::new(part)));
            start = *end;
        }
        slices
    }
}

/// Whether records are still taken.
#[derive(Debug)]
pub(super) enum State {
    Open,
    Closed,
    /// A write to disk was lost: nothing after it can be promised.
    Failed(String),
}

/// A segment that is full.
#[derive(Debug)]
pub(super) struct Retired {
    pub(super) file: Arc<File>,
    /// Bytes in use; the rest is given back once the records are safe.
    pub(super) used: u64,
}

/// The end of the journal.
#[derive(Debug)]
pub(super) struct Writer {
    pub(super) layout: Layout,
    pub(super) store: Ulid,
    pub(super) file: Arc<File>,
    /// Bytes that the active segment has room for.
    pub(super) capacity: u64,
    /// Where the next record goes.
    pub(super) offset: u64,
    /// Its number.
    pub(super) next: u64,
    /// Size of further segments.
    pub(super) segment_bytes: u64,
    pub(super) spare: Option<Spare>,
    /// No room for a spare: only closing events are taken beyond the reserve.
    pub(super) full: bool,
    /// A failed write may have left bytes up to here.
    pub(super) dirty: Option<u64>,
    pub(super) state: State,
    /// Full segments that are not synced yet.
    pub(super) retired: Vec<Retired>,
    /// The directory has entries that are not synced yet.
    pub(super) renamed: bool,
}

impl Writer {
    /// Largest burst that fits into one segment.
    pub(super) fn burst_max(&self) -> u64 {
        self.segment_bytes - HEADER_BYTES as u64
    }

    /// Appends a burst as a whole, or nothing of it.
    pub(super) fn append(&mut self, burst: &mut Burst<'_>, closing: bool) -> Result<Position, JournalError> {
        match &self.state {
            State::Open => {}
            State::Closed => return Err(JournalError::Closed),
            State::Failed(why) => return Err(JournalError::Failed(why.clone())),
        }
        self.clean()?;
        let bytes = burst.bytes();
        if self.offset + bytes > self.limit(bytes, closing) {
            self.go_on(bytes)?;
        }
        burst.number(self.next);
        if let Err((written, error)) = write_all(&self.file, &mut burst.slices(), self.offset) {
            self.dirty = (written > 0).then_some(self.offset + written);
            let cleaned = self.clean();
            if error.raw_os_error() == Some(libc::ENOSPC) {
                self.full = self.spare.is_none();
                return cleaned.and(Err(JournalError::Full));
            }
            return Err(self.io("append to the segment", error));
        }
        let first = self.next;
        self.offset += bytes;
        self.next += burst.records.len() as u64;
        Ok(Position { first, end: self.next })
    }

    /// How far the active segment may be filled. A spare is made here when the follower has none ready.
    fn limit(&mut self, bytes: u64, closing: bool) -> u64 {
        let reserve = limits::SEGMENT_RESERVE_BYTES.min(self.capacity / limits::SEGMENT_RESERVE_SHARE);
        if self.offset + bytes > self.capacity - reserve && self.spare.is_none() && !self.full {
            match Spare::make(&self.layout, self.layout.spare_now(), self.segment_bytes) {
                Ok(spare) => self.spare = Some(spare),
                Err(_) => self.full = true,
            }
        }
        if closing || self.spare.is_some() { self.capacity } else { self.capacity - reserve }
    }

    /// Goes on in the next segment.
    fn go_on(&mut self, bytes: u64) -> Result<(), JournalError> {
        if bytes > self.burst_max() {
            return Err(JournalError::TooLarge { bytes, max: self.burst_max() });
        }
        let spare = self.spare.take().ok_or(JournalError::Full)?;
        let fresh = spare
            .activate(&self.layout, self.store, self.next)
            .map_err(|error| self.io("begin the next segment", error))?;
        let old = std::mem::replace(&mut self.file, Arc::new(fresh));
        self.retired.push(Retired { file: old, used: self.offset });
        self.renamed = true;
        self.capacity = self.segment_bytes;
        self.offset = HEADER_BYTES as u64;
        Ok(())
    }

    /// Zeroes what a failed write has left.
    fn clean(&mut self) -> Result<(), JournalError> {
        let Some(to) = self.dirty else { return Ok(()) };
        segment::zero(&self.file, self.offset, to)
            .map_err(|error| self.io("remove half a record from the segment", error))?;
        self.dirty = None;
        Ok(())
    }

    fn io(&self, doing: &'static str, source: io::Error) -> JournalError {
        let path: PathBuf = self.layout.journal();
        JournalError::Io { doing, path, source }
    }
}

/// Writes all slices from `offset` on; on failure says how many bytes may have been written.
fn write_all(file: &File, slices: &mut [IoSlice<'_>], offset: u64) -> Result<(), (u64, io::Error)> {
    let mut rest = slices;
    let mut written = 0u64;
    while !rest.is_empty() {
        let now = rest.get(..rest.len().min(limits::WRITE_SLICES_MAX)).unwrap_or_default();
        let at = libc::off_t::try_from(offset + written).map_err(|e| (written, io::Error::other(e)))?;
        match pwritev(file, now, at) {
            Ok(0) if now.iter().any(|slice| !slice.is_empty()) => {
                return Err((written, io::ErrorKind::WriteZero.into()));
            }
            Ok(count) => {
                written += count as u64;
                let empty = now.iter().take_while(|slice| slice.is_empty()).count();
                if count == 0 {
                    rest = rest.split_at_mut(empty).1;
                } else {
                    IoSlice::advance_slices(&mut rest, count);
                }
            }
            Err(Errno::EINTR) => {}
            Err(e) => return Err((written, e.into())),
        }
    }
    Ok(())
}
