//! Sealed segments: they read as before, whatever is done to them is found, and no death at any step loses a record.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::process::{Command, Stdio};

use super::*;
use crate::journal::sealed::Source;
use crewtap_core::chain::finding::{Finding, Weight, What};

/// Bytes of a segment with a few hundred records.
const SEGMENT: u64 = 64 * 1024;

fn options() -> Options {
    Options { durability: Durability::Process, segment_bytes: SEGMENT }
}

fn is_sealed(path: &Path) -> bool {
    Source::open(path).unwrap().sealed().is_some()
}

fn never() -> bool {
    false
}

/// Which segments of a store are sealed, in order.
fn sealed(dir: &Path) -> Vec<bool> {
    let layout = Layout::new(dir);
    segment::list(&layout).unwrap().iter().map(|first| is_sealed(&layout.segment(*first))).collect()
}

/// Appends numbered notes with payloads that compress as text does.
fn fill(journal: &Journal, from: usize, to: usize) {
    for n in from..to {
        add(journal, &n.to_string(), "SELECT name, total FROM orders; ".repeat(n % 40).as_bytes());
    }
}

/// A journal whose full segments are sealed; it is still open.
fn open_store(dir: &Path, records: usize) -> Journal {
    let journal = Journal::open(dir, &options(), None).unwrap();
    fill(&journal, 0, records);
    settle(&journal);
    journal
}

fn settle(journal: &Journal) {
    let signed = wait(journal.checkpoint_now()).unwrap();
    journal.inner.shared.sealing.settle(signed);
}

