//! The samples of `config/policy`: each allows, denies and asks what it says.

use super::*;

const READONLY: (&str, &str) =
    ("readonly-database.cedar", include_str!("../../../../../../config/policy/readonly-database.cedar"));
const HOURS: (&str, &str) =
    ("business-hours.cedar", include_str!("../../../../../../config/policy/business-hours.cedar"));
const EGRESS: (&str, &str) = ("egress.cedar", include_str!("../../../../../../config/policy/egress.cedar"));
const METADATA: (&str, &str) =
    ("metadata-service.cedar", include_str!("../../../../../../config/policy/metadata-service.cedar"));
const APPROVALS: (&str, &str) = ("approvals.cedar", include_str!("../../../../../../config/policy/approvals.cedar"));
const MODELS: (&str, &str) = ("models.cedar", include_str!("../../../../../../config/policy/models.cedar"));

const ROLES: (&str, &str) = ("roles.cedar", include_str!("../../../../../../config/policy/roles.cedar"));

const SAMPLES: [(&str, &str); 7] = [READONLY, HOURS, EGRESS, METADATA, APPROVALS, MODELS, ROLES];

/// Lets everything pass that no forbid stops.
const ALL: (&str, &str) = ("all.cedar", "@id(\"all\") permit(principal, action, resource);");

fn parsed(files: &[(&str, &str)]) -> Rules {
    let files: Vec<_> = files.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
    Rules::parse(&files).unwrap_or_else(|faults| panic!("{faults:#?}"))
}

fn crew() -> Identity {
    Identity { groups: vec!["os:crew".to_owned()].into(), ..alice() }
}

fn tagged(tags: &[&str]) -> Resource {
    Resource { id: "a-target".into(), tags: tags.iter().map(|tag| (*tag).to_owned()).collect() }
}

/// A verdict of these samples, with some facts changed.
fn told(files: &[(&str, &str)], tags: &[&str], verb: Verb, changed: &[(&str, Fact)]) -> Verdict {
    let mut facts = facts(verb);
    for (name, fact) in changed {
        facts.insert((*name).to_owned(), fact.clone());
    }
    parsed(files).scope(&crew(), &tagged(tags)).judge(verb, &facts)
}

