//! The moments of one exchange, read from the journal one after another.
//!
//! Never holds more than what masks made wait, and never goes beyond the exchange's last record.

use crewtap_core::bodies::Chunk;
use crewtap_core::chain::Record;
use crewtap_core::event::{Body, Stamp};

use super::owed::Owed;
use super::take::Take;
use crate::cli::store::Evidence;

/// Whose bytes, and which of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stream {
    /// What was typed at a terminal.
    Keys,
    /// What a terminal's screen got.
    Terminal,
    /// Input of a command.
    Stdin,
    /// Its output.
    Stdout,
    /// Its errors.
    Stderr,
    /// A part of another name.
    Other,
}

impl Stream {
    /// How many there are.
    pub(super) const COUNT: usize = 6;

    fn of(part: Option<&str>) -> Self {
        match part {
            Some("keys") => Self::Keys,
            Some("terminal") => Self::Terminal,
            Some("stdin") => Self::Stdin,
            Some("stdout") => Self::Stdout,
            Some("stderr") => Self::Stderr,
            _ => Self::Other,
        }
    }

    /// Its name.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Keys => "keys",
            Self::Terminal => "terminal",
            Self::Stdin => "stdin",
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
            Self::Other => "other",
        }
    }
}

/// What happened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum What {
    /// Bytes passed.
    Said {
        /// Whose.
        stream: Stream,
        /// As they are on record: masked.
        bytes: Vec<u8>,
    },
    /// The terminal got another size.
    Resized {
        /// In characters.
        columns: u32,
        /// In characters.
        rows: u32,
    },
    /// Something that an analyst should know: a signal, ….
    Note {
        /// Its word.
        code: String,
        /// Its sentence.
        text: String,
    },
    /// It ended; output may still follow.
    Ended {
        /// `success`, `failure`, ….
        outcome: String,
        /// Exit status or signal.
        code: Option<String>,
    },
    /// Bytes that passed and are not on record: crewtap ended before its masks had decided.
    Withheld {
        /// Whose.
        stream: Stream,
        /// How many.
        len: u64,
    },
    /// Records that cannot be read, and why.
    Lost(String),
}

/// Something that happened, and when.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Moment {
    /// Nanoseconds since the exchange began.
    pub at_ns: u64,
    /// Nanoseconds since the Unix epoch.
    pub wall_ns: u64,
    /// Number of its record.
    pub leaf: u64,
    /// What.
    pub what: What,
}

/// A place on a tape.
#[derive(Clone, Debug)]
pub struct Mark {
    next: u64,
    owed: Owed,
    last_at: (u64, u64),
    ended: bool,
}

/// Records in their order, and what cannot be read of them.
type Records<'e> = Box<dyn Iterator<Item = Result<Record, String>> + 'e>;

/// The moments of an exchange.
pub struct Tape<'e> {
    evidence: &'e dyn Evidence,
    session: String,
    n: u32,
    last: u64,
    begin: Option<Stamp>,
    records: Records<'e>,
    mark: Mark,
}

impl std::fmt::Debug for Tape<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tape")
            .field("session", &self.session)
            .field("n", &self.n)
            .field("mark", &self.mark)
            .finish_non_exhaustive()
    }
}

impl<'e> Tape<'e> {
    /// A tape at its beginning.
    #[must_use]
    pub fn new(evidence: &'e dyn Evidence, take: &Take) -> Self {
        let began = evidence.record(take.first).ok().flatten();
        Self {
            evidence,
            session: take.exchange.session.clone(),
            n: take.n(),
            last: take.last,
            begin: began.map(|record| record.event.at),
            records: evidence.records(take.first),
            mark: Mark { next: take.first, owed: Owed::default(), last_at: (0, 0), ended: false },
        }
    }

    /// Where it is.
    #[must_use]
    pub fn mark(&self) -> Mark {
        self.mark.clone()
    }

    /// Goes to another place.
    pub fn restore(&mut self, mark: Mark) {
        self.records = self.evidence.records(mark.next);
        self.mark = mark;
    }

    /// Nanoseconds from the beginning to the last record.
    #[must_use]
    pub fn length_ns(&self) -> u64 {
        let end = self.evidence.record(self.last).ok().flatten().map(|record| record.event.at);
        end.map_or(0, |end| self.since_begin(end))
    }

    /// When it began, nanoseconds since the Unix epoch.
    #[must_use]
    pub fn began_ns(&self) -> u64 {
        self.begin.map_or(0, |begin| begin.wall_ns)
    }

    fn since_begin(&self, at: Stamp) -> u64 {
        self.begin.map_or(0, |begin| at.mono_ns.saturating_sub(begin.mono_ns))
    }

    /// Reads one record.
    fn read(&mut self) {
        match self.records.next() {
            Some(Ok(record)) if record.leaf <= self.last => {
                self.mark.next = record.leaf + 1;
                self.hear(record);
            }
            Some(Err(why)) => {
                let (at_ns, wall_ns) = self.mark.last_at;
                self.mark.owed.push(Moment { at_ns, wall_ns, leaf: self.mark.next, what: What::Lost(why) });
            }
            _ => self.mark.ended = true,
        }
    }

    fn hear(&mut self, record: Record) {
        let Record { leaf, event, payload } = record;
        let of_session = event.session.is_some_and(|session| session.to_string() == self.session);
        if !of_session || event.exchange != Some(self.n) {
            return;
        }
        // Two threads' clocks may differ by less than anybody sees; time does not go back on a tape.
        let at_ns = self.since_begin(event.at).max(self.mark.last_at.0);
        self.mark.last_at = (at_ns, event.at.wall_ns);
        let moment = |what| Moment { at_ns, wall_ns: event.at.wall_ns, leaf, what };
        let what = match event.body {
            Body::Chunk(chunk) => {
                let stream = Stream::of(chunk.part.as_deref());
                return self.said(moment(What::Said { stream, bytes: Vec::new() }), stream, &chunk, &payload);
            }
            Body::Resized(size) => What::Resized { columns: size.columns, rows: size.rows },
            Body::Response(response) => What::Ended { outcome: response.outcome, code: response.code },
            Body::Note(note) => What::Note { code: note.code, text: note.text },
            _ => return,
        };
        self.mark.owed.push(moment(what));
    }

    fn said(&mut self, moment: Moment, stream: Stream, chunk: &Chunk, payload: &[u8]) {
        self.mark.owed.chunk(moment, stream, chunk, payload);
    }
}

impl Mark {
    /// Bytes that it holds.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.owed.bytes()
    }
}

impl Iterator for Tape<'_> {
    type Item = Moment;

    fn next(&mut self) -> Option<Moment> {
        loop {
            if let Some(moment) = self.mark.owed.pop(self.mark.ended) {
                return Some(moment);
            }
            if self.mark.ended {
                return None;
            }
            self.read();
        }
    }
}
