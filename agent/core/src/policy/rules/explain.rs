//! What each policy within reach of an action came to: for whoever asks why.
//!
//! Never part of a decision.

use super::{Rule, Rules, Scope};
use crate::action::{Facts, Verb};

/// What one policy came to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Seen<'r> {
    /// The policy.
    pub rule: &'r Rule,
    /// Whether it applied; else why it could not be evaluated.
    pub held: Result<bool, String>,
}

impl Scope {
    /// Every policy within reach of the action, in the order of their files, and what it came to before an approval.
    #[must_use]
    pub fn explain(&self, verb: Verb, facts: &Facts) -> Vec<Seen<'_>> {
        let Some(slice) = self.slice(verb) else { return Vec::new() };
        let seen = |rule| Seen { held: self.holds(slice, rule, facts), rule };
        slice.rules.iter().map(seen).collect()
    }
}

impl Rules {
    /// The policy of this name.
    #[must_use]
    pub fn get(&self, id: &str) -> Option<&Rule> {
        self.rules.iter().map(AsRef::as_ref).find(|rule: &&Rule| rule.id == id)
    }

    /// All, in the order of their files.
    pub fn iter(&self) -> impl Iterator<Item = &Rule> {
        self.rules.iter().map(AsRef::as_ref)
    }
}

impl Rule {
    /// Its name.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The file that it is in.
    #[must_use]
    pub fn file(&self) -> &str {
        &self.file
    }

    /// The line where it begins, from 1.
    #[must_use]
    pub fn line(&self) -> usize {
        self.line
    }

    /// Its text, as it is written.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether it permits; else it forbids.
    #[must_use]
    pub fn permits(&self) -> bool {
        self.permits
    }

    /// Whether an approval can lift it.
    #[must_use]
    pub fn asks(&self) -> bool {
        self.terms.is_some()
    }

    /// Names of the facts that its conditions look at; none where that cannot be told.
    #[must_use]
    pub fn looks_at(&self) -> Option<impl Iterator<Item = &str>> {
        (!self.looks.all).then(|| self.looks.at.iter().map(String::as_str))
    }
}

impl PartialEq for Rule {
    fn eq(&self, other: &Self) -> bool {
        (&self.id, &self.file, &self.text) == (&other.id, &other.file, &other.text)
    }
}

impl Eq for Rule {}
