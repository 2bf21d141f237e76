//! Attempts to get past a person or a policy by doing something else than what was judged, at another moment or twice.

use std::io::{BufRead, BufReader, Lines, Write};
use std::net::{Ipv4Addr, UdpSocket};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crewtap_tests::host::{Host, succeeded, text};
use crewtap_tests::peer::Peer;
use crewtap_tests::postgres::{Postgres, Release};

use super::connects::web;
use super::{crewtap, crewtap_run, decisions, question, rule, write};
use crate::agent::until;
use crate::fault::SmallDisk;
use crate::names::{QUERY, RESOLVER};
use crate::postgres::captured::{Captured, plain, python, raw};

/// Deletes and posts wait; all else passes.
const POLICIES: &str = "@id(\"all\")\npermit (principal, action, resource);\n\
    @id(\"deletes\")\n@approval(\"os:root\")\nforbid (principal, action == Action::\"query\", resource)\n\
    when { context.kinds.contains(\"DELETE\") } unless { context.approved };\n\
    @id(\"posts\")\n@approval(\"os:root\")\nforbid (principal, action == Action::\"http_request\", resource)\n\
    when { context.method == \"POST\" } unless { context.approved };\n";

/// Whoever has started a run as root is root for whoever approves, too.
const TWO_EYES: &str = "[approvals]\nfour_eyes = false";

