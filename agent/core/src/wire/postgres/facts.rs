//! What a statement does, as far as its text tells.
//!
//! Owns the kinds, tables and functions of a text. Never knows what is behind a name: a view, a trigger, a rule, a function
//! of the database can do more than the text says. What is not understood is UNPARSED, and may do anything.

mod columns;
mod depth;
mod filter;
mod fuzzed;
mod lexer;
mod nets;
mod objects;
mod reader;
mod tableless;
mod tally;
mod tree;
mod utility;
mod walk;
mod words;

use std::collections::BTreeSet;

use crate::action::{Fact, Facts};
pub use columns::{Copied, Form, Named, named};
pub use fuzzed::fuzz_postgres_statement;
use lexer::{Token, Unlexed};
use tally::Tally;

/// The kind of what is not understood.
pub const UNPARSED: &str = "UNPARSED";

/// In a set of tables or functions: any that there is.
pub const ANY: &str = "*";

/// The verb of a text without statements.
const EMPTY: &str = "EMPTY";

/// Longest text that is read, in bytes.
const TEXT_BYTES_MAX: usize = 1024 * 1024;

/// Statements that are read in a text; the server's own client sends files of thousands one by one.
const STATEMENTS_MAX: usize = 1000;

/// Parentheses in parentheses: each token is looked at once for each that is open around it.
const PARENTHESES_MAX: usize = 100;

/// Statements in statements: EXPLAIN of CREATE TABLE AS of EXECUTE is the longest that there is.
const NESTED_MAX: usize = 4;

/// What the text of one or more statements tells.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Told {
    /// Kinds of all statements, nested ones included: `SELECT`, `DROP` and `DROP_TABLE`, …; empty for an empty text.
    pub kinds: BTreeSet<String>,
    /// Tables as written, folded as PostgreSQL does; holds `*` where another one may be touched.
    pub tables: BTreeSet<String>,
    /// Functions that are called, folded likewise; holds `*` where another one may be called.
    pub functions: BTreeSet<String>,
    /// A DELETE or UPDATE may meet every row.
    pub unfiltered: bool,
    /// All of the text is understood: `kinds` holds no `UNPARSED`.
    pub parsed: bool,
    /// Statements that are not empty; 0 for an empty text or only comments, 1 where the text is not understood.
    pub statements: usize,
    /// Names that SQL's PREPARE makes; they are the same names as those of the extended protocol.
    pub prepares: Vec<String>,
    /// Named statements may be made, dropped or executed: by PREPARE, EXECUTE, DEALLOCATE, DISCARD, or what may run them.
    pub touches_names: bool,
    /// The most dangerous kind, for a column that shows one; `EMPTY` where there is none.
    pub verb: &'static str,
}

impl Told {
    /// As facts of an action, with the statement's text.
    #[must_use]
    pub fn into_facts(self, text: &str) -> Facts {
        Facts::from([
            ("kinds".to_owned(), Fact::Set(self.kinds)),
            ("tables".to_owned(), Fact::Set(self.tables)),
            ("functions".to_owned(), Fact::Set(self.functions)),
            ("unfiltered".to_owned(), Fact::Bool(self.unfiltered)),
            ("parsed".to_owned(), Fact::Bool(self.parsed)),
            ("text".to_owned(), Fact::Text(text.to_owned())),
        ])
    }

    /// Of a text that is not known, or not understood: it may do anything.
    #[must_use]
    pub fn unparsed() -> Self {
        let mut tally = Tally { statements: 1, ..Tally::default() };
        tally.unparsed();
        tally.told()
    }
}

/// What a text does that is sent as one Query or Parse message, without the NUL at its end.
///
/// A text whose meaning hangs on a setting that is not known is not understood.
#[must_use]
pub fn statement(sql: &[u8], reading: Reading) -> Told {
    let plain = (sql.is_ascii() || reading.utf8) && sql.len() <= TEXT_BYTES_MAX;
    let text = std::str::from_utf8(sql).ok().filter(|text| plain && !text.contains('\0')).ok_or(Unlexed);
    let told = text.and_then(|text| {
        let standard = match reading.standard_strings {
            Some(standard) => standard,
            // Without a backslash all strings end where they seem to.
            None if !hangs_on_strings(text) => true,
            None => return Err(Unlexed),
        };
        let tokens = lexer::tokens(text, !standard)?;
        told(&split(&tokens)?)
    });
    told.unwrap_or_else(|Unlexed| Told::unparsed())
}

/// Whether a backslash may be what it is in `E''` strings, or `U&''` an error.
fn hangs_on_strings(text: &str) -> bool {
    text.contains('\\') || text.as_bytes().windows(2).any(|pair| pair.eq_ignore_ascii_case(b"u&"))
}

/// The session's settings that decide how the server reads a text, as far as they are known when it does.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Reading {
    /// `standard_conforming_strings`, which the server reports.
    pub standard_strings: Option<bool>,
    /// `client_encoding` is known to be UTF8: with another one, a text that is not pure ASCII is not understood.
    pub utf8: bool,
}

fn told(statements: &[&[Token<'_>]]) -> Result<Told, Unlexed> {
    if statements.len() > STATEMENTS_MAX {
        return Err(Unlexed);
    }
    let mut tally = Tally { statements: statements.len(), ..Tally::default() };
    for statement in statements {
        if classify(statement, 0, &mut tally).is_err() {
            tally.unparsed();
        }
    }
    Ok(tally.told())
}

/// The statements of a text that are not empty. Only the actions of a rule have semicolons in parentheses, and only the
/// body of a function in SQL's own form has them outside of any.
fn split<'t, 's>(tokens: &'t [Token<'s>]) -> Result<Vec<&'t [Token<'s>]>, Unlexed> {
    let (mut depth, mut from, mut statements) = (0_usize, 0, Vec::new());
    for (at, token) in tokens.iter().enumerate() {
        if token.is_mark("(") {
            depth += 1;
            if depth > PARENTHESES_MAX {
                return Err(Unlexed);
            }
        } else if token.is_mark(")") {
            depth = depth.checked_sub(1).ok_or(Unlexed)?;
        } else if token.is_mark(";") && depth == 0 {
            statements.extend(tokens.get(from..at));
            from = at + 1;
        } else if token.is("atomic") && at.checked_sub(1).and_then(|at| tokens.get(at)).is_some_and(|it| it.is("begin"))
        {
            return Err(Unlexed);
        }
    }
    statements.extend(tokens.get(from..));
    statements.retain(|statement| !statement.is_empty());
    if depth == 0 { Ok(statements) } else { Err(Unlexed) }
}

/// One statement, or one in another.
fn classify(tokens: &[Token<'_>], nested: usize, tally: &mut Tally) -> Result<(), Unlexed> {
    let first = tokens.first().ok_or(Unlexed)?;
    let writes = ["insert", "update", "delete", "merge"];
    if utility::begins_query(first) || first.is_one_of(&writes) {
        tree::classify(tokens, tally)
    } else if first.kind == lexer::Kind::Word {
        utility::statement(tokens, nested, tally)
    } else {
        Err(Unlexed)
    }
}

#[cfg(test)]
mod tests;
