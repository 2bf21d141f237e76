//! Connections: by address, port and name; what a refused client is told; modes.

use std::io::{Read, Write};

use crewtap_tests::host::{Host, text};
use crewtap_tests::peer::Peer;

use super::{decisions, outcomes, rule, run};

const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

pub fn web(host: &Host, address: &str) -> Peer {
    Peer::serve(host, address, |stream, keep| {
        let mut bytes = [0; 4096];
        let len = stream.read(&mut bytes).unwrap_or(0);
        keep(&bytes[..len]);
        let _ = stream.write_all(OK);
    })
}

/// A permit for connections to one port.
fn to_port(id: &str, port: &str) -> String {
    format!(
        "@id(\"{id}\")\npermit (principal, action == Action::\"connect\", resource) when {{ context.port == {port} }};\n"
    )
}

const REQUESTS: &str = "@id(\"web\")\npermit (principal, action == Action::\"http_request\", resource);\n";

#[test]
fn a_connection_passes_by_the_policy_that_permits_it_and_another_does_not() {
    let host = Host::new();
    let (allowed, other) = (web(&host, "127.0.0.1:0"), web(&host, "127.0.0.1:0"));
    rule(&host, "", &(to_port("one-port", &allowed.port()) + REQUESTS));
    let fetch = |peer: &Peer| {
        let url = format!("http://127.0.0.1:{}/", peer.port());
        run(&host, &["curl", "-sS", "-i", "--max-time", "20", &url])
    };
    let passed = fetch(&allowed);
    assert!(text(&passed).contains("\r\n\r\nok") && passed.status.success(), "{}", text(&passed));
    assert!(text(&passed).contains("mode enforce: nothing passes that no policy permits (2 policies of "));
    let connect = format!("connect 127.0.0.1:{} allow one-port", allowed.port());
    assert_eq!(decisions(&host)[0], connect);
    let refused = fetch(&other);
    assert!(
        text(&refused).contains("HTTP/1.1 403 ") && text(&refused).contains("application/problem+json"),
        "{}",
        text(&refused)
    );
    assert_eq!(decisions(&host), [format!("connect 127.0.0.1:{} deny", other.port())]);
    assert_eq!(outcomes(&host), ["refused"]);
    assert!(other.seen().is_empty(), "no packet goes to a target that policy refuses");
    host.verify();
}

#[test]
fn a_refused_tls_client_gets_an_alert_and_an_unknown_one_a_reset() {
    let host = Host::new();
    let sink = Peer::sink(&host, "127.0.0.1:0");
    rule(&host, "", "");
    let url = format!("https://127.0.0.1:{}/", sink.port());
    let said = text(&run(&host, &["curl", "-sS", "-k", "--max-time", "20", &url]));
    assert!(said.contains("alert access denied") || said.contains("access_denied"), "{said}");
    assert!(said.contains("(0 policies of "), "{said}");
    let script = "import socket, sys
s = socket.create_connection(('127.0.0.1', int(sys.argv[1])), 20)
s.sendall(b'\\x01\\x02\\x03 something')
try:
    print('got', s.recv(100))
except ConnectionResetError:
    print('reset')";
    let said = text(&run(&host, &["python3", "-c", script, &sink.port()]));
    assert!(said.contains("reset"), "{said}");
    assert!(sink.seen().is_empty());
}

#[test]
fn a_metadata_service_is_blocked_by_its_address_whatever_it_is_called() {
    let host = Host::new();
    for address in ["169.254.169.254", "10.1.2.3"] {
        host.address(address);
    }
    let metadata = web(&host, "169.254.169.254:80");
    let other = web(&host, "10.1.2.3:80");
    let policies = "@id(\"metadata\")\nforbid (principal, action == Action::\"connect\", resource)\n\
        when { context.address.isInRange(ip(\"169.254.0.0/16\")) };\n\
        @id(\"rest\")\npermit (principal, action, resource);\n";
    rule(&host, "", policies);
    let fetch = |url: &str, name: &str| {
        let resolve = format!("{name}:80:169.254.169.254");
        text(&run(&host, &["curl", "-sS", "--max-time", "20", "--resolve", &resolve, url]))
    };
    assert!(fetch("http://10.1.2.3/", "unused.test").contains("ok"));
    assert_eq!(other.seen().len(), 1);
    for (url, name) in [
        ("http://169.254.169.254/latest/meta-data/", "unused.test"),
        ("http://innocent.test/latest/", "innocent.test"),
        ("http://[::ffff:169.254.169.254]/latest/", "unused.test"),
    ] {
        let said = fetch(url, name);
        assert!(said.contains("metadata"), "{url}: {said}");
        assert!(decisions(&host).iter().all(|said| said.ends_with("deny metadata")), "{:?}", decisions(&host));
    }
    assert!(metadata.seen().is_empty());
}

