//! Digests of clear values that must not be kept: HMACs with the store's key, never plain hashes.

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use zeroize::Zeroizing;

/// Bytes of a digest that are kept: 64 bits tell values of one store apart and cannot be searched back
/// without the key.
const DIGEST_BYTES: usize = 8;

/// The store's own key for digests; never leaves the host. Deliberately without `Serialize` and `Clone`.
pub struct StoreKey(Zeroizing<[u8; 32]>);

impl StoreKey {
    /// From the 32 secret bytes of `keys/store.key`.
    #[must_use]
    pub fn new(bytes: Zeroizing<[u8; 32]>) -> Self {
        Self(bytes)
    }

    /// The shortened HMAC-SHA-256 of a value, in hex: equal values of one store have equal digests.
    #[must_use]
    pub fn digest(&self, value: &[u8]) -> String {
        let Ok(mac) = Hmac::<Sha256>::new_from_slice(&*self.0) else { return String::new() };
        let full = mac.chain_update(value).finalize().into_bytes();
        full.iter().take(DIGEST_BYTES).fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"))
    }
}

impl std::fmt::Debug for StoreKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("…")
    }
}
