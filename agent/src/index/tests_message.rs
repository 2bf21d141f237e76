//! Messages whose bodies follow in chunks, coded or not, and what became of a session's encryption.

use crewtap_core::bodies::{Chunk, Injected, Negotiated, Part, Request, Response, Tls};
use crewtap_core::event::Event;
use crewtap_core::session::{Outcome, Side};
use proptest::prelude::*;

use super::sample::Sample;
use super::{Index, Indexer};

/// `{"answer":"marvellous"}` by gzip(1).
const CODED: &[u8] = &[
    0x1f, 0x8b, 0x08, 0x00, 0x00, 0x00, 0x00, 0x00, 0x02, 0xff, 0xab, 0x56, 0x4a, 0xcc, 0x2b, 0x2e, 0x4f, 0x2d, 0x52,
    0xb2, 0x52, 0xca, 0x4d, 0x2c, 0x2a, 0x4b, 0xcd, 0xc9, 0xc9, 0x2f, 0x2d, 0x56, 0xaa, 0x05, 0x00, 0xf1, 0x1c, 0x09,
    0xad, 0x17, 0x00, 0x00, 0x00,
];

fn part(name: &str, coding: Option<&str>, follows: bool) -> Part {
    let media_type = if follows { "application/json" } else { "message/http" };
    Part { name: name.into(), media_type: media_type.into(), len: 9, coding: coding.map(Into::into), follows }
}

/// A session with one exchange whose answer is coded and comes in two pieces.
fn story(end: bool) -> Sample {
    let mut sample = Sample::new();
    let (run, session) = (sample.run_id(), sample.session_id());
    sample.start_run(run, &["crewai", "run"]);
    sample.open_session(run, session, "127.9.0.1:443");
    let agreed = Negotiated { version: "TLSv1_3".into(), ..Negotiated::default() };
    let tls = Tls { opened: true, defects: vec!["expired".into()], client: Some(agreed), ..Tls::default() };
    sample.add(tls, |event| event.in_session(run, session));
    let place = |event: Event| event.in_session(run, session).in_exchange(1);
    let request = Request {
        verb: "POST".into(),
        subject: "https://api/ask".into(),
        parts: vec![part("head", None, false), part("body", None, true)],
        wire: Some(41),
        ..Request::default()
    };
    sample.add_with(request, place, b"POST /ask HTTP/1.1");
    sample.add_with(Chunk { end: true, ..Chunk::new(Side::Client, 0) }, place, b"{\"ask\":\"splendid\"}");
    let response = Response {
        outcome: "success".into(),
        code: Some("200".into()),
        parts: vec![part("head", None, false), part("body", Some("gzip"), true)],
        ..Response::default()
    };
    sample.add_with(response, place, b"HTTP/1.1 200 OK");
    sample.add_with(Chunk { wire: Some(25), ..Chunk::new(Side::Server, 0) }, place, &CODED[..20]);
    let last = Chunk { wire: Some(30), end, ..Chunk::new(Side::Server, 20) };
    sample.add_with(last, place, &CODED[20..]);
    sample.close(run, session, Outcome::Completed, 59, 70);
    sample
}

fn indexed(sample: &Sample, batch: usize) -> (tempfile::TempDir, Index) {
    let dir = tempfile::tempdir().unwrap();
    let mut indexer = Indexer::open(dir.path(), |_| None).unwrap();
    sample.records.chunks(batch).for_each(|batch| indexer.apply(batch).unwrap());
    let index = Index::open(dir.path()).unwrap();
    (dir, index)
}

fn hits(index: &Index, words: &str) -> usize {
    index
        .search(&words.parse().unwrap(), (0, 10), &|_| None)
        .unwrap()
        .iter()
        .filter(|hit| hit.kind == "exchange")
        .count()
}

#[test]
fn an_exchange_tells_its_types_its_bytes_on_the_wire_and_when_it_was_complete() {
    let sample = story(true);
    let (_dir, index) = indexed(&sample, 100);
    let run = index.runs(0, 1).unwrap().remove(0);
    let exchange = index.exchanges_of_run(&run.id).unwrap().remove(0);
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    assert_eq!(text(&exchange.request_type), "application/json");
    assert_eq!(
        (text(&exchange.response_type), text(&exchange.response_coding)),
        ("application/json".into(), "gzip".into())
    );
    assert_eq!(exchange.request_coding, None);
    // What stands for more on the wire than its payload counts as that.
    assert_eq!((exchange.bytes_up, exchange.bytes_down), (41 + 18, 15 + 25 + 30));
    assert_eq!((exchange.first_byte_us, exchange.duration_us), (Some(2000), Some(4000)));
    let session = index.sessions(&run.id).unwrap().remove(0);
    assert_eq!((session.recorded_up, session.recorded_down), (59, 70));
    assert_eq!(session.tls.as_deref(), Some("unverified"));
    assert_eq!(session.tls_facts.0["defects"][0], "expired");
    let parts: Vec<_> = index.payloads(&session.id, "server", Some(1)).unwrap().into_iter().map(|p| p.part).collect();
    assert_eq!(parts, ["head", "body", "body"]);
}

#[test]
fn a_hit_in_a_coded_body_shows_its_words() {
    let sample = story(true);
    let (_dir, index) = indexed(&sample, 100);
    let journal = |leaf| sample.records.iter().find(|record| record.leaf == leaf).cloned();
    let hits = index.search(&"marvellous kind:exchange".parse().unwrap(), (0, 10), &journal).unwrap();
    assert!(hits[0].marked.contains(&("marvellous".into(), true)), "{:?}", hits[0].marked);
}

#[test]
fn words_in_a_coded_body_are_found_once_it_is_complete() {
    let (_dir, index) = indexed(&story(true), 100);
    assert_eq!((hits(&index, "splendid"), hits(&index, "marvellous")), (1, 1));
    let (_dir, index) = indexed(&story(false), 100);
    assert_eq!((hits(&index, "splendid"), hits(&index, "marvellous")), (1, 0), "a body that was cut is not decoded");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]
    #[test]
    fn batches_make_no_difference(batch in 1usize..9, end: bool) {
        let sample = story(end);
        let (_one, whole) = indexed(&sample, 100);
        let (_other, cut) = indexed(&sample, batch);
        for table in ["exchanges", "payloads", "texts", "coded", "sessions"] {
            let rows = |index: &Index| -> i64 {
                let sql = format!("SELECT count(*) FROM {table}");
                index.connection.query_row(&sql, [], |row| row.get(0)).unwrap()
            };
            prop_assert_eq!(rows(&whole), rows(&cut), "{}", table);
        }
        prop_assert_eq!(hits(&whole, "marvellous"), hits(&cut, "marvellous"));
    }
}

#[test]
fn a_credential_in_use_is_a_note_of_its_session() {
    let mut sample = Sample::new();
    let (run, session) = (sample.run_id(), sample.session_id());
    sample.start_run(run, &["crewai", "run"]);
    sample.open_session(run, session, "127.9.0.1:5432");
    let injected =
        Injected { target: "orders-db".into(), credential: "file:/etc/orders".into(), user: "crew_ro".into() };
    sample.add(injected, |event| event.in_session(run, session));
    let (_dir, index) = indexed(&sample, 1);
    let notes = index.notes_of_session(&session.to_string()).unwrap();
    assert_eq!(notes.len(), 1);
    assert_eq!(notes[0].code, "injected");
    assert_eq!(
        notes[0].text,
        "crewtap logs in to orders-db as crew_ro with the catalog's credential (file:/etc/orders)"
    );
}
