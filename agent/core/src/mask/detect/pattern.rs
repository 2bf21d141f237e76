//! Regular expressions of users over the bytes of one field.
//!
//! Owns which are taken, and how much of a window they leave undecided: from the first position at which a match has begun
//! that could still become one. Never takes one whose matches have no bound.

use std::sync::Mutex;

use regex_automata::hybrid::dfa::{Cache, DFA};
use regex_automata::util::start::Config as StartConfig;
use regex_automata::util::syntax;
use regex_automata::{Anchored, Input, MatchKind, meta, nfa::thompson};

use super::RuleError;
use super::check::{luhn, mod97};
use super::view::{Found, More, Outcome, View};
use crate::limits::MASK_HELD_BYTES_MAX;
use crate::mask::rule::{Check, Rule};

/// One pattern, ready for use.
#[derive(Debug)]
pub(super) struct Pattern {
    search: meta::Regex,
    /// What follows one possible match through the end of a window.
    walk: DFA,
    cache: Mutex<Cache>,
    /// The group that is hidden: 0 is all.
    group: usize,
    length_max: usize,
    check: Option<Check>,
}

impl Clone for Pattern {
    fn clone(&self) -> Self {
        let cache = Mutex::new(self.walk.create_cache());
        Self { search: self.search.clone(), walk: self.walk.clone(), cache, ..*self }
    }
}

/// The next match of a pattern, or where one can still become one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Next {
    /// None begins before the end.
    Nothing,
    /// Undecided from here on.
    More(usize),
    /// A match that begins at the position; what is hidden of it.
    Match(usize, Found),
}

impl Pattern {
    /// Compiles the pattern of a rule.
    ///
    /// # Errors
    /// When it is malformed, can never match, or can match more than what is held of a field.
    pub(super) fn compile(rule: &Rule, regex: &str, check: Option<Check>) -> Result<Self, RuleError> {
        let refused = |why: String| RuleError(format!("the pattern of mask {}: {why}", rule.name));
        // Classes mean ASCII unless the pattern says (?u): fields are bytes, and need not be UTF-8.
        let words = syntax::Config::new().unicode(false).utf8(false);
        let tree = syntax::parse_with(regex, &words).map_err(|error| refused(format!("it is malformed: {error}")))?;
        let properties = tree.properties();
        if properties.minimum_len().is_none_or(|len| len == 0) {
            return Err(refused(
                "it can never match, or it matches nothing at all: let it need one byte at least".into(),
            ));
        }
        // A place makes the field whole; what is held of one stays bounded, all the same.
        let length_max = match properties.maximum_len() {
            Some(len) if len <= MASK_HELD_BYTES_MAX / 2 => len,
            _ if !rule.places.is_empty() => MASK_HELD_BYTES_MAX / 2,
            _ => {
                return Err(refused(format!(
                    "its matches have no bound, or one above {} bytes: bound them, as in {{1,64}} for + or *",
                    MASK_HELD_BYTES_MAX / 2
                )));
            }
        };
        let search = meta::Builder::new()
            .syntax(words)
            .configure(meta::Config::new().utf8_empty(false))
            .build_from_hir(&tree)
            .map_err(|error| refused(format!("it cannot be compiled: {error}")))?;
        let walk = DFA::builder()
            .configure(DFA::config().match_kind(MatchKind::LeftmostFirst).unicode_word_boundary(true))
            .thompson(thompson::Config::new().utf8(false))
            .syntax(words)
            .build(regex)
            .map_err(|error| refused(format!("it cannot be compiled: {error}")))?;
        let group = search.group_info().to_index(regex_automata::PatternID::ZERO, "value").unwrap_or(0);
        let cache = Mutex::new(walk.create_cache());
        Ok(Self { search, walk, cache, group, length_max, check })
    }

