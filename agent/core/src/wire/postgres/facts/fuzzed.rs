//! What must hold for any text, as an entry for the fuzzer and the tests.
//!
//! Owns properties only, and panics where one is broken. Never called by the product.

use super::{ANY, EMPTY, Reading, Told, UNPARSED, statement};

/// Fuzz entry: the first byte chooses the session's settings; the rest is a text.
///
/// # Panics
/// Where facts contradict each other, where a comment changes them, or where a statement behind the text is not seen.
pub fn fuzz_postgres_statement(data: &[u8]) {
    let Some((settings, sql)) = data.split_first() else { return };
    let standard_strings = (settings & 4 == 0).then_some(settings & 1 == 0);
    let tell = |sql: &[u8]| statement(sql, Reading { standard_strings, utf8: settings & 2 == 0 });
    let told = tell(sql);
    consistent(&told);
    if !told.parsed {
        return;
    }
    let commented = tell(&[b"/* ; /* ' */ \" */", sql, b"\n-- $$ '"].concat());
    assert_eq!(commented, told, "a comment changed what is told");
    let more = tell(&[sql, b"\n;DROP TABLE \"Behind It\""].concat());
    consistent(&more);
    assert!(!more.parsed || more.tables.contains("Behind It") && more.statements == told.statements + 1);
    assert!(!more.parsed || more.kinds.is_superset(&told.kinds) && more.kinds.contains("DROP_TABLE"));
}

fn consistent(told: &Told) {
    assert_eq!(told.parsed, !told.kinds.contains(UNPARSED));
    assert_eq!(told.statements == 0, told.kinds.is_empty());
    assert!(told.kinds.contains(told.verb) || told.kinds.is_empty() && told.verb == EMPTY, "{told:?}");
    let any = told.tables.contains(ANY) && told.functions.contains(ANY) && told.unfiltered && told.touches_names;
    assert!(told.parsed || any && told.verb == UNPARSED, "{told:?}");
}
