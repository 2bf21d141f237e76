//! Bytes as a person or a search reads them: bodies without their codings, indented; digests in hexadecimal.
//!
//! Owns bounded decoding and formatting for any protocol. Never touches what is forwarded or recorded.

pub mod coding;
pub mod pretty;

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
