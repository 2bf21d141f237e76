//! Searching: a query's terms as one SQL statement over the view `findable`.
//!
//! Values are always bound; only names out of `SEARCH_COLUMNS` are written into the statement.

use crewtap_core::chain::Record;
use crewtap_core::limits::SEARCHED_STREAM_BYTES;
use rusqlite::types::Value;
use rusqlite::{OptionalExtension, Row, params, params_from_iter};
use serde::Serialize;

use super::passage::Passages;
use super::query::{ColumnKind, Query, Term, Test};
use super::{Index, IndexError};

/// Marks around what matched in a snippet; control characters, which the index never keeps of a payload.
const MATCH_BEGIN: char = '\u{2}';
const MATCH_END: char = '\u{3}';

/// Words of a snippet.
const SNIPPET_WORDS: u32 = 24;

/// Something found.
#[derive(Clone, PartialEq, Debug, Serialize)]
#[allow(missing_docs, reason = "columns are documented in schema.sql")]
pub struct Hit {
    pub kind: String,
    pub leaf: i64,
    pub run: Option<String>,
    pub session: Option<String>,
    pub n: Option<i64>,
    pub at_ns: Option<i64>,
    pub identity: Option<String>,
    pub target: Option<String>,
    pub protocol: Option<String>,
    pub verb: Option<String>,
    pub subject: Option<String>,
    pub outcome: Option<String>,
    /// What matched, with its surroundings.
    pub snippet: Option<String>,
    /// The parts of the snippet: text, and whether it is what was searched.
    #[serde(skip)]
    pub marked: Vec<(String, bool)>,
}

impl Index {
    /// What satisfies all terms, at or after a time, the newest first. `source` reads records of the journal: what a hit says around its words
    /// comes from there, and is missing where it gives none.
    ///
    /// # Errors
    /// When `SQLite` fails.
    pub fn search(
        &self,
        query: &Query,
        (since_ns, limit): (i64, usize),
        source: &dyn Fn(u64) -> Option<Record>,
    ) -> Result<Vec<Hit>, IndexError> {
        let mut statement = Statement::default();
        let mut conditions: Vec<String> = query.terms.iter().map(|term| statement.condition(term)).collect();
        if since_ns > 0 {
            let since = statement.bind(Value::Integer(since_ns));
            conditions.push(format!("at_ns >= {since}"));
        }
        let limit = statement.bind(Value::Integer(i64::try_from(limit).unwrap_or(i64::MAX)));
        let with =
            if statement.texts.is_empty() { String::new() } else { format!("WITH {} ", statement.texts.join(", ")) };
        let sql = format!(
            "{with}SELECT kind, leaf, run, session, n, at_ns, identity, target, protocol, verb, subject, outcome
             FROM findable WHERE {} ORDER BY at_ns DESC, leaf DESC LIMIT {limit}",
            conditions.join(" AND ")
        );
        let mut select = self.connection.prepare(&sql)?;
        let hits = select.query_map(params_from_iter(&statement.values), hit)?;
        let mut hits: Vec<Hit> = hits.collect::<Result<_, _>>()?;
        if let Some(words) = any_words(query) {
            let passages = Passages::new()?;
            for hit in &mut hits {
                self.add_snippet(hit, &words, &passages, source)?;
            }
        }
        Ok(hits)
    }

    fn add_snippet(
        &self,
        hit: &mut Hit,
        words: &str,
        passages: &Passages,
        source: &dyn Fn(u64) -> Option<Record>,
    ) -> Result<(), IndexError> {
        let Some((leaf, session, n)) = self.first_match(hit, words)? else { return Ok(()) };
        let records =
            self.said_with(leaf, session.as_deref(), n)?.into_iter().filter_map(|leaf| source(leaf.unsigned_abs()));
        let sql = format!(
            "SELECT snippet(texts, 0, char({}), char({}), '…', {SNIPPET_WORDS}) FROM texts
             WHERE texts MATCH ?1 AND rowid = ?2",
            u32::from(MATCH_BEGIN),
            u32::from(MATCH_END),
        );
        let snippet = passages.find(records, &sql, params![words, leaf])?;
        hit.marked = snippet.as_deref().map(parts).unwrap_or_default();
        hit.snippet = snippet.map(|text| text.replace([MATCH_BEGIN, MATCH_END], ""));
        Ok(())
    }

