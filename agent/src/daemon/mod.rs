//! The agent: wiring, its life, and what it does at intervals.
//!
//! One agent per data directory. It ends when it is told to, or (on demand) with its last run; whatever
//! ends it, captured processes cannot connect afterwards (law 3).

mod approvals;
mod identity;
mod live;
mod lost;
mod namespaces;
mod policy;
mod trust;
mod watch;
mod webhook;
mod workers;

use std::io;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crewtap_core::id::RunId;
use crewtap_core::limits;
use crewtap_core::mask::digest::DigestKey;
use crewtap_core::run::Mode;
use nix::sys::prctl;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::utsname::uname;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::LocalSet;

use crate::approvals::Approvals;
use crate::authority::{self, Authority, AuthorityError};
use crate::capture::cgroup;
use crate::capture::kernel::{Events, Kernel, KernelOptions};
use crate::capture::process::ProcessCache;
use crate::capture::sys;
use crate::cli::agent::{Busy, Launch, Life};
use crate::config::{self, Config, TlsMode};
use crate::control::launch::{self, Ready};
use crate::control::{self, Exit, Laid, Peer, Refusal, StartRun, Started, Status, Summary};
use crate::identity::relying::RelyingParty;
use crate::identity::store::StoreError;
use crate::index::{IndexError, Indexer};
use crate::intercept::Interceptor;
use crate::journal::{self, Journal, JournalError, Reader};
use crate::proto::dns::relay::Relay;
use crate::proxy::{self, Proxy};
use crate::recorder::Recorder;
use crate::runs::Runs;
use crate::session::{Faces, Ground, Grounds, Holding, Tunnels};
use crate::tls::learned::Learned;
use crate::tls::roots::Roots;
use live::{Alive, Exits, Finished};
use namespaces::Namespaces;
use policy::Policies;
use workers::Workers;

/// How long an agent on demand stays without a run: a `run` that has just found it needs it to answer.
const IDLE_LIFE: Duration = Duration::from_secs(2);

/// How often routes and addresses of a namespace are looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// How often what nobody accepted is swept out of the kernel.
const SWEEP_INTERVAL: Duration = Duration::from_secs(10);

/// Open files that an agent asks for: two sockets for each session, and what else it holds.
const DESCRIPTORS: u64 = 2 * limits::SESSIONS_MAX as u64 + 4096;

/// Reports taken from the ring buffer before anything else gets a turn.
const EVENTS_AT_ONCE: usize = 512;

