//! Turns what the kernel side reports into events of the run it belongs to.
//!
//! Never drops silently: what the ring buffer lost is counted by the kernel and reconciled at the end of the run.

use std::sync::Arc;

use crewtap_core::bodies::{Accepted, Bypass, ProcessExited, ProcessStarted};
use crewtap_core::event::Body;
use crewtap_core::run::{Mode, Process, Start};

use crate::capture::cgroup::{self, Cgroup};
use crate::capture::kernel::{BypassKind, KernelEvent, Moment};
use crate::capture::process::{self, ProcessCache, Program};
use crate::journal::JournalError;
use crate::recorder::Unrecorded;
use crate::runs::{Counts, Run, Runs};

/// What reports are judged with.
pub(super) struct Watch<'a> {
    pub(super) runs: &'a Runs,
    pub(super) processes: &'a ProcessCache,
    pub(super) parent: &'a Cgroup,
}

impl Watch<'_> {
    /// Records one report.
    pub(super) async fn record(&self, event: &KernelEvent) {
        let moment = event.moment();
        let Some(run) = self.runs.get(moment.run.0) else { return };
        // What the self-test did before is not the run's.
        if run.proven().is_none_or(|proven| moment.at_ns < proven.mono_ns) {
            return;
        }
        if let Some(body) = self.body(&run, event).await
            && let Err(error) = record_or_count(&run.counts, body, |body| run.record(body))
        {
            tracing::error!(run = %run.id, %error, "a report of the kernel side was lost");
        }
    }

    async fn body(&self, run: &Arc<Run>, event: &KernelEvent) -> Option<Body> {
        let pid = event.moment().tgid;
        match event {
            KernelEvent::Exec { filename, .. } => {
                let process = self.facts(pid, event.moment().at_ns).await;
                let filename = Some(String::from_utf8_lossy(filename).into_owned());
                Some(ProcessStarted { start: Start::Exec, process, filename }.into())
            }
            KernelEvent::Fork { child, .. } => self.forked(event.moment(), *child).await,
            KernelEvent::Exit { moment, last } => Self::exited(pid, moment.tid, *last),
            KernelEvent::Accepted { peer, local, .. } => Some(Accepted { peer: *peer, local: *local, pid }.into()),
            KernelEvent::Bypass { kind, destination, family, socket_type, protocol, refused, .. } => {
                Counts::add(&run.counts.bypasses);
                let detail = describe(*kind, *family, *socket_type, *protocol);
                let bypass = Bypass {
                    kind: kind.name().into(),
                    refused: *refused,
                    address: *destination,
                    pid: Some(pid),
                    detail,
                };
                Some(bypass.into())
            }
            KernelEvent::Moved { by, .. } => self.moved(run, pid, *by),
        }
    }

    /// The facts of the program that a process began at this moment, by exec or by fork.
    async fn facts(&self, pid: u32, began_ns: u64) -> Process {
        let process = self.processes.of_program(Program { pid, since_ns: began_ns, at_ns: began_ns }).await;
        Process::clone(&process)
    }

    /// A thread is no process. A child that is gone already is on record with its pid alone.
    async fn forked(&self, parent: &Moment, child: u32) -> Option<Body> {
        if process::is_thread(child) {
            return None;
        }
        let mut process = self.facts(child, parent.at_ns).await;
        if process.ppid == 0 {
            process.ppid = parent.tgid;
        }
        Some(ProcessStarted { start: Start::Fork, process, filename: None }.into())
    }

    fn exited(pid: u32, tid: u32, last: Option<bool>) -> Option<Body> {
        // Where the kernel does not say, the leader's end counts; its other threads may live a little longer.
        if !last.unwrap_or(pid == tid) {
            return None;
        }
        Some(ProcessExited { pid, status: None }.into())
    }

    /// A cgroup below the run's own is still the run's.
    fn moved(&self, run: &Arc<Run>, pid: u32, by: Option<u32>) -> Option<Body> {
        let inside = cgroup::run_of_process(self.parent, pid).ok().flatten();
        if inside.is_some_and(|name| name == run.id.to_string()) {
            return None;
        }
        Counts::add(&run.counts.bypasses);
        let refused = run.mode == Mode::Enforce && process::kill(pid).is_ok();
        let detail = by.map_or_else(
            || "it was born outside of the capture cgroup".into(),
            |by| format!("moved out of the capture cgroup by process {by}"),
        );
        Some(Bypass { kind: "left_cgroup".into(), refused, address: None, pid: Some(pid), detail }.into())
    }
}

/// Records a report, or of a process that does not fit its minimum, or counts it as lost: a run with a report lost
/// is not complete. A journal that is closed takes no count of it either.
fn record_or_count(
    counts: &Counts,
    body: Body,
    record: impl Fn(Body) -> Result<(), Unrecorded>,
) -> Result<(), Unrecorded> {
    let least = least(&body);
    let Err(error) = record(body) else { return Ok(()) };
    if matches!(error, Unrecorded(JournalError::Closed)) {
        return Err(error);
    }
    if let Some(body) = least
        && record(body).is_ok()
    {
        return Ok(());
    }
    Counts::add(&counts.lost);
    Err(error)
}

/// That a process was started, and what as; nothing whose size the process decides.
fn least(body: &Body) -> Option<Body> {
    let Body::ProcessStarted(ProcessStarted { start, process, filename }) = body else { return None };
    let process =
        Process { pid: process.pid, ppid: process.ppid, start_ticks: process.start_ticks, ..Process::default() };
    Some(ProcessStarted { start: *start, process, filename: filename.clone() }.into())
}

fn describe(kind: BypassKind, family: u32, socket_type: u16, protocol: u16) -> String {
    match kind {
        BypassKind::OddFamily | BypassKind::OddProtocol | BypassKind::RawSocket | BypassKind::PingSocket => {
            format!("socket family {family}, type {socket_type}, protocol {protocol}")
        }
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests;
