//! What an exchange would do, as policy sees it.
//!
//! Facts are exactly the context of the policy language: what is recorded can be judged again.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

/// Facts of an action or an exchange, by name.
pub type Facts = BTreeMap<String, Fact>;

/// One fact. Sets are never empty where the truth is unknown.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Fact {
    /// A truth value.
    Bool(bool),
    /// A number.
    Int(i64),
    /// A text.
    Text(String),
    /// A set of texts.
    Set(BTreeSet<String>),
}

/// What is asked of policy.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verb {
    /// Open a connection to the target.
    Connect,
    /// Look up a name.
    Resolve,
    /// Run statements in a database.
    Query,
}

impl Verb {
    /// The verb as policies and the index spell it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Resolve => "resolve",
            Self::Query => "query",
        }
    }
}

/// One action, before it happens.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Action {
    /// What would be done.
    pub verb: Verb,
    /// To what, in one line.
    pub subject: String,
    /// What policy may look at.
    pub facts: Facts,
}
