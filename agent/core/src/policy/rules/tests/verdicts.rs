//! Policy, action and verdict.

use super::*;

const HOLDS: &str = "unless { context.approved };";

fn change(verb: Verb, changed: &[(&str, Fact)]) -> Facts {
    let mut facts = facts(verb);
    for (name, fact) in changed {
        facts.insert((*name).to_owned(), fact.clone());
    }
    facts
}

fn effect(policies: &str, verb: Verb, changed: &[(&str, Fact)]) -> Effect {
    judge(policies, verb, &change(verb, changed)).effect
}

/// Per action: a condition, a change of the facts, and whether it holds with and without the change.
#[test]
fn every_action_is_judged_by_its_facts() {
    use Verb::{Connect, Exec, Forward, HttpRequest, LlmCall, Query, ReadFile, Resolve, Shell, WriteFile};
    let int = Fact::Int;
    let table: &[(Verb, &str, &str, Fact)] = &[
        (Connect, "context.protocol == \"postgres\"", "protocol", text("ssh")),
        (Connect, "context.address.isInRange(ip(\"10.0.0.0/8\"))", "address", text("169.254.169.254")),
        (Connect, "context.address == ip(\"10.1.2.3\")", "address", text("::1")),
        (Connect, "context.port == 5432", "port", int(22)),
        (Connect, "context.proof == \"dns\" && context.host like \"*.internal\"", "proof", text("claimed")),
        (Connect, "context.hour >= 8 && context.hour < 18", "hour", int(3)),
        (Connect, "![\"saturday\", \"sunday\"].contains(context.weekday)", "weekday", text("sunday")),
        (Resolve, "context.name == \"orders.internal\"", "name", text("evil.example")),
        (Resolve, "context.record != \"TXT\"", "record", text("TXT")),
        (Query, "[\"SELECT\", \"SHOW\"].containsAll(context.kinds)", "kinds", set(&["SELECT", "DROP"])),
        (Query, "[\"SELECT\"].containsAll(context.kinds)", "kinds", set(&["UNPARSED"])),
        (Query, "[\"orders\"].containsAll(context.tables)", "tables", set(&["orders", "*"])),
        (Query, "!context.functions.contains(\"pg_sleep\")", "functions", set(&["pg_sleep"])),
        (Query, "!context.unfiltered", "unfiltered", Fact::Bool(true)),
        (Query, "context.parsed", "parsed", Fact::Bool(false)),
        (Query, "context.text like \"SELECT *\"", "text", text("UNPARSED")),
        (Query, "context.user == \"crew\" && context.database == \"orders\"", "user", text("postgres")),
        (Exec, "context.command == \"ls -l\" && context.argv.contains(\"ls\")", "command", text("rm -rf /")),
        (Exec, "!context.argv.contains(\"rm\")", "argv", set(&["rm"])),
        (Shell, "context has command && context.command == \"ls -l\"", "command", text("sh")),
        (Shell, "context has argv && context.argv.contains(\"ls\")", "argv", set(&["sh"])),
        (ReadFile, "context.path like \"/etc/*\"", "path", text("UNPARSED")),
        (WriteFile, "context.path == \"/etc/passwd\"", "path", text("/etc/shadow")),
        (Forward, "context.to_host == \"10.0.0.9\"", "to_host", text("169.254.169.254")),
        (Forward, "context.to_port == 22", "to_port", int(25)),
        (HttpRequest, "context.method == \"GET\"", "method", text("DELETE")),
        (HttpRequest, "context.path like \"/v1/*\"", "path", text("UNPARSED")),
        (HttpRequest, "context.raw_path like \"/v1/*\"", "raw_path", text("/v1/../admin").clone()),
        (HttpRequest, "context.query == \"page=2\"", "query", text("")),
        (HttpRequest, "context.content_type == \"application/json\"", "content_type", text("text/plain")),
        (HttpRequest, "context.host == \"orders.internal\" && context.proof != \"claimed\"", "proof", text("claimed")),
        (LlmCall, "context.model == \"gpt-5\"", "model", text("UNPARSED")),
        (LlmCall, "[\"search\"].containsAll(context.tools)", "tools", set(&["*"])),
        (LlmCall, "context.method == \"GET\" && context.path like \"/v1/*\"", "method", text("POST")),
    ];
    for (verb, condition, name, other) in table {
        let action = verb.as_str();
        let permit = format!("permit(principal, action == Action::\"{action}\", resource) when {{ {condition} }};");
        let fulfils = *name == "raw_path";
        assert_eq!(effect(&permit, *verb, &[]), Effect::Allow, "{permit}");
        let changed = effect(&permit, *verb, &[(name, other.clone())]);
        assert_eq!(changed, if fulfils { Effect::Allow } else { Effect::Deny }, "{permit} with {other:?}");
        for elsewhere in Verb::ALL.into_iter().filter(|elsewhere| elsewhere != verb) {
            assert_eq!(effect(&permit, elsewhere, &[]), Effect::Deny, "{permit} on {elsewhere:?}");
        }
        let forbid = format!(
            "permit(principal, action, resource); forbid(principal, action == Action::\"{action}\", resource) when {{ {condition} }};"
        );
        assert_eq!(effect(&forbid, *verb, &[]), Effect::Deny, "{forbid}");
        let ask = forbid.replace("forbid", "@approval(\"os:sre\") forbid").replace(" };", &format!(" }} {HOLDS}"));
        assert_eq!(effect(&ask, *verb, &[]), Effect::Ask, "{ask}");
    }
}

