//! The tree against RFC 6962 itself, and every other value against its own damage.
#![allow(
    clippy::cast_possible_truncation,
    clippy::match_bool,
    clippy::similar_names,
    clippy::format_collect,
    reason = "tests: small numbers, short names"
)]

use std::collections::BTreeMap;
use std::convert::Infallible;

use proptest::prelude::*;
use sha2::{Digest, Sha256};

use super::frame::{Frame, FrameFault, Head, Payload, check_header, header};
use super::note::{SignedTree, SignerKey, VerifierKey};
use super::proof::{Nodes, consistency, inclusion, is_consistent, is_included};
use super::tree::{Hash, TILE_WIDTH, Tree, empty_root, leaf_hash, tile_hashes, tile_path};
use crate::id::Ulid;

/// MTH of RFC 6962, 2.1, word by word.
fn naive(leaves: &[Hash]) -> Hash {
    match leaves {
        [] => Sha256::digest([]).into(),
        [leaf] => *leaf,
        _ => {
            let mut k = 1;
            while k * 2 < leaves.len() {
                k *= 2;
            }
            let both = [&[1][..], &naive(&leaves[..k]), &naive(&leaves[k..])].concat();
            Sha256::digest(both).into()
        }
    }
}

fn leaves(count: usize) -> Vec<Hash> {
    (0..count).map(|n| leaf_hash(&[&n.to_le_bytes()])).collect()
}

fn hex(hash: Hash) -> String {
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

type Tiles = BTreeMap<(u32, u64), Vec<Hash>>;

fn grown(leaves: &[Hash]) -> (Tree, Tiles) {
    let (mut tree, mut tiles) = (Tree::default(), Tiles::new());
    for leaf in leaves {
        let Ok(()) = tree.push(*leaf, |tile| {
            tiles.insert((tile.level, tile.index), tile.hashes.to_vec());
            Ok::<(), Infallible>(())
        });
    }
    (tree, tiles)
}

#[test]
fn roots_are_those_of_the_certificate_transparency_vectors() {
    let inputs: [&[u8]; 8] = [
        &[],
        &[0],
        &[0x10],
        &[0x20, 0x21],
        &[0x30, 0x31],
        &[0x40, 0x41, 0x42, 0x43],
        &[0x50, 0x51, 0x52, 0x53, 0x54, 0x55, 0x56, 0x57],
        &[0x60, 0x61, 0x62, 0x63, 0x64, 0x65, 0x66, 0x67, 0x68, 0x69, 0x6a, 0x6b, 0x6c, 0x6d, 0x6e, 0x6f],
    ];
    let roots = [
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
        "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
        "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
        "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    ];
    let hashes: Vec<Hash> = inputs.iter().map(|input| leaf_hash(&[input])).collect();
    for (size, root) in roots.iter().enumerate() {
        assert_eq!(&hex(grown(&hashes[..size]).0.root()), root, "{size} leaves");
    }
    assert_eq!(empty_root(), naive(&[]));
}

#[test]
fn roots_are_naive_roots_over_two_levels_of_tiles() {
    let leaves = leaves(66_000);
    let (mut tree, mut full) = (Tree::default(), 0);
    for (size, leaf) in (1..).zip(&leaves) {
        let Ok(()) = tree.push(*leaf, |tile| {
            assert_eq!(tile.hashes.len() as u64, TILE_WIDTH);
            full += 1;
            Ok::<(), Infallible>(())
        });
        if size < 600 || [65_535, 65_536, 65_537, 65_792, 66_000].contains(&size) {
            assert_eq!(tree.root(), naive(&leaves[..size]), "{size} leaves");
        }
    }
    assert_eq!(full, 66_000 / 256 + 1);
}

#[test]
fn tile_paths_are_those_of_c2sp() {
    assert_eq!(tile_path(0, 1_234_067, 256), "0/x001/x234/067");
    assert_eq!(tile_path(1, 0, 7), "1/000.p/7");
    assert_eq!(tile_path(2, 1000, 256), "2/x001/000");
    assert_eq!(tile_hashes(&[0; 33]), None);
}

/// Nodes computed from the leaves.
struct FromLeaves<'a>(&'a [Hash]);

impl Nodes for FromLeaves<'_> {
    fn node(&mut self, level: u32, index: u64) -> Option<Hash> {
        let (start, size) = ((index << level) as usize, 1usize << level);
        self.0.get(start..start + size).map(naive)
    }
}

