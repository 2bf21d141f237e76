//! The SSH side of the authorities: an authority that signs host certificates, and plain host keys for clients that know
//! no certificates.
//!
//! Owns one set of keys for each generation of the TLS side, made at its first use and kept beside it: what an overlay
//! holds of a generation, it holds of both. Never decides which face a target deserves.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use crewtap_core::limits;
use hmac::{Hmac, KeyInit as _, Mac as _};
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use rcgen::{KeyPair, PKCS_RSA_SHA256, RsaKeySize};
use russh::keys::ssh_key::certificate::{Builder, CertType};
use russh::keys::ssh_key::private::{Ed25519Keypair, KeypairData};
use russh::keys::ssh_key::{self, Algorithm, Certificate, EcdsaCurve, LineEnding, PrivateKey, PublicKey};
use russh::keys::{decode_secret_key, ssh_encoding::Encode as _};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::store::{Kind, Store};
use super::{Authority, AuthorityError, DAY, Generation, LeafError, SignedBy, now_seconds};

/// How long a host certificate is valid, in seconds: it never leaves this host, and is made again at half.
const VALID: i64 = 7 * DAY;

/// How a private key ends in OpenSSH's form.
const END: &str = "-----END OPENSSH PRIVATE KEY-----\n";

/// What the server's end shows to a client: for `keys` and `certificates` of russh's `server::Config`.
#[derive(Clone)]
pub struct Face {
    /// Ed25519, ECDSA P-256, RSA 3072.
    pub keys: Vec<PrivateKey>,
    /// A host certificate for each of them; none where no overlay contains the authority.
    pub certificates: Vec<Certificate>,
}

impl fmt::Debug for Face {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (keys, certificates) = (self.keys.len(), self.certificates.len());
        formatter.debug_struct("Face").field("keys", &keys).field("certificates", &certificates).finish()
    }
}

/// What an overlay adds to the known hosts of a run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SshTrusted {
    /// The authority that signs host certificates, `ALGORITHM BASE64`.
    pub authority: String,
    /// The plain host keys, each `ALGORITHM BASE64`.
    pub keys: Vec<String>,
}

/// The keys of one generation.
pub(super) struct Side {
    authority: PrivateKey,
    keys: Vec<PrivateKey>,
}

/// The sides that were read, and the faces that were made of them.
#[derive(Default)]
pub(super) struct Sides {
    read: Mutex<HashMap<(Kind, u32), Arc<Side>>>,
    faces: Mutex<HashMap<[u8; 32], Kept>>,
}

struct Kept {
    face: Arc<Face>,
    renew_at: i64,
}

impl Authority {
    /// The SSH side of a trusted authority. Made where it is not there yet, which takes some hundred milliseconds.
    ///
    /// # Errors
    /// As [`Authority::open`].
    pub fn ssh_trusted(&self, generation: Generation) -> Result<SshTrusted, AuthorityError> {
        let side = self.side(Kind::Trusted, generation.0)?;
        let told = |key: &PublicKey| told(key).map_err(|error| made(&error));
        let keys = side.keys.iter().map(|key| told(key.public_key())).collect::<Result<_, _>>()?;
        Ok(SshTrusted { authority: told(side.authority.public_key())?, keys })
    }

    /// The face for a client whose target has shown `target_key` (as it goes over the wire). A trusted one has certificates
    /// for `names` and the same keys for every target. An untrusted one has no certificate, and other keys for each key of a
    /// target (but for RSA), so that a client which remembers them sees a target's key change.
    ///
    /// # Errors
    /// When no authority that the run trusts is valid any more, or its keys cannot be read or made.
    pub fn ssh_face(&self, signed_by: SignedBy, names: &[String], target_key: &[u8]) -> Result<Arc<Face>, LeafError> {
        let now = now_seconds();
        let number = self.issuing(signed_by, now)?.number;
        let (kind, name) = match signed_by {
            SignedBy::Trusted { .. } => (Kind::Trusted, face_name(number, names.iter().map(String::as_bytes))),
            SignedBy::Untrusted => (Kind::Untrusted, face_name(number, std::iter::once(target_key))),
        };
        if let Some(kept) = self.ssh.faces().get(&name).filter(|kept| now < kept.renew_at) {
            return Ok(Arc::clone(&kept.face));
        }
        let sign = |error: ssh_key::Error| LeafError::Sign(error.to_string());
        let side = self.side(kind, number).map_err(|error| LeafError::Sign(error.to_string()))?;
        let (face, renew_at) = match kind {
            Kind::Trusted => (side.certified(names, now).map_err(sign)?, now + VALID / 2),
            Kind::Untrusted => (side.derived(target_key).map_err(sign)?, i64::MAX),
        };
        let face = Arc::new(face);
        let mut faces = self.ssh.faces();
        if faces.len() >= limits::SSH_FACES_CACHED_MAX {
            // They are made again in a millisecond.
            faces.clear();
        }
        faces.insert(name, Kept { face: Arc::clone(&face), renew_at });
        Ok(face)
    }

    fn side(&self, kind: Kind, number: u32) -> Result<Arc<Side>, AuthorityError> {
        // Held while one is made: who comes meanwhile would only make another that nobody takes.
        let mut read = self.ssh.read.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(side) = read.get(&(kind, number)) {
            return Ok(Arc::clone(side));
        }
        let side = Arc::new(Side::open(&self.store, kind, number)?);
        // Generations are two at a time, as a rule.
        read.retain(|(of, old), _| *of != kind || *old + 4 > number);
        read.insert((kind, number), Arc::clone(&side));
        Ok(side)
    }
}

