//! Masks a stream as its bytes come: what it gives is as long as what it was given, with every find hidden.
//!
//! Owns what is undecided at the end of a piece, a bounded number of bytes, and where each byte of the text that detectors see
//! stands in the bytes as they came. Never lets a byte out before it is decided.

mod channel;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::ops::Range;

use super::lens::{Lens, is_host, labels, statement};
use super::plan::{Finds, PlaceId, Plan};
use super::rule::Place;
use crate::limits::MASK_STREAM_BYTES_MAX;
use channel::Channel;
pub(super) use channel::How;

/// Channels of one stream: the text itself, and texts that are told in deltas.
const CHANNELS_MAX: usize = 17;

/// One stream under masks.
#[derive(Debug)]
pub struct Flow {
    lens: Lens,
    /// What has come and not gone, finds hidden.
    held: Vec<u8>,
    /// How much of it the lens has read.
    read: usize,
    channels: Vec<(u64, Channel)>,
    /// The channel that the text at hand belongs to.
    current: u64,
    /// What would be decided because it has waited for too long is hidden instead.
    is_strict: bool,
}

impl Flow {
    /// For content of a media type (`message/http`, `application/json`, …), without its parameters.
    #[must_use]
    pub fn new(media_type: &str) -> Self {
        Self {
            lens: Lens::of(media_type),
            held: Vec::new(),
            read: 0,
            channels: vec![(0, Channel::default())],
            current: 0,
            is_strict: false,
        }
    }

    /// The same where nothing may be shown that is not decided: what has waited for too long is hidden.
    #[must_use]
    pub fn strict(self) -> Self {
        Self { is_strict: true, ..self }
    }

    /// What follows is described anew.
    pub fn describe(&mut self, media_type: &str) {
        self.lens.describe(media_type);
    }

    /// Bytes that have come and are not decided.
    #[must_use]
    pub fn pending(&self) -> &[u8] {
        &self.held
    }

    /// The stream's next bytes; what can be shown of all that has come.
    pub fn feed<'b>(&mut self, plan: &Plan, bytes: &'b [u8], finds: &mut Finds) -> Cow<'b, [u8]> {
        if plan.is_empty() {
            return Cow::Borrowed(bytes);
        }
        let shown = self.step(plan, bytes, false, finds);
        // A stream that is built to be undecided for ever is decided here.
        if self.held.len() <= MASK_STREAM_BYTES_MAX {
            return shown;
        }
        let mut shown = shown.into_owned();
        shown.extend(if self.is_strict { self.bury(plan, finds) } else { self.finish(plan, finds) });
        Cow::Owned(shown)
    }

    /// Decides now: what is undecided is hidden, whatever it is.
    pub(super) fn bury(&mut self, plan: &Plan, finds: &mut Finds) -> Vec<u8> {
        let mut held = Cow::Owned(std::mem::take(&mut self.held));
        self.channels.iter().for_each(|(_, channel)| channel.bury(&mut held));
        self.held = held.into_owned();
        self.finish(plan, finds)
    }

    /// No more comes: the rest of what can be shown.
    pub fn finish(&mut self, plan: &Plan, finds: &mut Finds) -> Vec<u8> {
        let mut shown = self.step(plan, b"", true, finds).into_owned();
        shown.append(&mut self.held);
        self.read = 0;
        shown
    }

    fn step<'b>(&mut self, plan: &Plan, bytes: &'b [u8], ends: bool, finds: &mut Finds) -> Cow<'b, [u8]> {
        let mut all: Cow<'b, [u8]> = if self.held.is_empty() {
            Cow::Borrowed(bytes)
        } else {
            self.held.extend_from_slice(bytes);
            Cow::Owned(std::mem::take(&mut self.held))
        };
        let mut sink = Sink { plan, channels: &mut self.channels, current: 0, key: 0 };
        sink.turn_to(self.current);
        self.read = self.lens.read(&all, self.read, ends, &mut sink);
        self.current = sink.key;
        let mut safe = if ends { all.len() } else { self.read };
        for (_, channel) in &mut self.channels {
            safe = safe.min(channel.decide(plan, &mut all, ends, finds));
        }
        for (_, channel) in &mut self.channels {
            channel.shift(safe);
        }
        self.channels.retain(|(key, channel)| *key == 0 || !channel.is_idle());
        self.read = self.read.saturating_sub(safe);
        if safe == all.len() {
            return all;
        }
        match all {
            Cow::Borrowed(all) => {
                let (shown, held) = all.split_at(safe);
                self.held.extend_from_slice(held);
                Cow::Borrowed(shown)
            }
            Cow::Owned(mut all) => {
                self.held = all.split_off(safe);
                Cow::Owned(all)
            }
        }
    }
}

