//! Whatever is done to a store is found, and the right thing is named.

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use super::*;
use crate::journal::scan::{Found, Scan};
use crate::journal::sealed::Source;
use crewtap_core::chain::finding::{Finding, Weight, What};
use crewtap_core::chain::frame::{Frame, HEADER_BYTES};

const SEGMENT: u64 = 1024;

/// A small store with three checkpoints and two segments, closed, without its secret keys.
fn store() -> TempDir {
    let dir = TempDir::new().unwrap();
    let options = Options { durability: Durability::Process, segment_bytes: SEGMENT };
    let journal = Journal::open(dir.path(), &options, None).unwrap();
    for n in 0..12usize {
        add(&journal, &n.to_string(), &b"0123456789abcdef"[..n]);
        if n == 3 {
            wait(journal.checkpoint_now()).unwrap();
        }
    }
    journal.close().unwrap();
    fs::remove_dir_all(dir.path().join("keys")).unwrap();
    dir
}

fn findings(dir: &Path) -> Vec<Finding> {
    verify(dir, &mut |_| {}).unwrap().findings.list
}

/// File, offset and end of every record.
fn records(dir: &Path) -> Vec<(PathBuf, u64, u64)> {
    let layout = Layout::new(dir);
    let mut records = Vec::new();
    for first in segment::list(&layout).unwrap() {
        let source = Source::open(&layout.segment(first)).unwrap();
        let mut scan = Scan::new(Arc::new(source), HEADER_BYTES as u64, first, u64::MAX);
        while let Found::Record { offset, bytes } = scan.step().unwrap() {
            records.push((layout.segment(first), offset, offset + bytes as u64));
        }
    }
    records
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
        match entry.file_type().unwrap().is_dir() {
            true => files.extend(self::files(&entry.path())),
            false => files.push(entry.path()),
        }
    }
    files
}

#[test]
fn every_flipped_bit_is_found_and_named() {
    let dir = store();
    let records = records(dir.path());
    assert!(findings(dir.path()).is_empty());
    assert!(segment::list(&Layout::new(dir.path())).unwrap().len() >= 2 && records.len() >= 13);
    for path in files(dir.path()).iter().filter(|path| !path.ends_with("lock")) {
        let good = fs::read(path).unwrap();
        let name = path.file_name().unwrap().to_str().unwrap();
        let is_segment = crate::journal::store::segment_first(name).is_some();
        let file = fs::OpenOptions::new().write(true).open(path).unwrap();
        for bit in 0..good.len() * 8 {
            file.write_all_at(&[good[bit / 8] ^ (1 << (bit % 8))], (bit / 8) as u64).unwrap();
            let found = findings(dir.path());
            let at = (bit / 8) as u64;
            let owner = records.iter().position(|(file, from, to)| file == path && (*from..*to).contains(&at));
            let named = found.iter().any(|finding| match owner {
                Some(leaf) => finding.leaf == Some(leaf as u64) && finding.weight == Weight::Tampering,
                None if is_segment => finding.file.as_deref() == Some(name),
                None => {
                    finding.weight == Weight::Tampering
                        && finding.file.as_deref().is_some_and(|file| path.to_str().unwrap().ends_with(file))
                }
            });
            assert!(named, "bit {bit} of {}, record {owner:?}: {found:?}", path.display());
            // One flipped bit is one finding: nothing that is right is blamed. Only the history may be damaged
            // where two checkpoints meet, and an event tells of each.
            let most = if name == "checkpoints" { 3 } else { 1 };
            assert!(found.len() <= most, "bit {bit} of {}: {found:?}", path.display());
            file.write_all_at(&good[bit / 8..=bit / 8], (bit / 8) as u64).unwrap();
        }
    }
    assert!(findings(dir.path()).is_empty());
}

/// Rewrites the segment of one record; the file keeps its length.
fn rewrite(path: &Path, change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let good = fs::read(path).unwrap();
    let mut bad = good.clone();
    change(&mut bad);
    bad.resize(good.len(), 0);
    fs::write(path, bad).unwrap();
    good
}

fn assert_named(dir: &Path, leaf: usize, how: &str) {
    let found = findings(dir);
    let named = |finding: &Finding| finding.weight == Weight::Tampering && finding.leaf == Some(leaf as u64);
    assert!(found.iter().any(named), "record {leaf} {how}: {found:?}");
}

