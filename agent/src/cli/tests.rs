//! What the verbs print of a small store, and what they say where there is none.
//!
//! The expected texts lie in `golden/`; `CREWTAP_GOLDEN=write` writes them anew, to be read before they are committed.

use std::path::Path;

use crewtap_core::bodies::Chunk;
use crewtap_core::chain::Record;
use crewtap_core::id::SessionId;
use crewtap_core::session::{Outcome, Side};

use super::screen::{Screen, ViewArgs, is_unsafe};
use super::store::{Evidence, Store, StoreDir};
use super::{reindex, runs, search, show, timeline, verify};
use crate::index::sample::Sample;
use crate::index::{Index, Indexer};
use crate::journal::{Entry, Journal, Options};

/// Records in memory.
struct Memory(Vec<Record>);

impl Evidence for Memory {
    fn record(&self, leaf: u64) -> Result<Option<Record>, String> {
        Ok(self.0.iter().find(|record| record.leaf == leaf).cloned())
    }

    fn records(&self, from: u64) -> Box<dyn Iterator<Item = Result<Record, String>> + '_> {
        Box::new(self.0.iter().filter(move |record| record.leaf >= from).cloned().map(Ok))
    }

    fn count(&self) -> Result<u64, String> {
        Ok(self.0.len() as u64)
    }
}

pub(super) fn store_of(records: &[Record]) -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    Indexer::open(dir.path(), |_| None).unwrap().apply(records).unwrap();
    let store = StoreDir::new(dir.path()).open_with(Ok(Box::new(Memory(records.to_vec())))).unwrap();
    assert_eq!(store.notices, Vec::<String>::new());
    (dir, store)
}

fn story() -> (tempfile::TempDir, Store, [SessionId; 2]) {
    let (sample, _, sessions) = Sample::story();
    let (dir, store) = store_of(&sample.records);
    (dir, store, sessions)
}

pub(super) const UTC: ViewArgs = ViewArgs { json: false, utc: true };
pub(super) const JSON: ViewArgs = ViewArgs { json: true, utc: true };

pub(super) fn printed(view: &ViewArgs, print: impl FnOnce(&mut Screen) -> anyhow::Result<bool>) -> (bool, String) {
    let mut out = Vec::new();
    let found = print(&mut Screen::new(&mut out, view)).unwrap();
    let text = String::from_utf8(out).unwrap();
    assert!(!text.replace('\n', "").contains(is_unsafe), "something recorded reached the terminal: {text:?}");
    (found, text)
}

fn golden(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/cli/golden").join(name);
    if std::env::var_os("CREWTAP_GOLDEN").is_some_and(|value| value == "write") {
        std::fs::write(&path, text).unwrap();
    }
    assert_eq!(text, std::fs::read_to_string(&path).unwrap_or_default(), "{name}");
}

fn show_args(id: &str, view: &ViewArgs) -> show::ShowArgs {
    show::ShowArgs { id: id.into(), all: false, bytes: None, view: view.clone() }
}

fn list_args(view: &ViewArgs) -> runs::RunsArgs {
    runs::RunsArgs { since: None, identity: None, group: None, limit: 20, view: view.clone() }
}

#[test]
fn the_tables_read_as_agreed() {
    let (_dir, store, sessions) = story();
    let run = store.index.runs(0, 1).unwrap().remove(0).id;
    let opaque = sessions[0].to_string();
    let exchange = format!("{}.1", sessions[1]);
    for (name, id) in [("show_run.txt", &run), ("show_session.txt", &opaque), ("show_exchange.txt", &exchange)] {
        golden(name, &printed(&UTC, |screen| show::show(&store, &show_args(id, &UTC), screen)).1);
    }
    golden("runs.txt", &printed(&UTC, |screen| runs::list(&store, &list_args(&UTC), screen)).1);
    let args = timeline::TimelineArgs { run: None, identity: None, view: UTC };
    golden("timeline.txt", &printed(&UTC, |screen| timeline::print(&store, &args, screen)).1);
    let args = search::SearchArgs { query: vec![], since: None, limit: 20, view: UTC };
    let query = "revenue".parse().unwrap();
    golden("search.txt", &printed(&UTC, |screen| search::print(&store, &query, &args, screen)).1);
}

#[test]
fn json_lines_have_the_columns() {
    let (_dir, store, sessions) = story();
    let (_, text) = printed(&JSON, |screen| runs::list(&store, &list_args(&JSON), screen));
    let run: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!((run["identity"].as_str(), run["sessions"].as_i64()), (Some("os:1000"), Some(2)));
    let (_, text) = printed(&JSON, |screen| show::show(&store, &show_args(&sessions[0].to_string(), &JSON), screen));
    let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let stream = |side: &str| lines.iter().find(|line| line["side"] == side).unwrap();
    assert!(stream("client")["text"].as_str().unwrap().contains("\u{1b}[31m"), "JSON keeps what was recorded");
    assert!(stream("server")["base64"].is_string());
    let args = timeline::TimelineArgs { run: None, identity: None, view: JSON };
    let (_, text) = printed(&JSON, |screen| timeline::print(&store, &args, screen));
    assert!(text.lines().all(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["leaf"].is_u64()));
}

