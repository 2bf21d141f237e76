//! The local certificate authority: whom captured programs trust in place of their targets.
//!
//! Owns two authorities, kept in one directory: a *trusted* one, which every overlay contains, and an *untrusted* one,
//! which none contains and whose leaves fail wherever the target's own certificate would. Never decides which of them a
//! target deserves, never dials, and never lets a key out.
//!
//! No name constraints: the authority stands in for any target that a program may name, and RFC 5280 section 4.2.1.10
//! can permit subtrees but has no form for "what this run reaches". What is constrained instead is the path length
//! (leaves only), the usage (servers only), and the place (only overlays contain it).

mod cache;
mod issuer;
mod ssh;
mod store;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use crewtap_core::wire::certificate::SubjectName;
use rustls::sign::CertifiedKey;
use zeroize::Zeroizing;

use self::cache::Leaves;
use self::issuer::{Issuing, LeafKey};
pub use self::ssh::{Face, SshTrusted, on_the_wire};
use self::store::{Kind, Store};
use crate::clock;

/// Where the authorities of a store are, in its data directory.
pub const DIRECTORY: &str = "authority";

/// Seconds of a day.
const DAY: i64 = 24 * 60 * 60;
/// A new authority is made so long before the newest one expires, in seconds: runs that hold only the old one, and last
/// longer, are rare.
const RENEW_BEFORE: i64 = 30 * DAY;

/// Counts the trusted authorities of a directory, oldest first. An overlay that holds a generation holds all before it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Generation(u32);

/// What an overlay adds to the roots of a run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Trusted {
    /// Every trusted authority that is still valid, newest last, in PEM.
    pub pem: String,
    /// The newest of them: what [`SignedBy::Trusted`] wants for leaves of this run.
    pub generation: Generation,
}

/// Who vouches for a leaf.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum SignedBy {
    /// The newest trusted authority up to the one that the run's overlay holds.
    Trusted {
        /// What [`Trusted::generation`] was when the overlay was laid.
        held: Generation,
    },
    /// The authority that no overlay contains.
    Untrusted,
}

/// From when to when a leaf says it is valid, both included, in seconds since 1970.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Dates {
    /// The first second.
    pub not_before: i64,
    /// The last second.
    pub not_after: i64,
}

/// What a leaf says.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct LeafSpec {
    /// Names of the holder; those that no certificate can carry are left out.
    pub names: Vec<SubjectName>,
    /// Common name of the subject; left out where it is longer than the 64 characters that RFC 5280 allows.
    pub common_name: Option<String>,
    /// The dates to mirror; none for some days from now, within those of the authority.
    pub dates: Option<Dates>,
    /// Who vouches for it.
    pub signed_by: SignedBy,
}

/// Why there is no authority to work with.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// The directory or a file in it cannot be used.
    #[error("cannot {doing} {path}: {source}")]
    Io {
        /// What was tried.
        doing: &'static str,
        /// Where.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Others may read the keys.
    #[error(
        "{path} has mode {mode:04o}, so that others may use its keys: `chmod go= {path}` if nobody has, else remove it"
    )]
    Open {
        /// The directory or file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// A file does not hold what it should.
    #[error(
        "{path} is damaged ({why}): restore it from a backup, or remove it and start the runs that are going on again; \
         a new authority is made at the next start"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The cryptographic library did not make a key or a certificate.
    #[error("cannot make a certificate authority: {0}")]
    Make(String),
}

/// Why there is no leaf.
#[derive(Debug, thiserror::Error)]
pub enum LeafError {
    /// Every authority that the run trusts has expired.
    #[error("the certificate authorities that this run trusts have expired: start the run again")]
    Expired,
    /// The cryptographic library did not sign.
    #[error("cannot sign a certificate: {0}")]
    Sign(String),
}

/// The authorities of one directory, and the leaves minted by them.
pub struct Authority {
    store: Store,
    issuers: RwLock<Issuers>,
    key: LeafKey,
    leaves: Mutex<Leaves>,
    ssh: ssh::Sides,
}

#[derive(Clone)]
struct Issuers {
    /// Oldest first, and never empty.
    trusted: Vec<Arc<Issuing>>,
    untrusted: Arc<Issuing>,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Authority").field("directory", &self.store.directory()).finish_non_exhaustive()
    }
}

impl Authority {
    /// The authority of `directory`, made there at its first use. Others that open it at the same time get the same.
    ///
    /// # Errors
    /// When the directory cannot be used, is open to others, or holds a damaged file.
    pub fn open(directory: &Path) -> Result<Self, AuthorityError> {
        let store = Store::open(directory)?;
        let issuers = current(&store)?;
        let key = LeafKey::new()?;
        let (issuers, leaves) = (RwLock::new(issuers), Mutex::default());
        Ok(Self { store, issuers, key, leaves, ssh: ssh::Sides::default() })
    }

