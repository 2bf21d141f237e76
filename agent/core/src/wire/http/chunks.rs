//! The chunked coding (RFC 9112 section 7.1), told apart into framing and content.
//!
//! Owns the place in the coding. Never keeps content, never joins chunks.

use super::fault::Fault;
use super::fields::{Fields, is_blank, is_text};
use super::scan::Scan;
use crate::limits;

/// Where in the coding the next byte is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Chunks {
    /// At a chunk-size line.
    Size,
    /// In a chunk, before so many bytes of content.
    Content(u64),
    /// At the CRLF behind a chunk's content.
    ContentEnd,
    /// Behind the last chunk.
    Trailers,
    /// All was covered.
    Done,
}

/// What the next bytes are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Part<'a> {
    NeedMore,
    Content(usize),
    Framing(usize),
    Trailers(usize, Fields<'a>),
}

/// Fields that may not come behind the content (RFC 9110 section 6.5.1): a peer that merges them would read another
/// message.
const HEAD_ONLY: &[&str] =
    &["content-length", "transfer-encoding", "host", "connection", "upgrade", "content-encoding"];

impl Chunks {
    /// The next part of `bytes`.
    pub(super) fn step<'a>(&mut self, bytes: &'a [u8], scan: &mut Scan) -> Result<Part<'a>, Fault> {
        match *self {
            Self::Size => {
                let max = limits::HTTP_CHUNK_LINE_BYTES_MAX;
                let Some(len) = scan.line(bytes, max, Fault::ChunkLine)? else { return Ok(Part::NeedMore) };
                let size = size(bytes.get(..len - 2).unwrap_or_default())?;
                scan.restart();
                *self = if size == 0 { Self::Trailers } else { Self::Content(size) };
                Ok(Part::Framing(len))
            }
            Self::Content(left) => {
                let len = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
                if len == 0 {
                    return Ok(Part::NeedMore);
                }
                let left = left - len as u64;
                *self = if left == 0 { Self::ContentEnd } else { Self::Content(left) };
                Ok(Part::Content(len))
            }
            Self::ContentEnd => match bytes {
                [] | [b'\r'] => Ok(Part::NeedMore),
                [b'\r', b'\n', ..] => {
                    *self = Self::Size;
                    Ok(Part::Framing(2))
                }
                _ => Err(Fault::ChunkEnd),
            },
            Self::Trailers => {
                let Some(len) = scan.block(bytes, limits::HTTP_HEAD_BYTES_MAX)? else { return Ok(Part::NeedMore) };
                let fields = Fields::parse(bytes.get(..len - 2).unwrap_or_default())?;
                if HEAD_ONLY.iter().any(|name| fields.get(name).is_some()) {
                    return Err(Fault::TrailerField);
                }
                scan.restart();
                *self = Self::Done;
                Ok(if fields.is_empty() { Part::Framing(len) } else { Part::Trailers(len, fields) })
            }
            Self::Done => Ok(Part::NeedMore),
        }
    }
}

/// The size in a chunk-size line without its CRLF. Extensions are not read, but must be ones.
fn size(line: &[u8]) -> Result<u64, Fault> {
    let digits = line.iter().position(|byte| !byte.is_ascii_hexdigit()).unwrap_or(line.len());
    let (size, extensions) = line.split_at(digits);
    let text = std::str::from_utf8(size).map_err(|_| Fault::ChunkSize)?;
    let begins_extension = || extensions.iter().find(|byte| !is_blank(**byte)) == Some(&b';');
    if !extensions.is_empty() && !begins_extension() || !extensions.iter().all(|byte| is_text(*byte)) {
        return Err(Fault::ChunkSize);
    }
    // Not more than a signed integer holds: a parser with one would read another size. Not more than 16 digits
    // either: there are parsers that look at so many only.
    if size.len() > 16 {
        return Err(Fault::ChunkSize);
    }
    let number = i64::from_str_radix(text, 16).map_err(|_| Fault::ChunkSize)?;
    u64::try_from(number).map_err(|_| Fault::ChunkSize)
}
