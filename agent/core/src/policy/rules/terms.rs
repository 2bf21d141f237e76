//! Annotations of a policy: its name, and what an approval of it needs.
//!
//! Never judges. What is misspelt is a fault: an approval that somebody believes to be asked for would be none.

use std::collections::BTreeSet;

use cedar_policy::{Effect, Policy};

use crate::verdict::Terms;

/// Annotations that mean something here; others are the author's own.
const KNOWN: [&str; 4] = ["id", "approval", "approvers", "grant"];

/// More people than that nobody will bring together.
const APPROVERS_MAX: u32 = 100;

/// Longest identifier of a policy, in bytes: it stands in the log-in error of a client.
const ID_BYTES_MAX: usize = 200;

/// The name that a policy gives itself.
///
/// # Errors
/// What is wrong with it, and what to do.
pub(super) fn id(policy: &Policy) -> Result<Option<String>, String> {
    let Some(id) = policy.annotation("id") else { return Ok(None) };
    if id.is_empty() || id.len() > ID_BYTES_MAX || id.chars().any(char::is_control) {
        return Err(format!(
            "@id must have 1 to {ID_BYTES_MAX} bytes without control characters: give the policy another name"
        ));
    }
    Ok(Some(id.to_owned()))
}

/// What an approval of the policy needs; none where it cannot be approved. And everything that is wrong with its annotations.
pub(super) fn terms(policy: &Policy) -> Result<Option<Terms>, Vec<String>> {
    let mut wrong: Vec<String> = policy.annotations().filter_map(|(key, _)| misspelt(key)).collect();
    let mut fault = |what: Result<_, String>| what.map_err(|what| wrong.push(what)).ok();
    let groups = policy.annotation("approval").and_then(|groups| fault(self::groups(groups)));
    let approvers = policy.annotation("approvers").map_or(Some(1), |count| fault_count(count, &mut wrong));
    let whole_session = policy.annotation("grant").map_or(Some(false), |grant| match grant {
        "session" => Some(true),
        "once" => Some(false),
        other => {
            wrong.push(format!("@grant(\"{other}\"): write \"once\" (the default) or \"session\""));
            None
        }
    });
    let asks = policy.annotation("approval").is_some();
    if asks && policy.effect() == Effect::Permit {
        wrong.push("@approval on a permit means nothing: put it on the forbid that the approval lifts".into());
    }
    for needs in ["approvers", "grant"] {
        if !asks && policy.annotation(needs).is_some() {
            wrong.push(format!("@{needs} without @approval means nothing: add @approval(\"os:GROUP\"), or remove it"));
        }
    }
    match (groups, approvers, whole_session) {
        _ if !wrong.is_empty() => Err(wrong),
        (Some(groups), Some(approvers), Some(whole_session)) => Ok(Some(Terms { groups, approvers, whole_session })),
        _ => Ok(None),
    }
}

fn fault_count(count: &str, wrong: &mut Vec<String>) -> Option<u32> {
    match count.parse::<u32>() {
        Ok(count) if (1..=APPROVERS_MAX).contains(&count) => Some(count),
        _ => {
            wrong.push(format!("@approvers(\"{count}\"): write a number from 1 to {APPROVERS_MAX}"));
            None
        }
    }
}

/// Groups, with commas between them.
fn groups(text: &str) -> Result<BTreeSet<String>, String> {
    text.split(',').map(str::trim).map(group).collect()
}

/// A group as Cedar's policies name it.
fn group(id: &str) -> Result<String, String> {
    if is_group(id) {
        Ok(id.to_owned())
    } else {
        Err(format!(
            "@approval: \"{id}\" is no group: write \"os:NAME\" or \"oidc:NAME:GROUP\", several with commas between"
        ))
    }
}

/// Whether an identifier is one that a group can have.
pub(super) fn is_group(id: &str) -> bool {
    match id.split_once(':') {
        Some(("os", name)) => !name.is_empty(),
        Some(("oidc", rest)) => rest.split_once(':').is_some_and(|(name, group)| !name.is_empty() && !group.is_empty()),
        _ => false,
    }
}

/// A slip of the pen, where it is near to an annotation that means something.
fn misspelt(key: &str) -> Option<String> {
    if KNOWN.contains(&key) {
        return None;
    }
    let near = KNOWN.into_iter().filter(|known| known.len() > 2);
    let nearest = near.min_by_key(|known| strsim::damerau_levenshtein(key, known))?;
    (strsim::damerau_levenshtein(key, nearest) <= 2)
        .then(|| format!("unknown annotation @{key}: did you mean @{nearest}? Rename it"))
}
