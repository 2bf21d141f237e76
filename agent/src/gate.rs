//! The only mint of permits: turns a verdict into the authority to dial, or to let an exchange happen.
//!
//! Never dials, never leases, never records; a permit says that somebody else may.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use crewtap_core::action::Action;
use crewtap_core::run::Mode;
use crewtap_core::target::Target;
use crewtap_core::verdict::{Effect, Verdict};

/// Says what may happen, and asks a human where that is its answer. There is no policy language yet: none is installed by
/// the agent.
pub trait Judge: fmt::Debug + Send + Sync {
    /// Judges one action on one target.
    fn judge(&self, action: &Action, target: &Target) -> Verdict;

    /// Asks for what was judged [`Effect::Ask`]; resolves to whether it was approved.
    fn approval(&self, action: &Action, target: &Target) -> Approval;
}

/// Resolves when a human has answered, or will not.
pub type Approval = Pin<Box<dyn Future<Output = bool> + Send>>;

/// Proof that a verdict allowed this action on this target. Only the gate makes one.
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

/// What the gate said: the verdict for the record, and what follows from it.
#[derive(Debug)]
pub struct Decision {
    /// For the record.
    pub verdict: Verdict,
    /// What follows.
    pub passage: Passage,
}

/// What follows from a verdict in the mode that is in force.
pub enum Passage {
    /// It may happen.
    Open(Permit),
    /// It may not.
    Closed,
    /// It may once a human has approved it.
    Held(Held),
}

impl fmt::Debug for Passage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Open(_) => "Open",
            Self::Closed => "Closed",
            Self::Held(_) => "Held",
        })
    }
}

impl Passage {
    /// The permit, where it may happen now.
    #[must_use]
    pub fn permit(self) -> Option<Permit> {
        match self {
            Self::Open(permit) => Some(permit),
            Self::Closed | Self::Held(_) => None,
        }
    }
}

/// An action that waits for a human.
pub struct Held {
    approval: Approval,
    target: Target,
}

impl Held {
    /// Waits for the answer; the permit where it was yes.
    pub async fn answer(self) -> Option<Permit> {
        let Self { approval, target } = self;
        approval.await.then_some(Permit { target })
    }
}

/// Judges actions. Record mode allows all; without a judge, shadow and enforce deny by default.
#[derive(Debug, Default, Clone)]
pub struct Gate {
    judge: Option<Arc<dyn Judge>>,
}

impl Gate {
    /// A gate where this judge decides.
    #[must_use]
    pub fn of(judge: Arc<dyn Judge>) -> Self {
        Self { judge: Some(judge) }
    }

    /// Whether every action of an exchange passes unseen: then nobody needs to know what it is.
    #[must_use]
    pub fn is_open(&self, mode: Mode) -> bool {
        mode == Mode::Record
    }

    /// Judges one action on one target.
    #[must_use]
    pub fn decide(&self, mode: Mode, action: &Action, target: &Target) -> Decision {
        let verdict = match &self.judge {
            _ if mode == Mode::Record => Verdict { effect: Effect::Allow, policies: Vec::new() },
            None => Verdict { effect: Effect::Deny, policies: Vec::new() },
            Some(judge) => judge.judge(action, target),
        };
        let permit = || Permit { target: target.clone() };
        let passage = match (verdict.effect, &self.judge) {
            (Effect::Allow, _) => Passage::Open(permit()),
            _ if mode == Mode::Shadow => Passage::Open(permit()),
            (Effect::Ask, Some(judge)) => {
                Passage::Held(Held { approval: judge.approval(action, target), target: target.clone() })
            }
            (Effect::Ask | Effect::Deny, _) => Passage::Closed,
        };
        Decision { verdict, passage }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crewtap_core::action::{Facts, Verb};

    fn decide(mode: Mode) -> Decision {
        let target = Target { address: "127.0.0.1:5432".parse().unwrap(), name: None };
        let action = Action { verb: Verb::Connect, subject: target.label(), facts: Facts::new() };
        Gate::default().decide(mode, &action, &target)
    }

    #[test]
    fn record_allows_shadow_passes_what_enforce_denies() {
        assert_eq!(decide(Mode::Record).verdict.effect, Effect::Allow);
        assert!(decide(Mode::Record).passage.permit().is_some());
        assert_eq!(decide(Mode::Shadow).verdict.effect, Effect::Deny);
        assert!(decide(Mode::Shadow).passage.permit().is_some());
        assert_eq!(decide(Mode::Enforce).verdict.effect, Effect::Deny);
        assert!(decide(Mode::Enforce).passage.permit().is_none());
    }
}
