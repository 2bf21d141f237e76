//! What names stand for: statements and portals, confirmed by the server or on their way to it.
//!
//! Owns the two tables. Never guesses: a name that could stand for two things is waited for, and one that was not seen made,
//! or that there was no room for, is unknown.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use super::super::message::{Formats, Parse, RowDescription};
use crate::limits;

/// Bytes of a name that count: servers look names up by so many (`NAMEDATALEN` less its NUL), so that two longer names
/// may be one.
const NAME_BYTES: usize = 63;

/// One column of a result.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Column {
    /// Its name, in the session's `client_encoding`.
    pub name: Box<[u8]>,
    /// Oid of its type.
    pub oid: u32,
    /// Oid of the table that it comes from, 0 for none.
    pub table: u32,
    /// Whether its values are binary.
    pub binary: bool,
}

impl Column {
    pub(super) fn of(description: &RowDescription<'_>) -> Box<[Self]> {
        let column = |field: super::super::message::Field<'_>| Self {
            name: field.name.into(),
            oid: field.type_oid,
            table: field.table,
            binary: field.binary,
        };
        description.fields().map(column).collect()
    }
}

/// A prepared statement.
#[derive(Debug)]
pub struct Statement {
    /// The exchange of its Parse.
    pub(super) exchange: u32,
    text: Option<Box<[u8]>>,
    types: Box<[u32]>,
    /// A Bind has taken its exchange over.
    pub(super) bound: AtomicBool,
    parameters: OnceLock<Box<[u32]>>,
    columns: OnceLock<Box<[Column]>>,
    kept: Kept,
}

impl Statement {
    /// The exchange of its Parse: no other statement of the connection has the same.
    #[must_use]
    pub const fn made_by(&self) -> u32 {
        self.exchange
    }

    /// What it says; none where it is not known.
    #[must_use]
    pub fn text(&self) -> Option<&[u8]> {
        self.text.as_deref()
    }

    /// Oids of its parameters' types: those that the server told, else those that the client said, of which 0 says nothing.
    #[must_use]
    pub fn parameter_types(&self) -> &[u32] {
        self.parameters.get().map_or(&self.types, |types| types)
    }

    /// The columns of its result, where it was described; the formats are not known here. Empty where it has no result.
    #[must_use]
    pub fn columns(&self) -> Option<&[Column]> {
        self.columns.get().map(|columns| &**columns)
    }

    pub(super) fn described(&self, types: impl Iterator<Item = u32>, bytes: usize) {
        if self.kept.more(bytes) {
            let _ = self.parameters.set(types.collect());
        }
    }

    pub(super) fn has_columns(&self, description: Option<&RowDescription<'_>>, bytes: usize) {
        if self.kept.more(bytes) {
            let _ = self.columns.set(description.map(Column::of).unwrap_or_default());
        }
    }
}

/// A portal.
#[derive(Debug)]
pub(super) struct Portal {
    pub(super) exchange: u32,
    pub(super) statement: Option<Arc<Statement>>,
    formats: Asked,
    columns: OnceLock<Box<[Column]>>,
    kept: Kept,
    /// The names that what it runs may make and end.
    pub(super) doubts: OnceLock<Doubt>,
}

/// Which names may stand for something else from now on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Doubt {
    /// Portals: `DECLARE` and `CLOSE` make and end them.
    Portals,
    /// Statements, too: `PREPARE`, `DEALLOCATE`, `DISCARD`, and anything that is not understood.
    All,
}

/// The formats that a Bind asked results in.
#[derive(Debug)]
pub(super) enum Asked {
    All { binary: bool },
    Each(Box<[bool]>),
    Unknown,
}

impl Asked {
    pub(super) fn of(formats: &Formats<'_>) -> Self {
        let codes = formats.codes();
        match codes.len() {
            0 | 1 => Self::All { binary: formats.is_binary(0) },
            _ => Self::Each(codes.map(|code| code != 0).collect()),
        }
    }
}

impl Portal {
    fn new(exchange: u32, statement: Option<Arc<Statement>>, formats: Asked, kept: Kept) -> Self {
        Self { exchange, statement, formats, columns: OnceLock::new(), kept, doubts: OnceLock::new() }
    }

