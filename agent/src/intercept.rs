//! Opens the TLS of a session, or says why it passes as it is.
//!
//! Owns the order of it: the target's handshake first, then the client's with a leaf that says what the target's
//! certificate says. Never judges a certificate itself, never decodes what is inside, and never hides that a session was
//! not opened.

use std::future::poll_fn;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;

use crewtap_core::bodies::{self, Classified, Note, Tls};
use crewtap_core::limits;
use crewtap_core::run::{Mode, Process};
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
use crate::gate::Permit;
use crate::leg::{Carrier, Leg};
use crate::recorder::Unrecorded;
use crate::relay::{End, First};
use crate::session::Session;
use crate::tls::Negotiated;
use crate::tls::client::{self, Failure, Report};
use crate::tls::learned::Learned;
use crate::tls::roots::Roots;
use crate::tls::server::{self, ClientStream, EndError, Rejection};

/// Executables whose script says more than they do; their names begin so.
const INTERPRETERS: [&str; 7] = ["python", "pypy", "node", "ruby", "perl", "deno", "bun"];

/// What opening needs, for all sessions of an agent.
#[derive(Debug)]
pub struct Interceptor {
    /// Vouches for the targets towards captured processes; none where TLS is not to be opened.
    pub authority: Option<Arc<Authority>>,
    /// What the host trusts.
    pub roots: Roots,
    /// Programs that do not take our leaves.
    pub learned: Learned,
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
}

/// Why a connection is not opened.
struct Closed {
    code: &'static str,
    text: String,
    /// Somebody wanted it so; else it is to be noticed, and refused where policy is in force.
    wanted: bool,
}

impl Closed {
    fn unwanted(code: &'static str, text: impl Into<String>) -> Self {
        Self { code, text: text.into(), wanted: false }
    }
}

