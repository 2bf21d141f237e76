//! The judgement over a journal: records and stored tiles are grown into two trees, and signed checkpoints decide
//! which of them is right where they differ.
//!
//! Never reads a file: records, tiles and checkpoints are handed in, in order. Memory does not grow with the
//! journal.

use std::convert::Infallible;

use super::finding::{Finding, Findings, What};
use super::note::SignedTree;
use super::tree::{Hash, TILE_WIDTH, Tile, Tree, tile_path};
use crate::limits::FINDINGS_MAX;

/// Where stored tiles come from.
pub trait Tiles {
    /// The first `width` hashes of a tile; none when there is no such file or it is damaged in length.
    fn tile(&mut self, level: u32, index: u64, width: u64) -> Option<Vec<Hash>>;
}

/// Where a record lies.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Place {
    /// Name of the segment's file.
    pub file: String,
    /// Where in it.
    pub offset: u64,
}

/// A judgement in progress.
#[derive(Debug)]
pub struct Audit {
    /// Leaves that the newest checkpoint covers.
    signed: u64,
    /// Grown from the records; from the tiles where a record is missing.
    tree: Tree,
    /// Grown from the tiles; kept only where they differ.
    other: Option<Tree>,
    /// Records that differ from their tile, since the last checkpoint.
    suspects: Vec<(u64, Place)>,
    /// Suspects beyond those that are kept.
    more: u64,
    /// Records of which nothing is known, since the last checkpoint.
    unknown: u64,
    /// Size of the last checkpoint whose root fits.
    good: u64,
    /// A root differed: later ones cannot be judged any more.
    adrift: bool,
    /// The tile of the leaves at hand.
    row: Option<Vec<Hash>>,
    /// What was found.
    pub findings: Findings,
}

impl Audit {
    /// Of a journal whose newest checkpoint covers `signed` leaves.
    #[must_use]
    pub fn new(signed: u64) -> Self {
        Self {
            signed,
            tree: Tree::default(),
            other: None,
            suspects: Vec::new(),
            more: 0,
            unknown: 0,
            good: 0,
            adrift: false,
            row: None,
            findings: Findings::default(),
        }
    }

