//! The rules: Cedar policies, what they are asked, and what follows from their answer.
//!
//! Owns the schema and the way from an action to a verdict. Never reads a file, holds a clock or asks a human.

mod context;
mod explain;
mod look;
mod parse;
mod reach;
mod schema;
mod scope;
mod table;
mod terms;
#[cfg(test)]
mod tests;
mod warn;

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use cedar_policy::Policy;
use cedar_policy::pst::Clause;

use crate::identity::Identity;
use crate::target::Resource;
use crate::verdict::Terms;

pub use explain::Seen;
pub use schema::SCHEMA;
pub use scope::Scope;
pub use warn::Known;

/// Policies that were parsed and fit the schema, in the order of their files.
#[derive(Debug, Default)]
pub struct Rules {
    rules: Vec<Arc<Rule>>,
}

/// One policy.
#[derive(Debug)]
pub struct Rule {
    id: String,
    file: String,
    line: usize,
    text: String,
    at: Range<usize>,
    permits: bool,
    terms: Option<Terms>,
    reach: reach::Reach,
    looks: look::Looks,
    /// Its conditions hold, or do not, whatever is asked.
    constant: Option<bool>,
    clauses: Vec<Clause>,
    /// What Cedar's type checker doubts, with its line.
    doubts: Vec<(usize, String)>,
    /// Without its scope, for where that is known to hold: Cedar would look at it again in each decision.
    within: Policy,
    #[cfg(test)]
    policy: Policy,
}

/// One fault of a policy file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fault {
    /// The file.
    pub file: String,
    /// Line, from 1.
    pub line: usize,
    /// What is wrong, and what to do.
    pub what: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.what)
    }
}

impl Rules {
    /// The policies of some files, each with its name and text.
    ///
    /// # Errors
    /// Everything that is wrong with them: syntax, and what does not fit the schema.
    pub fn parse(files: &[(String, String)]) -> Result<Self, Vec<Fault>> {
        Ok(Self { rules: parse::rules(files)? })
    }

    /// How many policies there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rules.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Those that can apply to anything that this identity does with this target.
    #[must_use]
    pub fn scope(&self, who: &Identity, what: &Resource) -> Scope {
        Scope::of(&self.rules, who, what)
    }
}
