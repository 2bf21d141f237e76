//! What policy said of an action.
//!
//! A verdict is a value without authority; only the gate turns an allow into a permit.

use serde::{Deserialize, Serialize};

/// Allow, ask or deny, with the policies that decided it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Verdict {
    /// What was decided.
    pub effect: Effect,
    /// Names of the policies that decided; empty for the mode's default.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub policies: Vec<String>,
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
