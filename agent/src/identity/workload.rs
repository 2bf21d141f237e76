//! Runs that have no person: a token file that somebody keeps fresh, or our own credentials at a provider.
//!
//! Owns which runs that is about. A person who has logged in comes first. Never writes the file.

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crewtap_core::identity::{Basis, Identity, Way};

use super::caller::Caller;
use super::file::{self, Stamp, stamp};
use super::issuer::Issuer;
use super::login::Login;
use super::requests::{Vouched, now};
use super::session::Of;
use crate::config::oidc::{Workload, WorkloadProof};

/// How long before its end a token that a run carries is looked for anew.
const AHEAD: u64 = 15;

/// How long a file or a provider that gave none is left alone.
const RETRY: Duration = Duration::from_secs(5);

/// What tells one state of the files behind a token from the next: its own, and that of the keys.
type Stamps = (Option<Stamp>, Option<Stamp>);

/// What is known of one workload.
#[derive(Debug)]
struct Known {
    vouched: Vouched,
    login: Arc<Login>,
    since: u64,
    stamps: Stamps,
    retry_at: Option<Instant>,
}

/// What is known of all, by the provider's name.
#[derive(Debug, Default)]
pub(super) struct Workloads(RefCell<HashMap<String, Known>>);

impl Workloads {
    /// Whom a caller stands for by this provider; none where it is not about them.
    ///
    /// # Errors
    /// A sentence, where it is about them and there is no token that counts.
    pub(super) async fn attribute(
        &self,
        issuer: &Issuer,
        caller: &Caller,
    ) -> Result<Option<(Identity, Arc<Login>)>, String> {
        let Some(workload) = issuer.config.workload.as_ref().filter(|workload| is_about(workload, caller)) else {
            return Ok(None);
        };
        self.refresh(issuer, workload, 0).await?;
        let all = self.0.borrow();
        let Some(known) = all.get(&issuer.config.name) else { return Ok(None) };
        let bound = match &caller.unit {
            Some(unit) if workload.units.contains(unit) => format!("unit:{unit}"),
            _ => "agent".to_owned(),
        };
        let of =
            Of { provider: &issuer.config.name, issuer: &issuer.config.issuer, way: way(workload), since: known.since };
        let identity = of.identity(&known.vouched.person, known.vouched.expires, bound, &caller.os);
        Ok(Some((identity, known.login.clone())))
    }

    /// Renews, in time, what runs that are alive carry.
    ///
    /// # Errors
    /// A sentence, where it could not be.
    pub(super) async fn keep(&self, issuer: &Issuer) -> Result<(), String> {
        let Some(workload) = &issuer.config.workload else { return Ok(()) };
        let is_due = self.0.borrow().get(&issuer.config.name).is_some_and(|known| {
            let carried = Arc::strong_count(&known.login) > 1;
            let rests = known.retry_at.is_some_and(|at| Instant::now() < at);
            carried && !rests && known.vouched.expires <= now().saturating_add(AHEAD)
        });
        if is_due { self.refresh(issuer, workload, AHEAD).await } else { Ok(()) }
    }

