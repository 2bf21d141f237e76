//! All masks of a host: our own detectors as `masks.toml` leaves them, and the rules that it adds.
//!
//! Owns which of them hold for a target, and that file and catalog agree. Never opens a file and never looks at content.

mod agreement;
mod parse;
mod pattern;
mod place;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::fmt;

use super::rule::{Kind, Rule, RuleNumber};

/// Rules that a host can have.
pub const RULES_MAX: usize = 1000;

/// Every rule: our own that the file does not mention, then the file's in its order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Masks {
    rules: Vec<Rule>,
    /// Where the file says each of them.
    said: Vec<Said>,
}

/// Where the file says a rule; lines from 1, 0 where it does not.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Said {
    /// The table's name.
    table: usize,
    /// `enabled`.
    enabled: usize,
    /// `targets`.
    targets: usize,
    /// `tags`.
    tags: usize,
    /// `wire_targets`.
    wire_targets: usize,
}

/// Masks that cannot be used: all that is wrong with them.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub struct MaskFault {
    /// What is wrong, in the order of the file; never empty.
    pub flaws: Vec<Flaw>,
}

/// One thing that is wrong.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Flaw {
    /// In which file.
    pub file: File,
    /// Line, from 1.
    pub line: usize,
    /// What is wrong, and what to do.
    pub what: String,
}

/// Which file a flaw is in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum File {
    /// The masks.
    Masks,
    /// The catalog of targets.
    Catalog,
}

impl Default for Masks {
    fn default() -> Self {
        let rules: Vec<Rule> = Kind::ALL.into_iter().map(Rule::of).collect();
        Self { said: vec![Said::default(); rules.len()], rules }
    }
}

impl Masks {
    /// All rules with their numbers, whether they are on or not.
    pub fn rules(&self) -> impl Iterator<Item = (RuleNumber, &Rule)> {
        (0..).zip(&self.rules)
    }

    /// The rule of a number.
    #[must_use]
    pub fn rule(&self, number: RuleNumber) -> Option<&Rule> {
        self.rules.get(usize::from(number))
    }

    /// The rules in force for a target: `name` is the catalog's, `tags` are its own, and `named` what its `masks` say. Who
    /// names a rule gets it, also where it is not on.
    #[must_use]
    pub fn for_target(
        &self,
        name: Option<&str>,
        tags: &BTreeSet<String>,
        named: &[String],
    ) -> Vec<(RuleNumber, &Rule)> {
        let holds =
            |rule: &Rule| named.contains(&rule.name) || rule.enabled && rule.fits(name, |tag| tags.contains(tag));
        self.rules().filter(|(_, rule)| holds(rule)).collect()
    }
}

impl Rule {
    /// Whether its `targets` and `tags` allow it for such a target.
    fn fits(&self, name: Option<&str>, has_tag: impl Fn(&str) -> bool) -> bool {
        let by_name = self.targets.is_empty() || self.targets.iter().any(|target| Some(target.as_str()) == name);
        by_name && (self.tags.is_empty() || self.tags.iter().any(|tag| has_tag(tag)))
    }
}

impl fmt::Display for MaskFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, flaw) in self.flaws.iter().enumerate() {
            let line_break = if number == 0 { "" } else { "\n" };
            write!(f, "{line_break}{flaw}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let catalog = if self.file == File::Catalog { "catalog:" } else { "" };
        write!(f, "{catalog}{}: {}", self.line, self.what)
    }
}
