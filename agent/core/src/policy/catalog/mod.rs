//! The catalog: the targets that the host's owner has named, how a connection is known to lead to one of them, and what
//! must be proven before that target's credential may be used.
//!
//! Never reads a file and never holds a secret: an entry says where a secret is.
//!
//! Every key of `match` that is given must hold. Of several entries that match, the first in the file whose match rests on
//! a proof (the address lies in a network of its `cidr`, or the server has proven the name) is taken; only where there is
//! none, the first that matches by an unproven name. A name that nobody has proven never selects a credential.

mod credential;
mod hostkey;
mod parse;
mod pattern;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

pub(crate) use credential::is_token;
pub use credential::{Credential, Form, Injection, KeyFile, Source, source};
pub use hostkey::{HostKeyPin, HostKeys};
pub use parse::Malformed;
pub(crate) use parse::word;
pub use pattern::{HostPattern, Network};

use crate::run::Mode;
use crate::target::{Name, Proof, Resource, Target};
use crate::view::hexadecimal;

/// Every target that is known, in the order of the file.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Catalog {
    entries: Vec<Entry>,
}

/// One target.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Entry {
    /// Its name, `NAME` of `[target.NAME]`.
    pub name: String,
    /// Host names; empty: any, also none.
    pub hosts: Vec<HostPattern>,
    /// Networks of its address; empty: any.
    pub networks: Vec<Network>,
    /// Ports; never empty.
    pub ports: Vec<u16>,
    /// Protocol, as sessions are classified.
    pub protocol: String,
    /// What crewtap logs in with; none: the client's own log-in passes.
    pub credential: Option<Credential>,
    /// What crewtap puts into HTTP requests, each in its own place.
    pub injections: Vec<Injection>,
    /// How the target's end of TLS is judged.
    pub tls: Upstream,
    /// How the target's host key is judged.
    pub ssh: HostKeys,
    /// The database that is asked for, whatever the client asks for.
    pub database: Option<String>,
    /// For policies.
    pub tags: Vec<String>,
    /// Names of masks that hold for it, also where they are not on.
    pub masks: Vec<String>,
    /// Line of `masks` in the file, from 1; 0 where there is none.
    pub masks_line: usize,
    /// Mode in force for this target; the run's when none.
    pub mode: Option<Mode>,
}

/// How the target's end of TLS is judged.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Upstream {
    /// Authorities (PEM) that vouch for its certificate, instead of the host's.
    pub ca: Option<PathBuf>,
    /// SHA-256 of certificates that it may show, whoever signed them.
    pub pins: Vec<[u8; 32]>,
    /// Certificate and key (PEM) that crewtap shows to the target.
    pub client: Option<(PathBuf, PathBuf)>,
}

impl Upstream {
    /// Whether the credential may go only over TLS that these vouch for.
    #[must_use]
    pub fn is_demanded(&self) -> bool {
        self.ca.is_some() || !self.pins.is_empty()
    }
}

/// The connection to the target that a credential would be used on.
#[derive(Clone, Copy, Debug)]
pub enum Channel<'c> {
    /// Not encrypted.
    Clear,
    /// TLS.
    Tls {
        /// The target's certificate, DER.
        certificate: &'c [u8],
        /// Somebody vouches for it, for the target's name or address. What only bundles of the captured process vouch for is
        /// not verified.
        verified: bool,
        /// Who vouches: this file of a `tls.ca`; none for the host's roots and those of the configuration.
        authority: Option<&'c Path>,
    },
    /// SSH.
    Ssh {
        /// The target's host key as it goes over the wire; of a certificate, the key that it certifies.
        key: &'c [u8],
        /// The key that has signed its certificate. Only where that certificate is valid for the target.
        authority: Option<&'c [u8]>,
        /// The host's own known hosts, or what crewtap has kept from the first use, vouch for it. What only files of the
        /// captured process's user vouch for is not verified.
        verified: bool,
    },
}

