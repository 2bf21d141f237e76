//! Requests that wait for a human.
//!
//! Owns what becomes of the wait. Never decides: the gate does, and the human that it asks.

use std::cell::Cell;
use std::ops::Range;
use std::rc::Rc;
use std::time::Duration;

use super::asking::Refusing;
use crate::gate;
use crate::relay::Decision;

/// A request that waits.
pub(super) struct Held {
    /// Bytes of the request, at the beginning of what comes next.
    pub(super) len: usize,
    /// Its head within them.
    pub(super) head: Range<usize>,
    /// What becomes of it where the answer is no.
    pub(super) refused: Refusing,
    operation: String,
    wait: Option<Duration>,
    approval: Option<gate::Held>,
    answer: Rc<Cell<Option<Answer>>>,
}

enum Answer {
    Approved,
    Refused(String),
    Later,
}

impl Held {
    pub(super) fn new(
        (head, len): (Range<usize>, usize),
        approval: gate::Held,
        wait: Option<Duration>,
        refused: Refusing,
    ) -> Self {
        let operation = approval.id().to_owned();
        Self { len, head, refused, operation, wait, approval: Some(approval), answer: Rc::default() }
    }

    /// Whether it may go on, and what its client is told where it may not; none while nobody has answered.
    pub(super) fn answer(&mut self) -> Option<bool> {
        let problem = &mut self.refused.problem;
        match self.answer.take()? {
            Answer::Approved => return Some(true),
            Answer::Refused(why) => *problem = problem.clone().denied(&why),
            Answer::Later => *problem = problem.clone().later(&self.operation),
        }
        Some(false)
    }

    /// Resolves when a human has answered, or the wait is over.
    pub(super) fn decision(&mut self) -> Decision {
        let Some(approval) = self.approval.take() else { return Box::pin(std::future::ready(())) };
        let (answer, wait) = (self.answer.clone(), self.wait);
        Box::pin(async move {
            let came = match wait {
                Some(wait) => approval.answer_within(wait).await,
                None => approval.answer().await.map_err(Some),
            };
            answer.set(Some(match came {
                Ok(_) => Answer::Approved,
                Err(Some(why)) => Answer::Refused(why),
                Err(None) => Answer::Later,
            }));
        })
    }
}
