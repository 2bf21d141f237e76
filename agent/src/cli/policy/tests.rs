//! From a record to policies, and back.

use crewtap_core::action::{Fact, Facts};
use crewtap_core::bodies::*;
use crewtap_core::chain::Record;
use crewtap_core::event::Event;
use crewtap_core::id::{RunId, SessionId};
use crewtap_core::policy::catalog::Catalog;
use crewtap_core::policy::rules::{Known, Rules};
use crewtap_core::run::{Mode, RunOutcome};
use crewtap_core::session::{Outcome, Side};
use crewtap_core::target::{Name, Proof, Resource, Target};
use crewtap_core::verdict::{Effect, Verdict};

use super::super::screen::ViewArgs;
use super::super::store::Store;
use super::super::tests::{JSON, UTC, printed, store_of};
use super::{check, explain, suggest, test};
use crate::clock::Zone;
use crate::config::Config;
use crate::index::sample::{Sample, address};

fn text(text: &str) -> Fact {
    Fact::Text(text.into())
}

fn set(texts: &[&str]) -> Fact {
    Fact::Set(texts.iter().map(|text| (*text).to_owned()).collect())
}

fn facts(pairs: &[(&str, Fact)]) -> Facts {
    pairs.iter().map(|(name, fact)| ((*name).to_owned(), fact.clone())).collect()
}

fn config() -> Config {
    Config { zone: Zone::named("UTC").unwrap(), ..Config::default() }
}

/// A run in mode record, with one of everything.
struct Story {
    sample: Sample,
    run: RunId,
    exchanges: u32,
}

impl Story {
    fn begin() -> Self {
        let mut sample = Sample::new();
        let run = sample.run_id();
        sample.start_run(run, &["crewai", "run"]);
        Self { sample, run, exchanges: 0 }
    }

    /// A session with its decision on the connection.
    fn connect(&mut self, to: &str, host: Option<&str>, protocol: &str, mode: Mode, verdict: Verdict) -> SessionId {
        let session = self.sample.session_id();
        let run = self.run;
        self.sample.open_session(run, session, to);
        let name = host.map(|host| Name { host: host.into(), proof: Proof::Dns });
        let target = Target { address: address(to), name };
        let mut seen = target.facts();
        seen.insert("protocol".into(), text(protocol));
        let resource = Resource::uncatalogued(target.address);
        let subject = target.label();
        let classified =
            Classified { protocol: protocol.into(), driver: protocol.into(), target, sni: None, alpn: vec![] };
        self.sample.add(classified, |event| event.in_session(run, session));
        let decided =
            Decided { verb: "connect".into(), subject, verdict, mode, facts: seen, resource, overridden: None };
        self.sample.add(decided, |event| event.in_session(run, session));
        session
    }

    fn recorded(&mut self, to: &str, host: Option<&str>, protocol: &str) -> SessionId {
        self.connect(to, host, protocol, Mode::Record, Verdict::of(Effect::Allow, vec![]))
    }

    /// An exchange, with what policy said of it where it was asked, and its content.
    fn exchange(&mut self, session: SessionId, request: Request, decided: Option<Decided>, body: &[u8]) {
        self.exchanges += 1;
        let (run, n) = (self.run, self.exchanges);
        let place = |event: Event| event.in_session(run, session).in_exchange(n);
        let blocked = decided.as_ref().is_some_and(|decided| decided.verdict.effect != Effect::Allow);
        self.sample.add(request, place);
        if let Some(decided) = decided {
            self.sample.add(decided, place);
        }
        if !body.is_empty() {
            self.sample.add_with(Chunk::new(Side::Client, 0), place, body);
        }
        let outcome = if blocked { "blocked" } else { "success" };
        self.sample.add(Response { outcome: outcome.into(), ..Response::default() }, place);
    }

    fn end(mut self) -> Vec<Record> {
        let run = self.run;
        self.sample.add(RunEnded { outcome: RunOutcome::Exited, status: Some(0) }, |event| event.in_run(run));
        self.sample.records
    }
}

