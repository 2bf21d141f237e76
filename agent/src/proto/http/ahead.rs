//! A look at a request that is not forwarded yet: where its head is, and whether all of it is there.
//!
//! Never looks at a byte twice, and keeps none. What is wrong with the request is the conversation's to say.

use std::ops::Range;

use crewtap_core::session::Side;
use crewtap_core::wire::http::{Conversation, Length, RequestHead, Step};

/// How much of a request is there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Sight {
    /// Not even its head.
    Nothing,
    /// Its head, and not all of its content.
    Head,
    /// All of it: so many bytes.
    Whole(usize),
    /// Its head, and more content than is waited for.
    TooLarge,
    /// It is not to be passed on.
    Wrong,
}

/// The request that begins at the first byte that is not forwarded.
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own, and most pairs of them occur")]
pub(super) struct Ahead {
    conversation: Conversation,
    /// Bytes looked at.
    at: usize,
    /// Where its head is.
    pub(super) head: Option<Range<usize>>,
    whole: bool,
    too_large: bool,
    /// It is known that all of it is needed.
    pub(super) is_needed: bool,
    /// Its client has been told to go on.
    pub(super) continued: bool,
}

impl Ahead {
    pub(super) fn new() -> Self {
        Self {
            conversation: Conversation::new(),
            at: 0,
            head: None,
            whole: false,
            too_large: false,
            is_needed: false,
            continued: false,
        }
    }

    /// Whether its content has begun to come.
    pub(super) fn has_content(&self) -> bool {
        self.head.as_ref().is_some_and(|head| self.at > head.end)
    }

    /// Looks at what has come since; at most `max` bytes behind the head are waited for.
    pub(super) fn look(&mut self, bytes: &[u8], max: usize) -> Sight {
        loop {
            if self.whole {
                return Sight::Whole(self.at);
            }
            if self.too_large {
                return Sight::TooLarge;
            }
            let rest = bytes.get(self.at..).unwrap_or_default();
            let begun = self.at;
            match self.conversation.next(Side::Client, rest) {
                Ok(Step::RequestHead { len, head, .. }) => {
                    self.head = Some(begun..begun + len);
                    self.too_large = matches!(head.length, Length::Bytes(length) if length > max as u64);
                    self.at += len;
                }
                Ok(Step::End { .. }) => self.whole = true,
                Ok(step) if step.is_empty() => {
                    return if self.head.is_some() { Sight::Head } else { Sight::Nothing };
                }
                Ok(step) => {
                    self.at += step.len();
                    let begun = self.head.as_ref().map_or(self.at, |head| head.end);
                    self.too_large = self.at - begun > max;
                }
                Err(_) => return Sight::Wrong,
            }
        }
    }
}

/// The content of a whole request and the field lines behind it, and whether its framing says nothing else.
pub(super) fn content(bytes: &[u8]) -> (Vec<u8>, Range<usize>) {
    let mut conversation = Conversation::new();
    let (mut at, mut content, mut trailers) = (0, Vec::new(), 0..0);
    while let Ok(step) = conversation.next(Side::Client, bytes.get(at..).unwrap_or_default()) {
        let covered = at..at + step.len();
        match step {
            Step::Body { .. } => content.extend_from_slice(bytes.get(covered.clone()).unwrap_or_default()),
            Step::Trailers { .. } => trailers = covered.clone(),
            Step::End { .. } => break,
            step if step.is_empty() => break,
            _ => {}
        }
        at = covered.end;
    }
    (content, trailers)
}

/// Whether the connection can go on behind a refusal of this request, of which `left` is not there.
pub(super) fn can_go_on(head: &RequestHead<'_>, whole: bool, has_content: bool, max: u64) -> bool {
    let small = matches!(head.length, Length::Bytes(len) if len <= max);
    // Who waits for 100 may leave the content out, or send it: nobody could tell it from the next request.
    let waits = head.expects_continue() && !has_content;
    head.persists() && head.version == crewtap_core::wire::http::Version::Http11 && (whole || small && !waits)
}