    /// The first match that begins at `from` or behind, and before `until`.
    pub(super) fn next(&self, view: View<'_>, from: usize, until: usize) -> Next {
        let mut at = from;
        // The byte before the window is not in it: the first position is looked at by itself.
        if at == 0 && at < until {
            match self.attempt(view, 0) {
                Err(More) => return Next::More(0),
                Ok(Some(found)) => return Next::Match(0, found),
                Ok(None) => at = 1,
            }
        }
        let reach = view.reach();
        // Far enough from the end, everything that a match needs is there.
        let settled = reach.saturating_sub(self.length_max + 1).min(until);
        while at < settled {
            let input = Input::new(view.bytes).range(at..reach);
            let Some(start) = self.search.find(input).map(|found| found.start()).filter(|start| *start < settled)
            else {
                at = settled;
                break;
            };
            match self.attempt(view, start) {
                Err(More) => return Next::More(start),
                Ok(Some(found)) => return Next::Match(start, found),
                Ok(None) => at = start + 1,
            }
        }
        while at < until.min(reach) {
            match self.attempt(view, at) {
                Err(More) => return Next::More(at),
                Ok(Some(found)) => return Next::Match(at, found),
                Ok(None) => at += 1,
            }
        }
        Next::Nothing
    }

    /// The match that begins at a position.
    fn attempt(&self, view: View<'_>, at: usize) -> Outcome {
        let Some(end) = self.end(view, at)? else { return Ok(None) };
        Ok(self.hidden(view, at, end))
    }

    /// Where the match that begins at a position ends.
    fn end(&self, view: View<'_>, start: usize) -> Result<Option<usize>, More> {
        let Ok(mut cache) = self.cache.lock() else { return Err(More) };
        let cache = &mut *cache;
        let config = StartConfig::new().anchored(Anchored::Yes).look_behind(view.before(start));
        let Ok(mut state) = self.walk.start_state(cache, &config) else { return self.slow_end(view, start) };
        let mut end = None;
        for at in start..=start + self.length_max {
            // A match shows one byte behind its end.
            let next = match view.at(at)? {
                Some(byte) => self.walk.next_state(cache, state, byte),
                None => self.walk.next_eoi_state(cache, state),
            };
            let Ok(next) = next else { return self.slow_end(view, start) };
            state = next;
            if state.is_match() {
                end = Some(at);
            }
            if state.is_quit() {
                return self.slow_end(view, start);
            }
            if state.is_dead() || view.at(at)?.is_none() {
                break;
            }
        }
        Ok(end)
    }

    /// The same where the quick way gives up: all that a match can need must be there.
    fn slow_end(&self, view: View<'_>, start: usize) -> Result<Option<usize>, More> {
        if start + self.length_max + 1 > view.reach() {
            view.at(start + self.length_max + 1)?;
        }
        Ok(self.captured(view, start, 0).map(|(_, end)| end))
    }

    /// What of a match is hidden, if it passes its check.
    fn hidden(&self, view: View<'_>, start: usize, end: usize) -> Option<Found> {
        let (from, to) = match self.group {
            0 => (start, end),
            group => self.captured(view, start, group)?,
        };
        let bytes = view.slice(from, to);
        let holds = match self.check {
            Some(Check::Luhn) => luhn(bytes),
            Some(Check::Mod97) => mod97(bytes),
            None => true,
        };
        (holds && from < to).then(|| Found::whole(from, to))
    }

    /// A group of the match that begins at a position.
    fn captured(&self, view: View<'_>, start: usize, group: usize) -> Option<(usize, usize)> {
        let upto = view.reach().min(start + self.length_max + 2);
        let before = view.before(start);
        let mut near: Vec<u8> = before.into_iter().collect();
        near.extend_from_slice(view.slice(start, upto));
        let shift = usize::from(before.is_some());
        let mut captures = self.search.create_captures();
        self.search.search_captures(&Input::new(&near).range(shift..).anchored(Anchored::Yes), &mut captures);
        let span = captures.get_group(group)?;
        Some((start + span.start - shift, start + span.end - shift))
    }
}
