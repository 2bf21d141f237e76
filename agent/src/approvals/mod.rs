//! Approvals: what waits for a human, who may answer, and what is remembered of the answers; overrides too.
//!
//! Never judges and never makes a permit: the gate does.

mod approver;
mod asked;
mod overrides;
mod registry;
mod shown;

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::task::{Context, Poll};
use std::time::Duration;

use crewtap_core::bodies::ApprovalAnswered;
use crewtap_core::event::Body;
use crewtap_core::id::{RunId, Ulid};
use crewtap_core::limits::REASON_BYTES_MAX;
use crewtap_core::mask::digest::DigestKey;
use tokio::sync::watch;

use crate::clock;
use crate::config::approvals::{ApprovalsConfig, OverrideConfig};
use crate::gate::{Answer, Approval};
use crate::journal::Position;
use crate::recorder::{Recorder, Told, Unrecorded};

pub use approver::{Approver, are_one};
pub use asked::Asked;
pub use overrides::{InForce, ended_by_agent, named};
pub use registry::{NotCounted, Outcome};
pub use shown::{Page, Waiting};

use overrides::Overrides;
use registry::{Asking, Ledger, Registry, Settled};

/// Everything that waits. Without a desk ([`Approvals::default`]) nobody can be asked, and all is denied.
#[derive(Clone, Debug, Default)]
pub struct Approvals(Option<Arc<Desk>>);

/// What all who ask and all who answer share.
#[derive(Debug)]
struct Desk {
    config: ApprovalsConfig,
    overrides_config: OverrideConfig,
    key: DigestKey,
    recorder: Recorder,
    registry: Mutex<Registry>,
    overrides: RwLock<Overrides>,
    /// Counts every change of what waits.
    generation: watch::Sender<u64>,
}

impl Ledger for Recorder {
    fn tell(&self, asked: &Asked, body: Body, payload: &[u8]) -> Result<Position, Unrecorded> {
        self.record_burst(
            asked.run,
            asked.session,
            vec![Told { exchange: asked.exchange, body, payload: payload.into() }],
        )
    }
}

impl Approvals {
    /// A desk that works by these.
    #[must_use]
    pub fn new(config: ApprovalsConfig, overrides: OverrideConfig, key: DigestKey, recorder: Recorder) -> Self {
        Self(Some(Arc::new(Desk {
            config,
            overrides_config: overrides,
            key,
            recorder,
            registry: Mutex::default(),
            overrides: RwLock::default(),
            generation: watch::Sender::new(0),
        })))
    }

    /// Asks; who waits gets the answer.
    #[must_use]
    pub fn ask(&self, asked: Asked) -> Approval {
        let Some(desk) = self.0.clone() else {
            return Approval::of(async { Answer { approved: false, why: "nobody can be asked".into() } });
        };
        let digest = asked.digest(&desk.key);
        let asking = desk.lock().ask(&desk.config, asked, digest, clock::now(), &desk.recorder);
        match asking {
            Asking::Answered(id, settled) => Approval {
                id: id.map(|id| id.to_string()).unwrap_or_default(),
                answer: Box::pin(async move { desk.durable(settled).await }),
                leave: Box::new(|| {}),
            },
            Asking::Waits(id) => {
                desk.changed();
                let left = Arc::new(AtomicBool::new(false));
                let wait = Wait { desk: desk.clone(), id, left: left.clone(), taken: false };
                let leaving = desk.clone();
                Approval {
                    id: id.to_string(),
                    answer: Box::pin(async move { desk.durable(wait.await).await }),
                    leave: Box::new(move || {
                        left.store(true, Ordering::Relaxed);
                        leaving.lock().leave(&leaving.config, id, clock::now());
                        leaving.changed();
                    }),
                }
            }
        }
    }

    /// The override in force for what policy takes a target for.
    #[must_use]
    pub fn overridden(&self, resource: &str) -> Option<String> {
        let overrides = self.0.as_ref()?.overrides.read().unwrap_or_else(PoisonError::into_inner);
        if overrides.is_empty() { None } else { overrides.of(resource, clock::mono_ns()) }
    }

