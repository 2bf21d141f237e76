//! Sessions of real programs with a real server.

use std::path::Path;

use super::*;

/// The recordings by name (`tests/corpus/capture_postgres.py` made them).
pub(super) fn files() -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/corpus/postgres");
    let name = |path: &Path| path.file_name().unwrap().to_string_lossy().into_owned();
    let paths = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<(String, Vec<u8>)> = paths.map(|path| (name(&path), std::fs::read(&path).unwrap())).collect();
    files.sort();
    assert!(files.len() > 15, "recordings are missing");
    files
}

/// What is told behind the log-in.
fn told(name: &str) -> Vec<String> {
    let (_, bytes) = files().into_iter().find(|(file, _)| file == name).unwrap();
    let mut told = replay(&turns(&bytes), usize::MAX, word);
    let ready = told.iter().position(|told| told == "S0 Ready idle").unwrap();
    told.drain(..=ready);
    told
}

/// Whether these lines come in this order, others between them.
fn in_order(told: &[String], lines: &[&str]) {
    let mut rest = told.iter();
    for line in lines {
        assert!(rest.any(|told| told == line), "{line:?} is missing, or not in order, in {told:#?}");
    }
}

#[test]
fn real_sessions_are_told_the_same_however_they_are_cut() {
    for (name, bytes) in files() {
        let turns = turns(&bytes);
        let whole = replay(&turns, usize::MAX, word);
        for piece in [1, 2, 3, 5, 7, 64, 1000] {
            assert_eq!(replay(&turns, piece, word), whole, "{name} in pieces of {piece}");
        }
        let last = whole.last().unwrap();
        assert!(last.starts_with("Ended { cut: None, unanswered: [] }"), "{name}: {last}");
    }
}

#[test]
fn an_error_skips_to_the_sync_and_a_query_with_it() {
    let expected = [
        "C2 Query select 'skipped'",
        "C3 Parse \"a\" select 2",
        "C0 Sync",
        "C4 Query select 3",
        "S1 Parsed",
        "S1 Error 22012",
        "2 skipped",
        "3 skipped",
        "S0 Ready idle",
        "S4 Columns ?column?",
        "Server 4 rows 1",
        "S4 Complete SELECT 1",
        "S4 Ready idle",
    ];
    in_order(&told("raw-error-skips-query.rec"), &expected);
}

#[test]
fn a_parse_that_fails_ends_the_unnamed_statement_but_not_by_another_name() {
    let told = told("raw-failed-parse-ends-unnamed.rec");
    in_order(&told, &["C3 Bind \"\" \"\" [] None", "S3 Error 26000"]);
    in_order(&told, &["S5 Error 42601", "C4 Bind \"\" \"\" [] Some(Some(\"select 2\"))", "Server 4 rows 1"]);
}

#[test]
fn names_that_the_server_cuts_are_not_known() {
    // The server has closed the first statement by another name, and runs `select 2`.
    let told = told("raw-names-are-cut.rec");
    assert!(told.iter().any(|told| told.starts_with("C3 Bind") && told.ends_with("[] None")), "{told:#?}");
    in_order(&told, &["S3 Bound", "Server 3 rows 1"]);
}

#[test]
fn a_suspended_portal_goes_on_in_its_exchange() {
    let rows = ["C2 Execute \"p\"", "Server 2 rows 3", "S2 Suspended", "C2 Execute \"p\"", "Server 2 rows 3"];
    let told = told("raw-portals.rec");
    in_order(&told, &rows);
    in_order(&told, &["C3 Bind \"p\" \"s\" [] Some(Some(\"select g from generate_series(1, 7) g\"))", "S3 Bound"]);
    in_order(&told, &["S4 Error 42P03", "S0 Ready failed", "S5 Ready idle", "Server 6 rows 7"]);
}

#[test]
fn copies_end_where_the_server_ends_them() {
    let told = told("raw-copy.rec");
    in_order(&told, &["Client 2 copy data 3", "C2 CopyDone", "S2 Complete COPY 3", "S2 Ready idle"]);
    // A Sync before the client knows that it copies.
    in_order(
        &told,
        &["C3 Execute \"\"", "C0 Sync", "S3 CopyIn", "Client 3 copy data 1", "C0 Sync", "S3 Complete COPY 1"],
    );
    // Everything at once.
    in_order(
        &told,
        &["C0 Flush", "C0 Sync", "C4 CopyDone", "C0 Sync", "S4 CopyIn", "S4 Complete COPY 1", "S0 Ready idle"],
    );
    // It failed before it read: the early Sync is answered, and the data is dropped.
    in_order(
        &told,
        &["S5 CopyIn", "S5 Error 42809", "S0 Ready idle", "Client 5 copy data 1", "C0 Sync", "S0 Ready idle"],
    );
    in_order(&told, &["Client 6 copy data 3001", "S6 Error 22P02", "S0 Ready idle", "C7 Query copy t from stdin"]);
    in_order(&told, &["S7 Error 57014", "S7 Ready idle"]);
    in_order(
        &told,
        &["Server 8 copy data 5", "S8 CopyDone", "Server 8 rows 1", "Server 8 copy data 6", "S8 Ready idle"],
    );
    in_order(&told, &["S9 CopyOut", "Server 9 copy data 5", "S9 CopyDone", "S9 Complete COPY 5", "S0 Ready idle"]);
}

#[test]
fn what_fails_at_the_end_of_its_transaction_is_told_late() {
    let told = told("raw-late-error.rec");
    in_order(&told, &["S2 Complete INSERT 0 2", "S2 Error 23505 late", "S0 Ready idle", "S3 Notice n", "S4 Empty"]);
    in_order(&told, &["S6 Complete INSERT 0 1", "S0 Notification x load", "S6 Ready idle"]);
}

#[test]
fn function_calls_unknown_types_and_the_end_by_the_server_are_told() {
    let calls = ["S1 FunctionResult Some([0, 0, 0, 5])", "S1 Ready idle", "S2 Error 08P01", "S3 Error 42883"];
    in_order(&told("raw-function-call.rec"), &calls);
    in_order(&told("raw-unknown-tag.rec"), &["C0 Other(121)", "S1 Ready idle", "S0 Error 08P01 fatal"]);
    in_order(&told("raw-copy-violated.rec"), &["S2 CopyIn", "S2 Error 08P01", "S3 Error 08P01 fatal"]);
    let replication = told("raw-replication.rec");
    assert_eq!(replication.get(replication.len() - 3).unwrap(), "S3 CopyBoth", "{replication:#?}");
}

#[test]
fn prepared_statements_of_real_clients_keep_their_texts() {
    for name in
        ["asyncpg.rec", "psycopg3.rec", "pgbench-prepared.rec", "pgbench-prepared-pipeline.rec", "pgbench-extended.rec"]
    {
        let told = told(name);
        let binds: Vec<&String> = told.iter().filter(|told| told.contains(" Bind ")).collect();
        assert!(!binds.is_empty() && binds.iter().all(|bind| bind.contains("Some(Some(")), "{name}: {binds:#?}");
    }
    in_order(&told("asyncpg.rec"), &["S4 Complete INSERT 0 1", "S5 Complete INSERT 0 1", "S23 Complete INSERT 0 1"]);
    in_order(&told("psycopg3.rec"), &["S16 Error 22012", "17 skipped", "S0 Ready failed", "S18 Complete ROLLBACK"]);
}
