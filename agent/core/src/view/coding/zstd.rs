//! zstd-coded content (RFC 8878, RFC 9659), block by block.
//!
//! Owns the walk over frames and blocks: the decoder behind it is given one block at a time, because one call of it
//! decodes all that it is given, and 4 bytes may stand for 128 KiB. Never holds more than a window and a block.

use std::io::{self, Write};

use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

use super::{Bounded, Stage};
use crate::limits;

const MAGIC: u32 = 0xfd2f_b528;
/// The low four bits are free (RFC 8878 section 3.1.2).
const SKIPPABLE: u32 = 0x184d_2a50;
/// Largest content of one block (RFC 8878 section 3.1.1.2.3).
const BLOCK_BYTES_MAX: usize = 128 * 1024;

/// Where in the stream the next byte is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Frame,
    Skip(usize),
    Block { checksum: bool },
}

/// Decodes frames as their bytes come.
pub(super) struct Zstd {
    decoder: FrameDecoder,
    place: Place,
    /// What has come and is not dropped yet.
    input: Vec<u8>,
    /// Where in it the frame header or the block under way begins: moved on for each, and dropped once for all.
    at: usize,
    output: Bounded,
}

impl Zstd {
    pub(super) fn new(output: Bounded) -> Self {
        let mut decoder = FrameDecoder::new();
        decoder.set_max_window_size(limits::ZSTD_WINDOW_BYTES_MAX);
        Self { decoder, place: Place::Frame, input: Vec::new(), at: 0, output }
    }

    /// Takes one header, block or piece to skip from the input; none where more bytes are needed.
    fn step(&mut self) -> io::Result<Option<usize>> {
        let taken = match self.place {
            Place::Frame => self.frame(),
            Place::Skip(left) => {
                let taken = left.min(self.rest().len());
                self.place = if left == taken { Place::Frame } else { Place::Skip(left - taken) };
                Ok((taken > 0 || left == 0).then_some(taken))
            }
            Place::Block { checksum } => self.block(checksum),
        }?;
        Ok(taken.inspect(|taken| self.at += taken))
    }

    fn rest(&self) -> &[u8] {
        self.input.get(self.at..).unwrap_or_default()
    }

    fn frame(&mut self) -> io::Result<Option<usize>> {
        let Some(magic) = self.rest().first_chunk::<4>().copied().map(u32::from_le_bytes) else { return Ok(None) };
        if magic & 0xffff_fff0 == SKIPPABLE {
            let Some(len) = self.rest().get(4..).and_then(|rest| rest.first_chunk::<4>()) else { return Ok(None) };
            self.place = Place::Skip(u32::from_le_bytes(*len) as usize);
            return Ok(Some(8));
        }
        if magic != MAGIC {
            return Err(io::Error::other("no frame begins here"));
        }
        let Some(descriptor) = self.rest().get(4).copied() else { return Ok(None) };
        let len = header_len(descriptor);
        let Some(mut header) = self.input.get(self.at..self.at + len) else { return Ok(None) };
        self.decoder.reset(&mut header).map_err(io::Error::other)?;
        self.place = Place::Block { checksum: descriptor & 0b100 != 0 };
        Ok(Some(len))
    }

    fn block(&mut self, checksum: bool) -> io::Result<Option<usize>> {
        const RLE: u32 = 1;
        let Some([a, b, c]) = self.rest().first_chunk::<3>().copied() else { return Ok(None) };
        let header = u32::from_le_bytes([a, b, c, 0]);
        let (last, kind, size) = (header & 1 == 1, header >> 1 & 3, (header >> 3) as usize);
        let size = if kind == RLE { 1 } else { size };
        if size > BLOCK_BYTES_MAX {
            return Err(io::Error::other("the block is larger than a block may be"));
        }
        let len = 3 + size + if last && checksum { 4 } else { 0 };
        let Some(block) = self.input.get(self.at..self.at + len) else { return Ok(None) };
        self.decoder.decode_blocks(block, BlockDecodingStrategy::UptoBlocks(1)).map_err(io::Error::other)?;
        self.decoder.collect_to_writer(&mut self.output).map_err(io::Error::other)?;
        if last {
            self.place = Place::Frame;
        }
        Ok(Some(len))
    }
}

impl Write for Zstd {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        /// Input that is taken before blocks are looked for.
        const PIECE_BYTES: usize = 64 * 1024;
        for piece in bytes.chunks(PIECE_BYTES) {
            self.input.extend_from_slice(piece);
            while self.step()?.is_some() {}
            self.input.drain(..self.at);
            self.at = 0;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Stage for Zstd {
    fn output(&mut self) -> &mut Bounded {
        &mut self.output
    }

    fn close(&mut self) -> bool {
        let whole = self.place == Place::Frame && self.rest().is_empty();
        if let Place::Block { .. } = self.place {
            // The decoder keeps a window back until its frame ends; so the cut frame gets an end: an empty raw block
            // that is the last one, and a checksum, which nobody compares.
            let end: &[u8] = &[1, 0, 0, 0, 0, 0, 0];
            let ended = self.decoder.decode_blocks(end, BlockDecodingStrategy::UptoBlocks(1));
            if ended.is_ok() {
                // A full output tells so itself.
                drop(self.decoder.collect_to_writer(&mut self.output));
            }
        }
        whole
    }
}

/// The length of a frame header with its magic number (RFC 8878 section 3.1.1.1).
const fn header_len(descriptor: u8) -> usize {
    let single = descriptor & 0b10_0000 != 0;
    let dictionary = match descriptor & 3 {
        3 => 4,
        bytes => bytes as usize,
    };
    let content = match descriptor >> 6 {
        0 => single as usize,
        1 => 2,
        2 => 4,
        _ => 8,
    };
    5 + !single as usize + dictionary + content
}
