//! The servers' own account of the connections that they accepted, read from their logs: the other side of every
//! session that crewtap claims to have recorded.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use anyhow::{Context, Result};

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
    /// `pypi.org:443` and others
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
}

/// Reads all logs, in the order of the servers and of time within each.
pub(super) fn read(directory: &Path) -> Result<Vec<Accepted>> {
    let mut all = scripted(&log(directory, "accepted.jsonl")?)?;
    let postgres = log(directory, "postgres.log")?;
    all.extend(postgres.lines().filter_map(postgres_peer).map(|peer| Accepted { server: Server::Postgres, peer }));
    let ssh = log(directory, "sshd.log")?;
    all.extend(ssh.lines().filter_map(ssh_peer).map(|peer| Accepted { server: Server::Ssh, peer }));
    Ok(all)
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
            let line: serde_json::Value = serde_json::from_str(line).context("a line of the servers' log is no JSON")?;
            let server = match line.get("server").and_then(serde_json::Value::as_str).unwrap_or_default() {
                "dns" => Server::Dns,
                "openai" => Server::OpenAi,
                "telemetry" => Server::Telemetry,
                "api" => Server::Api,
                "api-tls" => Server::ApiTls,
                _ => Server::Elsewhere,
            };
            let peer = line.get("peer").and_then(serde_json::Value::as_str).unwrap_or_default();
            Ok(Accepted { server, peer: peer.parse().with_context(|| format!("not an address: {peer}"))? })
        })
        .collect()
}

/// `... LOG:  connection received: host=10.77.0.1 port=50404`; unix sockets have no port.
fn postgres_peer(line: &str) -> Option<SocketAddr> {
    let (_, found) = line.split_once("connection received: host=")?;
    let (host, port) = found.split_once(" port=")?;
    Some(SocketAddr::new(host.parse::<IpAddr>().ok()?, port.trim().parse().ok()?))
}

/// `Connection from 10.77.0.1 port 50404 on 10.77.0.40 port 22 rdomain ""`
fn ssh_peer(line: &str) -> Option<SocketAddr> {
    let (_, found) = line.split_once("Connection from ")?;
    let mut words = found.split(' ');
    let host = words.next()?.parse::<IpAddr>().ok()?;
    let port = words.nth(1)?.parse().ok()?;
    Some(SocketAddr::new(host, port))
}
