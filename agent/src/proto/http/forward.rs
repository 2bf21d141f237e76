//! What becomes of the bytes of a step, once they are told.
//!
//! Owns what the client gets in the place of an answer that masks cannot look into. Never records content.

use std::borrow::Cow;

use crewtap_core::bodies::{Chunk, Note};
use crewtap_core::limits::SHOWN_BYTES_MAX;
use crewtap_core::session::Side;
use crewtap_core::wire::http::Step;

use super::Exchanges;
use super::burst::Burst;
use super::refusal::Problem;
use super::told::Teller;
use super::wired::Undecodable;
use crate::recorder::Told;
use crate::relay::Blocked;

impl Exchanges<'_> {
    /// The bytes of a step go on, or do not.
    pub(super) fn forward(&mut self, side: Side, step: &Step<'_>, burst: &mut Burst<'_>) -> Result<(), Blocked> {
        match step {
            Step::End { .. } if side == Side::Client => self.swallows = false,
            _ if side == Side::Client && self.swallows => burst.discard(),
            // The client has had ours.
            Step::ResponseHead { exchange, head, interim: true, .. }
                if head.status == 100 && self.continued == Some(*exchange) =>
            {
                burst.discard();
            }
            _ if side == Side::Server => self.answer(step, burst)?,
            _ => burst.pass(),
        }
        Ok(())
    }

    /// Some of an answer goes to the client, as masks let it.
    fn answer(&mut self, step: &Step<'_>, burst: &mut Burst<'_>) -> Result<(), Blocked> {
        let Some(wired) = &mut self.wired else {
            burst.pass();
            return Ok(());
        };
        let bytes = burst.waiting();
        match wired.pass(step, bytes, self.conversation.awaits_content(Side::Server)) {
            Ok(Cow::Borrowed(shown)) if shown.len() == bytes.len() => burst.pass(),
            Ok(shown) if shown.is_empty() && bytes.is_empty() => {}
            Ok(shown) => burst.forward.replace(bytes.len(), &shown),
            Err(undecodable) => return Err(self.cut_off(&undecodable)),
        }
        Ok(())
    }

    /// The target says no more: what masks have held back goes to the client.
    pub(super) fn let_out(&mut self, burst: &mut Burst<'_>, whole: bool) -> Result<(), Blocked> {
        let Some(wired) = &mut self.wired else { return Ok(()) };
        match wired.finish(whole) {
            Ok(rest) if rest.is_empty() => Ok(()),
            Ok(rest) => {
                burst.forward.replace(0, &rest);
                Ok(())
            }
            Err(undecodable) => Err(self.cut_off(&undecodable)),
        }
    }

    /// Why an answer that begins with this step cannot be masked, if so.
    pub(super) fn unmaskable(&self, step: &Step<'_>) -> Option<String> {
        let Step::ResponseHead { head, interim: false, .. } = step else { return None };
        self.wired.as_ref()?.objection(head, self.conversation.awaits_content(Side::Server))
    }

    /// The client is told that it cannot have an answer.
    pub(super) fn refuse_answer(&mut self, step: &Step<'_>, bytes: &[u8], why: &str) -> Result<Blocked, Blocked> {
        let exchange = if let Step::ResponseHead { exchange, .. } = step { *exchange } else { 0 };
        self.refused = Some(exchange);
        let problem = Problem::unmaskable(why);
        let head = bytes.get(..step.len().min(SHOWN_BYTES_MAX)).unwrap_or_default();
        let refused = Chunk { wire: Some(0), part: Some("refused".into()), ..Chunk::new(Side::Server, 0) };
        let note = Note { code: "mask_wire_undecoded".into(), text: problem.detail.clone() };
        let told = vec![
            Told { exchange: Some(exchange), body: refused.into(), payload: self.teller.shown(head).into() },
            Told { exchange: Some(exchange), body: note.into(), payload: Cow::Borrowed(b"") },
            Teller::blocked(exchange, problem.status),
        ];
        self.session.record_burst(Side::Server, 0, told)?;
        let answer = problem.answer(self.session.id(), Some(exchange), false, true);
        Ok(Blocked::Refused { why: format!("exchange {exchange}: {}", problem.detail), answer })
    }

    /// Content has begun that cannot be decoded, and so not be masked.
    fn cut_off(&self, _: &Undecodable) -> Blocked {
        let why = "an answer that masks hide values of could not be decoded: it is cut off".to_owned();
        let note = Note { code: "mask_wire_undecoded".into(), text: why.clone() };
        match self.session.record(note) {
            Ok(_) => Blocked::Refused { why, answer: Vec::new() },
            Err(error) => error.into(),
        }
    }
}
