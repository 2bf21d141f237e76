//! Stamps events and puts them into the journal. What it refuses must not happen (law 1).
//!
//! Never buffers: when a call returns, the record is in the file.

use std::borrow::Cow;

use crewtap_core::bodies::{self, Chunk};
use crewtap_core::event::{Body, Event};
use crewtap_core::id::{RunId, SessionId};
use crewtap_core::session::Side;

use crate::clock;
use crate::journal::{Entry, Journal, JournalError, Position};

/// An event could not be recorded; what it would have told must not be done.
#[derive(Debug, thiserror::Error)]
#[error("cannot be recorded: {0}")]
pub struct Unrecorded(#[from] pub JournalError);

/// One event of a session's exchange (or of the session), with the bytes that it tells of.
#[derive(Debug)]
pub struct Told<'b> {
    /// Number of the exchange, from 1.
    pub exchange: Option<u32>,
    /// What happened.
    pub body: Body,
    /// Bytes, as they may be shown.
    pub payload: Cow<'b, [u8]>,
}

/// Writes events of one agent into its journal.
#[derive(Clone, Debug)]
pub struct Recorder {
    journal: Journal,
}

impl Recorder {
    /// A recorder on this journal.
    #[must_use]
    pub fn new(journal: Journal) -> Self {
        Self { journal }
    }

    /// The journal written to.
    #[must_use]
    pub fn journal(&self) -> &Journal {
        &self.journal
    }

    /// Records an event of the agent itself.
    ///
    /// # Errors
    /// When the journal does not take it.
    pub fn record(&self, body: Body) -> Result<(), Unrecorded> {
        let event = Event::new(clock::now(), body);
        self.journal.append(&[Entry { event: &event, payload: &[] }])?;
        Ok(())
    }

    /// Records an event of a run.
    ///
    /// # Errors
    /// When the journal does not take it.
    pub fn record_in_run(&self, run: RunId, body: Body) -> Result<(), Unrecorded> {
        self.record_in_run_with(run, body, &[]).map(drop)
    }

    /// Records an event of a run, with its payload.
    ///
    /// # Errors
    /// When the journal does not take it.
    pub fn record_in_run_with(&self, run: RunId, body: Body, payload: &[u8]) -> Result<Position, Unrecorded> {
        let event = Event::new(clock::now(), body).in_run(run);
        let closing = matches!(event.body, Body::RunEnded(_) | Body::Reconciled(_));
        self.append(&event, payload, closing)
    }

    /// Records an event of a session, with its payload.
    ///
    /// # Errors
    /// When the journal does not take it.
    pub fn record_in_session(
        &self,
        run: RunId,
        session: SessionId,
        body: Body,
        payload: &[u8],
    ) -> Result<Position, Unrecorded> {
        let event = Event::new(clock::now(), body).in_session(run, session);
        let closing = matches!(event.body, Body::SessionClosed(_));
        self.append(&event, payload, closing)
    }

    /// Records bytes of a stream.
    ///
    /// # Errors
    /// When the journal does not take it.
    pub fn record_chunk(
        &self,
        run: RunId,
        session: SessionId,
        side: Side,
        offset: u64,
        bytes: &[u8],
    ) -> Result<Position, Unrecorded> {
        self.record_in_session(run, session, Chunk::new(side, offset).into(), bytes)
    }

    /// Records what one burst of a session's bytes came to, all of it or nothing.
    ///
    /// # Errors
    /// When the journal does not take it.
    pub fn record_burst(&self, run: RunId, session: SessionId, told: Vec<Told<'_>>) -> Result<Position, Unrecorded> {
        let at = clock::now();
        let told: Vec<(Event, Cow<'_, [u8]>)> = told
            .into_iter()
            .map(|Told { exchange, body, payload }| {
                let event = Event::new(at, body).in_session(run, session);
                (exchange.into_iter().fold(event, Event::in_exchange), payload)
            })
            .collect();
        let payloads: Vec<[&[u8]; 1]> = told.iter().map(|(_, payload)| [&**payload]).collect();
        let entries: Vec<Entry<'_>> =
            told.iter().zip(&payloads).map(|((event, _), payload)| Entry { event, payload }).collect();
        Ok(self.journal.append(&entries)?)
    }

    /// Records something that an analyst should know about the agent itself.
    pub fn note(&self, code: &str, text: String) {
        tracing::warn!(code, "{text}");
        let note = bodies::Note { code: code.into(), text };
        if let Err(error) = self.record(note.into()) {
            tracing::error!(code, %error, "a note was lost");
        }
    }

    fn append(&self, event: &Event, payload: &[u8], closing: bool) -> Result<Position, Unrecorded> {
        let entry = [Entry { event, payload: &[payload] }];
        let position = if closing { self.journal.append_closing(&entry) } else { self.journal.append(&entry) }?;
        Ok(position)
    }
}
