//! Keys that cancel what a session runs: the client has one of ours, which stands for the target's.
//!
//! Owned by the run: no other run's process can use them. Never kept beyond the session, and the target's key never shown.

use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crewtap_core::id::SessionId;
use crewtap_core::secret::Secret;
use tokio::sync::Notify;

/// The keys of a run's sessions.
#[derive(Default)]
pub struct Cancels(Mutex<HashMap<Key, Arc<Cancel>>>);

/// Process number and secret, as the client has them.
type Key = (u32, Vec<u8>);

impl fmt::Debug for Cancels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cancels").field("keys", &self.entries().len()).finish()
    }
}

/// What a key stands for.
#[derive(Debug)]
pub struct Cancel {
    /// The session that it cancels something of.
    pub session: SessionId,
    /// Where that session's target is: the key is good for no other.
    pub target: SocketAddr,
    /// The target's own key.
    pub key: Secret,
    /// Told when the client cancels what is held here and has not reached the target.
    pub cancelled: Arc<Notify>,
}

/// A key that a client has; with it goes the entry.
pub struct Issued {
    of: Arc<Cancels>,
    key: Key,
    cancel: Arc<Cancel>,
}

impl Cancels {
    /// Gives out a key for the target's; the same number, and a secret of the same length.
    ///
    /// # Errors
    /// When the operating system has no random bytes.
    pub fn issue(
        self: &Arc<Self>,
        number: u32,
        (session, target): (SessionId, SocketAddr),
        key: Secret,
    ) -> Result<Issued, getrandom::Error> {
        let mut secret = vec![0; key.expose().len()];
        getrandom::fill(&mut secret)?;
        let cancel = Arc::new(Cancel { session, target, key, cancelled: Arc::default() });
        let key = (number, secret);
        self.entries().insert(key.clone(), cancel.clone());
        Ok(Issued { of: self.clone(), key, cancel })
    }

    /// What a client's key stands for.
    #[must_use]
    pub fn find(&self, number: u32, secret: &[u8]) -> Option<Arc<Cancel>> {
        self.entries().get(&(number, secret.to_vec())).cloned()
    }

    fn entries(&self) -> MutexGuard<'_, HashMap<Key, Arc<Cancel>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Issued {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Issued").field("process", &self.key.0).finish_non_exhaustive()
    }
}

impl Issued {
    /// The secret that the client gets.
    #[must_use]
    pub fn secret(&self) -> &[u8] {
        &self.key.1
    }

    /// What it stands for.
    #[must_use]
    pub fn cancel(&self) -> &Arc<Cancel> {
        &self.cancel
    }
}

impl Drop for Issued {
    fn drop(&mut self) {
        self.of.entries().remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crewtap_core::id::Ulid;

    #[test]
    fn a_key_stands_for_the_targets_while_its_session_lives() {
        let cancels = Arc::new(Cancels::default());
        let whom = (SessionId(Ulid::from_bytes([7; 16])), "127.0.0.1:5432".parse().unwrap());
        let issued = cancels.issue(42, whom, Secret::new(vec![1, 2, 3, 4])).unwrap();
        let (secret, other) = (issued.secret().to_vec(), vec![0; 3]);
        assert_eq!(secret.len(), 4);
        assert_eq!(cancels.find(42, &secret).unwrap().key.expose(), [1, 2, 3, 4]);
        assert!(cancels.find(43, &secret).is_none() && cancels.find(42, &other).is_none());
        drop(issued);
        assert!(cancels.find(42, &secret).is_none());
    }
}
