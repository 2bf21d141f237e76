//! What happens when something dies or runs full: nothing is forwarded that is not on record, and nobody connects
//! around a dead agent.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Stdio};

use aya::maps::{HashMap, Map, MapData};
use crewtap_tests::host::{Host, succeeded, text};
use crewtap_tests::peer::Peer;
use rustix::process::Signal;

use crate::agent;

/// Sends numbered lines over one connection after another, until nothing can be sent any more.
const NUMBERED: &str = "import itertools, socket, sys
failed = 0
for connection in itertools.count():
    try:
        s = socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=20)
        for line in range(50):
            s.sendall(b'%s.%d.%d\\n' % (sys.argv[3].encode(), connection, line))
        s.close()
    except OSError as error:
        failed += 1
        if failed == 3: print('failed', error.errno); break";

/// Everything that the target got is on record, connection by connection.
fn assert_recorded(host: &Host, target: &Peer) {
    let recorded = agent::recorded_up(host);
    for seen in target.seen() {
        let is_there = |(bytes, pending): &(Vec<u8>, u64)| {
            // What was undecided under the masks when the agent died is there by its length and digest.
            let (shown, rest) = seen.split_at(seen.len().min(bytes.len()));
            bytes.starts_with(shown) && rest.len() as u64 <= *pending
        };
        let found = recorded.iter().any(is_there);
        assert!(found, "the target got what is not on record: {:?}", String::from_utf8_lossy(&seen));
    }
}

#[test]
fn whatever_moment_the_agent_is_killed_at_what_the_target_got_is_on_record() {
    const ROUNDS: usize = 10;
    let host = Host::new();
    let target = Peer::sink(&host, "127.0.0.1:0");
    let got = || target.seen().iter().map(Vec::len).sum::<usize>();
    for round in 0..ROUNDS {
        let before = got();
        let client = ["python3", "-c", NUMBERED, "127.0.0.1", &target.port(), &round.to_string()];
        let run = host.spawn_run(&client);
        agent::until("traffic", || (got() > before + round * 1000).then_some(()));
        agent::kill(&host);
        let ended = run.wait_with_output().unwrap();
        assert!(succeeded(&ended).starts_with("failed "), "{}", text(&ended));
    }
    assert_eq!(succeeded(&host.run(&["true"])), "");
    agent::wait_end(&host);
    assert_recorded(&host, &target);
    host.verify();
    let runs = host.json(&["runs"]);
    assert_eq!(runs.len(), ROUNDS + 1);
    assert_eq!(runs.iter().filter(|run| run["outcome"] == "lost").count(), ROUNDS, "{runs:?}");
    let sessions: i64 = runs.iter().map(|run| run["sessions"].as_i64().unwrap()).sum();
    let dialled = i64::try_from(target.seen().len()).unwrap();
    assert!(sessions >= dialled, "{sessions} sessions in the index, the target accepted {dialled}");
    assert_eq!(agent::left_in_kernel(&host), Vec::<std::path::PathBuf>::new());
}

/// A run with a Python program that is told by lines when to go on.
struct Client {
    run: agent::Ended,
    input: std::process::ChildStdin,
    lines: BufReader<std::process::ChildStdout>,
}

impl Client {
    fn start(host: &Host, script: &str, args: &[&str]) -> Self {
        let mut command = host.crewtap(&["run", "-q", "--", "python3", "-c", script]);
        let mut run = command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (input, output) = (run.stdin.take().unwrap(), run.stdout.take().unwrap());
        Self { run: agent::Ended(run), input, lines: BufReader::new(output) }
    }

    fn said(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    fn go_on(&mut self) {
        self.input.write_all(b"\n").unwrap();
    }

    /// What it still says, and that it ends well.
    fn end(mut self) -> Vec<String> {
        drop(self.input);
        let mut rest = String::new();
        self.lines.read_to_string(&mut rest).unwrap();
        assert!(self.run.0.wait().unwrap().success(), "{rest}");
        rest.lines().map(str::to_owned).collect()
    }
}

/// Prints how each of ten connects ends.
const TRY: &str = "
def attempt():
    try:
        s = socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=20)
        s.sendall(b'secret')
        return 'answered' if s.recv(1) else 'ended'
    except OSError as error:
        return str(error.errno)
for _ in range(10): print(attempt(), flush=True)";

/// EPERM while the programs refuse, ECONNREFUSED where the redirect met no listener.
fn assert_refused(said: &[String]) {
    assert_eq!(said.len(), 10, "{said:?}");
    assert!(said.iter().all(|word| word == "1" || word == "111"), "{said:?}");
}

