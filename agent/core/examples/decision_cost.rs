//! What a decision costs, measured: prints one JSON line per size of the policy set.
//!
//! Never the place for goals; `cargo xtask bench` compares these figures with them.

use std::fmt::Write as _;
use std::hint::black_box;
use std::time::{Duration, Instant};

use crewtap_core::action::{Fact, Facts, Verb};
use crewtap_core::identity::Identity;
use crewtap_core::policy::rules::Rules;
use crewtap_core::target::Resource;
use crewtap_core::verdict::Effect;

/// Policies that can apply to what is asked; the others are for other groups and targets.
const NEAR_MAX: usize = 10;

/// Decisions that are measured, and as many before that nobody counts.
const DECISIONS: usize = 20_000;

fn main() -> Result<(), String> {
    for policies in [1, 100, 1000] {
        measure(policies)?;
    }
    Ok(())
}

/// Policies as people write them: one permits, and the others look at the same statement.
fn text(policies: usize) -> String {
    const LOOKS: [&str; 9] = [
        "forbid (principal, action == Action::\"query\", resource) when { context.kinds.containsAny([\"DROP\", \"TRUNCATE\", \"UNPARSED\"]) };",
        "forbid (principal in Group::\"os:crew\", action == Action::\"query\", resource in Tag::\"prod\") when { context.unfiltered };",
        "forbid (principal, action, resource) when { context.address.isInRange(ip(\"169.254.0.0/16\")) };",
        "forbid (principal, action == Action::\"query\", resource in Tag::\"prod\") when { context.hour < 6 && !context.kinds.contains(\"SELECT\") };",
        "@approval(\"os:dba\") forbid (principal, action, resource == Target::\"orders-db\") when { context has crew && context.crew == \"x\" } unless { context.approved };",
        "permit (principal in Group::\"os:users\", action == Action::\"query\", resource) when { context.tables.contains(\"public_data\") };",
        "forbid (principal, action == Action::\"query\", resource) when { context.functions.contains(\"pg_sleep\") || context.functions.contains(\"*\") };",
        "permit (principal == Identity::\"os:1000\", action, resource in Tag::\"dev\") when { context.port == 5432 };",
        "forbid (principal, action == Action::\"query\", resource in Tag::\"prod\") when { context.host like \"*.evil.example\" };",
    ];
    let mut text = String::from(
        "permit (principal in Group::\"os:crew\", action == Action::\"query\", resource == Target::\"orders-db\")\n\
         when { context.parsed && [\"SELECT\", \"SHOW\", \"BEGIN\", \"COMMIT\"].containsAll(context.kinds) };\n",
    );
    for look in LOOKS.iter().take((policies - 1).min(NEAR_MAX - 1)) {
        text.push_str(look);
        text.push('\n');
    }
    for other in policies.min(NEAR_MAX)..policies {
        let _ = writeln!(
            text,
            "permit (principal in Group::\"os:team-{other}\", action == Action::\"query\", resource == Target::\"db-{other}\") \
             when {{ [\"SELECT\"].containsAll(context.kinds) }};"
        );
    }
    text
}

fn facts() -> Facts {
    let texts = |texts: &[&str]| Fact::Set(texts.iter().map(|text| (*text).to_owned()).collect());
    let text = |text: &str| Fact::Text(text.into());
    let facts = [
        ("address", text("10.1.2.3")),
        ("port", Fact::Int(5432)),
        ("host", text("orders.internal")),
        ("proof", text("config")),
        ("hour", Fact::Int(10)),
        ("weekday", text("tuesday")),
        ("kinds", texts(&["SELECT"])),
        ("tables", texts(&["orders", "customers"])),
        ("functions", texts(&["count"])),
        ("unfiltered", Fact::Bool(false)),
        ("parsed", Fact::Bool(true)),
        ("text", text("SELECT count(*) FROM orders JOIN customers USING (customer) WHERE day = $1")),
        ("user", text("crew")),
        ("database", text("orders")),
    ];
    facts.into_iter().map(|(name, fact)| (name.to_owned(), fact)).collect()
}

fn measure(policies: usize) -> Result<(), String> {
    let begin = Instant::now();
    let rules = Rules::parse(&[("bench.cedar".to_owned(), text(policies))]).map_err(|faults| format!("{faults:?}"))?;
    let parsed = begin.elapsed();
    let groups = vec!["os:crew".to_owned(), "os:users".to_owned()];
    let who = Identity { id: "os:1000".into(), name: "alice".into(), groups: groups.into(), ..Identity::unknown() };
    let what = Resource { id: "orders-db".into(), tags: vec!["prod".into()] };
    let facts = facts();
    let begin = Instant::now();
    let scope = rules.scope(&who, &what);
    let sliced = begin.elapsed();
    let mut times = Vec::with_capacity(DECISIONS);
    for count in 0..2 * DECISIONS {
        let begin = Instant::now();
        let verdict = scope.judge(black_box(Verb::Query), black_box(&facts));
        let took = begin.elapsed();
        if black_box(verdict).effect != Effect::Allow {
            return Err("the decision is not the one that is measured".into());
        }
        if count >= DECISIONS {
            times.push(took);
        }
    }
    times.sort_unstable();
    let micros = |time: Duration| time.as_secs_f64() * 1e6;
    let at = |share: usize| times.get(times.len() * share / 1000).copied().map_or(f64::NAN, micros);
    println!(
        "{{\"case\":\"decision\",\"policies\":{policies},\"p50_us\":{:.2},\"p99_us\":{:.2},\"scope_us\":{:.1},\"parse_ms\":{:.1}}}",
        at(500),
        at(990),
        micros(sliced),
        micros(parsed) / 1e3,
    );
    Ok(())
}
