//! Bytes as a person or a search reads them: bodies without their codings, indented; digests in hexadecimal.
//!
//! Owns bounded decoding and formatting for any protocol. Never touches what is forwarded or recorded.

pub mod coding;
pub mod letters;
pub mod pretty;

pub use crate::wire::postgres::view as postgres;
pub use crate::wire::postgres::view::{Bounds, Piece, Shown as Said};

use crate::wire::postgres::media::Media;

/// The text in a recorded payload, for a search; none when its media type needs no decoder, and its bytes are the text.
#[must_use]
pub fn words(media_type: &str, bytes: &[u8]) -> Option<String> {
    postgres::words(media_type, bytes)
}

/// Whether recorded bytes of this type are read here as what was said, and not as their own text.
#[must_use]
pub fn is_readable(media_type: &str) -> bool {
    Media::parse(media_type).is_some()
}

/// What both sides of an exchange said, in order; `columns` are names for results that do not tell them.
pub fn said<'r>(pieces: impl IntoIterator<Item = Piece<'r>>, columns: &[String], bounds: Bounds) -> Vec<Said> {
    postgres::read(pieces, columns, bounds)
}

/// The same as one text.
pub fn transcript<'r>(pieces: impl IntoIterator<Item = Piece<'r>>, columns: &[String], bounds: Bounds) -> String {
    postgres::transcript(pieces, columns, bounds)
}

/// Bytes as lower-case hexadecimal digits.
#[must_use]
pub fn hexadecimal(bytes: &[u8]) -> String {
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits.filter_map(|digit| char::from_digit(u32::from(digit), 16)).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_byte_has_two_digits() {
        assert_eq!(super::hexadecimal(&[0, 9, 10, 0xff]), "00090aff");
    }
}
