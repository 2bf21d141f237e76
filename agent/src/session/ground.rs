//! What all sessions of an agent work by.
//!
//! Never changes while a session lasts.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use crewtap_core::action::Facts;
use crewtap_core::bodies::Classified;
use crewtap_core::limits;
use crewtap_core::mask::digest::DigestKey;
use crewtap_core::mask::plan::Plan;
use crewtap_core::mask::rule::{Rule, RuleNumber};
use crewtap_core::mask::set::Masks;
use crewtap_core::policy::catalog::{Catalog, Entry};

use super::within::Tunnels;
use crate::authority::Authority;
use crate::clock::{self, Zone};
use crate::config::Config;
use crate::gate::Gate;
use crate::hostkeys::HostKeys;
use crate::runs::Run;

/// What every session of an agent needs.
#[derive(Debug, Clone)]
pub struct Ground {
    /// Judges actions.
    pub gate: Gate,
    /// Makes keyed digests of what is redacted.
    pub key: DigestKey,
    /// The targets that are known, and whose credentials are used.
    pub catalog: Arc<Catalog>,
    /// What is hidden; it agrees with the catalog.
    pub masks: Arc<Masks>,
    /// The same, made ready for the targets that were met.
    pub plans: Arc<Plans>,
    /// What is forwarded must be on disk before.
    pub waits_for_disk: bool,
    /// Where hours and days of the week are counted.
    pub zone: Zone,
    /// How much is held for a human, and for how long.
    pub holding: Holding,
    /// What opening SSH needs; none where nothing is opened.
    pub ssh: Option<Faces>,
    /// What serves connections through another host; none where they are bytes.
    pub tunnels: Option<Tunnels>,
}

/// Both sides of a host key: what a client is shown, and how a target's is judged.
#[derive(Clone, Debug)]
pub struct Faces {
    /// Makes what clients are shown.
    pub authority: Arc<Authority>,
    /// Judges what targets show.
    pub hostkeys: HostKeys,
    /// Content of one file that is recorded each way, in bytes (`ssh.content_max`).
    pub content_max: usize,
}

impl Faces {
    /// As they are configured.
    #[must_use]
    pub fn new(authority: Arc<Authority>, config: &Config) -> Self {
        Self { authority, hostkeys: HostKeys::new(&config.data_dir), content_max: config.ssh.content_max }
    }
}

/// Masks that are ready, by the catalog's name of a target.
#[derive(Debug, Default)]
pub struct Plans(Mutex<HashMap<Option<String>, Ready>>);

/// What is hidden for one target.
#[derive(Clone, Debug)]
pub struct Ready {
    /// In what is said.
    pub content: Arc<Plan>,
    /// In the texts of events: rules for other targets, too, since a value that they are about may stand in any of them.
    pub texts: Arc<Plan>,
}

impl Ground {
    /// What policy may know of every action of a run at this moment: the time, and whether its login has expired.
    #[must_use]
    pub fn facts(&self, run: &Run) -> Facts {
        let now = clock::now().wall_ns;
        let mut facts = self.zone.facts(now);
        facts.extend(run.login().facts(now));
        facts
    }

    /// What is hidden in a session; `opened`: its TLS was opened.
    #[must_use]
    pub fn plan_for(&self, classified: &Classified, opened: bool) -> Ready {
        let Classified { target, protocol, .. } = classified;
        let proven = self.catalog.resource(target, protocol, opened);
        // A name that nobody has proven opens nothing here: it hides more.
        let found = proven.or_else(|| self.catalog.find(target.address, target.name.as_ref(), protocol));
        self.plan(found.map(|found| found.entry))
    }

    /// What is hidden for a target of the catalog, or for all others.
    #[must_use]
    pub fn plan(&self, entry: Option<&Entry>) -> Ready {
        let mut ready = self.plans.0.lock().unwrap_or_else(PoisonError::into_inner);
        let name = entry.map(|entry| entry.name.clone());
        if let Some(plan) = ready.get(&name) {
            return plan.clone();
        }
        let tags: BTreeSet<String> = entry.iter().flat_map(|entry| entry.tags.iter().cloned()).collect();
        let named = entry.map(|entry| entry.masks.as_slice()).unwrap_or_default();
        let rules = self.masks.for_target(name.as_deref(), &tags, named);
        let is_here = |number: RuleNumber| rules.iter().any(|(here, _)| *here == number);
        let of_texts: Vec<_> = self.masks.rules().filter(|(number, rule)| rule.enabled || is_here(*number)).collect();
        let content = compiled(name.as_deref(), &rules);
        let texts = if of_texts == rules { content.clone() } else { compiled(name.as_deref(), &of_texts) };
        let plan = Ready { content, texts };
        ready.insert(name, plan.clone());
        plan
    }
}

fn compiled(target: Option<&str>, rules: &[(RuleNumber, &Rule)]) -> Arc<Plan> {
    // They were compiled when they were read: more of them hide more.
    Arc::new(Plan::compile_for(target, rules).unwrap_or_else(|error| {
        tracing::error!(%error, "masks do not compile together: the usual ones are in force");
        Plan::standard()
    }))
}

/// How much is held for a human, and for how long.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Holding {
    /// Largest HTTP request body that is held, in bytes on the wire (`approvals.body_max`); at most
    /// [`limits::APPROVAL_BODY_BYTES_LIMIT`].
    pub body_max: usize,
    /// How long an HTTP request waits for its answer before its client is told to ask again (`approvals.wait`); none: as
    /// long as its client does.
    pub http_wait: Option<Duration>,
}

impl Default for Holding {
    fn default() -> Self {
        Self { body_max: limits::APPROVAL_BODY_BYTES_MAX, http_wait: None }
    }
}

/// The ground of sessions that open from now on: what is exchanged here leaves open ones as they are.
#[derive(Debug)]
pub struct Grounds(RwLock<Arc<Ground>>);

impl Grounds {
    /// Begins with this.
    #[must_use]
    pub fn new(ground: Ground) -> Self {
        Self(RwLock::new(Arc::new(ground)))
    }

    /// The present one.
    #[must_use]
    pub fn now(&self) -> Arc<Ground> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Sessions that open from now on know these targets and masks; open ones go on with what they began with.
    pub fn renew(&self, catalog: Catalog, masks: Masks) {
        let mut ground = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let (catalog, masks, plans) = (Arc::new(catalog), Arc::new(masks), Arc::default());
        *ground = Arc::new(Ground { catalog, masks, plans, ..Ground::clone(&ground) });
    }
}
