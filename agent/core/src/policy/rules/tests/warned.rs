//! What is likely not meant.

use super::*;

fn warned(policies: &str) -> Vec<String> {
    let names = |names: &[&str]| Some(names.iter().map(|name| (*name).to_owned()).collect());
    let known = Known { targets: names(&["orders-db"]), tags: names(&["prod"]), groups: names(&["os:crew", "os:sre"]) };
    rules(policies).warnings(&known).iter().map(ToString::to_string).collect()
}

#[test]
fn what_is_right_is_not_warned_of() {
    for policy in [
        "permit(principal in Group::\"os:crew\", action == Action::\"query\", resource == Target::\"orders-db\") when { [\"SELECT\"].containsAll(context.kinds) };",
        "permit(principal, action == Action::\"connect\", resource in Tag::\"uncatalogued\") when { context.host == \"a.example\" && context.proof == \"dns\" };",
        "forbid(principal, action, resource in Tag::\"prod\") when { context has crew && context.crew == \"x\" };",
        "@approval(\"os:sre\") forbid(principal, action, resource) unless { context.approved };",
        "@approval(\"oidc:corp:sre\") forbid(principal, action, resource) when { context.hour < 8 && !context.approved };",
        "@approval(\"os:sre\") forbid(principal, action, resource) unless { context.approved || context.hour == 8 };",
        "@approval(\"os:sre\") forbid(principal, action, resource) when { context.approved == false };",
        "permit(principal == Identity::\"os:1000\", action, resource == Target::\"tcp:10.0.0.1:22\");",
    ] {
        assert_eq!(warned(policy), Vec::<String>::new(), "{policy}");
    }
}

#[test]
fn what_is_likely_not_meant_says_what_to_do() {
    for (policy, says) in [
        ("permit(principal, action, resource) when { false };", "can never fire"),
        ("permit(principal, action, resource) when { context.hour < 3 && false };", "can never fire"),
        ("permit(principal, action, resource) when { \"a\" == \"b\" };", "can never fire"),
        ("permit(principal, action, resource) unless { true };", "can never fire"),
        ("permit(principal in Tag::\"prod\", action, resource);", "can never fire"),
        ("permit(principal is Group, action, resource);", "can never fire"),
        ("@approval(\"os:sre\") forbid(principal, action, resource);", "no approval lifts it"),
        (
            "@approval(\"os:sre\") forbid(principal, action, resource) when { context.approved };",
            "no approval lifts it",
        ),
        (
            "@approval(\"os:sre\") forbid(principal, action, resource) unless { context.approved && context.hour == 8 };",
            "no approval lifts it",
        ),
        ("forbid(principal, action, resource) unless { context.approved };", "without @approval"),
        ("permit(principal, action, resource) when { context.approved };", "write a forbid with @approval"),
        ("permit(principal, action, resource) when { context has crew && context.crew == \"x\" };", "context.crew"),
        (
            "permit(principal, action, resource) when { context has agent_role && context.agent_role == \"x\" };",
            "context.agent_role",
        ),
        ("permit(principal, action, resource) when { context.host == \"a.example\" };", "context.proof"),
        ("permit(principal, action, resource == Target::\"order-db\");", "did you mean \"orders-db\"?"),
        ("permit(principal, action, resource) when { resource in Tag::\"prd\" };", "did you mean \"prod\"?"),
        ("permit(principal in Group::\"os:crwe\", action, resource);", "did you mean \"os:crew\"?"),
        ("permit(principal in Group::\"crew\", action, resource);", "groups are called"),
        ("permit(principal == Identity::\"alice\", action, resource);", "identities are called"),
        ("@approval(\"os:sree\") forbid(principal, action, resource) unless { context.approved };", "os:sree"),
        (
            "permit(principal, action == Action::\"connect\", resource) when { context.host == \"p\u{430}ypal\" && context.proof == \"dns\" };",
            "script",
        ),
    ] {
        let told = warned(&format!("\n{policy}"));
        assert!(told.len() == 1 && told[0].starts_with("a.cedar:2: ") && told[0].contains(says), "{policy}: {told:#?}");
    }
}
