//! Leaves that were minted, as many as the limit allows.
//!
//! Never mints, and never gives out a leaf that is due for a new one.

use std::collections::HashMap;
use std::sync::Arc;

use crewtap_core::limits;
use crewtap_core::wire::certificate::SubjectName;
use rustls::sign::CertifiedKey;
use sha2::{Digest as _, Sha256};

use super::{LeafSpec, SignedBy};

/// Names a leaf in the cache: a digest, so that a certificate with many names weighs no more than another.
pub(super) type Name = [u8; 32];

/// Two generations of at most half of the limit each. What is asked for moves to the young one; when that is full, it
/// becomes the old one, and what nobody asked for since goes: close to least-recently-used, without a list.
#[derive(Default)]
pub(super) struct Leaves {
    young: HashMap<Name, Kept>,
    old: HashMap<Name, Kept>,
}

struct Kept {
    leaf: Arc<CertifiedKey>,
    renew_at: i64,
}

impl Leaves {
    pub(super) fn get(&mut self, name: &Name, now: i64) -> Option<Arc<CertifiedKey>> {
        if let Some(kept) = self.young.get(name) {
            return (now < kept.renew_at).then(|| Arc::clone(&kept.leaf));
        }
        let kept = self.old.remove(name)?;
        let leaf = (now < kept.renew_at).then(|| Arc::clone(&kept.leaf))?;
        self.put(*name, Arc::clone(&leaf), kept.renew_at);
        Some(leaf)
    }

    pub(super) fn put(&mut self, name: Name, leaf: Arc<CertifiedKey>, renew_at: i64) {
        if self.young.len() >= limits::LEAVES_CACHED_MAX / 2 {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(name, Kept { leaf, renew_at });
    }

    pub(super) fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }
}

/// The name of the leaf that authority `number` mints for `spec`.
pub(super) fn name(spec: &LeafSpec, number: u32) -> Name {
    let mut digest = Sha256::new();
    let mut field = |bytes: &[u8]| {
        digest.update((bytes.len() as u64).to_be_bytes());
        digest.update(bytes);
    };
    field(&[u8::from(matches!(spec.signed_by, SignedBy::Untrusted)), u8::from(spec.common_name.is_some())]);
    field(&number.to_be_bytes());
    field(spec.common_name.as_deref().unwrap_or_default().as_bytes());
    if let Some(dates) = spec.dates {
        field(&dates.not_before.to_be_bytes());
        field(&dates.not_after.to_be_bytes());
    }
    for name in &spec.names {
        match name {
            SubjectName::Dns(name) => {
                field(b"dns");
                field(name.as_bytes());
            }
            SubjectName::Address(address) => {
                field(b"address");
                field(address.to_string().as_bytes());
            }
        }
    }
    digest.finalize().into()
}
