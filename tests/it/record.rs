//! A connection from a captured process to a real server: relayed, on record, provable.

use crewtap_tests::host::{Host, succeeded};
use crewtap_tests::peer::Peer;

const TALK: &str = "import socket, sys
s = socket.create_connection((sys.argv[1], int(sys.argv[2])))
s.sendall(b'hello')
print(s.recv(100).decode(), s.getpeername()[1])";

#[test]
fn a_connection_is_relayed_recorded_and_verified() {
    let host = Host::new();
    let echo = Peer::echo(&host, "127.0.0.1:0");
    let said = host.python(TALK, &["127.0.0.1", &echo.port()]);
    assert_eq!(said.trim(), format!("hello {}", echo.port()), "the client sees the server that it asked for");
    assert_eq!(echo.seen(), [b"hello"]);
    let run = host.last_run();
    assert_eq!(run["sessions"], 1);
    let timeline = host.timeline(&run);
    let reconciled = timeline.iter().find(|event| event["event"] == "reconciled").expect("a reconciliation");
    assert_eq!(reconciled["alarm"], false, "{reconciled}");
    host.verify();
    let shown = host.crewtap(&["show", run["id"].as_str().unwrap()]).output().unwrap();
    assert!(succeeded(&shown).contains("127.0.0.1"));
}
