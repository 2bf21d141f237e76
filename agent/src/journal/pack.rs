//! Writing a sealed segment: whole records, compressed part by part, then the tables that tell where each is.
//!
//! Never reads the journal, and never holds more than one part.

use std::fs::{File, FileTimes};
use std::io::{self, Write as _};
use std::time::SystemTime;

use crewtap_core::chain::seal::{self, Part};
use crewtap_core::limits;
use zstd::bulk::Compressor;
use zstd::zstd_safe::{self, CParameter};

/// A sealed segment in the making.
pub(super) struct Packer {
    file: File,
    compressor: Compressor<'static>,
    parts: Vec<Part>,
    /// Content of the part at hand.
    plain: Vec<u8>,
    packed: Vec<u8>,
    /// Number of its first record.
    first: Option<u64>,
    /// Bytes written that may not be on disk yet.
    unsynced: u64,
}

impl Packer {
    /// Of an empty file; the segment's header goes into the first part.
    pub(super) fn new(file: File, header: &[u8]) -> io::Result<Self> {
        let mut compressor = Compressor::new(limits::SEAL_LEVEL)?;
        // For those who unpack it with other tools; our own checksums are over the compressed bytes.
        compressor.set_parameter(CParameter::ChecksumFlag(true))?;
        let plain = header.to_vec();
        Ok(Self { file, compressor, parts: Vec::new(), plain, packed: Vec::new(), first: None, unsynced: 0 })
    }

    /// Whether the part at hand must be written before this record is added.
    pub(super) fn is_full(&self, record: &[u8]) -> bool {
        self.first.is_some() && self.plain.len() + record.len() > limits::SEAL_PART_BYTES
    }

    /// Most bytes that the part at hand can take on disk.
    pub(super) fn bytes_max(&self) -> u64 {
        zstd_safe::compress_bound(self.plain.len()) as u64
    }

    /// Adds a whole record.
    pub(super) fn add(&mut self, seq: u64, record: &[u8]) {
        self.first.get_or_insert(seq);
        self.plain.extend_from_slice(record);
    }

    /// Writes the part at hand.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        let Some(first) = self.first.take() else { return Ok(()) };
        if self.parts.len() >= limits::SEAL_PARTS_MAX {
            return Err(io::Error::other("the segment has too many parts"));
        }
        self.packed.resize(zstd_safe::compress_bound(self.plain.len()), 0);
        let bytes = self.compressor.compress_to_buffer(&self.plain, self.packed.as_mut_slice())?;
        let packed = self.packed.get(..bytes).unwrap_or_default();
        let last = self.parts.last();
        self.parts.push(Part {
            at: last.map_or(0, |last| last.at + u64::from(last.packed)),
            packed: u32::try_from(bytes).map_err(io::Error::other)?,
            start: last.map_or(0, Part::end),
            plain: u32::try_from(self.plain.len()).map_err(io::Error::other)?,
            first,
            crc: crc32c::crc32c(packed),
        });
        self.file.write_all(packed)?;
        self.unsynced += bytes as u64;
        if self.unsynced >= limits::SEAL_SYNC_BYTES {
            self.file.sync_data()?;
            self.unsynced = 0;
        }
        // A record that had a part of its own is large; most are not.
        self.plain.clear();
        self.plain.shrink_to(2 * limits::SEAL_PART_BYTES);
        self.packed.clear();
        self.packed.shrink_to(2 * limits::SEAL_PART_BYTES);
        Ok(())
    }

    /// Writes the last part and the tables, and makes the file survive a power cut. It was modified when the segment
    /// was written last: when something was recorded shall not be lost.
    pub(super) fn finish(mut self, modified: SystemTime) -> io::Result<()> {
        self.flush()?;
        self.file.write_all(&seal::tables(&self.parts))?;
        self.file.set_times(FileTimes::new().set_modified(modified))?;
        self.file.sync_all()
    }
}
