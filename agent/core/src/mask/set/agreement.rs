//! Whether masks and catalog agree: each names only what the other has.
//!
//! A rule that no target can ever have is refused: whoever wrote it believes that something is hidden.

use std::collections::BTreeSet;

use super::super::rule::{Rule, What};
use super::{File, Flaw, MaskFault, Masks, Said};
use crate::policy::catalog::{Catalog, Entry};
use crate::target::Resource;

impl Masks {
    /// Holds the masks against the catalog that they are used with.
    ///
    /// # Errors
    /// When one names what the other has not, or a rule can hold for no target; all of it is told.
    pub fn check_catalog(&self, catalog: &Catalog) -> Result<(), MaskFault> {
        let of_rules = self.rules.iter().zip(&self.said).flat_map(|(rule, said)| of_rule(rule, *said, catalog));
        let of_targets = catalog.entries().iter().flat_map(|entry| self.of_target(entry));
        let flaws: Vec<Flaw> = of_rules.chain(of_targets).collect();
        if flaws.is_empty() { Ok(()) } else { Err(MaskFault { flaws }) }
    }

    /// What is wrong with the masks that a target names.
    fn of_target(&self, entry: &Entry) -> Vec<Flaw> {
        let wrong = |name: &String| {
            let (target, known) = (&entry.name, self.rules.iter().map(|rule| rule.name.as_str()));
            match self.rules.iter().find(|rule| rule.name == *name) {
                None => Some(format!(
                    "`masks` of [target.{target}] names \"{name}\", and there is no such mask{}",
                    meant(name, known)
                )),
                Some(rule) if !rule.may_have(entry) => Some(format!(
                    "`masks` of [target.{target}] names \"{name}\", but `targets` and `tags` of [mask.{name}] leave that target \
                     out: let them have it, too"
                )),
                Some(_) => None,
            }
        };
        let flaw = |what| Flaw { file: File::Catalog, line: entry.masks_line, what };
        entry.masks.iter().filter_map(wrong).map(flaw).collect()
    }
}

impl Rule {
    fn may_have(&self, entry: &Entry) -> bool {
        self.fits(Some(&entry.name), |tag| entry.tags.iter().any(|own| own == tag))
    }
}

fn of_rule(rule: &Rule, said: Said, catalog: &Catalog) -> Vec<Flaw> {
    let entries = catalog.entries();
    let targets: BTreeSet<&str> = entries.iter().map(|entry| entry.name.as_str()).collect();
    let mut tags: BTreeSet<&str> = entries.iter().flat_map(|entry| &entry.tags).map(String::as_str).collect();
    tags.insert(Resource::UNCATALOGUED);
    let unknown = |key: &'static str, what: &'static str, line: usize, named: &[String], known: &BTreeSet<&str>| {
        let missing = named.iter().filter(|name| !known.contains(name.as_str()));
        let told = |name: &String| {
            format!(
                "`{key}` of [mask.{}] names \"{name}\", {what} in the catalog{}",
                rule.name,
                meant(name, known.iter().copied())
            )
        };
        missing.map(|name| Flaw { file: File::Masks, line, what: told(name) }).collect::<Vec<_>>()
    };
    let mut flaws = unknown("targets", "and there is no such target", said.targets, &rule.targets, &targets);
    let no_target = "and there is no such target";
    flaws.extend(unknown("wire_targets", no_target, said.wire_targets, &rule.wire_targets, &targets));
    flaws.extend(unknown("tags", "a tag that no target has", said.tags, &rule.tags, &tags));
    if flaws.is_empty() {
        flaws.extend(dead(rule, said, entries).map(|(line, what)| Flaw { file: File::Masks, line, what }));
    }
    flaws
}

/// Why a rule whose names are all known can still never fire, and the line that says so.
fn dead(rule: &Rule, said: Said, entries: &[Entry]) -> Option<(usize, String)> {
    let name = &rule.name;
    let is_uncatalogued = rule.targets.is_empty() && rule.tags.iter().any(|tag| tag == Resource::UNCATALOGUED);
    let is_free = rule.targets.is_empty() && rule.tags.is_empty() || is_uncatalogued;
    if !is_free && !entries.iter().any(|entry| rule.may_have(entry)) {
        let what = format!("[mask.{name}] can never fire: none of its `targets` has one of its `tags`; both must hold");
        return Some((said.tags, what));
    }
    // One of ours that the file leaves off, or switches off, is meant to be.
    let is_meant = matches!(rule.what, What::Kind(_)) && (said.table == 0 || said.enabled > 0);
    if rule.enabled || is_meant || entries.iter().any(|entry| entry.masks.contains(name)) {
        return None;
    }
    let what = match said.enabled {
        0 => format!(
            "[mask.{name}] can never fire: it is off where nothing else is said, and no target's `masks` name it; say \
             `enabled = true` or `false`"
        ),
        _ => format!("[mask.{name}] can never fire: it is not enabled, and no target's `masks` name it; take it out"),
    };
    Some((if said.enabled > 0 { said.enabled } else { said.table }, what))
}

/// The nearest name there is, as a question.
fn meant<'k>(name: &str, known: impl Iterator<Item = &'k str>) -> String {
    let nearest = known.max_by(|a, b| strsim::jaro_winkler(a, name).total_cmp(&strsim::jaro_winkler(b, name)));
    nearest.map_or_else(String::new, |nearest| format!("; did you mean \"{nearest}\"?"))
}
