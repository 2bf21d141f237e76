//! What statements and their answers come to in the neutral set of events.
//!
//! Owns the facts of a statement, kept as long as its name lives, because a prepared one runs a thousand times. Never decides.

use std::collections::HashMap;
use std::rc::Rc;

use crewtap_core::action::{Action, Fact, Facts, Verb};
use crewtap_core::bodies::{Classified, Part, Request};
use crewtap_core::limits::{
    POSTGRES_FACTS_BYTES_MAX, POSTGRES_JUDGED_BYTES_MAX, POSTGRES_STATEMENTS_CACHED_MAX, POSTGRES_TEXT_FACT_MAX,
    SHOWN_LINES_MAX,
};
use crewtap_core::session::Side;
use crewtap_core::wire::postgres::facts::{self, Copied, Reading, Told, UNPARSED, named};
use crewtap_core::wire::postgres::media::{Field, Media};
use crewtap_core::wire::postgres::message::{Bind, Status};
use crewtap_core::wire::postgres::view::{self, Bounds, Piece};
use crewtap_core::wire::postgres::{Columns, Doubt, MEDIA_TYPE, Statement};

use crate::gate::Content;

/// Bytes of a text that are its line in a list.
const SUBJECT_BYTES_MAX: usize = 1024;

/// What a text does, and how it is told.
#[derive(Debug)]
pub(super) struct Described {
    /// The most dangerous kind.
    verb: &'static str,
    /// The text in one line.
    subject: String,
    facts: Facts,
    /// It may make or end names that the protocol knows.
    pub(super) doubt: Option<Doubt>,
    /// It changes no setting, and cannot fail in a way that ends a transaction and what was set in it.
    keeps_settings: bool,
}

/// What a message that can run something comes to.
pub(super) struct Asked<'m> {
    pub(super) described: Rc<Described>,
    /// What is needed to read the values of a Bind.
    pub(super) parameters: Option<String>,
    /// All of the text that would run; none where nobody knows it.
    pub(super) sql: Option<&'m [u8]>,
}

/// Makes events of messages.
pub(super) struct Teller {
    /// Facts of the connection and the log-in, which every exchange has.
    facts: Facts,
    /// What prepared statements do, by the exchange that made them, and the bytes of their texts.
    prepared: HashMap<u32, Rc<Described>>,
    prepared_bytes: usize,
    /// How the server reads a text, as it has told.
    reading: Reading,
    /// The newest exchange whose portal changes no setting when it is executed.
    quiet: u32,
    /// Nothing is on its way that could change that: the server has answered everything, and told every change with it.
    settled: bool,
}

impl Teller {
    pub(super) fn new(classified: &Classified, login: Facts) -> Self {
        let mut facts = classified.target.facts();
        facts.extend(login);
        let (prepared, reading) = (HashMap::new(), Reading::default());
        Self { facts, prepared, prepared_bytes: 0, reading, quiet: 0, settled: false }
    }

    /// The server has told a setting.
    pub(super) fn set(&mut self, name: &[u8], value: &[u8]) {
        match name {
            b"standard_conforming_strings" => self.reading.standard_strings = Some(value == b"on"),
            b"client_encoding" => self.reading.utf8 = value.eq_ignore_ascii_case(b"utf8") || value == b"SQL_ASCII",
            _ => {}
        }
    }

    /// The server has answered everything that was sent, and told every change of a setting with it.
    pub(super) fn settle(&mut self) {
        self.settled = true;
    }

    /// Something was sent that may change a setting, or take a change back by failing: how the next text will be read is not
    /// known before its answer.
    pub(super) fn unsettle(&mut self) {
        self.settled = false;
    }

    /// A text that is sent once.
    pub(super) fn text(&mut self, sql: &[u8]) -> Rc<Described> {
        let described = self.read(sql, self.reading());
        self.unsettle();
        described
    }

    /// A text that a name stands for from now on. The server reads it now: what is set later changes nothing in it.
    pub(super) fn prepare(&mut self, exchange: u32, sql: &[u8]) -> Rc<Described> {
        let described = self.read(sql, self.reading());
        self.settled &= described.keeps_settings;
        self.keep(exchange, sql.len(), described)
    }

    fn reading(&self) -> Reading {
        if self.settled { self.reading } else { Reading::default() }
    }

    fn read(&self, sql: &[u8], reading: Reading) -> Rc<Described> {
        let told = facts::statement(sql, reading);
        let text = sql.get(..POSTGRES_TEXT_FACT_MAX).map_or_else(|| String::from_utf8_lossy(sql), |_| UNPARSED.into());
        self.describe(told, &text, one_line(sql))
    }

    fn keep(&mut self, exchange: u32, bytes: usize, described: Rc<Described>) -> Rc<Described> {
        let bytes = bytes.min(POSTGRES_TEXT_FACT_MAX);
        if self.prepared.len() >= POSTGRES_STATEMENTS_CACHED_MAX
            || self.prepared_bytes + bytes > POSTGRES_FACTS_BYTES_MAX
        {
            self.prepared.clear();
            self.prepared_bytes = 0;
        }
        self.prepared_bytes += bytes;
        self.prepared.insert(exchange, described.clone());
        described
    }

