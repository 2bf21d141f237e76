//! The only mint of permits: turns a verdict into the authority to dial, or to let an exchange happen.
//!
//! Never dials, never leases, never records; a permit says that somebody else may.

mod judge;

use std::borrow::Cow;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use crewtap_core::action::{Action, Facts};
use crewtap_core::id::{RunId, SessionId};
use crewtap_core::identity::Identity;
use crewtap_core::run::Mode;
use crewtap_core::target::{Resource, Target};
use crewtap_core::verdict::{Effect, Verdict};

use crate::identity::login;

pub use judge::PolicyJudge;

/// What an exchange would send: for its approver, and for the digest that binds a grant to it.
#[derive(Clone, Debug, Default)]
pub struct Content<'c> {
    /// What the target would get, in clear; all of it that makes a difference, in an order that is always the same. Is never
    /// recorded and never shown, unless the host's owner has said so (`approvals.reveal`).
    pub clear: Cow<'c, [u8]>,
    /// The same as it may be shown and recorded.
    pub shown: Cow<'c, [u8]>,
    /// Media type of `shown`.
    pub media_type: Cow<'c, str>,
    /// Facts of the action that are recorded in another form than policy sees: credentials are hidden in them.
    pub facts: Facts,
}

/// What is asked of policy.
#[derive(Clone, Copy, Debug)]
pub struct Question<'q> {
    /// In which run.
    pub run: RunId,
    /// In which session.
    pub session: SessionId,
    /// For which exchange; none for the connection itself.
    pub exchange: Option<u32>,
    /// For whom.
    pub identity: &'q Identity,
    /// What would be done, with all that policy may look at.
    pub action: &'q Action,
    /// Where.
    pub target: &'q Target,
    /// What policy takes the target for.
    pub resource: &'q Resource,
    /// What it would send; none where not all of it can be shown: then nobody is asked, and it stays refused.
    pub content: Option<&'q Content<'q>>,
}

/// Says what may happen, and asks a human where that is its answer.
pub trait Judge: fmt::Debug + Send + Sync {
    /// Judges one action on one target.
    fn judge(&self, question: &Question<'_>) -> Verdict;

    /// Asks for what was judged [`Effect::Ask`].
    fn approval(&self, question: &Question<'_>, verdict: &Verdict) -> Approval;

    /// The override in force for the target, by its id: what was not allowed passes, and says so.
    fn overridden(&self, question: &Question<'_>) -> Option<String> {
        let _ = question;
        None
    }
}

/// What a human said, or why nobody did.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Answer {
    /// Whether it may happen.
    pub approved: bool,
    /// Who said so, or why not, for the record and the client: "denied by alice: not on a Friday".
    pub why: String,
}

/// An answer that is waited for. Who drops it before it came withdraws the question.
pub struct Approval {
    /// The question's id; empty where nobody can be asked.
    pub id: String,
    /// Resolves when a human has answered, or will not.
    pub answer: Pin<Box<dyn Future<Output = Answer> + Send>>,
    /// Called before the answer is dropped, it leaves the question open: the same content, asked again, gets its answer.
    pub leave: Box<dyn FnOnce() + Send>,
}

impl Approval {
    /// The answer is this future's.
    pub fn of(answer: impl Future<Output = Answer> + Send + 'static) -> Self {
        Self { id: String::new(), answer: Box::pin(answer), leave: Box::new(|| {}) }
    }
}

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
    /// The override that let it pass against the verdict.
    pub overridden: Option<String>,
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

/// An action that waits for a human. Dropped, it is withdrawn.
pub struct Held {
    approval: Approval,
    target: Target,
}

impl Held {
    /// The approval's id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.approval.id
    }

    /// Waits for the answer; the permit where it was yes, else why not.
    ///
    /// # Errors
    /// Who said no, or why nobody answered.
    pub async fn answer(self) -> Result<Permit, String> {
        let Self { approval, target } = self;
        let answer = approval.answer.await;
        if answer.approved { Ok(Permit { target }) } else { Err(answer.why) }
    }

