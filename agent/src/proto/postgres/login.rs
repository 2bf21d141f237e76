//! From the first packet to `AuthenticationOk`: the client's log-in, and ours to the target.
//!
//! Owns the choice of how the target is logged in to: what the target asks for is passed on wherever the client's own answer
//! works through us. It does not where the target binds SCRAM to its TLS (`SCRAM-SHA-256-PLUS`): then the client is asked for
//! its password, which is used once and forgotten. Never records a password, and never lets a client in before its target has.

use std::borrow::Cow;
use std::io;

use crewtap_core::action::{Fact, Facts};
use crewtap_core::bodies::{Chunk, Note, Request, Response};
use crewtap_core::event::Body;
use crewtap_core::limits::FACT_TEXT_MAX;
use crewtap_core::mask::stream::Redactor;
use crewtap_core::run::Mode;
use crewtap_core::secret::Secret;
use crewtap_core::session::{Outcome, Side};
use crewtap_core::sniff::Protocol;
use crewtap_core::target::Target;
use crewtap_core::wire::postgres::MEDIA_TYPE;
use crewtap_core::wire::postgres::frame::HEADER_BYTES;
use crewtap_core::wire::postgres::message::{Authentication, Report, password};
use crewtap_core::wire::postgres::reply::{self, Complaint};
use crewtap_core::wire::postgres::startup::Startup;
use postgres_protocol::authentication::sasl::SCRAM_SHA_256_PLUS;

use super::authenticate::{Answer, Login as UpstreamLogin, LoginError, authenticate};
use super::peer::Peer;
use super::settings;
use super::told::{Described, part};
use crate::gate::Passage;
use crate::lease::{Lease, LeaseError};
use crate::leg::Leg;
use crate::proto::Opened;
use crate::recorder::{Told, Unrecorded};
use crate::relay::{End, First};
use crate::session::Session;

/// The log-in is the session's first exchange.
pub(super) const EXCHANGE: u32 = 1;

/// Longest `application_name` (NAMEDATALEN less its NUL), in bytes.
const APPLICATION_NAME_MAX: usize = 63;

/// A client that is in.
pub(super) struct LoggedIn {
    /// What both sides have said behind the log-in.
    pub(super) client: First,
    pub(super) target: First,
    /// What the client calls itself; the target knows it with the session's id behind.
    pub(super) application_name: Vec<u8>,
    /// It asks for the replication protocol.
    pub(super) replicates: bool,
    /// Who is in, for every exchange.
    pub(super) facts: Facts,
}

/// Puts a log-in on record.
pub(super) struct Account<'s> {
    session: &'s Session,
    redactor: Redactor,
    offsets: [u64; 2],
    /// User and database.
    facts: Facts,
}

impl<'s> Account<'s> {
    pub(super) fn new(session: &'s Session) -> Self {
        let redactor = Redactor::new(Some(Protocol::Postgres), Side::Client, session.digest_key());
        Self { session, redactor, offsets: [0; 2], facts: Facts::new() }
    }

    /// The client's packet with which it begins; `startup` is what the target will read in its place.
    fn begin(&mut self, packet: &[u8], asked: &Startup<'_>, startup: &Startup<'_>) -> Result<(), Unrecorded> {
        let (user, database) = whom(startup);
        let known = [("user", user.clone()), ("database", database.clone())];
        self.facts = known.into_iter().map(|(name, value)| (name.to_owned(), Fact::Text(value))).collect();
        let mut facts = self.facts.clone();
        let (claimed, of) = whom(asked);
        if (&claimed, &of) != (&user, &database) {
            facts.insert("asked".into(), Fact::Text(format!("{claimed} to {of}")));
        }
        settings::all(asked).and_then(|all| facts.insert("settings".into(), all));
        // What policy is asked of it, or would be: so that it can be judged again where nobody was asked.
        if let Some((action, _)) = settings::action(startup, &Facts::new()) {
            facts.extend(action.facts);
        }
        let shown = self.redactor.feed(packet);
        let request = Request {
            verb: "LOGIN".into(),
            subject: format!("{user} to {database}"),
            facts,
            parts: vec![part("application/octet-stream".into(), shown.len())],
            ..Request::default()
        };
        let told = Told { exchange: Some(EXCHANGE), body: request.into(), payload: shown };
        self.session.record_burst(Side::Client, packet.len(), vec![told]).map(drop)
    }

