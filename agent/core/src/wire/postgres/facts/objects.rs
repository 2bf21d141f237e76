//! CREATE, ALTER and DROP.
//!
//! Owns the kinds of objects, and the tables that are named. Never looks into the body of a function, rule or trigger: that
//! one is made is what counts.

use super::classify;
use super::lexer::{Token, Unlexed};
use super::reader::Reader;
use super::tally::Tally;
use super::utility::{begins_query, tally_calls};

/// A kind of object: its keywords, and the kinds of its statements.
pub struct Object {
    words: &'static [&'static str],
    create: &'static str,
    alter: &'static str,
    drop: &'static str,
    class: Class,
}

/// What is known of an object's statements beyond their kind.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    /// It holds rows, or gives them: its name is a table's.
    Rows,
    /// It belongs to a table that is named behind ON.
    OnTable,
    /// Anything can hang on it.
    Other,
}

macro_rules! object {
    ($kind:literal, $class:ident, $($word:literal)+) => {
        Object {
            words: &[$($word),+],
            create: concat!("CREATE_", $kind),
            alter: concat!("ALTER_", $kind),
            drop: concat!("DROP_", $kind),
            class: Class::$class,
        }
    };
}

/// Longer ones first where one begins like another.
const OBJECTS: &[Object] = &[
    object!("TABLE", Rows, "table"),
    object!("VIEW", Rows, "view"),
    object!("MATERIALIZED_VIEW", Rows, "materialized" "view"),
    object!("FOREIGN_TABLE", Rows, "foreign" "table"),
    object!("SEQUENCE", Rows, "sequence"),
    object!("INDEX", OnTable, "index"),
    object!("FUNCTION", Other, "function"),
    object!("FUNCTION", Other, "procedure"),
    object!("FUNCTION", Other, "routine"),
    object!("AGGREGATE", Other, "aggregate"),
    object!("TRIGGER", Other, "trigger"),
    object!("EVENT_TRIGGER", Other, "event" "trigger"),
    object!("RULE", Other, "rule"),
    object!("POLICY", Other, "policy"),
    object!("EXTENSION", Other, "extension"),
    object!("LANGUAGE", Other, "language"),
    object!("SCHEMA", Other, "schema"),
    object!("DATABASE", Other, "database"),
    object!("ROLE", Other, "role"),
    object!("ROLE", Other, "group"),
    object!("USER_MAPPING", Other, "user" "mapping"),
    object!("ROLE", Other, "user"),
    object!("TYPE", Other, "type"),
    object!("DOMAIN", Other, "domain"),
    object!("CAST", Other, "cast"),
    object!("OPERATOR", Other, "operator"),
    object!("COLLATION", Other, "collation"),
    object!("CONVERSION", Other, "conversion"),
    object!("STATISTICS", Other, "statistics"),
    object!("TRANSFORM", Other, "transform"),
    object!("PUBLICATION", Other, "publication"),
    object!("SUBSCRIPTION", Other, "subscription"),
    object!("SERVER", Other, "server"),
    object!("FOREIGN_DATA_WRAPPER", Other, "foreign" "data"),
    object!("TABLESPACE", Other, "tablespace"),
    object!("TEXT_SEARCH", Other, "text" "search"),
    object!("ACCESS_METHOD", Other, "access" "method"),
    object!("LARGE_OBJECT", Other, "large" "object"),
    object!("SYSTEM", Other, "system"),
    object!("OWNED", Other, "owned"),
    object!("DEFAULT_PRIVILEGES", Other, "default" "privileges"),
];

/// What can stand before the kind of object.
const MODIFIERS: &[&str] = &[
    "or",
    "replace",
    "global",
    "local",
    "temp",
    "temporary",
    "unlogged",
    "unique",
    "trusted",
    "procedural",
    "recursive",
    "constraint",
];

fn object(reader: &mut Reader<'_, '_>) -> Result<&'static Object, Unlexed> {
    reader.skip(MODIFIERS);
    let mut ahead = *reader;
    if ahead.eat("default") && ahead.peek().is_some_and(|token| token.is("conversion")) {
        *reader = ahead;
    }
    OBJECTS.iter().find(|object| reader.eat_all(object.words)).ok_or(Unlexed)
}

