//! The language of `crewtap search`: `word`, `"a phrase"`, `column:value`, a `-` before any of them, joined by and.
//!
//! Pure: text in, terms out. Nothing of what is typed becomes SQL or full-text syntax; terms are bound or quoted.

/// Columns that can be searched, and how.
pub const SEARCH_COLUMNS: &[(&str, ColumnKind)] = &[
    ("kind", ColumnKind::Text),
    ("run", ColumnKind::Id),
    ("session", ColumnKind::Id),
    ("identity", ColumnKind::Person),
    ("group", ColumnKind::Group),
    ("identity_name", ColumnKind::Text),
    ("target", ColumnKind::Text),
    ("address", ColumnKind::Text),
    ("host", ColumnKind::Text),
    ("sni", ColumnKind::Text),
    ("protocol", ColumnKind::Text),
    ("verb", ColumnKind::Text),
    ("subject", ColumnKind::Text),
    ("outcome", ColumnKind::Text),
    ("code", ColumnKind::Text),
    ("verdict", ColumnKind::Text),
    ("exe", ColumnKind::Text),
    ("name", ColumnKind::Text),
    ("pid", ColumnKind::Number),
    ("n", ColumnKind::Number),
    ("count", ColumnKind::Number),
    ("bytes_up", ColumnKind::Number),
    ("bytes_down", ColumnKind::Number),
    ("duration_us", ColumnKind::Number),
    ("masked", ColumnKind::Number),
];

/// How a column is compared.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ColumnKind {
    /// Whole, without regard to case; `*` stands for anything; a port may be left out.
    Text,
    /// Whom a run belongs to: by id, by name, by the part of an address before the `@`; otherwise as a text.
    Person,
    /// A group of whom a run belongs to: whole, or without what stands before its last colon.
    Group,
    /// By any prefix.
    Id,
    /// Equal, or `>` or `<` a number.
    Number,
}

/// What was asked for: terms that must all hold.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Query {
    /// The terms, as typed.
    pub terms: Vec<Term>,
}

/// One condition.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Term {
    /// Whether it must not hold.
    pub negated: bool,
    /// What it looks at.
    pub test: Test,
}

/// What a term looks at.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Test {
    /// The text has these words one after another; the last one may go on when `prefix` is set.
    Text {
        /// The words as typed.
        text: String,
        /// Whether the last word is only its beginning.
        prefix: bool,
    },
    /// A column has a value.
    Column {
        /// Name, one of [`SEARCH_COLUMNS`].
        column: &'static str,
        /// How the value is compared.
        kind: ColumnKind,
        /// The value, without its comparison.
        value: String,
        /// `=`, `<` or `>`; always `=` for texts.
        comparison: char,
    },
}

/// A query that says nothing, or something that is not in the language.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// No term at all.
    #[error("nothing to search for: give words, \"a phrase\", column:value, or -term to leave out")]
    Empty,
    /// A quotation mark without its other.
    #[error("the quotation mark after `{0}` is never closed")]
    Unclosed(String),
    /// A column that there is not.
    #[error(
        "there is no column `{column}`{nearest}; columns are {known}; to search for the text, quote it: \"{term}\""
    )]
    Column {
        /// What was typed before the colon.
        column: String,
        /// ` (did you mean …?)`, or nothing.
        nearest: String,
        /// All columns.
        known: String,
        /// The whole term.
        term: String,
    },
    /// A number was expected.
    #[error("`{column}` is a number: {column}:100, {column}:>100 or {column}:<100")]
    Number {
        /// The column.
        column: &'static str,
    },
    /// A word without a letter or digit is in no text.
    #[error("`{0}` has no letter or digit to search for")]
    Wordless(String),
}

impl std::str::FromStr for Query {
    type Err = QueryError;

    fn from_str(text: &str) -> Result<Self, QueryError> {
        let mut rest = text.trim_start();
        let mut terms = Vec::new();
        while !rest.is_empty() {
            let (term, after) = term(rest)?;
            terms.push(term);
            rest = after.trim_start();
        }
        if terms.is_empty() { Err(QueryError::Empty) } else { Ok(Self { terms }) }
    }
}

/// Takes one term off the front.
fn term(text: &str) -> Result<(Term, &str), QueryError> {
    let (negated, text) = match text.strip_prefix('-') {
        Some(rest) if !rest.is_empty() && !rest.starts_with(char::is_whitespace) => (true, rest),
        _ => (false, text),
    };
    if text.starts_with('"') {
        let (phrase, rest) = quoted(text)?;
        return Ok((Term { negated, test: words(phrase, false)? }, rest));
    }
    let word_end = text.find(|c: char| c.is_whitespace() || c == '"').unwrap_or(text.len());
    let word = text.get(..word_end).unwrap_or_default();
    if let Some((column, value)) = word.split_once(':').filter(|(column, value)| names_column(column, value)) {
        let after_colon = text.get(column.len() + 1..).unwrap_or_default();
        let (value, rest) = if value.is_empty() && after_colon.starts_with('"') {
            quoted(after_colon)?
        } else {
            (value.to_owned(), text.get(word_end..).unwrap_or_default())
        };
        return Ok((Term { negated, test: column_test(column, value, word)? }, rest));
    }
    let rest = text.get(word_end..).unwrap_or_default();
    let (word, prefix) = word.strip_suffix('*').map_or((word, false), |beginning| (beginning, true));
    Ok((Term { negated, test: words(word.to_owned(), prefix)? }, rest))
}

