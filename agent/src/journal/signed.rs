//! The files of the tree: tiles, the newest checkpoint, and the history of all of them.
//!
//! Never signs by itself and never decides what a difference means.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};

use crewtap_core::chain::note::{NOTE_LINES, SignedTree, VerifierKey};
use crewtap_core::chain::tree::{Hash, TILE_WIDTH, Tile, Tree, tile_hashes, tile_path};

use super::store::{Layout, sync_dir};

/// Writes tiles, and remembers which of them are not on disk yet.
#[derive(Debug)]
pub(super) struct Tiles {
    layout: Layout,
    unsynced: Vec<PathBuf>,
    /// Tiles that are not full, of the newest checkpoint.
    partial: BTreeSet<PathBuf>,
}

impl Tiles {
    pub(super) fn new(layout: Layout) -> Self {
        Self { layout, unsynced: Vec::new(), partial: BTreeSet::new() }
    }

    /// Writes one tile.
    pub(super) fn write(&mut self, tile: Tile<'_>) -> io::Result<PathBuf> {
        let width = tile.hashes.len() as u64;
        let path = self.layout.tiles().join(tile_path(tile.level, tile.index, width));
        path.parent().map_or(Ok(()), |parent| self.layout.create_dirs(parent))?;
        self.layout.replace(&path, tile.hashes.as_flattened(), false)?;
        self.unsynced.push(path.clone());
        Ok(path)
    }

    /// Writes the tiles that are not full and makes all tiles survive a power cut.
    /// Answers the partial tiles that are of no more use once the checkpoint is published.
    pub(super) fn settle(&mut self, tree: &Tree) -> io::Result<BTreeSet<PathBuf>> {
        let mut partial = BTreeSet::new();
        for tile in tree.partial() {
            partial.insert(self.write(tile)?);
        }
        for path in &self.unsynced {
            File::open(path)?.sync_data()?;
        }
        let parents: BTreeSet<&Path> = self.unsynced.iter().filter_map(|path| path.parent()).collect();
        let dirs: BTreeSet<&Path> =
            parents.iter().flat_map(|dir| dir.ancestors()).filter(|dir| dir.starts_with(self.layout.tiles())).collect();
        for dir in dirs {
            File::open(dir)?.sync_all()?;
        }
        self.unsynced.clear();
        let old = std::mem::replace(&mut self.partial, partial);
        Ok(old.difference(&self.partial).cloned().collect())
    }

    /// The right edge of the tree at a size, read back.
    pub(super) fn tree(&mut self, size: u64) -> Option<Tree> {
        let mut partial = BTreeSet::new();
        let tree = Tree::from_tiles(size, |level, index, width| {
            partial.insert(self.layout.tiles().join(tile_path(level, index, width)));
            read_tile(&self.layout, level, index, width)
        })?;
        self.partial = partial;
        Some(tree)
    }
}

/// The first `width` hashes of a tile, from its partial form or from the full one.
pub(super) fn read_tile(layout: &Layout, level: u32, index: u64, width: u64) -> Option<Vec<Hash>> {
    let read = |width| tile_hashes(&fs::read(layout.tiles().join(tile_path(level, index, width))).ok()?);
    let mut hashes = read(width).or_else(|| read(TILE_WIDTH))?;
    hashes.truncate(usize::try_from(width).ok()?);
    (hashes.len() as u64 == width).then_some(hashes)
}

/// Removes partial tiles that no checkpoint needs any more; an emptied directory goes with them.
pub(super) fn remove_tiles(paths: &BTreeSet<PathBuf>) {
    for path in paths {
        // They are only clutter: whatever keeps one from going is no reason to stop.
        let _ = fs::remove_file(path);
        let _ = path.parent().map(fs::remove_dir);
    }
}

/// Adds a checkpoint to the history and makes it the newest one.
pub(super) fn publish(layout: &Layout, signed: &SignedTree) -> io::Result<()> {
    let path = layout.history();
    let mut history = layout.file(&path, OpenOptions::new().append(true).create(true))?;
    let before = history.metadata()?.len();
    if let Err(e) = history.write_all(signed.note.as_bytes()).and_then(|()| history.sync_data()) {
        history.set_len(before)?;
        return Err(e);
    }
    if before == 0 {
        sync_dir(&path)?;
    }
    layout.replace(&layout.checkpoint(), signed.note.as_bytes(), true)
}

