//! The servers' own account of the connections that they accepted, read from their logs: the other side of every
//! session that crewtap claims to have recorded.

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use anyhow::{Context, Result, ensure};

use super::NAMES;

/// Which server accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Server {
    /// The name server, over TCP.
    Dns,
    /// `api.openai.com:443`
    OpenAi,
    /// `telemetry.crewai.com:4319`
    Telemetry,
    /// `api.internal:80`
    Api,
    /// `api.internal:443`
    ApiTls,
    /// `app.crewai.com:443` and others
    Elsewhere,
    /// `pg.internal:5432`
    Postgres,
    /// `ssh.internal:22`
    Ssh,
}

/// One accepted TCP connection.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Accepted {
    /// Who accepted it.
    pub server: Server,
    /// The client's address, as the server saw it.
    pub peer: SocketAddr,
    /// The server's own, which the client asked for.
    pub local: SocketAddr,
}

/// Reads all logs, in the order of the servers and of time within each.
pub(super) fn read(directory: &Path) -> Result<Vec<Accepted>> {
    let mut all = scripted(&log(directory, "accepted.jsonl")?)?;
    all.extend(log(directory, "postgres.log")?.lines().filter_map(postgres));
    all.extend(log(directory, "sshd.log")?.lines().filter_map(ssh));
    Ok(all)
}

/// Outcomes of sessions that no server has accepted.
const NEVER_REACHED: &[&str] = &["refused", "upstream_refused", "upstream_timeout", "upstream_unreachable"];

/// Compares what `crewtap show RUN --json` prints with the servers' own accounts: no session more and no session less, at
/// each address. Returns how many there are.
pub(super) fn compare(shown: &str, accepted: &[Accepted]) -> Result<usize> {
    let mut difference: BTreeMap<SocketAddr, i64> = BTreeMap::new();
    let mut sessions = 0;
    for line in shown.lines() {
        let row: serde_json::Value =
            serde_json::from_str(line).context("`crewtap show --json` prints no JSON Lines")?;
        let text = |key| row.get(key).and_then(serde_json::Value::as_str).unwrap_or_default();
        let reached = !NEVER_REACHED.contains(&text("outcome"));
        if text("table") == "sessions" && reached {
            let address = text("address").parse().with_context(|| format!("a session without its address: {line}"))?;
            *difference.entry(address).or_default() += 1;
            sessions += 1;
        }
    }
    for connection in accepted.iter().filter(|connection| connection.server != Server::Dns) {
        *difference.entry(connection.local).or_default() -= 1;
    }
    difference.retain(|_, count| *count != 0);
    ensure!(difference.is_empty(), "recorded sessions less accepted connections, by address: {difference:?}");
    Ok(sessions)
}

/// The file's lines that are complete; a server writes its log only when it has something to say.
fn log(directory: &Path, name: &str) -> Result<String> {
    match fs::read_to_string(directory.join(name)) {
        Ok(text) => Ok(text),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
        Err(error) => Err(error).with_context(|| format!("cannot read the log {name}")),
    }
}

fn scripted(text: &str) -> Result<Vec<Accepted>> {
    text.lines()
        .map(|line| {
            let line: serde_json::Value =
                serde_json::from_str(line).context("a line of the servers' log is no JSON")?;
            let server = match line.get("server").and_then(serde_json::Value::as_str).unwrap_or_default() {
                "dns" => Server::Dns,
                "openai" => Server::OpenAi,
                "telemetry" => Server::Telemetry,
                "api" => Server::Api,
                "api-tls" => Server::ApiTls,
                _ => Server::Elsewhere,
            };
            let address = |key| {
                let text = line.get(key).and_then(serde_json::Value::as_str).unwrap_or_default();
                text.parse::<SocketAddr>().with_context(|| format!("not an address: {text}"))
            };
            Ok(Accepted { server, peer: address("peer")?, local: address("local")? })
        })
        .collect()
}

/// `... LOG:  connection received: host=10.77.0.1 port=50404`; unix sockets have no port. Its own address it does not say:
/// it has one of each family.
fn postgres(line: &str) -> Option<Accepted> {
    let (_, found) = line.split_once("connection received: host=")?;
    let (host, port) = found.split_once(" port=")?;
    let peer = SocketAddr::new(host.parse::<IpAddr>().ok()?, port.trim().parse().ok()?);
    let (_, own) = NAMES.iter().find(|(name, _)| *name == "pg.internal")?;
    let local =
        own.iter().filter_map(|address| address.parse::<IpAddr>().ok()).find(|a| a.is_ipv4() == peer.is_ipv4())?;
    Some(Accepted { server: Server::Postgres, peer, local: SocketAddr::new(local, 5432) })
}

/// `Connection from 10.77.0.1 port 50404 on 10.77.0.40 port 22 rdomain ""`
fn ssh(line: &str) -> Option<Accepted> {
    let (_, found) = line.split_once("Connection from ")?;
    let (peer, rest) = found.split_once(" on ")?;
    let words: Vec<&str> = rest.split(' ').take(3).collect();
    Some(Accepted { server: Server::Ssh, peer: host_and_port(peer)?, local: host_and_port(&words.join(" "))? })
}

/// `10.77.0.1 port 50404`
fn host_and_port(text: &str) -> Option<SocketAddr> {
    let (host, port) = text.split_once(" port ")?;
    Some(SocketAddr::new(host.parse::<IpAddr>().ok()?, port.parse().ok()?))
}