impl From<Unopened> for Closed {
    fn from(why: Unopened) -> Self {
        let text = match why {
            Unopened::Alpn => "the client does not offer HTTP/1.1, which is all that is opened for now",
            Unopened::Old => "the client speaks no version of TLS from 1.2 on",
            Unopened::TooLarge => "the ClientHello is too large to be understood",
            Unopened::ClientCertificate => "the target asks for a certificate that only the client has",
            Unopened::Rejected => "this program has rejected crewtap's certificate for this name before",
        };
        Self::unwanted(why.code(), text)
    }
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
    ) -> Result<Connected, End> {
        let name = hello.sni.as_deref().or_else(|| classified.name().map(|name| name.host.as_str()));
        let (authority, held) = match self.may_open(session, classified, hello, name) {
            Ok(may) => may,
            Err(closed) => return pass(session, closed, stream, target, first),
        };
        let whom = client::Target {
            name,
            address: classified.target.address.ip(),
            hello,
            anchors: self.roots.with(&self.authorities),
            own: self.roots.only(&session.run().bundles()),
        };
        // Our hello names the target to it: what was recorded since the dial must be as durable as what went before.
        session.settled().await.map_err(unrecorded)?;
        let (target, report) = match client::handshake(target, &whom).await {
            Ok((target, report)) if !report.wants_client_certificate => (target, report),
            Ok(_) => return self.pass_anew(session, permit, Unopened::ClientCertificate.into(), stream, first).await,
            Err(error) if matches!(error.reason, Failure::Timeout) => {
                return Err(End { outcome: Outcome::UpstreamTimeout, error: Some(error.to_string()) });
            }
            Err(error) => {
                let closed = if error.wants_client_certificate {
                    Unopened::ClientCertificate.into()
                } else {
                    Closed::unwanted("tls_target", error.to_string())
                };
                return self.pass_anew(session, permit, closed, stream, first).await;
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
        let (client, first) = self.first(session, client, &report, (&program, &subject)).await?;
        let proven = report.proven.then_some(Name { host: subject, proof: Proof::Certificate });
        let inside = Inside { alpn: report.negotiated.alpn.clone() };
        Ok(Connected { client: Leg::new(client), target: Leg::new(target), first, proven, opened: Some(inside) })
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
        if name.is_some_and(|name| self.pass.iter().any(|pattern| fits(pattern, name))) {
            return Err(wanted("tls_pass", "the configuration says so for this name (tls_pass)"));
        }
        let (Some(authority), Some(held)) = (&self.authority, session.run().trusted()) else {
            return Err(Closed::unwanted("tls_untrusted", "this run does not trust crewtap's authority"));
        };
        if let Some(why) = hello.unopened() {
            return Err(why.into());
        }
        let subject = name.map_or_else(|| classified.target.address.ip().to_string(), str::to_owned);
        if self.learned.is_learned(&learner(session), &subject) {
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
        stream: TcpStream,
        first: First,
    ) -> Result<Connected, End> {
        let target = session
            .dial(permit)
            .await
            .map_err(|error| End { outcome: error.outcome(), error: Some(error.to_string()) })?;
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
    ) -> Result<(ClientStream<TcpStream>, First), End> {
        let mut first = First::default();
        // Where it is HTTP, by agreement or by its port, the client speaks first, however late.
        let is_web = sniff::by_port(session.origin().destination.port()) == Some(Protocol::Tls);
        let wait = if report.negotiated.alpn.is_some() || is_web { limits::HELLO_WAIT } else { limits::PEEK_WAIT };
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

/// Lets the connection go on as it is, and says so.
fn pass(
    session: &Session,
    closed: Closed,
    stream: TcpStream,
    target: TcpStream,
    first: First,
) -> Result<Connected, End> {
    let Closed { code, text, wanted } = closed;
    let told = Tls { opened: false, why: Some(format!("{code}: {text}")), ..Tls::default() };
    session.record(told).map_err(unrecorded)?;
    if !wanted {
        note(session, code, &format!("what this session says is not on record: {text}")).map_err(unrecorded)?;
        if session.run().mode == Mode::Enforce {
            return Err(End { outcome: Outcome::Refused, error: Some(format!("TLS that cannot be opened: {text}")) });
        }
    }
    Ok(Connected { client: Leg::new(stream), target: Leg::new(target), first, proven: None, opened: None })
}

async fn read_once(stream: &mut ClientStream<TcpStream>, into: &mut Vec<u8>) -> std::io::Result<()> {
    let mut bytes = vec![0; limits::PEEK_BYTES_MAX];
    let mut buffer = ReadBuf::new(&mut bytes);
    poll_fn(|cx| Pin::new(&mut *stream).poll_read(cx, &mut buffer)).await?;
    into.extend_from_slice(buffer.filled());
    Ok(())
}

/// Who learns of a rejection: the program in this run. Another run's may trust what this one does not.
fn learner(session: &Session) -> String {
    format!("{} {}", session.run().id, program(session.process()))
}

/// What runs, as far as it tells whose roots are used: the executable, and for an interpreter also its environment and the
/// script or module.
fn program(process: &Process) -> String {
    let exe = process.exe.rsplit('/').next().unwrap_or_default();
    if !INTERPRETERS.iter().any(|interpreter| exe.starts_with(interpreter)) {
        return process.exe.clone();
    }
    let mut words = process.argv.iter();
    // A virtual environment's interpreter is a link: what it was called by tells which.
    let interpreter = words.next().filter(|word| word.starts_with('/')).unwrap_or(&process.exe);
    while let Some(word) = words.next() {
        match word.as_str() {
            "-m" => return format!("{interpreter} -m {}", words.next().map_or("", String::as_str)),
            "-c" | "-e" | "-p" | "-" => break,
            "-W" | "-X" | "-r" | "--require" | "--import" => drop(words.next()),
            option if option.starts_with('-') => {}
            script => return Path::new(&process.cwd).join(script).display().to_string(),
        }
    }
    interpreter.clone()
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

impl Carrier for TlsStream<TcpStream> {
    fn tcp(&self) -> &TcpStream {
        self.get_ref().0
    }

    fn tcp_mut(&mut self) -> &mut TcpStream {
        self.get_mut().0
    }
}

impl Carrier for ClientStream<TcpStream> {
    fn tcp(&self) -> &TcpStream {
        self.get_ref()
    }

    fn tcp_mut(&mut self) -> &mut TcpStream {
        self.get_mut()
    }
}

#[cfg(test)]
mod tests {
    use super::{Process, fits, program};

    #[test]
    fn a_program_is_its_script_where_it_has_one() {
        let of = |exe: &str, argv: &[&str]| {
            let argv = argv.iter().map(|&word| word.to_owned()).collect();
            program(&Process { exe: exe.into(), argv, cwd: "/srv/crew".into(), ..Process::default() })
        };
        let python = |argv: &[&str]| of("/usr/bin/python3.11", argv);
        assert_eq!(of("/usr/bin/curl", &["curl", "/x"]), "/usr/bin/curl");
        assert_eq!(python(&["python", "-u", "main.py", "-m", "x"]), "/srv/crew/main.py");
        assert_eq!(python(&["/v/bin/python", "-X", "dev", "/v/bin/run_crew"]), "/v/bin/run_crew");
        assert_eq!(python(&["/v/bin/python", "-m", "pip", "install"]), "/v/bin/python -m pip");
        assert_eq!(python(&["/v/bin/python", "-c", "import x", "y"]), "/v/bin/python");
        assert_eq!(python(&["python3", "-c", "import x"]), "/usr/bin/python3.11");
        assert_eq!(python(&[]), "/usr/bin/python3.11");
        assert_eq!(of("/usr/bin/node", &["node", "-r", "./a.js", "b.js"]), "/srv/crew/b.js");
    }

    #[test]
    fn patterns_are_names_or_everything_below_a_domain() {
        assert!(fits("a.example", "a.example"));
        assert!(fits("*.example", "a.example") && fits("*.example", "b.a.example"));
        assert!(!fits("*.example", "example") && !fits("*.example", "badexample") && !fits("a.example", "b.a.example"));
    }
}
