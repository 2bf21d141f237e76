//! From what the sources say of a host key to what its target deserves. Never reads a file but the store of first uses.

use std::fmt;
use std::net::IpAddr;

use crewtap_core::policy::catalog::Channel;
use crewtap_core::target::{Name, Proof};
use crewtap_core::wire::ssh::known_hosts::{At, Shown, Verdict, judge, matches};
use russh::keys::ssh_key::certificate::CertType;
use russh::keys::{Certificate, HashAlg, PublicKeyOrCertificate};

use super::first_use::{FirstUse, Kept};
use super::{Vouchers, Wanted};
use crate::authority::on_the_wire;

/// What a target deserves for the host key that it has shown.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Standing {
    /// Whether, and by what.
    pub trust: Trust,
    /// The name or address that the key proves, by what the captured process cannot write; none: it proves nothing, and the
    /// name stays what it was.
    pub proven: Option<String>,
    /// The names, and the address, that a certificate for the client may have: those of which nothing says otherwise.
    pub names: Vec<String>,
    /// The key as it goes over the wire; of a certificate, the key that it certifies.
    pub key: Vec<u8>,
    /// The key that has signed the certificate, where that is valid for the target.
    pub authority: Option<Vec<u8>>,
    /// The key as `ssh-keygen -l` names it.
    pub fingerprint: String,
    /// For the record: a code, and a text.
    pub note: Option<(&'static str, String)>,
}

/// Whether a target is to be trusted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Trust {
    /// The client sees what its overlay trusts.
    Trusted(By),
    /// Nobody vouches for it: the client sees what no overlay lists, and decides.
    Unverified(Unverified),
    /// It is not who it says it is. Nothing may go there.
    Refused(Refused),
}

/// Who vouches.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum By {
    /// The catalog names the key, or the authority of its certificate.
    Pin,
    /// A file of known hosts names the key: `FILE:LINE`.
    KnownHosts(String),
    /// A file of known hosts names the authority of its certificate: `FILE:LINE`.
    Authority(String),
    /// It is the key of the first use.
    FirstUse,
}

/// Why nobody vouches.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Unverified {
    /// Nothing is known of the target.
    Unknown,
    /// It is known by keys of other algorithms only.
    OtherAlgorithm,
    /// What is known could not be read.
    Unread,
}

/// Why a target is refused.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Refused {
    /// It is known by another key: `FILE:LINE`.
    Changed(String),
    /// The key is revoked: `FILE:LINE`.
    Revoked(String),
    /// The catalog names other keys.
    Pin,
    /// What it has shown is no key that can be judged.
    Unreadable,
}

impl Trust {
    /// The word for the record.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Trusted(By::Pin) => "pin",
            Self::Trusted(By::KnownHosts(_)) => "known_hosts",
            Self::Trusted(By::Authority(_)) => "authority",
            Self::Trusted(By::FirstUse) => "first_use",
            Self::Unverified(Unverified::Unknown) => "unknown",
            Self::Unverified(Unverified::OtherAlgorithm) => "other_algorithm",
            Self::Unverified(Unverified::Unread) => "unread",
            Self::Refused(Refused::Changed(_)) => "changed",
            Self::Refused(Refused::Revoked(_)) => "revoked",
            Self::Refused(Refused::Pin) => "pin_mismatch",
            Self::Refused(Refused::Unreadable) => "unreadable",
        }
    }

    /// The client may see what its overlay trusts.
    #[must_use]
    pub const fn is_trusted(&self) -> bool {
        matches!(self, Self::Trusted(_))
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Changed(place) => write!(f, "it is known by another one ({place})"),
            Self::Revoked(place) => write!(f, "it is revoked ({place})"),
            Self::Pin => f.write_str("the catalog names others (ssh.hostkeys)"),
            Self::Unreadable => f.write_str("it cannot be read"),
        }
    }
}

impl Standing {
    /// What the captured process cannot write vouches for the key: `verified` of [`Channel::Ssh`].
    #[must_use]
    pub fn is_proven(&self) -> bool {
        self.proven.is_some()
    }