    /// What waits, the oldest first.
    #[must_use]
    pub fn waiting(&self) -> Vec<Waiting> {
        let Some(desk) = &self.0 else { return Vec::new() };
        let mut registry = desk.lock();
        if registry.expire(clock::now(), &desk.recorder) {
            desk.changed();
        }
        registry.waiting().map(|(id, question)| Waiting::of(*id, question)).collect()
    }

    /// The question whose id begins so.
    ///
    /// # Errors
    /// When there is none, or several.
    pub fn find(&self, prefix: &str) -> Result<Waiting, NotCounted> {
        let prefix = prefix.to_ascii_uppercase();
        let mut found = self.waiting().into_iter().filter(|one| one.id.starts_with(&prefix));
        match (found.next(), found.next()) {
            (Some(one), None) if !prefix.is_empty() => Ok(one),
            (Some(_), _) => Err(NotCounted(format!("several approvals begin with `{prefix}`: type more of it"))),
            (None, _) => Err(NotCounted(format!("no approval that waits begins with `{prefix}`"))),
        }
    }

    /// What would be sent, as it may be shown, from a byte on.
    ///
    /// # Errors
    /// When the question does not wait any more.
    pub fn shown(&self, id: &str, from: u64) -> Result<Page, NotCounted> {
        let (desk, id) = self.at(id)?;
        let shown = desk.lock().open(id)?.asked.shown.clone();
        Ok(Page::of(&shown, from))
    }

    /// What would be sent, in clear, from a byte on; on record before it is shown.
    ///
    /// # Errors
    /// When that is not allowed, cannot be recorded, or the question does not wait any more.
    pub fn revealed(&self, id: &str, approver: &Approver, from: u64) -> Result<Page, NotCounted> {
        let (desk, id) = self.at(id)?;
        if !desk.config.reveal {
            return Err(NotCounted("clear values are not shown: `approvals.reveal` is not set".into()));
        }
        let mut registry = desk.lock();
        let question = registry.open(id)?;
        approver::may_answer(&desk.config, &question.asked.terms, approver).map_err(NotCounted)?;
        let body = ApprovalAnswered {
            id: id.to_string(),
            answer: "revealed".into(),
            by: Some(approver.identity.for_record()),
            way: Some(approver.way.into()),
            reason: None,
            settled: false,
        };
        let told = desk.recorder.tell(&question.asked, body.into(), &[]);
        told.map_err(|error| NotCounted(format!("showing it {error}")))?;
        Ok(Page::of(question.asked.clear.expose(), from))
    }

    /// Somebody answers the question with this id.
    ///
    /// # Errors
    /// Why it does not count.
    pub fn answer(
        &self,
        id: &str,
        approver: &Approver,
        approve: bool,
        reason: Option<String>,
    ) -> Result<Outcome, NotCounted> {
        let (desk, id) = self.at(id)?;
        let reason = reason.map(|reason| sentence(&reason)).transpose()?.filter(|reason| !reason.is_empty());
        let outcome = desk.lock().answer(&desk.config, (id, approver), (approve, reason), clock::now(), &desk.recorder);
        desk.changed();
        outcome
    }

    /// Begins an override of what policy takes a target for.
    ///
    /// # Errors
    /// Why not.
    pub fn begin_override(
        &self,
        approver: &Approver,
        target: String,
        reason: &str,
        lasts: Duration,
    ) -> Result<InForce, NotCounted> {
        let desk = self.desk()?;
        let reason = sentence(reason)?;
        if reason.is_empty() {
            return Err(NotCounted("an override needs a reason".into()));
        }
        let record = |event| desk.recorder.record(Body::Override(event));
        let mut overrides = desk.overrides.write().unwrap_or_else(PoisonError::into_inner);
        overrides.begin(&desk.overrides_config, approver, (target, reason, lasts), clock::now(), record)
    }

    /// Ends the override whose id begins so.
    ///
    /// # Errors
    /// Why not.
    pub fn end_override(&self, approver: &Approver, prefix: &str) -> Result<InForce, NotCounted> {
        let desk = self.desk()?;
        let record = |event| desk.recorder.record(Body::Override(event));
        let mut overrides = desk.overrides.write().unwrap_or_else(PoisonError::into_inner);
        overrides.end(&desk.overrides_config, approver, prefix, clock::now(), record)
    }

