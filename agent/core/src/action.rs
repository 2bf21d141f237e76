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
    /// Run a command on another host.
    Exec,
    /// Open a shell on another host.
    Shell,
    /// Read a file of another host.
    ReadFile,
    /// Write a file of another host.
    WriteFile,
    /// Forward connections through another host.
    Forward,
    /// Send an HTTP request.
    HttpRequest,
    /// Ask a language model.
    LlmCall,
}

impl Verb {
    /// Every verb there is.
    pub const ALL: [Self; 10] = [
        Self::Connect,
        Self::Resolve,
        Self::Query,
        Self::Exec,
        Self::Shell,
        Self::ReadFile,
        Self::WriteFile,
        Self::Forward,
        Self::HttpRequest,
        Self::LlmCall,
    ];

    /// The verb as policies and the index spell it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Resolve => "resolve",
            Self::Query => "query",
            Self::Exec => "exec",
            Self::Shell => "shell",
            Self::ReadFile => "read_file",
            Self::WriteFile => "write_file",
            Self::Forward => "forward",
            Self::HttpRequest => "http_request",
            Self::LlmCall => "llm_call",
        }
    }

    /// The verb that is spelled so.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|verb| verb.as_str() == name)
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
