//! Masks with `apply = "wire"`: what clients get of rows, COPY data, errors and notices, and that all of it still reads.

use crewtap::journal::Reader;
use crewtap_core::bodies::Apply;
use crewtap_core::event::Body;
use crewtap_tests::host::{succeeded, text};
use crewtap_tests::postgres::{DATABASE, Release, user};
use crewtap_tests::world::{cache_dir, clients_project};

use super::captured::Captured;
use crate::redaction::in_store;

const CARD: &str = "4012888888881881";
const GROUPED: &str = "5555-5555-5555-4444";
const IBAN: &str = "DE89370400440532013000";

const MASKS: &str = "
[mask.card]
apply = 'wire'
[mask.iban]
apply = 'wire'
keep_last = 0
[mask.note]
where = ['column:note']
apply = 'wire'
[mask.recorded]
regex = 'only-[a-z]{4}'
";

/// What every client reads.
const TABLE: &str = "
CREATE TABLE pays (id int, card text, number int8, amount numeric, doc jsonb, note text, free text);
INSERT INTO pays VALUES (1, '5555-5555-5555-4444', 4012888888881881, 4012888888881881, '{\"iban\": \"DE89370400440532013000\"}',
  'nobody reads this', 'only-here'),
  (2, NULL, 7, 7.25, '[1, 2]', NULL, 'plain');
";

fn captured() -> Captured {
    let captured = Captured::new();
    captured.configure("masks = 'masks.toml'");
    std::fs::write(captured.host.path("masks.toml"), MASKS).unwrap();
    captured
}

fn dsn(port: u16) -> String {
    format!("host=127.0.0.1 port={port} dbname={DATABASE} user={} sslmode=disable", user::TRUSTED)
}

/// What a script of Python prints, captured.
fn python(captured: &Captured, dsn: &str, script: &str) -> String {
    let python = clients_project(&cache_dir()).join(".venv/bin/python");
    let mut run = captured.crewtap_run(&[python.to_str().unwrap(), "-c", script]);
    succeeded(&run.env("DSN", dsn).output().unwrap())
}

/// Values that no client prints and that nothing on record has.
fn assert_absent(captured: &Captured, said: &str) {
    for clear in [CARD, GROUPED, "5555-5555", "88888881881", IBAN, "nobody reads"] {
        assert!(!said.contains(clear), "{clear} in {said}");
    }
    for clear in [CARD, GROUPED, "5555-5555", IBAN, "nobody reads"] {
        assert_eq!(in_store(&captured.host, clear), Vec::<std::path::PathBuf>::new(), "{clear}");
    }
}

/// The `Masked` events on record: mask, and for whom it was hidden.
fn masked(captured: &Captured) -> Vec<(String, Apply)> {
    let events = Reader::open(&captured.host.data_dir()).unwrap().from(0).map(|record| record.unwrap().event.body);
    let masked = |body| if let Body::Masked(masked) = body { Some((masked.mask, masked.apply)) } else { None };
    events.filter_map(masked).collect()
}

