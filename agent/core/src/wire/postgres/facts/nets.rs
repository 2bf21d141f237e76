//! A second look at the tokens, which contradicts a tree that tells too little.
//!
//! Owns what holds for every text that PostgreSQL takes, whatever its tree. Never takes anything back that the tree told.

use super::lexer::{Token, Unlexed};
use super::reader::{Reader, joined, matching};
use super::walk::Walk;
use super::words::calls_nothing;

/// Statements that can stand in a WITH, and their kinds.
const WRITING: &[(&str, &str)] =
    &[("insert", "INSERT"), ("update", "UPDATE"), ("delete", "DELETE"), ("merge", "MERGE")];

/// Adds calls that the tree does not tell.
///
/// # Errors
/// When the tokens have a statement or a table that the tree does not tell.
pub fn check(tokens: &[Token<'_>], walk: &mut Walk) -> Result<(), Unlexed> {
    for (at, token) in tokens.iter().enumerate() {
        let before = at.checked_sub(1).and_then(|at| tokens.get(at)).copied();
        // A statement begins at the start, in a parenthesis, or behind those of a WITH.
        let begins = before.is_none_or(|before| before.is_mark("(") || before.is_mark(")"));
        if let Some((_, kind)) = WRITING.iter().find(|(word, _)| begins && token.is(word))
            && !walk.kinds.contains(kind)
        {
            return Err(Unlexed);
        }
        let is_written = before.is_some_and(|before| before.is("into") || before.is("join"))
            || (begins && token.is("update"))
            || (token.is("from") && !is_part_of_call(tokens, at));
        if is_written {
            let from = if token.is("from") || token.is("update") { at + 1 } else { at };
            known_table(tokens.get(from..).unwrap_or_default(), walk)?;
        }
    }
    for name in calls(tokens)? {
        let is_known = [&walk.functions, &walk.tables, &walk.expressions].iter().any(|known| known.contains(&name));
        if !is_known {
            walk.functions.insert(name);
        }
    }
    Ok(())
}

/// The name behind FROM, JOIN, INTO or UPDATE is one that the tree told.
fn known_table(tokens: &[Token<'_>], walk: &Walk) -> Result<(), Unlexed> {
    let mut reader = Reader::new(tokens);
    let words = ["only", "lateral", "table", "temp", "temporary", "unlogged", "local", "global", "natural"];
    reader.skip(&words);
    if reader.peek().is_none_or(|token| !token.is_name() || token.is("select") || token.is("rows")) {
        return Ok(());
    }
    let escaped = tokens.iter().take(12).any(|token| token.is("uescape"));
    let name = reader.name()?;
    let is_known = [&walk.tables, &walk.functions, &walk.expressions].iter().any(|known| known.contains(&name));
    let is_construct = ["unnest", "xmltable", "json_table"].contains(&name.as_str());
    if is_known || is_construct || escaped { Ok(()) } else { Err(Unlexed) }
}

/// Tokens between `extract(` and its FROM: an expression of a column at most.
const CALL_TOKENS_MAX: usize = 1000;

/// Whether a FROM is a word of `extract(… from …)`, `substring(…)`, `trim(…)`, `overlay(…)`, or `is distinct from`.
fn is_part_of_call(tokens: &[Token<'_>], at: usize) -> bool {
    let before = tokens.get(..at).unwrap_or_default();
    if before.last().is_some_and(|token| token.is("distinct")) {
        return true;
    }
    let mut depth = 0_usize;
    // What lies further away is no part of it: then it counts as naming a table.
    for (at, token) in before.iter().enumerate().rev().take(CALL_TOKENS_MAX) {
        if token.is_mark(")") {
            depth += 1;
        } else if token.is_mark("(") {
            let Some(outer) = depth.checked_sub(1) else {
                let call = at.checked_sub(1).and_then(|at| before.get(at));
                return call.is_some_and(|call| call.is_one_of(&["extract", "substring", "trim", "overlay"]));
            };
            depth = outer;
        } else if depth == 0 && token.is("select") {
            return false;
        }
    }
    false
}

/// Names before a parenthesis that may be calls.
pub fn calls(tokens: &[Token<'_>]) -> Result<Vec<String>, Unlexed> {
    let mut found = Vec::new();
    for (at, token) in tokens.iter().enumerate() {
        let Some(last) = at.checked_sub(1).and_then(|at| tokens.get(at)) else { continue };
        if !token.is_mark("(") || !last.is_name() {
            continue;
        }
        let parts = parts_before(tokens, at);
        let before = at.checked_sub(2 * parts.len()).and_then(|at| tokens.get(at));
        let is_word = parts.len() == 1 && last.kind == super::lexer::Kind::Word;
        if is_word && calls_nothing(&last.text.to_ascii_lowercase()) {
            continue;
        }
        if parts.len() == 1 && (before.is_some_and(names_what_follows) || is_expression(tokens.get(at..))) {
            continue;
        }
        let names: Result<Vec<String>, Unlexed> = parts.iter().map(|token| token.name('\\')).collect();
        found.push(joined(names?.iter().map(String::as_str)));
    }
    Ok(found)
}

/// The parts of the name that ends before `at`.
fn parts_before<'t, 's>(tokens: &'t [Token<'s>], at: usize) -> Vec<&'t Token<'s>> {
    let mut parts = Vec::new();
    let mut reversed = tokens.get(..at).unwrap_or_default().iter().rev();
    while let Some(name) = reversed.next().filter(|token| token.is_name()) {
        parts.push(name);
        if !reversed.next().is_some_and(|token| token.is_mark(".")) {
            break;
        }
    }
    parts.reverse();
    parts
}

/// Behind these a name before a parenthesis is an alias, a type, or the name of a WITH.
fn names_what_follows(before: &Token<'_>) -> bool {
    before.is_one_of(&["as", "with", "recursive", "ordinality"]) || before.is_mark(")") || before.is_mark("::")
}

/// Whether `(…)` is followed by the rest of `name (…) AS (…)`, as in a WITH.
fn is_expression(tokens: Option<&[Token<'_>]>) -> bool {
    let tokens = tokens.unwrap_or_default();
    let Some(close) = matching(tokens) else { return false };
    let mut reader = Reader::new(tokens.get(close + 1..).unwrap_or_default());
    reader.eat("as") && {
        reader.skip(&["not", "materialized"]);
        reader.eat_mark("(")
    }
}
