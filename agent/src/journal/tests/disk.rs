//! A disk that is full, and has room again; on a file system of its own.

use std::fs;
use std::sync::mpsc;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use super::*;

/// Runs on a 16 MiB tmpfs that only this thread, and threads started by it, can see.
pub(super) fn on_a_small_disk(test: impl FnOnce(&Path) + Send) {
    let dir = TempDir::new().unwrap();
    std::thread::scope(|scope| {
        let run = scope.spawn(|| {
            unshare(CloneFlags::CLONE_NEWNS).unwrap();
            let none = None::<&str>;
            mount(none, "/", none, MsFlags::MS_PRIVATE | MsFlags::MS_REC, none).unwrap();
            mount(Some("tmpfs"), dir.path(), Some("tmpfs"), MsFlags::empty(), Some("size=16m")).unwrap();
            test(dir.path());
        });
        run.join().unwrap();
    });
}

pub(super) fn fill(path: &Path) {
    let mut file = fs::File::create(path).unwrap();
    let error = std::iter::repeat_with(|| io::Write::write_all(&mut file, &[1; 4096])).find_map(Result::err);
    assert_eq!(error.unwrap().raw_os_error(), Some(libc::ENOSPC));
}

#[test]
fn a_full_disk_refuses_records_but_closes_sessions_and_recovers() {
    on_a_small_disk(|dir| {
        let (failed, failures) = mpsc::sync_channel(65_536);
        let sink: Sink = Box::new(move |records| failed.send(records.len()).map_err(|e| e.to_string()));
        let journal = Journal::open(&dir.join("store"), &Options::default(), Some((0, sink))).unwrap();
        add(&journal, "first", b"");
        wait(journal.checkpoint_now()).unwrap();
        fill(&dir.join("ballast"));
        let (mut kept, payload) = (1u64, vec![5u8; 32 * 1024]);
        let refused = loop {
            match journal.append(&[Entry { event: &note("more"), payload: &[&payload] }]) {
                Ok(_) => kept += 1,
                Err(error) => break error,
            }
            assert!(kept < 1000);
        };
        assert!(matches!(refused, JournalError::Full), "{refused}");
        for n in 0..50 {
            journal
                .append_closing(&[Formed { event: &note(&format!("closed {n}")).to_cbor().unwrap(), payload: &[] }])
                .unwrap();
            kept += 1;
        }
        assert!(matches!(
            journal.append(&[Entry { event: &note("no"), payload: &[&payload] }]),
            Err(JournalError::Full)
        ));
        fs::remove_file(dir.join("ballast")).unwrap();
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while journal.append(&[Entry { event: &note("again"), payload: &[&payload] }]).is_err() {
            assert!(std::time::Instant::now() < deadline, "it does not go on");
            std::thread::yield_now();
        }
        kept += 1;
        wait(journal.caught_up(journal.end() - 1)).unwrap();
        journal.close().unwrap();
        drop(journal);
        let report = verify(&dir.join("store"), &mut |_| {}).unwrap();
        assert!(report.findings.list.is_empty(), "{report:?}");
        let notes = Reader::open(&dir.join("store")).unwrap().from(0).map(Result::unwrap);
        assert_eq!(notes.filter(|record| record.event.body.kind() == "note").count() as u64, kept);
        assert_eq!(failures.iter().sum::<usize>() as u64, report.records);
    });
}

#[test]
fn a_failed_write_leaves_nothing_behind() {
    let dir = TempDir::new().unwrap();
    let journal = Journal::open(dir.path(), &small(), None).unwrap();
    let position = add(&journal, "good", b"before");
    let burst = |text: &str| {
        let bytes = note(text).to_cbor().unwrap();
        let mut heads = Vec::new();
        let head = Head::write(&mut heads, [1; 16], &bytes, &[]);
        (head, heads)
    };
    {
        let mut writer = locked(&journal.inner.shared.writer);
        let offset = writer.offset;
        // Half a record, as a write that failed half-way leaves it.
        let (_, heads) = burst("half");
        std::os::unix::fs::FileExt::write_all_at(&*writer.file, &heads[..30], offset).unwrap();
        writer.dirty = Some(offset + 30);
    }
    let next = journal.append(&[Entry { event: &note("s"), payload: &[] }]).unwrap();
    assert!(next.first > position.first);
    journal.close().unwrap();
    assert!(verify(dir.path(), &mut |_| {}).unwrap().findings.list.is_empty());
}
