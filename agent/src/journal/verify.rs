//! `crewtap verify`: reads the whole store and says what in it is not as it was written and signed.
//!
//! Never writes, needs no right but to read, and holds one record at a time. What it cannot judge it says.

use std::collections::VecDeque;
use std::fs;
use std::io;
use std::path::Path;

use crewtap_core::chain::audit::{self, Audit, Place};
use crewtap_core::chain::finding::{Finding, Findings, What};
use crewtap_core::chain::frame::{FrameFault, HEADER_BYTES, Payload};
use crewtap_core::chain::note::{SignedTree, SignerKey, VerifierKey};
use crewtap_core::chain::tree::{Hash, TILE_WIDTH};
use crewtap_core::event::{Body, Event};
use crewtap_core::mask::tails::{Tail, Tails};
use serde::Serialize;

use super::scan::{Found, Scan};
use super::segment;
use super::signed::{Entry, History, read_tile};
use super::store::{Layout, Lock, read_key, segment_name};
use super::{JournalError, ReadError};

/// Checkpoints that events may still tell of.
const RECENT: usize = 8;

/// How often a file that a live agent replaces is looked for.
const LOOKS: u32 = 8;

/// Why records of a damaged sealed segment are not there.
const LOST: &str = "the part of the sealed segment that holds it cannot be unpacked";

/// How many records are read between two calls of the progress.
const STEP: u64 = 4096;

/// What a verification says.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// Records that are there and whole.
    pub records: u64,
    /// Leaves of the tree: records there, damaged and missing.
    pub size: u64,
    /// Leaves that the newest checkpoint covers.
    pub signed: u64,
    /// Checkpoints whose signature is right.
    pub checkpoints: u64,
    /// Payloads that were erased.
    pub erased: u64,
    /// Files that hold the records.
    pub segments: u64,
    /// Those of them that are sealed: full, signed and compressed.
    pub sealed: u64,
    /// Bytes that passed, and that no record decides under the masks: by length and digest.
    pub undecided: Vec<Tail>,
    /// How many more there are.
    pub undecided_more: u64,
    /// What is wrong.
    #[serde(flatten)]
    pub findings: Findings,
}

impl Report {
    /// Whether nothing that was signed was changed.
    #[must_use]
    pub fn is_intact(&self) -> bool {
        self.findings.is_intact()
    }
}

/// Stored tiles. A live agent replaces partial tiles by wider ones, which begin with the same hashes.
struct Stored<'a> {
    layout: &'a Layout,
    key: &'a VerifierKey,
    live: bool,
}

impl Stored<'_> {
    fn wider(&self, level: u32, index: u64, width: u64) -> Option<Vec<Hash>> {
        let note = fs::read_to_string(self.layout.checkpoint()).ok()?;
        let size = SignedTree::open(&note, self.key).ok()?.size;
        let nodes = size.checked_shr(8 * level).unwrap_or(0);
        let now = nodes.saturating_sub(index * TILE_WIDTH).min(TILE_WIDTH);
        let mut hashes = read_tile(self.layout, level, index, now)?;
        hashes.truncate(usize::try_from(width).ok()?);
        (now > width).then_some(hashes)
    }
}

impl audit::Tiles for Stored<'_> {
    fn tile(&mut self, level: u32, index: u64, width: u64) -> Option<Vec<Hash>> {
        let looks = if self.live { LOOKS } else { 0 };
        let stored = read_tile(self.layout, level, index, width);
        stored.or_else(|| (0..looks).find_map(|_| self.wider(level, index, width)))
    }
}

