//! How exchanges end that do not end well: stalls, resets, a killed agent, bytes behind the end.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use crewtap_tests::host::{Host, succeeded};
use nix::libc::linger;
use nix::sys::socket::{setsockopt, sockopt};

use crate::agent;

use super::*;

const HALF: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nthe first half";

#[test]
fn a_target_that_resets_in_the_middle_of_its_answer_is_a_reset_and_marked() {
    let host = Host::new();
    for answer in [HALF, b"HTTP/1.1 200 OK\r\n\r\nuntil the end, the first half"] {
        // The client has read everything when it says so, on another connection.
        let (has_read, read) = std::sync::mpsc::sync_channel(1);
        let (has_read, read) = (std::sync::Mutex::new(has_read), std::sync::Mutex::new(read));
        let listens = Peer::serve(&host, "127.0.0.1:0", move |stream, _| {
            let _ = stream.read(&mut [0]);
            has_read.lock().unwrap().send(()).unwrap();
        });
        let web = server(&host, move |asked| {
            asked.answer(answer);
            read.lock().unwrap().recv_timeout(agent::LONG).unwrap();
            setsockopt(asked.stream, sockopt::Linger, &linger { l_onoff: 1, l_linger: 0 }).unwrap();
            false
        });
        let then = format!(
            "show(until(b'half')); o = socket.create_connection(('127.0.0.1', {})); o.close(); show(rest())",
            listens.port()
        );
        let got = raw(&host, &web, "GET / HTTP/1.1\r\nHost: a\r\n\r\n", &then);
        assert_eq!(got.as_bytes(), [answer, b"<reset>"].concat());
        let exchanges = exchanges(&host);
        assert_eq!(
            (column(&exchanges, "outcome"), column(&exchanges, "code")),
            (vec!["aborted".into()], vec!["200".into()])
        );
        let rows = Rows::of_last_run(&host);
        let outcome = rows.table("sessions").into_iter().find(|row| row["exchanges"] == 1).unwrap()["outcome"].clone();
        assert_eq!(outcome, "upstream_reset");
    }
    host.verify();
}

#[test]
fn a_target_that_ends_too_early_is_an_end_too_early() {
    let host = Host::new();
    let web = server(&host, |asked| {
        asked.answer(HALF);
        false
    });
    let url = format!("http://127.0.0.1:{}/", web.port());
    let output = host.run(&["curl", "-sS", "--max-time", "60", &url]);
    assert_eq!(output.status.code(), Some(18), "curl's word for a partial file");
    assert_eq!(output.stdout, b"the first half");
    let exchanges = exchanges(&host);
    assert_eq!(
        (column(&exchanges, "outcome"), column(&exchanges, "code")),
        (vec!["aborted".into()], vec!["200".into()])
    );
    assert_eq!(message(&host, &exchanges[0], "server")["text"], "the first half");
}

#[test]
fn a_target_that_never_answers_is_on_record_as_such() {
    let host = Host::new();
    let (over, ended) = std::sync::mpsc::sync_channel(1);
    let over = std::sync::Mutex::new(over);
    let web = server(&host, move |asked| {
        let end = asked.stream.read(&mut [0]);
        over.lock().unwrap().send(matches!(end, Ok(0) | Err(_))).unwrap();
        false
    });
    let url = format!("http://127.0.0.1:{}/", web.port());
    let output = host.run(&["curl", "-sS", "--max-time", "1", &url]);
    assert_eq!(output.status.code(), Some(28), "curl's word for a timeout");
    assert!(ended.recv_timeout(agent::LONG).unwrap(), "the target learns that its client has gone");
    let exchanges = exchanges(&host);
    assert_eq!(column(&exchanges, "outcome"), ["aborted"]);
    assert_eq!(column(&exchanges, "code"), ["-"]);
}

