//! Which values of a statement are said to be of a column: in the lists of INSERT, beside a column's name, and in what is copied.
//!
//! Owns the reading of the text's own words. Never knows what columns a table has: where a text names none, none is told.

use std::ops::Range;

use super::TEXT_BYTES_MAX;
use super::lexer::{Kind, Token, tokens};

/// Values of a statement, and the columns that they are said to be of, in lower case.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Named {
    /// Where a value stands in the text, without its quotes, and its column.
    pub values: Vec<(Range<usize>, String)>,
    /// Numbers of parameters, from 0, and their columns.
    pub parameters: Vec<(usize, String)>,
    /// What is copied, where its columns are named.
    pub copied: Option<Copied>,
}

/// What is copied, and how it is written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Copied {
    /// Its columns.
    pub names: Vec<String>,
    /// How its rows are written.
    pub form: Form,
}

/// How the rows of COPY are written, where that is text.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Form {
    /// With quotes, as CSV.
    pub quoted: bool,
    /// What stands between two columns.
    pub delimiter: u8,
}

/// Reads a text; what cannot be read names nothing.
#[must_use]
pub fn named(sql: &str) -> Named {
    if sql.len() > TEXT_BYTES_MAX {
        return Named::default();
    }
    // A text that was cut ends within a string.
    let closed = format!("{sql}'");
    let found = tokens(sql, false).or_else(|_| tokens(&closed, false)).unwrap_or_default();
    let whole = if found.first().is_some_and(|first| is_within(first.text, &closed)) { &closed } else { sql };
    let mut reader = Reader { sql: whole, tokens: &found, named: Named::default() };
    for at in 0..found.len() {
        reader.insert(at);
        reader.beside(at);
        reader.copy(at);
    }
    let mut named = reader.named;
    named.values.retain_mut(|(range, _)| {
        range.end = range.end.min(sql.len());
        range.start < range.end
    });
    named.values.sort_by_key(|(range, _)| range.start);
    // A value that two readings name is one.
    named.values.dedup_by(|one, other| one.0.start < other.0.end);
    named
}

fn is_within(part: &str, whole: &str) -> bool {
    whole.as_bytes().as_ptr_range().contains(&part.as_ptr())
}

struct Reader<'t> {
    sql: &'t str,
    tokens: &'t [Token<'t>],
    named: Named,
}

impl<'t> Reader<'t> {
    fn token(&self, at: usize) -> Option<&'t Token<'t>> {
        self.tokens.get(at)
    }

    fn is(&self, at: usize, keyword: &str) -> bool {
        self.token(at).is_some_and(|token| token.is(keyword))
    }

    fn is_mark(&self, at: usize, mark: &str) -> bool {
        self.token(at).is_some_and(|token| token.is_mark(mark))
    }

    fn name(&self, at: usize) -> Option<String> {
        self.token(at)?.name('\\').ok().map(|name| name.to_lowercase())
    }

    /// Behind a table's name.
    fn table(&self, at: usize) -> Option<usize> {
        self.name(at)?;
        let mut at = at + 1;
        while self.is_mark(at, ".") {
            self.name(at + 1)?;
            at += 2;
        }
        Some(at)
    }

    /// Names in parentheses, and what is behind them.
    fn list(&self, at: usize) -> Option<(Vec<String>, usize)> {
        if !self.is_mark(at, "(") {
            return None;
        }
        let (mut names, mut at) = (Vec::new(), at + 1);
        loop {
            names.push(self.name(at)?);
            match self.token(at + 1)? {
                next if next.is_mark(",") => at += 2,
                next if next.is_mark(")") => return Some((names, at + 2)),
                _ => return None,
            }
        }
    }

    /// `INSERT INTO t (a, b) VALUES (…), (…)`, or a SELECT in the place of VALUES.
    fn insert(&mut self, at: usize) -> Option<()> {
        if !(self.is(at, "insert") && self.is(at + 1, "into")) {
            return None;
        }
        let mut at = self.table(at + 2)?;
        if self.is(at, "as") {
            at += 2;
        }
        let (names, mut at) = self.list(at)?;
        while self.token(at)?.is_one_of(&["overriding", "system", "user", "value"]) {
            at += 1;
        }
        if self.is(at, "select") {
            self.expressions(at + 1, &names);
            return Some(());
        }
        if !self.is(at, "values") {
            return None;
        }
        at += 1;
        while self.is_mark(at, "(") {
            at = self.expressions(at + 1, &names) + 1;
            if self.is_mark(at, ",") {
                at += 1;
            }
        }
        Some(())
    }

