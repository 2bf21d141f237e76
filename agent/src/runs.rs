//! The runs that are alive: what every session of a run shares.
//!
//! Never outlives the journal: a run's end is recorded by the daemon, which then forgets it here.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};

use crewtap_core::event::Body;
use crewtap_core::id::RunId;
use crewtap_core::identity::Identity;
use crewtap_core::limits;
use crewtap_core::run::Mode;
use tokio::sync::{Semaphore, watch};

use crate::authority::Generation;
use crate::cancels::Cancels;
use crate::clock;
use crate::identity::login::Login;
use crate::journal::Position;
use crate::names::Names;
use crate::namespace::Namespace;
use crate::overlay::Bundles;
use crate::recorder::{Recorder, Unrecorded};

/// One live run.
#[derive(Debug)]
pub struct Run {
    /// Its id.
    pub id: RunId,
    /// Capture cgroup (inode of its directory).
    pub cgroup: u64,
    /// Who it belongs to.
    pub identity: Identity,
    /// What happens with what policy would refuse.
    pub mode: Mode,
    /// The network namespace that it was started in, where its targets are dialled.
    pub namespace: Arc<Namespace>,
    /// What it did so far.
    pub counts: Counts,
    /// Places for its questions that wait for a resolver.
    pub questions: Arc<Semaphore>,
    /// Keys that cancel what its sessions run.
    pub cancels: Arc<Cancels>,
    login: Arc<Login>,
    recorder: Recorder,
    names: Mutex<Names>,
    proven: OnceLock<Proven>,
    trust: OnceLock<Trust>,
    ended: watch::Sender<bool>,
}

/// When the self-test had shown that connections are redirected: nothing before that is the run's.
#[derive(Clone, Copy, Debug)]
pub struct Proven {
    /// Nanoseconds of `CLOCK_MONOTONIC`.
    pub mono_ns: u64,
    /// Connections that the kernel had seen established by then.
    pub established: u64,
}

/// What the processes of a run trust since its overlay was laid.
#[derive(Clone, Debug)]
pub struct Trust {
    /// The newest of our authorities that they trust.
    pub held: Generation,
    /// The bundles that they had before, as the host sees them; more come with each program that brings its own.
    pub bundles: Bundles,
}

/// Counters of a run; monotonic, read for its end line and for reconciliation.
#[derive(Debug, Default)]
pub struct Counts {
    /// Sessions opened on record.
    pub sessions: AtomicU64,
    /// Sessions open now.
    pub open: AtomicU64,
    /// Requests on record.
    pub exchanges: AtomicU64,
    /// Sessions refused by policy, or because they could not be recorded.
    pub refused: AtomicU64,
    /// Actions that waited for an approval.
    pub held: AtomicU64,
    /// Connections accepted for it that were closed before they became a session.
    pub dropped: AtomicU64,
    /// Bypasses.
    pub bypasses: AtomicU64,
    /// Reports of the kernel side that could not be recorded.
    pub lost: AtomicU64,
    /// Differences between the kernel's count and the record.
    pub differences: AtomicU64,
}

impl Counts {
    /// One more.
    pub fn add(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// As it is now.
    #[must_use]
    pub fn get(counter: &AtomicU64) -> u64 {
        counter.load(Ordering::Relaxed)
    }
}

impl Run {
    /// A run that has just been recorded as started.
    #[must_use]
    pub fn new(
        id: RunId,
        cgroup: u64,
        identity: Identity,
        mode: Mode,
        namespace: Arc<Namespace>,
        recorder: Recorder,
    ) -> Self {
        Self {
            id,
            cgroup,
            identity,
            mode,
            namespace,
            counts: Counts::default(),
            questions: Arc::new(Semaphore::new(limits::DNS_PENDING_MAX)),
            cancels: Arc::default(),
            login: Arc::default(),
            recorder,
            names: Mutex::default(),
            proven: OnceLock::new(),
            trust: OnceLock::new(),
            ended: watch::Sender::new(false),
        }
    }

    /// The same, of somebody who has logged in.
    #[must_use]
    pub fn with_login(self, login: Arc<Login>) -> Self {
        Self { login, ..self }
    }

    /// Until when what is known of its person holds.
    #[must_use]
    pub fn login(&self) -> &Login {
        &self.login
    }

    /// Records an event of the run.
    ///
    /// # Errors
    /// When the journal does not take it.
    pub fn record(&self, body: impl Into<Body>) -> Result<(), Unrecorded> {
        self.recorder.record_in_run(self.id, body.into())
    }

    /// Records an event of the run, with its payload.
    ///
    /// # Errors
    /// When the journal does not take it.
    pub fn record_with(&self, body: impl Into<Body>, payload: &[u8]) -> Result<Position, Unrecorded> {
        self.recorder.record_in_run_with(self.id, body.into(), payload)
    }

    /// The recorder that the run's sessions write to.
    #[must_use]
    pub fn recorder(&self) -> &Recorder {
        &self.recorder
    }

    /// The names that it looked up.
    pub fn names(&self) -> MutexGuard<'_, Names> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The self-test has passed.
    pub fn prove(&self, established: u64) {
        // A run is proven once; a second word changes nothing.
        let _ = self.proven.set(Proven { mono_ns: clock::mono_ns(), established });
    }

    /// When the self-test had passed, if it has.
    #[must_use]
    pub fn proven(&self) -> Option<Proven> {
        self.proven.get().copied()
    }

    /// Its overlay is laid: from now on its processes trust our authority.
    pub fn trust(&self, trust: Trust) {
        // A run is given its overlay once; a second word changes nothing.
        let _ = self.trust.set(trust);
    }

    /// The newest of our authorities that its processes trust, if they trust one.
    #[must_use]
    pub fn trusted(&self) -> Option<Generation> {
        self.trust.get().map(|trust| trust.held)
    }

    /// The bundles of roots that its processes had before.
    #[must_use]
    pub fn bundles(&self) -> Vec<PathBuf> {
        self.trust.get().map(|trust| trust.bundles.paths()).unwrap_or_default()
    }

    /// Tells its sessions that nobody is left to serve.
    pub fn end(&self) {
        self.ended.send_replace(true);
    }

    /// Resolves when the run has been told to end.
    pub async fn ended(&self) {
        let mut ended = self.ended.subscribe();
        // The sender lives as long as the run, so an error cannot happen while `self` is borrowed.
        let _ = ended.wait_for(|ended| *ended).await;
    }
}

/// Live runs by capture cgroup.
#[derive(Debug, Default)]
pub struct Runs(RwLock<HashMap<u64, Arc<Run>>>);

impl Runs {
    /// Adds a run.
    pub fn insert(&self, run: Arc<Run>) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(run.cgroup, run);
    }

    /// Forgets a run.
    pub fn remove(&self, cgroup: u64) -> Option<Arc<Run>> {
        self.0.write().unwrap_or_else(PoisonError::into_inner).remove(&cgroup)
    }

    /// The run of a capture cgroup.
    #[must_use]
    pub fn get(&self, cgroup: u64) -> Option<Arc<Run>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(&cgroup).cloned()
    }

    /// The run with this id.
    #[must_use]
    pub fn by_id(&self, id: RunId) -> Option<Arc<Run>> {
        self.all().into_iter().find(|run| run.id == id)
    }

    /// All of them.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<Run>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }
}
