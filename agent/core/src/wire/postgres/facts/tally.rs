//! What was found so far in the statements of a text.
//!
//! Owns the union. Never forgets: what was found stays.

use std::collections::BTreeSet;

use super::words::touches_no_table;
use super::{ANY, EMPTY, Told, UNPARSED};

/// Kinds, the most dangerous first. The one that stands first in it is a text's verb.
const ORDER: &[&str] = &[
    UNPARSED,
    "COPY_PROGRAM",
    "DO",
    "CALL",
    "LOAD",
    "DROP",
    "TRUNCATE",
    "ALTER",
    "GRANT",
    "REVOKE",
    "REASSIGN",
    "SECURITY_LABEL",
    "IMPORT",
    "CREATE",
    "DELETE",
    "MERGE",
    "UPDATE",
    "INSERT",
    "COPY",
    "EXECUTE",
    "SET_ROLE",
    "REFRESH",
    "REINDEX",
    "CLUSTER",
    "VACUUM",
    "ANALYZE",
    "COMMENT",
    "PREPARE_TRANSACTION",
    "CHECKPOINT",
    "DISCARD",
    "PREPARE",
    "DEALLOCATE",
    "DECLARE",
    "FETCH",
    "CLOSE",
    "EXPLAIN",
    "SELECT",
    "LOCK",
    "SET",
    "RESET",
    "NOTIFY",
    "LISTEN",
    "UNLISTEN",
    "SHOW",
    "ROLLBACK",
    "COMMIT",
    "SAVEPOINT",
    "RELEASE",
    "BEGIN",
];

/// What was found.
#[derive(Default)]
pub struct Tally {
    pub kinds: BTreeSet<&'static str>,
    pub tables: BTreeSet<String>,
    pub functions: BTreeSet<String>,
    pub unfiltered: bool,
    pub prepares: Vec<String>,
    pub touches_names: bool,
    pub statements: usize,
}

impl Tally {
    /// A kind was found.
    pub fn kind(&mut self, kind: &'static str) {
        self.kinds.insert(kind);
    }

    /// Any table may be touched, and any function called.
    pub fn anything(&mut self) {
        self.tables.insert(ANY.to_owned());
        self.functions.insert(ANY.to_owned());
    }

    /// Code runs that is not in the text.
    pub fn code(&mut self) {
        self.anything();
        self.unfiltered = true;
        self.touches_names = true;
    }

    /// A function is called.
    pub fn function(&mut self, name: String) {
        if !touches_no_table(&name) {
            self.tables.insert(ANY.to_owned());
            self.touches_names = true;
        }
        // SET under another name.
        if name.trim_start_matches("pg_catalog.") == "set_config" {
            self.kind("SET");
            self.kind("SET_ROLE");
        }
        self.functions.insert(name);
    }

    /// A statement is not understood.
    pub fn unparsed(&mut self) {
        self.kind(UNPARSED);
        self.code();
    }

    /// What the text tells.
    pub fn told(self) -> Told {
        let verb = ORDER.iter().copied().find(|kind| self.kinds.contains(kind));
        let some = self.kinds.iter().next().copied().unwrap_or(EMPTY);
        Told {
            parsed: !self.kinds.contains(UNPARSED),
            verb: verb.unwrap_or(some),
            kinds: self.kinds.into_iter().map(str::to_owned).collect(),
            tables: self.tables,
            functions: self.functions,
            unfiltered: self.unfiltered,
            statements: self.statements,
            prepares: self.prepares,
            touches_names: self.touches_names,
        }
    }
}
