//! What a client and a server see of each other through crewtap: ends, resets, failures, addresses, owners.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::process::Stdio;
use std::sync::Mutex;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::time::Duration;

use crewtap_tests::host::{Host, succeeded};
use crewtap_tests::peer::Peer;
use nix::libc::linger;
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{setsockopt, sockopt};
use nix::unistd::Pid;

use crate::rows::Rows;

/// Longer than anything here takes on a busy machine.
const WAIT: Duration = Duration::from_mins(1);

/// A client's opening: `s` is connected to the first two arguments.
const CONNECTED: &str = "import select, socket, struct, sys
def rest():
    got = b''
    while more := s.recv(65536): got += more
    return got
s = socket.create_connection((sys.argv[1], int(sys.argv[2])))
";

/// A client's fate: what happened to it at which step.
const FATE: &str = "import socket, sys, errno
step = 'connect'
try:
    s = socket.create_connection((sys.argv[1], int(sys.argv[2])))
    step = 'receive'
    s.recv(1)
    step = 'end'
except OSError as error:
    step += ' ' + errno.errorcode[error.errno]
print(step)
";

/// Runs a client against a peer and returns what it printed.
fn client(host: &Host, peer: &Peer, script: &str) -> String {
    let script = format!("{CONNECTED}{script}");
    host.python(&script, &[&peer.address.ip().to_string(), &peer.port()]).trim().to_owned()
}

/// A server that reports one thing per connection.
fn reporting<T: Send + 'static>(
    host: &Host,
    address: &str,
    talk: impl Fn(&mut TcpStream) -> T + Send + Sync + 'static,
) -> (Peer, Receiver<T>) {
    let (sender, receiver): (SyncSender<T>, _) = mpsc::sync_channel(16);
    let sender = Mutex::new(sender);
    let peer = Peer::serve(host, address, move |stream, _| {
        let told = talk(stream);
        sender.lock().unwrap().send(told).unwrap();
    });
    (peer, receiver)
}

fn to_the_end(stream: &mut TcpStream) -> (usize, Option<std::io::ErrorKind>) {
    let (mut bytes, mut total) = (vec![0; 65536], 0);
    loop {
        match stream.read(&mut bytes) {
            Ok(0) => return (total, None),
            Ok(len) => total += len,
            Err(error) => return (total, Some(error.kind())),
        }
    }
}

fn reset_when_dropped(stream: &TcpStream) {
    setsockopt(stream, sockopt::Linger, &linger { l_onoff: 1, l_linger: 0 }).unwrap();
}

#[test]
fn a_client_that_has_said_everything_still_hears_the_answer() {
    let host = Host::new();
    let (peer, told) = reporting(&host, "127.0.0.1:0", |stream| {
        let (total, error) = to_the_end(stream);
        stream.write_all(format!("{total} bytes, {error:?}").as_bytes()).unwrap();
    });
    let said = client(&host, &peer, "s.sendall(b'x' * 300000); s.shutdown(socket.SHUT_WR); print(rest().decode())");
    told.recv_timeout(WAIT).unwrap();
    assert_eq!(said, "300000 bytes, None");
    let rows = Rows::of_last_run(&host);
    rows.reconciled(1);
    let session = rows.session();
    assert_eq!((&session["outcome"], &session["error"]), (&"completed".into(), &serde_json::Value::Null));
    assert_eq!(session["bytes_up"], 300_000);
    assert_eq!(session["recorded_up"], 300_000);
    assert_eq!(session["bytes_down"], said.len());
    host.verify();
}

#[test]
fn a_server_that_has_said_everything_still_hears_the_client() {
    let host = Host::new();
    let (peer, told) = reporting(&host, "127.0.0.1:0", |stream| {
        stream.write_all(b"that is all").unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        to_the_end(stream)
    });
    let said = client(&host, &peer, "print(rest().decode()); s.sendall(b'late'); s.close()");
    assert_eq!(said, "that is all");
    assert_eq!(told.recv_timeout(WAIT).unwrap(), (4, None), "four bytes and an orderly end");
    let rows = Rows::of_last_run(&host);
    assert_eq!(rows.session()["outcome"], "completed");
    assert_eq!(rows.session()["bytes_up"], 4);
}

#[test]
fn a_reset_by_the_client_is_a_reset_for_the_target() {
    let host = Host::new();
    let (peer, told) = reporting(&host, "127.0.0.1:0", |stream| {
        stream.write_all(b"welcome").unwrap();
        to_the_end(stream)
    });
    let script = "s.sendall(b'hello'); s.recv(7, socket.MSG_WAITALL)
s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0)); s.close()";
    client(&host, &peer, script);
    assert_eq!(told.recv_timeout(WAIT).unwrap().1, Some(std::io::ErrorKind::ConnectionReset));
    let rows = Rows::of_last_run(&host);
    rows.reconciled(1);
    assert_eq!(rows.session()["outcome"], "client_reset", "{}", rows.session());
}

