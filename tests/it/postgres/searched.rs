//! What an analyst asks: search finds what was asked, bound and answered, and a session reads as psql prints it.

use crewtap_tests::host::succeeded;
use crewtap_tests::postgres::Release;
use serde_json::Value;

use super::captured::{Captured, of, plain, python, statements, uri};

/// Values of several types, in text by psycopg and in binary by asyncpg.
const SCRIPT: &str = "
import asyncio, asyncpg, psycopg, sys, datetime, uuid
with psycopg.connect(sys.argv[1], autocommit=True) as connection:
    connection.execute('SELECT email AS needlework FROM customers WHERE name = %s', ['Grace Hopper']).fetchall()
    with connection.cursor().copy('COPY (SELECT article FROM orders WHERE id = 1003) TO STDOUT') as copy:
        print(b''.join(copy))
    connection.execute(\"DO $$ BEGIN RAISE NOTICE 'remarkable'; END $$\")
async def main():
    connection = await asyncpg.connect(sys.argv[1])
    for value in (1840, 1234567891, datetime.date(1999, 12, 31), uuid.UUID('12345678-9abc-def0-1234-56789abcdef0'), 'naïve'):
        kind = {int: 'int8', datetime.date: 'date', str: 'text'}.get(type(value), 'uuid')
        assert await connection.fetchval(f'SELECT $1::{kind} AS echoed', value) == value
    print(await connection.fetchval('SELECT amount FROM orders WHERE placed > $1', datetime.datetime(2026, 1, 31, tzinfo=datetime.timezone.utc)))
    await connection.close()
asyncio.run(main())
";

/// The exchanges that a search finds, each once.
fn found(captured: &Captured, query: &str) -> Vec<String> {
    let hits = captured.host.json(&["search", query]);
    let id = |hit: &Value| Some(format!("{}.{}", hit["session"].as_str()?, hit["n"].as_i64()?));
    let mut ids: Vec<String> = hits.iter().filter_map(id).collect();
    ids.sort();
    ids.dedup();
    ids
}

#[test]
fn search_finds_statements_values_and_cells() {
    let captured = Captured::new();
    let server = captured.server(Release::Debian);
    let place = plain(&server);
    assert_eq!(succeeded(&captured.run(&[&python(), "-c", SCRIPT, &place])), "b'B-200\\n'\n4500.00\n");
    let rows = captured.rows(2);
    let all = statements(&rows);
    let named = of(&all, "needlework")["id"].as_str().unwrap();
    let copied = of(&all, "COPY")["id"].as_str().unwrap();
    let noted = of(&all, "RAISE NOTICE")["id"].as_str().unwrap();
    let amount = of(&all, "SELECT amount")["id"].as_str().unwrap();
    for (query, id) in [
        ("needlework", named),
        ("\"Grace Hopper\"", named),
        ("\"grace@example.com\"", named),
        ("\"B-200\"", copied),
        ("remarkable", noted),
        ("\"4500.00\"", amount),
    ] {
        assert_eq!(found(&captured, query), [id], "{query}");
    }
    // Both are bound and answered in binary.
    for (query, kind) in [
        ("1234567891", "int8"),
        ("\"1999-12-31\"", "date"),
        ("\"12345678-9abc-def0-1234-56789abcdef0\"", "uuid"),
        ("naïve", "text"),
    ] {
        let ids = found(&captured, query);
        assert_eq!(ids.len(), 1, "{query}: {ids:?}");
        let exchange = all.iter().find(|row| row["id"] == ids[0].as_str()).unwrap();
        assert!(exchange["subject"].as_str().unwrap().contains(kind), "{query}: {exchange}");
    }
    assert_eq!(found(&captured, "nobody-has-said-this"), Vec::<String>::new());
}

/// What is shown of a result is what psql prints of it.
#[test]
fn a_session_reads_as_psql_prints_it() {
    let captured = Captured::new();
    let server = captured.server(Release::Debian);
    let ask = "SELECT *, id > 2 AS late, 1.5 * id AS \"a longer name\" FROM customers ORDER BY id";
    let none = "SELECT id, name FROM customers WHERE false";
    let place = uri(&server, "trusted", "sslmode=disable");
    let printed = succeeded(&captured.run(&["psql", "-X", "-P", "null=∅", "-c", ask, "-c", none, &place]));
    // What a mask hides is as long as it was: the table keeps its form.
    let printed = printed.replace("4111 1111 1111 1111", "**** **** **** 1111");
    let printed = printed.replace("5555555555554444", "************4444");
    assert!(printed.contains("(3 rows)") && printed.contains("(0 rows)"), "{printed}");
    let session = captured.rows(1).session()["id"].as_str().unwrap().to_owned();
    let shown = succeeded(&captured.host.crewtap(&["show", &session]).output().unwrap());
    let lines: Vec<&str> = shown.lines().map(str::trim_end).collect();
    for (text, table) in [ask, none].into_iter().zip(printed.split_inclusive("rows)\n")) {
        let at = lines.iter().position(|line| *line == format!("  => {text}")).unwrap_or_else(|| panic!("{shown}"));
        let table: Vec<String> =
            table.lines().map(str::trim_end).filter(|line| !line.is_empty()).map(|line| format!("  {line}")).collect();
        assert_eq!(lines[at + 1..=at + table.len()], table, "{shown}");
    }
    let timeline =
        captured.host.crewtap(&["timeline", captured.host.last_run()["id"].as_str().unwrap()]).output().unwrap();
    let timeline = succeeded(&timeline);
    for text in [ask, none] {
        let lines: Vec<&str> =
            timeline.lines().filter(|line| line.contains("  request  ") && line.contains(text)).collect();
        assert_eq!(lines.len(), 1, "{timeline}");
    }
}
