//! Which host key algorithms a target is asked for, and in which order. Never asks for one that the library would refuse.

use russh::keys::{Algorithm, EcdsaCurve, HashAlg};

use super::first_use::FirstUse;
use super::{Vouchers, Wanted};
use crewtap_core::wire::ssh::known_hosts::{Known, known};

/// For `Preferred::key` and `Preferred::host_key_certificates` of russh's client.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Preference {
    /// Algorithms of plain keys, those that are known first; never empty.
    pub keys: Vec<Algorithm>,
    /// Algorithms of certificates; empty where no authority is known for the target.
    pub certificates: Vec<Algorithm>,
    /// The target is known by plain keys.
    pub is_known: bool,
}

impl Default for Preference {
    fn default() -> Self {
        Self { keys: all(), certificates: Vec::new(), is_known: false }
    }
}

/// In OpenSSH's order. RSA with SHA-1 comes last: OpenSSH has turned it off, old targets have nothing else.
fn all() -> Vec<Algorithm> {
    let ecdsa = |curve| Algorithm::Ecdsa { curve };
    let rsa = |hash| Algorithm::Rsa { hash };
    vec![
        Algorithm::Ed25519,
        ecdsa(EcdsaCurve::NistP256),
        ecdsa(EcdsaCurve::NistP384),
        ecdsa(EcdsaCurve::NistP521),
        rsa(Some(HashAlg::Sha512)),
        rsa(Some(HashAlg::Sha256)),
        rsa(None),
    ]
}

pub(super) fn of(wanted: &Wanted, vouchers: &Vouchers, first_use: &FirstUse) -> Preference {
    let known = sources(wanted, vouchers, first_use);
    // What is signed with SHA-1 stays last, also where the key is known: OpenSSH would take another algorithm before it.
    let is_sound = |algorithm: &Algorithm| *algorithm != Algorithm::Rsa { hash: None };
    let is_named = |algorithm: &Algorithm| known.algorithms.iter().any(|name| name == name_of_key(algorithm));
    let is_known = |algorithm: &Algorithm| is_sound(algorithm) && is_named(algorithm);
    let (mut keys, others): (Vec<_>, Vec<_>) = all().into_iter().partition(is_known);
    let found = !keys.is_empty();
    keys.extend(others);
    let certificates = all().into_iter().filter(is_sound);
    Preference { keys, certificates: certificates.filter(|_| known.by_authority).collect(), is_known: found }
}

/// What the first source says that says anything.
fn sources(wanted: &Wanted, vouchers: &Vouchers, first_use: &FirstUse) -> Known {
    let pins = &wanted.entry.pins;
    if !pins.is_empty() {
        return Known {
            algorithms: pins.iter().filter(|pin| !pin.is_authority).filter_map(|pin| pin.algorithm.clone()).collect(),
            by_authority: pins.iter().any(|pin| pin.is_authority),
        };
    }
    let files: Vec<_> = vouchers.files.iter().map(|read| read.known.as_ref()).collect();
    let by_name = vouchers.hosts.iter().map(|host| known(&files, host, wanted.address.port()));
    let first = by_name.into_iter().find(|known| *known != Known::default());
    first.or_else(|| wanted.entry.trust_on_first_use.then(|| first_use.known(wanted.address).ok())?).unwrap_or_default()
}

/// RSA keys have one name, whatever they sign with.
fn name_of_key(algorithm: &Algorithm) -> &str {
    match algorithm {
        Algorithm::Rsa { .. } => "ssh-rsa",
        other => other.as_str(),
    }
}
