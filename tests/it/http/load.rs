//! Large bodies and many connections: bounded memory, nothing lost, and a slow side slows the other one down.

use std::sync::{Mutex, mpsc};
use std::time::{Duration, Instant};

use crewtap_tests::host::Host;

use crate::load::{agent_peak, python};

use super::*;

const LARGE: usize = 256 << 20;
const BLOCK: usize = 1 << 20;

/// Sends and receives a large body each; stands still before each until it is told to go on.
const STREAM: &str = "
total, block = int(sys.argv[3]), bytes(range(256)) * 4096
print('up', flush=True); sys.stdin.readline()
for _ in range(total // len(block)): s.sendall(b'%x\\r\\n' % len(block)); s.sendall(block); s.sendall(b'\\r\\n')
s.sendall(b'0\\r\\n\\r\\n')
print(until(b'\\r\\n\\r\\n').split(b'\\r\\n')[0].decode(), flush=True); sys.stdin.readline()
got = 0
while got < total:
    more = s.recv(1 << 20)
    assert more and more[0] == got % 256, got
    got += len(more)
print(got, flush=True)";

#[test]
fn large_bodies_stream_both_ways_in_bounded_memory() {
    let host = Host::new();
    let (told, got) = mpsc::sync_channel(1);
    let told = Mutex::new(told);
    let web = server(&host, move |asked| {
        // Nothing is kept here: only how much came, and how it ended.
        let (mut bytes, mut total, mut last) = (vec![0; 65536], 0, Vec::new());
        while !last.ends_with(b"\r\n0\r\n\r\n") {
            let len = asked.stream.read(&mut bytes).unwrap();
            assert!(len > 0, "the body ends before its end");
            total += len;
            last.extend_from_slice(&bytes[..len]);
            last.drain(..last.len().saturating_sub(7));
        }
        told.lock().unwrap().send(total).unwrap();
        asked.answer(format!("HTTP/1.1 200 OK\r\nContent-Length: {LARGE}\r\n\r\n"));
        let block: Vec<u8> = (0..=255).cycle().take(BLOCK).collect();
        for _ in 0..LARGE / BLOCK {
            asked.answer(&block);
        }
        false
    });
    let said = hex(b"POST /large HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    let script = format!("{HELPERS}{CONNECTED}{STREAM}");
    let (mut client, lines) = python(&host, &[], &script, &[&web.port(), &said, &LARGE.to_string()]);
    let next = |patience| lines.recv_timeout(patience).expect("the client goes on");
    assert_eq!(next(Duration::from_mins(1)), "up");
    let before = agent_peak(&host);
    let begin = Instant::now();
    let go_on = |client: &mut std::process::Child| client.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
    go_on(&mut client);
    assert_eq!(next(Duration::from_mins(5)), "HTTP/1.1 200 OK");
    let chunk = BLOCK + "100000\r\n\r\n".len();
    assert_eq!(got.recv().unwrap(), LARGE / BLOCK * chunk + "0\r\n\r\n".len());
    let up = begin.elapsed();
    go_on(&mut client);
    assert_eq!(next(Duration::from_mins(5)), LARGE.to_string());
    let peak = agent_peak(&host);
    println!("256 MiB up in {up:?}, both in {:?}; the agent's peak went from {before} to {peak} MiB", begin.elapsed());
    assert!(client.wait().unwrap().success());
    assert!(peak < before + 64, "from {before} to {peak} MiB");
    let exchanges = exchanges(&host);
    assert_eq!(column(&exchanges, "outcome"), ["success"]);
    assert!(exchanges[0]["bytes_down"].as_u64().unwrap() > LARGE as u64);
    let rows = Rows::of_last_run(&host);
    rows.reconciled(1);
    assert_eq!(rows.session()["recorded_up"], rows.session()["bytes_up"]);
    assert_eq!(rows.session()["recorded_down"], rows.session()["bytes_down"]);
}

/// Sends until nobody takes more for a second, and tells how much went out.
const STUCK: &str = "
s.setblocking(False)
sent, block = 0, b'x' * 65536
while select.select([], [s], [], 1)[1] and sent < int(sys.argv[3]):
    sent += s.send(block)
print(sent, flush=True); sys.stdin.readline()";

#[test]
fn a_server_that_does_not_read_slows_its_client_down() {
    let host = Host::new();
    let (go, gone) = mpsc::sync_channel::<()>(1);
    let gone = Mutex::new(gone);
    let web = server(&host, move |_| {
        let _ = gone.lock().unwrap().recv();
        false
    });
    let said = hex(format!("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: {LARGE}\r\n\r\n").as_bytes());
    let script = format!("{HELPERS}{CONNECTED}{STUCK}");
    let (mut client, lines) = python(&host, &[], &script, &[&web.port(), &said, &LARGE.to_string()]);
    let sent: usize = lines.recv_timeout(Duration::from_mins(2)).unwrap().parse().unwrap();
    assert!(sent < LARGE / 8, "{sent} bytes went out with nobody reading");
    go.send(()).unwrap();
    client.stdin.take().unwrap().write_all(b"\n").unwrap();
    client.wait().unwrap();
    assert_eq!(column(&exchanges(&host), "outcome"), ["aborted"]);
}

#[test]
fn a_client_that_does_not_read_slows_its_server_down() {
    let host = Host::new();
    let (told, stuck) = mpsc::sync_channel(1);
    let told = Mutex::new(told);
    let web = server(&host, move |asked| {
        asked.answer(format!("HTTP/1.1 200 OK\r\nContent-Length: {LARGE}\r\n\r\n"));
        asked.stream.set_write_timeout(Some(Duration::from_secs(1))).unwrap();
        let (block, mut sent) = (vec![b'x'; 65536], 0);
        while let Ok(len) = asked.stream.write(&block) {
            sent += len;
        }
        told.lock().unwrap().send(sent).unwrap();
        false
    });
    let said = hex(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let script =
        format!("{HELPERS}{CONNECTED}print(until(b'\\r\\n\\r\\n')[:15].decode(), flush=True); sys.stdin.readline()");
    let (mut client, lines) = python(&host, &[], &script, &[&web.port(), &said]);
    assert_eq!(lines.recv_timeout(Duration::from_mins(1)).unwrap(), "HTTP/1.1 200 OK");
    let sent = stuck.recv_timeout(Duration::from_mins(2)).unwrap();
    assert!(sent < LARGE / 8, "{sent} bytes went out with nobody reading");
    client.stdin.take().unwrap().write_all(b"\n").unwrap();
    client.wait().unwrap();
    assert_eq!(column(&exchanges(&host), "outcome"), ["aborted"]);
}

const MANY: usize = 1000;

/// Each asks as soon as it is connected, and again when all were answered: a client that says nothing for longer than
/// crewtap waits for its first bytes is not known to speak HTTP.
const KEPT: &str = "import resource, socket, sys
_, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
port, many = int(sys.argv[1]), int(sys.argv[2])
kept, right = [], 0
def ask(s, number): s.sendall(b'GET /%d HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n' % number)
def answered(s): return s.recv(40, socket.MSG_WAITALL) == b'HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\n\\r\\nok'
for number in range(many):
    kept.append(socket.create_connection(('127.0.0.1', port)))
    ask(kept[-1], number)
right += sum(answered(s) for s in kept)
for number, s in enumerate(kept): ask(s, number)
right += sum(answered(s) for s in kept)
print(right, flush=True)
sys.stdin.readline()";

#[test]
fn a_thousand_connections_that_are_kept_alive_are_all_served_and_recorded() {
    let (_, hard) = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE).unwrap();
    nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE, hard, hard).unwrap();
    let host = Host::new();
    let web = always(&host, OK);
    let (mut client, lines) = python(&host, &[], KEPT, &[&web.port(), &MANY.to_string()]);
    let right = lines.recv_timeout(Duration::from_mins(3)).expect("the clients are served");
    assert_eq!(right, (2 * MANY).to_string());
    let peak = agent_peak(&host);
    println!("{MANY} connections kept alive: the agent's peak is {peak} MiB");
    client.stdin.take().unwrap().write_all(b"end\n").unwrap();
    assert!(client.wait().unwrap().success());
    // With its agent, the index has everything.
    crate::agent::wait_end(&host);
    let rows = Rows::of_last_run(&host);
    rows.reconciled(MANY as u64);
    assert_eq!(rows.run()["exchanges"], 2 * MANY);
    assert!(rows.table("sessions").iter().all(|row| row["outcome"] == "completed" && row["exchanges"] == 2));
    assert!(peak < 192, "{peak} MiB");
    host.verify();
}
