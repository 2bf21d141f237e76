//! Host keys that an entry of the catalog accepts, `ssh = { hostkeys = [...], trust_on_first_use = true }`.
//!
//! Never judges a certificate: who signed it counts only where the caller has checked it.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use sha2::{Digest as _, Sha256};

use crate::policy::keys::{Fault, Value, in_order, table, texts, unknown};
use crate::wire::ssh::known_hosts::algorithm_of;

/// How a target's host key is judged.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct HostKeys {
    /// The keys that it may show, in place of all that known hosts say; empty: those decide.
    pub pins: Vec<HostKeyPin>,
    /// The key that it shows first is kept, and wanted from then on.
    pub trust_on_first_use: bool,
}

/// One key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HostKeyPin {
    /// SHA-256 of the key as it goes over the wire.
    pub sha256: [u8; 32],
    /// Its algorithm, where the whole key is named.
    pub algorithm: Option<String>,
    /// It signs the target's certificates, and is not shown itself.
    pub is_authority: bool,
}

impl HostKeys {
    /// Whether the key, or the one that has signed its certificate, is pinned.
    #[must_use]
    pub fn is_pinned(&self, key: &[u8], authority: Option<&[u8]>) -> bool {
        let of = |key: &[u8]| -> [u8; 32] { Sha256::digest(key).into() };
        let (key, authority) = (of(key), authority.map(of));
        self.pins.iter().any(|pin| if pin.is_authority { Some(pin.sha256) == authority } else { pin.sha256 == key })
    }
}

/// A key as `ssh-keygen -l` names it.
#[must_use]
pub(super) fn fingerprint(key: &[u8]) -> String {
    format!("SHA256:{}", STANDARD_NO_PAD.encode(Sha256::digest(key)))
}

/// Reads `ssh`.
pub(super) fn host_keys(value: &Value<'_>) -> Result<HostKeys, Fault> {
    let mut keys = HostKeys::default();
    for (key, value) in in_order(table("ssh", value)?) {
        match key.get_ref().as_ref() {
            "hostkeys" => {
                keys.pins = texts("hostkeys", value, pin)?;
                if keys.pins.is_empty() {
                    return Err(Fault::of(value, "`hostkeys` is empty: leave it out, or name a key"));
                }
            }
            "trust_on_first_use" => {
                let is_true = value.get_ref().as_bool();
                keys.trust_on_first_use =
                    is_true.ok_or_else(|| Fault::of(value, "`trust_on_first_use` is true or false, without quotes"))?;
            }
            other => return Err(Fault { at: key.span(), what: unknown(other, &["hostkeys", "trust_on_first_use"]) }),
        }
    }
    if keys.trust_on_first_use && !keys.pins.is_empty() {
        return Err(Fault::of(value, "with `hostkeys`, nothing is left to trust on first use: leave one of them out"));
    }
    Ok(keys)
}

/// A fingerprint, or a line of a public key file; with `@cert-authority` in front, that of the authority.
fn pin(text: &str) -> Result<HostKeyPin, String> {
    let wrong = || {
        format!(
            "\"{text}\" is no host key: write the line of its public key file (`ssh-keyscan HOST` prints it behind the \
             host), or its fingerprint, \"SHA256:…\", as `ssh-keygen -l -f FILE` prints it"
        )
    };
    let mut words = text.split_ascii_whitespace().peekable();
    let is_authority = words.next_if_eq(&"@cert-authority").is_some();
    let first = words.next().ok_or_else(wrong)?;
    if let Some(digest) = first.strip_prefix("SHA256:") {
        let digest = STANDARD_NO_PAD.decode(digest.trim_end_matches('=')).ok();
        let sha256 = digest.and_then(|digest| digest.try_into().ok()).ok_or_else(wrong)?;
        return Ok(HostKeyPin { sha256, algorithm: None, is_authority });
    }
    let key = STANDARD.decode(words.next().ok_or_else(wrong)?).map_err(|_| wrong())?;
    if algorithm_of(&key) != Some(first) {
        return Err(wrong());
    }
    let sha256 = Sha256::digest(&key).into();
    Ok(HostKeyPin { sha256, algorithm: Some(first.to_owned()), is_authority })
}