/// Why the agent does not run.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// The store.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The index.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// The kernel side.
    #[error(transparent)]
    Kernel(#[from] crate::capture::kernel::KernelError),
    /// The catalog of targets, or the masks.
    #[error(transparent)]
    Catalog(#[from] config::ConfigError),
    /// The policies.
    #[error("the policies cannot come into force: {0}")]
    Policy(String),
    /// The file of logins.
    #[error(transparent)]
    Logins(#[from] StoreError),
    /// The local authority; `tls = "pass"` does without.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// A part without which nothing may be forwarded.
    #[error("{0} has ended, so nothing can be recorded any more; see the log for the defect")]
    Ended(&'static str),
    /// Something else of the operating system.
    #[error("{0}: {1}")]
    Io(&'static str, #[source] io::Error),
}

/// Facts of the host that every run records.
#[derive(Debug)]
struct HostFacts {
    host: String,
    kernel: String,
    boot_id: String,
}

/// The agent.
struct Daemon {
    config: Config,
    mode: Mode,
    data_dir: PathBuf,
    /// Records below were written by earlier agents.
    begun_at: u64,
    facts: HostFacts,
    journal: Journal,
    recorder: Recorder,
    key: DigestKey,
    kernel: Arc<Kernel>,
    runs: Arc<Runs>,
    processes: Arc<ProcessCache>,
    proxy: Arc<Proxy>,
    policies: Policies,
    namespaces: Namespaces,
    exits: Exits,
    finished: Finished,
    overlays: trust::Overlays,
    approvals: Approvals,
    relying: RelyingParty,
    alive: Alive,
}

/// Runs the agent to its end.
///
/// # Errors
/// [`Busy`] when another agent has the store, else why it cannot begin; the text says what to do.
pub fn run(launch: &mut Launch) -> anyhow::Result<()> {
    harden()?;
    let (daemon, events, workers) = begin(&launch.config).map_err(|error| match error {
        DaemonError::Journal(JournalError::InUse { .. }) | DaemonError::Index(IndexError::Busy(_)) => {
            let data_dir = &launch.config.data_dir;
            let holder = journal::Layout::new(data_dir).holder();
            anyhow::Error::new(Busy { store: data_dir.display().to_string(), holder })
        }
        other => other.into(),
    })?;
    let daemon = Rc::new(daemon);
    let result = serve(&daemon, &workers, launch.life, events, &mut launch.ready);
    end(&daemon, &workers);
    Ok(result?)
}

/// What opens TLS: its authority is made at first use.
fn interceptor(config: &Config) -> Result<Interceptor, DaemonError> {
    let authority = match config.tls {
        TlsMode::Open => Some(Arc::new(Authority::open(&config.data_dir.join(authority::DIRECTORY))?)),
        TlsMode::Pass => None,
    };
    Ok(Interceptor {
        authority,
        roots: Roots::default(),
        learned: Arc::new(Learned::default()),
        mode: config.tls,
        pass: config.tls_pass.clone(),
        authorities: config.tls_authorities.clone(),
    })
}

/// No core dump, no tracer (law 4), and two descriptors for each session there may be.
fn harden() -> Result<(), DaemonError> {
    let io = |what| move |error: nix::Error| DaemonError::Io(what, error.into());
    prctl::set_dumpable(false).map_err(io("forbid core dumps"))?;
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).map_err(io("read the limit of open files"))?;
    let wanted = most.max(DESCRIPTORS);
    // Where a container forbids more than it has, the limit that there is must do.
    setrlimit(Resource::RLIMIT_NOFILE, wanted, wanted)
        .or_else(|_| setrlimit(Resource::RLIMIT_NOFILE, most, most))
        .map_err(io("raise the limit of open files"))
}

type Begun = (Daemon, Events, Arc<Workers>);

/// Takes the store, loads the kernel side, starts the threads. In this order: only the holder of the store's
/// lock may touch its pins and its socket.
fn begin(config: &Config) -> Result<Begun, DaemonError> {
    let data_dir = &config.data_dir;
    launch::make_data_dir(data_dir).map_err(|e| DaemonError::Io("make the data directory", e))?;
    let stamp_at = |leaf| Reader::open(data_dir).ok()?.record(leaf).ok()?.map(|record| record.event.at);
    let (next, sink) = Indexer::open(data_dir, stamp_at)?.into_sink();
    let options = journal::Options { durability: durability(config), ..journal::Options::default() };
    let journal = Journal::open(data_dir, &options, Some((next, sink)))?;
    let (key, begun_at) = (journal.store_key(), journal.end());
    let recorder = Recorder::new(journal.clone());
    let (asking, overriding) = (config.approvals.clone(), config.overrides.clone());
    let approvals = Approvals::new(asking, overriding, key.clone(), recorder.clone());
    let kernel = Arc::new(Kernel::load(&KernelOptions::new(&short_name(&journal)))?);
    let events = kernel.events().ok_or(DaemonError::Io("read the kernel's events", io::ErrorKind::NotFound.into()))?;
    let digest = key.clone();
    let programs = kernel.clone();
    let processes =
        ProcessCache::new(Box::new(move |value| digest.digest(value)), Box::new(move |pid| programs.program_of(pid)));
    let processes = Arc::new(processes.map_err(|e| DaemonError::Io("start the readers of command lines", e))?);
    let runs = Arc::new(Runs::default());
    let policies = Policies::load(config, &recorder, approvals.clone())?;
    let catalog = config.catalog()?;
    let interceptor = Arc::new(interceptor(config)?);
    let grounds = Arc::new(Grounds::new(Ground {
        gate: policies.gate(),
        key: key.clone(),
        plans: Arc::default(),
        masks: Arc::new(config.masks(&catalog)?),
        catalog: Arc::new(catalog),
        waits_for_disk: config.durability == config::Durability::Disk,
        zone: config.zone.clone(),
        holding: Holding { body_max: config.approvals.body_max, http_wait: config.approvals.wait },
        tunnels: Some(Tunnels { carry: proxy::carry, interceptor: interceptor.clone() }),
        ssh: interceptor.authority.clone().map(|authority| Faces::new(authority, config)),
    }));
    recorder.renew(grounds.now().plan(None).texts);
    let proxy = Arc::new(Proxy {
        kernel: kernel.clone(),
        runs: runs.clone(),
        processes: processes.clone(),
        grounds: grounds.clone(),
        interceptor,
        recorder: recorder.clone(),
        unattributed: AtomicUsize::new(0),
        unattributed_noted_ns: AtomicU64::new(0),
        open: AtomicUsize::new(0),
    });
    let workers = Arc::new(Workers::start(&proxy).map_err(|e| DaemonError::Io("start the proxy", e))?);
    let relay = Arc::new(Relay::new(kernel.clone(), runs.clone(), grounds.clone()));
    let daemon = Daemon {
        config: config.clone(),
        mode: config.mode,
        data_dir: std::fs::canonicalize(data_dir).map_err(|e| DaemonError::Io("find the data directory", e))?,
        begun_at,
        facts: HostFacts::read(),
        key,
        namespaces: Namespaces::new(workers.clone(), relay, config.approvals.api.as_ref().map(|api| api.listen.port())),
        approvals,
        relying: RelyingParty::open(&config.oidc, data_dir)?,
        journal,
        recorder,
        kernel,
        runs,
        processes,
        proxy,
        policies,
        exits: Exits::default(),
        finished: Finished::default(),
        overlays: trust::Overlays::default(),
        alive: Alive::default(),
    };
    Ok((daemon, events, workers))
}

/// The store in the names of cgroups and pins: 16 characters of its id, lower case.
fn short_name(journal: &Journal) -> String {
    let id = journal.verifier().store().to_string().to_lowercase();
    id.get(10..).unwrap_or(&id).to_owned()
}

fn durability(config: &Config) -> journal::Durability {
    match config.durability {
        config::Durability::Process => journal::Durability::Process,
        config::Durability::Disk => journal::Durability::Disk,
    }
}

/// Serves until a signal or, on demand, until the last run has ended.
fn serve(
    daemon: &Rc<Daemon>,
    workers: &Workers,
    life: Life,
    events: Events,
    ready: &mut Ready,
) -> Result<(), DaemonError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| DaemonError::Io("start the agent", e))?;
    LocalSet::new().block_on(&runtime, async {
        let io = |what| move |e| DaemonError::Io(what, e);
        let socket = control::socket_path(&daemon.data_dir);
        let listener = control::bind(&socket).map_err(io("serve the control socket"))?;
        let api = approvals::bind_api(&daemon.config).map_err(io("serve the approvers' API"))?;
        let mut terminate = signal(SignalKind::terminate()).map_err(io("await signals"))?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(io("await signals"))?;
        let burying = daemon.clone();
        tokio::task::spawn_local(async move { burying.bury_lost_runs().await });
        let handle = Rc::new(Handle(daemon.clone()));
        let (clients, connected) = tokio::sync::watch::channel(0);
        ready.tell();
        tokio::select! {
            served = control::serve(listener, handle, cgroup::is_captured, clients) => served.map_err(io("serve the control socket")),
            () = daemon.serve_approvals(api) => Ok(()),
            () = daemon.keep_logins() => Ok(()),
            read = daemon.watch(events) => read.map_err(io("read the kernel's events")),
            () = daemon.beat() => Ok(()),
            () = workers.ended() => Err(DaemonError::Ended("a thread of the proxy")),
            () = daemon.journal.ended() => Err(DaemonError::Ended("the thread that follows the journal")),
            () = daemon.look() => Ok(()),
            () = daemon.policies.watch(&daemon.recorder) => Ok(()),
            () = daemon.idle(connected), if life == Life::OnDemand => Ok(()),
            _ = terminate.recv() => Ok(()),
            _ = interrupt.recv() => Ok(()),
        }
    })
}

/// Refuses further connects while the ports are still ours (law 3), then ends sessions, threads and journal in this
/// order, so that every session's end is on record and signed.
fn end(daemon: &Rc<Daemon>, workers: &Workers) {
    if let Err(error) = daemon.kernel.retire() {
        tracing::error!(%error, "the kernel side waits for the end of this process to refuse connects");
    }
    let _ = std::fs::remove_file(control::socket_path(&daemon.data_dir));
    // Who is held gets the answer before its session ends.
    daemon.approvals.end();
    for run in daemon.runs.all() {
        run.end();
    }
    let deadline = Instant::now() + limits::DRAIN_WAIT;
    while daemon.proxy.open.load(Ordering::Relaxed) > 0 && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(5));
    }
    workers.stop();
    daemon.finish();
}

