//! What a client receives under masks whose `apply` is `wire`: the target's bytes, as long as they were, in their order.
//!
//! Holds back what is undecided, and the framing behind it, so that lengths and chunks stay as they came. Never tells what it has
//! hidden: the record's own masks find the same.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use super::digest::DigestKey;
use super::flow::{Flow, shown};
use super::plan::{Finds, Plan};
use crate::limits::MASK_STREAM_BYTES_MAX;

#[cfg(test)]
mod tests;

/// One stream of a target on its way to the client.
pub struct Outgoing {
    plan: Arc<Plan>,
    finds: Finds,
    flow: Flow,
    /// Bytes that are not content, each behind so many bytes of content.
    framing: VecDeque<(u64, Vec<u8>)>,
    framing_bytes: usize,
    /// Bytes of content that have gone.
    gone: u64,
    /// Bytes of content that have come.
    come: u64,
}

impl fmt::Debug for Outgoing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outgoing").field("come", &self.come).field("gone", &self.gone).finish_non_exhaustive()
    }
}

impl Outgoing {
    /// For content of a media type, under what [`Plan::wire`] says.
    #[must_use]
    pub fn new(plan: &Arc<Plan>, key: &DigestKey, media_type: &str) -> Self {
        Self {
            plan: plan.clone(),
            finds: Finds::new(key),
            flow: Flow::new(media_type).strict(),
            framing: VecDeque::new(),
            framing_bytes: 0,
            gone: 0,
            come: 0,
        }
    }

    /// What follows is described anew.
    pub fn describe(&mut self, media_type: &str) {
        self.flow.describe(media_type);
    }

    /// The next content; what goes to the client for it, and for what was held back.
    pub fn content<'b>(&mut self, bytes: &'b [u8]) -> Cow<'b, [u8]> {
        self.come += bytes.len() as u64;
        let shown = self.flow.feed(&self.plan, bytes, &mut self.finds);
        self.finds.clear();
        if self.framing.is_empty() {
            self.gone += shown.len() as u64;
            return shown;
        }
        Cow::Owned(self.between(&shown))
    }

    /// Something that stands between content and is none; what goes to the client now.
    pub fn framing<'b>(&mut self, bytes: &'b [u8]) -> Cow<'b, [u8]> {
        if self.gone == self.come {
            return Cow::Borrowed(bytes);
        }
        self.framing_bytes += bytes.len();
        match self.framing.back_mut() {
            Some((at, before)) if *at == self.come => before.extend_from_slice(bytes),
            _ => self.framing.push_back((self.come, bytes.to_vec())),
        }
        // Content in the smallest chunks has more framing than content.
        if self.framing_bytes > MASK_STREAM_BYTES_MAX {
            return Cow::Owned(self.give_up());
        }
        Cow::Borrowed(b"")
    }

    /// A value goes on no further: the rest.
    pub fn finish(&mut self) -> Vec<u8> {
        let shown = self.flow.finish(&self.plan, &mut self.finds);
        self.finds.clear();
        self.between(&shown)
    }

    /// What has waited for too long goes as stars.
    fn give_up(&mut self) -> Vec<u8> {
        let shown = self.flow.bury(&self.plan, &mut self.finds);
        self.finds.clear();
        self.between(&shown)
    }

    /// Something that is whole.
    #[must_use]
    pub fn whole(plan: &Plan, key: &DigestKey, media_type: &str, bytes: &[u8]) -> Vec<u8> {
        shown(plan, media_type, bytes, &mut Finds::new(key))
    }

    /// Bytes that are held back.
    #[must_use]
    pub fn held(&self) -> usize {
        self.flow.pending().len() + self.framing_bytes
    }

    /// Content with the framing that stands in it.
    fn between(&mut self, shown: &[u8]) -> Vec<u8> {
        let (mut all, mut rest) = (Vec::with_capacity(shown.len() + 64), shown);
        while let Some((at, framing)) = self.framing.front() {
            let before = usize::try_from(at - self.gone).unwrap_or(usize::MAX);
            let Some((content, behind)) = rest.split_at_checked(before) else { break };
            all.extend_from_slice(content);
            all.extend_from_slice(framing);
            self.gone = *at;
            self.framing_bytes -= framing.len();
            self.framing.pop_front();
            rest = behind;
        }
        self.gone += rest.len() as u64;
        all.extend_from_slice(rest);
        all
    }
}
