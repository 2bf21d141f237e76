//! One exchange on a channel: its streams, and how it ended.
//!
//! Values only. Never records and never forwards.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};

use crewtap_core::bodies::Chunk;
use crewtap_core::session::Side;
use crewtap_core::wire::ssh::typed::Typed;

use super::told::Ended;

/// An exchange on it.
pub(super) struct Exchange {
    pub(super) n: u32,
    /// Bytes of each stream that are on record: input, output, errors.
    offsets: [Cell<u64>; 3],
    pub(super) ended: RefCell<Option<Ended>>,
    terminal: bool,
    typed: RefCell<Typed>,
    /// Which streams have said something that has no end yet.
    open: [Cell<bool>; 3],
}

impl Exchange {
    pub(super) fn new(n: u32, terminal: bool) -> Self {
        Self {
            n,
            offsets: Default::default(),
            ended: RefCell::default(),
            terminal,
            typed: RefCell::default(),
            open: Default::default(),
        }
    }

    /// Data as it may be recorded: what answers a prompt for a secret is none of the record's.
    pub(super) fn shown<'b>(&self, stream: Stream, bytes: &'b [u8], hidden: &mut usize) -> Cow<'b, [u8]> {
        let mut typed = self.typed.borrow_mut();
        if stream != Stream::Input {
            typed.said(bytes);
            return Cow::Borrowed(bytes);
        }
        let (shown, count) = typed.typed(bytes);
        *hidden += count;
        shown
    }

    /// The last piece of a stream that has begun.
    pub(super) fn finish(&self, stream: Stream) -> Option<Chunk> {
        let open = self.open.get(stream as usize)?;
        open.replace(false).then(|| Chunk { end: true, ..self.chunk(stream, 0) })
    }

    pub(super) fn chunk(&self, stream: Stream, len: usize) -> Chunk {
        if let Some(open) = self.open.get(stream as usize).filter(|_| len > 0) {
            open.set(true);
        }
        let (side, name, at) = match stream {
            Stream::Input => (Side::Client, if self.terminal { "keys" } else { "stdin" }, 0),
            Stream::Output => (Side::Server, if self.terminal { "terminal" } else { "stdout" }, 1),
            Stream::Errors => (Side::Server, "stderr", 2),
        };
        let offset = self.offsets.get(at).map_or(0, |offset| offset.replace(offset.get() + len as u64));
        Chunk { part: Some(name.into()), ..Chunk::new(side, offset) }
    }
}

/// A stream of an exchange.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Stream {
    Input,
    Output,
    Errors,
}
