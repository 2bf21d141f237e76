//! Canaries in statements, values, rows, COPY data and errors: client and server see them, the store never does.

use crewtap_tests::host::succeeded;
use crewtap_tests::postgres::Release;

use super::captured::Captured;
use crate::redaction::in_store;

const CARD: &str = "4012888888881881";
const GROUPED: &str = "5555-5555-5555-4444";
const IBAN: &str = "DE89370400440532013000";

/// Statements as text, values as text and as binary, rows as text and as binary, COPY both ways, errors.
const SCRIPT: &str = "
import psycopg, os
c = psycopg.connect(os.environ['DSN'] if 'DSN' in os.environ else '', autocommit=True)
CARD, GROUPED, IBAN = '4012888888881881', '5555-5555-5555-4444', 'DE89370400440532013000'
c.execute('CREATE TEMP TABLE pays (id int, card text, number int8, amount numeric, doc jsonb)')
c.execute(f\"INSERT INTO pays VALUES (1, '{GROUPED}', {CARD}, {CARD}, '{{\\\"iban\\\": \\\"{IBAN}\\\"}}')\")
c.execute('INSERT INTO pays VALUES (%s, %s, %s, %s, NULL)', (2, CARD, int(CARD), IBAN and 5))
c.execute('INSERT INTO pays VALUES (%b, %b, %b, NULL, NULL)', (3, GROUPED, int(CARD)))
for binary in (False, True):
    rows = c.cursor(binary=binary).execute('SELECT card, number, amount, doc FROM pays ORDER BY id').fetchall()
    print(rows[0][0], rows[0][1], rows[0][2], rows[0][3]['iban'])
with c.cursor().copy('COPY pays (id, card) FROM STDIN') as copy:
    five = '5' * 4
    for piece in (f'4\\t{five}-5', f'555-{five}-', '4' * 4 + '\\n'):
        copy.write(piece)
with c.cursor().copy('COPY pays (id, card) TO STDOUT') as copy:
    print(sum(GROUPED in bytes(row).decode() for row in copy))
try:
    c.execute('SELECT %s::int4', ('no. ' + CARD,))
except psycopg.Error as error:
    print(CARD in str(error))
try:
    c.execute(\"ALTER ROLE nobody_there ENCRYPTED PASSWORD 'hunter3canary' VALID UNTIL 'infinity'\")
except psycopg.Error as error:
    print(error.sqlstate)
";

#[test]
fn canaries_are_in_nothing_that_postgresql_says_or_is_told() {
    let captured = Captured::new();
    let server = captured.server(Release::Debian);
    let python = crewtap_tests::world::clients_project(&crewtap_tests::world::cache_dir()).join(".venv/bin/python");
    let dsn = format!(
        "host=127.0.0.1 port={} dbname={} user={} sslmode=disable",
        server.port(),
        crewtap_tests::postgres::DATABASE,
        crewtap_tests::postgres::user::TRUSTED
    );
    let mut run = captured.crewtap_run(&[python.to_str().unwrap(), "-c", SCRIPT]);
    let output = run.env("DSN", dsn).output().unwrap();
    let line = format!("{GROUPED} {CARD} {CARD} {IBAN}\n");
    assert_eq!(succeeded(&output), format!("{line}{line}3\nTrue\n42704\n"), "the client sees what is there");
    // The script itself was on the command line.
    for clear in [CARD, GROUPED, "5555-5555", "55-5555-", IBAN, "4012 8888", "hunter3canary"] {
        assert_eq!(in_store(&captured.host, clear), Vec::<std::path::PathBuf>::new(), "{clear:?}");
    }
    let number = 4_012_888_888_881_881_u64.to_be_bytes();
    let numeric: Vec<u8> = [4012u16, 8888, 8888, 1881].iter().flat_map(|group| group.to_be_bytes()).collect();
    for binary in [&number[..], &numeric] {
        let text = binary.iter().map(|byte| char::from(*byte)).collect::<String>();
        assert_eq!(in_bytes(&captured, binary), 0, "{text:?}");
    }
    let rows = captured.rows(1);
    let selects: Vec<_> = rows
        .table("exchanges")
        .into_iter()
        .filter(|row| row["subject"].as_str().is_some_and(|text| text.contains("SELECT card")))
        .collect();
    assert!(selects.iter().all(|row| row["masked"].as_i64() >= Some(4)), "{selects:?}");
    captured.survives();
}

/// How many files of the store have these bytes.
fn in_bytes(captured: &Captured, needle: &[u8]) -> usize {
    let mut found = 0;
    let mut directories = vec![captured.host.data_dir()];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
            } else if std::fs::read(&path).is_ok_and(|bytes| bytes.windows(needle.len()).any(|window| window == needle))
            {
                found += 1;
            }
        }
    }
    found
}
