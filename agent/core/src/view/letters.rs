//! Bytes of a stream as letters, also where a piece ends inside of one.
//!
//! Never changes what is UTF-8; what is not becomes U+FFFD. Holds three bytes at most.

/// Joins the pieces of one stream.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Letters {
    held: Vec<u8>,
}

impl Letters {
    /// The letters of the next piece; what may still become one waits for the piece behind it.
    pub fn take(&mut self, piece: &[u8]) -> String {
        let mut bytes = std::mem::take(&mut self.held);
        bytes.extend_from_slice(piece);
        let mut text = String::with_capacity(bytes.len());
        let mut chunks = bytes.utf8_chunks().peekable();
        while let Some(chunk) = chunks.next() {
            text.push_str(chunk.valid());
            let broken = chunk.invalid();
            if broken.is_empty() {
                continue;
            }
            let unfinished = std::str::from_utf8(broken).is_err_and(|error| error.error_len().is_none());
            if chunks.peek().is_none() && unfinished {
                self.held.extend_from_slice(broken);
            } else {
                text.push(char::REPLACEMENT_CHARACTER);
            }
        }
        text
    }

    /// What stands for a letter that the stream's end has cut.
    pub fn rest(&mut self) -> String {
        let cut = !std::mem::take(&mut self.held).is_empty();
        if cut { char::REPLACEMENT_CHARACTER.into() } else { String::new() }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_cut_letter_is_joined_and_what_is_none_is_told() {
        let mut letters = Letters::default();
        let euro = "€".as_bytes();
        assert_eq!(letters.take(&euro[..1]), "");
        assert_eq!(letters.take(&euro[1..2]), "");
        assert_eq!(letters.take(&[euro[2], b'!', 0xff, 0xe2]), "€!\u{fffd}");
        assert_eq!(letters.take(b"a"), "\u{fffd}a");
        assert_eq!(letters.take(&[0xf0, 0x9f]), "");
        assert_eq!((letters.rest(), letters.rest()), ("\u{fffd}".to_owned(), String::new()));
    }

    proptest! {
        #[test]
        fn a_cut_changes_nothing(bytes in proptest::collection::vec(any::<u8>(), 0..40), cut in 0usize..40) {
            let cut = cut.min(bytes.len());
            let mut letters = Letters::default();
            let text = letters.take(&bytes[..cut]) + &letters.take(&bytes[cut..]) + &letters.rest();
            prop_assert_eq!(text, String::from_utf8_lossy(&bytes));
        }
    }
}
