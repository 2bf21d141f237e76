//! `crewtap policy explain`: what policy said of an exchange or a session, which policies decided, and what each of them saw.

use crewtap_core::action::{Fact, Facts, Verb};
use crewtap_core::bodies::{Decided, RunStarted, SessionOpened};
use crewtap_core::event::Body;
use crewtap_core::identity::Identity;
use crewtap_core::policy::rules::{Rule, Rules, Seen};
use crewtap_core::run::Mode;
use crewtap_core::verdict::Effect;
use serde::Serialize;

use super::{mode, spelled};
use crate::cli::screen::{Screen, Style, safe, short};
use crate::cli::store::Store;
use crate::index::{Exchange, Session};

/// Characters of a fact's value in a line.
const VALUE_CHARS: usize = 160;

/// Permits that came near, at most.
const NEAR_MAX: usize = 20;

/// One decision of `--json`.
#[derive(Serialize)]
struct Told<'t> {
    at_ns: i64,
    session: &'t str,
    n: Option<i64>,
    decided: &'t Decided,
    /// What today's policies say of it; none where they cannot be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    today: Option<Today<'t>>,
}

#[derive(Serialize)]
struct Today<'t> {
    effect: &'static str,
    policies: Vec<String>,
    errors: Vec<String>,
    seen: Vec<One<'t>>,
}

/// One policy within reach.
#[derive(Serialize)]
struct One<'t> {
    id: &'t str,
    file: &'t str,
    line: usize,
    effect: &'static str,
    /// Whether its conditions held; none where it could not be evaluated.
    held: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    facts: Facts,
}

/// Prints every decision of a session, or of one exchange of it; whether there was one.
///
/// # Errors
/// When the store fails or nothing can be printed.
pub(super) fn print(
    store: &Store,
    session: &Session,
    exchange: Option<&Exchange>,
    rules: Result<&Rules, &str>,
    screen: &mut Screen,
) -> anyhow::Result<bool> {
    let decisions = store.index.decisions_of_session(&session.id)?;
    let wanted = |n: Option<i64>| exchange.is_none_or(|exchange| n == Some(exchange.n));
    let identity = identity(store, session);
    let mut found = false;
    for decision in decisions.into_iter().filter(|decision| wanted(decision.n)) {
        let record = store.record(decision.leaf).map_err(anyhow::Error::msg)?;
        let Body::Decided(decided) = record.event.body else { continue };
        if found && !screen.json {
            screen.line("")?;
        }
        found = true;
        let place = (decision.at_ns, session.id.as_str(), decision.n);
        if screen.json {
            json(place, &decided, &identity, rules, screen)?;
        } else {
            one(place, &decided, &identity, rules, screen)?;
        }
    }
    if !found {
        let what = exchange.map_or("session", |_| "exchange");
        eprintln!("crewtap: no policy was asked for this {what}: it passed in mode record, or never came so far");
    }
    Ok(found)
}

/// Whose session it is, with the groups.
fn identity(store: &Store, session: &Session) -> Identity {
    match store.record(session.leaf).map(|record| record.event.body) {
        Ok(Body::SessionOpened(SessionOpened { identity, .. }) | Body::RunStarted(RunStarted { identity, .. })) => {
            identity
        }
        _ => Identity::unknown(),
    }
}

fn json(
    (at_ns, session, n): (i64, &str, Option<i64>),
    decided: &Decided,
    identity: &Identity,
    rules: Result<&Rules, &str>,
    screen: &mut Screen,
) -> anyhow::Result<()> {
    let scope = rules.ok().map(|rules| rules.scope(identity, &decided.resource));
    let verb = Verb::named(&decided.verb);
    let today = scope.as_ref().zip(verb).map(|(scope, verb)| {
        let verdict = scope.judge(verb, &decided.facts);
        let seen = scope.explain(verb, &decided.facts).into_iter().map(|seen| One {
            id: seen.rule.id(),
            file: seen.rule.file(),
            line: seen.rule.line(),
            effect: kind(seen.rule),
            held: seen.held.as_ref().ok().copied(),
            facts: looked_at(seen.rule, &decided.facts),
            error: seen.held.err(),
        });
        let seen = seen.collect();
        Today { effect: spelled(verdict.effect), policies: verdict.policies, errors: verdict.errors, seen }
    });
    screen.json(&Told { at_ns, session, n, decided, today })?;
    Ok(())
}

