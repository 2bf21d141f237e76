use std::collections::BTreeSet;
use std::thread;
use std::time::{Duration, Instant};

use super::*;

/// Texts, and what they tell: kinds, tables, functions, and how many statements there are; `!` where rows may not be
/// filtered, `?` where statements may be prepared or run by name. compare.py beside it asks a real server.
const STATEMENTS: &str = include_str!("../../../../../../tests/corpus/statement/postgres.txt");

fn reading(standard: bool, utf8: bool) -> Reading {
    Reading { standard_strings: Some(standard), utf8 }
}

fn told(sql: &str) -> Told {
    statement(sql.as_bytes(), reading(true, true))
}

fn line(told: &Told) -> String {
    let list = |set: &BTreeSet<String>| set.iter().cloned().collect::<Vec<_>>().join(" ");
    let marks = [if told.unfiltered { "!" } else { "" }, if told.touches_names { "?" } else { "" }].concat();
    let lists = [&told.kinds, &told.tables, &told.functions].map(list).join(" | ");
    format!("#= {lists} | {}{marks}", told.statements)
}

/// Texts and the lines behind them.
fn statements() -> Vec<(String, &'static str)> {
    let (mut found, mut text) = (Vec::new(), Vec::new());
    for line in STATEMENTS.lines() {
        if line.starts_with("#= ") {
            found.push((text.join("\n"), line));
            text.clear();
        } else {
            text.push(line);
        }
    }
    assert!(found.len() > 200, "the corpus is too small to show anything");
    found
}

#[test]
fn attacks_and_common_statements_are_told_rightly_or_unparsed() {
    let tells = |(sql, expected): (String, &str)| {
        let line = line(&told(&sql));
        (line != expected).then(|| format!("{sql}\n{line}\n{expected}"))
    };
    let wrong: Vec<String> = statements().into_iter().filter_map(tells).collect();
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n\n"));
}

