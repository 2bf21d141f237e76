//! One type per table: its fields are the table's columns, and the keys of `--json`.
//!
//! Says nothing of what a row means; the schema does. A test compares every type with its table.

use rusqlite::Row;
use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ValueRef};
use serde::Serialize;

/// A column that holds a JSON value; `null` where the column is NULL.
#[derive(Clone, PartialEq, Debug, Default, Serialize)]
#[serde(transparent)]
pub struct Json(pub serde_json::Value);

impl FromSql for Json {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        match value {
            ValueRef::Null => Ok(Self::default()),
            ValueRef::Text(text) => {
                serde_json::from_slice(text).map(Self).map_err(|error| FromSqlError::Other(error.into()))
            }
            _ => Err(FromSqlError::InvalidType),
        }
    }
}

impl Json {
    /// The texts of a list.
    pub fn texts(&self) -> impl Iterator<Item = &str> {
        self.0.as_array().into_iter().flatten().filter_map(serde_json::Value::as_str)
    }

    /// The value as the type that was written; its default where it is missing or of a later version.
    #[must_use]
    pub fn parsed<T: serde::de::DeserializeOwned + Default>(&self) -> T {
        serde_json::from_value(self.0.clone()).unwrap_or_default()
    }
}

/// A row of one table.
pub trait FromRow: Sized {
    /// The table.
    const TABLE: &'static str;
    /// Its columns, in the order in which [`FromRow::read`] wants them.
    const COLUMNS: &'static [&'static str];
    /// Reads the columns, from the first on.
    ///
    /// # Errors
    /// When a column has another type.
    fn read(row: &Row) -> rusqlite::Result<Self>;
}

