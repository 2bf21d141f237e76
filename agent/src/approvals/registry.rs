//! Questions that wait, answers that are remembered, and the rules of both. Every change is on record before it counts.
//!
//! Reads no clock and wakes nobody by itself: who calls says what time it is, under one lock.

use std::collections::{BTreeMap, VecDeque};
use std::task::{Poll, Waker};

use crewtap_core::bodies::{ApprovalAnswered, ApprovalAsked};
use crewtap_core::event::{Body, Stamp};
use crewtap_core::id::{RunId, SessionId, Ulid};
use crewtap_core::identity::Identity;
use crewtap_core::limits::{
    APPROVALS_BYTES_MAX, APPROVALS_PENDING_MAX, APPROVALS_PER_RUN_MAX, APPROVALS_REMEMBERED_MAX,
};
use crewtap_core::verdict::Terms;

use super::approver::{self, Approver};
use super::asked::Asked;
use crate::config::approvals::ApprovalsConfig;
use crate::gate::Answer;
use crate::journal::Position;
use crate::recorder::Unrecorded;

/// Where what happens is put on record. Returns when it is.
pub(super) trait Ledger {
    fn tell(&self, asked: &Asked, body: Body, payload: &[u8]) -> Result<Position, Unrecorded>;
}

/// A question.
#[derive(Debug)]
pub(super) struct Question {
    pub(super) asked: Asked,
    pub(super) digest: String,
    pub(super) asked_ns: u64,
    pub(super) expires_ns: u64,
    pub(super) approved_by: Vec<Identity>,
    expires_mono_ns: u64,
    state: State,
    waker: Option<Waker>,
}

#[derive(Clone, Debug)]
enum State {
    /// Somebody waits for the answer.
    Waiting,
    /// Who asked will ask again.
    Left,
    /// The answer is there, and has not been taken yet.
    Settled(Settled),
}

/// An answer, and where it is on record.
#[derive(Clone, Debug)]
pub(super) struct Settled {
    pub(super) answer: Answer,
    pub(super) position: Option<Position>,
}

/// What asking came to.
#[derive(Debug)]
pub(super) enum Asking {
    /// Somebody must answer.
    Waits(Ulid),
    /// It is answered already.
    Answered(Option<Ulid>, Settled),
}

/// An answer that waits for the retry.
#[derive(Debug)]
struct Remembered {
    id: Ulid,
    run: RunId,
    digest: String,
    terms: Terms,
    answer: Answer,
    until_mono_ns: u64,
}

/// What was approved for the rest of a session.
#[derive(Debug)]
struct Standing {
    id: Ulid,
    run: RunId,
    session: SessionId,
    digest: String,
    terms: Terms,
    why: String,
}

/// What an answer came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Outcome {
    /// What waited has its answer.
    pub settled: bool,
    /// So many more people must approve it.
    pub missing: u32,
}

/// Why an answer does not count; a sentence for whoever gave it.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0}")]
pub struct NotCounted(pub String);

/// Everything that waits, and what is remembered.
#[derive(Debug, Default)]
pub(super) struct Registry {
    questions: BTreeMap<Ulid, Question>,
    remembered: VecDeque<Remembered>,
    standing: VecDeque<Standing>,
    bytes: usize,
    ended: bool,
}

impl Registry {
    /// Asks, unless there is an answer already.
    pub(super) fn ask(
        &mut self,
        config: &ApprovalsConfig,
        asked: Asked,
        digest: String,
        now: Stamp,
        ledger: &impl Ledger,
    ) -> Asking {
        self.expire(now, ledger);
        let denied = |why: String| Asking::Answered(None, Settled::denied(why));
        if self.ended {
            return denied("the agent is ending".into());
        }
        if let Some(answered) = self.stands(&asked, &digest, ledger) {
            return answered;
        }
        if let Some(answered) = self.recalled(&asked, &digest, ledger) {
            return answered;
        }
        if let Some(id) = self.joined(&asked, &digest) {
            return Asking::Waits(id);
        }
        if let Err(why) = self.has_room(&asked) {
            return denied(why.into());
        }
        let id = Ulid::generate();
        let lasts = u64::try_from(config.expires.as_nanos()).unwrap_or(u64::MAX);
        let expires_ns = now.wall_ns.saturating_add(lasts);
        let body = ApprovalAsked {
            id: id.to_string(),
            verb: asked.verb.into(),
            subject: asked.subject.clone(),
            target: asked.resource.id.clone(),
            identity: asked.identity.clone(),
            policies: asked.policies.clone(),
            terms: asked.terms.clone(),
            digest: digest.clone(),
            expires_ns,
            media_type: asked.media_type.clone(),
        };
        if let Err(error) = ledger.tell(&asked, body.into(), &asked.shown) {
            return denied(format!("the question {error}"));
        }
        self.bytes += size(&asked);
        let question = Question {
            asked,
            digest,
            asked_ns: now.wall_ns,
            expires_ns,
            approved_by: Vec::new(),
            expires_mono_ns: now.mono_ns.saturating_add(lasts),
            state: State::Waiting,
            waker: None,
        };
        self.questions.insert(id, question);
        Asking::Waits(id)
    }

