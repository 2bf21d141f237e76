//! What an agent does to a store before it appends: finds the end, cuts a torn one off, and refuses a store in
//! which something that was signed is not there any more.
//!
//! A store that was tampered with is refused, not continued in a new segment: as long as it stands, `verify` names
//! the same damage; and without an agent captured processes cannot connect, so nothing happens unrecorded.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use crewtap_core::chain::frame::{self, HEADER_BYTES};
use crewtap_core::chain::note::{SignedTree, VerifierKey};
use crewtap_core::chain::tree::Tree;
use crewtap_core::event::{Body, Event};

use super::scan::{Found, Scan};
use super::sealed::Source;
use super::segment::{self, Spare};
use super::signed::{self, Tiles};
use super::store::Layout;
use super::{JournalError, Options};

/// Where the journal goes on.
#[derive(Debug)]
pub(super) struct End {
    pub(super) file: File,
    pub(super) capacity: u64,
    pub(super) offset: u64,
    pub(super) next: u64,
    /// Bytes that were cut off; their records follow no more.
    pub(super) cut: Option<u64>,
    /// The newest checkpoint, when no event tells of it yet.
    pub(super) untold: Option<SignedTree>,
}

/// A store, ready for appending.
pub(super) struct Ready {
    pub(super) end: End,
    pub(super) tree: Tree,
    pub(super) tiles: Tiles,
}

/// Brings the store into order.
pub(super) fn recover(layout: &Layout, key: &VerifierKey, options: &Options) -> Result<Ready, JournalError> {
    let dir = layout.journal();
    let io_error = |doing| {
        let dir = dir.clone();
        move |e| JournalError::io(doing, &dir, e)
    };
    segment::remove_spares(layout).map_err(io_error("remove old spare segments"))?;
    let newest =
        signed::newest(layout, key).map_err(io_error("read the checkpoints"))?.map_err(JournalError::Tampered)?;
    if let Some(len) = newest.torn_at {
        let cut = OpenOptions::new().write(true).open(layout.history()).and_then(|file| file.set_len(len));
        cut.map_err(io_error("cut the torn end of the checkpoints"))?;
    }
    let mut tiles = Tiles::new(layout.clone());
    let tree = known_tree(newest.signed.as_ref(), &mut tiles)?;
    let bytes = segment::fitting(&dir, options.segment_bytes).map_err(io_error("measure the disk"))?;
    let firsts = segment::list(layout).map_err(io_error("list the segments"))?;
    let end = if firsts.is_empty() {
        fresh(layout, key, bytes, newest.signed.as_ref())?
    } else {
        Walk { layout, key, signed: newest.signed, told: false }.end(&firsts, bytes)?
    };
    Ok(Ready { end, tree, tiles })
}

fn known_tree(signed: Option<&SignedTree>, tiles: &mut Tiles) -> Result<Tree, JournalError> {
    let Some(signed) = signed else { return Ok(Tree::default()) };
    match tiles.tree(signed.size) {
        Some(tree) if tree.root() == signed.root => Ok(tree),
        _ => Err(JournalError::Tampered(format!("the tiles do not give the signed root of {} records", signed.size))),
    }
}

/// A store without segments.
fn fresh(layout: &Layout, key: &VerifierKey, bytes: u64, signed: Option<&SignedTree>) -> Result<End, JournalError> {
    if let Some(signed) = signed.filter(|signed| signed.size > 0) {
        return Err(JournalError::Tampered(format!("all segments are gone; {} records were signed", signed.size)));
    }
    begin(layout, key, bytes, 0)
}

/// Makes an empty segment that begins with the record `next`.
fn begin(layout: &Layout, key: &VerifierKey, bytes: u64, next: u64) -> Result<End, JournalError> {
    let made = Spare::make(layout, layout.spare(), bytes)
        .and_then(|spare| spare.activate(layout, key.store(), next))
        .and_then(|file| file.sync_all().map(|()| file));
    let file = made.map_err(|e| JournalError::io("make the first segment", &layout.segment(next), e))?;
    Ok(End { file, capacity: bytes, offset: HEADER_BYTES as u64, next, cut: None, untold: None })
}

/// The way from the newest checkpoint to the end.
struct Walk<'a> {
    layout: &'a Layout,
    key: &'a VerifierKey,
    signed: Option<SignedTree>,
    /// An event about the newest checkpoint was met.
    told: bool,
}

