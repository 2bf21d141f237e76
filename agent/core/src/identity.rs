//! Who we say a run belongs to, and on what basis.
//!
//! An identity is never more than its basis: an analyst can dispute it by reading the facts. Never holds a token.

mod groups;

pub use groups::Groups;

use serde::{Deserialize, Serialize};

/// The person or workload behind a run.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Identity {
    /// `os:UID` or `oidc:NAME:SUBJECT`; `unknown` where the facts were gone.
    pub id: String,
    /// What a reader calls it: the user name, the e-mail address.
    pub name: String,
    /// Groups that it is in, `os:NAME` or `oidc:NAME:GROUP`.
    #[serde(default, skip_serializing_if = "Groups::has_none")]
    pub groups: Groups,
    /// Groups that had no room in a record; policy has seen them all.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub groups_left_off: u64,
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
    /// A token of an identity provider, whose signature and claims were checked.
    Oidc(Box<Oidc>),
    /// Nothing could be read any more.
    Unknown,
}

/// What an identity provider has said, and which facts of the host lead to it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Oidc {
    /// The provider's name in the configuration.
    pub provider: String,
    /// The issuer's identifier, as the token has it.
    pub issuer: String,
    /// The subject: with the issuer, what never changes.
    pub subject: String,
    /// E-mail address, where the provider tells one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    /// The provider says that the address is this person's.
    #[serde(default)]
    pub email_verified: bool,
    /// How the token was had.
    pub way: Way,
    /// When the person proved to be who they are, as the provider says; seconds since the Unix epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth_time: Option<u64>,
    /// When it was said to this host first; seconds since the Unix epoch.
    #[serde(default)]
    pub since: u64,
    /// By which methods (RFC 8176).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub amr: Vec<String>,
    /// Authentication context class.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acr: Option<String>,
    /// Until when what the provider said holds, unless it is renewed; seconds since the Unix epoch.
    pub expires: u64,
    /// Where the groups come from: `claim`, `userinfo`, `table`, several of them, or `none`.
    pub groups_from: String,
    /// What it was bound by: `audit:ID` or `leader:PID@TICKS` of a login session, `unit:NAME` or `agent` of a workload.
    pub bound: String,
    /// The operating system's user that it was bound to.
    pub uid: u32,
    /// Audit login uid: who is behind sudo.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub login_uid: Option<u32>,
    /// The name that sudo reported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sudo_user: Option<String>,
    /// Where a workload's token was given out, if a cluster of Kubernetes says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kubernetes: Option<Kubernetes>,
}

/// What a cluster of Kubernetes says of whoever it gave a token to.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Kubernetes {
    /// The namespace.
    pub namespace: String,
    /// The service account.
    pub service_account: String,
    /// The pod that the token ends with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<String>,
    /// The node that the pod is on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
}

/// How a token was had.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Way {
    /// Authorization code with PKCE: a person and a browser on this host.
    Code,
    /// Device code (RFC 8628): a person and a browser elsewhere.
    Device,
    /// A file that somebody keeps fresh.
    TokenFile,
    /// The client's own credentials.
    ClientCredentials,
}

impl Way {
    /// As it is written.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Code => "code",
            Self::Device => "device",
            Self::TokenFile => "token_file",
            Self::ClientCredentials => "client_credentials",
        }
    }

    /// Whether a person has logged in, and not a workload.
    #[must_use]
    pub fn is_person(self) -> bool {
        matches!(self, Self::Code | Self::Device)
    }
}

impl Identity {
    /// The identity of a process that was gone before its facts could be read.
    #[must_use]
    pub fn unknown() -> Self {
        Self {
            id: "unknown".into(),
            name: "unknown".into(),
            groups: Groups::default(),
            groups_left_off: 0,
            basis: Basis::Unknown,
        }
    }

    /// With as many groups as a record has room for; the others are counted.
    #[must_use]
    pub fn for_record(&self) -> Self {
        let (groups, left_off) = self.groups.bounded();
        Self { groups, groups_left_off: self.groups_left_off + left_off, ..self.clone() }
    }

    /// With all groups, where a record had no room for them and keeps them as its content, one in a line.
    #[must_use]
    pub fn with_content(self, content: &[u8]) -> Self {
        let all: Groups = String::from_utf8_lossy(content).lines().map(str::to_owned).collect();
        let count = u64::try_from(self.groups.len()).unwrap_or(u64::MAX).saturating_add(self.groups_left_off);
        if self.groups_left_off == 0 || u64::try_from(all.len()) != Ok(count) {
            return self;
        }
        Self { groups: all, groups_left_off: 0, ..self }
    }

    /// What an identity provider has said.
    #[must_use]
    pub fn oidc(&self) -> Option<&Oidc> {
        match &self.basis {
            Basis::Oidc(oidc) => Some(oidc),
            Basis::Os { .. } | Basis::Unknown => None,
        }
    }
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

#[cfg(test)]
mod tests;
