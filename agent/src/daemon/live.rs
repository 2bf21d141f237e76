//! A run from its start to its end: cgroup, kernel settings, self-test, record, reconciliation.
//!
//! The order is the promise: `RunStarted` is on record and the redirect has proven itself before any process
//! of the user joins; the run is reconciled and its end signed before its cgroup goes.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::io;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crewtap_core::bodies::{Reconciled, RunEnded, RunStarted};
use crewtap_core::id::{RunId, Ulid};
use crewtap_core::limits;
use crewtap_core::run::{Mode, Process, RunOutcome};
use tokio::sync::watch;

use super::Daemon;
use crate::capture::cgroup::{Cgroup, CgroupId};
use crate::capture::kernel::{self, RunOptions};
use crate::capture::netns::NetworkNamespace;
use crate::capture::process;
use crate::control::{Exit, Peer, Refusal, StartRun, Started, Summary};
use crate::identity::relying::Attributed;
use crate::namespace::Namespace;
use crate::runs::{Counts, Run};
use crate::selftest;

/// How often a run is looked at whose command has ended while other processes live on.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// How often something that takes milliseconds is looked at.
const SETTLE_INTERVAL: Duration = Duration::from_millis(5);

/// How long the last connections of a run may take to be recorded before it is reconciled.
const SETTLE_WAIT: Duration = Duration::from_secs(3);

/// What the command of each live run has come to.
#[derive(Debug, Default)]
pub(super) struct Exits(Mutex<HashMap<RunId, watch::Sender<Option<Exit>>>>);

impl Exits {
    fn watch(&self, run: RunId) -> watch::Receiver<Option<Exit>> {
        let sender = watch::Sender::new(None);
        let receiver = sender.subscribe();
        self.lock().insert(run, sender);
        receiver
    }

    /// The command of a run has ended.
    pub(super) fn tell(&self, run: RunId, exit: Exit) -> Result<(), Refusal> {
        match self.lock().get(&run) {
            Some(sender) => {
                sender.send_replace(Some(exit));
                Ok(())
            }
            None => Err(Refusal(format!("run {run} is not alive"))),
        }
    }

