//! A value that is never shown: it wipes itself, prints as `…`, and cannot be serialized.

use std::fmt;

use zeroize::Zeroizing;

/// Secret bytes. Deliberately without `Serialize`, `Clone` and `PartialEq`.
pub struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    /// Takes ownership; the caller keeps no copy.
    #[must_use]
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The clear bytes, for the one place that needs them.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}