#[test]
fn an_agent_killed_while_clients_talk_leaves_them_without_a_way() {
    let host = Host::new();
    let target = Peer::echo(&host, "127.0.0.1:0");
    let script = format!(
        "import socket, sys
s = socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=20)
s.sendall(b'a'); print(s.recv(1).decode(), flush=True)
input()
try: s.sendall(b'b'); print(len(s.recv(1)), flush=True)
except OSError: print('error', flush=True){TRY}"
    );
    let mut client = Client::start(&host, &script, &["127.0.0.1", &target.port()]);
    assert_eq!(client.said(), "a");
    agent::kill(&host);
    client.go_on();
    let ended = client.said();
    assert!(ended == "error" || ended == "0", "{ended}");
    assert_refused(&client.end());
    assert_eq!(target.seen(), [b"a"], "nothing more is forwarded, nobody connects directly");
}

/// How often the journal closes a session, and says that a run has ended.
pub(crate) fn ends(host: &Host) -> (usize, usize) {
    use crewtap_core::event::Body;
    let records = crewtap::journal::Reader::open(&host.data_dir()).unwrap().from(0);
    let bodies: Vec<Body> = records.map(|record| record.unwrap().event.body).collect();
    let closed = bodies.iter().filter(|body| matches!(body, Body::SessionClosed(_))).count();
    (closed, bodies.iter().filter(|body| matches!(body, Body::RunEnded(_))).count())
}

#[test]
fn sessions_that_were_open_when_the_agent_was_killed_are_closed_once_by_the_next() {
    const OPEN: usize = 300;
    let host = Host::new();
    let target = Peer::echo(&host, "127.0.0.1:0");
    let script = format!(
        "import socket, sys
kept = [socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=20) for _ in range({OPEN})]
for s in kept: s.sendall(b'ab'); assert len(s.recv(2)) == 2
kept.pop().close()
print('open', flush=True); input()"
    );
    let mut client = Client::start(&host, &script, &["127.0.0.1", &target.port()]);
    assert_eq!(client.said(), "open");
    agent::until("the end of one session", || (ends(&host).0 == 1).then_some(()));
    agent::kill(&host);
    client.go_on();
    client.end();
    assert_eq!(ends(&host), (1, 0));
    assert_eq!(succeeded(&host.run(&["true"])), "");
    agent::wait_end(&host);
    assert_eq!(ends(&host), (OPEN, 2), "all of the dead agent's, and the two runs");
    assert_eq!(succeeded(&host.run(&["true"])), "");
    agent::wait_end(&host);
    assert_eq!(ends(&host), (OPEN, 3), "what has an end gets no other");
    let lost = host.json(&["runs"]).into_iter().find(|run| run["outcome"] == "lost").unwrap();
    let id = lost["id"].as_str().unwrap();
    let rows = host.json(&["show", id]);
    let sessions: Vec<_> = rows.iter().filter(|row| row["table"] == "sessions").collect();
    let aborted = sessions.iter().filter(|row| row["outcome"] == "aborted");
    let told = aborted.filter(|row| {
        row["error"].as_str().unwrap().starts_with("the agent was killed")
            && (&row["bytes_up"], &row["bytes_down"]) == (&2.into(), &2.into())
            && row["end_leaf"].as_i64().unwrap() < lost["end_leaf"].as_i64().unwrap()
    });
    assert_eq!((sessions.len(), told.count()), (OPEN, OPEN - 1));
    host.verify();
}

#[test]
fn an_agent_killed_before_clients_connect_leaves_them_without_a_way() {
    let host = Host::new();
    let target = Peer::echo(&host, "127.0.0.1:0");
    let script = format!("import socket, sys; print('up', flush=True); input(){TRY}");
    let mut client = Client::start(&host, &script, &["127.0.0.1", &target.port()]);
    assert_eq!(client.said(), "up");
    agent::kill(&host);
    client.go_on();
    assert_refused(&client.end());
    assert!(target.seen().is_empty());
}

/// Listens on each port as soon as it is free, and says what it gets.
const THIEF: &str = "import os, socket, sys, threading, time
def take(family, address, port):
    while True:
        s = socket.socket(family)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6: s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        try: s.bind((address, port)); s.listen(); break
        except OSError: s.close(); time.sleep(0.002)
    os.write(1, b'listens %d %d\\n' % (os.getuid(), port))
    while True:
        c, peer = s.accept()
        os.write(1, b'GOT %s\\n' % repr(peer).encode())
for port in map(int, sys.argv[1:]):
    for where in ((socket.AF_INET, '0.0.0.0'), (socket.AF_INET6, '::')):
        threading.Thread(target=take, args=(*where, port), daemon=True).start()
sys.stdin.read()
os.write(1, b'end\\n')
os._exit(0)";

struct Thief(Child, BufReader<std::process::ChildStdout>);

