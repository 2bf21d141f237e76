//! What the target says: which exchange it belongs to, and what came of that.
//!
//! Owns what is put in the place of the target's words: the error of a refused statement, the cancel key, and stars where masks
//! hide values from the client.

use std::borrow::Cow;

use crewtap_core::bodies::Note;
use crewtap_core::limits::{FACT_TEXT_MAX, POSTGRES_PIPELINE_MAX};
use crewtap_core::mask::outgoing::Outgoing;
use crewtap_core::run::Mode;
use crewtap_core::session::Side;
use crewtap_core::wire::postgres::message::Report;
use crewtap_core::wire::postgres::{Answer, Step, reply};

use super::burst::Burst;
use super::login;
use super::statements::Statements;
use crate::redacted::Redacted;
use crate::relay::{Blocked, Next};

impl Statements<'_> {
    /// One message of the target.
    pub(super) fn answer(&mut self, burst: &mut Burst<'_>, step: &Step<'_>) -> Result<Option<Next>, Blocked> {
        let (Step::Answer { exchange, .. }
        | Step::Rows { exchange, .. }
        | Step::CopyData { exchange, .. }
        | Step::Piece { exchange, .. }) = step
        else {
            return Ok(None);
        };
        let number = self.numbered(Side::Server, *exchange);
        self.attach_piece(burst, number, !matches!(step, Step::Piece { first: false, .. }));
        let state = self.exchanges.entry(number).or_default();
        match step {
            Step::Rows { .. } | Step::Piece { tag: b'D', first: true, .. } => {
                if state.media_type().is_none() {
                    state.columns(self.conversation.columns(*exchange), self.masks_columns);
                }
                state.rows(if let Step::Rows { rows, .. } = step { *rows } else { 1 });
                if let (Some(outgoing), Some(media_type)) = (&mut self.outgoing, state.media_type()) {
                    outgoing.describe(media_type);
                }
            }
            Step::Answer { answer, len, .. } => return self.answered(burst, number, *exchange, answer, *len),
            _ => {}
        }
        self.pass(burst, step.len());
        Ok(None)
    }

    /// The target's next bytes go to the client, as masks let them.
    fn pass(&mut self, burst: &mut Burst<'_>, len: usize) {
        let Some(outgoing) = self.outgoing.as_mut().filter(|_| !self.entering) else { return burst.pass(len) };
        match outgoing.content(burst.rest().get(..len).unwrap_or_default()) {
            Cow::Borrowed(shown) if shown.len() == len => burst.pass(len),
            shown => burst.replace(len, &shown, None),
        }
    }

    /// What masks have held back goes to the client: no value goes on in what follows.
    pub(super) fn let_go(&mut self) -> Vec<u8> {
        self.outgoing.as_mut().map(Outgoing::finish).unwrap_or_default()
    }

    /// Words of ours go in the place of the target's.
    fn replace(&mut self, burst: &mut Burst<'_>, len: usize, ours: &[u8], shown: &[u8]) {
        let held = self.let_go();
        if held.is_empty() {
            return burst.replace(len, ours, Some(shown));
        }
        burst.replace(0, &held, None);
        burst.replace(len, ours, Some(shown));
    }

    fn answered(
        &mut self,
        burst: &mut Burst<'_>,
        number: u32,
        exchange: u32,
        answer: &Answer<'_>,
        len: usize,
    ) -> Result<Option<Next>, Blocked> {
        let state = self.exchanges.entry(number).or_default();
        match answer {
            Answer::Columns(_) => state.columns(self.conversation.columns(exchange), self.masks_columns),
            Answer::Complete(complete) => {
                let unknown = state.media_type().is_none();
                state.columns(self.conversation.columns(exchange).filter(|_| unknown), self.masks_columns);
                state.complete(complete);
            }
            Answer::Suspended => (state.answered, state.suspended) = (true, true),
            Answer::Empty | Answer::FunctionResult(_) => state.answered = true,
            // The server's last word, or one to nobody: no statement failed by it.
            Answer::Error { report, .. } if exchange == 0 && !self.entering => self.note_last_word(report)?,
            Answer::Error { report, refused, .. } => {
                state.failed(report, *refused);
                if *refused
                    && let Some(refused) = self.refused.remove(&number)
                    && fails_as_sent(report)
                {
                    let ours = refused.error();
                    self.replace(burst, len, &ours, &ours);
                    return Ok(None);
                }
            }
            Answer::Notice(_) => state.notice(),
            Answer::Parameter(parameter) => {
                self.teller.set(parameter.name, parameter.value);
                if self.entering && parameter.name == b"application_name" {
                    let own = reply::parameter_status(b"application_name", &self.application_name);
                    self.replace(burst, len, &own, &own);
                    return Ok(None);
                }
            }
            Answer::Key(key) => {
                let (ours, shown) = self.issue(key.process, key.key)?;
                self.replace(burst, len, &ours, &shown);
                return Ok(None);
            }
            Answer::Ready(_) => {
                self.pass(burst, len);
                self.ready(burst);
                if !std::mem::take(&mut self.replicates) {
                    return Ok(None);
                }
                self.opaque = Some(Redacted::new(self.session));
                return Ok(Some(Next::Again));
            }
            Answer::CopyOut(_) => self.describe_copy(number)?,
            Answer::CopyBoth(_) => {
                let text = "the replication protocol begins: its bytes are relayed and recorded as they are";
                self.session.record(Note { code: "postgres_replication".into(), text: text.into() })?;
                if self.session.mode() == Mode::Enforce {
                    return Err(Blocked::Refused { why: "replication cannot be judged".into(), answer: Vec::new() });
                }
            }
            _ => {}
        }
        self.pass(burst, len);
        Ok(None)
    }

    /// Rows follow that have no description but the statement's own words.
    fn describe_copy(&mut self, number: u32) -> Result<(), Blocked> {
        let state = self.exchanges.entry(number).or_default();
        let Some(outgoing) = &mut self.outgoing else { return Ok(()) };
        match state.media_type().filter(|_| state.is_copied) {
            Some(media_type) => outgoing.describe(media_type),
            None if self.session.wire_plan().is_some_and(|plan| plan.has_columns()) => {
                let why = "COPY names no columns (say COPY TABLE (COLUMN, …) TO, as text or CSV)";
                if !self.session.may_leave(why)? {
                    let answer = Self::farewell("42501", &format!("masks hide columns from clients, and {why}"));
                    return Err(Blocked::Refused { why: why.into(), answer });
                }
            }
            None => {}
        }
        Ok(())
    }

    fn note_last_word(&self, report: &Report<'_>) -> Result<(), Blocked> {
        let text = |kind| String::from_utf8_lossy(report.get(kind).unwrap_or_default()).into_owned();
        let said = format!("the target said, and not to a statement: {} {}", text(b'C'), text(b'M'));
        let said = said.get(..said.floor_char_boundary(FACT_TEXT_MAX)).unwrap_or_default().to_owned();
        self.session.record(Note { code: "postgres_said".into(), text: said })?;
        Ok(())
    }

    /// The server waits for the client: what has an outcome can have no other.
    fn ready(&mut self, burst: &mut Burst<'_>) {
        self.entering = false;
        // Statements that were made and not run have an outcome, too.
        let mut made: Vec<u32> = self
            .exchanges
            .iter()
            .filter(|(_, state)| !state.told && !state.answered)
            .map(|(number, _)| *number)
            .collect();
        made.sort_unstable();
        let waiting = self.conversation.answered_next() + login::EXCHANGE;
        let idle = self.conversation.is_idle();
        if idle {
            self.teller.settle();
        }
        for number in made.into_iter().filter(|number| idle || *number < waiting) {
            let here = burst.piece.as_ref().is_some_and(|piece| piece.exchange == number);
            let transaction = self.conversation.status();
            let Some(state) = self.exchanges.get_mut(&number) else { continue };
            if here {
                state.answered = true;
            } else if self.held.as_ref().is_none_or(|held| held.exchange != number) {
                let response = state.response(transaction, 0);
                burst.tell(number, response);
            }
        }
        self.flush(burst);
        let few = self.exchanges.len() < POSTGRES_PIPELINE_MAX;
        self.exchanges.retain(|_, state| !state.told || state.suspended && few);
    }
}

/// Whether it is the failure that was asked for by what went in the place of a refused statement, and not the end of the
/// session or of the server, which the client must see as it is.
fn fails_as_sent(report: &Report<'_>) -> bool {
    !matches!(report.severity(), b"FATAL" | b"PANIC")
}