/// A client that does what it is told, line by line.
struct Client {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Client {
    fn start(mut command: Command) -> Self {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    fn say(&mut self, line: &str) {
        writeln!(self.child.stdin.as_mut().unwrap(), "{line}").unwrap();
    }

    fn hear(&mut self) -> String {
        self.lines.next().unwrap().unwrap()
    }

    fn end(mut self) {
        drop(self.child.stdin.take());
        assert!(self.child.wait().unwrap().success());
    }
}

fn captured(host: Host) -> Captured {
    let captured = Captured::on(host);
    std::fs::create_dir_all(captured.host.path("policy")).unwrap();
    write(&captured.host.path("policy/test.cedar"), POLICIES);
    captured.configure(&format!("policy = 'policy'\n{TWO_EYES}"));
    captured
}

fn orders(server: &Postgres) -> String {
    server.query("SELECT count(*) FROM orders")
}

/// Answers the only question that waits: approves it or denies it.
fn answer(host: &Host, verb: &str) -> String {
    let id = question(host)["id"].as_str().unwrap().to_owned();
    let _ = succeeded(&crewtap(host, &["approvals", verb, &id]));
    id
}

/// Says everything at once: what is held, what would pass behind it in the same pipeline, and behind that.
const PIPELINED: &str = "
client = Client(int(sys.argv[1]))
client.say(parse('DELETE FROM orders WHERE id = 1003') + bind() + EXECUTE
    + parse('UPDATE orders SET amount = 1 WHERE id = 1001') + bind() + EXECUTE + SYNC
    + query('UPDATE orders SET amount = 2 WHERE id = 1001') + query('SELECT 7'))
print(flush=True)
for _ in range(3):
    print(seen(client.until(b'Z')), flush=True)
";

#[test]
fn what_is_said_behind_a_held_statement_does_not_happen_before_it() {
    let captured = captured(Host::new());
    let server = captured.server(Release::Debian);
    let before = server.query("SELECT amount FROM orders WHERE id = 1001");
    let mut client =
        Client::start(captured.crewtap_run(&["python3", "-u", "-c", &raw(PIPELINED), &server.port().to_string()]));
    assert_eq!(client.hear(), "");
    let held = question(&captured.host);
    assert!(held["subject"].as_str().unwrap().starts_with("DELETE"), "{held}");
    // Somebody else comes and goes meanwhile: what could have passed would have passed before.
    let other = captured.run(&["psql", "-XAtc", "SELECT 1", &plain(&server)]);
    assert_eq!(succeeded(&other), "1\n");
    assert_eq!(server.query("SELECT amount FROM orders WHERE id = 1001"), before);
    assert!(!server.log().contains("UPDATE orders SET amount"), "{}", server.log());
    answer(&captured.host, "deny");
    // Prepared without a name, which does nothing, and not run; the server skips to its Sync, as behind any other error.
    assert_eq!(client.hear(), "1 E42501 Z");
    assert_eq!(client.hear(), "UPDATE 1 Z");
    assert_eq!(client.hear(), "T '7' SELECT 1 Z");
    client.end();
    assert_eq!(
        server.query("SELECT amount = 2, count(*) OVER () FROM orders WHERE id IN (1001, 1003) ORDER BY id"),
        "t|2\nf|2"
    );
}

/// Deletes over one of two connections, each prepared once.
const DELETES: &str = "
import psycopg, sys
connections = {name: psycopg.connect(sys.argv[1], autocommit=True) for name in 'ab'}
for line in sys.stdin:
    name, order = line.split()
    try:
        cursor = connections[name].execute('DELETE FROM orders WHERE id = %s', [int(order)], prepare=True)
        print('deleted', cursor.rowcount, flush=True)
    except psycopg.Error as error:
        print(error.sqlstate, flush=True)
";

#[test]
fn other_values_and_another_connection_have_nothing_of_a_grant() {
    let captured = captured(Host::new());
    let (host, server) = (&captured.host, captured.server(Release::Debian));
    let before: u64 = orders(&server).parse().unwrap();
    let mut client = Client::start(captured.crewtap_run(&[&python(), "-u", "-c", DELETES, &plain(&server)]));
    // Asked when it is prepared, and with its value.
    client.say("a 1003");
    let first = answer(host, "approve");
    let second = until("the question with the value", || {
        let id = question(host)["id"].as_str().unwrap().to_owned();
        (id != first).then_some(id)
    });
    let shown = text(&crewtap(host, &["approvals", "show", &second]));
    assert!(shown.contains("1003"), "{shown}");
    answer(host, "approve");
    assert_eq!(client.hear(), "deleted 1");
    // The same statement, which is prepared by now, with another value; the same value again; and over another connection.
    for line in ["a 1001", "a 1003", "b 1003"] {
        client.say(line);
        answer(host, "deny");
        assert_eq!(client.hear(), "42501", "{line}");
    }
    client.end();
    assert_eq!(orders(&server).parse::<u64>().unwrap(), before - 1);
    host.verify();
}

/// Posts the same many times at once; what each came to.
const POSTS: &str = "
import http.client, sys, threading
def post(body, said):
    c = http.client.HTTPConnection('127.0.0.1', int(sys.argv[1]), timeout=60)
    c.request('POST', '/pay', body)
    r = c.getresponse()
    r.read()
    said.append(str(r.status))
for line in sys.stdin:
    body, times = line.split()
    said = []
    threads = [threading.Thread(target=post, args=(body, said)) for _ in range(int(times))]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    print(*sorted(said), flush=True)
";

fn posting(host: &Host, peer: &Peer, settings: &str) -> Client {
    rule(host, &format!("{TWO_EYES}\nwait = '1s'\n{settings}"), POLICIES);
    Client::start(crewtap_run(host, &["python3", "-u", "-c", POSTS, &peer.port()]))
}

#[test]
fn of_many_retries_at_once_one_passes() {
    let host = Host::new();
    let peer = web(&host, "127.0.0.1:0");
    let mut client = posting(&host, &peer, "");
    client.say("hundred 1");
    assert_eq!(client.hear(), "403");
    answer(&host, "approve");
    client.say("hundred 6");
    assert_eq!(client.hear(), "200 403 403 403 403 403");
    client.end();
    let paid = peer.seen().into_iter().filter(|seen| !seen.is_empty()).count();
    assert_eq!(paid, 1, "{:?}", peer.seen());
    host.verify();
}

#[test]
fn a_grant_that_nobody_has_used_in_time_is_void_and_so_is_an_answer_that_comes_late() {
    let host = Host::new();
    let peer = web(&host, "127.0.0.1:0");
    let mut client = posting(&host, &peer, "expires = '3s'");
    client.say("hundred 1");
    assert_eq!(client.hear(), "403");
    answer(&host, "approve");
    // Asked later than the other was approved: when it has expired, so has the grant.
    client.say("later 1");
    assert_eq!(client.hear(), "403");
    let later = question(&host)["id"].as_str().unwrap().to_owned();
    until("the end of the question", || crewtap(&host, &["approvals", "--json"]).stdout.is_empty().then_some(()));
    let late = crewtap(&host, &["approvals", "approve", &later]);
    assert!(!late.status.success() && text(&late).contains("no approval that waits"), "{}", text(&late));
    client.say("hundred 1");
    assert_eq!(client.hear(), "403");
    client.end();
    assert!(peer.seen().iter().all(Vec::is_empty), "{:?}", peer.seen());
    host.verify();
}

/// Deletes in one thread; fills the journal in another, at last in pieces that are smaller than any answer, and says when it
/// takes nothing more.
const FILLS: &str = "
import os, psycopg, socket, sys, threading
def delete():
    try:
        with psycopg.connect(sys.argv[1], autocommit=True) as connection:
            print('deleted', connection.execute('DELETE FROM orders WHERE id = 1003').rowcount, flush=True)
    except psycopg.Error as error:
        print('failed', flush=True)
deleting = threading.Thread(target=delete)
deleting.start()
sys.stdin.readline()
def passes(s, size):
    try:
        s.sendall(os.urandom(size))
        return s.recv(size, socket.MSG_WAITALL) != b''
    except OSError: return False
def connect(): return socket.create_connection(('127.0.0.1', int(sys.argv[2])), timeout=20)
last = connect()
assert passes(last, 8)
def floods():
    try: s = connect()
    except OSError: return False
    return all(passes(s, 16384) for _ in range(64))
while floods(): pass
while passes(last, 8): pass
print('full', flush=True)
deleting.join()
";

#[test]
fn an_approval_that_the_journal_has_no_room_for_counts_as_denied() {
    let host = Host::new();
    let disk = SmallDisk::mount(&host, "24m");
    let captured = captured(host);
    let (host, server) = (&captured.host, captured.server(Release::Debian));
    let before = orders(&server);
    let echo = Peer::echo(host, "127.0.0.1:0");
    let words = [&python(), "-u", "-c", FILLS, &plain(&server), &echo.port()];
    let mut client = Client::start(captured.crewtap_run(&words));
    let held = question(host)["id"].as_str().unwrap().to_owned();
    client.say("");
    assert_eq!(client.hear(), "full");
    let approved = crewtap(host, &["approvals", "approve", &held]);
    assert!(!approved.status.success(), "{}", text(&approved));
    assert_eq!(client.hear(), "failed");
    assert_eq!(orders(&server), before, "it was approved by nobody who is on record");
    assert!(!server.log().contains("DELETE FROM orders"), "{}", server.log());
    disk.grow("96m");
    client.end();
    drop(disk);
}

/// A name server whose answer is another address each time, the last one for ever; how often it was asked.
fn rebinding(host: &Host, addresses: &'static [Ipv4Addr]) -> Arc<AtomicUsize> {
    let asked = Arc::new(AtomicUsize::new(0));
    let socket = host.inside(|| UdpSocket::bind((RESOLVER, 53)).unwrap()).join().unwrap();
    let count = asked.clone();
    std::thread::spawn(move || {
        let mut message = [0; 512];
        while let Ok((len, client)) = socket.recv_from(&mut message) {
            let at = count.fetch_add(1, Ordering::Relaxed).min(addresses.len() - 1);
            let mut answer = message[..len].to_vec();
            (answer[2], answer[3], answer[7]) = (0x84, 0, 1);
            answer.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4]);
            answer.extend_from_slice(&addresses[at].octets());
            let _ = socket.send_to(&answer, client);
        }
    });
    asked
}

