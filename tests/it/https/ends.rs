//! How an encrypted connection ends: with a farewell, without one, or with one side only. Each side sees what it would have
//! seen without us.

use crewtap_tests::host::succeeded;
use serde_json::json;

use super::ground::{Ground, NAME};
use super::pki::valid;

/// Reads to the end, and says what end that was.
const READER: &str = "import socket, ssl, sys
context = ssl.create_default_context(cafile=sys.argv[3] if len(sys.argv) > 3 else None)
context.options &= ~ssl.OP_IGNORE_UNEXPECTED_EOF
plain = socket.create_connection((sys.argv[1], int(sys.argv[2])))
tls = context.wrap_socket(plain, server_hostname=sys.argv[1], suppress_ragged_eofs=False)
tls.sendall(b'GET / HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n')
got = b''
try:
    while more := tls.recv(65536): got += more
    print('whole', got[-9:])
except ssl.SSLError as error: print('cut', got[-9:], error.reason)
except OSError as error: print('failed', got[-9:], error)";

/// Says that it has no more to say, then reads to the end.
const HALF: &str = "import socket, ssl, sys
context = ssl.create_default_context(cafile=sys.argv[3] if len(sys.argv) > 3 else None)
plain = socket.create_connection((sys.argv[1], int(sys.argv[2])))
incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
tls = context.wrap_bio(incoming, outgoing, server_hostname=sys.argv[1])
def does(what):
    while True:
        try: return what()
        except ssl.SSLWantReadError:
            plain.sendall(outgoing.read())
            incoming.write(plain.recv(65536))
does(tls.do_handshake)
tls.write(b'x' * 1000)
try: tls.unwrap()
except ssl.SSLWantReadError: pass
plain.sendall(outgoing.read())
got = b''
try:
    while more := does(lambda: tls.read(65536)): got += more
except ssl.SSLZeroReturnError: pass
print(got.decode())";

/// What the client prints with and without crewtap.
fn same(ground: &Ground, script: &str, port: &str) -> String {
    let root = ground.pki.root_file().display().to_string();
    let direct = succeeded(&ground.direct(&["/usr/bin/python3", "-c", script, NAME, port, &root]));
    assert_eq!(succeeded(&ground.run(&["/usr/bin/python3", "-c", script, NAME, port])), direct);
    direct
}

fn ground(version: &str) -> Ground {
    let mut ground = Ground::new();
    let shown = ground.pki.leaf(&valid(&[NAME]));
    for (port, talk) in [(443, "cut"), (444, "whole"), (445, "after_end")] {
        ground.add(NAME, port, &shown, talk, &json!({"minimum": version, "maximum": version}));
    }
    ground.serve();
    ground
}

#[test]
fn a_body_that_was_cut_off_does_not_look_whole() {
    for version in ["TLSv1_3", "TLSv1_2"] {
        let ground = ground(version);
        let said = same(&ground, READER, "443");
        assert!(said.starts_with("cut b'alf of it'"), "{said}");
        assert_eq!(ground.rows(1).session()["tls"], "verified");
        let said = same(&ground, READER, "444");
        assert!(said.starts_with("whole b'all of it'"), "{said}");
        assert_eq!(ground.rows(1).session()["outcome"], "completed");
    }
}

#[test]
fn a_client_that_has_said_everything_still_gets_its_answer() {
    for version in ["TLSv1_3", "TLSv1_2"] {
        let ground = ground(version);
        assert_eq!(same(&ground, HALF, "445"), "you said 1000 bytes\n");
        let rows = ground.rows(1);
        assert_eq!((&rows.session()["tls"], &rows.session()["outcome"]), (&json!("verified"), &json!("completed")));
        assert_eq!(rows.session()["bytes_up"], 1000);
    }
}
