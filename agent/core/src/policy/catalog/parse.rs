//! `targets.toml` -> [`Catalog`]. Refuses what it does not know, and names the line.

use std::path::Path;

use super::{Catalog, Entry, HostKeys, HostPattern, Network, Upstream, credential, hostkey};
use crate::policy::keys::{Fault, Key, Value, in_order, one_of, parse, ports, table, text, texts, unknown};
use crate::run::Mode;

/// Keys of a target.
const KEYS: [&str; 9] = ["match", "protocol", "credential", "tls", "ssh", "map", "tags", "masks", "mode"];

/// Protocols that sessions can have, and the ports that are meant when none is named.
const PROTOCOLS: [(&str, &[u16]); 3] = [("postgres", &[5432]), ("http", &[80, 443]), ("ssh", &[22])];

/// A catalog that cannot be used.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{line}: {what}")]
pub struct Malformed {
    /// Line, from 1.
    pub line: usize,
    /// What is wrong, and what to do.
    pub what: String,
}

impl Catalog {
    /// The catalog that `text` says; paths in it are relative to the directory `beside`.
    ///
    /// # Errors
    /// When it has an unknown key, an impossible value, or a target that no connection could ever lead to.
    pub fn parse(text: &str, beside: &Path) -> Result<Self, Malformed> {
        let malformed = |fault: Fault| Malformed { line: fault.line(text), what: fault.what };
        let top = parse(text).map_err(malformed)?;
        let mut entries = Vec::new();
        for (key, value) in in_order(top.get_ref()) {
            if key.get_ref() != "target" {
                return Err(malformed(Fault { at: key.span(), what: unknown(key.get_ref(), &["target"]) }));
            }
            for (name, value) in in_order(table("target", value).map_err(malformed)?) {
                let mut entry = entry(name, value, beside).map_err(malformed)?;
                let of_masks = in_order(table(&entry.name, value).map_err(malformed)?);
                let of_masks = of_masks.into_iter().find(|(key, _)| key.get_ref() == "masks");
                entry.masks_line = of_masks.map_or(0, |(_, value)| Fault::of(value, "").line(text));
                refuse_hidden(&entries, &entry, name).map_err(malformed)?;
                entries.push(entry);
            }
        }
        Ok(Self { entries })
    }
}

/// A target that can never be found is a mistake, and perhaps a dangerous one: its credential or mode would not be used.
fn refuse_hidden(before: &[Entry], entry: &Entry, name: &Key<'_>) -> Result<(), Fault> {
    let Some(first) = before.iter().find(|first| first.covers(entry)) else { return Ok(()) };
    let what = format!(
        "[target.{}] can never be found: [target.{}] before it matches all that it does; put the narrower one first",
        entry.name, first.name
    );
    Err(Fault { at: name.span(), what })
}

impl Entry {
    /// Whether no connection leads to `later` that does not lead here. An entry that an address proves is not covered by one
    /// that has names alone: it wins where the name is not proven.
    fn covers(&self, later: &Self) -> bool {
        let hosts = |later: &HostPattern| self.hosts.iter().any(|pattern| pattern.covers(later));
        let networks = |later: &Network| self.networks.iter().any(|network| network.covers(later));
        self.protocol == later.protocol
            && later.ports.iter().all(|port| self.ports.contains(port))
            && (self.hosts.is_empty() || !later.hosts.is_empty() && later.hosts.iter().all(hosts))
            && self.networks.is_empty() == later.networks.is_empty()
            && later.networks.iter().all(networks)
    }
}

fn entry(name: &Key<'_>, value: &Value<'_>, beside: &Path) -> Result<Entry, Fault> {
    let mut entry = Entry { name: target_name(name)?, ..Entry::default() };
    let (mut default_ports, mut secrets): (&[u16], _) = (&[], None);
    for (key, value) in in_order(table(&entry.name, value)?) {
        match key.get_ref().as_ref() {
            "match" => select(&mut entry, value)?,
            "protocol" => {
                let (name, ports) = one_of("protocol", value, &PROTOCOLS.map(|protocol| (protocol.0, protocol)))?;
                name.clone_into(&mut entry.protocol);
                default_ports = ports;
            }
            // What it may say hangs on the protocol.
            "credential" => secrets = Some(value),
            "tls" => entry.tls = upstream(value, beside)?,
            "ssh" => entry.ssh = hostkey::host_keys(value)?,
            "map" => entry.database = Some(database(value)?),
            "tags" => entry.tags = texts("tags", value, word)?,
            "masks" => entry.masks = texts("masks", value, word)?,
            "mode" => {
                let modes = [("record", Mode::Record), ("shadow", Mode::Shadow), ("enforce", Mode::Enforce)];
                entry.mode = Some(one_of("mode", value, &modes)?);
            }
            other => return Err(Fault { at: key.span(), what: unknown(other, &KEYS) }),
        }
    }
    if entry.ports.is_empty() {
        entry.ports = default_ports.to_vec();
    }
    match secrets {
        Some(value) if entry.protocol == "http" => entry.injections = credential::injections(value, beside)?,
        Some(value) if entry.protocol == "ssh" => entry.credential = Some(credential::ssh_log_in(value, beside)?),
        Some(value) => entry.credential = Some(credential::log_in(value, beside)?),
        None => {}
    }
    complete(entry).map_err(|what| Fault { at: name.span(), what })
}