    fn said(&mut self, side: Side, bytes: &[u8]) -> Result<(), Unrecorded> {
        let [up, down] = &mut self.offsets;
        let offset = if side == Side::Client { up } else { down };
        let media_type = Some(MEDIA_TYPE.into());
        let chunk = Chunk { part: Some("login".into()), media_type, ..Chunk::new(side, *offset) };
        *offset += bytes.len() as u64;
        let payload = if side == Side::Client { self.redactor.feed(bytes) } else { shown(bytes) };
        let told = Told { exchange: Some(EXCHANGE), body: chunk.into(), payload };
        self.session.record_burst(side, bytes.len(), vec![told]).map(drop)
    }

    /// What came of it; with what was redacted.
    fn end(&mut self, response: Response) -> Result<(), Unrecorded> {
        self.redactor.finish();
        let masked = self.redactor.masked().map(Body::from);
        let told = masked.into_iter().chain([response.into()]);
        let told = told.map(|body| Told { exchange: Some(EXCHANGE), body, payload: Cow::Borrowed(b"") }).collect();
        self.session.record_burst(Side::Server, 0, told).map(drop)
    }
}

/// One log-in.
pub(super) struct Login<'l> {
    pub(super) session: &'l Session,
    pub(super) tls: Option<&'l Opened>,
    /// The client's first packet, and what it says.
    pub(super) packet: &'l [u8],
    pub(super) startup: Startup<'l>,
    pub(super) client: Peer<'l>,
    pub(super) target: Peer<'l>,
    pub(super) account: Account<'l>,
    /// The target's leg itself.
    pub(super) leg: &'l Leg,
    /// What the catalog gives for the target; none where the client's own log-in passes.
    pub(super) lease: Option<Lease>,
    /// The database that the catalog asks for.
    pub(super) database: Option<String>,
    /// The target as the catalog's entry found it has proven that it is that entry's.
    pub(super) is_proven: bool,
    /// Where it leads.
    pub(super) aim: &'l Target,
}

impl<'l> Login<'l> {
    /// Logs the client in: with the catalog's credential, or with its own words.
    ///
    /// # Errors
    /// How the session ends, when it cannot go on.
    pub(super) async fn log_in(mut self) -> Result<LoggedIn, End> {
        let startup = self.mapped();
        self.account.begin(self.packet, &self.startup, &startup).map_err(|error| unrecorded(&error))?;
        let application_name = self.startup.get("application_name").unwrap_or_default().to_vec();
        let facts = self.account.facts.clone();
        let forwarded = match startup.build() {
            Ok(packet) => packet,
            // One that has no room for the session's id goes as it is, where nothing else is changed in it.
            Err(_) if self.lease.is_none() && self.database.is_none() => self.packet.to_vec(),
            Err(error) => return Err(self.refuse("08P01", &error.to_string()).await),
        };
        let replicates = startup.get("replication").is_some_and(|value| !is_false(value));
        if replicates && self.session.mode() == Mode::Enforce {
            return Err(self.refuse("42501", "the replication protocol cannot be judged, and is refused").await);
        }
        self.ask(&startup, &facts).await?;
        let user = startup.get("user").unwrap_or_default().to_vec();
        self.session.settled().await.map_err(|error| unrecorded(&error))?;
        self.target.send(&forwarded).await.map_err(|error| from(Side::Server, &error))?;
        let method = match self.lease.take() {
            Some(lease) => self.with_lease(&lease).await?,
            None => self.answer(&user).await?,
        };
        let told = Facts::from([("method".to_owned(), Fact::Text(method.into()))]);
        let response = Response {
            outcome: "success".into(),
            facts: told,
            parts: vec![part(MEDIA_TYPE.into(), 0)],
            ..Response::default()
        };
        self.account.end(response).map_err(|error| unrecorded(&error))?;
        if let Some(tls) = self.tls {
            tls.lesson.accepted();
        }
        let Self { client, target, .. } = self;
        Ok(LoggedIn { client: client.into_said(), target: target.into_said(), application_name, replicates, facts })
    }

