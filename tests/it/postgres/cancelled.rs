//! Cancelling: a connection of its own reaches the statement that it is for, and nothing else.

use std::time::{Duration, Instant};

use crewtap::journal::Reader;
use crewtap_tests::host::succeeded;
use crewtap_tests::postgres::{PASSWORD, Postgres, Release, user};
use serde_json::Value;

use super::captured::{Captured, python, raw, statements, uri};
use crate::rows::Rows;

const WAIT: Duration = Duration::from_secs(30);

/// How many statements of clients sleep.
fn sleeping(server: &Postgres) -> String {
    server.query("SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE 'SELECT pg_sleep%'")
}

/// Waits until this many do.
#[track_caller]
fn until_sleeping(server: &Postgres, count: &str) {
    let deadline = Instant::now() + WAIT;
    while sleeping(server) != count {
        assert!(Instant::now() < deadline, "{} statements sleep", sleeping(server));
    }
}

/// A person's Ctrl-C, these ways of psycopg, and a time that asyncpg gives a statement.
fn is_cancelled_over(user: &str, sslmode: &str, ways: &[&str]) {
    let captured = Captured::new();
    let server = captured.server(Release::Debian);
    let place = uri(&server, &format!("{user}:{}", PASSWORD.replace(' ', "%20")), &format!("sslmode={sslmode}"));
    let script = [&python(), "-c", include_str!("cancelled.py"), &place];
    let mut client = captured.spawn(&[&script, ways].concat());
    for name in ["psql"].iter().chain(ways) {
        assert_eq!(client.line(), format!("sleeping {name}"));
        until_sleeping(&server, "1");
        client.go_on();
        let interrupted = "Cancel request sent ERROR: canceling statement due to user request";
        assert_eq!(client.line(), if *name == "psql" { interrupted } else { "57014 next" }, "{name}");
    }
    let (said, status) = client.end();
    assert_eq!((said.as_slice(), status.code()), (["too late next".to_owned()].as_slice(), Some(0)));
    let count = ways.len() + 2;
    let rows = captured.rows(2 * count as u64);
    let all = statements(&rows);
    let slept: Vec<&Value> = all.iter().filter(|row| row["subject"] == "SELECT pg_sleep(100)").collect();
    let cancels: Vec<&Value> = all.iter().filter(|row| row["verb"] == "CANCEL").collect();
    assert_eq!((slept.len(), cancels.len()), (count, count), "{all:#?}");
    for (slept, cancel) in slept.into_iter().zip(cancels) {
        assert_eq!((&slept["outcome"], &slept["code"]), (&"failure".into(), &"57014".into()), "{slept}");
        assert_eq!(cancel["outcome"], "success", "{cancel}");
        // Each says whom it is for.
        assert_eq!(cancel["subject"], format!("session {}", slept["session"].as_str().unwrap()), "{cancel}");
        assert_ne!(cancel["session"], slept["session"]);
    }
    let next = all.iter().filter(|row| row["subject"] == "SELECT 'next'" && row["outcome"] == "success").count();
    assert_eq!(next, count - 1, "{all:#?}");
    captured.keeps_no(PASSWORD, "pg_sleep");
    captured.host.verify();
}

#[test]
fn statements_are_cancelled_in_clear() {
    is_cancelled_over(user::TRUSTED, "disable", &["cancel", "cancel_safe"]);
}

#[test]
fn statements_are_cancelled_over_tls() {
    is_cancelled_over(user::SECURED, "require", &["cancel"]);
}

/// A client that tells its key, and waits for the end of its statement.
const SLEEPER: &str = "
client = Client(int(sys.argv[1]))
client.say(query('SELECT pg_sleep(100)'))
print(client.pid, client.key.hex(), flush=True)
wait()
cancel(client.port, client.pid, client.key)
print(seen(client.until(b'Z')))
";

/// One that cancels with somebody's key.
const STRANGER: &str = "print(cancel(int(sys.argv[1]), int(sys.argv[2]), bytes.fromhex(os.environ['KEY'])))";

#[test]
fn a_key_is_worth_nothing_in_another_run() {
    let captured = Captured::new();
    let server = captured.server(Release::Debian);
    let port = server.port().to_string();
    let mut sleeper = captured.spawn(&["python3", "-c", &raw(SLEEPER), &port]);
    let told = sleeper.line();
    let (pid, key) = told.split_once(' ').unwrap();
    assert_eq!(sleeper.line(), "ready");
    until_sleeping(&server, "1");
    let mut stranger = captured.crewtap_run(&["python3", "-c", &raw(STRANGER), &port, pid]);
    assert_eq!(succeeded(&stranger.env("KEY", key).output().unwrap()), "b''\n");
    // The target has been asked, and knows the key as little as we do.
    assert!(server.log().contains(&format!("wrong key in cancel request for process {pid}")), "{}", server.log());
    assert_eq!(sleeping(&server), "1");
    let rows = Rows::of_last_run(&captured.host);
    rows.reconciled(1);
    let cancel = rows.table("exchanges")[0];
    assert_eq!((&cancel["verb"], &cancel["outcome"]), (&"CANCEL".into(), &"unknown".into()), "{cancel}");
    // Its own run's may use it; the target's own key is not what it was told.
    sleeper.go_on();
    let (said, status) = sleeper.end();
    assert_eq!((said.as_slice(), status.code()), (["T E57014 Z".to_owned()].as_slice(), Some(0)));
    let key: [u8; 4] = u32::from_str_radix(key, 16).unwrap().to_be_bytes();
    let stranger = cancel["session"].as_str();
    for record in Reader::open(&captured.host.data_dir()).unwrap().from(0) {
        let record = record.unwrap();
        // What a stranger says may be anything: it is shown. What the key's owner was told and says with it is not.
        let shown = record.payload.windows(key.len()).any(|part| part == key);
        let session = record.event.session.map(|session| session.to_string());
        assert!(!shown || session.as_deref() == stranger, "{:?}", record.payload);
    }
    captured.host.verify();
}

/// libpq waits for the end of the TLS session that it cancels over, as the target's own server ends it.
#[test]
fn a_cancel_over_tls_ends_in_order() {
    is_cancelled_over(user::SECURED, "require", &["cancel_safe"]);
}
