//! Statements that are refused, and statements that wait for a human: nothing of them happens before they may.

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crewtap_core::action::{Action, Verb};
use crewtap_core::verdict::Effect;
use crewtap_tests::host::{Host, succeeded, text};
use crewtap_tests::postgres::{DATABASE, Postgres, user};
use crewtap_tests::world::{cache_dir, clients_project};
use serde_json::Value;

use super::captured::raw;
use super::gatehouse::{Gatehouse, PORT, Question, by_word};
use crate::agent::until;
use crate::fault::ends;

const WAIT: Duration = Duration::from_secs(20);

fn psql(host: &Host, statements: &[&str]) -> Command {
    let mut psql = host.command("psql");
    psql.args(["-X", "-A", "-t", "-v", "VERBOSITY=verbose"]);
    for statement in statements {
        psql.args(["-c", statement]);
    }
    psql.arg(format!("host=127.0.0.1 port={PORT} dbname={DATABASE} user={} sslmode=disable", user::TRUSTED));
    psql
}

/// A script of psycopg 3, whose connection is `c`.
fn psycopg(host: &Host, port: u16, script: &str) -> Command {
    let mut python = host.command(clients_project(&cache_dir()).join(".venv/bin/python"));
    let connect = format!(
        "import psycopg\nfrom psycopg import errors\n\
         c = psycopg.connect('host=127.0.0.1 port={port} dbname={DATABASE} user={} sslmode=disable', autocommit=True)\n",
        user::TRUSTED
    );
    python.args(["-c", &(connect + script)]);
    python
}

fn of<'r>(rows: &'r [Value], text: &str) -> &'r Value {
    rows.iter().find(|row| row["subject"].as_str().is_some_and(|subject| subject.contains(text))).unwrap()
}

#[test]
fn a_refused_statement_fails_like_any_other_and_never_reaches_the_target() {
    let host = Host::new();
    let server = Postgres::on(&host).start();
    let house = Gatehouse::start(&host, server.port(), by_word);
    let output = psql(&host, &["SELECT 1", "SELECT 'denied'", "SELECT 2"]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "1\n2\n", "{}", text(&output));
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(errors.contains("ERROR:  42501: crewtap: refused by policy"), "{errors}");
    assert!(errors.contains("policies: the-script") && errors.contains("exchange 3"), "{errors}");
    assert!(!server.log().contains("denied"), "{}", server.log());
    let rows = house.exchanges(&host);
    let refused = of(&rows, "denied");
    assert_eq!((&refused["outcome"], &refused["verdict"]), (&"blocked".into(), &"deny".into()), "{refused}");
    assert_eq!(of(&rows, "SELECT 2")["outcome"], "success");
}

#[test]
fn in_a_transaction_the_targets_own_transaction_fails_with_it() {
    let host = Host::new();
    let server = Postgres::on(&host).start();
    let house = Gatehouse::start(&host, server.port(), by_word);
    let script = "
for prepare in (False, True):
    try:
        with c.transaction():
            c.execute('UPDATE customers SET name = %s WHERE id = 2', ['gone'], prepare=prepare)
            c.execute('SELECT %s, 1 AS denied', ['x'], prepare=prepare)
        print('no error')
    except errors.InsufficientPrivilege as error:
        print(error.sqlstate)
    print(c.execute('SELECT count(*) FROM customers WHERE name = %s', ['gone'], prepare=prepare).fetchone()[0])
c.execute('BEGIN')
try:
    c.execute('SELECT 1 AS denied')
except errors.InsufficientPrivilege:
    print(c.info.transaction_status.name)
try:
    c.execute('SELECT 1')
except errors.InFailedSqlTransaction:
    print('failed')
print(c.execute('COMMIT').statusmessage)
";
    let said = succeeded(&psycopg(&host, PORT, script).output().unwrap());
    assert_eq!(said, "42501\n0\n42501\n0\nINERROR\nfailed\nROLLBACK\n");
    assert!(!server.log().contains("denied"), "{}", server.log());
    drop(house);
}

/// A pipeline in which one statement fails in the middle, all of it said at once; what its client sees of each part.
const PIPELINE: &str = "
client = Client(int(sys.argv[1]))
def one(value, more=''):
    return parse(f'SELECT $1::int {more}') + bind([value]) + EXECUTE