    /// What the target reads: with the catalog's user and database, where it has them, and the session's id.
    fn mapped(&self) -> Startup<'l> {
        let mut startup = self.startup.clone();
        let application_name = startup.get("application_name").unwrap_or_default().to_vec();
        startup.set("application_name", tagged(&application_name, self.session));
        if let Some(database) = &self.database {
            startup.set("database", database.clone().into_bytes());
        } else if let (Some(_), None, Some(user)) = (&self.lease, startup.get("database"), startup.get("user")) {
            // A database that is not named is that of the user's name, and the user becomes another one.
            let user = user.to_vec();
            startup.set("database", user);
        }
        if let Some(lease) = &self.lease {
            startup.set("user", lease.user().as_bytes().to_vec());
        }
        startup
    }

    /// Asks for what the packet sets.
    async fn ask(&mut self, startup: &Startup<'_>, facts: &Facts) -> Result<(), End> {
        if self.session.is_open(self.aim) {
            return Ok(());
        }
        let Some((action, sql)) = settings::action(startup, facts) else { return Ok(()) };
        let content = sql.map(|sql| Described::content(sql.as_bytes(), b"", None));
        let decision = self.session.ask(Some(EXCHANGE), action, self.aim, content.as_ref());
        let decision = decision.map_err(|error| unrecorded(&error))?;
        let may = match decision.passage {
            Passage::Open(_) => true,
            Passage::Closed => false,
            Passage::Held(held) => tokio::select! {
                permit = held.answer() => permit.is_ok(),
                () = self.client.gone() => return Err(self.left(Side::Client)),
            },
        };
        if may { Ok(()) } else { Err(self.refuse("42501", "refused by policy: what the log-in sets").await) }
    }

    /// The catalog has a credential for the target that cannot be used: why is on record, and nothing for the client's eyes.
    pub(super) async fn withheld(mut self, error: &LeaseError) -> End {
        if let Err(error) = self.account.begin(self.packet, &self.startup, &self.startup) {
            return unrecorded(&error);
        }
        let why = match error {
            LeaseError::Unrecorded(error) => return unrecorded(error),
            LeaseError::Withheld(_) => "the target has not proven that it is the one whose credential is kept here",
            LeaseError::Vault(_) => "the credential of the target cannot be had",
        };
        let id = self.session.id();
        self.refuse("28000", &format!("{why}; `crewtap show {id}` says more")).await
    }

    /// Deals with what the target asks for, until the client is in; how it was done.
    async fn answer(&mut self, user: &[u8]) -> Result<&'static str, End> {
        let mut method = "trust";
        loop {
            let message = tokio::select! {
                message = self.target.message() => message.map(|message| message.map(<[u8]>::to_vec)),
                () = self.client.gone() => return Err(self.left(Side::Client)),
            };
            let Some(message) = message.map_err(|error| from(Side::Server, &error))? else {
                return Err(self.left(Side::Server));
            };
            let (tag, body) = (message.first().copied().unwrap_or_default(), message.get(5..).unwrap_or_default());
            self.account.said(Side::Server, &message).map_err(|error| unrecorded(&error))?;
            self.target.took(message.len());
            let asked = match tag {
                b'R' => Authentication::read(body).map_err(|error| protocol(&error.to_string()))?,
                b'E' => return Err(self.failed(&message, body).await),
                // Notices, and what a server of an older version has to say of the client's.
                _ => {
                    self.tell(&message).await?;
                    continue;
                }
            };
            let waits = match asked {
                Authentication::Ok => {
                    self.tell(&message).await?;
                    return Ok(method);
                }
                Authentication::Sasl(mechanisms) if mechanisms.has(SCRAM_SHA_256_PLUS) && self.tls.is_some() => {
                    method = self.with_password(user, message).await?;
                    self.tell(&reply::authentication_ok()).await?;
                    return Ok(method);
                }
                Authentication::SaslFinal(_) => false,
                Authentication::CleartextPassword => known(&mut method, "password"),
                Authentication::Md5Password { .. } => known(&mut method, "md5"),
                Authentication::Sasl(_) => known(&mut method, "sasl"),
                Authentication::SaslContinue(_) => true,
                Authentication::Gss | Authentication::GssContinue(_) => known(&mut method, "gss"),
                Authentication::Sspi => known(&mut method, "sspi"),
                Authentication::Other(_) => known(&mut method, "other"),
            };
            self.tell(&message).await?;
            if waits {
                self.pass_answer().await?;
            }
        }
    }

    /// The target binds SCRAM to its TLS: the client tells its password, and we log in with it.
    async fn with_password(&mut self, user: &[u8], asked: Vec<u8>) -> Result<&'static str, End> {
        self.tell(&reply::authentication_cleartext_password()).await?;
        let answer = tokio::select! {
            answer = self.client.message() => answer.map(|answer| answer.map(<[u8]>::to_vec).map(Secret::new)),
            () = self.target.gone() => return Err(self.left(Side::Server)),
        };
        let Some(answer) = answer.map_err(|error| from(Side::Client, &error))? else {
            return Err(self.refused_to_tell());
        };
        let answer = answer.expose();
        self.account.said(Side::Client, answer).map_err(|error| unrecorded(&error))?;
        self.client.took(answer.len());
        let Ok(secret) = password(answer.get(HEADER_BYTES..).unwrap_or_default()) else {
            return Err(self.refuse("08P01", "a password was expected").await);
        };
        let secret = Secret::new(secret.to_vec());
        self.session.settled().await.map_err(|error| unrecorded(&error))?;
        let user = String::from_utf8_lossy(user);
        let certificate = self.tls.and_then(|tls| tls.certificate.as_deref());
        let login = UpstreamLogin { user: &user, password: Some(&secret), certificate, readable: false };
        let answer = tokio::select! {
            answer = authenticate(self.leg, &login, Some(asked)) => answer,
            () = self.client.gone() => return Err(self.left(Side::Client)),
        };
        self.authenticated(answer).await
    }

    /// The client is let in on what the kernel says of it; the target with what the catalog has.
    async fn with_lease(&mut self, lease: &Lease) -> Result<&'static str, End> {
        let certificate = self.tls.and_then(|tls| tls.certificate.as_deref());
        let readable = self.is_proven;
        let login = UpstreamLogin { user: lease.user(), password: lease.secret(), certificate, readable };
        let answer = tokio::select! {
            answer = authenticate(self.leg, &login, None) => answer,
            () = self.client.gone() => return Err(self.left(Side::Client)),
        };
        let method = self.authenticated(answer).await?;
        self.tell(&reply::authentication_ok()).await?;
        Ok(method)
    }

    /// What came of our own log-in to the target; what it said besides goes to the client.
    async fn authenticated(&mut self, answer: Result<Answer, LoginError>) -> Result<&'static str, End> {
        match answer {
            Ok(Answer::Admitted { before, method }) => {
                for message in before {
                    self.account.said(Side::Server, &message).map_err(|error| unrecorded(&error))?;
                    self.tell(&message).await?;
                }
                Ok(method)
            }
            Ok(Answer::Refused(message)) => {
                self.account.said(Side::Server, &message).map_err(|error| unrecorded(&error))?;
                let body = message.get(HEADER_BYTES..).unwrap_or_default().to_vec();
                Err(self.failed(&message, &body).await)
            }
            Err(error) => Err(self.refuse("08006", &error.to_string()).await),
        }
    }

    /// It went away instead of telling its password: because it has none, or because it insists on SCRAM.
    fn refused_to_tell(&mut self) -> End {
        let text =
            "the target binds SCRAM to its TLS, which works only with the password, and the client did not tell it";
        let learned = self.tls.is_some_and(|tls| tls.lesson.refused());
        let then = if learned { ": connections of that program to it are not opened for some minutes" } else { "" };
        let text = format!("{text}{then}");
        let noted = self.session.record(Note { code: "postgres_login".into(), text: text.clone() });
        match noted.and_then(|_| self.account.end(failure(None, &text))) {
            Ok(()) => End { outcome: Outcome::Completed, error: Some(text) },
            Err(error) => unrecorded(&error),
        }
    }

    /// The client's answer goes to the target as it is.
    async fn pass_answer(&mut self) -> Result<(), End> {
        let answer = tokio::select! {
            answer = self.client.message() => answer.map(|answer| answer.map(<[u8]>::to_vec).map(Secret::new)),
            // What it has said before it went is told to the client.
            () = self.target.gone() => return Ok(()),
        };
        let Some(answer) = answer.map_err(|error| from(Side::Client, &error))? else {
            return Err(self.left(Side::Client));
        };
        let answer = answer.expose();
        self.account.said(Side::Client, answer).map_err(|error| unrecorded(&error))?;
        self.client.took(answer.len());
        self.session.settled().await.map_err(|error| unrecorded(&error))?;
        self.target.send(answer).await.map_err(|error| from(Side::Server, &error))
    }

    /// Something of the target's, or of ours in its place, goes to the client.
    async fn tell(&self, message: &[u8]) -> Result<(), End> {
        self.client.send(message).await.map_err(|error| from(Side::Client, &error))
    }

    /// The target does not let the client in, and says why.
    async fn failed(&mut self, message: &[u8], body: &[u8]) -> End {
        let report = Report::read(b'E', body).ok();
        let field = |kind| report.and_then(|report| report.get(kind)).map(lossy);
        let text = field(b'M').unwrap_or_else(|| "the target refused the log-in".into());
        if let Err(error) = self.account.end(failure(field(b'C'), &text)) {
            return unrecorded(&error);
        }
        match self.tell(message).await {
            Ok(()) => End { outcome: Outcome::Completed, error: Some(text) },
            Err(end) => end,
        }
    }

    /// We do not let the client in, and say why.
    pub(super) async fn refuse(&mut self, code: &str, why: &str) -> End {
        let message = format!("crewtap: {why}");
        let complaint = Complaint { severity: "FATAL", code, message: &message, detail: "", hint: "" };
        if let Err(error) = self.account.end(failure(Some(code.into()), why)) {
            return unrecorded(&error);
        }
        // Who has gone does not need to be told.
        let _ = self.tell(&complaint.error()).await;
        End { outcome: Outcome::Aborted, error: Some(why.into()) }
    }

    /// A side went away in the middle.
    fn left(&mut self, side: Side) -> End {
        let (outcome, who) = match side {
            Side::Client => (Outcome::Completed, "the client"),
            Side::Server => (Outcome::UpstreamReset, "the target"),
        };
        let text = format!("{who} ended the connection during the log-in");
        match self.account.end(failure(None, &text)) {
            Ok(()) => End { outcome, error: Some(text) },
            Err(error) => unrecorded(&error),
        }
    }
}