    /// The name that the target has proven by its key; none where that is its address, or nothing.
    #[must_use]
    pub fn name(&self) -> Option<Name> {
        let host = self.proven.as_ref().filter(|host| host.parse::<IpAddr>().is_err())?;
        Some(Name { host: host.clone(), proof: Proof::Hostkey })
    }

    /// What a credential would be used on.
    #[must_use]
    pub fn channel(&self) -> Channel<'_> {
        Channel::Ssh { key: &self.key, authority: self.authority.as_deref(), verified: self.is_proven() }
    }

    /// Of a target whose key could not be compared with anything.
    pub(super) fn unread(key: &Key) -> Self {
        let text = "the files of known hosts could not be read in time, so that nobody vouches for the target";
        Self { note: Some(("hostkey_unread", text.into())), ..Self::new(key, Trust::Unverified(Unverified::Unread)) }
    }

    /// Of a target that has shown no key.
    pub(super) fn unreadable(why: String) -> Self {
        Self {
            trust: Trust::Refused(Refused::Unreadable),
            proven: None,
            names: Vec::new(),
            key: Vec::new(),
            authority: None,
            fingerprint: String::new(),
            note: Some(("hostkey_unreadable", why)),
        }
    }

    fn new(key: &Key, trust: Trust) -> Self {
        let fingerprint = key.fingerprint.clone();
        Self { trust, proven: None, names: Vec::new(), key: key.wire.clone(), authority: None, fingerprint, note: None }
    }

    fn refused(key: &Key, why: Refused) -> Self {
        let code = match why {
            Refused::Changed(_) => "hostkey_changed",
            Refused::Revoked(_) => "hostkey_revoked",
            Refused::Pin | Refused::Unreadable => "hostkey_mismatch",
        };
        let text = format!("the target's host key {} is refused: {why}", key.fingerprint);
        Self { note: Some((code, text)), ..Self::new(key, Trust::Refused(why)) }
    }
}

/// What a target has shown.
#[derive(Debug)]
pub(super) struct Key {
    wire: Vec<u8>,
    fingerprint: String,
    certified: Option<Certified>,
}

/// A certificate for hosts that is in force.
#[derive(Debug)]
struct Certified {
    authority: Vec<u8>,
    principals: Vec<String>,
}

impl Key {
    /// `now` in seconds since 1970. A certificate that is not in force is none: what it certifies may be known as it is.
    pub(super) fn of(shown: &PublicKeyOrCertificate, now: u64) -> Result<Self, String> {
        let key = shown.public_key();
        let wire = on_the_wire(key.key_data()).map_err(|error| format!("the host key cannot be read: {error}"))?;
        let certified = shown.certificate().and_then(|certificate| Certified::of(certificate, now));
        Ok(Self { wire, fingerprint: key.fingerprint(HashAlg::Sha256).to_string(), certified })
    }

    /// The authority, where the certificate is for this host.
    fn authority(&self, host: &str) -> Option<&[u8]> {
        let certified = self.certified.as_ref()?;
        // A certificate without names is for all hosts (PROTOCOL.certkeys).
        let principals = &certified.principals;
        let is_for = principals.is_empty()
            || principals.iter().any(|name| matches(name.to_ascii_lowercase().as_bytes(), host.as_bytes()));
        is_for.then_some(certified.authority.as_slice())
    }
}

impl Certified {
    fn of(certificate: &Certificate, now: u64) -> Option<Self> {
        let signer = certificate.signature_key().fingerprint(HashAlg::Sha256);
        let is_in_force = certificate.cert_type() == CertType::Host
            && certificate.critical_options().is_empty()
            && certificate.validate_at(now, [&signer]).is_ok();
        let authority = on_the_wire(certificate.signature_key()).ok()?;
        is_in_force.then(|| Self { authority, principals: certificate.valid_principals().to_vec() })
    }
}

/// Judges a key by all that is known.
pub(super) fn weigh(wanted: &Wanted, vouchers: &Vouchers, key: &Key, first_use: &FirstUse) -> Standing {
    if !wanted.entry.pins.is_empty() {
        return by_pins(wanted, vouchers, key);
    }
    let standing = by_files(wanted, vouchers, key);
    if wanted.entry.trust_on_first_use && !matches!(standing.trust, Trust::Refused(_)) {
        return by_first_use(wanted, key, first_use, standing);
    }
    standing
}