/// Why an entry's credential must not be used on a connection.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Withheld {
    /// The server has not proven to be the one that the name claims.
    #[error(
        "the name {host} is not proven (it is {proof}): let the server show a certificate for it, pin its certificate, \
         or give [target.{target}] a cidr"
    )]
    Unproven {
        /// The entry.
        target: String,
        /// The name.
        host: String,
        /// How it is known.
        proof: &'static str,
    },
    /// The entry demands TLS.
    #[error("[target.{target}] names a ca or pins, and the connection is not encrypted: turn TLS on at the target")]
    Clear {
        /// The entry.
        target: String,
    },
    /// Nobody vouches for the target, and the secret would go to it as it is.
    #[error(
        "nobody vouches for the certificate of [target.{target}], and its secret would be sent as it is: name its tls.ca \
         or its tls.pins"
    )]
    Unverified {
        /// The entry.
        target: String,
    },
    /// The certificate is not one that the entry accepts.
    #[error("the certificate {sha256} is not what [target.{target}] accepts: compare its tls.ca and tls.pins")]
    Certificate {
        /// The entry.
        target: String,
        /// The certificate's SHA-256, hexadecimal.
        sha256: String,
    },
    /// The host key is not one that the entry accepts.
    #[error("the host key {fingerprint} is not what [target.{target}] accepts: compare its ssh.hostkeys")]
    HostKey {
        /// The entry.
        target: String,
        /// As `ssh-keygen -l` prints it.
        fingerprint: String,
    },
    /// Nobody vouches for the host key, and a password would go to whoever has it.
    #[error(
        "nobody vouches for the host key {fingerprint} of [target.{target}], and its password would go to whoever has it: \
         name it in its ssh.hostkeys or in /etc/ssh/ssh_known_hosts"
    )]
    UnverifiedHostKey {
        /// The entry.
        target: String,
        /// As `ssh-keygen -l` prints it.
        fingerprint: String,
    },
}

/// The entry that a connection leads to, and on what basis.
#[derive(Clone, Copy, Debug)]
pub struct Found<'c> {
    /// The entry.
    pub entry: &'c Entry,
    /// The address lies in its networks.
    by_address: bool,
    /// The name that matched its hosts, where it has some.
    by_name: Option<(&'c str, Proof)>,
}

impl Catalog {
    /// The entry for a connection to this address, by this name where one is known.
    #[must_use]
    pub fn find<'c>(&'c self, address: SocketAddr, name: Option<&'c Name>, protocol: &str) -> Option<Found<'c>> {
        let matching = || {
            let of_protocol = self.entries.iter().filter(|entry| entry.protocol == protocol);
            of_protocol.filter_map(|entry| entry.matched(address, name))
        };
        matching().find(Found::is_proven).or_else(|| matching().next())
    }

    /// The entry that policy takes a target for. A name that the client merely claims is none. One that was looked up is, because
    /// without TLS nothing proves more; `opened`: the target had its chance to prove it by a certificate, and then only what it
    /// has proven counts. Before it is known what is spoken, any protocol fits.
    #[must_use]
    pub fn resource<'c>(&'c self, target: &'c Target, protocol: &str, opened: bool) -> Option<Found<'c>> {
        let known = self.entries.iter().any(|entry| entry.protocol == protocol);
        let (address, name) = (target.address, target.name.as_ref());
        let matching = || {
            let fitting = self.entries.iter().filter(|entry| !known || entry.protocol == protocol);
            fitting.filter_map(|entry| entry.matched(address, name))
        };
        let looked_up = |found: &Found<'_>| !opened && found.by_name.is_some_and(|(_, proof)| proof == Proof::Dns);
        matching().find(Found::is_proven).or_else(|| matching().find(looked_up))
    }

    /// All, in the order of the file.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Variables of the agent's environment that hold secrets: no child may inherit them.
    pub fn variables(&self) -> impl Iterator<Item = &str> {
        self.entries.iter().flat_map(Entry::sources).filter_map(Source::variable)
    }
}

impl Entry {
    /// Where its secrets are.
    pub fn sources(&self) -> impl Iterator<Item = &Source> {
        let log_in = self.credential.iter().flat_map(Credential::sources);
        log_in.chain(self.injections.iter().map(|injection| &injection.secret))
    }

    /// What policy takes it for.
    #[must_use]
    pub fn resource(&self) -> Resource {
        let mut tags = self.tags.clone();
        tags.sort();
        Resource { id: self.name.clone(), tags }
    }

    fn matched<'c>(&'c self, address: SocketAddr, name: Option<&'c Name>) -> Option<Found<'c>> {
        let ip = address.ip().to_canonical();
        if !self.ports.contains(&address.port()) {
            return None;
        }
        let by_address = self.networks.iter().any(|network| network.contains(ip));
        if !by_address && !self.networks.is_empty() {
            return None;
        }
        let by_name = match (self.hosts.is_empty(), name) {
            (true, _) => None,
            (false, None) => return None,
            (false, Some(name)) => {
                let known = self.hosts.iter().any(|pattern| pattern.matches(&name.host));
                Some(known.then_some((name.host.as_str(), name.proof))?)
            }
        };
        Some(Found { entry: self, by_address, by_name })
    }
}

