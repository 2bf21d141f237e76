//! Hellos as they come: in pieces, with extensions that mean nothing or much, and without a name.

use crewtap_tests::host::succeeded;
use serde_json::json;

use super::ground::{Ground, NAME, notes};

/// Sends everything of the handshake byte by byte, each in a packet of its own.
const BYTE_BY_BYTE: &str = "import select, socket, ssl, sys
plain = socket.create_connection((sys.argv[1], 443))
plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
tls = ssl.create_default_context().wrap_bio(incoming, outgoing, server_hostname=sys.argv[1])
def send(bytes):
    for at in range(len(bytes)):
        plain.sendall(bytes[at:at + 1])
        select.select([], [], [], float(sys.argv[2]))
def does(what):
    while True:
        try: return what()
        except ssl.SSLWantReadError:
            send(outgoing.read())
            incoming.write(plain.recv(65536))
does(tls.do_handshake)
send(outgoing.read())
tls.write(b'GET /slowly HTTP/1.1\\r\\nHost: x\\r\\nConnection: close\\r\\n\\r\\n')
send(outgoing.read())
print(does(lambda: tls.read(12)).decode())";

#[test]
fn a_hello_that_comes_byte_by_byte_is_opened() {
    let ground = Ground::with_web();
    // As fast as they go, and slower than the wait for a first byte.
    for pause in ["0", "0.002"] {
        let said = succeeded(&ground.run(&["/usr/bin/python3", "-c", BYTE_BY_BYTE, NAME, pause]));
        assert_eq!(said, "HTTP/1.1 200\n");
        let rows = ground.rows(1);
        assert_eq!(rows.session()["tls"], "verified", "{}", rows.session());
        assert_eq!(rows.table("exchanges")[0]["code"], "200");
    }
}

/// Begins late: longer than the first bytes are waited for.
const LATE: &str = "import select, socket, ssl, sys
plain = socket.create_connection((sys.argv[1], 443))
select.select([plain], [], [], 1)
tls = ssl.create_default_context().wrap_socket(plain, server_hostname=sys.argv[1])
tls.sendall(b'GET /late HTTP/1.1\\r\\nHost: x\\r\\nConnection: close\\r\\n\\r\\n')
print(tls.recv(12).decode())";

#[test]
fn a_hello_that_comes_late_still_works() {
    let ground = Ground::with_web();
    assert_eq!(succeeded(&ground.run(&["/usr/bin/python3", "-c", LATE, NAME])), "HTTP/1.1 200\n");
    let rows = ground.rows(1);
    assert_eq!(rows.session()["tls"], "verified", "{}", rows.session());
    assert_eq!(rows.table("exchanges").len(), 1);
}

/// The example client of this crate: rustls, with what browsers send.
const GREASE: &str = concat!(env!("CARGO_TARGET_TMPDIR"), "/../debug/examples/tls-grease");

#[test]
fn a_hello_with_an_encrypted_client_hello_extension_is_opened() {
    let ground = Ground::with_web();
    let root = ground.host.path("bundle.pem").display().to_string();
    // It trusts the run's bundle, as far as it can be read there.
    let script = format!("cp /etc/ssl/certs/ca-certificates.crt {root} && {GREASE} {NAME} {root}");
    let said = succeeded(&ground.run(&["sh", "-c", &script]));
    assert!(said.starts_with("HTTP/1.1 200"), "{said}");
    let rows = ground.rows(1);
    let session = rows.session();
    assert_eq!((&session["tls"], &session["sni"]), (&json!("verified"), &json!(NAME)), "{session}");
    // As strong as the client offers, and as the target can.
    let facts = &session["tls_facts"];
    assert_eq!((&facts["client"]["group"], &facts["target"]["group"]), (&json!("X25519MLKEM768"), &json!("X25519")));
    assert_eq!(notes(&rows), [""; 0]);
}
