//! The Merkle tree over the journal's records, its checkpoints, and their verification.
//!
//! Never reads a file or a clock: what is judged here is handed in as bytes.

pub mod audit;
pub mod finding;
pub mod frame;
pub mod note;
pub mod proof;
pub mod seal;
pub mod tree;

use crate::event::{Event, EventError};

/// One record of the journal, read back: an event, its leaf number and its payload.
#[derive(Clone, PartialEq, Debug)]
pub struct Record {
    /// Leaf number in the tree, from 0; also the event's `seq`.
    pub leaf: u64,
    /// The event.
    pub event: Event,
    /// The payload; empty for events without bytes and for erased payloads.
    pub payload: Vec<u8>,
}

impl TryFrom<frame::Frame<'_>> for Record {
    type Error = EventError;

    fn try_from(frame: frame::Frame<'_>) -> Result<Self, EventError> {
        let event = Event::from_cbor(frame.event)?;
        Ok(Self { leaf: frame.seq, event, payload: frame.bytes().unwrap_or_default().to_vec() })
    }
}

#[cfg(test)]
mod tests;