fn statement(kinds: &[&str], tables: &[&str], unfiltered: bool) -> Request {
    let parsed = !kinds.contains(&"UNPARSED");
    let facts = facts(&[
        ("kinds", set(kinds)),
        ("tables", set(tables)),
        ("functions", set(if parsed { &[] } else { &["*"] })),
        ("unfiltered", Fact::Bool(unfiltered)),
        ("parsed", Fact::Bool(parsed)),
        ("text", text("…")),
        ("user", text("crew")),
        ("database", text("orders \"x\"\n")),
        ("transaction", text("idle")),
    ]);
    let verb = kinds.first().copied().unwrap_or("EMPTY");
    Request { verb: verb.into(), subject: format!("{verb} …"), facts, ..Request::default() }
}

fn request(method: &str, path: &str, more: &[(&str, Fact)]) -> Request {
    let mut facts = facts(&[("method", text(method)), ("path", text(path)), ("raw_path", text(path))]);
    facts.extend(self::facts(more));
    Request { verb: method.into(), subject: format!("http://api.example{path}"), facts, ..Request::default() }
}

fn recorded() -> Vec<Record> {
    let mut story = Story::begin();
    let run = story.run;
    for answered in [false, true] {
        let dns = Dns {
            id: 7,
            transport: "udp".into(),
            resolver: address("127.0.0.53:53"),
            pid: 812,
            name: "API.example.".into(),
            record: "A".into(),
            answered,
            code: None,
            answers: vec![],
        };
        story.sample.add(dns, |event| event.in_run(run));
    }
    let database = story.recorded("127.9.0.2:5432", None, "postgres");
    let login = Request { verb: "LOGIN".into(), subject: "crew to orders".into(), ..Request::default() };
    story.exchange(database, login, None, b"");
    story.exchange(database, statement(&["SELECT"], &["orders"], false), None, b"");
    story.exchange(database, statement(&["SELECT"], &["customers"], false), None, b"");
    story.exchange(database, statement(&["DELETE"], &["orders"], true), None, b"");
    story.exchange(database, statement(&["UNPARSED"], &["*"], true), None, b"");
    story.exchange(database, statement(&[], &[], false), None, b"");
    let web = story.recorded("127.9.0.3:80", Some("api.example"), "http");
    story.exchange(web, request("get", "/v1/items", &[("query", text("page=2"))]), None, b"");
    story.exchange(web, request("GET", "/v1/orders/7", &[]), None, b"");
    story.exchange(web, request("POST", "/v1/items", &[("claimed_host", text("other.example"))]), None, b"{}");
    let body = br#"{"model":"gpt-5","messages":[],"tools":[{"type":"function","function":{"name":"search"}}]}"#;
    story.exchange(web, request("POST", "/v1/chat/completions", &[]), None, body);
    // Cut off before its answer came.
    story.exchanges += 1;
    let n = story.exchanges;
    story.sample.add(request("DELETE", "/v1/items/1", &[]), |event| event.in_session(run, web).in_exchange(n));
    story.sample.close(run, web, Outcome::Aborted, 1, 1);
    story.recorded("127.9.0.4:22", None, "ssh");
    story.end()
}

fn suggested(store: &Store) -> String {
    let run = store.index.runs(0, 1).unwrap().remove(0).id;
    let (found, text) = printed(&UTC, |screen| suggest(store, &config(), &run, screen));
    assert!(found);
    text
}

fn rules(text: &str) -> Rules {
    Rules::parse(&[("a.cedar".to_owned(), text.to_owned())]).unwrap_or_else(|faults| panic!("{faults:#?}\n{text}"))
}

fn tried(store: &Store, rules: &Rules, view: &ViewArgs) -> (bool, String) {
    printed(view, |screen| test(store, &config(), rules, (None, None), screen))
}

