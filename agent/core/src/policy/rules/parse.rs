//! From the texts of policy files to rules, or to everything that is wrong with them.
//!
//! Owns names of policies and where they stand. Never judges.

use std::collections::HashMap;
use std::fmt::Display;
use std::str::FromStr;
use std::sync::Arc;

use cedar_policy::pst::{self, PstConstructionError};
use cedar_policy::{Effect, Policy, PolicyId, PolicySet, ValidationMode, ValidationWarning};
use miette::Diagnostic;

use super::look::{self, Looks};
use super::reach::Reach;
use super::warn::NEVER;
use super::{Fault, Rule, schema, terms};

/// Parentheses, brackets and braces in one another. Cedar's reader walks down with the stack of its thread.
const NESTED_MAX: usize = 64;

/// Operators and words of one policy, outside of texts: hundreds of conditions.
const OPERATORS_MAX: usize = 1000;

/// Stack for Cedar's reader and type checker, which need some ten KiB for each of those; touched as far as it is used.
const STACK_BYTES: usize = 64 * 1024 * 1024;

/// A file while it is read.
struct File<'f> {
    name: &'f str,
    text: &'f str,
    faults: Vec<Fault>,
}

impl File<'_> {
    fn fault(&mut self, at: usize, what: impl Into<String>) {
        let fault = Fault { file: self.name.to_owned(), line: line(self.text, at), what: what.into() };
        // The type checker says the same thing once for each kind of request.
        if !self.faults.contains(&fault) {
            self.faults.push(fault);
        }
    }
}

/// All policies of the files in their order, and everything that is wrong.
pub(super) fn rules(files: &[(String, String)]) -> Result<Vec<Arc<Rule>>, Vec<Fault>> {
    let mut rules: Vec<Arc<Rule>> = Vec::new();
    let mut faults = Vec::new();
    let mut known: HashMap<String, (String, usize)> = HashMap::new();
    for (name, text) in files {
        let mut file = File { name, text, faults: Vec::new() };
        for rule in stacker::grow(STACK_BYTES, || policies(&mut file)) {
            if let Some((other, line)) = known.get(&rule.id) {
                file.fault(
                    rule.at.start,
                    format!("another policy is called \"{}\", {other}:{line}: give one of them another @id", rule.id),
                );
            } else {
                known.insert(rule.id.clone(), (rule.file.clone(), rule.line));
                rules.push(Arc::new(rule));
            }
        }
        file.faults.sort_by_key(|fault| fault.line);
        faults.append(&mut file.faults);
    }
    if faults.is_empty() { Ok(rules) } else { Err(faults) }
}

/// The policies of one file that are right.
fn policies(file: &mut File<'_>) -> Vec<Rule> {
    if let Some(at) = too_deep(file.text) {
        file.fault(
            at,
            format!(
                "a policy of more than {NESTED_MAX} brackets in one another, or {OPERATORS_MAX} operators and words: make \
                 several policies of it"
            ),
        );
        return Vec::new();
    }
    let set = match PolicySet::from_str(file.text) {
        Ok(set) => set,
        Err(errors) => {
            errors.iter().for_each(|error| {
                let (at, what) = told(error);
                file.fault(at, what);
            });
            return Vec::new();
        }
    };
    for template in set.templates() {
        let at = template.as_ref().loc().map_or(0, |loc| loc.span.offset());
        file.fault(
            at,
            "templates are not taken: write the principal and the resource out in place of ?principal and ?resource",
        );
    }
    let mut found: Vec<(usize, usize, &Policy)> = set.policies().map(placed).collect();
    found.sort_by_key(|(start, ..)| *start);
    let rules = found.into_iter().enumerate();
    rules.filter_map(|(number, (start, end, policy))| rule(file, number + 1, start..end, policy)).collect()
}

fn placed(policy: &Policy) -> (usize, usize, &Policy) {
    let span = policy.as_ref().loc().map(|loc| (loc.span.offset(), loc.span.offset() + loc.span.len()));
    let (start, end) = span.unwrap_or_default();
    (start, end, policy)
}

/// One policy, where nothing is wrong with it.
fn rule(file: &mut File<'_>, number: usize, at: std::ops::Range<usize>, policy: &Policy) -> Option<Rule> {
    let before = file.faults.len();
    let given = terms::id(policy).map_err(|what| file.fault(at.start, what)).ok().flatten();
    let id = given.unwrap_or_else(|| format!("{}#{number}", file.name));
    let policy = policy.new_id(PolicyId::new(&id));
    let terms = terms::terms(&policy).unwrap_or_else(|wrong| {
        for what in wrong {
            file.fault(at.start, what);
        }
        None
    });
    let doubts = validate(file, &at, &policy);
    let read = policy.to_pst().and_then(|tree| Ok((unscoped(&tree)?, tree.body().clauses().clone())));
    let (within, clauses) = match read {
        Ok(read) => read,
        Err(error) => {
            file.fault(at.start, format!("it cannot be read back: {error}"));
            return None;
        }
    };
    if file.faults.len() > before {
        return None;
    }
    Some(Rule {
        id,
        file: file.name.to_owned(),
        line: line(file.text, at.start),
        text: file.text.get(at.clone()).unwrap_or_default().to_owned(),
        at,
        permits: policy.effect() == Effect::Permit,
        terms,
        reach: Reach::of(&policy),
        looks: Looks::of(&clauses),
        constant: look::constant(&clauses),
        clauses,
        doubts,
        within,
        #[cfg(test)]
        policy,
    })
}

