//! TLS that passes unopened: because somebody wants it so, or because it cannot be opened. It works as it would without us,
//! its bytes are on record, and the session says that it was not opened and why.

use crewtap_tests::host::{Host, succeeded, text};
use crewtap_tests::peer::Peer;
use serde_json::json;

use super::ground::{ADDRESS, Ground, NAME, notes};
use super::pki::valid;
use crate::rows::Rows;

/// The session was let pass for this reason.
fn passed(rows: &Rows, code: &str) {
    let session = rows.session();
    assert_eq!((&session["tls"], &session["protocol"]), (&json!("passed"), &json!("tls")), "{session}");
    let why = session["tls_facts"]["why"].as_str().unwrap();
    assert!(why.starts_with(&format!("{code}: ")), "{session}");
    assert_eq!((&session["outcome"], &session["exchanges"]), (&json!("completed"), &json!(0)), "{session}");
    assert!(session["recorded_down"].as_u64().unwrap() > 0, "{session}");
    if code == "tls_pass" {
        assert_eq!(notes(rows), [""; 0], "nobody needs to be told what they asked for");
    } else {
        assert_eq!(notes(rows), [code]);
    }
}

#[test]
fn the_configuration_lets_all_tls_pass() {
    let ground = Ground::with_web();
    ground.configure("tls = \"pass\"");
    let root = ground.pki.root_file().display().to_string();
    let url = format!("https://{NAME}/passed");
    let said = succeeded(&ground.run(&["curl", "-sS", "--max-time", "30", "--cacert", &root, &url]));
    assert!(said.contains("/passed"), "{said}");
    passed(&ground.rows(1), "tls_pass");
    let trusting = ground.run(&["curl", "-sS", "--max-time", "30", &url]);
    assert_eq!(trusting.status.code(), Some(60), "the run trusts nobody more than before: {}", text(&trusting));
}

#[test]
fn the_configuration_lets_names_pass() {
    let mut ground = Ground::new();
    let names = ["bank.example", "api.bank.example", "a.b.bank.example", "notbank.example", "pinned.example"];
    let shown = ground.pki.leaf(&valid(&names));
    ground.add(names[0], 443, &shown, "web", &json!({}));
    ground.serve();
    names[1..].iter().for_each(|name| ground.name(name, ADDRESS));
    ground.configure("tls_pass = [\"*.bank.example\", \"pinned.example\"]");
    let root = ground.pki.root_file().display().to_string();
    for (name, is_opened) in names.iter().zip([true, false, false, true, false]) {
        let url = format!("https://{name}/");
        let roots = if is_opened { vec![] } else { vec!["--cacert", &root] };
        let _said = succeeded(&ground.run(&[&["curl", "-sS", "--max-time", "30", &url], &roots[..]].concat()));
        let rows = ground.rows(1);
        if is_opened {
            assert_eq!(rows.session()["tls"], "verified", "{name}");
        } else {
            passed(&rows, "tls_pass");
        }
    }
}

/// A client of HTTP/2 alone, as gRPC is.
const HTTP_2: &str =
    "const client = require('http2').connect(process.argv[1], {ca: require('fs').readFileSync(process.argv[2])});
client.on('error', error => { console.log(error.code); process.exit(1) });
const stream = client.request({':path': '/over-http-2'});
stream.on('response', headers => console.log(headers[':status']));
let body = ''; stream.on('data', part => body += part); stream.on('end', () => { console.log(body); client.close() });";

#[test]
fn a_client_that_speaks_http_2_alone_works_with_a_real_nginx() {
    let mut ground = Ground::new();
    let shown = ground.pki.leaf(&valid(&[NAME]));
    ground.name(NAME, ADDRESS);
    let server = format!(
        "server {{ listen {ADDRESS}:443 ssl http2; ssl_certificate {}; ssl_certificate_key {}; \
         location / {{ return 200 \"$server_protocol $request_uri\"; }} }}",
        shown.chain.display(),
        shown.key.display()
    );
    ground.nginx(&server);
    let root = ground.pki.root_file().display().to_string();
    let node = ["/usr/bin/node", "-e", HTTP_2, &format!("https://{NAME}"), &root];
    assert_eq!(succeeded(&ground.run(&node)), "200\nHTTP/2.0 /over-http-2\n");
    passed(&ground.rows(1), "tls_alpn");
    // A client that can do either is given HTTP/1.1, which this server speaks too.
    let said = succeeded(&ground.run(&["curl", "-sS", "--max-time", "30", &format!("https://{NAME}/either")]));
    assert_eq!(said, "HTTP/1.1 /either");
    assert_eq!(ground.rows(1).session()["tls"], "verified");
}