#[test]
fn every_action_has_the_facts_of_its_connection() {
    let common = "context.address == ip(\"10.1.2.3\") && context.port == 5432 && context.host == \"orders.internal\" && \
                  context.proof == \"dns\" && context.hour == 10 && context.weekday == \"tuesday\" && !context.approved && \
                  !(context has crew) && !(context has agent_role)";
    let permit = format!("permit(principal, action, resource) when {{ {common} }};");
    let claimed = "permit(principal, action, resource) when { context has crew && context.crew == \"a\" && context has agent_role };";
    for verb in Verb::ALL {
        assert_eq!(effect(&permit, verb, &[]), Effect::Allow, "{verb:?}");
        assert_eq!(effect(claimed, verb, &[("crew", text("a")), ("agent_role", text("b"))]), Effect::Allow, "{verb:?}");
        for wrong in [("hour", Fact::Int(11)), ("host", text("x")), ("port", Fact::Int(1)), ("crew", text("a"))] {
            assert_eq!(effect(&permit, verb, &[wrong]), Effect::Deny, "{verb:?}");
        }
    }
}

#[test]
fn scopes_are_those_of_principal_groups_target_and_tags() {
    let allows = |scope: &str| effect(&format!("permit({scope});"), Verb::Query, &[]) == Effect::Allow;
    for scope in [
        "principal, action, resource",
        "principal == Identity::\"os:1000\", action == Action::\"query\", resource == Target::\"orders-db\"",
        "principal in Group::\"os:crew\", action in [Action::\"connect\", Action::\"query\"], resource in Tag::\"prod\"",
        "principal in Identity::\"os:1000\", action in Action::\"query\", resource in Target::\"orders-db\"",
        "principal is Identity, action, resource is Target",
        "principal is Identity in Group::\"os:users\", action, resource is Target in Tag::\"pci\"",
    ] {
        assert!(allows(scope), "{scope}");
    }
    for scope in [
        "principal == Identity::\"os:1001\", action, resource",
        "principal in Group::\"os:wheel\", action, resource",
        "principal, action == Action::\"connect\", resource",
        "principal, action in [Action::\"connect\", Action::\"exec\"], resource",
        "principal, action, resource == Target::\"reports-db\"",
        "principal, action, resource in Tag::\"uncatalogued\"",
        "principal is Identity in Group::\"os:wheel\", action, resource",
        "principal, action, resource is Target in Tag::\"dev\"",
    ] {
        assert!(!allows(scope), "{scope}");
    }
    assert!(
        effect(
            "permit(principal, action, resource) when { principal in Group::\"os:crew\" && resource in Tag::\"prod\" };",
            Verb::Query,
            &[]
        ) == Effect::Allow
    );
}