/// A policy without its scope.
fn unscoped(tree: &pst::Policy) -> Result<Policy, PstConstructionError> {
    let mut body = tree.body().clone();
    body.principal = pst::PrincipalConstraint::Any;
    body.action = pst::ActionConstraint::Any;
    body.resource = pst::ResourceConstraint::Any;
    Policy::from_pst(pst::Policy::Static(pst::StaticPolicy::try_from(body)?))
}

/// Holds a policy against the schema: faults to the file, and what Cedar merely doubts, with its line.
fn validate(file: &mut File<'_>, at: &std::ops::Range<usize>, policy: &Policy) -> Vec<(usize, String)> {
    let Some(validator) = schema::VALIDATOR.as_ref() else {
        file.fault(at.start, "the schema of this program is broken: report it");
        return Vec::new();
    };
    let result = match PolicySet::from_policies([policy.clone()]) {
        Ok(set) => validator.validate(&set, ValidationMode::Strict),
        Err(error) => {
            file.fault(at.start, error.to_string());
            return Vec::new();
        }
    };
    for error in result.validation_errors() {
        let (offset, what) = told(error);
        file.fault(offset.max(at.start), what);
    }
    let doubts = result.validation_warnings().map(|warning| {
        let (offset, what) = told(warning);
        let so = match warning {
            ValidationWarning::ImpossiblePolicy(_) | ValidationWarning::InvalidActionApplication(_) => {
                format!("{NEVER}: compare it with `crewtap policy schema`")
            }
            _ => "it may not be what it seems: write it in plain letters".to_owned(),
        };
        (line(file.text, offset.max(at.start)), format!("{what}: {so}"))
    });
    let mut doubts: Vec<_> = doubts.collect();
    doubts.sort();
    doubts.dedup();
    doubts
}

/// Where a diagnostic points, and all that it says.
fn told(diagnostic: &(impl Diagnostic + Display)) -> (usize, String) {
    let mut what = diagnostic.to_string();
    let mut at = None;
    for label in diagnostic.labels().into_iter().flatten() {
        at = at.or(Some(label.offset()));
        if let Some(text) = label.label() {
            what.push_str(": ");
            what.push_str(text);
        }
    }
    if let Some(help) = diagnostic.help() {
        what.push_str(": ");
        what.push_str(&help.to_string());
    }
    (at.unwrap_or_default(), what.replace('\n', " "))
}

/// The line of an offset, from 1.
fn line(text: &str, at: usize) -> usize {
    let before = text.as_bytes().get(..at).unwrap_or(text.as_bytes());
    before.split(|byte| *byte == b'\n').count()
}

/// Where more hangs together than the reader's stack should bear: brackets in one another, and operators in one policy, which
/// make a tree as deep as there are of them.
fn too_deep(text: &str) -> Option<usize> {
    let (mut depth, mut operators) = (0_usize, 0_usize);
    let mut within = Within::Code;
    let mut before = ' ';
    for (at, letter) in text.char_indices() {
        within = match (within, letter) {
            (Within::Code, '"') | (Within::Escape, _) => Within::Text,
            (Within::Code, '/') if before == '/' => Within::Comment,
            (Within::Text, '\\') => Within::Escape,
            (Within::Text, '"') | (Within::Comment, '\n') => Within::Code,
            (within, _) => within,
        };
        if within == Within::Code {
            match letter {
                '(' | '[' | '{' => (depth, operators) = (depth + 1, operators + 1),
                ')' | ']' | '}' => depth = depth.saturating_sub(1),
                '.' | '&' | '|' | '=' | '<' | '>' | '+' | '*' | '!' | '-' => operators += 1,
                ';' => operators = 0,
                // `if`, `in`, `is`, `has`, `like` and every other word.
                letter if letter.is_alphabetic() && !before.is_alphanumeric() && before != '_' => operators += 1,
                _ => {}
            }
        }
        if depth > NESTED_MAX || operators > OPERATORS_MAX {
            return Some(at);
        }
        before = letter;
    }
    None
}

/// What a letter of a policy is part of.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Within {
    Code,
    Text,
    /// Behind a backslash in a text.
    Escape,
    Comment,
}