impl Thief {
    fn start(host: &Host, ports: &[u16]) -> Self {
        let mut command: Command = agent::as_nobody(host, 65534, "/usr/bin/python3");
        command.args(["-c", THIEF]).args(ports.iter().map(u16::to_string));
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        Self(child, output)
    }

    /// Waits until it has every port.
    fn has(&mut self, ports: usize) -> Vec<String> {
        self.1.by_ref().lines().take(2 * ports).map(Result::unwrap).collect()
    }

    fn end(mut self) -> Vec<String> {
        drop(self.0.stdin.take());
        let rest = self.1.lines().map(Result::unwrap).collect();
        self.0.wait().unwrap();
        rest
    }
}

/// Law 3, between accept and dial: once the kernel has accepted and the agent has not, once the agent has and waits
/// for the client's first bytes.
#[test]
fn an_agent_killed_between_accept_and_dial_leaves_its_port_to_nobody() {
    let script = format!(
        "import socket, sys
print('up', flush=True); input()
s = socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=20)
print('connected', flush=True); input()
try: s.sendall(b'secret'); print(len(s.recv(1)), flush=True)
except OSError: print('error', flush=True){TRY}"
    );
    for stopped in [true, false] {
        let host = Host::new();
        // Connections of the self-test would keep the port from everybody for a minute.
        let no_time_wait = host.command("sh").args(["-c", "echo 0 >/proc/sys/net/ipv4/tcp_max_tw_buckets"]).status();
        assert!(no_time_wait.unwrap().success());
        let target = Peer::echo(&host, "127.0.0.1:0");
        let mut client = Client::start(&host, &script, &["127.0.0.1", &target.port()]);
        assert_eq!(client.said(), "up");
        let ports = agent::ports(&host, &[target.address.port()]);
        assert!(!ports.is_empty());
        let mut thief = Thief::start(&host, &ports);
        let pid = agent::pid(&host);
        if stopped {
            agent::signal(pid, Signal::STOP);
        }
        client.go_on();
        assert_eq!(client.said(), "connected");
        agent::signal(pid, Signal::KILL);
        agent::wait_gone(pid);
        let has = thief.has(ports.len());
        assert_eq!(has.len(), 2 * ports.len());
        assert!(has.iter().all(|line| line.starts_with("listens 65534 ")), "{has:?}");
        client.go_on();
        let ended = client.said();
        assert!(ended == "error" || ended == "0", "{ended}");
        assert_refused(&client.end());
        assert_eq!(thief.end(), ["end"], "somebody else got a captured connection");
        assert!(target.seen().iter().all(Vec::is_empty), "{:?}", target.seen());
    }
}

/// Law 3, when the agent ends because it was told to: its ports are free while processes of a run still connect.
#[test]
fn an_agent_that_is_told_to_end_leaves_its_ports_to_nobody() {
    let script = "import socket, sys, time
print('up', flush=True); input()
def attempt():
    try:
        s = socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=5)
        s.sendall(b'secret'); s.recv(1)
    except OSError: pass
attempt(); print('connecting', flush=True)
import threading
threading.Thread(target=lambda: [attempt() for _ in iter(int, 1)], daemon=True).start()
input()";
    let host = Host::new();
    let no_time_wait = host.command("sh").args(["-c", "echo 0 >/proc/sys/net/ipv4/tcp_max_tw_buckets"]).status();
    assert!(no_time_wait.unwrap().success());
    let target = Peer::sink(&host, "127.0.0.1:0");
    let mut client = Client::start(&host, script, &["127.0.0.1", &target.port()]);
    assert_eq!(client.said(), "up");
    let ports = agent::ports(&host, &[target.address.port()]);
    let mut thief = Thief::start(&host, &ports);
    client.go_on();
    assert_eq!(client.said(), "connecting");
    let pid = agent::pid(&host);
    agent::signal(pid, Signal::TERM);
    agent::wait_gone(pid);
    let has = thief.has(ports.len());
    assert_eq!(has.len(), 2 * ports.len(), "{has:?}");
    client.go_on();
    client.end();
    assert_eq!(thief.end(), ["end"], "somebody else got a captured connection");
}

/// The origins of an agent's connections, in the map that its programs write.
fn origins(pid: u32) -> HashMap<MapData, [u8; 40], [u8; 104]> {
    let files = std::fs::read_dir(format!("/proc/{pid}/fdinfo")).unwrap();
    let ids = files.filter_map(|file| {
        let text = std::fs::read_to_string(file.ok()?.path()).ok()?;
        text.lines().find_map(|line| line.strip_prefix("map_id:")?.trim().parse::<u32>().ok())
    });
    let origins = ids.map(|id| MapData::from_id(id).unwrap());
    let found = origins.into_iter().find(|map| map.info().unwrap().name_as_str() == Some("ORIGINS"));
    HashMap::try_from(Map::from_map_data(found.expect("the map of origins")).unwrap()).unwrap()
}

