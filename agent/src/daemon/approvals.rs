//! Approvals as the agent serves them: the control socket's requests, the API, the webhook, and the passing of time.
//!
//! Never decides who may answer: the desk does, for whoever the kernel says is on the other side.

use std::net::TcpListener;
use std::rc::Rc;
use std::time::Duration;

use super::Daemon;
use crate::approvals::{Approver, InForce, NotCounted, Waiting, named};
use crate::config::Config;
use crate::control::api::{self, Api};
use crate::control::approvals::{LIST_BYTES_MAX, Reply, Request, WATCH_MS_MAX};
use crate::control::{Peer, Refusal};

/// Listens for the API, where it is configured.
pub(super) fn bind_api(config: &Config) -> std::io::Result<Option<TcpListener>> {
    let Some(api) = &config.approvals.api else { return Ok(None) };
    let listener = TcpListener::bind(api.listen)?;
    listener.set_nonblocking(true)?;
    Ok(Some(listener))
}

impl From<NotCounted> for Refusal {
    fn from(NotCounted(why): NotCounted) -> Self {
        Self(why)
    }
}

impl Daemon {
    /// Serves all of it as long as it is polled.
    pub(super) async fn serve_approvals(self: &Rc<Self>, listener: Option<TcpListener>) {
        let api = async {
            match (listener, &self.config.approvals.api) {
                (Some(listener), Some(config)) => {
                    let api = Api::new(config.clone(), self.approvals.clone(), self.key.clone());
                    if let Err(error) = api::serve(listener, api).await {
                        self.recorder.note("api_failed", format!("the approvers' API is not served any more: {error}"));
                    }
                    std::future::pending::<()>().await;
                }
                _ => std::future::pending::<()>().await,
            }
        };
        tokio::join!(api, self.approvals.watch_time(), self.tell_webhook());
    }

    /// Answers one request.
    pub(super) async fn about_approvals(&self, peer: Peer, request: Request) -> Result<Reply, Refusal> {
        match request {
            Request::List { generation, wait_ms } => Ok(self.list(generation, wait_ms).await),
            Request::Show { id, from } => {
                let waiting = Box::new(self.approvals.find(&id)?);
                let page = self.approvals.shown(&waiting.id, from)?;
                Ok(Reply::Shown { waiting, page })
            }
            Request::Reveal { id, from } => {
                let waiting = Box::new(self.approvals.find(&id)?);
                let page = self.approvals.revealed(&waiting.id, &self.approver(&peer).await?, from)?;
                Ok(Reply::Shown { waiting, page })
            }
            Request::Answer { id, approve, reason } => {
                let id = self.approvals.find(&id)?.id;
                let outcome = self.approvals.answer(&id, &self.approver(&peer).await?, approve, reason)?;
                Ok(Reply::Answered { id, settled: outcome.settled, missing: outcome.missing })
            }
            Request::Override { target, reason, for_s } => {
                let catalog = self.config.catalog().map_err(Refusal::because)?;
                let target =
                    named(&target, catalog.entries().iter().map(|entry| entry.name.as_str())).map_err(Refusal)?;
                let lasts = Duration::from_secs(for_s);
                let begun = self.approvals.begin_override(&self.approver(&peer).await?, target, &reason, lasts)?;
                Ok(Reply::Overrides { overrides: vec![begun] })
            }
            Request::EndOverride { id } => {
                let ended = self.approvals.end_override(&self.approver(&peer).await?, &id)?;
                Ok(Reply::Overrides { overrides: vec![ended] })
            }
            Request::Overrides => Ok(Reply::Overrides { overrides: self.approvals.overrides() }),
        }
    }

    /// Whoever is on the other side of the control socket: it serves root alone, so the question is whom root acts for, and
    /// who that is at an identity provider, if they have logged in there.
    async fn approver(&self, peer: &Peer) -> Result<Approver, Refusal> {
        let identity = self.attribute(peer).await?.identity;
        Ok(Approver { identity, is_root: peer.uid == 0, way: "control" })
    }

    async fn list(&self, known: Option<u64>, wait_ms: u64) -> Reply {
        let mut changes = self.approvals.changes();
        if let Some(known) = known {
            let changed = changes.wait_for(|generation| *generation != known);
            // Whether it has changed or the time is over: the list is what it is.
            let _ = tokio::time::timeout(Duration::from_millis(wait_ms.min(WATCH_MS_MAX)), changed).await;
        }
        // Read before the list: what changes in between is told again.
        let generation = *changes.borrow_and_update();
        let mut waiting = self.approvals.waiting();
        let left_off = fit(&mut waiting);
        Reply::List { generation, waiting, left_off }
    }
}

/// An override, as whoever starts a run while it is in force is told of it.
pub(super) fn told_to_user(one: &InForce) -> String {
    format!("OVERRIDE in force: everything passes to {}, by {}: {}", one.target, one.by.name, one.reason)
}

/// Leaves off what has no room, and counts it.
fn fit(waiting: &mut Vec<Waiting>) -> usize {
    let (mut room, mut count) = (LIST_BYTES_MAX, 0);
    for one in waiting.iter() {
        let bytes = serde_json::to_vec(one).map_or(usize::MAX, |json| json.len());
        let Some(left) = room.checked_sub(bytes) else { break };
        (room, count) = (left, count + 1);
    }
    let left_off = waiting.len() - count;
    waiting.truncate(count);
    left_off
}
