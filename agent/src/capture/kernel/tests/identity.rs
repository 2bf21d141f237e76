//! An origin belongs to one connection: never to another that uses its port, and also to one that is already over.

use super::lab::{LONG, Lab, read_all, stdout};
use crate::capture::{kernel::Mode, listen::connection_key};
use std::collections::BTreeSet;

#[test]
fn source_ports_under_churn() {
    let lab = Lab::new(Mode::Record);
    // Three source ports, many targets; SO_REUSEADDR and a reset at close make every port reusable at once.
    let child = lab.python(
        "import random
rounds = 600
for i in range(rounds):
    s = tcp(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
    s.bind(('127.0.0.1', 40001 + i % 3))
    target = ('203.0.113.%d' % random.randrange(1, 5), 4000 + i)
    s.connect(target); s.sendall(('%s:%d' % target).encode()); s.shutdown(1); s.recv(1); s.close()",
    );
    for _ in 0..600 {
        let (mut stream, origin) = lab.accept_or_explain(child.id());
        assert_eq!(read_all(&mut stream), origin.destination.to_string());
    }
    stdout(&child.wait_with_output().unwrap());
    let counters = lab.counters();
    assert_eq!((counters.redirected, counters.established, counters.map_full), (600, 600, 0));
    assert!(lab.kernel.origins.keys(10).unwrap().is_empty());
}

#[test]
fn reset_before_accept_and_the_port_taken_by_another() {
    let lab = Lab::new(Mode::Record);
    let output = lab.run_python(
        "for target in ('203.0.113.1', '203.0.113.2', '203.0.113.1', '203.0.113.3'):
    s = tcp(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
    s.bind(('127.0.0.1', 40001)); s.connect((target, 4443)); s.send(target.encode()); s.close()
s = tcp(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind(('127.0.0.1', 40001)); s.connect(('203.0.113.1', 4443)); s.send(b'last'); print('done')",
    );
    assert_eq!(stdout(&output), "done");
    // Only now does anybody accept. Each has its own origin, although all used the same port, and one lives.
    let (mut asked, mut living) = (Vec::new(), Vec::new());
    while let Ok((mut stream, peer)) = lab.listeners.tcp[0].accept() {
        let key = connection_key(&stream, peer).unwrap();
        let destination = lab.kernel.take_origin(&key).unwrap().expect("no origin").destination.ip().to_string();
        asked.push(destination.clone());
        let mut text = String::new();
        if std::io::Read::read_to_string(&mut stream, &mut text).is_ok() {
            living.push((text, destination));
        }
    }
    assert_eq!(asked, ["203.0.113.1", "203.0.113.2", "203.0.113.1", "203.0.113.3", "203.0.113.1"]);
    assert_eq!(living, [("last".to_owned(), "203.0.113.1".to_owned())]);
}

#[test]
fn closed_before_accept_is_served() {
    let lab = Lab::new(Mode::Record);
    let output = lab.run_python("s = tcp(); s.connect(('203.0.113.9', 4443)); s.sendall(b'bye'); s.close(); print(1)");
    assert_eq!(stdout(&output), "1");
    assert!(lab.run.wait_until_empty(LONG).unwrap());
    let (mut stream, origin) = lab.accept_origin();
    assert_eq!((read_all(&mut stream).as_str(), origin.destination.port()), ("bye", 4443));
    assert!(lab.origin_again(&stream).is_none(), "an origin is taken once");
}

#[test]
fn one_source_port_reaches_two_targets() {
    let lab = Lab::new(Mode::Record);
    for (family, first, second) in [
        ("AF_INET", "203.0.113.1", "203.0.113.2"),
        ("AF_INET6", "::ffff:203.0.113.1", "::ffff:203.0.113.2"),
        ("AF_INET6", "2001:db8::1", "2001:db8::2"),
    ] {
        let child = lab.python(&format!(
            "kept = []
for target in ('{first}', '{second}'):
    s = tcp(socket.{family}); s.setsockopt(socket.SOL_SOCKET, 15, 1); s.bind(('', 40500))
    s.connect((target, 4443)); kept.append(s)
print(len(kept))"
        ));
        let targets: BTreeSet<_> =
            (0..2).map(|_| lab.accept_or_explain(child.id()).1.destination.ip().to_string()).collect();
        assert_eq!(targets.len(), 2);
        assert_eq!(stdout(&child.wait_with_output().unwrap()), "2");
    }
}

#[test]
fn what_dials_us_from_outside_has_no_origin() {
    let lab = Lab::new(Mode::Record);
    let port = lab.listeners.ports().tcp4;
    let source = format!("import socket; s = socket.create_connection(('127.0.0.1', {port})); s.recv(1)");
    let mut child = lab.outside(&["/usr/bin/python3", "-c", &source]).spawn().unwrap();
    let stream = lab.accept();
    assert!(lab.origin(&stream).is_none());
    drop(stream);
    child.wait().unwrap();
}

#[test]
fn a_deleted_origin_leaves_the_count() {
    let lab = Lab::new(Mode::Record);
    let child = lab.python("s = tcp(); s.connect(('203.0.113.9', 4443)); s.recv(1)");
    let stream = lab.accept();
    for key in lab.kernel.origins.keys(10).unwrap() {
        assert!(lab.kernel.origins.remove(&key).unwrap());
    }
    assert!(lab.origin(&stream).is_none());
    assert_eq!(lab.counters().established, 1);
    drop(stream);
    let _ = child.wait_with_output();
}