#[test]
fn what_is_suggested_for_a_run_passes_all_of_it() {
    let (_dir, store) = store_of(&recorded());
    let text = suggested(&store);
    let rules = rules(&text);
    let warnings = rules.warnings(&Known::default());
    assert!(warnings.is_empty(), "{warnings:#?}\n{text}");
    let (same, told) = tried(&store, &rules, &UTC);
    assert!(same, "{told}\n{text}");
    // A look-up, three connections, five statements, five requests; the log-in is none of its own.
    assert!(told.starts_with("14 verdicts in 1 run by "), "{told}");
    assert!(told.trim_end().ends_with("none would differ"), "{told}");
    for part in [
        "context.name == \"api.example\"",
        "resource == Target::\"tcp:127.9.0.4:22\"",
        "[\"SELECT\"].containsAll(context.kinds)",
        "[\"customers\", \"orders\"].containsAll(context.tables)",
        "context.database == \"orders \\\"x\\\"\\n\"",
        "context.method == \"GET\" &&",
        "[\"/v1/items\", \"/v1/orders/7\"].contains(context.path)",
        "context.model == \"gpt-5\"",
        "[\"search\"].containsAll(context.tools)",
        "NOTE: some of it was not understood",
        "NOTE: a DELETE or UPDATE",
        "NOTE: the name was merely claimed",
        "by alice, 2 times",
    ] {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
}

/// What was not done is not permitted: the same run with one more statement.
#[test]
fn what_is_suggested_passes_nothing_else() {
    let (_dir, store) = store_of(&recorded());
    let rules = rules(&suggested(&store));
    let mut other = Story::begin();
    let database = other.recorded("127.9.0.2:5432", None, "postgres");
    other.exchange(database, statement(&["SELECT"], &["secrets"], false), None, b"");
    other.exchange(database, statement(&["DROP", "DROP_TABLE"], &["orders"], false), None, b"");
    other.exchange(database, statement(&["DELETE"], &["customers"], true), None, b"");
    let web = other.recorded("127.9.0.3:80", Some("api.example"), "http");
    other.exchange(web, request("GET", "/v1/admin", &[]), None, b"");
    other.exchange(web, request("PUT", "/v1/items", &[]), None, b"");
    other.recorded("127.9.0.5:22", None, "ssh");
    let (_dir, store) = store_of(&other.end());
    let (same, told) = tried(&store, &rules, &UTC);
    assert!(!same);
    assert!(told.contains("8 verdicts in 1 run by") && told.contains("6 would differ (allow -> deny 6)"), "{told}");
    assert!(told.contains("no policy permits it"), "{told}");
}

/// What the live path calls UNPARSED, and what it asks of a log-in, is asked of new policies too.
#[test]
fn what_servers_could_take_from_fields_and_what_a_log_in_sets_is_judged_again() {
    let mut story = Story::begin();
    let database = story.recorded("127.9.0.2:5432", None, "postgres");
    let sets = statement(&["SET", "SET_ROLE"], &[], false).facts;
    let login = Request { verb: "LOGIN".into(), subject: "crew to orders".into(), facts: sets, ..Request::default() };
    story.exchange(database, login, None, b"");
    let web = story.recorded("127.9.0.3:80", Some("api.example"), "http");
    for unclear in [&["method"][..], &["path"], &["method", "path"]] {
        story.exchange(web, request("GET", "/v1/items", &[("unclear", set(unclear))]), None, b"");
    }
    let (_dir, store) = store_of(&story.end());
    let plain = "permit(principal, action == Action::\"connect\", resource);\n\
        permit(principal, action == Action::\"query\", resource) when { [\"SET\"].containsAll(context.kinds) };\n\
        permit(principal, action == Action::\"http_request\", resource)\n\
        when { context.method == \"GET\" && context.path == \"/v1/items\" };";
    let (same, told) = tried(&store, &rules(plain), &UTC);
    assert!(!same);
    assert!(told.contains("6 verdicts in 1 run by") && told.contains("4 would differ (allow -> deny 4)"), "{told}");
    let suggested = suggested(&store);
    for part in ["\"SET_ROLE\"", "context.method == \"UNPARSED\"", "NOTE: some of it was not understood"] {
        assert!(suggested.contains(part), "{part} is not in\n{suggested}");
    }
    let (same, told) = tried(&store, &rules(&suggested), &UTC);
    assert!(same, "{told}\n{suggested}");
}

fn asked(verb: &str, facts: Facts, verdict: Verdict) -> Decided {
    let resource = Resource { id: "orders-db".into(), tags: vec!["prod".into()] };
    let mut all = facts;
    all.extend(self::facts(&[("hour", Fact::Int(3)), ("weekday", text("sunday")), ("address", text("127.9.0.2"))]));
    Decided {
        verb: verb.into(),
        subject: "…".into(),
        verdict,
        mode: Mode::Enforce,
        facts: all,
        resource,
        overridden: None,
    }
}

fn enforced() -> (Vec<Record>, SessionId) {
    let mut story = Story::begin();
    let allow = Verdict::of(Effect::Allow, vec!["connect".into()]);
    let session = story.connect("127.9.0.2:5432", None, "postgres", Mode::Enforce, allow);
    let read = statement(&["SELECT"], &["orders"], false);
    let decided = asked("query", read.facts.clone(), Verdict::of(Effect::Allow, vec!["read".into()]));
    story.exchange(session, read, Some(decided), b"");
    let drop = statement(&["DROP"], &["orders"], false);
    let decided = asked("query", drop.facts.clone(), Verdict::of(Effect::Deny, vec![]));
    story.exchange(session, drop, Some(decided), b"");
    // Refused without a question, as a request is that nobody can read.
    story.exchanges += 1;
    let (run, n) = (story.run, story.exchanges);
    let place = |event: Event| event.in_session(run, session).in_exchange(n);
    story.sample.add(request("GET", "/", &[]), place);
    story.sample.add(Response { outcome: "blocked".into(), ..Response::default() }, place);
    story.sample.close(run, session, Outcome::Completed, 1, 1);
    (story.end(), session)
}

const READING: &str = "@id(\"connect\") permit(principal, action == Action::\"connect\", resource);\n\
    @id(\"read\") permit(principal, action == Action::\"query\", resource in Tag::\"prod\")\n\
    when { [\"SELECT\"].containsAll(context.kinds) && context.hour < 12 };\n";

#[test]
fn verdicts_that_would_be_others_are_listed() {
    let (records, session) = enforced();
    let (_dir, store) = store_of(&records);
    let (same, told) = tried(&store, &rules(READING), &UTC);
    assert!(same, "{told}");
    assert!(told.starts_with("3 verdicts in 1 run by 2 policies: none would differ"), "{told}");
    let ask = format!(
        "{READING}permit(principal, action, resource); @id(\"hold\") @approval(\"os:dba\") forbid(principal, action == Action::\"query\", resource)\n\
         when {{ context.kinds.contains(\"DROP\") }} unless {{ context.approved }};\n@id(\"night\") forbid(principal, action, resource) when {{ context.kinds.contains(\"SELECT\") }};"
    );
    assert!(Rules::parse(&[("a.cedar".into(), ask.clone())]).is_err(), "connections have no kinds");
    let ask =
        ask.replace("forbid(principal, action, resource)", "forbid(principal, action == Action::\"query\", resource)");
    let (same, told) = tried(&store, &rules(&ask), &JSON);
    assert!(!same);
    let lines: Vec<serde_json::Value> = told.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 3, "{told}");
    assert_eq!((&lines[0]["was"], &lines[0]["now"]), (&"allow".into(), &"deny".into()));
    assert_eq!(lines[0]["policies"], serde_json::json!(["night"]));
    assert_eq!((&lines[1]["was"], &lines[1]["now"]), (&"deny".into(), &"ask".into()));
    assert_eq!((&lines[1]["session"], &lines[1]["n"]), (&session.to_string().into(), &2.into()));
    assert_eq!(lines[2]["changes"], serde_json::json!({ "allow_deny": 1, "deny_ask": 1 }));
    assert_eq!((&lines[2]["judged"], &lines[2]["differ"]), (&3.into(), &2.into()));
}

