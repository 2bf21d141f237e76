//! The client's log-in, and ours to the target.
//!
//! Owns the session's first exchange. A client is let in only once its target has let us in: with the catalog's credential, or
//! with what the client itself has proven to have. Never records a password or a key.

use std::borrow::Cow;
use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crewtap_core::action::{Fact, Facts};
use crewtap_core::bodies::{Note, Request, Response};
use crewtap_core::event::Body;
use crewtap_core::id::RunId;
use crewtap_core::limits::SSH_USER_BYTES_MAX;
use crewtap_core::secret::Secret;
use crewtap_core::session::Side;
use russh::client::{AuthResult, Handle, KeyboardInteractiveAuthResponse, Prompt};
use russh::keys::agent::client::AgentClient;
use russh::keys::{Algorithm, HashAlg, PrivateKey, PrivateKeyWithHashAlg, PublicKey};
use russh::server::Auth;
use russh::{MethodKind, MethodSet};
use socket2::{Domain, SockAddr, Socket, Type};
use tokio::net::UnixStream;

use super::ask::{Attempt, Method, Proof};
use super::keys::{Found, Places};
use super::target_side::TargetSide;
use crate::capture::user::AsUser;
use crate::lease::{Lease, LeasedKey};
use crate::recorder::{Told, Unrecorded};
use crate::session::Session;
use crate::vault::VaultError;

/// The log-in is the session's first exchange.
pub(super) const EXCHANGE: u32 = 1;

/// How long a program that logs in with a key that cannot be used here is remembered.
const LEARNED_FOR: Duration = Duration::from_mins(10);

/// Programs and targets that are remembered.
const LEARNED_MAX: usize = 1024;

/// Methods that can be made again.
const METHODS: [MethodKind; 3] = [MethodKind::PublicKey, MethodKind::Password, MethodKind::KeyboardInteractive];

/// One log-in.
pub(super) struct Login<'l> {
    pub(super) session: &'l Session,
    pub(super) handle: Handle<TargetSide>,
    /// What the catalog gives for the target.
    pub(super) lease: Option<Lease>,
    pub(super) places: Places,
    /// What is known of the connection, for the record.
    pub(super) facts: Facts,
    /// As whom; known with the first attempt.
    user: Option<String>,
    /// The target has let us in.
    is_in: bool,
}

/// What came of an attempt at the target.
enum Came {
    In,
    Refused { left: MethodSet, partly: bool },
    Asked { name: String, instructions: String, prompts: Vec<Prompt> },
}