    /// What was approved for the rest of the session passes.
    fn stands(&mut self, asked: &Asked, digest: &str, ledger: &impl Ledger) -> Option<Asking> {
        let same = |one: &&Standing| one.session == asked.session && one.digest == digest && one.terms == asked.terms;
        let found = self.standing.iter().find(same)?;
        Some(used(found.id, asked, found.why.clone(), ledger))
    }

    /// The answer that came after its client was told to come again: once.
    fn recalled(&mut self, asked: &Asked, digest: &str, ledger: &impl Ledger) -> Option<Asking> {
        let same = |one: &Remembered| one.run == asked.run && one.digest == digest && one.terms == asked.terms;
        let at = self.remembered.iter().position(same)?;
        let found = self.remembered.get(at)?;
        let (id, answer) = (found.id, found.answer.clone());
        if !answer.approved {
            self.remembered.remove(at);
            return Some(Asking::Answered(Some(id), Settled { answer, position: None }));
        }
        let answered = used(id, asked, answer.why.clone(), ledger);
        // What is not on record as used has not been used.
        if matches!(&answered, Asking::Answered(_, settled) if settled.answer.approved) {
            self.remembered.remove(at);
            self.stand(id, asked, digest, &answer.why);
        }
        Some(answered)
    }

    /// The question that was left open, asked again: the same one.
    fn joined(&mut self, asked: &Asked, digest: &str) -> Option<Ulid> {
        let same = |question: &Question| {
            let before = &question.asked;
            matches!(question.state, State::Left)
                && (before.run, &before.terms, question.digest.as_str()) == (asked.run, &asked.terms, digest)
        };
        let (id, question) = self.questions.iter_mut().find(|(_, question)| same(question))?;
        question.state = State::Waiting;
        (question.asked.session, question.asked.exchange) = (asked.session, asked.exchange);
        Some(*id)
    }