impl Walk<'_> {
    fn size(&self) -> u64 {
        self.signed.as_ref().map_or(0, |signed| signed.size)
    }

    fn end(mut self, firsts: &[u64], bytes: u64) -> Result<End, JournalError> {
        let start = firsts.iter().rposition(|first| *first < self.size().max(1)).unwrap_or(0);
        let mut rest = firsts.get(start..).unwrap_or_default();
        if let Some(first) = rest.first().filter(|first| **first > self.size()) {
            return Err(JournalError::Tampered(format!("the records before {first} are gone")));
        }
        let mut end = None;
        while let [first, after @ ..] = rest {
            let limit = after.first().copied().unwrap_or(u64::MAX);
            if let Some(next) = self.sealed(*first, limit)? {
                // What follows it was lost with the power, or taken away: then a checkpoint will tell.
                end = if after.is_empty() {
                    self.refuse_below(next)?;
                    Some(begin(self.layout, self.key, bytes, next)?)
                } else {
                    None
                };
                rest = after;
                continue;
            }
            let (mut last, broken) = self.segment(*first, limit)?;
            let follows = after.first().is_none_or(|next| *next == last.next) && !broken;
            if !follows && !after.is_empty() {
                self.refuse_below(last.next)?;
                last.cut = Some(last.cut.unwrap_or(0) + self.set_aside(after)?);
            }
            rest = if follows { after } else { &[] };
            end = Some(last);
        }
        let mut end = end.ok_or_else(|| JournalError::Tampered("no segment begins the journal".into()))?;
        self.refuse_below(end.next)?;
        end.capacity = end.file.metadata().map_or(end.offset, |metadata| metadata.len());
        if segment::reserve(&end.file, bytes).is_ok() {
            end.capacity = end.capacity.max(bytes);
        }
        end.untold = self.signed.filter(|signed| signed.size > 0 && !self.told);
        Ok(end)
    }

    /// Reads a segment, if it is a sealed one: the number after its last record. All of it was signed, so that
    /// nothing of it may be damaged.
    fn sealed(&mut self, first: u64, limit: u64) -> Result<Option<u64>, JournalError> {
        let path = self.layout.segment(first);
        let io_error = |e| JournalError::io("recover the segment", &path, e);
        let (source, header) = segment::open(self.layout, self.key.store(), first).map_err(io_error)?;
        if source.sealed().is_none() {
            return Ok(None);
        }
        let damaged = |why: &str| Err(JournalError::Tampered(format!("{}: {why}", path.display())));
        if let Err(fault) = header {
            return damaged(&fault.to_string());
        }
        let mut scan = Scan::new(source, HEADER_BYTES as u64, first, limit);
        let cut = self.records(&mut scan).map_err(io_error)?;
        let next = cut.end.1;
        if !cut.clean || next > self.size() || (limit != u64::MAX && next != limit) {
            return damaged(&format!("record {next} in this sealed segment is damaged or missing"));
        }
        Ok(Some(next))
    }

    /// Reads one segment; true when it does not go on to the next one.
    fn segment(&mut self, first: u64, limit: u64) -> Result<(End, bool), JournalError> {
        let path = self.layout.segment(first);
        let io_error = |e| JournalError::io("recover the segment", &path, e);
        let mut options = OpenOptions::new();
        let file = self.layout.file(&path, options.read(true).write(true)).map_err(io_error)?;
        let (_, header) = segment::open(self.layout, self.key.store(), first).map_err(io_error)?;
        if let Err(fault) = header {
            self.refuse_below_because(first, &format!("{}: {fault}", path.display()))?;
            file.write_all_at(&frame::header(self.key.store(), first), 0).map_err(io_error)?;
        }
        let shared = Arc::new(Source::Plain(file.try_clone().map_err(io_error)?));
        let mut scan = Scan::new(shared, HEADER_BYTES as u64, first, limit);
        let cut = self.records(&mut scan).map_err(io_error)?;
        let (offset, next) = cut.end;
        let len = file.metadata().map_err(io_error)?.len();
        let dirty = if cut.clean { None } else { Some(last_dirty(&file, offset).map_err(io_error)?) };
        if let Some(dirty) = dirty {
            self.refuse_below_because(next, &format!("record {next} in {} is damaged", path.display()))?;
            segment::zero(&file, offset, dirty).and_then(|()| file.sync_data()).map_err(io_error)?;
        }
        let end = End { file, capacity: len, offset, next, cut: dirty.map(|to| to - offset), untold: None };
        Ok((end, dirty.is_some()))
    }

    fn records(&mut self, scan: &mut Scan) -> io::Result<Cut> {
        loop {
            let end = (scan.offset, scan.next);
            match scan.step()? {
                Found::Record { offset, bytes } => {
                    if end.1 >= self.size()
                        && let Some(frame) = scan.frame(offset, bytes)
                        && let Ok(event) = Event::from_cbor(frame.event)
                        && let Body::Checkpoint(told) = event.body
                    {
                        self.told |= told.size == self.size();
                    }
                }
                Found::End { garbage: None, .. } => return Ok(Cut { end, clean: true }),
                Found::Gap { .. } | Found::Displaced { .. } | Found::End { .. } => {
                    return Ok(Cut { end, clean: false });
                }
            }
        }
    }

    fn refuse_below(&self, next: u64) -> Result<(), JournalError> {
        self.refuse_below_because(next, &format!("record {next} is missing"))
    }

    fn refuse_below_because(&self, next: u64, why: &str) -> Result<(), JournalError> {
        if next >= self.size() {
            return Ok(());
        }
        Err(JournalError::Tampered(format!("{why}, but a signed checkpoint covers {} records", self.size())))
    }

    /// Keeps segments that nothing leads to any more, out of the way.
    fn set_aside(&self, firsts: &[u64]) -> Result<u64, JournalError> {
        let mut bytes = 0;
        for first in firsts {
            let path = self.layout.segment(*first);
            let moved = fs::metadata(&path).and_then(|metadata| {
                bytes += metadata.len();
                fs::rename(&path, path.with_extension("cut"))
            });
            moved.map_err(|e| JournalError::io("set a segment aside", &path, e))?;
        }
        Ok(bytes)
    }
}

/// Where the good records of a segment end.
struct Cut {
    /// Offset and number of the next record.
    end: (u64, u64),
    /// Nothing but zeros follows.
    clean: bool,
}

/// The byte after the last one that is not zero, from `offset` on.
fn last_dirty(file: &File, offset: u64) -> io::Result<u64> {
    let mut chunk = vec![0; crewtap_core::limits::JOURNAL_READ_BYTES];
    let (mut at, mut dirty) = (offset, offset);
    loop {
        let read = file.read_at(&mut chunk, at)?;
        let view = chunk.get(..read).unwrap_or_default();
        if view.is_empty() {
            return Ok(dirty);
        }
        if let Some(last) = view.iter().rposition(|byte| *byte != 0) {
            dirty = at + last as u64 + 1;
        }
        at += read as u64;
    }
}