    /// What an overlay that is laid now must contain. Reads the directory again, and makes the next authority where the
    /// newest one is about to expire.
    ///
    /// # Errors
    /// As [`Authority::open`].
    pub fn trusted(&self) -> Result<Trusted, AuthorityError> {
        let issuers = current(&self.store)?;
        let now = now_seconds();
        let valid = issuers.trusted.iter().filter(|issuing| issuing.dates.not_after > now);
        let trusted = Trusted {
            pem: valid.map(|issuing| issuing.pem.as_str()).collect(),
            generation: Generation(issuers.trusted.last().map_or(0, |newest| newest.number)),
        };
        *self.issuers.write().unwrap_or_else(PoisonError::into_inner) = issuers;
        Ok(trusted)
    }

    /// Makes the next trusted and untrusted authority now. Overlays laid from now on hold the new and the old ones; runs
    /// that are going on stay with what they hold.
    ///
    /// # Errors
    /// As [`Authority::open`].
    pub fn rotate(&self) -> Result<Trusted, AuthorityError> {
        for kind in [Kind::Untrusted, Kind::Trusted] {
            let newest = self.store.numbers(kind)?.last().copied().unwrap_or(0);
            self.store.make(kind, newest + 1, now_seconds())?;
        }
        self.trusted()
    }

    /// The leaf that says what `spec` says, from the cache or minted now (about 50 µs).
    ///
    /// # Errors
    /// When no authority that the run trusts is valid any more, or signing fails.
    pub fn leaf(&self, spec: &LeafSpec) -> Result<Arc<CertifiedKey>, LeafError> {
        let now = now_seconds();
        let issuing = self.issuing(spec.signed_by, now)?;
        let name = cache::name(spec, issuing.number);
        if let Some(leaf) = self.leaves.lock().unwrap_or_else(PoisonError::into_inner).get(&name, now) {
            return Ok(leaf);
        }
        let (leaf, renew_at) = issuing.leaf(spec, &self.key, now)?;
        self.leaves.lock().unwrap_or_else(PoisonError::into_inner).put(name, Arc::clone(&leaf), renew_at);
        Ok(leaf)
    }

    /// Leaves that are kept at the moment.
    pub fn leaves_cached(&self) -> usize {
        self.leaves.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    fn issuing(&self, signed_by: SignedBy, now: i64) -> Result<Arc<Issuing>, LeafError> {
        let issuers = self.issuers.read().unwrap_or_else(PoisonError::into_inner);
        match signed_by {
            SignedBy::Untrusted => Ok(Arc::clone(&issuers.untrusted)),
            SignedBy::Trusted { held } => issuers
                .trusted
                .iter()
                .rev()
                .find(|issuing| issuing.number <= held.0 && issuing.dates.not_after > now)
                .cloned()
                .ok_or(LeafError::Expired),
        }
    }
}

/// What the directory holds, after making what is missing or about to expire, and removing what has expired.
fn current(store: &Store) -> Result<Issuers, AuthorityError> {
    let now = now_seconds();
    // Trusted last: whoever sees the newest trusted one finds the untrusted one there too.
    let untrusted = kind_of(store, Kind::Untrusted, now)?;
    let trusted = kind_of(store, Kind::Trusted, now)?;
    match untrusted.last() {
        Some(untrusted) if !trusted.is_empty() => Ok(Issuers { untrusted: Arc::clone(untrusted), trusted }),
        _ => Err(AuthorityError::Make("none is there after one was made".into())),
    }
}

fn kind_of(store: &Store, kind: Kind, now: i64) -> Result<Vec<Arc<Issuing>>, AuthorityError> {
    let mut all = Vec::new();
    // Read once: the next number follows from what was seen here, so that two who see the same make the same.
    let numbers = store.numbers(kind)?;
    let newest = numbers.last().copied().unwrap_or(0);
    for number in numbers {
        let issuing = match store.load(kind, number) {
            // Another agent has just removed it, because it has expired.
            Err(AuthorityError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => continue,
            loaded => loaded?,
        };
        if issuing.dates.not_after > now {
            all.push(Arc::new(issuing));
        }
    }
    if all.last().is_none_or(|issuing| issuing.dates.not_after - now < RENEW_BEFORE) {
        all.push(Arc::new(store.make(kind, newest + 1, now)?));
    }
    store.remove_before(kind, all.first().map_or(0, |oldest| oldest.number));
    Ok(all)
}

fn now_seconds() -> i64 {
    i64::try_from(clock::now().wall_ns / 1_000_000_000).unwrap_or(i64::MAX)
}

/// A private key in PEM, wiped when it goes.
type KeyPem = Zeroizing<String>;

#[cfg(test)]
mod tests;
