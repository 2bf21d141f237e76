//! What an analyst asks of the index; read-only.
//!
//! Never opens the journal: payloads are told by leaf number, whoever wants their bytes reads them there.

use std::path::Path;

use rusqlite::{Connection, OptionalExtension, Params};

use super::rows::{
    Accepted, AnswerRow, ApprovalRow, Bypass, Decision, Exchange, FromRow, Mask, Name, Note, OverrideRow, Payload,
    Process, Reconciliation, Recovery, Run, Session, UnknownEvent,
};
use super::search::{glob, in_group, is_person};
use super::{IndexError, Progress, nanoseconds, open};

/// Ids that an ambiguous prefix lists at most.
const CANDIDATES: usize = 10;

/// Shortest prefix of an id that is shown: the ten characters of its time.
const SHOWN_ID_MIN: usize = 10;

/// Characters of an id.
const ID_LEN: usize = 26;

/// The index, open for reading. Every query sees the newest transaction; nothing is ever written.
#[derive(Debug)]
pub struct Index {
    pub(super) connection: Connection,
}

/// What an id names.
#[derive(Clone, PartialEq, Debug)]
pub enum Found {
    /// A run.
    Run(Box<Run>),
    /// A session.
    Session(Box<Session>),
    /// An exchange.
    Exchange(Box<Exchange>),
}

/// An id that names nothing, or more than one thing.
#[derive(Debug, thiserror::Error)]
pub enum NotFound {
    /// Nothing begins with it.
    #[error("no {what} begins with `{prefix}`")]
    Nothing {
        /// What was typed.
        prefix: String,
        /// What was looked for.
        what: &'static str,
    },
    /// Several do.
    #[error("`{prefix}` is not unique, type more of it; it begins\n  {}", candidates.join("\n  "))]
    Ambiguous {
        /// What was typed.
        prefix: String,
        /// What it could be, with a word on each.
        candidates: Vec<String>,
    },
    /// The index failed.
    #[error(transparent)]
    Index(#[from] IndexError),
}

impl From<rusqlite::Error> for NotFound {
    fn from(error: rusqlite::Error) -> Self {
        Self::Index(error.into())
    }
}

impl Index {
    /// Opens the index of a data directory.
    ///
    /// # Errors
    /// Says in one sentence whether there is none, the caller may not read it, or it is of another version.
    pub fn open(data_dir: &Path) -> Result<Self, IndexError> {
        Ok(Self { connection: open::for_reading(data_dir)? })
    }

    /// How far it is.
    ///
    /// # Errors
    /// When `SQLite` fails.
    pub fn progress(&self) -> Result<Progress, IndexError> {
        Ok(open::progress(&self.connection)?)
    }

    /// The newest runs first, those that started at or after a time.
    ///
    /// # Errors
    /// When `SQLite` fails.
    pub fn runs(&self, since_ns: i64, limit: usize) -> Result<Vec<Run>, IndexError> {
        self.runs_of(since_ns, None, None, limit)
    }

    /// The same, of somebody (as `identity:` of a search takes it) and of who is in a group.
    ///
    /// # Errors
    /// When `SQLite` fails.
    pub fn runs_of(
        &self,
        since_ns: i64,
        who: Option<&str>,
        group: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Run>, IndexError> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let rest = format!(
            "WHERE coalesce(started_ns, 0) >= ?1 AND (?2 IS NULL OR {}) AND (?3 IS NULL OR {})
             ORDER BY started_ns DESC, leaf DESC LIMIT ?4",
            is_person("?2"),
            in_group("?3")
        );
        self.rows(&rest, (since_ns, who.map(glob), group.map(glob), limit))
    }

    /// Runs that began with a record in `from..end` and have no end on record, in order.
    ///
    /// # Errors
    /// When `SQLite` fails.
    pub fn open_runs(&self, from: u64, end: u64, limit: usize) -> Result<Vec<Run>, IndexError> {
        self.unended(from, end, limit)
    }

    /// Sessions that began with a record in `from..end` and have no end on record, in order.
    ///
    /// # Errors
    /// When `SQLite` fails.
    pub fn open_sessions(&self, from: u64, end: u64, limit: usize) -> Result<Vec<Session>, IndexError> {
        self.unended(from, end, limit)
    }

    fn unended<R: FromRow>(&self, from: u64, end: u64, limit: usize) -> Result<Vec<R>, IndexError> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let bounds = (nanoseconds(from), nanoseconds(end), limit);
        self.rows("WHERE ended_ns IS NULL AND leaf >= ?1 AND leaf < ?2 ORDER BY leaf LIMIT ?3", bounds)
    }

