//! Content codings (RFC 9110 section 8.4), undone for search and views.
//!
//! Owns bounded decoding: the output never exceeds what was asked for, so that a small body that grows a thousandfold
//! stops there and says so. Never touches what is forwarded or recorded.

mod zstd;

use std::io::{self, Write};

use brotli_decompressor::DecompressorWriter;
use flate2::write::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};

use zstd::Zstd;

/// Codings of one body that are undone; more than one is rare, and each costs a window.
const CODINGS_MAX: usize = 3;

/// Output buffer of the brotli decoder, in bytes.
const BROTLI_BUFFER_BYTES: usize = 4096;

/// Why the decoded bytes end where they do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// The body is complete.
    Whole,
    /// More would follow: the bound was reached.
    Bounded,
    /// The coded body ends early: cut, or not recorded as a whole.
    Truncated,
    /// The coded body breaks its format, or goes on behind its end.
    Broken,
    /// The coding is not known: the bytes are as they were sent.
    Unknown,
}

/// A body without its codings.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Decoded {
    /// Its first bytes, up to the bound.
    pub bytes: Vec<u8>,
    /// Why they end there.
    pub end: End,
}

/// Undoes the codings of one body as its bytes come.
pub struct Decoder {
    /// In the order in which they are undone; empty for a body that is not coded.
    stages: Vec<Box<dyn Stage + Send>>,
    shown: Bounded,
    end: End,
}

impl Decoder {
    /// For content that is coded as a list says (`gzip, br`: in the order of application); at most `max` bytes are given.
    #[must_use]
    pub fn of(list: &str, max: usize) -> Self {
        let codings: Vec<&[u8]> =
            list.split(',').map(|coding| coding.trim().as_bytes()).filter(|coding| !coding.is_empty()).collect();
        Self::new(&codings, max)
    }

    /// For content to which `codings` were applied in this order; at most `max` bytes are given.
    #[must_use]
    pub fn new(codings: &[&[u8]], max: usize) -> Self {
        let coded = codings.iter().filter(|coding| !coding.eq_ignore_ascii_case(b"identity"));
        let stages: Option<Vec<_>> = coded.rev().map(|coding| stage(coding, max)).collect();
        let stages = stages.filter(|stages| stages.len() <= CODINGS_MAX);
        let end = if stages.is_some() { End::Whole } else { End::Unknown };
        Self { stages: stages.unwrap_or_default(), shown: Bounded::new(max), end }
    }

    /// The content's next bytes.
    pub fn feed(&mut self, bytes: &[u8]) {
        if !matches!(self.end, End::Whole | End::Unknown) || bytes.is_empty() {
            return;
        }
        let mut piece = bytes.to_vec();
        for stage in &mut self.stages {
            let result = stage.write_all(&piece).and_then(|()| stage.flush());
            piece = stage.output().take();
            // What was decoded before the fault still counts.
            if result.is_err() && self.end == End::Whole {
                self.end = if stage.output().full { End::Bounded } else { End::Broken };
            }
        }
        if self.shown.write_all(&piece).is_err() {
            self.end = End::Bounded;
        }
    }

    /// What was decoded so far.
    #[must_use]
    pub fn decoded(&self) -> &[u8] {
        &self.shown.bytes
    }

    /// What was decoded since the last call; the bound counts over all calls.
    #[must_use]
    pub fn take(&mut self) -> Vec<u8> {
        self.shown.take()
    }

    /// How it went so far; whole where nothing was wrong yet.
    #[must_use]
    pub fn end(&self) -> End {
        self.end
    }

    /// The content is complete.
    #[must_use]
    pub fn finish(mut self) -> Decoded {
        let mut rest = Vec::new();
        for stage in &mut self.stages {
            let fed = rest.is_empty() || stage.write_all(&rest).is_ok();
            let whole = stage.close();
            rest = stage.output().take();
            if self.end == End::Whole && !(fed && whole) {
                self.end = if stage.output().full { End::Bounded } else { End::Truncated };
            }
        }
        if self.shown.write_all(&rest).is_err() && self.end != End::Unknown {
            self.end = End::Bounded;
        }
        Decoded { bytes: self.shown.bytes, end: self.end }
    }
}