/// Verifies a store, also while an agent writes to it. `progress` gets the number of records read so far.
///
/// # Errors
/// When files cannot be read for want of rights or by the disk's fault; what is missing or wrong is a finding.
pub fn verify(data_dir: &Path, progress: &mut dyn FnMut(u64)) -> Result<Report, ReadError> {
    let layout = Layout::new(data_dir);
    let io_error = |source| ReadError::Io { path: layout.journal(), source };
    let firsts = segment::list(&layout).map_err(io_error)?;
    let key = match public_key(&layout).map_err(io_error)? {
        Ok(key) => key,
        Err(finding) => {
            let mut report = Report::default();
            report.findings.add(finding);
            return Ok(report);
        }
    };
    let live = Lock::is_held(&layout);
    let (newest, findings) = newest(&layout, &key).map_err(io_error)?;
    let history = History::open(&layout, &key).map_err(io_error)?;
    let mut walk = Walk::new(&layout, &key, newest, history, live);
    walk.audit.findings = findings;
    let segments = firsts.iter().zip(firsts.iter().skip(1).map(Some).chain([None]));
    walk.next_entry().map_err(io_error)?;
    for (first, limit) in segments {
        walk.segment(*first, limit.copied(), progress).map_err(io_error)?;
    }
    walk.finish().map_err(io_error)
}

fn public_key(layout: &Layout) -> io::Result<Result<VerifierKey, Finding>> {
    let line = match fs::read(layout.host_pub()) {
        Ok(line) => String::from_utf8_lossy(&line).into_owned(),
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            let text = "host.pub is missing: nothing can be verified without the store's public key";
            return Ok(Err(Finding::tampering(What::KeyMissing, text).file("host.pub")));
        }
        Err(e) => return Err(e),
    };
    let changed = |why: &str| Err(Finding::tampering(What::KeyChanged, why).file("host.pub"));
    Ok(match VerifierKey::from_line(&line) {
        Err(e) => changed(&format!("host.pub: {e}")),
        // Only root can read the secret half; others rely on a copy of host.pub kept elsewhere.
        Ok(key) => match read_key(&layout.host_key()) {
            Ok(seed) if SignerKey::new(key.store(), &seed).verifier() != key => {
                changed("host.pub does not belong to the key of this host")
            }
            Ok(_) | Err(JournalError::Io { .. }) => Ok(key),
            Err(e) => changed(&e.to_string()),
        },
    })
}

/// The newest checkpoint, from its own file, or else the newest good one of the history.
fn newest(layout: &Layout, key: &VerifierKey) -> io::Result<(Option<SignedTree>, Findings)> {
    let mut findings = Findings::default();
    let note = match fs::read(layout.checkpoint()) {
        Ok(note) => Some(note),
        Err(e) if e.kind() == io::ErrorKind::NotFound => None,
        Err(e) => return Err(e),
    };
    if let Some(note) = &note {
        match SignedTree::open(&String::from_utf8_lossy(note), key) {
            Ok(signed) => return Ok((Some(signed), findings)),
            Err(e) => {
                let text = format!("journal/checkpoint: {e}");
                findings.add(Finding::tampering(What::CheckpointChanged, text).file("journal/checkpoint"));
            }
        }
    }
    let mut history = History::open(layout, key)?;
    let (mut signed, mut entries) = (None, 0);
    while let Some(entry) = history.next_entry()? {
        entries += 1;
        if let Entry::Signed(found) = entry {
            signed = Some(found);
        }
    }
    // An agent that died at its very first checkpoint has written the history alone.
    if note.is_none() && entries > 1 {
        let text = "journal/checkpoint is missing";
        findings.add(Finding::tampering(What::CheckpointMissing, text).file("journal/checkpoint"));
    }
    Ok((signed, findings))
}

struct Walk<'a> {
    layout: &'a Layout,
    key: &'a VerifierKey,
    audit: Audit,
    report: Report,
    history: History<'a>,
    /// The checkpoint that is due next.
    due: Option<SignedTree>,
    /// The last ones that were met, and whether an event told of them.
    recent: VecDeque<(SignedTree, bool)>,
    /// The newest checkpoint by its own file.
    newest: Option<SignedTree>,
    /// The newest checkpoint was met in the history.
    met: bool,
    /// An agent is writing.
    live: bool,
    signed: u64,
    tails: Tails,
}

impl<'a> Walk<'a> {
    fn new(
        layout: &'a Layout,
        key: &'a VerifierKey,
        newest: Option<SignedTree>,
        history: History<'a>,
        live: bool,
    ) -> Self {
        let signed = newest.as_ref().map_or(0, |newest| newest.size);
        let report = Report { signed, ..Report::default() };
        let (audit, recent) = (Audit::new(signed), VecDeque::new());
        Self {
            layout,
            key,
            audit,
            report,
            history,
            due: None,
            recent,
            newest,
            met: false,
            live,
            signed,
            tails: Tails::default(),
        }
    }

