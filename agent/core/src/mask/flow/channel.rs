//! One text as detectors see it, and where each of its bytes stands.
//!
//! Owns the hiding of a find in whatever form its bytes are written. Never decides what a find is.

use std::borrow::Cow;
use std::ops::Range;

use crate::mask::detect::{Edges, Hit, kept};
use crate::mask::plan::{Finds, PlaceId, Placed, Plan};
use crate::mask::rule::RuleNumber;

/// What cannot stand in any value.
const CUT: u8 = 0;

/// A field that rules are about waits for its end as far as this, in bytes; of a longer one nothing that is hidden as a whole
/// stays readable.
const FIELD_BYTES_MAX: usize = 64 * 1024;

/// How text is written, and so what hides it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum How {
    /// Each byte as it is.
    Plain,
    /// A number, which has to stay one.
    Number,
    /// One character of text for some bytes: `\u0034`, `\n`, `%34`.
    Escape,
    /// A number in big-endian two's complement.
    Integer,
    /// `PostgreSQL`'s numeric in binary: four digits of ten in two bytes each, behind a head of eight bytes.
    Numeric,
    /// Separates fields; stands for nothing.
    Nothing,
}

/// Text in one form, without a gap.
#[derive(Clone, Copy, Debug)]
struct Run {
    /// Its first byte in the text, and how many there are.
    text: usize,
    len: usize,
    /// The same in the bytes as they came.
    at: usize,
    written: usize,
    how: How,
}

/// A field that a rule is about.
#[derive(Clone, Copy, Debug)]
struct Field {
    place: PlaceId,
    from: usize,
    to: Option<usize>,
    /// It is longer than what waits for its end: what came before is decided, and this is how its last find goes on.
    long: Option<Long>,
}

/// Where a long field is.
#[derive(Clone, Copy, Debug, Default)]
struct Long {
    before: Option<u8>,
    inside: Option<RuleNumber>,
}

#[derive(Debug, Default)]
pub(super) struct Channel {
    text: Vec<u8>,
    runs: Vec<Run>,
    fields: Vec<Field>,
    before: Option<u8>,
    inside: Option<RuleNumber>,
    /// Of the text, what rules that look everywhere have decided: a field that another rule is about can keep it here.
    looked: usize,
}

impl Channel {
    pub(super) fn is_idle(&self) -> bool {
        self.text.is_empty()
            && self.fields.is_empty()
            && self.inside.is_none()
            && self.before.is_none_or(|byte| byte == CUT)
    }

    pub(super) fn plain(&mut self, bytes: &[u8], at: usize, how: How) {
        if bytes.is_empty() {
            return;
        }
        let text = self.text.len();
        self.text.extend_from_slice(bytes);
        match self.runs.last_mut() {
            Some(run) if run.how == how && run.text + run.len == text && run.at + run.written == at => {
                run.len += bytes.len();
                run.written += bytes.len();
            }
            _ => self.runs.push(Run { text, len: bytes.len(), at, written: bytes.len(), how }),
        }
    }

    pub(super) fn written(&mut self, text: &[u8], at: usize, written: usize, how: How) {
        self.runs.push(Run { text: self.text.len(), len: text.len(), at, written, how });
        self.text.extend_from_slice(text);
    }

    pub(super) fn cut(&mut self) {
        if self.text.last().or(self.before.as_ref()).is_some_and(|last| *last != CUT) {
            let at = self.runs.last().map_or(0, |run| run.at + run.written);
            self.runs.push(Run { text: self.text.len(), len: 1, at, written: 0, how: How::Nothing });
            self.text.push(CUT);
        }
    }

    pub(super) fn begin(&mut self, place: PlaceId) {
        self.fields.push(Field { place, from: self.text.len(), to: None, long: None });
    }

    pub(super) fn end(&mut self) {
        if let Some(field) = self.fields.last_mut() {
            field.to.get_or_insert(self.text.len());
        }
    }