    /// Expressions with commas between them, each of a column; where they end.
    fn expressions(&mut self, from: usize, names: &[String]) -> usize {
        const ENDS: [&str; 8] = ["from", "where", "union", "except", "intersect", "returning", "on", "order"];
        let (mut at, mut depth, mut column) = (from, 0usize, 0);
        while let Some(token) = self.token(at) {
            match token.text {
                "(" | "[" => depth += 1,
                ")" | "]" if depth == 0 => return at,
                ")" | "]" => depth -= 1,
                "," if depth == 0 => column += 1,
                ";" => return at,
                _ if depth == 0 && token.is_one_of(&ENDS) => return at,
                _ => {
                    if let Some(name) = names.get(column) {
                        self.value(token, name);
                    }
                }
            }
            at += 1;
        }
        at
    }

    /// `name = 'value'`, `name IN ('value', …)`, `name LIKE 'value'`, and a value before the name.
    fn beside(&mut self, at: usize) -> Option<()> {
        let name = self.name(at)?;
        if self.token(at)?.is_one_of(&["and", "or", "not", "where", "set", "select", "when", "then", "in", "like"]) {
            return None;
        }
        let before = at.checked_sub(2).filter(|value| self.token(value + 1).is_some_and(is_comparison));
        if let Some(value) = before.and_then(|value| self.token(value)) {
            self.value(value, &name);
        }
        let mut next = at + 1;
        if self.is(next, "not") {
            next += 1;
        }
        let operator = self.token(next)?;
        if !is_comparison(operator) && !operator.is_one_of(&["in", "like", "ilike", "similar", "between"]) {
            return None;
        }
        next += 1;
        if self.is_mark(next, "(") {
            self.expressions(next + 1, std::slice::from_ref(&name));
            let mut inner = next + 1;
            // Every element of the list is of the column.
            while let Some(token) = self.token(inner).filter(|token| !token.is_mark(")")) {
                self.value(token, &name);
                inner += 1;
            }
            return Some(());
        }
        self.value(self.token(next)?, &name);
        if self.is(next + 1, "and") && operator.is("between") {
            self.value(self.token(next + 2)?, &name);
        }
        Some(())
    }

    /// A literal or a parameter is of a column.
    fn value(&mut self, token: &Token<'_>, name: &str) {
        match token.kind {
            Kind::Parameter => {
                let number = token.text.get(1..).and_then(|digits| digits.parse::<usize>().ok());
                self.named.parameters.extend(number.and_then(|n| n.checked_sub(1)).map(|n| (n, name.to_owned())));
            }
            Kind::Number => {
                let from = self.at(token);
                self.named.values.push((from..from + token.text.len(), name.to_owned()));
            }
            Kind::Text => {
                let from = self.at(token);
                let (begins, ends) = quotes(token.text);
                self.named.values.push((from + begins..from + token.text.len() - ends, name.to_owned()));
            }
            _ => {}
        }
    }

    fn at(&self, token: &Token<'_>) -> usize {
        token.text.as_ptr().addr().saturating_sub(self.sql.as_ptr().addr())
    }

