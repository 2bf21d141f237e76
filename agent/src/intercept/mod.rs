//! Opens the TLS of a session, or says why it passes as it is.
//!
//! Owns the order of it: the target's handshake first, then the client's with a leaf that says what the target's
//! certificate says. Never judges a certificate itself, never decodes what is inside, and never hides that a session was
//! not opened.

mod closed;
mod learner;

use std::future::poll_fn;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;

use crewtap_core::bodies::{self, Classified, Injected, Note, Tls};
use crewtap_core::limits;
use crewtap_core::policy::catalog::Source;
use crewtap_core::run::Mode;
use crewtap_core::session::Outcome;
use crewtap_core::sniff::{self, Protocol};
use crewtap_core::target::{Name, Proof};
use crewtap_core::view::hexadecimal;
use crewtap_core::wire::tls::{ClientHello, Unopened};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::authority::{Authority, Generation};
use crate::config::TlsMode;
use crate::dial::Prelude;
use crate::gate::Permit;
use crate::leg::{Carrier, Leg};
use crate::recorder::Unrecorded;
use crate::relay::{End, First};
use crate::session::Session;
use crate::tls::client::{self, Failure, Report};
use crate::tls::learned::Learned;
use crate::tls::roots::{Anchors, Roots};
use crate::tls::server::{self, ClientStream, EndError, Rejection};
use crate::tls::{Negotiated, Prefixed};
use crate::vault;

use self::closed::{Closed, pass};
pub use self::learner::Lesson;
use self::learner::learner;

/// What opening needs, for all sessions of an agent.
#[derive(Debug)]
pub struct Interceptor {
    /// Vouches for the targets towards captured processes; none where TLS is not to be opened.
    pub authority: Option<Arc<Authority>>,
    /// What the host trusts.
    pub roots: Roots,
    /// Programs that do not take our leaves.
    pub learned: Arc<Learned>,
    /// Whether TLS is opened.
    pub mode: TlsMode,
    /// Names that are never opened.
    pub pass: Vec<String>,
    /// Further authorities that targets are verified with.
    pub authorities: Vec<PathBuf>,
}

/// A TLS session as it goes on.
pub struct Connected {
    /// The captured process's leg.
    pub client: Leg,
    /// The target's leg.
    pub target: Leg,
    /// What the client has said; inside of TLS where that was opened.
    pub first: First,
    /// The name that the target has proven, where it has.
    pub proven: Option<Name>,
    /// What was agreed on for what is inside; none where nothing was opened.
    pub opened: Option<Inside>,
}

/// What is known of an opened connection's content before its first byte.
pub struct Inside {
    /// The application protocol that both sides agreed on.
    pub alpn: Option<String>,
    /// The target's certificate, DER.
    pub certificate: Option<Vec<u8>>,
    /// The catalog's authority that it was judged by; none where it was the others.
    pub authority: Option<PathBuf>,
    /// Where it is learned that the client does not log in through us.
    pub lesson: Lesson,
}

/// How a connection comes to TLS.
#[derive(Clone, Copy, Debug, Default)]
pub struct Way {
    /// What was said before, where it did not begin with it: a target that is dialled again is told it again.
    pub prelude: Option<Prelude>,
}