    fn stored(&self) -> Stored<'a> {
        Stored { layout: self.layout, key: self.key, live: self.live }
    }

    fn add(&mut self, finding: Finding) {
        self.audit.findings.add(finding);
    }

    /// Goes to the next good checkpoint of the history.
    fn next_entry(&mut self) -> io::Result<()> {
        self.due = None;
        while let Some(entry) = self.history.next_entry()? {
            match entry {
                Entry::Signed(signed) if self.recent.back().is_some_and(|(last, _)| last.size >= signed.size) => {
                    let text = format!("the checkpoint over {} records is out of order", signed.size);
                    self.add(Finding::tampering(What::CheckpointChanged, text).file("journal/checkpoints"));
                }
                Entry::Signed(signed) => {
                    self.report.checkpoints += 1;
                    self.due = Some(signed);
                    return Ok(());
                }
                Entry::Broken { torn: true, .. } if self.live => {}
                Entry::Broken { offset, why, torn } => {
                    let finding = Finding::tampering(What::CheckpointChanged, why).loss_if(torn);
                    self.add(finding.file("journal/checkpoints").at(offset));
                }
            }
        }
        Ok(())
    }

    /// Checks the checkpoints that cover exactly what was read so far.
    fn settle(&mut self) -> io::Result<()> {
        while self.due.as_ref().is_some_and(|due| due.size == self.audit.size()) {
            let Some(due) = self.due.take() else { break };
            let mut stored = self.stored();
            self.audit.checkpoint(&due, &mut stored);
            self.met |= self.newest.as_ref() == Some(&due);
            if self.recent.len() == RECENT {
                self.recent.pop_front();
            }
            self.recent.push_back((due, false));
            self.next_entry()?;
        }
        Ok(())
    }

    fn leaf(&mut self, hash: Option<Hash>, place: &Place) -> io::Result<()> {
        let mut stored = self.stored();
        self.audit.leaf(hash, place, &mut stored);
        self.settle()
    }

    /// Records that are not there; their hashes come from the tiles.
    fn without(&mut self, to: u64) -> io::Result<()> {
        while self.audit.size() < to.min(self.signed.max(self.audit.size())) {
            self.leaf(None, &Place::default())?;
        }
        // Above the newest checkpoint nothing is known of them.
        while self.audit.size() < to {
            self.leaf(None, &Place::default())?;
        }
        Ok(())
    }

    fn missing(&mut self, what: What, to: u64, file: &str, offset: Option<u64>, why: &str) -> io::Result<()> {
        let from = self.audit.size();
        let text = match to - from {
            1 => format!("record {from} is missing: {why}"),
            _ => format!("the records from {from} to before {to} are missing: {why}"),
        };
        let mut finding = Finding::tampering(what, text).leaf(from).file(file).loss_if(from >= self.signed);
        finding.offset = offset;
        self.add(finding);
        self.without(to)
    }

    fn segment(&mut self, first: u64, limit: Option<u64>, progress: &mut dyn FnMut(u64)) -> io::Result<()> {
        let name = segment_name(first);
        if first > self.audit.size() {
            let file = segment_name(self.audit.size());
            self.missing(What::SegmentMissing, first, &file, None, "a segment is gone, or was cut")?;
        }
        let (file, header) = segment::open(self.layout, self.key.store(), first)?;
        if let Err(fault) = header {
            let finding = Finding::tampering(What::HeaderChanged, format!("{name}: {fault}")).leaf(first);
            self.add(finding.file(&name).at(0).loss_if(first >= self.signed));
        }
        self.report.segments += 1;
        self.report.sealed += u64::from(file.sealed().is_some());
        let mut scan = Scan::new(file, HEADER_BYTES as u64, self.audit.size(), limit.unwrap_or(u64::MAX));
        loop {
            let found = scan.step()?;
            let unsigned = limit.is_none() && self.audit.size() >= self.signed;
            match found {
                Found::Record { offset, bytes } => {
                    self.record(&scan, offset, bytes, &name)?;
                    if self.audit.size().is_multiple_of(STEP) {
                        progress(self.audit.size());
                    }
                }
                // What is being written at this moment is not there yet.
                Found::Gap { .. } if unsigned && self.live => return Ok(()),
                Found::Gap { from, to, offset, fault: Some(FrameFault::Empty) }
                    if to > from && is_lost(&scan, offset) =>
                {
                    self.missing(What::RecordChanged, to, &name, Some(offset), LOST)?;
                }
                Found::Gap { from, to, offset, fault } => self.gap(from, to, offset, fault, &name)?,
                Found::Displaced { seq, offset } => {
                    let text = format!("record {seq} stands where record {} is due", self.audit.size());
                    let finding = Finding::tampering(What::RecordMoved, text).leaf(seq).file(&name).at(offset);
                    self.add(finding.loss_if(unsigned));
                }
                Found::End { garbage, .. } => {
                    let garbage = garbage.filter(|_| !(unsigned && self.live));
                    self.end(scan.offset, garbage, &name)?;
                    return self.seal(&scan, limit, &name);
                }
            }
        }
    }

    fn record(&mut self, scan: &Scan, offset: u64, bytes: usize, name: &str) -> io::Result<()> {
        let Some(frame) = scan.frame(offset, bytes) else { return Ok(()) };
        let leaf = frame.seq;
        self.report.records += 1;
        if matches!(frame.payload, Payload::Erased { .. }) {
            self.report.erased += 1;
            let finding = Finding::tampering(What::PayloadErased, format!("the payload of record {leaf} was erased"));
            self.add(finding.leaf(leaf).file(name).at(offset).loss_if(true));
        }
        if self.tails.wants(frame.event)
            && let Ok(event) = Event::from_cbor(frame.event)
        {
            self.tails.see(leaf, &event);
        }
        if tells_of_checkpoint(frame.event)
            && let Ok(Event { body: Body::Checkpoint(told), .. }) = Event::from_cbor(frame.event)
        {
            self.told(leaf, told.size, &told.note);
        }
        if scan.file().source().sealed().is_some_and(|sealed| sealed.misplaces(leaf, offset)) {
            let text = format!("the tables at its end say that another record than {leaf} begins a part");
            self.add(Finding::tampering(What::SealChanged, text).leaf(leaf).file(name));
        }
        let place = Place { file: name.into(), offset };
        self.leaf(Some(frame.leaf()), &place)
    }

    /// An event tells of a checkpoint: the history must hold it.
    fn told(&mut self, leaf: u64, size: u64, note: &str) {
        match self.recent.iter_mut().find(|(signed, _)| signed.note == note) {
            Some((_, told)) => *told = true,
            // Signed after the reading began.
            None if self.live && size > self.signed => {}
            None => {
                let text =
                    format!("record {leaf} tells of a checkpoint over {size} records that the history does not have");
                self.add(Finding::tampering(What::CheckpointMissing, text).leaf(leaf).file("journal/checkpoints"));
            }
        }
    }

    fn gap(&mut self, from: u64, to: u64, offset: u64, fault: Option<FrameFault>, name: &str) -> io::Result<()> {
        let unsigned = from >= self.signed;
        match fault {
            None => self.missing(What::RecordMissing, to, name, Some(offset), "the next one follows at once"),
            Some(FrameFault::Empty) if to > from => {
                self.missing(What::RecordMissing, to, name, Some(offset), "there are zeros in its place")
            }
            Some(fault) => {
                let (what, text) = match to - from {
                    0 => (What::ForeignBytes, format!("there are foreign bytes before record {from}")),
                    1 => (What::RecordChanged, format!("record {from} was changed: {fault}")),
                    _ => (What::RecordChanged, format!("the records from {from} to before {to} were changed: {fault}")),
                };
                self.add(Finding::tampering(what, text).leaf(from).file(name).at(offset).loss_if(unsigned));
                self.without(to)
            }
        }
    }

    /// What is wrong with the file of a sealed segment, beside the records in it.
    fn seal(&mut self, scan: &Scan, limit: Option<u64>, name: &str) -> io::Result<()> {
        let Some(sealed) = scan.file().source().sealed() else { return Ok(()) };
        let is_cut = sealed.fault.is_some() || is_lost(scan, scan.offset);
        if let Some(to) = limit.filter(|to| is_cut && *to > self.audit.size()) {
            self.missing(What::RecordChanged, to, name, Some(scan.offset), LOST)?;
        }
        if let Some(fault) = sealed.fault {
            self.add(Finding::tampering(What::SealChanged, format!("{name}: {fault}")).file(name));
        }
        for (part, fault) in scan.file().faults() {
            let text =
                format!("the compressed part of {name} that begins with record {} was changed: {fault}", part.first);
            self.add(Finding::tampering(What::SealChanged, text).leaf(part.first).file(name).at(part.at));
        }
        Ok(())
    }

    /// The end of a segment: nothing but zeros may follow.
    fn end(&mut self, offset: u64, garbage: Option<(u64, FrameFault)>, name: &str) -> io::Result<()> {
        let next = self.audit.size();
        let Some((at, fault)) = garbage else { return Ok(()) };
        let unsigned = next >= self.signed;
        let finding = match fault {
            FrameFault::Empty => Finding::tampering(
                What::ForeignBytes,
                format!("{name} has bytes other than zero after its last record, {}", next.saturating_sub(1)),
            ),
            _ if unsigned => Finding::tampering(
                What::TornEnd,
                format!("record {next} is torn: the agent was killed or the power failed while it was written"),
            ),
            _ => Finding::tampering(What::RecordChanged, format!("record {next} was changed: {fault}")),
        };
        let place = if fault == FrameFault::Empty { at } else { offset };
        self.add(finding.leaf(next).file(name).at(place).loss_if(unsigned));
        if !unsigned && fault != FrameFault::Empty {
            self.without(next + 1)?;
        }
        Ok(())
    }

    /// What was signed and is not there, and what the checkpoints' files say of each other.
    fn finish(mut self) -> io::Result<Report> {
        self.settle()?;
        if self.audit.size() < self.signed {
            let file = segment_name(self.audit.size());
            self.missing(What::RecordMissing, self.signed, &file, None, "the journal was cut before its signed end")?;
        }
        // A checkpoint that was signed after the reading began is not judged.
        let ahead = self.due.as_ref().filter(|_| !self.live).map(|due| due.size);
        if let Some(size) = ahead {
            let text = format!("a checkpoint was signed over {size} records, {} are there", self.audit.size());
            self.add(Finding::tampering(What::RecordMissing, text).leaf(self.audit.size()));
        }
        self.newest_is_newest();
        self.report.size = self.audit.size();
        self.report.findings = self.audit.findings;
        (self.report.undecided, self.report.undecided_more) = self.tails.finish();
        Ok(self.report)
    }

    fn newest_is_newest(&mut self) {
        let Some(newest) = &self.newest else { return };
        let stale = self.recent.iter().any(|(signed, told)| signed.size > newest.size && *told);
        let size = newest.size;
        if !self.met && !self.live {
            let text = format!("the history lacks the checkpoint over {size} records");
            self.add(Finding::tampering(What::CheckpointMissing, text).file("journal/checkpoints"));
        }
        if stale && !self.live {
            let text = format!("journal/checkpoint covers {size} records; newer ones were published");
            self.add(Finding::tampering(What::CheckpointChanged, text).file("journal/checkpoint"));
        }
    }
}

/// Whether the record that is due at this place cannot be unpacked.
fn is_lost(scan: &Scan, offset: u64) -> bool {
    scan.file().faults().any(|(part, _)| (part.start..part.end()).contains(&offset))
}

/// A quick look, so that not every event is decoded.
fn tells_of_checkpoint(event: &[u8]) -> bool {
    const KIND: &[u8] = b"dkindjcheckpoint";
    event.windows(KIND.len()).take(64).any(|window| window == KIND)
}
