//! The end of a sealed segment: where each of its compressed parts lies, and what it holds.
//!
//! ```text
//! sealed     = part.. | sums | seek table                          (zstd's seekable format; little endian)
//! part       = a zstd frame: whole records; before those of the first one the segment's header
//! sums       = 0x184D2A5C | len u32 | magic 8 | (first leaf u64, crc32c u32) per part | crc32c u32
//! seek table = 0x184D2A5E | len u32 | (packed u32, plain u32) per part and for the sums | count u32 | 0 | 0x8F92EAB1
//! ```
//! Sums and seek table are skippable frames, which a decoder passes over. A part's checksum is over its compressed
//! bytes, the last one of the sums over both tables: each bit of the file is under a checksum. Never reads a file,
//! and never unpacks.

use crate::limits::{SEAL_PART_BYTES, SEAL_PARTS_MAX};

use super::frame::{HEADER_BYTES, RECORD_BYTES_MAX};

/// First bytes of a zstd frame (RFC 8878, 3.1.1).
pub const ZSTD_MAGIC: [u8; 4] = 0xFD2F_B528u32.to_le_bytes();

/// Last bytes of a sealed segment that tell how long its tables are.
pub const FOOTER_BYTES: usize = 9;

/// Largest part, in plain bytes: a record that is larger than a part has one of its own.
pub const PART_BYTES_MAX: usize = SEAL_PART_BYTES + RECORD_BYTES_MAX + HEADER_BYTES;

const SUMS_MAGIC: u32 = 0x184D_2A5C;
const TABLE_MAGIC: u32 = 0x184D_2A5E;
const FOOTER_MAGIC: u32 = 0x8F92_EAB1;
const SUMS_FORMAT: &[u8; 8] = b"CTSEAL\x00\x01";

/// Magic and length of a skippable frame.
const SKIP_BYTES: usize = 8;
const SUM_BYTES: usize = 12;
const ENTRY_BYTES: usize = 8;
const CRC_BYTES: usize = 4;

/// One compressed part of a sealed segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Part {
    /// Where it begins in the file, in bytes.
    pub at: u64,
    /// Its length in the file, in bytes.
    pub packed: u32,
    /// Where its content begins in the segment as it was written, in bytes.
    pub start: u64,
    /// Length of its content, in bytes.
    pub plain: u32,
    /// Number of its first record.
    pub first: u64,
    /// CRC-32C of its bytes in the file.
    pub crc: u32,
}

impl Part {
    /// The byte after its content.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.start + u64::from(self.plain)
    }
}

/// The tables at the end of a sealed segment were changed or cut.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the tables at its end were changed or cut")]
pub struct TablesFault;

/// Sums and seek table of these parts.
#[must_use]
pub fn tables(parts: &[Part]) -> Vec<u8> {
    let count = parts.len();
    let mut sums = SUMS_MAGIC.to_le_bytes().to_vec();
    sums.extend_from_slice(&to_u32(SUMS_FORMAT.len() + count * SUM_BYTES + CRC_BYTES).to_le_bytes());
    sums.extend_from_slice(SUMS_FORMAT);
    for part in parts {
        sums.extend_from_slice(&part.first.to_le_bytes());
        sums.extend_from_slice(&part.crc.to_le_bytes());
    }
    let mut table = TABLE_MAGIC.to_le_bytes().to_vec();
    table.extend_from_slice(&to_u32((count + 1) * ENTRY_BYTES + FOOTER_BYTES).to_le_bytes());
    let own = (to_u32(sums.len() + CRC_BYTES), 0);
    for (packed, plain) in parts.iter().map(|part| (part.packed, part.plain)).chain([own]) {
        table.extend_from_slice(&packed.to_le_bytes());
        table.extend_from_slice(&plain.to_le_bytes());
    }
    table.extend_from_slice(&to_u32(count + 1).to_le_bytes());
    table.push(0);
    table.extend_from_slice(&FOOTER_MAGIC.to_le_bytes());
    let crc = crc32c::crc32c_append(crc32c::crc32c(&sums), &table);
    sums.extend_from_slice(&crc.to_le_bytes());
    sums.extend_from_slice(&table);
    sums
}

/// Length of both tables, by the last [`FOOTER_BYTES`] of a file; none when it is no sealed segment, or its end was
/// changed or cut.
#[must_use]
pub fn tables_bytes(footer: &[u8]) -> Option<usize> {
    let (count, rest) = footer.split_first_chunk::<4>()?;
    let count = u32::from_le_bytes(*count).checked_sub(1)? as usize;
    let ends = rest.split_first()? == (&0, &FOOTER_MAGIC.to_le_bytes());
    (ends && count <= SEAL_PARTS_MAX).then(|| {
        let sums = SKIP_BYTES + SUMS_FORMAT.len() + count * SUM_BYTES + CRC_BYTES;
        sums + SKIP_BYTES + (count + 1) * ENTRY_BYTES + FOOTER_BYTES
    })
}

/// Whether a file ends as a sealed segment does, by its last [`FOOTER_BYTES`].
#[must_use]
pub fn ends_sealed(footer: &[u8]) -> bool {
    footer.ends_with(&FOOTER_MAGIC.to_le_bytes())
}

/// The parts of a sealed segment of `len` bytes, by both tables, which are the end of it.
///
/// # Errors
/// When a single bit of them is not as [`tables`] writes it, or they do not fit the file.
pub fn parts(bytes: &[u8], len: u64) -> Result<Vec<Part>, TablesFault> {
    let count = bytes.last_chunk::<FOOTER_BYTES>().and_then(|footer| footer.first_chunk::<4>()).ok_or(TablesFault)?;
    let count = u32::from_le_bytes(*count).saturating_sub(1) as usize;
    if tables_bytes(bytes.last_chunk::<FOOTER_BYTES>().ok_or(TablesFault)?) != Some(bytes.len()) {
        return Err(TablesFault);
    }
    let sums = bytes.get(SKIP_BYTES + SUMS_FORMAT.len()..).ok_or(TablesFault)?;
    let (sums, rest) = sums.split_at_checked(count * SUM_BYTES).ok_or(TablesFault)?;
    let entries = rest.get(CRC_BYTES + SKIP_BYTES..).ok_or(TablesFault)?;
    let (mut found, mut at, mut start) = (Vec::<Part>::with_capacity(count), 0, 0);
    for (sum, entry) in sums.as_chunks::<SUM_BYTES>().0.iter().zip(entries.as_chunks::<ENTRY_BYTES>().0) {
        let (first, crc) = sum.split_first_chunk::<8>().ok_or(TablesFault)?;
        let (packed, plain) = entry.split_first_chunk::<4>().ok_or(TablesFault)?;
        let part = Part {
            at,
            packed: u32::from_le_bytes(*packed),
            start,
            plain: u32::from_le_bytes(plain.try_into().map_err(|_| TablesFault)?),
            first: u64::from_le_bytes(*first),
            crc: u32::from_le_bytes(crc.try_into().map_err(|_| TablesFault)?),
        };
        let ordered = found.last().is_none_or(|last| last.first < part.first);
        let bounded = part.plain as usize <= PART_BYTES_MAX && part.packed as usize <= 2 * PART_BYTES_MAX;
        if !ordered || part.plain == 0 || !bounded {
            return Err(TablesFault);
        }
        (at, start) = (at + u64::from(part.packed), part.end());
        found.push(part);
    }
    if tables(&found) == bytes && at + bytes.len() as u64 == len { Ok(found) } else { Err(TablesFault) }
}

/// Lengths here are bounded by [`SEAL_PARTS_MAX`], far below 2^32.
fn to_u32(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}
