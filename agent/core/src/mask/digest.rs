//! Digests of clear values: HMAC-SHA-256 with the store's key, so that nobody can try passwords against the record.
//!
//! Owns the key and the text form of a digest. Never holds a value: bytes go into the hash as they pass.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::view::hexadecimal;

/// Bytes of a digest that are written down: 128 bits tell values apart for good, and a line stays readable.
const SHOWN_BYTES: usize = 16;

/// The store's key for digests, ready for use. Prints as `…`.
#[derive(Clone)]
pub struct DigestKey(Hmac<Sha256>);

impl DigestKey {
    /// Takes the key's bytes; 32 random ones are what the store makes.
    #[must_use]
    pub fn new(key: &[u8; 32]) -> Self {
        // A key no longer than the block of SHA-256 is taken as it is: padded with zeroes (RFC 2104 section 2).
        let mut block = [0u8; 64];
        for (to, from) in block.iter_mut().zip(key) {
            *to = *from;
        }
        Self(Hmac::new(&block.into()))
    }

    /// Begins the digest of a value that passes piece by piece.
    #[must_use]
    pub fn begin(&self) -> Digest {
        Digest(self.0.clone())
    }

    /// The digest of a whole value: 32 lower-case hexadecimal digits.
    #[must_use]
    pub fn digest(&self, value: &[u8]) -> String {
        let mut digest = self.begin();
        digest.update(value);
        digest.finish()
    }
}

impl fmt::Debug for DigestKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

/// A digest under way.
#[derive(Clone)]
pub struct Digest(Hmac<Sha256>);

impl Digest {
    /// The value's next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The text form: the first 16 bytes as lower-case hexadecimal digits.
    #[must_use]
    pub fn finish(self) -> String {
        let full = self.0.finalize().into_bytes();
        hexadecimal(full.get(..SHOWN_BYTES).unwrap_or(&full))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}