/// A log-in by this method waits for the client's answer.
fn known(method: &mut &'static str, name: &'static str) -> bool {
    *method = name;
    true
}

/// What the target knows the client by: its own name, cut where it must be, and the session, so that the target's log can be
/// joined with the record.
fn tagged(name: &[u8], session: &Session) -> Vec<u8> {
    let tag = format!("crewtap:{}", session.id());
    let room = APPLICATION_NAME_MAX - tag.len() - 1;
    // Not within a character.
    let cut = (0..=room.min(name.len())).rev().find(|at| name.get(*at).is_none_or(|byte| byte & 0xc0 != 0x80));
    let name = name.get(..cut.unwrap_or_default()).unwrap_or_default();
    if name.is_empty() { tag.into_bytes() } else { [name, b" ", tag.as_bytes()].concat() }
}

/// A message of the target as the record shows it. With what it says in the course of SCRAM passwords could be tried out:
/// `AuthenticationSASLContinue` has the salt, `AuthenticationSASLFinal` the server's signature.
fn shown(message: &[u8]) -> Cow<'_, [u8]> {
    match message {
        [b'R', _, _, _, _, 0, 0, 0, 11 | 12, secret @ ..] => {
            let head = message.get(..message.len() - secret.len()).unwrap_or_default();
            Cow::Owned([head, &vec![b'*'; secret.len()]].concat())
        }
        _ => Cow::Borrowed(message),
    }
}