#[test]
fn the_policies_that_decided_are_named() {
    let policies = "@id(\"one\") permit(principal, action, resource);\n@id(\"two\") permit(principal, action, resource) when { context.hour == 10 };\n\
                    @id(\"three\") permit(principal, action, resource) when { context.hour == 11 };\n\
                    @id(\"night\") forbid(principal, action, resource) when { context.hour < 6 };";
    let verdict = judge(policies, Verb::Query, &facts(Verb::Query));
    assert_eq!(verdict, Verdict::of(Effect::Allow, vec!["one".into(), "two".into()]));
    let verdict = judge(policies, Verb::Query, &change(Verb::Query, &[("hour", Fact::Int(3))]));
    assert_eq!(verdict, Verdict::of(Effect::Deny, vec!["night".into()]));
    let verdict =
        judge("permit(principal, action, resource) when { context.hour == 11 };", Verb::Query, &facts(Verb::Query));
    assert_eq!(verdict, Verdict::of(Effect::Deny, vec![]), "by default");
}

const ALL: &str = "@id(\"all\") permit(principal, action, resource);\n";

#[test]
fn an_approval_is_asked_of_everybody_that_the_forbids_name() {
    let sre = "@id(\"sre\") @approval(\"os:sre\") @grant(\"session\") forbid(principal, action, resource) unless { context.approved };\n";
    let dba = "@id(\"dba\") @approval(\"os:dba, oidc:corp:dba\") @approvers(\"2\") @grant(\"session\") forbid(principal, action, resource) when { !context.approved && context.hour == 10 };\n";
    let once = "@id(\"once\") @approval(\"os:sre\") forbid(principal, action, resource) unless { context.approved || context.hour == 11 };\n";
    let ask = |policies: &str| judge(&format!("{ALL}{policies}"), Verb::Query, &facts(Verb::Query));
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let terms = |groups: &[&str], approvers, whole_session| Terms {
        groups: names(groups).into_iter().collect(),
        approvers,
        whole_session,
    };
    assert_eq!(ask(sre), Verdict::ask(names(&["sre"]), terms(&["os:sre"], 1, true)));
    let both = ask(&format!("{sre}{dba}"));
    assert_eq!(both, Verdict::ask(names(&["sre", "dba"]), terms(&["oidc:corp:dba", "os:dba", "os:sre"], 2, true)));
    let three = ask(&format!("{once}{sre}{dba}"));
    assert_eq!(
        three,
        Verdict::ask(names(&["once", "sre", "dba"]), terms(&["oidc:corp:dba", "os:dba", "os:sre"], 2, false))
    );
}

#[test]
fn what_an_approval_does_not_lift_is_not_asked_for() {
    let sre = "@id(\"sre\") @approval(\"os:sre\") forbid(principal, action, resource) unless { context.approved };\n";
    let hard = "@id(\"hard\") forbid(principal, action, resource) when { context.hour == 10 };\n";
    let never = "@id(\"never\") @approval(\"os:sre\") forbid(principal, action, resource);\n";
    let denied = |policies: &str, names: &[&str]| {
        let verdict = judge(policies, Verb::Query, &facts(Verb::Query));
        assert_eq!((verdict.effect, verdict.terms), (Effect::Deny, None), "{policies}");
        assert_eq!(verdict.policies, names, "{policies}");
    };
    denied(&format!("{ALL}{sre}{hard}"), &["sre", "hard"]);
    denied(&format!("{ALL}{never}"), &["never"]);
    denied(sre, &["sre"]);
    // Without the forbid nothing would permit it; with it nothing more may pass.
    denied(&format!("permit(principal, action, resource) when {{ context.approved }};\n{sre}"), &["sre"]);
    denied("permit(principal, action, resource) when { context.approved };", &[]);
    denied("", &[]);
}

