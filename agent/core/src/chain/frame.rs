//! The bytes of the journal: a segment's header and a record's frame, and the leaf that a record is.
//!
//! ```text
//! segment = magic 8 | version u32 | store id 16 | first leaf u64 | crc32c u32        (little endian)
//! record  = len u32 | crc32c u32 | seq u64 | flags u8, event_len u24 | salt 16 | event | payload
//! ```
//! `len` counts what follows the checksum. The checksum is over everything from `event_len` on and then over
//! `len` and `seq`, so that all of it but the last twelve bytes is computed before the journal is locked.
//! An erased payload is its digest and its former length, with a salt of zeros. Never reads a file.

use sha2::{Digest, Sha256};

use super::tree::{Hash, leaf_hash};
use crate::id::Ulid;
use crate::limits::{EVENT_BYTES_MAX, PAYLOAD_BYTES_MAX};

/// Bytes of a segment's header.
pub const HEADER_BYTES: usize = 40;

/// Bytes of a record before its event.
pub const FRAME_BYTES: usize = 36;

/// Bytes of `len` and the checksum, which `len` does not count.
pub const PREFIX_BYTES: usize = 8;

/// Bytes in place of an erased payload: its digest and its former length.
const ERASED_BYTES: usize = 36;

/// Flag: the payload was erased.
const FLAG_ERASED: u32 = 1 << 24;

/// Low 24 bits: length of the event.
const EVENT_LEN: u32 = (1 << 24) - 1;

const MAGIC: &[u8; 8] = b"CREWTAP\x01";
const VERSION: u32 = 1;

/// Largest record, in bytes of the file.
pub const RECORD_BYTES_MAX: usize = FRAME_BYTES + EVENT_BYTES_MAX + PAYLOAD_BYTES_MAX;

/// What is wrong with a record.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum FrameFault {
    /// Zeros: nothing was ever written here.
    #[error("nothing was written here")]
    Empty,
    /// The length is impossible, or reaches beyond the segment.
    #[error("its length is impossible")]
    Length,
    /// The checksum does not fit.
    #[error("its checksum does not fit")]
    Checksum,
    /// The checksum fits, but the parts do not fit into the whole.
    #[error("its parts do not fit its length")]
    Shape,
}

/// What is wrong with a segment's header.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum HeaderFault {
    /// Cut, or not a segment, or its checksum does not fit.
    #[error("the segment's header was changed or cut")]
    Changed,
    /// Of a later version.
    #[error("the segment has format version {0}, this program reads version {VERSION}: use a newer one")]
    Version(u32),
    /// Of another store.
    #[error("the segment belongs to the store {0}")]
    Store(Ulid),
    /// Another number than the file's name.
    #[error("the segment's header says that it begins with record {0}")]
    First(u64),
}

/// Header of a segment.
#[must_use]
pub fn header(store: Ulid, first: u64) -> [u8; HEADER_BYTES] {
    let mut bytes = Vec::with_capacity(HEADER_BYTES);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    bytes.extend_from_slice(&store.to_bytes());
    bytes.extend_from_slice(&first.to_le_bytes());
    let crc = crc32c::crc32c(&bytes);
    bytes.extend_from_slice(&crc.to_le_bytes());
    bytes.try_into().unwrap_or([0; HEADER_BYTES])
}

/// Whether a file begins as a segment does.
#[must_use]
pub fn is_segment(bytes: &[u8]) -> bool {
    let len = bytes.len().min(MAGIC.len());
    len > 0 && bytes.get(..len) == MAGIC.get(..len)
}

/// Checks a segment's header against the store and the number in the file's name.
///
/// # Errors
/// The first thing that differs.
pub fn check_header(bytes: &[u8], store: Ulid, first: u64) -> Result<(), HeaderFault> {
    if bytes == header(store, first) {
        return Ok(());
    }
    let mut rest = bytes;
    let magic = take::<8>(&mut rest).ok_or(HeaderFault::Changed)?;
    let version = u32::from_le_bytes(take(&mut rest).ok_or(HeaderFault::Changed)?);
    let found = Ulid::from_bytes(take(&mut rest).ok_or(HeaderFault::Changed)?);
    let number = u64::from_le_bytes(take(&mut rest).ok_or(HeaderFault::Changed)?);
    let crc = u32::from_le_bytes(take(&mut rest).ok_or(HeaderFault::Changed)?);
    let whole = bytes.get(..HEADER_BYTES - 4).is_some_and(|body| crc32c::crc32c(body) == crc);
    match () {
        () if magic != *MAGIC || !whole => Err(HeaderFault::Changed),
        () if version != VERSION => Err(HeaderFault::Version(version)),
        () if found != store => Err(HeaderFault::Store(found)),
        () if number != first => Err(HeaderFault::First(number)),
        () => Err(HeaderFault::Changed),
    }
}