impl Found<'_> {
    /// The mode in force where a run has `mode`. A process chooses the name server that it asks: a name that was only looked up
    /// makes a mode stricter, never looser.
    #[must_use]
    pub fn mode(&self, mode: Mode) -> Mode {
        let own = self.entry.mode.unwrap_or(mode);
        if self.is_proven() { own } else { own.max(mode) }
    }

    /// The name that has selected the entry; none where it has no names.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.by_name.map(|(host, _)| host)
    }

    /// The same of a target that another host has connected to: addresses mean there what that host wants.
    #[must_use]
    pub fn behind(self) -> Self {
        Self { by_address: false, ..self }
    }

    /// Whether the match rests on more than a name that somebody claims.
    #[must_use]
    pub fn is_proven(&self) -> bool {
        self.by_address || self.by_name.is_some_and(|(_, proof)| matches!(proof, Proof::Certificate | Proof::Hostkey))
    }

    /// Whether the entry's credential may be used, as far as that can be said before the target is dialled.
    ///
    /// # Errors
    /// When the name is not proven; over TLS, [`Found::may_lease_on`] may still allow it.
    pub fn may_lease(&self) -> Result<(), Withheld> {
        if self.is_proven() { Ok(()) } else { self.by_address() }
    }

    /// Whether the entry's credential may be used on this connection.
    ///
    /// # Errors
    /// When what the entry demands is not proven.
    pub fn may_lease_on(&self, channel: Channel<'_>) -> Result<(), Withheld> {
        let (entry, target) = (self.entry, || self.entry.name.clone());
        let (certificate, verified, authority) = match channel {
            Channel::Tls { certificate, verified, authority } => (certificate, verified, authority),
            Channel::Ssh { key, authority, verified } => return self.may_lease_to(key, authority, verified),
            // In clear nobody has proven a name.
            Channel::Clear if entry.tls.is_demanded() => return Err(Withheld::Clear { target: target() }),
            Channel::Clear => return self.by_address(),
        };
        // Who holds the key of this very certificate is the one that the owner of the host has named.
        if self.is_pinned(certificate) {
            return Ok(());
        }
        // An authority vouches for the entry that names it: what another entry's has signed proves nothing here.
        let vouched = verified && authority == entry.tls.ca.as_deref();
        let is_enough = vouched && (entry.tls.ca.is_some() || entry.tls.pins.is_empty());
        if entry.tls.is_demanded() && !is_enough {
            let digest: [u8; 32] = Sha256::digest(certificate).into();
            return Err(Withheld::Certificate { target: target(), sha256: hexadecimal(&digest) });
        }
        if vouched { self.may_lease() } else { self.by_address() }
    }

    /// Whether the entry's secrets may be sent on this connection as they are. In clear that takes an address of its `cidr`.
    ///
    /// # Errors
    /// When what the entry demands is not proven, or the target's certificate is not.
    pub fn may_send_on(&self, channel: Channel<'_>) -> Result<(), Withheld> {
        self.may_lease_on(channel)?;
        let Channel::Tls { certificate, verified, authority } = channel else { return Ok(()) };
        let vouched = verified && authority == self.entry.tls.ca.as_deref();
        if vouched || self.is_pinned(certificate) {
            return Ok(());
        }
        Err(Withheld::Unverified { target: self.entry.name.clone() })
    }

    /// The same for SSH. A signature made with a key is of use to nobody else; a password goes only to a host that has proven
    /// itself.
    fn may_lease_to(&self, key: &[u8], authority: Option<&[u8]>, verified: bool) -> Result<(), Withheld> {
        let (ssh, target) = (&self.entry.ssh, || self.entry.name.clone());
        if ssh.is_pinned(key, authority) {
            return Ok(());
        }
        let fingerprint = || hostkey::fingerprint(key);
        if !ssh.pins.is_empty() {
            return Err(Withheld::HostKey { target: target(), fingerprint: fingerprint() });
        }
        if verified {
            return self.may_lease();
        }
        self.by_address()?;
        match &self.entry.credential {
            Some(Credential { secret: Some(_), .. }) => {
                Err(Withheld::UnverifiedHostKey { target: target(), fingerprint: fingerprint() })
            }
            _ => Ok(()),
        }
    }

    /// Whether the target has proven by its certificate that it is the entry's: only then may a secret go to it in clear inside
    /// of TLS. That its address fits is no proof, nor is a certificate for a name that the entry does not know.
    #[must_use]
    pub fn has_proven_itself(&self, channel: Channel<'_>) -> bool {
        let Channel::Tls { certificate, verified, authority } = channel else { return false };
        let named = self.by_name.is_some_and(|(_, proof)| proof == Proof::Certificate);
        let ca = self.entry.tls.ca.as_deref();
        self.is_pinned(certificate) || (verified && authority == ca && (ca.is_some() || named))
    }

    fn is_pinned(&self, certificate: &[u8]) -> bool {
        let digest: [u8; 32] = Sha256::digest(certificate).into();
        self.entry.tls.pins.contains(&digest)
    }

    /// Whether the address alone allows it; an entry without names has matched by its address.
    fn by_address(&self) -> Result<(), Withheld> {
        match self.by_name {
            Some((host, proof)) if !self.by_address => Err(Withheld::Unproven {
                target: self.entry.name.clone(),
                host: host.to_owned(),
                proof: proof.as_str(),
            }),
            _ => Ok(()),
        }
    }
}