fn kinds(kinds: &[&str]) -> [(&'static str, Fact); 1] {
    [("kinds", set(kinds))]
}

/// What a statement that is not understood comes to.
fn unparsed() -> Vec<(&'static str, Fact)> {
    let sets = [("kinds", set(&["UNPARSED"])), ("tables", set(&["*"])), ("functions", set(&["*"]))];
    let rest = [("unfiltered", Fact::Bool(true)), ("parsed", Fact::Bool(false)), ("text", text("UNPARSED"))];
    sets.into_iter().chain(rest).collect()
}

/// What a text without a statement comes to.
fn empty() -> Vec<(&'static str, Fact)> {
    vec![("kinds", set(&[])), ("tables", set(&[])), ("functions", set(&[])), ("text", text(""))]
}

#[test]
fn every_sample_is_right_and_gives_no_cause_for_a_warning() {
    let all = parsed(&SAMPLES);
    assert_eq!(all.warnings(&Known::default()), Vec::new());
    let directory = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../../config/policy")).unwrap();
    assert_eq!(directory.count(), SAMPLES.len(), "a sample without a test");
}

#[test]
fn reading_a_database_passes_and_nothing_else_does() {
    let effect = |changed: &[(&str, Fact)]| told(&[READONLY], &["database"], Verb::Query, changed).effect;
    assert_eq!(effect(&[]), Effect::Allow);
    assert_eq!(effect(&kinds(&["SELECT", "BEGIN"])), Effect::Allow);
    assert_eq!(told(&[READONLY], &["database"], Verb::Connect, &[]).policies, ["readonly-database-connect"]);
    for kind in ["INSERT", "UPDATE", "DELETE", "DROP", "COPY", "CALL", "SET_ROLE", "UNPARSED"] {
        assert_eq!(effect(&kinds(&["SELECT", kind])), Effect::Deny, "{kind}");
    }
    for function in ["*", "pg_read_file", "dblink_exec"] {
        assert_eq!(effect(&[("functions", set(&["count", function]))]), Effect::Deny, "{function}");
    }
    assert_eq!(told(&[READONLY], &["prod"], Verb::Query, &[]).effect, Effect::Deny);
    assert_eq!(told(&[READONLY], &["database"], Verb::Exec, &[]).effect, Effect::Deny);
}

#[test]
fn writes_pass_in_business_hours_only() {
    let at = |hour, weekday: &str, verb, changed: &[(&'static str, Fact)]| {
        let when = [("hour", Fact::Int(hour)), ("weekday", text(weekday))];
        told(&[ALL, HOURS], &["prod"], verb, &[&when[..], changed].concat()).effect
    };
    let insert = kinds(&["INSERT"]);
    for (hour, weekday, effect) in [
        (8, "monday", Effect::Allow),
        (17, "friday", Effect::Allow),
        (18, "friday", Effect::Deny),
        (7, "friday", Effect::Deny),
        (12, "saturday", Effect::Deny),
        (0, "sunday", Effect::Deny),
    ] {
        assert_eq!(at(hour, weekday, Verb::Query, &insert), effect, "{hour} on {weekday}");
        assert_eq!(at(hour, weekday, Verb::Query, &[]), Effect::Allow, "reading, {hour} on {weekday}");
        assert_eq!(at(hour, weekday, Verb::HttpRequest, &[("method", text("POST"))]), effect);
        assert_eq!(at(hour, weekday, Verb::HttpRequest, &[]), Effect::Allow);
        assert_eq!(at(hour, weekday, Verb::WriteFile, &[]), effect);
        assert_eq!(at(hour, weekday, Verb::Query, &unparsed()), effect);
    }
}

#[test]
fn connections_pass_to_the_list_only() {
    let to = |host: &str, proof: &str, verb, changed: &[(&'static str, Fact)]| {
        let whom = [("host", text(host)), ("proof", text(proof)), ("port", Fact::Int(443)), ("name", text(host))];
        told(&[EGRESS], &["uncatalogued"], verb, &[&whom[..], changed].concat()).effect
    };
    for (host, proof, effect) in [
        ("pypi.org", "dns", Effect::Allow),
        ("pypi.org", "certificate", Effect::Allow),
        ("pypi.org", "claimed", Effect::Deny),
        ("pypi.org", "none", Effect::Deny),
        ("pypi.org.evil.example", "dns", Effect::Deny),
        ("", "none", Effect::Deny),
    ] {
        assert_eq!(to(host, proof, Verb::Connect, &[]), effect, "{host} by {proof}");
    }
    assert_eq!(to("pypi.org", "dns", Verb::Connect, &[("port", Fact::Int(22))]), Effect::Deny);
    assert_eq!(to("pypi.org", "dns", Verb::Resolve, &[]), Effect::Allow);
    assert_eq!(to("evil.example", "dns", Verb::Resolve, &[]), Effect::Deny);
    assert_eq!(to("pypi.org", "certificate", Verb::HttpRequest, &[]), Effect::Allow);
    assert_eq!(to("pypi.org", "dns", Verb::HttpRequest, &[]), Effect::Deny);
    assert_eq!(to("pypi.org", "certificate", Verb::HttpRequest, &[("method", text("POST"))]), Effect::Deny);
    assert_eq!(to("pypi.org", "claimed", Verb::HttpRequest, &[]), Effect::Deny);
}

#[test]
fn the_metadata_service_is_out_of_reach_for_every_action() {
    for verb in Verb::ALL {
        let to = |address: &str| told(&[ALL, METADATA], &[], verb, &[("address", text(address))]).effect;
        for address in [
            "169.254.169.254",
            "169.254.170.2",
            "fd00:ec2::254",
            "fe80::1",
            "100.100.100.200",
            "168.63.129.16",
            "no address",
        ] {
            assert_eq!(to(address), Effect::Deny, "{verb:?} {address}");
        }
        assert_eq!(to("10.0.0.1"), Effect::Allow, "{verb:?}");
    }
    let through = |host: &str| told(&[ALL, METADATA], &[], Verb::Forward, &[("to_host", text(host))]).effect;
    assert_eq!((through("169.254.169.254"), through("metadata.google.internal")), (Effect::Deny, Effect::Deny));
    assert_eq!(through("10.0.0.9"), Effect::Allow);
}

#[test]
fn what_destroys_is_asked_for() {
    let told = |changed: &[(&str, Fact)]| told(&[APPROVALS], &["prod"], Verb::Query, changed);
    assert_eq!(told(&[]).policies, ["write-with-approval"]);
    assert_eq!(told(&kinds(&["DELETE"])).effect, Effect::Allow);
    let drop = told(&kinds(&["DROP", "DROP_TABLE"]));
    assert_eq!((drop.effect, drop.policies), (Effect::Ask, vec!["approve-drop".to_owned()]));
    let all = told(&[("unfiltered", Fact::Bool(true))]);
    let terms = all.terms.unwrap();
    assert_eq!((all.effect, terms.approvers, terms.whole_session), (Effect::Ask, 2, false));
    assert_eq!(terms.groups.into_iter().collect::<Vec<_>>(), ["os:dba", "os:sre"]);
    assert_eq!(told(&unparsed()).policies, ["approve-drop", "approve-unfiltered"]);
    assert_eq!(told(&unparsed()).effect, Effect::Ask);
}

#[test]
fn models_are_for_their_groups() {
    let rules = parsed(&[MODELS]);
    let ask = |groups: &[&str], tags: &[&str], model: &str, tools: &[&str]| {
        let who = Identity { groups: groups.iter().map(|group| (*group).to_owned()).collect(), ..alice() };
        let mut facts = facts(Verb::LlmCall);
        facts.insert("model".into(), text(model));
        facts.insert("tools".into(), set(tools));
        rules.scope(&who, &tagged(tags)).judge(Verb::LlmCall, &facts).effect
    };
    assert_eq!(ask(&["os:crew"], &["models"], "gpt-5-mini", &["search"]), Effect::Allow);
    assert_eq!(ask(&["os:crew"], &["models"], "gpt-5-mini", &[]), Effect::Allow);
    assert_eq!(ask(&["os:crew"], &["models"], "gpt-5-mini", &["*"]), Effect::Deny);
    assert_eq!(ask(&["os:crew"], &["models"], "gpt-5", &[]), Effect::Deny);
    assert_eq!(ask(&["os:crew"], &["models"], "UNPARSED", &[]), Effect::Deny);
    assert_eq!(ask(&["os:research"], &["models"], "gpt-5", &["shell"]), Effect::Allow);
    assert_eq!(ask(&["os:research"], &["models", "prod"], "claude-opus-4-5", &[]), Effect::Allow);
    assert_eq!(ask(&["os:crew"], &["models", "prod"], "gpt-5-mini", &[]), Effect::Deny);
    assert_eq!(ask(&[], &["models"], "gpt-5-mini", &[]), Effect::Deny);
    assert_eq!(told(&[MODELS], &["models"], Verb::Connect, &[]).effect, Effect::Allow);
    assert_eq!(told(&[MODELS], &["uncatalogued"], Verb::Connect, &[]).effect, Effect::Deny);
}

#[test]
fn no_sample_lets_pass_what_is_not_understood() {
    for (name, tags, effect) in [
        (READONLY, "database", Effect::Deny),
        (HOURS, "prod", Effect::Deny),
        (EGRESS, "uncatalogued", Effect::Deny),
        (METADATA, "prod", Effect::Deny),
        (APPROVALS, "prod", Effect::Ask),
        (MODELS, "models", Effect::Deny),
    ] {
        let night = [unparsed(), vec![("hour", Fact::Int(3))]].concat();
        assert_eq!(told(&[name], &[tags], Verb::Query, &night).effect, effect, "{name:?}");
    }
}

#[test]
fn an_empty_statement_passes_where_reading_does() {
    let at = |sample, tags: &str| told(&[sample], &[tags], Verb::Query, &empty()).effect;
    assert_eq!(at(READONLY, "database"), Effect::Allow, "there is nothing to run");
    assert_eq!(at(APPROVALS, "prod"), Effect::Allow);
    for (sample, tags) in [(HOURS, "prod"), (EGRESS, "uncatalogued"), (METADATA, "prod"), (MODELS, "models")] {
        assert_eq!(at(sample, tags), Effect::Deny, "by default");
    }
    let night = [empty(), vec![("hour", Fact::Int(3))]].concat();
    assert_eq!(told(&[ALL, HOURS], &["prod"], Verb::Query, &night).effect, Effect::Allow);
}

/// Cedar alone would skip the forbid, and allow.
#[test]
fn beside_a_forbid_that_errs_no_sample_lets_anything_pass() {
    let errs = (
        "errs.cedar",
        "@id(\"errs\") forbid(principal, action, resource) when { context.port * 9223372036854775807 == 1 };",
    );
    for sample in SAMPLES {
        for tags in [["database"], ["prod"], ["uncatalogued"], ["models"]] {
            for verb in Verb::ALL {
                let verdict = told(&[ALL, sample, errs], &tags, verb, &[]);
                assert_eq!((verdict.effect, verdict.errors.len()), (Effect::Deny, 1), "{sample:?} {verb:?}");
                assert!(verdict.policies.contains(&"errs".to_owned()));
            }
        }
    }
}

#[test]
fn roles_are_groups_of_the_provider_and_what_an_agent_says_of_itself_only_narrows() {
    let told = |group: &str, kinds: &[&str], changed: &[(&str, Fact)]| {
        let mut facts = facts(Verb::Query);
        facts.insert("kinds".into(), set(kinds));
        facts.extend(changed.iter().map(|(name, fact)| ((*name).to_owned(), fact.clone())));
        let who = Identity { id: "oidc:corp:a1".into(), groups: vec![group.to_owned()].into(), ..alice() };
        parsed(&[ROLES]).scope(&who, &tagged(&["prod"])).judge(Verb::Query, &facts)
    };
    let effect = |group: &str, kinds: &[&str], changed: &[(&str, Fact)]| told(group, kinds, changed).effect;
    let engineers = "oidc:corp:engineers";
    assert_eq!(effect("oidc:corp:analysts", &["SELECT"], &[]), Effect::Allow);
    assert_eq!(effect("oidc:corp:analysts", &["DELETE"], &[]), Effect::Deny);
    assert_eq!(effect("oidc:other:analysts", &["SELECT"], &[]), Effect::Deny, "another provider's group");
    assert_eq!(effect(engineers, &["DELETE"], &[("agent_role", text("Data engineer"))]), Effect::Allow);
    assert_eq!(effect(engineers, &["DELETE"], &[("agent_role", text("Senior Researcher"))]), Effect::Deny);
    assert_eq!(effect(engineers, &["SELECT"], &[("agent_role", text("Senior Researcher"))]), Effect::Allow);
    assert_eq!(effect("os:nobody", &["DELETE"], &[("agent_role", text("Data engineer"))]), Effect::Deny);
    let expired = told(engineers, &["SELECT"], &[("login_expired", Fact::Bool(true))]);
    assert_eq!(expired.effect, Effect::Ask);
    assert!(expired.terms.unwrap().groups.contains("oidc:corp:engineers"));
    let who = Identity { id: "oidc:corp:a1".into(), groups: vec!["oidc:corp:analysts".to_owned()].into(), ..alice() };
    let connect = parsed(&[ROLES]).scope(&who, &tagged(&["prod"])).judge(Verb::Connect, &facts(Verb::Connect));
    assert_eq!(connect.effect, Effect::Allow);
}
