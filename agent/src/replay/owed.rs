//! Moments in the order in which things happened, where masks had not decided yet what a piece ended with.
//!
//! Such bytes were seen by the client at once, and are on record with a later piece: what comes in between waits for them here.
//! Never holds more than a bound; what does not fit comes when it is known, a little late.

use std::collections::VecDeque;
use std::ops::Range;

use crewtap_core::bodies::Chunk;

use super::tape::{Moment, Stream, What};

/// Moments that wait at most.
const MOMENTS_MAX: usize = 4096;

/// Bytes that wait at most.
const BYTES_MAX: usize = 1024 * 1024;

/// A moment, and which bytes of its stream are missing behind it.
#[derive(Clone, Debug)]
struct Slot {
    moment: Moment,
    owed: Range<u64>,
}

/// What waits.
#[derive(Clone, Debug, Default)]
pub(super) struct Owed {
    slots: VecDeque<Slot>,
    bytes: usize,
    /// Up to where bytes of each stream have passed.
    passed: [u64; Stream::COUNT],
}

impl Owed {
    /// Bytes that wait.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Something that is whole.
    pub(super) fn push(&mut self, moment: Moment) {
        self.slots.push_back(Slot { moment, owed: 0..0 });
    }

    /// A piece of a stream: what it has of earlier moments goes there, the rest is its own.
    pub(super) fn chunk(&mut self, mut moment: Moment, stream: Stream, chunk: &Chunk, payload: &[u8]) {
        let end = chunk.offset.saturating_add(payload.len() as u64);
        let mut fresh = Vec::new();
        let mut at = chunk.offset;
        for slot in &mut self.slots {
            let What::Said { stream: of, bytes } = &mut slot.moment.what else { continue };
            if *of != stream || slot.owed.is_empty() || slot.owed.start >= end {
                continue;
            }
            // What nobody waits for any more.
            fresh.extend_from_slice(part(payload, chunk.offset, at..slot.owed.start));
            at = at.max(slot.owed.start);
            let filled = part(payload, chunk.offset, at..slot.owed.end);
            bytes.extend_from_slice(filled);
            self.bytes += filled.len();
            at += filled.len() as u64;
            slot.owed.start = at;
        }
        fresh.extend_from_slice(part(payload, chunk.offset, at..end));
        let until = end.saturating_add(chunk.pending.as_ref().map_or(0, |pending| pending.len));
        let passed = self.passed.get(stream as usize).copied().unwrap_or_default();
        let owed = passed.max(end)..until;
        if let Some(passed) = self.passed.get_mut(stream as usize) {
            *passed = (*passed).max(until);
        }
        if !fresh.is_empty() || !owed.is_empty() {
            self.bytes += fresh.len();
            moment.what = What::Said { stream, bytes: fresh };
            self.slots.push_back(Slot { moment, owed });
        }
    }

    /// The next moment; at the end also one that nothing more comes for.
    pub(super) fn pop(&mut self, ended: bool) -> Option<Moment> {
        let full = self.slots.len() > MOMENTS_MAX || self.bytes > BYTES_MAX;
        loop {
            let front = self.slots.front_mut()?;
            if !front.owed.is_empty() && !full && !ended {
                return None;
            }
            if let What::Said { stream, bytes } = &mut front.moment.what {
                self.bytes = self.bytes.saturating_sub(bytes.len());
                if ended && !front.owed.is_empty() {
                    let len = front.owed.end.saturating_sub(front.owed.start);
                    let withheld = What::Withheld { stream: *stream, len };
                    front.owed = 0..0;
                    if bytes.is_empty() {
                        front.moment.what = withheld;
                    } else {
                        let said = front.moment.clone();
                        front.moment.what = withheld;
                        return Some(said);
                    }
                } else if bytes.is_empty() {
                    self.slots.pop_front();
                    continue;
                }
            }
            return self.slots.pop_front().map(|slot| slot.moment);
        }
    }
}

/// The bytes of a range of the stream, where the payload has them.
fn part(payload: &[u8], offset: u64, wanted: Range<u64>) -> &[u8] {
    let place = |at: u64| usize::try_from(at.saturating_sub(offset)).unwrap_or(usize::MAX).min(payload.len());
    payload.get(place(wanted.start)..place(wanted.end)).unwrap_or_default()
}