impl Interceptor {
    /// Opens a connection that begins with this hello, or passes it as it is.
    ///
    /// # Errors
    /// How the session ends, when it cannot go on.
    pub async fn open(
        &self,
        session: &Session,
        permit: &Permit,
        (stream, target): (TcpStream, TcpStream),
        (first, classified, hello): (First, &Classified, &ClientHello),
        way: Way,
    ) -> Result<Connected, End> {
        let name = hello.sni.as_deref().or_else(|| classified.name().map(|name| name.host.as_str()));
        let (authority, held) = match self.may_open(session, classified, hello, name) {
            Ok(may) => may,
            Err(closed) => return pass(session, closed, stream, target, first),
        };
        let (anchors, judged_by) = self.anchors(session, permit, classified);
        let whom = client::Target {
            name,
            address: classified.target.address.ip(),
            hello,
            anchors,
            own: self.roots.only(&session.run().bundles()),
            shown: shown(session, permit, classified).await?,
        };
        // Our hello names the target to it: what was recorded since the dial must be as durable as what went before.
        session.settled().await.map_err(unrecorded)?;
        let (target, report) = match client::handshake(Prefixed::new(Vec::new(), target), &whom).await {
            Ok((target, report)) if !report.wants_client_certificate || logs_in(session, permit, classified) => {
                (target, report)
            }
            Ok(_) => {
                return self.pass_anew(session, permit, Unopened::ClientCertificate.into(), (stream, first), way).await;
            }
            Err(error) if matches!(error.reason, Failure::Timeout) => {
                return Err(End { outcome: Outcome::UpstreamTimeout, error: Some(error.to_string()) });
            }
            Err(error) => {
                let closed = if error.wants_client_certificate {
                    Unopened::ClientCertificate.into()
                } else {
                    Closed::unwanted("tls_target", error.to_string())
                };
                return self.pass_anew(session, permit, closed, (stream, first), way).await;
            }
        };
        let program = learner(session);
        let subject = report.name.clone();
        let client = match server::end(authority, held, &report, first.bytes, stream).await {
            Ok(client) => client,
            Err(error) => return Err(self.not_taken(session, &report, &program, &error)),
        };
        let told = told(&report, Some(client.negotiated()), None);
        session.record(told).map_err(unrecorded)?;
        if report.has_seen_ours
            && let Some(found) = session.catalogued(permit, named(classified))
            && let Some((certificate, _)) = &found.entry.tls.client
        {
            let credential = format!("file:{}", certificate.display());
            let injected = Injected { target: found.entry.name.clone(), credential, user: String::new() };
            session.record(injected).map_err(unrecorded)?;
        }
        let (client, first) = self.first(session, client, &report, (&program, &subject), way).await?;
        let certificate = target.get_ref().1.peer_certificates().and_then(|chain| chain.first());
        let certificate = certificate.map(|certificate| certificate.to_vec());
        let lesson = Lesson::new(&self.learned, &program, &subject, classified.target.address);
        let inside = Inside { alpn: report.negotiated.alpn.clone(), certificate, authority: judged_by, lesson };
        let proven = report.proven.then_some(Name { host: subject, proof: Proof::Certificate });
        Ok(Connected { client: Leg::new(client), target: Leg::new(target), first, proven, opened: Some(inside) })
    }

    /// What vouches for a target: the catalog's authority for it, where it names one, else the host's and the configured ones.
    /// And that authority.
    fn anchors(&self, session: &Session, permit: &Permit, classified: &Classified) -> (Arc<Anchors>, Option<PathBuf>) {
        let found = session.catalogued(permit, named(classified));
        match found.and_then(|found| found.entry.tls.ca.as_ref()) {
            Some(authority) => (self.roots.only(std::slice::from_ref(authority)), Some(authority.clone())),
            None => (self.roots.with(&self.authorities), None),
        }
    }

    /// A client that speaks TLS, or seems to, in a way that its hello cannot be read.
    ///
    /// # Errors
    /// How the session ends, when it cannot go on.
    pub fn unread(
        &self,
        session: &Session,
        (stream, target): (TcpStream, TcpStream),
        first: First,
    ) -> Result<Connected, End> {
        let closed = match self.mode {
            TlsMode::Open => Closed::unwanted("tls_no_hello", "it begins like TLS, and no ClientHello could be read"),
            TlsMode::Pass => Closed { code: "tls_pass", text: "the configuration says so".into(), wanted: true },
        };
        pass(session, closed, stream, target, first)
    }

    /// Whether it may be tried, and with which authority.
    fn may_open(
        &self,
        session: &Session,
        classified: &Classified,
        hello: &ClientHello,
        name: Option<&str>,
    ) -> Result<(&Authority, Generation), Closed> {
        let wanted = |code, text: &str| Closed { code, text: text.into(), wanted: true };
        if self.mode == TlsMode::Pass {
            return Err(wanted("tls_pass", "the configuration says so (tls = \"pass\")"));
        }
        // A process can claim any name. What is judged does not pass unseen for it.
        let claimed = classified.name().is_none_or(|name| name.proof == Proof::Claimed);
        let trusted = !(claimed && session.mode() == Mode::Enforce);
        if trusted && name.is_some_and(|name| self.pass.iter().any(|pattern| fits(pattern, name))) {
            return Err(wanted("tls_pass", "the configuration says so for this name (tls_pass)"));
        }
        let (Some(authority), Some(held)) = (&self.authority, session.run().trusted()) else {
            return Err(Closed::unwanted("tls_untrusted", "this run does not trust crewtap's authority"));
        };
        if let Some(why) = hello.unopened() {
            return Err(why.into());
        }
        let subject = name.map_or_else(|| classified.target.address.ip().to_string(), str::to_owned);
        let program = learner(session);
        let lesson = Lesson::new(&self.learned, &program, &subject, classified.target.address);
        if self.learned.is_learned(&program, &subject) || lesson.is_learned() {
            return Err(Unopened::Rejected.into());
        }
        Ok((authority, held))
    }

