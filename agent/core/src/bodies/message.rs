//! The bodies of events that carry what was said: requests, responses, pieces of them, and what was hidden there.

use serde::{Deserialize, Serialize};

use crate::action::Facts;
use crate::session::Side;

/// Bytes that have passed, and of which it is not decided yet what masks hide. What follows them in their stream begins with them.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Pending {
    /// How many.
    pub len: u64,
    /// Their keyed digest.
    pub digest: String,
}

/// A named part of a request or response; the payload holds the parts one after another.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Part {
    /// What it is: `body`, `sql`, `parameters`, ….
    pub name: String,
    /// Its media type.
    pub media_type: String,
    /// Length in bytes; of a part that follows, what the message said beforehand, 0 when it said nothing.
    pub len: u64,
    /// How its bytes are coded (`gzip`, `br`, …, in the order in which it was done), when they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub coding: Option<String>,
    /// It is not in the payload: it follows in `Chunk`s of the exchange.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub follows: bool,
}

/// The request of an exchange.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Request {
    /// What is asked.
    pub verb: String,
    /// Of what.
    pub subject: String,
    /// What policy may look at.
    #[serde(default)]
    pub facts: Facts,
    /// Parts of the payload.
    #[serde(default)]
    pub parts: Vec<Part>,
    /// Bytes on the wire that the payload stands for, where that is not its length (credentials are redacted in it).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wire: Option<u64>,
    /// Bytes behind the payload that have passed and are not decided under the masks: their masked content follows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pending: Option<Pending>,
}

/// The response of an exchange. A second one of the same exchange (`aborted`) corrects the first.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Response {
    /// `success`, `failure`, `blocked`, `aborted` or `unknown`.
    pub outcome: String,
    /// The protocol's own code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// Rows, answers, files: what the protocol counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    /// Further facts.
    #[serde(default)]
    pub facts: Facts,
    /// Parts of the payload.
    #[serde(default)]
    pub parts: Vec<Part>,
    /// Bytes on the wire that the payload stands for, where that is not its length (credentials are redacted in it).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wire: Option<u64>,
    /// Bytes behind the payload that have passed and are not decided under the masks: their masked content follows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pending: Option<Pending>,
}

/// Bytes of a stream that is not decoded, or of a part of a message; the payload holds them.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Chunk {
    /// Who sent them.
    pub side: Side,
    /// Position of the first byte in that side's stream, or in that part of the message.
    pub offset: u64,
    /// What it is a piece of, in an exchange: `body` when it is not said, or `trailers`, `interim`, ….
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part: Option<String>,
    /// What is needed to read it where it stands alone, when the message's parts do not say it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// Bytes on the wire that the payload stands for, where that is not its length (framing is not in it).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wire: Option<u64>,
    /// With it the message is complete.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub end: bool,
    /// Bytes behind the payload that have passed and are not decided under the masks: their masked content follows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pending: Option<Pending>,
}

impl Chunk {
    /// A piece of a stream, or of the body of a message.
    #[must_use]
    pub fn new(side: Side, offset: u64) -> Self {
        Self { side, offset, part: None, media_type: None, wire: None, end: false, pending: None }
    }
}

/// The terminal of an exchange got another size.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Resized {
    /// Columns, in characters.
    pub columns: u32,
    /// Rows, in characters.
    pub rows: u32,
}

/// For whom values are hidden.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Apply {
    /// In the record alone: target and client see the real value.
    #[default]
    Record,
    /// In the record, and in what the client receives: only the target sees the real value.
    Wire,
}

impl Apply {
    /// Its word in files and events.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Record => "record",
            Self::Wire => "wire",
        }
    }

    /// Whether it is for the record alone: what events leave out.
    #[must_use]
    pub fn is_record(&self) -> bool {
        *self == Self::Record
    }
}

/// Values were redacted in what was recorded.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Masked {
    /// The mask or rule.
    pub mask: String,
    /// How many values.
    pub count: u64,
    /// What was redacted, as `scheme length keyed-digest`, never the value.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<String>,
    /// From whom it was hidden: in the record in any case.
    #[serde(default, skip_serializing_if = "Apply::is_record")]
    pub apply: Apply,
    /// It was found in bytes that nobody here understands: others may have been missed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub best_effort: bool,
}
