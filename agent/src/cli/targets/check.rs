//! `crewtap targets check`: each target that has an address is dialled, verified, and logged in to.
//!
//! Dials from the host's own network, as the agent would for a process there. Never shows a secret.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crewtap_core::policy::catalog::{Catalog, Channel, Entry, Found, HostPattern, Network};
use crewtap_core::secret::Secret;
use crewtap_core::target::{Name, Proof};
use crewtap_core::wire::postgres::reply;
use crewtap_core::wire::postgres::startup::{SSL_REQUEST, Startup};
use crewtap_core::wire::tls::{ClientHello, TLS_1_2, TLS_1_3};
use serde::Serialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::cli::screen::{Screen, ViewArgs};
use crate::cli::table::{Align, Table};
use crate::config::Config;
use crate::leg::Leg;
use crate::proto::postgres::authenticate::{Answer, Login, authenticate};
use crate::tls::Prefixed;
use crate::tls::client::{self, Report};
use crate::tls::roots::{Anchors, Roots};
use crate::vault;

/// How long a target may take to answer a connect.
const WAIT: Duration = Duration::from_secs(10);

/// What was found at one place of a target.
#[derive(Debug, Default, Serialize)]
struct Row {
    target: String,
    protocol: String,
    /// Name and address that were dialled; empty where there is none to dial.
    place: String,
    /// How it is known that it is the target.
    tls: String,
    secret: String,
    login: String,
    /// What is wrong; empty where nothing is.
    problem: String,
}

/// One end to dial.
struct Place {
    host: Option<String>,
    address: SocketAddr,
}

/// Checks all targets, or one; whether nothing is wrong.
pub(super) fn run(config: &Config, catalog: &Catalog, name: Option<&str>, view: &ViewArgs) -> anyhow::Result<bool> {
    let chosen: Vec<&Entry> =
        catalog.entries().iter().filter(|entry| name.is_none_or(|name| name == entry.name)).collect();
    anyhow::ensure!(
        !chosen.is_empty(),
        match name {
            Some(name) => format!("the catalog has no target `{name}`: `crewtap targets list` names them"),
            None => "there is no catalog, or it is empty: name one with `targets = FILE` in crewtap.toml".to_owned(),
        }
    );
    let roots = Roots::default();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut rows = Vec::new();
    for entry in chosen {
        let anchors = match &entry.tls.ca {
            Some(ca) => roots.only(std::slice::from_ref(ca)),
            None => roots.with(&config.tls_authorities),
        };
        let checker = Checker { catalog, entry, anchors };
        rows.extend(runtime.block_on(checker.rows()));
    }
    print(&rows, view)?;
    Ok(rows.iter().all(|row| row.problem.is_empty()))
}

fn print(rows: &[Row], view: &ViewArgs) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    let mut screen = Screen::new(&mut out, view);
    let mut table = Table::new(&[
        ("TARGET", Align::Left),
        ("PLACE", Align::Left),
        ("TLS", Align::Left),
        ("SECRET", Align::Left),
        ("LOG-IN", Align::Left),
        ("PROBLEM", Align::Left),
    ]);
    for row in rows {
        if view.json {
            screen.json(row)?;
            continue;
        }
        let Row { target, place, tls, secret, login, problem, .. } = row;
        table.row([target, place, tls, secret, login, problem].map(String::clone));
    }
    if !view.json {
        table.print(&mut screen)?;
    }
    Ok(())
}

/// Checks one entry.
struct Checker<'c> {
    catalog: &'c Catalog,
    entry: &'c Entry,
    anchors: Arc<Anchors>,
}