    /// `COPY t (a, b) TO STDOUT WITH (FORMAT csv, DELIMITER ';')`.
    fn copy(&mut self, at: usize) -> Option<()> {
        if at > 0 || !self.is(at, "copy") {
            return None;
        }
        let at = self.table(at + 1)?;
        let (names, at) = self.list(at)?;
        if !self.token(at)?.is_one_of(&["to", "from"]) {
            return None;
        }
        let rest = self.tokens.get(at..).unwrap_or_default();
        let has = |word: &str| {
            rest.iter().any(|token| token.is(word) || token.text.eq_ignore_ascii_case(&format!("'{word}'")))
        };
        // Of several statements nobody knows which rows are whose.
        let is_last = |number: usize| number + 1 == rest.len();
        let follows = rest.iter().enumerate().any(|(number, token)| token.is_mark(";") && !is_last(number));
        if has("binary") || follows {
            return None;
        }
        let quoted = has("csv");
        let mut delimiter = if quoted { b',' } else { b'\t' };
        // Anything but a plain character is not followed: the names are not told.
        for pair in
            rest.windows(2).filter(|pair| pair.first().is_some_and(|word| word.is_one_of(&["delimiter", "delimiters"])))
        {
            delimiter = match pair.get(1)?.text.as_bytes() {
                [b'\'', byte, b'\''] => *byte,
                [b'E' | b'e', b'\'', b'\\', b't', b'\''] => b'\t',
                _ => return None,
            };
        }
        if has("quote") || has("escape") {
            return None;
        }
        self.named.copied = Some(Copied { names, form: Form { quoted, delimiter } });
        Some(())
    }
}

fn is_comparison(token: &Token<'_>) -> bool {
    token.kind == Kind::Operator
        && token.text != "*"
        && token.text.bytes().all(|byte| b"=<>!~*".contains(&byte))
        && token.text != "=>"
}

/// Bytes before and behind the content of a string.
fn quotes(text: &str) -> (usize, usize) {
    if text.starts_with('$') {
        let tag = text.get(1..).and_then(|rest| rest.find('$')).map_or(1, |at| at + 2);
        return (tag, tag.min(text.len() - tag));
    }
    let begins = text.find('\'').map_or(0, |at| at + 1);
    (begins, usize::from(text.len() > begins && text.ends_with('\'')))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(sql: &str) -> Vec<(String, String)> {
        let named = named(sql);
        named.values.into_iter().map(|(range, name)| (name, sql[range].to_owned())).collect()
    }

    fn of(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn values_are_of_the_columns_that_the_text_names() {
        for (sql, wanted) in [
            (
                "INSERT INTO s.t (a, \"Note\") VALUES (1, 'x'), (2, E'y\\'z'::text)",
                of(&[("a", "1"), ("note", "x"), ("a", "2"), ("note", "y\\'z")]),
            ),
            (
                "insert into t(note,b) select upper('x'), 7 from u where c = 'w'",
                of(&[("note", "x"), ("b", "7"), ("c", "w")]),
            ),
            (
                "UPDATE t SET note = $t$ab$t$, n = n + 1 WHERE t.id = 3 AND 'q' <> b",
                of(&[("note", "ab"), ("id", "3"), ("b", "q")]),
            ),
            (
                "SELECT 1 FROM t WHERE note IN ('a', 'b') OR note NOT LIKE 'c%'",
                of(&[("note", "a"), ("note", "b"), ("note", "c%")]),
            ),
            ("INSERT INTO t (a, note) VALUES (1, 'cut in the mid", of(&[("a", "1"), ("note", "cut in the mid")])),
            ("INSERT INTO t VALUES (1, 'x')", of(&[])),
            ("SELECT 'x' AS note", of(&[])),
            ("broken \"", of(&[])),
        ] {
            assert_eq!(values(sql), wanted, "{sql}");
        }
        let parameters = named("INSERT INTO t (a, note) VALUES ($2, lower($1))").parameters;
        assert_eq!(parameters, [(1, "a".to_owned()), (0, "note".to_owned())]);
    }

    #[test]
    fn what_is_copied_has_the_names_of_its_list() {
        let copied =
            |sql| named(sql).copied.map(|copied| (copied.names.join(" "), copied.form.quoted, copied.form.delimiter));
        assert_eq!(copied("COPY s.t (a, \"B\") TO STDOUT"), Some(("a b".into(), false, b'\t')));
        assert_eq!(
            copied("copy t(a) from stdin with (format csv, delimiter ';', header)"),
            Some(("a".into(), true, b';'))
        );
        assert_eq!(copied("COPY t (a) FROM STDIN (FORMAT 'csv')"), Some(("a".into(), true, b',')));
        for none in
            ["COPY t TO STDOUT", "COPY (SELECT 1) TO STDOUT", "COPY t (a) TO STDOUT (FORMAT binary)", "SELECT 1"]
        {
            assert_eq!(copied(none), None, "{none}");
        }
    }
}
