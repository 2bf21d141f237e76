//! The other ways in: what clients ask for before they log in, files that libpq looks for itself, certificates of clients;
//! and what the target is told of who comes.

use crewtap_tests::host::{succeeded, text};
use crewtap_tests::postgres::{DATABASE, PASSWORD, Postgres, Release, user};
use serde_json::Value;

use super::captured::{Captured, of, plain, python, raw, statements};
use crate::rows::Rows;

/// One statement in each way; its text names the way.
const WAYS: &str = r#"
ask() { psql -XAtc "SELECT '$1'"; }
PGUSER=scram PGSSLMODE=verify-full ask home
PGUSER=scram PGSSLMODE=verify-ca PGSSLROOTCERT=$ROOT ask authority
PGUSER=trusted PGSSLMODE=prefer ask preferred
PGUSER=trusted PGSSLMODE=prefer PGPORT=5433 ask plain
PGUSER=secured PGSSLMODE=allow ask allowed
PGUSER=certified PGPORT=5434 PGSSLMODE=require PGSSLCERT=$CERTIFICATE PGSSLKEY=$KEY ask certified
"#;

/// The statement with this text, and its session.
fn asked<'r>(rows: &'r Rows, all: &'r [Value], way: &str) -> (&'r Value, &'r Value) {
    let exchange = of(all, way);
    let sessions = rows.table("sessions");
    (exchange, sessions.into_iter().find(|session| session["id"] == exchange["session"]).unwrap())
}

#[test]
fn clients_come_in_as_they_do_without_crewtap() {
    let captured = Captured::new();
    let root = captured.certificates.root();
    let shown = captured.certificates.leaf("pg.target.test", "sha256");
    let on = || Postgres::on(&captured.host);
    let _servers = [
        on().tls(&shown).start(),
        on().port(5433).start(),
        on().port(5434).tls(&shown).client_authority(&root).start(),
    ];
    let certified = captured.certificates.client(user::CERTIFIED);
    let home = captured.host.path("home");
    std::fs::create_dir_all(home.join(".postgresql")).unwrap();
    std::fs::copy(&root, home.join(".postgresql/root.crt")).unwrap();
    let mut command = captured.crewtap_run(&["sh", "-c", WAYS]);
    command.env("PGHOST", "127.0.0.1").env("PGDATABASE", DATABASE).env("HOME", &home).env("ROOT", &root);
    command.env("CERTIFICATE", &certified.chain).env("KEY", &certified.key);
    let output = command.output().unwrap();
    assert_eq!(succeeded(&output), "home\nauthority\npreferred\nplain\nallowed\ncertified\n", "{}", text(&output));
    // One that is allowed comes in clear first, and is refused.
    let rows = captured.rows(7);
    let all = statements(&rows);
    for (way, tls) in [
        ("home", "verified".into()),
        ("authority", "verified".into()),
        ("preferred", "verified".into()),
        ("plain", Value::Null),
        ("allowed", "verified".into()),
    ] {
        let (exchange, session) = asked(&rows, &all, way);
        assert_eq!((&exchange["outcome"], &session["tls"]), (&"success".into(), &tls), "{session}");
    }
    let logins = rows.table("exchanges").into_iter().filter(|row| row["verb"] == "LOGIN");
    let refused: Vec<_> = logins.filter(|row| row["outcome"] != "success").collect();
    assert_eq!((refused.len(), &refused[0]["code"]), (1, &"28000".into()), "{refused:?}");
    // Whose key only the client has is left unopened, and says so.
    let sessions = rows.table("sessions");
    let passed: Vec<_> = sessions.iter().filter(|session| session["tls"] == "passed").collect();
    assert_eq!(passed.len(), 1, "{sessions:#?}");
    assert_eq!(passed[0]["driver"], "opaque", "{}", passed[0]);
    captured.keeps_no(PASSWORD, "SELECT 'allowed'");
    captured.host.verify();
}

/// GSSAPI is refused, and the session goes on.
const GSSAPI: &str = "
with connect(int(sys.argv[1])) as connection:
    connection.sendall(struct.pack('>II', 8, 80877104))
    print(connection.recv(100))
    connection.sendall(struct.pack('>II', 8, 80877103))
    print(connection.recv(100))
    connection.sendall(startup() + query(\"SELECT 'without'\") + END)
    print(b'without' in b''.join(iter(lambda: connection.recv(65536), b'')))
";

#[test]
fn encryption_by_gssapi_is_refused_and_the_session_goes_on() {
    let captured = Captured::new();
    let server = Postgres::on(&captured.host).start();
    let said = succeeded(&captured.run(&["python3", "-c", &raw(GSSAPI), &server.port().to_string()]));
    assert_eq!(said, "b'N'\nb'N'\nTrue\n");
    let rows = captured.rows(1);
    assert_eq!(of(&statements(&rows), "without")["outcome"], "success");
    assert_eq!(rows.session()["recorded_up"], rows.session()["bytes_up"]);
}

/// Its own name for itself, what the target has for it, and what the target's view says.
const NAMES: &str = "
import psycopg, sys
for name in ('', 'the auditors', 'n' * 63):
    with psycopg.connect(sys.argv[1], application_name=name) as connection:
        seen = connection.execute('SELECT application_name FROM pg_stat_activity WHERE pid = pg_backend_pid()').fetchone()
        print(connection.info.parameter_status('application_name') == name, seen[0], sep='|')
";

#[test]
fn the_target_knows_which_session_it_is() {
    let captured = Captured::new();
    let server = captured.server(Release::Debian);
    let said = succeeded(&captured.run(&[&python(), "-c", NAMES, &plain(&server)]));
    let rows = captured.rows(3);
    let ids = rows.table("sessions").into_iter().map(|session| session["id"].as_str().unwrap().to_owned());
    for ((line, id), name) in said.lines().zip(ids).zip(["", "the auditors ", "nnnnnnnnnnnnnnnnnnnnnnnnnnnn "]) {
        let (own, seen) = line.split_once('|').unwrap();
        assert_eq!(own, "True", "the client sees another name than its own: {line}");
        assert!(seen.ends_with(&format!("crewtap:{id}")), "{line}");
        assert!(seen.starts_with(name) && seen.len() <= 63, "{line}");
        assert!(server.log().contains(&format!("|{seen}|")), "{seen} is not in the server's log");
    }
    assert_eq!(said.lines().count(), 3);
}