impl Checker<'_> {
    async fn rows(&self) -> Vec<Row> {
        let (secret, secrets, broken) = self.secrets();
        let (places, nowhere) = self.places();
        let row =
            Row { target: self.entry.name.clone(), protocol: self.entry.protocol.clone(), secret, ..Row::default() };
        let row = |problem: &[&str]| {
            let problem: Vec<&str> = problem.iter().filter(|text| !text.is_empty()).copied().collect();
            Row {
                problem: problem.join("; "),
                target: row.target.clone(),
                protocol: row.protocol.clone(),
                secret: row.secret.clone(),
                ..Row::default()
            }
        };
        if places.is_empty() {
            let tls = "not dialled: the catalog names no single address".to_owned();
            return vec![Row {
                tls: if nowhere.is_empty() { tls } else { String::new() },
                ..row(&[&broken, &nowhere])
            }];
        }
        let mut rows = Vec::new();
        for place in places {
            let mut row = Row { place: place.label(), ..row(&[&broken]) };
            if let Err(problem) = self.check(&place, &secrets, &mut row).await {
                row.problem = if row.problem.is_empty() { problem } else { format!("{}; {problem}", row.problem) };
            }
            rows.push(row);
        }
        if !nowhere.is_empty() {
            rows.push(row(&[&nowhere]));
        }
        rows
    }

    /// Reads every secret of the entry: what is said of them, they themselves, and what is wrong.
    fn secrets(&self) -> (String, Vec<Secret>, String) {
        let (mut told, mut secrets, mut broken) = (Vec::new(), Vec::new(), Vec::new());
        for source in self.entry.sources() {
            match vault::read(source) {
                Ok(secret) => {
                    told.push(format!("{source} read"));
                    secrets.push(secret);
                }
                Err(error) => broken.push(error.to_string()),
            }
        }
        (told.join(", "), secrets, broken.join("; "))
    }

    /// Where the entry leads, as far as it names single addresses; and names that lead nowhere.
    fn places(&self) -> (Vec<Place>, String) {
        let (mut places, mut nowhere) = (Vec::new(), Vec::new());
        let allowed = |ip: IpAddr| {
            self.entry.networks.is_empty()
                || self.entry.networks.iter().any(|network| network.contains(ip.to_canonical()))
        };
        for port in &self.entry.ports {
            for host in &self.entry.hosts {
                let HostPattern::Exactly(host) = host else { continue };
                let found: BTreeSet<IpAddr> = match (host.as_str(), *port).to_socket_addrs() {
                    Ok(found) => found.map(|address| address.ip()).collect(),
                    Err(error) => {
                        nowhere.push(format!("{host} has no address: {error}"));
                        continue;
                    }
                };
                if !found.iter().any(|ip| allowed(*ip)) {
                    nowhere.push(format!("{host} has no address in the cidr of [target.{}]", self.entry.name));
                }
                let found = found.into_iter().filter(|ip| allowed(*ip));
                places.extend(found.map(|ip| Place { host: Some(host.clone()), address: (ip, *port).into() }));
            }
            if self.entry.hosts.is_empty() {
                let single = self.entry.networks.iter().filter_map(Network::single);
                places.extend(single.map(|ip| Place { host: None, address: (ip, *port).into() }));
            }
        }
        nowhere.dedup();
        (places, nowhere.join("; "))
    }

    async fn check(&self, place: &Place, secrets: &[Secret], row: &mut Row) -> Result<(), String> {
        let stream = tokio::time::timeout(WAIT, TcpStream::connect(place.address)).await;
        let mut stream = stream.map_err(|_| "it does not answer".to_owned())?.map_err(|error| error.to_string())?;
        if self.entry.protocol == "ssh" {
            row.tls = "none; its host key is judged when a session comes".into();
            return Ok(());
        }
        let asks_tls = if self.entry.protocol == "postgres" {
            asks_tls(&mut stream).await.map_err(|error| error.to_string())?
        } else {
            place.address.port() != 80
        };
        if !asks_tls {
            row.tls = "none".into();
            let name = place.host.clone().map(|host| Name { host, proof: Proof::Dns });
            let found = self.found(place, name.as_ref())?;
            return self.log_in(&found, Channel::Clear, Leg::new(stream), secrets, row).await;
        }
        let hello = ClientHello {
            sni: place.host.clone(),
            versions: vec![TLS_1_3, TLS_1_2],
            alpn: if self.entry.protocol == "http" { vec!["http/1.1".into()] } else { Vec::new() },
            ..ClientHello::default()
        };
        let (name, own) = (place.host.as_deref(), Arc::default());
        let address = place.address.ip();
        let target =
            client::Target { name, address, hello: &hello, anchors: self.anchors.clone(), own, shown: self.shown()? };
        let (stream, report) = match client::handshake(Prefixed::new(Vec::new(), stream), &target).await {
            Ok(opened) => opened,
            // A web server on a port of its own may speak in clear.
            Err(error) if self.entry.protocol == "http" && place.address.port() != 443 => {
                row.tls = format!("none ({error})");
                let name = place.host.clone().map(|host| Name { host, proof: Proof::Dns });
                return self
                    .found(place, name.as_ref())?
                    .may_send_on(Channel::Clear)
                    .map_err(|error| error.to_string());
            }
            Err(error) => return Err(error.to_string()),
        };
        row.tls = told(&report);
        let certificate = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
        let certificate = certificate.map(|certificate| certificate.to_vec()).unwrap_or_default();
        let authority: Option<&Path> = self.entry.tls.ca.as_deref();
        let channel = Channel::Tls { certificate: &certificate, verified: report.proven, authority };
        let proof = if report.proven { Proof::Certificate } else { Proof::Dns };
        let name = place.host.clone().map(|host| Name { host, proof });
        let found = self.found(place, name.as_ref())?;
        self.log_in(&found, channel, Leg::new(stream), secrets, row).await
    }

    /// The entry that a connection to the place would be taken for, which must be this one.
    fn found<'f>(&'f self, place: &Place, name: Option<&'f Name>) -> Result<Found<'f>, String> {
        match self.catalog.find(place.address, name, &self.entry.protocol) {
            Some(found) if found.entry.name == self.entry.name => Ok(found),
            Some(found) => Err(format!("a connection to it is taken for [target.{}]", found.entry.name)),
            None => Err("a connection to it matches no target".into()),
        }
    }

    async fn log_in(
        &self,
        found: &Found<'_>,
        channel: Channel<'_>,
        leg: Leg,
        secrets: &[Secret],
        row: &mut Row,
    ) -> Result<(), String> {
        if !self.entry.injections.is_empty() {
            return found.may_send_on(channel).map_err(|error| error.to_string());
        }
        let Some(credential) = &self.entry.credential else { return Ok(()) };
        found.may_lease_on(channel).map_err(|error| error.to_string())?;
        if credential.secret.is_some() && secrets.is_empty() {
            return Ok(());
        }
        let database = self.entry.database.as_deref().unwrap_or(&credential.user);
        let setting = |name: &'static str, value: &str| (name.as_bytes().into(), value.as_bytes().to_vec().into());
        let settings = vec![
            setting("user", &credential.user),
            setting("database", database),
            setting("application_name", "crewtap targets check"),
        ];
        let packet = Startup { version: 3 << 16, settings }.build().map_err(|error| error.to_string())?;
        write(&leg, &packet).await?;
        let certificate = if let Channel::Tls { certificate, .. } = channel { Some(certificate) } else { None };
        let readable = found.has_proven_itself(channel);
        let login = Login { user: &credential.user, password: secrets.first(), certificate, readable };
        match authenticate(&leg, &login, None).await.map_err(|error| error.to_string())? {
            Answer::Admitted { method, .. } => row.login = format!("{} ({method})", credential.user),
            Answer::Refused(error) => return Err(format!("the target refuses {}: {}", credential.user, words(&error))),
        }
        write(&leg, &reply::terminate()).await
    }

    fn shown(&self) -> Result<Option<client::Shown>, String> {
        let Some((chain, key)) = &self.entry.tls.client else { return Ok(None) };
        let chain = std::fs::read(chain).map_err(|error| format!("{}: {error}", chain.display()))?;
        let key = vault::read(&crewtap_core::policy::catalog::Source::File(key.clone()));
        let key = client::Shown::read(&chain, key.map_err(|error| error.to_string())?.expose())?;
        Ok(Some(client::Shown { key: Arc::new(key), pins: self.entry.tls.pins.clone() }))
    }
}