#[test]
fn a_timeline_has_every_event_of_the_run_once() {
    let (sample, run, _) = Sample::story();
    let (_dir, store) = store_of(&sample.records);
    let args = timeline::TimelineArgs { run: Some(run.to_string()), identity: None, view: JSON };
    let (_, text) = printed(&JSON, |screen| timeline::print(&store, &args, screen));
    let leaf = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap()["leaf"].as_u64().unwrap();
    let told: Vec<u64> = text.lines().map(leaf).collect();
    // Bytes belong to their session's line, what classified it too; checkpoints are the journal's own; a response
    // belongs to its request.
    let untold = ["chunk", "classified", "checkpoint", "response"];
    let events: Vec<u64> = sample
        .records
        .iter()
        .filter(|record| !untold.contains(&record.event.body.kind()))
        .map(|record| record.leaf)
        .collect();
    assert_eq!(told, events);
}

#[test]
fn a_long_payload_ends_with_how_much_more_there_is_and_the_options_show_it() {
    let (mut sample, run, _) = Sample::story();
    let session = sample.session_id();
    sample.open_session(run, session, "127.9.0.3:80");
    for n in 0..10u64 {
        let lines: String = (0..100).flat_map(|line| [format!("line {n} {line:03}"), "\n".to_owned()]).collect();
        sample.chunk(run, session, Side::Client, n * 1100, lines.as_bytes());
        sample.chunk(run, session, Side::Server, n * 1000, &[0xfe; 1000]);
    }
    sample.close(run, session, Outcome::Completed, 11_000, 10_000);
    let (_dir, store) = store_of(&sample.records);
    let mut args = show_args(&session.to_string(), &UTC);
    let (_, text) = printed(&UTC, |screen| show::show(&store, &args, screen));
    assert_eq!(text.lines().filter(|line| line.contains("line ")).count(), 100, "100 lines");
    assert_eq!(text.lines().filter(|line| line.contains("|....")).count(), 4096 / 16, "4 KiB of hex");
    assert!(text.contains("… 9900 bytes more") && text.contains("… 5904 bytes more"), "{text}");
    assert!(text.contains("--all") && text.contains("--bytes"));
    args.bytes = Some(5000);
    let (_, text) = printed(&UTC, |screen| show::show(&store, &args, screen));
    assert!(text.contains("… 6000 bytes more") && text.contains("… 5000 bytes more"), "{text}");
    args.bytes = None;
    args.all = true;
    let (_, text) = printed(&UTC, |screen| show::show(&store, &args, screen));
    assert_eq!(text.lines().filter(|line| line.contains("line ")).count(), 1000);
    assert!(!text.contains(" more"), "{text}");
}

#[test]
fn a_payload_whose_record_is_gone_is_told() {
    let (mut sample, run, _) = Sample::story();
    let session = sample.session_id();
    sample.chunk(run, session, Side::Client, 0, b"hello");
    let dir = tempfile::tempdir().unwrap();
    Indexer::open(dir.path(), |_| None).unwrap().apply(&sample.records).unwrap();
    let store = Store { index: Index::open(dir.path()).unwrap(), journal: Err("torn".into()), notices: vec![] };
    let args = show_args(&session.to_string(), &UTC);
    let (_, text) = printed(&UTC, |screen| show::show(&store, &args, screen));
    assert!(text.contains("the rest cannot be shown: torn"), "{text}");
}

#[test]
fn nothing_found_is_an_answer_and_an_ambiguous_id_is_wrong_use() {
    let (_dir, store, _) = story();
    let (found, _) = printed(&UTC, |screen| show::show(&store, &show_args("ZZZ", &UTC), screen));
    assert!(!found);
    let mut out = Vec::new();
    let screen = &mut Screen::new(&mut out, &UTC);
    let error = show::show(&store, &show_args("0", &UTC), screen).unwrap_err().to_string();
    assert!(error.contains("not unique") && error.contains("api.openai.test:443"), "{error}");
    let mut args = list_args(&UTC);
    args.since = Some("1h".into());
    assert!(
        !printed(&UTC, |screen| runs::list(&store, &args, screen)).0
            || jiff::Timestamp::now().as_second() < 1_795_402_800
    );
    args.since = Some("2020-01-01".into());
    assert!(printed(&UTC, |screen| runs::list(&store, &args, screen)).0);
    args.since = Some("soon".into());
    assert!(runs::list(&store, &args, &mut Screen::new(&mut Vec::new(), &UTC)).is_err());
}

#[test]
fn a_store_that_is_not_there_is_told_in_one_sentence() {
    let dir = tempfile::tempdir().unwrap();
    let error = StoreDir::new(dir.path().join("none")).open().err().unwrap().to_string();
    assert!(error.starts_with("there is no store at ") && !error.contains('\n'), "{error}");
    let error = StoreDir::new(dir.path()).open().err().unwrap().to_string();
    assert!(error.starts_with("there is no index at ") && !error.contains('\n'), "{error}");
}

