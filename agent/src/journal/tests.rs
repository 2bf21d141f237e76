//! The journal on real files.
#![allow(
    clippy::cast_possible_truncation,
    clippy::match_bool,
    clippy::similar_names,
    clippy::format_collect,
    reason = "tests: small numbers, short names"
)]

use super::*;
use crate::clock::now;
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

mod crash;
mod disk;
mod sealing;
mod tamper;

#[test]
fn a_second_agent_is_told_who_holds_the_store() {
    let dir = TempDir::new().unwrap();
    let first = Journal::open(dir.path(), &small(), None).unwrap();
    let refused = Journal::open(dir.path(), &small(), None).unwrap_err().to_string();
    assert!(refused.contains(&format!("pid {}", std::process::id())), "{refused}");
    assert!(Lock::is_held(&Layout::new(dir.path())));
    first.close().unwrap();
    assert!(!Lock::is_held(&Layout::new(dir.path())));
    Journal::open(dir.path(), &small(), None).unwrap();
}

#[test]
fn files_are_for_the_group_and_keys_for_root() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = TempDir::new().unwrap();
    let root = dir.path().join("store");
    let journal = Journal::open(&root, &small(), None).unwrap();
    add(&journal, "one", b"");
    wait(journal.checkpoint_now()).unwrap();
    let mode = |path: &str| std::fs::metadata(root.join(path)).unwrap().permissions().mode() & 0o777;
    for dir in ["", "journal", "journal/tile", "journal/tile/0"] {
        assert_eq!(mode(dir), 0o750, "{dir}");
    }
    for file in ["lock", "host.pub", "journal/checkpoint", "journal/checkpoints", "journal/tile/0/000.p/1"] {
        assert_eq!(mode(file), 0o640, "{file}");
    }
    assert_eq!(mode("journal/00000000000000000000.seg"), 0o640);
    assert_eq!((mode("keys"), mode("keys/host.key"), mode("keys/store.key")), (0o700, 0o600, 0o600));
}

#[test]
fn bursts_of_many_threads_stay_whole_and_in_order() {
    let dir = TempDir::new().unwrap();
    let journal = Journal::open(dir.path(), &small(), None).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..8u32 {
            let journal = journal.clone();
            scope.spawn(move || {
                for n in 0..200u32 {
                    let events = [0, 1, 2].map(|part| note(&format!("{thread} {n} {part}")));
                    let payload = [b"head".as_slice(), &[b'.'; 700]];
                    let entries = events.each_ref().map(|event| Entry { event, payload: &payload });
                    let position = journal.append(&entries).unwrap();
                    assert_eq!(position.end - position.first, 3);
                }
            });
        }
    });
    journal.close().unwrap();
    let mut last = [None; 8];
    let mut texts = Reader::open(dir.path()).unwrap().from(0).map(Result::unwrap).filter_map(|record| {
        let crewtap_core::event::Body::Note(note) = record.event.body else { return None };
        assert_eq!(record.payload.len(), 704);
        Some(note.text)
    });
    let mut bursts = 0;
    while let Some(first) = texts.next() {
        let numbers: Vec<u32> = first.split(' ').map(|number| number.parse().unwrap()).collect();
        let [thread, n, 0] = numbers[..] else { panic!("a burst begins in its middle: {first}") };
        let rest = [1, 2].map(|part| format!("{thread} {n} {part}"));
        assert_eq!([texts.next().unwrap(), texts.next().unwrap()], rest);
        assert_eq!(last[thread as usize].replace(n), n.checked_sub(1));
        bursts += 1;
    }
    assert_eq!(bursts, 1600);
    assert!(verify(dir.path(), &mut |_| {}).unwrap().findings.list.is_empty());
}

#[test]
fn a_sink_that_fails_gets_everything_once_and_in_order() {
    let dir = TempDir::new().unwrap();
    let (to, from) = std::sync::mpsc::sync_channel(65_536);
    let mut refusals = 2;
    let sink: Sink = Box::new(move |records| {
        if refusals > 0 {
            refusals -= 1;
            return Err("busy".into());
        }
        records.iter().try_for_each(|record| to.send(record.leaf)).map_err(|e| e.to_string())
    });
    let journal = Journal::open(dir.path(), &small(), Some((0, sink))).unwrap();
    (0..999).for_each(|n| _ = add(&journal, &n.to_string(), &[7; 100]));
    let last = add(&journal, "last", b"");
    wait(journal.caught_up(last.first)).unwrap();
    journal.close().unwrap();
    drop(journal);
    let got: Vec<u64> = from.iter().collect();
    assert!(got.len() as u64 > last.first && got.iter().copied().eq(0..got.len() as u64));
}

