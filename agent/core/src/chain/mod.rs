//! The Merkle tree over the journal's records, its checkpoints, and their verification.

use crate::event::Event;

/// One record of the journal, read back: an event, its leaf number and its payload.
#[derive(Clone, PartialEq, Debug)]
pub struct Record {
    /// Leaf number in the tree, from 0; also the event's `seq`.
    pub leaf: u64,
    /// The event.
    pub event: Event,
    /// The payload; empty for events without bytes.
    pub payload: Vec<u8>,
}