/// Whether `column:value` is meant as such: `http://…` and `10.0.0.1:80` are not.
fn names_column(column: &str, value: &str) -> bool {
    let is_name = !column.is_empty() && column.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    is_name && !value.starts_with("//")
}

/// A quoted text: `""` inside stands for one quotation mark.
fn quoted(text: &str) -> Result<(String, &str), QueryError> {
    let mut out = String::new();
    let mut rest = text.get(1..).unwrap_or_default();
    loop {
        let Some((before, after)) = rest.split_once('"') else {
            return Err(QueryError::Unclosed(text.chars().take(20).collect()));
        };
        out.push_str(before);
        match after.strip_prefix('"') {
            Some(more) => {
                out.push('"');
                rest = more;
            }
            None => return Ok((out, after)),
        }
    }
}

fn words(text: String, prefix: bool) -> Result<Test, QueryError> {
    if text.chars().any(char::is_alphanumeric) {
        Ok(Test::Text { text, prefix })
    } else {
        Err(QueryError::Wordless(text))
    }
}

fn column_test(column: &str, value: String, term: &str) -> Result<Test, QueryError> {
    let Some((column, kind)) = SEARCH_COLUMNS.iter().find(|(name, _)| *name == column).copied() else {
        let similar = |name: &&str| strsim::damerau_levenshtein(name, column) <= 2;
        let nearest = SEARCH_COLUMNS.iter().map(|(name, _)| *name).find(similar);
        return Err(QueryError::Column {
            column: column.into(),
            nearest: nearest.map(|name| format!(" (did you mean `{name}`?)")).unwrap_or_default(),
            known: SEARCH_COLUMNS.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", "),
            term: term.into(),
        });
    };
    let (comparison, value) = match (kind, value.chars().next()) {
        (ColumnKind::Number, Some(sign @ ('<' | '>'))) => (sign, value.get(1..).unwrap_or_default().to_owned()),
        _ => ('=', value),
    };
    if kind == ColumnKind::Number && value.parse::<i64>().is_err() {
        return Err(QueryError::Number { column });
    }
    Ok(Test::Column { column, kind, value, comparison })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(text: &str, negated: bool, prefix: bool) -> Term {
        Term { negated, test: Test::Text { text: text.into(), prefix } }
    }

    #[test]
    fn every_form_of_a_term() {
        let query: Query =
            r#"hello -bye "a ""b"" c" sel* target:orders-db -verb:"DROP TABLE" count:>5"#.parse().unwrap();
        let column = |negated, column, kind, value: &str, comparison| Term {
            negated,
            test: Test::Column { column, kind, value: value.into(), comparison },
        };
        assert_eq!(
            query.terms,
            [
                text("hello", false, false),
                text("bye", true, false),
                text("a \"b\" c", false, false),
                text("sel", false, true),
                column(false, "target", ColumnKind::Text, "orders-db", '='),
                column(true, "verb", ColumnKind::Text, "DROP TABLE", '='),
                column(false, "count", ColumnKind::Number, "5", '>'),
            ]
        );
    }

    #[test]
    fn urls_and_addresses_are_text() {
        for word in ["http://host/x", "10.0.0.1:80", "[::1]:443", "Host:x"] {
            assert_eq!(word.parse::<Query>().unwrap().terms, [text(word, false, false)], "{word}");
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        let error = |query: &str| query.parse::<Query>().unwrap_err().to_string();
        assert!(error("").contains("nothing to search for"));
        assert!(error("\"open").contains("never closed"));
        assert!(error("targt:x").contains("did you mean `target`?"));
        assert!(error("pid:many").contains("`pid` is a number"));
        assert!(error("***").contains("no letter or digit"));
    }

    proptest! {
        #[test]
        fn any_text_is_answered_without_a_panic(query in ".{0,60}") {
            let _ = query.parse::<Query>();
        }

        #[test]
        fn any_phrase_survives_quoting(phrase in ".{0,20}[a-z].{0,20}", negated: bool) {
            let sign = if negated { "-" } else { "" };
            let query: Query = format!("{sign}\"{}\"", phrase.replace('"', "\"\"")).parse().unwrap();
            prop_assert_eq!(query.terms, vec![text(&phrase, negated, false)]);
        }
    }
}