/// Looks up, connects to what it is told, looks up again while the connection is there, and only then asks.
const REBOUND: &str = "
import http.client
def look_up():
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.settimeout(20)
    s.connect(resolver)
    s.send(query(7, 'api.internal'))
    return socket.inet_ntoa(s.recv(512)[-4:])
address = look_up()
for _ in range(2):
    connection = http.client.HTTPConnection(address, 80, timeout=20)
    connection.connect()
    following = look_up()
    try:
        connection.request('GET', '/', headers={'Host': 'api.internal'})
        answer = connection.getresponse()
        print(address, answer.status, answer.read()[:9].decode())
    except OSError as error:
        print(address, type(error).__name__)
    address = following
";

#[test]
fn a_name_that_leads_elsewhere_after_the_decision_leads_nobody_elsewhere() {
    const GOOD: Ipv4Addr = Ipv4Addr::new(10, 1, 2, 3);
    const METADATA: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);
    let host = Host::new();
    for address in [RESOLVER, "10.1.2.3", "169.254.169.254"] {
        host.address(address);
    }
    let (good, metadata) = (web(&host, "10.1.2.3:80"), web(&host, "169.254.169.254:80"));
    let asked = rebinding(&host, &[GOOD, METADATA]);
    let policies = "@id(\"by-name\")\npermit (principal, action, resource) when { context.host == \"api.internal\" };\n\
        @id(\"names\")\npermit (principal, action in [Action::\"resolve\", Action::\"connect\"], resource) when { context.port == 53 };\n\
        @id(\"metadata\")\nforbid (principal, action == Action::\"connect\", resource)\n\
        when { context.address.isInRange(ip(\"169.254.0.0/16\")) };\n";
    rule(&host, "", policies);
    let said = text(&super::run(&host, &["python3", "-c", &format!("{QUERY}{REBOUND}"), RESOLVER]));
    assert!(said.contains("10.1.2.3 200 ok"), "{said}");
    assert!(said.contains("169.254.169.254 403 "), "{said}");
    assert_eq!(good.seen().len(), 1, "what was decided for one address went there");
    assert!(metadata.seen().is_empty(), "{:?}", metadata.seen());
    // Who dials looks nothing up: all questions were the client's.
    assert_eq!(asked.load(Ordering::Relaxed), 3);
    let told = decisions(&host);
    assert!(told.contains(&"connect api.internal:80 allow by-name".to_owned()), "{told:?}");
    assert!(told.contains(&"connect api.internal:80 deny metadata".to_owned()), "{told:?}");
}