    /// Hides what is found; up to where all of the bytes as they came are decided.
    pub(super) fn decide(&mut self, plan: &Plan, all: &mut Cow<'_, [u8]>, ends: bool, finds: &mut Finds) -> usize {
        let mut len = 0;
        if !self.text.is_empty() {
            let mut hits = Vec::new();
            // What stands behind the last cut begins a field of its own.
            let finishes = ends;
            let ends = ends || self.text.last() == Some(&CUT);
            let looked = self.looked;
            let before = looked.checked_sub(1).map_or(self.before, |at| self.text.get(at).copied());
            let edges = Edges { before, inside: self.inside, ends };
            let decided = plan.anywhere.find(self.text.get(looked..).unwrap_or_default(), edges, &mut hits);
            for hit in hits {
                let goes_on = self.inside.is_some() && hit.start == 0;
                let hit = Hit { start: hit.start + looked, end: hit.end + looked, ..hit };
                self.hide(plan, &hit, all, finds, goes_on);
            }
            (self.looked, self.inside) = (looked + decided.len, decided.inside);
            len = self.looked;
            self.place(plan, all, finishes, finds);
            // What a rule is about is decided at its end.
            let open = self.fields.iter().filter(|field| field.to.is_none()).map(|field| field.from).min();
            len = if ends { self.text.len() } else { len.min(open.unwrap_or(len)) };
        }
        let undecided = self.text.len() > len;
        let safe = if undecided { self.stands_at(len) } else { all.len() };
        self.consume(len);
        safe
    }

    /// Hides all that is undecided.
    pub(super) fn bury(&self, all: &mut Cow<'_, [u8]>) {
        let open = self.fields.iter().map(|field| field.from).min();
        let from = open.map_or(self.looked, |open| open.min(self.looked));
        if from < self.text.len() {
            self.cover(from..self.text.len(), 0, |byte| matches!(byte, b'\n' | b'\r' | b'\t'), all);
        }
    }

    /// Looks into the fields that have ended, and into the beginning of those that are too long to wait for.
    fn place(&mut self, plan: &Plan, all: &mut Cow<'_, [u8]>, ends: bool, finds: &mut Finds) {
        let text_len = self.text.len();
        let mut open = Vec::new();
        for mut field in std::mem::take(&mut self.fields) {
            let (from, to) = (field.from, field.to.unwrap_or(text_len));
            let ended = ends || field.to.is_some();
            let is_long = field.long.is_some() || to - from > FIELD_BYTES_MAX;
            if let Some(placed) = plan.placed(field.place).filter(|_| ended || is_long) {
                match placed.all {
                    Some(rule) => self.hide_all(plan, rule, (&mut field, from..to, is_long), all, finds),
                    None => self.look_into(plan, placed, (&mut field, from..to, ended), all, finds),
                }
            }
            if !ended {
                open.push(field);
            }
        }
        self.fields = open;
    }

    /// A rule hides all of a field, or of as much of a long one as is here.
    fn hide_all(
        &self,
        plan: &Plan,
        rule: RuleNumber,
        (field, here, is_long): (&mut Field, Range<usize>, bool),
        all: &mut Cow<'_, [u8]>,
        finds: &mut Finds,
    ) {
        let value = self.text.get(here.clone()).unwrap_or_default();
        let keep = if is_long { 0 } else { kept(value, plan.keeps(rule)) };
        if field.long.is_none() && !here.is_empty() {
            // The digest of a long one is that of its beginning, however it is cut.
            let end = here.end.min(here.start + FIELD_BYTES_MAX + 1);
            finds.add(plan, rule, self.text.get(here.start..end).unwrap_or_default());
        }
        let hidden = here.start..here.end - keep;
        self.cover(hidden, keep, |byte| plan.shows(rule, byte), all);
        if is_long {
            (field.long, field.from) = (Some(Long::default()), here.end);
        }
    }

    /// Rules look into a field, or into as much of a long one as is here.
    fn look_into(
        &self,
        plan: &Plan,
        placed: &Placed,
        (field, here, ends): (&mut Field, Range<usize>, bool),
        all: &mut Cow<'_, [u8]>,
        finds: &mut Finds,
    ) {
        let Long { before, inside } = field.long.unwrap_or_default();
        let text = self.text.get(here.clone()).unwrap_or_default();
        let mut hits = Vec::new();
        let decided = placed.detectors.find(text, Edges { before, inside, ends }, &mut hits);
        for hit in hits {
            let goes_on = inside.is_some() && hit.start == 0;
            let hit = Hit { start: hit.start + here.start, end: hit.end + here.start, ..hit };
            self.hide(plan, &hit, all, finds, goes_on);
        }
        let before = decided.len.checked_sub(1).and_then(|at| text.get(at).copied()).or(before);
        field.long = Some(Long { before, inside: decided.inside });
        field.from = here.start + decided.len;
    }

    fn hide(&self, plan: &Plan, hit: &Hit, all: &mut Cow<'_, [u8]>, finds: &mut Finds, goes_on: bool) {
        if !goes_on {
            finds.add(plan, hit.rule, self.text.get(hit.start..hit.end).unwrap_or_default());
        }
        let hidden = hit.start..hit.end.saturating_sub(hit.keep);
        self.cover(hidden, hit.keep, |byte| plan.shows(hit.rule, byte), all);
    }

