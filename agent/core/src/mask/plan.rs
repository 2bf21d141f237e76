//! The rules in force for one target, ready for use, and what they have found.
//!
//! Owns what is hidden and what is told of it. Never finds by itself, and never holds a value.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::detect::{Detectors, RuleError};
use super::digest::DigestKey;
use super::rule::{Apply, JsonStep, Kind, Place, Rule, RuleNumber, What};
use crate::bodies::Masked;
use crate::limits::REDACTED_VALUES_MAX;

/// Some rules with their numbers.
type Numbered<'r> = Vec<(RuleNumber, &'r Rule)>;

/// What is hidden for one target.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// By their numbers.
    rules: HashMap<RuleNumber, Known>,
    /// Those that look everywhere.
    pub(super) anywhere: Detectors,
    /// What is looked for in one place, by the place's number.
    pub(super) places: Vec<Placed>,
    pub(super) columns: HashMap<String, PlaceId>,
    pub(super) headers: HashMap<String, PlaceId>,
    pub(super) paths: Vec<(Vec<JsonStep>, PlaceId)>,
    is_empty: bool,
    /// The rules among them that hide from the client, too.
    wire: Option<Arc<Self>>,
}

/// A place that rules are about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct PlaceId(usize);

/// What is looked for in one place.
#[derive(Clone, Debug, Default)]
pub(super) struct Placed {
    /// All of it is hidden.
    pub(super) all: Option<RuleNumber>,
    pub(super) detectors: Detectors,
}

/// What is told of a rule.
#[derive(Clone, Debug)]
struct Known {
    name: String,
    keep: usize,
    apply: Apply,
    /// Blanks, hyphens and dots are no part of its values.
    is_grouped: bool,
}

impl Plan {
    /// Compiles rules for a target that the catalog does not know.
    ///
    /// # Errors
    /// When one is malformed or can never fire.
    pub fn compile(rules: &[(RuleNumber, &Rule)]) -> Result<Self, RuleError> {
        Self::compile_for(None, rules)
    }

    /// Compiles rules for a target of the catalog.
    ///
    /// # Errors
    /// When one is malformed or can never fire.
    pub fn compile_for(target: Option<&str>, rules: &[(RuleNumber, &Rule)]) -> Result<Self, RuleError> {
        let is_wire = |rule: &Rule| rule.apply_for(target) == Apply::Wire;
        let wire: Vec<(RuleNumber, &Rule)> = rules.iter().copied().filter(|(_, rule)| is_wire(rule)).collect();
        let mut plan = Self::compiled(target, rules)?;
        plan.wire = if wire.is_empty() { None } else { Some(Arc::new(Self::compiled(target, &wire)?)) };
        Ok(plan)
    }

    fn compiled(target: Option<&str>, rules: &[(RuleNumber, &Rule)]) -> Result<Self, RuleError> {
        let mut plan = Self { is_empty: rules.is_empty(), ..Self::default() };
        let mut placed: BTreeMap<(u8, String), Numbered<'_>> = BTreeMap::new();
        let mut paths: Vec<(&Vec<JsonStep>, Numbered<'_>)> = Vec::new();
        for (number, rule) in rules {
            let is_grouped = matches!(
                rule.what,
                What::Kind(Kind::Card | Kind::Iban | Kind::Ssn | Kind::Phone | Kind::NationalId | Kind::PrivateKey)
            );
            let apply = rule.apply_for(target);
            plan.rules.insert(*number, Known { name: rule.name.clone(), keep: rule.keep_last, apply, is_grouped });
            for place in &rule.places {
                match place {
                    Place::Column(name) => placed.entry((0, name.clone())).or_default().push((*number, rule)),
                    Place::Header(name) => placed.entry((1, name.clone())).or_default().push((*number, rule)),
                    Place::Json(path) => match paths.iter_mut().find(|(known, _)| *known == path) {
                        Some((_, rules)) => rules.push((*number, rule)),
                        None => paths.push((path, vec![(*number, rule)])),
                    },
                }
            }
        }
        let everywhere = rules.iter().filter(|(_, rule)| rule.places.is_empty());
        plan.anywhere = Detectors::compile(everywhere.map(|(number, rule)| (*number, *rule)))?;
        for ((kind, name), rules) in placed {
            let place = plan.add(&rules)?;
            let places = if kind == 0 { &mut plan.columns } else { &mut plan.headers };
            places.insert(name, place);
        }
        for (path, rules) in paths {
            let place = plan.add(&rules)?;
            plan.paths.push((path.clone(), place));
        }
        Ok(plan)
    }

    fn add(&mut self, rules: &[(RuleNumber, &Rule)]) -> Result<PlaceId, RuleError> {
        self.places.push(Placed::compile(rules)?);
        Ok(PlaceId(self.places.len() - 1))
    }

    /// The place, where rules are about it.
    pub(super) fn place(&self, place: &Place) -> Option<PlaceId> {
        match place {
            Place::Column(name) => self.columns.get(name).copied(),
            Place::Header(name) => self.headers.get(name).copied(),
            Place::Json(path) => self.paths.iter().find(|(known, _)| known == path).map(|(_, place)| *place),
        }
    }

    pub(super) fn placed(&self, place: PlaceId) -> Option<&Placed> {
        self.places.get(place.0)
    }

    /// Our own detectors as they are where nothing else is said.
    #[must_use]
    pub fn standard() -> Self {
        let rules: Vec<Rule> = Kind::ALL.into_iter().map(Rule::of).filter(|rule| rule.enabled).collect();
        let numbered: Vec<(RuleNumber, &Rule)> = (0..).zip(&rules).collect();
        Self::compile(&numbered).unwrap_or_default()
    }

    /// Whether nothing is hidden.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.is_empty
    }

