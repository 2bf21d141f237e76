//! Everything that a session can say, once: each is one exchange on record, with its own outcome.

use crewtap_tests::host::succeeded;
use crewtap_tests::postgres::Release;
use serde_json::{Value, json};

use super::captured::{Answers, Captured, of, plain, raw, statements, what};

/// What the client of `kinds.py` sees: messages by their letters, rows of one value by it.
const SEEN: &str = r"several: T '1' SELECT 1 T '1' '2' '3' SELECT 3 UPDATE 2 Z
empty: I Z
prepare: 1 t T Z
run: 2 'Ada Lovelace' SELECT 1 Z
run again: 2 'Grace Hopper' SELECT 1 Z
describe: 1 t T Z
begin: BEGIN Z
fetch: 1 2 '1001' '1002' '1003' s Z
fetch more: '1004' SELECT 1 Z
commit: COMMIT Z
copy out: H d d c COPY 2 Z
copy out binary: H d d c COPY 1 Z
table: CREATE TABLE Z
copy in: COPY 2 Z
copy in binary: COPY 1 Z
copy fails: E57014 Z
copy is wrong: E22P02 Z
count: T '100' SELECT 1 Z
listen: LISTEN Z
notify: NOTIFY A Z
notice: N DO Z
function: V Z
large object: BEGIN T 'NUMBER' SELECT 1 Z
open: V Z
a large object
end: COMMIT Z
failing bind: 1 2 '2' SELECT 1 1 E22P02 Z
after: T 'still here' SELECT 1 Z
latin: SET S Z
umlaut: T '3' SELECT 1 Z
";

/// The exchanges of it, behind the log-in: what it does, how it ended, SQLSTATE, rows, command tags.
const EXCHANGES: &str = "UPDATE success - 6 SELECT 1; SELECT 3; UPDATE 2
EMPTY success - - -
SELECT success - 1 SELECT 1
SELECT success - 1 SELECT 1
SELECT success - - -
BEGIN success - - BEGIN
SELECT success - 4 SELECT 1
COMMIT success - - COMMIT
COPY success - 2 COPY 2
COPY success - 1 COPY 1
CREATE success - - CREATE TABLE
COPY success - 2 COPY 2
COPY success - 1 COPY 1
COPY failure 57014 - -
COPY failure 22P02 - -
SELECT success - 1 SELECT 1
LISTEN success - - LISTEN
NOTIFY success - - NOTIFY
DO success - - DO
UNPARSED success - - -
SELECT success - 1 BEGIN; SELECT 1
UNPARSED success - - -
UNPARSED success - - -
COMMIT success - - COMMIT
SELECT success - 1 SELECT 1
SELECT failure 22P02 - -
SELECT aborted - - -
SELECT success - 1 SELECT 1
SET success - - SET
UNPARSED success - 1 SELECT 1
";

/// Parts of what `crewtap show SESSION --all` prints of it, in their order.
const TRANSCRIPT: [&str; 14] = [
    "=> SELECT 1 AS one; SELECT id FROM customers ORDER BY id; UPDATE orders SET article = 'C' WHERE id > 1002\n   one\n  -----\n     1\n  (1 row)\n",
    "   id\n  ----\n    1\n    2\n    3\n  (3 rows)\n",
    "=> SELECT name FROM customers WHERE id = $1\n  $1 = 1\n",
    "=> SELECT name FROM customers WHERE id = $1\n  $1 = 2\n",
    "=> SELECT article FROM orders WHERE amount > $1\n",
    "(portal suspended: more rows can be fetched)\n",
    "  < 1\\tAda Lovelace\n  < 2\\tGrace Hopper\n  COPY 2\n",
    "  < \\x5047434f50590aff0d0a0000000000000000000001000000040000004d\n",
    "  => COPY target FROM STDIN\n  > 11\n  > 12\n  COPY 2\n",
    "  > 13\n  COPY fails: changed my mind\n  ERROR:  57014: COPY from stdin failed: changed my mind\n",
    "  > fourteen\n  ERROR:  22P02: invalid input syntax for type integer: \"fourteen\"\n",
    "  notification \"news\" with payload \"extra, extra\" from process ",
    "  NOTICE:  00000: read all about it\n",
    "=> SELECT 2 + $1::int AS second\n  $1 = two\n  ERROR:  22P02: invalid input syntax for type integer: \"two\"\n",
];

