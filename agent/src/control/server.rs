//! The agent's side of the control socket.
//!
//! Owns the socket file, the check of the peer and the bound on clients. Never decides what a run is.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fs::Permissions;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use crewtap_core::id::RunId;
use crewtap_core::limits;
use nix::sys::socket::getsockopt;
use nix::sys::socket::sockopt::PeerPidfd;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::LocalSet;

use super::{Agent, Exit, LineError, Peer, Refusal, Reply, Request, decode, encode};

/// Listens at `path`, replacing what a dead agent has left there. To be called by the holder of the store's
/// lock only: the lock, not the file, says who is alive.
///
/// # Errors
/// When the socket cannot be made, secured or put in its place.
pub fn bind(path: &Path) -> io::Result<UnixListener> {
    // Made beside and renamed: nobody ever connects to it before it is closed to others.
    let beside = path.with_extension("sock.new");
    match std::fs::remove_file(&beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&beside)?;
    std::fs::set_permissions(&beside, Permissions::from_mode(0o600))?;
    std::fs::rename(&beside, path)?;
    Ok(listener)
}

/// Serves clients until the future is dropped. `captured` tells whether a pid is in a capture cgroup; it says
/// yes when it cannot tell. `clients` always holds how many are connected: an agent on demand must not end
/// while there is one, because a run may be about to be asked for.
///
/// # Errors
/// When the listener fails for good.
pub async fn serve<A: Agent + 'static>(
    listener: UnixListener,
    agent: Rc<A>,
    captured: impl Fn(u32) -> bool,
    clients: watch::Sender<usize>,
) -> io::Result<()> {
    let places = Rc::new(Semaphore::new(limits::CONTROL_CLIENTS_MAX));
    let local = LocalSet::new();
    local
        .run_until(async {
            loop {
                let place = places.acquire().await.map_err(io::Error::other)?;
                place.forget();
                let stream = accept(&listener).await?;
                clients.send_modify(|count| *count += 1);
                let peer = admit(&stream, &captured);
                let (agent, places, clients) = (Rc::clone(&agent), Rc::clone(&places), clients.clone());
                tokio::task::spawn_local(async move {
                    if let Err(error) = converse(stream, peer, &*agent).await {
                        tracing::debug!(%error, "control connection");
                    }
                    places.add_permits(1);
                    clients.send_modify(|count| *count -= 1);
                });
            }
        })
        .await
}

/// Accepts; a client that is gone already, or descriptors that run out for a moment, end nothing.
async fn accept(listener: &UnixListener) -> io::Result<UnixStream> {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return Ok(stream),
            Err(error) => match error.raw_os_error() {
                Some(libc::ECONNABORTED | libc::EINTR) => {}
                Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM) => {
                    tracing::warn!(%error, "the control socket cannot accept for the moment");
                    tokio::time::sleep(limits::HEARTBEAT_INTERVAL).await;
                }
                _ => return Err(error),
            },
        }
    }
}

fn admit(stream: &UnixStream, captured: &impl Fn(u32) -> bool) -> Result<Peer, Refusal> {
    let credentials = stream.peer_cred().map_err(Refusal::because)?;
    let pid = credentials.pid().and_then(|pid| u32::try_from(pid).ok()).filter(|pid| *pid != 0);
    let life = getsockopt(stream, PeerPidfd).ok().map(Arc::new);
    let peer = Peer { pid: pid.unwrap_or_default(), uid: credentials.uid(), gid: credentials.gid(), life };
    if peer.uid != 0 {
        return Err(Refusal("only root may speak with the agent: use sudo".into()));
    }
    // A peer from a foreign pid namespace has no pid here, and so cannot be shown to be outside of a run.
    if pid.is_none_or(captured) {
        return Err(Refusal("a captured process may not speak with the agent that captures it".into()));
    }
    Ok(peer)
}

async fn converse<A: Agent>(mut stream: UnixStream, peer: Result<Peer, Refusal>, agent: &A) -> anyhow::Result<()> {
    let peer = match peer {
        Ok(peer) => peer,
        Err(Refusal(why)) => {
            tracing::warn!(%why, "control connection refused");
            return Ok(stream.write_all(&encode(&Reply::Refused { why })?).await?);
        }
    };
    let open = RefCell::new(BTreeSet::new());
    let result = answer_all(&mut stream, peer, agent, &open).await;
    // `crewtap run` was killed: the agent must not wait for a word that never comes.
    for run in open.into_inner() {
        if let Err(why) = agent.run_exited(run, Exit::Unreported).await {
            tracing::warn!(%run, %why, "a run whose wrapper has gone");
        }
    }
    result
}

async fn answer_all<A: Agent>(
    stream: &mut UnixStream,
    peer: Peer,
    agent: &A,
    open: &RefCell<BTreeSet<RunId>>,
) -> anyhow::Result<()> {
    let (read, mut write) = stream.split();
    let mut read = BufReader::new(read);
    let mut line = Vec::new();
    loop {
        line.clear();
        let most = u64::try_from(limits::CONTROL_BYTES_MAX).unwrap_or(u64::MAX);
        let taken = (&mut read).take(most).read_until(b'\n', &mut line).await?;
        if taken == 0 {
            return Ok(());
        }
        let request = if line.ends_with(b"\n") { decode(&line) } else { Err(LineError::TooLong) };
        let (reply, last) = match request {
            Ok(request) => (answer(request, peer.clone(), agent, open).await, false),
            Err(error) => (Reply::Refused { why: error.to_string() }, true),
        };
        write.write_all(&encode(&reply)?).await?;
        if last {
            return Ok(());
        }
    }
}

async fn answer<A: Agent>(request: Request, peer: Peer, agent: &A, open: &RefCell<BTreeSet<RunId>>) -> Reply {
    let reply = match request {
        Request::StartRun(request) => agent.start_run(peer, request).await.map(|started| {
            open.borrow_mut().insert(started.run);
            Reply::Started(started)
        }),
        Request::RunExited { run, exit } => {
            open.borrow_mut().remove(&run);
            agent.run_exited(run, exit).await.map(|()| Reply::Done)
        }
        Request::LayOverlay { run, home } => agent.lay_overlay(run, home).await.map(Reply::Laid),
        Request::RunSummary { run } => agent.run_summary(run).await.map(Reply::Summary),
        Request::Status => Ok(Reply::Status(agent.status().await)),
        Request::Identity { request } => agent.identity(peer, request).await.map(|answer| Reply::Identity { answer }),
        Request::Approvals { request } => agent.approvals(peer, request).await.map(|told| Reply::Approvals { told }),
    };
    reply.unwrap_or_else(|Refusal(why)| Reply::Refused { why })
}
