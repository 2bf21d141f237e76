//! What is asked of the gate on a channel, and what a client is told of its answer.
//!
//! Owns the wait for a human, which ends with the channel. Never forwards and never records an exchange.

use crewtap_core::action::Action;
use crewtap_core::verdict::Verdict;

use super::Conversation;
use super::queue::Inbox;
use crate::gate::{Content, Passage};
use crate::recorder::Unrecorded;

impl Conversation<'_> {
    /// Whether an action of exchange `n` may happen; else why not, for its client. Where somebody is asked, `held` is called, and
    /// the answer is waited for as long as the channel is there.
    ///
    /// # Errors
    /// When the decision cannot be recorded.
    pub(super) async fn may(
        &self,
        (n, action): (u32, Action),
        content: &Content<'_>,
        up: &Inbox,
        held: impl FnOnce(),
    ) -> Result<Result<(), String>, Unrecorded> {
        if self.session.is_open(&self.target) {
            return Ok(Ok(()));
        }
        let decision = self.session.ask(Some(n), action, &self.target, Some(content))?;
        let why = self.refusal(n, &decision.verdict);
        match decision.passage {
            Passage::Open(_) => Ok(Ok(())),
            Passage::Closed => Ok(Err(why)),
            Passage::Held(question) => {
                held();
                tokio::select! {
                    permit = question.answer() => Ok(permit.map(drop).map_err(|no| format!("{why}; {no}"))),
                    () = up.closed() => Ok(Err("the client has gone while an approval was waited for".into())),
                }
            }
        }
    }

    /// Why something was refused, for its client.
    fn refusal(&self, n: u32, verdict: &Verdict) -> String {
        let policies = if verdict.policies.is_empty() { "none allows it".into() } else { verdict.policies.join(", ") };
        let session = self.session.id();
        format!("crewtap: refused by policy; session {session}, exchange {n}; policies: {policies}")
    }
}
