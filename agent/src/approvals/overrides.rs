//! Overrides (break glass): somebody lets everything pass to one target for a while, and says why.
//!
//! Never decides what a verdict is: the gate asks here only where policy has refused.

use std::net::SocketAddr;
use std::time::Duration;

use crewtap_core::bodies::Override;
use crewtap_core::event::Stamp;
use crewtap_core::id::Ulid;
use crewtap_core::identity::Identity;
use crewtap_core::limits::OVERRIDES_MAX;
use crewtap_core::target::Resource;
use serde::{Deserialize, Serialize};

use super::approver::Approver;
use super::registry::NotCounted;
use crate::config::approvals::OverrideConfig;
use crate::recorder::Unrecorded;

/// An override in force.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct InForce {
    /// Its id.
    pub id: String,
    /// What policy takes the target for.
    pub target: String,
    /// Who.
    pub by: Identity,
    /// Why.
    pub reason: String,
    /// Until when, nanoseconds since the Unix epoch.
    pub until_ns: u64,
    /// The same by the monotonic clock, which nobody sets.
    #[serde(skip)]
    until_mono_ns: u64,
}

impl InForce {
    fn event(&self, ended: bool) -> Override {
        let Self { id, target, by, reason, until_ns, .. } = self.clone();
        Override { id, target, by, reason, until_ns, ended }
    }
}

/// All that are in force.
#[derive(Debug, Default)]
pub(super) struct Overrides(Vec<InForce>);

impl Overrides {
    /// Begins one; it is on record before anything passes by it. `target` is what [`named`] has made of what was typed.
    pub(super) fn begin(
        &mut self,
        config: &OverrideConfig,
        approver: &Approver,
        (target, reason, lasts): (String, String, Duration),
        now: Stamp,
        record: impl FnOnce(Override) -> Result<(), Unrecorded>,
    ) -> Result<InForce, NotCounted> {
        may(config, approver)?;
        if lasts > config.max {
            let most = config.max.as_secs();
            return Err(NotCounted(format!("an override lasts {most} s at most here (`override.max`)")));
        }
        self.0.retain(|one| one.until_mono_ns > now.mono_ns);
        if self.0.len() >= OVERRIDES_MAX {
            return Err(NotCounted(format!("{OVERRIDES_MAX} overrides are in force: end one first")));
        }
        let lasts = u64::try_from(lasts.as_nanos()).unwrap_or(u64::MAX);
        let begun = InForce {
            id: Ulid::generate().to_string(),
            target,
            by: approver.identity.for_record(),
            reason,
            until_ns: now.wall_ns.saturating_add(lasts),
            until_mono_ns: now.mono_ns.saturating_add(lasts),
        };
        record(begun.event(false)).map_err(|error| NotCounted(format!("the override {error}")))?;
        self.0.push(begun.clone());
        Ok(begun)
    }

    /// Ends one before its time. It is not in force any more, whether or not that can be told.
    pub(super) fn end(
        &mut self,
        config: &OverrideConfig,
        approver: &Approver,
        prefix: &str,
        now: Stamp,
        record: impl FnOnce(Override) -> Result<(), Unrecorded>,
    ) -> Result<InForce, NotCounted> {
        may(config, approver)?;
        self.0.retain(|one| one.until_mono_ns > now.mono_ns);
        let prefix = prefix.to_ascii_uppercase();
        let mut found = self.0.iter().enumerate().filter(|(_, one)| one.id.starts_with(&prefix));
        let at = match (found.next(), found.next()) {
            (Some((at, _)), None) => at,
            (None, _) => return Err(NotCounted(format!("no override in force begins with {prefix}"))),
            (Some(_), Some(_)) => {
                return Err(NotCounted(format!("several overrides begin with {prefix}: type more of it")));
            }
        };
        let ended = self.0.remove(at);
        let event = Override { by: approver.identity.for_record(), ..ended.event(true) };
        record(event).map_err(|error| NotCounted(format!("it is not in force any more, but its end {error}")))?;
        Ok(ended)
    }

    /// The agent ends, and they with it.
    pub(super) fn end_all(&mut self, now: Stamp, mut record: impl FnMut(Override) -> Result<(), Unrecorded>) {
        for one in self.0.drain(..).filter(|one| one.until_mono_ns > now.mono_ns) {
            if let Err(error) = record(Override { by: ended_by_agent(), ..one.event(true) }) {
                tracing::error!(id = %one.id, %error, "the end of an override was lost");
            }
        }
    }

    /// The one in force for what policy takes a target for: the newest.
    pub(super) fn of(&self, resource: &str, mono_ns: u64) -> Option<String> {
        let found = self.0.iter().rev().find(|one| one.target == resource && one.until_mono_ns > mono_ns);
        found.map(|one| one.id.clone())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn in_force(&self, now: Stamp) -> Vec<InForce> {
        self.0.iter().filter(|one| one.until_mono_ns > now.mono_ns).cloned().collect()
    }
}

/// Who ends an override that nobody has ended: it lives no longer than its agent.
#[must_use]
pub fn ended_by_agent() -> Identity {
    Identity { id: "agent".into(), name: "the agent's end".into(), ..Identity::unknown() }
}

fn may(config: &OverrideConfig, approver: &Approver) -> Result<(), NotCounted> {
    let identity = &approver.identity;
    if config.groups.iter().any(|group| identity.groups.contains(group)) {
        return Ok(());
    }
    Err(NotCounted(if config.groups.is_empty() {
        "nobody may override: `override.groups` names no group".into()
    } else {
        format!("{} is in none of `override.groups` ({})", identity.name, config.groups.join(", "))
    }))
}

/// What policy takes a target for, as it was typed: a name of the catalog, or `tcp:ADDRESS:PORT`.
///
/// # Errors
/// What may be typed instead.
pub fn named<'n>(typed: &str, mut catalogued: impl Iterator<Item = &'n str>) -> Result<String, String> {
    if let Some(address) = typed.strip_prefix("tcp:") {
        let address: Result<SocketAddr, _> = address.parse();
        return address
            .map(|address| Resource::uncatalogued(address).id)
            .map_err(|_| format!("`{typed}` is no tcp:ADDRESS:PORT, as tcp:10.0.0.5:6379 or tcp:[fd00::5]:6379"));
    }
    if catalogued.any(|name| name == typed) {
        return Ok(typed.to_owned());
    }
    Err(format!("the catalog has no target `{typed}`: give a name of it, or tcp:ADDRESS:PORT"))
}