    /// What a statement does that was prepared before; anything where its text is not known.
    pub(super) fn prepared(&mut self, exchange: u32, statement: Option<&Statement>) -> Rc<Described> {
        let Some((statement, sql)) = statement.and_then(|statement| Some((statement, statement.text()?))) else {
            return self.unknown("a statement that is not known by its name");
        };
        let described = match self.prepared.get(&statement.made_by()) {
            Some(described) => described.clone(),
            // How the server has read it then is not known any more.
            None => self.keep(statement.made_by(), sql.len(), self.read(sql, Reading::default())),
        };
        if described.keeps_settings {
            self.quiet = exchange;
        }
        self.settled &= described.keeps_settings;
        described
    }

    /// A portal is executed, perhaps one that was made long ago.
    pub(super) fn executed(&mut self, exchange: u32) {
        self.settled &= exchange == self.quiet;
    }

    /// Something whose text is not known, which may do anything.
    pub(super) fn unknown(&mut self, subject: &str) -> Rc<Described> {
        self.unsettle();
        self.describe(Told::unparsed(), UNPARSED, subject.into())
    }

    fn describe(&self, told: Told, text: &str, subject: String) -> Rc<Described> {
        let verb = told.verb;
        let portals = || ["DECLARE", "CLOSE"].iter().any(|kind| told.kinds.contains(*kind)).then_some(Doubt::Portals);
        let doubt = if told.touches_names { Some(Doubt::All) } else { portals() };
        let keeps_settings = told.kinds.iter().all(|kind| kind == "BEGIN");
        let mut facts = self.facts.clone();
        facts.extend(told.into_facts(text));
        Rc::new(Described { verb, subject, facts, doubt, keeps_settings })
    }
}

impl Described {
    pub(super) fn request(&self, transaction: Status, parameters: Option<String>, len: usize) -> Request {
        let mut facts = self.facts.clone();
        facts.insert("transaction".into(), Fact::Text(transaction.as_str().into()));
        let media_type = parameters.unwrap_or_else(|| MEDIA_TYPE.into());
        let parts = vec![part(media_type, len)];
        Request { verb: self.verb.into(), subject: self.subject.clone(), facts, parts, ..Request::default() }
    }

    /// What an approver sees and a grant is bound to: all of the text that would run, and the values of its parameters.
    pub(super) fn content(sql: &[u8], message: &[u8], parameters: Option<&str>) -> Content<'static> {
        let mut shown = String::from_utf8_lossy(sql).into_owned();
        if let Some(media_type) = parameters {
            let bounds = Bounds { rows: SHOWN_LINES_MAX, bytes: POSTGRES_JUDGED_BYTES_MAX };
            shown.push('\n');
            let piece = Piece { side: Side::Client, media_type, bytes: message };
            shown.push_str(&view::transcript([piece], &[], bounds));
        }
        Content {
            clear: [sql, b"\0", message].concat().into(),
            shown: shown.into_bytes().into(),
            media_type: "text/plain; charset=utf-8".into(),
            ..Content::default()
        }
    }

    pub(super) fn action(&self) -> Action {
        Action { verb: Verb::Query, subject: self.subject.clone(), facts: self.facts.clone() }
    }
}

/// What is needed to read the values of a Bind.
/// `is_named`: masks look for the columns that they are said to be of.
pub(super) fn parameters(bind: &Bind<'_>, statement: Option<&Statement>, is_named: bool) -> Option<String> {
    let types = statement.map(Statement::parameter_types).unwrap_or_default();
    let count = bind.values.len();
    let field = |at| Field { oid: types.get(at).copied().unwrap_or_default(), binary: bind.formats.is_binary(at) };
    let sql = statement.filter(|_| is_named).and_then(Statement::text).and_then(|sql| std::str::from_utf8(sql).ok());
    (count > 0).then(|| {
        let names = sql.map(|sql| of_parameters(sql, count)).unwrap_or_default();
        Media { parameters: (0..count).map(field).collect(), names, ..Media::default() }.to_string()
    })
}

/// The columns that parameters are said to be of; none where no text says any.
fn of_parameters(sql: &str, count: usize) -> Vec<String> {
    let named = named(sql).parameters;
    let last = named.iter().map(|(number, _)| number + 1).max().unwrap_or_default().min(count);
    let mut names = vec![String::new(); last];
    for (number, name) in named {
        if let Some(known) = names.get_mut(number) {
            *known = name;
        }
    }
    names
}

/// What is needed to read rows that are copied; none where nobody has named their columns.
pub(super) fn copied(sql: &[u8]) -> Option<String> {
    let Copied { names, form } = named(std::str::from_utf8(sql).ok()?).copied?;
    Some(Media { names, copied: Some(form), ..Media::default() }.to_string())
}

/// What is needed to read rows that stand alone.
pub(super) fn columns(columns: Option<Columns<'_>>, named: bool) -> Option<String> {
    let field = |(_, oid, binary)| Field { oid, binary };
    let name = |(name, _, _): (&[u8], _, _)| String::from_utf8_lossy(name).into_owned();
    columns.map(|columns| {
        let names = if named { columns.iter().map(name).collect() } else { Vec::new() };
        Media { columns: columns.iter().map(field).collect(), names, ..Media::default() }.to_string()
    })
}

/// One part: messages as they came.
pub(super) fn part(media_type: String, len: usize) -> Part {
    Part { name: "messages".into(), media_type, len: len as u64, coding: None, follows: false }
}

/// A text as one line that a person reads in a list.
fn one_line(sql: &[u8]) -> String {
    let text = String::from_utf8_lossy(sql.get(..SUBJECT_BYTES_MAX).unwrap_or(sql));
    let mut line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if sql.len() > SUBJECT_BYTES_MAX {
        line.push('…');
    }
    line
}
