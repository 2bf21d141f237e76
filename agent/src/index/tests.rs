//! The index against journals made up for the purpose: content, crashes, rebuilding, search.

use std::collections::BTreeSet;
use std::path::Path;

use crewtap_core::bodies::{
    ApprovalAnswered, ApprovalAsked, Chunk, Classified, Masked, Note, ProcessExited, ProcessStarted, Reconciled,
    Request, Response, RunEnded, RunStarted, SessionClosed,
};
use crewtap_core::chain::Record;
use crewtap_core::event::{Body, Event, Stamp};
use crewtap_core::id::{RunId, SessionId, Ulid};
use crewtap_core::run::{RunOutcome, Start};
use crewtap_core::session::{Outcome, Side};
use crewtap_core::verdict::Terms;
use proptest::prelude::*;
use rusqlite::types::Value;
use serde_json::json;

use super::sample::{self, Sample};
use super::{AgentLock, Found, Index, IndexError, Indexer, NUMBER_MAX, NotFound, held, rebuild, rows};

const TABLES: [&str; 19] = [
    "progress",
    "runs",
    "processes",
    "sessions",
    "exchanges",
    "decisions",
    "approvals",
    "answers",
    "overrides",
    "masks",
    "names",
    "accepted",
    "bypasses",
    "notes",
    "reconciliations",
    "recoveries",
    "unknown_events",
    "payloads",
    "texts",
];

/// Everything that the index says, in a fixed order.
pub(crate) fn dump(dir: &Path) -> Vec<(String, Vec<Value>)> {
    let index = Index::open(dir).unwrap();
    let mut all = Vec::new();
    for table in TABLES {
        let rowid = if table == "texts" { "rowid, " } else { "" };
        let mut select = index.connection.prepare(&format!("SELECT {rowid}* FROM {table} ORDER BY 1, 2, 3")).unwrap();
        let columns = select.column_count();
        let rows = select
            .query_map([], |row| (0..columns).map(|at| row.get::<_, Value>(at)).collect::<Result<Vec<_>, _>>())
            .unwrap();
        all.extend(rows.map(|row| (table.to_owned(), row.unwrap())));
    }
    all
}

fn stamp_in(records: &[Record]) -> impl Fn(u64) -> Option<Stamp> + '_ {
    |leaf| records.iter().find(|record| record.leaf == leaf).map(|record| record.event.at)
}

/// Indexes in batches of a size, opening the index anew before each batch.
pub(super) fn indexed(records: &[Record], batch: usize) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for records in records.chunks(batch.max(1)) {
        let known = stamp_in(records);
        let first = records[0].leaf;
        // The record before this batch is in the journal, and has the stamp that the index remembers.
        let mut indexer = Indexer::open(dir.path(), |leaf| {
            known(leaf).or_else(|| Index::open(dir.path()).unwrap().progress().unwrap().last)
        })
        .unwrap();
        assert!(indexer.indexed_leaf() <= first);
        indexer.apply(records).unwrap();
    }
    dir
}

fn story() -> (tempfile::TempDir, RunId, [SessionId; 2], Vec<Record>) {
    let (sample, run, sessions) = Sample::story();
    (indexed(&sample.records, 1000), run, sessions, sample.records)
}

