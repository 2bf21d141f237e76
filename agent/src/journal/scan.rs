//! Reading a segment front to back: records, and where they are damaged, missing or out of place.
//!
//! Never trusts a length before the checksum behind it has been checked, and holds one record at a time.

use std::io;
use std::sync::Arc;

use crewtap_core::chain::frame::{self, Frame, FrameFault};
use crewtap_core::limits;

use super::sealed::{Source, View};

/// A sliding view of a file, so that small records cost no system call each.
#[derive(Debug)]
pub(super) struct Window {
    file: View,
    start: u64,
    bytes: Vec<u8>,
    /// Bytes of the next read: few where one comes back to the end of a file that grows, many in the middle of one.
    ahead: usize,
}

impl Window {
    pub(super) fn new(source: Arc<Source>) -> Self {
        Self { file: View::new(source), start: 0, bytes: Vec::new(), ahead: limits::JOURNAL_READ_BYTES_MIN }
    }

    /// What is at hand may be older than what is written by now.
    fn forget(&mut self) {
        self.bytes.clear();
        self.ahead = limits::JOURNAL_READ_BYTES_MIN;
    }

    /// `len` bytes at `offset`; fewer at the end of the file.
    pub(super) fn at(&mut self, offset: u64, len: usize) -> io::Result<&[u8]> {
        if self.have(offset, len).is_none() {
            self.fill(offset, len)?;
        }
        let skip = usize::try_from(offset.saturating_sub(self.start)).unwrap_or(usize::MAX);
        let rest = self.bytes.get(skip..).unwrap_or_default();
        Ok(rest.get(..len).unwrap_or(rest))
    }

    /// What is at hand from `offset` on; nothing at the end of the file.
    fn view(&mut self, offset: u64) -> io::Result<&[u8]> {
        if self.have(offset, 1).is_none() {
            self.fill(offset, 1)?;
        }
        let skip = usize::try_from(offset.saturating_sub(self.start)).unwrap_or(usize::MAX);
        Ok(self.bytes.get(skip..).unwrap_or_default())
    }

    /// The same bytes once more, where [`Self::at`] has just brought them.
    pub(super) fn have(&self, offset: u64, len: usize) -> Option<&[u8]> {
        let skip = usize::try_from(offset.checked_sub(self.start)?).ok()?;
        self.bytes.get(skip..skip.checked_add(len)?)
    }

    fn fill(&mut self, offset: u64, len: usize) -> io::Result<()> {
        match offset.checked_sub(self.start).and_then(|skip| usize::try_from(skip).ok()) {
            Some(skip) if skip < self.bytes.len() => drop(self.bytes.drain(..skip)),
            _ => self.bytes.clear(),
        }
        self.start = offset;
        let want = len.max(self.ahead);
        self.ahead = (self.ahead * 2).min(limits::JOURNAL_READ_BYTES);
        let mut filled = self.bytes.len();
        self.bytes.resize(want.max(filled), 0);
        while filled < want {
            let space = self.bytes.get_mut(filled..).unwrap_or_default();
            match self.file.read_at(space, offset + filled as u64) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => {
                    self.bytes.clear();
                    return Err(e);
                }
            }
        }
        self.bytes.truncate(filled);
        self.bytes.shrink_to(2 * limits::JOURNAL_READ_BYTES);
        Ok(())
    }
}

/// What stands next in a segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Found {
    /// The record that is due; its bytes are in the window.
    Record {
        /// Where it begins.
        offset: u64,
        /// Its length.
        bytes: usize,
    },
    /// The records from `from` to before `to` are not here; `to` comes next.
    Gap {
        /// First number that is not here.
        from: u64,
        /// The number that comes next; equal to `from` where foreign bytes stand between records.
        to: u64,
        /// Where the gap begins.
        offset: u64,
        /// What stands there instead; none when the next record follows without any.
        fault: Option<FrameFault>,
    },
    /// An intact record that does not belong here.
    Displaced {
        /// Its number.
        seq: u64,
        /// Where it begins.
        offset: u64,
    },
    /// No further record.
    End {
        /// Where it would begin.
        offset: u64,
        /// The first byte that is not zero from there on, and what was wrong there.
        garbage: Option<(u64, FrameFault)>,
    },
}

/// A position in one segment.
#[derive(Debug)]
pub(super) struct Scan {
    window: Window,
    /// Where the next record is due.
    pub(super) offset: u64,
    /// Its number.
    pub(super) next: u64,
    /// First number of the next segment; records of it cannot be here.
    pub(super) limit: u64,
}

impl Scan {
    /// From a place that is known to be a record's beginning.
    pub(super) fn new(source: Arc<Source>, offset: u64, next: u64, limit: u64) -> Self {
        Self { window: Window::new(source), offset, next, limit }
    }

