//! The groups of an identity: shared, and compared without looking at each of ten thousand.
//!
//! Never changes once it is made.

use std::collections::BTreeSet;
use std::hash::{Hash, Hasher};
use std::ops::Deref;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};

use crate::limits::GROUPS_RECORDED_BYTES;

/// Names of groups, sorted, each once.
#[derive(Clone, Default)]
pub struct Groups {
    names: Arc<[String]>,
    /// Over all names with their lengths.
    digest: [u8; 32],
}

impl Groups {
    /// Whether there is none; for serde, which wants a function of the type itself.
    pub(super) fn has_none(&self) -> bool {
        self.names.is_empty()
    }

    /// As many as a record has room for, and how many are left off.
    pub(super) fn bounded(&self) -> (Self, u64) {
        let mut room = GROUPS_RECORDED_BYTES;
        let fits = |name: &&String| {
            let left = room.checked_sub(name.len());
            room = left.unwrap_or_default();
            left.is_some()
        };
        let kept = self.names.iter().take_while(fits).count();
        if kept == self.names.len() {
            return (self.clone(), 0);
        }
        let left_off = u64::try_from(self.names.len() - kept).unwrap_or(u64::MAX);
        (self.names.iter().take(kept).cloned().collect(), left_off)
    }
}

impl From<Vec<String>> for Groups {
    fn from(names: Vec<String>) -> Self {
        names.into_iter().collect()
    }
}

impl FromIterator<String> for Groups {
    fn from_iter<I: IntoIterator<Item = String>>(names: I) -> Self {
        let sorted: BTreeSet<String> = names.into_iter().collect();
        if sorted.is_empty() {
            return Self::default();
        }
        let mut hash = Sha256::new();
        for name in &sorted {
            hash.update(name.len().to_le_bytes());
            hash.update(name);
        }
        Self { names: sorted.into_iter().collect(), digest: hash.finalize().into() }
    }
}

impl Deref for Groups {
    type Target = [String];

    fn deref(&self) -> &[String] {
        &self.names
    }
}

impl<'g> IntoIterator for &'g Groups {
    type Item = &'g String;
    type IntoIter = std::slice::Iter<'g, String>;

    fn into_iter(self) -> Self::IntoIter {
        self.names.iter()
    }
}

impl PartialEq for Groups {
    fn eq(&self, other: &Self) -> bool {
        self.digest == other.digest
    }
}

impl Eq for Groups {}

impl Hash for Groups {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.digest.hash(state);
    }
}

impl std::fmt::Debug for Groups {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.names.iter()).finish()
    }
}

impl Serialize for Groups {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.names.iter())
    }
}

impl<'de> Deserialize<'de> for Groups {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Vec::<String>::deserialize(deserializer)?.into())
    }
}