#[test]
fn a_client_that_resets_at_once_is_a_reset_for_the_target_after_what_was_said() {
    let host = Host::new();
    let (peer, told) = reporting(&host, "127.0.0.1:0", |stream| to_the_end(stream).1);
    for said in ["", "hello"] {
        let script = format!(
            "s.sendall(b'{said}'); s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0)); s.close()"
        );
        client(&host, &peer, &script);
        assert_eq!(told.recv_timeout(WAIT).unwrap(), Some(std::io::ErrorKind::ConnectionReset), "after {said:?}");
        let rows = Rows::of_last_run(&host);
        rows.reconciled(1);
        assert_eq!(rows.session()["outcome"], "client_reset", "after {said:?}: {}", rows.session());
        assert_eq!(rows.session()["recorded_up"], said.len());
    }
}

#[test]
fn a_client_that_has_reset_before_it_was_accepted_is_a_session_too() {
    let host = Host::new();
    let peer = Peer::sink(&host, "127.0.0.1:0");
    let script = format!(
        "import socket, struct, sys
for line in sys.stdin:
    for _ in range(10):
        s = socket.create_connection(('127.0.0.1', {}))
        s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0)); s.close()
    print('done', flush=True)",
        peer.port()
    );
    let mut run = host.crewtap(&["run", "--", "python3", "-uc", &format!("print('ready')\n{script}")]);
    let mut run = run.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(run.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "ready");
    let agent = Pid::from_raw(i32::try_from(host.agent()).unwrap());
    kill(agent, Signal::SIGSTOP).unwrap();
    let mut input = run.stdin.take().unwrap();
    let told = input.write_all(b"go\n").map(|()| lines.next());
    kill(agent, Signal::SIGCONT).unwrap();
    assert_eq!(told.unwrap().unwrap().unwrap(), "done");
    drop(input);
    assert!(run.wait().unwrap().success());
    let rows = Rows::of_last_run(&host);
    rows.reconciled(10);
    let outcomes: Vec<_> = rows.table("sessions").iter().map(|session| session["outcome"].clone()).collect();
    assert!(outcomes.iter().all(|outcome| outcome == "client_reset"), "{outcomes:?}");
}

#[test]
fn a_client_that_only_knocks_is_a_complete_session() {
    let host = Host::new();
    let (peer, told) = reporting(&host, "127.0.0.1:0", to_the_end);
    client(&host, &peer, "s.close()");
    assert_eq!(told.recv_timeout(WAIT).unwrap(), (0, None));
    let rows = Rows::of_last_run(&host);
    rows.reconciled(1);
    assert_eq!(rows.session()["outcome"], "completed");
}

#[test]
fn a_client_that_speaks_in_its_first_packet_is_captured_too() {
    let host = Host::new();
    let echo = Peer::echo(&host, "127.0.0.1:0");
    let script = "import socket, sys
s = socket.socket(); s.sendto(b'fast', socket.MSG_FASTOPEN, ('127.0.0.1', int(sys.argv[1])))
print(s.recv(4).decode())";
    assert_eq!(host.python(script, &[&echo.port()]).trim(), "fast");
    let rows = Rows::of_last_run(&host);
    rows.reconciled(1);
    assert_eq!(rows.session()["destination"], echo.address.to_string());
    assert_eq!(rows.session()["recorded_up"], 4);
}

#[test]
fn a_reset_by_the_target_is_a_reset_for_the_client_after_what_was_said() {
    let host = Host::new();
    let (peer, told) = reporting(&host, "127.0.0.1:0", |stream| {
        stream.read_exact(&mut [0; 5]).unwrap();
        stream.write_all(b"the first half").unwrap();
        reset_when_dropped(stream);
    });
    // The client looks only when the reset has arrived: what came before must still be there.
    let script = "s.sendall(b'hello')
errors = select.poll(); errors.register(s, 0)
assert errors.poll(30000), 'no reset within 30 s'
print(s.recv(100).decode())
try: print('then', s.recv(100))
except ConnectionResetError: print('then a reset')";
    assert_eq!(client(&host, &peer, script), "the first half\nthen a reset");
    told.recv_timeout(WAIT).unwrap();
    let rows = Rows::of_last_run(&host);
    assert_eq!(rows.session()["outcome"], "upstream_reset", "{}", rows.session());
    assert_eq!(rows.session()["recorded_down"], "the first half".len());
}