#[test]
fn an_error_denies_and_says_which_policy_and_why() {
    let looks = "@id(\"looks\") forbid(principal, action == Action::\"query\", resource) when { context.hour < 6 };";
    let mut clueless = facts(Verb::Query);
    clueless.remove("hour");
    let verdict = judge(&format!("{ALL}{looks}"), Verb::Query, &clueless);
    assert_eq!((verdict.effect, verdict.policies), (Effect::Deny, vec!["looks".into()]));
    assert!(verdict.errors[0].starts_with("looks: ") && verdict.errors[0].contains("hour"), "{:?}", verdict.errors);
    // So does a permit's; Cedar alone would go on to the next one.
    let verdict = judge(&format!("{ALL}{}", looks.replace("forbid", "permit")), Verb::Query, &clueless);
    assert_eq!((verdict.effect, verdict.policies), (Effect::Deny, vec!["looks".into()]));
    // Nobody is asked while a policy errs, be it only once it is approved.
    let ask = "@id(\"ask\") @approval(\"os:sre\") forbid(principal, action, resource) unless { context.approved };";
    let late = "@id(\"late\") forbid(principal, action, resource) when { context.approved && context.hour < 6 };";
    for policies in [format!("{ALL}{ask}{looks}"), format!("{ALL}{ask}{late}")] {
        let verdict = judge(&policies, Verb::Query, &clueless);
        assert_eq!((verdict.effect, verdict.terms, verdict.errors.len()), (Effect::Deny, None, 1), "{policies}");
        assert_eq!(verdict.policies[0], "ask");
    }
    // Arithmetic that runs over.
    let over = "@id(\"over\") forbid(principal, action, resource) when { context.port * 9223372036854775807 == 1 };";
    assert_eq!(judge(&format!("{ALL}{over}"), Verb::Query, &facts(Verb::Query)).policies, ["over"]);
}

#[test]
fn facts_that_are_missing_or_of_another_type_make_nothing_pass() {
    let permit = "permit(principal, action, resource); forbid(principal, action, resource) when { context has crew && context.crew == \"x\" };";
    assert_eq!(effect(permit, Verb::Query, &[("crew", text("y"))]), Effect::Allow);
    let verdict = judge(permit, Verb::Query, &change(Verb::Query, &[("crew", Fact::Int(1))]));
    assert_eq!(verdict.effect, Effect::Deny);
    assert!(verdict.errors[0].contains("`crew`"));
    let ranged = "permit(principal, action, resource); forbid(principal, action, resource) when { context.address.isInRange(ip(\"169.254.0.0/16\")) };";
    for odd in [text("nowhere"), text("169.254.0.0/16"), text(""), Fact::Int(1)] {
        assert_eq!(effect(ranged, Verb::Connect, &[("address", odd)]), Effect::Deny);
    }
    // A target without a name has none, and that is known.
    let mut nameless = facts(Verb::Connect);
    nameless.remove("host");
    nameless.remove("proof");
    let policy = "permit(principal, action, resource) when { context.host == \"\" && context.proof == \"none\" };";
    assert_eq!(judge(policy, Verb::Connect, &nameless).effect, Effect::Allow);
    // A request without a query has an empty one; one whose path is not known has an unknown one.
    let policy = "permit(principal, action == Action::\"http_request\", resource) when { context.query == \"\" };";
    let mut request = facts(Verb::HttpRequest);
    request.remove("query");
    assert_eq!(judge(policy, Verb::HttpRequest, &request).effect, Effect::Allow);
    request.remove("raw_path");
    assert_eq!(judge(policy, Verb::HttpRequest, &request).errors.len(), 1);
}

#[test]
fn what_is_no_fact_of_the_schema_is_not_seen() {
    let permit = "permit(principal, action, resource) when { !context.approved };";
    let changed = [("approved", Fact::Bool(true)), ("transaction", text("idle")), ("", text(""))];
    assert_eq!(effect(permit, Verb::Query, &changed), Effect::Allow);
}

#[test]
fn an_explanation_has_each_policy_within_reach() {
    let policies = format!(
        "{ALL}@id(\"late\") permit(principal, action == Action::\"query\", resource) when {{ context.hour > 20 }};\n\
         @id(\"far\") permit(principal, action == Action::\"exec\", resource);\n\
         @id(\"errs\") forbid(principal, action, resource) when {{ context.port * 9223372036854775807 == 1 }};"
    );
    let rules = rules(&policies);
    let scope = rules.scope(&alice(), &orders());
    let facts = facts(Verb::Query);
    let seen = scope.explain(Verb::Query, &facts);
    let told: Vec<(&str, Option<bool>)> = seen.iter().map(|seen| (seen.rule.id(), seen.held.clone().ok())).collect();
    assert_eq!(told, [("all", Some(true)), ("late", Some(false)), ("errs", None)]);
    assert_eq!(seen[1].rule.looks_at().unwrap().collect::<Vec<_>>(), ["hour"]);
}