    /// Columns that were described in so many bytes, where there is room for them; else they are given back.
    pub(super) fn has_columns(&self, columns: Box<[Column]>, bytes: usize) -> Option<Box<[Column]>> {
        if self.columns.get().is_some() {
            return None;
        }
        if !self.kept.more(bytes) {
            return Some(columns);
        }
        self.columns.set(columns).err()
    }

    /// The columns of its rows: as described by themselves, or its statement's in the formats that were asked for.
    pub(super) fn columns(&self) -> Option<Columns<'_>> {
        if let Some(columns) = self.columns.get() {
            return Some(Columns { columns, formats: None });
        }
        let columns = self.statement.as_ref()?.columns()?;
        (!matches!(self.formats, Asked::Unknown)).then_some(Columns { columns, formats: Some(&self.formats) })
    }
}

/// The columns of a result.
#[derive(Clone, Copy, Debug)]
pub struct Columns<'c> {
    pub(super) columns: &'c [Column],
    pub(super) formats: Option<&'c Asked>,
}

impl<'c> Columns<'c> {
    /// How many there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.columns.len()
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.columns.is_empty()
    }

    /// Name, type oid, and whether values are binary, of each in order.
    pub fn iter(&self) -> impl Iterator<Item = (&'c [u8], u32, bool)> + use<'c> {
        let formats = self.formats;
        self.columns.iter().enumerate().map(move |(index, column)| {
            let binary = match formats {
                None | Some(Asked::Unknown) => column.binary,
                Some(Asked::All { binary }) => *binary,
                Some(Asked::Each(each)) => each.get(index).is_some_and(|binary| *binary),
            };
            (&*column.name, column.oid, binary)
        })
    }
}

/// Bytes that are kept for names, over all of a conversation.
#[derive(Clone, Default, Debug)]
struct Budget(Arc<AtomicUsize>);

/// A share of it, given back when it is dropped.
#[derive(Debug)]
struct Kept {
    budget: Budget,
    bytes: AtomicUsize,
}

impl Kept {
    fn new(budget: &Budget) -> Self {
        Self { budget: budget.clone(), bytes: AtomicUsize::new(0) }
    }

    /// Whether there is room for so many more.
    fn more(&self, bytes: usize) -> bool {
        let sum = self.budget.0.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes);
        if sum > limits::POSTGRES_NAMES_BYTES_MAX {
            self.budget.0.fetch_sub(bytes, Ordering::Relaxed);
            return false;
        }
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        true
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.budget.0.fetch_sub(*self.bytes.get_mut(), Ordering::Relaxed);
    }
}

/// What a name stands for when a message that uses it will be read by the server.
#[derive(Debug)]
pub(super) enum Found<T> {
    Is(Arc<T>),
    Unknown,
    /// It depends on an answer that has not come.
    Wait,
}

/// A change on its way to the server.
#[derive(Debug)]
struct Pending<T> {
    serial: u64,
    segment: u64,
    name: Box<[u8]>,
    /// None: the name ends, or stands for something unknown.
    becomes: Option<Arc<T>>,
}

/// The names of one kind.
#[derive(Debug)]
pub(super) struct Table<T> {
    confirmed: HashMap<Box<[u8]>, Arc<T>>,
    pending: VecDeque<Pending<T>>,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self { confirmed: HashMap::new(), pending: VecDeque::new() }
    }
}

impl<T> Table<T> {
    /// What `name` stands for in a message of this segment: what lies between two Syncs. A change that is on its way in the
    /// same segment counts, because a message behind one that fails is skipped; one of an earlier segment may have failed.
    pub(super) fn find(&self, name: &[u8], segment: u64) -> Found<T> {
        let Some(key) = name.get(..name.len().min(NAME_BYTES)) else { return Found::Unknown };
        match self.pending.iter().rev().find(|pending| *pending.name == *key) {
            Some(pending) if pending.segment != segment => return Found::Wait,
            _ if key.len() < name.len() => return Found::Unknown,
            Some(Pending { becomes: Some(becomes), .. }) => return Found::Is(Arc::clone(becomes)),
            Some(_) => return Found::Unknown,
            None => {}
        }
        self.confirmed.get(key).map_or(Found::Unknown, |it| Found::Is(Arc::clone(it)))
    }