fn line(row: &Value, answers: &Answers) -> String {
    let word = |value: &Value| match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let words = [&row["verb"], &row["outcome"], &row["code"], &row["count"], &answers.of(row, "tag")].map(word);
    words.join(" ") + "\n"
}

#[test]
fn a_session_that_does_everything_is_on_record() {
    let captured = Captured::new();
    let server = captured.server(Release::Debian);
    let script = raw(include_str!("kinds.py"));
    let said = succeeded(&captured.run(&["python3", "-c", &script, &server.port().to_string()]));
    let is_object = |line: &str| line.starts_with("large object: ");
    let number = said.lines().find(|line| is_object(line)).and_then(|line| line.split('\'').nth(1)).unwrap();
    assert_eq!(said.replace(&format!("'{number}'"), "'NUMBER'"), SEEN);
    let rows = captured.rows(1);
    let (all, answers) = (statements(&rows), captured.answers());
    assert_eq!(all.iter().map(|row| line(row, &answers)).collect::<String>(), EXCHANGES);
    // What was said for a statement belongs to it and to no other, also where they were sent and failed together.
    for (word, values) in [("AS first", ["1"]), ("AS second", ["two"]), ("AS third", ["3"])] {
        assert_eq!(what(&captured.said(of(&all, word)), "parameters")["values"], json!(values), "{word}");
    }
    let last = all.last().unwrap();
    assert_eq!((&last["facts"]["parsed"], &last["facts"]["kinds"]), (&false.into(), &json!(["UNPARSED"])), "{last}");
    let show = captured.host.crewtap(&["show", rows.session()["id"].as_str().unwrap(), "--all"]).output().unwrap();
    let (shown, mut rest) = (succeeded(&show), 0);
    for part in TRANSCRIPT {
        rest += shown[rest..].find(part).unwrap_or_else(|| panic!("{part} is not in {}", &shown[rest..])) + part.len();
    }
    captured.survives();
}

/// What psql does with backslashes.
const BACKSLASHES: &str = r"\set VERBOSITY verbose
CREATE TEMP TABLE target (id int, name text);
\copy customers (id, name) TO 'FILE'
\copy target FROM 'FILE'
SELECT count(*) FROM target;
SELECT id, name FROM target WHERE false \gdesc
SELECT 1 / 0;
\lo_import FILE
";

#[test]
fn what_psql_does_with_its_own_commands_is_on_record() {
    let captured = Captured::new();
    let server = captured.server(Release::Debian);
    let script = BACKSLASHES.replace("FILE", &captured.host.path("customers.copy").display().to_string());
    std::fs::write(captured.host.path("script.sql"), script).unwrap();
    let script = captured.host.path("script.sql").display().to_string();
    let output = captured.run(&["psql", "-XqAt", "-f", &script, &plain(&server)]);
    let said = succeeded(&output);
    assert!(said.starts_with("3\nid|integer\nname|text\n"), "{said}");
    let rows = captured.rows(1);
    let (all, answers) = (statements(&rows), captured.answers());
    let copies: Vec<_> = all.iter().filter(|row| row["verb"] == "COPY").collect();
    assert_eq!(copies.len(), 2, "{all:#?}");
    for copy in &copies {
        assert_eq!((&copy["outcome"], &copy["count"]), (&"success".into(), &3.into()), "{copy}");
        assert_eq!(answers.of(copy, "tag"), "COPY 3", "{copy}");
        let said = captured.said(copy);
        assert_eq!(what(&said, "copy")["text"], "1\tAda Lovelace\n2\tGrace Hopper\n3\tMüller & Søn\n", "{said:?}");
    }
    assert_eq!(
        (&copies[0]["facts"]["tables"], &copies[1]["facts"]["tables"]),
        (&json!(["customers"]), &json!(["target"]))
    );
    let described = of(&all, "WHERE false");
    assert_eq!((&described["outcome"], &described["count"]), (&"success".into(), &Value::Null), "{described}");
    let failed = of(&all, "1 / 0");
    assert_eq!((&failed["outcome"], &failed["code"]), (&"failure".into(), &"22012".into()), "{failed}");
    assert_eq!(answers.of(failed, "message"), "division by zero");
    // Large objects are written by functions that are called by their numbers.
    assert!(all.iter().any(|row| row["subject"].as_str().unwrap().starts_with("function ")), "{all:#?}");
    assert_eq!(server.query("SELECT count(*) FROM pg_largeobject_metadata"), "1");
    captured.host.verify();
}