    /// Has a token that counts for `ahead` seconds more; what is known stays where it still does.
    async fn refresh(&self, issuer: &Issuer, workload: &Workload, ahead: u64) -> Result<(), String> {
        let name = issuer.config.name.clone();
        let token = match &workload.proof {
            WorkloadProof::TokenFile(path) => stamp(path),
            WorkloadProof::ClientCredentials => None,
        };
        // A key that was taken away takes what it has signed with it.
        let stamps = (token, issuer.config.jwks_file.as_deref().and_then(stamp));
        let is_fresh = |known: &Known| known.vouched.expires > now().saturating_add(ahead) && known.stamps == stamps;
        if self.0.borrow().get(&name).is_some_and(is_fresh) {
            return Ok(());
        }
        let vouched = match &workload.proof {
            WorkloadProof::TokenFile(path) => of_file(issuer, path).await,
            WorkloadProof::ClientCredentials => issuer.own_credentials().await.map_err(|error| error.to_string()),
        };
        let mut all = self.0.borrow_mut();
        match (vouched, all.get_mut(&name)) {
            (Ok(vouched), known) => {
                let same = known.filter(|known| known.vouched.person.subject == vouched.person.subject);
                let login = same.map(|known| known.login.clone());
                let login = login.unwrap_or_else(|| Arc::new(Login::until(0, issuer.config.on_expiry)));
                login.renew(vouched.expires);
                all.insert(name, Known { vouched, login, since: now(), stamps, retry_at: None });
                Ok(())
            }
            (Err(why), known) => {
                let mut still = false;
                if let Some(known) = known {
                    known.retry_at = Some(Instant::now() + RETRY);
                    // A file that was replaced by one that does not count says that the old one does not, either.
                    still = known.vouched.expires > now() && known.stamps == stamps;
                }
                if !still && let Some(known) = all.get_mut(&name) {
                    // Runs that carry it go on with it as soon as there is a good one again.
                    known.vouched.expires = 0;
                    known.stamps = (None, None);
                    known.login.end();
                }
                let so = if still { "what is known of it still counts" } else { "the run has no identity of it" };
                Err(format!("the workload of {}: {why}; {so}", issuer.config.name))
            }
        }
    }
}

fn way(workload: &Workload) -> Way {
    match workload.proof {
        WorkloadProof::TokenFile(_) => Way::TokenFile,
        WorkloadProof::ClientCredentials => Way::ClientCredentials,
    }
}

/// Whether a run is of this workload: by unit, by user, or because nobody has logged in behind it.
fn is_about(workload: &Workload, caller: &Caller) -> bool {
    let Basis::Os { uid, login_uid, sudo_user, .. } = &caller.os.basis else { return false };
    // Somebody who has logged in, or came by sudo, is no workload, whichever user they have become.
    if workload.units.is_empty() && (login_uid.is_some() || sudo_user.is_some()) {
        return false;
    }
    let named = |user: &String| *user == caller.os.name || user.parse() == Ok(*uid);
    if workload.units.is_empty() && workload.users.is_empty() {
        return true;
    }
    let unit = workload.units.is_empty() || caller.unit.as_ref().is_some_and(|unit| workload.units.contains(unit));
    let user = workload.users.is_empty() || workload.users.iter().any(named);
    unit && user
}

async fn of_file(issuer: &Issuer, path: &Path) -> Result<Vouched, String> {
    let token = file::read_token(path).await?;
    issuer.workload(&token).await.map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn caller(uid: u32, login_uid: Option<u32>, unit: Option<&str>) -> Caller {
        let basis = Basis::Os { uid, login_uid, sudo_user: None };
        let os = Identity { id: format!("os:{uid}"), name: "crew".into(), basis, ..Identity::unknown() };
        Caller { os, key: None, unit: unit.map(str::to_owned) }
    }

    fn workload(units: &[&str], users: &[&str]) -> Workload {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Workload { proof: WorkloadProof::ClientCredentials, units: owned(units), users: owned(users) }
    }

    #[test]
    fn a_workload_is_what_its_unit_and_user_say_or_what_nobody_has_logged_in_for() {
        assert!(is_about(&workload(&[], &[]), &caller(0, None, None)));
        assert!(!is_about(&workload(&[], &[]), &caller(0, Some(1000), None)), "somebody is behind it");
        assert!(is_about(&workload(&["crew.service"], &[]), &caller(0, None, Some("crew.service"))));
        assert!(!is_about(&workload(&["crew.service"], &[]), &caller(0, None, Some("other.service"))));
        assert!(!is_about(&workload(&["crew.service"], &[]), &caller(0, None, None)));
        assert!(is_about(&workload(&[], &["crew"]), &caller(7, None, None)));
        assert!(is_about(&workload(&[], &["7"]), &caller(7, None, None)));
        assert!(!is_about(&workload(&["crew.service"], &["8"]), &caller(7, None, Some("crew.service"))));
        let unknown = Caller { os: Identity::unknown(), key: None, unit: Some("crew.service".into()) };
        assert!(!is_about(&workload(&["crew.service"], &[]), &unknown));
    }
}
