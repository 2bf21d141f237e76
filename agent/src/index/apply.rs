//! The one writer of the index: records in, rows out, one transaction per batch.
//!
//! Never reads the journal itself and never fails for what a record says: an event that lacks its beginning still gets
//! its row, and numbers beyond a column's range are clamped.

use std::path::Path;

use crewtap_core::bodies::{self, Recovered, RunEnded, RunStarted};
use crewtap_core::chain::Record;
use crewtap_core::event::{Body, Event, Stamp};
use crewtap_core::id::{RunId, SessionId};
use rusqlite::{Connection, Transaction, TransactionBehavior, params};
use serde::Serialize;

use super::held::{Held, HeldRun, Slot};
use super::open::{self, AgentLock, FILE_NAME};
use super::{IndexError, Progress, nanoseconds, number};

/// Takes batches of records; what it refuses may come again.
pub type Sink = Box<dyn FnMut(&[Record]) -> Result<(), String> + Send>;

/// Follows the journal into the index. Holds the writer's lock of the data directory while it lives.
#[derive(Debug)]
pub struct Indexer {
    connection: Connection,
    progress: Progress,
    held: Held,
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
        Ok(Self { connection, progress, held: Held::default(), _lock: Some(lock) })
    }

    /// An index at a path of its own, empty, for [`super::rebuild`], which holds the lock itself.
    pub(super) fn empty(data_dir: &Path, path: &Path) -> Result<Self, IndexError> {
        let connection = open::anew(data_dir, path)?;
        Ok(Self { connection, progress: Progress::default(), held: Held::default(), _lock: None })
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
        // Where the batch fails, what is held of it goes with it.
        let mut batch = Batch { db: &transaction, held: std::mem::take(&mut self.held) };
        for record in new() {
            batch.record(record)?;
        }
        let mut held = batch.held;
        held.write(&transaction)?;
        transaction
            .prepare_cached("UPDATE progress SET next_leaf = ?1, last_wall_ns = ?2, last_mono_ns = ?3 WHERE one = 1")?
            .execute(params![
                nanoseconds(progress.next_leaf),
                last.1.wall_ns.cast_signed(),
                last.1.mono_ns.cast_signed()
            ])?;
        transaction.commit()?;
        held.settle();
        (self.progress, self.held) = (progress, held);
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
    pub(super) held: Held,
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

impl Entry<'_> {
    /// The session, and its id as text.
    pub(super) fn in_session(&self) -> Option<(SessionId, &str)> {
        self.event.session.zip(self.session.as_deref())
    }
}

