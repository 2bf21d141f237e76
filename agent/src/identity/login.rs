//! How long what is known of a run's person holds, and what follows when it does not any more.
//!
//! Shared by a login and the runs that carry it: renewing the one renews the others. Never talks to a provider.

use std::sync::atomic::{AtomicU64, Ordering};

use crewtap_core::action::{Fact, Facts};
use crewtap_core::verdict::{Effect, Verdict};

/// The fact that policy sees.
const EXPIRED: &str = "login_expired";

/// The fact by which the gate refuses; only [`Login::facts`] sets it.
const REQUIRED: &str = "login_required";

/// What a run whose login has expired may do.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum OnExpiry {
    /// Whatever policy lets it: it sees `login_expired`.
    #[default]
    Continue,
    /// Nothing, until its person has logged in again.
    Refuse,
}

/// Until when a login holds. The default holds for ever: that of the operating system's users.
#[derive(Debug)]
pub struct Login {
    /// Nanoseconds since the Unix epoch.
    until_ns: AtomicU64,
    on_expiry: OnExpiry,
}

impl Default for Login {
    fn default() -> Self {
        Self { until_ns: AtomicU64::new(u64::MAX), on_expiry: OnExpiry::Continue }
    }
}

impl Login {
    /// One that holds until a time, in seconds since the Unix epoch.
    #[must_use]
    pub fn until(seconds: u64, on_expiry: OnExpiry) -> Self {
        let login = Self { until_ns: AtomicU64::new(0), on_expiry };
        login.renew(seconds);
        login
    }

    /// Holds until another time from now on.
    pub fn renew(&self, seconds: u64) {
        self.until_ns.store(seconds.saturating_mul(1_000_000_000), Ordering::Relaxed);
    }

    /// Does not hold any more.
    pub fn end(&self) {
        self.until_ns.store(0, Ordering::Relaxed);
    }

    /// Whether it has expired.
    #[must_use]
    pub fn is_over(&self, wall_ns: u64) -> bool {
        self.until_ns.load(Ordering::Relaxed) <= wall_ns
    }

    /// What policy may know of it: nothing as long as it holds.
    #[must_use]
    pub fn facts(&self, wall_ns: u64) -> Facts {
        if !self.is_over(wall_ns) {
            return Facts::new();
        }
        let mut facts = Facts::from([(EXPIRED.to_owned(), Fact::Bool(true))]);
        if self.on_expiry == OnExpiry::Refuse {
            facts.insert(REQUIRED.to_owned(), Fact::Bool(true));
        }
        facts
    }
}

/// Whether nothing may happen before somebody has logged in again.
#[must_use]
pub fn is_required(facts: &Facts) -> bool {
    facts.get(REQUIRED) == Some(&Fact::Bool(true))
}

/// What the gate says then.
#[must_use]
pub fn refused() -> Verdict {
    let mut verdict = Verdict::of(Effect::Deny, Vec::new());
    verdict.errors.push("the login behind this run has expired: log in again with `crewtap login`".into());
    verdict
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_holds_until_its_time_and_again_once_it_is_renewed() {
        let login = Login::until(100, OnExpiry::Refuse);
        let at = |seconds: u64| login.facts(seconds * 1_000_000_000);
        assert!(!is_required(&at(99)));
        assert!(is_required(&at(100)));
        assert_eq!(at(100).get(EXPIRED), Some(&Fact::Bool(true)));
        login.renew(200);
        assert_eq!(at(150), Facts::new());
        login.end();
        assert!(is_required(&at(150)));
    }

    #[test]
    fn where_policy_decides_nothing_is_required_and_users_of_the_host_never_expire() {
        let facts = Login::until(1, OnExpiry::Continue).facts(u64::MAX - 1);
        assert!(!is_required(&facts));
        assert_eq!(facts.get(EXPIRED), Some(&Fact::Bool(true)));
        assert_eq!(Login::default().facts(u64::MAX - 1), Facts::new());
    }
}
