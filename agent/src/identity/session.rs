//! One login: who a provider said it is, what it is bound to, and until when it counts.
//!
//! Holds its tokens as secrets. Never asks anybody.

use std::time::Duration;

use crewtap_core::identity::{Basis, Groups, Identity, Oidc, Way};
use crewtap_core::secret::Secret;

use super::caller::Key;
use super::claims::Person;
use super::requests::Vouched;
use crate::config::oidc::Provider;

/// One login.
#[derive(Debug)]
pub struct Session {
    /// Whose, and in which login session of the host.
    pub key: Key,
    /// The provider's name in the configuration.
    pub provider: String,
    /// The issuer's identifier.
    pub issuer: String,
    /// Who.
    pub person: Person,
    /// How.
    pub way: Way,
    /// When it began, in seconds since the Unix epoch.
    pub since: u64,
    /// When it ends whatever is renewed.
    pub ends: u64,
    /// When what the provider said last expires.
    pub expires: u64,
    /// When it was said.
    pub checked: u64,
    /// What renews it.
    pub refresh: Option<Secret>,
    /// What is revoked where nothing renews it.
    pub access: Option<Secret>,
}

impl Session {
    /// A login that begins now.
    #[must_use]
    pub fn begin(provider: &Provider, key: Key, way: Way, vouched: Vouched, now: u64) -> Self {
        let Vouched { person, expires, refresh, access } = vouched;
        Self {
            key,
            provider: provider.name.clone(),
            issuer: provider.issuer.clone(),
            person,
            way,
            since: now,
            ends: now.saturating_add(provider.lasts.as_secs()),
            expires,
            checked: now,
            refresh,
            access,
        }
    }

    /// Until when it counts, unless it is renewed.
    #[must_use]
    pub fn until(&self) -> u64 {
        self.ends.min(self.expires)
    }

    /// Whether it counts.
    #[must_use]
    pub fn holds(&self, now: u64) -> bool {
        now < self.until()
    }

    /// Whether nothing can make it count again.
    #[must_use]
    pub fn is_over(&self, now: u64) -> bool {
        now >= self.ends || !self.holds(now) && self.refresh.is_none() || !self.key.session.is_there()
    }

    /// Whether it can and should be renewed before it is relied on.
    #[must_use]
    pub fn is_stale(&self, now: u64, renew: Duration) -> bool {
        let old = now.saturating_sub(self.checked) >= renew.as_secs();
        self.refresh.is_some() && now < self.ends && (old || !self.holds(now))
    }

    /// The provider has put these in the place of what renews it: whatever else it says, the old ones are not used again.
    pub fn rotated(&mut self, refresh: Option<Secret>, access: Option<Secret>) {
        self.refresh = refresh.or(self.refresh.take());
        self.access = access.or(self.access.take());
    }

    /// What the provider says now.
    pub fn renewed(&mut self, vouched: Vouched, now: u64) {
        let Vouched { mut person, expires, refresh, access } = vouched;
        // A renewal is no new proof of who somebody is: when and how that was stays as it was.
        person.auth_time = self.person.auth_time.or(person.auth_time);
        if person.amr.is_empty() {
            person.amr.clone_from(&self.person.amr);
        }
        person.acr = person.acr.or_else(|| self.person.acr.clone());
        self.person = person;
        (self.expires, self.checked) = (expires, now);
        self.rotated(refresh, access);
    }

    /// The identity of a run that carries it.
    #[must_use]
    pub fn identity(&self, os: &Identity) -> Identity {
        let of = Of { provider: &self.provider, issuer: &self.issuer, way: self.way, since: self.since };
        of.identity(&self.person, self.until(), self.key.session.to_string(), os)
    }
}

/// Who has vouched, and how.
#[derive(Clone, Copy, Debug)]
pub struct Of<'o> {
    /// The provider's name in the configuration.
    pub provider: &'o str,
    /// The issuer's identifier.
    pub issuer: &'o str,
    /// How the token was had.
    pub way: Way,
    /// When first, in seconds since the Unix epoch.
    pub since: u64,
}

impl Of<'_> {
    /// An identity: the person that the provider has named, in its groups and in those of the user of this host; a policy that
    /// forbids something to a group of the host is not got around by logging in.
    #[must_use]
    pub fn identity(&self, person: &Person, expires: u64, bound: String, os: &Identity) -> Identity {
        let Self { provider, issuer, way, since } = *self;
        let (uid, login_uid, sudo_user) = match &os.basis {
            Basis::Os { uid, login_uid, sudo_user } => (*uid, *login_uid, sudo_user.clone()),
            Basis::Oidc(_) | Basis::Unknown => (u32::MAX, None, None),
        };
        let told = person.groups.iter().map(|group| format!("oidc:{provider}:{group}"));
        let groups: Groups = told.chain(os.groups.iter().cloned()).collect();
        Identity {
            id: format!("oidc:{provider}:{}", person.subject),
            name: person.name.clone(),
            groups,
            groups_left_off: 0,
            basis: Basis::Oidc(Box::new(Oidc {
                provider: provider.to_owned(),
                issuer: issuer.to_owned(),
                subject: person.subject.clone(),
                email: person.email.clone(),
                email_verified: person.email_verified,
                way,
                auth_time: person.auth_time,
                since,
                amr: person.amr.clone(),
                acr: person.acr.clone(),
                expires,
                groups_from: person.groups_from.clone(),
                bound,
                uid,
                login_uid,
                sudo_user,
                kubernetes: person.kubernetes.clone(),
            })),
        }
    }
}