    /// Leaves judged so far.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.tree.size()
    }

    /// The next leaf; no hash where the record is missing or damaged.
    pub fn leaf(&mut self, hash: Option<Hash>, place: &Place, tiles: &mut impl Tiles) {
        let leaf = self.tree.size();
        let stored = self.stored(leaf, tiles);
        if hash.is_none() && stored.is_none() {
            self.unknown += 1;
        }
        if let (Some(hash), Some(stored)) = (hash, stored)
            && hash != stored
        {
            self.other.get_or_insert_with(|| self.tree.clone());
            if self.suspects.len() < FINDINGS_MAX {
                self.suspects.push((leaf, place.clone()));
            } else {
                self.more += 1;
            }
        }
        let (of_record, of_tile) = (hash.or(stored).unwrap_or_default(), stored.or(hash).unwrap_or_default());
        let full = push(&mut self.tree, of_record);
        let other = self.other.as_mut().map(|other| push(other, of_tile)).unwrap_or_default();
        for (nth, (level, index, hashes)) in full.iter().enumerate() {
            let expected = other.get(nth).map(|(_, _, hashes)| hashes);
            // Below the newest checkpoint the lowest level was compared leaf by leaf.
            if *level > 0 || (index + 1) * TILE_WIDTH > self.signed {
                self.compare(*level, *index, hashes, expected, tiles);
            }
        }
    }

    /// The leaf's hash in its tile.
    fn stored(&mut self, leaf: u64, tiles: &mut impl Tiles) -> Option<Hash> {
        let (index, within) = (leaf / TILE_WIDTH, leaf % TILE_WIDTH);
        if within == 0 {
            let width = self.signed.saturating_sub(leaf).min(TILE_WIDTH);
            self.row = if width == 0 { None } else { tiles.tile(0, index, width) };
            if width > 0 && self.row.is_none() {
                self.missing_tile(0, index, width);
            }
        }
        self.row.as_ref()?.get(usize::try_from(within).ok()?).copied()
    }

    fn missing_tile(&mut self, level: u32, index: u64, width: u64) {
        let path = format!("tile/{}", tile_path(level, index, width));
        let text = format!("{path} is missing or has a wrong length");
        let leaf = index.checked_shl(8 * (level + 1)).unwrap_or(0);
        self.findings.add(Finding::tampering(What::TileMissing, text).file(&path).leaf(leaf));
    }

    /// Compares a tile with what the records give, and with what the tiles below it give.
    fn compare(&mut self, level: u32, index: u64, hashes: &[Hash], other: Option<&Vec<Hash>>, tiles: &mut impl Tiles) {
        let width = hashes.len() as u64;
        let covers = (index * TILE_WIDTH + width).checked_shl(8 * level).unwrap_or(u64::MAX);
        match tiles.tile(level, index, width) {
            Some(stored) if stored == hashes || Some(&stored) == other => {}
            Some(_) => self.changed_tile(level, index, width, "differs from the records below it"),
            None if covers > self.signed => {}
            None => self.missing_tile(level, index, width),
        }
    }

    fn changed_tile(&mut self, level: u32, index: u64, width: u64, how: &str) {
        let path = format!("tile/{}", tile_path(level, index, width));
        let leaf = index.checked_shl(8 * (level + 1)).unwrap_or(0);
        let finding = Finding::tampering(What::TileChanged, format!("{path} {how}")).file(&path).leaf(leaf);
        if self.findings.list.last() != Some(&finding) {
            self.findings.add(finding);
        }
    }

    /// A checkpoint over exactly the leaves so far, its signature checked.
    pub fn checkpoint(&mut self, signed: &SignedTree, tiles: &mut impl Tiles) {
        if signed.size == self.signed {
            self.compare_edge(tiles);
        }
        let right_tiles = self.other.as_ref().is_some_and(|other| other.root() == signed.root);
        let suspects = std::mem::take(&mut self.suspects);
        if self.tree.root() == signed.root {
            for (leaf, _) in suspects {
                let width = (self.signed - leaf / TILE_WIDTH * TILE_WIDTH).min(TILE_WIDTH);
                self.changed_tile(0, leaf / TILE_WIDTH, width, "differs from the records, which are right");
            }
        } else if right_tiles {
            for (leaf, place) in suspects {
                self.changed_record(leaf, &place, "is not the one that was signed");
            }
            self.tree = self.other.take().unwrap_or_default();
        } else {
            for (leaf, place) in suspects {
                self.changed_record(leaf, &place, "differs from its tile");
            }
            self.differs(signed);
            return;
        }
        self.findings.more += std::mem::take(&mut self.more);
        (self.good, self.unknown, self.other) = (signed.size, 0, None);
    }

    fn changed_record(&mut self, leaf: u64, place: &Place, how: &str) {
        let finding = Finding::tampering(What::RecordChanged, format!("record {leaf} {how}"));
        self.findings.add(finding.leaf(leaf).file(&place.file).at(place.offset));
    }

    /// Neither the records nor the tiles give the signed root.
    fn differs(&mut self, signed: &SignedTree) {
        if std::mem::replace(&mut self.adrift, true) {
            return;
        }
        let text = format!(
            "the records from {} to before {} do not give the root that was signed for {} records{}",
            self.good,
            signed.size,
            signed.size,
            if self.unknown > 0 { "; some of them and their tiles are damaged" } else { "" },
        );
        self.findings.add(Finding::tampering(What::RootDiffers, text).leaf(self.good));
    }

    /// The tiles that are not full at the newest checkpoint, above the lowest level.
    fn compare_edge(&mut self, tiles: &mut impl Tiles) {
        let own = |tree: &Tree| -> Vec<(u32, u64, Vec<Hash>)> {
            tree.partial().map(|tile| (tile.level, tile.index, tile.hashes.to_vec())).collect()
        };
        let (mine, other) = (own(&self.tree), self.other.as_ref().map(own).unwrap_or_default());
        for (nth, (level, index, hashes)) in mine.iter().enumerate().filter(|(_, (level, ..))| *level > 0) {
            self.compare(*level, *index, hashes, other.get(nth).map(|(_, _, hashes)| hashes), tiles);
        }
    }
}

fn push(tree: &mut Tree, leaf: Hash) -> Vec<(u32, u64, Vec<Hash>)> {
    let mut full = Vec::new();
    let kept = tree.push(leaf, |Tile { level, index, hashes }| {
        full.push((level, index, hashes.to_vec()));
        Ok::<(), Infallible>(())
    });
    match kept {
        Ok(()) => full,
    }
}
