//! Logins that have begun: what binds the browser's answer to the question, and to who asked.
//!
//! Owns the life of such a login: it is answered once, by whoever began it. Never lets an answer of one provider count for
//! another (RFC 9700, 4.4; RFC 9207).

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use crewtap_core::id::Ulid;
use crewtap_core::identity::{Basis, Way};
use crewtap_core::limits::{LOGIN_WAIT, LOGINS_PENDING_MAX};
use openidconnect::core::CoreDeviceAuthorizationResponse;
use openidconnect::url::form_urlencoded;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::caller::{Caller, Key};
use super::issuer::{Issuer, IssuerError};
use super::relying::{RelyingError, RelyingParty, Told, UNBOUND};
use super::requests::{Asked, Vouched};

/// Longest answer of a browser, in bytes.
pub const QUERY_BYTES_MAX: usize = 16 * 1024;

/// Answers that are not ours that a login survives; then somebody is guessing.
const STRANGERS_MAX: u32 = 64;

/// A login that has begun.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Begun {
    /// What it is answered by.
    pub login: String,
    /// The provider's name in the configuration.
    pub provider: String,
    /// Where the person goes.
    pub url: String,
    /// What is typed there, for a device.
    pub code: Option<String>,
    /// The same with the code in it.
    pub complete: Option<String>,
    /// How long it is waited for, in seconds.
    pub waits_s: u64,
    /// The users of this host whose browser may answer, as the kernel knows them: who began it, and who logged in here before
    /// they became that one.
    #[serde(default)]
    pub users: Vec<u32>,
}

/// What became of a browser's answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Answered {
    /// Somebody has logged in.
    LoggedIn(Box<Told>),
    /// It is no answer to this login, which goes on waiting.
    NotOurs,
}

#[derive(Debug)]
struct Pending {
    issuer: Rc<Issuer>,
    key: Key,
    until: Instant,
    strangers: u32,
    what: What,
}

#[derive(Debug)]
enum What {
    Browser(Box<Asked>),
    Device(Asking),
}

/// Asks the provider until the person has logged in, or nobody waits any more.
#[derive(Debug)]
struct Asking(tokio::task::JoinHandle<Result<Vouched, IssuerError>>);

impl Drop for Asking {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Pendings(RefCell<BTreeMap<Ulid, Pending>>);

impl Pendings {
    fn insert(&self, pending: Pending) -> Result<Ulid, RelyingError> {
        let mut all = self.0.borrow_mut();
        all.retain(|_, pending| pending.until > Instant::now());
        if all.len() >= LOGINS_PENDING_MAX {
            return Err(RelyingError::Full("too many logins have begun on this host: try again in some minutes"));
        }
        let id = Ulid::generate();
        all.insert(id, pending);
        Ok(id)
    }
}

impl RelyingParty {
    /// Begins a login in a browser of this host that comes back to `port` of loopback.
    ///
    /// # Errors
    /// When the caller cannot be bound, or the provider does not answer.
    pub async fn begin(&self, caller: &Caller, provider: Option<&str>, port: u16) -> Result<Begun, RelyingError> {
        let (issuer, key) = (self.issuer(provider)?, caller.key.ok_or(UNBOUND)?);
        let redirect = &issuer.config.redirect;
        if redirect.port != 0 && redirect.port != port {
            return Err(RelyingError::Provider(format!(
                "`redirect` of the agent's configuration names port {}",
                redirect.port
            )));
        }
        let asked = issuer.authorize(format!("http://127.0.0.1:{port}{}", redirect.path)).await?;
        let (url, name) = (asked.url.clone(), issuer.config.name.clone());
        let what = What::Browser(Box::new(asked));
        let pending = Pending { issuer, key, until: Instant::now() + LOGIN_WAIT, strangers: 0, what };
        let login = self.pendings.insert(pending)?.to_string();
        let (waits_s, users) = (LOGIN_WAIT.as_secs(), users(caller, key));
        Ok(Begun { login, provider: name, url, code: None, complete: None, waits_s, users })
    }

