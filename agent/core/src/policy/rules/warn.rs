//! What is allowed to be written and is likely not meant: for whoever checks policies before they come into force.
//!
//! Never refuses a policy.

use std::collections::BTreeSet;

use super::{Fault, Rule, Rules, look};

/// Names that exist elsewhere; what is none is not compared.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// Targets of the catalog.
    pub targets: Option<BTreeSet<String>>,
    /// Tags of the catalog.
    pub tags: Option<BTreeSet<String>>,
    /// Groups of this host, as `os:NAME`; those of a provider are not known here.
    pub groups: Option<BTreeSet<String>>,
}

/// The tag of what the catalog does not know.
const UNCATALOGUED: &str = crate::target::Resource::UNCATALOGUED;

/// Says so in each sentence that says so.
pub(super) const NEVER: &str = "it can never fire";

/// Claims of the captured process.
const CLAIMS: [&str; 2] = ["crew", "agent_role"];

impl Rules {
    /// Groups that policies name, in scopes, conditions and approvals.
    #[must_use]
    pub fn groups(&self) -> BTreeSet<String> {
        let named = self.rules.iter().flat_map(|rule| named(rule));
        named.filter(|(kind, _)| kind == "Group").map(|(_, id)| id).collect()
    }

    /// What is likely not meant, in the order of the files.
    #[must_use]
    pub fn warnings(&self, known: &Known) -> Vec<Fault> {
        let all = self.rules.iter().flat_map(|rule| {
            let told = warnings(rule, known).into_iter().map(|(line, what)| (line.unwrap_or(rule.line), what));
            let mut told: Vec<(usize, String)> = told.collect();
            told.sort();
            // Of a policy that can never fire, Cedar says it in several ways.
            told.dedup_by(|next, before| {
                next.0 == before.0 && [&next.1, &before.1].iter().all(|what| what.contains(NEVER))
            });
            told.into_iter().map(|(line, what)| Fault { file: rule.file.clone(), line, what })
        });
        all.collect()
    }
}

/// What is odd about one policy, with the line where that is not its first.
fn warnings(rule: &Rule, known: &Known) -> Vec<(Option<usize>, String)> {
    let mut told: Vec<(Option<usize>, String)> =
        rule.doubts.iter().map(|(line, what)| (Some(*line), what.clone())).collect();
    if rule.doubts.is_empty() && rule.constant == Some(false) {
        told.push((None, format!("{} can never fire: its condition is false whatever is asked", rule.id)));
    }
    told.extend(approval(rule).map(|what| (None, what)));
    told.extend(claims(rule).map(|what| (None, what)));
    told.extend(unknown(rule, known).into_iter().map(|what| (None, what)));
    told
}

fn approval(rule: &Rule) -> Option<String> {
    let waits = look::waits_for_approval(&rule.clauses);
    match &rule.terms {
        Some(_) if !waits => Some(format!(
            "{} has @approval, and no approval lifts it: add `unless {{ context.approved }}`, or nobody will be asked",
            rule.id
        )),
        None if !rule.permits && rule.looks.names("approved") => Some(format!(
            "{} looks at context.approved without @approval: nobody will be asked; add @approval(\"os:GROUP\")",
            rule.id
        )),
        None if rule.permits && rule.looks.names("approved") => Some(format!(
            "{} is a permit that looks at context.approved: what no forbid holds is never asked for; write a forbid with @approval",
            rule.id
        )),
        _ => None,
    }
}

fn claims(rule: &Rule) -> Option<String> {
    let claimed = CLAIMS.into_iter().find(|claim| rule.looks.names(claim));
    match claimed {
        Some(claim) if rule.permits => Some(format!(
            "{} permits by context.{claim}, which the captured process writes itself: let it narrow a permit that rests on \
             principal or resource, or forbid by it",
            rule.id
        )),
        _ if rule.permits && rule.looks.names("host") && !rule.looks.names("proof") => Some(format!(
            "{} permits by context.host without a look at context.proof: a name that is merely \"claimed\" proves nothing; \
             add `&& [\"config\", \"certificate\", \"hostkey\", \"dns\"].contains(context.proof)`",
            rule.id
        )),
        _ => None,
    }
}

/// Entities that a policy names, by type.
fn named(rule: &Rule) -> BTreeSet<(String, String)> {
    let scope = rule.reach.entities().map(|uid| (uid.type_name().to_string(), uid.id().unescaped().to_owned()));
    let mut named: BTreeSet<(String, String)> = scope.chain(look::entities(&rule.clauses)).collect();
    named.extend(
        rule.terms.iter().flat_map(|terms| terms.groups.iter().map(|group| ("Group".to_owned(), group.clone()))),
    );
    named
}

fn unknown(rule: &Rule, known: &Known) -> Vec<String> {
    named(rule).iter().filter_map(|(kind, id)| stranger(&rule.id, kind, id, known)).collect()
}

fn stranger(rule: &str, kind: &str, id: &str, known: &Known) -> Option<String> {
    let missing = |names: &Option<BTreeSet<String>>| names.as_ref().is_some_and(|names| !names.contains(id));
    match kind {
        "Target" if id.starts_with("tcp:") => None,
        "Target" if missing(&known.targets) => Some(format!(
            "{rule} names Target::\"{id}\", which the catalog does not know{}",
            near(id, known.targets.as_ref())
        )),
        "Tag" if id != UNCATALOGUED && missing(&known.tags) => Some(format!(
            "{rule} names Tag::\"{id}\", which no target of the catalog has{}",
            near(id, known.tags.as_ref())
        )),
        "Group" if !super::terms::is_group(id) => {
            Some(format!("{rule} names Group::\"{id}\": groups are called \"os:NAME\" or \"oidc:NAME:GROUP\""))
        }
        "Group" if id.starts_with("os:") && missing(&known.groups) => Some(format!(
            "{rule} names Group::\"{id}\", which this host does not know{}",
            near(id, known.groups.as_ref())
        )),
        "Identity" if id != "unknown" && !["os:", "oidc:"].iter().any(|basis| id.starts_with(basis)) => {
            Some(format!("{rule} names Identity::\"{id}\": identities are called \"os:UID\" or \"oidc:NAME:SUBJECT\""))
        }
        _ => None,
    }
}

fn near(id: &str, names: Option<&BTreeSet<String>>) -> String {
    let names = names.into_iter().flatten();
    let nearest = names.map(|name| (strsim::damerau_levenshtein(id, name), name)).min();
    match nearest {
        Some((distance, name)) if distance <= 3 => format!(": did you mean \"{name}\"?"),
        _ => String::new(),
    }
}
