//! Reading records back, by number or in order: for the follower, for the analyst's verbs, and for replay.
//!
//! Never writes, never takes a lock, and never shows half a record: what is not whole is not there yet, unless a
//! signed checkpoint covers it; then it is damage, and an error.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use crewtap_core::chain::Record;
use crewtap_core::chain::frame::{Frame, HEADER_BYTES, HeaderFault};
use crewtap_core::chain::note::{SignedTree, VerifierKey};
use crewtap_core::event::EventError;

use super::scan::{Found, Scan};
use super::sealed::Source;
use super::store::Layout;
use super::{locked, segment};

/// Every how many records a place in a segment is remembered.
const MARK_EVERY: u64 = 64;

/// Segments whose places are remembered. Files are not kept open: one that was sealed would stay on the disk.
const SEGMENTS_KNOWN: usize = 64;

/// How often a place is read anew before what is wrong there is taken for damage.
const LOOKS: u32 = 3;

/// Why a record cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The operating system's words.
    #[error("cannot read {}: {source}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The store has no key: it is no store, or it was damaged.
    #[error("{}: {why}; `crewtap verify` tells more", path.display())]
    Key {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// Records are damaged or missing.
    #[error("the records from {from} to before {to} are damaged or missing; `crewtap verify` tells more")]
    Damaged {
        /// First number.
        from: u64,
        /// The number that comes next.
        to: u64,
    },
    /// A segment's header is wrong.
    #[error("{}: {fault}; `crewtap verify` tells more", path.display())]
    Header {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        fault: HeaderFault,
    },
    /// A record holds no event.
    #[error("record {leaf}: {source}; written by a newer version?")]
    Event {
        /// Which record.
        leaf: u64,
        /// What is wrong.
        source: EventError,
    },
}

/// Known places of one segment, front to back.
#[derive(Debug)]
struct Marks {
    /// Numbers and offsets.
    known: Vec<(u64, u64)>,
    /// Number and offset of the record after those.
    next: (u64, u64),
}

/// Reads a store, whether or not an agent writes to it.
#[derive(Clone, Debug)]
pub struct Reader {
    layout: Layout,
    store: crewtap_core::id::Ulid,
    key: VerifierKey,
    marks: Arc<Mutex<BTreeMap<u64, Marks>>>,
}

impl Reader {
    /// Opens the store of a data directory.
    ///
    /// # Errors
    /// When there is none, or it may not be read: members of the group `crewtap` may.
    pub fn open(data_dir: &Path) -> Result<Self, ReadError> {
        let layout = Layout::new(data_dir);
        let path = layout.host_pub();
        let line = match fs::read_to_string(&path) {
            Ok(line) => line,
            Err(source) => return Err(ReadError::Io { path, source }),
        };
        let key = VerifierKey::from_line(&line).map_err(|e| ReadError::Key { path, why: e.to_string() })?;
        Ok(Self::of(layout, key))
    }

    pub(super) fn of(layout: Layout, key: VerifierKey) -> Self {
        Self { layout, store: key.store(), key, marks: Arc::default() }
    }

    /// The store's public key.
    #[must_use]
    pub fn key(&self) -> &VerifierKey {
        &self.key
    }

    /// One record; none when it is not written yet.
    ///
    /// # Errors
    /// When it is damaged or missing below the newest checkpoint or before later records.
    pub fn record(&self, leaf: u64) -> Result<Option<Record>, ReadError> {
        match self.place(leaf)? {
            Some(place) => {
                let mut cursor = Cursor::at(self.clone(), place);
                cursor.next_record()
            }
            None => Ok(None),
        }
    }

    /// All records from a number on, up to what is written when the end is reached. After an error it goes on
    /// with the next record that is intact.
    #[must_use]
    pub fn from(&self, leaf: u64) -> Records {
        Records { cursor: Cursor::new(self.clone(), leaf), ended: false }
    }

    /// Records in the journal: the number after the last one.
    ///
    /// # Errors
    /// When the last segment cannot be read.
    pub fn len(&self) -> Result<u64, ReadError> {
        let firsts = self.firsts()?;
        let Some(last) = firsts.last() else { return Ok(0) };
        let source = self.open_segment(*last)?;
        let io_error = |source| self.io(*last, source);
        let (number, offset) = self.near(&source, *last, u64::MAX, u64::MAX).map_err(io_error)?;
        let mut scan = Scan::new(source, offset, number, u64::MAX);
        while !matches!(scan.step().map_err(io_error)?, Found::End { .. }) {}
        Ok(scan.next)
    }

