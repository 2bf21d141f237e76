//! The Merkle tree of RFC 6962 over the journal's records, kept as the right edge of its tiles.
//!
//! Never holds more than 255 hashes per tile level: a tree of any size is a few tens of KiB.

use sha2::{Digest, Sha256};

/// A SHA-256 hash.
pub type Hash = [u8; 32];

/// Hashes of a full tile (C2SP tlog-tiles: height 8).
pub const TILE_WIDTH: u64 = 256;

/// Levels of the tree that one level of tiles spans.
const TILE_HEIGHT: u32 = 8;

/// Root of the tree without leaves (RFC 6962, 2.1).
#[must_use]
pub fn empty_root() -> Hash {
    Sha256::digest([]).into()
}

/// Hash of two nodes (RFC 6962, 2.1).
#[must_use]
pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    let mut sha = Sha256::new();
    sha.update([1]);
    sha.update(left);
    sha.update(right);
    sha.finalize().into()
}

/// Hash of a leaf given in parts (RFC 6962, 2.1).
#[must_use]
pub fn leaf_hash(parts: &[&[u8]]) -> Hash {
    let mut sha = Sha256::new();
    sha.update([0]);
    for part in parts {
        sha.update(part);
    }
    sha.finalize().into()
}

/// Root over a perfect row: its length is a power of two. None for an empty row.
#[must_use]
pub fn perfect_root(row: &[Hash]) -> Option<Hash> {
    let mut row = row.to_vec();
    while row.len() > 1 {
        row = row.as_chunks::<2>().0.iter().map(|[left, right]| node_hash(left, right)).collect();
    }
    row.pop()
}

/// One tile: hashes of neighbouring nodes of one level, left to right.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tile<'a> {
    /// Tile level; the nodes' level in the tree is 8 times as high.
    pub level: u32,
    /// Number of the tile in its level.
    pub index: u64,
    /// 1 to 256 hashes.
    pub hashes: &'a [Hash],
}

/// The tree, grown leaf by leaf.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Tree {
    size: u64,
    /// Per tile level the hashes of the tile that is not full yet.
    levels: Vec<Vec<Hash>>,
}

impl Tree {
    /// Leaves in the tree.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Adds a leaf; `full` gets each tile that it completes, lowest level first.
    ///
    /// # Errors
    /// What `full` answers; the tree has grown nevertheless, so the caller starts again from its last
    /// known tree.
    pub fn push<E>(&mut self, leaf: Hash, mut full: impl FnMut(Tile<'_>) -> Result<(), E>) -> Result<(), E> {
        self.size += 1;
        let mut carry = leaf;
        for level in 0u32.. {
            if self.levels.len() <= level as usize {
                self.levels.push(Vec::new());
            }
            let Some(row) = self.levels.get_mut(level as usize) else { break };
            row.push(carry);
            if (row.len() as u64) < TILE_WIDTH {
                break;
            }
            let hashes = std::mem::take(row);
            let index = shifted(self.size, level + 1) - 1;
            carry = perfect_root(&hashes).unwrap_or_default();
            full(Tile { level, index, hashes: &hashes })?;
        }
        Ok(())
    }

    /// The tiles that are not full, lowest level first: what a checkpoint at this size needs beside full ones.
    pub fn partial(&self) -> impl Iterator<Item = Tile<'_>> {
        self.levels.iter().zip(0u32..).filter(|(row, _)| !row.is_empty()).map(|(row, level)| Tile {
            level,
            index: shifted(self.size, level + 1),
            hashes: row,
        })
    }

    /// The root (RFC 6962, 2.1).
    #[must_use]
    pub fn root(&self) -> Hash {
        let mut peaks = Vec::with_capacity(64);
        for row in self.levels.iter().rev() {
            let mut rest = row.as_slice();
            while !rest.is_empty() {
                let (perfect, after) = rest.split_at(1 << rest.len().ilog2());
                peaks.extend(perfect_root(perfect));
                rest = after;
            }
        }
        let last = peaks.pop();
        last.map_or_else(empty_root, |last| peaks.iter().rfold(last, |right, left| node_hash(left, &right)))
    }

    /// The tree of `size` leaves from its stored tiles. `tile(level, index, width)` reads the first `width`
    /// hashes of a tile; none when one is missing.
    pub fn from_tiles(size: u64, mut tile: impl FnMut(u32, u64, u64) -> Option<Vec<Hash>>) -> Option<Self> {
        let mut levels = Vec::new();
        for level in 0.. {
            let nodes = shifted(size, level);
            if nodes == 0 {
                break;
            }
            let width = nodes % TILE_WIDTH;
            let row = if width == 0 { Vec::new() } else { tile(level, nodes / TILE_WIDTH, width)? };
            if row.len() as u64 != width {
                return None;
            }
            levels.push(row);
        }
        Some(Self { size, levels })
    }
}

/// Nodes of a tile level that a tree of `size` leaves has.
fn shifted(size: u64, level: u32) -> u64 {
    size.checked_shr(TILE_HEIGHT * level).unwrap_or(0)
}

/// Path of a tile below `tile/` (C2SP tlog-tiles): `0/x001/x234/067`, partial ones `….p/W`.
#[must_use]
pub fn tile_path(level: u32, index: u64, width: u64) -> String {
    let mut path = format!("{:03}", index % 1000);
    let mut rest = index / 1000;
    while rest > 0 {
        path = format!("x{:03}/{path}", rest % 1000);
        rest /= 1000;
    }
    if width == TILE_WIDTH { format!("{level}/{path}") } else { format!("{level}/{path}.p/{width}") }
}

/// The hashes of a stored tile; none when its length is wrong.
#[must_use]
pub fn tile_hashes(bytes: &[u8]) -> Option<Vec<Hash>> {
    let (hashes, rest) = bytes.as_chunks::<32>();
    (rest.is_empty() && !hashes.is_empty() && hashes.len() as u64 <= TILE_WIDTH).then(|| hashes.to_vec())
}
