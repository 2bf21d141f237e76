//! What a client sets with its first packet: what `SET` would do, before there is a statement.
//!
//! Owns telling it as facts, like a statement's. Never decides.

use std::collections::BTreeSet;

use crewtap_core::action::{Action, Fact, Facts, Verb};
use crewtap_core::limits::{FACT_TEXT_MAX, POSTGRES_TEXT_FACT_MAX};
use crewtap_core::wire::postgres::facts::{self, Reading, Told, UNPARSED};
use crewtap_core::wire::postgres::startup::Startup;

/// What says who comes and in which form he speaks, which is not judged here: user and database are the connection's facts.
const PLAIN: &[&str] = &[
    "user",
    "database",
    "application_name",
    "client_encoding",
    "replication",
    "datestyle",
    "timezone",
    "extra_float_digits",
];

/// `options`, which has settings of its own.
const OPTIONS: &str = "options";

/// Name and value of everything that the packet has but for the user and the database.
pub(super) fn all(startup: &Startup<'_>) -> Option<Fact> {
    let text = |text: &[u8]| String::from_utf8_lossy(text.get(..FACT_TEXT_MAX).unwrap_or(text)).into_owned();
    let others = startup.settings.iter().filter(|(name, _)| !matches!(&**name, b"user" | b"database"));
    let told: BTreeSet<String> = others.map(|(name, value)| format!("{}={}", text(name), text(value))).collect();
    (!told.is_empty()).then_some(Fact::Set(told))
}

/// The action of setting what a policy may care for, and all of it as a text, where it is understood; none where there is no
/// such thing.
pub(super) fn action(startup: &Startup<'_>, login: &Facts) -> Option<(Action, Option<String>)> {
    let set = told(startup)?;
    let sql = set.as_deref().map(statements);
    let told = sql.as_ref().map_or_else(Told::unparsed, |sql| {
        facts::statement(sql.as_bytes(), Reading { standard_strings: Some(true), utf8: true })
    });
    let text = sql.as_deref().filter(|sql| sql.len() <= POSTGRES_TEXT_FACT_MAX).unwrap_or(UNPARSED);
    let subject = format!("at log-in: {}", text.get(..text.floor_char_boundary(FACT_TEXT_MAX)).unwrap_or_default());
    let mut facts = login.clone();
    facts.extend(told.into_facts(text));
    Some((Action { verb: Verb::Query, subject, facts }, sql))
}

/// Names and values; within it none where they are not understood.
#[allow(clippy::option_option, reason = "there is nothing, or it is not understood")]
fn told(startup: &Startup<'_>) -> Option<Option<Vec<(String, String)>>> {
    let mut set = Vec::new();
    for (name, value) in &startup.settings {
        let (Ok(name), Ok(value)) = (str::from_utf8(name), str::from_utf8(value)) else { return Some(None) };
        // Options of the protocol itself, which set nothing.
        if name.starts_with("_pq_.") || PLAIN.iter().any(|plain| name.eq_ignore_ascii_case(plain)) {
            continue;
        }
        if name == OPTIONS {
            let Some(options) = options(value) else { return Some(None) };
            set.extend(options);
        } else {
            set.push((name.to_owned(), value.to_owned()));
        }
    }
    (!set.is_empty()).then_some(Some(set))
}

/// `-c name=value`, `-cname=value` and `--name=value`, the forms that drivers write; none for anything else.
fn options(text: &str) -> Option<Vec<(String, String)>> {
    // The server knows one blank more than this does, and perhaps others in its language.
    if text.bytes().any(|byte| !matches!(byte, b' '..=b'~' | b'\t' | b'\n' | b'\r' | 0x0c)) {
        return None;
    }
    let mut words = text.split_ascii_whitespace();
    let mut set = Vec::new();
    while let Some(word) = words.next() {
        let pair = match word.strip_prefix("--") {
            Some(pair) => pair,
            None if word == "-c" => words.next()?,
            None => word.strip_prefix("-c")?,
        };
        let (name, value) = pair.split_once('=')?;
        // A backslash takes the next letter as it is: then a word can have a blank in it.
        if pair.contains('\\') {
            return None;
        }
        set.push((name.replace('-', "_"), value.to_owned()));
    }
    Some(set)
}

/// The same as a text.
fn statements(set: &[(String, String)]) -> String {
    let statement = |(name, value): &(String, String)| {
        // A name in its quotes is that name, whatever it is.
        let name =
            name.split('.').map(|part| format!("\"{}\"", part.replace('"', "\"\""))).collect::<Vec<_>>().join(".");
        format!("SET {name} = '{}'", value.replace('\'', "''"))
    };
    set.iter().map(statement).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn action(settings: &[(&str, &str)]) -> Option<(Fact, Fact)> {
        let pair = |(name, value): &(&str, &str)| (name.as_bytes().to_vec().into(), value.as_bytes().to_vec().into());
        let startup = Startup { version: 0x0003_0000, settings: settings.iter().map(pair).collect() };
        let (action, _) = super::action(&startup, &Facts::new())?;
        Some((action.facts["kinds"].clone(), action.facts["text"].clone()))
    }

    fn kinds(settings: &[(&str, &str)]) -> Vec<String> {
        let Some((Fact::Set(kinds), _)) = action(settings) else { return Vec::new() };
        kinds.into_iter().collect()
    }

    #[test]
    fn what_a_log_in_sets_is_told_as_a_statement_is() {
        let plain = [("user", "a"), ("DateStyle", "ISO"), ("TimeZone", "UTC"), ("_pq_.x", "1"), ("options", " ")];
        assert!(action(&plain).is_none());
        assert_eq!(kinds(&[("search_path", "evil")]), ["SET"]);
        assert_eq!(kinds(&[("role", "admin")]), ["SET", "SET_ROLE"]);
        assert_eq!(kinds(&[("Session_Authorization", "admin")]), ["SET", "SET_ROLE"]);
        assert_eq!(kinds(&[("options", "-c statement_timeout=5s --lock-timeout=1")]), ["SET"]);
        assert_eq!(kinds(&[("options", "-crole=admin")]), ["SET", "SET_ROLE"]);
        for options in [
            "-c geqo=on\x0b-c\x0brole=admin",
            "-c a=\u{a0}-crole=b",
            r"-c role\=x",
            r"-c a=b\ -c\ role=x",
            "-B 3",
            "-c",
            "x",
        ] {
            assert_eq!(kinds(&[("options", options)]), ["UNPARSED"], "{options}");
        }
        assert_eq!(kinds(&[("a b\"; DROP TABLE x", "'; DROP TABLE y")]), ["SET"]);
        let (_, text) = action(&[("search_path", "a'b"), ("my.name", "c")]).unwrap();
        assert_eq!(text, Fact::Text("SET \"search_path\" = 'a''b'; SET \"my\".\"name\" = 'c'".into()));
    }
}
