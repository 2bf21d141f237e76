//! Stamps events, masks their texts and puts them into the journal. What it refuses must not happen (law 1).
//!
//! Never buffers: when a call returns, the record is in the file. Payloads come masked: who knows what they are masks them.

use std::borrow::Cow;

use std::sync::{Arc, PoisonError, RwLock};

use crewtap_core::bodies;
use crewtap_core::event::{Body, Event};
use crewtap_core::id::{RunId, SessionId};
use crewtap_core::mask::event::hide;
use crewtap_core::mask::flow::dns_shown;
use crewtap_core::mask::plan::{Finds, Plan, Reaches};

use crate::clock;
use crate::journal::{Formed, Journal, JournalError, Position};

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
    /// Shared by all that were cloned from one.
    masks: Arc<RwLock<Arc<Plan>>>,
}

impl Recorder {
    /// A recorder on this journal; texts are masked as is usual where nothing else is said.
    #[must_use]
    pub fn new(journal: Journal) -> Self {
        Self { journal, masks: Arc::new(RwLock::new(Arc::new(Plan::standard()))) }
    }

    /// One on the same journal with masks of its own, which stay as they are.
    #[must_use]
    pub fn with_masks(&self, masks: Arc<Plan>) -> Self {
        Self { journal: self.journal.clone(), masks: Arc::new(RwLock::new(masks)) }
    }

    /// Other masks hold from now on, for this one and all that share its masks.
    pub fn renew(&self, masks: Arc<Plan>) {
        *self.masks.write().unwrap_or_else(PoisonError::into_inner) = masks;
    }

    fn masks(&self) -> Arc<Plan> {
        self.masks.read().unwrap_or_else(PoisonError::into_inner).clone()
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
        self.append(vec![(Event::new(clock::now(), body), Cow::Borrowed(b""))], false).map(drop)
    }

    /// Records an event of a run.
    ///
    /// # Errors
    /// When the journal does not take it.
    pub fn record_in_run(&self, run: RunId, body: Body) -> Result<(), Unrecorded> {
        self.record_in_run_with(run, body, &[]).map(drop)
    }

    /// Records an event of a run, with its payload, a message of DNS, which is masked here.
    ///
    /// # Errors
    /// When the journal does not take it.
    pub fn record_in_run_with(&self, run: RunId, body: Body, payload: &[u8]) -> Result<Position, Unrecorded> {
        let event = Event::new(clock::now(), body).in_run(run);
        let closing = matches!(event.body, Body::RunEnded(_) | Body::Reconciled(_));
        let payload = match payload {
            [] => Cow::Borrowed(payload),
            // What is found stands in the event's texts, too, and is told with them.
            _ => dns_shown(&self.masks(), payload, &mut Finds::new(&self.journal.store_key())).into(),
        };
        self.append(vec![(event, payload)], closing)
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
        self.append(vec![(event, Cow::Borrowed(payload))], closing)
    }

    /// Records what one burst of a session's bytes came to, all of it or nothing.
    ///
    /// # Errors
    /// When the journal does not take it.
    pub fn record_burst(&self, run: RunId, session: SessionId, told: Vec<Told<'_>>) -> Result<Position, Unrecorded> {
        self.append(Self::events(run, session, told), false)
    }

    /// The same of what has passed already, at a session's end: it may use the reserve of a full disk.
    ///
    /// # Errors
    /// When the journal does not take it.
    pub fn record_last(&self, run: RunId, session: SessionId, told: Vec<Told<'_>>) -> Result<Position, Unrecorded> {
        self.append(Self::events(run, session, told), true)
    }

    fn events(run: RunId, session: SessionId, told: Vec<Told<'_>>) -> Vec<(Event, Cow<'_, [u8]>)> {
        let at = clock::now();
        let event = |Told { exchange, body, payload }| {
            let event = Event::new(at, body).in_session(run, session);
            (exchange.into_iter().fold(event, Event::in_exchange), payload)
        };
        told.into_iter().map(event).collect()
    }

    /// Records something that an analyst should know about the agent itself.
    pub fn note(&self, code: &str, text: String) {
        tracing::warn!(code, "{text}");
        let note = bodies::Note { code: code.into(), text };
        if let Err(error) = self.record(note.into()) {
            tracing::error!(code, %error, "a note was lost");
        }
    }

    fn append(&self, events: Vec<(Event, Cow<'_, [u8]>)>, closing: bool) -> Result<Position, Unrecorded> {
        let masks = self.masks();
        let mut finds = Finds::new(&self.journal.store_key());
        let mut formed: Vec<(Vec<u8>, Cow<'_, [u8]>)> = Vec::with_capacity(events.len());
        for (event, payload) in events {
            let mut bytes = event.to_cbor().map_err(JournalError::from)?;
            hide(&masks, &mut bytes, &mut finds);
            for masked in finds.take(&masks, Reaches::Clear) {
                let masked = Event { body: masked.into(), ..event.clone() };
                formed.push((masked.to_cbor().map_err(JournalError::from)?, Cow::Borrowed(b"")));
            }
            // What ends something comes last.
            formed.push((bytes, payload));
        }
        let payloads: Vec<[&[u8]; 1]> = formed.iter().map(|(_, payload)| [&**payload]).collect();
        let entries: Vec<Formed<'_>> =
            formed.iter().zip(&payloads).map(|((event, _), payload)| Formed { event, payload }).collect();
        let journal = &self.journal;
        Ok(if closing { journal.append_closing(&entries) } else { journal.append_formed(&entries) }?)
    }
}
