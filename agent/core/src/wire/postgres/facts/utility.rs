//! Statements that begin with a keyword of their own: DDL, COPY, SET, PREPARE and the rest.
//!
//! Owns their kinds, and their tables where the grammar shows them plainly; elsewhere any table and function may be meant.
//! Never parses what follows to its end: what the server would refuse may be told as anything.

use super::lexer::{Token, Unlexed};
use super::nets;
use super::objects;
use super::reader::Reader;
use super::tally::Tally;
use super::{NESTED_MAX, classify};

/// What is known of a statement that begins with this keyword.
pub fn statement(tokens: &[Token<'_>], nested: usize, tally: &mut Tally) -> Result<(), Unlexed> {
    // Names with an escape letter of their own are not worth the reading here.
    if nested > NESTED_MAX || tokens.iter().any(|token| token.is("uescape")) {
        return Err(Unlexed);
    }
    let mut reader = Reader::new(tokens);
    let first = reader.next().ok_or(Unlexed)?;
    let word = if first.text.len() <= LONGEST_WORD { first.text.to_ascii_lowercase() } else { return Err(Unlexed) };
    match word.as_str() {
        "create" => objects::create(reader, nested, tally),
        "alter" => objects::alter(reader, tally),
        "drop" => objects::drop(reader, tally),
        "truncate" => truncate(reader, tally),
        "copy" => copy(reader, nested, tally),
        "explain" => explain(reader, nested, tally),
        "prepare" => prepare(reader, nested, tally),
        "declare" => declare(reader, nested, tally),
        "grant" | "revoke" => grant(&word, reader, tally),
        "lock" | "vacuum" | "analyze" | "analyse" => tables(&word, reader, tally),
        "set" | "reset" => set(&word, reader, tally),
        "call" => call(reader, tally),
        _ => by_word(&word, reader, tally),
    }
}

/// Longest first keyword, in bytes.
const LONGEST_WORD: usize = 16;

/// Statements whose kind is all that is told.
fn by_word(word: &str, mut reader: Reader<'_, '_>, tally: &mut Tally) -> Result<(), Unlexed> {
    let kind = match word {
        "begin" | "start" => "BEGIN",
        "commit" | "end" => "COMMIT",
        "rollback" | "abort" => "ROLLBACK",
        "savepoint" => "SAVEPOINT",
        "release" => "RELEASE",
        "show" => "SHOW",
        "listen" => "LISTEN",
        "unlisten" => "UNLISTEN",
        "notify" => "NOTIFY",
        "close" => "CLOSE",
        "checkpoint" => "CHECKPOINT",
        "deallocate" | "discard" => {
            tally.touches_names = true;
            if word == "discard" { "DISCARD" } else { "DEALLOCATE" }
        }
        "fetch" | "move" => {
            tally.anything();
            "FETCH"
        }
        "execute" => {
            tally.code();
            "EXECUTE"
        }
        "do" => {
            tally.code();
            "DO"
        }
        "load" => {
            tally.code();
            "LOAD"
        }
        "refresh" | "reindex" | "cluster" | "import" | "reassign" | "comment" => {
            tally.anything();
            maintenance(word)
        }
        "security" if reader.eat("label") => {
            tally.anything();
            "SECURITY_LABEL"
        }
        _ => return Err(Unlexed),
    };
    tally.kind(kind);
    Ok(())
}

fn maintenance(word: &str) -> &'static str {
    match word {
        "refresh" => "REFRESH",
        "reindex" => "REINDEX",
        "cluster" => "CLUSTER",
        "import" => "IMPORT",
        "reassign" => "REASSIGN",
        _ => "COMMENT",
    }
}

/// `TRUNCATE [TABLE] name, … [RESTART IDENTITY] [CASCADE]`
fn truncate(mut reader: Reader<'_, '_>, tally: &mut Tally) -> Result<(), Unlexed> {
    tally.kind("TRUNCATE");
    reader.eat("table");
    tally.tables.extend(reader.tables()?);
    if reader.rest().iter().any(|token| token.is("cascade")) {
        tally.anything();
    }
    Ok(())
}

/// `COPY name [(columns)] FROM|TO …`, `COPY (query) TO …`
fn copy(mut reader: Reader<'_, '_>, nested: usize, tally: &mut Tally) -> Result<(), Unlexed> {
    tally.kind("COPY");
    reader.eat("binary");
    if let Some(query) = reader.group() {
        classify(query, nested + 1, tally)?;
    } else {
        tally.tables.insert(reader.name()?);
        reader.group();
    }
    match reader.next() {
        Some(word) if word.is("from") => tally.kind("COPY_FROM"),
        Some(word) if word.is("to") => tally.kind("COPY_TO"),
        _ => return Err(Unlexed),
    }
    if reader.eat("program") {
        tally.kind("COPY_PROGRAM");
    } else if !reader.eat("stdin") && !reader.eat("stdout") {
        tally.kind("COPY_FILE");
    }
    // A column's default, a generated column, or `WHERE f(x)` behind it.
    tally_calls(reader.rest(), tally)
}

