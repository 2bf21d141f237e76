//! The one writer of the index: records in, rows out, one transaction per batch.
//!
//! Never reads the journal itself and never fails for what a record says: an event that lacks its beginning still gets
//! its row, and numbers beyond a column's range are clamped.

use std::path::Path;

use crewtap_core::bodies::{self, Recovered, RunEnded, RunStarted};
use crewtap_core::chain::Record;
use crewtap_core::event::{Body, Event, Stamp};
use crewtap_core::id::RunId;
use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};
use serde::Serialize;

use super::dialogue::Recorded;
use super::open::{self, AgentLock, FILE_NAME};
use super::{IndexError, Progress, nanoseconds, number};

/// Takes batches of records; what it refuses may come again.
pub type Sink = Box<dyn FnMut(&[Record]) -> Result<(), String> + Send>;

/// Follows the journal into the index. Holds the writer's lock of the data directory while it lives.
#[derive(Debug)]
pub struct Indexer {
    connection: Connection,
    progress: Progress,
    _lock: Option<AgentLock>,
}

impl Indexer {
    /// Opens the index of a data directory for writing; makes it when there is none.
    ///
    /// `stamp_at` tells the stamp of the journal's record with a leaf number. Where the index's last record is not
    /// the journal's (the journal lost its end in a power failure and went on, or was replaced), the index starts anew.
    ///
    /// # Errors
    /// [`IndexError::Busy`] when another process writes it, else what `SQLite` or the operating system said.
    pub fn open(data_dir: &Path, stamp_at: impl FnOnce(u64) -> Option<Stamp>) -> Result<Self, IndexError> {
        let lock = AgentLock::take(data_dir)?;
        let path = data_dir.join(FILE_NAME);
        let mut connection = open::for_writing(data_dir, &path)?;
        let mut progress = open::progress(&connection)?;
        if !progress.agrees_with(stamp_at) {
            drop(connection);
            connection = open::anew(data_dir, &path)?;
            progress = open::progress(&connection)?;
        }
        Ok(Self { connection, progress, _lock: Some(lock) })
    }

    /// An index at a path of its own, empty, for [`super::rebuild`], which holds the lock itself.
    pub(super) fn empty(data_dir: &Path, path: &Path) -> Result<Self, IndexError> {
        let connection = open::anew(data_dir, path)?;
        Ok(Self { connection, progress: Progress::default(), _lock: None })
    }

    /// The leaf to go on from: all below are indexed.
    #[must_use]
    pub fn indexed_leaf(&self) -> u64 {
        self.progress.next_leaf
    }

    /// Indexes a batch in one transaction; records that are indexed already are passed over.
    ///
    /// # Errors
    /// When `SQLite` fails (a full disk). The batch is then not indexed at all, and can be given again.
    pub fn apply(&mut self, records: &[Record]) -> Result<(), IndexError> {
        let new = || records.iter().filter(|record| record.leaf >= self.progress.next_leaf);
        let Some(last) = new().map(|record| (record.leaf, record.event.at)).next_back() else {
            return Ok(());
        };
        let progress = Progress { next_leaf: last.0.saturating_add(1), last: Some(last.1) };
        // Immediate: a transaction that began as a reader could not become a writer while a checkpoint runs.
        let transaction = Transaction::new_unchecked(&self.connection, TransactionBehavior::Immediate)?;
        let mut batch = Batch { db: &transaction, recorded: Recorded::default() };
        for record in new() {
            batch.record(record)?;
        }
        batch.settle_all()?;
        transaction
            .prepare_cached("UPDATE progress SET next_leaf = ?1, last_wall_ns = ?2, last_mono_ns = ?3 WHERE one = 1")?
            .execute(params![
                nanoseconds(progress.next_leaf),
                last.1.wall_ns.cast_signed(),
                last.1.mono_ns.cast_signed()
            ])?;
        transaction.commit()?;
        self.progress = progress;
        Ok(())
    }

    /// The leaf to go on from, and what takes records from there on: what a follower of the journal wants.
    #[must_use]
    pub fn into_sink(mut self) -> (u64, Sink) {
        (self.indexed_leaf(), Box::new(move |records| self.apply(records).map_err(|error| error.to_string())))
    }

    #[cfg(test)]
    pub(super) fn connection_for_test(&self) -> &Connection {
        &self.connection
    }

    /// Copies the log back into the database and empties it.
    pub(super) fn finish(self) -> Result<(), IndexError> {
        self.connection.execute_batch("INSERT INTO texts(texts) VALUES ('optimize')")?;
        self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
        Ok(())
    }
}

