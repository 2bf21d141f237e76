//! `crewtap policy suggest`: the policies under which a run would have passed, to begin with.
//!
//! Permits what was used and nothing beside; what it cannot narrow it says. Never writes a file.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use crewtap_core::action::{Fact, Facts, Verb};
use crewtap_core::target::Resource;
use crewtap_core::verdict::Effect;

use super::recorded::Asked;

/// Values in a list; with more of them it says nothing that a person would read.
const LISTED_MAX: usize = 50;

/// Permits in one suggestion.
const PERMITS_MAX: usize = 1000;

/// For whom, on what, and by what it is told apart from others.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Place {
    resource: Resource,
    verb: usize,
    identity: String,
    /// Facts that must be as they were, as they are written in a condition.
    fixed: Vec<String>,
}

/// What was seen of the facts that may differ.
#[derive(Default, Debug)]
struct Used {
    count: u64,
    name: String,
    sets: BTreeMap<&'static str, BTreeSet<String>>,
    unfiltered: bool,
    unparsed: bool,
}

/// Everything that a run used.
#[derive(Default, Debug)]
pub(super) struct Suggestion {
    used: BTreeMap<Place, Used>,
    refused: u64,
    left_out: u64,
}

impl Suggestion {
    /// Takes what was asked. What was refused is not suggested.
    pub(super) fn take(&mut self, asked: &Asked) {
        if asked.verdict.effect != Effect::Allow {
            self.refused += 1;
            return;
        }
        let (fixed, lists) = shape(asked.verb, &asked.facts, &asked.resource);
        let verb = Verb::ALL.iter().position(|verb| *verb == asked.verb).unwrap_or_default();
        let place = Place { resource: asked.resource.clone(), verb, identity: asked.identity.id.clone(), fixed };
        if !self.used.contains_key(&place) && self.used.len() >= PERMITS_MAX {
            self.left_out += 1;
            return;
        }
        let used = self.used.entry(place).or_default();
        used.count += 1;
        used.name.clone_from(&asked.identity.name);
        used.unfiltered |= asked.facts.get("unfiltered") == Some(&Fact::Bool(true));
        used.unparsed |= asked.facts.values().any(is_unparsed);
        for (name, values) in lists {
            used.sets.entry(name).or_default().extend(values);
        }
    }

    /// The policies, with a comment on each.
    pub(super) fn text(&self, run: &str, files: &str) -> String {
        let mut text = format!(
            "// What run {run} did, as permits. Read each before it comes into force: a run that was led astray suggests\n\
             // what it was led to. Then put them into {files}, and `crewtap policy test --run {run}`\n\
             // says what they would have changed.\n"
        );
        if self.refused > 0 {
            let _ = writeln!(text, "// Left out: {} that a policy had refused or held.", self.refused);
        }
        if self.left_out > 0 {
            let _ = writeln!(text, "// Left out: {} beyond the {PERMITS_MAX} permits that are here.", self.left_out);
        }
        for (number, (place, used)) in self.used.iter().enumerate() {
            permit(&mut text, run, number + 1, place, used);
        }
        text
    }
}

fn is_unparsed(fact: &Fact) -> bool {
    match fact {
        Fact::Text(text) => text == "UNPARSED",
        Fact::Set(texts) => texts.contains("UNPARSED") || texts.contains("*"),
        _ => false,
    }
}

/// Conditions that tell one use from another, and the values that are joined.
fn shape(verb: Verb, facts: &Facts, resource: &Resource) -> (Vec<String>, Vec<(&'static str, BTreeSet<String>)>) {
    let mut fixed = Vec::new();
    let mut lists: Vec<(&'static str, BTreeSet<String>)> = Vec::new();
    let is_catalogued = !resource.tags.iter().any(|tag| tag == Resource::UNCATALOGUED);
    let named = text(facts, "host").is_some_and(|host| !host.is_empty());
    if named && (!is_catalogued || matches!(verb, Verb::HttpRequest | Verb::LlmCall)) {
        fixed.extend(equals("host", facts));
        lists.push(("proof", values(facts, "proof")));
    }
    if named && !is_catalogued {
        fixed.extend(equals("port", facts));
    }
    match verb {
        Verb::Connect | Verb::Shell => {}
        Verb::Resolve => lists.push(("name", values(facts, "name"))),
        Verb::Query => {
            // What was done to one table was not done to every other.
            fixed.extend(condition("kinds", &values(facts, "kinds")));
            fixed.extend(equals("database", facts));
            lists.extend([("tables", values(facts, "tables")), ("functions", values(facts, "functions"))]);
        }
        Verb::HttpRequest => {
            fixed.extend(equals("method", facts));
            lists.push(("path", values(facts, "path")));
        }
        Verb::LlmCall => lists.extend([("model", values(facts, "model")), ("tools", values(facts, "tools"))]),
        Verb::Exec => lists.push(("command", values(facts, "command"))),
        Verb::ReadFile | Verb::WriteFile => lists.push(("path", values(facts, "path"))),
        Verb::Forward => {
            fixed.extend(equals("to_port", facts));
            lists.push(("to_host", values(facts, "to_host")));
        }
    }
    (fixed, lists)
}

fn text<'f>(facts: &'f Facts, name: &str) -> Option<&'f str> {
    match facts.get(name) {
        Some(Fact::Text(text)) => Some(text),
        _ => None,
    }
}

