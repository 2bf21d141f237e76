//! Names: what a run looks up is on record, and what it connects to afterwards is called by that name.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, UdpSocket};
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};

use crewtap_tests::host::{Host, succeeded};
use crewtap_tests::peer::Peer;
use serde_json::Value;

use crate::rows::Rows;

/// Where the name server listens.
pub const RESOLVER: &str = "10.53.0.53";

/// The demo's name server, for the names in its third argument.
const NAME_SERVER: &str = "import json, signal, sys
sys.path.insert(0, sys.argv[1])
import names
class Accepted:
    def note(self, *ignored): pass
zone = names.Zone(json.loads(sys.argv[3]), '/dev/null')
names.serve(zone, [sys.argv[2]], Accepted())
print('ready', flush=True)
signal.pause()";

/// Puts another resolv.conf in place for the rest of the command line, in a mount namespace of its own.
const RESOLVING: &str = "mount --bind \"$0\" /etc/resolv.conf && exec \"$@\"";

/// A query for the record type in the second argument, and sockets to ask with.
pub const QUERY: &str = "import socket, struct, sys
def query(number, name, record=1):
    labels = b''.join(bytes([len(label)]) + label.encode() for label in name.split('.'))
    return struct.pack('!HHHHHH', number, 0x0100, 1, 0, 0, 0) + labels + struct.pack('!BHH', 0, record, 1)
resolver = (sys.argv[1], 53)
";

/// A program that ends with the test.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A host with a name server for `zone` (a JSON object of names and their addresses).
fn host_with_names(zone: &str) -> (Host, Server) {
    let host = Host::new();
    host.address(RESOLVER);
    let world = concat!(env!("CARGO_MANIFEST_DIR"), "/demo/world");
    let mut server = host.command("python3");
    server.args(["-c", NAME_SERVER, world, RESOLVER, zone]).stdout(Stdio::piped());
    let mut server = Server(server.spawn().unwrap());
    let mut line = String::new();
    BufReader::new(server.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
    (host, server)
}

/// A captured command whose resolver is ours; its standard output.
fn resolving(host: &Host, command: &[&str]) -> String {
    let conf = host.path("resolv.conf");
    std::fs::write(&conf, format!("nameserver {RESOLVER}\noptions timeout:5 attempts:1\n")).unwrap();
    let conf = conf.display().to_string();
    succeeded(&host.run(&[&["unshare", "-m", "sh", "-c", RESOLVING, &conf], command].concat()))
}

/// A resolver that answers every question with "no such name".
fn unknowing(host: &Host, address: &'static str) {
    let socket = host.inside(move || UdpSocket::bind(address).unwrap()).join().unwrap();
    std::thread::spawn(move || {
        let mut message = [0; 512];
        while let Ok((len, client)) = socket.recv_from(&mut message) {
            message[2] = 0x84;
            message[3] = 3;
            let _ = socket.send_to(&message[..len], client);
        }
    });
}

/// A resolver that answers every question with "no such name", over UDP and TCP, and keeps what it is asked.
pub fn counting(host: &Host) -> Arc<Mutex<Vec<Vec<u8>>>> {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let socket = host.inside(|| UdpSocket::bind((RESOLVER, 53)).unwrap()).join().unwrap();
    let listener = host.inside(|| TcpListener::bind((RESOLVER, 53)).unwrap()).join().unwrap();
    let answer = |message: &[u8]| {
        let mut answer = message.to_vec();
        (answer[2], answer[3]) = (0x84, 3);
        answer
    };
    let kept = asked.clone();
    std::thread::spawn(move || {
        let mut message = [0; 512];
        while let Ok((len, client)) = socket.recv_from(&mut message) {
            kept.lock().unwrap().push(message[..len].to_vec());
            let _ = socket.send_to(&answer(&message[..len]), client);
        }
    });
    let kept = asked.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut length = [0; 2];
            while stream.read_exact(&mut length).is_ok() {
                let mut message = vec![0; usize::from(u16::from_be_bytes(length))];
                stream.read_exact(&mut message).unwrap();
                kept.lock().unwrap().push(message.clone());
                stream.write_all(&[&length[..], &answer(&message)].concat()).unwrap();
            }
        }
    });
    asked
}

