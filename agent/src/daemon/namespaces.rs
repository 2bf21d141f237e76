//! The network namespaces that runs live in, each with listeners of ours, bound when its first run begins.
//!
//! A listening socket belongs to the namespace in which it was made. Only runs hold a namespace: with the last of them
//! its listeners go.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::workers::Workers;
use crate::capture::listen::Listeners;
use crate::capture::netns::NetworkNamespace;
use crate::namespace::Namespace;
use crate::proto::dns::relay::Relay;

/// Namespaces by their number.
pub(super) struct Namespaces {
    served: Mutex<HashMap<u64, Weak<Namespace>>>,
    /// Held while one is being bound, so that none is bound twice.
    binding: tokio::sync::Mutex<()>,
    workers: Arc<Workers>,
    relay: Arc<Relay>,
    /// Port of the approvers' API, which is in the agent's own namespace.
    api: Option<u16>,
}

impl Namespaces {
    pub(super) fn new(workers: Arc<Workers>, relay: Arc<Relay>, api: Option<u16>) -> Self {
        Self { served: Mutex::default(), binding: tokio::sync::Mutex::default(), workers, relay, api }
    }

    /// The namespace of a process, with listeners.
    pub(super) async fn of_process(&self, pid: u32) -> io::Result<Arc<Namespace>> {
        let _binding = self.binding.lock().await;
        let netns = NetworkNamespace::of_process(pid)?;
        if let Some(namespace) = self.lock().get(&netns.inode()).and_then(Weak::upgrade) {
            return Ok(namespace);
        }
        let listeners = Listeners::bind(&netns)?;
        let namespace = Arc::new(Namespace::new(netns, listeners.ports())?.with(self.api));
        for listener in &listeners.tcp {
            self.workers.serve(listener, &namespace).await?;
        }
        for socket in listeners.dns {
            self.workers.resolve(socket, &namespace, self.relay.clone()).await?;
        }
        self.lock().insert(namespace.inode(), Arc::downgrade(&namespace));
        Ok(namespace)
    }

    /// Those in which a run is left; the others are forgotten.
    pub(super) fn all(&self) -> Vec<Arc<Namespace>> {
        let mut served = self.lock();
        served.retain(|_, namespace| namespace.strong_count() > 0);
        served.values().filter_map(Weak::upgrade).collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Weak<Namespace>>> {
        self.served.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