#[test]
fn a_client_that_resets_in_the_middle_of_its_request_is_marked() {
    let host = Host::new();
    let (over, ended) = std::sync::mpsc::sync_channel(1);
    let over = std::sync::Mutex::new(over);
    let web = server(&host, move |asked| {
        asked.exactly(4);
        over.lock().unwrap().send(asked.stream.read(&mut [0]).map_err(|error| error.kind())).unwrap();
        false
    });
    let said = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nhalf";
    let reset = "s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0)); s.close()";
    raw(&host, &web, said, reset);
    assert_eq!(ended.recv_timeout(agent::LONG).unwrap(), Err(std::io::ErrorKind::ConnectionReset));
    assert_eq!(column(&exchanges(&host), "outcome"), ["aborted"]);
    assert_eq!(notes(&host), ["http_cut"]);
}

#[test]
fn what_comes_behind_the_last_request_does_not_destroy_its_answer() {
    let host = Host::new();
    let web = server(&host, |asked| {
        asked.answer("HTTP/1.1 200 OK\r\nContent-Length: 4000000\r\nConnection: close\r\n\r\n");
        asked.answer(vec![b'a'; 4_000_000]);
        false
    });
    let said = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\nGET /evil HTTP/1.1\r\nHost: a\r\n\r\n";
    // More of it than the kernel keeps for us, before any of the answer is read.
    let then = "s.sendall(b'x' * 8000000); s.shutdown(socket.SHUT_WR); got = rest(); print(len(got.split(b'\\r\\n\\r\\n')[1]), got[-7:])";
    assert_eq!(raw(&host, &web, said, then).trim(), "4000000 b'aaaaaaa'");
    assert_eq!(web.seen(), [&said.as_bytes()[..said.find("GET /evil").unwrap()]]);
    assert_eq!(notes(&host), ["http_behind_the_end"]);
    assert_eq!(column(&exchanges(&host), "outcome"), ["success"]);
    assert_eq!(Rows::of_last_run(&host).session()["outcome"], "completed");
}

#[test]
fn a_client_that_says_on_after_everything_is_over_is_not_listened_to_for_ever() {
    let host = Host::new();
    let web = server(&host, |asked| {
        asked.answer([&OK[..17], b"Connection: close\r\n", &OK[17..]].concat());
        false
    });
    let said = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    let then = "show(until(b'ok') + rest() + b' ')
try:
    while True: s.sendall(b'x' * 100000)
except OSError as error: print(type(error).__name__)";
    let got = raw(&host, &web, said, then);
    assert!(got.ends_with("ok ConnectionResetError\n") || got.ends_with("ok BrokenPipeError\n"), "{got}");
}

#[test]
fn an_agent_killed_in_the_middle_of_an_answer_is_a_failure_and_marked() {
    let host = Host::new();
    let web = server(&host, |asked| {
        if asked.path() == "/whole" {
            asked.answer(OK);
            return true;
        }
        asked.answer(HALF);
        let _ = asked.stream.read(&mut [0]);
        false
    });
    let script = "import http.client, sys
c = http.client.HTTPConnection('127.0.0.1', int(sys.argv[1]))
c.request('GET', '/whole'); c.getresponse().read()
c.request('GET', '/half'); answer = c.getresponse()
answer.read(14); print('half', flush=True)
try: print('read', len(answer.read()))
except (OSError, http.client.IncompleteRead) as error: print(type(error).__name__)";
    let mut run = host.crewtap(&["run", "-q", "--", "python3", "-c", script, &web.port()]);
    let mut run = run.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(run.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "half");
    let lost = host.last_run();
    agent::kill(&host);
    let fate = lines.next().unwrap().unwrap();
    assert!(["IncompleteRead", "ConnectionResetError"].contains(&&*fate), "{fate}");
    run.wait().unwrap();
    assert_eq!(succeeded(&host.run(&["true"])), "");
    agent::wait_end(&host);
    host.verify();
    let exchanges = exchanges_of(&host, lost["id"].as_str().unwrap());
    assert_eq!(column(&exchanges, "outcome"), ["success", "aborted"]);
    assert_eq!(message(&host, &exchanges[1], "server")["text"], "the first half");
}
