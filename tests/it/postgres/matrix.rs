//! Every client library as crews use it, over every kind of channel, against both releases: the crew's own password works
//! unchanged, what was asked and answered is on record, and the password is not.

use std::path::Path;
use std::process::Command;

use crewtap_tests::host::{succeeded, text};
use crewtap_tests::postgres::{ANSWER, DATABASE, DRIVERS, Driver, PASSWORD, Postgres, Release, user};
use serde_json::{Value, json};

use super::captured::{Answers, Captured, newest_library, of, python, statements, what};
use crate::rows::Rows;

/// What psql asks, and every library in its own way.
const QUERY: &str = "SELECT name FROM customers WHERE id = 1";

/// Runs all clients one after the other, three words each, as every user over every channel: two words each, up to a `-`.
const EACH: &str = r#"
channels=; while [ "$1" != - ]; do channels="$channels $1:$2"; shift 2; done; shift
for channel in $channels; do export PGUSER=${channel%:*} PGSSLMODE=${channel#*:}
(while [ $# -gt 0 ]; do "$1" "$2" "$3" || echo "$channel $1 $3 failed"; shift 3; done); done"#;

/// Who logs in over what, and how that is on record.
const CHANNELS: [(&str, &str, &str); 4] = [
    (user::TRUSTED, "disable", "trust"),
    (user::SCRAM, "disable", "sasl"),
    (user::SCRAM, "require", "scram-sha-256-plus"),
    (user::SECURED, "verify-full", "scram-sha-256-plus"),
];

/// All clients over all channels in one run.
fn all_clients(captured: &Captured, server: &Postgres) -> Command {
    let mut words = ["sh", "-c", EACH, "sh"].map(str::to_owned).to_vec();
    words.extend(CHANNELS.iter().flat_map(|(user, sslmode, _)| [user, sslmode].map(|&word| word.to_owned())));
    words.extend(["-", "psql", "-XAtc", QUERY].map(str::to_owned));
    words.extend(DRIVERS.iter().flat_map(Driver::words));
    let mut command = captured.crewtap_run(&words.iter().map(String::as_str).collect::<Vec<_>>());
    DRIVERS[0].tell(&mut command, server, user::TRUSTED, ("disable", &captured.certificates.root()));
    command
}

/// How a session logged in is on record.
#[track_caller]
fn is_logged_in(answers: &Answers, rows: &Rows, session: &Value, user: &str, method: &str) {
    let login =
        rows.table("exchanges").into_iter().find(|row| row["session"] == session["id"] && row["verb"] == "LOGIN");
    let login = login.unwrap_or_else(|| panic!("{session} has no log-in"));
    let facts = &login["facts"];
    assert_eq!((&login["outcome"], &answers.of(login, "method")), (&"success".into(), &method.into()), "{login}");
    assert_eq!((&facts["user"], &facts["database"]), (&user.into(), &DATABASE.into()), "{login}");
}

/// The statement of a session.
#[track_caller]
fn asked(answers: &Answers, rows: &Rows, session: &Value) -> Value {
    let of_session: Vec<Value> =
        statements(rows).into_iter().filter(|exchange| exchange["session"] == session["id"]).collect();
    let exchange = of(&of_session, "FROM customers");
    assert_eq!((&exchange["outcome"], &exchange["count"]), (&"success".into(), &1.into()), "{exchange}");
    assert_eq!((&exchange["verb"], &exchange["code"]), (&"SELECT".into(), &Value::Null), "{exchange}");
    assert_eq!(exchange["facts"]["tables"], json!(["customers"]), "{exchange}");
    assert_eq!(answers.of(exchange, "columns"), "name", "{exchange}");
    // asyncpg asks for one row and not for the end.
    assert!(["SELECT 1".into(), Value::Null].contains(&answers.of(exchange, "tag")), "{exchange}");
    exchange.clone()
}

/// Its value and its row.
#[track_caller]
fn is_answered(captured: &Captured, exchange: &Value) {
    let said = captured.said(exchange);
    let text = what(&said, "statement")["text"].as_str().unwrap().to_owned();
    if text != QUERY {
        // Its value came apart from it.
        assert!(text.starts_with("SELECT name FROM customers WHERE id = $1"), "{text}");
        assert_eq!(what(&said, "parameters")["values"], json!(["1"]), "{said:?}");
    }
    let result = what(&said, "rows");
    assert_eq!(result["rows"], json!([["Ada Lovelace"]]), "{said:?}");
    assert_eq!(result["columns"], json!([{ "name": "name", "type": "text" }]), "{said:?}");
}

fn every_client_over(release: Release) {
    let captured = Captured::new();
    let server = captured.server(release);
    let clients = DRIVERS.len() + 1;
    let output = all_clients(&captured, &server).output().unwrap();
    assert_eq!(succeeded(&output), ANSWER.repeat(clients * CHANNELS.len()), "{}", text(&output));
    let rows = captured.rows((clients * CHANNELS.len()) as u64);
    let (sessions, answers) = (rows.table("sessions"), captured.answers());
    for ((user, sslmode, method), sessions) in CHANNELS.into_iter().zip(sessions.chunks(clients)) {
        for (number, session) in sessions.iter().enumerate() {
            let tls = if sslmode == "disable" { Value::Null } else { "verified".into() };
            assert_eq!((&session["driver"], &session["tls"]), (&"postgres".into(), &tls), "{session}");
            assert_eq!(session["outcome"], "completed", "{session}");
            is_logged_in(&answers, &rows, session, user, method);
            let exchange = asked(&answers, &rows, session);
            // Each look takes its time: at every client once, and once at every channel.
            if sslmode == "verify-full" || number == 1 {
                is_answered(&captured, &exchange);
            }
        }
    }
    let asked = server.statements().iter().filter(|text| text.contains("FROM customers WHERE id = ")).count();
    assert_eq!(asked, CHANNELS.len() * clients);
    captured.keeps_no(PASSWORD, "Ada Lovelace");
    captured.host.verify();
}

#[test]
fn every_client_of_debians_server_is_on_record_over_every_channel() {
    every_client_over(Release::Debian);
}

#[test]
fn every_client_of_the_newest_server_is_on_record_over_every_channel() {
    every_client_over(Release::Eighteen);
}

/// The newest libpq: TLS from the first byte, and the newest version of the protocol.
fn newest(root: &Path, server: &Postgres, more: &str) -> String {
    format!(
        "host=127.0.0.1 port={} dbname={DATABASE} user={} sslrootcert={} {more}",
        server.port(),
        user::SCRAM,
        root.display()
    )
}

#[test]
fn direct_tls_and_the_newest_protocol_are_spoken() {
    let captured = Captured::new();
    let server = captured.server(Release::Eighteen);
    let (root, python, library) = (captured.certificates.root(), python(), newest_library());
    let psycopg = format!("import psycopg, sys; print(psycopg.connect(sys.argv[1]).execute('{QUERY}').fetchone()[0])");
    for more in [
        "sslmode=require sslnegotiation=direct",
        "sslmode=verify-full sslnegotiation=direct min_protocol_version=3.2",
        "sslmode=disable min_protocol_version=3.2",
    ] {
        let place = newest(&root, &server, more);
        let mut psql = captured.crewtap_run(&["psql", "-XAtc", QUERY, &place]);
        psql.env("LD_LIBRARY_PATH", &library);
        let psycopg = captured.crewtap_run(&[&python, "-c", &psycopg, &place]);
        for mut command in [psql, psycopg] {
            assert_eq!(succeeded(&command.output().unwrap()), ANSWER, "{more}");
            let rows = captured.rows(1);
            let session = rows.session();
            let tls = if more.contains("direct") { "verified".into() } else { Value::Null };
            assert_eq!((&session["driver"], &session["tls"]), (&"postgres".into(), &tls), "{session}");
            let method = if tls.is_null() { "sasl" } else { "scram-sha-256-plus" };
            let answers = captured.answers();
            is_logged_in(&answers, &rows, session, user::SCRAM, method);
            is_answered(&captured, &asked(&answers, &rows, session));
        }
    }
    captured.keeps_no(PASSWORD, "Ada Lovelace");
    captured.host.verify();
}

/// A wrong password fails in the target's own words, and is not kept either.
#[test]
fn a_wrong_password_is_refused_by_the_target_and_not_on_record() {
    const WRONG: &str = "wrong horse 8!";
    let captured = Captured::new();
    let server = captured.server(Release::Debian);
    for sslmode in ["disable", "require"] {
        let mut psql = captured.crewtap_run(&["psql", "-XAtc", QUERY]);
        DRIVERS[0].tell(&mut psql, &server, user::SCRAM, (sslmode, &captured.certificates.root()));
        let output = psql.env("PGPASSWORD", WRONG).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{}", text(&output));
        assert!(text(&output).contains("password authentication failed for user \"scram\""), "{}", text(&output));
        let rows = captured.rows(1);
        let login = rows.table("exchanges")[0];
        assert_eq!((&login["outcome"], &login["code"]), (&"failure".into(), &"28P01".into()), "{login}");
    }
    captured.keeps_no(WRONG, "password authentication failed");
    assert!(server.statements().is_empty());
}

/// Who insists on a bound channel says no to a question for the password. Once can be anything; after twice the next
/// connection is left unopened, and the record says so.
#[test]
fn a_client_that_insists_on_a_bound_channel_gets_in_unopened() {
    let captured = Captured::new();
    let server = captured.server(Release::Debian);
    let mut psql = captured.crewtap_run(&["sh", "-c", r#"psql "$@" || psql "$@" || psql "$@""#, "sh", "-XAtc", QUERY]);
    DRIVERS[0].tell(&mut psql, &server, user::SCRAM, ("require", &captured.certificates.root()));
    let output = psql.env("PGCHANNELBINDING", "require").output().unwrap();
    assert_eq!(succeeded(&output), ANSWER, "{}", text(&output));
    let rows = captured.rows(3);
    let states: Vec<_> =
        rows.table("sessions").iter().map(|session| session["tls"].as_str().unwrap().to_owned()).collect();
    assert_eq!(states, ["verified", "verified", "passed"]);
    let notes = rows.table("notes");
    let said = notes.iter().rfind(|note| note["code"] == "postgres_login").expect("a note on the log-in");
    assert!(said["text"].as_str().unwrap().contains("are not opened for some minutes"), "{said}");
    captured.keeps_no(PASSWORD, "postgres_login");
    captured.host.verify();
}
