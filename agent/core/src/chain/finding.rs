//! What a verification finds, as values: what, where, and one sentence.

use serde::Serialize;

use crate::limits::FINDINGS_MAX;

/// What is wrong.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// The store's public key is not there.
    KeyMissing,
    /// The store's public key is another one, or damaged.
    KeyChanged,
    /// A segment's first bytes.
    HeaderChanged,
    /// A whole segment is not there.
    SegmentMissing,
    /// A record is not what it was.
    RecordChanged,
    /// A record is not there.
    RecordMissing,
    /// A record is there, in the wrong place.
    RecordMoved,
    /// The payload of a record was erased.
    PayloadErased,
    /// The compressed form of a segment; the records in it may be right.
    SealChanged,
    /// Bytes that no record accounts for.
    ForeignBytes,
    /// The end of the journal, cut in the middle of a record: the agent was killed or the power failed.
    TornEnd,
    /// Stored hashes differ from the records.
    TileChanged,
    /// Stored hashes are not there.
    TileMissing,
    /// A checkpoint does not bear the store's signature, or is out of order.
    CheckpointChanged,
    /// A checkpoint is not there.
    CheckpointMissing,
    /// A checkpoint is signed, and the records give another root.
    RootDiffers,
}

/// How much a finding weighs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Weight {
    /// Something that was signed is not what it was: somebody changed it, or the disk is bad.
    Tampering,
    /// Above the last checkpoint, as after a power cut: it cannot be told from a change.
    Loss,
}

/// One thing that is wrong.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Finding {
    /// What.
    pub what: What,
    /// How much it weighs.
    pub weight: Weight,
    /// The record, or the first of several.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub leaf: Option<u64>,
    /// The file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// Where in the file, in bytes; a record of a sealed segment is where it is in the unpacked one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offset: Option<u64>,
    /// One sentence.
    pub text: String,
}

impl Finding {
    /// Something signed that is not what it was.
    pub fn tampering(what: What, text: impl Into<String>) -> Self {
        Self { what, weight: Weight::Tampering, leaf: None, file: None, offset: None, text: text.into() }
    }

    /// The same about a record.
    #[must_use]
    pub fn leaf(mut self, leaf: u64) -> Self {
        self.leaf = Some(leaf);
        self
    }

    /// The same in a file.
    #[must_use]
    pub fn file(mut self, file: &str) -> Self {
        self.file = Some(file.into());
        self
    }

    /// The same at a place of the file.
    #[must_use]
    pub fn at(mut self, offset: u64) -> Self {
        self.offset = Some(offset);
        self
    }

    /// Weighs as loss where nothing signed is concerned.
    #[must_use]
    pub fn loss_if(mut self, unsigned: bool) -> Self {
        if unsigned {
            self.weight = Weight::Loss;
        }
        self
    }
}

/// Findings, the first [`FINDINGS_MAX`] of them.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Findings {
    /// What was found, in the order of the journal.
    pub list: Vec<Finding>,
    /// How many more there are.
    pub more: u64,
}

impl Findings {
    /// Adds one.
    pub fn add(&mut self, finding: Finding) {
        if self.list.len() < FINDINGS_MAX {
            self.list.push(finding);
        } else {
            self.more += 1;
        }
    }

    /// Whether nothing that was signed was changed.
    #[must_use]
    pub fn is_intact(&self) -> bool {
        self.more == 0 && self.list.iter().all(|finding| finding.weight == Weight::Loss)
    }
}