impl Progress {
    /// Whether the journal has the record that the index ends with.
    pub fn agrees_with(&self, stamp_at: impl FnOnce(u64) -> Option<Stamp>) -> bool {
        self.next_leaf.checked_sub(1).is_none_or(|last| stamp_at(last) == self.last)
    }
}

/// One transaction's work.
pub(super) struct Batch<'t> {
    pub(super) db: &'t Connection,
    pub(super) recorded: Recorded,
}

/// A record on its way into rows, with its ids as text.
pub(super) struct Entry<'r> {
    pub(super) leaf: i64,
    pub(super) run: Option<String>,
    pub(super) session: Option<String>,
    pub(super) n: Option<i64>,
    pub(super) at: Stamp,
    pub(super) at_ns: i64,
    pub(super) event: &'r Event,
    pub(super) payload: &'r [u8],
}

impl Batch<'_> {
    fn record(&mut self, record: &Record) -> Result<(), rusqlite::Error> {
        let event = &record.event;
        let entry = Entry {
            leaf: nanoseconds(record.leaf),
            run: event.run.as_ref().map(RunId::to_string),
            session: event.session.as_ref().map(ToString::to_string),
            n: event.exchange.map(i64::from),
            at: event.at,
            at_ns: nanoseconds(event.at.wall_ns),
            event,
            payload: &record.payload,
        };
        match &event.body {
            Body::RunStarted(body) => self.run_started(&entry, body),
            Body::RunEnded(body) => self.run_ended(&entry, body),
            Body::ProcessStarted(body) => self.process_started(&entry, body),
            Body::ProcessExited(body) => self.process_exited(&entry, body),
            Body::SessionOpened(body) => self.session_opened(&entry, body),
            Body::Classified(body) => self.classified(&entry, body),
            Body::Tls(body) => self.tls(&entry, body),
            Body::Decided(body) => self.decided(&entry, body),
            Body::Request(body) => self.request(&entry, body),
            Body::Response(body) => self.response(&entry, body),
            Body::Chunk(body) => self.chunk(&entry, body),
            Body::Masked(body) => self.masked(&entry, body),
            Body::SessionClosed(body) => self.session_closed(&entry, body),
            Body::Note(body) => self.note(&entry, body),
            Body::Accepted(body) => self.accepted(&entry, body),
            Body::Dns(body) => self.name(&entry, body),
            Body::Bypass(body) => self.bypass(&entry, body),
            Body::Reconciled(body) => self.reconciled(&entry, body),
            Body::Recovered(body) => self.recovered(&entry, body),
            // The tree's business: `verify` reads checkpoints from the journal.
            Body::Checkpoint(_) => Ok(()),
            Body::Unknown { kind, .. } => self.unknown(&entry, kind),
        }
    }

    /// Makes sure that the run has its row, also when its first records are gone.
    fn ensure_run(&self, run: &str, leaf: i64) -> Result<(), rusqlite::Error> {
        self.db
            .prepare_cached("INSERT INTO runs (id, leaf) VALUES (?1, ?2) ON CONFLICT DO NOTHING")?
            .execute(params![run, leaf])?;
        Ok(())
    }

    /// Adds to a counter of the entry's run.
    pub(super) fn count(&self, entry: &Entry, column: &'static str, by: i64) -> Result<(), rusqlite::Error> {
        let Some(run) = &entry.run else { return Ok(()) };
        self.count_in(run, entry.leaf, column, by)
    }

    /// Adds to a counter of a run.
    pub(super) fn count_in(&self, run: &str, leaf: i64, column: &'static str, by: i64) -> Result<(), rusqlite::Error> {
        let sql = format!("UPDATE runs SET {column} = max(0, min({column} + ?2, ?3)) WHERE id = ?1");
        let mut add = self.db.prepare_cached(&sql)?;
        if add.execute(params![run, by, super::NUMBER_MAX])? == 0 {
            self.ensure_run(run, leaf)?;
            add.execute(params![run, by, super::NUMBER_MAX])?;
        }
        Ok(())
    }

    /// Makes an event's words findable.
    pub(super) fn text(&self, entry: &Entry, text: &str) -> Result<(), rusqlite::Error> {
        if text.trim().is_empty() {
            return Ok(());
        }
        self.db
            .prepare_cached("INSERT INTO texts (rowid, text, kind, run, session, n) VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?
            .execute(params![entry.leaf, text, entry.event.body.kind(), entry.run, entry.session, entry.n])?;
        Ok(())
    }

    fn run_started(&mut self, entry: &Entry, body: &RunStarted) -> Result<(), rusqlite::Error> {
        let Some(run) = &entry.run else { return Ok(()) };
        self.ensure_run(run, entry.leaf)?;
        let command = body.argv.join(" ");
        self.db
            .prepare_cached(
                "UPDATE runs SET name = ?2, started_ns = ?3, started_mono_ns = ?4, identity = ?5, identity_name = ?6,
                     basis = ?7, uid = ?8, command = ?9, argv = ?10, cwd = ?11, invoker = ?12, mode = ?13, cgroup = ?14,
                     host = ?15, kernel = ?16, version = ?17, boot_id = ?18
                 WHERE id = ?1",
            )?
            .execute(params![
                run,
                body.name,
                entry.at_ns,
                nanoseconds(entry.at.mono_ns),
                body.identity.id,
                body.identity.name,
                json(&body.identity.basis),
                body.uid,
                command,
                json(&body.argv),
                body.cwd,
                json(&body.invoker),
                word(&body.mode),
                nanoseconds(body.cgroup),
                body.host,
                body.kernel,
                body.version,
                body.boot_id
            ])?;
        let name = body.name.as_deref().unwrap_or_default();
        self.text(entry, &format!("{name} {command} {} {} {}", body.cwd, body.identity.name, body.host))
    }

    fn run_ended(&mut self, entry: &Entry, body: &RunEnded) -> Result<(), rusqlite::Error> {
        let Some(run) = &entry.run else { return Ok(()) };
        self.ensure_run(run, entry.leaf)?;
        let started: Option<i64> = self
            .db
            .prepare_cached("SELECT started_mono_ns FROM runs WHERE id = ?1")?
            .query_row([run], |row| row.get(0))
            .optional()?
            .flatten();
        // A lost run is ended by the next agent, perhaps after a reboot: how long it lasted is not known.
        let lost = body.outcome == crewtap_core::run::RunOutcome::Lost;
        let duration = started.filter(|_| !lost).map(|started| microseconds(started, entry.at));
        self.db
            .prepare_cached(
                "UPDATE runs SET ended_ns = ?2, duration_us = ?3, outcome = ?4, status = ?5, end_leaf = ?6 WHERE id = ?1",
            )?
            .execute(params![run, entry.at_ns, duration, word(&body.outcome), body.status, entry.leaf])?;
        Ok(())
    }

    fn process_started(&mut self, entry: &Entry, body: &bodies::ProcessStarted) -> Result<(), rusqlite::Error> {
        let process = &body.process;
        let known: bool = self
            .db
            .prepare_cached(
                "SELECT EXISTS (SELECT 1 FROM processes WHERE run IS ?1 AND pid = ?2 AND end_leaf IS NULL)",
            )?
            .query_row(params![entry.run, process.pid], |row| row.get(0))?;
        if body.start != crewtap_core::run::Start::Exec || !known {
            self.count(entry, "processes", 1)?;
        }
        self.db
            .prepare_cached(
                "INSERT INTO processes (leaf, run, at_ns, start, pid, start_ticks, ppid, uid, login_uid, exe, filename,
                     argv, cwd, ancestors)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)",
            )?
            .execute(params![
                entry.leaf,
                entry.run,
                entry.at_ns,
                word(&body.start),
                process.pid,
                nanoseconds(process.start_ticks),
                process.ppid,
                process.uid,
                process.login_uid,
                process.exe,
                body.filename,
                json(&process.argv),
                process.cwd,
                json(&process.ancestors)
            ])?;
        let filename = body.filename.as_deref().unwrap_or_default();
        self.text(entry, &format!("{} {filename} {}", process.exe, process.argv.join(" ")))
    }

    fn process_exited(&mut self, entry: &Entry, body: &bodies::ProcessExited) -> Result<(), rusqlite::Error> {
        let ended = self
            .db
            .prepare_cached(
                "UPDATE processes SET ended_ns = ?3, status = ?4, end_leaf = ?5
                 WHERE end_leaf IS NULL
                   AND leaf = (SELECT max(leaf) FROM processes WHERE run IS ?1 AND pid = ?2)",
            )?
            .execute(params![entry.run, body.pid, entry.at_ns, body.status, entry.leaf])?;
        if ended == 0 {
            self.count(entry, "processes", 1)?;
            self.db
                .prepare_cached(
                    "INSERT INTO processes (leaf, run, at_ns, pid, ended_ns, status, end_leaf)
                     VALUES (?1, ?2, ?3, ?4, ?3, ?5, ?1)",
                )?
                .execute(params![entry.leaf, entry.run, entry.at_ns, body.pid, body.status])?;
        }
        Ok(())
    }

    fn note(&mut self, entry: &Entry, body: &bodies::Note) -> Result<(), rusqlite::Error> {
        self.count(entry, "notes", 1)?;
        self.db.prepare_cached("INSERT INTO notes VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)")?.execute(params![
            entry.leaf,
            entry.run,
            entry.session,
            entry.n,
            entry.at_ns,
            body.code,
            body.text
        ])?;
        self.text(entry, &format!("{} {}", body.code, body.text))
    }

    fn accepted(&mut self, entry: &Entry, body: &bodies::Accepted) -> Result<(), rusqlite::Error> {
        self.count(entry, "accepted", 1)?;
        let (peer, local) = (body.peer.to_string(), body.local.to_string());
        self.db.prepare_cached("INSERT INTO accepted VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?.execute(params![
            entry.leaf,
            entry.run,
            entry.at_ns,
            peer,
            local,
            body.pid
        ])?;
        self.text(entry, &format!("{peer} {local}"))
    }

    fn name(&mut self, entry: &Entry, body: &bodies::Dns) -> Result<(), rusqlite::Error> {
        if !body.answered {
            self.count(entry, "names", 1)?;
        }
        self.db
            .prepare_cached("INSERT INTO names VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)")?
            .execute(params![
                entry.leaf,
                entry.run,
                entry.at_ns,
                body.id,
                body.transport,
                body.resolver.to_string(),
                body.pid,
                body.name,
                body.record,
                body.answered,
                body.code,
                json(&body.answers)
            ])?;
        let code = body.code.as_deref().unwrap_or_default();
        self.text(entry, &format!("{} {} {code} {}", body.name, body.record, body.answers.join(" ")))
    }

    fn bypass(&mut self, entry: &Entry, body: &bodies::Bypass) -> Result<(), rusqlite::Error> {
        self.count(entry, "bypasses", 1)?;
        let address = body.address.map(|address| address.to_string());
        self.db.prepare_cached("INSERT INTO bypasses VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)")?.execute(
            params![
                entry.leaf,
                entry.run,
                entry.session,
                entry.at_ns,
                body.kind,
                body.refused,
                address,
                body.pid,
                body.detail
            ],
        )?;
        self.text(entry, &format!("{} {} {}", body.kind, address.unwrap_or_default(), body.detail))
    }

    fn reconciled(&mut self, entry: &Entry, body: &bodies::Reconciled) -> Result<(), rusqlite::Error> {
        if let Some(run) = &entry.run {
            self.ensure_run(run, entry.leaf)?;
            self.db
                .prepare_cached("UPDATE runs SET complete = min(coalesce(complete, 1), ?2) WHERE id = ?1")?
                .execute(params![run, body.complete])?;
        }
        self.db
            .prepare_cached("INSERT INTO reconciliations VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)")?
            .execute(params![
                entry.leaf,
                entry.run,
                entry.at_ns,
                number(body.established),
                number(body.sessions),
                number(body.refused),
                number(body.unattributed),
                number(body.events_lost),
                number(body.bypassed),
                number(body.dropped),
                number(body.map_full),
                body.complete
            ])?;
        Ok(())
    }

    fn recovered(&mut self, entry: &Entry, body: &Recovered) -> Result<(), rusqlite::Error> {
        self.db.prepare_cached("INSERT INTO recoveries VALUES (?1, ?2, ?3, ?4, ?5)")?.execute(params![
            entry.leaf,
            entry.at_ns,
            number(body.from),
            number(body.to),
            number(body.cut_bytes)
        ])?;
        Ok(())
    }

    fn unknown(&mut self, entry: &Entry, kind: &str) -> Result<(), rusqlite::Error> {
        self.count(entry, "unknown", 1)?;
        self.db.prepare_cached("INSERT INTO unknown_events VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?.execute(params![
            entry.leaf,
            entry.run,
            entry.session,
            entry.n,
            entry.at_ns,
            kind
        ])?;
        self.text(entry, kind)
    }
}

/// Time between two monotonic stamps.
pub(super) fn microseconds(from_mono_ns: i64, to: Stamp) -> i64 {
    nanoseconds(to.mono_ns).saturating_sub(from_mono_ns).max(0) / 1000
}

/// A value as a JSON column. The values of events are maps with text keys and always serialize.
pub(super) fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_else(|_| "null".into())
}

/// A one-word enum as the journal spells it.
pub(super) fn word(value: &impl Serialize) -> Option<String> {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => Some(word),
        _ => None,
    }
}
