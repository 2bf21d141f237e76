//! Reading segment files, sealed or not, as one: the bytes of a segment as they were written.
//!
//! A sealed segment has the name and the content of the one that it replaces. Never holds more than one of its parts
//! unpacked; of a damaged part it gives what can still be unpacked, and zeros for the rest.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;

use crewtap_core::chain::frame;
use crewtap_core::chain::seal::{self, Part, TablesFault};
use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
use zstd::zstd_safe::{self, DParameter};

/// Largest window of a part, as a power of two: a part is one segment of at most 2^25 bytes.
const WINDOW_LOG_MAX: u32 = 25;

/// What is wrong with a part.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub(super) enum PartFault {
    #[error("its checksum does not fit")]
    Checksum,
    #[error("it does not unpack to what the tables say")]
    Content,
}

/// An open segment file.
#[derive(Debug)]
pub(super) enum Source {
    /// As it was written.
    Plain(File),
    /// Compressed.
    Sealed(Sealed),
}

/// An open sealed segment.
#[derive(Debug)]
pub(super) struct Sealed {
    file: File,
    pub(super) parts: Vec<Part>,
    /// The tables were damaged: the parts were found without them, and nobody knows their sums and numbers.
    pub(super) fault: Option<TablesFault>,
}

impl Source {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        Self::of(File::open(path)?)
    }

    pub(super) fn of(file: File) -> io::Result<Self> {
        // The end of a segment that grows is read again and again, and behind it are only zeros: read ahead, they would come as
        // one large folio, in which each small write afterwards looks at every block (ext4).
        let _ = posix_fadvise(&file, 0, 0, PosixFadviseAdvice::POSIX_FADV_RANDOM);
        let len = file.metadata()?.len();
        let (mut head, mut foot) = ([0; seal::ZSTD_MAGIC.len()], [0; seal::FOOTER_BYTES]);
        let end = len.saturating_sub(seal::FOOTER_BYTES as u64);
        let _ = (fill(&file, &mut head, 0)?, fill(&file, &mut foot, end)?);
        // One of both ends may be damaged.
        let is_plain = frame::is_segment(&head) || !(head == seal::ZSTD_MAGIC || seal::ends_sealed(&foot));
        if is_plain {
            return Ok(Self::Plain(file));
        }
        let _ = posix_fadvise(&file, 0, 0, PosixFadviseAdvice::POSIX_FADV_NORMAL);
        let tables = seal::tables_bytes(&foot).and_then(|bytes| Some((bytes, len.checked_sub(bytes as u64)?)));
        let parts = match tables {
            Some((bytes, at)) => {
                let mut tables = vec![0; bytes];
                let read = fill(&file, &mut tables, at)?;
                seal::parts(tables.get(..read).unwrap_or_default(), len)
            }
            None => Err(TablesFault),
        };
        Ok(Self::Sealed(match parts {
            Ok(parts) => Sealed { file, parts, fault: None },
            Err(fault) => Sealed { parts: without_tables(&file)?, file, fault: Some(fault) },
        }))
    }

    pub(super) fn sealed(&self) -> Option<&Sealed> {
        match self {
            Self::Plain(_) => None,
            Self::Sealed(sealed) => Some(sealed),
        }
    }

    /// Number and place of a record at or before this one, from which it can be looked for.
    pub(super) fn near(&self, leaf: u64) -> Option<(u64, u64)> {
        let sealed = self.sealed().filter(|sealed| sealed.fault.is_none())?;
        let after = sealed.parts.partition_point(|part| part.first <= leaf);
        let nth = after.checked_sub(1)?;
        let part = sealed.parts.get(nth)?;
        let header = if nth == 0 { frame::HEADER_BYTES as u64 } else { 0 };
        Some((part.first, part.start + header))
    }
}

impl Sealed {
    /// Whether the tables say of this place that another record begins there.
    pub(super) fn misplaces(&self, leaf: u64, offset: u64) -> bool {
        let nth = self.parts.partition_point(|part| part.end() <= offset);
        let begins = |part: &Part| part.start == offset || (nth == 0 && offset == frame::HEADER_BYTES as u64);
        self.fault.is_none() && self.parts.get(nth).is_some_and(|part| begins(part) && part.first != leaf)
    }

    /// The plain bytes of a part, as many as the tables say.
    fn unpack(&self, part: &Part) -> io::Result<(Vec<u8>, Option<PartFault>)> {
        let mut packed = vec![0; part.packed as usize];
        let read = fill(&self.file, &mut packed, part.at)?;
        packed.truncate(read);
        let whole = self.fault.is_some() || crc32c::crc32c(&packed) == part.crc;
        let (plain, exact) = unpack(&packed, part.plain as usize);
        Ok((plain, (!whole).then_some(PartFault::Checksum).or((!exact).then_some(PartFault::Content))))
    }
}

