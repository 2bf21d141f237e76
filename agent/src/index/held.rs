//! Rows that are still being written: runs, sessions and exchanges, held while their events come.
//!
//! A row is read once, changed in memory, and written once for each batch, however many events told of it. The database
//! is the truth: what is held beyond a batch is a copy of what it has, and is dropped with a batch that fails. Never
//! says what an event means.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use crewtap_core::id::{RunId, SessionId};
use crewtap_core::limits;
use rusqlite::{Connection, OptionalExtension, Row, params};

/// A row that is held.
pub(super) struct Slot<R> {
    pub(super) row: R,
    /// The database does not have it so yet.
    pub(super) changed: bool,
}

impl<R> Slot<R> {
    /// The row, where it has changed; from now on it counts as written.
    fn take_changed(&mut self) -> Option<&mut R> {
        std::mem::take(&mut self.changed).then_some(&mut self.row)
    }
}

macro_rules! held {
    ($($(#[$doc:meta])* $name:ident = $table:literal by $key:literal {
        $($column:ident: $type:ty),+ ; $($more:ident: $more_type:ty),* $(,)?
    })+) => {$(
        $(#[$doc])*
        #[derive(Clone, Default)]
        pub(super) struct $name {
            $(pub(super) $column: $type,)+
            $(pub(super) $more: $more_type,)*
        }

        impl $name {
            const SELECT: &str =
                concat!("SELECT ", $("\"", stringify!($column), "\", ",)+ "0 FROM ", $table, " WHERE ", $key);

            fn read(row: &Row) -> rusqlite::Result<Self> {
                let mut next = 0..;
                Ok(Self {
                    $($column: row.get::<_, $type>(next.next().unwrap_or(0))?,)+
                    $($more: Default::default(),)*
                })
            }

            fn write(&self, db: &Connection) -> rusqlite::Result<()> {
                static SQL: LazyLock<String> = LazyLock::new(|| replacing($table, &[$(stringify!($column)),+]));
                db.prepare_cached(&SQL)?.execute(params![$(self.$column),+])?;
                Ok(())
            }
        }

        impl $name {
            #[cfg(test)]
            pub(super) const COLUMNS: &[&str] = &[$(stringify!($column)),+];
        }
    )+};
}

fn replacing(table: &str, columns: &[&str]) -> String {
    let names: Vec<_> = columns.iter().map(|column| format!("\"{column}\"")).collect();
    let places: Vec<_> = (1..=columns.len()).map(|place| format!("?{place}")).collect();
    format!("INSERT OR REPLACE INTO {table} ({}) VALUES ({})", names.join(", "), places.join(", "))
}

type Text = Option<String>;
type Number = Option<i64>;

held! {
    /// A run.
    HeldRun = "runs" by "id = ?1" {
        id: String, leaf: i64, end_leaf: Number, name: Text, started_ns: Number, ended_ns: Number, duration_us: Number,
        started_mono_ns: Number, outcome: Text, status: Number, identity: Text, identity_name: Text, basis: Text, groups: Text,
        uid: Number, command: Text, argv: Text, cwd: Text, invoker: Text, mode: Text, cgroup: Number, host: Text,
        kernel: Text, version: Text, boot_id: Text, processes: i64, sessions: i64, exchanges: i64, refused: i64,
        failed: i64, bytes_up: i64, bytes_down: i64, masked: i64, names: i64, accepted: i64, bypasses: i64, notes: i64,
        unknown: i64, complete: Number ;
    }
    /// A session.
    HeldSession = "sessions" by "id = ?1" {
        id: String, leaf: i64, end_leaf: Number, run: Text, started_ns: Number, ended_ns: Number, first_byte_us: Number,
        duration_us: Number, identity: Text, identity_name: Text, target: Text, address: Text, host: Text, proof: Text,
        protocol: Text, driver: Text, sni: Text, alpn: Text, tls: Text, tls_facts: Text, verdict: Text, outcome: Text,
        error: Text, exchanges: i64, bytes_up: i64, bytes_down: i64, recorded_up: i64, recorded_down: i64, masked: i64,
        pid: Number, tid: Number, uid: Number, comm: Text, exe: Text, client: Text, destination: Text,
        dialled_from: Text, process: Text, origin: Text ;
        newest: u32,
    }
    /// An exchange.
    HeldExchange = "exchanges" by "session = ?1 AND n = ?2" {
        leaf: i64, end_leaf: Number, run: Text, session: String, n: i64, started_ns: Number, started_mono_ns: Number,
        first_byte_us: Number, duration_us: Number, identity: Text, target: Text, protocol: Text, verb: Text,
        subject: Text, outcome: Text, code: Text, count: Number, bytes_up: i64, bytes_down: i64, masked: i64,
        verdict: Text, facts: Text, request_type: Text, request_coding: Text, response_type: Text,
        response_coding: Text ;
        following: bool, listed: bool,
    }
}

impl HeldExchange {
    /// Nothing, or not everything, of its answer is there.
    fn is_unfinished(&self) -> bool {
        self.outcome.is_none() || self.following
    }
}

/// An exchange's place.
pub(super) type Place = (SessionId, u32);

/// All rows that are held.
#[derive(Default)]
pub(super) struct Held {
    pub(super) runs: BTreeMap<RunId, Slot<HeldRun>>,
    pub(super) sessions: BTreeMap<SessionId, Slot<HeldSession>>,
    pub(super) exchanges: BTreeMap<Place, Slot<HeldExchange>>,
}

impl std::fmt::Debug for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Held").field("sessions", &self.sessions.len()).finish_non_exhaustive()
    }
}

