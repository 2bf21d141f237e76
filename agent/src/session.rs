//! One intercepted connection, from accept to close: what a driver may do with it, and nothing else.
//!
//! A driver asks, dials, records and closes here; it never sees the gate, the journal or the
//! network namespace. A session that is dropped without `close` is on record as aborted.

mod dialling;
mod ground;
mod masking;
mod terms;
mod wire;
mod within;

use std::borrow::Cow;
use std::cell::{Cell, OnceCell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crewtap_core::action::Action;
use crewtap_core::bodies::{Chunk, Classified, SessionClosed, SessionOpened};
use crewtap_core::event::Body;
use crewtap_core::id::{SessionId, Ulid};
use crewtap_core::limits;
use crewtap_core::mask::digest::DigestKey;
use crewtap_core::origin::Origin;
use crewtap_core::policy::catalog::Catalog;
use crewtap_core::run::{Mode, Process};
use crewtap_core::session::{Outcome, Side};
use crewtap_core::target::{Resource, Target};
use crewtap_core::verdict::Effect;
use tokio::net::TcpStream;

use crate::gate::{Content, Decision, Passage, Permit, Question};
use crate::journal::{JournalError, Position};
use crate::recorder::{Recorder, Told, Unrecorded};
use crate::runs::{Counts, Run};
use masking::Masking;
use terms::{View, connect_action, decided, micros};
use within::Behind;

pub use self::ground::{Faces, Ground, Grounds, Holding, Ready};
pub use self::terms::Foreseen;
pub use self::within::{Carry, Tunnels, pair};

/// Why [`Session::ask`] gave no permit.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Policy refused, or a human did.
    #[error("{why}")]
    Refused {
        /// The policies that decided.
        policies: Vec<String>,
        /// What to say of it.
        why: String,
    },
    /// The decision could not be recorded.
    #[error(transparent)]
    Unrecorded(#[from] Unrecorded),
}

/// One session. Not `Send`: it lives on the thread that accepted it.
#[derive(Debug)]
pub struct Session {
    id: SessionId,
    run: Arc<Run>,
    ground: Arc<Ground>,
    origin: Origin,
    process: Process,
    accepted: Instant,
    bytes: [Cell<u64>; 2],
    first_byte: Cell<Option<Duration>>,
    dialled_from: Cell<Option<SocketAddr>>,
    /// The connection to a target behind another host, until it is dialled.
    through: RefCell<Option<TcpStream>>,
    behind: OnceCell<Behind>,
    last: Cell<Position>,
    moved: Cell<u64>,
    passed_tls: Cell<bool>,
    opened_tls: Cell<bool>,
    /// What is spoken, as far as it is on record.
    protocol: RefCell<String>,
    masking: Masking,
    /// Masks the texts of its events.
    recorder: Recorder,
    view: RefCell<Option<Rc<View>>>,
    closed: bool,
}

impl Session {
    /// Opens a session on record.
    ///
    /// # Errors
    /// When it could not be recorded: then nothing may be forwarded.
    pub fn open(
        ground: Arc<Ground>,
        run: Arc<Run>,
        origin: Origin,
        client: SocketAddr,
        process: Process,
    ) -> Result<Self, Unrecorded> {
        let Ready { content, texts } = ground.plan(None);
        let masking = Masking::new(content, &ground.key);
        let recorder = run.recorder().with_masks(texts);
        let mut session = Self {
            id: SessionId(Ulid::generate()),
            run,
            ground,
            origin,
            process,
            accepted: Instant::now(),
            bytes: [Cell::new(0), Cell::new(0)],
            first_byte: Cell::new(None),
            dialled_from: Cell::new(None),
            through: RefCell::default(),
            behind: OnceCell::new(),
            last: Cell::new(Position { first: 0, end: 0 }),
            moved: Cell::new(0),
            passed_tls: Cell::new(false),
            opened_tls: Cell::new(false),
            protocol: RefCell::default(),
            masking,
            recorder,
            view: RefCell::default(),
            closed: true,
        };
        let opened = SessionOpened {
            origin: session.origin.clone(),
            client,
            process: session.process.clone(),
            identity: session.run.identity.for_record(),
        };
        session.append(opened.into(), &[])?;
        session.closed = false;
        Counts::add(&session.run.counts.sessions);
        Counts::add(&session.run.counts.open);
        Ok(session)
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> SessionId {
        self.id
    }

    /// Its run.
    #[must_use]
    pub fn run(&self) -> &Arc<Run> {
        &self.run
    }

    /// Where the client wanted to go, as the kernel saw it.
    #[must_use]
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// The process that made the connection.
    #[must_use]
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// The key for digests of what is redacted.
    #[must_use]
    pub fn digest_key(&self) -> &DigestKey {
        &self.ground.key
    }

    /// The targets that are known.
    #[must_use]
    pub(crate) fn catalog(&self) -> &Catalog {
        &self.ground.catalog
    }

    /// What it rests on.
    #[must_use]
    pub(crate) fn ground(&self) -> &Ground {
        &self.ground
    }

    /// What policy takes a target for; the catalog is asked once for each that a session has, and again when it is known
    /// better what is spoken.
    fn view(&self, target: &Target) -> Rc<View> {
        let mut kept = self.view.borrow_mut();
        let (protocol, opened) = (self.protocol.borrow(), self.opened_tls.get());
        match &*kept {
            Some(view) if view.target == *target && view.protocol == *protocol && view.opened == opened => view.clone(),
            _ => {
                let found = self.ground.catalog.resource(target, &protocol, opened);
                let found = found.map(|found| if self.is_behind() { found.behind() } else { found });
                let mode = found.map_or(self.run.mode, |found| found.mode(self.run.mode));
                let found = found.filter(|found| !self.is_behind() || found.is_proven());
                let resource =
                    found.map_or_else(|| Resource::uncatalogued(target.address), |found| found.entry.resource());
                let view = View { target: target.clone(), protocol: protocol.clone(), opened, mode, resource };
                kept.insert(Rc::new(view)).clone()
            }
        }
    }

    /// Asks whether the connection may be opened, and waits where a human is asked. The decision is on record before the answer.
    ///
    /// # Errors
    /// When policy or the human refuses, or the decision could not be recorded.
    pub async fn ask_connect(&self, classified: &Classified) -> Result<Permit, AskError> {
        let action = connect_action(classified);
        let decision = self.ask(None, action, &classified.target, Some(&Content::default()))?;
        let policies = decision.verdict.policies;
        match decision.passage {
            Passage::Open(permit) => Ok(permit),
            Passage::Closed => Err(AskError::Refused { policies, why: "refused by policy".into() }),
            Passage::Held(held) => held.answer().await.map_err(|why| AskError::Refused { policies, why }),
        }
    }

    /// Whether exchanges of the session with this target pass without being asked for.
    #[must_use]
    pub fn is_open(&self, target: &Target) -> bool {
        self.ground.gate.is_open(self.view(target).mode)
    }

    /// The mode in force for the target that was asked for last: the catalog's, where it has one for it, else the run's.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.view.borrow().as_ref().map_or(self.run.mode, |view| view.mode)
    }

    /// How much is held for a human, and for how long.
    #[must_use]
    pub fn holding(&self) -> Holding {
        self.ground.holding
    }

    /// What one side may have said that is not forwarded, while something of it waits for a decision, in bytes.
    #[must_use]
    pub fn held_bytes_max(&self) -> usize {
        let request = self.ground.holding.body_max.saturating_add(2 * limits::HTTP_HEAD_BYTES_MAX);
        request.max(limits::POSTGRES_JUDGED_BYTES_MAX).saturating_add(limits::HELD_READ_BYTES)
    }

    /// What [`Session::ask`] would say now, with nobody asked and nothing recorded.
    #[must_use]
    pub fn foresee(&self, exchange: Option<u32>, mut action: Action, target: &Target) -> Foreseen {
        let View { mode, resource, .. } = &*self.view(target);
        self.complete(&mut action, target);
        let question = self.question(exchange, &action, (target, resource), None);
        let (verdict, overridden, passes) = self.ground.gate.weigh(*mode, &question);
        let is_held = !passes && verdict.effect == Effect::Ask;
        Foreseen { is_held, decided: decided(action, verdict, *mode, resource, overridden) }
    }

    fn question<'q>(
        &'q self,
        exchange: Option<u32>,
        action: &'q Action,
        (target, resource): (&'q Target, &'q Resource),
        content: Option<&'q Content<'q>>,
    ) -> Question<'q> {
        let (run, session, identity) = (self.run.id, self.id, &self.run.identity);
        Question { run, session, exchange, identity, action, target, resource, content }
    }

    /// Puts in what is known of every action.
    fn complete(&self, action: &mut Action, target: &Target) {
        // What a driver knows of the target for this very action says more.
        let mut facts = target.facts();
        facts.append(&mut action.facts);
        facts.extend(self.ground.facts(&self.run));
        action.facts = facts;
    }

    /// Asks whether an action may happen. The decision is on record before the answer. Without `content` nobody is asked to
    /// approve it.
    ///
    /// # Errors
    /// When the decision could not be recorded: then it may not happen.
    pub fn ask(
        &self,
        exchange: Option<u32>,
        mut action: Action,
        target: &Target,
        content: Option<&Content<'_>>,
    ) -> Result<Decision, Unrecorded> {
        let View { mode, resource, .. } = &*self.view(target);
        self.complete(&mut action, target);
        // Policies decide by facts, people by what they may see.
        action.subject = self.masking.text(&action.subject);
        let content = content.map(|content| {
            let shown = self.masking.shown(&content.media_type, &content.shown).into();
            Content { shown, ..content.clone() }
        });
        let question = self.question(exchange, &action, (target, resource), content.as_ref());
        let decision = self.ground.gate.decide(*mode, &question);
        action.facts.extend(content.map(|content| content.facts).unwrap_or_default());
        let decided = decided(action, decision.verdict.clone(), *mode, resource, decision.overridden.clone());
        if matches!(decision.passage, Passage::Held(_)) {
            Counts::add(&self.run.counts.held);
        }
        let told = Told { exchange, body: decided.into(), payload: Cow::Borrowed(b"") };
        let position = self.recorder.record_burst(self.run.id, self.id, vec![told])?;
        self.last.set(position);
        Ok(decision)
    }

    /// Resolves when everything that was recorded so far is as durable as what the session forwards: before the target is
    /// told anything, be it by us.
    ///
    /// # Errors
    /// When the disk failed.
    pub async fn settled(&self) -> Result<(), Unrecorded> {
        if self.ground.waits_for_disk {
            self.durable(self.last.get()).await?;
        }
        Ok(())
    }

    /// The newest record of the session.
    #[must_use]
    pub fn newest(&self) -> Position {
        self.last.get()
    }

    /// Whether it is on record that its TLS passes unopened.
    #[must_use]
    pub fn has_passed_tls(&self) -> bool {
        self.passed_tls.get()
    }

    /// The target could have proven its name by now: one that was only looked up opens nothing any more.
    pub fn could_prove(&self) {
        self.opened_tls.set(true);
    }

    /// Records an event of the session.
    ///
    /// # Errors
    /// When the journal does not take it: then what it tells must not be done.
    pub fn record(&self, body: impl Into<Body>) -> Result<Position, Unrecorded> {
        self.append(body.into(), &[])
    }

    /// Records bytes that are about to be forwarded, as they may be shown.
    ///
    /// # Errors
    /// When the journal does not take them: then they must not be forwarded.
    pub fn record_bytes(&self, side: Side, recorded: &[u8]) -> Result<Position, Unrecorded> {
        let counter = self.counter(side);
        let run = &self.run;
        let chunk = Chunk::new(side, counter.get()).into();
        let told = vec![Told { exchange: None, body: chunk, payload: Cow::Borrowed(recorded) }];
        // Also where they say that they are encrypted: a process can say so, and go on in clear.
        let told = self.masking.burst(told);
        let position = self.recorder.record_burst(run.id, self.id, told).inspect_err(|_| self.masking.forget())?;
        self.last.set(position);
        counter.set(counter.get() + recorded.len() as u64);
        if side == Side::Server && self.first_byte.get().is_none() {
            self.first_byte.set(Some(self.accepted.elapsed()));
        }
        Ok(position)
    }

    /// Records what a burst of one side's bytes came to, before they are forwarded: all of it or nothing. `wire` is how many
    /// bytes it accounts for.
    ///
    /// # Errors
    /// When the journal does not take it: then none of the bytes may be forwarded.
    pub fn record_burst(&self, side: Side, wire: usize, told: Vec<Told<'_>>) -> Result<Position, Unrecorded> {
        let run = &self.run;
        let requests = told.iter().filter(|told| matches!(told.body, Body::Request(_))).count();
        let told = self.masking.burst(told);
        let position = self.recorder.record_burst(run.id, self.id, told).inspect_err(|_| self.masking.forget())?;
        run.counts.exchanges.fetch_add(requests as u64, Ordering::Relaxed);
        self.last.set(position);
        let counter = self.counter(side);
        counter.set(counter.get() + wire as u64);
        if side == Side::Server && self.first_byte.get().is_none() {
            self.first_byte.set(Some(self.accepted.elapsed()));
        }
        Ok(position)
    }

    /// Whether [`Session::durable`] has to be awaited before bytes at a position are forwarded.
    #[must_use]
    pub fn waits_for_disk(&self) -> bool {
        self.ground.waits_for_disk
    }

    /// Resolves when everything up to `position` is as durable as configured.
    ///
    /// # Errors
    /// When the disk failed.
    pub async fn durable(&self, position: Position) -> Result<(), JournalError> {
        self.recorder.journal().durable(position).await
    }

    /// Counts bytes that a side has taken.
    pub fn moved(&self, bytes: usize) {
        self.moved.set(self.moved.get() + bytes as u64);
    }

    /// Resolves when the run has no process left and nothing has moved for [`limits::DRAIN_WAIT`]: what the processes had
    /// sent before they ended still goes to its target, however slow that is.
    pub async fn abandoned(&self) {
        self.run.ended().await;
        self.still().await;
    }

    /// Resolves when nothing has moved for [`limits::DRAIN_WAIT`].
    pub async fn still(&self) {
        loop {
            let before = self.moved.get();
            tokio::time::sleep(limits::DRAIN_WAIT).await;
            if self.moved.get() == before {
                return;
            }
        }
    }

    /// Ends the session; the only way that is not `aborted`.
    pub fn close(mut self, outcome: Outcome, error: Option<String>) {
        self.record_end(outcome, error);
    }

    fn record_end(&mut self, outcome: Outcome, error: Option<String>) {
        if std::mem::replace(&mut self.closed, true) {
            return;
        }
        let [up, down] = &self.bytes;
        let closed = SessionClosed {
            outcome,
            bytes_up: up.get(),
            bytes_down: down.get(),
            duration_us: micros(self.accepted.elapsed()),
            first_byte_us: self.first_byte.get().map(micros),
            dialled_from: self.dialled_from.get(),
            error,
        };
        if matches!(outcome, Outcome::Refused | Outcome::Unrecorded) {
            Counts::add(&self.run.counts.refused);
        }
        let undecided = self.masking.finish();
        if !undecided.is_empty()
            && let Err(error) = self.recorder.record_last(self.run.id, self.id, undecided)
        {
            tracing::error!(session = %self.id, %error, "what was undecided under the masks was lost");
        }
        if let Err(error) = self.append(closed.into(), &[]) {
            tracing::error!(session = %self.id, %error, "the end of a session was lost");
        }
        self.run.counts.open.fetch_sub(1, Ordering::Relaxed);
    }

    fn counter(&self, side: Side) -> &Cell<u64> {
        let [up, down] = &self.bytes;
        match side {
            Side::Client => up,
            Side::Server => down,
        }
    }

    fn append(&self, body: Body, payload: &[u8]) -> Result<Position, Unrecorded> {
        if let Body::Tls(tls) = &body {
            self.passed_tls.set(!tls.opened);
            self.opened_tls.set(tls.opened);
        }
        if let Body::Classified(classified) = &body {
            self.protocol.replace(classified.protocol.clone());
            let Ready { content, texts } = self.ground.plan_for(classified, self.opened_tls.get());
            self.masking.change(content);
            self.recorder.renew(texts);
        }
        let position = self.recorder.record_in_session(self.run.id, self.id, body, payload)?;
        self.last.set(position);
        Ok(position)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.record_end(Outcome::Aborted, None);
    }
}