    fn forget(&self, run: RunId) {
        self.lock().remove(&run);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<RunId, watch::Sender<Option<Exit>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Daemon {
    /// Prepares a capture; afterwards whatever joins the cgroup is captured.
    pub(super) async fn begin_run(self: Rc<Self>, peer: Peer, request: StartRun) -> Result<Started, Refusal> {
        // Who has changed a file expects it to count for what is started next.
        let catalog = self.config.catalog().map_err(Refusal::because)?;
        let masks = self.config.masks(&catalog).map_err(Refusal::because)?;
        self.proxy.grounds.renew(catalog, masks);
        let texts = self.proxy.grounds.now().plan(None).texts;
        self.recorder.renew(texts.clone());
        let Attributed { identity, login, notes: told } = self.attribute(&peer).await?;
        let id = RunId(Ulid::generate());
        let mode = request.mode.unwrap_or(self.mode);
        let namespace = self.namespaces.of_process(peer.pid).await.map_err(Refusal::because)?;
        let options = RunOptions::new(kernel_mode(mode), namespace.ports(), &namespace.reach());
        let cgroup = self.kernel.add_run(&id.to_string(), &options).map_err(Refusal::because)?;
        let invoker = self.processes.outside(request.invoker).await;
        let run =
            Run::new(id, cgroup.id().0, identity, mode, namespace, self.recorder.with_masks(texts)).with_login(login);
        let run = Arc::new(run);
        self.runs.insert(run.clone());
        let started = run_started(&self, &run, &request, invoker);
        if let Err(refusal) = self.prove(&run, &cgroup, peer.pid, started).await {
            self.forget(&run, &cgroup);
            return Err(refusal);
        }
        let exit = self.exits.watch(id);
        let directory = seen_by(peer.pid, &cgroup);
        let hide = vec![self.data_dir.clone()];
        let mut notes = self.policies.notes(mode);
        notes.extend(told);
        notes.extend(self.approvals.overrides().iter().map(super::approvals::told_to_user));
        let hold = self.alive.hold();
        tokio::task::spawn_local(async move { self.supervise(run, cgroup, exit, hold).await });
        Ok(Started { run: id, cgroup: directory, hide, mode, notes })
    }

    /// The redirect proves itself, then the run's start goes on record.
    async fn prove(&self, run: &Arc<Run>, cgroup: &Cgroup, peer: u32, started: RunStarted) -> Result<(), Refusal> {
        let addresses = &run.namespace.reach().addresses;
        self.kernel.set_local_addresses(cgroup.id(), addresses).map_err(Refusal::because)?;
        let netns = NetworkNamespace::of_process(peer).map_err(Refusal::because)?;
        selftest::pass(cgroup.clone(), netns).await.map_err(Refusal::because)?;
        let counters = self.kernel.counters(cgroup.id()).map_err(Refusal::because)?;
        run.prove(counters.map_or(0, |counters| counters.established));
        // Where a record has no room for all groups, they are its content: what policy has seen can be told afterwards.
        let groups = match started.identity.groups_left_off {
            0 => String::new(),
            _ => run.identity.groups.join("\n"),
        };
        run.record_with(started, groups.as_bytes()).map(drop).map_err(Refusal::because)
    }

    /// Tells the kernel side what changed in a namespace, for every run in it.
    pub(super) fn tell_reach(&self, namespace: &Arc<Namespace>) {
        for run in self.runs.all().iter().filter(|run| run.namespace.inode() == namespace.inode()) {
            let reach = namespace.reach();
            let options = RunOptions::new(kernel_mode(run.mode), namespace.ports(), &reach);
            let id = CgroupId(run.cgroup);
            let told = self
                .kernel
                .update_run(id, &options)
                .and_then(|()| self.kernel.set_local_addresses(id, &reach.addresses));
            if let Err(error) = told {
                tracing::warn!(run = %run.id, %error, "the kernel side does not know the new routes");
            }
        }
    }

    fn forget(&self, run: &Run, cgroup: &Cgroup) {
        self.runs.remove(run.cgroup);
        self.exits.forget(run.id);
        self.overlays.forget(run.id);
        if let Err(error) = self.kernel.remove_run(cgroup) {
            tracing::warn!(run = %run.id, %error, "what a run had in the kernel could not be removed");
        }
    }

    /// Waits until no process is left, then ends the run on record.
    async fn supervise(
        self: Rc<Self>,
        run: Arc<Run>,
        cgroup: Cgroup,
        mut exit: watch::Receiver<Option<Exit>>,
        _hold: Hold,
    ) {
        if let Err(error) = until_empty(&cgroup, &mut exit).await {
            let text = format!("the end of run {} is not known: {error}", run.id);
            self.recorder.note("cgroup_unreadable", text);
        }
        self.settle(&run).await;
        self.approvals.run_ended(run.id);
        self.reconcile(&run);
        let (outcome, status) = ended(exit.borrow().as_ref());
        if let Err(error) = run.record(RunEnded { outcome, status }) {
            tracing::error!(run = %run.id, %error, "the end of a run was lost");
        }
        if let Err(error) = self.journal.checkpoint_now().await {
            tracing::warn!(run = %run.id, %error, "the end of a run is not signed yet");
        }
        let complete = self.caught_up().await;
        self.finished.keep(run.id, self.summary_of(&run, 0, complete));
        self.forget(&run, &cgroup);
    }

    /// Lets the last connections be accepted and the last reports be read, then ends what still hangs.
    async fn settle(&self, run: &Arc<Run>) {
        let deadline = Instant::now() + SETTLE_WAIT;
        while Instant::now() < deadline {
            let known = Counts::get(&run.counts.sessions) + Counts::get(&run.counts.dropped);
            if known >= self.established(run) && Counts::get(&run.counts.open) == 0 {
                break;
            }
            tokio::time::sleep(SETTLE_INTERVAL).await;
        }
        run.end();
        // Each open session ends by itself now, as soon as nothing moves in it any more.
        let deadline = Instant::now() + limits::DRAIN_MAX;
        while Counts::get(&run.counts.open) > 0 && Instant::now() < deadline {
            tokio::time::sleep(SETTLE_INTERVAL).await;
        }
    }

    /// Connections of the run that the kernel saw established, without the self-test.
    fn established(&self, run: &Run) -> u64 {
        let before = run.proven().map_or(0, |proven| proven.established);
        let counters = self.kernel.counters(CgroupId(run.cgroup)).ok().flatten();
        counters.map_or(0, |counters| counters.established.saturating_sub(before))
    }

    pub(super) fn reconcile(&self, run: &Run) {
        let counters = match self.kernel.counters(CgroupId(run.cgroup)) {
            Ok(Some(counters)) => counters,
            missing => {
                let why = missing.err().map_or_else(|| "it has no counters".into(), |error| error.to_string());
                self.recorder.note("uncounted", format!("run {} was not reconciled: {why}", run.id));
                Counts::add(&run.counts.differences);
                return;
            }
        };
        let (established, sessions) = (self.established(run), Counts::get(&run.counts.sessions));
        let dropped = Counts::get(&run.counts.dropped);
        let events_lost = counters.events_lost.saturating_add(Counts::get(&run.counts.lost));
        let reconciled = Reconciled {
            established,
            sessions,
            refused: refused(&counters),
            unattributed: established.saturating_sub(sessions + dropped),
            events_lost,
            bypassed: bypassed(&counters),
            dropped: packets_dropped(&counters),
            map_full: counters.map_full,
            complete: established == sessions && events_lost == 0 && counters.map_full == 0,
        };
        if !reconciled.complete {
            Counts::add(&run.counts.differences);
        }
        if let Err(error) = run.record(reconciled) {
            tracing::error!(run = %run.id, %error, "a reconciliation was lost");
        }
    }

    /// What is on record of a run; waits for its end when no process is left.
    pub(super) async fn summary(&self, id: RunId) -> Result<Summary, Refusal> {
        let deadline = Instant::now() + limits::SUMMARY_WAIT;
        loop {
            if let Some(summary) = self.finished.get(id) {
                return Ok(summary);
            }
            let Some(run) = self.runs.by_id(id) else {
                return Err(Refusal(format!("run {id} is not known to this agent")));
            };
            let processes = self.processes_of(&run);
            if processes > 0 || Instant::now() >= deadline {
                // Without a process left the run has not ended yet: what is still to come is not in these numbers.
                let complete = self.caught_up().await && processes > 0;
                return Ok(self.summary_of(&run, processes, complete));
            }
            tokio::time::sleep(SETTLE_INTERVAL).await;
        }
    }

    fn summary_of(&self, run: &Run, processes: u64, complete: bool) -> Summary {
        let counters = self.kernel.counters(CgroupId(run.cgroup)).ok().flatten();
        Summary {
            sessions: Counts::get(&run.counts.sessions),
            exchanges: Counts::get(&run.counts.exchanges),
            refused: Counts::get(&run.counts.refused) + Counts::get(&run.counts.dropped),
            held: Counts::get(&run.counts.held),
            alarms: Counts::get(&run.counts.bypasses) + Counts::get(&run.counts.differences),
            bypassed: counters.as_ref().map_or(0, bypassed),
            dropped: counters.as_ref().map_or(0, packets_dropped),
            map_full: counters.as_ref().map_or(0, |counters| counters.map_full),
            processes,
            complete,
        }
    }

    fn processes_of(&self, run: &Run) -> u64 {
        let directory = self.kernel.parent().create_child(&run.id.to_string());
        let pids = directory.and_then(|cgroup| cgroup.pids());
        pids.map_or(0, |pids| pids.len() as u64)
    }

    /// Waits until the index has what is in the journal now; false when that takes too long.
    async fn caught_up(&self) -> bool {
        let Some(last) = self.journal.end().checked_sub(1) else { return true };
        matches!(tokio::time::timeout(limits::SUMMARY_WAIT, self.journal.caught_up(last)).await, Ok(Ok(())))
    }
}

/// The directory of a cgroup as a process reaches it: through our root where it has other mounts.
fn seen_by(pid: u32, cgroup: &Cgroup) -> PathBuf {
    let mounts = |of: &str| std::fs::read_link(format!("/proc/{of}/ns/mnt")).ok();
    let path = cgroup.path();
    if mounts(&pid.to_string()) == mounts("self") {
        return path.to_owned();
    }
    PathBuf::from(format!("/proc/{}/root", std::process::id())).join(path.strip_prefix("/").unwrap_or(path))
}

fn kernel_mode(mode: Mode) -> kernel::Mode {
    match mode {
        Mode::Record | Mode::Shadow => kernel::Mode::Record,
        Mode::Enforce => kernel::Mode::Enforce,
    }
}

fn refused(counters: &kernel::Counters) -> u64 {
    [
        counters.refused_dead,
        counters.refused_route,
        counters.refused_device,
        counters.refused_source,
        counters.refused_foreign,
        counters.refused_namespace,
        counters.refused_quic,
        counters.refused_mode,
    ]
    .iter()
    .sum()
}

/// Ways around the proxy, of every kind.
fn bypassed(counters: &kernel::Counters) -> u64 {
    counters.bypass.iter().fold(0, |sum, count| sum.saturating_add(*count))
}

fn packets_dropped(counters: &kernel::Counters) -> u64 {
    counters.dropped_escape.saturating_add(counters.dropped_dead)
}

fn run_started(daemon: &Daemon, run: &Run, request: &StartRun, invoker: Process) -> RunStarted {
    let key = daemon.key.clone();
    let digest = move |value: &[u8]| key.digest(value);
    RunStarted {
        name: request.name.clone(),
        argv: process::redacted(&request.argv, &digest),
        cwd: request.cwd.clone(),
        uid: request.uid,
        identity: run.identity.for_record(),
        invoker,
        mode: run.mode,
        cgroup: run.cgroup,
        host: daemon.facts.host.clone(),
        kernel: daemon.facts.kernel.clone(),
        version: env!("CARGO_PKG_VERSION").into(),
        boot_id: daemon.facts.boot_id.clone(),
    }
}

/// What runs that have ended came to, for the one who started them; bounded, the oldest goes.
#[derive(Debug, Default)]
pub(super) struct Finished(RefCell<VecDeque<(RunId, Summary)>>);

/// Ended runs that are remembered; a `run` asks within milliseconds.
const FINISHED_MAX: usize = 256;

impl Finished {
    fn keep(&self, run: RunId, summary: Summary) {
        let mut kept = self.0.borrow_mut();
        kept.push_back((run, summary));
        if kept.len() > FINISHED_MAX {
            kept.pop_front();
        }
    }

    fn get(&self, id: RunId) -> Option<Summary> {
        self.0.borrow().iter().find(|(run, _)| *run == id).map(|(_, summary)| summary.clone())
    }
}

/// Resolves when the run's command has ended, or was never started, and no process is left. Of every run the control
/// socket tells exactly once how its command ended, also when nobody is left who could know.
async fn until_empty(cgroup: &Cgroup, exit: &mut watch::Receiver<Option<Exit>>) -> io::Result<()> {
    exit.wait_for(Option::is_some).await.map_err(io::Error::other)?;
    let mut events = cgroup.events().map_err(io::Error::other)?;
    while events.is_populated().map_err(io::Error::other)? {
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
    Ok(())
}

fn ended(exit: Option<&Exit>) -> (RunOutcome, Option<i32>) {
    match exit {
        Some(Exit::Code { code }) => (RunOutcome::Exited, Some(*code)),
        Some(Exit::Signal { signal }) => (RunOutcome::Exited, Some(128 + signal)),
        Some(Exit::NotStarted { .. }) => (RunOutcome::Failed, None),
        Some(Exit::Unreported) | None => (RunOutcome::Exited, None),
    }
}

/// Counts what keeps the agent alive.
#[derive(Debug, Default)]
pub(super) struct Alive(Arc<AtomicUsize>);

/// One thing that keeps the agent alive.
#[derive(Debug)]
pub(super) struct Hold(Arc<AtomicUsize>);

impl Alive {
    pub(super) fn hold(&self) -> Hold {
        self.0.fetch_add(1, Ordering::Relaxed);
        Hold(self.0.clone())
    }

    pub(super) fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
