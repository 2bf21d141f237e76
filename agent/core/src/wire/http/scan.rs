//! Where a line or a block of lines ends, found as bytes arrive.
//!
//! Owns the rule for line ends: CRLF and nothing else. Never looks at a byte twice, never keeps one.

use super::fault::Fault;

/// How far the bytes that are not covered yet have been looked at.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scan {
    /// Bytes looked at.
    at: usize,
    /// Where the line begins in which `at` is.
    line: usize,
}

impl Scan {
    /// At the first byte.
    pub(super) const fn new() -> Self {
        Self { at: 0, line: 0 }
    }

    /// The length of the block of lines at the start of `bytes`, up to and with its empty line; none where more bytes
    /// are needed. `bytes` is what was given before with more behind it.
    pub(super) fn block(&mut self, bytes: &[u8], max: usize) -> Result<Option<usize>, Fault> {
        while let Some(end) = self.line_end(bytes, max, Fault::HeadTooLarge)? {
            let empty = end == self.line + 2;
            self.line = end;
            if empty {
                return Ok(Some(end));
            }
        }
        Ok(None)
    }

    /// The length of the line at the start of `bytes`, with its CRLF. `too_long` where it has more than `max` bytes.
    pub(super) fn line(&mut self, bytes: &[u8], max: usize, too_long: Fault) -> Result<Option<usize>, Fault> {
        self.line_end(bytes, max, too_long)
    }

    /// What was looked at is covered; the next bytes are new.
    pub(super) const fn restart(&mut self) {
        *self = Self::new();
    }

    /// Whether a line or block has begun.
    pub(super) const fn has_begun(&self) -> bool {
        self.at > 0
    }

    fn line_end(&mut self, bytes: &[u8], max: usize, too_long: Fault) -> Result<Option<usize>, Fault> {
        let within = bytes.get(..max).unwrap_or(bytes);
        let rest = within.get(self.at..).unwrap_or_default();
        let Some(found) = rest.iter().position(|byte| matches!(byte, b'\r' | b'\n' | 0)) else {
            // Never back: a caller that gives fewer bytes than before is told to read on.
            self.at = self.at.max(within.len());
            return if bytes.len() >= max { Err(too_long) } else { Ok(None) };
        };
        self.at += found;
        match (within.get(self.at), within.get(self.at + 1)) {
            (Some(0), _) => Err(Fault::Nul),
            (Some(b'\n'), _) => Err(Fault::BareLf),
            (_, Some(b'\n')) => {
                self.at += 2;
                Ok(Some(self.at))
            }
            (_, Some(_)) => Err(Fault::BareCr),
            (_, None) if bytes.len() >= max => Err(too_long),
            (_, None) => Ok(None),
        }
    }
}