    /// Whether the journal has no record.
    ///
    /// # Errors
    /// As [`Self::len`].
    pub fn is_empty(&self) -> Result<bool, ReadError> {
        self.len().map(|len| len == 0)
    }

    fn firsts(&self) -> Result<Vec<u64>, ReadError> {
        segment::list(&self.layout).map_err(|source| ReadError::Io { path: self.layout.journal(), source })
    }

    /// Leaves that the newest checkpoint covers.
    fn signed(&self) -> u64 {
        let note = fs::read_to_string(self.layout.checkpoint()).unwrap_or_default();
        SignedTree::open(&note, &self.key).map_or(0, |signed| signed.size)
    }

    fn io(&self, first: u64, source: io::Error) -> ReadError {
        ReadError::Io { path: self.layout.segment(first), source }
    }

    /// Where a record is, or is due to be written next; none when records before it are not written yet.
    fn place(&self, leaf: u64) -> Result<Option<Place>, ReadError> {
        if let Some(place) = self.place_once(leaf, 0)? {
            return Ok(Some(place));
        }
        // What is signed was written before: a second look must find it.
        match self.signed() {
            signed if leaf < signed => self.place_once(leaf, signed),
            _ => Ok(None),
        }
    }

    fn place_once(&self, leaf: u64, signed: u64) -> Result<Option<Place>, ReadError> {
        let firsts = self.firsts()?;
        let after = firsts.partition_point(|first| *first <= leaf);
        let Some(first) = after.checked_sub(1).and_then(|at| firsts.get(at)).copied() else {
            return match firsts.first().copied().unwrap_or(signed) {
                to if leaf < to => Err(ReadError::Damaged { from: leaf, to }),
                _ => Ok(None),
            };
        };
        let limit = firsts.get(after).copied().unwrap_or(u64::MAX);
        let source = self.open_segment(first)?;
        let (number, offset) = self.near(&source, first, limit, leaf).map_err(|source| self.io(first, source))?;
        let mut place = Place { scan: Scan::new(source, offset, number, limit), pending: None };
        while place.scan.next < leaf {
            let from = place.scan.next;
            match place.scan.step().map_err(|source| self.io(first, source))? {
                Found::Gap { to, .. } if to > leaf => place.pending = Some((leaf, to)),
                Found::End { .. } => {
                    let to = if limit == u64::MAX { signed } else { limit };
                    return if leaf < to { Err(ReadError::Damaged { from, to }) } else { Ok(None) };
                }
                _ => {}
            }
        }
        Ok(Some(place))
    }

    /// Opens a segment; its header is checked the first time.
    fn open_segment(&self, first: u64) -> Result<Arc<Source>, ReadError> {
        let path = self.layout.segment(first);
        if locked(&self.marks).contains_key(&first) {
            let source = Source::open(&path).map_err(|source| self.io(first, source))?;
            return Ok(Arc::new(source));
        }
        let opened = segment::open(&self.layout, self.store, first);
        let (source, header) = opened.map_err(|source| self.io(first, source))?;
        header.map_err(|fault| ReadError::Header { path, fault })?;
        let mut all = locked(&self.marks);
        while all.len() >= SEGMENTS_KNOWN && !all.contains_key(&first) {
            all.pop_first();
        }
        all.entry(first).or_insert_with(|| Marks::new(first));
        Ok(source)
    }

    /// A known place at or before a record.
    fn near(&self, source: &Arc<Source>, first: u64, limit: u64, leaf: u64) -> io::Result<(u64, u64)> {
        if let Some(near) = source.near(leaf) {
            return Ok(near);
        }
        let mut all = locked(&self.marks);
        let marks = all.entry(first).or_insert_with(|| Marks::new(first));
        if marks.next.0 <= leaf {
            marks.walk(source, limit, leaf)?;
        }
        let after = marks.known.partition_point(|(number, _)| *number <= leaf);
        let known = after.checked_sub(1).and_then(|at| marks.known.get(at)).copied();
        Ok(known.unwrap_or((first, HEADER_BYTES as u64)))
    }
}