/// What no key can tell by itself.
fn complete(entry: Entry) -> Result<Entry, String> {
    let Entry { name, hosts, networks, protocol, tls, ssh, database, .. } = &entry;
    if hosts.is_empty() && networks.is_empty() {
        return Err(format!("[target.{name}] matches nothing: give it `match = {{ host = [...] }}` or `cidr`"));
    }
    if protocol.is_empty() {
        return Err(format!("[target.{name}] has no `protocol`: \"postgres\", \"http\" or \"ssh\""));
    }
    if protocol != "postgres" && tls.client.is_some() {
        return Err(format!("[target.{name}]: `cert` and `key` are for protocol \"postgres\" for now"));
    }
    if protocol != "postgres" && database.is_some() {
        return Err(format!("[target.{name}]: `map` is for protocol \"postgres\""));
    }
    if protocol == "ssh" && *tls != Upstream::default() {
        return Err(format!("[target.{name}]: `tls` is not for protocol \"ssh\": its host keys stand in `ssh`"));
    }
    if protocol != "ssh" && *ssh != HostKeys::default() {
        return Err(format!("[target.{name}]: `ssh` is for protocol \"ssh\""));
    }
    // Which address a name has is said by a name server that the captured process chooses.
    if ssh.trust_on_first_use && networks.is_empty() {
        return Err(format!(
            "[target.{name}]: `trust_on_first_use` needs a `cidr` in `match`: a name alone could lead to anybody"
        ));
    }
    Ok(entry)
}

/// The name goes into events and policies.
fn target_name(key: &Key<'_>) -> Result<String, Fault> {
    word(key.get_ref()).map_err(|what| Fault { at: key.span(), what: format!("[target.NAME]: {what}") })
}

/// A name that can stand in a policy and on a command line.
pub(crate) fn word(text: &str) -> Result<String, String> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if text.is_empty() || text.len() > 64 || !text.bytes().all(fits) {
        return Err(format!("\"{text}\" is no name: up to 64 letters, digits, `-`, `_` and `.`"));
    }
    Ok(text.to_owned())
}

fn select(entry: &mut Entry, value: &Value<'_>) -> Result<(), Fault> {
    for (key, value) in in_order(table("match", value)?) {
        match key.get_ref().as_ref() {
            "host" => entry.hosts = texts("host", value, HostPattern::parse)?,
            "cidr" => entry.networks = texts("cidr", value, Network::parse)?,
            "port" => entry.ports = ports("port", value)?,
            other => return Err(Fault { at: key.span(), what: unknown(other, &["host", "cidr", "port"]) }),
        }
        let empty = value.get_ref().as_array().is_some_and(|list| list.iter().next().is_none());
        if empty {
            return Err(Fault::of(value, format!("`{}` is empty: leave it out, or name something", key.get_ref())));
        }
    }
    Ok(())
}

fn upstream(value: &Value<'_>, beside: &Path) -> Result<Upstream, Fault> {
    let (mut tls, mut cert, mut private) = (Upstream::default(), None, None);
    for (key, value) in in_order(table("tls", value)?) {
        match key.get_ref().as_ref() {
            "ca" => tls.ca = Some(beside.join(text("ca", value)?)),
            "pins" => tls.pins = texts("pins", value, pin)?,
            "cert" => cert = Some(beside.join(text("cert", value)?)),
            "key" => private = Some(beside.join(text("key", value)?)),
            other => return Err(Fault { at: key.span(), what: unknown(other, &["ca", "pins", "cert", "key"]) }),
        }
    }
    tls.client = match (cert, private) {
        (Some(cert), Some(key)) => Some((cert, key)),
        (None, None) => None,
        _ => return Err(Fault::of(value, "`tls` needs both `cert` and `key`, or neither")),
    };
    Ok(tls)
}

/// SHA-256 of a certificate, as `openssl x509 -fingerprint -sha256` prints it, or without the colons.
fn pin(text: &str) -> Result<[u8; 32], String> {
    let wrong = || format!("\"{text}\" is no SHA-256 of a certificate: 64 hexadecimal digits, colons or not");
    let digits: Vec<u8> = text.bytes().filter(|byte| *byte != b':').collect();
    let mut pin = [0; 32];
    if digits.len() != 64 {
        return Err(wrong());
    }
    for (byte, pair) in pin.iter_mut().zip(digits.chunks(2)) {
        let digits = std::str::from_utf8(pair).ok().filter(|pair| pair.bytes().all(|digit| digit.is_ascii_hexdigit()));
        *byte = digits.and_then(|pair| u8::from_str_radix(pair, 16).ok()).ok_or_else(wrong)?;
    }
    Ok(pin)
}

fn database(value: &Value<'_>) -> Result<String, Fault> {
    let mut database = None;
    for (key, value) in in_order(table("map", value)?) {
        match key.get_ref().as_ref() {
            "database" => database = Some(text("database", value)?.to_owned()),
            "user" => {
                let what = "`map` has no `user`: the user to log in as stands in `credential`, without a secret if it needs none";
                return Err(Fault { at: key.span(), what: what.to_owned() });
            }
            other => return Err(Fault { at: key.span(), what: unknown(other, &["database"]) }),
        }
    }
    let database = database.filter(|name| !name.contains('\0'));
    database.ok_or_else(|| Fault::of(value, "`map` is empty: `map = { database = \"NAME\" }`, or leave it out"))
}