impl Daemon {
    /// Renews the heartbeat; a failure ends the agent, because the kernel side will refuse anyway.
    async fn beat(&self) {
        let mut ticks = tokio::time::interval(limits::HEARTBEAT_INTERVAL);
        loop {
            ticks.tick().await;
            if let Err(error) = self.kernel.beat() {
                self.recorder.note("heartbeat_lost", format!("the agent ends: {error}"));
                return;
            }
        }
    }

    /// Follows changes of routes and addresses, and sweeps.
    async fn look(&self) {
        let mut swept = Instant::now();
        loop {
            tokio::time::sleep(LOOK_INTERVAL).await;
            for namespace in self.namespaces.all() {
                match namespace.look() {
                    Ok(true) => self.tell_reach(&namespace),
                    Ok(false) => {}
                    Err(error) => tracing::warn!(%error, "routes and addresses could not be read"),
                }
            }
            if swept.elapsed() >= SWEEP_INTERVAL {
                swept = Instant::now();
                match self.kernel.sweep() {
                    Ok(removed) => removed.iter().for_each(|origin| self.note_unaccepted(origin)),
                    Err(error) => tracing::warn!(%error, "what nobody accepted could not be swept"),
                }
            }
        }
    }

    fn note_unaccepted(&self, origin: &crate::capture::kernel::Origin) {
        let text = format!("a connection to {} by process {} was never accepted", origin.destination, origin.tgid);
        self.recorder.note("never_accepted", text);
    }

