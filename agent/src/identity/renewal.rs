//! Renewing logins: before somebody relies on one, and in time while runs carry it.
//!
//! Owns the order of things: what the provider has put in the place of a refresh token is in the file before anything else of its
//! answer is looked at. Never lets a renewal count for a login that was ended, or replaced, while the provider was asked.

use std::rc::Rc;
use std::time::{Duration, Instant};

use futures_util::stream::{self, StreamExt as _};

use super::issuer::{Issuer, IssuerError};
use super::logins::{Held, Logins};
use super::requests::{Vouched, now};

/// How long before its end a login that a run carries is renewed.
const AHEAD: u64 = 15;

/// How long a provider that could not renew a login is left alone with it.
const RETRY: Duration = Duration::from_secs(20);

/// Renewals at one provider that are under way at a time.
const AT_ONCE: usize = 8;

/// Renews what a provider says of somebody; also where whoever asked for it has gone meanwhile, because the answer can hold the
/// only token that still renews the login.
///
/// # Errors
/// A sentence, where it could not be.
pub(super) async fn renew(issuer: Rc<Issuer>, held: Rc<Held>, logins: Rc<Logins>) -> Result<(), String> {
    let before = held.renewals.get();
    let renewing = tokio::task::spawn_local(async move {
        let _turn = held.renewing.lock().await;
        if held.renewals.get() != before || held.is_left_alone() || !logins.has(&held) {
            return Ok(());
        }
        let renewed = renew_now(&issuer, &held, &logins).await;
        held.renewals.set(held.renewals.get().wrapping_add(1));
        renewed
    });
    renewing.await.unwrap_or_else(|error| Err(error.to_string()))
}

async fn renew_now(issuer: &Issuer, held: &Rc<Held>, logins: &Logins) -> Result<(), String> {
    let name = held.session.borrow().person.name.clone();
    let (Some(refresh), _) = held.tokens() else { return Ok(()) };
    let renewed = asked(issuer, held, logins, &refresh).await;
    if !logins.has(held) {
        // Logged out, or logged in anew meanwhile: what came is nobody's. Who logged out could only revoke what was known then.
        let newer = logins.current(held);
        let subject = |held: &Held| held.session.borrow().person.subject.clone();
        // Of the same person it may be the same grant, which must not end.
        if newer.is_none_or(|newer| subject(&newer) != subject(held)) {
            let (refresh, access) = held.tokens();
            if let Err(error) = issuer.revoke(refresh.as_ref(), access.as_ref()).await {
                tracing::warn!(%error, "tokens that came after their login had ended are not revoked");
            }
        }
        return Ok(());
    }
    match renewed {
        Ok(vouched) => {
            held.session.borrow_mut().renewed(vouched, now());
            held.login.renew(held.session.borrow().until());
            held.retry_at.set(None);
            logins.save().map_err(|error| format!("{name} stays logged in until this agent ends: {error}"))
        }
        Err(error) if error.is_final() => {
            // What was said last does not count any more, either: the provider has withdrawn it.
            held.session.borrow_mut().ends = 0;
            held.login.end();
            logins.forget(held);
            let _unsaved = logins.save().inspect_err(|error| tracing::error!(%error, "an ended login is still kept"));
            Err(format!("the login of {name} has ended: {error}; `crewtap login` begins another one"))
        }
        Err(error) => {
            held.retry_at.set(Some(Instant::now() + RETRY));
            Err(format!("the login of {name} could not be renewed: {error}"))
        }
    }
}

async fn asked(
    issuer: &Issuer,
    held: &Rc<Held>,
    logins: &Logins,
    refresh: &crewtap_core::secret::Secret,
) -> Result<Vouched, IssuerError> {
    let subject = held.session.borrow().person.subject.clone();
    let mut refreshed = issuer.refresh(refresh).await?;
    let is_rotated = refreshed.refresh.is_some();
    held.session.borrow_mut().rotated(refreshed.refresh.take(), refreshed.access.take());
    if is_rotated && logins.has(held) {
        let _unsaved = logins.save().inspect_err(|error| {
            tracing::error!(%error, "a refresh token that was rotated is not kept: the next agent has the old one");
        });
    }
    issuer.renewed(refreshed, &subject).await
}

/// Renews, in time, what runs that are alive carry of one provider; what could not be is told.
pub(super) async fn keep(issuer: &Rc<Issuer>, logins: &Rc<Logins>) -> Vec<String> {
    let soon = now().saturating_add(AHEAD);
    let due = logins.carried(&issuer.config.name).into_iter().filter(|held| {
        let session = held.session.borrow();
        !session.holds(soon) && session.refresh.is_some() && now() < session.ends && !held.is_left_alone()
    });
    let renewals = due.map(|held| renew(issuer.clone(), held, logins.clone()));
    let told = stream::iter(renewals).buffer_unordered(AT_ONCE).filter_map(|renewed| async move { renewed.err() });
    told.collect().await
}