/// Texts that stand somewhere in some bytes.
#[derive(Debug)]
pub(super) struct Texts(Vec<(u64, Channel)>);

impl Default for Texts {
    fn default() -> Self {
        Self(vec![(0, Channel::default())])
    }
}

impl Texts {
    /// Hides finds in texts that are whole.
    pub(super) fn hide(mut self, plan: &Plan, all: &mut Cow<'_, [u8]>, texts: &[Range<usize>], finds: &mut Finds) {
        let mut sink = Sink { plan, channels: &mut self.0, current: 0, key: 0 };
        for text in texts {
            statement(all, text.clone(), &mut sink);
            sink.cut();
        }
        for (_, channel) in &mut self.0 {
            channel.decide(plan, all, true, finds);
        }
        // Once more names of hosts, label by label; what was found is stars by now.
        let hosts = texts.iter().filter(|text| all.get((*text).clone()).is_some_and(is_host));
        let mut labelled = Self::default();
        let mut sink = Sink { plan, channels: &mut labelled.0, current: 0, key: 0 };
        for host in hosts {
            labels(all, host.clone(), &mut sink);
            sink.cut();
        }
        for (_, channel) in &mut labelled.0 {
            channel.decide(plan, all, true, finds);
        }
    }
}

/// A whole message of DNS, as it may be shown.
#[must_use]
pub fn dns_shown(plan: &Plan, message: &[u8], finds: &mut Finds) -> Vec<u8> {
    let pass = |joint: u8, bytes: &[u8], finds: &mut Finds| {
        let mut flow = Flow { lens: Lens::Dns(joint), ..Flow::new("") };
        let mut shown = flow.feed(plan, bytes, finds).into_owned();
        shown.append(&mut flow.finish(plan, finds));
        shown
    };
    let dotted = pass(b'.', message, finds);
    pass(b' ', &dotted, finds)
}

/// A text that is whole, as it may be shown: as long as it was.
#[must_use]
pub fn shown(plan: &Plan, media_type: &str, bytes: &[u8], finds: &mut Finds) -> Vec<u8> {
    let mut flow = Flow::new(media_type);
    let mut shown = flow.feed(plan, bytes, finds).into_owned();
    shown.append(&mut flow.finish(plan, finds));
    shown
}

/// A whole field, as it may be shown where it stands in a place that rules can be about.
#[must_use]
pub fn field(plan: &Plan, place: Option<&Place>, bytes: &[u8], finds: &mut Finds) -> Vec<u8> {
    let Texts(mut channels) = Texts::default();
    let mut sink = Sink { plan, channels: &mut channels, current: 0, key: 0 };
    let found = place.and_then(|place| plan.place(place));
    if let Some(place) = found {
        sink.begin(place);
    }
    statement(bytes, 0..bytes.len(), &mut sink);
    if found.is_some() {
        sink.end();
    }
    let mut all = Cow::Borrowed(bytes);
    for (_, channel) in &mut channels {
        channel.decide(plan, &mut all, true, finds);
    }
    all.into_owned()
}

/// Where a lens puts text.
pub(super) struct Sink<'s> {
    pub(super) plan: &'s Plan,
    channels: &'s mut Vec<(u64, Channel)>,
    current: usize,
    key: u64,
}

impl Sink<'_> {
    /// What follows belongs to this text; 0 is the stream's own.
    pub(super) fn turn_to(&mut self, key: u64) {
        self.key = key;
        let found = self.channels.iter().position(|(known, _)| *known == key);
        self.current = found.unwrap_or_else(|| {
            if self.channels.len() >= CHANNELS_MAX {
                return 0;
            }
            self.channels.push((key, Channel::default()));
            self.channels.len() - 1
        });
    }

    /// Text that stands there as it reads.
    pub(super) fn plain(&mut self, bytes: &[u8], at: usize, how: How) {
        self.channel().plain(bytes, at, how);
    }

    /// Text that is written in another way; `at..at + len` is what stands for it.
    pub(super) fn written(&mut self, text: &[u8], at: usize, len: usize, how: How) {
        self.channel().written(text, at, len, how);
    }

    /// No value goes on beyond here.
    pub(super) fn cut(&mut self) {
        self.channel().cut();
    }

    /// A field begins that a rule is about; until [`Sink::end`].
    pub(super) fn begin(&mut self, place: PlaceId) {
        self.channel().begin(place);
    }

    /// The field ends.
    pub(super) fn end(&mut self) {
        self.channel().end();
    }

    fn channel(&mut self) -> &mut Channel {
        // The first is always there.
        let at = if self.current < self.channels.len() { self.current } else { 0 };
        match self.channels.get_mut(at) {
            Some((_, channel)) => channel,
            None => unreachable!("a stream has a channel of its own"),
        }
    }
}