    /// Hides a range of the text in whatever form it is written.
    fn cover(&self, hidden: Range<usize>, keep: usize, shows: impl Fn(u8) -> bool, all: &mut Cow<'_, [u8]>) {
        let first = self.runs.partition_point(|run| run.text + run.len <= hidden.start);
        let all = all.to_mut();
        for run in self.runs.iter().skip(first).take_while(|run| run.text < hidden.end) {
            let from = hidden.start.max(run.text) - run.text;
            let to = hidden.end.min(run.text + run.len) - run.text;
            let written = match run.how {
                How::Plain | How::Number => all.get_mut(run.at + from..run.at + to),
                _ => all.get_mut(run.at..run.at + run.written),
            };
            let Some(written) = written else { continue };
            match run.how {
                How::Plain => fill(written, |byte| if shows(byte) { byte } else { b'*' }),
                How::Number => fill(written, |byte| match byte {
                    b'0'..=b'9' => b'9',
                    // What is no number stands there without its quotes: whatever it is, it is hidden.
                    byte if byte.is_ascii_punctuation() || byte == b' ' => byte,
                    _ => b'*',
                }),
                How::Escape => escape(written),
                How::Integer => integer(written, keep),
                How::Numeric => numeric(written, keep),
                How::Nothing => {}
            }
        }
    }

    /// Where a byte of the text stands.
    fn stands_at(&self, text: usize) -> usize {
        let at = self.runs.partition_point(|run| run.text + run.len <= text);
        match self.runs.get(at) {
            Some(run) if matches!(run.how, How::Plain | How::Number) => run.at + (text - run.text.min(text)),
            Some(run) => run.at,
            None => usize::MAX,
        }
    }

    /// The beginning of the text is decided.
    fn consume(&mut self, len: usize) {
        if len == 0 {
            return;
        }
        if let Some(last) = len.checked_sub(1).and_then(|at| self.text.get(at)) {
            self.before = Some(*last);
        }
        self.text.drain(..len.min(self.text.len()));
        self.looked = self.looked.saturating_sub(len);
        let gone = self.runs.partition_point(|run| run.text + run.len <= len);
        self.runs.drain(..gone);
        for run in &mut self.runs {
            let over = len.saturating_sub(run.text);
            if over > 0 && matches!(run.how, How::Plain | How::Number) {
                run.at += over;
                run.written -= over;
            }
            run.len -= over;
            run.text = run.text.saturating_sub(len);
        }
        for field in &mut self.fields {
            field.from = field.from.saturating_sub(len);
            field.to = field.to.map(|to| to.saturating_sub(len));
        }
    }

    /// The beginning of the bytes as they came has gone.
    pub(super) fn shift(&mut self, gone: usize) {
        for run in &mut self.runs {
            run.at = run.at.saturating_sub(gone);
        }
    }
}

fn fill(written: &mut [u8], with: impl Fn(u8) -> u8) {
    for byte in written {
        *byte = with(*byte);
    }
}

/// `\u0034` becomes `\u002a`, `%34` becomes `%2A`, a shorter escape becomes stars: all of them stay what they were.
fn escape(written: &mut [u8]) {
    let star: &[u8] = match written {
        [b'%', _, _] => b"%2A",
        [b'\\', .., _, _, _, _] => b"002a",
        _ => return written.fill(b'*'),
    };
    let from = written.len() - star.len();
    if let Some(end) = written.get_mut(from..) {
        end.copy_from_slice(star);
    }
}

/// What is left of a number whose last digits are kept.
fn integer(written: &mut [u8], keep: usize) {
    let Ok(digits) = u32::try_from(keep.min(18)) else { return };
    let mut wide = [0; 8];
    let Some(low) = wide.get_mut(8usize.saturating_sub(written.len())..) else { return };
    low.copy_from_slice(written);
    let kept = u64::from_be_bytes(wide) % 10u64.pow(digits);
    let kept = kept.to_be_bytes();
    if let Some(low) = kept.get(8 - written.len()..) {
        written.copy_from_slice(low);
    }
}

/// Groups of four digits become zero but for the last, where four are kept.
fn numeric(written: &mut [u8], keep: usize) {
    let Some(groups) = written.get_mut(8..) else { return };
    let kept = if keep >= 4 { 2 } else { 0 };
    let hidden = groups.len().saturating_sub(kept);
    if let Some(hidden) = groups.get_mut(..hidden) {
        hidden.fill(0);
    }
}
