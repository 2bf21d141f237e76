//! Many sessions: what a record costs to index is printed, and everything is found.

use std::time::Instant;

use crewtap_core::limits::FOLLOW_BATCH_EVENTS;
use crewtap_core::session::{Outcome, Side};

use super::sample::Sample;
use super::{Index, Indexer};

/// Sessions of five events each.
const SESSIONS: u64 = 4_000;

#[test]
fn thousands_of_sessions_are_indexed_and_found() {
    let mut sample = Sample::new();
    let run = sample.run_id();
    sample.start_run(run, &["crewai", "run"]);
    let payload =
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: api.openai.test\r\n\r\n{\"model\":\"gpt\",\"messages\":[]}";
    for _ in 0..SESSIONS {
        let session = sample.session_id();
        sample.open_session(run, session, "127.9.0.1:443");
        sample.classify(run, session, "127.9.0.1:443", Some("api.openai.test"));
        sample.chunk(run, session, Side::Client, 0, payload);
        sample.chunk(run, session, Side::Server, 0, payload);
        sample.close(run, session, Outcome::Completed, payload.len() as u64, payload.len() as u64);
    }
    let dir = tempfile::tempdir().unwrap();
    let mut indexer = Indexer::open(dir.path(), |_| None).unwrap();
    let begin = Instant::now();
    for batch in sample.records.chunks(FOLLOW_BATCH_EVENTS) {
        indexer.apply(batch).unwrap();
    }
    let each = begin.elapsed() / u32::try_from(sample.records.len()).unwrap();
    let index = Index::open(dir.path()).unwrap();
    let begin = Instant::now();
    let hits = index.search(&"completions target:api.openai.test".parse().unwrap(), (0, 50), &|_| None).unwrap();
    let search = begin.elapsed();
    let bytes = std::fs::metadata(dir.path().join("index.sqlite")).unwrap().len();
    println!(
        "{} events: {each:?} each, {} bytes each on disk, a search over them {search:?}",
        sample.records.len(),
        bytes / sample.records.len() as u64
    );
    assert_eq!(hits.len(), 50);
    assert_eq!(index.runs(0, 1).unwrap()[0].sessions, i64::try_from(SESSIONS).unwrap());
}
