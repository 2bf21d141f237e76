//! Who may answer: groups, four eyes, and who counts as somebody else.
//!
//! Pure: identities in, a sentence out where they may not.

use std::collections::BTreeSet;

use crewtap_core::identity::{Basis, Identity, Oidc};
use crewtap_core::verdict::Terms;

use crate::config::approvals::ApprovalsConfig;

/// Somebody who answers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Approver {
    /// Who they are.
    pub identity: Identity,
    /// They speak with the agent as root, also by way of sudo.
    pub is_root: bool,
    /// By which way: `control`, `api`.
    pub way: &'static str,
}

/// Whether two identities are, or may be, one person. Where one provider says who both are, its subjects decide, whichever users
/// they act as: an account of the host that two share makes nobody of them. Else by an address that both providers vouch for, by
/// the login session, or by a user of the host that both stand for. Root alone is no person: whom it was logged in as is.
#[must_use]
pub fn are_one(a: &Identity, b: &Identity) -> bool {
    if a.id == b.id {
        return true;
    }
    match (a.oidc(), b.oidc()) {
        (Some(x), Some(y)) if x.issuer == y.issuer && x.way.is_person() && y.way.is_person() => {
            x.subject == y.subject || one_address(x, y)
        }
        // Subjects of two providers cannot be compared: what else they have in common may be one person's.
        (Some(x), Some(y)) => {
            one_address(x, y)
                || (x.uid, &x.bound) == (y.uid, &y.bound)
                || users(a).intersection(&users(b)).next().is_some()
        }
        _ => users(a).intersection(&users(b)).next().is_some(),
    }
}

/// Somebody may have an account at two providers: an address that both vouch for is one person's.
fn one_address(a: &Oidc, b: &Oidc) -> bool {
    let vouched = |one: &'_ Oidc| one.email.clone().filter(|_| one.email_verified).map(|email| email.to_lowercase());
    vouched(a).is_some_and(|email| vouched(b) == Some(email))
}

/// Whether somebody is known by their name alone, and so cannot be told apart from the other one: an approver by the API can be
/// compared only with persons of the provider that its name is of.
fn is_incomparable(whose: &Identity, approver: &Identity) -> bool {
    let provider =
        |id: &str| id.strip_prefix("oidc:").and_then(|rest| rest.split_once(':')).map(|(name, _)| name.to_owned());
    let same = whose.oidc().is_some() && provider(&whose.id).is_some() && provider(&whose.id) == provider(&approver.id);
    // Who is configured without an identity is whom the host's owner says: somebody else.
    matches!(approver.basis, Basis::Unknown) && provider(&approver.id).is_some() && !same
}

/// The users of this host that an identity stands for.
fn users(identity: &Identity) -> BTreeSet<u32> {
    match &identity.basis {
        Basis::Os { uid, login_uid, .. } => login_uid.iter().chain([uid]).copied().filter(|uid| *uid != 0).collect(),
        Basis::Oidc(oidc) => oidc.login_uid.iter().chain([&oidc.uid]).copied().filter(|uid| *uid != 0).collect(),
        Basis::Unknown => BTreeSet::new(),
    }
}

/// Whether somebody may answer at all, as far as groups say.
///
/// # Errors
/// Why not, as a sentence for them.
pub(super) fn may_answer(config: &ApprovalsConfig, terms: &Terms, approver: &Approver) -> Result<(), String> {
    let identity = &approver.identity;
    if identity == &Identity::unknown() {
        return Err("who you are is not known: answer from a shell of your own".into());
    }
    if let Some(missing) = terms.groups.iter().find(|group| !identity.groups.contains(group)) {
        return Err(format!("{} is not in {missing}, whose members the policy asks for", identity.name));
    }
    if !terms.groups.is_empty() {
        return Ok(());
    }
    match config.groups.iter().any(|group| identity.groups.contains(group)) {
        true => Ok(()),
        false if config.groups.is_empty() && approver.is_root => Ok(()),
        false if config.groups.is_empty() => {
            Err("only root may answer where neither the policy nor `approvals.groups` names a group".into())
        }
        false => Err(format!("{} is in none of `approvals.groups` ({})", identity.name, config.groups.join(", "))),
    }
}

/// Whether an approval of theirs counts: they are not those for whom it is, nor one who has approved it before.
///
/// # Errors
/// Why not, as a sentence for them.
pub(super) fn counts(
    config: &ApprovalsConfig,
    whose: &Identity,
    before: &[Identity],
    approver: &Approver,
) -> Result<(), String> {
    let identity = &approver.identity;
    if config.four_eyes && whose == &Identity::unknown() {
        return Err("whose run it is is not known, so nobody can be shown to be somebody else (`four_eyes`)".into());
    }
    if config.four_eyes && are_one(whose, identity) {
        return Err(format!("it is {}'s own run: somebody else must approve it (`four_eyes`)", identity.name));
    }
    let all = std::iter::once(whose).chain(before);
    if config.four_eyes && all.into_iter().any(|other| is_incomparable(other, identity)) {
        return Err(format!(
            "{} is known by a name alone, which cannot be shown to be somebody else's (`four_eyes`): give the approver an `identity` \
             that is a user of this host, or of the same provider",
            identity.name
        ));
    }
    if before.iter().any(|other| are_one(other, identity)) {
        return Err(format!("{} has approved it already: somebody else must, too", identity.name));
    }
    Ok(())
}