    /// The target has been spoken to already: it is dialled again, for the client itself.
    async fn pass_anew(
        &self,
        session: &Session,
        permit: &Permit,
        closed: Closed,
        (stream, first): (TcpStream, First),
        way: Way,
    ) -> Result<Connected, End> {
        let mut target = session
            .dial(permit)
            .await
            .map_err(|error| End { outcome: error.outcome(), error: Some(error.to_string()) })?;
        if let Some(prelude) = way.prelude {
            let failed =
                |error: std::io::Error| End { outcome: Outcome::UpstreamReset, error: Some(error.to_string()) };
            prelude.say(&mut target).await.map_err(failed)?;
        }
        pass(session, closed, stream, target, first)
    }

    /// The client's handshake has failed.
    fn not_taken(&self, session: &Session, report: &Report, program: &str, error: &EndError) -> End {
        let (code, outcome, why) = match error {
            EndError::Rejected(rejection) => {
                ("tls_rejected", Outcome::ClientReset, self.rejected(report, program, rejection))
            }
            // Ours, not the client's.
            EndError::Leaf(error) => ("tls_authority", Outcome::Aborted, error.to_string()),
            error => ("tls_client", Outcome::ClientReset, error.to_string()),
        };
        let told = told(report, None, Some(why.clone()));
        let noted = session.record(told).and_then(|_| note(session, code, &why));
        match noted {
            Ok(()) => End { outcome, error: Some(why) },
            Err(error) => unrecorded(error),
        }
    }

    /// What a client's refusal of a leaf means, in words.
    fn rejected(&self, report: &Report, program: &str, rejection: &Rejection) -> String {
        let why = if report.validity.is_verified() { "" } else { ", as it would have refused the target's own" };
        let told = || format!("the client did not take the certificate{why}: {rejection}");
        self.learn(report, program, rejection).unwrap_or_else(told)
    }

    /// Remembers a client that does not take a leaf of a target that is valid; in words, once that has a consequence.
    fn learn(&self, report: &Report, program: &str, rejection: &Rejection) -> Option<String> {
        let is_learned = report.validity.is_verified() && self.learned.record(program, &report.name, rejection);
        let to = &report.name;
        is_learned.then(|| {
            format!(
                "the client did not take the certificate: {rejection}: in this run, connections of that program to {to} \
                 are not opened for some minutes"
            )
        })
    }

    /// The first bytes inside, where they are needed to tell what it is.
    async fn first(
        &self,
        session: &Session,
        mut client: ClientStream<TcpStream>,
        report: &Report,
        (program, subject): (&str, &str),
        way: Way,
    ) -> Result<(ClientStream<TcpStream>, First), End> {
        let mut first = First::default();
        // Where the protocol is known, by agreement or by its port, the client speaks first, however late.
        let is_web = sniff::by_port(session.origin().destination.port()) == Some(Protocol::Tls);
        let is_known = report.negotiated.alpn.is_some() || way.prelude.is_some() || is_web;
        let wait = if is_known { limits::HELLO_WAIT } else { limits::PEEK_WAIT };
        let read = tokio::time::timeout(wait, read_once(&mut client, &mut first.bytes)).await;
        match client.rejection() {
            None => {}
            // Health checks end so too, in order: the target is told, and answers in its own way.
            Some(rejection @ Rejection::ClosedAfterHandshake) => {
                if let Some(why) = self.learn(report, program, rejection) {
                    note(session, "tls_rejected", &why).map_err(unrecorded)?;
                }
            }
            Some(rejection) => {
                let why = self.rejected(report, program, rejection);
                note(session, "tls_rejected", &why).map_err(unrecorded)?;
                return Err(End { outcome: Outcome::ClientReset, error: Some(why) });
            }
        }
        if client.heard() {
            self.learned.accepted(program, subject);
        }
        if let Ok(Err(error)) = read {
            first.gone = Some(error);
        }
        Ok((client, first))
    }
}

/// Whether crewtap logs in to the target itself: then a certificate that the client could show is not missed. Servers of
/// PostgreSQL that know an authority of clients ask every client for one.
fn logs_in(session: &Session, permit: &Permit, classified: &Classified) -> bool {
    let found = session.catalogued(permit, named(classified));
    found.is_some_and(|found| found.entry.protocol == "postgres" && found.entry.credential.is_some())
}

