//! The relying party: who has logged in where, and whom a process of the host stands for because of it.
//!
//! Owns the logins, those that have begun, and their file. Never obeys what a client says of itself: callers are facts of the
//! kernel. Served on one thread.

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crewtap_core::identity::{Identity, Way};
use crewtap_core::limits::LOGINS_MAX;
use serde::{Deserialize, Serialize};

use super::caller::{Caller, Key};
use super::issuer::{Issuer, IssuerError};
use super::login::Login;
use super::pending::Pendings;
use super::requests::{Vouched, now};
use super::session::Session;
use super::store::{Store, StoreError};
use super::workload::Workloads;
use crate::config::oidc::Provider;

/// How long before its end a login that a run carries is renewed.
const AHEAD: u64 = 15;

/// How long a provider that could not renew a login is left alone.
const RETRY: Duration = Duration::from_secs(20);

/// Groups of somebody that are shown.
const GROUPS_SHOWN: usize = 64;

/// A login that did not come about.
#[derive(Debug, thiserror::Error)]
pub enum RelyingError {
    /// No provider of this name.
    #[error("{0}")]
    Provider(String),
    /// Who asks cannot be bound to anything.
    #[error("{0}")]
    Caller(&'static str),
    /// The provider.
    #[error(transparent)]
    Issuer(#[from] IssuerError),
    /// The file.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The answer of the browser.
    #[error("{0}")]
    Answer(String),
    /// Too many.
    #[error("{0}")]
    Full(&'static str),
}

/// A login, as its owner may see it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Told {
    /// The provider's name in the configuration.
    pub provider: String,
    /// The issuer's identifier.
    pub issuer: String,
    /// `oidc:NAME:SUBJECT`.
    pub identity: String,
    /// What a reader calls it.
    pub name: String,
    /// E-mail address.
    pub email: Option<String>,
    /// Groups, as policies write them; not all, where there are many.
    pub groups: Vec<String>,
    /// How many there are.
    pub groups_count: usize,
    /// Where they come from.
    pub groups_from: String,
    /// How.
    pub way: Way,
    /// When the person proved to be who they are, in seconds since the Unix epoch.
    pub auth_time: Option<u64>,
    /// When it began.
    pub since: u64,
    /// Until when it counts.
    pub expires: u64,
    /// It is renewed until then.
    pub renewed_until: Option<u64>,
    /// It counts now.
    pub holds: bool,
    /// What its owner should know.
    pub notes: Vec<String>,
}

/// Whom a process stands for.
#[derive(Clone, Debug)]
pub struct Attributed {
    /// Who.
    pub identity: Identity,
    /// Until when.
    pub login: Arc<Login>,
    /// Sentences for the user and the record.
    pub notes: Vec<String>,
}

/// What became of one login that was ended.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Ended {
    /// The provider's name in the configuration.
    pub provider: String,
    /// `oidc:NAME:SUBJECT`.
    pub identity: String,
    /// The provider has forgotten its tokens.
    pub revoked: bool,
    /// Why not.
    pub why: Option<String>,
}

/// A login with what hangs on it.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) session: RefCell<Session>,
    /// Shared with the runs that carry it.
    login: Arc<Login>,
    /// One renewal at a time: a refresh token that is used twice ends the login at the provider.
    renewing: tokio::sync::Mutex<()>,
    retry_at: RefCell<Option<Instant>>,
}

/// Who has logged in.
#[derive(Debug)]
pub struct RelyingParty {
    issuers: Vec<Rc<Issuer>>,
    store: Store,
    held: RefCell<HashMap<(Key, String), Rc<Held>>>,
    pub(super) pendings: Pendings,
    workloads: Workloads,
}