impl Marks {
    fn new(first: u64) -> Self {
        Self { known: Vec::new(), next: (first, HEADER_BYTES as u64) }
    }

    /// Goes on until a number is passed, or to the end of what is written.
    fn walk(&mut self, source: &Arc<Source>, limit: u64, leaf: u64) -> io::Result<()> {
        let mut scan = Scan::new(Arc::clone(source), self.next.1, self.next.0, limit);
        while scan.next <= leaf {
            let before = (scan.next, scan.offset);
            match scan.step()? {
                Found::Record { .. } if before.0.is_multiple_of(MARK_EVERY) => self.known.push(before),
                Found::End { .. } => break,
                _ => {}
            }
            self.next = (scan.next, scan.offset);
        }
        Ok(())
    }
}

#[derive(Debug)]
struct Place {
    scan: Scan,
    /// Numbers that were found missing on the way.
    pending: Option<(u64, u64)>,
}

/// A position in the journal that moves forward, over segments, as far as there are records.
#[derive(Debug)]
pub(super) struct Cursor {
    reader: Reader,
    /// Number of the next record.
    next: u64,
    place: Option<Place>,
}

impl Cursor {
    pub(super) fn new(reader: Reader, next: u64) -> Self {
        Self { reader, next, place: None }
    }

    fn at(reader: Reader, place: Place) -> Self {
        Self { reader, next: place.scan.next, place: Some(place) }
    }

    /// Another position in the same journal.
    pub(super) fn again(&self, next: u64) -> Self {
        Self::new(self.reader.clone(), next)
    }

    /// Number of the next record.
    pub(super) fn position(&self) -> u64 {
        self.next
    }

    /// The next record as it lies in the file; none when it is not written yet.
    pub(super) fn next_frame(&mut self) -> Result<Option<Frame<'_>>, ReadError> {
        let Some((offset, bytes)) = self.advance()? else { return Ok(None) };
        Ok(self.place.as_ref().and_then(|place| place.scan.frame(offset, bytes)))
    }

    pub(super) fn next_record(&mut self) -> Result<Option<Record>, ReadError> {
        let leaf = self.next;
        let frame = self.next_frame()?;
        frame.map(Record::try_from).transpose().map_err(|source| ReadError::Event { leaf, source })
    }

    fn advance(&mut self) -> Result<Option<(u64, usize)>, ReadError> {
        // How often the same place was read anew, and what was signed before that.
        let (mut looks, mut signed) = (0, 0);
        loop {
            if self.place.is_none() {
                self.place = self.reader.place(self.next)?;
                looks += 1;
            }
            let Some(place) = &mut self.place else { return Ok(None) };
            let path = self.reader.layout.journal();
            let found = match place.pending.take() {
                Some((from, to)) => Found::Gap { from, to, offset: 0, fault: None },
                None => place.scan.step().map_err(|source| ReadError::Io { path, source })?,
            };
            match found {
                Found::Record { offset, bytes } => {
                    self.next = place.scan.next;
                    return Ok(Some((offset, bytes)));
                }
                // A burst that is being written may show its end before its beginning.
                Found::Gap { from, to, .. } if looks >= LOOKS || place.scan.limit != u64::MAX => {
                    self.next = to;
                    return Err(ReadError::Damaged { from, to });
                }
                Found::Gap { .. } => self.place = None,
                Found::Displaced { .. } => {}
                // What was read may be older than what is written by now.
                Found::End { .. } if looks == 0 => self.place = None,
                Found::End { .. } => {
                    let to = if place.scan.limit == u64::MAX { signed } else { place.scan.limit };
                    self.place = None;
                    if self.next < to {
                        return Err(ReadError::Damaged { from: std::mem::replace(&mut self.next, to), to });
                    }
                    signed = self.reader.signed();
                    if self.next >= signed {
                        return Ok(None);
                    }
                }
            }
        }
    }
}

/// Records in order; see [`Reader::from`].
#[derive(Debug)]
pub struct Records {
    cursor: Cursor,
    ended: bool,
}

impl Iterator for Records {
    type Item = Result<Record, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let before = self.cursor.position();
        let item = self.cursor.next_record().transpose();
        // An error that the cursor could not step over would come again and again.
        self.ended = item.is_none() || matches!(item, Some(Err(_)) if self.cursor.position() == before);
        item
    }
}