    /// Reads the kernel's events until the ring buffer fails.
    async fn watch(&self, events: Events) -> io::Result<()> {
        let mut events = sys::watched(events, tokio::io::Interest::READABLE)?;
        let watch = watch::Watch { runs: &self.runs, processes: &self.processes, parent: self.kernel.parent() };
        loop {
            let mut ready = events.readable_mut().await?;
            let mut budget = EVENTS_AT_ONCE;
            while budget > 0
                && let Some(event) = ready.get_inner_mut().next_event()
            {
                watch.record(&event).await;
                budget -= 1;
            }
            if budget > 0 {
                ready.clear_ready();
            } else {
                tokio::task::yield_now().await;
            }
        }
    }

    /// Resolves when no run has been alive and nobody has been connected for a while.
    async fn idle(&self, connected: tokio::sync::watch::Receiver<usize>) {
        let mut since = Instant::now();
        while since.elapsed() < IDLE_LIFE {
            tokio::time::sleep(Duration::from_millis(100)).await;
            if self.alive.count() > 0 || *connected.borrow() > 0 {
                since = Instant::now();
            }
        }
    }

    /// Detaches the kernel side when nothing is captured any more, and closes the journal.
    fn finish(&self) {
        let left = self.runs.all();
        if left.is_empty() {
            if let Err(error) = self.kernel.unload() {
                tracing::warn!(%error, "the kernel side stays attached");
            }
        } else {
            // Captured processes are left: the programs stay, and refuse them from now on.
            for run in left {
                self.reconcile(&run);
                self.bury(run.id);
            }
        }
        if let Err(error) = self.journal.close() {
            tracing::error!(%error, "the journal could not be closed in order");
        }
    }

    fn status(&self) -> Status {
        Status {
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION").into(),
            runs: self.runs.all().iter().map(|run| run.id).collect(),
        }
    }
}

impl HostFacts {
    fn read() -> Self {
        let names = uname().ok();
        let text = |pick: fn(&nix::sys::utsname::UtsName) -> &std::ffi::OsStr| {
            names.as_ref().map_or_else(String::new, |names| pick(names).to_string_lossy().into_owned())
        };
        let boot_id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        Self {
            host: text(|names| names.nodename()),
            kernel: text(|names| names.release()),
            boot_id: boot_id.trim().into(),
        }
    }
}

/// The daemon as the control socket sees it.
struct Handle(Rc<Daemon>);

impl control::Agent for Handle {
    async fn start_run(&self, peer: Peer, request: StartRun) -> Result<Started, Refusal> {
        let _hold = self.0.alive.hold();
        self.0.clone().begin_run(peer, request).await
    }

    async fn run_exited(&self, run: RunId, exit: Exit) -> Result<(), Refusal> {
        self.0.exits.tell(run, exit)
    }

    async fn lay_overlay(&self, run: RunId, home: Option<PathBuf>) -> Result<Laid, Refusal> {
        self.0.lay_overlay(run, home).await
    }

    async fn run_summary(&self, run: RunId) -> Result<Summary, Refusal> {
        let _hold = self.0.alive.hold();
        self.0.summary(run).await
    }

    async fn status(&self) -> Status {
        self.0.status()
    }

    async fn approvals(
        &self,
        peer: Peer,
        request: control::approvals::Request,
    ) -> Result<control::approvals::Reply, Refusal> {
        self.0.about_approvals(peer, request).await
    }

    async fn identity(
        &self,
        peer: Peer,
        request: control::identity::Request,
    ) -> Result<control::identity::Reply, Refusal> {
        self.0.about_identity(&peer, request).await
    }
}
