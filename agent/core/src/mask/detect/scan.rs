//! One pass over a window: what begins first is found first, and nothing begins within it.
//!
//! Owns how finds of several rules are brought into one order. Where a word leads to a value (`ssn: …`), what begins between
//! the two is found as well. Never judges a value.

use super::pattern::Next;
use super::view::{Found, More, Outcome, View};
use super::{Detectors, Entry, filter};

/// A find, with the place of its rule.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Find {
    pub(super) rule: usize,
    pub(super) start: usize,
    pub(super) end: usize,
    /// It may have come in pieces.
    pub(super) long: bool,
}

/// How far a pass came.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Reached {
    pub(super) len: usize,
    /// It ended within a find of this rule.
    pub(super) inside: Option<usize>,
}

/// Who found something: an entry of the filter's, or a pattern.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Source {
    Entry(usize),
    Pattern(usize),
}

/// What begins next.
#[derive(Clone, Copy, Debug)]
struct Candidate {
    at: usize,
    source: Source,
    rule: usize,
    found: Result<Found, More>,
}

/// What is known to begin next, so that it is looked for once.
struct Ahead {
    own: Own,
    patterns: Vec<Option<Next>>,
}

/// The next of our own detectors' finds.
#[derive(Clone, Copy, Debug)]
enum Own {
    Unknown,
    Nothing,
    At(Candidate),
}

/// Those whose words have led to a value, while what lies between is looked at; each only once.
struct Leading<'l> {
    source: Source,
    outer: Option<&'l Leading<'l>>,
}

/// The pass.
pub(super) struct Scan<'d> {
    detectors: &'d Detectors,
    finds: Vec<Find>,
}

impl<'d> Scan<'d> {
    pub(super) const fn new(detectors: &'d Detectors) -> Self {
        Self { detectors, finds: Vec::new() }
    }

    /// What was found, in its order.
    pub(super) fn finds(&self) -> &[Find] {
        &self.finds
    }

    /// Looks at all of a window from a position on.
    pub(super) fn run(&mut self, view: View<'_>, from: usize) -> Reached {
        match self.part(view, from, view.bytes.len(), None) {
            Ok(reached) => reached,
            Err(Stopped(at)) => Reached { len: at, inside: None },
        }
    }

    /// Finds all that begins at `from` or behind, and before `until`.
    fn part(
        &mut self,
        view: View<'_>,
        from: usize,
        until: usize,
        outer: Option<&Leading<'_>>,
    ) -> Result<Reached, Stopped> {
        let mut at = from;
        let mut ahead = Ahead { own: Own::Unknown, patterns: vec![None; self.detectors.patterns.len()] };
        while let Some(candidate) = self.next(view, at, until, outer, &mut ahead) {
            let Ok(found) = candidate.found else { return Err(Stopped(candidate.at)) };
            let mut start = found.start;
            if start > candidate.at {
                let mark = self.finds.len();
                let leading = Leading { source: candidate.source, outer };
                let between = self.part(view.bounded(candidate.at), candidate.at + 1, start, Some(&leading));
                let Ok(reached) = between else {
                    self.finds.truncate(mark);
                    return Err(Stopped(candidate.at));
                };
                if reached.inside.is_some() {
                    return Ok(reached);
                }
                start = start.max(reached.len);
            }
            let rule = candidate.rule;
            if start < found.end {
                self.finds.push(Find { rule, start, end: found.end, long: found.long });
            }
            at = found.end.max(start);
            if found.open {
                return Ok(Reached { len: at, inside: Some(rule) });
            }
        }
        Ok(Reached { len: at.max(until), inside: None })
    }