proptest! {
    #[test]
    fn a_tree_goes_on_from_its_tiles(size in 0usize..1500, more in 0usize..600) {
        let leaves = leaves(size + more);
        let (tree, mut tiles) = grown(&leaves[..size]);
        for tile in tree.partial() {
            tiles.insert((tile.level, tile.index), tile.hashes.to_vec());
        }
        let mut again = Tree::from_tiles(size as u64, |level, index, width| {
            Some(tiles.get(&(level, index))?[..width as usize].to_vec())
        }).unwrap();
        prop_assert_eq!(again.root(), naive(&leaves[..size]));
        for leaf in &leaves[size..] {
            let Ok(()) = again.push(*leaf, |_| Ok::<(), Infallible>(()));
        }
        prop_assert_eq!(again.root(), naive(&leaves));
    }

    #[test]
    fn inclusion_is_proven_and_nothing_else(size in 1u64..300, pick in any::<u64>(), flip in any::<prop::sample::Index>()) {
        let leaves = leaves(size as usize);
        let (leaf, root) = (pick % size, naive(&leaves));
        let path = inclusion(leaf, size, &mut FromLeaves(&leaves)).unwrap();
        let hash = leaves[leaf as usize];
        prop_assert!(is_included(&hash, leaf, size, &path, &root));
        prop_assert!(!is_included(&hash, leaf, size, &path, &hash) || size == 1);
        if size > 1 {
            prop_assert!(!is_included(&hash, (leaf + 1) % size, size, &path, &root));
            let mut bad = path.clone();
            flip.get_mut(&mut bad)[0] ^= 1;
            prop_assert!(!is_included(&hash, leaf, size, &bad, &root));
            prop_assert!(!is_included(&hash, leaf, size, &path[1..], &root));
        }
    }

    #[test]
    fn consistency_is_proven_and_nothing_else(new in 1u64..300, pick in any::<u64>(), flip in any::<prop::sample::Index>()) {
        let old = pick % new + 1;
        let leaves = leaves(new as usize);
        let (old_root, new_root) = (naive(&leaves[..old as usize]), naive(&leaves));
        let path = consistency(old, new, &mut FromLeaves(&leaves)).unwrap();
        prop_assert!(is_consistent(old, new, &path, &old_root, &new_root));
        prop_assert!(!is_consistent(old, new, &path, &empty_root(), &new_root));
        if !path.is_empty() {
            let mut bad = path.clone();
            flip.get_mut(&mut bad)[31] ^= 128;
            prop_assert!(!is_consistent(old, new, &bad, &old_root, &new_root));
        }
    }

    #[test]
    fn a_record_survives_its_frame_and_no_other(
        seq in any::<u64>(), salt in any::<[u8; 16]>(),
        event in prop::collection::vec(any::<u8>(), 0..200), payload in prop::collection::vec(any::<u8>(), 0..200),
        flip in any::<prop::sample::Index>(), bit in 0u8..8,
    ) {
        let (left, right) = payload.split_at(payload.len() / 2);
        let mut bytes = b"before".to_vec();
        let head = Head::write(&mut bytes, salt, &event, &[left, right]);
        head.number(&mut bytes[6..], seq);
        bytes.extend_from_slice(&payload);
        let bytes = &mut bytes[6..];
        prop_assert_eq!(head.record_bytes(), bytes.len() as u64);
        let frame = Frame::decode(bytes).unwrap();
        prop_assert_eq!((frame.seq, frame.event, frame.payload), (seq, &event[..], Payload::Kept(&payload, salt)));
        let erased = frame.erase();
        let after = Frame::decode(&erased).unwrap();
        prop_assert_eq!((after.leaf(), after.bytes(), after.erase()), (frame.leaf(), None, erased.clone()));
        *flip.get_mut(bytes) ^= 1 << bit;
        prop_assert!(Frame::decode(bytes).is_err());
    }

    #[test]
    fn no_bytes_make_a_frame_panic(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
        let _ = (Frame::decode(&bytes), Frame::decode_unchecked(&bytes), check_header(&bytes, Ulid::nil(), 0));
    }
}