client.say(one(b'1') + SYNC + one(b'2', sys.argv[2]) + one(b'3') + SYNC + one(b'4') + SYNC)
for _ in range(3):
    print(seen(client.until(b'Z')))
";

#[test]
fn a_pipeline_keeps_its_order_around_a_refused_statement() {
    let host = Host::new();
    let server = Postgres::on(&host).start();
    let house = Gatehouse::start(&host, server.port(), by_word);
    let piped = |port: u16, more: &str| {
        let mut python = host.command("python3");
        succeeded(&python.args(["-c", &raw(PIPELINE), &port.to_string(), more]).output().unwrap())
    };
    // A text that cannot be parsed fails where one that is refused does.
    let direct = piped(server.port(), "nonsense (");
    assert_eq!(direct, "1 2 '1' SELECT 1 Z\nE42601 Z\n1 2 '4' SELECT 1 Z\n");
    assert_eq!(piped(PORT, "AS denied"), direct.replace("E42601", "E42501"));
    let rows = house.exchanges(&host);
    assert_eq!(of(&rows, "denied")["outcome"], "blocked");
    // The one behind it was read by the server and not run, and the record says so of no other.
    let aborted: Vec<_> = rows.iter().filter(|row| row["outcome"] == "aborted").collect();
    assert_eq!(aborted.len(), 1, "{rows:?}");
}

/// Planning runs functions that are declared IMMUTABLE: neither Parse nor Bind of a held statement may have gone.
#[test]
fn an_immutable_function_does_not_fire_while_its_statement_is_held() {
    let host = Host::new();
    let server = Postgres::on(&host).start();
    let made = server.query(
        "CREATE FUNCTION held(int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS \
         $$ BEGIN RAISE WARNING 'fired %', $1; RETURN $1; END $$",
    );
    assert_eq!(made, "");
    let house = Gatehouse::start(&host, server.port(), by_word);
    let mut fired = 0;
    for statement in ["c.execute('SELECT held(%s)', [7])", "c.execute('SELECT held(7)')"] {
        let script = format!("print({statement}.fetchone()[0])");
        let client = psycopg(&host, PORT, &script).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let question = house.questions.recv_timeout(WAIT).expect("a question");
        assert!(question.text.contains("held("), "{}", question.text);
        // Another session is served meanwhile, and the server has seen nothing of the first.
        assert_eq!(succeeded(&psql(&host, &["SELECT 1"]).output().unwrap()), "1\n");
        assert_eq!(server.log().matches("WARNING:  fired 7").count(), fired, "{}", server.log());
        question.answer.send(true).unwrap();
        // A statement with values is asked for at its Parse and again with them.
        if let Ok(again) = house.questions.recv_timeout(Duration::from_secs(2)) {
            again.answer.send(true).unwrap();
        }
        let output = client.wait_with_output().unwrap();
        assert_eq!(succeeded(&output), "7\n");
        let before = std::mem::replace(&mut fired, server.log().matches("WARNING:  fired 7").count());
        assert!(fired > before, "{}", server.log());
    }
    drop(house);
}

/// The driver does not wait for the answer any more.
fn until_nobody_waits(question: &Question) {
    let deadline = Instant::now() + WAIT;
    while !question.answer.is_closed() {
        assert!(Instant::now() < deadline, "the statement is still held");
        std::thread::yield_now();
    }
}

#[test]
fn a_client_that_leaves_much_behind_it_ends_the_wait_too() {
    let host = Host::new();
    let server = Postgres::on(&host).start();
    let house = Gatehouse::start(&host, server.port(), by_word);
    // More than the sockets keep where nobody reads.
    let script = format!(
        "{}\nclient = Client({PORT})\nclient.say(query('SELECT 1 AS held'), query('SELECT 2') * 20000)\n\
         print('said', flush=True); sys.stdin.readline()",
        raw("")
    );
    let mut command = host.command("python3");
    let mut client = command.args(["-c", &script]).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let question = house.questions.recv_timeout(WAIT).expect("a question");
    client.kill().unwrap();
    client.wait().unwrap();
    until_nobody_waits(&question);
    until("the end of the session", || (ends(&host).0 == 1).then_some(()));
    assert_eq!(of(&house.exchanges(&host), "AS held")["outcome"], "aborted");
    assert!(!server.log().contains("AS held"), "{}", server.log());
}

