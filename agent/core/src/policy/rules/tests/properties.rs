//! What holds for any policies and any requests.

use std::collections::{BTreeSet, HashSet};

use cedar_policy::{Authorizer, Decision, Entities, Entity, EntityUid, PolicySet, Request};
use proptest::prelude::*;

use super::*;

const SCOPES: [&[&str]; 3] = [
    &[
        "principal",
        "principal == Identity::\"os:1000\"",
        "principal in Group::\"os:crew\"",
        "principal in Group::\"os:sre\"",
        "principal is Identity",
        "principal is Identity in Group::\"os:users\"",
        "principal in Identity::\"os:1001\"",
    ],
    &[
        "action",
        "action == Action::\"connect\"",
        "action in [Action::\"connect\", Action::\"query\"]",
        "action in Action::\"exec\"",
    ],
    &[
        "resource",
        "resource == Target::\"orders-db\"",
        "resource in Tag::\"prod\"",
        "resource is Target",
        "resource is Target in Tag::\"dev\"",
        "resource in Target::\"reports-db\"",
    ],
];

const CONDITIONS: [&str; 12] = [
    "",
    "when { context.hour < 12 }",
    "when { context.address.isInRange(ip(\"10.0.0.0/8\")) }",
    "when { context.port * 4611686018427387904 == 0 }",
    "when { context has crew && context.crew == \"a\" }",
    "when { context.host like \"*.internal\" }",
    "when { principal in Group::\"os:crew\" }",
    "when { context.approved }",
    "unless { context.approved }",
    "unless { context.approved || context.hour == 3 }",
    "when { context.weekday == \"monday\" } unless { context.approved }",
    "when { !context.approved && resource in Tag::\"prod\" }",
];

fn policy() -> impl Strategy<Value = String> {
    let scope = (0..7_usize, 0..4_usize, 0..6_usize);
    (any::<bool>(), 0..4_usize, scope, 0..CONDITIONS.len()).prop_map(
        |(permits, approval, (who, verb, what), condition)| {
            let annotations = match (permits, approval) {
                (false, 1) => "@approval(\"os:sre\") ",
                (false, 2) => "@approval(\"os:dba,os:sre\") @approvers(\"2\") @grant(\"session\") ",
                _ => "",
            };
            let effect = if permits { "permit" } else { "forbid" };
            let [whos, verbs, whats] = SCOPES;
            format!("{annotations}{effect}({}, {}, {}) {};", whos[who], verbs[verb], whats[what], CONDITIONS[condition])
        },
    )
}

fn policies() -> impl Strategy<Value = Vec<String>> {
    prop::collection::vec(policy(), 0..12)
}

fn subset(of: &'static [&'static str]) -> impl Strategy<Value = Vec<String>> {
    prop::sample::subsequence(of, 0..=of.len()).prop_map(|names| names.into_iter().map(str::to_owned).collect())
}

fn who() -> impl Strategy<Value = Identity> {
    let id = prop::sample::select(vec!["os:1000", "os:1001", "unknown"]);
    (id, subset(&["os:crew", "os:sre", "os:users"])).prop_map(|(id, groups)| Identity {
        id: id.into(),
        groups: groups.into(),
        ..alice()
    })
}

fn what() -> impl Strategy<Value = Resource> {
    let id = prop::sample::select(vec!["orders-db", "reports-db", "tcp:10.0.0.1:1"]);
    (id, subset(&["dev", "prod"])).prop_map(|(id, tags)| Resource { id: id.into(), tags })
}

fn verb() -> impl Strategy<Value = Verb> {
    prop::sample::select(vec![Verb::Connect, Verb::Query, Verb::Exec, Verb::Resolve])
}