#[test]
fn a_claimed_name_is_no_catalogued_target() {
    let host = Host::new();
    let sink = Peer::sink(&host, "127.0.0.1:0");
    let targets = "[target.bank]\nmatch = { host = ['bank.test'], port = [PORT] }\nprotocol = 'http'\n\
                   [target.near]\nmatch = { cidr = ['127.0.0.2'], port = [PORT] }\nprotocol = 'http'\ntags = ['near']\n";
    std::fs::write(host.path("targets.toml"), targets.replace("PORT", &sink.port())).unwrap();
    let policies = "@id(\"bank\")\npermit (principal, action, resource == Target::\"bank\");\n\
                    @id(\"near\")\npermit (principal, action, resource in Tag::\"near\");\n";
    rule(&host, "targets = 'targets.toml'", policies);
    let url = format!("https://bank.test:{}/", sink.port());
    let resolve = format!("bank.test:{}:127.0.0.1", sink.port());
    let said = text(&run(&host, &["curl", "-sS", "-k", "--max-time", "20", "--resolve", &resolve, &url]));
    assert!(said.to_lowercase().contains("access denied"), "{said}");
    assert_eq!(decisions(&host), [format!("connect bank.test:{} deny", sink.port())]);
    assert!(sink.seen().is_empty(), "the name in a ClientHello is whatever a process says");
    let near = web(&host, &format!("127.0.0.2:{}", sink.port()));
    let url = format!("http://127.0.0.2:{}/", near.port());
    assert!(text(&run(&host, &["curl", "-sS", &url])).contains("ok"));
    assert!(decisions(&host)[0].ends_with("allow near"), "{:?}", decisions(&host));
}

#[test]
fn a_target_has_a_mode_of_its_own_and_shadow_says_what_enforce_would_do() {
    let host = Host::new();
    let (plain, shadowed) = (web(&host, "127.0.0.1:0"), web(&host, "127.0.0.2:0"));
    let targets = format!(
        "[target.shadowed]\nmatch = {{ cidr = ['127.0.0.2'], port = [{}] }}\nprotocol = 'http'\nmode = 'shadow'\n",
        shadowed.port()
    );
    std::fs::write(host.path("targets.toml"), targets).unwrap();
    rule(&host, "targets = 'targets.toml'", "");
    let fetch = |address: &str, peer: &Peer| {
        let url = format!("http://{address}:{}/", peer.port());
        text(&run(&host, &["curl", "-sS", "--max-time", "20", &url]))
    };
    assert!(fetch("127.0.0.2", &shadowed).contains("ok"));
    let told = decisions(&host);
    assert!(told.iter().all(|told| told.ends_with("deny")) && told.len() > 1, "connect and request: {told:?}");
    assert_eq!(outcomes(&host), ["completed"]);
    assert!(!fetch("127.0.0.1", &plain).contains("ok\n"));
    assert!(plain.seen().is_empty());
}

#[test]
fn rules_that_err_deny_and_say_so() {
    let host = Host::new();
    let peer = web(&host, "127.0.0.1:0");
    // The forbid would not fire, and Cedar alone would leave it out because it errs.
    let policies = "@id(\"all\")\npermit (principal, action, resource);\n\
        @id(\"errs\")\nforbid (principal, action == Action::\"connect\", resource)\n\
        when { context.port + 9223372036854775807 < 0 };\n";
    rule(&host, "", policies);
    let url = format!("http://127.0.0.1:{}/", peer.port());
    let said = text(&run(&host, &["curl", "-sS", "--max-time", "20", &url]));
    assert!(!said.contains("ok\n"), "{said}");
    assert!(peer.seen().is_empty());
    let told = decisions(&host);
    assert!(told[0].contains(" deny"), "{told:?}");
}

#[test]
fn policies_with_a_fault_stop_an_agent_before_the_command_runs() {
    let host = Host::new();
    rule(&host, "", "permit (principal, action, resource)\nforbid");
    let output = run(&host, &["touch", &host.path("ran").display().to_string()]);
    assert_eq!(output.status.code(), Some(125), "{}", text(&output));
    assert!(text(&output).contains("test.cedar:"), "{}", text(&output));
    assert!(!host.path("ran").exists());
}