fn by_pins(wanted: &Wanted, vouchers: &Vouchers, key: &Key) -> Standing {
    let authority = vouchers.hosts.iter().find_map(|host| key.authority(host));
    if !wanted.entry.is_pinned(&key.wire, authority) {
        return Standing::refused(key, Refused::Pin);
    }
    // A pin is one for the names of its entry. One that the entry does not have could belong to another, with its credential.
    Standing {
        proven: wanted.catalogued.clone(),
        names: vouchers.hosts.clone(),
        authority: authority.map(<[u8]>::to_vec),
        ..Standing::new(key, Trust::Trusted(By::Pin))
    }
}

fn by_files(wanted: &Wanted, vouchers: &Vouchers, key: &Key) -> Standing {
    let files: Vec<_> = vouchers.files.iter().map(|read| read.known.as_ref()).collect();
    let system = files.get(..vouchers.system).unwrap_or_default();
    let shown = |host: &str| Shown { key: &key.wire, authority: key.authority(host) };
    let verdict = |files: &[_], host: &str| judge(files, host, wanted.address.port(), shown(host));
    let place = |at: At| {
        let path = vouchers.files.get(at.file).map(|read| read.path.display().to_string());
        format!("{}:{}", path.unwrap_or_default(), at.line)
    };
    let first = |places: &[At]| places.first().map(|at| place(*at)).unwrap_or_default();
    let mut standing = Standing::new(key, Trust::Unverified(Unverified::Unknown));
    let mut is_decided = false;
    // The first name of which something is known decides: what was looked up stands before the address. A key is revoked
    // by whatever name.
    for host in &vouchers.hosts {
        let found = verdict(&files, host);
        if let Verdict::Revoked(at) = found {
            return Standing::refused(key, Refused::Revoked(place(at)));
        }
        if !matches!(found, Verdict::Changed(_) | Verdict::OtherAlgorithm(_)) {
            standing.names.push(host.clone());
        }
        if is_decided || found == Verdict::Unknown {
            continue;
        }
        is_decided = true;
        standing.trust = match found {
            Verdict::Known(at) => Trust::Trusted(By::KnownHosts(place(at))),
            Verdict::Authority(at) => Trust::Trusted(By::Authority(place(at))),
            Verdict::Changed(lines) => Trust::Refused(Refused::Changed(first(&lines))),
            Verdict::OtherAlgorithm(_) => Trust::Unverified(Unverified::OtherAlgorithm),
            Verdict::Unknown | Verdict::Revoked(_) => continue,
        };
        if standing.trust.is_trusted() {
            standing.authority = key.authority(host).map(<[u8]>::to_vec);
            let by_host = verdict(system, host);
            standing.proven = matches!(by_host, Verdict::Known(_) | Verdict::Authority(_)).then(|| host.clone());
        }
    }
    match standing.trust {
        Trust::Refused(why) => Standing::refused(key, why),
        _ => standing,
    }
}

/// The address is what is kept: a name leads where the captured process's name server says.
fn by_first_use(wanted: &Wanted, key: &Key, first_use: &FirstUse, standing: Standing) -> Standing {
    // A host that is known by another algorithm is no stranger, and this is not its first use.
    if standing.trust == Trust::Unverified(Unverified::OtherAlgorithm) {
        return standing;
    }
    let address = wanted.address.ip().to_string();
    let note = match first_use.compare(wanted.address, &key.wire) {
        Ok(Kept::Same(_)) => None,
        Ok(Kept::Now) => {
            let text = format!("the host key {} of {address} was kept: it was not known before", key.fingerprint);
            Some(("hostkey_first_use", text))
        }
        Ok(Kept::Other(line)) => {
            let place = format!("{}:{line}", first_use.path().display());
            return Standing::refused(key, Refused::Changed(place));
        }
        Err(error) => {
            let text = format!("the host key cannot be compared with {}: {error}", first_use.path().display());
            return Standing { note: Some(("hostkey_unread", text)), ..standing };
        }
    };
    let trust = if standing.trust.is_trusted() { standing.trust } else { Trust::Trusted(By::FirstUse) };
    Standing { trust, proven: standing.proven.or(Some(address)), note, ..standing }
}