/// `EXPLAIN [(options) | ANALYZE VERBOSE] statement`
fn explain(mut reader: Reader<'_, '_>, nested: usize, tally: &mut Tally) -> Result<(), Unlexed> {
    let mut runs = false;
    let is_option = reader.rest().get(1).is_some_and(|token| !begins_query(token));
    if is_option && let Some(options) = reader.group() {
        runs |= options.iter().any(is_analyze);
    }
    while reader.peek().is_some_and(|token| token.is_one_of(&["analyze", "analyse", "verbose"])) {
        runs |= !reader.eat("verbose") && reader.next().is_some();
    }
    tally.kind("EXPLAIN");
    if runs {
        return classify(reader.rest(), nested + 1, tally);
    }
    let mut planned = Tally::default();
    classify(reader.rest(), nested + 1, &mut planned)?;
    // Planning calls functions that are declared IMMUTABLE, and writes nothing.
    tally.tables.extend(planned.tables);
    tally.functions.extend(planned.functions);
    tally.touches_names |= planned.touches_names;
    Ok(())
}

/// `"analyze"` is the option too. One that is set to false is told as if it were not.
fn is_analyze(token: &Token<'_>) -> bool {
    token.is_name() && token.name('\\').is_ok_and(|name| ["analyze", "analyse"].contains(&name.as_str()))
}

/// Whether a query or statement begins here, rather than a list of options.
pub fn begins_query(token: &Token<'_>) -> bool {
    token.is_mark("(") || token.is_one_of(&["select", "with", "values", "table"])
}

/// `PREPARE name [(types)] AS statement`, `PREPARE TRANSACTION 'id'`
fn prepare(mut reader: Reader<'_, '_>, nested: usize, tally: &mut Tally) -> Result<(), Unlexed> {
    if reader.rest().len() == 2 && reader.eat("transaction") {
        tally.kind("PREPARE_TRANSACTION");
        return Ok(());
    }
    tally.kind("PREPARE");
    tally.touches_names = true;
    tally.prepares.push(reader.next().filter(Token::is_name).ok_or(Unlexed)?.name('\\')?);
    reader.group();
    if reader.eat("as") { classify(reader.rest(), nested + 1, tally) } else { Err(Unlexed) }
}

/// `DECLARE name … CURSOR … FOR query`
fn declare(mut reader: Reader<'_, '_>, nested: usize, tally: &mut Tally) -> Result<(), Unlexed> {
    tally.kind("DECLARE");
    reader.next().filter(Token::is_name).ok_or(Unlexed)?;
    let options = ["binary", "insensitive", "asensitive", "no", "scroll", "cursor", "with", "without", "hold"];
    reader.skip(&options);
    if reader.eat("for") { classify(reader.rest(), nested + 1, tally) } else { Err(Unlexed) }
}

/// `GRANT … ON [TABLE] name, … TO …`, `GRANT role TO role`
fn grant(word: &str, mut reader: Reader<'_, '_>, tally: &mut Tally) -> Result<(), Unlexed> {
    tally.kind(if word == "grant" { "GRANT" } else { "REVOKE" });
    while let Some(token) = reader.peek().filter(|token| !token.is("on")) {
        reader.next();
        if token.is("to") || token.is("from") {
            return Ok(());
        }
    }
    if !reader.eat("on") {
        return Err(Unlexed);
    }
    let is_table = reader.eat("table");
    let mut ahead = reader;
    match ahead.tables() {
        Ok(names) if ahead.eat("to") || ahead.eat("from") => tally.tables.extend(names),
        // Every table of a schema, a function, a database, …
        _ if !is_table => tally.anything(),
        _ => return Err(Unlexed),
    }
    Ok(())
}

/// `LOCK`, `VACUUM`, `ANALYZE`: options and names of tables.
fn tables(word: &str, mut reader: Reader<'_, '_>, tally: &mut Tally) -> Result<(), Unlexed> {
    let vacuum = ["full", "freeze", "verbose", "analyze", "analyse"];
    tally.kind(match word {
        "lock" => "LOCK",
        "vacuum" => "VACUUM",
        _ => "ANALYZE",
    });
    if word == "lock" {
        reader.eat("table");
    } else {
        let mut ahead = reader;
        // Options in parentheses, or in front.
        if ahead.group().is_some() {
            reader = ahead;
        } else {
            reader.skip(&vacuum);
        }
    }
    if reader.peek().is_none() {
        tally.anything();
        return Ok(());
    }
    loop {
        tally.tables.extend(reader.tables()?);
        let columns = reader.group().is_some();
        if !(columns && reader.eat_mark(",")) {
            return Ok(());
        }
    }
}

/// `SET [SESSION|LOCAL] …`, `RESET …`
fn set(word: &str, mut reader: Reader<'_, '_>, tally: &mut Tally) -> Result<(), Unlexed> {
    tally.kind(if word == "set" { "SET" } else { "RESET" });
    let mut ahead = reader;
    if word == "set" && (ahead.eat("session") || ahead.eat("local")) && !ahead.eat("authorization") {
        reader = ahead;
    }
    let first = reader.name()?;
    let is_role = ["role", "session_authorization"].iter().any(|name| first.eq_ignore_ascii_case(name));
    if is_role || (first == "session" && reader.eat("authorization")) {
        tally.kind("SET_ROLE");
    }
    Ok(())
}

/// `CALL name (…)`
fn call(mut reader: Reader<'_, '_>, tally: &mut Tally) -> Result<(), Unlexed> {
    tally.kind("CALL");
    tally.code();
    let mut ahead = reader;
    tally.functions.insert(ahead.name()?);
    reader.next();
    tally_calls(reader.rest(), tally)
}

/// Adds the names before parentheses, but for those that are tables.
pub fn tally_calls(tokens: &[Token<'_>], tally: &mut Tally) -> Result<(), Unlexed> {
    for name in nets::calls(tokens)? {
        if !tally.tables.contains(&name) {
            tally.function(name);
        }
    }
    Ok(())
}