#[test]
fn the_types_have_the_columns_of_the_schema() {
    let dir = indexed(&Sample::story().0.records, 1000);
    let index = Index::open(dir.path()).unwrap();
    for (table, columns) in rows::TABLES {
        let mut select = index.connection.prepare("SELECT name FROM pragma_table_xinfo(?1)").unwrap();
        let found: Vec<String> = select.query_map([table], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
        assert_eq!(&found, columns, "{table}");
    }
    // A row that is held is written as a whole: a column that it lacked would be lost.
    let held = [
        ("runs", held::HeldRun::COLUMNS),
        ("sessions", held::HeldSession::COLUMNS),
        ("exchanges", held::HeldExchange::COLUMNS),
    ];
    for (table, columns) in held {
        let mut select = index.connection.prepare("SELECT name FROM pragma_table_info(?1)").unwrap();
        let found: Vec<String> = select.query_map([table], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
        assert_eq!(found, columns, "{table}");
    }
}

/// A column of one row, as it is.
fn column(dir: &Path, sql: &str) -> Value {
    Index::open(dir).unwrap().connection.query_row(sql, [], |row| row.get(0)).unwrap()
}

#[test]
fn a_run_has_every_column() {
    let (dir, run, _, records) = story();
    let bytes = |leaf: usize| records[leaf].payload.len();
    let run_row = serde_json::to_value(&Index::open(dir.path()).unwrap().runs(0, 10).unwrap()[0]).unwrap();
    let last = run_row["end_leaf"].as_u64().unwrap();
    let expected = json!({
        "id": run.to_string(), "leaf": 0, "end_leaf": 29, "name": "nightly",
        "started_ns": sample::BEGIN_NS, "ended_ns": sample::BEGIN_NS + last * 1_000_000, "duration_us": last * 1000,
        "started_mono_ns": 5_000_000_000u64, "outcome": "exited", "status": 0, "identity": "os:1000",
        "identity_name": "alice",
        "basis": {"kind": "os", "uid": 1000, "login_uid": 1000, "sudo_user": "alice"}, "groups": [], "uid": 1000,
        "command": "crewai run", "argv": ["crewai", "run"], "cwd": "/home/alice/crew",
        "invoker": sample::process(800, 700, &["bash"]), "mode": "record", "cgroup": 77, "host": "lab",
        "kernel": "6.18.0", "version": "0.1.0", "boot_id": "b00t", "processes": 2, "sessions": 2, "exchanges": 1,
        "refused": 1, "failed": 1, "bytes_up": bytes(9) + bytes(10) + 17, "bytes_down": bytes(11) + 17, "masked": 2, "names": 1,
        "accepted": 1, "bypasses": 1, "notes": 1, "unknown": 1, "complete": false,
    });
    assert_eq!(run_row, expected);
}

#[test]
fn a_session_has_every_column() {
    let (dir, run, sessions, records) = story();
    let index = Index::open(dir.path()).unwrap();
    let session = index.find_session(&sessions[0].to_string()).unwrap();
    let opened = match &records[6].event.body {
        Body::SessionOpened(body) => body.clone(),
        other => panic!("{other:?}"),
    };
    let (up, down): (usize, usize) = (records[9].payload.len() + records[10].payload.len(), records[11].payload.len());
    assert_eq!(
        serde_json::to_value(&session).unwrap(),
        json!({
            "id": sessions[0].to_string(), "leaf": 6, "end_leaf": 12, "run": run.to_string(),
            "started_ns": sample::BEGIN_NS + 6_000_000, "ended_ns": sample::BEGIN_NS + 12_000_000,
            "first_byte_us": 700, "duration_us": 1500, "identity": "os:1000", "identity_name": "alice",
            "target": "api.openai.test:443", "address": "127.9.0.1:443", "host": "api.openai.test", "proof": "dns",
            "protocol": "http", "driver": "opaque", "sni": "api.openai.test", "alpn": ["http/1.1"],
            "tls": null, "tls_facts": null, "verdict": "allow", "outcome": "completed", "error": null, "exchanges": 0, "bytes_up": up,
            "bytes_down": down, "recorded_up": up, "recorded_down": down, "masked": 0, "pid": 812, "tid": 813,
            "uid": 1000, "comm": "python3", "exe": "/usr/bin/python3", "client": "127.0.0.1:40000",
            "destination": "127.9.0.1:443", "dialled_from": "127.0.0.1:50000", "process": opened.process, "origin": opened.origin,
        })
    );
    let payloads = index.payloads(&session.id, "client", None).unwrap();
    let places: Vec<_> = payloads.iter().map(|place| (place.leaf, place.offset, place.len, place.n)).collect();
    assert_eq!(places, [(9, 0, 40, None), (10, 40, i64::try_from(up).unwrap() - 40, None)]);
}

#[test]
fn an_exchange_has_every_column() {
    let (dir, run, sessions, _) = story();
    let index = Index::open(dir.path()).unwrap();
    let Found::Exchange(exchange) = index.find(&format!("{}.1", sessions[1])).unwrap() else { panic!() };
    assert_eq!(
        serde_json::to_value(exchange).unwrap(),
        json!({
            "id": format!("{}.1", sessions[1]), "leaf": 15, "end_leaf": 18, "run": run.to_string(),
            "session": sessions[1].to_string(), "n": 1, "started_ns": sample::BEGIN_NS + 15_000_000,
            "started_mono_ns": 5_015_000_000u64, "first_byte_us": 3000, "duration_us": 3000, "identity": "os:1000",
            "target": "127.9.0.2:5432", "protocol": "http", "verb": "query", "subject": "DROP TABLE orders",
            "outcome": "blocked", "code": "42501", "count": 3, "bytes_up": 17, "bytes_down": 17, "masked": 2,
            "verdict": "deny", "facts": {"kinds": ["DROP"]}, "request_type": null, "request_coding": null,
            "response_type": null, "response_coding": null,
        })
    );
    assert!(matches!(index.find(&format!("{}.2", sessions[1])), Err(NotFound::Nothing { .. })));
}

#[test]
fn the_rest_of_the_run_has_its_rows() {
    let (dir, run, sessions, _) = story();
    let index = Index::open(dir.path()).unwrap();
    let id = run.to_string();
    let processes = index.processes(&id).unwrap();
    let told: Vec<_> = processes.iter().map(|one| (one.pid, one.start.as_deref().unwrap(), one.status)).collect();
    assert_eq!(told, [(812, "exec", Some(0)), (900, "fork", None), (900, "exec", Some(256))]);
    let names = index.names(&id).unwrap();
    assert_eq!(names.iter().map(|name| name.answered).collect::<Vec<_>>(), [false, true]);
    assert_eq!(names[1].answers.texts().collect::<Vec<_>>(), ["127.9.0.1"]);
    assert_eq!(index.accepted(&id).unwrap()[0].peer, "127.0.0.9:5555");
    let bypass = &index.bypasses(&id).unwrap()[0];
    assert_eq!((bypass.kind.as_str(), bypass.refused, bypass.pid), ("udp", true, Some(900)));
    assert_eq!(index.notes(&id).unwrap()[0].code, "port_reused");
    assert!(!index.reconciliations(&id).unwrap()[0].complete);
    assert_eq!(index.unknown_events(&id).unwrap()[0].kind, "teleported");
    assert_eq!(index.masks_of_session(&sessions[1].to_string()).unwrap()[0].count, 2);
    let decisions = index.decisions(&id).unwrap();
    assert_eq!(decisions.iter().map(|one| one.effect.as_str()).collect::<Vec<_>>(), ["allow", "deny"]);
    let recoveries = index.recoveries(&index.find_run(&id).unwrap()).unwrap();
    assert_eq!((recoveries[0].from_leaf, recoveries[0].to_leaf, recoveries[0].cut_bytes), (5, 6, 100));
    assert_eq!(column(dir.path(), "SELECT next_leaf FROM progress"), Value::Integer(30));
}

#[test]
fn prefixes_are_unique_or_say_what_they_could_be() {
    let (dir, run, sessions, _) = story();
    let index = Index::open(dir.path()).unwrap();
    let id = run.to_string();
    let len = index.unique_len(&id).unwrap();
    assert!(matches!(index.find(&id[..len].to_lowercase()), Ok(Found::Run(found)) if found.id == id));
    assert!(len == 10 || matches!(index.find(&id[..len - 1]), Err(NotFound::Ambiguous { .. })));
    let error = index.find(&id[..4]).unwrap_err().to_string();
    for candidate in [&id, &sessions[0].to_string(), &sessions[1].to_string()] {
        assert!(error.contains(candidate), "{error}");
    }
    for nothing in ["ZZZZ", "'; DROP TABLE runs; --", "%", "01*", "🦀"] {
        assert!(matches!(index.find(nothing), Err(NotFound::Nothing { .. })), "{nothing}");
    }
}

#[test]
fn half_a_journal_applied_again_changes_nothing() {
    let (sample, ..) = Sample::story();
    let whole = indexed(&sample.records, 1000);
    for half in 1..sample.records.len() {
        let dir = tempfile::tempdir().unwrap();
        let stamp = stamp_in(&sample.records);
        let mut indexer = Indexer::open(dir.path(), &stamp).unwrap();
        indexer.apply(&sample.records[..half]).unwrap();
        drop(indexer);
        let mut indexer = Indexer::open(dir.path(), &stamp).unwrap();
        assert_eq!(indexer.indexed_leaf(), half as u64);
        indexer.apply(&sample.records).unwrap();
        indexer.apply(&sample.records).unwrap();
        drop(indexer);
        assert_eq!(dump(dir.path()), dump(whole.path()), "half at {half}");
    }
}

#[test]
fn a_batch_that_fails_leaves_nothing_and_can_be_given_again() {
    let (sample, ..) = Sample::story();
    let dir = tempfile::tempdir().unwrap();
    let mut indexer = Indexer::open(dir.path(), |_| None).unwrap();
    indexer.connection_for_test().execute_batch("ALTER TABLE recoveries RENAME TO gone").unwrap();
    assert!(indexer.apply(&sample.records).is_err());
    assert_eq!(indexer.indexed_leaf(), 0);
    assert_eq!(column(dir.path(), "SELECT count(*) FROM runs"), Value::Integer(0));
    indexer.connection_for_test().execute_batch("ALTER TABLE gone RENAME TO recoveries").unwrap();
    indexer.apply(&sample.records).unwrap();
    drop(indexer);
    assert_eq!(dump(dir.path()), dump(indexed(&sample.records, 1000).path()));
}

#[test]
fn an_index_of_another_journal_starts_anew() {
    let (sample, ..) = Sample::story();
    let dir = indexed(&sample.records, 1000);
    // The journal lost its end and went on: the last leaf that was indexed is another record now.
    let indexer = Indexer::open(dir.path(), |_| Some(Stamp { wall_ns: 1, mono_ns: 1 })).unwrap();
    assert_eq!(indexer.indexed_leaf(), 0);
    drop(indexer);
    assert_eq!(column(dir.path(), "SELECT count(*) FROM runs"), Value::Integer(0));
}

#[test]
fn an_index_of_another_version_is_named_to_readers_and_made_anew_by_the_writer() {
    let (sample, ..) = Sample::story();
    let dir = indexed(&sample.records, 1000);
    let raw = rusqlite::Connection::open(dir.path().join("index.sqlite")).unwrap();
    raw.pragma_update(None, "user_version", 99).unwrap();
    drop(raw);
    let error = Index::open(dir.path()).unwrap_err().to_string();
    assert!(error.contains("version 99") && error.contains("reindex"), "{error}");
    assert_eq!(Indexer::open(dir.path(), |_| None).unwrap().indexed_leaf(), 0);
}

#[test]
fn there_is_one_writer() {
    let dir = tempfile::tempdir().unwrap();
    assert!(!AgentLock::is_taken(dir.path()));
    let indexer = Indexer::open(dir.path(), |_| None).unwrap();
    assert!(AgentLock::is_taken(dir.path()));
    assert!(matches!(Indexer::open(dir.path(), |_| None), Err(IndexError::Busy(_))));
    assert!(matches!(rebuild(dir.path(), std::iter::empty(), |_| ()), Err(IndexError::Busy(_))));
    drop(indexer);
    assert!(!AgentLock::is_taken(dir.path()));
}

#[test]
fn numbers_beyond_a_column_are_clamped() {
    let (mut sample, run, _) = Sample::story();
    let session = sample.session_id();
    for _ in 0..3 {
        let closed = SessionClosed {
            outcome: Outcome::Completed,
            bytes_up: u64::MAX,
            bytes_down: u64::MAX,
            duration_us: u64::MAX,
            first_byte_us: Some(u64::MAX),
            dialled_from: None,
            error: None,
        };
        sample.add(closed, |e| e.in_session(run, session));
        sample.add(Masked { mask: "card".into(), count: u64::MAX, values: vec![], ..Masked::default() }, |e| {
            e.in_session(run, session)
        });
        sample.add_with(Chunk::new(Side::Client, u64::MAX), |e| e.in_session(run, session), b"x");
    }
    let dir = indexed(&sample.records, 2);
    let found = Index::open(dir.path()).unwrap().find_session(&session.to_string()).unwrap();
    assert_eq!((found.bytes_up, found.duration_us, found.masked), (NUMBER_MAX, Some(NUMBER_MAX), NUMBER_MAX));
}

/// What a shrunken journal once told apart: a session that is closed in two runs, beside bytes of another.
#[test]
fn a_session_told_of_in_two_runs_counts_in_its_own() {
    let mut sample = Sample::new();
    let (one, other) = (sample.run_id(), sample.run_id());
    let (first, second) = (sample.session_id(), sample.session_id());
    sample.chunk(one, first, Side::Server, 0, b"fifteen bytes !");
    sample.close(other, second, Outcome::ClientReset, 5, 900);
    sample.close(one, second, Outcome::ClientReset, 5, 300);
    let (whole, single) = (indexed(&sample.records, 1000), indexed(&sample.records, 1));
    assert_eq!(dump(whole.path()), dump(single.path()));
    let index = Index::open(whole.path()).unwrap();
    let down = |run: &RunId| index.find_run(&run.to_string()).unwrap().bytes_down;
    assert_eq!((down(&one), down(&other)), (15, 300));
}

/// Any event, also such as come without their beginning.
fn any_event() -> impl Strategy<Value = (Body, Option<u8>, Option<u8>, Option<u32>, Vec<u8>)> {
    let text = "[ -~]{0,12}|\\PC{0,6}";
    let body = prop_oneof![
        Just(Body::from(started())),
        (any::<bool>(), 0u32..4).prop_map(|(exec, pid)| Body::from(ProcessStarted {
            start: if exec { Start::Exec } else { Start::Fork },
            process: sample::process(pid, 0, &["a", "b"]),
            filename: None,
        })),
        (0u32..4, any::<Option<i32>>()).prop_map(|(pid, status)| Body::from(ProcessExited { pid, status })),
        Just(Body::from(RunEnded { outcome: RunOutcome::Lost, status: None })),
        (text, any::<u16>()).prop_map(|(text, port)| Body::from(Classified {
            protocol: text,
            driver: "opaque".into(),
            target: crewtap_core::target::Target { address: ([127, 0, 0, 1], port).into(), name: None },
            sni: None,
            alpn: vec![],
        })),
        (text, text).prop_map(|(verb, subject)| Body::from(Request { verb, subject, ..Default::default() })),
        (text, any::<Option<u64>>()).prop_map(|(outcome, count)| Body::from(Response {
            outcome,
            count,
            ..Default::default()
        })),
        (any::<bool>(), 0u64..1 << 40).prop_map(|(client, offset)| Body::from(Chunk {
            wire: Some(7),
            ..Chunk::new(if client { Side::Client } else { Side::Server }, offset)
        })),
        (text, 0u64..1000).prop_map(|(mask, count)| Body::from(Masked {
            mask,
            count,
            values: vec![],
            ..Masked::default()
        })),
        (text, text).prop_map(|(code, text)| Body::from(Note { code, text })),
        (0u64..1 << 40, 0u64..1 << 40).prop_map(|(bytes_up, bytes_down)| Body::from(SessionClosed {
            outcome: Outcome::ClientReset,
            bytes_up,
            bytes_down,
            duration_us: 1,
            first_byte_us: None,
            dialled_from: None,
            error: None,
        })),
        any::<bool>().prop_map(|complete| Body::from(Reconciled {
            established: 1,
            sessions: 1,
            refused: 0,
            unattributed: 0,
            events_lost: 0,
            bypassed: 0,
            dropped: 0,
            map_full: 0,
            complete
        })),
        any_approval(),
        text.prop_map(|kind| Body::Unknown { kind: format!("x{kind}"), body: ciborium::Value::Null }),
    ];
    let payload = prop::collection::vec(any::<u8>(), 0..40);
    (body, prop::option::of(0u8..2), prop::option::of(0u8..3), prop::option::of(1u32..3), payload)
}

/// Questions and answers, also such as nobody asked.
fn any_approval() -> impl Strategy<Value = Body> {
    let word = prop::sample::select(vec!["approved", "denied", "used", "lost", "revealed"]);
    prop_oneof![
        (0u8..3).prop_map(|id| Body::from(ApprovalAsked {
            id: id.to_string(),
            verb: "query".into(),
            subject: "DELETE".into(),
            target: "orders-db".into(),
            identity: sample::identity(),
            policies: vec![],
            terms: Terms { groups: BTreeSet::new(), approvers: 1, whole_session: false },
            digest: "0".into(),
            expires_ns: 1,
            media_type: "text/plain".into(),
        })),
        (0u8..3, word, any::<bool>()).prop_map(|(id, word, settled)| Body::from(ApprovalAnswered {
            id: id.to_string(),
            answer: word.into(),
            by: settled.then(sample::identity),
            way: None,
            reason: None,
            settled,
        })),
    ]
}

fn started() -> RunStarted {
    match Sample::story().0.records.remove(0).event.body {
        Body::RunStarted(body) => body,
        other => panic!("{other:?}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn any_journal_is_indexed_alike_in_any_batches_and_by_a_rebuild(
        events in prop::collection::vec(any_event(), 1..60),
        first_leaf in 0u64..3,
        batch in 1usize..20,
    ) {
        let records: Vec<Record> = events
            .into_iter()
            .enumerate()
            .map(|(at, (body, run, session, exchange, payload))| {
                let stamp = Stamp { wall_ns: 1_000_000 * at as u64, mono_ns: 1000 * at as u64 };
                let mut event = Event::new(stamp, body);
                event.run = run.map(|run| RunId(Ulid::from_bytes([run; 16])));
                event.session = session.map(|session| SessionId(Ulid::from_bytes([session + 10; 16])));
                event.exchange = exchange;
                Record { leaf: first_leaf + at as u64, event, payload }
            })
            .collect();
        let whole = indexed(&records, 1000);
        let followed = indexed(&records, batch);
        prop_assert_eq!(dump(whole.path()), dump(followed.path()));
        rebuild(followed.path(), records.iter().cloned(), |_| ()).unwrap();
        prop_assert_eq!(dump(whole.path()), dump(followed.path()));
    }
}
