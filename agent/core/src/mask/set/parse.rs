//! `masks.toml` -> [`Masks`]. Refuses what it does not know and what can never fire, names the line, and tells all of it at
//! once.

use super::super::detect::Detectors;
use super::super::rule::{Apply, Check, Kind, Place, Rule, RuleNumber, What};
use super::{File, Flaw, MaskFault, Masks, RULES_MAX, Said, pattern};
use crate::policy::catalog::word;
use crate::policy::keys::{self, Fault, Key, Value, in_order, one_of, table, text, texts, unknown};

/// Keys of a mask.
const KEYS: [&str; 9] = ["enabled", "regex", "check", "where", "apply", "wire_targets", "keep_last", "targets", "tags"];

/// Most characters that may stay readable: an account of which more is shown is shown.
const KEEP_LAST_MAX: usize = 16;

/// How alike two names are of which one is taken for a slip of the other.
const ALIKE: f64 = 0.85;

/// What has been read.
#[derive(Default)]
struct Reading {
    /// Rules of the file, and the bytes of their names.
    rules: Vec<(Rule, Said)>,
    faults: Vec<Fault>,
}

/// What only a rule of the user has.
#[derive(Default)]
struct Own<'t, 'v> {
    regex: Option<(&'v str, &'v Value<'t>)>,
    check: Option<(Check, &'v Value<'t>)>,
}

impl Masks {
    /// The masks that `text` says.
    ///
    /// # Errors
    /// When it has an unknown key, an impossible value, or a rule that can never fire; all of them are told.
    pub fn parse(text: &str) -> Result<Self, MaskFault> {
        let fault = |faults: &[Fault]| {
            let flaw = |fault: &Fault| Flaw { file: File::Masks, line: fault.line(text), what: fault.what.clone() };
            MaskFault { flaws: faults.iter().map(flaw).collect() }
        };
        let top = keys::parse(text).map_err(|broken| fault(&[broken]))?;
        let mut reading = Reading::default();
        for (key, value) in in_order(top.get_ref()) {
            if key.get_ref() != "mask" {
                reading.faults.push(Fault { at: key.span(), what: unknown(key.get_ref(), &["mask"]) });
                continue;
            }
            match table("mask", value) {
                Ok(masks) => in_order(masks).into_iter().for_each(|(name, value)| reading.take(name, value, text)),
                Err(wrong) => reading.faults.push(wrong),
            }
        }
        let Reading { rules: read, mut faults } = reading;
        if read.len() > RULES_MAX {
            faults.push(Fault { at: 0..0, what: format!("more than {RULES_MAX} masks: put some together") });
        }
        faults.sort_by_key(|fault| fault.at.start);
        if !faults.is_empty() {
            return Err(fault(&faults));
        }
        // Each alone has been compiled; all of them together may still be too much.
        let numbered = (0..).zip(read.iter().map(|(rule, _)| rule));
        Detectors::compile(numbered).map_err(|error| fault(&[Fault { at: 0..0, what: error.to_string() }]))?;
        let is_read = |rule: &Rule| read.iter().any(|(one, _)| one.name == rule.name);
        let ours = Kind::ALL.into_iter().map(Rule::of).filter(|rule| !is_read(rule));
        let (rules, said) = ours.map(|rule| (rule, Said::default())).chain(read.iter().cloned()).unzip();
        Ok(Self { rules, said })
    }
}

impl Reading {
    /// Takes one table.
    fn take(&mut self, name: &Key<'_>, value: &Value<'_>, text: &str) {
        let before = self.faults.len();
        let line = |fault: Fault| fault.line(text);
        let mut said = Said { table: line(Fault { at: name.span(), what: String::new() }), ..Said::default() };
        let mut own = Own::default();
        let kind = Kind::ALL.into_iter().find(|kind| kind.as_str() == name.get_ref());
        let mut rule = match kind {
            Some(kind) => Rule::of(kind),
            None => match word(name.get_ref()) {
                Ok(name) => of_user(name),
                Err(what) => return self.faults.push(Fault { at: name.span(), what: format!("[mask.NAME]: {what}") }),
            },
        };
        let keys = match table(&rule.name, value) {
            Ok(keys) => in_order(keys),
            Err(fault) => return self.faults.push(fault),
        };
        for (key, value) in keys {
            match key.get_ref().as_ref() {
                "enabled" => said.enabled = line(Fault::of(value, "")),
                "targets" => said.targets = line(Fault::of(value, "")),
                "tags" => said.tags = line(Fault::of(value, "")),
                "wire_targets" => said.wire_targets = line(Fault::of(value, "")),
                _ => {}
            }
            self.faults.extend(set(&mut rule, &mut own, key, value).err());
        }
        // What follows from a slip is no second one, but the name may be one besides.
        if self.faults.len() > before {
            let is_slip =
                kind.is_none() && own.regex.is_none() && rule.places.is_empty() && meant(&rule.name).is_some();
            return self.faults.extend(is_slip.then(|| finish(&mut rule, &own, name).err()).flatten());
        }
        if rule.apply == Apply::Record && !rule.wire_targets.is_empty() {
            let what = format!("`wire_targets` of [mask.{}] says nothing without `apply = \"wire\"`", rule.name);
            return self.faults.push(Fault { at: name.span(), what });
        }
        let finished = if kind.is_some() { Ok(()) } else { finish(&mut rule, &own, name) };
        match finished.and_then(|()| self.refuse_dead(&rule, &own, name)) {
            Ok(()) => self.rules.push((rule, said)),
            Err(fault) => self.faults.push(fault),
        }
    }

