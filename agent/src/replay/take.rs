//! One exchange that can be played: what it was, and where its records lie.

use crate::index::{Exchange, Index, IndexError};

/// The size that a terminal has where its fact does not say one.
const SIZE: (u32, u32) = (80, 24);

/// A terminal as it was asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Terminal {
    /// Its kind, as `xterm-256color`.
    pub term: String,
    /// Columns, in characters.
    pub columns: u32,
    /// Rows, in characters.
    pub rows: u32,
}

/// An exchange that can be played.
#[derive(Clone, PartialEq, Debug)]
pub struct Take {
    /// Its row.
    pub exchange: Exchange,
    /// Its terminal, where it has one.
    pub terminal: Option<Terminal>,
    /// Number of its first record.
    pub first: u64,
    /// Number of its last record, as far as is known.
    pub last: u64,
}

impl Take {
    /// What can be played of an exchange; none where it is neither a terminal nor a command.
    ///
    /// # Errors
    /// When the index fails.
    pub fn of(index: &Index, exchange: Exchange) -> Result<Option<Self>, IndexError> {
        let terminal = exchange.facts.0.get("terminal").and_then(serde_json::Value::as_str).map(Terminal::parse);
        let command = matches!(exchange.verb.as_deref(), Some("EXEC" | "SHELL"));
        if terminal.is_none() && !command {
            return Ok(None);
        }
        let last = index.last_payload(&exchange.session, exchange.n)?;
        let first = exchange.leaf;
        let last = last.max(exchange.end_leaf).unwrap_or(first).max(first);
        Ok(Some(Self { exchange, terminal, first: first.unsigned_abs(), last: last.unsigned_abs() }))
    }

    /// Its number in the session.
    #[must_use]
    pub fn n(&self) -> u32 {
        u32::try_from(self.exchange.n).unwrap_or(u32::MAX)
    }
}

impl Terminal {
    /// Reads `TERM COLUMNSxROWS`.
    fn parse(fact: &str) -> Self {
        let (term, size) = fact.rsplit_once(' ').unwrap_or((fact, ""));
        let size = size.split_once('x').and_then(|(columns, rows)| Some((columns.parse().ok()?, rows.parse().ok()?)));
        // A size of nothing is one that nobody knows.
        let (columns, rows) = size.filter(|size: &(u32, u32)| size.0 > 0 && size.1 > 0).unwrap_or(SIZE);
        Self { term: term.to_owned(), columns, rows }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_of_any_spelling_has_a_size() {
        let size = |fact: &str| {
            let Terminal { term, columns, rows } = Terminal::parse(fact);
            (term, columns, rows)
        };
        assert_eq!(size("xterm 132x43"), ("xterm".into(), 132, 43));
        assert_eq!(size(" 0x0"), (String::new(), 80, 24));
        assert_eq!(size("x"), ("x".into(), 80, 24));
        assert_eq!(size("a b 4294967296x1"), ("a b".into(), 80, 24));
    }
}
