//! Changed files count at once, also for sessions that are open; broken ones change nothing, and everybody is told.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Stdio};

use crewtap::journal::Reader;
use crewtap_core::bodies::PolicyLoaded;
use crewtap_core::event::Body;
use crewtap_tests::host::{Host, text};
use crewtap_tests::peer::Peer;

use super::{crewtap_run, rule, run, write};
use crate::agent::until;

const ALL: &str = "@id(\"all\")\npermit (principal, action, resource);\n";
const NO_DELETE: &str = "@id(\"no-delete\")\nforbid (principal, action == Action::\"http_request\", resource)\nwhen { context.method == \"DELETE\" };\n";

/// Requests over one connection, each when it is told to.
const CLIENT: &str = "import http.client, sys
c = http.client.HTTPConnection('127.0.0.1', int(sys.argv[1]), timeout=60)
for line in sys.stdin:
    c.request(line.strip(), '/thing')
    r = c.getresponse()
    r.read()
    print(r.status, flush=True)
";

struct Client {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Client {
    fn start(host: &Host, port: &str) -> Self {
        let mut command = crewtap_run(host, &["python3", "-c", CLIENT, port]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    fn status(&mut self, method: &str) -> String {
        writeln!(self.child.stdin.as_mut().unwrap(), "{method}").unwrap();
        self.lines.next().unwrap().unwrap()
    }
}

/// What is on record of loaded policies.
fn loaded(host: &Host) -> Vec<PolicyLoaded> {
    let records = Reader::open(&host.data_dir()).unwrap();
    let bodies = records.from(0).map(|record| record.unwrap().event.body);
    bodies.filter_map(|body| if let Body::PolicyLoaded(loaded) = body { Some(loaded) } else { None }).collect()
}

fn wait_loaded(host: &Host, count: usize) -> PolicyLoaded {
    until("policies on record", || loaded(host).get(count - 1).cloned())
}

fn keeping(host: &Host) -> Peer {
    Peer::serve(host, "127.0.0.1:0", |stream, keep| {
        let mut bytes = [0; 4096];
        while let Ok(len @ 1..) = stream.read(&mut bytes) {
            keep(&bytes[..len]);
            if stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").is_err() {
                return;
            }
        }
    })
}

#[test]
fn an_open_session_is_judged_by_what_is_in_force_and_a_broken_file_changes_nothing() {
    let host = Host::new();
    let peer = keeping(&host);
    rule(&host, "", ALL);
    let mut client = Client::start(&host, &peer.port());
    assert_eq!(client.status("DELETE"), "200");
    let file = host.path("policy/test.cedar");
    write(&file, &format!("{ALL}{NO_DELETE}"));
    assert_eq!((wait_loaded(&host, 2).policies, loaded(&host)[0].policies), (2, 1));
    assert_eq!(client.status("DELETE"), "403");
    assert_eq!(client.status("GET"), "200", "the connection goes on");
    // Broken: the old ones stay, and whoever begins a run is told.
    write(&file, "permit (principal");
    let broken = wait_loaded(&host, 3);
    assert!(broken.error.as_deref().unwrap().contains("test.cedar:"), "{broken:?}");
    assert_eq!((broken.policies, &broken.digest), (2, &loaded(&host)[1].digest));
    assert_eq!(client.status("DELETE"), "403");
    let said = text(&run(&host, &["true"]));
    assert!(said.contains("the policies on disk are not in force, older ones are: "), "{said}");
    // A directory that is gone is no permission either.
    std::fs::remove_file(&file).unwrap();
    std::fs::remove_dir(host.path("policy")).unwrap();
    assert!(wait_loaded(&host, 4).error.is_some());
    assert_eq!(client.status("DELETE"), "403");
    // Mended.
    std::fs::create_dir(host.path("policy")).unwrap();
    write(&file, ALL);
    let mended = wait_loaded(&host, 5);
    assert_eq!((mended.error, mended.policies), (None, 1));
    assert_eq!(client.status("DELETE"), "200");
    drop(client.child.stdin.take());
    assert!(client.child.wait().unwrap().success());
    host.verify();
}
