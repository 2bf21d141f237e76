//! Servers inside a run, and modes other than `record`.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};

use crewtap_tests::host::{Host, succeeded, text};
use crewtap_tests::peer::Peer;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::rows::Rows;

const TALK: &str = "import socket, sys
try:
    s = socket.create_connection((sys.argv[1], int(sys.argv[2])))
    s.sendall(b'hello')
    print(s.recv(100).decode())
except ConnectionResetError: print('reset')";

/// `crewtap run --mode MODE -- COMMAND`, with its output piped.
fn in_mode(host: &Host, mode: &str, command: &[&str]) -> Child {
    let mut run = host.crewtap(&["run", "--mode", mode, "--"]);
    run.args(command).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

#[test]
fn a_server_inside_a_run_is_reached_from_outside_even_in_enforce_mode() {
    let host = Host::new();
    std::fs::write(host.path("greeting.txt"), "good morning\n").unwrap();
    let directory = host.path("").display().to_string();
    let command = ["python3", "-u", "-m", "http.server", "0", "--bind", "127.0.0.1", "--directory", &directory];
    let mut run = in_mode(&host, "enforce", &command);
    // "Serving HTTP on 127.0.0.1 port 34567 (http://127.0.0.1:34567/) ..."
    let mut serving = String::new();
    BufReader::new(run.stdout.as_mut().unwrap()).read_line(&mut serving).unwrap();
    let port = serving.split_whitespace().nth(5).unwrap_or_else(|| panic!("{serving:?}"));
    let url = format!("http://127.0.0.1:{port}/greeting.txt");
    let answer = host.command("curl").args(["-sS", "--max-time", "30", &url]).output().unwrap();
    assert_eq!(succeeded(&answer), "good morning\n");
    kill(Pid::from_raw(i32::try_from(run.id()).unwrap()), Signal::SIGTERM).unwrap();
    let _ended = run.wait_with_output().unwrap();
    let rows = Rows::of_last_run(&host);
    rows.reconciled(0);
    let accepted = rows.table("accepted");
    assert_eq!(accepted.len(), 1, "{accepted:#?}");
    assert!(accepted[0]["peer"].as_str().unwrap().starts_with("127.0.0.1:"), "{}", accepted[0]);
    assert_eq!(accepted[0]["local"], format!("127.0.0.1:{port}"));
    assert_eq!(rows.table("bypasses").len(), 0);
}

#[test]
fn enforce_refuses_what_no_policy_permits_and_records_the_refusal() {
    let host = Host::new();
    let echo = Peer::echo(&host, "127.0.0.1:0");
    let run = in_mode(&host, "enforce", &["python3", "-c", TALK, "127.0.0.1", &echo.port()]);
    let output = run.wait_with_output().unwrap();
    assert_eq!(succeeded(&output).trim(), "reset", "{}", text(&output));
    assert!(echo.seen().is_empty(), "the target saw no connection at all");
    let rows = Rows::of_last_run(&host);
    rows.reconciled(1);
    let decisions = rows.table("decisions");
    assert_eq!(decisions.len(), 1, "{decisions:?}");
    assert_eq!((&decisions[0]["effect"], &decisions[0]["verb"]), (&"deny".into(), &"connect".into()));
    assert_eq!(decisions[0]["mode"], "enforce");
    assert_eq!(rows.session()["outcome"], "refused");
    assert_eq!(rows.run()["refused"], 1);
}

#[test]
fn shadow_passes_and_records_what_enforce_would_have_refused() {
    let host = Host::new();
    let echo = Peer::echo(&host, "127.0.0.1:0");
    let run = in_mode(&host, "shadow", &["python3", "-c", TALK, "127.0.0.1", &echo.port()]);
    assert_eq!(succeeded(&run.wait_with_output().unwrap()).trim(), "hello");
    assert_eq!(echo.seen(), [b"hello"]);
    let rows = Rows::of_last_run(&host);
    rows.reconciled(1);
    let decisions = rows.table("decisions");
    assert_eq!((&decisions[0]["effect"], &decisions[0]["mode"]), (&"deny".into(), &"shadow".into()));
    assert_eq!(rows.session()["outcome"], "completed");
}