/// A record's first bytes, complete but for its number.
#[derive(Clone, Debug)]
pub struct Head {
    len: u32,
    crc: u32,
}

impl Head {
    /// Writes frame and event of a record to `out`, with room for number and checksum.
    /// The sizes are within [`EVENT_BYTES_MAX`] and [`PAYLOAD_BYTES_MAX`]: the caller has checked.
    pub fn write(out: &mut Vec<u8>, salt: [u8; 16], event: &[u8], payload: &[&[u8]]) -> Self {
        let payload_len: usize = payload.iter().map(|part| part.len()).sum();
        let len = to_u32(FRAME_BYTES - PREFIX_BYTES + event.len() + payload_len);
        out.extend_from_slice(&[0; 16]);
        let start = out.len();
        out.extend_from_slice(&(to_u32(event.len()) & EVENT_LEN).to_le_bytes());
        out.extend_from_slice(&salt);
        out.extend_from_slice(event);
        let crc = crc32c::crc32c(out.get(start..).unwrap_or_default());
        let crc = payload.iter().fold(crc, |crc, part| crc32c::crc32c_append(crc, part));
        Self { len, crc }
    }

    /// Bytes of the whole record in the file.
    #[must_use]
    pub fn record_bytes(&self) -> u64 {
        u64::from(self.len) + PREFIX_BYTES as u64
    }

    /// Puts in what is known last. `frame` begins where [`Self::write`] began.
    pub fn number(&self, frame: &mut [u8], seq: u64) {
        let tail = number_bytes(self.len, seq);
        let crc = crc32c::crc32c_append(self.crc, &tail);
        if let Some((prefix, _)) = frame.split_first_chunk_mut::<16>() {
            let (len, rest) = prefix.split_at_mut(4);
            let (checksum, number) = rest.split_at_mut(4);
            len.copy_from_slice(&self.len.to_le_bytes());
            checksum.copy_from_slice(&crc.to_le_bytes());
            number.copy_from_slice(&seq.to_le_bytes());
        }
    }
}

/// The payload of a record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Payload<'a> {
    /// As it was recorded, with its salt.
    Kept(&'a [u8], [u8; 16]),
    /// Erased: what proofs need.
    Erased {
        /// SHA-256 of salt and payload.
        digest: Hash,
        /// Its former length in bytes.
        len: u32,
    },
}

/// A record as it lies in the file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Frame<'a> {
    /// Leaf number.
    pub seq: u64,
    /// The event in CBOR.
    pub event: &'a [u8],
    /// The payload.
    pub payload: Payload<'a>,
}

/// Bytes of the whole record that begins with these [`PREFIX_BYTES`].
///
/// # Errors
/// When nothing was written there, or the length is impossible.
pub fn record_bytes(prefix: &[u8]) -> Result<usize, FrameFault> {
    let mut rest = prefix;
    let len = u32::from_le_bytes(take(&mut rest).ok_or(FrameFault::Length)?) as usize;
    let crc: [u8; 4] = take(&mut rest).ok_or(FrameFault::Length)?;
    let total = len.saturating_add(PREFIX_BYTES);
    match len {
        0 if crc == [0; 4] => Err(FrameFault::Empty),
        _ if !(FRAME_BYTES..=RECORD_BYTES_MAX).contains(&total) => Err(FrameFault::Length),
        _ => Ok(total),
    }
}

/// The number that a record claims; its checksum is not looked at.
#[must_use]
pub fn claimed_seq(bytes: &[u8]) -> Option<u64> {
    bytes.get(PREFIX_BYTES..PREFIX_BYTES + 8)?.try_into().ok().map(u64::from_le_bytes)
}

