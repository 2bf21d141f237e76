//! What policy said of an action.
//!
//! A verdict is a value without authority; only the gate turns an allow into a permit.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

/// Allow, ask or deny, with the policies that decided it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Verdict {
    /// What was decided.
    pub effect: Effect,
    /// Names of the policies that decided; empty for the mode's default.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub policies: Vec<String>,
    /// What an approval needs, where the effect is [`Effect::Ask`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub terms: Option<Terms>,
    /// Why it was denied although no policy forbids it: what could not be evaluated, and in which policy.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<String>,
}

impl Verdict {
    /// A verdict that needs nobody.
    #[must_use]
    pub fn of(effect: Effect, policies: Vec<String>) -> Self {
        Self { effect, policies, terms: None, errors: Vec::new() }
    }

    /// An action that waits for an approval.
    #[must_use]
    pub fn ask(policies: Vec<String>, terms: Terms) -> Self {
        Self { effect: Effect::Ask, policies, terms: Some(terms), errors: Vec::new() }
    }
}

/// Who must approve, and for how much.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Terms {
    /// Groups of which every approver must be in one for each: all that the deciding policies name. `os:GROUP`, `oidc:NAME:GROUP`.
    pub groups: BTreeSet<String>,
    /// So many different people must approve; at least 1, the most that a deciding policy asks for.
    pub approvers: u32,
    /// Every deciding policy lets one approval count for the same content during the rest of the session.
    pub whole_session: bool,
}

/// The decision itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Effect {
    /// It may happen.
    Allow,
    /// It may once a human has approved it.
    Ask,
    /// It may not.
    Deny,
}