/// Facts of the right types, some of them missing.
fn some_facts() -> impl Strategy<Value = Facts> {
    let gone = subset(&["address", "port", "host", "hour", "weekday", "proof"]);
    (gone, 0..24_i64, prop::sample::select(vec!["10.1.1.1", "::1"]), prop::option::of("[ab]"), 0..4_i64).prop_map(
        |(gone, hour, address, crew, port)| {
            let mut facts = facts(Verb::Connect);
            facts.insert("hour".into(), Fact::Int(hour));
            facts.insert("address".into(), text(address));
            facts.insert("port".into(), Fact::Int(port));
            facts.extend(crew.map(|crew| ("crew".to_owned(), Fact::Text(crew))));
            // Most of the time all are there.
            if gone.len() < 2 {
                for name in &gone {
                    facts.remove(name);
                }
            }
            facts
        },
    )
}

/// All policies at once, as Cedar judges them: what is allowed, by which, and which err.
fn unsliced(
    rules: &Rules,
    who: &Identity,
    what: &Resource,
    verb: Verb,
    facts: &Facts,
    approved: bool,
) -> (bool, BTreeSet<String>, BTreeSet<String>) {
    let uid = |kind: &str, id: &str| format!("{kind}::\"{id}\"").parse::<EntityUid>().unwrap();
    let above = |kind: &str, ids: &[String]| ids.iter().map(|id| uid(kind, id)).collect::<HashSet<_>>();
    let (principal, resource) = (uid("Identity", &who.id), uid("Target", &what.id));
    let entities = [
        Entity::new_no_attrs(principal.clone(), above("Group", &who.groups)),
        Entity::new_no_attrs(resource.clone(), above("Tag", &what.tags)),
    ];
    let attributes: Vec<_> = super::table::attributes(verb).collect();
    let context = super::context::context(&attributes, facts, approved).unwrap();
    let request = Request::new(principal, uid("Action", verb.as_str()), resource, context, None).unwrap();
    let set = PolicySet::from_policies(rules.rules.iter().map(|rule| rule.policy.clone())).unwrap();
    let response = Authorizer::new().is_authorized(&request, &set, &Entities::from_entities(entities, None).unwrap());
    let reasons = response.diagnostics().reason().map(ToString::to_string).collect();
    let errors = response
        .diagnostics()
        .errors()
        .map(|cedar_policy::AuthorizationError::PolicyEvaluationError(error)| error.policy_id().to_string());
    (response.decision() == Decision::Allow, reasons, errors.collect())
}

/// What must come out, said in another way than in the product.
fn expected(rules: &Rules, who: &Identity, what: &Resource, verb: Verb, facts: &Facts) -> (Effect, BTreeSet<String>) {
    let (allows, reasons, errors) = unsliced(rules, who, what, verb, facts, false);
    if !errors.is_empty() {
        let forbids = if allows { BTreeSet::new() } else { reasons };
        return (Effect::Deny, forbids.union(&errors).cloned().collect());
    }
    if allows {
        return (Effect::Allow, reasons);
    }
    let liftable = |id: &String| rules.get(id).unwrap().terms.is_some();
    if reasons.is_empty() || !reasons.iter().all(liftable) {
        return (Effect::Deny, reasons);
    }
    // What an approval lifts, something must have permitted before.
    let permits = Rules { rules: rules.rules.iter().filter(|rule| rule.permits).cloned().collect() };
    let (_, before, _) = unsliced(&permits, who, what, verb, facts, false);
    match unsliced(rules, who, what, verb, facts, true) {
        (true, permits, errors) if errors.is_empty() && !permits.is_disjoint(&before) => (Effect::Ask, reasons),
        (_, _, errors) => (Effect::Deny, reasons.union(&errors).cloned().collect()),
    }
}

fn rank(effect: Effect) -> u8 {
    match effect {
        Effect::Deny => 0,
        Effect::Ask => 1,
        Effect::Allow => 2,
    }
}

fn arbitrary_fact() -> impl Strategy<Value = Fact> {
    prop_oneof![
        any::<bool>().prop_map(Fact::Bool),
        any::<i64>().prop_map(Fact::Int),
        any::<String>().prop_map(Fact::Text),
        "[0-9a-f.:/%]{0,40}".prop_map(Fact::Text),
        prop::collection::btree_set(any::<String>(), 0..5).prop_map(Fact::Set),
    ]
}

