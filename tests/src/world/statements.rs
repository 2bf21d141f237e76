//! The database's own account of the statements that it ran, and its comparison with the record.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::exchanges::{rows, text};

/// One statement on record.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Statement {
    /// Its text.
    pub text: String,
    /// Its values as the server's log writes them, `$1 = '7'`; empty where it has none.
    pub parameters: String,
    /// The rows that came back; none for NULL.
    pub rows: Vec<Vec<Option<String>>>,
}

/// Differences that an error names.
const NAMED_MAX: usize = 5;

/// See [`super::World::compare_statements`].
pub(super) fn compare(directory: &Path, run: &str, show: impl Fn(&str) -> Result<String>) -> Result<Vec<Statement>> {
    let mut recorded = Vec::new();
    for row in rows(&show(run)?)?.iter().filter(|row| is_statement(row)) {
        recorded.push(statement(row, &rows(&show(text(row, "id"))?)?)?);
    }
    let mut difference: BTreeMap<(String, String), i64> = BTreeMap::new();
    for statement in &recorded {
        *difference.entry((statement.text.clone(), statement.parameters.clone())).or_default() += 1;
    }
    let log = fs::read_to_string(directory.join("postgres.log")).context("cannot read the database's log")?;
    for logged in logged(&log) {
        *difference.entry(logged).or_default() -= 1;
    }
    difference.retain(|_, count| *count != 0);
    let named: Vec<String> = difference
        .iter()
        .take(NAMED_MAX)
        .map(|((text, parameters), count)| format!("{count:+} {text} [{parameters}]"))
        .collect();
    ensure!(difference.is_empty(), "recorded statements less those that the database ran: {}", named.join("; "));
    Ok(recorded)
}

fn is_statement(row: &Value) -> bool {
    text(row, "table") == "exchanges"
        && text(row, "protocol") == "postgres"
        && !["LOGIN", "CANCEL"].contains(&text(row, "verb"))
}

/// What `show SESSION.N --json` says of one.
fn statement(exchange: &Value, shown: &[Value]) -> Result<Statement> {
    let dialogue = shown.iter().find(|row| text(row, "table") == "dialogues");
    let dialogue = dialogue.with_context(|| format!("{} has no dialogue", text(exchange, "id")))?;
    let said = dialogue.get("said").and_then(Value::as_array).context("a dialogue without what was said")?;
    let of = |kind: &'static str| said.iter().filter(move |said| text(said, "what") == kind);
    let cells = |row: &Value| -> Vec<Option<String>> {
        let cells = row.as_array().map(Vec::as_slice).unwrap_or_default();
        cells.iter().map(|cell| cell.as_str().map(str::to_owned)).collect()
    };
    let parameters = of("parameters").next_back().and_then(|said| said.get("values")).map(cells).unwrap_or_default();
    let parameters = parameters.iter().zip(1..).map(|(value, number)| match value {
        Some(value) => format!("${number} = '{}'", value.replace('\'', "''")),
        None => format!("${number} = NULL"),
    });
    let facts = exchange.get("facts").context("an exchange without facts")?;
    Ok(Statement {
        text: text(facts, "text").to_owned(),
        parameters: parameters.collect::<Vec<_>>().join(", "),
        rows: of("rows").filter_map(|said| said.get("rows")?.as_array()).flatten().map(cells).collect(),
    })
}

/// The statements and values of a log whose prefix ends with the client's address; those of its own socket are the world's.
fn logged(log: &str) -> Vec<(String, String)> {
    let mut statements: Vec<(String, String)> = Vec::new();
    let mut open = false;
    for line in log.lines() {
        // What goes on over several lines is indented by a tab.
        if let (true, Some(more), Some((last, _))) = (open, line.strip_prefix('\t'), statements.last_mut()) {
            last.push('\n');
            last.push_str(more);
            continue;
        }
        open = false;
        if line.contains("] [local] ") {
            continue;
        }
        if let Some((_, parameters)) = line.split_once(" DETAIL:  parameters: ")
            && let Some((_, last)) = statements.last_mut()
        {
            parameters.clone_into(last);
        }
        let Some((_, message)) = line.split_once(" LOG:  ") else { continue };
        let executed = || Some(message.strip_prefix("execute ")?.split_once(": ")?.1);
        if let Some(text) = message.strip_prefix("statement: ").or_else(executed) {
            statements.push((text.to_owned(), String::new()));
            open = true;
        }
    }
    statements
}