/// Why a log-in cannot go on at all.
#[derive(Debug, thiserror::Error)]
pub(super) enum LoginError {
    #[error(transparent)]
    Unrecorded(#[from] Unrecorded),
    #[error("the target ended the connection in the log-in: {0}")]
    Target(#[from] russh::Error),
    #[error("the target refused the credential of the catalog for {0}")]
    Lease(String),
    #[error("the credential of the catalog cannot be used")]
    Key(#[from] VaultError),
}

impl<'l> Login<'l> {
    pub(super) fn new(
        session: &'l Session,
        handle: Handle<TargetSide>,
        lease: Option<Lease>,
        places: Places,
        facts: Facts,
    ) -> Self {
        Self { session, handle, lease, places, facts, user: None, is_in: false }
    }

    /// Whether the target has let us in.
    pub(super) fn is_in(&self) -> bool {
        self.is_in
    }

    /// As whom we are in, and the way to the target.
    pub(super) fn into_parts(self) -> (Handle<TargetSide>, String) {
        (self.handle, self.user.unwrap_or_default())
    }

    /// Logs in with the catalog's credential, before the client is served: a refusal can then be told before its log-in.
    ///
    /// # Errors
    /// When the target does not take it, or the log-in cannot be recorded.
    pub(super) async fn with_lease(&mut self) -> Result<(), LoginError> {
        let Some(lease) = self.lease.take() else { return Ok(()) };
        let user = lease.user().to_owned();
        self.begin(&user)?;
        self.session.settled().await?;
        let came = match (lease.key(), lease.secret()) {
            (Some(key), _) => match self.leased_key(&user, key).await {
                Err(LoginError::Key(error)) => {
                    // The place is for the record, not for the client.
                    self.note("credential_unavailable", error.to_string())?;
                    self.failed("the credential of the catalog cannot be used")?;
                    return Err(error.into());
                }
                came => came?,
            },
            (None, Some(secret)) => self.password(&user, secret).await?,
            (None, None) => self.none(&user).await?,
        };
        if let Came::In = came {
            return Ok(self.succeeded("catalog")?);
        }
        self.failed("the target refused the credential of the catalog")?;
        Err(LoginError::Lease(user))
    }

    /// One attempt of the client.
    ///
    /// # Errors
    /// When the target has gone, or it cannot be recorded.
    pub(super) async fn attempt(&mut self, attempt: Attempt) -> Result<Auth, LoginError> {
        let Attempt { user, method } = attempt;
        // Whatever it tries: it is who the kernel says it is, and the target has let us in.
        if self.is_in {
            return Ok(Auth::Accept);
        }
        if user.len() > SSH_USER_BYTES_MAX {
            let text = format!("a user's name of {} bytes was not passed on", user.len());
            self.session.record(Note { code: "ssh_login_refused".into(), text })?;
            return Ok(Auth::reject());
        }
        if self.user.is_none() {
            self.begin(&user)?;
        }
        if self.user.as_deref() != Some(&*user) {
            return Ok(Auth::reject());
        }
        self.try_on_record(&method).await?;
        let (name, came) = match method {
            Method::None => ("none", self.none(&user).await?),
            Method::Password(password) => ("password", self.password_only(&user, &password).await?),
            Method::Interactive(answers) => ("keyboard-interactive", self.interactive(&user, answers).await?),
            Method::Key(proof) => ("publickey", self.key(&user, proof).await?),
        };
        Ok(match came {
            Came::In => {
                self.succeeded(name)?;
                Auth::Accept
            }
            Came::Asked { name: title, instructions, prompts } => {
                let asked = prompts.iter().map(|prompt| prompt.prompt.as_str()).collect::<Vec<_>>().join(" ");
                self.note("ssh_prompt", format!("the target asks: {title} {instructions} {asked}"))?;
                Auth::Partial {
                    name: title.into(),
                    instructions: instructions.into(),
                    prompts: prompts.into_iter().map(|prompt| (prompt.prompt.into(), prompt.echo)).collect(),
                }
            }
            Came::Refused { left, partly } => {
                if name != "none" {
                    let how = if partly { "is not enough for the target" } else { "was refused by the target" };
                    self.note("ssh_login_refused", format!("{name} {how}"))?;
                }
                let left: Vec<MethodKind> = left.iter().copied().filter(|kind| METHODS.contains(kind)).collect();
                Auth::Reject { proceed_with_methods: Some(MethodSet::from(&*left)), partial_success: partly }
            }
        })
    }

    /// Puts on record that something is tried, before the target hears of it: how, and how long a secret is, never the secret.
    async fn try_on_record(&self, method: &Method) -> Result<(), Unrecorded> {
        let tried = match method {
            Method::None => "nothing".to_owned(),
            Method::Password(password) => format!("a password of {} bytes", password.expose().len()),
            Method::Interactive(None) => "the target's own questions".to_owned(),
            Method::Interactive(Some(answers)) => {
                let lens: Vec<String> = answers.iter().map(|answer| answer.expose().len().to_string()).collect();
                format!("answers to the target's questions, of so many bytes: {}", lens.join(", "))
            }
            Method::Key(proof) => format!("the key {}", proof.key.fingerprint(HashAlg::Sha256)),
        };
        self.note("ssh_login_attempt", format!("the client tries {tried}"))?;
        self.session.settled().await
    }

    /// The client has gone, or gives up.
    ///
    /// # Errors
    /// When it cannot be recorded.
    pub(super) fn abandon(&mut self) -> Result<(), Unrecorded> {
        match self.user {
            Some(_) if !self.is_in => self.failed("nothing that the client tried was taken by the target"),
            _ => Ok(()),
        }
    }

    async fn none(&mut self, user: &str) -> Result<Came, LoginError> {
        Ok(self.handle.authenticate_none(user).await?.into())
    }

    async fn password_only(&mut self, user: &str, password: &Secret) -> Result<Came, LoginError> {
        let text = String::from_utf8_lossy(password.expose()).into_owned();
        Ok(self.handle.authenticate_password(user, text).await?.into())
    }

    /// A password of the catalog: targets that ask for it with a prompt get it so.
    async fn password(&mut self, user: &str, password: &Secret) -> Result<Came, LoginError> {
        match self.password_only(user, password).await? {
            Came::Refused { left, .. } if left.contains(&MethodKind::KeyboardInteractive) => {}
            came => return Ok(came),
        }
        let mut came = self.interactive(user, None).await?;
        // One question that is not shown is the password's; anything else is for a human.
        for _ in 0..3 {
            let Came::Asked { prompts, .. } = &came else { break };
            let answers = match &**prompts {
                [] => Vec::new(),
                [prompt] if !prompt.echo => vec![Secret::new(password.expose().to_vec())],
                _ => break,
            };
            came = self.interactive(user, Some(answers)).await?;
        }
        Ok(came)
    }

    async fn interactive(&mut self, user: &str, answers: Option<Vec<Secret>>) -> Result<Came, LoginError> {
        let said = match answers {
            None => self.handle.authenticate_keyboard_interactive_start(user, None).await?,
            Some(answers) => {
                let answers = answers.iter().map(|answer| String::from_utf8_lossy(answer.expose()).into_owned());
                self.handle.authenticate_keyboard_interactive_respond(answers.collect()).await?
            }
        };
        Ok(match said {
            KeyboardInteractiveAuthResponse::Success => Came::In,
            KeyboardInteractiveAuthResponse::Failure { remaining_methods, partial_success } => {
                Came::Refused { left: remaining_methods, partly: partial_success }
            }
            KeyboardInteractiveAuthResponse::InfoRequest { name, instructions, prompts } => {
                Came::Asked { name, instructions, prompts }
            }
        })
    }

    /// With the key that the client has signed with: its private half is looked for where the client has it.
    async fn key(&mut self, user: &str, proof: Proof) -> Result<Came, LoginError> {
        let Proof { key, certificate } = proof;
        let found = self.places.search(&key).await;
        let hash = self.hash_for(&key.algorithm()).await?;
        let print = key.fingerprint(HashAlg::Sha256);
        let (file, private) = match found {
            Found::File(private, path) => (path, private),
            Found::Agent(socket) => match self.with_agent(user, &key, hash, &socket).await? {
                Some(came) => return Ok(came),
                None => return self.without_key(&print.to_string(), "neither its files nor its agent have it"),
            },
            Found::Closed(path, why) => {
                return self.without_key(&print.to_string(), &format!("{}: {why}", path.display()));
            }
            Found::Nowhere => return self.without_key(&print.to_string(), "no file of its user has it"),
        };
        self.note("ssh_key_used", format!("{print} of {}", file.display()))?;
        self.session.settled().await?;
        Ok(match certificate {
            Some(certificate) => self.handle.authenticate_openssh_cert(user, private, *certificate).await?.into(),
            None => self.with_key(user, private, hash).await?,
        })
    }

    /// With the private key of the catalog, and its certificate where it has one.
    async fn leased_key(&mut self, user: &str, key: &Arc<LeasedKey>) -> Result<Came, LoginError> {
        let (private, certificate) = key.open().await?;
        let hash = self.hash_for(&private.algorithm()).await?;
        let private = Arc::new(private);
        Ok(match certificate {
            Some(certificate) => self.handle.authenticate_openssh_cert(user, private, certificate).await?.into(),
            None => self.with_key(user, private, hash).await?,
        })
    }

    /// With which hash a key of RSA signs.
    async fn hash_for(&self, algorithm: &Algorithm) -> Result<Option<HashAlg>, LoginError> {
        Ok(match algorithm {
            Algorithm::Rsa { .. } => self.handle.best_supported_rsa_hash().await?.flatten().or(Some(HashAlg::Sha256)),
            _ => None,
        })
    }

    async fn with_key(&mut self, user: &str, key: Arc<PrivateKey>, hash: Option<HashAlg>) -> Result<Came, LoginError> {
        let key = PrivateKeyWithHashAlg::new(key, hash);
        Ok(self.handle.authenticate_publickey(user, key).await?.into())
    }

    /// None where the agent does not have the key.
    async fn with_agent(
        &mut self,
        user: &str,
        key: &PublicKey,
        hash: Option<HashAlg>,
        socket: &std::path::Path,
    ) -> Result<Option<Came>, LoginError> {
        let (uid, gid) = (self.session.origin().uid, self.session.origin().gid);
        // Without a wait: a socket that takes nobody must not hold up the other sessions of the thread.
        let connected = AsUser::new(uid, gid).and_then(|_as_user| {
            let socket2 = Socket::new(Domain::UNIX, Type::STREAM.nonblocking().cloexec(), None)?;
            socket2.connect(&SockAddr::unix(socket)?)?;
            Ok(std::os::unix::net::UnixStream::from(OwnedFd::from(socket2)))
        });
        let Ok(stream) = connected.and_then(UnixStream::from_std) else { return Ok(None) };
        let mut agent = AgentClient::connect(stream);
        let known = tokio::time::timeout(crewtap_core::limits::HANDSHAKE_WAIT, agent.request_identities()).await;
        let has_it = known.is_ok_and(|known| {
            known.is_ok_and(|known| known.iter().any(|one| one.public_key().key_data() == key.key_data()))
        });
        if !has_it {
            return Ok(None);
        }
        let print = key.fingerprint(HashAlg::Sha256);
        self.note("ssh_key_used", format!("{print} through the process's agent at {}", socket.display()))?;
        self.session.settled().await?;
        let signed = self.handle.authenticate_publickey_with(user, key.clone(), hash, &mut agent).await;
        match signed {
            Ok(result) => Ok(Some(result.into())),
            Err(_) => Ok(None),
        }
    }

    /// The client has a key that cannot be used in its place: it is learned, so that its next connection can pass unopened.
    fn without_key(&mut self, print: &str, why: &str) -> Result<Came, LoginError> {
        learn(self.session);
        let text = format!("the client logs in with {print}, which cannot be used for it: {why}");
        self.note("ssh_key_unusable", text)?;
        Ok(Came::Refused { left: MethodSet::from(&METHODS[..]), partly: false })
    }

    fn begin(&mut self, user: &str) -> Result<(), Unrecorded> {
        self.user = Some(user.to_owned());
        self.facts.insert("user".into(), Fact::Text(user.to_owned()));
        let subject = format!("{user} to {}", self.session.origin().destination);
        let request = Request { verb: "LOGIN".into(), subject, facts: self.facts.clone(), ..Request::default() };
        self.tell(Side::Client, request)
    }

    fn succeeded(&mut self, method: &str) -> Result<(), Unrecorded> {
        self.is_in = true;
        let facts = Facts::from([("method".to_owned(), Fact::Text(method.into()))]);
        self.tell(Side::Server, Response { outcome: "success".into(), facts, ..Response::default() })
    }

    fn failed(&self, why: &str) -> Result<(), Unrecorded> {
        let facts = Facts::from([("why".to_owned(), Fact::Text(why.into()))]);
        self.tell(Side::Server, Response { outcome: "failure".into(), facts, ..Response::default() })
    }

    fn note(&self, code: &str, text: String) -> Result<(), Unrecorded> {
        self.tell(Side::Server, Note { code: code.into(), text })
    }

    fn tell(&self, side: Side, body: impl Into<Body>) -> Result<(), Unrecorded> {
        let told = Told { exchange: Some(EXCHANGE), body: body.into(), payload: Cow::Borrowed(b"") };
        self.session.record_burst(side, 0, vec![told]).map(drop)
    }
}

impl From<AuthResult> for Came {
    fn from(result: AuthResult) -> Self {
        match result {
            AuthResult::Success => Self::In,
            AuthResult::Failure { remaining_methods, partial_success } => {
                Self::Refused { left: remaining_methods, partly: partial_success }
            }
        }
    }
}

/// Which program logs in where.
type Habit = (RunId, String, std::net::SocketAddr, Option<String>);

/// Programs that log in with keys that cannot be used here.
static LEARNED: LazyLock<Mutex<HashMap<Habit, Instant>>> = LazyLock::new(Mutex::default);

fn habit(session: &Session) -> Habit {
    let behind = session.asked_behind().map(str::to_owned);
    (session.run().id, session.process().exe.clone(), session.origin().destination, behind)
}

fn learn(session: &Session) {
    let mut learned = LEARNED.lock().unwrap_or_else(PoisonError::into_inner);
    let now = Instant::now();
    learned.retain(|_, since| now.duration_since(*since) < LEARNED_FOR);
    if learned.len() < LEARNED_MAX {
        learned.insert(habit(session), now);
    }
}

/// Whether the program is known to log in there with a key that cannot be used here.
pub(super) fn is_learned(session: &Session) -> bool {
    let learned = LEARNED.lock().unwrap_or_else(PoisonError::into_inner);
    learned.get(&habit(session)).is_some_and(|since| since.elapsed() < LEARNED_FOR)
}