impl Place {
    fn label(&self) -> String {
        match &self.host {
            Some(host) => format!("{host} {}", self.address),
            None => self.address.to_string(),
        }
    }
}

fn told(report: &Report) -> String {
    let version = &report.negotiated.version;
    if report.proven {
        return format!("verified ({version})");
    }
    let defects: Vec<&str> = report.validity.defects().iter().map(crate::tls::validity::Defect::code).collect();
    format!("not verified: {} ({version})", defects.join(", "))
}

/// Whether a `PostgreSQL` server turns to TLS.
async fn asks_tls(stream: &mut TcpStream) -> std::io::Result<bool> {
    stream.write_all(&SSL_REQUEST).await?;
    let letter = tokio::time::timeout(WAIT, stream.read_u8()).await;
    letter.map_err(|_| std::io::Error::other("it does not answer")).flatten().map(|letter| letter == b'S')
}

async fn write(leg: &Leg, bytes: &[u8]) -> Result<(), String> {
    let mut rest = bytes;
    while !rest.is_empty() {
        let written = leg.write(rest).await.map_err(|error| error.to_string())?;
        rest = rest.get(written..).unwrap_or_default();
    }
    leg.flush().await.map_err(|error| error.to_string())
}

/// The message of an `ErrorResponse`.
fn words(error: &[u8]) -> String {
    let fields = error.get(5..).unwrap_or_default().split(|byte| *byte == 0);
    let message = fields.filter_map(|field| field.split_first()).find(|(kind, _)| **kind == b'M');
    message.map_or_else(|| "no reason given".to_owned(), |(_, text)| String::from_utf8_lossy(text).into_owned())
}
