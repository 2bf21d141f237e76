//! The approvers' HTTP API: what waits, and answers to it, for other front ends on this host.
//!
//! Off unless it is configured, on loopback alone, and for bearers of a token. Never shows anything in clear, never serves a
//! captured process, and never a page of a web site: the host that is asked for must be loopback, and nothing says that
//! another origin may read the answers.

mod answers;
mod bearer;
mod peer;

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crewtap_core::limits;
use crewtap_core::mask::digest::DigestKey;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::LocalSet;

use crate::approvals::Approvals;
use crate::config::approvals::ApiConfig;

/// Connections that are served at one time.
const CONNECTIONS_MAX: usize = 16;

/// How long a request's head may take.
const HEAD_WAIT: Duration = Duration::from_secs(5);

/// How long a connection lasts: one request.
const CONNECTION_WAIT: Duration = Duration::from_secs(30);

/// Bytes of a head.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// Bytes of a body: a reason, however it is escaped.
const BODY_BYTES_MAX: usize = 8 * limits::REASON_BYTES_MAX;

/// What the API answers from.
#[derive(Clone, Debug)]
pub struct Api {
    config: Arc<ApiConfig>,
    approvals: Approvals,
    key: DigestKey,
}

impl Api {
    /// An API for these approvers.
    #[must_use]
    pub fn new(config: ApiConfig, approvals: Approvals, key: DigestKey) -> Self {
        Self { config: Arc::new(config), approvals, key }
    }
}

/// Serves until the future is dropped.
///
/// # Errors
/// When the listener fails for good.
pub async fn serve(listener: std::net::TcpListener, api: Api) -> io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let local = LocalSet::new();
    local
        .run_until(async {
            loop {
                let place = places.clone().acquire_owned().await.map_err(io::Error::other)?;
                let (stream, client) = accept(&listener).await?;
                let api = api.clone();
                tokio::task::spawn_local(async move {
                    let _place = place;
                    let served = tokio::time::timeout(CONNECTION_WAIT, converse(stream, client, api)).await;
                    if let Ok(Err(error)) = served {
                        tracing::debug!(%error, "a connection to the approvers' API");
                    }
                });
            }
        })
        .await
}

async fn accept(listener: &TcpListener) -> io::Result<(TcpStream, SocketAddr)> {
    loop {
        match listener.accept().await {
            Err(error) => match error.raw_os_error() {
                Some(libc::ECONNABORTED | libc::EINTR) => {}
                Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM) => {
                    tracing::warn!(%error, "the approvers' API cannot accept for the moment");
                    tokio::time::sleep(limits::HEARTBEAT_INTERVAL).await;
                }
                _ => return Err(error),
            },
            accepted => return accepted,
        }
    }
}

/// One request, of somebody who is not captured.
async fn converse(stream: TcpStream, client: SocketAddr, api: Api) -> io::Result<()> {
    let ours = stream.local_addr()?;
    let is_captured = tokio::task::spawn_blocking(move || peer::is_captured(client, ours));
    if is_captured.await.map_err(io::Error::other)? {
        tracing::warn!(%client, "a captured process, or one that cannot be told from one, at the approvers' API");
        return Ok(());
    }
    let api = Rc::new(api);
    let service = service_fn(move |request| answers::answer(Rc::clone(&api), ours, request));
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(HEAD_WAIT).max_buf_size(HEAD_BYTES_MAX).keep_alive(false);
    server.serve_connection(TokioIo::new(stream), service).await.map_err(io::Error::other)
}

#[cfg(test)]
mod tests;