    /// Begins a login on another device.
    ///
    /// # Errors
    /// As [`RelyingParty::begin`].
    pub async fn begin_device(&self, caller: &Caller, provider: Option<&str>) -> Result<Begun, RelyingError> {
        let (issuer, key) = (self.issuer(provider)?, caller.key.ok_or(UNBOUND)?);
        let details: CoreDeviceAuthorizationResponse = issuer.device().await?;
        let waits = details.expires_in().min(Duration::from_hours(1));
        let begun = Begun {
            login: String::new(),
            provider: issuer.config.name.clone(),
            url: details.verification_uri().to_string(),
            code: Some(details.user_code().secret().clone()),
            complete: details.verification_uri_complete().map(|url| url.secret().clone()),
            waits_s: waits.as_secs(),
            users: Vec::new(),
        };
        let asker = issuer.clone();
        let asking = Asking(tokio::task::spawn_local(async move { asker.device_token(&details).await }));
        let until = Instant::now() + waits + Duration::from_mins(1);
        let pending = Pending { issuer, key, until, strangers: 0, what: What::Device(asking) };
        Ok(Begun { login: self.pendings.insert(pending)?.to_string(), ..begun })
    }

    /// The browser has come back with a query.
    ///
    /// # Errors
    /// When the login is over: it was refused, the answer is another provider's, or what the provider gives does not count.
    pub async fn finish(&self, caller: &Caller, login: &str, query: &str) -> Result<Answered, RelyingError> {
        let Some((issuer, key, asked, answer)) = self.taken(caller, login, query)? else {
            return Ok(Answered::NotOurs);
        };
        let code = self.code_of(&issuer, answer).await?;
        let vouched = issuer.redeem(asked, code).await?;
        let told = self.take(&issuer, key, Way::Code, vouched).await?;
        Ok(Answered::LoggedIn(Box::new(told)))
    }

    /// Takes a login that has begun out of those that wait, if the answer is to it: whatever follows, no second answer counts.
    #[allow(clippy::type_complexity, reason = "named once, used once")]
    fn taken(
        &self,
        caller: &Caller,
        login: &str,
        query: &str,
    ) -> Result<Option<(Rc<Issuer>, Key, Asked, Answer)>, RelyingError> {
        let id = Ulid::from_string(login).map_err(|_| gone())?;
        let mut all = self.pendings.0.borrow_mut();
        let pending =
            all.get_mut(&id).filter(|pending| Some(pending.key) == caller.key && pending.until > Instant::now());
        let pending = pending.ok_or_else(gone)?;
        let What::Browser(asked) = &pending.what else { return Err(gone()) };
        let answer = Answer::of(query).filter(|answer| same(answer.state.as_deref(), asked.state.secret()));
        let Some(answer) = answer else {
            pending.strangers += 1;
            if pending.strangers >= STRANGERS_MAX {
                all.remove(&id);
                return Err(RelyingError::Answer("too many answers were not to this login: it is given up".into()));
            }
            return Ok(None);
        };
        let Some(Pending { issuer, key, what: What::Browser(asked), .. }) = all.remove(&id) else { return Err(gone()) };
        Ok(Some((issuer, key, *asked, answer)))
    }

    /// The code of an answer that is this provider's and no other's.
    async fn code_of(&self, issuer: &Issuer, answer: Answer) -> Result<String, RelyingError> {
        let document = issuer.document().await?;
        let name = issuer.config.name.clone();
        match answer.iss {
            Some(iss) if iss != issuer.config.issuer => {
                return Err(RelyingError::Answer(format!(
                    "the answer is of {}, and not of {name}: somebody mixes them up",
                    iss.escape_default()
                )));
            }
            None if document.authorization_response_iss_parameter_supported => {
                return Err(RelyingError::Answer(format!(
                    "the answer does not say that it is of {name}, which says so of all of its answers (RFC 9207)"
                )));
            }
            _ => {}
        }
        if let Some(code) = answer.error {
            return Err(IssuerError::Refused { name, code, text: answer.description }.into());
        }
        answer.code.filter(|code| !code.is_empty()).ok_or_else(|| RelyingError::Answer("the answer has no code".into()))
    }