/// One entry of the history.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Entry {
    /// A checkpoint, its signature checked.
    Signed(SignedTree),
    /// Something else, which ends before the next checkpoint.
    Broken {
        /// Where it begins in the file.
        offset: u64,
        /// What is wrong with it.
        why: String,
        /// It is the cut beginning of a checkpoint at the very end of the file.
        torn: bool,
    },
}

/// Reads the history entry by entry.
pub(super) struct History<'k> {
    lines: Option<BufReader<File>>,
    key: &'k VerifierKey,
    offset: u64,
    /// A line that was read too far.
    ahead: Option<Vec<u8>>,
}

impl<'k> History<'k> {
    pub(super) fn open(layout: &Layout, key: &'k VerifierKey) -> io::Result<Self> {
        let lines = match File::open(layout.history()) {
            Ok(file) => Some(BufReader::new(file)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => None,
            Err(e) => return Err(e),
        };
        Ok(Self { lines, key, offset: 0, ahead: None })
    }

    fn line(&mut self) -> io::Result<Vec<u8>> {
        let mut line = Vec::new();
        if let Some(ahead) = self.ahead.take() {
            return Ok(ahead);
        }
        if let Some(lines) = &mut self.lines {
            io::Read::take(lines, 4096).read_until(b'\n', &mut line)?;
        }
        Ok(line)
    }

    /// The next entry; none at the end.
    pub(super) fn next_entry(&mut self) -> io::Result<Option<Entry>> {
        let offset = self.offset;
        let origin = format!("{}\n", self.key.origin()).into_bytes();
        let (mut note, mut count) = (Vec::new(), 0);
        loop {
            let line = self.line()?;
            if line.is_empty() {
                break;
            }
            // A line that begins a checkpoint ends whatever stands before it.
            if count > 0 && line == origin {
                self.ahead = Some(line);
                break;
            }
            self.offset += line.len() as u64;
            note.extend_from_slice(&line);
            count += 1;
            // What does not open goes on until the next checkpoint begins: one damaged place, one entry.
            if count == NOTE_LINES
                && let Ok(signed) = SignedTree::open(&String::from_utf8_lossy(&note), self.key)
            {
                return Ok(Some(Entry::Signed(signed)));
            }
            if note.len() > 4096 {
                note.drain(..2048);
            }
        }
        if count == 0 {
            return Ok(None);
        }
        let at_end = self.ahead.is_none();
        let whole = count >= NOTE_LINES && note.ends_with(b"\n");
        let torn = at_end && !whole && (note.starts_with(&origin) || origin.starts_with(&note));
        Ok(Some(Entry::Broken { offset, why: "a checkpoint was changed or cut".into(), torn }))
    }
}

/// The newest checkpoint: from its own file, or from the history where the agent died between the two.
pub(super) struct Newest {
    pub(super) signed: Option<SignedTree>,
    /// Length that the history has without a torn end.
    pub(super) torn_at: Option<u64>,
}

/// Finds the newest checkpoint.
///
/// # Errors
/// With a sentence, when a checkpoint does not bear its signature.
pub(super) fn newest(layout: &Layout, key: &VerifierKey) -> io::Result<Result<Newest, String>> {
    let mut found = Newest { signed: None, torn_at: None };
    let mut history = History::open(layout, key)?;
    while let Some(entry) = history.next_entry()? {
        match entry {
            Entry::Signed(signed) => found.signed = Some(signed),
            Entry::Broken { offset, torn: true, .. } => found.torn_at = Some(offset),
            Entry::Broken { offset, why, .. } => {
                return Ok(Err(format!("{} at byte {offset}: {why}", layout.history().display())));
            }
        }
    }
    let path = layout.checkpoint();
    let note = match fs::read_to_string(&path) {
        Ok(note) => note,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Ok(found)),
        Err(e) => return Err(e),
    };
    match SignedTree::open(&note, key) {
        Ok(signed) if found.signed.as_ref().is_none_or(|last| last.size < signed.size) => {
            Ok(Err(format!("{} lacks the newest checkpoint", layout.history().display())))
        }
        Ok(_) => Ok(Ok(found)),
        Err(e) => Ok(Err(format!("{}: {e}", path.display()))),
    }
}
