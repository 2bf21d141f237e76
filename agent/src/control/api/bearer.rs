//! Who shows a token.
//!
//! Tokens are read where they are kept for each request, so that an exchanged one counts at once, and compared by their keyed
//! digests: how long that takes says nothing of them.

use crewtap_core::identity::{Basis, Identity};
use hyper::HeaderMap;
use hyper::header::AUTHORIZATION;

use super::Api;
use crate::approvals::Approver;
use crate::config::approvals::ApiApprover;
use crate::identity::os;
use crate::vault;

/// Longest token that is looked at, in bytes.
const TOKEN_BYTES_MAX: usize = 4096;

/// The approver whose token the request shows. Blocks as long as the file system does.
pub(super) fn of(api: &Api, shown: &str) -> Option<Approver> {
    let shown = api.key.digest(shown.as_bytes());
    let mut found = None;
    // All of them, so that it takes the same time for each.
    for approver in &api.config.approvers {
        match vault::read(&approver.token) {
            Ok(token) if api.key.digest(token.expose()) == shown => found = found.or_else(|| identified(approver)),
            Ok(_) => {}
            Err(error) => tracing::warn!(name = approver.name, %error, "an approver's token cannot be read"),
        }
    }
    found
}

/// The token of a request.
pub(super) fn token(headers: &HeaderMap) -> Option<String> {
    let mut all = headers.get_all(AUTHORIZATION).iter();
    let (Some(only), None) = (all.next(), all.next()) else { return None };
    let (scheme, token) = only.to_str().ok()?.split_once(' ')?;
    let token = token.trim();
    let usable = scheme.eq_ignore_ascii_case("bearer") && !token.is_empty() && token.len() <= TOKEN_BYTES_MAX;
    usable.then(|| token.to_owned())
}

/// Who an approver is; none where the user that the configuration names is not there any more.
fn identified(approver: &ApiApprover) -> Option<Approver> {
    let ApiApprover { name, identity, groups, .. } = approver;
    let (id, basis) = match identity.as_deref().and_then(|identity| identity.strip_prefix("os:")) {
        None => {
            let subject = identity.clone().filter(|identity| identity.starts_with("oidc:"));
            (subject.unwrap_or_else(|| format!("api:{name}")), Basis::Unknown)
        }
        Some(user) => {
            let number = user.parse().ok().or_else(|| {
                let user = nix::unistd::User::from_name(user).ok().flatten()?;
                Some(user.uid.as_raw())
            });
            let Some(uid) = number else {
                tracing::warn!(name, user, "the user of an approver is not there");
                return None;
            };
            (format!("os:{uid}"), Basis::Os { uid, login_uid: None, sudo_user: None })
        }
    };
    let known_as = match &basis {
        Basis::Os { uid, .. } => os::user_name(*uid).unwrap_or_else(|| name.clone()),
        Basis::Oidc(_) | Basis::Unknown => name.clone(),
    };
    let identity = Identity { id, name: known_as, groups: groups.clone().into(), groups_left_off: 0, basis };
    Some(Approver { identity, is_root: false, way: "api" })
}
