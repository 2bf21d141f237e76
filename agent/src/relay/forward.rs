//! What becomes of the bytes of one call: which of them go on as they are, and what goes in the place of others.
//!
//! Never copies while nothing is replaced.

use std::borrow::Cow;

/// A beginning of some bytes, with what stands for parts of it.
#[derive(Debug)]
pub struct Forward<'b> {
    bytes: &'b [u8],
    from: usize,
    to: usize,
    instead: Option<Vec<u8>>,
}

impl<'b> Forward<'b> {
    /// Begins at a position.
    #[must_use]
    pub fn at(bytes: &'b [u8], from: usize) -> Self {
        Self { bytes, from, to: from, instead: None }
    }

    /// The next bytes, as they are.
    pub fn pass(&mut self, len: usize) {
        if let Some(instead) = &mut self.instead {
            instead.extend_from_slice(self.bytes.get(self.to..self.to + len).unwrap_or_default());
        }
        self.to += len;
    }

    /// Something else for the next bytes.
    pub fn replace(&mut self, len: usize, with: &[u8]) {
        let before = self.bytes.get(self.from..self.to).unwrap_or_default();
        self.instead.get_or_insert_with(|| before.to_vec()).extend_from_slice(with);
        self.to += len;
    }

    /// Where it ends.
    #[must_use]
    pub fn end(&self) -> usize {
        self.to
    }

    /// How many bytes it covers.
    #[must_use]
    pub fn covers(&self) -> usize {
        self.to - self.from
    }

    /// What stands for them, where that is not what they are.
    #[must_use]
    pub fn instead(self) -> Option<Vec<u8>> {
        self.instead
    }

    /// What stands for them.
    #[must_use]
    pub fn into_shown(self) -> Cow<'b, [u8]> {
        match self.instead {
            Some(instead) => Cow::Owned(instead),
            None => Cow::Borrowed(self.bytes.get(self.from..self.to).unwrap_or_default()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Forward;

    #[test]
    fn what_is_replaced_is_in_its_place() {
        let mut forward = Forward::at(b"abcdef", 1);
        forward.pass(2);
        assert!(forward.instead.is_none());
        forward.replace(1, b"XY");
        forward.replace(1, b"");
        forward.pass(1);
        assert_eq!((forward.covers(), forward.end()), (5, 6));
        assert_eq!(&*forward.into_shown(), b"bcXYf");
    }
}
