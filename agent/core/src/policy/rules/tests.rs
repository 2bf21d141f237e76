//! Rules, from their text to a verdict.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod lines;
mod properties;
mod samples;
mod verdicts;
mod warned;

use super::*;
use crate::action::{Fact, Facts, Verb};
use crate::verdict::{Effect, Verdict};

fn rules(text: &str) -> Rules {
    Rules::parse(&[("a.cedar".to_owned(), text.to_owned())]).unwrap_or_else(|faults| panic!("{faults:?}"))
}

fn faults(text: &str) -> Vec<String> {
    let parsed = Rules::parse(&[("a.cedar".to_owned(), text.to_owned())]);
    parsed.unwrap_err().iter().map(ToString::to_string).collect()
}

fn alice() -> Identity {
    let groups = vec!["os:crew".to_owned(), "os:users".to_owned()].into();
    Identity { id: "os:1000".into(), name: "alice".into(), groups, ..Identity::unknown() }
}

fn orders() -> Resource {
    Resource { id: "orders-db".into(), tags: vec!["pci".into(), "prod".into()] }
}

fn text(text: &str) -> Fact {
    Fact::Text(text.into())
}

fn set(texts: &[&str]) -> Fact {
    Fact::Set(texts.iter().map(|text| (*text).to_owned()).collect())
}

/// Facts of each verb, as a session asks with them.
fn facts(verb: Verb) -> Facts {
    let mut facts: Vec<(&str, Fact)> = vec![
        ("address", text("10.1.2.3")),
        ("port", Fact::Int(5432)),
        ("host", text("orders.internal")),
        ("proof", text("dns")),
        ("hour", Fact::Int(10)),
        ("weekday", text("tuesday")),
    ];
    let http = [
        ("method", text("GET")),
        ("path", text("/v1/orders")),
        ("raw_path", text("/v1/orders")),
        ("query", text("page=2")),
        ("content_type", text("application/json")),
    ];
    match verb {
        Verb::Connect => facts.push(("protocol", text("postgres"))),
        Verb::Resolve => facts.extend([("name", text("orders.internal")), ("record", text("A"))]),
        Verb::Query => facts.extend([
            ("kinds", set(&["SELECT"])),
            ("tables", set(&["orders"])),
            ("functions", set(&["count"])),
            ("unfiltered", Fact::Bool(false)),
            ("parsed", Fact::Bool(true)),
            ("text", text("SELECT count(*) FROM orders")),
            ("user", text("crew")),
            ("database", text("orders")),
        ]),
        Verb::Exec | Verb::Shell => facts.extend([("command", text("ls -l")), ("argv", set(&["ls", "-l"]))]),
        Verb::ReadFile | Verb::WriteFile => facts.push(("path", text("/etc/passwd"))),
        Verb::Forward => facts.extend([("to_host", text("10.0.0.9")), ("to_port", Fact::Int(22))]),
        Verb::HttpRequest => facts.extend(http),
        Verb::LlmCall => {
            facts.extend(http);
            facts.extend([("model", text("gpt-5")), ("tools", set(&["search"]))]);
        }
    }
    facts.into_iter().map(|(name, fact)| (name.to_owned(), fact)).collect()
}

fn judge(policies: &str, verb: Verb, facts: &Facts) -> Verdict {
    rules(policies).scope(&alice(), &orders()).judge(verb, facts)
}

#[test]
fn the_schema_and_the_table_say_the_same() {
    use super::table::{Kind, Missing};
    let (fragment, warnings) = cedar_policy::SchemaFragment::from_cedarschema_str(SCHEMA).unwrap();
    assert_eq!(warnings.count(), 0);
    let schema = fragment.to_json_value().unwrap();
    let actions = schema[""]["actions"].as_object().unwrap();
    assert_eq!(actions.len(), Verb::ALL.len());
    for verb in Verb::ALL {
        let applies = &actions[verb.as_str()]["appliesTo"];
        assert_eq!(applies["principalTypes"], serde_json::json!(["Identity"]));
        assert_eq!(applies["resourceTypes"], serde_json::json!(["Target"]));
        let told = applies["context"]["attributes"].as_object().unwrap();
        let mut names: Vec<&str> = super::table::attributes(verb).map(|attribute| attribute.name).collect();
        names.sort_unstable();
        assert_eq!(told.keys().map(String::as_str).collect::<Vec<_>>(), names, "{verb:?}");
        for attribute in super::table::attributes(verb) {
            let told = &told[attribute.name];
            let kind = |told: &serde_json::Value| {
                let kind = told["name"].as_str().or(told["type"].as_str()).unwrap();
                kind.trim_start_matches("__cedar::").to_owned()
            };
            let said = match attribute.kind {
                Kind::Bool => "Bool",
                Kind::Long => "Long",
                Kind::Text => "String",
                Kind::Texts => "Set",
                Kind::Address => "ipaddr",
            };
            assert_eq!(kind(told), said, "{verb:?} {}", attribute.name);
            if attribute.kind == Kind::Texts {
                assert_eq!(kind(&told["element"]), "String");
            }
            let required = told["required"].as_bool().unwrap_or(true);
            assert_eq!(required, attribute.missing != Missing::Absent, "{verb:?} {}", attribute.name);
        }
    }
}

#[test]
fn every_kind_of_identifier_is_taken() {
    assert!(super::schema::types().is_some());
    assert!(super::schema::VALIDATOR.is_some());
    let odd = Identity { id: "oidc:corp:a\"b\\c\u{0}".into(), groups: vec![String::new()].into(), ..alice() };
    let scope = rules("permit(principal, action, resource);").scope(&odd, &Resource::default());
    assert_eq!(scope.judge(Verb::Connect, &Facts::new()).effect, Effect::Allow);
}