    /// The server is asked for a change.
    pub(super) fn propose(&mut self, serial: u64, segment: u64, name: &[u8], becomes: Option<Arc<T>>) {
        // More than the pipeline holds come only while the server skips, and none of them comes true.
        if self.pending.len() >= limits::POSTGRES_PIPELINE_MAX {
            return;
        }
        // A name that is cut by the server ends what the shorter one stands for, and is not known itself.
        let becomes = becomes.filter(|_| name.len() <= NAME_BYTES);
        let name = name.get(..name.len().min(NAME_BYTES)).unwrap_or_default().into();
        self.pending.push_back(Pending { serial, segment, name, becomes });
    }

    /// The change of this message has come true.
    pub(super) fn settle(&mut self, serial: u64) {
        while let Some(Pending { name, becomes, .. }) = self.pending.pop_front_if(|first| first.serial <= serial) {
            let room = self.confirmed.len() < limits::POSTGRES_NAMES_MAX || self.confirmed.contains_key(&name);
            match becomes.filter(|_| room) {
                Some(becomes) => drop(self.confirmed.insert(name, becomes)),
                None => drop(self.confirmed.remove(&name)),
            }
        }
    }

    /// The changes up to this message do not come true.
    pub(super) fn fail(&mut self, serial: u64) {
        while self.pending.pop_front_if(|first| first.serial <= serial).is_some() {}
    }

    /// What `name` stands for is no longer known.
    pub(super) fn forget(&mut self, name: &[u8]) {
        self.confirmed.remove(name);
    }

    /// Nothing that was made before message number `serial` is known any more, but for `but`.
    pub(super) fn doubt(&mut self, serial: u64, but: Option<&Arc<T>>) {
        let stays = |it: &Arc<T>| but.is_some_and(|but| Arc::ptr_eq(but, it));
        self.confirmed.retain(|_, it| stays(it));
        for pending in self.pending.iter_mut().filter(|pending| pending.serial < serial) {
            pending.becomes = pending.becomes.take().filter(stays);
        }
    }

    /// All that the server has confirmed has ended.
    pub(super) fn clear(&mut self) {
        self.confirmed.clear();
    }

    /// The newest change that is on its way, when message number `serial` asks for it.
    pub(super) fn newest(&self, serial: u64) -> Option<&Arc<T>> {
        self.pending.back().filter(|last| last.serial == serial)?.becomes.as_ref()
    }
}

/// Both kinds.
#[derive(Default, Debug)]
pub(super) struct Names {
    pub(super) statements: Table<Statement>,
    pub(super) portals: Table<Portal>,
    budget: Budget,
}

impl Names {
    /// A statement of exchange `exchange`, made by `parse`; none where it was too large to be read.
    pub(super) fn statement(&self, exchange: u32, parse: Option<&Parse<'_>>) -> Arc<Statement> {
        let kept = Kept::new(&self.budget);
        let parse = parse.filter(|parse| kept.more(parse.sql.len() + parse.types.len() * 4));
        Arc::new(Statement {
            exchange,
            text: parse.map(|parse| parse.sql.into()),
            types: parse.map(|parse| parse.types.iter().collect()).unwrap_or_default(),
            bound: AtomicBool::new(false),
            parameters: OnceLock::new(),
            columns: OnceLock::new(),
            kept,
        })
    }

    /// A portal of exchange `exchange`.
    pub(super) fn portal(&self, exchange: u32, statement: Option<Arc<Statement>>, formats: Asked) -> Arc<Portal> {
        Arc::new(Portal::new(exchange, statement, formats, Kept::new(&self.budget)))
    }

    /// Names that were given before message number `serial` may stand for something else, but for `but`.
    pub(super) fn doubt(&mut self, serial: u64, doubt: Doubt, but: Option<&Arc<Portal>>) {
        self.portals.doubt(serial, but);
        if doubt == Doubt::All {
            self.statements.doubt(serial, None);
        }
    }

    /// Message number `serial` has come true.
    pub(super) fn settle(&mut self, serial: u64) {
        self.statements.settle(serial);
        self.portals.settle(serial);
    }

    /// Messages up to number `serial` have failed or were skipped.
    pub(super) fn fail(&mut self, serial: u64) {
        self.statements.fail(serial);
        self.portals.fail(serial);
    }
}
