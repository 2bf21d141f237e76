//! The proxy's threads: one current-thread runtime each, a session stays where it was accepted.
//!
//! Never shares a session between threads; what is shared is in `Proxy`.

use std::io;
use std::net::TcpListener;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread::JoinHandle;

use tokio::sync::{Notify, mpsc};
use tokio::task::{JoinSet, LocalSet};

use crate::capture::listen::DnsSocket;
use crate::namespace::{Namespace, Tenure};
use crate::proto::dns::relay::Relay;
use crate::proxy::Proxy;

/// What a thread is given to serve.
#[derive(Debug)]
enum Work {
    Connections(TcpListener, Tenure),
    Names(DnsSocket, Tenure, Arc<Relay>),
}

/// Says that a thread has ended, however it did.
struct LastWord(Arc<Notify>);

impl Drop for LastWord {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

/// The threads.
#[derive(Debug)]
pub struct Workers {
    ended: Arc<Notify>,
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
        let ended = Arc::new(Notify::new());
        for number in 0..count {
            let (queue, receiver) = mpsc::channel(WORK_MAX);
            let proxy = proxy.clone();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let thread = std::thread::Builder::new().name(format!("proxy-{number}")).spawn({
                let last_word = LastWord(ended.clone());
                move || {
                    let _last_word = last_word;
                    LocalSet::new().block_on(&runtime, serve(proxy, receiver));
                }
            })?;
            queues.push(queue);
            threads.push(thread);
        }
        Ok(Self { ended, queues: RwLock::new(queues), threads: Mutex::new(threads) })
    }

    /// Serves a listener on every thread: whichever is idle takes the next connection.
    ///
    /// # Errors
    /// When its descriptor cannot be shared, or a thread is gone.
    pub async fn serve(&self, listener: &TcpListener, namespace: &Namespace) -> io::Result<()> {
        for queue in self.queues() {
            send(&queue, Work::Connections(listener.try_clone()?, namespace.tenure())).await?;
        }
        Ok(())
    }

    /// Serves a DNS socket on the first thread.
    ///
    /// # Errors
    /// When the thread is gone.
    pub async fn resolve(&self, socket: DnsSocket, namespace: &Namespace, relay: Arc<Relay>) -> io::Result<()> {
        match self.queues().first() {
            Some(queue) => send(queue, Work::Names(socket, namespace.tenure(), relay)).await,
            None => Err(io::Error::other("no proxy thread")),
        }
    }

    /// Resolves when a thread has ended that was not told to: nobody may serve its share then.
    pub async fn ended(&self) {
        self.ended.notified().await;
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

/// Serves what it is given until there is no more to come. A listener's task ends with its namespace; if one ends before,
/// it has panicked, and the thread ends with it.
async fn serve(proxy: Arc<Proxy>, mut queue: mpsc::Receiver<Work>) {
    let mut tasks = JoinSet::new();
    loop {
        let work = tokio::select! {
            work = queue.recv() => work,
            Some(ended) = tasks.join_next() => {
                if matches!(ended, Ok(End::Released)) {
                    continue;
                }
                tracing::error!(?ended, "a listener is not served any more");
                return;
            }
        };
        match work {
            Some(Work::Connections(listener, tenure)) => match tokio::net::TcpListener::from_std(listener) {
                Ok(listener) => drop(tasks.spawn_local(until(tenure, proxy.clone().accept(listener)))),
                Err(error) => return tracing::error!(%error, "a listener could not be served"),
            },
            Some(Work::Names(socket, tenure, relay)) => drop(tasks.spawn_local(until(tenure, relay.serve(socket)))),
            None => return,
        }
    }
}

/// Why a listener is not served any more.
#[derive(Debug)]
enum End {
    /// Nobody holds its namespace.
    Released,
    /// It has failed.
    Broken,
}

async fn until(tenure: Tenure, served: impl Future<Output = ()>) -> End {
    tokio::select! {
        () = tenure.ended() => End::Released,
        () = served => End::Broken,
    }
}