    /// Waits as long as `wait`; then the question stays open, and what is asked again gets its answer.
    ///
    /// # Errors
    /// As [`Held::answer`]; none when the time is over.
    pub async fn answer_within(self, wait: std::time::Duration) -> Result<Permit, Option<String>> {
        let Self { mut approval, target } = self;
        match tokio::time::timeout(wait, &mut approval.answer).await {
            Ok(answer) if answer.approved => Ok(Permit { target }),
            Ok(answer) => Err(Some(answer.why)),
            Err(_) => {
                (approval.leave)();
                Err(None)
            }
        }
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

    /// What policy says of one action on one target, the override that lets it pass against that, and whether it may happen
    /// without anybody being asked. Asks nobody.
    #[must_use]
    pub fn weigh(&self, mode: Mode, question: &Question<'_>) -> (Verdict, Option<String>, bool) {
        let verdict = self.verdict(mode, question);
        let refused = verdict.effect != Effect::Allow && mode == Mode::Enforce;
        let overridden = self.judge.as_ref().filter(|_| refused).and_then(|judge| judge.overridden(question));
        let passes = !refused || overridden.is_some();
        (verdict, overridden, passes)
    }

    fn verdict(&self, mode: Mode, question: &Question<'_>) -> Verdict {
        match &self.judge {
            _ if mode == Mode::Record => Verdict::of(Effect::Allow, Vec::new()),
            _ if login::is_required(&question.action.facts) => login::refused(),
            None => Verdict::of(Effect::Deny, Vec::new()),
            Some(judge) => judge.judge(question),
        }
    }

    /// Judges one action on one target.
    #[must_use]
    pub fn decide(&self, mode: Mode, question: &Question<'_>) -> Decision {
        let (verdict, overridden, passes) = self.weigh(mode, question);
        let target = || question.target.clone();
        let passage = match (verdict.effect, &self.judge) {
            _ if passes => Passage::Open(Permit { target: target() }),
            // What nobody can see whole, nobody can approve.
            (Effect::Ask, Some(judge)) if question.content.is_some() => {
                Passage::Held(Held { approval: judge.approval(question, &verdict), target: target() })
            }
            _ => Passage::Closed,
        };
        Decision { verdict, overridden, passage }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crewtap_core::action::{Facts, Verb};
    use crewtap_core::id::Ulid;

    #[derive(Debug)]
    struct Always(Effect, Option<&'static str>);

    impl Judge for Always {
        fn judge(&self, _: &Question<'_>) -> Verdict {
            Verdict::of(self.0, vec!["always".into()])
        }

        fn approval(&self, _: &Question<'_>, _: &Verdict) -> Approval {
            Approval::of(std::future::pending())
        }

        fn overridden(&self, _: &Question<'_>) -> Option<String> {
            self.1.map(str::to_owned)
        }
    }

    fn decide(gate: &Gate, mode: Mode) -> Decision {
        let target = Target { address: "127.0.0.1:5432".parse().unwrap(), name: None };
        let action = Action { verb: Verb::Connect, subject: target.label(), facts: Facts::new() };
        let question = Question {
            run: RunId(Ulid::generate()),
            session: SessionId(Ulid::generate()),
            exchange: None,
            identity: &Identity::unknown(),
            action: &action,
            target: &target,
            resource: &Resource::uncatalogued(target.address),
            content: Some(&Content::default()),
        };
        gate.decide(mode, &question)
    }

    #[test]
    fn record_allows_shadow_passes_what_enforce_denies() {
        let gate = Gate::default();
        for (mode, effect, opens) in [
            (Mode::Record, Effect::Allow, true),
            (Mode::Shadow, Effect::Deny, true),
            (Mode::Enforce, Effect::Deny, false),
        ] {
            let decision = decide(&gate, mode);
            assert_eq!(decision.verdict.effect, effect);
            assert_eq!(matches!(decision.passage, Passage::Open(_)), opens, "{mode:?}");
        }
    }

    #[test]
    fn what_asks_is_held_in_enforce_only_and_an_override_opens_what_is_closed() {
        let asks = Gate::of(Arc::new(Always(Effect::Ask, None)));
        assert!(matches!(decide(&asks, Mode::Enforce).passage, Passage::Held(_)));
        assert!(matches!(decide(&asks, Mode::Shadow).passage, Passage::Open(_)));
        let broken = Gate::of(Arc::new(Always(Effect::Deny, Some("01J"))));
        let decision = decide(&broken, Mode::Enforce);
        assert_eq!((decision.verdict.effect, decision.overridden.as_deref()), (Effect::Deny, Some("01J")));
        assert!(matches!(decision.passage, Passage::Open(_)));
        assert_eq!(decide(&broken, Mode::Shadow).overridden, None, "it passes anyway");
        let allowed = Gate::of(Arc::new(Always(Effect::Allow, Some("01J"))));
        assert_eq!(decide(&allowed, Mode::Enforce).overridden, None, "nothing to override");
    }
}