proptest! {
    #[test]
    fn a_scope_judges_as_all_policies_would(policies in policies(), who in who(), what in what(), verb in verb(), facts in some_facts()) {
        let rules = rules(&policies.join("\n"));
        let verdict = rules.scope(&who, &what).judge(verb, &facts);
        let (effect, named) = expected(&rules, &who, &what, verb, &facts);
        prop_assert_eq!(verdict.effect, effect);
        prop_assert_eq!(verdict.policies.iter().cloned().collect::<BTreeSet<_>>(), named);
        prop_assert_eq!(verdict.terms.is_some(), effect == Effect::Ask);
    }

    #[test]
    fn one_more_forbid_never_allows_more(policies in policies(), more in policy(), who in who(), what in what(), verb in verb(), facts in some_facts()) {
        let more = more.replace("permit(", "forbid(");
        let before = rules(&policies.join("\n")).scope(&who, &what).judge(verb, &facts).effect;
        let after = rules(&[policies.join("\n"), more].join("\n")).scope(&who, &what).judge(verb, &facts).effect;
        prop_assert!(rank(after) <= rank(before), "{:?} -> {:?}", before, after);
    }

    #[test]
    fn any_facts_are_judged(facts in prop::collection::btree_map(prop_oneof![prop::sample::select(vec![
        "approved", "address", "port", "host", "proof", "hour", "weekday", "crew", "kinds", "tables", "path", "argv", "method"]).prop_map(str::to_owned),
        any::<String>()], arbitrary_fact(), 0..20), verb in prop::sample::select(Verb::ALL.to_vec()), id in any::<String>()) {
        let permit = "permit(principal, action, resource); forbid(principal, action, resource) when { context.hour < 3 || context.address.isLoopback() \
                      || context.host == \"x\" || (context has crew && context.crew == \"y\") || context.port + context.hour == 7 };";
        let scope = rules(permit).scope(&Identity { id: id.clone(), groups: vec![id.clone()].into(), ..alice() }, &Resource { id: id.clone(), tags: vec![id] });
        let verdict = scope.judge(verb, &facts);
        let known = matches!(facts.get("hour"), Some(Fact::Int(_)));
        prop_assert!(known || verdict.effect == Effect::Deny);
    }

    #[test]
    fn any_text_is_parsed_or_refused(text in any::<String>(), words in prop::collection::vec(prop::sample::select(vec![
        "permit", "forbid", "(", ")", "principal", "action", "resource", ",", ";", "when", "unless", "{", "}", "context", ".", "hour", "==", "&&", "||",
        "!", "-", "\"", "\\u{", "@id(\"a\")", "@approval(\"os:a\")", "?principal", "Identity::\"a\"", "Action::\"query\"", "in", "is", "has", "like",
        "if", "then", "else", "[", "]", "ip(\"1\")", "9223372036854775808", "//", "\n", "true", "\u{202e}", "*", "%"]), 0..40), at in any::<prop::sample::Index>()) {
        let whole = "@id(\"x\") @approval(\"os:sre\") forbid(principal in Group::\"os:a\", action == Action::\"query\", resource) when { [\"SELECT\"].containsAll(context.kinds) } unless { context.approved };";
        let letters: Vec<char> = whole.chars().collect();
        let (before, after) = letters.split_at(at.index(letters.len()));
        let broken = [before.iter().collect::<String>(), words.first().copied().unwrap_or_default().to_owned(), after.iter().skip(1).collect()].concat();
        for text in [text, words.join(" "), words.concat(), broken] {
            match Rules::parse(&[("a.cedar".to_owned(), text.clone())]) {
                Ok(rules) => {
                    let _ = rules.warnings(&Known::default());
                    let _ = rules.scope(&alice(), &orders()).judge(Verb::Query, &facts(Verb::Query));
                }
                Err(faults) => {
                    let lines = text.matches('\n').count() + 1;
                    prop_assert!(!faults.is_empty() && faults.iter().all(|fault| (1..=lines).contains(&fault.line)), "{:?}", faults);
                }
            }
        }
    }
}
