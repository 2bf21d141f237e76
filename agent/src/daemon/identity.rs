//! Logins as the agent serves them: the control socket's requests, whom a run belongs to, and renewal in time.
//!
//! Never decides whether a token counts: the relying party does.

use std::time::Duration;

use crewtap_core::bodies::Note;

use super::Daemon;
use crate::control::identity::{Reply, Request, WAIT_MS_MAX, Who};
use crate::control::{Peer, Refusal};
use crate::identity::caller::Caller;
use crate::identity::pending::{Answered, Begun};
use crate::identity::relying::{Attributed, RelyingError, Told};

/// How often it is looked whether a login that a run carries must be renewed.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

impl From<RelyingError> for Refusal {
    fn from(error: RelyingError) -> Self {
        Self::because(error)
    }
}

/// Who is on the other side of a control connection.
fn caller(peer: &Peer) -> Result<Caller, Refusal> {
    Caller::of(peer.pid, peer.life.as_deref()).map_err(Refusal::because)
}

impl Daemon {
    /// Whom the process on the other side stands for.
    pub(super) async fn attribute(&self, peer: &Peer) -> Result<Attributed, Refusal> {
        let caller = caller(peer)?;
        let attributed = self.relying.attribute(&caller).await;
        for note in &attributed.notes {
            self.recorder.note("login", note.clone());
        }
        Ok(attributed)
    }

    /// Renews what living runs carry, as long as it is polled.
    pub(super) async fn keep_logins(&self) {
        self.relying.keep(LOOK_INTERVAL, |note| self.recorder.note("login", note)).await;
    }

    /// Answers one request.
    pub(super) async fn about_identity(&self, peer: &Peer, request: Request) -> Result<Reply, Refusal> {
        let caller = caller(peer)?;
        match request {
            Request::Begin { provider, port } => {
                self.begun(self.relying.begin(&caller, provider.as_deref(), port).await)
            }
            Request::BeginDevice { provider } => {
                self.begun(self.relying.begin_device(&caller, provider.as_deref()).await)
            }
            Request::Finish { login, query } => match self.relying.finish(&caller, &login, &query).await {
                Ok(Answered::NotOurs) => Ok(Reply::NotOurs),
                Ok(Answered::LoggedIn(told)) => Ok(self.logged_in(&caller, told)),
                Err(error) => Err(self.failed(&caller, &error)),
            },
            Request::WaitForDevice { login } => {
                let wait = Duration::from_millis(WAIT_MS_MAX);
                match self.relying.wait_for_device(&caller, &login, wait).await {
                    Ok(None) => Ok(Reply::Waiting),
                    Ok(Some(told)) => Ok(self.logged_in(&caller, Box::new(told))),
                    Err(error) => Err(self.failed(&caller, &error)),
                }
            }
            Request::Logout { provider } => {
                let ended = self.relying.logout(&caller, provider.as_deref()).await?;
                for one in &ended {
                    let revoked = if one.revoked { "its tokens are revoked" } else { "its tokens are not revoked" };
                    self.tell("logged_out", format!("{} logged out of {}; {revoked}", one.identity, one.provider));
                }
                Ok(Reply::LoggedOut { ended })
            }
            Request::WhoAmI => Ok(Reply::Who(Box::new(self.who(&caller).await))),
        }
    }

    fn begun(&self, begun: Result<Begun, RelyingError>) -> Result<Reply, Refusal> {
        match begun {
            Ok(begun) => Ok(Reply::Begun { begun }),
            Err(error) => {
                self.tell("login_failed", error.to_string());
                Err(error.into())
            }
        }
    }

    fn logged_in(&self, caller: &Caller, login: Box<Told>) -> Reply {
        let Told { identity, name, provider, way, .. } = &*login;
        self.tell(
            "logged_in",
            format!("{name} ({identity}) logged in at {provider} by {}, {}", way.as_str(), bound(caller)),
        );
        Reply::LoggedIn { login }
    }

    fn failed(&self, caller: &Caller, error: &RelyingError) -> Refusal {
        self.tell("login_failed", format!("{error}; {}", bound(caller)));
        Refusal::because(error)
    }

    async fn who(&self, caller: &Caller) -> Who {
        let Attributed { identity, notes, .. } = self.relying.attribute(caller).await;
        Who {
            identity: identity.for_record(),
            os: caller.os.for_record(),
            bound: caller.key.map(|key| key.session.to_string()),
            logins: self.relying.logins(caller),
            notes,
        }
    }

    /// On record, and no warning.
    fn tell(&self, code: &str, text: String) {
        tracing::info!(code, "{text}");
        if let Err(error) = self.recorder.record(Note { code: code.into(), text }.into()) {
            tracing::error!(code, %error, "a note was lost");
        }
    }
}

fn bound(caller: &Caller) -> String {
    match caller.key {
        Some(key) => format!("bound to {} ({}), {}", caller.os.name, caller.os.id, key.session),
        None => format!("by {} ({})", caller.os.name, caller.os.id),
    }
}
