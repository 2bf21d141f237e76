//! The only mint of permits: turns a verdict into the authority to dial.
//!
//! Never dials, never leases, never records; a permit says that somebody else may.

use crewtap_core::action::Action;
use crewtap_core::run::Mode;
use crewtap_core::target::Target;
use crewtap_core::verdict::{Effect, Verdict};

/// Proof that a verdict allowed this action on this target. Only [`Gate::decide`] makes one.
#[derive(Debug)]
pub struct Permit {
    target: Target,
}

impl Permit {
    /// The one target that it is good for.
    #[must_use]
    pub fn target(&self) -> &Target {
        &self.target
    }
}

/// What the gate said: the verdict for the record, and the permit if there is one.
#[derive(Debug)]
pub struct Decision {
    /// For the record.
    pub verdict: Verdict,
    /// Present exactly when the action may go on.
    pub permit: Option<Permit>,
}

/// Judges actions. There is no policy language yet: record and shadow allow, enforce denies by default.
#[derive(Debug, Default, Clone, Copy)]
pub struct Gate;

impl Gate {
    /// Judges one action on one target.
    #[must_use]
    pub fn decide(self, mode: Mode, _action: &Action, target: &Target) -> Decision {
        let effect = match mode {
            Mode::Record => Effect::Allow,
            Mode::Shadow | Mode::Enforce => Effect::Deny,
        };
        let passes = effect == Effect::Allow || mode == Mode::Shadow;
        Decision {
            verdict: Verdict { effect, policies: Vec::new() },
            permit: passes.then(|| Permit { target: target.clone() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crewtap_core::action::{Facts, Verb};

    fn decide(mode: Mode) -> Decision {
        let target = Target { address: "127.0.0.1:5432".parse().unwrap(), name: None };
        let action = Action { verb: Verb::Connect, subject: target.label(), facts: Facts::new() };
        Gate.decide(mode, &action, &target)
    }

    #[test]
    fn record_allows_shadow_passes_what_enforce_denies() {
        assert_eq!(decide(Mode::Record).verdict.effect, Effect::Allow);
        assert!(decide(Mode::Record).permit.is_some());
        assert_eq!(decide(Mode::Shadow).verdict.effect, Effect::Deny);
        assert!(decide(Mode::Shadow).permit.is_some());
        assert_eq!(decide(Mode::Enforce).verdict.effect, Effect::Deny);
        assert!(decide(Mode::Enforce).permit.is_none());
    }
}