    /// The first record of what was found that has one of the words: its leaf, session and exchange.
    fn first_match(&self, hit: &Hit, words: &str) -> Result<Option<Place>, IndexError> {
        // From the first record of what was found on: all matches of all time are not gone through for each.
        let (words, leaf) = (words.to_owned().into(), hit.leaf.into());
        let (place, values): (_, Vec<Value>) = match hit.kind.as_str() {
            "session" => ("rowid >= ?2 AND session = ?3", vec![words, leaf, hit.session.clone().into()]),
            "exchange" => {
                ("rowid >= ?2 AND session = ?3 AND n = ?4", vec![words, leaf, hit.session.clone().into(), hit.n.into()])
            }
            _ => ("rowid = ?2", vec![words, leaf]),
        };
        let sql =
            format!("SELECT rowid, session, n FROM texts WHERE texts MATCH ?1 AND {place} ORDER BY rowid LIMIT 1");
        let mut select = self.connection.prepare_cached(&sql)?;
        let first = select.query_row(params_from_iter(values), |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)));
        Ok(first.optional()?)
    }

    /// The records that are needed to read one: of an exchange also what came before it, which says how it is coded.
    fn said_with(&self, leaf: i64, session: Option<&str>, n: Option<i64>) -> Result<Vec<i64>, IndexError> {
        let sql = "SELECT leaf FROM payloads WHERE session = ?1 AND n = ?2 AND leaf < ?3 AND \"offset\" < ?4";
        let searched = i64::try_from(SEARCHED_STREAM_BYTES).unwrap_or(i64::MAX);
        let mut select = self.connection.prepare_cached(sql)?;
        let before = select.query_map(params![session, n, leaf, searched], |row| row.get(0))?;
        let mut leaves: Vec<i64> = before.collect::<Result<_, _>>()?;
        leaves.sort_unstable();
        leaves.push(leaf);
        Ok(leaves)
    }
}

/// A record's leaf, session and exchange.
type Place = (i64, Option<String>, Option<i64>);

/// A statement in the making: values, and one table of matches per text term.
#[derive(Default)]
struct Statement {
    values: Vec<Value>,
    texts: Vec<String>,
}

impl Statement {
    fn bind(&mut self, value: Value) -> String {
        self.values.push(value);
        format!("?{}", self.values.len())
    }

    fn condition(&mut self, term: &Term) -> String {
        let condition = match &term.test {
            Test::Text { text, prefix } => self.words(text, *prefix),
            Test::Column { column, kind: ColumnKind::Text, value, .. } => self.text(column, value),
            Test::Column { kind: ColumnKind::Person, value, .. } => self.person(value),
            Test::Column { kind: ColumnKind::Group, value, .. } => {
                let pattern = self.bind(Value::Text(glob(value)));
                format!("run IN (SELECT id FROM runs WHERE {})", in_group(&pattern))
            }
            Test::Column { column, kind: ColumnKind::Id, value, .. } => {
                let value = self.bind(Value::Text(value.to_ascii_uppercase()));
                format!("{column} >= {value} AND {column} < {value} || '~'")
            }
            Test::Column { column, kind: ColumnKind::Number, value, comparison } => {
                let value = self.bind(Value::Integer(value.parse().unwrap_or(i64::MAX)));
                format!("{column} {comparison} {value}")
            }
        };
        // NULL is neither; what is unknown does not have the value.
        if term.negated { format!("NOT coalesce({condition}, 0)") } else { format!("({condition})") }
    }

