//! The proxy's threads: one current-thread runtime each, a session stays where it was accepted.
//!
//! Never shares a session between threads; what is shared is in `Proxy`.

use std::io;
use std::net::TcpListener;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::LocalSet;

use crate::capture::listen::DnsSocket;
use crate::proto::dns::relay::Relay;
use crate::proxy::Proxy;

/// What a thread is given to serve.
#[derive(Debug)]
enum Work {
    Connections(TcpListener),
    Names(DnsSocket, Arc<Relay>),
}

/// The threads.
#[derive(Debug)]
pub struct Workers {
    queues: RwLock<Vec<mpsc::Sender<Work>>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// Listeners that wait for a thread to take them; there are 17 of each kind per network namespace.
const WORK_MAX: usize = 256;

impl Workers {
    /// Starts one thread per core.
    ///
    /// # Errors
    /// When a thread or its runtime cannot be made.
    pub fn start(proxy: &Arc<Proxy>) -> io::Result<Self> {
        let count = std::thread::available_parallelism().map_or(1, usize::from);
        let (mut queues, mut threads) = (Vec::new(), Vec::new());
        for number in 0..count {
            let (queue, receiver) = mpsc::channel(WORK_MAX);
            let proxy = proxy.clone();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let thread = std::thread::Builder::new()
                .name(format!("proxy-{number}"))
                .spawn(move || LocalSet::new().block_on(&runtime, serve(proxy, receiver)))?;
            queues.push(queue);
            threads.push(thread);
        }
        Ok(Self { queues: RwLock::new(queues), threads: Mutex::new(threads) })
    }

    /// Serves a listener on every thread: whichever is idle takes the next connection.
    ///
    /// # Errors
    /// When its descriptor cannot be shared, or a thread is gone.
    pub async fn serve(&self, listener: &TcpListener) -> io::Result<()> {
        for queue in self.queues() {
            send(&queue, Work::Connections(listener.try_clone()?)).await?;
        }
        Ok(())
    }

    /// Serves a DNS socket on the first thread.
    ///
    /// # Errors
    /// When the thread is gone.
    pub async fn resolve(&self, socket: DnsSocket, relay: Arc<Relay>) -> io::Result<()> {
        match self.queues().first() {
            Some(queue) => send(queue, Work::Names(socket, relay)).await,
            None => Err(io::Error::other("no proxy thread")),
        }
    }

    /// Ends the threads; sessions that are still open are aborted on record.
    pub fn stop(&self) {
        self.queues.write().unwrap_or_else(PoisonError::into_inner).clear();
        for thread in self.threads.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            if thread.join().is_err() {
                tracing::error!("a proxy thread had panicked");
            }
        }
    }

    fn queues(&self) -> Vec<mpsc::Sender<Work>> {
        self.queues.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn send(queue: &mpsc::Sender<Work>, work: Work) -> io::Result<()> {
    queue.send(work).await.map_err(|_| io::Error::other("a proxy thread has ended"))
}

async fn serve(proxy: Arc<Proxy>, mut work: mpsc::Receiver<Work>) {
    while let Some(work) = work.recv().await {
        match work {
            Work::Connections(listener) => match tokio::net::TcpListener::from_std(listener) {
                Ok(listener) => drop(tokio::task::spawn_local(proxy.clone().accept(listener))),
                Err(error) => tracing::error!(%error, "a listener could not be served"),
            },
            Work::Names(socket, relay) => drop(tokio::task::spawn_local(relay.serve(socket))),
        }
    }
    // Tasks are dropped with the LocalSet; give those that are just closing a moment to do so in order.
    tokio::time::sleep(Duration::from_millis(10)).await;
}