    /// The segment that is read, and what was found wrong with its file so far.
    pub(super) fn file(&self) -> &View {
        &self.window.file
    }

    /// The bytes of the record that [`Self::step`] has just found.
    pub(super) fn bytes(&self, offset: u64, bytes: usize) -> Option<&[u8]> {
        self.window.have(offset, bytes)
    }

    /// Goes to what stands next. After an [`Found::End`] it may be called again: the file may have grown.
    pub(super) fn step(&mut self) -> io::Result<Found> {
        let offset = self.offset;
        let mut found = self.decode(offset)?;
        if found.is_err() {
            // Before anything is searched for: to the end of a segment is a long way.
            self.window.forget();
            found = self.decode(offset)?;
        }
        let (seq, bytes) = match found {
            Ok(found) => found,
            Err(fault) => return self.resume(fault),
        };
        if seq == self.next {
            (self.offset, self.next) = (offset + bytes as u64, seq + 1);
            return Ok(Found::Record { offset, bytes });
        }
        if seq > self.next && seq < self.limit {
            let from = std::mem::replace(&mut self.next, seq);
            return Ok(Found::Gap { from, to: seq, offset, fault: None });
        }
        self.offset = offset + bytes as u64;
        Ok(Found::Displaced { seq, offset })
    }

    /// The record that [`Self::step`] has just found.
    pub(super) fn frame(&self, offset: u64, bytes: usize) -> Option<Frame<'_>> {
        Frame::decode_unchecked(self.window.have(offset, bytes)?).ok()
    }

    /// Number and length of the intact record at a place.
    fn decode(&mut self, offset: u64) -> io::Result<Result<(u64, usize), FrameFault>> {
        let total = match frame::record_bytes(self.window.at(offset, frame::PREFIX_BYTES)?) {
            Ok(total) => total,
            Err(fault) => return Ok(Err(fault)),
        };
        Ok(Frame::decode(self.window.at(offset, total)?).map(|frame| (frame.seq, total)))
    }

    /// Behind a damaged place: the next intact record, or the end.
    fn resume(&mut self, fault: FrameFault) -> io::Result<Found> {
        let (offset, from) = (self.offset, self.next);
        let claimed = frame::record_bytes(self.window.at(offset, frame::PREFIX_BYTES)?).ok();
        let behind = claimed.map(|bytes| offset + bytes as u64);
        if let Some(behind) = behind
            && let Ok((seq, _)) = self.decode(behind)?
            && seq == from + 1
            && seq < self.limit
        {
            (self.offset, self.next) = (behind, seq);
            return Ok(Found::Gap { from, to: seq, offset, fault: Some(fault) });
        }
        let mut garbage = None;
        let mut at = offset;
        loop {
            let view = self.window.view(at)?;
            let Some(skip) = first_written(view) else {
                at += view.len() as u64;
                if view.is_empty() {
                    return Ok(Found::End { offset, garbage });
                }
                continue;
            };
            let dirty = at + skip as u64;
            garbage = garbage.or(Some((dirty, fault)));
            // A record may begin up to three bytes before its first byte that is not zero (its length).
            at = dirty.saturating_sub(3).max(at).max(offset + 1);
            if let Some((place, seq)) = self.intact_before(at, dirty + 1)? {
                (self.offset, self.next) = (place, seq);
                return Ok(Found::Gap { from, to: seq, offset, fault: Some(fault) });
            }
            at = dirty + 1;
        }
    }

    /// The first intact record of this segment that begins in a range of places.
    fn intact_before(&mut self, from: u64, to: u64) -> io::Result<Option<(u64, u64)>> {
        for place in from..to {
            let seq = frame::claimed_seq(self.window.at(place, frame::FRAME_BYTES)?);
            if seq.is_some_and(|seq| (self.next..self.limit).contains(&seq))
                && let Ok((seq, _)) = self.decode(place)?
            {
                return Ok(Some((place, seq)));
            }
        }
        Ok(None)
    }
}

/// The first byte that is not zero. It is near, or behind the megabytes of zeros that a segment ends with: those are passed
/// over in blocks.
fn first_written(bytes: &[u8]) -> Option<usize> {
    const NEAR: usize = 64;
    const BLOCK: usize = 1024;
    let (near, far) = bytes.split_at(bytes.len().min(NEAR));
    if let Some(at) = near.iter().position(|byte| *byte != 0) {
        return Some(at);
    }
    // Compared as memory is: a loop over bytes is slow where the compiler does not make it one.
    let is_written = |block: &[u8]| Some(block) != [0; BLOCK].get(..block.len());
    let block = far.chunks(BLOCK).position(is_written)? * BLOCK;
    far.get(block..)?.iter().position(|byte| *byte != 0).map(|at| NEAR + block + at)
}
