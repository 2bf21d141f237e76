//! One session's messages in order, both sides, from the end of its log-in on: which exchange each belongs to.
//!
//! Owns what must be remembered between two messages: which answers are owed, what names stand for, and whether the server
//! skips. Never keeps a row, never buffers a body; its memory is bounded by [`limits::POSTGRES_PIPELINE_MAX`] and
//! [`limits::POSTGRES_NAMES_BYTES_MAX`].
//!
//! An exchange is one Query, one function call, or one Bind with the Parse before it, if that was the first of its
//! statement, and all that is done with its portal.

mod client;
mod names;
mod server;
mod step;

use std::collections::VecDeque;
use std::sync::Arc;

use super::fault::{Fault, Flaw};
use super::frame::{HEADER_BYTES, Header};
use super::message::Status;
use crate::limits;
use crate::session::Side;

pub use names::{Column, Columns, Doubt, Statement};
pub use step::{Answer, Request, Step};

use names::{Names, Portal};

/// Where a side is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Place {
    /// Before a message.
    Header,
    /// In a message that is told in pieces.
    Pieces { exchange: u32, tag: u8, first: bool, left: usize },
    /// In another protocol.
    Opaque,
    /// Behind its last message.
    Over,
}

/// A message of the client whose answer has not come.
#[derive(Debug)]
struct Expected {
    serial: u64,
    exchange: u32,
    kind: Kind,
    /// Another message was sent in its place, which fails.
    refused: bool,
}

#[derive(Debug)]
enum Kind {
    /// The log-in, which ends with the first `ReadyForQuery`.
    Login,
    Query,
    FunctionCall,
    Parse {
        unnamed: bool,
    },
    Bind {
        unnamed: bool,
    },
    DescribeStatement(Option<Arc<Statement>>),
    DescribePortal(Option<Arc<Portal>>),
    Execute(Option<Arc<Portal>>),
    Close,
    Sync,
    /// A Sync that may be a part of COPY data, which servers drop, or stand behind a failed COPY, and have its answer.
    MaybeSync,
    /// Nothing: the client has ended COPY data.
    CopyEnd,
}

/// How far the answer to the oldest message is.
#[derive(Clone, Copy, Default, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own, and most pairs of them occur")]
struct Progress {
    /// Something that must come before `ReadyForQuery` has come.
    answered: bool,
    /// Parameters are described.
    described: bool,
    /// Rows may come.
    rows: bool,
    failed: bool,
    copies_in: bool,
    copies_out: bool,
}

/// Where the columns of the newest result are told.
#[derive(Debug)]
enum Described {
    Here(Box<[Column]>),
    ByPortal(Arc<Portal>),
}

/// What the end of a side's bytes did to its messages.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Ended {
    /// The exchange whose message was cut off in its pieces.
    pub cut: Option<u32>,
    /// At the server's end: exchanges that are owed an answer, oldest first.
    pub unanswered: Vec<u32>,
}

/// The messages of one session.
#[derive(Debug)]
pub struct Conversation {
    client: Place,
    server: Place,
    expected: VecDeque<Expected>,
    progress: Progress,
    result: Option<(u32, Described)>,
    names: Names,
    exchanges: u32,
    /// Number of the client's newest message.
    serial: u64,
    /// Number of Syncs before the client's next message.
    segment: u64,
    /// The server skips what the client says until a Sync comes, and none has.
    skipping: bool,
    /// Exchanges that were skipped and not told yet, and the newest of them.
    skipped: VecDeque<u32>,
    skipped_last: u32,
    /// The exchange that takes COPY data of the client, which has not ended it.
    copying: Option<u32>,
    /// The newest exchange that took COPY data of the client.
    copied: u32,
    /// The Sync that comes next may have had its answer, if it comes before anything else.
    maybe_next: bool,
    /// The exchange that was executed last since the server was ready.
    executed: u32,
    status: Status,
    fault: Option<Fault>,
}

impl Default for Conversation {
    fn default() -> Self {
        Self::new()
    }
}

impl Conversation {
    /// Of a session whose client was just let in: `AuthenticationOk` was sent, and settings, a key and `ReadyForQuery` follow.
    #[must_use]
    pub fn new() -> Self {
        let mut conversation = Self::after_ready();
        conversation.expected.push_back(Expected { serial: 0, exchange: 0, kind: Kind::Login, refused: false });
        conversation
    }

    /// Of a session whose server was ready for the first time.
    #[must_use]
    pub fn after_ready() -> Self {
        Self {
            client: Place::Header,
            server: Place::Header,
            expected: VecDeque::new(),
            progress: Progress::default(),
            result: None,
            names: Names::default(),
            exchanges: 0,
            serial: 0,
            segment: 0,
            skipping: false,
            skipped: VecDeque::new(),
            skipped_last: 0,
            copying: None,
            copied: 0,
            maybe_next: false,
            executed: 0,
            status: Status::Idle,
            fault: None,
        }
    }

    /// How many exchanges have begun.
    #[must_use]
    pub const fn exchanges(&self) -> u32 {
        self.exchanges
    }

    /// The transaction, as the server told it last.
    #[must_use]
    pub const fn status(&self) -> Status {
        self.status
    }