#[test]
fn psycopg_gets_masked_rows_in_text_and_in_binary_and_all_else_as_it_is() {
    let captured = captured();
    let server = captured.server(Release::Debian);
    let dsn = dsn(server.port());
    let setup = format!("{} \"{dsn}\"", "psql -q -v ON_ERROR_STOP=1");
    let mut direct = captured.host.command("sh");
    let setup = direct.args(["-c", &format!("{setup} <<'END'\n{TABLE}\nEND")]).output().unwrap();
    assert!(setup.status.success(), "{}", text(&setup));
    let said = python(
        &captured,
        &dsn,
        "
import psycopg, os
c = psycopg.connect(os.environ['DSN'], autocommit=True)
notices = []
c.add_notice_handler(lambda diag: notices.append(diag.message_primary))
for binary in (False, True):
    for row in c.cursor(binary=binary).execute('SELECT * FROM pays ORDER BY id').fetchall(): print(row)
with c.cursor().copy('COPY pays (id, card, free) TO STDOUT') as copy:
    for row in copy: print(bytes(row).decode().strip().split('\\t'))
try:
    c.execute(\"SELECT card::int FROM pays\")
except psycopg.Error as error:
    print(error.diag.message_primary)
c.execute(\"DO $$ BEGIN RAISE NOTICE 'paid with %', (SELECT card FROM pays WHERE id = 1); END $$\")
print(notices[0])
print(c.execute(\"SELECT repeat('x', 3000000) || ' ' || card || ' ' || repeat('y', 100000) FROM pays WHERE id = 1\"
    ).fetchone()[0].replace('x', '').replace('y', ''))
print(len(c.execute(\"SELECT repeat('z', 2000000) AS note\").fetchone()[0].replace('*', '')))
with c.transaction(): print(c.execute('SELECT count(*) FROM pays').fetchone())
secret = 'nobody ' + 'reads ' + 'inserts'
c.execute('INSERT INTO pays (id, note) VALUES (%s, %s)', (3, secret))
c.execute(f\"INSERT INTO pays (id, note) VALUES (4, '{secret}')\")
c.execute(f\"UPDATE pays SET note = '{secret}' WHERE note IN ('{secret}', '{secret}!')\")
with c.cursor().copy('COPY pays (id, note) FROM STDIN') as copy: copy.write(f'5\\t{secret}\\n')
for form in ('', ' WITH (FORMAT csv)'):
    with c.cursor().copy('COPY pays (id, note, free) TO STDOUT' + form) as copy:
        print(sorted(bytes(row).decode().strip() for row in copy))
print(c.execute('SELECT count(*) FROM pays WHERE note = %s', (secret,)).fetchone())
",
    );
    let lines: Vec<&str> = said.lines().collect();
    let hidden = "'*****************', 'only-here')";
    let shown = "{'iban': '**********************'}";
    let text_row =
        format!("(1, '****-****-****-4444', 9999999999991881, Decimal('9999999999991881'), {shown}, {hidden}");
    let binary_row = format!("(1, '****-****-****-4444', 1881, Decimal('1881'), {shown}, {hidden}");
    let plain = "(2, None, 7, Decimal('7.25'), [1, 2], None, 'plain')";
    assert_eq!(lines[..4], [&*text_row, plain, &*binary_row, plain], "{said}");
    assert_eq!(lines[4], "['1', '****-****-****-4444', 'only-here']", "{said}");
    assert!(lines[6].ends_with("\"****-****-****-4444\""), "{said}");
    assert_eq!(lines[7], "paid with ****-****-****-4444");
    assert_eq!(lines[8], " ****-****-****-4444 ");
    assert_eq!(lines[9..11], ["0", "(2,)"], "{said}");
    let note = "*".repeat(20);
    let text = format!("['1\\t{}\\tonly-here', '2\\t\\\\N\\tplain', ", "*".repeat(17));
    let of = |id: u8| format!("'{id}\\t{note}\\t\\\\N'");
    assert_eq!(lines[11], format!("{text}{}, {}, {}]", of(3), of(4), of(5)), "{said}");
    let of = |id: u8| format!("'{id},{note},'");
    let text = format!("['1,{},only-here', '2,,plain', ", "*".repeat(17));
    assert_eq!(lines[12..], [format!("{text}{}, {}, {}]", of(3), of(4), of(5)), "(3,)".into()], "{said}");
    assert_absent(&captured, &said);
    assert_eq!(in_store(&captured.host, "only-here"), Vec::<std::path::PathBuf>::new(), "the record's own rule");
    let masked = masked(&captured);
    let wired = ["card", "iban", "note"].map(|mask| (mask.to_owned(), Apply::Wire));
    for wanted in wired.into_iter().chain([("recorded".to_owned(), Apply::Record)]) {
        assert!(masked.contains(&wanted), "{wanted:?} in {masked:?}");
    }
    let _rows = captured.rows(1);
    captured.survives();
}

#[test]
fn asyncpg_gets_masked_binary_rows_of_statements_that_were_described_earlier() {
    let captured = captured();
    let server = captured.server(Release::Debian);
    let dsn = format!("postgres://{}@127.0.0.1:{}/{DATABASE}?sslmode=disable", user::TRUSTED, server.port());
    let said = python(
        &captured,
        &dsn,
        "
import asyncio, asyncpg, os
async def main():
    c = await asyncpg.connect(os.environ['DSN'])
    await c.execute('''CREATE TEMP TABLE pays (id int, card text, number int8, amount numeric, note text)''')
    await c.execute('INSERT INTO pays (id, card, number, amount, note) SELECT n, $1, $2, $3, $4 FROM generate_series(1, 3) n', *(
        '5555-' * 3 + '4444', int('4012' + '8888' * 2 + '1881'), 5, 'nobody ' + 'reads'))
    notes = await c.prepare('SELECT id, note FROM pays WHERE id = $1')
    cards = await c.prepare('SELECT card, number, amount FROM pays WHERE id = $1')
    for n in (1, 2):
        print(tuple(await notes.fetchrow(n)))
        print(tuple(await cards.fetchrow(n)))
    async with c.transaction():
        async for row in c.cursor('SELECT note, card FROM pays', prefetch=1): print(tuple(row))
    await c.close()
asyncio.run(main())
",
    );
    let lines: Vec<&str> = said.lines().collect();
    let note = "************";
    for n in [1, 2] {
        assert_eq!(lines[2 * n - 2], format!("({n}, '{note}')"), "{said}");
        assert_eq!(lines[2 * n - 1], "('****-****-****-4444', 1881, Decimal('5'))", "{said}");
    }
    assert_eq!(lines[4..], vec![format!("('{note}', '****-****-****-4444')"); 3], "{said}");
    assert_absent(&captured, &said);
    captured.rows(1);
    captured.survives();
}

#[test]
fn psql_prints_what_it_gets() {
    let captured = captured();
    let server = captured.server(Release::Debian);
    let dsn = dsn(server.port());
    let query = format!("SELECT '{}' || '-' || '{}' AS card, 'a' AS note", &GROUPED[..9], &GROUPED[10..]);
    let output = captured.run(&["psql", "-At", &dsn, "-c", &query, "-c", &format!("COPY ({query}) TO STDOUT")]);
    let said = succeeded(&output);
    // This COPY has no names of columns, and the record says so.
    assert_eq!(unkept(&captured), 1);
    assert_eq!(said, "****-****-****-4444|*\n****-****-****-4444\ta\n", "{}", text(&output));
    captured.survives();
}

#[test]
fn enforce_lets_nothing_pass_that_cannot_be_masked_and_record_says_so() {
    let captured = captured();
    let server = captured.server(Release::Debian);
    // Of another version of the protocol: nobody here reads it.
    let raw = format!(
        "import socket\ns = socket.create_connection(('127.0.0.1', {}))\ns.sendall(b'\\x00\\x00\\x00\\x08\\x00\\x02\\x00\\x00')\n\
         try: print(b'FATAL' in s.recv(100))\nexcept OSError: print('reset')\n",
        server.port()
    );
    assert_eq!(succeeded(&captured.run(&["python3", "-c", &raw])), "True\n");
    assert_eq!(unkept(&captured), 1);
    crate::agent::wait_idle(&captured.host);
    let targets = format!(
        "[target.pays]\nmatch = {{ cidr = ['127.0.0.1/32'], port = [{}] }}\nprotocol = 'postgres'\nmode = 'enforce'\n",
        server.port()
    );
    std::fs::write(captured.host.path("targets.toml"), targets).unwrap();
    std::fs::create_dir_all(captured.host.path("policy")).unwrap();
    std::fs::write(captured.host.path("policy/all.cedar"), "permit(principal, action, resource);\n").unwrap();
    captured.configure("masks = 'masks.toml'\ntargets = 'targets.toml'\npolicy = 'policy'");
    let output = captured.run(&["python3", "-c", &raw]);
    assert_eq!(succeeded(&output), "reset\n", "{}", text(&output));
    assert_eq!(unkept(&captured), 2);
}

/// Notes that say that values were not hidden from a client.
fn unkept(captured: &Captured) -> usize {
    let events = Reader::open(&captured.host.data_dir()).unwrap().from(0).map(|record| record.unwrap().event.body);
    events.filter(|body| matches!(body, Body::Note(note) if note.code == "mask_wire_unkept")).count()
}
