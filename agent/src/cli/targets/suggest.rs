//! Entries of a catalog for the targets that a run used, as comments: what is written there is looked at before it counts.
//!
//! Never suggests a credential, and never a name that nothing proves as if it were proven.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::SocketAddr;

use crewtap_core::wire::tls::host_name;

use crate::cli::store::Store;
use crate::index::Session;

/// Protocols that a catalog has.
const PROTOCOLS: [&str; 3] = ["postgres", "http", "ssh"];

/// Addresses of one target that are told.
const ADDRESSES_MAX: usize = 8;

/// What is looked at of a session.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    pub(super) destination: Option<SocketAddr>,
    pub(super) protocol: Option<String>,
    pub(super) host: Option<String>,
    pub(super) proof: Option<String>,
    pub(super) tls: Option<String>,
    pub(super) certificate: Option<String>,
    pub(super) exchanges: i64,
}

impl From<Session> for Seen {
    fn from(session: Session) -> Self {
        let certificate = session.tls_facts.0.get("certificate_sha256").and_then(serde_json::Value::as_str);
        Self {
            destination: session.destination.as_deref().and_then(|text| text.parse().ok()),
            certificate: certificate.map(str::to_owned),
            protocol: session.protocol,
            host: session.host,
            proof: session.proof,
            tls: session.tls,
            exchanges: session.exchanges,
        }
    }
}

/// What a run did at one place.
#[derive(Default)]
struct Used {
    addresses: BTreeSet<String>,
    ports: BTreeSet<u16>,
    sessions: u64,
    exchanges: i64,
    proof: Option<String>,
    certificate: Option<String>,
    unverified: bool,
}

/// The entries for a run; empty when it used nothing that a catalog can have.
pub(super) fn of(store: &Store, run: &str) -> anyhow::Result<String> {
    let run = store.index.find_run(run)?;
    let sessions = store.index.sessions(&run.id)?.into_iter().map(Seen::from);
    Ok(text(&run.id, &sessions.collect::<Vec<_>>()))
}

/// The same, from its sessions.
pub(super) fn text(run: &str, sessions: &[Seen]) -> String {
    let mut places: BTreeMap<(String, String), Used> = BTreeMap::new();
    let mut others: BTreeSet<String> = BTreeSet::new();
    for session in sessions {
        let Some(address) = session.destination else { continue };
        let protocol = session.protocol.clone().unwrap_or_else(|| "unknown".into());
        let host = session.host.as_deref().and_then(|host| host_name(host.as_bytes()));
        if !PROTOCOLS.contains(&protocol.as_str()) {
            let place = host.unwrap_or_else(|| address.ip().to_string());
            others.insert(format!("{protocol} to {place}:{}", address.port()));
            continue;
        }
        let place = host.unwrap_or_else(|| address.ip().to_canonical().to_string());
        let used = places.entry((place, protocol)).or_default();
        used.note(session, address);
    }
    if places.is_empty() && others.is_empty() {
        return String::new();
    }
    let mut text =
        format!("# What run {run} used. Take the `#` away from what you want; see `crewtap help targets`.\n");
    let mut names = BTreeSet::new();
    for ((place, protocol), used) in &places {
        used.write(&mut text, &name(place, protocol, &mut names), place, protocol);
    }
    for other in &others {
        let _ = writeln!(text, "\n# No entry: {other} is not decoded, or needs none.");
    }
    text
}

impl Used {
    fn note(&mut self, session: &Seen, address: SocketAddr) {
        self.addresses.insert(address.ip().to_canonical().to_string());
        self.ports.insert(address.port());
        self.sessions += 1;
        self.exchanges += session.exchanges;
        self.proof = self.proof.take().or_else(|| session.proof.clone()).filter(|proof| !proof.is_empty());
        if session.proof.as_deref() == Some("certificate") {
            self.proof.clone_from(&session.proof);
        }
        self.unverified |= matches!(session.tls.as_deref(), Some("unverified" | "by_process"));
        self.certificate = session.certificate.clone().or_else(|| self.certificate.take());
    }

    fn write(&self, text: &mut String, name: &str, place: &str, protocol: &str) {
        let is_name = place.parse::<std::net::IpAddr>().is_err();
        let addresses: Vec<&str> = self.addresses.iter().map(String::as_str).collect();
        let proof = match self.proof.as_deref() {
            Some("certificate") => "the name is proven by its certificate",
            Some("dns") => "the name was looked up, and nothing proves it",
            Some(_) => "the name is what the process claims",
            None => "there was no name",
        };
        let (sessions, exchanges) = (self.sessions, self.exchanges);
        let shown = addresses.iter().take(ADDRESSES_MAX).copied().collect::<Vec<_>>().join(", ");
        let _ = writeln!(text, "\n# {sessions} sessions, {exchanges} exchanges; {proof}; at {shown}");
        let _ = writeln!(text, "#[target.{name}]");
        let ports: Vec<String> = self.ports.iter().map(u16::to_string).collect();
        let place = if is_name { format!("host = [\"{place}\"]") } else { format!("cidr = [\"{place}\"]") };
        let _ = writeln!(text, "#match = {{ {place}, port = [{}] }}", ports.join(", "));
        let _ = writeln!(text, "#protocol = \"{protocol}\"");
        if self.unverified
            && let Some(certificate) = &self.certificate
        {
            let _ =
                writeln!(text, "# Nobody that this host trusts vouches for its certificate: name its ca, or pin it.");
            let _ = writeln!(text, "#tls = {{ pins = [\"{certificate}\"] }}");
        }
        let _ = writeln!(text, "#tags = []");
    }
}

/// A name that a catalog takes and that no other entry has.
fn name(place: &str, protocol: &str, taken: &mut BTreeSet<String>) -> String {
    let plain: String = place
        .chars()
        .map(|letter| if letter.is_ascii_alphanumeric() || letter == '-' { letter } else { '-' })
        .collect();
    let plain = plain.trim_matches('-').chars().take(48).collect::<String>();
    let first = if taken.contains(&plain) || plain.is_empty() { format!("{plain}-{protocol}") } else { plain };
    let mut name = first.clone();
    let mut number = 2;
    while !taken.insert(name.clone()) {
        name = format!("{first}-{number}");
        number += 1;
    }
    name
}
