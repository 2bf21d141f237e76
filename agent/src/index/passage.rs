//! What a hit says around its words: its records are indexed once more, in memory and with their texts, because the index
//! keeps words alone.
//!
//! Never writes to the index, and keeps nothing from one hit to the next.

use crewtap_core::chain::Record;
use rusqlite::{Connection, OptionalExtension, Params};

use super::IndexError;
use super::apply::Batch;
use super::held::Held;
use super::open::SCHEMA;

/// What makes a table of texts one of words alone.
const WORDS_ALONE: &str = "content = '', contentless_unindexed = 1,";

/// An index in memory, empty between two hits.
pub(super) struct Passages {
    connection: Connection,
}

impl Passages {
    pub(super) fn new() -> Result<Self, IndexError> {
        let connection = Connection::open_in_memory()?;
        connection.execute_batch(&SCHEMA.replace(WORDS_ALONE, ""))?;
        Ok(Self { connection })
    }

    /// The one value that a statement finds in what these records say.
    pub(super) fn find(
        &self,
        records: impl Iterator<Item = Record>,
        sql: &str,
        values: impl Params,
    ) -> Result<Option<String>, IndexError> {
        // Rolled back when it is dropped.
        let transaction = self.connection.unchecked_transaction()?;
        let mut batch = Batch { db: &transaction, held: Held::default() };
        for record in records {
            batch.record(&record)?;
        }
        Ok(transaction.prepare_cached(sql)?.query_row(values, |row| row.get(0)).optional()?)
    }
}