#[test]
fn every_removed_zeroed_cut_or_swapped_record_is_found() {
    let dir = store();
    let records = records(dir.path());
    for (leaf, (path, from, to)) in records.iter().enumerate() {
        let (from, to) = (*from as usize, *to as usize);
        let good = rewrite(path, |bytes| drop(bytes.drain(from..to)));
        assert_named(dir.path(), leaf, "removed");
        fs::write(path, &good).unwrap();
        rewrite(path, |bytes| bytes[from..to].fill(0));
        assert_named(dir.path(), leaf, "zeroed");
        fs::write(path, &good).unwrap();
        rewrite(path, |bytes| bytes[from..].fill(0));
        assert_named(dir.path(), leaf, "and all after it zeroed");
        fs::write(path, &good[..from]).unwrap();
        assert_named(dir.path(), leaf, "and all after it cut off");
        fs::write(path, &good).unwrap();
        if let Some((_, _, end)) = records.get(leaf + 1).filter(|(next, ..)| next == path) {
            rewrite(path, |bytes| bytes[from..*end as usize].rotate_left(to - from));
            assert_named(dir.path(), leaf, "swapped with the next");
            fs::write(path, &good).unwrap();
            fs::write(path, [&good[..to], &good[from..]].concat()).unwrap();
            assert_named(dir.path(), leaf, "repeated");
            fs::write(path, &good).unwrap();
        }
    }
    assert!(findings(dir.path()).is_empty());
}

#[test]
fn a_forged_record_with_a_right_checksum_is_found() {
    let dir = store();
    for (leaf, (path, from, to)) in records(dir.path()).iter().enumerate() {
        let (from, to) = (*from as usize, *to as usize);
        let good = rewrite(path, |bytes| {
            let record = bytes[from..to].to_vec();
            let frame = Frame::decode(&record).unwrap();
            let event = Event::from_cbor(frame.event).unwrap();
            let forged =
                Event { at: crewtap_core::event::Stamp { wall_ns: event.at.wall_ns ^ 1, ..event.at }, ..event };
            let mut out = Vec::new();
            let payload = [frame.bytes().unwrap()];
            let head = Head::write(&mut out, [9; 16], &forged.to_cbor().unwrap(), &payload);
            head.number(&mut out, frame.seq);
            out.extend_from_slice(payload[0]);
            assert_eq!(out.len(), record.len());
            bytes.splice(from..to, out);
        });
        let found = findings(dir.path());
        let [finding] = found.as_slice() else { panic!("record {leaf}: {found:?}") };
        assert_eq!((finding.what, finding.leaf), (What::RecordChanged, Some(leaf as u64)));
        fs::write(path, good).unwrap();
    }
}

#[test]
fn an_erased_payload_keeps_the_proofs_and_is_told() {
    let dir = store();
    let (path, from, to) = records(dir.path())[8].clone();
    rewrite(&path, |bytes| {
        let range = from as usize..to as usize;
        let erased = Frame::decode(&bytes[range.clone()]).unwrap().erase();
        bytes.splice(range, erased);
    });
    let report = verify(dir.path(), &mut |_| {}).unwrap();
    assert!(report.is_intact() && report.erased == 1, "{report:?}");
    assert_eq!(report.findings.list[0].what, What::PayloadErased);
}

#[test]
fn what_is_missing_is_named() {
    let dir = store();
    let layout = Layout::new(dir.path());
    let firsts = segment::list(&layout).unwrap();
    let cases = [
        (layout.segment(firsts[0]), What::SegmentMissing),
        (layout.segment(*firsts.last().unwrap()), What::RecordMissing),
        (layout.host_pub(), What::KeyMissing),
        (layout.checkpoint(), What::CheckpointMissing),
        (layout.history(), What::CheckpointMissing),
    ];
    for (path, what) in cases {
        let good = fs::read(&path).unwrap();
        fs::remove_file(&path).unwrap();
        let found = findings(dir.path());
        let named = |finding: &Finding| finding.what == what && finding.weight == Weight::Tampering;
        assert!(found.iter().any(named), "{}: {found:?}", path.display());
        fs::write(&path, good).unwrap();
    }
    for path in files(&layout.tiles()) {
        let good = fs::read(&path).unwrap();
        fs::remove_file(&path).unwrap();
        assert_eq!(findings(dir.path())[0].what, What::TileMissing, "{}", path.display());
        fs::write(&path, good).unwrap();
    }
}

