//! Who may answer: groups, four eyes, and who counts as somebody else.
//!
//! Pure: identities in, a sentence out where they may not.

use std::collections::BTreeSet;

use crewtap_core::identity::{Basis, Identity};
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

/// Whether two identities are, or may be, one person: by id, or by a user of the host that both stand for. Root alone is no
/// person: whom it was logged in as is.
#[must_use]
pub fn are_one(a: &Identity, b: &Identity) -> bool {
    a.id == b.id || users(a).intersection(&users(b)).next().is_some()
}

/// The users of this host that an identity stands for.
fn users(identity: &Identity) -> BTreeSet<u32> {
    match &identity.basis {
        Basis::Os { uid, login_uid, .. } => login_uid.iter().chain([uid]).copied().filter(|uid| *uid != 0).collect(),
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
    if before.iter().any(|other| are_one(other, identity)) {
        return Err(format!("{} has approved it already: somebody else must, too", identity.name));
    }
    Ok(())
}
