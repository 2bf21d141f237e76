//! Checkpoints: signed notes of C2SP (tlog-checkpoint, signed-note) with Ed25519.
//!
//! Never accepts a spelling other than the one it writes: any changed byte of a note is an error.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use sha2::{Digest, Sha256};

use super::tree::Hash;
use crate::id::Ulid;

/// Signature type of Ed25519 in signed notes.
const ED25519: u8 = 1;

/// A key or a note that is not what it should be.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    /// The text has another form.
    #[error("not a {0}: the text was changed or cut")]
    Malformed(&'static str),
    /// Signed by another store.
    #[error("signed for `{found}`, expected `{expected}`")]
    Origin {
        /// Origin in the note.
        found: String,
        /// Origin of the key.
        expected: String,
    },
    /// The signature is not this key's over this text.
    #[error("the signature does not fit the text and the key in host.pub")]
    Signature,
}

/// Public key of a store with its name, as `host.pub` holds it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VerifierKey {
    store: Ulid,
    key: VerifyingKey,
}

/// The store's name in notes.
fn origin_of(store: Ulid) -> String {
    format!("crewtap/{store}")
}

/// First four bytes of SHA-256(name || newline || type || key), signed-note's key id.
fn key_id(name: &str, key: &VerifyingKey) -> [u8; 4] {
    let hash: Hash =
        Sha256::new().chain_update(name).chain_update([b'\n', ED25519]).chain_update(key).finalize().into();
    let [a, b, c, d, ..] = hash;
    [a, b, c, d]
}

impl VerifierKey {
    /// The store's id.
    #[must_use]
    pub fn store(&self) -> Ulid {
        self.store
    }

    /// First line of every checkpoint: `crewtap/<store id>`.
    #[must_use]
    pub fn origin(&self) -> String {
        origin_of(self.store)
    }

    /// The one line of `host.pub` (signed-note verifier key: name, key id, key).
    #[must_use]
    pub fn to_line(&self) -> String {
        let name = self.origin();
        let id = u32::from_be_bytes(key_id(&name, &self.key));
        let mut bytes = vec![ED25519];
        bytes.extend_from_slice(self.key.as_bytes());
        format!("{name}+{id:08x}+{}\n", BASE64.encode(bytes))
    }

    /// Reads the line of `host.pub`.
    ///
    /// # Errors
    /// When it is not exactly what [`Self::to_line`] writes.
    pub fn from_line(line: &str) -> Result<Self, NoteError> {
        const WRONG: NoteError = NoteError::Malformed("verifier key");
        let mut fields = line.trim_end_matches('\n').splitn(3, '+');
        let (name, _id, key) = (fields.next(), fields.next(), fields.next());
        let store = name.and_then(|name| name.strip_prefix("crewtap/")).ok_or(WRONG)?;
        let store = Ulid::from_string(store).map_err(|_| WRONG)?;
        let bytes = BASE64.decode(key.ok_or(WRONG)?).map_err(|_| WRONG)?;
        let (&kind, key) = bytes.split_first().ok_or(WRONG)?;
        let key = <&[u8; 32]>::try_from(key).ok().and_then(|key| VerifyingKey::from_bytes(key).ok());
        let parsed = Self { store, key: key.ok_or(WRONG)? };
        if kind == ED25519 && parsed.to_line() == line { Ok(parsed) } else { Err(WRONG) }
    }
}

/// The host's key: signs checkpoints of one store.
pub struct SignerKey {
    store: Ulid,
    key: SigningKey,
}

impl SignerKey {
    /// From the 32 secret bytes of `keys/host.key`.
    #[must_use]
    pub fn new(store: Ulid, seed: &[u8; 32]) -> Self {
        Self { store, key: SigningKey::from_bytes(seed) }
    }

    /// The public half.
    #[must_use]
    pub fn verifier(&self) -> VerifierKey {
        VerifierKey { store: self.store, key: self.key.verifying_key() }
    }
}

/// The tree at one size, signed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SignedTree {
    /// Leaves covered.
    pub size: u64,
    /// Root over them.
    pub root: Hash,
    /// The whole signed note.
    pub note: String,
}

/// Lines of a signed checkpoint: origin, size, root, an empty one, the signature.
pub const NOTE_LINES: usize = 5;

impl SignedTree {
    /// Signs a tree.
    #[must_use]
    pub fn sign(size: u64, root: Hash, signer: &SignerKey) -> Self {
        let name = origin_of(signer.store);
        let text = format!("{name}\n{size}\n{}\n", BASE64.encode(root));
        let mut blob = key_id(&name, &signer.key.verifying_key()).to_vec();
        blob.extend_from_slice(&signer.key.sign(text.as_bytes()).to_bytes());
        let note = format!("{text}\n\u{2014} {name} {}\n", BASE64.encode(blob));
        Self { size, root, note }
    }

    /// Reads a note and checks its signature.
    ///
    /// # Errors
    /// When a byte of it differs from what [`Self::sign`] wrote with this key.
    pub fn open(note: &str, key: &VerifierKey) -> Result<Self, NoteError> {
        const WRONG: NoteError = NoteError::Malformed("checkpoint");
        let lines: Vec<&str> = note.split('\n').collect();
        let [origin, size, root, "", signature, ""] = lines.as_slice() else { return Err(WRONG) };
        let name = key.origin();
        if *origin != name {
            return Err(NoteError::Origin { found: (*origin).into(), expected: name });
        }
        let parsed: u64 = size.parse().map_err(|_| WRONG)?;
        let hash = BASE64.decode(root).ok().and_then(|root| Hash::try_from(root).ok()).ok_or(WRONG)?;
        let blob = signature
            .strip_prefix("\u{2014} ")
            .and_then(|rest| rest.strip_prefix(name.as_str()))
            .and_then(|rest| rest.strip_prefix(' '))
            .and_then(|blob| BASE64.decode(blob).ok())
            .ok_or(WRONG)?;
        let (id, signature) = blob.split_at_checked(4).ok_or(WRONG)?;
        let signature = Signature::from_slice(signature).map_err(|_| WRONG)?;
        let text = format!("{name}\n{size}\n{root}\n");
        if id != key_id(&name, &key.key) || key.key.verify_strict(text.as_bytes(), &signature).is_err() {
            return Err(NoteError::Signature);
        }
        Ok(Self { size: parsed, root: hash, note: note.into() })
    }
}