#[test]
fn a_target_that_only_speaks_what_is_not_spoken_here_works_as_without_us() {
    let mut ground = Ground::new();
    let shown = ground.pki.leaf(&valid(&[NAME]));
    let old = json!({"minimum": "TLSv1_1", "maximum": "TLSv1_1", "ciphers": "DEFAULT@SECLEVEL=0"});
    ground.add(NAME, 443, &shown, "web", &old);
    let odd = json!({"maximum": "TLSv1_2", "ciphers": "ECDHE-ECDSA-AES128-SHA@SECLEVEL=0"});
    ground.add(NAME, 444, &shown, "web", &odd);
    ground.serve();
    let root = ground.pki.root_file().display().to_string();
    for (port, version) in [(443, "TLSv1.1"), (444, "TLSv1.2")] {
        let url = format!("https://{NAME}:{port}/");
        let weak = ["--tlsv1.0", "--ciphers", "DEFAULT@SECLEVEL=0"];
        let said = [&["curl", "-sS", "--max-time", "30", "--cacert", &root, &url], &weak[..]].concat();
        assert_eq!(succeeded(&ground.run(&said)), succeeded(&ground.direct(&said)));
        passed(&ground.rows(1), "tls_target");
        let log = ground.log(port);
        let versions: Vec<_> = log.iter().filter_map(|entry| entry.get("version")).collect();
        assert_eq!(versions, [version, version], "{log:?}");
    }
    // A client that is too old for us.
    let oldest = ["curl", "-sS", "--max-time", "30", "--cacert", &root, "--tlsv1.0", "--tls-max", "1.1"];
    let url = format!("https://{NAME}/");
    let oldest = [&oldest[..], &["--ciphers", "DEFAULT@SECLEVEL=0", &url]].concat();
    let said = succeeded(&ground.run(&oldest));
    assert!(said.contains("GET"), "{said}");
    passed(&ground.rows(1), "tls_old");
}

#[test]
fn a_target_that_breaks_off_the_handshake_is_broken_off_for_the_client_too() {
    let mut ground = Ground::new();
    ground.name(NAME, ADDRESS);
    let closing = Peer::serve(&ground.host, &format!("{ADDRESS}:443"), |stream, keep| {
        let mut bytes = [0; 4096];
        let len = std::io::Read::read(stream, &mut bytes).unwrap_or(0);
        keep(&bytes[..len]);
    });
    let curl = ["curl", "-sS", "--max-time", "30", &format!("https://{NAME}/")];
    let (captured, direct) = (ground.run(&curl), ground.direct(&curl));
    assert_eq!(captured.status.code(), direct.status.code(), "{}\n{}", text(&captured), text(&direct));
    assert_eq!(closing.seen().len(), 3, "our own attempt, the client's, and the one without us");
    assert_eq!(notes(&ground.rows(1)), ["tls_target"]);
}

#[test]
fn what_is_no_tls_on_its_port_is_what_it_is() {
    let host = Host::new();
    let web = Peer::serve(&host, "127.0.0.1:443", |stream, keep| {
        let mut bytes = [0; 4096];
        let len = std::io::Read::read(stream, &mut bytes).unwrap();
        keep(&bytes[..len]);
        std::io::Write::write_all(stream, b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nplain")
            .unwrap();
    });
    let said = succeeded(&host.run(&["curl", "-sS", "--max-time", "30", "http://127.0.0.1:443/"]));
    assert_eq!((said.as_str(), web.seen().len()), ("plain", 1));
    let rows = Rows::of_last_run(&host);
    rows.reconciled(1);
    assert_eq!((&rows.session()["protocol"], &rows.session()["tls"]), (&json!("http"), &json!(null)));
    // A client that begins like TLS and is none.
    let odd = "import socket; s = socket.create_connection(('127.0.0.1', 443)); s.sendall(b'\\x16\\x03\\x01\\x00\\x05hello'); s.shutdown(1); print(s.recv(4).decode())";
    assert_eq!(host.python(odd, &[]), "HTTP\n");
    assert_eq!(web.seen()[1], b"\x16\x03\x01\x00\x05hello");
}

/// Says the first byte of a TLS record, and the rest when that has come back from the target.
const STALLS: &str = "import socket
s = socket.create_connection(('127.0.0.1', 443))
s.sendall(b'\\x16'); assert s.recv(1) == b'\\x16'
s.sendall(b'\\x03\\x01\\x00\\x05hello'); print(s.recv(9)[-5:].decode())";

/// Waits for the target to speak first, and speaks TLS then.
const AFTER_A_GREETING: &str = "import socket
s = socket.create_connection(('127.0.0.1', 443))
assert s.recv(2) == b'hi'
s.sendall(b'\\x16\\x03\\x01\\x00\\x05hello'); print(s.recv(10)[-5:].decode())";

#[test]
fn tls_that_hides_its_beginning_is_marked() {
    let host = Host::new();
    let greets = std::sync::atomic::AtomicBool::new(false);
    let peer = Peer::serve(&host, "127.0.0.1:443", move |stream, keep| {
        if greets.fetch_xor(true, std::sync::atomic::Ordering::SeqCst) {
            std::io::Write::write_all(stream, b"hi").unwrap();
        }
        let mut bytes = [0; 64];
        while let Ok(len @ 1..) = std::io::Read::read(stream, &mut bytes) {
            keep(&bytes[..len]);
            std::io::Write::write_all(stream, &bytes[..len]).unwrap();
        }
    });
    for (script, code) in [(STALLS, "tls_no_hello"), (AFTER_A_GREETING, "tls_inside")] {
        assert_eq!(host.python(script, &[]), "hello\n");
        let rows = Rows::of_last_run(&host);
        rows.reconciled(1);
        assert_eq!(rows.session()["tls"], "passed", "{}", rows.session());
        assert_eq!(notes(&rows), [code]);
    }
    assert_eq!(peer.seen().len(), 2);
}