/// Writes the sample to a real journal.
fn append(journal: &Journal, records: &[Record]) {
    for record in records {
        journal.append(&[Entry { event: &record.event, payload: &[&record.payload] }]).unwrap();
    }
}

#[test]
fn an_agent_that_dies_leaves_an_index_that_catches_up() {
    let (sample, ..) = Sample::story();
    let dir = tempfile::tempdir().unwrap();
    let (from, sink) = Indexer::open(dir.path(), |_| None).unwrap().into_sink();
    let journal = Journal::open(dir.path(), &Options::default(), Some((from, sink))).unwrap();
    append(&journal, &sample.records[..10]);
    journal.close().unwrap();
    // Without a sink, as if the agent had been killed before its follower came to these.
    let journal = Journal::open(dir.path(), &Options::default(), None).unwrap();
    append(&journal, &sample.records[10..]);
    journal.close().unwrap();
    let behind = Index::open(dir.path()).unwrap().progress().unwrap().next_leaf;
    let store = StoreDir::new(dir.path()).open().unwrap();
    assert!(store.notices[0].contains("records behind the journal, and has caught up"), "{:?}", store.notices);
    let journal = store.journal.as_ref().unwrap();
    let now = store.index.progress().unwrap().next_leaf;
    assert!(now > behind && now == journal.count().unwrap());
    assert_eq!(store.index.runs(0, 10).unwrap()[0].outcome.as_deref(), Some("exited"));
    assert!(StoreDir::new(dir.path()).open().unwrap().notices.is_empty(), "it is said once");
}

#[test]
fn a_journal_verifies_until_somebody_changes_it() {
    let (sample, ..) = Sample::story();
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(dir.path(), &Options::default(), None).unwrap();
    // Without the sample's checkpoint, which nobody signed.
    let (signed, records): (Vec<_>, Vec<_>) =
        sample.records.into_iter().partition(|record| record.event.body.kind() == "checkpoint");
    assert_eq!(signed.len(), 1);
    append(&journal, &records);
    journal.close().unwrap();
    let check = |view: &ViewArgs| {
        let report = crate::journal::verify(dir.path(), &mut |_| ()).unwrap();
        printed(view, |screen| verify::print(&report, screen))
    };
    let (intact, text) = check(&UTC);
    assert!(intact && text.starts_with("intact: ") && text.lines().count() == 1, "{text}");
    let segment = std::fs::read_dir(dir.path().join("journal")).unwrap().map(|entry| entry.unwrap().path());
    let segment = segment.into_iter().find(|path| path.extension().is_some_and(|ext| ext == "seg")).unwrap();
    let mut bytes = std::fs::read(&segment).unwrap();
    let at = bytes.windows(9).position(|bytes| bytes == b"quarterly").unwrap();
    bytes[at] = b'Q';
    std::fs::write(&segment, bytes).unwrap();
    let (intact, text) = check(&UTC);
    assert!(!intact && text.contains("record_changed record ") && text.contains("NOT INTACT: "), "{text}");
    let (_, text) = check(&JSON);
    let summary: serde_json::Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    assert_eq!(summary["intact"], false);
}

#[test]
fn a_reindex_gives_the_index_that_followed() {
    let (sample, ..) = Sample::story();
    let dir = tempfile::tempdir().unwrap();
    let (from, sink) = Indexer::open(dir.path(), |_| None).unwrap().into_sink();
    let journal = Journal::open(dir.path(), &Options::default(), Some((from, sink))).unwrap();
    append(&journal, &sample.records);
    assert!(reindex::run(&StoreDir::new(dir.path()), &reindex::ReindexArgs { json: true }).is_err(), "an agent runs");
    journal.close().unwrap();
    let followed = crate::index::tests::dump(dir.path());
    reindex::run(&StoreDir::new(dir.path()), &reindex::ReindexArgs { json: true }).unwrap();
    assert_eq!(crate::index::tests::dump(dir.path()), followed);
}

#[test]
fn what_is_shown_is_what_the_journal_holds() {
    let (mut sample, run, _) = Sample::story();
    let session = sample.session_id();
    sample.add_with(Chunk::new(Side::Client, 0), |e| e.in_session(run, session), b"from the journal");
    let dir = tempfile::tempdir().unwrap();
    let (from, sink) = Indexer::open(dir.path(), |_| None).unwrap().into_sink();
    let journal = Journal::open(dir.path(), &Options::default(), Some((from, sink))).unwrap();
    append(&journal, &sample.records);
    journal.close().unwrap();
    let store = StoreDir::new(dir.path()).open().unwrap();
    let (_, text) = printed(&UTC, |screen| show::show(&store, &show_args(&session.to_string(), &UTC), screen));
    assert!(text.contains("\n  from the journal\n"), "{text}");
}
