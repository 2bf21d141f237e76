//! The relying party against a provider that does whatever a test wants, over real connections and with a real key.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]
#![allow(clippy::needless_pass_by_value, reason = "values are written where they are given")]

mod attacks;
mod life;
mod provider;
mod renewals;
mod spiffe;
mod workloads;

use std::collections::HashMap;
use std::path::Path;

use crewtap_core::identity::{Basis, Identity};
use serde_json::{Value, json};
use tokio::task::LocalSet;

use super::caller::{Caller, Key, LoginSession};
use super::pending::{Answered, Begun};
use super::relying::{RelyingParty, Told};
use crate::config::Config;
use provider::Fake;

/// A user in a login session of the host.
fn caller(uid: u32, session: u32) -> Caller {
    let basis = Basis::Os { uid, login_uid: Some(uid), sudo_user: None };
    let groups = vec!["os:staff".to_owned()].into();
    let os = Identity { id: format!("os:{uid}"), name: format!("user{uid}"), groups, basis, ..Identity::unknown() };
    Caller { os, key: Some(Key { uid, session: LoginSession::Audit(session) }), unit: None }
}

/// A relying party of some providers.
struct Desk {
    dir: tempfile::TempDir,
    text: String,
    party: RelyingParty,
}

impl Desk {
    fn of(fakes: &[(&str, &Fake, &str)]) -> Self {
        let tables = fakes.iter().map(|(name, fake, more)| {
            format!("[oidc.{name}]\nissuer = '{}'\nclient_id = 'crewtap'\ngroups = 'groups'\n{more}\n", fake.issuer)
        });
        let text: String = tables.collect();
        let dir = tempfile::tempdir().unwrap();
        let party = opened(&text, dir.path()).unwrap();
        Self { dir, text, party }
    }

    /// Of one provider, whose table says all that is not everybody's.
    fn named(name: &str, fake: &Fake, more: &str) -> Self {
        let text = format!("[oidc.{name}]\nissuer = '{}'\nclient_id = 'crewtap'\n{more}\n", fake.issuer);
        let dir = tempfile::tempdir().unwrap();
        let party = opened(&text, dir.path()).unwrap();
        Self { dir, text, party }
    }

    /// What an agent that starts now would have.
    fn again(&self) -> RelyingParty {
        opened(&self.text, self.dir.path()).unwrap()
    }

    /// One round of looking after what runs carry, at all providers.
    async fn round(&self) -> Vec<String> {
        let mut notes = Vec::new();
        for one in &Config::parse(&self.text, Path::new("/c.toml")).unwrap().oidc {
            notes.extend(self.party.keep_of(&self.party.issuer(Some(&one.name)).unwrap()).await);
        }
        notes
    }

    /// Logs in with what the provider says of the person.
    async fn login(&self, fake: &Fake, caller: &Caller, claims: Value) -> Result<Told, String> {
        let begun = self.party.begin(caller, None, 4711).await.map_err(|error| error.to_string())?;
        fake.vouch(&query_of(&begun.url)["nonce"], claims);
        let answer = answer_to(&begun, fake);
        match self.party.finish(caller, &begun.login, &answer).await.map_err(|error| error.to_string())? {
            Answered::LoggedIn(told) => Ok(*told),
            Answered::NotOurs => Err("not ours".into()),
        }
    }
}

fn opened(text: &str, dir: &Path) -> Result<RelyingParty, String> {
    let config = Config::parse(text, Path::new("/c.toml")).unwrap();
    RelyingParty::open(&config.oidc, dir).map_err(|error| error.to_string())
}

fn query_of(url: &str) -> HashMap<String, String> {
    let query = url.split_once('?').unwrap().1;
    openidconnect::url::form_urlencoded::parse(query.as_bytes()).into_owned().collect()
}

/// What the browser brings back when all is well.
fn answer_to(begun: &Begun, fake: &Fake) -> String {
    let state = &query_of(&begun.url)["state"];
    let mut answer = openidconnect::url::form_urlencoded::Serializer::new(String::new());
    answer.append_pair("code", "the-code").append_pair("state", state).append_pair("iss", &fake.issuer).finish()
}

/// Runs a test on one thread, as the agent does.
fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, test);
}

fn alice() -> Value {
    json!({ "sub": "a1", "email": "alice@example.com", "email_verified": true, "groups": ["sre", "dba"] })
}

/// Waits until a time that a token or a login names has come: what is tested is what a clock does to it, and nothing else can.
async fn until_it_expires(expires: u64) {
    let at = std::time::UNIX_EPOCH + std::time::Duration::from_secs(expires);
    tokio::time::sleep(at.duration_since(std::time::SystemTime::now()).unwrap_or_default()).await;
}
