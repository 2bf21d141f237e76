//! The service touched, and how its name is known.
//!
//! An address is a fact, a name is a claim until its proof says more.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::action::{Fact, Facts};

/// A name for an address, with the reason to believe it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Name {
    /// Host name, lower case, without a trailing dot.
    pub host: String,
    /// How it is known.
    pub proof: Proof,
}

/// How a target's name is known, weakest first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Proof {
    /// The client said so (SNI, Host).
    Claimed,
    /// Our DNS relay saw the name answered with this address in this run.
    Dns,
    /// The server proved it by a certificate.
    Certificate,
    /// The server proved it by a host key.
    Hostkey,
    /// The catalog says so.
    Config,
}

impl Proof {
    /// As policies and the index spell it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Claimed => "claimed",
            Self::Dns => "dns",
            Self::Certificate => "certificate",
            Self::Hostkey => "hostkey",
            Self::Config => "config",
        }
    }
}

/// What policy takes a target for: its name in the catalog, else `tcp:ADDRESS:PORT` in the tag `uncatalogued`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
pub struct Resource {
    /// The name.
    pub id: String,
    /// Tags, sorted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
}

impl Resource {
    /// The tag of what the catalog does not know.
    pub const UNCATALOGUED: &'static str = "uncatalogued";

    /// What the catalog does not know.
    #[must_use]
    pub fn uncatalogued(address: SocketAddr) -> Self {
        let address = SocketAddr::new(address.ip().to_canonical(), address.port());
        Self { id: format!("tcp:{address}"), tags: vec![Self::UNCATALOGUED.into()] }
    }

    /// Whether no policy was asked.
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        self.id.is_empty()
    }
}

/// Where a session goes.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Target {
    /// The address that is dialled.
    pub address: SocketAddr,
    /// Its name, if one is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<Name>,
}

impl Target {
    /// What policy may know of it: address, port, and the name with its proof.
    #[must_use]
    pub fn facts(&self) -> Facts {
        let mut facts = Facts::new();
        facts.insert("address".into(), Fact::Text(self.address.ip().to_canonical().to_string()));
        facts.insert("port".into(), Fact::Int(i64::from(self.address.port())));
        if let Some(name) = &self.name {
            facts.insert("host".into(), Fact::Text(name.host.clone()));
            facts.insert("proof".into(), Fact::Text(name.proof.as_str().into()));
        }
        facts
    }

    /// What a reader sees: the name and port, else the address.
    #[must_use]
    pub fn label(&self) -> String {
        match &self.name {
            Some(name) => format!("{}:{}", name.host, self.address.port()),
            None => self.address.to_string(),
        }
    }
}