fn one(
    (at_ns, session, n): (i64, &str, Option<i64>),
    decided: &Decided,
    identity: &Identity,
    rules: Result<&Rules, &str>,
    screen: &mut Screen,
) -> anyhow::Result<()> {
    let verdict = &decided.verdict;
    let place = n.map_or_else(|| session.to_owned(), |n| format!("{session}.{n}"));
    let style = if verdict.effect == Effect::Allow { Style::Heading } else { Style::Alarm };
    let heading =
        format!("{}  {place}  {} {}", screen.time(Some(at_ns)), decided.verb, short(&decided.subject, VALUE_CHARS));
    screen.line(&screen.styled(&heading, Style::Heading))?;
    let said = screen.styled(spelled(verdict.effect), style);
    screen.line(&format!("verdict   {said} in mode {}{}", mode(decided.mode), consequence(decided)))?;
    let groups = if identity.groups.is_empty() { String::new() } else { format!(" in {}", identity.groups.join(", ")) };
    screen.line(&format!("for       {} ({}){}", safe(&identity.id), safe(&identity.name), safe(&groups)))?;
    let tags = if decided.resource.tags.is_empty() {
        String::new()
    } else {
        format!(" in {}", decided.resource.tags.join(", "))
    };
    screen.line(&format!("on        {}{}", safe(&decided.resource.id), safe(&tags)))?;
    if let Some(id) = &decided.overridden {
        screen.line(&screen.styled(&format!("OVERRIDDEN by {}", safe(id)), Style::Alarm))?;
    }
    for error in &verdict.errors {
        screen.line(&screen.styled(&format!("error     {}", safe(error)), Style::Alarm))?;
    }
    let by = match (verdict.policies.as_slice(), decided.mode) {
        ([], Mode::Record) => "nobody: everything passes in mode record".to_owned(),
        ([], _) => "no policy: what none permits is denied".to_owned(),
        (policies, _) => policies.join(", "),
    };
    screen.line(&format!("decided   by {}", safe(&by)))?;
    match rules {
        Ok(rules) => today(decided, identity, rules, screen),
        Err(why) => Ok(screen.line(&format!("the policies cannot be shown: {}", safe(why)))?),
    }
}

fn consequence(decided: &Decided) -> &'static str {
    match (decided.verdict.effect, decided.mode) {
        (Effect::Allow, _) | (Effect::Deny, Mode::Enforce) => "",
        (_, Mode::Record | Mode::Shadow) => ": it passed all the same",
        (Effect::Ask, Mode::Enforce) => ": it was held for a person",
    }
}

/// The policies of today on what was recorded.
fn today(decided: &Decided, identity: &Identity, rules: &Rules, screen: &mut Screen) -> anyhow::Result<()> {
    let Some(verb) = Verb::named(&decided.verb) else { return Ok(()) };
    let scope = rules.scope(identity, &decided.resource);
    let verdict = scope.judge(verb, &decided.facts);
    let asked = !(decided.mode == Mode::Record && decided.verdict.policies.is_empty());
    if asked && (verdict.effect, &verdict.policies) != (decided.verdict.effect, &decided.verdict.policies) {
        let now = format!("the policies were others then: today they say {}", spelled(verdict.effect));
        screen.line(&screen.styled(&now, Style::Alarm))?;
    }
    for gone in decided.verdict.policies.iter().filter(|id| rules.get(id).is_none()) {
        screen.line(&format!("{} is no policy of today", safe(gone)))?;
    }
    let seen = scope.explain(verb, &decided.facts);
    let (decisive, others): (Vec<&Seen<'_>>, Vec<&Seen<'_>>) =
        seen.iter().partition(|seen| verdict.policies.iter().any(|id| id == seen.rule.id()));
    for seen in decisive {
        policy(seen, &decided.facts, true, screen)?;
    }
    if verdict.effect == Effect::Allow {
        return Ok(());
    }
    let near: Vec<&Seen<'_>> = others.into_iter().filter(|seen| seen.rule.permits()).collect();
    if near.is_empty() && verdict.policies.is_empty() {
        screen.line(&format!("no permit is for this identity, this target and {}", verb.as_str()))?;
    }
    for seen in near.iter().take(NEAR_MAX) {
        policy(seen, &decided.facts, false, screen)?;
    }
    if near.len() > NEAR_MAX {
        screen.line(&format!("… and {} more permits", near.len() - NEAR_MAX))?;
    }
    Ok(())
}

fn policy(seen: &Seen<'_>, facts: &Facts, decisive: bool, screen: &mut Screen) -> anyhow::Result<()> {
    let rule = seen.rule;
    let held = match &seen.held {
        Ok(true) => "it applied".to_owned(),
        Ok(false) => "its conditions did not hold".to_owned(),
        Err(why) => format!("it could not be evaluated: {why}"),
    };
    let heading = format!("{} {} ({}:{}): {held}", kind(rule), rule.id(), rule.file(), rule.line());
    screen.line("")?;
    screen.line(&screen.styled(&safe(&heading), if decisive { Style::Heading } else { Style::Faint }))?;
    for line in rule.text().lines() {
        screen.line(&format!("  | {}", safe(line)))?;
    }
    for (name, fact) in looked_at(rule, facts) {
        screen.line(&format!("  {name} = {}", short(&value(&fact), VALUE_CHARS)))?;
    }
    if let Some(missing) =
        rule.looks_at().map(|names| names.filter(|name| !facts.contains_key(*name) && *name != "approved"))
    {
        for name in missing {
            screen.line(&format!("  {} was not known", safe(name)))?;
        }
    }
    Ok(())
}

fn kind(rule: &Rule) -> &'static str {
    match (rule.permits(), rule.asks()) {
        (true, _) => "permit",
        (false, true) => "forbid with approval",
        (false, false) => "forbid",
    }
}

fn looked_at(rule: &Rule, facts: &Facts) -> Facts {
    match rule.looks_at() {
        Some(names) => names.filter_map(|name| Some((name.to_owned(), facts.get(name)?.clone()))).collect(),
        None => facts.clone(),
    }
}

fn value(fact: &Fact) -> String {
    match fact {
        Fact::Bool(value) => value.to_string(),
        Fact::Int(number) => number.to_string(),
        Fact::Text(text) => format!("\"{text}\""),
        Fact::Set(texts) => {
            format!("[{}]", texts.iter().map(|text| format!("\"{text}\"")).collect::<Vec<_>>().join(", "))
        }
    }
}