    /// What begins first; of those that begin together, one that waits, or else the one that reaches furthest.
    fn next(
        &self,
        view: View<'_>,
        at: usize,
        until: usize,
        outer: Option<&Leading<'_>>,
        ahead: &mut Ahead,
    ) -> Option<Candidate> {
        let is_known = match ahead.own {
            Own::Unknown => false,
            Own::Nothing => true,
            Own::At(candidate) => candidate.at >= at,
        };
        if !is_known {
            ahead.own = self.own(view, at, until, outer).map_or(Own::Nothing, Own::At);
        }
        let mut best = match ahead.own {
            Own::At(candidate) => Some(candidate),
            Own::Unknown | Own::Nothing => None,
        };
        for (number, ((rule, pattern), next)) in self.detectors.patterns.iter().zip(&mut ahead.patterns).enumerate() {
            let source = Source::Pattern(number);
            if is_leading(source, outer) {
                continue;
            }
            let stale = match next {
                None => true,
                Some(Next::Nothing) => false,
                Some(Next::More(begins) | Next::Match(begins, _)) => *begins < at,
            };
            let next =
                if stale { next.insert(pattern.next(view, at, until)) } else { next.get_or_insert(Next::Nothing) };
            let candidate = match *next {
                Next::Nothing => continue,
                Next::More(at) => Candidate { at, source, rule: *rule, found: Err(More) },
                Next::Match(at, found) => Candidate { at, source, rule: *rule, found: Ok(found) },
            };
            best = Some(best.map_or(candidate, |best| best.or(candidate)));
        }
        best
    }

    /// The next of our own detectors' finds.
    fn own(&self, view: View<'_>, from: usize, until: usize, outer: Option<&Leading<'_>>) -> Option<Candidate> {
        let filter = self.detectors.filter.as_ref()?;
        let mut at = from;
        while let Some((here, mask)) = filter.next(view, at, until) {
            let found = self.tried(view.bounded(here), here, mask, outer);
            if found.is_some() {
                return found;
            }
            at = here + 1;
        }
        None
    }

    /// Tries what a filter's bits stand for.
    fn tried(&self, view: View<'_>, at: usize, mask: u64, outer: Option<&Leading<'_>>) -> Option<Candidate> {
        let entries = &self.detectors.starts;
        let mut best: Option<Candidate> = None;
        let mut bits = mask;
        while bits != 0 {
            let bit = bits.trailing_zeros() as usize;
            bits &= bits - 1;
            for (number, entry) in entries.iter().enumerate().skip(bit).step_by(filter::BITS) {
                let source = Source::Entry(number);
                if is_leading(source, outer) {
                    continue;
                }
                let candidate = if number + 1 == entries.len() {
                    self.escaped(view, at, source, outer)
                } else {
                    candidate(at, source, *entry, (entry.attempt)(view, at))
                };
                best = match (best, candidate) {
                    (Some(best), Some(candidate)) => Some(best.or(candidate)),
                    (best, candidate) => best.or(candidate),
                };
            }
        }
        best
    }

    /// What begins behind an escaped end of a line.
    fn escaped(&self, view: View<'_>, at: usize, source: Source, outer: Option<&Leading<'_>>) -> Option<Candidate> {
        let waits = Candidate { at, source, rule: 0, found: Err(More) };
        match view.is(at + 1, |byte| matches!(byte, b'n' | b'r' | b't')) {
            Ok(true) => {}
            Ok(false) => return None,
            Err(More) => return Some(waits),
        }
        let begins = at + 2;
        match view.at(begins) {
            Ok(Some(b'\\') | None) => return None,
            Ok(Some(_)) => {}
            Err(More) => return Some(waits),
        }
        let filter = self.detectors.filter.as_ref()?;
        let leading = Leading { source, outer };
        let found = self.tried(view.fresh(begins), begins, filter.fresh(view, begins), Some(&leading))?;
        Some(Candidate { at, source, ..found })
    }
}

/// Where a pass has to wait.
struct Stopped(usize);

fn candidate(at: usize, source: Source, entry: Entry, outcome: Outcome) -> Option<Candidate> {
    let found = match outcome {
        Ok(None) => return None,
        Ok(Some(found)) => Ok(found),
        Err(more) => Err(more),
    };
    Some(Candidate { at, source, rule: entry.rule, found })
}

fn is_leading(source: Source, outer: Option<&Leading<'_>>) -> bool {
    let mut leading = outer;
    while let Some(one) = leading {
        if one.source == source {
            return true;
        }
        leading = one.outer;
    }
    false
}

impl Candidate {
    /// The one of two that counts.
    fn or(self, other: Self) -> Self {
        let rank = |one: &Self| {
            let (waits, end, start) = match one.found {
                Err(More) => (0, 0, 0),
                Ok(found) => (1, usize::MAX - found.end, found.start),
            };
            (one.at, waits, end, start, one.rule)
        };
        if rank(&other) < rank(&self) { other } else { self }
    }
}