fn stage(coding: &[u8], max: usize) -> Option<Box<dyn Stage + Send>> {
    Some(match coding.to_ascii_lowercase().as_slice() {
        b"gzip" | b"x-gzip" => Box::new(MultiGzDecoder::new(Bounded::new(max))),
        b"deflate" => Box::new(Deflate::Undecided { first: Vec::new(), output: Bounded::new(max) }),
        b"br" => Box::new(DecompressorWriter::new(Bounded::new(max), BROTLI_BUFFER_BYTES)),
        b"zstd" => Box::new(Zstd::new(Bounded::new(max))),
        _ => return None,
    })
}

/// Undoes one coding.
trait Stage: Write {
    /// What it wrote.
    fn output(&mut self) -> &mut Bounded;
    /// No input follows; whether it was complete.
    fn close(&mut self) -> bool;
}

impl Stage for MultiGzDecoder<Bounded> {
    fn output(&mut self) -> &mut Bounded {
        self.get_mut()
    }

    fn close(&mut self) -> bool {
        self.try_finish().is_ok()
    }
}

impl Stage for DecompressorWriter<Bounded> {
    fn output(&mut self) -> &mut Bounded {
        self.get_mut()
    }

    fn close(&mut self) -> bool {
        DecompressorWriter::close(self).is_ok()
    }
}

/// "deflate" is the zlib format, says RFC 9110 section 8.4.1.2, and some servers send the bare one.
enum Deflate {
    Undecided { first: Vec<u8>, output: Bounded },
    Zlib(ZlibDecoder<Bounded>),
    Bare(DeflateDecoder<Bounded>),
}

impl Deflate {
    /// Decides by the two bytes that a zlib stream begins with (RFC 1950 section 2.2).
    fn decide(first: &[u8], max: usize) -> Option<Self> {
        let [method, flags] = *first.first_chunk::<2>()?;
        let is_zlib = method & 0x0f == 8 && u16::from_be_bytes([method, flags]) % 31 == 0;
        let output = Bounded::new(max);
        Some(if is_zlib { Self::Zlib(ZlibDecoder::new(output)) } else { Self::Bare(DeflateDecoder::new(output)) })
    }
}

impl Write for Deflate {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Zlib(decoder) => decoder.write(bytes),
            Self::Bare(decoder) => decoder.write(bytes),
            Self::Undecided { first, output } => {
                first.extend_from_slice(bytes);
                if let Some(mut decided) = Self::decide(first, output.left) {
                    let first = std::mem::take(first);
                    let result = decided.write_all(&first);
                    *self = decided;
                    result?;
                }
                Ok(bytes.len())
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Zlib(decoder) => decoder.flush(),
            Self::Bare(decoder) => decoder.flush(),
            Self::Undecided { .. } => Ok(()),
        }
    }
}

impl Stage for Deflate {
    fn output(&mut self) -> &mut Bounded {
        match self {
            Self::Zlib(decoder) => decoder.get_mut(),
            Self::Bare(decoder) => decoder.get_mut(),
            Self::Undecided { output, .. } => output,
        }
    }

    fn close(&mut self) -> bool {
        match self {
            Self::Zlib(decoder) => decoder.try_finish().is_ok(),
            Self::Bare(decoder) => decoder.try_finish().is_ok(),
            Self::Undecided { first, .. } => first.is_empty(),
        }
    }
}

/// Takes bytes up to a bound, over all that it takes in its life.
struct Bounded {
    bytes: Vec<u8>,
    left: usize,
    /// More was written than it takes.
    full: bool,
}

impl Bounded {
    const fn new(max: usize) -> Self {
        Self { bytes: Vec::new(), left: max, full: false }
    }

    fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.bytes)
    }
}

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.get(..self.left).unwrap_or(bytes);
        self.bytes.extend_from_slice(taken);
        self.left -= taken.len();
        if taken.len() < bytes.len() {
            self.full = true;
            return Err(io::Error::other("the bound was reached"));
        }
        Ok(taken.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