#[test]
fn a_rolled_back_history_is_found() {
    let dir = store();
    let layout = Layout::new(dir.path());
    let history = fs::read_to_string(layout.history()).unwrap();
    let notes: Vec<String> =
        history.split_inclusive('\n').collect::<Vec<_>>().chunks(5).map(<[&str]>::concat).collect();
    assert!(notes.len() >= 2);
    fs::write(layout.history(), notes[1..].concat()).unwrap();
    assert_eq!(findings(dir.path())[0].what, What::CheckpointMissing);
    fs::write(layout.history(), &notes[0]).unwrap();
    assert_eq!(findings(dir.path())[0].what, What::CheckpointMissing);
    fs::write(layout.history(), &history).unwrap();
    fs::write(layout.checkpoint(), &notes[0]).unwrap();
    assert!(!findings(dir.path()).is_empty());
}

#[test]
fn a_foreign_key_does_not_verify() {
    let (dir, other) = (store(), store());
    fs::copy(other.path().join("host.pub"), dir.path().join("host.pub")).unwrap();
    assert!(findings(dir.path()).iter().any(|finding| finding.weight == Weight::Tampering));
}

#[test]
fn an_agent_refuses_a_store_in_which_signed_records_are_gone() {
    let dir = TempDir::new().unwrap();
    let journal = Journal::open(dir.path(), &small(), None).unwrap();
    (0..5).for_each(|n| _ = add(&journal, &n.to_string(), b"x"));
    journal.close().unwrap();
    drop(journal);
    let (path, from, to) = records(dir.path())[2].clone();
    rewrite(&path, |bytes| bytes[from as usize + 40..to as usize].fill(0));
    let before = fs::read(&path).unwrap();
    let refused = Journal::open(dir.path(), &small(), None).unwrap_err();
    assert!(matches!(&refused, JournalError::Tampered(why) if why.contains("record 2")), "{refused}");
    assert_eq!(fs::read(&path).unwrap(), before, "it was left as it is");
    assert!(Reader::open(dir.path()).unwrap().record(2).is_err());
    assert!(Reader::open(dir.path()).unwrap().record(3).unwrap().is_some());
}

#[test]
fn a_wrong_hash_in_any_tile_is_found_and_the_records_are_not_blamed() {
    let dir = TempDir::new().unwrap();
    let journal = Journal::open(dir.path(), &small(), None).unwrap();
    for n in 0..700 {
        add(&journal, &n.to_string(), b"");
        if n % 100 == 0 {
            wait(journal.checkpoint_now()).unwrap();
        }
    }
    journal.close().unwrap();
    let tiles = files(&Layout::new(dir.path()).tiles());
    assert!(tiles.iter().any(|path| path.to_str().unwrap().contains("tile/1/")) && tiles.len() >= 4);
    for path in tiles {
        let good = fs::read(&path).unwrap();
        for at in (0..good.len()).step_by(32 * 7) {
            let mut bad = good.clone();
            bad[at] ^= 4;
            fs::write(&path, &bad).unwrap();
            let found = findings(dir.path());
            let [finding] = found.as_slice() else { panic!("{} at {at}: {found:?}", path.display()) };
            assert_eq!(finding.what, What::TileChanged, "{finding:?}");
            assert!(path.to_str().unwrap().ends_with(finding.file.as_deref().unwrap()));
        }
        fs::write(&path, &good).unwrap();
    }
    // A tile cannot be made to fit a forged record either: the signed root decides.
    let (path, from, to) = records(dir.path())[300].clone();
    let good = fs::read(&path).unwrap();
    let frame = Frame::decode(&good[from as usize..to as usize]).unwrap();
    let mut forged = Vec::new();
    Head::write(&mut forged, [9; 16], frame.event, &[]).number(&mut forged, 300);
    let tile = Layout::new(dir.path()).tiles().join("0/001");
    let mut hashes = fs::read(&tile).unwrap();
    hashes[44 * 32..45 * 32].copy_from_slice(&Frame::decode(&forged).unwrap().leaf());
    rewrite(&path, |bytes| _ = bytes.splice(from as usize..to as usize, forged));
    fs::write(&tile, hashes).unwrap();
    let found = findings(dir.path());
    assert!(found.iter().any(|finding| finding.what == What::RootDiffers), "{found:?}");
}
