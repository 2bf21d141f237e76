//! Why a message is refused.
//!
//! Owns the list of faults, their codes for the record and the status that a client gets. Never writes an answer.

use crate::limits;
use crate::session::Side;

/// What is wrong with a message. Each is a shape that two peers may read differently, or that they cannot read.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Fault {
    /// A start line that is none (RFC 9112 sections 3 and 4).
    #[error("the start line is malformed: send `METHOD target HTTP/1.1`, or `HTTP/1.1 status reason`")]
    StartLine,
    /// Another protocol version than 1.0 and 1.1 (RFC 9112 section 2.3).
    #[error("the protocol version is not HTTP/1.0 or HTTP/1.1: use one of them")]
    Version,
    /// A request target in none of the four forms, or with control characters or blanks (RFC 9112 section 3.2).
    #[error("the request target is in no form that the method allows: percent-encode blanks and control characters")]
    Target,
    /// A field line without a name, without a colon, or with a name that is no token (RFC 9112 section 5).
    #[error("a field line is malformed: send `name: value`")]
    Field,
    /// White space between a field's name and its colon (RFC 9112 section 5.1).
    #[error("white space stands before the colon of a field: take it out")]
    SpaceBeforeColon,
    /// A control character in a field's value or a reason phrase (RFC 9110 section 5.5).
    #[error("a control character stands in a field value: take it out")]
    Control,
    /// A NUL anywhere in a head.
    #[error("a NUL stands in the head: take it out")]
    Nul,
    /// A folded line (RFC 9112 section 5.2).
    #[error("a field value is folded over lines: send it on one line")]
    ObsoleteFold,
    /// CR without LF (RFC 9112 section 2.2).
    #[error("a CR stands without its LF: end lines with CRLF")]
    BareCr,
    /// LF without CR (RFC 9112 section 2.2).
    #[error("an LF stands without its CR: end lines with CRLF")]
    BareLf,
    /// More than one empty line before a request line (RFC 9112 section 2.2).
    #[error("empty lines stand before the request line: send at most one")]
    EmptyLines,
    /// The head, or the trailer section, is larger than [`limits::HTTP_HEAD_BYTES_MAX`].
    #[error("the head has more than {max} bytes: send less", max = limits::HTTP_HEAD_BYTES_MAX)]
    HeadTooLarge,
    /// More than [`limits::HTTP_HEADERS_MAX`] field lines.
    #[error("the head has more than {max} fields: send fewer", max = limits::HTTP_HEADERS_MAX)]
    TooManyFields,
    /// No `Host`, several, or one that is none (RFC 9112 section 3.2).
    #[error("the request has not exactly one valid Host field: send one")]
    Host,
    /// `Host` names another authority than the target (RFC 9112 section 3.2.2).
    #[error("the Host field and the request target name different hosts: name one")]
    HostMismatch,
    /// Both `Content-Length` and `Transfer-Encoding`, or several lengths (RFC 9112 section 6.3).
    #[error("the message says its length more than once: send one Content-Length or Transfer-Encoding: chunked")]
    ConflictingLength,
    /// A `Content-Length` that is no decimal number below 2^63 (RFC 9110 section 8.6).
    #[error("the Content-Length is no decimal number: send digits only")]
    ContentLength,
    /// A `Transfer-Encoding` that is not `chunked` alone (RFC 9112 section 6.1).
    #[error("the Transfer-Encoding is not `chunked` alone: send it once, without other codings")]
    TransferEncoding,
    /// A `Transfer-Encoding` where none may be: HTTP/1.0, 1xx, 204 (RFC 9112 section 6.1).
    #[error("this message may not have a Transfer-Encoding: leave it out")]
    UnexpectedTransferEncoding,
    /// `Connection` names a field that frames or routes the message (RFC 9110 section 7.6.1).
    #[error("the Connection field names a field that must reach the target: leave it out")]
    ConnectionOption,
    /// A chunk-size line that is none (RFC 9112 section 7.1).
    #[error("a chunk size is malformed: send hexadecimal digits")]
    ChunkSize,
    /// A chunk-size line longer than [`limits::HTTP_CHUNK_LINE_BYTES_MAX`].
    #[error("a chunk-size line has more than {max} bytes: send shorter extensions", max = limits::HTTP_CHUNK_LINE_BYTES_MAX)]
    ChunkLine,
    /// Chunk data is not followed by CRLF (RFC 9112 section 7.1).
    #[error("chunk data is not followed by CRLF: send as many bytes as the chunk size says")]
    ChunkEnd,
    /// A field in the trailer section that frames or routes the message (RFC 9110 section 6.5.1).
    #[error("the trailer section holds a field that may only stand in the head: move it there")]
    TrailerField,
    /// A response that no request asked for, and that does not end the connection.
    #[error("the target sent a response that no request asked for: answer each request once")]
    UnaskedResponse,
    /// 101 to a request without `Upgrade` (RFC 9110 section 15.2.2).
    #[error("the target switched protocols without being asked: answer with a final status")]
    UnaskedUpgrade,
}

impl Fault {
    /// The word for the record.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::StartLine => "start_line",
            Self::Version => "version",
            Self::Target => "target",
            Self::Field => "field",
            Self::SpaceBeforeColon => "space_before_colon",
            Self::Control => "control_character",
            Self::Nul => "nul",
            Self::ObsoleteFold => "obsolete_fold",
            Self::BareCr => "bare_cr",
            Self::BareLf => "bare_lf",
            Self::EmptyLines => "empty_lines",
            Self::HeadTooLarge => "head_too_large",
            Self::TooManyFields => "too_many_fields",
            Self::Host => "host",
            Self::HostMismatch => "host_mismatch",
            Self::ConflictingLength => "conflicting_length",
            Self::ContentLength => "content_length",
            Self::TransferEncoding => "transfer_encoding",
            Self::UnexpectedTransferEncoding => "unexpected_transfer_encoding",
            Self::ConnectionOption => "connection_option",
            Self::ChunkSize => "chunk_size",
            Self::ChunkLine => "chunk_line",
            Self::ChunkEnd => "chunk_end",
            Self::TrailerField => "trailer_field",
            Self::UnaskedResponse => "unasked_response",
            Self::UnaskedUpgrade => "unasked_upgrade",
        }
    }
}

/// A message that is not passed on. It ends the conversation: where the next message begins is not known.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{fault}")]
pub struct Refusal {
    /// What is wrong.
    pub fault: Fault,
    /// Who sent it.
    pub side: Side,
}

impl Refusal {
    /// The word for the record.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        self.fault.code()
    }

    /// The status for the client (RFC 9110 section 15, RFC 6585 section 5 for 431).
    #[must_use]
    pub const fn status(&self) -> u16 {
        match (self.side, self.fault) {
            (Side::Server, _) => 502,
            (Side::Client, Fault::HeadTooLarge | Fault::TooManyFields) => 431,
            (Side::Client, Fault::TransferEncoding) => 501,
            (Side::Client, Fault::Version) => 505,
            (Side::Client, _) => 400,
        }
    }
}
