//! Masks beside the protocols: texts of events follow masks.toml, and what a killed agent left undecided is told.

use std::io::{Read, Write};
use std::net::UdpSocket;
use std::process::Stdio;
use std::sync::mpsc;

use crewtap_tests::host::{Host, succeeded, text};
use crewtap_tests::peer::Peer;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::agent;
use crate::redaction::in_store;

const RULE: &str = "[mask.case-no]\nregex = 'zq-[a-z]{8}'\n";
const RESOLVER: &str = "10.53.0.54";

/// A host with masks of its own.
fn host(masks: &str) -> Host {
    let host = Host::new();
    std::fs::write(host.path("masks.toml"), masks).unwrap();
    std::fs::write(host.path("crewtap.toml"), "masks = 'masks.toml'\n").unwrap();
    host
}

fn run(host: &Host, words: &[&str]) -> String {
    let config = host.path("crewtap.toml").display().to_string();
    let output = host.crewtap(&["--config", &config, "run", "-q", "--"]).args(words).output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    succeeded(&output)
}

fn assert_absent(host: &Host, clear: &str) {
    assert_eq!(in_store(host, clear), Vec::<std::path::PathBuf>::new(), "{clear}");
}

#[test]
fn a_rule_of_the_users_own_holds_in_command_lines_and_in_names() {
    let host = host(RULE);
    host.address(RESOLVER);
    let socket = host.inside(|| UdpSocket::bind((RESOLVER, 53)).unwrap()).join().unwrap();
    let asked = std::thread::spawn(move || {
        let mut message = [0; 512];
        let (len, client) = socket.recv_from(&mut message).unwrap();
        message[2] = 0x84;
        message[3] = 3;
        socket.send_to(&message[..len], client).unwrap();
        message[..len].to_vec()
    });
    let script = "import socket, struct, sys
name = sys.argv[2]
labels = b''.join(bytes([len(label)]) + label.encode() for label in name.split('.'))
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.sendto(struct.pack('!HHHHHH', 7, 0x0100, 1, 0, 0, 0) + labels + struct.pack('!BHH', 0, 1, 1), (sys.argv[1], 53))
print(len(s.recv(512)) > 12)
";
    assert_eq!(run(&host, &["python3", "-c", script, RESOLVER, "zq-abcdefgh.target.test"]), "True\n");
    let asked = asked.join().unwrap();
    assert!(asked.windows(11).any(|window| window == b"zq-abcdefgh"), "the resolver sees the name");
    // The same in the clear part of TLS that nobody opens, since its target does not speak it.
    let peer = Peer::serve(&host, "127.0.0.1:0", |stream, keep| {
        let mut bytes = [0; 2048];
        if let Ok(len @ 1..) = stream.read(&mut bytes) {
            keep(&bytes[..len]);
        }
    });
    let tls = "import socket, ssl, sys
s = socket.create_connection(('127.0.0.1', int(sys.argv[1])))
try: ssl.create_default_context().wrap_socket(s, server_hostname=sys.argv[2])
except OSError: print('no TLS')
";
    assert_eq!(run(&host, &["python3", "-c", tls, &peer.port(), "x.zq-mnopqrst.target.test"]), "no TLS\n");
    assert_absent(&host, "zq-abcdefgh");
    assert_absent(&host, "zq-mnopqrst");
    let timeline = serde_json::to_string(&host.timeline(&host.last_run())).unwrap();
    assert!(timeline.contains("x.***********.target.test"), "{timeline}");
    host.verify();
}

#[test]
fn a_run_has_the_masks_that_the_file_has_when_it_starts() {
    let host = host(RULE);
    let config = host.path("crewtap.toml").display().to_string();
    // One run keeps the agent alive.
    let mut first =
        host.crewtap(&["--config", &config, "run", "-q", "--", "sh", "-c", "echo up; read line; true zq-stillheld"]);
    let mut first = first.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut up = [0; 3];
    first.stdout.as_mut().unwrap().read_exact(&mut up).unwrap();
    let served = host.agent();
    let _out = run(&host, &["true", "zq-abcdefgh", "yq-abcdefgh"]);
    assert_absent(&host, "zq-abcdefgh");
    assert_ne!(in_store(&host, "yq-abcdefgh"), Vec::<std::path::PathBuf>::new(), "nothing says to hide it");
    std::fs::write(host.path("masks.toml"), "[mask.case-no]\nregex = 'xq-[a-z]{8}'\n").unwrap();
    let _out = run(&host, &["true", "xq-abcdefgh"]);
    assert_eq!(host.agent(), served, "the agent is the same");
    assert_absent(&host, "xq-abcdefgh");
    // The first one began with the other rule, and ends with it.
    first.stdin.take().unwrap().write_all(b"go\n").unwrap();
    assert!(first.wait().unwrap().success());
    assert_absent(&host, "zq-stillheld");
    host.verify();
}

#[test]
fn what_a_killed_agent_left_undecided_is_told() {
    let host = host("");
    let (tell, told) = mpsc::sync_channel(8);
    let peer = Peer::serve(&host, "127.0.0.1:0", move |stream, keep| {
        let mut bytes = [0; 512];
        while let Ok(len @ 1..) = stream.read(&mut bytes) {
            keep(&bytes[..len]);
            let _ = tell.send(len);
        }
    });
    let script = "import socket, sys
s = socket.create_connection(('127.0.0.1', int(sys.argv[1])))
s.sendall(bytes([1, 2]) + b' pan=' + b'5555 ' * 3)
try: s.recv(1)
except OSError: pass
";
    let running = host.spawn_run(&["python3", "-c", script, &peer.port()]);
    assert_eq!(told.recv_timeout(std::time::Duration::from_secs(30)).unwrap(), 22, "it was forwarded");
    let agent = Pid::from_raw(host.agent().cast_signed());
    kill(agent, Signal::SIGKILL).unwrap();
    let _output = running.wait_with_output().unwrap();
    let verified = || {
        let output = host.crewtap(&["verify"]).output().unwrap();
        assert!(output.status.success(), "{}", text(&output));
        succeeded(&output)
    };
    let said = verified();
    assert!(said.contains("15 bytes that the client of ") && said.contains("their session has no end yet"), "{said}");
    assert!(said.contains("1 tail never decided under the masks"), "{said}");
    assert_absent(&host, "5555 5555");
    // The next agent ends what was open, and the tail stays what it is.
    let _out = run(&host, &["true"]);
    agent::wait_idle(&host);
    let said = verified();
    assert!(said.contains("15 bytes that the client of ") && said.contains("and nothing follows"), "{said}");
    let lines = host.json(&["verify"]);
    let tail = lines.iter().find(|line| line["what"] == "undecided").unwrap();
    assert_eq!(
        (tail["len"].as_u64(), tail["side"].as_str(), &tail["ended"]),
        (Some(15), Some("client"), &Value::Bool(true))
    );
    assert_eq!(lines.last().unwrap()["undecided"], 1);
}