fn equals(name: &str, facts: &Facts) -> Option<String> {
    match facts.get(name)? {
        Fact::Text(text) => Some(format!("context.{name} == {}", quoted(text))),
        Fact::Int(number) => Some(format!("context.{name} == {number}")),
        Fact::Bool(_) | Fact::Set(_) => None,
    }
}

fn values(facts: &Facts, name: &str) -> BTreeSet<String> {
    match facts.get(name) {
        Some(Fact::Text(text)) => BTreeSet::from([text.clone()]),
        Some(Fact::Set(texts)) => texts.clone(),
        _ => BTreeSet::new(),
    }
}

/// Facts that are sets themselves.
const SETS: [&str; 4] = ["kinds", "tables", "functions", "tools"];

fn permit(text: &mut String, run: &str, number: usize, place: &Place, used: &Used) {
    let verb = Verb::ALL.get(place.verb).copied().unwrap_or(Verb::Connect);
    let mut conditions = place.fixed.clone();
    let mut remarks = Vec::new();
    for (name, values) in &used.sets {
        match condition(name, values) {
            Some(condition) => conditions.push(condition),
            None => remarks.push(format!("{} different values of {name}: it is not narrowed by them", values.len())),
        }
    }
    if verb == Verb::Query && !used.unfiltered {
        conditions.push("!context.unfiltered".into());
    }
    if used.unfiltered {
        remarks.push("a DELETE or UPDATE that could meet every row was among them: hold those with @approval".into());
    }
    if used.unparsed {
        remarks.push("some of it was not understood, and may be anything: this permits as much".into());
    }
    if let Some(set) = used.sets.get("proof").filter(|proofs| proofs.contains("claimed") || proofs.contains("none")) {
        let _ = set;
        remarks.push("the name was merely claimed: it proves nothing, and another host may use it".into());
    }
    let times = if used.count == 1 { "once".to_owned() } else { format!("{} times", used.count) };
    let _ = write!(text, "\n// {} by {}, {times}", verb.as_str(), commented(&used.name));
    for remark in remarks {
        let _ = write!(text, "\n// NOTE: {remark}");
    }
    let _ = write!(
        text,
        "\n@id({})\npermit (\n    principal == Identity::{},\n    action == Action::\"{}\",\n    resource{}\n)",
        quoted(&format!("{}-{}-{number}", run.to_ascii_lowercase(), verb.as_str())),
        quoted(&place.identity),
        verb.as_str(),
        target(&place.resource, verb, &conditions),
    );
    if conditions.is_empty() {
        text.push_str(";\n");
    } else {
        let _ = writeln!(text, "\nwhen\n{{\n    {}\n}};", conditions.join(" &&\n    "));
    }
}

/// By its name; an uncatalogued one by the name of its host, where it has one, because its address may be another tomorrow.
fn target(resource: &Resource, verb: Verb, conditions: &[String]) -> String {
    let is_catalogued = !resource.tags.iter().any(|tag| tag == Resource::UNCATALOGUED);
    let by_host = conditions.iter().any(|condition| condition.starts_with("context.host =="));
    if !is_catalogued && (by_host || verb == Verb::Resolve) {
        format!(" in Tag::{}", quoted(Resource::UNCATALOGUED))
    } else {
        format!(" == Target::{}", quoted(&resource.id))
    }
}

fn condition(name: &str, values: &BTreeSet<String>) -> Option<String> {
    if values.len() > LISTED_MAX {
        return None;
    }
    let listed: Vec<String> = values.iter().map(|value| quoted(value)).collect();
    Some(match listed.as_slice() {
        [] if SETS.contains(&name) => format!("context.{name}.isEmpty()"),
        _ if SETS.contains(&name) => format!("[{}].containsAll(context.{name})", listed.join(", ")),
        [] => return None,
        [only] => format!("context.{name} == {only}"),
        _ => format!("[{}].contains(context.{name})", listed.join(", ")),
    })
}

/// As a text of Cedar; what was recorded may hold anything.
fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for letter in text.chars() {
        match letter {
            '"' | '\\' => quoted.extend(['\\', letter]),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            letter if crate::cli::screen::is_unsafe(letter) => {
                let _ = write!(quoted, "\\u{{{:x}}}", u32::from(letter));
            }
            letter => quoted.push(letter),
        }
    }
    quoted.push('"');
    quoted
}

/// Within a comment, which ends with its line.
fn commented(text: &str) -> String {
    crate::cli::screen::safe(text).replace(['\n', '\r'], " ")
}