/// The kernel's count does not come from the map of origins: what somebody takes out of it is missed.
#[test]
fn a_connection_whose_origin_is_gone_is_refused_and_raises_the_alarm() {
    let host = Host::new();
    let target = Peer::echo(&host, "127.0.0.1:0");
    let script = "import socket, sys
print('up', flush=True); input()
s = socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=20)
print('connected', flush=True); input()
try: s.sendall(b'secret'); print(len(s.recv(1)), flush=True)
except OSError: print('error', flush=True)";
    let mut client = Client::start(&host, script, &["127.0.0.1", &target.port()]);
    assert_eq!(client.said(), "up");
    let pid = agent::pid(&host);
    let mut origins = origins(pid);
    agent::signal(pid, Signal::STOP);
    client.go_on();
    assert_eq!(client.said(), "connected");
    let keys: Vec<_> = origins.keys().map(Result::unwrap).collect();
    assert_eq!(keys.len(), 1);
    origins.remove(&keys[0]).unwrap();
    agent::signal(pid, Signal::CONT);
    client.go_on();
    assert_eq!(client.said(), "error");
    client.end();
    agent::wait_end(&host);
    assert!(target.seen().is_empty(), "law 2: there is no default destination");
    let run = host.last_run();
    assert_eq!((&run["sessions"], &run["complete"]), (&0.into(), &false.into()), "{run}");
    let shown = succeeded(&host.crewtap(&["show", run["id"].as_str().unwrap()]).output().unwrap());
    let alarm = "! not everything is on record: the kernel saw 1 connections established, 0 sessions are recorded";
    assert!(shown.contains(alarm), "{shown}");
    assert!(shown.contains("1 unattributed"), "{shown}");
    let reconciled = host.timeline(&run).into_iter().find(|event| event["event"] == "reconciled").unwrap();
    assert_eq!(reconciled["alarm"], true);
    host.verify();
}

/// A store on a file system of its own that is small.
pub(crate) struct SmallDisk(std::path::PathBuf);

impl SmallDisk {
    pub(crate) fn mount(host: &Host, size: &str) -> Self {
        let at = host.data_dir();
        std::fs::create_dir(&at).unwrap();
        let disk = Self(at);
        disk.do_mount(&["-t", "tmpfs", "-o", &format!("size={size},mode=750"), "crewtap-test"]);
        disk
    }

    pub(crate) fn grow(&self, size: &str) {
        self.do_mount(&["-o", &format!("remount,size={size}")]);
    }

    fn do_mount(&self, args: &[&str]) {
        let output = Command::new("mount").args(args).arg(&self.0).output().unwrap();
        assert!(output.status.success(), "{}", text(&output));
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).output();
    }
}

#[test]
fn a_full_disk_refuses_sessions_until_there_is_room_again() {
    let host = Host::new();
    let disk = SmallDisk::mount(&host, "24m");
    let target = Peer::sink(&host, "127.0.0.1:0");
    let script = "import os, socket, sys, time
def send(blocks):
    try:
        s = socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=20)
        for _ in range(blocks): s.sendall(os.urandom(16384))
        s.shutdown(socket.SHUT_WR)
        return s.recv(1) == b''
    except OSError: return False
while send(64): pass
print('full', flush=True); input()
for _ in range(100): assert not send(64)
print('refused', flush=True); input()
end = time.monotonic() + 30
while not send(1):
    assert time.monotonic() < end
    time.sleep(0.1)
print('again', flush=True)";
    let mut client = Client::start(&host, script, &["127.0.0.1", &target.port()]);
    assert_eq!(client.said(), "full");
    client.go_on();
    assert_eq!(client.said(), "refused");
    disk.grow("96m");
    client.go_on();
    let log = || std::fs::read_to_string(host.data_dir().join("agent.log")).unwrap();
    assert_eq!(client.said(), "again", "{}", log());
    client.end();
    agent::wait_end(&host);
    assert_recorded(&host, &target);
    host.verify();
    let run = host.last_run();
    assert_eq!(run["complete"], false, "connections were refused unrecorded: {run}");
    assert_eq!(run["outcome"], "exited");
    let shown = host.json(&["show", run["id"].as_str().unwrap()]);
    let outcome = |name: &str| shown.iter().filter(|row| row["table"] == "sessions" && row["outcome"] == name).count();
    assert!(outcome("unrecorded") >= 1, "{shown:?}");
    assert!(outcome("completed") >= 1, "{shown:?}");
    drop(disk);
}
