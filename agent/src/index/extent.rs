//! How far an exchange reaches in the journal.
//!
//! Never lists its payloads: there may be millions.

use super::{Index, IndexError};

impl Index {
    /// Number of the last record with a payload of an exchange; data may come behind the response.
    ///
    /// # Errors
    /// When `SQLite` fails.
    pub fn last_payload(&self, session: &str, n: i64) -> Result<Option<i64>, IndexError> {
        let mut last =
            self.connection.prepare_cached("SELECT max(leaf) FROM payloads WHERE session = ?1 AND n = ?2")?;
        Ok(last.query_row((session, n), |row| row.get(0))?)
    }
}