/// Look-ups of a run: name, record, code (`?` for a question), and answers.
fn look_ups(rows: &Rows, transport: &str) -> Vec<String> {
    let text = |row: &Value| {
        assert_eq!(row["resolver"], format!("{RESOLVER}:53"));
        assert_eq!(row["transport"], transport);
        let answers: Vec<_> = row["answers"].as_array().unwrap().iter().map(|a| a.as_str().unwrap()).collect();
        let words =
            [row["name"].as_str().unwrap(), row["record"].as_str().unwrap(), row["code"].as_str().unwrap_or("?")];
        [words.as_slice(), &answers].concat().join(" ")
    };
    rows.table("names").into_iter().map(text).collect()
}

fn http(host: &Host, address: &str) -> Peer {
    Peer::serve(host, address, |stream, keep| {
        let mut bytes = vec![0; 4096];
        let len = stream.read(&mut bytes).unwrap();
        keep(&bytes[..len]);
        stream.write_all(b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok").unwrap();
    })
}

#[test]
fn a_name_that_python_looks_up_names_the_session() {
    let (host, _server) = host_with_names(r#"{"api.internal": ["10.77.0.1"]}"#);
    host.address("10.77.0.1");
    let echo = Peer::echo(&host, "10.77.0.1:0");
    let script = "import socket, sys
s = socket.create_connection(('API.internal', int(sys.argv[1])))
s.sendall(b'hi'); print(s.recv(9).decode())
try: socket.getaddrinfo('missing.internal', 80, socket.AF_INET)
except socket.gaierror: print('no such name')";
    assert_eq!(resolving(&host, &["python3", "-c", script, &echo.port()]), "hi\nno such name\n");
    let rows = Rows::of_last_run(&host);
    rows.reconciled(1);
    let asked = look_ups(&rows, "udp");
    for expected in [
        "api.internal A ?",
        "api.internal AAAA ?",
        "api.internal A NOERROR A 10.77.0.1",
        "api.internal AAAA NOERROR",
        "missing.internal A ?",
        "missing.internal A NXDOMAIN",
    ] {
        assert!(asked.iter().any(|line| line == expected), "{expected} in {asked:#?}");
    }
    let session = rows.session();
    assert_eq!((&session["host"], &session["proof"]), (&"api.internal".into(), &"dns".into()));
    assert_eq!(session["destination"], echo.address.to_string());
    host.verify();
}

#[test]
fn a_name_that_curl_looks_up_names_the_session() {
    let (host, _server) = host_with_names(r#"{"web.internal": ["10.77.0.1"]}"#);
    host.address("10.77.0.1");
    let web = http(&host, "10.77.0.1:0");
    let url = format!("http://web.internal:{}/", web.port());
    assert_eq!(resolving(&host, &["curl", "-sS", "--max-time", "30", &url]), "ok");
    let rows = Rows::of_last_run(&host);
    rows.reconciled(1);
    let session = rows.session();
    assert_eq!((&session["host"], &session["proof"]), (&"web.internal".into(), &"dns".into()));
    assert_eq!(session["protocol"], "http");
    assert!(look_ups(&rows, "udp").contains(&"web.internal A NOERROR A 10.77.0.1".into()));
}

#[test]
fn two_questions_of_one_unconnected_socket_get_their_own_answers_from_the_resolver() {
    let (host, _server) = host_with_names(r#"{"one.internal": ["10.0.0.1"], "two.internal": ["10.0.0.2"]}"#);
    let script = format!(
        "{QUERY}s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(30)
s.sendto(query(1, 'one.internal'), resolver); s.sendto(query(2, 'two.internal'), resolver)
for answer, source in sorted(s.recvfrom(512) for _ in range(2)):
    print(answer[1], '.'.join(map(str, answer[-4:])), source[0], source[1])"
    );
    let said = host.python(&script, &[RESOLVER]);
    assert_eq!(said, format!("1 10.0.0.1 {RESOLVER} 53\n2 10.0.0.2 {RESOLVER} 53\n"));
    let rows = Rows::of_last_run(&host);
    rows.reconciled(0);
    let mut asked = look_ups(&rows, "udp");
    asked.sort();
    let expected = [
        "one.internal A ?",
        "one.internal A NOERROR A 10.0.0.1",
        "two.internal A ?",
        "two.internal A NOERROR A 10.0.0.2",
    ];
    assert_eq!(asked, expected);
}

#[test]
fn resolvers_are_asked_in_every_spelling_by_connected_and_unconnected_sockets() {
    let host = Host::new();
    host.address("fd77::53");
    for address in ["[::1]:53", "127.0.0.53:53", "[fd77::53]:53"] {
        unknowing(&host, address);
    }
    let script = format!(
        "{QUERY}for resolver in sys.argv[1:]:
    family = socket.AF_INET6 if ':' in resolver else socket.AF_INET
    for connected in (True, False):
        s = socket.socket(family, socket.SOCK_DGRAM); s.settimeout(30); message = query(1, 'x.internal', 28)
        if connected:
            s.connect((resolver, 53)); s.send(message); assert s.getpeername()[0] == resolver, s.getpeername()
        else:
            s.sendto(message, (resolver, 53))
        answer, source = s.recvfrom(512)
        print(source[0], answer[3])"
    );
    let spellings = ["127.0.0.53", "::1", "fd77::53", "::ffff:127.0.0.53"];
    let said = host.python(&script, &spellings);
    let expected: Vec<String> = spellings.iter().flat_map(|s| [format!("{s} 3"), format!("{s} 3")]).collect();
    assert_eq!(said.lines().collect::<Vec<_>>(), expected);
    let rows = Rows::of_last_run(&host);
    rows.reconciled(0);
    let names = rows.table("names");
    assert_eq!(names.len(), 2 * expected.len(), "{names:#?}");
    let resolvers: Vec<_> = names.iter().step_by(4).map(|row| row["resolver"].as_str().unwrap()).collect();
    assert_eq!(resolvers, ["127.0.0.53:53", "[::1]:53", "[fd77::53]:53", "[::ffff:127.0.0.53]:53"]);
}

#[test]
fn a_name_that_is_looked_up_over_tcp_is_on_record_and_names_the_next_session() {
    let (host, _server) = host_with_names(r#"{"db.internal": ["10.77.0.1"]}"#);
    host.address("10.77.0.1");
    let echo = Peer::echo(&host, "10.77.0.1:0");
    let script = format!(
        "{QUERY}s = socket.create_connection(resolver)
message = query(7, 'db.internal'); s.sendall(struct.pack('!H', len(message)) + message)
length = struct.unpack('!H', s.recv(2, socket.MSG_WAITALL))[0]
address = '.'.join(map(str, s.recv(length, socket.MSG_WAITALL)[-4:])); s.close()
s = socket.create_connection((address, int(sys.argv[2]))); s.sendall(b'hi'); print(s.recv(9).decode())"
    );
    assert_eq!(host.python(&script, &[RESOLVER, &echo.port()]), "hi\n");
    let rows = Rows::of_last_run(&host);
    rows.reconciled(2);
    assert_eq!(look_ups(&rows, "tcp"), ["db.internal A ?", "db.internal A NOERROR A 10.77.0.1"]);
    let sessions = rows.table("sessions");
    assert_eq!((&sessions[0]["protocol"], &sessions[0]["driver"]), (&"dns".into(), &"dns".into()));
    assert_eq!((&sessions[1]["host"], &sessions[1]["proof"]), (&"db.internal".into(), &"dns".into()));
}

#[test]
fn a_resolver_that_does_not_answer_is_on_record_as_a_timeout() {
    let host = Host::new();
    host.address(RESOLVER);
    let silent = host.inside(|| UdpSocket::bind((RESOLVER, 53)).unwrap()).join().unwrap();
    // Longer than crewtap waits for a resolver.
    let script = format!(
        "{QUERY}s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(12)
s.sendto(query(1, 'slow.internal'), resolver)
try: print(s.recv(512))
except TimeoutError: print('nothing')"
    );
    assert_eq!(host.python(&script, &[RESOLVER]), "nothing\n", "as without crewtap");
    let mut message = [0; 512];
    assert!(silent.recv(&mut message).unwrap() > 12, "the resolver was asked");
    assert_eq!(look_ups(&Rows::of_last_run(&host), "udp"), ["slow.internal A ?", "slow.internal A TIMEOUT"]);
}

const ONE_ANSWER: &str = "s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(30)
s.sendto(query(1, 'any.internal'), resolver); print('code', s.recv(512)[3] & 15)";

#[test]
fn a_resolver_that_is_not_there_is_a_failure_at_once_and_on_record() {
    let host = Host::new();
    host.address(RESOLVER);
    assert_eq!(host.python(&format!("{QUERY}{ONE_ANSWER}"), &[RESOLVER]), "code 2\n");
    assert_eq!(look_ups(&Rows::of_last_run(&host), "udp"), ["any.internal A ?", "any.internal A SERVFAIL"]);
}

#[test]
fn enforce_asks_no_resolver() {
    let (host, _server) = host_with_names(r#"{"any.internal": ["10.0.0.1"]}"#);
    let script = format!("{QUERY}{ONE_ANSWER}");
    let run = host.crewtap(&["run", "--mode", "enforce", "--", "python3", "-c", &script, RESOLVER]).output().unwrap();
    assert_eq!(succeeded(&run), "code 5\n");
    assert_eq!(look_ups(&Rows::of_last_run(&host), "udp"), ["any.internal A ?", "any.internal A REFUSED"]);
}

#[test]
fn sorting_addresses_as_glibc_does_is_neither_a_session_nor_an_alarm() {
    let zone = r#"{"many.internal": ["10.77.0.1", "10.77.0.2", "fd77::1", "10.99.0.77"]}"#;
    let (host, _server) = host_with_names(zone);
    host.route_to_nowhere();
    for address in ["10.77.0.1", "10.77.0.2", "fd77::1"] {
        host.address(address);
    }
    let script = "import socket
print(len({a[4][0] for port in (80, 443) for a in socket.getaddrinfo('many.internal', port, type=socket.SOCK_STREAM)}))";
    assert_eq!(resolving(&host, &["python3", "-c", script]), "4\n");
    let rows = Rows::of_last_run(&host);
    rows.reconciled(0);
    assert_eq!(rows.table("bypasses").len(), 0, "{:#?}", rows.table("bypasses"));
}

#[test]
fn a_name_in_a_tls_hello_is_claimed() {
    let host = Host::new();
    host.address("10.77.0.1");
    let (key, certificate) = (host.path("key.pem"), host.path("certificate.pem"));
    let mut make = host.command("openssl");
    make.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=x"]);
    let _made = succeeded(&make.arg("-keyout").arg(&key).arg("-out").arg(&certificate).output().unwrap());
    let mut server = host.command("openssl");
    server.args(["s_server", "-accept", "10.77.0.1:4433", "-www", "-alpn", "http/1.1"]);
    server.arg("-key").arg(&key).arg("-cert").arg(&certificate).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut server = Server(server.spawn().unwrap());
    let lines = BufReader::new(server.0.stdout.as_mut().unwrap()).lines();
    assert!(lines.map(Result::unwrap).any(|line| line.starts_with("ACCEPT")), "it listens");
    let curl = ["curl", "-sSk", "--max-time", "30", "--http1.1", "--resolve", "pay.internal:4433:10.77.0.1"];
    let page = succeeded(&host.run(&[&curl[..], &["https://pay.internal:4433/"]].concat()));
    assert!(page.contains("s_server"), "{page}");
    let rows = Rows::of_last_run(&host);
    rows.reconciled(1);
    let session = rows.session();
    assert_eq!((&session["host"], &session["proof"]), (&"pay.internal".into(), &"claimed".into()));
    assert_eq!((&session["protocol"], &session["sni"]), (&"http".into(), &"pay.internal".into()));
    assert_eq!(session["tls"], "unverified", "its certificate is for another name, by an issuer that nobody knows");
    assert_eq!(session["alpn"], serde_json::json!(["http/1.1"]));
    assert_eq!(session["address"], "10.77.0.1:4433");
}
