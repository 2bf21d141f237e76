//! Large bodies inside of TLS, both ways: every byte arrives and is on record, and the agent's memory does not grow with them.

use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;
use std::time::Instant;

use serde_json::json;

use super::ground::{Ground, NAME};
use super::pki::valid;
use crate::load::agent_peak;

const LARGE: u64 = 1 << 30;

/// Sends a body and reads one; stands still before, until it is told to go on.
const CLIENT: &str = "import hashlib, socket, ssl, sys
total, block = int(sys.argv[2]), bytes(range(256)) * 4096
plain = socket.create_connection((sys.argv[1], 443), timeout=300)
tls = ssl.create_default_context().wrap_socket(plain, server_hostname=sys.argv[1])
tls.sendall(b'PUT /large HTTP/1.1\\r\\nHost: %s\\r\\nContent-Length: %d\\r\\n\\r\\n' % (sys.argv[1].encode(), total))
print('up', flush=True); sys.stdin.readline()
went, came, got = hashlib.sha256(), hashlib.sha256(), 0
for at in range(total // len(block)):
    one = at.to_bytes(8, 'big') + block[8:]
    went.update(one); tls.sendall(one)
answer = tls.makefile('rb')
assert answer.readline().startswith(b'HTTP/1.1 200')
while answer.readline().strip(): pass
while got < total:
    more = answer.read(min(1 << 20, total - got))
    assert more, got
    came.update(more); got += len(more)
print(went.hexdigest(), came.hexdigest(), flush=True); sys.stdin.readline()";

#[test]
fn large_bodies_inside_of_tls_stream_both_ways_in_bounded_memory() {
    let mut ground = Ground::new();
    let shown = ground.pki.leaf(&valid(&[NAME]));
    ground.add(NAME, 443, &shown, "bulk", &json!({}));
    ground.serve();
    let mut command = ground.crewtap_run();
    command.args(["/usr/bin/python3", "-c", CLIENT, NAME, &LARGE.to_string()]);
    let mut client = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(client.stdout.take().unwrap()).lines();
    let mut go_on = client.stdin.take().unwrap();
    assert_eq!(lines.next().unwrap().unwrap(), "up");
    let before = agent_peak(&ground.host);
    let begin = Instant::now();
    go_on.write_all(b"\n").unwrap();
    let digests = lines.next().unwrap().unwrap();
    let peak = agent_peak(&ground.host);
    println!("1 GiB each way in {:?}; the agent's peak went from {before} to {peak} MiB", begin.elapsed());
    drop(go_on);
    assert!(client.wait().unwrap().success());
    assert!(peak < before + 64, "from {before} to {peak} MiB");

    let rows = ground.rows(1);
    let log = ground.log(443);
    let (got, sent) = (&log[0]["got"], &log[0]["sent"]);
    assert_eq!(digests, format!("{} {}", got.as_str().unwrap(), sent.as_str().unwrap()));
    let (session, exchange) = (rows.session(), rows.table("exchanges")[0].clone());
    assert_eq!((&session["tls"], &exchange["outcome"]), (&json!("verified"), &json!("success")));
    for side in ["up", "down"] {
        let bytes = exchange[format!("bytes_{side}")].as_u64().unwrap();
        assert!(bytes > LARGE && bytes < LARGE + 1000, "{exchange}");
        assert_eq!(session[format!("recorded_{side}")], session[format!("bytes_{side}")]);
    }
}
