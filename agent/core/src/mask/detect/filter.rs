//! Where finds can begin: a table that three bytes and the one before them pass or do not.
//!
//! Owns the one pass over all bytes; what passes is looked at carefully by an attempt. Never decides that something is a
//! find.

use super::view::{Outcome, View, is_word};

/// An attempt to find something that begins at a position.
pub(super) type Attempt = fn(View<'_>, usize) -> Outcome;

/// What may stand before a find.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Edge {
    /// Anything.
    Any,
    /// Anything but a letter, a digit or `_`.
    Word,
    /// Neither those nor `.`: it would be a fraction.
    Fraction,
    /// Neither those nor `.`, `-`: a number goes on behind them.
    Number,
    /// Nothing that an address of mail consists of.
    Mail,
}

/// Which bytes may stand at one place.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Bytes {
    Any,
    Digit,
    Letter,
    One(u8),
    /// A letter in both cases, given in lower case.
    Fold(u8),
    Range(u8, u8),
    Of(Vec<u8>),
}

/// Where an attempt is worth it.
#[derive(Clone, Debug)]
pub(super) struct Start {
    pub(super) before: Edge,
    pub(super) bytes: [Bytes; 3],
    pub(super) attempt: Attempt,
}

impl Edge {
    fn allows(self, byte: u8) -> bool {
        match self {
            Self::Any => true,
            Self::Word => !is_word(byte),
            Self::Fraction => !is_word(byte) && byte != b'.',
            Self::Number => !is_word(byte) && byte != b'.' && byte != b'-',
            Self::Mail => !is_word(byte) && !matches!(byte, b'.' | b'-' | b'+' | b'%'),
        }
    }
}

impl Bytes {
    fn allows(&self, byte: u8) -> bool {
        match self {
            Self::Any => true,
            Self::Digit => byte.is_ascii_digit(),
            Self::Letter => byte.is_ascii_alphabetic(),
            Self::One(one) => byte == *one,
            Self::Fold(one) => byte.to_ascii_lowercase() == *one,
            Self::Range(first, last) => (*first..=*last).contains(&byte),
            Self::Of(list) => list.contains(&byte),
        }
    }
}

/// Bits of starts; more than there are bits share them.
pub(super) const BITS: usize = 64;

/// For each byte at each of four places, the starts that it allows.
#[derive(Clone, Debug)]
pub(super) struct Filter {
    tables: Box<[[u64; 256]; 4]>,
}

impl Filter {
    pub(super) fn new<'s>(starts: impl IntoIterator<Item = &'s Start>) -> Self {
        let mut tables = Box::new([[0u64; 256]; 4]);
        for (number, start) in starts.into_iter().enumerate() {
            let bit = 1u64 << (number % BITS);
            let [before, places @ ..] = &mut *tables;
            for (byte, entry) in (0..=u8::MAX).zip(before.iter_mut()) {
                *entry |= if start.before.allows(byte) { bit } else { 0 };
            }
            for (place, bytes) in places.iter_mut().zip(&start.bytes) {
                for (byte, entry) in (0..=u8::MAX).zip(place.iter_mut()) {
                    *entry |= if bytes.allows(byte) { bit } else { 0 };
                }
            }
        }
        Self { tables }
    }

    /// The next position from `from` on, and before `until`, at which something can begin, with the bits of what.
    pub(super) fn next(&self, view: View<'_>, from: usize, until: usize) -> Option<(usize, u64)> {
        let mut at = from;
        if at == 0 {
            if at < until
                && let mask @ 1.. = self.at(view, 0)
            {
                return Some((0, mask));
            }
            at = 1;
        }
        // Four bytes are looked at for each position; the last two positions have less.
        let quads_end = until.saturating_add(2).min(view.bytes.len());
        let bytes = view.bytes.get(at - 1..quads_end).unwrap_or_default();
        for (number, quad) in bytes.array_windows::<4>().enumerate() {
            let mask = self.quad(*quad);
            if mask != 0 {
                return Some((at + number, mask));
            }
        }
        at += bytes.len().saturating_sub(3);
        while at < until.min(view.bytes.len()) {
            let mask = self.at(view, at);
            if mask != 0 {
                return Some((at, mask));
            }
            at += 1;
        }
        None
    }

    #[inline]
    fn quad(&self, quad: [u8; 4]) -> u64 {
        let [before, first, second, third] = &*self.tables;
        let [a, b, c, d] = quad;
        let look = |table: &[u64; 256], byte: u8| table.get(usize::from(byte)).copied().unwrap_or(0);
        look(before, a) & look(first, b) & look(second, c) & look(third, d)
    }

    /// The same where fewer bytes are there: what is missing allows all.
    fn at(&self, view: View<'_>, at: usize) -> u64 {
        let bytes = [
            view.before(at),
            view.bytes.get(at).copied(),
            view.bytes.get(at + 1).copied(),
            view.bytes.get(at + 2).copied(),
        ];
        bytes.into_iter().zip(&*self.tables).fold(u64::MAX, |mask, (byte, table)| match byte {
            Some(byte) => mask & table.get(usize::from(byte)).copied().unwrap_or(0),
            None => mask,
        })
    }

    /// The bits of what can begin at a position before which nothing stands.
    pub(super) fn fresh(&self, view: View<'_>, at: usize) -> u64 {
        self.at(view.fresh(at), at)
    }
}
