//! The servers' own account of what they were asked and have answered, and its comparison with the record.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::Value;

/// One request with its answer: method, target, request body, status, response body.
type Exchange = (String, String, Vec<u8>, String, Vec<u8>);

/// Numbers of payment cards that the servers know, and what the record shows of each: they stand in rows, in answers and in the
/// prompts that the crew makes of them.
pub(super) const CARDS: [(&str, &str); 2] =
    [("4111 1111 1111 1111", "**** **** **** 1111"), ("5500 0000 0000 0004", "**** **** **** 0004")];

/// Differences that an error names.
const NAMED_MAX: usize = 5;

/// See [`super::World::compare_exchanges`].
pub(super) fn compare(directory: &Path, run: &str, show: impl Fn(&str) -> Result<String>) -> Result<usize> {
    let mut difference: BTreeMap<Exchange, i64> = BTreeMap::new();
    for row in rows(&show(run)?)?.iter().filter(|row| is_http(row)) {
        let exchange = recorded(row, &rows(&show(text(row, "id"))?)?)?;
        *difference.entry(exchange).or_default() += 1;
    }
    let count = difference.values().sum::<i64>();
    let log = fs::read_to_string(directory.join("requests.jsonl")).context("cannot read the servers' requests")?;
    for line in rows(&log)? {
        *difference.entry(served(&line)?).or_default() -= 1;
    }
    difference.retain(|_, count| *count != 0);
    let named: Vec<String> = difference
        .iter()
        .take(NAMED_MAX)
        .map(|((method, target, asked, status, answered), count)| {
            format!("{count:+} {method} {target} ({} bytes) {status} ({} bytes)", asked.len(), answered.len())
        })
        .collect();
    ensure!(difference.is_empty(), "recorded exchanges less served ones: {}", named.join("; "));
    Ok(usize::try_from(count)?)
}

fn is_http(row: &Value) -> bool {
    text(row, "table") == "exchanges" && text(row, "protocol") == "http"
}

pub(super) fn rows(lines: &str) -> Result<Vec<Value>> {
    lines.lines().map(|line| serde_json::from_str(line).context("not JSON Lines")).collect()
}

pub(super) fn text<'v>(row: &'v Value, key: &str) -> &'v str {
    row.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn served(line: &Value) -> Result<Exchange> {
    let body = |key| -> Result<Vec<u8>> {
        let body = BASE64_STANDARD.decode(text(line, key)).context("a body in the servers' log is not base64")?;
        Ok(CARDS.iter().fold(body, |body, (clear, shown)| replaced(&body, clear.as_bytes(), shown.as_bytes())))
    };
    let status = line.get("status").map(Value::to_string).unwrap_or_default();
    Ok((text(line, "method").into(), text(line, "path").into(), body("request")?, status, body("response")?))
}

/// Some bytes with others of the same length in the place of one word.
fn replaced(bytes: &[u8], word: &[u8], with: &[u8]) -> Vec<u8> {
    let mut all = bytes.to_vec();
    let places: Vec<usize> =
        bytes.windows(word.len()).enumerate().filter(|(_, window)| *window == word).map(|(at, _)| at).collect();
    for at in places {
        if let Some(place) = all.get_mut(at..at + word.len()) {
            place.copy_from_slice(with);
        }
    }
    all
}

/// What `show SESSION.N --json` says: bodies are without their codings there, as they are in the servers' log.
fn recorded(exchange: &Value, shown: &[Value]) -> Result<Exchange> {
    let body = |side: &str| {
        let message = shown.iter().find(|row| text(row, "table") == "messages" && text(row, "side") == side);
        let message = message.with_context(|| format!("no message of the {side} in {}", text(exchange, "id")))?;
        ensure!(message.get("more") == Some(&Value::Bool(false)), "a body of {} is cut", text(exchange, "id"));
        match message.get("base64").and_then(Value::as_str) {
            Some(coded) => BASE64_STANDARD.decode(coded).context("a recorded body is not base64"),
            None => Ok(text(message, "text").as_bytes().to_vec()),
        }
    };
    let facts = exchange.get("facts").context("an exchange without facts")?;
    let query = text(facts, "query");
    let question = if query.is_empty() { String::new() } else { format!("?{query}") };
    let target = format!("{}{question}", text(facts, "raw_path"));
    Ok((text(exchange, "verb").into(), target, body("client")?, text(exchange, "code").into(), body("server")?))
}