#[test]
fn a_target_that_ends_while_a_statement_is_held_ends_the_wait_and_its_last_word_arrives() {
    let host = Host::new();
    let server = Postgres::on(&host).start();
    let house = Gatehouse::start(&host, server.port(), by_word);
    let client = psql(&host, &["SELECT 1 AS held"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let question = house.questions.recv_timeout(WAIT).expect("a question");
    let ended = server.query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'trusted'");
    assert_eq!(ended, "t");
    let output = client.wait_with_output().unwrap();
    assert!(text(&output).contains("57P01"), "{}", text(&output));
    until_nobody_waits(&question);
    until("the end of the session", || (ends(&host).0 == 1).then_some(()));
    let rows = house.exchanges(&host);
    let held = of(&rows, "AS held");
    assert_eq!((&held["outcome"], &held["code"]), (&"failure".into(), &"57P01".into()), "{held}");
    assert!(!server.log().contains("AS held"), "{}", server.log());
}

#[test]
fn a_client_that_leaves_or_cancels_ends_the_wait() {
    let host = Host::new();
    let server = Postgres::on(&host).start();
    let house = Gatehouse::start(&host, server.port(), by_word);
    let mut client = psql(&host, &["SELECT 'held for ever'"]).stdout(Stdio::null()).spawn().unwrap();
    let question = house.questions.recv_timeout(WAIT).expect("a question");
    client.kill().unwrap();
    client.wait().unwrap();
    // The answer comes too late for anybody.
    until_nobody_waits(&question);
    let script = "
import sys, threading
threading.Thread(target=lambda: (sys.stdin.readline(), c.cancel())).start()
try:
    c.execute('SELECT 1 AS held')
except errors.QueryCanceled as error:
    print(error.sqlstate)
print(c.execute('SELECT 5').fetchone()[0])
";
    let mut command = psycopg(&host, PORT, script);
    let mut client = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let question = house.questions.recv_timeout(WAIT).expect("a question");
    client.stdin.take().unwrap().write_all(b"now\n").unwrap();
    let output = client.wait_with_output().unwrap();
    assert_eq!(succeeded(&output), "57014\n5\n");
    drop(question);
    assert!(!server.log().contains("held"), "{}", server.log());
    let rows = house.exchanges(&host);
    assert_eq!(of(&rows, "held for ever")["outcome"], "aborted");
    assert_eq!(of(&rows, "AS held")["outcome"], "blocked");
    let cancelled = rows.iter().find(|row| row["verb"] == "CANCEL").unwrap();
    assert_eq!(cancelled["outcome"], "success", "{cancelled}");
}

/// A call of `random()` by the function protocol, whose text nobody knows; a long statement, and what comes of it.
const UNSEEN: &str = "
client = Client(int(sys.argv[1]))
client.say(message(b'F', struct.pack('!ihhh', 1598, 0, 0, 0)))
print(seen(client.until(b'Z')))
client.say(query('SELECT 1 /*' + 'x' * 100000 + 'the end*/'))
print(seen(client.until(b'Z')))
";

#[test]
fn an_approver_sees_all_of_it_or_is_not_asked() {
    let host = Host::new();
    let server = Postgres::on(&host).start();
    let asks = |action: &Action| if action.verb == Verb::Query { Effect::Ask } else { Effect::Allow };
    let house = Gatehouse::start(&host, server.port(), asks);
    let mut python = host.command("python3");
    let python = python.args(["-c", &raw(UNSEEN), &PORT.to_string()]).stdout(Stdio::piped()).stderr(Stdio::piped());
    let client = python.spawn().unwrap();
    let question = house.questions.recv_timeout(WAIT).expect("a question");
    // To a policy so long a text is not understood.
    assert_eq!(question.text, "UNPARSED");
    assert!(question.shown.starts_with("SELECT 1 /*xxx") && question.shown.ends_with("the end*/"));
    question.answer.send(true).unwrap();
    let output = client.wait_with_output().unwrap();
    assert_eq!(succeeded(&output), "E42501 Z\nT '1' SELECT 1 Z\n");
    assert!(house.questions.try_recv().is_err(), "the call was refused without a question");
    let rows = house.exchanges(&host);
    assert_eq!(of(&rows, "function 1598")["outcome"], "blocked");
}
