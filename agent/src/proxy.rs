//! Accept, origin, attribute, open, sniff, serve: the way of a connection on one page.
//!
//! There is no default destination: a connection without an origin is refused (law 2). A session
//! stays on the thread that accepted it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use crewtap_core::limits;
use crewtap_core::origin::Origin;
use tokio::net::{TcpListener, TcpStream};

use crate::attribute;
use crate::capture::kernel::Kernel;
use crate::capture::listen;
use crate::capture::process::ProcessCache;
use crate::classify;
use crate::clock;
use crate::dial;
use crate::proto::{self, Client};
use crate::recorder::Recorder;
use crate::runs::{Counts, Run, Runs};
use crate::selftest;
use crate::session::{Ground, Session};

/// What all threads of the proxy share.
pub struct Proxy {
    /// Where origins come from.
    pub kernel: Arc<Kernel>,
    /// The live runs.
    pub runs: Arc<Runs>,
    /// Facts of processes.
    pub processes: Arc<ProcessCache>,
    /// What every session needs.
    pub ground: Arc<Ground>,
    /// For what has no run.
    pub recorder: Recorder,
    /// Connections that were closed because they had no origin.
    pub unattributed: AtomicUsize,
    /// When the last of them was noted, on the monotonic clock; 0: none was.
    pub unattributed_noted_ns: AtomicU64,
    /// Sessions open now.
    pub open: AtomicUsize,
}

/// Notes about connections without an origin are at least so far apart.
const NOTE_INTERVAL_NS: u64 = 1_000_000_000;

/// Counts an open session down when it is over, however it ends.
struct Slot(Arc<Proxy>);

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Proxy {
    /// Accepts on one listener until the task is dropped. Runs inside a `LocalSet`.
    pub async fn accept(self: Arc<Self>, listener: TcpListener) {
        loop {
            match listener.accept().await {
                Ok((stream, peer)) => self.accepted(stream, peer),
                Err(error) => {
                    // Out of file descriptors or memory: existing sessions must end before another can begin.
                    tracing::error!(%error, "a connection could not be accepted");
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
        }
    }

    /// From an accepted connection to its task: everything that must not be mixed up happens before any await.
    fn accepted(self: &Arc<Self>, stream: TcpStream, peer: SocketAddr) {
        let Some((origin, run)) = self.origin(&stream, peer) else {
            self.note_unattributed(peer);
            return dial::reset(stream);
        };
        if run.proven().is_none() {
            return answer_selftest(&origin, stream);
        }
        if self.open.fetch_add(1, Ordering::Relaxed) >= limits::SESSIONS_MAX {
            self.open.fetch_sub(1, Ordering::Relaxed);
            return refuse(&run, stream, "sessions_full", "too many sessions are open");
        }
        let slot = Slot(self.clone());
        let process = (*self.processes.get(origin.pid)).clone();
        match Session::open(self.ground.clone(), run.clone(), origin, peer, process) {
            Ok(session) => {
                tokio::task::spawn_local(async move {
                    let _slot = slot;
                    serve(session, stream).await;
                });
            }
            Err(error) => refuse(&run, stream, "unrecorded", &error.to_string()),
        }
    }

    /// Any local user can connect to a loopback port: one note a second must do, or the disk would be theirs to fill.
    fn note_unattributed(&self, peer: SocketAddr) {
        let count = self.unattributed.fetch_add(1, Ordering::Relaxed) + 1;
        let now = clock::mono_ns();
        let last = self.unattributed_noted_ns.load(Ordering::Relaxed);
        let due = last == 0 || now.saturating_sub(last) >= NOTE_INTERVAL_NS;
        let won = || self.unattributed_noted_ns.compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed);
        if due && won().is_ok() {
            let text = format!("a connection from {peer} had no origin and was refused; {count} so far");
            self.recorder.note("unattributed", text);
        }
    }

    fn origin(&self, stream: &TcpStream, peer: SocketAddr) -> Option<(Origin, Arc<Run>)> {
        let key = listen::connection_key(stream, peer).ok()?;
        let origin = match self.kernel.take_origin(&key) {
            Ok(origin) => attribute::origin(&origin?),
            Err(error) => {
                tracing::error!(%error, "the origin of a connection could not be looked up");
                return None;
            }
        };
        let run = self.runs.get(origin.cgroup)?;
        Some((origin, run))
    }
}

/// Until the self-test has passed, only the self-test may be in the run's cgroup.
fn answer_selftest(origin: &Origin, stream: TcpStream) {
    if origin.destination == selftest::DESTINATION {
        // What the child does not get it reports; an answer of 7 bytes fits into any socket's buffer.
        let _ = stream.try_write(selftest::ANSWER);
    } else {
        dial::reset(stream);
    }
}

async fn serve(session: Session, stream: TcpStream) {
    if let Err(error) = dial::settle_client(&stream) {
        return session.close(crewtap_core::session::Outcome::ClientReset, Some(error.to_string()));
    }
    let (first, classified) = classify::classify(&session, &stream).await;
    if let Err(error) = session.record(classified.clone()) {
        dial::reset(stream);
        return session.close(crewtap_core::session::Outcome::Unrecorded, Some(error.to_string()));
    }
    let driver = proto::driver(&classified.driver);
    (driver.serve)(session, Client { stream, first, classified }).await;
}

fn refuse(run: &Run, stream: TcpStream, code: &str, text: &str) {
    Counts::add(&run.counts.dropped);
    let note = crewtap_core::bodies::Note { code: code.into(), text: format!("a connection was refused: {text}") };
    if let Err(error) = run.record(note) {
        tracing::error!(%error, code, "a refused connection could not be noted");
    }
    dial::reset(stream);
}
