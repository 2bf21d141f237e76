//! One intercepted connection, from accept to close: what a driver may do with it, and nothing else.
//!
//! A driver asks, dials, records and closes here; it never sees the gate, the journal or the
//! network namespace. A session that is dropped without `close` is on record as aborted.

use std::borrow::Cow;
use std::cell::Cell;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crewtap_core::action::{Action, Fact, Verb};
use crewtap_core::bodies::{Bypass, Classified, Decided, SessionClosed, SessionOpened};
use crewtap_core::event::Body;
use crewtap_core::id::{SessionId, Ulid};
use crewtap_core::limits;
use crewtap_core::mask::digest::DigestKey;
use crewtap_core::origin::Origin;
use crewtap_core::policy::catalog::Catalog;
use crewtap_core::run::Process;
use crewtap_core::session::{Outcome, Side};
use crewtap_core::target::Target;
use tokio::net::TcpStream;

use crate::dial::{self, DialError};
use crate::gate::{Decision, Gate, Permit};
use crate::journal::{JournalError, Position};
use crate::recorder::{Told, Unrecorded};
use crate::runs::{Counts, Run};

/// Why [`Session::ask`] gave no permit.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Policy refused.
    #[error("refused by policy")]
    Refused,
    /// The decision could not be recorded.
    #[error(transparent)]
    Unrecorded(#[from] Unrecorded),
}

/// What every session of an agent needs.
#[derive(Debug, Clone)]
pub struct Ground {
    /// Judges actions.
    pub gate: Gate,
    /// Makes keyed digests of what is redacted.
    pub key: DigestKey,
    /// The targets that are known, and whose credentials are used.
    pub catalog: Arc<Catalog>,
    /// What is forwarded must be on disk before.
    pub waits_for_disk: bool,
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
    last: Cell<Position>,
    moved: Cell<u64>,
    passed_tls: Cell<bool>,
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
            last: Cell::new(Position { first: 0, end: 0 }),
            moved: Cell::new(0),
            passed_tls: Cell::new(false),
            closed: true,
        };
        let opened = SessionOpened {
            origin: session.origin.clone(),
            client,
            process: session.process.clone(),
            identity: session.run.identity.clone(),
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

    /// Asks whether the connection may be opened. The decision is on record before the answer.
    ///
    /// # Errors
    /// When policy refuses, or the decision could not be recorded.
    pub fn ask_connect(&self, classified: &Classified) -> Result<Permit, AskError> {
        let action = connect_action(classified);
        let passage = self.ask(None, action, &classified.target)?.passage;
        passage.permit().ok_or(AskError::Refused)
    }

    /// Whether exchanges of the session pass without being asked for.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.ground.gate.is_open(self.run.mode)
    }

    /// Asks whether an action may happen. The decision is on record before the answer.
    ///
    /// # Errors
    /// When the decision could not be recorded: then it may not happen.
    pub fn ask(&self, exchange: Option<u32>, action: Action, target: &Target) -> Result<Decision, Unrecorded> {
        let decision = self.ground.gate.decide(self.run.mode, &action, target);
        let decided = Decided {
            verb: action.verb.as_str().into(),
            subject: action.subject,
            verdict: decision.verdict.clone(),
            mode: self.run.mode,
            facts: action.facts,
        };
        let told = Told { exchange, body: decided.into(), payload: Cow::Borrowed(b"") };
        let position = self.run.recorder().record_burst(self.run.id, self.id, vec![told])?;
        self.last.set(position);
        Ok(decision)
    }

    /// Connects to the target that the permit is for.
    ///
    /// # Errors
    /// When the target cannot be reached, or is crewtap itself (which is on record as a bypass).
    pub async fn dial(&self, permit: &Permit) -> Result<TcpStream, DialError> {
        self.settled().await.map_err(DialError::Unrecorded)?;
        let address = permit.target().address;
        if self.run.namespace.is_ours(address) {
            let bypass = Bypass {
                kind: "self_connect".into(),
                refused: true,
                address: Some(address),
                pid: Some(self.origin.pid),
                detail: "a captured process tried to reach crewtap's own listener".into(),
            };
            Counts::add(&self.run.counts.bypasses);
            self.append(bypass.into(), &[]).map_err(DialError::Unrecorded)?;
            return Err(DialError::Ourselves);
        }
        let stream = dial::connect(&self.run.namespace, address, &self.origin).await?;
        self.dialled_from.set(stream.local_addr().ok());
        Ok(stream)
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
        let position = run.recorder().record_chunk(run.id, self.id, side, counter.get(), recorded)?;
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
        let position = run.recorder().record_burst(run.id, self.id, told)?;
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
        self.run.recorder().journal().durable(position).await
    }

    /// Counts bytes that a side has taken.
    pub fn moved(&self, bytes: usize) {
        self.moved.set(self.moved.get() + bytes as u64);
    }

    /// Resolves when the run has no process left and nothing has moved for [`limits::DRAIN_WAIT`]: what the processes had
    /// sent before they ended still goes to its target, however slow that is.
    pub async fn abandoned(&self) {
        self.run.ended().await;
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
        }
        let position = self.run.recorder().record_in_session(self.run.id, self.id, body, payload)?;
        self.last.set(position);
        Ok(position)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.record_end(Outcome::Aborted, None);
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// The action `connect` with the facts of DESIGN section 8 that are known before the dial.
fn connect_action(classified: &Classified) -> Action {
    let mut facts = classified.target.facts();
    facts.insert("protocol".into(), Fact::Text(classified.protocol.clone()));
    Action { verb: Verb::Connect, subject: classified.target.label(), facts }
}
