#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use std::path::Path;

use serde_json::json;

use super::*;
use crate::config::Config;

fn provider(more: &str) -> Provider {
    let text = format!("[oidc.corp]\nissuer = 'https://id.example'\nclient_id = 'crewtap'\n{more}");
    Config::parse(&text, Path::new("/c.toml")).unwrap().oidc.remove(0)
}

fn claims(value: Value) -> Claims {
    match value {
        Value::Object(claims) => claims,
        _ => panic!("no object"),
    }
}

fn groups(path: &str, token: Value) -> Result<Vec<String>, String> {
    let found = person(&provider(&format!("groups = {path}")), &claims(token), None);
    found.map(|person| person.groups.into_iter().collect()).map_err(|Unusable(why)| why)
}

#[test]
fn groups_are_a_text_a_list_or_somewhere_deeper() {
    let told = |path: &str, token: Value| groups(path, token).unwrap();
    assert_eq!(told("'groups'", json!({ "sub": "a", "groups": "sre" })), ["sre"]);
    assert_eq!(told("'groups'", json!({ "sub": "a", "groups": ["sre", "dba", "sre"] })), ["dba", "sre"]);
    assert_eq!(told("'groups'", json!({ "sub": "a", "groups": "a b,c" })), ["a b,c"], "one text is one group");
    assert_eq!(told("'realm_access.roles'", json!({ "sub": "a", "realm_access": { "roles": ["x"] } })), ["x"]);
    assert_eq!(told("'https://e.example/g'", json!({ "sub": "a", "https://e.example/g": ["x"] })), ["x"]);
    assert_eq!(told("['r', 'a.b', 'roles']", json!({ "sub": "a", "r": { "a.b": { "roles": ["x"] } } })), ["x"]);
    assert!(told("'groups'", json!({ "sub": "a" })).is_empty());
}

#[test]
fn groups_that_cannot_be_known_are_no_missing_groups() {
    let overage = json!({ "sub": "a", "_claim_names": { "groups": "src1" }, "_claim_sources": { "src1": { "endpoint": "https://g" } } });
    assert!(groups("'groups'", overage).unwrap_err().contains("Azure's overage"));
    assert!(groups("'groups'", json!({ "sub": "a", "hasgroups": true })).unwrap_err().contains("Azure's overage"));
    assert!(
        groups("'groups'", json!({ "sub": "a", "groups": ["x", 3] }))
            .unwrap_err()
            .contains("something else than texts")
    );
    assert!(
        groups("'groups'", json!({ "sub": "a", "groups": { "x": 1 } })).unwrap_err().contains("neither a text nor")
    );
    assert!(groups("'groups'", json!({ "sub": "a", "groups": ["", "x"] })).unwrap_err().contains("is empty"));
    let many: Vec<String> = (0..=GROUPS_MAX).map(|n| n.to_string()).collect();
    assert!(groups("'groups'", json!({ "sub": "a", "groups": many })).unwrap_err().contains("are the most"));
}

#[test]
fn ten_thousand_groups_are_taken() {
    let many: Vec<String> = (0..10_000).map(|n| format!("6f9619ff-8b86-d011-b42d-{n:012}")).collect();
    assert_eq!(groups("'groups'", json!({ "sub": "a", "groups": many })).unwrap().len(), 10_000);
}

#[test]
fn userinfo_fills_in_what_the_token_lacks() {
    let corp = provider("groups = 'groups'\nname = 'upn'");
    let token = claims(json!({ "sub": "a", "auth_time": 17, "amr": ["pwd", "otp"], "acr": "gold" }));
    let more = claims(
        json!({ "sub": "a", "groups": ["sre"], "email": "a@e.example", "email_verified": true, "upn": "ALICE" }),
    );
    let found = person(&corp, &token, Some(&more)).unwrap();
    assert_eq!((found.name.as_str(), found.groups_from.as_str()), ("ALICE", "userinfo"));
    assert!(found.email_verified && found.groups.contains("sre") && found.notes.is_empty());
    assert_eq!((found.auth_time, found.amr.len(), found.acr.as_deref()), (Some(17), 2, Some("gold")));
}

#[test]
fn an_address_gives_groups_only_where_the_provider_vouches_for_it() {
    let corp = provider("[oidc.corp.members]\nsre = ['alice@e.example']\nall = ['*@e.example']");
    let of = |email: &str, verified: Value| {
        let token = claims(json!({ "sub": "a", "email": email, "email_verified": verified }));
        person(&corp, &token, None).unwrap()
    };
    assert_eq!(of("Alice@E.example", json!(true)).groups.into_iter().collect::<Vec<_>>(), ["all", "sre"]);
    assert_eq!(of("bob@e.example", json!("true")).groups_from, "table");
    let unverified = of("alice@e.example", json!(false));
    assert!(unverified.groups.is_empty() && unverified.notes[0].contains("does not vouch"), "{unverified:?}");
    assert!(of("alice@e.example.evil", json!(true)).notes[0].contains("is in none of"));
    // Somebody else's address must not become verified by the word about another one.
    let token = claims(json!({ "sub": "a", "email": "alice@e.example" }));
    let more = claims(json!({ "sub": "a", "email": "mallory@x.example", "email_verified": true }));
    assert!(!person(&corp, &token, Some(&more)).unwrap().email_verified);
}

#[test]
fn google_sends_no_groups_and_says_whose_domain_it_is() {
    let text = "[oidc.google]\nissuer = 'https://accounts.google.com'\nclient_id = 'x'\nhd = ['e.example']";
    let google = Config::parse(text, Path::new("/c.toml")).unwrap().oidc.remove(0);
    let of = |token: Value| person(&google, &claims(token), None).map_err(|Unusable(why)| why);
    let found = of(json!({ "sub": "a", "hd": "e.example" })).unwrap();
    assert!(found.notes[0].contains("Google sends none; say who is in which in [oidc.google.members]"));
    assert!(of(json!({ "sub": "a", "hd": "evil.example" })).unwrap_err().contains("none of the hosted domains"));
    assert!(of(json!({ "sub": "a" })).unwrap_err().contains("names no hosted domain"));
    assert!(of(json!({ "sub": "a", "email": "a@e.example", "email_verified": false })).is_err());
    assert!(of(json!({ "sub": "a", "hd": "evil.example", "email": "a@e.example", "email_verified": true })).is_err());
}

#[test]
fn a_subject_is_a_text_that_can_be_kept() {
    let corp = provider("");
    for wrong in [
        json!({}),
        json!({ "sub": "" }),
        json!({ "sub": 7 }),
        json!({ "sub": "a\u{1b}[2J" }),
        json!({ "sub": "x".repeat(600) }),
    ] {
        assert!(person(&corp, &claims(wrong.clone()), None).is_err(), "{wrong}");
    }
    let named = person(&corp, &claims(json!({ "sub": "a", "name": "A\u{7}lice" })), None).unwrap();
    assert_eq!(named.name, "Alice");
}