#[test]
fn nothing_written_is_told_from_damage() {
    assert_eq!(Frame::decode(&[0; 64]), Err(FrameFault::Empty));
    assert_eq!(Frame::decode(&[255; 64]), Err(FrameFault::Length));
    assert_eq!(Frame::decode(&[40, 0, 0, 0, 0, 0, 0, 0, 1]), Err(FrameFault::Length));
}

#[test]
fn every_bit_of_a_header_counts() {
    let store = Ulid::from_bytes([3; 16]);
    let good = header(store, 77);
    assert_eq!(check_header(&good, store, 77), Ok(()));
    for bit in 0..good.len() * 8 {
        let mut bad = good;
        bad[bit / 8] ^= 1 << (bit % 8);
        assert!(check_header(&bad, store, 77).is_err(), "bit {bit}");
    }
    assert!(check_header(&good, store, 78).is_err() && check_header(&good, Ulid::nil(), 77).is_err());
}

#[test]
fn every_bit_of_a_checkpoint_and_of_its_key_counts() {
    let signer = SignerKey::new(Ulid::from_bytes([5; 16]), &[7; 32]);
    let key = signer.verifier();
    let signed = SignedTree::sign(12, [9; 32], &signer);
    assert_eq!(SignedTree::open(&signed.note, &key), Ok(signed.clone()));
    let flipped = |text: &str| -> Vec<String> {
        let flip = |bit: usize| {
            let mut bytes = text.as_bytes().to_vec();
            bytes[bit / 8] ^= 1 << (bit % 8);
            String::from_utf8_lossy(&bytes).into_owned()
        };
        (0..text.len() * 8).map(flip).collect()
    };
    assert!(flipped(&signed.note).iter().all(|bad| SignedTree::open(bad, &key).is_err()));
    let line = key.to_line();
    assert_eq!(VerifierKey::from_line(&line), Ok(key));
    assert!(flipped(&line).iter().all(|bad| VerifierKey::from_line(bad).is_err()));
    let other = SignerKey::new(Ulid::from_bytes([5; 16]), &[8; 32]).verifier();
    assert!(SignedTree::open(&signed.note, &other).is_err());
}

#[test]
fn the_tables_of_a_sealed_segment_say_what_was_written_or_nothing() {
    use super::seal::{FOOTER_BYTES, Part, TablesFault, parts, tables, tables_bytes};
    let part = |at, packed, start, plain, first| Part { at, packed, start, plain, first, crc: packed.wrapping_add(7) };
    let written = [part(0, 300, 0, 1000, 5), part(300, 50, 1000, 900, 8), part(350, 70, 1900, 40, 9)];
    let good = tables(&written);
    let len = 420 + good.len() as u64;
    let footer = &good[good.len() - FOOTER_BYTES..];
    assert_eq!(tables_bytes(footer), Some(good.len()));
    assert_eq!(parts(&good, len).as_deref(), Ok(&written[..]));
    assert_eq!(parts(&good, len + 1), Err(TablesFault));
    for bit in 0..good.len() * 8 {
        let mut bad = good.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(parts(&bad, len), Err(TablesFault), "bit {bit}");
    }
    for cut in 1..=good.len() {
        assert_eq!(parts(&good[cut..], len), Err(TablesFault), "without its first {cut} bytes");
        assert_eq!(parts(&good[..good.len() - cut], len), Err(TablesFault), "without its last {cut} bytes");
    }
    // No order, no content, or more than a part may hold: such tables were not written by an agent.
    for bad in [part(0, 1, 0, 0, 0), part(0, 1, 0, u32::MAX, 0), part(0, u32::MAX, 0, 1, 0)] {
        let bytes = tables(&[bad]);
        assert_eq!(parts(&bytes, u64::from(bad.packed) + bytes.len() as u64), Err(TablesFault), "{bad:?}");
    }
}
