//! The journal on real files.

use super::*;
use crewtap_core::bodies::Note;
use tempfile::TempDir;

pub(super) fn note(text: &str) -> Event {
    Event::new(now(), Note { code: "test".into(), text: text.into() })
}

pub(super) fn small() -> Options {
    Options { durability: Durability::Process, segment_bytes: 64 * 1024 }
}

pub(super) fn add(journal: &Journal, text: &str, payload: &[u8]) -> Position {
    journal.append(&[Entry { event: &note(text), payload: &[payload] }]).unwrap()
}

pub(super) fn wait<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(future)
}

#[test]
fn what_is_appended_is_read_back_now_and_after_the_agent() {
    let dir = TempDir::new().unwrap();
    let journal = Journal::open(dir.path(), &small(), None).unwrap();
    for n in 0..2000u32 {
        add(&journal, &format!("{n}"), &vec![b'x'; n as usize % 900]);
    }
    let reader = Reader::open(dir.path()).unwrap();
    let is_nth = |record: &Record, n: u32| {
        matches!(&record.event.body, crewtap_core::event::Body::Note(note) if note.text == n.to_string())
            && record.payload.len() == n as usize % 900
    };
    let mine = |record: &Record| record.event.body.kind() == "note";
    let notes: Vec<Record> = reader.from(0).map(Result::unwrap).filter(mine).collect();
    assert_eq!(notes.len(), 2000);
    assert!(notes.iter().zip(0..).all(|(record, n)| is_nth(record, n)));
    for record in notes.iter().step_by(97) {
        assert_eq!(reader.record(record.leaf).unwrap().as_ref(), Some(record));
    }
    let signed = wait(journal.checkpoint_now()).unwrap();
    assert!(signed >= 2000);
    journal.close().unwrap();
    assert!(matches!(journal.append(&[]), Err(JournalError::Closed)));
    let len = reader.len().unwrap();
    assert!(len >= signed && reader.record(len).unwrap().is_none());
    let again = Journal::open(dir.path(), &small(), None).unwrap();
    assert_eq!(add(&again, "more", b"").first.max(len), again.end() - 1);
    let notes = reader.from(0).map(Result::unwrap).filter(mine).count();
    assert_eq!(notes, 2001);
}
