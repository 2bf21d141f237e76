//! Sessions that end as none should: it is named on record how, what came before is there, and the agent lives on.

use std::time::{Duration, Instant};

use crewtap_tests::host::{succeeded, text};
use crewtap_tests::postgres::{Postgres, Release};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use super::captured::{Captured, Talk, of, plain, raw, statements};
use crate::rows::Rows;

/// Longer than the agent waits for a session of a run that has ended.
const WAIT: Duration = Duration::from_mins(1);

struct Ground {
    captured: Captured,
    server: Postgres,
}

impl Ground {
    fn new() -> Self {
        let captured = Captured::new();
        let server = captured.server(Release::Debian);
        Self { captured, server }
    }

    fn words(&self, case: &str) -> [String; 5] {
        ["python3".into(), "-c".into(), raw(include_str!("broken.py")), self.server.port().to_string(), case.into()]
    }

    fn run(&self, case: &str) -> String {
        succeeded(&self.captured.run(&self.words(case).each_ref().map(String::as_str)))
    }

    fn spawn(&self, case: &str) -> Talk {
        self.captured.spawn(&self.words(case).each_ref().map(String::as_str))
    }

    /// What is on record of the last run; nothing is lost, whatever has happened.
    fn rows(&self) -> Rows {
        let rows = Rows::of_last_run(&self.captured.host);
        rows.reconciled(rows.table("sessions").len() as u64);
        for session in rows.table("sessions") {
            for side in ["up", "down"] {
                assert_eq!(session[format!("recorded_{side}")], session[format!("bytes_{side}")], "{session}");
            }
        }
        let all = statements(&rows);
        assert_eq!(of(&all, "after all")["outcome"], "success");
        rows
    }

    /// What is on record once every session of the last run has ended.
    fn ended(&self) -> Rows {
        let deadline = Instant::now() + WAIT;
        loop {
            let rows = Rows::of_last_run(&self.captured.host);
            if rows.table("sessions").iter().all(|session| !session["outcome"].is_null()) {
                return rows;
            }
            assert!(Instant::now() < deadline, "{:?}", rows.table("sessions"));
        }
    }
}

fn signal(pid: i32, signal: Signal) {
    kill(Pid::from_raw(pid), signal).unwrap();
}

/// A note of the last run's.
#[track_caller]
fn noted<'r>(rows: &'r Rows, code: &str) -> &'r str {
    let notes = rows.table("notes");
    let note = notes.into_iter().find(|note| note["code"] == code);
    note.unwrap_or_else(|| panic!("no {code} in {:?}", rows.table("notes")))["text"].as_str().unwrap()
}

#[test]
fn a_target_that_dies_in_mid_row_is_named() {
    let ground = Ground::new();
    // A backend that is asked to end says so.
    let mut client = ground.spawn("terminated");
    let pid = client.number();
    assert_eq!(ground.server.query(&format!("SELECT pg_terminate_backend({pid})")), "t");
    let (said, status) = client.end();
    assert_eq!((said.as_slice(), status.code()), (["E57P01".to_owned(), "after all".into()].as_slice(), Some(0)));
    let rows = ground.rows();
    let (all, answers) = (statements(&rows), ground.captured.answers());
    let failed = of(&all, "pg_sleep");
    assert_eq!((&failed["outcome"], &failed["code"]), (&"failure".into(), &"57P01".into()), "{failed}");
    assert!(failed["count"].as_i64().unwrap() > 40, "{failed}");
    assert_eq!(answers.of(failed, "message"), "terminating connection due to administrator command");
    // One that is killed takes the others with it, and says nothing: the client is in the middle of a row.
    let mut client = ground.spawn("killed");
    let pid = client.number();
    assert_eq!(client.line(), "ready");
    signal(pid, Signal::SIGKILL);
    client.go_on();
    let (said, status) = client.end();
    assert_eq!((said.as_slice(), status.code()), (["True 0 0".to_owned(), "after all".into()].as_slice(), Some(0)));
    let rows = ground.rows();
    let all = statements(&rows);
    assert_eq!(of(&all, "generate_series")["outcome"], "aborted");
    assert!(noted(&rows, "postgres_cut").starts_with("the target ended in the middle of a message: "));
    ground.captured.survives();
}

#[test]
fn a_client_that_dies_in_mid_copy_is_named() {
    let ground = Ground::new();
    let script = r#"python3 -c "$1" "$2" gone_in_copy; echo $?; python3 -c "$1" "$2" after"#;
    let (raw, port) = (raw(include_str!("broken.py")), ground.server.port().to_string());
    let said = succeeded(&ground.captured.run(&["sh", "-c", script, "sh", &raw, &port]));
    assert_eq!(said, "killed\n137\nafter all\n");
    let rows = ground.rows();
    let all = statements(&rows);
    let copy = of(&all, "COPY copied");
    assert_eq!((&copy["outcome"], &copy["code"]), (&"failure".into(), &"08P01".into()), "{copy}");
    let said = ground.captured.said(copy);
    let sent: String =
        said.iter().filter_map(|said| said["text"].as_str().filter(|_| said["what"] == "copy")).collect();
    assert_eq!(sent.lines().count(), 1000, "{said:?}");
    assert!(sent.ends_with("line 999\n"), "{sent}");
    assert_eq!(ground.server.query("SELECT count(*) FROM copied"), "0");
    ground.captured.host.verify();
}