    /// Sessions of a run, in order.
    ///
    /// # Errors
    /// When `SQLite` fails.
    pub fn sessions(&self, run: &str) -> Result<Vec<Session>, IndexError> {
        self.rows("WHERE run = ?1 ORDER BY started_ns, leaf", [run])
    }

    /// Exchanges of a session, in order.
    ///
    /// # Errors
    /// When `SQLite` fails.
    pub fn exchanges(&self, session: &str) -> Result<Vec<Exchange>, IndexError> {
        self.rows("WHERE session = ?1 ORDER BY n", [session])
    }

    /// Exchanges of a run, in order.
    ///
    /// # Errors
    /// When `SQLite` fails.
    pub fn exchanges_of_run(&self, run: &str) -> Result<Vec<Exchange>, IndexError> {
        self.rows("WHERE run = ?1 ORDER BY started_ns, leaf", [run])
    }

    /// Programs that the run's processes executed, in order.
    ///
    /// # Errors
    /// When `SQLite` fails.
    pub fn processes(&self, run: &str) -> Result<Vec<Process>, IndexError> {
        self.rows("WHERE run = ?1 ORDER BY leaf", [run])
    }

    /// Decisions of a run, in order.
    ///
    /// # Errors
    /// When `SQLite` fails.
    pub fn decisions(&self, run: &str) -> Result<Vec<Decision>, IndexError> {
        self.rows("WHERE run = ?1 ORDER BY leaf", [run])
    }

    /// Decisions of a session, in order.
    ///
    /// # Errors
    /// When `SQLite` fails.
    pub fn decisions_of_session(&self, session: &str) -> Result<Vec<Decision>, IndexError> {
        self.rows("WHERE session = ?1 ORDER BY leaf", [session])
    }

    /// Questions to humans in a run, in order.
    ///
    /// # Errors
    /// When `SQLite` fails.
    pub fn approvals(&self, run: &str) -> Result<Vec<ApprovalRow>, IndexError> {
        self.rows("WHERE run = ?1 ORDER BY leaf", [run])
    }

    /// What came after the questions of a run, in order.
    ///
    /// # Errors
    /// When `SQLite` fails.
    pub fn answers(&self, run: &str) -> Result<Vec<AnswerRow>, IndexError> {
        self.rows("WHERE run = ?1 ORDER BY leaf", [run])
    }

    /// Questions to humans in a session, in order.
    ///
    /// # Errors
    /// When `SQLite` fails.
    pub fn approvals_of_session(&self, session: &str) -> Result<Vec<ApprovalRow>, IndexError> {
        self.rows("WHERE session = ?1 ORDER BY leaf", [session])
    }