impl RelyingParty {
    /// With the logins of this boot that are kept in a data directory. Asks no provider.
    ///
    /// # Errors
    /// When the file cannot be read, or others could have read it.
    pub fn open(providers: &[Provider], data_dir: &Path) -> Result<Self, StoreError> {
        let issuers: Vec<Rc<Issuer>> = providers.iter().cloned().map(|one| Rc::new(Issuer::new(one))).collect();
        let store = Store::new(data_dir);
        let mut held = HashMap::new();
        for session in store.load()? {
            // A provider that is configured otherwise has not vouched for anybody yet.
            let issuer =
                issuers.iter().find(|one| one.config.name == session.provider && one.config.issuer == session.issuer);
            let Some(issuer) = issuer.filter(|_| !session.is_over(now())) else { continue };
            let login = Arc::new(Login::until(session.until(), issuer.config.on_expiry));
            held.insert((session.key, session.provider.clone()), Rc::new(Held::new(session, login)));
        }
        Ok(Self {
            issuers,
            store,
            held: RefCell::new(held),
            pendings: Pendings::default(),
            workloads: Workloads::default(),
        })
    }

    /// The provider of this name; the only one where none is named.
    ///
    /// # Errors
    /// When there is none, or more than one.
    pub fn issuer(&self, name: Option<&str>) -> Result<Rc<Issuer>, RelyingError> {
        let names = || self.issuers.iter().map(|one| one.config.name.as_str()).collect::<Vec<_>>().join(", ");
        let error = match (name, self.issuers.as_slice()) {
            (None, [only]) => return Ok(only.clone()),
            (_, []) => {
                "no identity provider is configured: add [oidc.NAME] to crewtap.toml (`crewtap help identity`)".into()
            }
            (None, _) => format!("name the provider with --issuer: {}", names()),
            (Some(name), all) => match all.iter().find(|one| one.config.name == name) {
                Some(found) => return Ok(found.clone()),
                None => format!("no identity provider is called `{name}`: there are {}", names()),
            },
        };
        Err(RelyingError::Provider(error))
    }

    /// Takes a login in.
    pub(super) async fn take(
        &self,
        issuer: &Issuer,
        key: Key,
        way: Way,
        vouched: Vouched,
    ) -> Result<Told, RelyingError> {
        let session = Session::begin(&issuer.config, key, way, vouched, now());
        if !session.holds(now()) {
            return Err(RelyingError::Answer("the login has expired before it began: are the clocks right?".into()));
        }
        self.sweep();
        let at = (key, session.provider.clone());
        let before = self.held.borrow().get(&at).cloned();
        if before.is_none() && self.held.borrow().len() >= LOGINS_MAX {
            return Err(RelyingError::Full("too many logins are kept on this host: log out somewhere first"));
        }
        let same = before.as_ref().filter(|held| held.session.borrow().person.subject == session.person.subject);
        let is_same = same.is_some();
        let login = match same {
            // Runs that carry the old login go on with this one.
            Some(held) => {
                held.login.renew(session.until());
                held.login.clone()
            }
            None => Arc::new(Login::until(session.until(), issuer.config.on_expiry)),
        };
        let held = Rc::new(Held::new(session, login));
        let told = held.told();
        self.held.borrow_mut().insert(at, held);
        self.save()?;
        // Of the same person it may be the same grant: revoking the old one would end the new (RFC 7009, section 2.1).
        if let Some(before) = before.filter(|_| !is_same) {
            before.login.end();
            let (refresh, access) = before.tokens();
            if let Err(error) = issuer.revoke(refresh.as_ref(), access.as_ref()).await {
                tracing::warn!(%error, "the tokens of the login before this one are not revoked");
            }
        }
        Ok(told)
    }

    /// Ends the caller's logins, at one provider or at all.
    ///
    /// # Errors
    /// When there is none, or the file cannot be written.
    pub async fn logout(&self, caller: &Caller, provider: Option<&str>) -> Result<Vec<Ended>, RelyingError> {
        let key = caller.key.ok_or(UNBOUND)?;
        let mut found = self.of_key(key);
        found.retain(|held| provider.is_none_or(|name| held.session.borrow().provider == name));
        if found.is_empty() {
            return Ok(Vec::new());
        }
        for held in &found {
            held.login.end();
            let at = (key, held.session.borrow().provider.clone());
            self.held.borrow_mut().remove(&at);
        }
        // What does not count here any more is forgotten first, whatever the provider says.
        self.save()?;
        let mut ended = Vec::new();
        for held in found {
            let Told { provider, identity, .. } = held.told();
            let (refresh, access) = held.tokens();
            let revoked = match self.issuer(Some(&provider)) {
                Ok(issuer) => issuer.revoke(refresh.as_ref(), access.as_ref()).await.map_err(|error| error.to_string()),
                Err(error) => Err(error.to_string()),
            };
            let (revoked, why) = match revoked {
                Ok(true) => (true, None),
                Ok(false) => (false, Some("the provider has no revocation: its tokens end by themselves".to_owned())),
                Err(why) => (false, Some(why)),
            };
            ended.push(Ended { provider, identity, revoked, why });
        }
        Ok(ended)
    }