    fn has_room(&self, asked: &Asked) -> Result<(), &'static str> {
        let of_run = self.questions.values().filter(|question| question.asked.run == asked.run);
        if of_run.count() >= APPROVALS_PER_RUN_MAX {
            return Err("too many questions of this run wait for their answers");
        }
        if self.questions.len() >= APPROVALS_PENDING_MAX {
            return Err("too many questions wait for their answers");
        }
        if self.bytes.saturating_add(size(asked)) > APPROVALS_BYTES_MAX {
            return Err("the questions that wait for their answers are too large");
        }
        Ok(())
    }

    /// Somebody answers.
    pub(super) fn answer(
        &mut self,
        config: &ApprovalsConfig,
        (id, approver): (Ulid, &Approver),
        (approve, reason): (bool, Option<String>),
        now: Stamp,
        ledger: &impl Ledger,
    ) -> Result<Outcome, NotCounted> {
        self.expire(now, ledger);
        let question = self.open(id)?;
        approver::may_answer(config, &question.asked.terms, approver).map_err(NotCounted)?;
        if approve {
            approver::counts(config, &question.asked.identity, &question.approved_by, approver).map_err(NotCounted)?;
        }
        let given = u32::try_from(question.approved_by.len()).unwrap_or(u32::MAX).saturating_add(1);
        let missing = if approve { question.asked.terms.approvers.saturating_sub(given) } else { 0 };
        let word = if approve { "approved" } else { "denied" };
        let body = ApprovalAnswered {
            id: id.to_string(),
            answer: word.into(),
            by: Some(approver.identity.for_record()),
            way: Some(approver.way.into()),
            reason: reason.clone(),
            settled: missing == 0,
        };
        let position = match ledger.tell(&question.asked, body.into(), &[]) {
            Ok(position) => position,
            Err(error) => {
                let why = format!("the answer {error}");
                self.settle(config, id, Settled::denied(why.clone()), now);
                return Err(NotCounted(format!("{why}: it counts as denied")));
            }
        };
        let question = self.open(id)?;
        if approve {
            question.approved_by.push(approver.identity.for_record());
        }
        if missing == 0 {
            let names: Vec<&str> = if approve {
                question.approved_by.iter().map(|one| one.name.as_str()).collect()
            } else {
                vec![&approver.identity.name]
            };
            let reason = reason.map(|reason| format!(": {reason}")).unwrap_or_default();
            let why = format!("{word} by {}{reason}", names.join(", "));
            let answer = Answer { approved: approve, why };
            self.settle(config, id, Settled { answer, position: Some(position) }, now);
        }
        Ok(Outcome { settled: missing == 0, missing })
    }

    /// A question that still can be answered.
    pub(super) fn open(&mut self, id: Ulid) -> Result<&mut Question, NotCounted> {
        let question = self.questions.get_mut(&id).filter(|question| !matches!(question.state, State::Settled(_)));
        question
            .ok_or_else(|| NotCounted(format!("approval {id} does not wait any more: it was answered, or has ended")))
    }

    /// All that can be answered, the oldest first.
    pub(super) fn waiting(&self) -> impl Iterator<Item = (&Ulid, &Question)> {
        self.questions.iter().filter(|(_, question)| !matches!(question.state, State::Settled(_)))
    }

    /// The answer goes to who waits, or is remembered for who comes again.
    fn settle(&mut self, config: &ApprovalsConfig, id: Ulid, settled: Settled, now: Stamp) {
        let Some(question) = self.questions.get_mut(&id) else { return };
        match question.state {
            State::Left => {
                self.remember(config, id, settled.answer, now);
            }
            State::Waiting => {
                question.state = State::Settled(settled);
                if let Some(waker) = question.waker.take() {
                    waker.wake();
                }
            }
            State::Settled(_) => {}
        }
    }

    /// The question's place is free; its answer waits for the retry.
    fn remember(&mut self, config: &ApprovalsConfig, id: Ulid, answer: Answer, now: Stamp) {
        let Some(question) = self.remove(id) else { return };
        if self.remembered.len() >= APPROVALS_REMEMBERED_MAX {
            self.remembered.pop_front();
        }
        let lasts = u64::try_from(config.expires.as_nanos()).unwrap_or(u64::MAX);
        let until_mono_ns = now.mono_ns.saturating_add(lasts);
        let Asked { run, terms, .. } = question.asked;
        self.remembered.push_back(Remembered { id, run, digest: question.digest, terms, answer, until_mono_ns });
    }

    /// From now on the same passes in this session, where all policies have said so.
    fn stand(&mut self, id: Ulid, asked: &Asked, digest: &str, why: &str) {
        if !asked.terms.whole_session {
            return;
        }
        if self.standing.len() >= APPROVALS_REMEMBERED_MAX {
            self.standing.pop_front();
        }
        let (run, session, terms) = (asked.run, asked.session, asked.terms.clone());
        self.standing.push_back(Standing { id, run, session, digest: digest.into(), terms, why: why.into() });
    }

    /// Who waits looks for the answer.
    pub(super) fn poll(&mut self, id: Ulid, waker: &Waker) -> Poll<Settled> {
        let Some(question) = self.questions.get_mut(&id) else {
            return Poll::Ready(Settled::denied("the question is gone".into()));
        };
        let State::Settled(settled) = &question.state else {
            question.waker = Some(waker.clone());
            return Poll::Pending;
        };
        let settled = settled.clone();
        if let Some(question) = self.remove(id)
            && settled.answer.approved
        {
            self.stand(id, &question.asked, &question.digest, &settled.answer.why);
        }
        Poll::Ready(settled)
    }

    /// Who waits will ask again; an answer that came at this very moment is theirs then.
    pub(super) fn leave(&mut self, config: &ApprovalsConfig, id: Ulid, now: Stamp) {
        let Some(question) = self.questions.get_mut(&id) else { return };
        question.waker = None;
        match question.state.clone() {
            State::Settled(settled) => self.remember(config, id, settled.answer, now),
            State::Waiting | State::Left => question.state = State::Left,
        }
    }

    /// Who waits has gone for good.
    pub(super) fn withdraw(&mut self, id: Ulid, ledger: &impl Ledger) {
        if let Some(question) = self.questions.get(&id)
            && matches!(question.state, State::Waiting)
        {
            let _ = ledger.tell(&question.asked, by_nobody(id, "withdrawn", "its client has gone"), &[]);
        }
        self.remove(id);
    }

    /// Denies what nobody has answered in time, and forgets what nobody has used. Tells whether anything changed.
    pub(super) fn expire(&mut self, now: Stamp, ledger: &impl Ledger) -> bool {
        self.remembered.retain(|one| one.until_mono_ns > now.mono_ns);
        let over = |question: &Question| question.expires_mono_ns <= now.mono_ns;
        self.end_where(over, ("expired", "nobody has answered in time"), ledger)
    }

    /// When the next question expires, by the monotonic clock.
    pub(super) fn next_expiry(&self) -> Option<u64> {
        self.waiting().map(|(_, question)| question.expires_mono_ns).min()
    }

    /// A run has no process left.
    pub(super) fn run_ended(&mut self, run: RunId, ledger: &impl Ledger) -> bool {
        self.remembered.retain(|one| one.run != run);
        self.standing.retain(|one| one.run != run);
        self.end_where(|question| question.asked.run == run, ("withdrawn", "its run has ended"), ledger)
    }

    /// The agent ends: nothing is approved any more.
    pub(super) fn end(&mut self, ledger: &impl Ledger) {
        self.ended = true;
        self.remembered.clear();
        self.standing.clear();
        self.end_where(|_| true, ("lost", "the agent has ended"), ledger);
    }

    fn end_where(&mut self, ends: impl Fn(&Question) -> bool, (word, why): (&str, &str), ledger: &impl Ledger) -> bool {
        let ending: Vec<Ulid> = self.waiting().filter(|(_, question)| ends(question)).map(|(id, _)| *id).collect();
        for id in &ending {
            let Some(question) = self.questions.get_mut(id) else { continue };
            // Denied whether or not it can be told.
            if let Err(error) = ledger.tell(&question.asked, by_nobody(*id, word, why), &[]) {
                tracing::error!(approval = %id, %error, "the end of a question was lost");
            }
            if matches!(question.state, State::Left) {
                self.remove(*id);
            } else {
                question.state = State::Settled(Settled::denied(why.into()));
                if let Some(waker) = question.waker.take() {
                    waker.wake();
                }
            }
        }
        !ending.is_empty()
    }

    fn remove(&mut self, id: Ulid) -> Option<Question> {
        let question = self.questions.remove(&id)?;
        self.bytes = self.bytes.saturating_sub(size(&question.asked));
        Some(question)
    }
}

impl Settled {
    pub(super) fn denied(why: String) -> Self {
        Self { answer: Answer { approved: false, why }, position: None }
    }
}

/// A grant lets something pass, once that is on record.
fn used(id: Ulid, asked: &Asked, why: String, ledger: &impl Ledger) -> Asking {
    let reason = Some(why.clone());
    let body =
        ApprovalAnswered { id: id.to_string(), answer: "used".into(), by: None, way: None, reason, settled: true };
    let settled = match ledger.tell(asked, body.into(), &[]) {
        Ok(position) => Settled { answer: Answer { approved: true, why }, position: Some(position) },
        Err(error) => Settled::denied(format!("the use of its approval {error}")),
    };
    Asking::Answered(Some(id), settled)
}

/// A question that nobody answers any more.
fn by_nobody(id: Ulid, answer: &str, why: &str) -> Body {
    let (answer, reason) = (answer.into(), Some(why.into()));
    ApprovalAnswered { id: id.to_string(), answer, by: None, way: None, reason, settled: true }.into()
}

/// Bytes that a question holds.
fn size(asked: &Asked) -> usize {
    asked.shown.len().saturating_add(asked.clear.expose().len()).saturating_add(asked.subject.len())
}