    /// Whether rules are about columns.
    #[must_use]
    pub fn has_columns(&self) -> bool {
        !self.columns.is_empty()
    }

    /// What is hidden from the client, too; none where nothing is.
    #[must_use]
    pub fn wire(&self) -> Option<&Arc<Self>> {
        self.wire.as_ref()
    }

    /// How many last letters and digits of a value stay that is hidden as a whole.
    pub(super) fn keeps(&self, rule: RuleNumber) -> usize {
        self.rules.get(&rule).map_or(0, |known| known.keep)
    }

    /// Whether a byte of a value is shown because it only groups.
    pub(super) fn shows(&self, rule: RuleNumber, byte: u8) -> bool {
        match byte {
            b'\n' | b'\r' | b'\t' => true,
            b' ' | b'-' | b'.' => self.rules.get(&rule).is_some_and(|known| known.is_grouped),
            _ => false,
        }
    }
}

impl Placed {
    fn compile(rules: &[(RuleNumber, &Rule)]) -> Result<Self, RuleError> {
        let all = rules.iter().find(|(_, rule)| rule.what == What::All).map(|(number, _)| *number);
        let detectors = Detectors::compile(rules.iter().map(|(number, rule)| (*number, *rule)))?;
        Ok(Self { all, detectors })
    }
}

/// What was hidden since it was last told: rules, counts, lengths and keyed digests.
#[derive(Debug)]
pub struct Finds {
    key: DigestKey,
    found: BTreeMap<RuleNumber, (u64, Vec<String>)>,
}

impl Finds {
    /// Nothing yet.
    #[must_use]
    pub fn new(key: &DigestKey) -> Self {
        Self { key: key.clone(), found: BTreeMap::new() }
    }

    /// What digests are made with.
    #[must_use]
    pub fn key(&self) -> &DigestKey {
        &self.key
    }

    /// One value.
    pub(super) fn add(&mut self, plan: &Plan, rule: RuleNumber, value: &[u8]) {
        let (count, values) = self.found.entry(rule).or_default();
        *count += 1;
        if values.len() < REDACTED_VALUES_MAX {
            let Some(known) = plan.rules.get(&rule) else { return };
            // However it is grouped, it is the same value.
            let core: Vec<u8> = value.iter().copied().filter(|byte| !plan.shows(rule, *byte)).collect();
            values.push(format!("{} {} {}", known.name, core.len(), self.key.digest(&core.to_ascii_uppercase())));
        }
    }

    /// Nothing of it will be told.
    pub(super) fn clear(&mut self) {
        self.found.clear();
    }

    /// Whether there is nothing to tell.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// One event for each rule. `reaches` says what becomes of them: whether the client gets what is found.
    pub fn take(&mut self, plan: &Plan, reaches: Reaches) -> Vec<Masked> {
        let found = std::mem::take(&mut self.found);
        let masked = |(rule, (count, values))| {
            let known = plan.rules.get(&rule);
            let apply = known.map_or(Apply::Record, |known| known.apply);
            let apply = if reaches == Reaches::Masked { apply } else { Apply::Record };
            Masked {
                mask: known.map_or_else(String::new, |known| known.name.clone()),
                count,
                values,
                apply,
                best_effort: false,
            }
        };
        found.into_iter().map(masked).collect()
    }
}

/// What the other side gets of what is found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reaches {
    /// All of it, whatever rules say.
    Clear,
    /// What rules let it.
    Masked,
}
