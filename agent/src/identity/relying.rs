//! The relying party: who has logged in where, and whom a process of the host stands for because of it.
//!
//! Owns the logins, those that have begun, and their file. Never obeys what a client says of itself: callers are facts of the
//! kernel. Served on one thread.

use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crewtap_core::identity::{Identity, Way};
use futures_util::future::{join_all, pending};
use serde::{Deserialize, Serialize};

use super::caller::{Caller, Key};
use super::issuer::{Issuer, IssuerError};
use super::login::Login;
use super::logins::{Held, Logins};
use super::pending::Pendings;
use super::renewal;
use super::requests::{Vouched, now};
use super::session::Session;
use super::store::{Store, StoreError};
use super::workload::Workloads;
use crate::config::oidc::Provider;

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

/// Who has logged in.
#[derive(Debug)]
pub struct RelyingParty {
    issuers: Vec<Rc<Issuer>>,
    logins: Rc<Logins>,
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
        let kept = store.load()?;
        let logins = Logins::new(store);
        for session in kept {
            // A provider that is configured otherwise has not vouched for anybody yet.
            let issuer =
                issuers.iter().find(|one| one.config.name == session.provider && one.config.issuer == session.issuer);
            let Some(issuer) = issuer.filter(|_| !session.is_over(now())) else { continue };
            let login = Arc::new(Login::until(session.until(), issuer.config.on_expiry));
            let _first = logins.hold(session, login);
        }
        let logins = Rc::new(logins);
        Ok(Self { issuers, logins, pendings: Pendings::default(), workloads: Workloads::default() })
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
        self.logins.sweep();
        let before = self.logins.before(&session);
        if before.is_none() && self.logins.is_full() {
            return Err(RelyingError::Full("too many logins are kept on this host: log out somewhere first"));
        }
        let same = before.as_ref().filter(|held| held.session.borrow().person.subject == session.person.subject);
        // Runs that carry the old login go on with this one.
        let login = same.map(|held| held.login.clone());
        let is_same = login.is_some();
        let login = login.unwrap_or_else(|| Arc::new(Login::until(0, issuer.config.on_expiry)));
        let until = session.until();
        let (held, before) = self.logins.hold(session, login);
        if let Err(error) = self.logins.save() {
            // Who is told that they are not logged in must not be.
            self.logins.take_back(&held, before);
            return Err(error.into());
        }
        held.login.renew(until);
        let told = held.told();
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
        let mut found = self.logins.of_key(key);
        found.retain(|held| provider.is_none_or(|name| held.session.borrow().provider == name));
        if found.is_empty() {
            return Ok(Vec::new());
        }
        for held in &found {
            held.login.end();
            self.logins.forget(held);
        }
        // What does not count here any more is forgotten first, whatever the provider says; and where it cannot be forgotten, its
        // tokens are revoked all the same.
        let saved = self.logins.save();
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
        saved?;
        Ok(ended)
    }

    /// The caller's logins, the newest first.
    #[must_use]
    pub fn logins(&self, caller: &Caller) -> Vec<Told> {
        let Some(key) = caller.key else { return Vec::new() };
        self.logins.of_key(key).iter().map(|held| held.told()).collect()
    }

    /// Whom the caller stands for: the newest login that counts, else the workload that it is, else the user of this host.
    pub async fn attribute(&self, caller: &Caller) -> Attributed {
        let mut notes = Vec::new();
        for held in caller.key.map(|key| self.logins.of_key(key)).unwrap_or_default() {
            if let Some(issuer) = self.issuer_of(&held)
                && held.session.borrow().is_stale(now(), issuer.config.renew)
            {
                notes.extend(renewal::renew(issuer, held.clone(), self.logins.clone()).await.err());
            }
            // While the provider was asked, somebody may have logged out, or in anew. What has just ended is told below.
            let held = match self.logins.current(&held) {
                Some(current) => current,
                None if held.session.borrow().ends == 0 => held,
                None => continue,
            };
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

    /// Renews, in time, what runs that are alive carry, for as long as it is polled: each provider by itself, so that one that hangs
    /// delays nobody's login at another one. What could not be renewed is told.
    pub async fn keep(&self, every: Duration, tell: impl Fn(String)) {
        join_all(self.issuers.iter().map(|issuer| self.keep_on(issuer, every, &tell))).await;
        pending::<()>().await;
    }

    async fn keep_on(&self, issuer: &Rc<Issuer>, every: Duration, tell: &impl Fn(String)) {
        loop {
            tokio::time::sleep(every).await;
            self.keep_of(issuer).await.into_iter().for_each(tell);
        }
    }

    /// One round at one provider.
    pub(super) async fn keep_of(&self, issuer: &Rc<Issuer>) -> Vec<String> {
        let (mut notes, workload) = tokio::join!(renewal::keep(issuer, &self.logins), self.workloads.keep(issuer));
        notes.extend(workload.err());
        notes
    }

    fn issuer_of(&self, held: &Held) -> Option<Rc<Issuer>> {
        let provider = held.session.borrow().provider.clone();
        self.issuers.iter().find(|one| one.config.name == provider).cloned()
    }
}

/// Who cannot be bound.
pub(super) const UNBOUND: RelyingError = RelyingError::Caller(
    "which login session of the host this is cannot be told: its leader has ended, or sudo and the kernel name different users",
);