#[test]
fn an_answer_that_comes_before_the_question_is_complete_arrives() {
    let host = Host::new();
    let (peer, told) = reporting(&host, "127.0.0.1:0", |stream| {
        stream.read_exact(&mut [0; 1000]).unwrap();
        stream.write_all(b"413 too large").unwrap();
        // Closed with unread bytes: the kernel resets.
    });
    let script = "try:
    while True: s.sendall(b'x' * 65536)
except OSError as error: pass
print(s.recv(100).decode())";
    assert_eq!(client(&host, &peer, script), "413 too large");
    told.recv_timeout(WAIT).unwrap();
    let rows = Rows::of_last_run(&host);
    assert_eq!(rows.session()["outcome"], "upstream_reset", "{}", rows.session());
    assert_eq!(rows.session()["bytes_down"], "413 too large".len());
}

/// What a client that dials `address` sees, and how its session is on record.
fn fate(host: &Host, address: &str, port: u16) -> (String, Rows) {
    let said = host.python(FATE, &[address, &port.to_string()]);
    (said.trim().to_owned(), Rows::of_last_run(host))
}

#[test]
fn a_target_that_refuses_is_a_reset_before_any_byte() {
    let host = Host::new();
    for address in ["127.0.0.1", "::1"] {
        let (said, rows) = fate(&host, address, 1);
        assert_eq!(said, "receive ECONNRESET");
        rows.reconciled(1);
        assert_eq!(rows.session()["outcome"], "upstream_refused", "{}", rows.session());
        assert_eq!(rows.session()["bytes_down"], 0);
    }
}

#[test]
fn a_host_that_is_unreachable_is_on_record_as_such() {
    let host = Host::new();
    host.route_to_nowhere();
    host.ip(&["route", "add", "unreachable", "10.98.0.0/16"]);
    let (said, rows) = fate(&host, "10.98.0.1", 80);
    assert_eq!(said, "receive ECONNRESET");
    assert_eq!(rows.session()["outcome"], "upstream_unreachable", "{}", rows.session());
}

#[test]
fn a_family_without_a_route_is_refused_at_connect_as_without_crewtap() {
    let host = Host::new();
    for address in ["10.98.0.1", "2001:db8::1"] {
        let (said, rows) = fate(&host, address, 80);
        assert_eq!(said, "connect ENETUNREACH");
        rows.reconciled(0);
        assert_eq!(rows.table("reconciliations")[0]["refused"], 1);
    }
    host.route_to_nowhere();
    let (said, _) = fate(&host, "2001:db8::1", 80);
    assert_eq!(said, "connect ENETUNREACH", "there is a route for IPv4 only");
}

#[test]
fn a_target_that_does_not_answer_is_a_timeout() {
    let host = Host::new();
    host.route_to_nowhere();
    // One repetition: the kernel gives up after 3 s.
    let _out =
        succeeded(&host.command("sh").args(["-c", "echo 1 > /proc/sys/net/ipv4/tcp_syn_retries"]).output().unwrap());
    let (said, rows) = fate(&host, "10.97.0.1", 80);
    assert_eq!(said, "receive ECONNRESET");
    assert_eq!(rows.session()["outcome"], "upstream_timeout", "{}", rows.session());
    assert!(rows.session()["duration_us"].as_u64().unwrap() > 2_000_000, "{}", rows.session());
}

#[test]
fn every_kind_of_address_is_reached_and_recorded_as_asked_for() {
    let host = Host::new();
    host.address("10.77.0.1");
    host.address("fd77::1");
    for (listen, dialled, destination) in [
        ("127.0.0.1:0", "127.0.0.1", "127.0.0.1"),
        ("127.8.8.8:0", "127.8.8.8", "127.8.8.8"),
        ("10.77.0.1:0", "10.77.0.1", "10.77.0.1"),
        ("[::1]:0", "::1", "[::1]"),
        ("[fd77::1]:0", "fd77::1", "[fd77::1]"),
        ("10.77.0.1:0", "::ffff:10.77.0.1", "[::ffff:10.77.0.1]"),
        ("127.0.0.1:0", "::ffff:127.0.0.1", "[::ffff:127.0.0.1]"),
    ] {
        let peer = Peer::echo(&host, listen);
        let script = format!("{CONNECTED}s.sendall(b'here'); print(s.recv(4).decode(), s.getpeername()[0])");
        let said = host.python(&script, &[dialled, &peer.port()]);
        assert_eq!(said.trim(), format!("here {dialled}"), "the peer is the one that was asked for");
        let rows = Rows::of_last_run(&host);
        rows.reconciled(1);
        assert_eq!(rows.session()["destination"], format!("{destination}:{}", peer.port()));
        assert_eq!(rows.session()["outcome"], "completed");
    }
}

