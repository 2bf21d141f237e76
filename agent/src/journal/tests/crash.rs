//! The agent dies at any moment; what it had acknowledged is there, and the rest is cut cleanly.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use super::*;
use crewtap_core::event::Body;

const CHILD_DIR: &str = "CREWTAP_TEST_CRASH_DIR";

/// Not a test by itself: the process that [`what_was_acknowledged_survives_kill_9`] kills.
#[test]
fn child_that_appends_until_it_is_killed() {
    let Some(dir) = std::env::var_os(CHILD_DIR) else { return };
    let journal = Journal::open(Path::new(&dir), &small(), None).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..3u32 {
            let journal = &journal;
            scope.spawn(move || {
                for n in 0u32.. {
                    let payload = vec![b'p'; (n as usize * 61) % 9000];
                    let position = add(journal, &format!("{thread} {n}"), &payload);
                    println!("ack {}", position.first);
                }
            });
        }
    });
}

#[test]
fn what_was_acknowledged_survives_kill_9() {
    let dir = TempDir::new().unwrap();
    let mut acknowledged = Vec::new();
    for round in 0..12usize {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "journal::tests::crash::child_that_appends_until_it_is_killed", "--nocapture"])
            .env(CHILD_DIR, dir.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let mut acks = lines.filter_map(|line| line.split("ack ").nth(1)?.parse::<u64>().ok());
        acknowledged.extend(acks.by_ref().take(1 + round * 150));
        child.kill().unwrap();
        // What it said before it died counts too; a line cut by its death does not parse or is a prefix.
        let mut rest: Vec<u64> = acks.collect();
        rest.pop();
        acknowledged.extend(rest);
        child.wait().unwrap();
        let reader = Reader::open(dir.path()).unwrap();
        let len = reader.len().unwrap();
        assert!(acknowledged.iter().all(|leaf| *leaf < len), "round {round}");
        assert!(verify(dir.path(), &mut |_| {}).unwrap().is_intact());
        let journal = Journal::open(dir.path(), &small(), None).unwrap();
        assert!(journal.end() >= len);
        journal.close().unwrap();
        let report = verify(dir.path(), &mut |_| {}).unwrap();
        assert!(report.findings.list.is_empty(), "round {round}: {report:?}");
    }
    let reader = Reader::open(dir.path()).unwrap();
    let mut whole = vec![false; usize::try_from(reader.len().unwrap()).unwrap()];
    for record in reader.from(0).map(Result::unwrap) {
        if let Body::Note(note) = &record.event.body {
            let n: usize = note.text.split(' ').nth(1).unwrap().parse().unwrap();
            assert_eq!(record.payload.len(), (n * 61) % 9000);
            whole[record.leaf as usize] = true;
        }
    }
    assert!(acknowledged.len() > 1000 && acknowledged.iter().all(|leaf| whole[*leaf as usize]));
}

/// The files of a store as a dying agent leaves them: the first five records are signed, two more are not.
fn died() -> (TempDir, u64) {
    let (live, dead) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let options = Options { durability: Durability::Process, segment_bytes: 4096 };
    let journal = Journal::open(live.path(), &options, None).unwrap();
    (0..5).for_each(|n| _ = add(&journal, &n.to_string(), b"payload"));
    wait(journal.checkpoint_now()).unwrap();
    let last = add(&journal, "last", b"the last record");
    copy(live.path(), dead.path());
    (dead, last.first)
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &to.join(entry.file_name())),
            false => drop(fs::copy(entry.path(), to.join(entry.file_name())).unwrap()),
        }
    }
}

#[test]
fn a_torn_end_is_cut_at_every_byte_and_reported() {
    let (dead, last) = died();
    let segment = Layout::new(dead.path()).segment(0);
    let bytes = fs::read(&segment).unwrap();
    let end = bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    let start = end - {
        let reader = Reader::open(dead.path()).unwrap();
        let record = reader.record(last).unwrap().unwrap();
        36 + record.event.to_cbor().unwrap().len() + record.payload.len()
    };
    for cut in start..=end {
        let dir = TempDir::new().unwrap();
        copy(dead.path(), dir.path());
        let mut torn = bytes.clone();
        torn[cut..].fill(0);
        let is_torn = torn != bytes && cut > start;
        fs::write(Layout::new(dir.path()).segment(0), &torn).unwrap();
        let before = verify(dir.path(), &mut |_| {}).unwrap();
        assert!(before.is_intact() && before.findings.list.is_empty() != is_torn, "{cut}: {before:?}");
        let journal = Journal::open(dir.path(), &small(), None).unwrap();
        journal.close().unwrap();
        let after = verify(dir.path(), &mut |_| {}).unwrap();
        assert!(after.findings.list.is_empty(), "{cut}: {after:?}");
        let records: Vec<Record> = Reader::open(dir.path()).unwrap().from(0).map(Result::unwrap).collect();
        let recovered = records.iter().find_map(|record| match &record.event.body {
            Body::Recovered(recovered) => Some((record.leaf, recovered.clone())),
            _ => None,
        });
        assert_eq!(recovered.is_some(), is_torn, "cut at {cut}");
        if let Some((leaf, recovered)) = recovered {
            assert_eq!((leaf, recovered.from, recovered.to), (last, last, last));
            assert_eq!(recovered.cut_bytes as usize, torn.iter().rposition(|byte| *byte != 0).unwrap() + 1 - start);
        }
        assert_eq!(records.len() as u64, last + u64::from(is_torn || cut == end));
    }
}

#[test]
fn a_torn_history_is_cut() {
    let (dead, _) = died();
    let layout = Layout::new(dead.path());
    let history = fs::read(layout.history()).unwrap();
    for cut in 1..history.len() {
        fs::write(layout.history(), [&history[..], &history[..cut]].concat()).unwrap();
        let before = verify(dead.path(), &mut |_| {}).unwrap();
        assert!(before.is_intact(), "{cut}: {before:?}");
    }
    Journal::open(dead.path(), &small(), None).unwrap().close().unwrap();
    assert!(verify(dead.path(), &mut |_| {}).unwrap().findings.list.is_empty());
}