    /// Questions that were asked with a record in `from..end` and have no answer on record, in order.
    ///
    /// # Errors
    /// When `SQLite` fails.
    pub fn open_approvals(&self, from: u64, end: u64, limit: usize) -> Result<Vec<ApprovalRow>, IndexError> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let bounds = (nanoseconds(from), nanoseconds(end), limit);
        self.rows("WHERE answer IS NULL AND leaf >= ?1 AND leaf < ?2 ORDER BY leaf LIMIT ?3", bounds)
    }

    /// Overrides that began with a record before `end`, and at a time were in force and not ended.
    ///
    /// # Errors
    /// When `SQLite` fails.
    pub fn open_overrides(&self, end: u64, at_ns: u64) -> Result<Vec<OverrideRow>, IndexError> {
        let bounds = (nanoseconds(end), nanoseconds(at_ns));
        self.rows("WHERE ended_ns IS NULL AND leaf < ?1 AND until_ns > ?2 ORDER BY leaf", bounds)
    }

    /// Overrides that were in force while a run lasted, and those that something in it passed by.
    ///
    /// # Errors
    /// When `SQLite` fails.
    pub fn overrides_during(&self, run: &Run) -> Result<Vec<OverrideRow>, IndexError> {
        self.rows(
            "WHERE at_ns <= coalesce(?2, at_ns) AND min(until_ns, coalesce(ended_ns, until_ns)) >= coalesce(?1, 0)
                OR id IN (SELECT overridden FROM decisions WHERE run = ?3) ORDER BY leaf",
            (run.started_ns, run.ended_ns, &run.id),
        )
    }

    /// What was redacted in a run.
    ///
    /// # Errors
    /// When `SQLite` fails.
    pub fn masks(&self, run: &str) -> Result<Vec<Mask>, IndexError> {
        self.rows("WHERE run = ?1 ORDER BY leaf", [run])
    }

    /// What was redacted in a session.
    ///
    /// # Errors
    /// When `SQLite` fails.
    pub fn masks_of_session(&self, session: &str) -> Result<Vec<Mask>, IndexError> {
        self.rows("WHERE session = ?1 ORDER BY leaf", [session])
    }

    /// Names looked up in a run, questions and answers.
    ///
    /// # Errors
    /// When `SQLite` fails.
    pub fn names(&self, run: &str) -> Result<Vec<Name>, IndexError> {
        self.rows("WHERE run = ?1 ORDER BY leaf", [run])
    }

    /// Connections that a run accepted.
    ///
    /// # Errors
    /// When `SQLite` fails.
    pub fn accepted(&self, run: &str) -> Result<Vec<Accepted>, IndexError> {
        self.rows("WHERE run = ?1 ORDER BY leaf", [run])
    }

    /// Traffic of a run past the proxy.
    ///
    /// # Errors
    /// When `SQLite` fails.
    pub fn bypasses(&self, run: &str) -> Result<Vec<Bypass>, IndexError> {
        self.rows("WHERE run = ?1 ORDER BY leaf", [run])
    }

    /// Notes of a run.
    ///
    /// # Errors
    /// When `SQLite` fails.
    pub fn notes(&self, run: &str) -> Result<Vec<Note>, IndexError> {
        self.rows("WHERE run = ?1 ORDER BY leaf", [run])
    }

    /// Notes of a session.
    ///
    /// # Errors
    /// When `SQLite` fails.
    pub fn notes_of_session(&self, session: &str) -> Result<Vec<Note>, IndexError> {
        self.rows("WHERE session = ?1 ORDER BY leaf", [session])
    }

    /// The kernel's counts against ours.
    ///
    /// # Errors
    /// When `SQLite` fails.
    pub fn reconciliations(&self, run: &str) -> Result<Vec<Reconciliation>, IndexError> {
        self.rows("WHERE run = ?1 ORDER BY leaf", [run])
    }

    /// Losses of the journal while a run was not yet ended.
    ///
    /// # Errors
    /// When `SQLite` fails.
    pub fn recoveries(&self, run: &Run) -> Result<Vec<Recovery>, IndexError> {
        self.rows("WHERE leaf > ?1 AND leaf < coalesce(?2, leaf + 1) ORDER BY leaf", (run.leaf, run.end_leaf))
    }

    /// Events of a run that this version does not know.
    ///
    /// # Errors
    /// When `SQLite` fails.
    pub fn unknown_events(&self, run: &str) -> Result<Vec<UnknownEvent>, IndexError> {
        self.rows("WHERE run = ?1 ORDER BY leaf", [run])
    }

    /// Where one side's payloads of a session lie, in the order of the stream; of one exchange when it is given.
    ///
    /// # Errors
    /// When `SQLite` fails.
    pub fn payloads(&self, session: &str, side: &str, n: Option<i64>) -> Result<Vec<Payload>, IndexError> {
        self.rows("WHERE session = ?1 AND side = ?2 AND (?3 IS NULL OR n = ?3) ORDER BY leaf", (session, side, n))
    }

    /// What a unique prefix of an id names: a run, a session, or `SESSION.N`.
    ///
    /// # Errors
    /// [`NotFound`] with the candidates when there are several.
    pub fn find(&self, typed: &str) -> Result<Found, NotFound> {
        if let Some((session, n)) = typed.split_once('.') {
            let session = self.find_session(session)?;
            // Any other spelling of a number names nothing.
            let number = n.parse::<i64>().ok().filter(|number| number.to_string() == n);
            let exchange = self.rows::<Exchange>("WHERE session = ?1 AND n = ?2", (session.id, number))?.pop();
            let nothing = || NotFound::Nothing { prefix: typed.into(), what: "exchange" };
            return exchange.map(|exchange| Found::Exchange(Box::new(exchange))).ok_or_else(nothing);
        }
        let prefix = spelled(typed);
        let mut runs: Vec<Run> = self.beginning_with(&prefix)?;
        let mut sessions: Vec<Session> = self.beginning_with(&prefix)?;
        match (runs.len(), sessions.len()) {
            (0, 0) => Err(NotFound::Nothing { prefix: typed.into(), what: "run or session" }),
            (1, 0) => Ok(runs.pop().map(|run| Found::Run(Box::new(run)))),
            (0, 1) => Ok(sessions.pop().map(|session| Found::Session(Box::new(session)))),
            _ => Ok(None),
        }?
        .ok_or_else(|| {
            let runs = runs.iter().map(|run| candidate("run", &run.id, run.command.as_deref()));
            let sessions = sessions.iter().map(|session| candidate("session", &session.id, session.target.as_deref()));
            ambiguous(typed, runs.chain(sessions))
        })
    }

    /// The run that a unique prefix names.
    ///
    /// # Errors
    /// [`NotFound`] with the candidates when there are several.
    pub fn find_run(&self, typed: &str) -> Result<Run, NotFound> {
        let mut runs: Vec<Run> = self.beginning_with(&spelled(typed))?;
        match runs.len() {
            0 => Err(NotFound::Nothing { prefix: typed.into(), what: "run" }),
            1 => runs.pop().ok_or_else(|| NotFound::Nothing { prefix: typed.into(), what: "run" }),
            _ => Err(ambiguous(typed, runs.iter().map(|run| candidate("run", &run.id, run.command.as_deref())))),
        }
    }

    /// The session that a unique prefix names.
    ///
    /// # Errors
    /// [`NotFound`] with the candidates when there are several.
    pub fn find_session(&self, typed: &str) -> Result<Session, NotFound> {
        let mut found: Vec<Session> = self.beginning_with(&spelled(typed))?;
        match found.len() {
            0 => Err(NotFound::Nothing { prefix: typed.into(), what: "session" }),
            1 => found.pop().ok_or_else(|| NotFound::Nothing { prefix: typed.into(), what: "session" }),
            _ => Err(ambiguous(typed, found.iter().map(|one| candidate("session", &one.id, one.target.as_deref())))),
        }
    }

    /// How many characters of an id are enough to name it among all runs and sessions.
    ///
    /// # Errors
    /// When `SQLite` fails.
    pub fn unique_len(&self, id: &str) -> Result<usize, IndexError> {
        let mut len = SHOWN_ID_MIN;
        for table in ["runs", "sessions"] {
            for sql in [
                format!("SELECT max(id) FROM {table} WHERE id < ?1"),
                format!("SELECT min(id) FROM {table} WHERE id > ?1"),
            ] {
                let mut neighbour = self.connection.prepare_cached(&sql)?;
                let neighbour: Option<String> = neighbour.query_row([id], |row| row.get(0)).optional()?.flatten();
                let shared = neighbour
                    .map_or(0, |other| other.bytes().zip(id.bytes()).take_while(|(left, right)| left == right).count());
                len = len.max(shared + 1);
            }
        }
        Ok(len.min(ID_LEN))
    }

    fn beginning_with<R: FromRow>(&self, prefix: &str) -> Result<Vec<R>, IndexError> {
        // '~' sorts after every character of an id; the range is answered by the primary key.
        let limit = i64::try_from(CANDIDATES + 1).unwrap_or(i64::MAX);
        self.rows("WHERE id >= ?1 AND id < ?1 || '~' ORDER BY id LIMIT ?2", (prefix, limit))
    }

    pub(super) fn rows<R: FromRow>(&self, rest: &str, parameters: impl Params) -> Result<Vec<R>, IndexError> {
        let columns = R::COLUMNS.iter().map(|column| format!("\"{column}\"")).collect::<Vec<_>>().join(", ");
        let mut select = self.connection.prepare_cached(&format!("SELECT {columns} FROM {} {rest}", R::TABLE))?;
        let rows = select.query_map(parameters, R::read)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }
}

/// An id as it was typed, in the spelling of the index: upper case, and the letters that Crockford's alphabet
/// reads as digits.
fn spelled(typed: &str) -> String {
    let crockford = |c: char| match c.to_ascii_uppercase() {
        'I' | 'L' => '1',
        'O' => '0',
        c => c,
    };
    typed.chars().map(crockford).collect()
}

fn candidate(what: &str, id: &str, label: Option<&str>) -> String {
    let label: String = label.unwrap_or_default().chars().take(60).collect();
    format!("{what} {id}  {label}")
}

fn ambiguous(typed: &str, candidates: impl Iterator<Item = String>) -> NotFound {
    let mut candidates: Vec<String> = candidates.take(CANDIDATES + 1).collect();
    if candidates.len() > CANDIDATES {
        candidates.truncate(CANDIDATES);
        candidates.push("… and others".into());
    }
    NotFound::Ambiguous { prefix: typed.into(), candidates }
}
