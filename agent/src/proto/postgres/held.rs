//! Statements that wait for a human, and statements that were refused.
//!
//! Owns what the client is told. Never decides: the gate does, and the human that it asks.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use crewtap_core::action::{Fact, Facts};
use crewtap_core::bodies::Response;
use crewtap_core::event::Body;
use crewtap_core::id::SessionId;
use crewtap_core::verdict::Verdict;
use crewtap_core::wire::postgres::MEDIA_TYPE;
use crewtap_core::wire::postgres::reply::{self, Complaint};
use tokio::sync::futures::OwnedNotified;

use super::told::part;
use crate::cancels::Cancel;
use crate::gate;
use crate::relay::Decision;

/// A message that waits.
pub(super) struct Held {
    pub(super) exchange: u32,
    /// Bytes of the message, at the beginning of what comes next.
    pub(super) len: usize,
    pub(super) refused: Refused,
    approval: Option<gate::Held>,
    /// Made when the wait begins: a cancel request that comes before anybody looks is not lost.
    cancelled: Option<OwnedNotified>,
    answer: Rc<Cell<Option<Answer>>>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Answer {
    Approved,
    Refused,
    Cancelled,
}

impl Held {
    pub(super) fn new(
        exchange: u32,
        len: usize,
        approval: gate::Held,
        cancel: Option<Arc<Cancel>>,
        refused: Refused,
    ) -> Self {
        let cancelled = cancel.map(|cancel| cancel.cancelled.clone().notified_owned());
        Self { exchange, len, refused, approval: Some(approval), cancelled, answer: Rc::default() }
    }

    /// Whether it may go on; none while nobody has answered.
    pub(super) fn answer(&mut self) -> Option<bool> {
        let answer = self.answer.get()?;
        if answer == Answer::Cancelled {
            self.refused = self.refused.cancelled();
        }
        Some(answer == Answer::Approved)
    }

    /// Resolves when a human has answered, or the client has cancelled it.
    pub(super) fn decision(&mut self) -> Decision {
        let Some(approval) = self.approval.take() else { return Box::pin(std::future::ready(())) };
        let (answer, cancelled) = (self.answer.clone(), self.cancelled.take());
        let cancelled = async move {
            match cancelled {
                Some(cancelled) => cancelled.await,
                None => std::future::pending().await,
            }
        };
        Box::pin(async move {
            let came = tokio::select! {
                permit = approval.answer() => if permit.is_ok() { Answer::Approved } else { Answer::Refused },
                () = cancelled => Answer::Cancelled,
            };
            answer.set(Some(came));
        })
    }
}

/// Why a statement does not run, for its client.
#[derive(Clone, Debug)]
pub(super) struct Refused {
    code: &'static str,
    message: &'static str,
    detail: String,
}

impl Refused {
    pub(super) fn by_policy(session: SessionId, exchange: u32, verdict: &Verdict) -> Self {
        let policies = if verdict.policies.is_empty() { "none allows it".into() } else { verdict.policies.join(", ") };
        let detail = format!("Session {session}, exchange {exchange}; policies: {policies}.");
        Self { code: "42501", message: "crewtap: refused by policy", detail }
    }

    /// It would have been asked for, and nobody can look at all of it.
    pub(super) fn unseen(self) -> Self {
        Self { message: "crewtap: refused: this needs an approval, and not all of it can be shown", ..self }
    }

    fn cancelled(&self) -> Self {
        let message = "crewtap: cancelled by its client while it waited for an approval";
        Self { code: "57014", message, detail: self.detail.clone() }
    }

    /// The error that the client gets.
    pub(super) fn error(&self) -> Vec<u8> {
        let hint = "`crewtap show` of the exchange tells what was judged.";
        let Self { code, message, detail } = self;
        Complaint { severity: "ERROR", code, message, detail, hint }.error()
    }

    /// What goes to the target in its place, and fails there.
    pub(super) fn instead(tag: u8) -> Vec<u8> {
        if matches!(tag, b'Q' | b'F') { reply::refused_query() } else { reply::refused_parse() }
    }
}

/// An exchange whose answer never came.
pub(super) fn cut(held: bool) -> Body {
    let why = if held {
        "the session ended while it was held: it did not run"
    } else {
        "the session ended before its answer"
    };
    let facts = Facts::from([("cut".to_owned(), Fact::Text(why.into()))]);
    Response { outcome: "aborted".into(), facts, parts: vec![part(MEDIA_TYPE.into(), 0)], ..Response::default() }.into()
}
