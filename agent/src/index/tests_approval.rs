//! Approvals, answers and overrides as rows.

use super::sample::{BEGIN_NS, Sample};
use super::tests::{dump, indexed};
use super::{Index, Query, SEARCH_COLUMNS, rebuild};

#[test]
fn questions_have_their_answers_and_a_use_of_one_changes_nothing_of_it() {
    let (sample, run, session) = Sample::asking();
    let dir = indexed(&sample.records, 1000);
    let index = Index::open(dir.path()).unwrap();
    let approvals = index.approvals(&run.to_string()).unwrap();
    let told: Vec<_> =
        approvals.iter().map(|one| (one.id.as_str(), one.answer.as_deref(), one.by.as_deref())).collect();
    let expected = [
        ("01APPROVED", Some("approved"), Some("os:1001")),
        ("01DENIED", Some("denied"), Some("os:1001")),
        ("01WAITS", None, None),
    ];
    assert_eq!(told, expected);
    let first = &approvals[0];
    assert_eq!((first.n, first.target.as_str(), first.way.as_deref()), (Some(1), "orders-db", Some("control")));
    assert_eq!(first.terms.0["approvers"], 2);
    assert_eq!(index.approvals_of_session(&session.to_string()).unwrap(), approvals);
    let answers = index.answers(&run.to_string()).unwrap();
    let told: Vec<_> = answers.iter().map(|one| (one.answer.as_str(), one.settled)).collect();
    assert_eq!(told, [("approved", false), ("approved", true), ("used", true), ("denied", true)]);
    let open = index.open_approvals(0, u64::MAX, 10).unwrap();
    assert_eq!(open.iter().map(|one| one.id.as_str()).collect::<Vec<_>>(), ["01WAITS"]);
}

#[test]
fn what_passed_by_an_override_says_so_in_its_decision_and_its_exchange() {
    let (sample, run, session) = Sample::asking();
    let dir = indexed(&sample.records, 1000);
    let index = Index::open(dir.path()).unwrap();
    let decisions = index.decisions(&run.to_string()).unwrap();
    let overridden: Vec<_> = decisions.iter().map(|one| one.overridden.as_deref()).collect();
    assert_eq!(overridden, [None, None, None, Some("01OVERRIDE")]);
    assert_eq!((decisions[3].effect.as_str(), decisions[3].target.as_deref()), ("ask", Some("orders-db")));
    assert_eq!(decisions[0].errors.texts().collect::<Vec<_>>(), ["no-drop: no such fact"]);
    let exchanges = index.exchanges(&session.to_string()).unwrap();
    let verdicts: Vec<_> = exchanges.iter().map(|one| one.verdict.as_deref().unwrap()).collect();
    assert_eq!(verdicts, ["ask", "ask", "ask", "overridden"]);
    let run = index.find_run(&run.to_string()).unwrap();
    let overrides = index.overrides_during(&run).unwrap();
    assert_eq!(overrides.len(), 1);
    assert_eq!((overrides[0].ended_by.as_deref(), overrides[0].by_name.as_str()), (Some("os:1001"), "alice"));
    assert!(index.open_overrides(u64::MAX, BEGIN_NS).unwrap().is_empty());
}

#[test]
fn approvals_and_overrides_are_found() {
    let (sample, ..) = Sample::asking();
    let dir = indexed(&sample.records, 1000);
    let index = Index::open(dir.path()).unwrap();
    let found = |query: &str| {
        let query: Query = query.parse().unwrap();
        let hits =
            index.search(&query, (0, 10), &|leaf| sample.records.get(usize::try_from(leaf).unwrap()).cloned()).unwrap();
        hits.into_iter().map(|hit| format!("{} {}", hit.kind, hit.outcome.unwrap_or_default())).collect::<Vec<_>>()
    };
    assert!(SEARCH_COLUMNS.iter().any(|(column, _)| *column == "verdict"));
    assert_eq!(found("kind:approval outcome:denied"), ["approval denied"]);
    assert_eq!(found("kind:approval outcome:waits target:orders-db"), ["approval waits"]);
    assert_eq!(found("kind:override incident"), ["override "]);
    assert_eq!(found("kind:approval zebra").len(), 3, "what was shown is found");
    assert_eq!(found("verdict:overridden kind:exchange").len(), 1);
}

#[test]
fn any_batches_and_a_rebuild_give_the_same_rows() {
    let (sample, ..) = Sample::asking();
    let whole = indexed(&sample.records, 1000);
    for batch in [1, 2, 5] {
        assert_eq!(dump(indexed(&sample.records, batch).path()), dump(whole.path()), "{batch}");
    }
    let before = dump(whole.path());
    rebuild(whole.path(), sample.records.into_iter(), |_| ()).unwrap();
    assert_eq!(dump(whole.path()), before);
}