    /// Words are looked up once; a session has the words of all its records, everything else those of its own.
    fn words(&mut self, text: &str, prefix: bool) -> String {
        let words = self.bind(Value::Text(fts_phrase(text, prefix)));
        let table = format!("words{}", self.texts.len());
        self.texts.push(format!(
            "{table} AS MATERIALIZED (SELECT rowid AS leaf, session, n FROM texts WHERE texts MATCH {words})"
        ));
        format!(
            "CASE kind
                 WHEN 'session' THEN session IN (SELECT session FROM {table})
                 WHEN 'exchange' THEN (session, n) IN (SELECT session, n FROM {table})
                 ELSE leaf IN (SELECT leaf FROM {table})
             END"
        )
    }

    /// What somebody's runs did, and what they have said themselves.
    fn person(&mut self, value: &str) -> String {
        let pattern = self.bind(Value::Text(glob(value)));
        let is_it = is_person(&pattern);
        format!("(run IN (SELECT id FROM runs WHERE {is_it}) OR coalesce({is_it}, 0))")
    }

    /// A whole value without regard to case; a port may be left out; `*` stands for anything.
    fn text(&mut self, column: &str, value: &str) -> String {
        let pattern = self.bind(Value::Text(glob(value)));
        let with_port = self.bind(Value::Text(format!("{}:*", glob(value))));
        format!("(lower({column}) GLOB {pattern} OR lower({column}) GLOB {with_port})")
    }
}

/// Whether a row's identity is somebody; `pattern` is a bound value.
pub(super) fn is_person(pattern: &str) -> String {
    format!(
        "(lower(identity) GLOB {pattern} OR lower(identity_name) GLOB {pattern} OR lower(identity_name) GLOB {pattern} || '@*')"
    )
}

/// Whether a run's identity is in a group; `pattern` is a bound value.
pub(super) fn in_group(pattern: &str) -> String {
    format!(
        "EXISTS (SELECT 1 FROM json_each(groups) WHERE lower(value) GLOB {pattern} OR lower(value) GLOB '*:' || {pattern})"
    )
}

/// A pattern for GLOB that takes only `*` as special.
pub(super) fn glob(value: &str) -> String {
    let special = |c: char| if matches!(c, '[' | '?') { format!("[{c}]") } else { c.to_string() };
    value.to_ascii_lowercase().chars().map(special).collect()
}

/// A text as one FTS5 phrase: inside quotation marks nothing is syntax.
fn fts_phrase(text: &str, prefix: bool) -> String {
    let text = text.replace('\0', " ").replace('"', "\"\"");
    if prefix { format!("\"{text}\" *") } else { format!("\"{text}\"") }
}

/// Any of the words that are searched for, to show where they are.
fn any_words(query: &Query) -> Option<String> {
    let phrases: Vec<String> = query
        .terms
        .iter()
        .filter_map(|term| match &term.test {
            Test::Text { text, prefix } if !term.negated => Some(fts_phrase(text, *prefix)),
            _ => None,
        })
        .collect();
    (!phrases.is_empty()).then(|| phrases.join(" OR "))
}

fn hit(row: &Row) -> rusqlite::Result<Hit> {
    Ok(Hit {
        kind: row.get(0)?,
        leaf: row.get(1)?,
        run: row.get(2)?,
        session: row.get(3)?,
        n: row.get(4)?,
        at_ns: row.get(5)?,
        identity: row.get(6)?,
        target: row.get(7)?,
        protocol: row.get(8)?,
        verb: row.get(9)?,
        subject: row.get(10)?,
        outcome: row.get(11)?,
        snippet: None,
        marked: Vec::new(),
    })
}

/// Splits a snippet at its marks.
fn parts(snippet: &str) -> Vec<(String, bool)> {
    let mut parts = Vec::new();
    for (at, piece) in snippet.split(MATCH_BEGIN).enumerate() {
        match piece.split_once(MATCH_END) {
            Some((matched, after)) if at > 0 => {
                parts.push((matched.to_owned(), true));
                parts.push((after.to_owned(), false));
            }
            _ => parts.push((piece.to_owned(), false)),
        }
    }
    parts.retain(|(text, _)| !text.is_empty());
    parts
}
