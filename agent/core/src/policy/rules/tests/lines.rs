//! Everything that is wrong, with file and line.

use super::*;

#[test]
fn every_fault_of_every_file_is_told_with_its_line() {
    let file = |name: &str, text: &str| (name.to_owned(), text.to_owned());
    let parsed = Rules::parse(&[
        file("a.cedar", "permit(principal, action, resource)\nwhen { context.hour > };\n"),
        file(
            "b.cedar",
            "\n\npermit(principal, action == Action::\"qery\", resource);\npermit(principal, action, resource) when { context.kinds };",
        ),
        file("c.cedar", "permit(principal, action, resource);"),
    ]);
    let told: Vec<String> = parsed.unwrap_err().iter().map(ToString::to_string).collect();
    assert!(told[0].starts_with("a.cedar:2: unexpected token `}`"), "{told:#?}");
    assert!(told[1].starts_with("b.cedar:3: ") && told[1].contains("qery"), "{told:#?}");
    assert!(told.iter().skip(2).all(|told| told.starts_with("b.cedar:4: ")), "{told:#?}");
    assert!(told.len() > 2);
}

#[test]
fn what_the_schema_does_not_know_is_a_fault() {
    for (policy, says) in [
        ("permit(principal == User::\"a\", action, resource);", "User"),
        ("permit(principal, action == Action::\"query\", resource) when { context.tabels.contains(\"a\") };", "tabels"),
        ("permit(principal, action == Action::\"query\", resource) when { context.hour == \"ten\" };", "type"),
        (
            "permit(principal, action == Action::\"connect\", resource) when { context.kinds.contains(\"SELECT\") };",
            "kinds",
        ),
        ("permit(principal, action, resource) when { context.crew == \"a\" };", "crew"),
        ("permit(principal, action, resource) when { principal.name == \"a\" };", "name"),
    ] {
        let told = faults(policy);
        assert!(told.iter().any(|told| told.starts_with("a.cedar:1: ") && told.contains(says)), "{policy}: {told:#?}");
    }
}

#[test]
fn templates_are_refused() {
    let told = faults("// no\npermit(principal == ?principal, action, resource);");
    assert_eq!(told.len(), 1);
    assert!(told[0].starts_with("a.cedar:2: templates are not taken"), "{told:?}");
}

#[test]
fn policies_have_the_names_that_they_give_themselves_or_a_number() {
    let parsed = rules(
        "permit(principal, action, resource);\n@id(\"no drops\")\nforbid(principal, action, resource);\n\npermit(principal, action, resource);",
    );
    let told: Vec<(&str, usize, bool)> = parsed.iter().map(|rule| (rule.id(), rule.line(), rule.permits())).collect();
    assert_eq!(told, [("a.cedar#1", 1, true), ("no drops", 2, false), ("a.cedar#3", 5, true)]);
    assert_eq!(parsed.get("no drops").unwrap().text(), "@id(\"no drops\")\nforbid(principal, action, resource);");
    assert_eq!(parsed.get("a.cedar#4"), None);
}

#[test]
fn a_name_is_given_once() {
    let policy = "@id(\"x\") permit(principal, action, resource);";
    let parsed = Rules::parse(&[("a.cedar".into(), format!("\n{policy}")), ("b.cedar".into(), policy.to_owned())]);
    let told = parsed.unwrap_err();
    assert_eq!(told.len(), 1);
    assert_eq!(
        told[0].to_string(),
        "b.cedar:1: another policy is called \"x\", a.cedar:2: give one of them another @id"
    );
    assert!(
        faults("@id(\"a.cedar#2\") permit(principal, action, resource);\npermit(principal, action, resource);")[0]
            .starts_with("a.cedar:2: ")
    );
    assert!(faults("@id(\"\") permit(principal, action, resource);")[0].contains("@id must have"));
}

#[test]
fn annotations_that_mean_something_are_right_or_a_fault() {
    let says = |annotations: &str, effect: &str, says: &str| {
        let told = faults(&format!("{annotations} {effect}(principal, action, resource);"));
        assert!(told.iter().any(|told| told.contains(says)), "{annotations}: {told:?}");
    };
    says("@approval(\"sre\")", "forbid", "\"sre\" is no group");
    says("@approval(\"os:\")", "forbid", "is no group");
    says("@approval(\"oidc:corp\")", "forbid", "is no group");
    says("@approval", "forbid", "is no group");
    says("@approval(\"os:a,,os:b\")", "forbid", "is no group");
    says("@approval(\"os:sre\")", "permit", "on a permit means nothing");
    says("@approval(\"os:sre\") @approvers(\"0\")", "forbid", "a number from 1 to 100");
    says("@approval(\"os:sre\") @approvers(\"two\")", "forbid", "a number from 1 to 100");
    says("@approval(\"os:sre\") @grant(\"day\")", "forbid", "\"once\" (the default) or \"session\"");
    says("@approvers(\"2\")", "forbid", "without @approval");
    says("@grant(\"session\")", "forbid", "without @approval");
    says("@aproval(\"os:sre\")", "forbid", "did you mean @approval?");
    says("@approver(\"2\")", "forbid", "did you mean @approvers?");
    assert_eq!(rules("@description(\"why\") @owner(\"x\") permit(principal, action, resource);").len(), 1);
    assert_eq!(rules("@approval(\"os:a, oidc:corp:b:c\") @approvers(\"2\") @grant(\"session\") forbid(principal, action, resource);").len(), 1);
}

#[test]
fn no_policies_are_no_fault() {
    for text in ["", "\n", "// nothing\n"] {
        assert!(rules(text).is_empty());
    }
    assert_eq!(
        rules("").scope(&alice(), &orders()).judge(Verb::Query, &facts(Verb::Query)),
        Verdict::of(Effect::Deny, vec![])
    );
}

#[test]
fn what_is_too_deep_is_a_fault_and_not_a_crash() {
    let around = |open: &str, close: &str, times: usize| {
        format!("permit(principal, action, resource) when {{ {}true{} }};", open.repeat(times), close.repeat(times))
    };
    let chains =
        [("(", ")"), ("!", ""), ("! ", ""), ("[", "]"), ("-", ""), ("{a: ", "}"), ("if true then false else ", "")];
    let behind = [
        " && true",
        " || false",
        ".a",
        "[\"a\"]",
        " == true",
        ".isEmpty()",
        " + 1",
        " in principal",
        " has a",
        " like \"a\"",
    ];
    let behind = behind.map(|close| ("", close));
    for (open, close) in chains.into_iter().chain(behind) {
        let told = faults(&around(open, close, 100_000));
        assert!(told[0].contains("make several policies of it"), "{open}{close}: {told:?}");
        // As long as it may be.
        for times in [60, 150, 300, 450, 900] {
            let _ = Rules::parse(&[("a.cedar".into(), around(open, close, times))]).map(|rules| {
                let _ = rules.warnings(&Known::default());
                rules.scope(&alice(), &orders()).judge(Verb::Query, &facts(Verb::Query))
            });
        }
    }
    assert_eq!(rules(&around("(", ")", 50)).len(), 1);
    assert_eq!(rules(&around("", " && true", 200)).len(), 1);
    assert_eq!(rules(&format!("// {}\npermit(principal, action, resource);", "(".repeat(1000))).len(), 1);
    let many = (0..3000).map(|host| format!("\"{host}.((example\"")).collect::<Vec<_>>().join(", ");
    let list = format!(
        "permit(principal, action, resource) when {{ [{many}].contains(context.host) && context.proof == \"dns\" }};"
    );
    assert_eq!(rules(&list).len(), 1, "lists may be long");
}