#[test]
fn a_sink_behind_fast_records_gets_the_rest_when_it_is_quiet_and_at_once_when_asked() {
    let dir = TempDir::new().unwrap();
    let (to, from) = std::sync::mpsc::sync_channel(65_536);
    let sink: Sink =
        Box::new(move |records| records.iter().try_for_each(|record| to.send(record.leaf)).map_err(|e| e.to_string()));
    let journal = Journal::open(dir.path(), &small(), Some((0, sink))).unwrap();
    let fast = |count: u32| (0..count).fold(0, |_, n| add(&journal, &n.to_string(), b"").first);
    let quiet = fast(20_000);
    let got = std::iter::from_fn(|| from.recv_timeout(std::time::Duration::from_secs(20)).ok());
    let got: Vec<u64> = got.take_while(|leaf| *leaf < quiet).collect();
    assert!(got.iter().copied().eq(0..quiet), "{} of {quiet}", got.len());
    let asked = fast(20_000);
    wait(journal.caught_up(asked)).unwrap();
    assert!(from.try_iter().any(|leaf| leaf == asked));
}

#[test]
fn disk_durability_is_shared_by_all_who_wait() {
    let dir = TempDir::new().unwrap();
    let options = Options { durability: Durability::Disk, ..small() };
    let journal = Journal::open(dir.path(), &options, None).unwrap();
    wait(async {
        let tasks = (0..64).map(|n| {
            let position = add(&journal, &n.to_string(), &[1; 3000]);
            let journal = journal.clone();
            async move { journal.durable(position).await }
        });
        for task in tasks {
            task.await.unwrap();
        }
    });
    assert!(!locked(&journal.inner.shared.writer).renamed, "the directory was synced with the segments");
}

#[test]
fn a_reader_never_sees_half_a_record() {
    let dir = TempDir::new().unwrap();
    let journal = Journal::open(dir.path(), &small(), None).unwrap();
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reading = scope.spawn(|| {
            let (mut seen, mut rounds) = (0, 0);
            while !stop.load(Ordering::Relaxed) || rounds == 0 {
                let reader = Reader::open(dir.path()).unwrap();
                for record in reader.from(seen) {
                    let record = record.unwrap();
                    assert_eq!(record.leaf, seen);
                    seen += 1;
                }
                assert!(reader.len().unwrap() >= seen);
                rounds += 1;
            }
            seen
        });
        for n in 0..3000usize {
            let events = [note("a"), note("b")];
            let payload = vec![3u8; (n * 37) % 5000];
            let entries = events.each_ref().map(|event| Entry { event, payload: &[] });
            let entries = [Entry { payload: &[&payload], ..entries[0] }, entries[1]];
            journal.append(&entries).unwrap();
        }
        stop.store(true, Ordering::Relaxed);
        assert!(reading.join().unwrap() > 0);
    });
    let live = verify(dir.path(), &mut |_| {}).unwrap();
    assert!(live.findings.list.is_empty(), "{live:?}");
}

#[test]
fn a_burst_larger_than_a_segment_goes_record_by_record() {
    let dir = TempDir::new().unwrap();
    let journal = Journal::open(dir.path(), &small(), None).unwrap();
    let (event, payload) = (note("large"), vec![1u8; 40_000]);
    let payload: [&[u8]; 1] = [&payload];
    let entry = Entry { event: &event, payload: &payload };
    let position = journal.append(&[entry; 5]).unwrap();
    assert!(position.end - position.first >= 5);
    let too_large = vec![1u8; 70_000];
    let payload: [&[u8]; 1] = [&too_large];
    let refused = journal.append(&[Entry { event: &event, payload: &payload }]).unwrap_err();
    assert!(matches!(refused, JournalError::TooLarge { .. }), "{refused}");
    add(&journal, "after", b"");
    journal.close().unwrap();
    assert!(verify(dir.path(), &mut |_| {}).unwrap().findings.list.is_empty());
}

#[test]
fn a_journal_verifies_at_any_moment_of_its_life() {
    let dir = TempDir::new().unwrap();
    let options = Options { segment_bytes: 8 * 1024, ..small() };
    let journal = Journal::open(dir.path(), &options, None).unwrap();
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for n in 0u32.. {
                add(&journal, &n.to_string(), &[4; 200]);
                if n % 20 == 19 {
                    wait(journal.checkpoint_now()).unwrap();
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                }
            }
        });
        let reports: Vec<Report> = (0..25).map(|_| verify(dir.path(), &mut |_| {}).unwrap()).collect();
        stop.store(true, Ordering::Relaxed);
        let bad: Vec<&Report> = reports.iter().filter(|report| !report.findings.list.is_empty()).collect();
        assert!(bad.is_empty(), "{bad:?}");
        assert!(reports.last().unwrap().records > 0);
    });
}

#[test]
fn who_waits_for_a_closed_journal_is_told() {
    let dir = TempDir::new().unwrap();
    let options = Options { durability: Durability::Disk, ..small() };
    let journal = Journal::open(dir.path(), &options, None).unwrap();
    let position = add(&journal, "one", b"");
    journal.close().unwrap();
    wait(journal.durable(position)).unwrap();
    let beyond = Position { first: position.end, end: position.end + 1 };
    assert!(wait(journal.durable(beyond)).is_err());
    assert!(wait(journal.checkpoint_now()).is_ok(), "it was signed when it was closed");
}