#[test]
fn a_source_that_the_client_chose_is_the_source_that_the_target_sees() {
    let host = Host::new();
    for address in ["10.77.0.1", "10.77.0.2", "fd77::1", "fd77::2"] {
        host.address(address);
    }
    for (listen, target, source) in [
        ("127.0.0.1:0", "127.0.0.1", "127.0.0.5"),
        ("10.77.0.1:0", "10.77.0.1", "10.77.0.2"),
        ("[fd77::1]:0", "fd77::1", "fd77::2"),
        ("10.77.0.1:0", "::ffff:10.77.0.1", "::ffff:10.77.0.2"),
    ] {
        let (peer, told) = reporting(&host, listen, |stream| {
            stream.write_all(b".").unwrap();
            stream.peer_addr().unwrap().ip()
        });
        let script = "import socket, sys
s = socket.create_connection((sys.argv[1], int(sys.argv[2])), source_address=(sys.argv[3], 0))
s.recv(1); print(s.getsockname()[0])";
        let said = host.python(script, &[target, &peer.port(), source]);
        let seen = told.recv_timeout(WAIT).unwrap();
        assert_eq!(seen, source.parse::<IpAddr>().unwrap().to_canonical(), "asked for {target} from {source}");
        assert_eq!(said.trim(), source, "the client sees the address it bound");
    }
}

/// The owner of the socket at `local`, by the kernel's table.
fn owner(host: &Host, local: SocketAddr) -> u32 {
    let table = succeeded(&host.command("cat").arg("/proc/net/tcp").output().unwrap());
    let port = format!(":{:04X}", local.port());
    let row = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let row = row.into_iter().find(|row| row[1].ends_with(&port)).expect("the socket");
    row[7].parse().unwrap()
}

#[test]
fn the_connection_to_the_target_belongs_to_the_user_of_the_run() {
    let host = Host::new();
    let (go, gone) = mpsc::sync_channel::<()>(1);
    let (accepted, peers) = mpsc::sync_channel(16);
    let (gone, accepted) = (Mutex::new(gone), Mutex::new(accepted));
    let peer = Peer::serve(&host, "127.0.0.1:0", move |stream, _| {
        accepted.lock().unwrap().send(stream.peer_addr().unwrap()).unwrap();
        let _ = gone.lock().unwrap().recv_timeout(WAIT);
    });
    let script = format!("{CONNECTED}s.recv(1)");
    let run = host
        .crewtap(&["run", "--user", "nobody", "--", "/usr/bin/python3", "-c", &script, "127.0.0.1", &peer.port()])
        .current_dir("/")
        .spawn()
        .unwrap();
    let local = peers.recv_timeout(WAIT).unwrap();
    let uid = owner(&host, local);
    go.send(()).unwrap();
    let _out = succeeded(&run.wait_with_output().unwrap());
    let nobody = nix::unistd::User::from_name("nobody").unwrap().unwrap();
    assert_eq!(uid, nobody.uid.as_raw());
    assert_eq!(Rows::of_last_run(&host).session()["uid"], uid);
}

const DIAL_CREWTAP: &str = "import socket, sys
def listening(table):
    rows = [line.split() for line in open('/proc/net/' + table).read().splitlines()[1:]]
    return [int(row[1].rsplit(':', 1)[1], 16) for row in rows if row[3] == '0A']
four, six = listening('tcp'), listening('tcp6')
assert four and six, (four, six)
for target in sys.argv[1:]:
    is_six = ':' in target and '.' not in target
    s = socket.socket(socket.AF_INET6 if ':' in target else socket.AF_INET)
    try:
        s.connect((target, six[0] if is_six else four[0]))
        s.sendall(b'GET / HTTP/1.0\\r\\n\\r\\n')
        print(target, s.recv(1))
    except OSError as error:
        print(target, 'refused')
";

#[test]
fn crewtap_cannot_be_dialled_through_crewtap_in_any_spelling() {
    let host = Host::new();
    host.address("10.77.0.1");
    host.address("fd77::1");
    let spellings = [
        "127.0.0.1",
        "127.9.9.9",
        "0.0.0.0",
        "10.77.0.1",
        "::ffff:127.0.0.1",
        "::ffff:0.0.0.0",
        "::ffff:10.77.0.1",
        "::1",
        "::",
        "fd77::1",
    ];
    let said = host.python(DIAL_CREWTAP, &spellings);
    let refused: Vec<String> = spellings.iter().map(|spelling| format!("{spelling} refused")).collect();
    assert_eq!(said.lines().collect::<Vec<_>>(), refused);
    let rows = Rows::of_last_run(&host);
    rows.reconciled(spellings.len() as u64);
    let bypasses = rows.table("bypasses");
    assert_eq!(bypasses.len(), spellings.len(), "{bypasses:#?}");
    assert!(bypasses.iter().all(|bypass| bypass["kind"] == "self_connect" && bypass["refused"] == true));
    assert!(rows.table("sessions").iter().all(|session| session["outcome"] == "refused"));
}