    /// Waits, for a while, until the person has logged in on the other device; none: not yet.
    ///
    /// # Errors
    /// As [`RelyingParty::finish`].
    pub async fn wait_for_device(
        &self,
        caller: &Caller,
        login: &str,
        wait: Duration,
    ) -> Result<Option<Told>, RelyingError> {
        let id = Ulid::from_string(login).map_err(|_| gone())?;
        let deadline = Instant::now() + wait;
        loop {
            if let Some(pending) = self.finished(caller, id)? {
                return self.device_done(pending).await.map(Some);
            }
            if Instant::now() >= deadline {
                return Ok(None);
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// A device's login that has its answer; none: not yet.
    fn finished(&self, caller: &Caller, id: Ulid) -> Result<Option<Pending>, RelyingError> {
        let mut all = self.pendings.0.borrow_mut();
        let pending = all.get(&id).filter(|pending| Some(pending.key) == caller.key).ok_or_else(gone)?;
        let What::Device(asking) = &pending.what else { return Err(gone()) };
        let is_finished = asking.0.is_finished();
        Ok(if is_finished { all.remove(&id) } else { None })
    }

    async fn device_done(&self, mut pending: Pending) -> Result<Told, RelyingError> {
        let What::Device(asking) = &mut pending.what else { return Err(gone()) };
        let vouched = (&mut asking.0).await.map_err(|error| RelyingError::Answer(error.to_string()))??;
        self.take(&pending.issuer, pending.key, Way::Device, vouched).await
    }
}

fn users(caller: &Caller, key: Key) -> Vec<u32> {
    let login = match caller.os.basis {
        Basis::Os { login_uid, .. } => login_uid,
        Basis::Oidc(_) | Basis::Unknown => None,
    };
    std::iter::once(key.uid).chain(login.filter(|uid| *uid != key.uid)).collect()
}

fn gone() -> RelyingError {
    RelyingError::Answer("no such login waits for an answer: it has been answered, or took too long".into())
}

/// Compared without telling, by the time it takes, where they differ.
fn same(told: Option<&str>, wanted: &str) -> bool {
    told.is_some_and(|told| Sha256::digest(told) == Sha256::digest(wanted))
}

/// What a browser brought back.
#[derive(Debug, Default)]
struct Answer {
    state: Option<String>,
    code: Option<String>,
    iss: Option<String>,
    error: Option<String>,
    description: Option<String>,
}

impl Answer {
    /// None where it cannot be one: a parameter that stands twice could be read in two ways (RFC 6749, 3.1).
    fn of(query: &str) -> Option<Self> {
        if query.len() > QUERY_BYTES_MAX {
            return None;
        }
        let mut answer = Self::default();
        for (key, value) in form_urlencoded::parse(query.as_bytes()) {
            let place = match &*key {
                "state" => &mut answer.state,
                "code" => &mut answer.code,
                "iss" => &mut answer.iss,
                "error" => &mut answer.error,
                "error_description" => &mut answer.description,
                _ => continue,
            };
            if place.replace(value.into_owned()).is_some() {
                return None;
            }
        }
        let plain = |text: String| text.chars().filter(|c| !c.is_control()).take(200).collect();
        answer.error = answer.error.map(plain);
        answer.description = answer.description.map(plain);
        Some(answer)
    }
}

#[cfg(test)]
mod tests {
    use super::Answer;

    #[test]
    fn a_parameter_that_stands_twice_is_no_answer() {
        assert!(Answer::of("code=a&state=b").is_some());
        assert!(Answer::of("code=a&state=b&code=c").is_none());
        assert!(Answer::of("state=b&code=a&iss=x&iss=x").is_none());
        assert_eq!(
            Answer::of("iss=https%3A%2F%2Fa%2F&state=s").and_then(|answer| answer.iss).as_deref(),
            Some("https://a/")
        );
        assert_eq!(Answer::of("error=a%1b%5b2J").and_then(|answer| answer.error).as_deref(), Some("a[2J"));
        assert!(Answer::of(&"x".repeat(20_000)).is_none());
    }
}
