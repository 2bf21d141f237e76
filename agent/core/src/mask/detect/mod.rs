//! Finding sensitive values in the bytes of one field.
//!
//! Owns the detectors and how much of a field is decided while its rest has not come. Whether something begins at a position
//! depends on the byte before it and on what follows, and on nothing else; what follows and has not come is waited for. So
//! a field that comes in pieces has the finds of the whole. Never changes a byte.

mod card;
mod check;
mod filter;
mod iban;
mod ip;
mod jwt;
mod keep;
mod key;
mod kinds;
mod mail;
mod national;
mod password;
mod pattern;
mod pem;
mod phone;
mod scan;
mod ssn;
mod view;

use self::filter::{Attempt, Filter};
pub(super) use self::keep::kept;
use self::pattern::Pattern;
use self::scan::Scan;
use self::view::View;
use super::rule::{Kind, Rule, RuleNumber, What};

/// Compiled rules that look into text.
#[derive(Clone, Debug, Default)]
pub struct Detectors {
    rules: Vec<Compiled>,
    /// Where our own detectors' finds can begin, one entry for each bit of the filter and round again.
    starts: Vec<Entry>,
    filter: Option<Filter>,
    patterns: Vec<(usize, Pattern)>,
}

/// What is left of a rule.
#[derive(Clone, Copy, Debug)]
struct Compiled {
    number: RuleNumber,
    kind: Option<Kind>,
    keep_last: usize,
}

/// An attempt, and the place of its rule in the list.
#[derive(Clone, Copy, Debug)]
struct Entry {
    rule: usize,
    attempt: Attempt,
}

/// What is known around a window of a field.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Edges {
    /// The byte before the window; none where the field begins with it.
    pub before: Option<u8>,
    /// The window goes on within a find of this rule that was longer than what is held.
    pub inside: Option<RuleNumber>,
    /// The field ends with the window.
    pub ends: bool,
}

/// One value: `start..end` of the window, of which the last `keep` bytes stay readable.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Hit {
    /// Which rule.
    pub rule: RuleNumber,
    /// Its first byte.
    pub start: usize,
    /// Behind its last one.
    pub end: usize,
    /// Bytes at its end that stay readable.
    pub keep: usize,
}

/// How far a window is decided.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Decided {
    /// Bytes of which everything is known: the rest can belong to a find with what follows.
    pub len: usize,
    /// What is decided ends within a find that is longer than what is held.
    pub inside: Option<RuleNumber>,
}

/// A rule that cannot be compiled, or that can never fire.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0}")]
pub struct RuleError(pub String);

impl Detectors {
    /// Compiles rules, each with its number. Those that take all of a field look at no text, and are passed over.
    ///
    /// # Errors
    /// When a pattern is malformed, can never match, or has matches without a bound.
    pub fn compile<'r>(rules: impl IntoIterator<Item = (RuleNumber, &'r Rule)>) -> Result<Self, RuleError> {
        let mut compiled = Self::default();
        let mut starts = Vec::new();
        for (number, rule) in rules {
            let place = compiled.rules.len();
            let kind = match &rule.what {
                What::Kind(kind) => {
                    for start in kinds::starts(*kind) {
                        compiled.starts.push(Entry { rule: place, attempt: start.attempt });
                        starts.push(start);
                    }
                    Some(*kind)
                }
                What::Pattern { regex, check } => {
                    compiled.patterns.push((place, Pattern::compile(rule, regex, *check)?));
                    None
                }
                What::All => continue,
            };
            compiled.rules.push(Compiled { number, kind, keep_last: rule.keep_last });
        }
        if !starts.is_empty() {
            compiled.starts.push(Entry { rule: usize::MAX, attempt: kinds::never });
            starts.push(kinds::escape());
            compiled.filter = Some(Filter::new(&starts));
        }
        Ok(compiled)
    }

    /// Whether there is nothing to look for.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Looks into a window; finds are added in their order and do not overlap. A find that is longer than what is held may
    /// come in pieces, and keeps nothing readable.
    pub fn find(&self, window: &[u8], edges: Edges, hits: &mut Vec<Hit>) -> Decided {
        let view = View::new(window, edges.before, edges.ends);
        let mut from = 0;
        if let Some(rule) = edges.inside {
            let (end, open) = self.resume(view, rule);
            if end > 0 {
                hits.push(Hit { rule, start: 0, end, keep: 0 });
            }
            if open {
                return Decided { len: end, inside: Some(rule) };
            }
            from = end;
        }
        let mut scan = Scan::new(self);
        let decided = scan.run(view, from);
        for found in scan.finds() {
            let Some(rule) = self.rules.get(found.rule) else { continue };
            let value = window.get(found.start..found.end).unwrap_or_default();
            let keep = if found.long { 0 } else { kept(value, rule.keep_last) };
            hits.push(Hit { rule: rule.number, start: found.start, end: found.end, keep });
        }
        let inside = decided.inside.and_then(|rule| self.rules.get(rule)).map(|rule| rule.number);
        Decided { len: decided.len, inside }
    }

    /// Where a find that began before the window ends, and whether it goes on behind it.
    fn resume(&self, view: View<'_>, number: RuleNumber) -> (usize, bool) {
        let kind = self.rules.iter().find(|rule| rule.number == number).and_then(|rule| rule.kind);
        match kind.map(|kind| kinds::rest(kind, view.within())) {
            Some(Ok(Some(found))) => (found.end, found.open),
            _ => (0, false),
        }
    }
}

/// Fuzz entry: the first byte says how the field is chopped, the rest is the field.
///
/// # Panics
/// Where a field in pieces has other finds than the whole; the fuzzer looks for it.
pub fn fuzz_detect(data: &[u8]) {
    let Some((step, field)) = data.split_first() else { return };
    let rules: Vec<Rule> = Kind::ALL.into_iter().map(Rule::of).collect();
    let Ok(detectors) = Detectors::compile((0..).zip(&rules)) else { return };
    let hidden = |step: usize| {
        let (mut done, mut come, mut inside, mut hidden) = (0usize, 0usize, None, Vec::new());
        while come < field.len() {
            come = (come + step.max(1)).min(field.len());
            let before = done.checked_sub(1).and_then(|at| field.get(at)).copied();
            let mut hits = Vec::new();
            let edges = Edges { before, inside, ends: come == field.len() };
            let decided = detectors.find(field.get(done..come).unwrap_or_default(), edges, &mut hits);
            hidden.extend(hits.iter().flat_map(|hit| done + hit.start..done + hit.end - hit.keep));
            (done, inside) = (done + decided.len, decided.inside);
        }
        assert_eq!(done, field.len(), "the end of a field leaves nothing undecided");
        hidden
    };
    assert_eq!(hidden(usize::from(*step)), hidden(field.len()), "a field in pieces is not what it is whole");
}

#[cfg(test)]
mod reference;
#[cfg(test)]
mod tests;