    /// The caller's logins, the newest first.
    #[must_use]
    pub fn logins(&self, caller: &Caller) -> Vec<Told> {
        let Some(key) = caller.key else { return Vec::new() };
        self.of_key(key).iter().map(|held| held.told()).collect()
    }

    /// Whom the caller stands for: the newest login that counts, else the workload that it is, else the user of this host.
    pub async fn attribute(&self, caller: &Caller) -> Attributed {
        let mut notes = Vec::new();
        for held in caller.key.map(|key| self.of_key(key)).unwrap_or_default() {
            if let Some(issuer) = self.issuer_of(&held)
                && held.session.borrow().is_stale(now(), issuer.config.renew)
            {
                notes.extend(self.renew(&issuer, &held).await.err());
            }
            let session = held.session.borrow();
            if session.holds(now()) {
                let identity = session.identity(&caller.os);
                return Attributed { identity, login: held.login.clone(), notes };
            }
            notes.push(format!(
                "the login of {} at {} has expired: `crewtap login` renews it",
                session.person.name, session.provider
            ));
        }
        for issuer in &self.issuers {
            match self.workloads.attribute(issuer, caller).await {
                Ok(Some((identity, login))) => return Attributed { identity, login, notes },
                Ok(None) => {}
                Err(why) => notes.push(why),
            }
        }
        Attributed { identity: caller.os.clone(), login: Arc::default(), notes }
    }

    /// Renews what a provider says of somebody.
    ///
    /// # Errors
    /// A sentence, where it could not be.
    async fn renew(&self, issuer: &Issuer, held: &Held) -> Result<(), String> {
        let before = held.session.borrow().checked;
        let _turn = held.renewing.lock().await;
        if held.session.borrow().checked != before || held.is_left_alone() {
            return Ok(());
        }
        let (subject, name) = {
            let session = held.session.borrow();
            (session.person.subject.clone(), session.person.name.clone())
        };
        let (Some(refresh), _) = held.tokens() else { return Ok(()) };
        let renewed = issuer.renew(&refresh, &subject).await;
        let at = (held.session.borrow().key, issuer.config.name.clone());
        let still = self.held.borrow().get(&at).is_some_and(|now| std::ptr::eq(&raw const **now, held));
        if !still {
            // Logged out, or logged in anew meanwhile: what came is nobody's.
            if let Ok(vouched) = renewed {
                let _ = issuer.revoke(vouched.refresh.as_ref(), vouched.access.as_ref()).await;
            }
            return Ok(());
        }
        match renewed {
            Ok(vouched) => {
                held.session.borrow_mut().renewed(vouched, now());
                held.login.renew(held.session.borrow().until());
                *held.retry_at.borrow_mut() = None;
                self.save().map_err(|error| format!("{name} stays logged in until this agent ends: {error}"))
            }
            Err(error) if error.is_final() => {
                let key = held.session.borrow().key;
                // What was said last does not count any more, either: the provider has withdrawn it.
                held.session.borrow_mut().ends = 0;
                held.login.end();
                self.held.borrow_mut().remove(&(key, issuer.config.name.clone()));
                let _unsaved = self.save().inspect_err(|error| tracing::error!(%error, "an ended login is still kept"));
                Err(format!("the login of {name} has ended: {error}; `crewtap login` begins another one"))
            }
            Err(error) => {
                *held.retry_at.borrow_mut() = Some(Instant::now() + RETRY);
                Err(format!("the login of {name} could not be renewed: {error}"))
            }
        }
    }