    /// A rule that can never fire is a mistake: what it is meant to hide would not be.
    fn refuse_dead(&self, rule: &Rule, own: &Own<'_, '_>, name: &Key<'_>) -> Result<(), Fault> {
        let at = || own.regex.map_or(name.span(), |(_, value)| value.span());
        if let What::Pattern { regex, check } = &rule.what {
            pattern::refuse(regex, *check).map_err(|what| Fault { at: at(), what })?;
        }
        let number = RuleNumber::try_from(self.rules.len()).unwrap_or(RuleNumber::MAX);
        Detectors::compile([(number, rule)]).map_err(|error| Fault { at: at(), what: error.to_string() })?;
        let same = |other: &Rule| {
            (&other.what, &other.places, &other.targets, &other.tags, other.enabled)
                == (&rule.what, &rule.places, &rule.targets, &rule.tags, rule.enabled)
        };
        match self.rules.iter().find(|(other, _)| same(other)) {
            Some((other, _)) => {
                let what =
                    format!("[mask.{}] can never fire: [mask.{}] before it looks for the same", rule.name, other.name);
                Err(Fault { at: name.span(), what })
            }
            None => Ok(()),
        }
    }
}

fn of_user(name: String) -> Rule {
    Rule {
        name,
        what: What::All,
        places: Vec::new(),
        apply: Apply::Record,
        wire_targets: Vec::new(),
        keep_last: 0,
        enabled: true,
        targets: Vec::new(),
        tags: Vec::new(),
    }
}

fn set<'t, 'v>(rule: &mut Rule, own: &mut Own<'t, 'v>, key: &Key<'_>, value: &'v Value<'t>) -> Result<(), Fault> {
    let name: &str = key.get_ref().as_ref();
    if matches!((name, &rule.what), ("regex" | "check", What::Kind(_))) {
        let what =
            format!("[mask.{}] is a detector of ours and has no `{name}`: give your rule another name", rule.name);
        return Err(Fault { at: key.span(), what });
    }
    match name {
        "enabled" => rule.enabled = boolean(value)?,
        "regex" => own.regex = Some((text("regex", value)?, value)),
        "check" => {
            let check = one_of("check", value, &[("luhn", Check::Luhn), ("mod97", Check::Mod97)])?;
            own.check = Some((check, value));
        }
        "where" => rule.places = listed("where", value, Place::parse)?,
        "apply" => rule.apply = one_of("apply", value, &[("record", Apply::Record), ("wire", Apply::Wire)])?,
        "wire_targets" => rule.wire_targets = listed("wire_targets", value, word)?,
        "keep_last" => rule.keep_last = keep_last(value)?,
        "targets" => rule.targets = listed("targets", value, word)?,
        "tags" => rule.tags = listed("tags", value, word)?,
        other => return Err(Fault { at: key.span(), what: unknown(other, &KEYS) }),
    }
    Ok(())
}

/// What a rule of the user looks for, once all keys are known.
fn finish(rule: &mut Rule, own: &Own<'_, '_>, name: &Key<'_>) -> Result<(), Fault> {
    rule.what = match (own.regex, own.check) {
        (Some((regex, _)), check) => What::Pattern { regex: regex.to_owned(), check: check.map(|(check, _)| check) },
        (None, Some((_, value))) => return Err(Fault::of(value, "`check` is for what a `regex` finds: give one")),
        (None, None) if !rule.places.is_empty() => What::All,
        (None, None) => {
            let what = format!("[mask.{}] needs a `regex`, or `where`: all of that field is hidden then", rule.name);
            let what = meant(&rule.name).map_or(what.clone(), |kind| format!("{what}; or did you mean [mask.{kind}]?"));
            return Err(Fault { at: name.span(), what });
        }
    };
    Ok(())
}

/// The detector of ours that a name without anything to look for was likely meant to be.
fn meant(name: &str) -> Option<&'static str> {
    let name = name.to_ascii_lowercase().replace('_', "-");
    let alike = |kind: &Kind| strsim::jaro_winkler(kind.as_str(), &name);
    let nearest = Kind::ALL.into_iter().max_by(|a, b| alike(a).total_cmp(&alike(b)))?;
    (alike(&nearest) >= ALIKE).then_some(nearest.as_str())
}

fn boolean(value: &Value<'_>) -> Result<bool, Fault> {
    let what = || format!("`enabled` must be true or false, not of type {}", value.get_ref().type_str());
    value.get_ref().as_bool().ok_or_else(|| Fault::of(value, what()))
}

fn keep_last(value: &Value<'_>) -> Result<usize, Fault> {
    let number = value.get_ref().as_integer().and_then(|n| usize::from_str_radix(n.as_str(), n.radix()).ok());
    let what = format!("`keep_last` must be a number from 0 to {KEEP_LAST_MAX}: more would show what is to be hidden");
    number.filter(|number| *number <= KEEP_LAST_MAX).ok_or_else(|| Fault::of(value, what))
}

/// A list that says something, and nothing twice.
fn listed<T: PartialEq>(
    key: &str,
    value: &Value<'_>,
    mut meaning: impl FnMut(&str) -> Result<T, String>,
) -> Result<Vec<T>, Fault> {
    let mut list: Vec<T> = Vec::new();
    texts(key, value, |text| {
        let one = meaning(text)?;
        if list.contains(&one) {
            return Err(format!("\"{text}\" stands there twice"));
        }
        list.push(one);
        Ok(())
    })?;
    if list.is_empty() {
        return Err(Fault::of(value, format!("`{key}` is empty: leave it out, or name something")));
    }
    Ok(list)
}
