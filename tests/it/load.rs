//! Many sessions at once, and much in one: nothing is lost, and the agent's memory does not grow with it.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Stdio};
use std::sync::Mutex;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use crewtap::journal::Reader;
use crewtap_core::event::Body;
use crewtap_core::session::Side;
use crewtap_tests::host::Host;
use crewtap_tests::peer::Peer;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::digest::Digest;
use crate::rows::Rows;

const MANY: usize = 1000;

/// Everything is connected before anything is said, and nothing is closed before all are answered.
const MANY_CLIENTS: &str = "import asyncio, resource, sys
_, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
async def main(port, many):
    pairs = await asyncio.gather(*(asyncio.open_connection('127.0.0.1', port) for _ in range(many)))
    async def talk(number, reader, writer):
        message = f'{number:0100}'.encode()
        writer.write(message)
        return await reader.readexactly(100) == message
    right = await asyncio.gather(*(talk(number, *pair) for number, pair in enumerate(pairs)))
    print(sum(right), flush=True)
    sys.stdin.readline()
    for _, writer in pairs: writer.close()
asyncio.run(main(int(sys.argv[1]), int(sys.argv[2])))";

const LARGE: u64 = 256 << 20;

/// Sends until nobody takes more for two seconds, tells, waits to be told, and sends the rest.
const LARGE_CLIENT: &str = "import hashlib, select, socket, sys
s = socket.create_connection(('127.0.0.1', int(sys.argv[1])))
total, sent, digest, told = int(sys.argv[2]), 0, hashlib.sha256(), False
block = b''.join(number.to_bytes(4, 'big') for number in range(1 << 14))
while sent < total:
    rest = memoryview(sent.to_bytes(8, 'big') + block[8:])
    digest.update(rest)
    while rest:
        if not told and not select.select([], [s], [], 2)[1]:
            print(sent, flush=True); sys.stdin.readline(); told = True
        written = s.send(rest, 0 if told else socket.MSG_DONTWAIT)
        rest = rest[written:]; sent += written
s.shutdown(socket.SHUT_WR)
print(digest.hexdigest(), s.recv(100).decode())";

/// A captured Python that is told to go on by a line; `limits` are prlimit's.
pub(crate) fn python(host: &Host, limits: &[&str], script: &str, args: &[&str]) -> (Child, mpsc::Receiver<String>) {
    let mut command = host.command("prlimit");
    command.args(limits).arg(crewtap_tests::host::crewtap()).arg("--data-dir").arg(host.data_dir());
    command.args(["run", "-q", "--", "python3", "-c", script]).args(args);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let (sender, receiver) = mpsc::sync_channel(16);
    let output = child.stdout.take().unwrap();
    std::thread::spawn(move || {
        BufReader::new(output).lines().map_while(Result::ok).all(|line| sender.send(line).is_ok());
    });
    (child, receiver)
}

/// The most memory that the agent of this host has ever held, in MiB.
pub(crate) fn agent_peak(host: &Host) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", host.agent())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
}

#[test]
fn a_thousand_sessions_at_once_are_all_served_and_recorded() {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap();
    let host = Host::new();
    let echo = Peer::echo(&host, "127.0.0.1:0");
    // A shell's limit of open files: the agent must not be bound by it.
    let limits = ["--nofile=1024:"];
    let (mut client, lines) = python(&host, &limits, MANY_CLIENTS, &[&echo.port(), &MANY.to_string()]);
    let right = lines.recv_timeout(Duration::from_mins(2)).expect("the clients are served");
    assert_eq!(right, MANY.to_string());
    let peak = agent_peak(&host);
    println!("{MANY} sessions: the agent's peak is {peak} MiB");
    client.stdin.take().unwrap().write_all(b"end\n").unwrap();
    assert!(client.wait().unwrap().success());
    assert_eq!(echo.seen().len(), MANY);
    let rows = Rows::of_last_run(&host);
    rows.reconciled(MANY as u64);
    let sessions = rows.table("sessions");
    assert!(sessions.iter().all(|session| session["outcome"] == "completed" && session["recorded_down"] == 100));
    assert!(peak < 160, "{peak} MiB");
    host.verify();
}

/// What is on record of the client's side, whose pieces must lie end to end.
fn recorded(host: &Host) -> (u64, String) {
    let reader = Reader::open(&host.data_dir()).unwrap();
    let (mut next, mut digest) = (0, Digest::new());
    for record in reader.from(0) {
        let record = record.unwrap();
        if let Body::Chunk(chunk) = &record.event.body
            && chunk.side == Side::Client
        {
            assert_eq!(chunk.offset, next, "no gap and no overlap");
            next += record.payload.len() as u64;
            digest.feed(&record.payload);
        }
    }
    (next, digest.finish())
}

#[test]
fn a_slow_reader_slows_the_sender_and_costs_no_memory() {
    let host = Host::new();
    let (go, gone) = mpsc::sync_channel::<()>(1);
    let gone = Mutex::new(gone);
    let slow = Peer::serve(&host, "127.0.0.1:0", move |stream, _| {
        gone.lock().unwrap().recv().unwrap();
        let (mut digest, mut bytes) = (Digest::new(), vec![0; 64 * 1024]);
        while let Ok(len @ 1..) = std::io::Read::read(stream, &mut bytes) {
            digest.feed(&bytes[..len]);
        }
        stream.write_all(digest.finish().as_bytes()).unwrap();
    });
    let (mut client, lines) = python(&host, &[], LARGE_CLIENT, &[&slow.port(), &LARGE.to_string()]);
    let stuck: u64 = lines.recv_timeout(Duration::from_mins(1)).expect("the client is stuck").parse().unwrap();
    let before = agent_peak(&host);
    assert!(stuck < LARGE / 8, "{stuck} bytes went out with nobody reading");
    let begin = Instant::now();
    go.send(()).unwrap();
    client.stdin.as_mut().unwrap().write_all(b"go on\n").unwrap();
    let digests = lines.recv_timeout(Duration::from_mins(5)).expect("the client has sent everything");
    let peak = agent_peak(&host);
    let rate = u128::from(LARGE) / begin.elapsed().as_micros().max(1);
    println!("stuck after {stuck} bytes; {rate} MB/s; the agent's peak went from {before} to {peak} MiB");
    assert!(client.wait().unwrap().success());
    let (sent, received) = digests.split_once(' ').unwrap();
    assert_eq!(sent, received);
    assert_eq!(recorded(&host), (LARGE, sent.to_owned()));
    assert!(peak < before + 48, "from {before} to {peak} MiB");
    let rows = Rows::of_last_run(&host);
    rows.reconciled(1);
    assert_eq!(rows.session()["bytes_up"], LARGE);
}
