//! What bytes are, one step at a time.
//!
//! Owns the words only.

use std::sync::Arc;

use super::super::message::{
    BackendKey, Bind, CommandComplete, CopyFail, CopyResponse, Execute, FunctionCall, Named, Notification,
    ParameterDescription, ParameterStatus, Parse, Query, Report, RowDescription, Status,
};
use super::names::Statement;

/// What the next bytes of a side are. `len` is how many of them the step covers, from the first on. Exchange 0 is none.
#[derive(Clone, Debug)]
pub enum Step<'b> {
    /// More bytes are needed. Those given are kept by the caller, at most
    /// [`POSTGRES_JUDGED_BYTES_MAX`](crate::limits::POSTGRES_JUDGED_BYTES_MAX), and given again with more behind them.
    NeedMore,
    /// Of the client only: its next bytes can be told once the server has answered, because so many messages wait for their
    /// answers, or because an answer decides what a name stands for. The caller keeps them, reads no more of this side, and
    /// asks again when the server side has moved.
    Wait,
    /// The client has said that it ends: what it says still is not read by anybody.
    Over,
    /// Everything from here on of both sides is another protocol (replication).
    Opaque,
    /// One message of the client.
    Request {
        /// Number of the exchange on this connection, from 1.
        exchange: u32,
        /// Bytes covered.
        len: usize,
        /// What it says.
        request: Request<'b>,
    },
    /// One message of the server.
    Answer {
        /// The exchange that it belongs to.
        exchange: u32,
        /// Bytes covered.
        len: usize,
        /// What it says.
        answer: Answer<'b>,
    },
    /// Whole `DataRow` messages, one behind the other ([`Frames`](super::super::frame::Frames) takes them apart).
    Rows {
        /// Their exchange.
        exchange: u32,
        /// How many.
        rows: u32,
        /// Bytes covered.
        len: usize,
    },
    /// Whole `CopyData` messages of the side, one behind the other. A server that is in no COPY drops those of a client.
    CopyData {
        /// Their exchange.
        exchange: u32,
        /// How many.
        messages: u32,
        /// Bytes covered.
        len: usize,
    },
    /// A message that should be judged begins, and is too large for it; its bytes follow as pieces.
    TooLarge {
        /// Its exchange.
        exchange: u32,
        /// Its type: `Q`, `P`, `B` or `F`.
        tag: u8,
        /// Its bytes, the header included.
        bytes: usize,
        /// Of `B`: the statement that it binds.
        statement: Option<Arc<Statement>>,
    },
    /// A part of a message that is told in pieces; the first has its header.
    Piece {
        /// Its exchange.
        exchange: u32,
        /// Type of the message.
        tag: u8,
        /// The message begins.
        first: bool,
        /// The message ends.
        last: bool,
        /// Bytes covered.
        len: usize,
    },
    /// The server has read a message of this exchange without doing what it says, because one before it has failed; no answer
    /// comes. Covers nothing; told at least once for each such exchange, as soon as it is known.
    Skipped {
        /// The exchange.
        exchange: u32,
    },
}

/// A message of the client.
#[derive(Clone, Debug)]
pub enum Request<'b> {
    /// Statements in one text. Judged.
    Query(Query<'b>),
    /// Makes a statement. Judged.
    Parse(Parse<'b>),
    /// Gives a statement its values. Judged.
    Bind {
        /// What it says.
        bind: Bind<'b>,
        /// The statement; none where the name is not known, or stands for nothing.
        statement: Option<Arc<Statement>>,
    },
    /// Asks for types and columns.
    Describe(Named<'b>),
    /// Runs a portal.
    Execute {
        /// What it says.
        execute: Execute<'b>,
        /// Its exchange is that of the portal's Bind; else the portal is unknown, and the exchange is its own.
        known: bool,
    },
    /// Ends a statement or a portal.
    Close(Named<'b>),
    /// Ends a segment: the server goes on after an error, and says that it is ready.
    Sync,
    /// Asks the server for the answers that it keeps back.
    Flush,
    /// Calls a function. Judged.
    FunctionCall(FunctionCall<'b>),
    /// COPY data is complete.
    CopyDone,
    /// COPY data is given up.
    CopyFail(CopyFail<'b>),
    /// The client ends.
    Terminate,
    /// A type that is not known; servers end the connection over it.
    Other(u8),
}

/// A message of the server.
#[derive(Clone, Debug)]
pub enum Answer<'b> {
    /// To Parse.
    Parsed,
    /// To Bind.
    Bound,
    /// To Close.
    Closed,
    /// To Describe of a statement: the types of its parameters.
    Parameters(ParameterDescription<'b>),
    /// The columns of a result.
    Columns(RowDescription<'b>),
    /// To Describe: there is no result.
    NoData,
    /// A statement is done. With it an Execute is; a Query may go on with another statement.
    Complete(CommandComplete<'b>),
    /// There was no statement.
    Empty,
    /// An Execute has given as many rows as it was to.
    Suspended,
    /// Something failed.
    Error {
        /// What.
        report: Report<'b>,
        /// It answers the message that was put in the place of a refused one.
        refused: bool,
        /// It came when the transaction was ended, after the exchange's own answer: what that said did not come true.
        late: bool,
    },
    /// Something worth knowing.
    Notice(Report<'b>),
    /// The server waits for the next request. Ends the exchange of a Query or a function call; 0 after Sync.
    Ready(Status),
    /// The client is to send COPY data.
    CopyIn(CopyResponse<'b>),
    /// COPY data follows.
    CopyOut(CopyResponse<'b>),
    /// Both send COPY data; the conversation ends here.
    CopyBoth(CopyResponse<'b>),
    /// COPY data is complete.
    CopyDone,
    /// What a function returned; none for NULL.
    FunctionResult(Option<&'b [u8]>),
    /// A setting.
    Parameter(ParameterStatus<'b>),
    /// What `NOTIFY` sent.
    Notification(Notification<'b>),
    /// What a cancel request must show.
    Key(BackendKey<'b>),
    /// A type that is not known.
    Other(u8),
}

impl Step<'_> {
    /// How many bytes are covered.
    #[must_use]
    pub const fn len(&self) -> usize {
        match self {
            Self::Request { len, .. }
            | Self::Answer { len, .. }
            | Self::Rows { len, .. }
            | Self::CopyData { len, .. }
            | Self::Piece { len, .. } => *len,
            Self::NeedMore | Self::Wait | Self::Over | Self::Opaque | Self::TooLarge { .. } | Self::Skipped { .. } => 0,
        }
    }

    /// Whether it covers nothing.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether nothing more can be told of this side now.
    #[must_use]
    pub const fn is_pause(&self) -> bool {
        matches!(self, Self::NeedMore | Self::Wait | Self::Over | Self::Opaque)
    }
}
