//! What a session's facts come to in actions and records. Never decides.

use std::time::Duration;

use crewtap_core::action::{Action, Fact, Verb};
use crewtap_core::bodies::{Classified, Decided};
use crewtap_core::run::Mode;
use crewtap_core::target::{Resource, Target};
use crewtap_core::verdict::Verdict;

/// What would be said of an action.
#[derive(Debug)]
pub struct Foreseen {
    /// It would wait for a human.
    pub is_held: bool,
    /// For the record, where it is not asked for after all.
    pub decided: Decided,
}

/// A target, as policy sees it.
#[derive(Debug)]
pub(super) struct View {
    pub(super) target: Target,
    pub(super) protocol: String,
    /// Its TLS was opened: it could prove its name.
    pub(super) opened: bool,
    pub(super) mode: Mode,
    pub(super) resource: Resource,
}

pub(super) fn decided(
    action: Action,
    verdict: Verdict,
    mode: Mode,
    resource: &Resource,
    overridden: Option<String>,
) -> Decided {
    let Action { verb, subject, facts } = action;
    Decided { verb: verb.as_str().into(), subject, verdict, mode, facts, resource: resource.clone(), overridden }
}

pub(super) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// The action `connect` with the facts of DESIGN section 8 that are known before the dial.
pub(super) fn connect_action(classified: &Classified) -> Action {
    let mut facts = classified.target.facts();
    facts.insert("protocol".into(), Fact::Text(classified.protocol.clone()));
    Action { verb: Verb::Connect, subject: classified.target.label(), facts }
}
