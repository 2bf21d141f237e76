//! How a detector reads a window: forwards from where a find could begin, and one byte back.
//!
//! Owns the one way to look at bytes. Whoever looks behind what has come is told to wait, so that what is decided on a part
//! of a field is what would be decided on all of it. Never knows a kind of value.

use crate::limits::MASK_HELD_BYTES_MAX;

/// What comes next decides, and it has not come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct More;

/// A find: what is hidden of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Found {
    /// Its first byte. Where it is not where the attempt began, words before it led there.
    pub(super) start: usize,
    /// Behind its last one.
    pub(super) end: usize,
    /// It runs on behind the window, and is longer than what is held.
    pub(super) open: bool,
    /// It is longer than what is held, and so may have come in pieces.
    pub(super) long: bool,
}

impl Found {
    /// A find that is complete.
    pub(super) const fn whole(start: usize, end: usize) -> Self {
        Self { start, end, open: false, long: false }
    }
}

/// What an attempt says.
pub(super) type Outcome = Result<Option<Found>, More>;

/// A window, as an attempt at one of its positions sees it.
#[derive(Clone, Copy, Debug)]
pub(super) struct View<'w> {
    pub(super) bytes: &'w [u8],
    before: Option<u8>,
    ends: bool,
    /// Behind it the field counts as ended: no attempt reads further.
    limit: usize,
    /// A position before which nothing stands, whatever does.
    fresh: usize,
    /// The window begins within a find.
    inside: bool,
}

impl<'w> View<'w> {
    pub(super) const fn new(bytes: &'w [u8], before: Option<u8>, ends: bool) -> Self {
        Self { bytes, before, ends, limit: usize::MAX, fresh: usize::MAX, inside: false }
    }

    /// The view of an attempt at `at`, which reads no further than what may be held.
    pub(super) fn bounded(self, at: usize) -> Self {
        Self { limit: self.limit.min(at.saturating_add(MASK_HELD_BYTES_MAX)), ..self }
    }

    /// The same, with nothing before `at`.
    pub(super) const fn fresh(self, at: usize) -> Self {
        Self { fresh: at, ..self }
    }

    /// The same of a window that begins within a find.
    pub(super) const fn within(self) -> Self {
        Self { inside: true, ..self }
    }

    /// Whether the field ends with the window.
    pub(super) const fn ends(&self) -> bool {
        self.ends
    }

    /// Behind the last byte that is here to be read.
    pub(super) fn reach(&self) -> usize {
        self.limit.min(self.bytes.len())
    }

    /// The byte before a position.
    pub(super) fn before(&self, at: usize) -> Option<u8> {
        if at == self.fresh {
            return None;
        }
        match at.checked_sub(1) {
            Some(before) => self.bytes.get(before).copied(),
            None => self.before,
        }
    }

    /// The byte at a position; none where the field has ended.
    pub(super) fn at(&self, at: usize) -> Result<Option<u8>, More> {
        if at >= self.limit {
            return Ok(None);
        }
        match self.bytes.get(at) {
            Some(byte) => Ok(Some(*byte)),
            None if self.ends => Ok(None),
            None => Err(More),
        }
    }

    /// Whether the byte at a position is one of a class.
    pub(super) fn is(&self, at: usize, class: fn(u8) -> bool) -> Result<bool, More> {
        Ok(self.at(at)?.is_some_and(class))
    }

    /// Behind the bytes of a class that begin at a position, of which `max` are read.
    pub(super) fn run(&self, from: usize, max: usize, class: fn(u8) -> bool) -> Result<usize, More> {
        let mut at = from;
        while at - from < max && self.is(at, class)? {
            at += 1;
        }
        Ok(at)
    }

    /// Behind `word`, if it stands at a position, whatever its case.
    pub(super) fn word(&self, at: usize, word: &[u8]) -> Result<Option<usize>, More> {
        for (number, wanted) in word.iter().enumerate() {
            if !self.at(at + number)?.is_some_and(|byte| byte.eq_ignore_ascii_case(wanted)) {
                return Ok(None);
            }
        }
        Ok(Some(at + word.len()))
    }

    /// Behind `literal`, if it stands at a position.
    pub(super) fn literal(&self, at: usize, literal: &[u8]) -> Result<Option<usize>, More> {
        for (number, wanted) in literal.iter().enumerate() {
            if self.at(at + number)? != Some(*wanted) {
                return Ok(None);
            }
        }
        Ok(Some(at + literal.len()))
    }

    /// The bytes of a range that has been read.
    pub(super) fn slice(&self, start: usize, end: usize) -> &'w [u8] {
        self.bytes.get(start..end).unwrap_or_default()
    }

    /// Whether a word or a number goes on at a position.
    pub(super) fn goes_on(&self, at: usize) -> Result<bool, More> {
        Ok(match self.at(at)? {
            Some(b'.') => self.is(at + 1, is_digit)?,
            Some(byte) => is_word(byte),
            None => false,
        })
    }

    /// A find whose beginning is certain, and which goes on as long as bytes of its class come.
    pub(super) fn grown(&self, start: usize, from: usize, class: fn(u8) -> bool) -> Outcome {
        let rest = self.bytes.get(from..).unwrap_or_default();
        let here = rest.iter().position(|byte| !class(*byte));
        match here {
            Some(len) => Ok(Some(self.closed(start, from + len))),
            None => self.unfinished(start, self.bytes.len()),
        }
    }

    /// A find that could have been longer than what is held.
    pub(super) const fn closed(&self, start: usize, end: usize) -> Found {
        Found { start, end, open: false, long: end > self.limit }
    }

    /// A find that runs to the end of what is here, of which `upto` is certain.
    pub(super) fn unfinished(&self, start: usize, upto: usize) -> Outcome {
        if self.ends {
            Ok(Some(self.closed(start, self.bytes.len())))
        } else if self.inside || self.bytes.len() > self.limit {
            Ok(Some(Found { start, end: upto, open: true, long: true }))
        } else {
            Err(More)
        }
    }
}

pub(super) const fn is_digit(byte: u8) -> bool {
    byte.is_ascii_digit()
}

/// What words consist of: next to one of these a find neither begins nor ends.
pub(super) const fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// The alphabet of base64url (RFC 4648 section 5), and of nearly all keys.
pub(super) const fn is_token(byte: u8) -> bool {
    is_word(byte) || byte == b'-'
}

pub(super) const fn is_alphanumeric(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
}