impl Held {
    /// Brings a run's row where there is one.
    pub(super) fn bring_run(&mut self, db: &Connection, run: RunId) -> rusqlite::Result<bool> {
        if self.runs.contains_key(&run) {
            return Ok(true);
        }
        let row = db.prepare_cached(HeldRun::SELECT)?.query_row([run.to_string()], HeldRun::read).optional()?;
        let found = row.map(|row| self.runs.insert(run, Slot { row, changed: false }));
        Ok(found.is_some())
    }

    /// The same for a session.
    pub(super) fn bring_session(&mut self, db: &Connection, session: SessionId) -> rusqlite::Result<bool> {
        if self.sessions.contains_key(&session) {
            return Ok(true);
        }
        let id = session.to_string();
        let row = db.prepare_cached(HeldSession::SELECT)?.query_row([&id], HeldSession::read).optional()?;
        let Some(mut row) = row else { return Ok(false) };
        let newest: Option<i64> =
            db.prepare_cached("SELECT max(n) FROM exchanges WHERE session = ?1")?.query_row([&id], |row| row.get(0))?;
        row.newest = newest.and_then(|newest| u32::try_from(newest).ok()).unwrap_or(0);
        self.sessions.insert(session, Slot { row, changed: false });
        Ok(true)
    }

    /// The same for an exchange. Its session's row is held: an exchange beyond its newest is not looked for.
    pub(super) fn bring_exchange(&mut self, db: &Connection, place: Place) -> rusqlite::Result<bool> {
        if self.exchanges.contains_key(&place) {
            return Ok(true);
        }
        let (session, n) = place;
        if self.sessions.get(&session).is_some_and(|slot| n > slot.row.newest) {
            return Ok(false);
        }
        let key = params![session.to_string(), n];
        let row = db.prepare_cached(HeldExchange::SELECT)?.query_row(key, HeldExchange::read).optional()?;
        let Some(mut row) = row else { return Ok(false) };
        row.listed = db
            .prepare_cached("SELECT EXISTS (SELECT 1 FROM unfinished WHERE session = ?1 AND n = ?2)")?
            .query_row(key, |row| row.get(0))?;
        row.following = row.listed && row.outcome.is_some();
        self.exchanges.insert(place, Slot { row, changed: false });
        Ok(true)
    }

    /// Places of a session's exchanges that have no whole answer.
    pub(super) fn unfinished(&mut self, db: &Connection, session: SessionId) -> rusqlite::Result<Vec<Place>> {
        let listed: Vec<u32> = db
            .prepare_cached("SELECT n FROM unfinished WHERE session = ?1")?
            .query_map([session.to_string()], |row| row.get(0))?
            .collect::<Result<_, _>>()?;
        for n in listed {
            self.bring_exchange(db, (session, n))?;
        }
        let all = self.exchanges.range((session, 0)..=(session, u32::MAX));
        Ok(all.filter(|(_, slot)| slot.row.is_unfinished()).map(|(place, _)| *place).collect())
    }

    /// Writes what has changed.
    pub(super) fn write(&mut self, db: &Connection) -> rusqlite::Result<()> {
        for row in self.runs.values_mut().filter_map(Slot::take_changed) {
            row.write(db)?;
        }
        for row in self.sessions.values_mut().filter_map(Slot::take_changed) {
            row.write(db)?;
        }
        for row in self.exchanges.values_mut().filter_map(Slot::take_changed) {
            row.write(db)?;
            let unfinished = row.is_unfinished();
            if unfinished != std::mem::replace(&mut row.listed, unfinished) {
                let sql = if unfinished {
                    "INSERT INTO unfinished VALUES (?1, ?2) ON CONFLICT DO NOTHING"
                } else {
                    "DELETE FROM unfinished WHERE session = ?1 AND n = ?2"
                };
                db.prepare_cached(sql)?.execute(params![row.session, row.n])?;
            }
        }
        Ok(())
    }

    /// Keeps what further events may tell of, as far as the bounds allow; the rest is read again where it is needed.
    pub(super) fn settle(&mut self) {
        self.runs.retain(|_, slot| slot.row.ended_ns.is_none());
        self.sessions.retain(|_, slot| slot.row.outcome.is_none());
        let sessions = &self.sessions;
        self.exchanges.retain(|(session, _), slot| slot.row.is_unfinished() && sessions.contains_key(session));
        if self.runs.len() > limits::ROWS_HELD_MAX {
            self.runs.clear();
        }
        if self.sessions.len() > limits::ROWS_HELD_MAX {
            self.sessions.clear();
        }
        if self.exchanges.len() > limits::ROWS_HELD_MAX {
            self.exchanges.clear();
        }
    }
}