impl<'a> Frame<'a> {
    /// Reads the record at the beginning of `bytes`, which may go on after it.
    ///
    /// # Errors
    /// When it is not a whole and unchanged record.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, FrameFault> {
        Self::parse(bytes, true)
    }

    /// The same for bytes whose checksum was checked a moment ago.
    ///
    /// # Errors
    /// When it is not a whole record.
    pub fn decode_unchecked(bytes: &'a [u8]) -> Result<Self, FrameFault> {
        Self::parse(bytes, false)
    }

    fn parse(bytes: &'a [u8], check: bool) -> Result<Self, FrameFault> {
        let total = record_bytes(bytes)?;
        let mut rest = bytes.get(..total).ok_or(FrameFault::Length)?;
        let len = u32::from_le_bytes(take(&mut rest).ok_or(FrameFault::Length)?);
        let stored = u32::from_le_bytes(take(&mut rest).ok_or(FrameFault::Length)?);
        let seq = u64::from_le_bytes(take(&mut rest).ok_or(FrameFault::Length)?);
        if check && crc32c::crc32c_append(crc32c::crc32c(rest), &number_bytes(len, seq)) != stored {
            return Err(FrameFault::Checksum);
        }
        let word = u32::from_le_bytes(take(&mut rest).ok_or(FrameFault::Shape)?);
        let salt: [u8; 16] = take(&mut rest).ok_or(FrameFault::Shape)?;
        let (event, payload) = rest.split_at_checked((word & EVENT_LEN) as usize).ok_or(FrameFault::Shape)?;
        let payload = match word & !EVENT_LEN {
            0 => Payload::Kept(payload, salt),
            FLAG_ERASED if salt == [0; 16] && payload.len() == ERASED_BYTES => erased(payload)?,
            _ => return Err(FrameFault::Shape),
        };
        Ok(Self { seq, event, payload })
    }

    /// The record's leaf: `SHA-256(0x00 || seq || event_len || payload_len || event || SHA-256(salt || payload))`.
    #[must_use]
    pub fn leaf(&self) -> Hash {
        let (digest, len) = match self.payload {
            Payload::Kept(bytes, salt) => {
                (Sha256::new().chain_update(salt).chain_update(bytes).finalize().into(), to_u32(bytes.len()))
            }
            Payload::Erased { digest, len } => (digest, len),
        };
        let event_len = to_u32(self.event.len());
        leaf_hash(&[&self.seq.to_le_bytes(), &event_len.to_le_bytes(), &len.to_le_bytes(), self.event, &digest])
    }

    /// The payload; none when it was erased.
    #[must_use]
    pub fn bytes(&self) -> Option<&'a [u8]> {
        match self.payload {
            Payload::Kept(bytes, _) => Some(bytes),
            Payload::Erased { .. } => None,
        }
    }

    /// The record with its payload erased: same leaf, other bytes.
    #[must_use]
    pub fn erase(&self) -> Vec<u8> {
        let (digest, payload_len): (Hash, u32) = match self.payload {
            Payload::Kept(bytes, salt) => {
                (Sha256::new().chain_update(salt).chain_update(bytes).finalize().into(), to_u32(bytes.len()))
            }
            Payload::Erased { digest, len } => (digest, len),
        };
        let len = to_u32(FRAME_BYTES - PREFIX_BYTES + self.event.len() + ERASED_BYTES);
        let mut body = (to_u32(self.event.len()) & EVENT_LEN | FLAG_ERASED).to_le_bytes().to_vec();
        body.extend_from_slice(&[0; 16]);
        body.extend_from_slice(self.event);
        body.extend_from_slice(&digest);
        body.extend_from_slice(&payload_len.to_le_bytes());
        let crc = crc32c::crc32c_append(crc32c::crc32c(&body), &number_bytes(len, self.seq));
        let mut out = len.to_le_bytes().to_vec();
        out.extend_from_slice(&crc.to_le_bytes());
        out.extend_from_slice(&self.seq.to_le_bytes());
        out.extend_from_slice(&body);
        out
    }
}

fn erased(mut bytes: &[u8]) -> Result<Payload<'_>, FrameFault> {
    let digest = take(&mut bytes).ok_or(FrameFault::Shape)?;
    let len = u32::from_le_bytes(take(&mut bytes).ok_or(FrameFault::Shape)?);
    Ok(Payload::Erased { digest, len })
}

fn number_bytes(len: u32, seq: u64) -> [u8; 12] {
    let mut bytes = [0; 12];
    let (first, second) = bytes.split_at_mut(4);
    first.copy_from_slice(&len.to_le_bytes());
    second.copy_from_slice(&seq.to_le_bytes());
    bytes
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (head, rest) = bytes.split_first_chunk::<N>()?;
    *bytes = rest;
    Some(*head)
}

/// Lengths here are bounded by [`RECORD_BYTES_MAX`], far below 2^32.
fn to_u32(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}