fn all(dir: &Path) -> Vec<Record> {
    Reader::open(dir).unwrap().from(0).map(Result::unwrap).collect()
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
fn a_sealed_segment_reads_as_the_plain_one_and_other_tools_unpack_it() {
    let dir = TempDir::new().unwrap();
    let journal = Journal::open(dir.path(), &options(), None).unwrap();
    fill(&journal, 0, 400);
    let layout = Layout::new(dir.path());
    // Opened before it is sealed, read to its end afterwards.
    let mut early = Reader::open(dir.path()).unwrap().from(0);
    let first = early.next().unwrap().unwrap();
    let plain = fs::File::open(layout.segment(0)).unwrap();
    settle(&journal);
    let kinds = sealed(dir.path());
    assert!(kinds.len() > 2 && kinds[0] && !kinds.last().unwrap(), "{kinds:?}");
    let records = all(dir.path());
    assert_eq!(std::iter::once(first).chain(early.map(Result::unwrap)).collect::<Vec<_>>(), records[..]);
    let reader = Reader::open(dir.path()).unwrap();
    for record in records.iter().rev().step_by(7) {
        assert_eq!(reader.record(record.leaf).unwrap().as_ref(), Some(record));
    }
    let path = layout.segment(0);
    let unpacked = Command::new("zstd").args(["-d", "-c"]).arg(&path).output();
    if let Ok(unpacked) = unpacked {
        let mut before = vec![0; unpacked.stdout.len()];
        plain.read_exact_at(&mut before, 0).unwrap();
        assert!(unpacked.status.success() && unpacked.stdout == before);
    }
    let file = fs::metadata(&path).unwrap();
    assert_eq!(file.permissions().mode() & 0o777, 0o640);
    assert!(file.len() * 3 < SEGMENT, "{}", file.len());
    assert_eq!(file.modified().unwrap(), plain.metadata().unwrap().modified().unwrap());
    let report = verify(dir.path(), &mut |_| {}).unwrap();
    assert!(report.findings.list.is_empty(), "{report:?}");
    assert_eq!(report.sealed, kinds.iter().filter(|sealed| **sealed).count() as u64);
    journal.close().unwrap();
    let again = Journal::open(dir.path(), &options(), None).unwrap();
    fill(&again, 400, 800);
    settle(&again);
    again.close().unwrap();
    let report = verify(dir.path(), &mut |_| {}).unwrap();
    assert!(report.findings.list.is_empty() && report.sealed > 5, "{report:?}");
    assert!(!layout.sealing().exists());
}

/// Files of a closed store, whose first segment is sealed and has several parts.
fn closed(records: usize) -> TempDir {
    let dir = TempDir::new().unwrap();
    let journal = open_store(dir.path(), records);
    journal.close().unwrap();
    fs::remove_dir_all(dir.path().join("keys")).unwrap();
    dir
}

fn findings(dir: &Path) -> Vec<Finding> {
    verify(dir, &mut |_| {}).unwrap().findings.list
}

fn named(found: &[Finding], file: &str) -> bool {
    found.iter().any(|it| it.weight == Weight::Tampering && it.file.as_deref() == Some(file))
}

#[test]
fn every_flipped_or_cut_byte_of_a_sealed_segment_is_found() {
    let dir = closed(120);
    let path = Layout::new(dir.path()).segment(0);
    let name = path.file_name().unwrap().to_str().unwrap();
    let good = fs::read(&path).unwrap();
    assert!(findings(dir.path()).is_empty() && is_sealed(&path));
    let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    // Every bit of what is not compressed data, and one bit of each fifth byte of that.
    let (head, tail) = (24, good.len() - 200);
    for at in (0..good.len()).filter(|at| *at < head || *at >= tail || at % 5 == 0) {
        let bits = if (head..tail).contains(&at) { at % 8..at % 8 + 1 } else { 0..8 };
        for bit in bits {
            file.write_all_at(&[good[at] ^ (1 << bit)], at as u64).unwrap();
            let found = findings(dir.path());
            assert!(named(&found, name), "bit {bit} of byte {at}: {found:?}");
            file.write_all_at(&good[at..=at], at as u64).unwrap();
        }
    }
    for len in (0..good.len()).step_by(97).chain(good.len() - 20..good.len()) {
        fs::write(&path, &good[..len]).unwrap();
        let found = findings(dir.path());
        assert!(named(&found, name), "cut to {len}: {found:?}");
    }
    fs::write(&path, [&good[..], b"x"].concat()).unwrap();
    assert!(named(&findings(dir.path()), name), "a byte more");
    fs::write(&path, &good).unwrap();
    assert!(findings(dir.path()).is_empty());
}

#[test]
fn a_swapped_missing_or_exchanged_sealed_segment_is_found() {
    let dir = closed(600);
    let layout = Layout::new(dir.path());
    let firsts = segment::list(&layout).unwrap();
    let paths: Vec<PathBuf> = firsts.iter().map(|first| layout.segment(*first)).collect();
    assert!(is_sealed(&paths[0]) && is_sealed(&paths[1]) && is_sealed(&paths[2]));
    let goods: Vec<Vec<u8>> = paths.iter().map(|path| fs::read(path).unwrap()).collect();
    fs::write(&paths[0], &goods[1]).unwrap();
    fs::write(&paths[1], &goods[0]).unwrap();
    let found = findings(dir.path());
    assert!(found.iter().any(|it| it.what == What::HeaderChanged), "{found:?}");
    fs::write(&paths[0], &goods[0]).unwrap();
    fs::remove_file(&paths[1]).unwrap();
    let found = findings(dir.path());
    assert!(found.iter().any(|it| it.what == What::SegmentMissing && it.leaf == Some(firsts[1])), "{found:?}");
    // What is packed may be right for itself, and is not what was signed.
    let other = closed(700);
    let from = Layout::new(other.path()).segment(0);
    fs::write(&paths[1], &goods[1]).unwrap();
    assert!(findings(dir.path()).is_empty());
    fs::write(&paths[0], fs::read(from).unwrap()).unwrap();
    assert!(!findings(dir.path()).is_empty());
    // Unpacked again, it is the same evidence.
    fs::write(&paths[0], zstd::stream::decode_all(&goods[0][..]).unwrap()).unwrap();
    assert!(findings(dir.path()).is_empty());
}

#[test]
fn what_is_left_of_a_damaged_part_is_still_read() {
    let dir = TempDir::new().unwrap();
    let large = Options { segment_bytes: 4 * 1024 * 1024, ..options() };
    let journal = Journal::open(dir.path(), &large, None).unwrap();
    for n in 0..1300u32 {
        // Text that does not compress to nothing.
        let line: String =
            (0..200u32).map(|at| format!("{:x} ", n.wrapping_mul(2_654_435_761) ^ (at * at * n))).collect();
        add(&journal, &n.to_string(), line.as_bytes().repeat(3).as_slice());
    }
    settle(&journal);
    journal.close().unwrap();
    let path = Layout::new(dir.path()).segment(0);
    let parts = Source::open(&path).unwrap().sealed().unwrap().parts.clone();
    assert!(parts.len() > 2, "{parts:?}");
    let whole = all(dir.path()).len();
    let at = parts[1].at + u64::from(parts[1].packed) * 3 / 4;
    let mut bytes = fs::read(&path).unwrap();
    bytes[at as usize] ^= 0x10;
    fs::write(&path, &bytes).unwrap();
    let left = Reader::open(dir.path()).unwrap().from(0).filter_map(Result::ok).count();
    assert!(left < whole && left > whole * 3 / 5, "{left} of {whole}");
    let reader = Reader::open(dir.path()).unwrap();
    let damaged: Vec<u64> = (0..whole as u64).filter(|leaf| reader.record(*leaf).is_err()).collect();
    assert!(!damaged.is_empty() && damaged.iter().all(|leaf| (parts[1].first..parts[2].first).contains(leaf)));
    let found = findings(dir.path());
    let part = found.iter().find(|it| it.what == What::SealChanged).unwrap();
    assert_eq!((part.leaf, part.offset), (Some(parts[1].first), Some(parts[1].at)), "{found:?}");
    // The tables are damaged, too: the parts are found without them.
    let end = bytes.len() - 30;
    bytes[end] ^= 1;
    fs::write(&path, &bytes).unwrap();
    assert_eq!(Reader::open(dir.path()).unwrap().from(0).filter_map(Result::ok).count(), left);
}

#[test]
fn an_agent_that_dies_at_any_step_of_sealing_loses_nothing() {
    let live = TempDir::new().unwrap();
    let journal = Journal::open(live.path(), &options(), None).unwrap();
    // Nothing is sealed by the agent itself here.
    journal.inner.shared.sealing.stop();
    fill(&journal, 0, 400);
    wait(journal.checkpoint_now()).unwrap();
    let layout = Layout::new(live.path());
    let firsts = segment::list(&layout).unwrap();
    let records = all(live.path());
    let sealer = Sealer::new(layout.clone(), journal.verifier().clone(), SEGMENT);
    let dies = |step: &str, kinds: &[bool]| {
        let dead = TempDir::new().unwrap();
        copy(live.path(), dead.path());
        assert_eq!(&sealed(dead.path())[..2], kinds, "{step}");
        let report = verify(dead.path(), &mut |_| {}).unwrap();
        assert!(report.findings.list.is_empty(), "{step}: {report:?}");
        assert_eq!(all(dead.path()), records, "{step}");
        let next = Journal::open(dead.path(), &options(), None).unwrap();
        settle(&next);
        next.close().unwrap();
        assert!(!Layout::new(dead.path()).sealing().exists(), "{step}");
        assert_eq!(&sealed(dead.path())[..2], [true, true], "{step}");
        let report = verify(dead.path(), &mut |_| {}).unwrap();
        assert!(report.findings.list.is_empty(), "{step}: {report:?}");
        assert_eq!(&all(dead.path())[..records.len()], records, "{step}");
    };
    dies("before", &[false, false]);
    let used = sealer.pack(0, firsts[1], &never).unwrap();
    dies("packed", &[false, false]);
    let whole = fs::read(layout.sealing()).unwrap();
    for cut in [0, 1, whole.len() / 2, whole.len() - 1] {
        fs::write(layout.sealing(), &whole[..cut]).unwrap();
        dies("half written", &[false, false]);
        assert!(sealer.check(0, firsts[1], used, &never).is_err(), "cut at {cut}");
    }
    let mut bad = whole.clone();
    for at in (0..whole.len()).step_by(53) {
        bad[at] ^= 0x40;
        fs::write(layout.sealing(), &bad).unwrap();
        assert!(sealer.check(0, firsts[1], used, &never).is_err(), "byte {at}");
        bad[at] = whole[at];
    }
    fs::write(layout.sealing(), &whole).unwrap();
    sealer.check(0, firsts[1], used, &never).unwrap();
    dies("checked", &[false, false]);
    sealer.replace(0).unwrap();
    dies("replaced", &[true, false]);
    journal.close().unwrap();
}

#[test]
fn a_damaged_segment_is_not_rewritten() {
    let dir = TempDir::new().unwrap();
    let journal = Journal::open(dir.path(), &options(), None).unwrap();
    journal.inner.shared.sealing.stop();
    fill(&journal, 0, 300);
    wait(journal.checkpoint_now()).unwrap();
    journal.close().unwrap();
    let path = Layout::new(dir.path()).segment(0);
    let mut bytes = fs::read(&path).unwrap();
    bytes[5000] ^= 1;
    fs::write(&path, &bytes).unwrap();
    let again = Journal::open(dir.path(), &options(), None).unwrap();
    settle(&again);
    again.close().unwrap();
    assert_eq!(fs::read(&path).unwrap(), bytes);
    assert_eq!(sealed(dir.path())[..2], [false, true]);
}

#[test]
fn an_agent_starts_behind_a_sealed_end_and_refuses_a_damaged_one() {
    let dir = TempDir::new().unwrap();
    let journal = Journal::open(dir.path(), &options(), None).unwrap();
    // The checkpoint covers exactly the first segment, whose successor is still empty.
    let mut n = 0;
    while segment::list(&Layout::new(dir.path())).unwrap().len() < 2 {
        add(&journal, &n.to_string(), &[b'x'; 500]);
        n += 1;
    }
    settle(&journal);
    let end = journal.end();
    journal.close().unwrap();
    let layout = Layout::new(dir.path());
    assert_eq!(sealed(dir.path()), [true, false]);
    // Signed records behind it: their loss is not taken for the journal's end.
    let last = layout.segment(*segment::list(&layout).unwrap().last().unwrap());
    let good = fs::read(&last).unwrap();
    fs::remove_file(&last).unwrap();
    let refused = Journal::open(dir.path(), &options(), None).unwrap_err();
    assert!(matches!(&refused, JournalError::Tampered(_)), "{refused}");
    assert_eq!(sealed(dir.path()), [true]);
    fs::write(&last, good).unwrap();
    let again = Journal::open(dir.path(), &options(), None).unwrap();
    assert!(again.end() >= end);
    again.close().unwrap();
}

#[test]
fn a_disk_without_room_leaves_the_plain_segment_until_there_is_some() {
    disk::on_a_small_disk(|dir| {
        let store = dir.join("store");
        let journal = Journal::open(&store, &options(), None).unwrap();
        fill(&journal, 0, 100);
        wait(journal.checkpoint_now()).unwrap();
        let sealer = Sealer::new(Layout::new(&store), journal.verifier().clone(), SEGMENT);
        fill(&journal, 100, 400);
        journal.inner.shared.sealing.stop();
        wait(journal.checkpoint_now()).unwrap();
        let firsts = segment::list(&Layout::new(&store)).unwrap();
        let at = firsts.iter().position(|first| !is_sealed(&Layout::new(&store).segment(*first))).unwrap();
        disk::fill(&dir.join("ballast"));
        let full = sealer.pack(firsts[at], firsts[at + 1], &never);
        assert!(matches!(full, Err(seal::SealError::NoRoom)), "{full:?}");
        fs::remove_file(dir.join("ballast")).unwrap();
        journal.close().unwrap();
        let again = Journal::open(&store, &options(), None).unwrap();
        settle(&again);
        again.close().unwrap();
        let kinds = sealed(&store);
        assert!(kinds[..firsts.len() - 1].iter().all(|sealed| *sealed), "{kinds:?}");
        assert!(verify(&store, &mut |_| {}).unwrap().findings.list.is_empty());
    });
}

const CHILD_DIR: &str = "CREWTAP_TEST_SEALING_DIR";

/// Not a test by itself: the process that [`a_killed_agent_leaves_every_segment_plain_or_sealed`] kills.
#[test]
fn child_that_seals_until_it_is_killed() {
    let Some(dir) = std::env::var_os(CHILD_DIR) else { return };
    let options = Options { durability: Durability::Process, segment_bytes: 16 * 1024 };
    let journal = Journal::open(Path::new(&dir), &options, None).unwrap();
    for n in 0usize.. {
        let position = add(&journal, &n.to_string(), &vec![b'p'; (n * 61) % 900]);
        println!("ack {}", position.first);
        if n % 25 == 0 {
            wait(journal.checkpoint_now()).unwrap();
        }
    }
}

#[test]
fn a_killed_agent_leaves_every_segment_plain_or_sealed() {
    let dir = TempDir::new().unwrap();
    let mut swept = 0;
    for round in 0..25usize {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "journal::tests::sealing::child_that_seals_until_it_is_killed", "--nocapture"])
            .env(CHILD_DIR, dir.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let acks = lines.filter_map(|line| line.split("ack ").nth(1)?.parse::<u64>().ok());
        let last = acks.take(40 + (round * 37) % 400).last().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        swept += u32::from(Layout::new(dir.path()).sealing().exists());
        let report = verify(dir.path(), &mut |_| {}).unwrap();
        assert!(report.is_intact(), "round {round}: {report:?}");
        assert!(Reader::open(dir.path()).unwrap().len().unwrap() > last, "round {round}");
    }
    let options = Options { durability: Durability::Process, segment_bytes: 16 * 1024 };
    let journal = Journal::open(dir.path(), &options, None).unwrap();
    settle(&journal);
    journal.close().unwrap();
    let report = verify(dir.path(), &mut |_| {}).unwrap();
    assert!(report.findings.list.is_empty() && report.sealed > 10, "{swept} swept: {report:?}");
    let leaves = all(dir.path()).iter().map(|record| record.leaf).collect::<Vec<_>>();
    assert!(leaves.iter().copied().eq(0..leaves.len() as u64));
}

#[test]
fn only_the_sealing_thread_has_a_low_priority() {
    let dir = TempDir::new().unwrap();
    let journal = open_store(dir.path(), 10);
    let nice = |comm: &str| {
        let tasks = fs::read_dir("/proc/self/task").unwrap().map(|task| task.unwrap().path());
        let mut named = tasks.filter(|task| fs::read_to_string(task.join("comm")).is_ok_and(|it| it.trim() == comm));
        let stat = fs::read_to_string(named.next().unwrap().join("stat")).unwrap();
        stat.rsplit(')').next().unwrap().split_whitespace().nth(16).unwrap().parse::<i32>().unwrap()
    };
    assert_eq!(nice("journal-seal"), 19);
    assert!(nice("journal-follow") < 19);
    journal.close().unwrap();
}
