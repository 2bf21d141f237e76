//! Who we say a run belongs to, and on what basis.
//!
//! An identity is never more than its basis: an analyst can dispute it by reading the facts.

use serde::{Deserialize, Serialize};

/// The person or workload behind a run.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Identity {
    /// `os:UID`, later `oidc:NAME:SUBJECT`; `unknown` where the facts were gone.
    pub id: String,
    /// What a reader calls it: the user name, the e-mail address.
    pub name: String,
    /// Groups that it is in, `os:NAME` or `oidc:NAME:GROUP`, sorted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
    /// Why we say so.
    pub basis: Basis,
}

/// The facts that an identity rests on.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Basis {
    /// The operating system's user of the invoking process.
    Os {
        /// Real user id.
        uid: u32,
        /// Audit login uid.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        login_uid: Option<u32>,
        /// Set when the command came through sudo: the name that sudo reported.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        sudo_user: Option<String>,
    },
    /// Nothing could be read any more.
    Unknown,
}

impl Identity {
    /// The identity of a process that was gone before its facts could be read.
    #[must_use]
    pub fn unknown() -> Self {
        Self { id: "unknown".into(), name: "unknown".into(), groups: Vec::new(), basis: Basis::Unknown }
    }
}
