//! The screen of an exchange at any moment, with keyframes, so that going elsewhere does not begin at the beginning.
//!
//! Keyframes are made as the film is seen. Never holds more of them than a bound: when there are too many, every second goes.

use avt::InvalidSize;

use super::emulator::{Emulator, Kept};
use super::take::Take;
use super::tape::{Mark, Moment, Stream, Tape, What};
use crate::cli::store::Evidence;

/// Bytes of the terminal's stream between two keyframes, at first.
const SPACING_BYTES: u64 = 64 * 1024;

/// Keyframes at most.
const KEYFRAMES_MAX: usize = 256;

/// Bytes of all keyframes at most.
const KEYFRAME_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Bytes that may wait on the tape where a keyframe is made; else it is made later.
const WAITING_BYTES_MAX: usize = 16 * 1024;

#[derive(Clone, Debug)]
struct Keyframe {
    at_ns: u64,
    fed: u64,
    mark: Mark,
    next: Option<Moment>,
    screen: Kept,
}

/// A film, and where it is.
#[derive(Debug)]
pub struct Film<'e> {
    tape: Tape<'e>,
    screen: Emulator,
    next: Option<Moment>,
    at_ns: u64,
    /// When the last moment was.
    last_ns: u64,
    /// Bytes of the stream up to here.
    fed: u64,
    /// Bytes that were fed altogether, also again after going back.
    work: u64,
    keyframes: Vec<Keyframe>,
    spacing: u64,
    length_ns: u64,
}

impl<'e> Film<'e> {
    /// A film at its beginning.
    ///
    /// # Errors
    /// Never in practice: see [`Emulator::new`].
    pub fn new(evidence: &'e dyn Evidence, take: &Take) -> Result<Self, InvalidSize> {
        let (columns, rows) = take.terminal.as_ref().map_or((80, 24), |terminal| (terminal.columns, terminal.rows));
        let mut tape = Tape::new(evidence, take);
        let next = tape.next();
        let length_ns = tape.length_ns();
        let screen = Emulator::new(columns, rows)?;
        let mut film = Self {
            tape,
            screen,
            next,
            at_ns: 0,
            last_ns: 0,
            fed: 0,
            work: 0,
            keyframes: Vec::new(),
            spacing: SPACING_BYTES,
            length_ns,
        };
        film.keep();
        Ok(film)
    }

    /// The screen.
    #[must_use]
    pub fn screen(&self) -> &Emulator {
        &self.screen
    }

    /// Nanoseconds since the beginning.
    #[must_use]
    pub fn at_ns(&self) -> u64 {
        self.at_ns
    }

    /// Nanoseconds from the beginning to the end.
    #[must_use]
    pub fn length_ns(&self) -> u64 {
        self.length_ns.max(self.at_ns)
    }

    /// When it began, nanoseconds since the Unix epoch.
    #[must_use]
    pub fn began_ns(&self) -> u64 {
        self.tape.began_ns()
    }

    /// When the last moment was.
    #[must_use]
    pub fn last_ns(&self) -> u64 {
        self.last_ns
    }

    /// When the next moment is; none at the end.
    #[must_use]
    pub fn next_ns(&self) -> Option<u64> {
        self.next.as_ref().map(|moment| moment.at_ns)
    }

    /// Bytes that the screen was fed altogether: what going elsewhere costs.
    #[must_use]
    pub fn work(&self) -> u64 {
        self.work
    }

    /// The next moment happens.
    pub fn step(&mut self) -> Option<Moment> {
        let moment = self.next.take()?;
        self.next = self.tape.next();
        self.at_ns = self.at_ns.max(moment.at_ns);
        self.last_ns = moment.at_ns;
        match &moment.what {
            What::Said { stream: Stream::Terminal, bytes } => {
                self.screen.feed(bytes);
                self.fed += bytes.len() as u64;
                self.work += bytes.len() as u64;
            }
            What::Resized { columns, rows } => self.screen.resize(*columns, *rows),
            _ => {}
        }
        self.keep();
        Some(moment)
    }

    /// Time passes up to a point; what happens until then happens.
    pub fn play_to(&mut self, at_ns: u64) {
        while self.next_ns().is_some_and(|next| next <= at_ns) {
            self.step();
        }
        self.at_ns = self.at_ns.max(at_ns.min(self.length_ns()));
    }

    /// Goes to a point, back or ahead.
    ///
    /// # Errors
    /// Never in practice: see [`Emulator::of`].
    pub fn seek(&mut self, at_ns: u64) -> Result<(), InvalidSize> {
        let known = self.keyframes.partition_point(|frame| frame.at_ns < at_ns).saturating_sub(1);
        if let Some(frame) = self.keyframes.get(known)
            && (at_ns < self.at_ns || frame.fed > self.fed)
        {
            self.screen = Emulator::of(&frame.screen)?;
            self.tape.restore(frame.mark.clone());
            (self.at_ns, self.last_ns, self.fed, self.next) = (frame.at_ns, frame.at_ns, frame.fed, frame.next.clone());
        }
        self.play_to(at_ns);
        Ok(())
    }

    /// Makes a keyframe where it is time for one.
    fn keep(&mut self) {
        let due = self.keyframes.last().is_none_or(|last| self.fed >= last.fed + self.spacing);
        if !due {
            return;
        }
        let mark = self.tape.mark();
        if mark.bytes() > WAITING_BYTES_MAX && !self.keyframes.is_empty() {
            return;
        }
        let screen = self.screen.kept();
        self.keyframes.push(Keyframe { at_ns: self.at_ns, fed: self.fed, mark, next: self.next.clone(), screen });
        let bytes =
            |frames: &[Keyframe]| frames.iter().map(|frame| frame.screen.bytes() + frame.mark.bytes()).sum::<usize>();
        while self.keyframes.len() > 1
            && (self.keyframes.len() > KEYFRAMES_MAX || bytes(&self.keyframes) > KEYFRAME_BYTES_MAX)
        {
            let mut at = 0usize;
            self.keyframes.retain(|_| {
                at += 1;
                at % 2 == 1
            });
            self.spacing = self.spacing.saturating_mul(2);
        }
    }
}