impl Sides {
    fn faces(&self) -> std::sync::MutexGuard<'_, HashMap<[u8; 32], Kept>> {
        self.faces.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Side {
    fn open(store: &Store, kind: Kind, number: u32) -> Result<Self, AuthorityError> {
        if store.ssh(kind, number)?.is_none() {
            store.place_ssh(kind, number, &Self::make()?)?;
        }
        let damaged = |why: &str| AuthorityError::Damaged { path: store.ssh_path(kind, number), why: why.to_owned() };
        let text = store.ssh(kind, number)?.ok_or_else(|| damaged("it is gone"))?;
        let text = std::str::from_utf8(&text).map_err(|_| damaged("it is no text"))?;
        let mut keys = Vec::new();
        for block in text.split_inclusive(END) {
            keys.push(decode_secret_key(block, None).map_err(|_| damaged("a key in it cannot be read"))?);
        }
        let mut keys = keys.into_iter();
        let authority = keys.next().ok_or_else(|| damaged("no key in it"))?;
        let side = Self { authority, keys: keys.collect() };
        let is_whole = side.authority.algorithm() == Algorithm::Ed25519 && side.keys.len() == 3;
        if is_whole { Ok(side) } else { Err(damaged("keys are missing in it")) }
    }

    /// The text of the file of a new one.
    fn make() -> Result<Zeroizing<String>, AuthorityError> {
        let mut rng = rand::rng();
        let curve = Algorithm::Ecdsa { curve: EcdsaCurve::NistP256 };
        let mut text = Zeroizing::new(String::with_capacity(8192));
        for algorithm in [Algorithm::Ed25519, Algorithm::Ed25519, curve] {
            let key = PrivateKey::random(&mut rng, algorithm).map_err(|error| made(&error))?;
            text.push_str(&key.to_openssh(LineEnding::LF).map_err(|error| made(&error))?);
        }
        // Of the library that signs: ten times as fast as one in Rust.
        let rsa = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_3072)
            .map_err(|error| AuthorityError::Make(error.to_string()))?;
        let pem = Zeroizing::new(rsa.serialize_pem());
        let rsa = decode_secret_key(&pem, None).map_err(|error| AuthorityError::Make(error.to_string()))?;
        text.push_str(&rsa.to_openssh(LineEnding::LF).map_err(|error| made(&error))?);
        Ok(text)
    }

    fn certified(&self, names: &[String], now: i64) -> Result<Face, ssh_key::Error> {
        let seconds = |time: i64| u64::try_from(time).unwrap_or(0);
        let mut certificates = Vec::with_capacity(self.keys.len());
        // A certificate without names would be one for all hosts.
        for key in self.keys.iter().filter(|_| !names.is_empty()) {
            let subject = key.public_key().clone();
            let (after, before) = (seconds(now - DAY), seconds(now + VALID));
            let mut builder = Builder::new_with_random_nonce(&mut rand::rng(), subject, after, before)?;
            builder.serial(seconds(now))?.key_id("crewtap")?.cert_type(CertType::Host)?;
            for name in names {
                builder.valid_principal(name.as_str())?;
            }
            certificates.push(builder.sign(&self.authority)?);
        }
        Ok(Face { keys: self.keys.clone(), certificates })
    }

    fn derived(&self, target_key: &[u8]) -> Result<Face, ssh_key::Error> {
        let KeypairData::Ed25519(secret) = self.authority.key_data() else { return Err(ssh_key::Error::Crypto) };
        let seed = |purpose: &[u8]| -> Result<Zeroizing<[u8; 32]>, ssh_key::Error> {
            let mac = Hmac::<Sha256>::new_from_slice(secret.private.as_ref()).map_err(|_| ssh_key::Error::Crypto)?;
            Ok(Zeroizing::new(mac.chain_update(purpose).chain_update(target_key).finalize().into_bytes().into()))
        };
        let ed25519 = PrivateKey::from(Ed25519Keypair::from_seed(&*seed(b"ed25519")?));
        let mut rng = StdRng::from_seed(*seed(b"ecdsa p-256")?);
        let ecdsa = PrivateKey::random(&mut rng, Algorithm::Ecdsa { curve: EcdsaCurve::NistP256 })?;
        let rsa = self.keys.iter().filter(|key| key.algorithm().is_rsa()).cloned();
        Ok(Face { keys: [ed25519, ecdsa].into_iter().chain(rsa).collect(), certificates: Vec::new() })
    }
}

/// `ALGORITHM BASE64`, without a comment.
fn told(key: &PublicKey) -> Result<String, ssh_key::Error> {
    PublicKey::new(key.key_data().clone(), "").to_openssh()
}

fn made(error: &ssh_key::Error) -> AuthorityError {
    AuthorityError::Make(error.to_string())
}

fn face_name<'n>(number: u32, parts: impl Iterator<Item = &'n [u8]>) -> [u8; 32] {
    let mut digest = Sha256::new();
    digest.update(number.to_be_bytes());
    for part in parts {
        digest.update((part.len() as u64).to_be_bytes());
        digest.update(part);
    }
    digest.finalize().into()
}

/// A public key as it goes over the wire.
///
/// # Errors
/// When it has a part that is longer than the format can say.
pub fn on_the_wire(key: &ssh_key::public::KeyData) -> Result<Vec<u8>, ssh_key::Error> {
    let mut bytes = Vec::new();
    key.encode(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests;