    /// Whether no answer is owed.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        !self.expected.iter().any(|expected| !matches!(expected.kind, Kind::CopyEnd | Kind::MaybeSync))
    }

    /// The exchange that the server answers next, or is answering; 0 for none.
    #[must_use]
    pub fn answered_next(&self) -> u32 {
        self.expected.front().map_or(0, |expected| expected.exchange)
    }

    /// The columns of this exchange's rows, where they are known: to be asked when they or their end are told.
    #[must_use]
    pub fn columns(&self, exchange: u32) -> Option<Columns<'_>> {
        match self.result.as_ref().filter(|(of, _)| *of == exchange)? {
            (_, Described::Here(columns)) => Some(Columns { columns, formats: None }),
            (_, Described::ByPortal(portal)) => portal.columns(),
        }
    }

    /// The message just told (Query, Parse, Bind or function call, or one of them that was too large) is not sent: a message
    /// that fails takes its place ([`super::reply::refused_query`] for Query and function call, else
    /// [`super::reply::refused_parse`]), so that all that depends on its failure stays the server's to decide. The error is
    /// told as `refused`. Answers whether there will be one: a server that skips skips what takes its place, too.
    pub fn refuse_last(&mut self) -> bool {
        let serial = self.serial;
        let Some(last) = self.expected.back_mut().filter(|last| last.serial == serial) else { return false };
        last.refused = true;
        if matches!(last.kind, Kind::FunctionCall) {
            // The Query in its place ends the unnamed ones.
            self.end_unnamed();
        }
        true
    }

    /// The message just told (Query or Bind) may make or end names by SQL: what older names stand for is no longer known, at
    /// each Execute of its portal again. An Execute of an unknown portal does it by itself.
    pub fn doubt_names(&mut self, doubt: Doubt) {
        if let Some(portal) = self.names.portals.newest(self.serial) {
            let _ = portal.doubts.set(doubt);
        }
        self.names.doubt(self.serial, doubt, None);
    }

    /// The next step of `side`, whose bytes that no step has covered yet are `bytes`, perhaps none. To be called until it
    /// [is a pause](Step::is_pause).
    ///
    /// # Errors
    /// For what cannot be PostgreSQL. From then on every call tells the same.
    pub fn next<'b>(&mut self, side: Side, bytes: &'b [u8]) -> Result<Step<'b>, Fault> {
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        if let Some(exchange) = self.skipped.pop_front() {
            return Ok(Step::Skipped { exchange });
        }
        let place = *self.place(side);
        let step = match place {
            Place::Opaque => Ok(Step::Opaque),
            Place::Over => Ok(Step::Over),
            Place::Pieces { .. } => Ok(self.piece(side, bytes)),
            Place::Header => match (Header::read(bytes), side) {
                (Ok(None), _) => Ok(Step::NeedMore),
                (Ok(Some(header)), Side::Client) => self.request(header, bytes),
                (Ok(Some(header)), Side::Server) => self.answer(header, bytes),
                (Err(length), _) => Err(length.into()),
            },
        };
        step.map_err(|flaw| *self.fault.insert(Fault { flaw, side }))
    }

    /// `side` sends nothing more. Its bytes must have been stepped through before.
    pub fn end(&mut self, side: Side) -> Ended {
        let mut ended = Ended::default();
        if let Place::Pieces { exchange, .. } = *self.place(side) {
            ended.cut = Some(exchange);
        }
        let opaque = *self.place(side) == Place::Opaque;
        if side == Side::Server && !opaque {
            let owed = self.expected.iter().filter(|expected| !matches!(expected.kind, Kind::Close | Kind::CopyEnd));
            ended.unanswered = owed.map(|expected| expected.exchange).filter(|exchange| *exchange > 0).collect();
            ended.unanswered.sort_unstable();
            ended.unanswered.dedup();
        }
        if !opaque {
            *self.place(side) = Place::Over;
        }
        ended
    }

    const fn place(&mut self, side: Side) -> &mut Place {
        match side {
            Side::Client => &mut self.client,
            Side::Server => &mut self.server,
        }
    }

    /// The message that begins is told in pieces.
    fn begin_pieces<'b>(&mut self, side: Side, exchange: u32, header: Header, bytes: &'b [u8]) -> Step<'b> {
        *self.place(side) = Place::Pieces { exchange, tag: header.tag, first: true, left: header.len };
        self.piece(side, bytes)
    }

    fn piece<'b>(&mut self, side: Side, bytes: &'b [u8]) -> Step<'b> {
        let Place::Pieces { exchange, tag, first, left } = *self.place(side) else { return Step::NeedMore };
        // A first piece has the header, so that what it is can be read in it.
        if bytes.is_empty() || (first && bytes.len() < HEADER_BYTES) {
            return Step::NeedMore;
        }
        let len = left.min(bytes.len());
        let last = len == left;
        *self.place(side) =
            if last { Place::Header } else { Place::Pieces { exchange, tag, first: false, left: left - len } };
        Step::Piece { exchange, tag, first, last, len }
    }

    const fn open(&mut self) -> u32 {
        self.exchanges = self.exchanges.saturating_add(1);
        self.exchanges
    }

    /// The unnamed statement and the unnamed portal end with the client's newest message.
    fn end_unnamed(&mut self) {
        self.names.statements.propose(self.serial, self.segment, b"", None);
        self.names.portals.propose(self.serial, self.segment, b"", None);
    }
}

/// Whole messages of this type and at most [`limits::POSTGRES_ROW_BYTES_MAX`] at the beginning of `bytes`: how many, and
/// how many bytes they have.
fn run(tag: u8, bytes: &[u8]) -> (u32, usize) {
    let (mut count, mut rest) = (0, bytes);
    while let Some(([first, a, b, c, d], _)) = rest.split_first_chunk::<HEADER_BYTES>() {
        let len = u32::from_be_bytes([*a, *b, *c, *d]) as usize;
        if *first != tag || !(4..limits::POSTGRES_ROW_BYTES_MAX).contains(&len) {
            break;
        }
        let Some(behind) = rest.get(len + 1..) else { break };
        rest = behind;
        count += 1;
    }
    (count, bytes.len() - rest.len())
}
