//! What all sessions of an agent work by.
//!
//! Never changes while a session lasts.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use crewtap_core::limits;
use crewtap_core::mask::digest::DigestKey;
use crewtap_core::policy::catalog::Catalog;

use crate::clock::Zone;
use crate::gate::Gate;

/// What every session of an agent needs.
#[derive(Debug, Clone)]
pub struct Ground {
    /// Judges actions.
    pub gate: Gate,
    /// Makes keyed digests of what is redacted.
    pub key: DigestKey,
    /// The targets that are known, and whose credentials are used.
    pub catalog: Arc<Catalog>,
    /// What is forwarded must be on disk before.
    pub waits_for_disk: bool,
    /// Where hours and days of the week are counted.
    pub zone: Zone,
    /// How much is held for a human, and for how long.
    pub holding: Holding,
}

/// How much is held for a human, and for how long.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Holding {
    /// Largest HTTP request body that is held, in bytes on the wire (`approvals.body_max`); at most
    /// [`limits::APPROVAL_BODY_BYTES_LIMIT`].
    pub body_max: usize,
    /// How long an HTTP request waits for its answer before its client is told to ask again (`approvals.wait`); none: as
    /// long as its client does.
    pub http_wait: Option<Duration>,
}

impl Default for Holding {
    fn default() -> Self {
        Self { body_max: limits::APPROVAL_BODY_BYTES_MAX, http_wait: None }
    }
}

/// The ground of sessions that open from now on: what is exchanged here leaves open ones as they are.
#[derive(Debug)]
pub struct Grounds(RwLock<Arc<Ground>>);

impl Grounds {
    /// Begins with this.
    #[must_use]
    pub fn new(ground: Ground) -> Self {
        Self(RwLock::new(Arc::new(ground)))
    }

    /// The present one.
    #[must_use]
    pub fn now(&self) -> Arc<Ground> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Sessions that open from now on know these targets; open ones go on with what they began with.
    pub fn renew(&self, catalog: Catalog) {
        let mut ground = self.0.write().unwrap_or_else(PoisonError::into_inner);
        *ground = Arc::new(Ground { catalog: Arc::new(catalog), ..Ground::clone(&ground) });
    }
}