#[test]
fn targets_are_those_of_the_catalog_today() {
    let (records, _) = enforced();
    let (_dir, store) = store_of(&records);
    let dir = tempfile::tempdir().unwrap();
    let targets = dir.path().join("targets.toml");
    std::fs::write(&targets, "[target.renamed]\nmatch = { cidr = [\"127.9.0.2\"] }\nprotocol = \"postgres\"\n")
        .unwrap();
    let config = Config { targets: Some(targets), ..config() };
    assert_eq!(config.catalog().unwrap_or_else(|error| panic!("{error}")).entries().len(), 1);
    let (same, told) = printed(&UTC, |screen| test(&store, &config, &rules(READING), (None, None), screen));
    assert!(!same, "{told}");
    assert!(told.contains("on renamed") && told.contains("1 would differ (allow -> deny 1)"), "{told}");
}

#[test]
fn an_explanation_shows_who_decided_what_each_saw_and_what_came_near() {
    let (records, session) = enforced();
    let (_dir, store) = store_of(&records);
    let told = |id: &str, policies: &str, view: &ViewArgs| {
        printed(view, |screen| explain(&store, id, Ok(rules(policies)), screen))
    };
    let (found, text) = told(&format!("{session}.1"), READING, &UTC);
    assert!(found);
    for part in [
        "verdict   allow in mode enforce",
        "on        orders-db in prod",
        "decided   by read",
        "permit read (a.cedar:2): it applied",
        "  | when {",
        "kinds = [\"SELECT\"]",
        "hour = 3",
    ] {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
    let (_, text) = told(&format!("{session}.2"), READING, &UTC);
    for part in [
        "verdict   deny",
        "by no policy: what none permits is denied",
        "permit read (a.cedar:2): its conditions did not hold",
        "kinds = [\"DROP\"]",
    ] {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
    assert!(!text.contains("connect (a.cedar"), "out of reach\n{text}");
    let (_, text) = told(&format!("{session}.2"), "permit(principal, action, resource);", &UTC);
    assert!(text.contains("the policies were others then: today they say allow"), "{text}");
    let (_, text) = told(&format!("{session}.1"), "", &UTC);
    assert!(text.contains("read is no policy of today") && text.contains("no permit is for this identity"), "{text}");
    let (_, text) = told(&session.to_string(), READING, &JSON);
    let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 3);
    assert_eq!(lines[2]["today"]["seen"][0]["held"], serde_json::json!(false));
    assert_eq!(lines[2]["decided"]["verdict"]["effect"], "deny");
    assert_eq!(told("01NOTHING", READING, &UTC), (false, String::new()));
    let (found, _) =
        printed(&UTC, |screen| explain(&store, &format!("{session}.1"), Err(anyhow::anyhow!("none")), screen));
    assert!(found, "what is on record needs no policies of today");
}

#[test]
fn a_check_lists_faults_and_warnings() {
    let file = |text: &str| vec![("a.cedar".to_owned(), text.to_owned())];
    let told = |text: &str, view: &ViewArgs| {
        let files = file(text);
        printed(view, |screen| check::print(&files, &Rules::parse(&files), Some(&Catalog::default()), screen))
    };
    let (right, text) = told("permit(principal, action, resource);", &UTC);
    assert_eq!((right, text.as_str()), (true, "1 policy in 1 file, 0 warnings\n"));
    let (right, text) = told(
        "permit(principal, action, resource == Target::\"x\");\npermit(principal in Group::\"os:no such group\", action, resource);",
        &UTC,
    );
    assert!(right);
    assert!(text.starts_with("a.cedar:1: warning: a.cedar#1 names Target::\"x\""), "{text}");
    assert!(
        text.contains("a.cedar:2: warning: a.cedar#2 names Group::\"os:no such group\", which this host does not know"),
        "{text}"
    );
    let (right, text) = told("\npermit(principal, action", &JSON);
    assert!(!right);
    let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(
        (&lines[0]["weight"], &lines[0]["file"], &lines[0]["line"]),
        (&"fault".into(), &"a.cedar".into(), &2.into())
    );
    assert_eq!(lines.last().unwrap(), &serde_json::json!({ "files": 1, "policies": 0, "faults": 1, "warnings": 0 }));
}

#[test]
fn files_are_those_that_are_named_or_configured() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("b.cedar"), "b").unwrap();
    std::fs::write(dir.path().join("a.cedar"), "a").unwrap();
    let named = Config { policy: Some(dir.path().to_path_buf()), ..config() };
    let names = |files: Vec<(String, String)>| files.into_iter().map(|(name, _)| name).collect::<Vec<_>>();
    assert_eq!(names(super::files(&[], &named).unwrap()), ["a.cedar", "b.cedar"]);
    assert_eq!(names(super::files(&[dir.path().join("b.cedar")], &named).unwrap()), ["b.cedar"]);
    assert!(super::files(&[], &config()).unwrap_err().to_string().contains("set `policy` in crewtap.toml"));
    assert!(super::files(&[dir.path().join("c.cedar")], &named).is_err());
}