    /// Renews, in time, what runs that are alive carry; what could not be is told. To be called every second or so.
    pub async fn keep(&self) -> Vec<String> {
        let mut notes = Vec::new();
        let soon = now().saturating_add(AHEAD);
        let carried = |held: &Rc<Held>| Arc::strong_count(&held.login) > 1;
        let due: Vec<Rc<Held>> = self.held.borrow().values().filter(|held| carried(held)).cloned().collect();
        for held in due {
            let is_due = {
                let session = held.session.borrow();
                !session.holds(soon) && session.refresh.is_some() && now() < session.ends
            };
            if is_due
                && !held.is_left_alone()
                && let Some(issuer) = self.issuer_of(&held)
            {
                notes.extend(self.renew(&issuer, &held).await.err());
            }
        }
        for issuer in &self.issuers {
            notes.extend(self.workloads.keep(issuer).await.err());
        }
        notes
    }

    fn issuer_of(&self, held: &Held) -> Option<Rc<Issuer>> {
        let provider = held.session.borrow().provider.clone();
        self.issuers.iter().find(|one| one.config.name == provider).cloned()
    }

    /// The logins of a caller, the newest first.
    fn of_key(&self, key: Key) -> Vec<Rc<Held>> {
        self.sweep();
        let held = self.held.borrow();
        let mut found: Vec<Rc<Held>> =
            held.iter().filter(|((of, _), _)| *of == key).map(|(_, held)| held.clone()).collect();
        found.sort_by_key(|held| {
            let session = held.session.borrow();
            (std::cmp::Reverse(session.since), session.provider.clone())
        });
        found
    }

    /// Forgets what nothing can make count again, a while after its owner could have been told.
    fn sweep(&self) {
        let at = now().saturating_sub(3600);
        self.held.borrow_mut().retain(|_, held| {
            let session = held.session.borrow();
            session.key.session.is_there() && !session.is_over(at)
        });
    }

    fn save(&self) -> Result<(), StoreError> {
        let held = self.held.borrow();
        let sessions: Vec<_> = held.values().map(|held| held.session.borrow()).collect();
        self.store.save(sessions.iter().map(|session| &**session))
    }
}

/// Who cannot be bound.
pub(super) const UNBOUND: RelyingError = RelyingError::Caller(
    "which login session of the host this is cannot be told: its leader has ended, or sudo and the kernel name different users",
);

impl Held {
    fn new(session: Session, login: Arc<Login>) -> Self {
        Self {
            session: RefCell::new(session),
            login,
            renewing: tokio::sync::Mutex::new(()),
            retry_at: RefCell::default(),
        }
    }

    fn is_left_alone(&self) -> bool {
        self.retry_at.borrow().is_some_and(|at| Instant::now() < at)
    }

    /// Copies, which wipe themselves: a request must not hold the login while it waits.
    fn tokens(&self) -> (Option<crewtap_core::secret::Secret>, Option<crewtap_core::secret::Secret>) {
        let copy = |secret: &crewtap_core::secret::Secret| crewtap_core::secret::Secret::new(secret.expose().to_vec());
        let session = self.session.borrow();
        (session.refresh.as_ref().map(copy), session.access.as_ref().map(copy))
    }

    fn told(&self) -> Told {
        let session = self.session.borrow();
        let person = &session.person;
        let groups = person.groups.iter().take(GROUPS_SHOWN).map(|group| format!("oidc:{}:{group}", session.provider));
        Told {
            provider: session.provider.clone(),
            issuer: session.issuer.clone(),
            identity: format!("oidc:{}:{}", session.provider, person.subject),
            name: person.name.clone(),
            email: person.email.clone(),
            groups: groups.collect(),
            groups_count: person.groups.len(),
            groups_from: person.groups_from.clone(),
            way: session.way,
            auth_time: person.auth_time,
            since: session.since,
            expires: session.until(),
            renewed_until: session.refresh.as_ref().map(|_| session.ends),
            holds: session.holds(now()),
            notes: person.notes.clone(),
        }
    }
}