impl Batch<'_> {
    /// One record's work.
    pub(super) fn record(&mut self, record: &Record) -> Result<(), rusqlite::Error> {
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
            Body::Injected(body) => self.note(&entry, &injected(body)),
            Body::Accepted(body) => self.accepted(&entry, body),
            Body::Dns(body) => self.name(&entry, body),
            Body::Bypass(body) => self.bypass(&entry, body),
            Body::Reconciled(body) => self.reconciled(&entry, body),
            Body::Recovered(body) => self.recovered(&entry, body),
            // The tree's business, and a replay's: `verify` and `replay` read them from the journal.
            Body::Checkpoint(_) | Body::Resized(_) => Ok(()),
            Body::ApprovalAsked(body) => self.approval_asked(&entry, body),
            Body::ApprovalAnswered(body) => self.approval_answered(&entry, body),
            Body::Override(body) => self.overridden(&entry, body),
            Body::PolicyLoaded(body) => self.policy_loaded(&entry, body),
            Body::Unknown { kind, .. } => self.unknown(&entry, kind),
        }
    }

    /// A run's row, also when its first records are gone.
    pub(super) fn run(&mut self, run: RunId, leaf: i64) -> Result<&mut HeldRun, rusqlite::Error> {
        self.held.bring_run(self.db, run)?;
        let new = || Slot { row: HeldRun { id: run.to_string(), leaf, ..HeldRun::default() }, changed: true };
        let slot = self.held.runs.entry(run).or_insert_with(new);
        slot.changed = true;
        Ok(&mut slot.row)
    }

    /// Adds to a counter of the entry's run.
    pub(super) fn count(
        &mut self,
        entry: &Entry,
        counter: fn(&mut HeldRun) -> &mut i64,
        by: i64,
    ) -> Result<(), rusqlite::Error> {
        let Some(run) = entry.event.run else { return Ok(()) };
        self.count_in(run, entry.leaf, counter, by)
    }

    /// Adds to a counter of a run.
    pub(super) fn count_in(
        &mut self,
        run: RunId,
        leaf: i64,
        counter: fn(&mut HeldRun) -> &mut i64,
        by: i64,
    ) -> Result<(), rusqlite::Error> {
        let sum = counter(self.run(run, leaf)?);
        *sum = sum.saturating_add(by).clamp(0, super::NUMBER_MAX);
        Ok(())
    }

    /// Makes an event's words findable.
    pub(super) fn text(&self, entry: &Entry, text: &str) -> Result<(), rusqlite::Error> {
        if text.trim().is_empty() {
            return Ok(());
        }
        self.db
            .prepare_cached("INSERT INTO texts (rowid, text, session, n) VALUES (?1, ?2, ?3, ?4)")?
            .execute(params![entry.leaf, text, entry.session, entry.n])?;
        Ok(())
    }

    fn run_started(&mut self, entry: &Entry, body: &RunStarted) -> Result<(), rusqlite::Error> {
        let Some(run) = entry.event.run else { return Ok(()) };
        let command = body.argv.join(" ");
        let row = self.run(run, entry.leaf)?;
        row.name.clone_from(&body.name);
        row.started_ns = Some(entry.at_ns);
        row.started_mono_ns = Some(nanoseconds(entry.at.mono_ns));
        row.identity = Some(body.identity.id.clone());
        row.identity_name = Some(body.identity.name.clone());
        row.basis = Some(json(&body.identity.basis));
        row.groups = Some(json(&body.identity.groups));
        row.uid = Some(body.uid.into());
        row.command = Some(command.clone());
        row.argv = Some(json(&body.argv));
        row.cwd = Some(body.cwd.clone());
        row.invoker = Some(json(&body.invoker));
        row.mode = word(&body.mode);
        row.cgroup = Some(nanoseconds(body.cgroup));
        row.host = Some(body.host.clone());
        row.kernel = Some(body.kernel.clone());
        row.version = Some(body.version.clone());
        row.boot_id = Some(body.boot_id.clone());
        let name = body.name.as_deref().unwrap_or_default();
        self.text(entry, &format!("{name} {command} {} {} {}", body.cwd, body.identity.name, body.host))
    }

    fn run_ended(&mut self, entry: &Entry, body: &RunEnded) -> Result<(), rusqlite::Error> {
        let Some(run) = entry.event.run else { return Ok(()) };
        // A lost run is ended by the next agent, perhaps after a reboot: how long it lasted is not known.
        let lost = body.outcome == crewtap_core::run::RunOutcome::Lost;
        let row = self.run(run, entry.leaf)?;
        row.ended_ns = Some(entry.at_ns);
        row.duration_us = row.started_mono_ns.filter(|_| !lost).map(|started| microseconds(started, entry.at));
        row.outcome = word(&body.outcome);
        row.status = body.status.map(i64::from);
        row.end_leaf = Some(entry.leaf);
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
            self.count(entry, |run| &mut run.processes, 1)?;
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
            self.count(entry, |run| &mut run.processes, 1)?;
            self.db
                .prepare_cached(
                    "INSERT INTO processes (leaf, run, at_ns, pid, ended_ns, status, end_leaf)
                     VALUES (?1, ?2, ?3, ?4, ?3, ?5, ?1)",
                )?
                .execute(params![entry.leaf, entry.run, entry.at_ns, body.pid, body.status])?;
        }
        Ok(())
    }

    pub(super) fn note(&mut self, entry: &Entry, body: &bodies::Note) -> Result<(), rusqlite::Error> {
        self.count(entry, |run| &mut run.notes, 1)?;
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
        self.count(entry, |run| &mut run.accepted, 1)?;
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
            self.count(entry, |run| &mut run.names, 1)?;
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
        self.count(entry, |run| &mut run.bypasses, 1)?;
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
        if let Some(run) = entry.event.run {
            let complete = &mut self.run(run, entry.leaf)?.complete;
            *complete = Some(complete.unwrap_or(1).min(body.complete.into()));
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
        self.count(entry, |run| &mut run.unknown, 1)?;
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

/// A credential in use is told where everything is told that an analyst should know.
fn injected(body: &bodies::Injected) -> bodies::Note {
    let bodies::Injected { target, credential, user } = body;
    let text = format!("crewtap logs in to {target} as {user} with the catalog's credential ({credential})");
    bodies::Note { code: "injected".into(), text }
}