/// Unpacks one frame to exactly `len` bytes; false when it does not hold exactly these.
fn unpack(packed: &[u8], len: usize) -> (Vec<u8>, bool) {
    let mut plain = vec![0; len];
    // Decoders of other formats are not asked: what a sealed segment holds was written by this program.
    if !packed.starts_with(&seal::ZSTD_MAGIC) {
        return (plain, false);
    }
    let mut rest = packed;
    let mut filled = 0;
    let decoder = zstd::stream::read::Decoder::with_buffer(&mut rest).map(zstd::stream::read::Decoder::single_frame);
    let Ok(mut decoder) = decoder else { return (plain, false) };
    if decoder.set_parameter(DParameter::WindowLogMax(WINDOW_LOG_MAX)).is_err() {
        return (plain, false);
    }
    // What was unpacked before the damaged place is kept: the records in it have checksums of their own.
    let ended = loop {
        match decoder.read(plain.get_mut(filled..).unwrap_or_default()) {
            Ok(0) => break filled == len && matches!(decoder.read(&mut [0]), Ok(0)),
            Ok(read) => filled += read,
            Err(_) => break false,
        }
    };
    drop(decoder);
    (plain, ended && rest.is_empty())
}

/// Finds the parts of a sealed segment whose tables are damaged: frame after frame, each knows its length.
fn without_tables(file: &File) -> io::Result<Vec<Part>> {
    let (mut parts, mut at, mut start) = (Vec::new(), 0, 0);
    let most = zstd_safe::compress_bound(seal::PART_BYTES_MAX);
    while parts.len() < crewtap_core::limits::SEAL_PARTS_MAX {
        let mut packed = vec![0; most];
        let read = fill(file, &mut packed, at)?;
        let packed = packed.get(..read).unwrap_or_default();
        if !packed.starts_with(&seal::ZSTD_MAGIC) {
            break;
        }
        let plain = zstd_safe::get_frame_content_size(packed).ok().flatten();
        let plain = plain.and_then(|plain| u32::try_from(plain).ok());
        let Some(plain) = plain.filter(|plain| *plain > 0 && *plain as usize <= seal::PART_BYTES_MAX) else { break };
        // The last one may be cut: what is there of it is unpacked all the same.
        let bytes = zstd_safe::find_frame_compressed_size(packed).unwrap_or(packed.len());
        let Ok(bytes) = u32::try_from(bytes) else { break };
        parts.push(Part { at, packed: bytes, start, plain, first: 0, crc: 0 });
        (at, start) = (at + u64::from(bytes), start + u64::from(plain));
    }
    Ok(parts)
}

/// Reads until the slice is full or the file ends.
fn fill(file: &File, mut bytes: &mut [u8], mut at: u64) -> io::Result<usize> {
    let wanted = bytes.len();
    while !bytes.is_empty() {
        match file.read_at(bytes, at) {
            Ok(0) => break,
            Ok(read) => {
                bytes = bytes.get_mut(read..).unwrap_or_default();
                at += read as u64;
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(wanted - bytes.len())
}

/// The bytes of a segment as they were written, by their place.
#[derive(Debug)]
pub(super) struct View {
    source: Arc<Source>,
    /// The part that was unpacked last.
    unpacked: Option<(usize, Vec<u8>)>,
    /// The parts that were found damaged.
    faults: BTreeMap<usize, PartFault>,
}

impl View {
    pub(super) fn new(source: Arc<Source>) -> Self {
        Self { source, unpacked: None, faults: BTreeMap::new() }
    }

    pub(super) fn source(&self) -> &Source {
        &self.source
    }

    /// Reads some bytes from a place on; none at the end.
    pub(super) fn read_at(&mut self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        let sealed = match &*self.source {
            Source::Plain(file) => return file.read_at(bytes, offset),
            Source::Sealed(sealed) => sealed,
        };
        let nth = sealed.parts.partition_point(|part| part.end() <= offset);
        let Some(part) = sealed.parts.get(nth) else { return Ok(0) };
        if self.unpacked.as_ref().is_none_or(|(at_hand, _)| *at_hand != nth) {
            self.unpacked = None;
            let (plain, fault) = sealed.unpack(part)?;
            self.faults.extend(fault.map(|fault| (nth, fault)));
            self.unpacked = Some((nth, plain));
        }
        let skip = usize::try_from(offset.saturating_sub(part.start)).unwrap_or(usize::MAX);
        let plain = self.unpacked.as_ref().and_then(|(_, plain)| plain.get(skip..)).unwrap_or_default();
        let len = plain.len().min(bytes.len());
        if let (Some(to), Some(from)) = (bytes.get_mut(..len), plain.get(..len)) {
            to.copy_from_slice(from);
        }
        Ok(len)
    }

    /// The parts that were found damaged so far.
    pub(super) fn faults(&self) -> impl Iterator<Item = (Part, PartFault)> {
        let parts = self.source.sealed().map(|sealed| sealed.parts.as_slice()).unwrap_or_default();
        self.faults.iter().filter_map(|(nth, fault)| Some((*parts.get(*nth)?, *fault)))
    }
}