#[test]
fn a_session_without_standard_strings_sees_other_statements() {
    let tell = |sql: &str| line(&statement(sql.as_bytes(), reading(false, true)));
    assert_eq!(tell(r"select '\';DROP table x; --'"), "#= SELECT |  |  | 1");
    assert_eq!(tell(r"select '\\';DROP table x; --'"), "#= DROP DROP_TABLE SELECT | x |  | 2");
    assert_eq!(tell(r"select N'\'; drop table x --'"), "#= SELECT |  |  | 1");
    assert_eq!(tell(r#"select $$\$$; drop table "x\""#), "#= DROP DROP_TABLE SELECT | x\\ |  | 2");
    assert_eq!(tell(r"select U&'x'"), "#= UNPARSED | * | * | 1!?");
}

#[test]
fn a_text_that_hangs_on_unknown_settings_is_not_understood() {
    let parsed = |sql: &str| statement(sql.as_bytes(), Reading::default()).parsed;
    assert!(parsed("select 'a', \"b\" from t where c = $$d$$ and e = E'f'"));
    for sql in [r"select '\'", r"select '\'; drop table x; --'", "select U&'x'", "select u&\"x\"", "select 'ß'"] {
        assert!(!parsed(sql), "{sql}");
    }
}

#[test]
fn bytes_that_are_not_plain_are_not_understood() {
    // In Shift-JIS, GBK and Big5 a letter's second byte can be a quote or a backslash.
    assert!(!statement(b"select '\x95\x5c'", reading(true, false)).parsed);
    assert!(!statement(b"select '\x95\x5c'", reading(true, true)).parsed);
    assert!(!statement("select 'ß'".as_bytes(), reading(true, false)).parsed);
    assert!(
        statement("select 'ß'".as_bytes(), reading(true, true)).parsed
            && statement(b"select 's'", reading(true, false)).parsed
    );
    assert!(!statement(b"select 1\0; drop table x", reading(true, true)).parsed);
    // A blank that only Unicode knows is a letter of a name.
    assert_eq!(line(&told("select\u{a0}1 from\u{3000}t")), "#= UNPARSED | * | * | 1!?");
    assert_eq!(line(&told("select a from t\u{a0}x")), "#= SELECT | t\u{a0}x |  | 1");
}

#[test]
fn names_of_prepared_statements_are_told() {
    let told = told("prepare a as select 1; prepare \"B\" (int) as delete from t; prepare transaction 'x'");
    assert_eq!((told.prepares, told.touches_names, told.verb), (vec!["a".to_owned(), "B".to_owned()], true, "DELETE"));
}

#[test]
fn the_most_dangerous_kind_is_the_verb() {
    let verb = |sql: &str| told(sql).verb;
    assert_eq!(verb("begin; select 1; commit"), "SELECT");
    assert_eq!(verb("select 1; drop table x"), "DROP");
    assert_eq!(verb("explain analyze delete from t"), "DELETE");
    assert_eq!(verb("copy t to program 'x'"), "COPY_PROGRAM");
    assert_eq!(verb("select 1; nonsense"), "UNPARSED");
    assert_eq!(verb(""), "EMPTY");
}

#[test]
fn facts_have_the_names_that_policies_know() {
    let facts = told("delete from t").into_facts("delete from t");
    let names: Vec<&str> = facts.keys().map(String::as_str).collect();
    assert_eq!(names, ["functions", "kinds", "parsed", "tables", "text", "unfiltered"]);
    assert_eq!(facts["unfiltered"], Fact::Bool(true));
    assert_eq!(facts["kinds"], Fact::Set(BTreeSet::from(["DELETE".to_owned()])));
}

/// Texts that would need a deep tree, or much work.
fn monsters() -> Vec<(&'static str, String)> {
    let repeat = |before: &str, part: &str, count: usize, after: &str| format!("{before}{}{after}", part.repeat(count));
    let nest = |open: &str, count: usize, inner: &str, close: &str| {
        format!("select {}{inner}{}", open.repeat(count), close.repeat(count))
    };
    let mut found = Vec::new();
    for count in [30, 100, 1000, 10_000, 100_000] {
        found.extend([
            ("parentheses", nest("(", count, "1", ")")),
            ("open parentheses", repeat("select ", "(", count, "")),
            ("subqueries", nest("(select ", count, "1", ")")),
            ("from", format!("select * from {}t{}", "(select * from ".repeat(count), ") x".repeat(count))),
            ("joins", format!("select * from {}t{}", "(".repeat(count), " join t using (a))".repeat(count))),
            ("calls", nest("f(", count, "1", ")")),
            ("calls that end", repeat("select ", "f(", count, "1")),
            ("cases", nest("case when ", count, "1", " then 1 end")),
            ("casts", nest("cast(", count, "1", " as int)")),
            ("arrays", nest("array[", count, "1", "]")),
            ("not", repeat("select ", "not ", count, "true")),
            ("minus", repeat("select ", "- ", count, "1")),
            ("tilde", repeat("select ", "~ ", count, "1")),
            ("or", repeat("select 1", " or a = 1", count, "")),
            ("and or", repeat("select 1", " or a = 1 and b < 2", count, "")),
            ("plus", repeat("select 1", "+1", count, "")),
            ("colons", repeat("select a", "::int", count, "")),
            ("brackets", repeat("select a", "[1]", count, "")),
            ("type", repeat("select a::int", "[]", count, "")),
            ("points", repeat("select a", ".a", count, "")),
            ("is null", repeat("select a", " is null", count, "")),
            ("at", repeat("select a", " at time zone 'x'", count, "")),
            ("collate", repeat("select a", " collate x", count, "")),
            ("between", repeat("select a", " between 1 and 2", count, "")),
            ("like", repeat("select a", " like 'x'", count, "")),
            ("union", repeat("select 1", " union select 1", count, "")),
            ("natural joins", repeat("select * from t", " natural join t", count, "")),
            ("join on join", format!("select * from t{}{}", " join t".repeat(count), " on true".repeat(count))),
            ("with", repeat("with a as (select 1)", ", a as (select 1)", count, " select 1")),
            ("nested with", format!("{}select 1{}", "with a as (".repeat(count), ") select 1".repeat(count))),
            ("explain", repeat("", "explain ", count, "select 1")),
            ("prepare", repeat("", "prepare a as ", count, "select 1")),
            ("statements", repeat("", "select 1;", count, "")),
            ("comments", format!("{}{}", "/*".repeat(count), "*/".repeat(count))),
            ("rows", repeat("insert into t values (1,'a')", ",(1,'a')", count, "")),
            ("mixed rows", repeat("insert into t values (1,'a',-1)", ",(1,'a',-1)", count.min(10_000), "")),
            ("list", repeat("select * from t where a in (1", ",1", count, ")")),
            ("columns", repeat("select a", ",a", count.min(30_000), " from t")),
            ("dollars", repeat("select ", "$a$ $b$ ", count, "")),
            ("quotes", repeat("select ", "'a'\n", count, "")),
            ("into", repeat("select a into ", "b,", count, "c")),
            ("generic", repeat("select a::array", "<array", count, "")),
            ("interval", repeat("select ", "interval ", count, "'1'")),
            ("exists", nest("exists (select ", count, "1", ")")),
            ("row", nest("row(", count, "1", ")")),
            ("over", repeat("select f()", " over (partition by f()", count, "")),
        ]);
    }
    found
}

#[test]
fn no_text_exhausts_the_stack_or_the_time() {
    let walk = || {
        for (name, sql) in monsters() {
            let begin = Instant::now();
            let told = told(&sql);
            let taken = begin.elapsed();
            assert!(taken < Duration::from_secs(5), "{name} of {} bytes took {taken:?}", sql.len());
            // What is short enough for a person is read, and so are long lists.
            let usual = ["or", "and or", "plus", "union", "natural joins", "with"];
            let is_short = sql.len() < 2000 && usual.contains(&name);
            let is_list = ["rows", "list", "comments"].contains(&name);
            assert!(told.parsed || !is_short && !is_list, "{name}: {sql:.200}");
            if taken > Duration::from_millis(200) || (told.parsed && sql.len() > 5000) {
                println!("{name} {} {taken:?} {}", sql.len(), told.parsed);
            }
        }
    };
    // Half of what a thread of the agent has.
    let thread = thread::Builder::new().stack_size(1 << 20).spawn(walk).unwrap();
    assert!(thread.join().is_ok());
}

#[test]
fn a_text_that_is_too_long_is_not_read() {
    let sql = format!("select '{}'", "x".repeat(TEXT_BYTES_MAX));
    assert!(!told(&sql).parsed && told(&sql[9..]).kinds.contains(UNPARSED));
}

#[test]
fn a_common_statement_takes_microseconds() {
    let sql =
        "SELECT id, name, total FROM orders WHERE customer_id = 42 AND created_at > now() ORDER BY id DESC LIMIT 10";
    let begin = Instant::now();
    for _ in 0..1000 {
        assert_eq!(told(sql).verb, "SELECT");
    }
    let each = begin.elapsed() / 1000;
    println!("{each:?} each");
    // Builds for tests are not optimised, and machines are shared: ten times as much would still be a mistake.
    assert!(each < Duration::from_millis(5), "{each:?}");
}

#[test]
fn properties_hold_for_the_corpus() {
    for (sql, _) in statements() {
        for settings in 0..4 {
            fuzz_postgres_statement(&[&[settings], sql.as_bytes()].concat());
        }
    }
}

#[test]
fn no_text_takes_long() {
    let times = |text: &str, times: usize| text.repeat(times);
    let texts = [
        format!("SELECT {}1", times("+", 20_000)),
        format!("SELECT {}1", times("-+", 300_000)),
        format!("SELECT {}1", times("@+ ", 300_000)),
        format!("CREATE TABLE t ({}{}", times("a(", 300_000), times(")", 300_001)),
        format!("CREATE TABLE t ({}{}", times("a(", 90), times(")", 91)),
        format!("CREATE INDEX i ON t ({})", times("f(a(b)),", 100_000)),
        format!("DELETE {}", times("FROM a ", 140_000)),
        format!("COPY t FROM STDIN WHERE {}", times("f(a) or ", 120_000)),
        format!("SELECT {}1{}", times("(", 39), times(")", 39)),
        format!("SELECT * FROM {}a{}", times("(", 39), times(")", 39)),
        format!("{}SELECT 1{}", times("(", 39), times(")", 39)),
        format!("SELECT {}1{}", times("f(", 39), times(")", 39)),
        format!("SELECT {}1{}", times("CASE WHEN (", 35), times(") THEN 1 END", 35)),
        format!("SELECT {}", times("a,", 500_000)),
        format!("INSERT INTO t VALUES {}(1)", times("(1,'a',f(2)),", 70_000)),
        times("SELECT 1;", 100_000),
        times("a.", 500_000),
        format!("SELECT '{}'", times("''", 500_000)),
        format!("SELECT {}", times("/*", 500_000)),
        format!("SELECT {}", times("$a$", 300_000)),
        format!("SELECT {}", times("$a", 500_000)),
        format!("SELECT x{}", times("::a", 300_000)),
        format!("SELECT x{}", times("[1]", 300_000)),
        format!("WITH {} SELECT 1", times("a AS (SELECT 1),", 60_000)),
    ];
    for text in texts {
        let begin = Instant::now();
        let _ = told(&text);
        // Of a build that is not optimised, on a busy machine.
        let took = begin.elapsed();
        assert!(took < Duration::from_secs(10), "{took:?} for {}", text.get(..60).unwrap_or_default());
    }
}