/// The protocol that the catalog has a target under, as far as it is known before TLS is opened.
fn named(classified: &Classified) -> &'static str {
    let is_database = classified.protocol == "postgres" || classified.alpn.iter().any(|alpn| alpn == "postgresql");
    if is_database { "postgres" } else { "http" }
}

/// The certificate that the catalog has for a target, read anew.
async fn shown(session: &Session, permit: &Permit, classified: &Classified) -> Result<Option<client::Shown>, End> {
    let Some(found) = session.catalogued(permit, named(classified)) else { return Ok(None) };
    let Some((chain, key)) = found.entry.tls.client.clone() else { return Ok(None) };
    let read = move || {
        let chain = std::fs::read(&chain).map_err(|error| format!("{}: {error}", chain.display()))?;
        let key = vault::read(&Source::File(key)).map_err(|error| error.to_string())?;
        client::Shown::read(&chain, key.expose())
    };
    let read = tokio::task::spawn_blocking(read).await.unwrap_or_else(|error| Err(error.to_string()));
    match read {
        Ok(key) => Ok(Some(client::Shown { key: Arc::new(key), pins: found.entry.tls.pins.clone() })),
        Err(why) => {
            note(session, "credential_unavailable", &why).map_err(unrecorded)?;
            let error = "the certificate that the catalog has for the target cannot be had".to_owned();
            Err(End { outcome: Outcome::Aborted, error: Some(error) })
        }
    }
}

async fn read_once(stream: &mut ClientStream<TcpStream>, into: &mut Vec<u8>) -> std::io::Result<()> {
    let mut bytes = vec![0; limits::PEEK_BYTES_MAX];
    let mut buffer = ReadBuf::new(&mut bytes);
    poll_fn(|cx| Pin::new(&mut *stream).poll_read(cx, &mut buffer)).await?;
    into.extend_from_slice(buffer.filled());
    Ok(())
}

/// Whether a name fits a host name or `*.domain`.
fn fits(pattern: &str, name: &str) -> bool {
    match pattern.strip_prefix("*.") {
        Some(domain) => name.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.')),
        None => pattern == name,
    }
}

fn note(session: &Session, code: &str, text: &str) -> Result<(), Unrecorded> {
    session.record(Note { code: code.into(), text: text.into() }).map(drop)
}

#[allow(clippy::needless_pass_by_value, reason = "what map_err gives")]
fn unrecorded(error: Unrecorded) -> End {
    End { outcome: Outcome::Unrecorded, error: Some(error.to_string()) }
}

fn told(report: &Report, client: Option<&Negotiated>, why: Option<String>) -> Tls {
    Tls {
        opened: client.is_some(),
        why,
        by_process: report.validity.is_verified() && !report.proven,
        defects: report.validity.defects().iter().map(|defect| defect.code().to_owned()).collect(),
        server_name: Some(report.name.clone()),
        certificate_sha256: Some(hexadecimal(&report.certificate_sha256)),
        client: client.map(negotiated),
        target: Some(negotiated(&report.negotiated)),
    }
}

fn negotiated(agreed: &Negotiated) -> bodies::Negotiated {
    bodies::Negotiated {
        version: agreed.version.clone(),
        cipher: agreed.cipher_suite.clone(),
        group: agreed.group.clone(),
        alpn: agreed.alpn.clone(),
    }
}

impl Carrier for TlsStream<Prefixed<TcpStream>> {
    fn tcp(&self) -> &TcpStream {
        self.get_ref().0.get_ref()
    }

    fn tcp_mut(&mut self) -> &mut TcpStream {
        self.get_mut().0.get_mut()
    }

    fn comes_in_records(&self) -> bool {
        true
    }
}

impl Carrier for ClientStream<TcpStream> {
    fn tcp(&self) -> &TcpStream {
        self.get_ref()
    }

    fn tcp_mut(&mut self) -> &mut TcpStream {
        self.get_mut()
    }

    fn comes_in_records(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::fits;

    #[test]
    fn patterns_are_names_or_everything_below_a_domain() {
        assert!(fits("a.example", "a.example"));
        assert!(fits("*.example", "a.example") && fits("*.example", "b.a.example"));
        assert!(!fits("*.example", "example") && !fits("*.example", "badexample") && !fits("a.example", "b.a.example"));
    }
}
