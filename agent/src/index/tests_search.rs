//! What a search finds, and that nothing that is typed becomes syntax.

use proptest::prelude::*;

use super::sample::Sample;
use super::{Hit, Index, Indexer, Query};

fn story() -> (tempfile::TempDir, Index) {
    let (_, dir, index) = recorded_story();
    (dir, index)
}

fn recorded_story() -> (Sample, tempfile::TempDir, Index) {
    let (sample, ..) = Sample::story();
    let dir = tempfile::tempdir().unwrap();
    let mut indexer = Indexer::open(dir.path(), |_| None).unwrap();
    indexer.apply(&sample.records).unwrap();
    let index = Index::open(dir.path()).unwrap();
    (sample, dir, index)
}

fn search(index: &Index, query: &str) -> Vec<Hit> {
    index.search(&query.parse::<Query>().unwrap(), (0, 100), &|_| None).unwrap()
}

fn kinds(index: &Index, query: &str) -> Vec<String> {
    let mut kinds: Vec<String> = search(index, query).into_iter().map(|hit| hit.kind).collect();
    kinds.sort();
    kinds
}

#[test]
fn every_kind_of_term_finds_what_it_should() {
    let (_dir, index) = story();
    let expected: &[(&str, &[&str])] = &[
        // Words over several records of one session, across the cut between two chunks.
        ("quarterly", &["session"]),
        ("chat quarterly", &["session"]),
        ("\"quarterly revenue\"", &["session"]),
        ("\"revenue quarterly\"", &[]),
        ("quarterly nothing", &[]),
        ("quarter*", &["session"]),
        ("quarter", &[]),
        ("password_hash", &["session"]),
        ("QUARTERLY", &["session"]),
        // Columns.
        ("target:127.9.0.2", &["exchange", "session"]),
        ("target:127.9.0.2:5432", &["exchange", "session"]),
        ("target:127.9.0.20", &[]),
        ("target:127.9.0", &[]),
        ("target:*.openai.test", &["session"]),
        ("host:API.OPENAI.TEST kind:session", &["session"]),
        ("verb:query subject:\"drop table orders\"", &["decision", "exchange"]),
        ("verdict:deny", &["decision", "exchange"]),
        ("kind:session -outcome:completed", &["session"]),
        ("kind:session outcome:completed", &["session"]),
        ("kind:session -quarterly", &["session"]),
        ("outcome:blocked", &["exchange"]),
        ("code:42501", &["exchange"]),
        ("bytes_up:>50 kind:session", &["session"]),
        ("pid:900", &["bypass", "process", "process"]),
        ("kind:bypass ntp", &["bypass"]),
        ("kind:note port", &["note"]),
        ("kind:name 127.9.0.1", &["name"]),
        ("kind:accepted", &["accepted"]),
        ("kind:run nightly", &["run"]),
        ("exe:*git", &["process"]),
        ("DROP kind:exchange", &["exchange"]),
    ];
    for (query, kinds_expected) in expected {
        assert_eq!(kinds(&index, query), *kinds_expected, "{query}");
    }
}

#[test]
fn a_hit_shows_what_matched() {
    let (sample, _dir, index) = recorded_story();
    let journal = |leaf| sample.records.iter().find(|record| record.leaf == leaf).cloned();
    let search = |index: &Index, query: &str| index.search(&query.parse().unwrap(), (0, 100), &journal).unwrap();
    let hit = search(&index, "revenue").remove(0);
    assert!(hit.snippet.unwrap().contains("quarterly revenue"));
    assert!(hit.marked.contains(&("revenue".into(), true)), "{:?}", hit.marked);
    let by_column = search(&index, "target:127.9.0.2 kind:session").remove(0);
    assert_eq!(by_column.snippet, None);
    let process = search(&index, "git status").remove(0);
    assert_eq!((process.kind.as_str(), process.snippet.is_some()), ("process", true));
    let unread = index.search(&"revenue".parse().unwrap(), (0, 100), &|_| None).unwrap().remove(0);
    assert_eq!((unread.kind, unread.snippet), ("session".into(), None), "without the journal");
}

#[test]
fn ids_are_found_by_prefix() {
    let (_dir, index) = story();
    let run = index.runs(0, 1).unwrap().remove(0).id;
    let all = search(&index, &format!("run:{}", run.to_lowercase())).len();
    assert_eq!(all, search(&index, &format!("run:{}", &run[..6])).len());
    assert!(all > 10);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn nothing_typed_is_syntax(query in "[-\"*:a-z0-9(){}^+' %_\\[\\]?;~.,<>ANDORNEAR]{1,40}|\\PC{1,20}") {
        thread_local!(static STORY: (tempfile::TempDir, Index) = story());
        if let Ok(query) = query.parse::<Query>() {
            STORY.with(|(_, index)| index.search(&query, (0, 5), &|_| None).map(drop)).unwrap();
        }
    }

    #[test]
    fn a_term_and_its_negation_share_everything_between_them(word in "[a-z]{1,6}|kind:[a-z]{3,7}|drop|revenue|git") {
        thread_local!(static STORY: (tempfile::TempDir, Index) = story());
        STORY.with(|(_, index)| {
            let (with, without) = (search(index, &word).len(), search(index, &format!("-{word}")).len());
            let all = search(index, "-zzzzzzzz").len();
            prop_assert_eq!(with + without, all);
            Ok(())
        })?;
    }
}

#[test]
fn what_somebodys_runs_did_is_found_by_user_by_address_and_by_group() {
    use crewtap_core::event::Body;
    let (mut sample, ..) = Sample::story();
    for record in &mut sample.records {
        if let Body::RunStarted(started) = &mut record.event.body {
            started.identity.id = "oidc:corp:a1".into();
            started.identity.name = "Alice@example.com".into();
            started.identity.groups = vec!["oidc:corp:sre".to_owned(), "os:staff".to_owned()].into();
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let mut indexer = Indexer::open(dir.path(), |_| None).unwrap();
    indexer.apply(&sample.records).unwrap();
    let index = Index::open(dir.path()).unwrap();
    let all = kinds(&index, "identity:*");
    assert!(all.iter().any(|kind| kind == "exchange") && all.iter().any(|kind| kind == "process"), "{all:?}");
    for who in
        ["identity:alice", "identity:alice@example.com", "identity:OIDC:corp:A1", "group:sre", "group:oidc:corp:sre"]
    {
        let found = kinds(&index, who);
        assert!(
            found.iter().any(|kind| kind == "run") && found.iter().any(|kind| kind == "exchange"),
            "{who}: {found:?}"
        );
    }
    for nobody in ["identity:bob", "identity:alic", "identity:example.com", "group:sr", "group:corp", "group:dba"] {
        assert_eq!(kinds(&index, &format!("{nobody} kind:run")), Vec::<String>::new(), "{nobody}");
    }
    assert!(kinds(&index, "kind:run -identity:alice").is_empty());
    let runs = |who, group| index.runs_of(0, who, group, 10).unwrap().len();
    assert_eq!((runs(Some("alice"), None), runs(None, Some("sre")), runs(Some("alice"), Some("dba"))), (1, 1, 0));
    assert_eq!(index.runs_of(i64::MAX, Some("alice"), None, 10).unwrap().len(), 0);
}