/// Replication is another protocol behind the same log-in.
#[test]
fn replication_is_relayed_and_noted() {
    const SCRIPT: &str = "
client = Client(int(sys.argv[1]), replication='database')
print(seen(client.ask(query('IDENTIFY_SYSTEM')))[:3])
print(seen(client.ask(query('CREATE_REPLICATION_SLOT news TEMPORARY LOGICAL test_decoding'))[-2:]))
client.say(query('START_REPLICATION SLOT news LOGICAL 0/0'))
print(client.message()[0])
client.say(message(b'c'))
print(seen(client.until(b'Z')[-3:]))
client.say(END)
";
    let captured = Captured::new();
    let server = captured.server(Release::Debian);
    assert_eq!(server.query("ALTER ROLE trusted REPLICATION"), "");
    let words = ["python3", "-c", &raw(SCRIPT), &server.port().to_string()];
    let direct = succeeded(&captured.direct(&words));
    assert_eq!(succeeded(&captured.run(&words)), direct);
    let rows = captured.rows(1);
    let (notes, exchanges) = (rows.table("notes"), rows.table("exchanges"));
    assert_eq!((notes.len(), &notes[0]["code"]), (1, &"postgres_replication".into()), "{notes:?}");
    assert_eq!(
        (exchanges.len(), &exchanges[0]["facts"]["settings"]),
        (1, &serde_json::json!(["replication=database"])),
        "{exchanges:?}"
    );
    for side in ["up", "down"] {
        assert_eq!(rows.session()[format!("recorded_{side}")], rows.session()[format!("bytes_{side}")]);
    }
    captured.host.verify();
}

/// Also where a statement was described once and is run again by its name.
#[test]
fn rows_of_a_prepared_statement_have_the_names_of_their_columns() {
    const SCRIPT: &str = "
client = Client(int(sys.argv[1]))
for message in (parse('SELECT name FROM customers WHERE id = $1', 'named') + message(b'D', b'Snamed\\0'), bind([b'1'], 'named') + EXECUTE,
        bind([b'2'], 'named') + EXECUTE):
    print(seen(client.ask(message, SYNC)))
client.say(END)
";
    let captured = Captured::new();
    let server = captured.server(Release::Debian);
    let said = succeeded(&captured.run(&["python3", "-c", &raw(SCRIPT), &server.port().to_string()]));
    assert_eq!(said, "1 t T Z\n2 'Ada Lovelace' SELECT 1 Z\n2 'Grace Hopper' SELECT 1 Z\n");
    let rows = captured.rows(1);
    let all = statements(&rows);
    let again = all.last().unwrap();
    assert_eq!(again["facts"]["columns"], "name", "{again}");
    let said = captured.said(again);
    assert_eq!(what(&said, "rows")["columns"], json!([{ "name": "name", "type": "text" }]), "{said:?}");
}