pub fn create(mut reader: Reader<'_, '_>, nested: usize, tally: &mut Tally) -> Result<(), Unlexed> {
    let object = object(&mut reader)?;
    tally.kind("CREATE");
    tally.kind(object.create);
    match object.class {
        Class::Rows => create_rows(reader, nested, tally),
        Class::OnTable => {
            while reader.peek().is_some_and(|token| !token.is("on")) {
                reader.next();
            }
            reader.next();
            reader.eat("only");
            tally.tables.insert(reader.name()?);
            tally_calls(reader.rest(), tally)
        }
        Class::Other => {
            tally.anything();
            // A schema's elements are statements of their own, and so is the body of a function in SQL's form.
            let holds = |word: &str| reader.rest().iter().any(|token| token.is(word));
            let is_schema = object.create == "CREATE_SCHEMA" && (holds("create") || holds("grant"));
            if is_schema { Err(Unlexed) } else { Ok(()) }
        }
    }
}

/// `name [(…)] …`, or `name … AS query`
fn create_rows(mut reader: Reader<'_, '_>, nested: usize, tally: &mut Tally) -> Result<(), Unlexed> {
    reader.eat_all(&["if", "not", "exists"]);
    let name = reader.name()?;
    tally.tables.insert(name.clone());
    let mut depth = 0_usize;
    for (at, token) in reader.rest().iter().enumerate() {
        if token.is_mark("(") {
            depth += 1;
        } else if token.is_mark(")") {
            depth = depth.checked_sub(1).ok_or(Unlexed)?;
        }
        let query = reader.rest().get(at + 1..).unwrap_or_default();
        let begins = |token: &Token<'_>| begins_query(token) || token.is("execute");
        if depth == 0 && token.is("as") && query.first().is_some_and(begins) {
            return classify(without_options(query), nested + 1, tally);
        }
    }
    others(reader, tally)?;
    let mut calls = Tally::default();
    calls.tables.insert(name);
    calls.tables.extend(tally.tables.iter().cloned());
    tally_calls(reader.rest(), &mut calls)?;
    calls.functions.into_iter().for_each(|name| tally.function(name));
    Ok(())
}

/// A table's definition names others behind REFERENCES, LIKE, PARTITION OF and in INHERITS.
fn others(mut reader: Reader<'_, '_>, tally: &mut Tally) -> Result<(), Unlexed> {
    while let Some(token) = reader.next() {
        let is_like = token.is("like") && reader.peek().is_some_and(|next| next.is_name());
        if token.is("references") || is_like || token.is("partition") && reader.eat("of") {
            tally.tables.insert(reader.name()?);
        } else if token.is("inherits") && reader.eat_mark("(") {
            tally.tables.extend(reader.tables()?);
        }
    }
    Ok(())
}

/// A query without the `WITH [NO] DATA` or `WITH [CASCADED|LOCAL] CHECK OPTION` behind it.
fn without_options<'t, 's>(query: &'t [Token<'s>]) -> &'t [Token<'s>] {
    let ends: &[&[&str]] = &[
        &["with", "no", "data"],
        &["with", "data"],
        &["with", "cascaded", "check", "option"],
        &["with", "local", "check", "option"],
        &["with", "check", "option"],
    ];
    for end in ends {
        let Some(at) = query.len().checked_sub(end.len()) else { continue };
        let Some((before, last)) = query.split_at_checked(at) else { continue };
        if last.iter().zip(*end).all(|(token, word)| token.is(word)) {
            return before;
        }
    }
    query
}

pub fn alter(mut reader: Reader<'_, '_>, tally: &mut Tally) -> Result<(), Unlexed> {
    let object = object(&mut reader)?;
    tally.kind("ALTER");
    tally.kind(object.alter);
    reader.eat_all(&["if", "exists"]);
    reader.eat("only");
    if object.class != Class::Rows || reader.peek().is_some_and(|token| token.is("all")) {
        tally.anything();
        return Ok(());
    }
    let name = reader.name()?;
    tally.tables.insert(name);
    others(reader, tally)?;
    // A partition, a parent, another name: tables that are not told apart here.
    let names = ["attach", "detach", "inherit", "rename", "of"];
    if reader.rest().iter().any(|token| token.is_one_of(&names)) {
        tally.tables.insert(super::ANY.to_owned());
    }
    tally_calls(reader.rest(), tally)
}

pub fn drop(mut reader: Reader<'_, '_>, tally: &mut Tally) -> Result<(), Unlexed> {
    let object = object(&mut reader)?;
    tally.kind("DROP");
    tally.kind(object.drop);
    reader.eat("concurrently");
    reader.eat_all(&["if", "exists"]);
    if object.class != Class::Rows || reader.rest().iter().any(|token| token.is("cascade")) {
        tally.anything();
    }
    if object.class == Class::Rows {
        tally.tables.extend(reader.tables()?);
    }
    Ok(())
}