    /// Overrides that are in force.
    #[must_use]
    pub fn overrides(&self) -> Vec<InForce> {
        let Some(desk) = &self.0 else { return Vec::new() };
        desk.overrides.read().unwrap_or_else(PoisonError::into_inner).in_force(clock::now())
    }

    /// Counts every change of what waits.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        let Some(desk) = &self.0 else { return watch::channel(0).1 };
        desk.generation.subscribe()
    }

    /// A run has no process left: nobody waits for its answers.
    pub fn run_ended(&self, run: RunId) {
        let Some(desk) = &self.0 else { return };
        if desk.lock().run_ended(run, &desk.recorder) {
            desk.changed();
        }
    }

    /// The agent ends: what waits is denied, and no override is in force.
    pub fn end(&self) {
        let Some(desk) = &self.0 else { return };
        desk.lock().end(&desk.recorder);
        let mut overrides = desk.overrides.write().unwrap_or_else(PoisonError::into_inner);
        overrides.end_all(clock::now(), |event| desk.recorder.record(Body::Override(event)));
        drop(overrides);
        desk.changed();
    }

    /// Denies what is not answered in time, as long as it is polled.
    pub async fn watch_time(&self) {
        let Some(desk) = &self.0 else { return std::future::pending().await };
        let mut changes = desk.generation.subscribe();
        loop {
            let next = desk.lock().next_expiry();
            let left = next.map(|at| Duration::from_nanos(at.saturating_sub(clock::mono_ns())));
            let expires = async {
                match left {
                    Some(left) => tokio::time::sleep(left).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = expires => {
                    if desk.lock().expire(clock::now(), &desk.recorder) {
                        desk.changed();
                    }
                }
                changed = changes.changed() => if changed.is_err() { return },
            }
        }
    }

    fn desk(&self) -> Result<&Arc<Desk>, NotCounted> {
        self.0.as_ref().ok_or_else(|| NotCounted("this agent asks nobody".into()))
    }

    fn at(&self, id: &str) -> Result<(&Arc<Desk>, Ulid), NotCounted> {
        let desk = self.desk()?;
        let id = Ulid::from_string(id).map_err(|_| NotCounted(format!("`{id}` is no id of an approval")))?;
        Ok((desk, id))
    }
}

impl Desk {
    fn lock(&self) -> MutexGuard<'_, Registry> {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn changed(&self) {
        self.generation.send_modify(|generation| *generation = generation.wrapping_add(1));
    }

    /// An approval counts once it is as durable as what the session forwards.
    async fn durable(&self, settled: Settled) -> Answer {
        if settled.answer.approved
            && let Some(position) = settled.position
            && let Err(error) = self.recorder.journal().durable(position).await
        {
            return Answer { approved: false, why: format!("its approval cannot be recorded: {error}") };
        }
        settled.answer
    }
}

/// Who waits for an answer. Dropped before it came, and without leaving, the question is withdrawn.
struct Wait {
    desk: Arc<Desk>,
    id: Ulid,
    left: Arc<AtomicBool>,
    taken: bool,
}

impl Future for Wait {
    type Output = Settled;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Settled> {
        let polled = self.desk.lock().poll(self.id, context.waker());
        self.taken |= polled.is_ready();
        polled
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        if !self.taken && !self.left.load(Ordering::Relaxed) {
            self.desk.lock().withdraw(self.id, &self.desk.recorder);
            self.desk.changed();
        }
    }
}

/// A reason in one line: what could turn or hide text on a terminal has no place in it.
fn sentence(reason: &str) -> Result<String, NotCounted> {
    if reason.len() > REASON_BYTES_MAX {
        return Err(NotCounted(format!("a reason has {REASON_BYTES_MAX} bytes at most")));
    }
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    Ok(reason.chars().map(plain).collect::<String>().trim().to_owned())
}

#[cfg(test)]
mod tests;
