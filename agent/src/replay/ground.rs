//! Hand-made journals of terminals and commands, for tests.

use std::collections::BTreeMap;

use crewtap_core::action::Fact;
use crewtap_core::bodies::{Chunk, Pending, Request, Resized, Response};
use crewtap_core::chain::Record;
use crewtap_core::event::{Body, Event, Stamp};
use crewtap_core::id::{RunId, SessionId};
use crewtap_core::session::{Outcome, Side};

use super::take::Take;
use crate::cli::store::Evidence;
use crate::index::sample::{BEGIN_NS, Sample};
use crate::index::{Index, Indexer};

/// Records in memory.
pub(crate) struct Memory(pub(crate) Vec<Record>);

impl Evidence for Memory {
    fn record(&self, leaf: u64) -> Result<Option<Record>, String> {
        Ok(self.0.get(usize::try_from(leaf).unwrap()).cloned())
    }

    fn records(&self, from: u64) -> Box<dyn Iterator<Item = Result<Record, String>> + '_> {
        let from = usize::try_from(from).unwrap().min(self.0.len());
        Box::new(self.0[from..].iter().cloned().map(Ok))
    }

    fn count(&self) -> Result<u64, String> {
        Ok(self.0.len() as u64)
    }
}

/// A session that is being made.
pub(crate) struct Story {
    pub(crate) sample: Sample,
    pub(crate) run: RunId,
    pub(crate) session: SessionId,
    n: u32,
    passed: BTreeMap<(u32, &'static str), u64>,
}

impl Story {
    pub(crate) fn new() -> Self {
        let mut sample = Sample::new();
        let (run, session) = (sample.run_id(), sample.session_id());
        sample.start_run(run, &["crewai", "run"]);
        sample.open_session(run, session, "127.9.0.2:22");
        Self { sample, run, session, n: 0, passed: BTreeMap::new() }
    }

    /// The next exchange.
    pub(crate) fn begin(&mut self, at_ms: u64, verb: &str, subject: &str, terminal: Option<&str>) {
        self.n += 1;
        let fact = terminal.map(|terminal| ("terminal".to_owned(), Fact::Text(terminal.to_owned())));
        let facts = fact.into_iter().collect();
        let request = Request { verb: verb.into(), subject: subject.into(), facts, ..Request::default() };
        self.event(at_ms, request, subject.as_bytes());
    }

    pub(crate) fn event(&mut self, at_ms: u64, body: impl Into<Body>, payload: &[u8]) {
        let at = Stamp { wall_ns: BEGIN_NS + at_ms * 1_000_000, mono_ns: 5_000_000_000 + at_ms * 1_000_000 };
        let leaf = self.sample.records.len() as u64;
        let event = Event::new(at, body).in_session(self.run, self.session).in_exchange(self.n);
        self.sample.records.push(Record { leaf, event, payload: payload.to_vec() });
    }

    /// A piece of a stream; behind it so many bytes are not decided.
    pub(crate) fn said(&mut self, at_ms: u64, part: &'static str, bytes: &[u8], pending: u64) {
        let side = if ["keys", "stdin"].contains(&part) { Side::Client } else { Side::Server };
        let offset = self.passed.entry((self.n, part)).or_default();
        let chunk = Chunk {
            part: Some(part.into()),
            pending: (pending > 0).then(|| Pending { len: pending, digest: "0".into() }),
            ..Chunk::new(side, *offset)
        };
        *offset += bytes.len() as u64;
        self.event(at_ms, chunk, bytes);
    }

    pub(crate) fn resized(&mut self, at_ms: u64, columns: u32, rows: u32) {
        self.event(at_ms, Resized { columns, rows }, b"");
    }

    pub(crate) fn ended(&mut self, at_ms: u64, outcome: &str, code: &str) {
        let response = Response { outcome: outcome.into(), code: Some(code.into()), ..Response::default() };
        self.event(at_ms, response, b"");
    }

    pub(crate) fn close(&mut self) {
        self.sample.close(self.run, self.session, Outcome::Completed, 0, 0);
    }

    /// An exchange as it can be played, and what it is played from.
    pub(crate) fn take(&self, n: u32) -> (Take, Memory) {
        let dir = tempfile::tempdir().unwrap();
        Indexer::open(dir.path(), |_| None).unwrap().apply(&self.sample.records).unwrap();
        let index = Index::open(dir.path()).unwrap();
        let exchanges = index.exchanges(&self.session.to_string()).unwrap();
        let exchange = exchanges.into_iter().find(|exchange| exchange.n == i64::from(n)).unwrap();
        (Take::of(&index, exchange).unwrap().unwrap(), Memory(self.sample.records.clone()))
    }
}
