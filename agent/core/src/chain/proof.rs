//! Proofs of RFC 6962: a record is in a tree (inclusion), a tree is the beginning of another (consistency).
//!
//! Made from stored nodes, checked with nothing but hashes: a bundle can be verified far from the store.

use super::tree::{Hash, node_hash};

/// Hash of a perfect subtree: the `index`-th node of a level, 0 being the leaves.
pub trait Nodes {
    /// None where the node is not stored.
    fn node(&mut self, level: u32, index: u64) -> Option<Hash>;
}

/// Largest power of two that is smaller than `size` (RFC 6962, 2.1); `size` is at least 2.
fn split(size: u64) -> u64 {
    1 << (size - 1).ilog2()
}

/// Root over the leaves from `start` on, `size` of them; `start` is a multiple of the largest subtree in it.
fn range(start: u64, size: u64, nodes: &mut impl Nodes) -> Option<Hash> {
    if size.is_power_of_two() {
        let level = size.ilog2();
        return nodes.node(level, start >> level);
    }
    let left = split(size.max(2));
    let right = range(start + left, size.checked_sub(left)?, nodes)?;
    Some(node_hash(&range(start, left, nodes)?, &right))
}

/// Audit path of a leaf in the tree of `size` leaves (RFC 6962, 2.1.1). None when a node is missing.
pub fn inclusion(leaf: u64, size: u64, nodes: &mut impl Nodes) -> Option<Vec<Hash>> {
    let (mut start, mut rest, mut path) = (0, size, Vec::new());
    if leaf >= size {
        return None;
    }
    while rest > 1 {
        let left = split(rest);
        if leaf - start < left {
            path.push(range(start + left, rest - left, nodes)?);
            rest = left;
        } else {
            path.push(range(start, left, nodes)?);
            (start, rest) = (start + left, rest - left);
        }
    }
    path.reverse();
    Some(path)
}

/// Whether a path proves that a leaf is in a tree (RFC 9162, 2.1.3.2).
#[must_use]
pub fn is_included(leaf_hash: &Hash, leaf: u64, size: u64, path: &[Hash], root: &Hash) -> bool {
    if leaf >= size {
        return false;
    }
    let (mut node, mut last, mut hash) = (leaf, size - 1, *leaf_hash);
    for step in path {
        if last == 0 {
            return false;
        }
        if node & 1 == 1 || node == last {
            hash = node_hash(step, &hash);
            let up = if node & 1 == 1 { 0 } else { node.trailing_zeros().min(63) };
            (node, last) = (node >> up, last >> up);
        } else {
            hash = node_hash(&hash, step);
        }
        (node, last) = (node >> 1, last >> 1);
    }
    last == 0 && hash == *root
}

/// Proof that the tree of `old` leaves is the beginning of the one of `new` (RFC 6962, 2.1.2).
pub fn consistency(old: u64, new: u64, nodes: &mut impl Nodes) -> Option<Vec<Hash>> {
    if old == 0 || old > new {
        return None;
    }
    let (mut start, mut rest, mut seen, mut path) = (0, new, old, Vec::new());
    let mut whole = true;
    while seen != rest {
        let left = split(rest);
        if seen <= left {
            path.push(range(start + left, rest - left, nodes)?);
            rest = left;
        } else {
            path.push(range(start, left, nodes)?);
            (start, rest, seen, whole) = (start + left, rest - left, seen - left, false);
        }
    }
    if !whole {
        path.push(range(start, rest, nodes)?);
    }
    path.reverse();
    Some(path)
}

/// Whether a proof shows that the old tree is the beginning of the new one (RFC 9162, 2.1.4.2).
#[must_use]
pub fn is_consistent(old: u64, new: u64, path: &[Hash], old_root: &Hash, new_root: &Hash) -> bool {
    if old == 0 || old > new {
        return false;
    }
    if old == new {
        return path.is_empty() && old_root == new_root;
    }
    let mut steps = path.iter();
    let first = if old.is_power_of_two() { Some(old_root) } else { steps.next() };
    let Some(first) = first else { return false };
    let up = (old - 1).trailing_ones();
    let (mut node, mut last) = ((old - 1) >> up, (new - 1) >> up);
    let (mut from, mut to) = (*first, *first);
    for step in steps {
        if last == 0 {
            return false;
        }
        if node & 1 == 1 || node == last {
            from = node_hash(step, &from);
            to = node_hash(step, &to);
            let up = if node & 1 == 1 { 0 } else { node.trailing_zeros().min(63) };
            (node, last) = (node >> up, last >> up);
        } else {
            to = node_hash(&to, step);
        }
        (node, last) = (node >> 1, last >> 1);
    }
    last == 0 && from == *old_root && to == *new_root
}
