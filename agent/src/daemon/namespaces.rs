//! The network namespaces that runs live in, each with listeners of ours, bound when its first run begins.
//!
//! A listening socket belongs to the namespace in which it was made; a namespace is served until the agent ends.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::workers::Workers;
use crate::capture::listen::Listeners;
use crate::capture::netns::NetworkNamespace;
use crate::namespace::Namespace;
use crate::proto::dns::relay::Relay;

/// Namespaces by their number.
#[derive(Debug)]
pub(super) struct Namespaces {
    served: Mutex<HashMap<u64, Arc<Namespace>>>,
    workers: Arc<Workers>,
    relay: Arc<Relay>,
}

impl Namespaces {
    pub(super) fn new(workers: Arc<Workers>, relay: Arc<Relay>) -> Self {
        Self { served: Mutex::default(), workers, relay }
    }

    /// The namespace of a process, with listeners. Called on one thread, so none is bound twice.
    pub(super) async fn of_process(&self, pid: u32) -> io::Result<Arc<Namespace>> {
        let netns = NetworkNamespace::of_process(pid)?;
        if let Some(namespace) = self.lock().get(&netns.inode()) {
            return Ok(namespace.clone());
        }
        let listeners = Listeners::bind(&netns)?;
        let namespace = Arc::new(Namespace::new(netns, listeners.ports())?);
        for listener in &listeners.tcp {
            self.workers.serve(listener).await?;
        }
        for socket in listeners.dns {
            self.workers.resolve(socket, self.relay.clone()).await?;
        }
        self.lock().insert(namespace.inode(), namespace.clone());
        Ok(namespace)
    }

    /// All of them.
    pub(super) fn all(&self) -> Vec<Arc<Namespace>> {
        self.lock().values().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Arc<Namespace>>> {
        self.served.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