/// User and database of a packet; a database that is not named is that of the user's name.
fn whom(startup: &Startup<'_>) -> (String, String) {
    let text = |name: &str| startup.get(name).filter(|value| !value.is_empty()).map(lossy);
    let user = text("user").unwrap_or_default();
    (user.clone(), text("database").unwrap_or(user))
}

/// Whether the server reads it as false: any beginning of a word that is no other word's.
fn is_false(value: &[u8]) -> bool {
    let value = value.to_ascii_lowercase();
    let begins = |word: &[u8], least: usize| value.len() >= least && word.starts_with(&value);
    begins(b"false", 1) || begins(b"no", 1) || begins(b"off", 2) || value == b"0"
}

fn failure(code: Option<String>, why: &str) -> Response {
    let facts = Facts::from([("message".to_owned(), Fact::Text(why.into()))]);
    Response { outcome: "failure".into(), code, facts, parts: vec![part(MEDIA_TYPE.into(), 0)], ..Response::default() }
}

fn lossy(text: &[u8]) -> String {
    String::from_utf8_lossy(text.get(..FACT_TEXT_MAX).unwrap_or(text)).into_owned()
}

pub(super) fn from(side: Side, error: &io::Error) -> End {
    let (outcome, who) = match side {
        Side::Client => (Outcome::ClientReset, "client"),
        Side::Server => (Outcome::UpstreamReset, "target"),
    };
    End { outcome, error: Some(format!("during the log-in, the {who}: {error}")) }
}

fn protocol(error: &str) -> End {
    End { outcome: Outcome::UpstreamReset, error: Some(format!("during the log-in, the target: {error}")) }
}

pub(super) fn unrecorded(error: &Unrecorded) -> End {
    End { outcome: Outcome::Unrecorded, error: Some(error.to_string()) }
}
