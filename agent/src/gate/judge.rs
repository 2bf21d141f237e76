//! The judge that the agent installs: the rules in force, the overrides, and the humans who approve.
//!
//! Never records by itself: the session does.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use crewtap_core::identity::{Groups, Identity};
use crewtap_core::policy::rules::{Rules, Scope};
use crewtap_core::target::Resource;
use crewtap_core::verdict::Verdict;

use super::{Approval, Judge, Question};
use crate::approvals::{Approvals, Asked};

/// Scopes that are kept for one set of rules: identities times targets that are in use.
const SCOPES_MAX: usize = 4096;

/// What a scope is kept by.
#[derive(PartialEq, Eq, Hash)]
struct Key {
    identity: String,
    groups: Groups,
    resource: Resource,
}

/// The rules in force, with what has been cut from them for those who are there.
#[derive(Debug, Default)]
struct InForce {
    rules: Arc<Rules>,
    scopes: RwLock<HashMap<Key, Arc<Scope>>>,
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} on {}", self.identity, self.resource.id)
    }
}

/// Judges by rules that can be exchanged while sessions are open.
#[derive(Debug)]
pub struct PolicyJudge {
    rules: RwLock<Arc<InForce>>,
    approvals: Approvals,
}

impl PolicyJudge {
    /// A judge by these rules.
    #[must_use]
    pub fn new(rules: Arc<Rules>, approvals: Approvals) -> Self {
        Self { rules: RwLock::new(Arc::new(InForce { rules, ..InForce::default() })), approvals }
    }

    /// From now on every action is judged by these, also in sessions that are open.
    pub fn exchange(&self, rules: Arc<Rules>) {
        *self.rules.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(InForce { rules, ..InForce::default() });
    }

    fn in_force(&self) -> Arc<InForce> {
        self.rules.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl InForce {
    fn scope(&self, identity: &Identity, resource: &Resource) -> Arc<Scope> {
        let key = Key { identity: identity.id.clone(), groups: identity.groups.clone(), resource: resource.clone() };
        if let Some(scope) = self.scopes.read().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return scope.clone();
        }
        let scope = Arc::new(self.rules.scope(identity, resource));
        let mut scopes = self.scopes.write().unwrap_or_else(PoisonError::into_inner);
        if scopes.len() >= SCOPES_MAX {
            scopes.clear();
        }
        scopes.insert(key, scope.clone());
        scope
    }
}

impl Judge for PolicyJudge {
    fn judge(&self, question: &Question<'_>) -> Verdict {
        let scope = self.in_force().scope(question.identity, question.resource);
        scope.judge(question.action.verb, &question.action.facts)
    }

    fn approval(&self, question: &Question<'_>, verdict: &Verdict) -> Approval {
        self.approvals.ask(Asked::of(question, verdict))
    }

    fn overridden(&self, question: &Question<'_>) -> Option<String> {
        self.approvals.overridden(&question.resource.id)
    }
}