#[test]
fn a_target_that_stalls_in_a_row_holds_nothing_up() {
    let ground = Ground::new();
    let mut client = ground.spawn("stalled_row");
    let pid = client.number();
    assert_eq!(client.line(), "ready");
    signal(pid, Signal::SIGSTOP);
    client.go_on();
    let (said, status) = client.end();
    assert_eq!((said.as_slice(), status.code()), (["stalled".to_owned(), "after all".into()].as_slice(), Some(0)));
    // Still stopped: the run's end is what ends the session.
    let rows = ground.ended();
    signal(pid, Signal::SIGCONT);
    let all = statements(&rows);
    let cut = of(&all, "pg_sleep");
    assert_eq!(cut["outcome"], "aborted", "{cut}");
    let sessions = rows.table("sessions");
    let session = sessions.iter().find(|session| session["id"] == cut["session"]).unwrap();
    assert_eq!(session["outcome"], "aborted", "{session}");
    ground.captured.host.verify();
}

#[test]
fn a_target_that_stalls_in_a_log_in_is_named() {
    let ground = Ground::new();
    let postmaster = i32::try_from(ground.server.pid()).unwrap();
    signal(postmaster, Signal::SIGSTOP);
    let mut psql = ground.captured.crewtap_run(&["psql", "-Xc", "SELECT 1", &plain(&ground.server)]);
    let output = psql.env("PGCONNECT_TIMEOUT", "2").output().unwrap();
    assert!(text(&output).contains("timeout expired"), "{}", text(&output));
    let rows = ground.ended();
    signal(postmaster, Signal::SIGCONT);
    rows.reconciled(1);
    let session = rows.session();
    let left = "the client ended the connection during the log-in";
    assert_eq!((&session["outcome"], &session["error"]), (&"completed".into(), &left.into()), "{session}");
    let exchanges = rows.table("exchanges");
    assert_eq!((exchanges.len(), &exchanges[0]["verb"]), (1, &"LOGIN".into()), "{exchanges:?}");
    assert_eq!(exchanges[0]["outcome"], "failure", "{exchanges:?}");
    ground.captured.host.verify();
}

/// What is no message of the protocol gets the answer that it gets without crewtap, and what came before it keeps its own.
#[test]
fn what_is_malformed_is_answered_by_the_target() {
    let ground = Ground::new();
    let words = ground.words("malformed");
    let direct = succeeded(&ground.captured.direct(&words.each_ref().map(String::as_str)));
    assert_eq!(direct.lines().count(), 10, "{direct}");
    assert_eq!(ground.run("malformed"), direct);
    let rows = ground.rows();
    assert_eq!(rows.table("sessions").len(), 10);
    let before: Vec<Value> = statements(&rows).into_iter().filter(|row| row["subject"] == "SELECT 1").collect();
    assert_eq!(before.len(), 9, "{before:#?}");
    for exchange in &before {
        assert_eq!((&exchange["outcome"], &exchange["count"]), (&"success".into(), &1.into()), "{exchange}");
    }
    let notes = rows.table("notes");
    let count = |code: &str| notes.iter().filter(|note| note["code"] == code).count();
    assert_eq!((count("postgres_length"), count("postgres_malformed")), (2, 5), "{notes:#?}");
    ground.captured.host.verify();
}

#[test]
fn half_a_message_is_not_forwarded_and_is_noted() {
    let ground = Ground::new();
    assert_eq!(ground.run("half"), "after all\n");
    let rows = ground.rows();
    assert_eq!(
        noted(&rows, "postgres_cut"),
        "the client ended in the middle of a message: 12 bytes were not forwarded"
    );
    assert!(!ground.server.log().contains("never seen"), "{}", ground.server.log());
    ground.captured.host.verify();
}

#[test]
fn a_last_word_of_the_target_is_no_statements_outcome() {
    let ground = Ground::new();
    assert_eq!(ground.run("unknown"), "E08P01\nafter all\n");
    let rows = ground.rows();
    let all = statements(&rows);
    let before = of(&all, "long ago");
    assert_eq!((&before["outcome"], &before["count"]), (&"success".into(), &1.into()), "{before}");
}

#[test]
fn a_session_that_is_ended_while_it_idles_keeps_its_outcomes() {
    let ground = Ground::new();
    let mut client = ground.spawn("terminated_idle");
    let pid = client.number();
    assert_eq!(ground.server.query(&format!("SELECT pg_terminate_backend({pid})")), "t");
    assert_eq!(client.end().0, ["E57P01", "after all"]);
    let rows = ground.rows();
    let all = statements(&rows);
    let before = of(&all, "long ago");
    assert_eq!((&before["outcome"], &before["count"]), (&"success".into(), &1.into()), "{before}");
}

#[test]
fn half_a_startup_is_noted() {
    let ground = Ground::new();
    assert_eq!(ground.run("half_startup"), "after all\n");
    let rows = ground.rows();
    assert!(noted(&rows, "postgres_cut").contains("20 bytes were not forwarded"));
}
