//! crewtap with everything but the kernel side and the journal: the real command line, control socket and
//! process life around an agent that only keeps cgroups and writes down what it was asked.
//!
//! What `run` promises to the user's shell is tested against this, alone and fast.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use anyhow::Context;
use crewtap::cli::agent::{Busy, Launch, Life};
use crewtap::control::{self, Agent, Exit, Peer, Refusal, StartRun, Started, Status, Summary};
use crewtap::identity::os::identity_of;
use crewtap_core::id::{RunId, Ulid};
use crewtap_core::run::Mode;
use nix::fcntl::{Flock, FlockArg};

fn main() -> ExitCode {
    crewtap::cli::main(serve)
}

struct Bare {
    data_dir: PathBuf,
    mode: Mode,
    /// Cgroup of each run, and whether its command has ended.
    runs: RefCell<BTreeMap<RunId, (PathBuf, bool)>>,
}

fn serve(launch: &mut Launch) -> anyhow::Result<()> {
    let data_dir = launch.config.data_dir.clone();
    control::launch::make_data_dir(&data_dir)?;
    let lock = File::options().create(true).truncate(false).write(true).open(data_dir.join("lock"))?;
    let busy = |_| Busy { store: data_dir.display().to_string(), holder: None };
    let _lock = Flock::lock(lock, FlockArg::LockExclusiveNonblock).map_err(busy)?;
    anyhow::ensure!(!data_dir.join("broken").exists(), "the store is broken: repair it");
    let data_dir = data_dir.canonicalize()?;
    let agent = Rc::new(Bare { data_dir: data_dir.clone(), mode: launch.config.mode, runs: RefCell::default() });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let result = runtime.block_on(async {
        let listener = control::bind(&control::socket_path(&data_dir))?;
        let last = Rc::clone(&agent);
        let (clients, connected) = tokio::sync::watch::channel(0);
        launch.ready.tell();
        tokio::select! {
            served = control::serve(listener, Rc::clone(&agent), is_captured, clients) => served.context("serving"),
            () = ended(&last, connected), if launch.life == Life::OnDemand => Ok(()),
        }
    });
    let _gone = fs::remove_file(control::socket_path(&data_dir));
    result
}

/// An on-demand agent ends with its last run.
async fn ended(agent: &Bare, mut clients: tokio::sync::watch::Receiver<usize>) {
    let _first = clients.wait_for(|count| *count > 0).await.map(drop);
    let mut tick = tokio::time::interval(Duration::from_millis(20));
    loop {
        tick.tick().await;
        agent.runs.borrow_mut().retain(|_, (cgroup, exited)| {
            let over = *exited && processes(cgroup) == 0;
            if over {
                let _busy = fs::remove_dir(&*cgroup);
            }
            !over
        });
        let idle = *clients.borrow() == 0 && agent.runs.borrow().is_empty();
        // A test that has failed takes its directory away.
        if idle || !agent.data_dir.exists() {
            return;
        }
    }
}

fn processes(cgroup: &Path) -> u64 {
    fs::read_to_string(cgroup.join("cgroup.procs")).unwrap_or_default().lines().count() as u64
}

fn is_captured(pid: u32) -> bool {
    let cgroup = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or("0::/crewtap-bare/".into());
    cgroup.lines().any(|line| line.starts_with("0::/crewtap-bare/"))
}

fn hierarchy() -> PathBuf {
    let unified = Path::new("/sys/fs/cgroup/unified");
    if unified.join("cgroup.procs").exists() { unified.into() } else { "/sys/fs/cgroup".into() }
}

impl Bare {
    fn note(&self, value: &serde_json::Value) -> Result<(), Refusal> {
        let file = File::options().create(true).append(true).open(self.data_dir.join("requests"));
        file.and_then(|mut file| writeln!(file, "{value}")).map_err(Refusal::because)
    }
}

impl Agent for Bare {
    async fn start_run(&self, peer: Peer, request: StartRun) -> Result<Started, Refusal> {
        let nanos = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default().as_nanos();
        let run = RunId(Ulid::from(nanos << 20 | u128::from(peer.pid)));
        let cgroup = hierarchy().join("crewtap-bare").join(run.to_string());
        fs::create_dir_all(&cgroup).map_err(Refusal::because)?;
        let identity = identity_of(peer.pid);
        self.note(&serde_json::json!({ "start": request, "identity": identity, "peer": peer.pid }))?;
        self.runs.borrow_mut().insert(run, (cgroup.clone(), false));
        let mode = request.mode.unwrap_or(self.mode);
        Ok(Started { run, cgroup, hide: vec![self.data_dir.clone()], mode, notes: Vec::new() })
    }

    async fn run_exited(&self, run: RunId, exit: Exit) -> Result<(), Refusal> {
        if let Some((_, exited)) = self.runs.borrow_mut().get_mut(&run) {
            *exited = true;
        }
        self.note(&serde_json::json!({ "exit": exit }))
    }

    async fn run_summary(&self, run: RunId) -> Result<Summary, Refusal> {
        let runs = self.runs.borrow();
        let alive = runs.get(&run).map(|(cgroup, _)| processes(cgroup)).unwrap_or_default();
        Ok(Summary { processes: alive, complete: true, ..Summary::default() })
    }

    async fn status(&self) -> Status {
        let runs = self.runs.borrow().keys().copied().collect();
        Status { pid: std::process::id(), version: env!("CARGO_PKG_VERSION").into(), runs }
    }
}