macro_rules! rows {
    ($($(#[$doc:meta])* $name:ident = $table:literal { $($column:ident: $type:ty),+ $(,)? })+) => {$(
        $(#[$doc])*
        #[derive(Clone, PartialEq, Debug, Serialize)]
        #[allow(missing_docs, reason = "columns are documented in schema.sql")]
        pub struct $name {
            $(pub $column: $type,)+
        }

        impl FromRow for $name {
            const TABLE: &'static str = $table;
            const COLUMNS: &'static [&'static str] = &[$(stringify!($column)),+];

            fn read(row: &Row) -> rusqlite::Result<Self> {
                let mut next = 0..;
                Ok(Self { $($column: row.get::<_, $type>(next.next().unwrap_or(0))?,)+ })
            }
        }
    )+

        /// Every table with its columns, for the test that compares them with the schema.
        #[cfg(test)]
        pub(super) const TABLES: &[(&str, &[&str])] = &[$(($table, $name::COLUMNS)),+];
    };
}

rows! {
    /// A run.
    Run = "runs" {
        id: String, leaf: i64, end_leaf: Option<i64>, name: Option<String>, started_ns: Option<i64>,
        ended_ns: Option<i64>, duration_us: Option<i64>, started_mono_ns: Option<i64>, outcome: Option<String>,
        status: Option<i64>, identity: Option<String>, identity_name: Option<String>, basis: Json, groups: Json,
        uid: Option<i64>,
        command: Option<String>, argv: Json, cwd: Option<String>, invoker: Json, mode: Option<String>,
        cgroup: Option<i64>, host: Option<String>, kernel: Option<String>, version: Option<String>,
        boot_id: Option<String>, processes: i64, sessions: i64, exchanges: i64, refused: i64, failed: i64,
        bytes_up: i64, bytes_down: i64, masked: i64, names: i64, accepted: i64, bypasses: i64, notes: i64,
        unknown: i64, complete: Option<bool>,
    }
    /// A program that a process of a run executes.
    Process = "processes" {
        leaf: i64, run: Option<String>, at_ns: i64, start: Option<String>, pid: i64, start_ticks: Option<i64>,
        ppid: Option<i64>, uid: Option<i64>, login_uid: Option<i64>, exe: Option<String>, filename: Option<String>,
        argv: Json, cwd: Option<String>, ancestors: Json, ended_ns: Option<i64>, status: Option<i64>,
        end_leaf: Option<i64>,
    }
    /// A session.
    Session = "sessions" {
        id: String, leaf: i64, end_leaf: Option<i64>, run: Option<String>, started_ns: Option<i64>,
        ended_ns: Option<i64>, first_byte_us: Option<i64>, duration_us: Option<i64>, identity: Option<String>,
        identity_name: Option<String>, target: Option<String>, address: Option<String>, host: Option<String>,
        proof: Option<String>, protocol: Option<String>, driver: Option<String>, sni: Option<String>, alpn: Json,
        tls: Option<String>, tls_facts: Json, verdict: Option<String>, outcome: Option<String>, error: Option<String>, exchanges: i64, bytes_up: i64,
        bytes_down: i64, recorded_up: i64, recorded_down: i64, masked: i64, pid: Option<i64>, tid: Option<i64>,
        uid: Option<i64>, comm: Option<String>, exe: Option<String>, client: Option<String>,
        destination: Option<String>, dialled_from: Option<String>, process: Json, origin: Json,
    }
    /// An exchange of a session.
    Exchange = "exchanges" {
        id: String, leaf: i64, end_leaf: Option<i64>, run: Option<String>, session: String, n: i64,
        started_ns: Option<i64>, started_mono_ns: Option<i64>, first_byte_us: Option<i64>,
        duration_us: Option<i64>, identity: Option<String>, target: Option<String>, protocol: Option<String>,
        verb: Option<String>, subject: Option<String>, outcome: Option<String>, code: Option<String>,
        count: Option<i64>, bytes_up: i64, bytes_down: i64, masked: i64, verdict: Option<String>, facts: Json,
        request_type: Option<String>, request_coding: Option<String>, response_type: Option<String>,
        response_coding: Option<String>,
    }
    /// What policy said of an action.
    Decision = "decisions" {
        leaf: i64, run: Option<String>, session: Option<String>, n: Option<i64>, at_ns: i64, verb: String,
        subject: String, effect: String, policies: Json, mode: String, facts: Json, target: Option<String>,
        overridden: Option<String>, errors: Json,
    }
    /// A question to a human.
    ApprovalRow = "approvals" {
        id: String, leaf: i64, end_leaf: Option<i64>, run: Option<String>, session: Option<String>, n: Option<i64>,
        asked_ns: i64, answered_ns: Option<i64>, expires_ns: i64, identity: String, identity_name: String,
        target: String, verb: String, subject: String, policies: Json, terms: Json, digest: String,
        media_type: String, answer: Option<String>, by: Option<String>, by_name: Option<String>,
        way: Option<String>, reason: Option<String>,
    }
    /// What came after a question.
    AnswerRow = "answers" {
        leaf: i64, approval: String, run: Option<String>, session: Option<String>, n: Option<i64>, at_ns: i64,
        answer: String, by: Option<String>, by_name: Option<String>, way: Option<String>, reason: Option<String>,
        settled: bool,
    }
    /// Somebody let everything pass to a target for a while.
    OverrideRow = "overrides" {
        id: String, leaf: i64, end_leaf: Option<i64>, at_ns: i64, until_ns: i64, ended_ns: Option<i64>,
        target: String, by: String, by_name: String, reason: String, ended_by: Option<String>,
    }
    /// Values that were redacted.
    Mask = "masks" {
        leaf: i64, run: Option<String>, session: Option<String>, n: Option<i64>, at_ns: i64, mask: String,
        count: i64, values: Json,
    }
    /// A name that was looked up, or its answer.
    Name = "names" {
        leaf: i64, run: Option<String>, at_ns: i64, id: i64, transport: String, resolver: String, pid: i64,
        name: String, record: String, answered: bool, code: Option<String>, answers: Json,
    }
    /// A connection that a captured process accepted.
    Accepted = "accepted" {
        leaf: i64, run: Option<String>, at_ns: i64, peer: String, local: String, pid: i64,
    }
    /// Traffic past the proxy.
    Bypass = "bypasses" {
        leaf: i64, run: Option<String>, session: Option<String>, at_ns: i64, kind: String, refused: bool,
        address: Option<String>, pid: Option<i64>, detail: String,
    }
    /// Something that an analyst should know.
    Note = "notes" {
        leaf: i64, run: Option<String>, session: Option<String>, n: Option<i64>, at_ns: i64, code: String,
        text: String,
    }
    /// The kernel's count against ours.
    Reconciliation = "reconciliations" {
        leaf: i64, run: Option<String>, at_ns: i64, established: i64, sessions: i64, refused: i64,
        unattributed: i64, events_lost: i64, bypassed: i64, dropped: i64, map_full: i64, complete: bool,
    }
    /// Records that a crash took.
    Recovery = "recoveries" {
        leaf: i64, at_ns: i64, from_leaf: i64, to_leaf: i64, cut_bytes: i64,
    }
    /// An event of a later version.
    UnknownEvent = "unknown_events" {
        leaf: i64, run: Option<String>, session: Option<String>, n: Option<i64>, at_ns: i64, kind: String,
    }
    /// Where a payload lies.
    Payload = "payloads" {
        session: String, side: String, leaf: i64, n: Option<i64>, part: String, offset: i64, len: i64,
    }
}
