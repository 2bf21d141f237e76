//! Requests that somebody between the two sides answers in the target's place.
//!
//! Owns what such an answer changes in the order of messages. Never decides which requests those are.

use super::conversation::{Conversation, Place};
use crate::limits;

impl Conversation {
    /// Whether the client's next bytes can begin a request, whatever the target says next.
    #[must_use]
    pub fn may_begin(&self) -> bool {
        self.client.place == Place::Head
            && !self.server.last
            && self.pending.len() < limits::HTTP_PIPELINE_MAX
            && !self.may_switch()
    }

    /// The newest request is not forwarded and gets no answer of the target. What it still has of content is stepped through
    /// as before, and belongs to no message that the target has seen.
    pub fn refuse_last(&mut self) {
        self.pending.pop_back();
        self.expecting = false;
    }
}
