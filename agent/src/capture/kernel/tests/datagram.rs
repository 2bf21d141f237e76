//! UDP: DNS goes to the relay and back, QUIC is refused, address sorting is nothing, the rest follows the mode.

use super::lab::{LONG, Lab, stdout};
use crate::capture::{
    kernel::{BypassKind, KernelEvent, Mode, Origin},
    listen::DatagramPath,
};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::{os::fd::AsFd, time::Instant};

/// Receives one question at the relay, with its origin, and answers it with `answer` in front.
fn relay(lab: &Lab, answer: &str) -> (String, Origin, DatagramPath) {
    let deadline = Instant::now() + LONG;
    while Instant::now() < deadline {
        lab.kernel.beat().unwrap();
        for socket in &lab.listeners.dns {
            let mut buffer = [0; 512];
            if let Ok((len, path)) = socket.receive(&mut buffer) {
                let question = String::from_utf8_lossy(&buffer[..len]).into_owned();
                let origin = lab.kernel.take_udp_origin(&path.key(&buffer[..len])).unwrap().expect("no origin");
                socket.send(format!("{answer}{question}").as_bytes(), &path).unwrap();
                return (question, origin, path);
            }
        }
        let mut fds: Vec<PollFd> =
            lab.listeners.dns.iter().map(|one| PollFd::new(one.as_fd(), PollFlags::POLLIN)).collect();
        let _ = poll(&mut fds, PollTimeout::from(1000_u16));
    }
    panic!("no datagram: {:?}", lab.counters());
}

#[test]
fn connected() {
    let lab = Lab::new(Mode::Enforce);
    for (family, address) in
        [("AF_INET", "203.0.113.53"), ("AF_INET6", "2001:db8::53"), ("AF_INET6", "::ffff:203.0.113.53")]
    {
        let child = lab.python(&format!(
            "s = socket.socket(socket.{family}, socket.SOCK_DGRAM); s.settimeout(20); s.connect(('{address}', 53))
s.send(b'q'); a, peer = s.recvfrom(99); print(a.decode(), peer[0], peer[1], s.getpeername()[0])"
        ));
        let (_, origin, _) = relay(&lab, "a");
        assert_eq!(origin.destination.port(), 53);
        assert_eq!(origin.destination.ip().to_string(), address.trim_start_matches("::ffff:"));
        assert_eq!(stdout(&child.wait_with_output().unwrap()), format!("aq {address} 53 {address}"));
    }
    assert_eq!(lab.packets_out(), 0);
}

#[test]
fn two_questions_from_one_socket() {
    let lab = Lab::new(Mode::Enforce);
    // Seventeen IPv6 resolvers would not fit; five do, whatever ports their hashes want.
    let cases = [
        ("AF_INET", vec!["203.0.113.53", "203.0.113.54"]),
        ("AF_INET6", vec!["2001:db8::1", "2001:db8::2", "2001:db8::3", "2001:db8::4", "2001:db8::5"]),
    ];
    for (family, resolvers) in cases {
        let child = lab.python(&format!(
            "s = socket.socket(socket.{family}, socket.SOCK_DGRAM); s.settimeout(20)
for r in {resolvers:?}: s.sendto(r.encode(), (r, 53))
for r in {resolvers:?}:
    a, peer = s.recvfrom(99); print(a.decode() == 'a' + peer[0], peer[1])"
        ));
        let mut paths = Vec::new();
        for _ in &resolvers {
            let (question, origin, path) = relay(&lab, "a");
            assert_eq!(origin.destination.ip().to_string(), question);
            assert!(!paths.contains(&path.relay));
            paths.push(path.relay);
        }
        let expected = vec!["True 53"; resolvers.len()].join("\n");
        assert_eq!(stdout(&child.wait_with_output().unwrap()), expected);
    }
    assert_eq!(lab.packets_out(), 0);
}

#[test]
fn quic_is_refused() {
    let mut lab = Lab::new(Mode::Record);
    let output = lab.run_python(
        "long = bytes([0xc3, 0, 0, 0, 1, 8]) + bytes(40)
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
print(attempt(lambda: s.sendto(b'x', ('203.0.113.9', 443))))
print(attempt(lambda: s.sendto(long, ('203.0.113.9', 8443))))
s.connect(('203.0.113.9', 443)); print(s.getsockname()[0]); print(attempt(lambda: s.send(b'x')))",
    );
    assert_eq!(stdout(&output), "EPERM\nEPERM\n198.18.0.2\nEPERM");
    assert_eq!(lab.counters().refused_quic, 3);
    let quic = |event: &&KernelEvent| matches!(event, KernelEvent::Bypass { kind: BypassKind::Quic, .. });
    assert_eq!(lab.events().iter().filter(quic).count(), 2);
    assert_eq!(lab.packets_out(), 0);
}

#[test]
fn sorting_addresses_is_nothing() {
    let mut lab = Lab::new(Mode::Enforce);
    let output = lab.run_python(
        "for family, address in ((2, '203.0.113.9'), (2, '127.0.0.1'), (10, '2001:db8::5'), (10, '::ffff:203.0.113.9')):
    for port in (0, 80, 443, 65535):
        s = socket.socket(family, socket.SOCK_DGRAM); s.connect((address, port)); print(s.getsockname()[0])",
    );
    assert_eq!(stdout(&output).lines().filter(|line| *line == "198.18.0.2").count(), 4);
    assert!(!lab.events().iter().any(|event| matches!(event, KernelEvent::Bypass { .. })));
    assert_eq!(lab.counters().redirected, 0);
    assert_eq!(lab.packets_out(), 0);
}

#[test]
fn other_udp_follows_the_mode() {
    let source = "s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
print(attempt(lambda: [s.sendto(b'x', ('203.0.113.9', 9999)) for _ in range(3)]))
s.connect(('203.0.113.10', 9999)); print(attempt(lambda: s.send(b'x')))";
    let mut lab = Lab::new(Mode::Record);
    assert_eq!(stdout(&lab.run_python(source)), "ok\nok");
    let udp = |event: &&KernelEvent| matches!(event, KernelEvent::Bypass { kind: BypassKind::Udp, .. });
    assert_eq!(lab.events().iter().filter(udp).count(), 2);
    assert_eq!(lab.counters().bypass[8], 4);
    assert_eq!(lab.packets_out(), 4);
    let lab = Lab::new(Mode::Enforce);
    assert_eq!(stdout(&lab.run_python(source)), "EPERM\nEPERM");
    assert_eq!(lab.packets_out(), 0);
}

/// One question from a captured socket that is closed afterwards, received at the relay.
fn ask_and_close(lab: &Lab, question: &str) -> DatagramPath {
    let output = lab.run_python(&format!(
        "s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.connect(('203.0.113.53', 53)); s.send(b'{question}')"
    ));
    assert_eq!(stdout(&output), "");
    receive(lab, question)
}

/// The next datagram at the IPv4 relay, which must be `question`.
fn receive(lab: &Lab, question: &str) -> DatagramPath {
    let mut buffer = [0; 512];
    let mut fds = [PollFd::new(lab.listeners.dns[0].as_fd(), PollFlags::POLLIN)];
    assert_eq!(poll(&mut fds, PollTimeout::try_from(LONG).unwrap()).unwrap(), 1);
    let (len, path) = lab.listeners.dns[0].receive(&mut buffer).unwrap();
    assert_eq!(&buffer[..len], question.as_bytes());
    path
}

/// Sends `question` from the same port to the same relay address, as another user outside the run.
fn forge(lab: &Lab, path: &DatagramPath, question: &str) -> DatagramPath {
    let source = format!(
        "import socket, os
os.setgid(65534); os.setuid(65534)
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(('{}', {}))
s.sendto(b'{question}', ('{}', {}))",
        path.client.ip(),
        path.client.port(),
        path.relay.ip(),
        path.relay.port()
    );
    assert_eq!(stdout(&lab.outside(&["/usr/bin/python3", "-c", &source]).output().unwrap()), "");
    let forged = receive(lab, question);
    assert_eq!(forged, *path);
    forged
}

#[test]
fn nobody_asks_in_the_name_of_a_closed_socket() {
    let lab = Lab::new(Mode::Record);
    let path = ask_and_close(&lab, "q1");
    // Another message from the port, while the captured one's origin still waits.
    let forged = forge(&lab, &path, "q2 forged");
    assert_eq!(lab.kernel.take_udp_origin(&forged.key(b"q2 forged")).unwrap(), None);
    let origin = lab.kernel.take_udp_origin(&path.key(b"q1")).unwrap().expect("no origin");
    assert_eq!(origin.run, lab.run.id());
    // The same id, after the captured one's origin was taken.
    let forged = forge(&lab, &path, "q1 forged");
    assert_eq!(lab.kernel.take_udp_origin(&forged.key(b"q1 forged")).unwrap(), None);
}

#[test]
fn what_a_lost_datagram_left_is_of_no_use_later() {
    let lab = Lab::new(Mode::Record);
    for (age, found) in [(0, true), (6_000_000_000, false)] {
        let path = ask_and_close(&lab, "q");
        let key = path.key(b"q");
        assert_eq!(key.id, 0, "a datagram that is too short for an id");
        let mut left = lab.kernel.datagrams.get(&key).unwrap().expect("no origin");
        left.at_ns -= age;
        lab.kernel.datagrams.set(&key, left).unwrap();
        assert_eq!(lab.kernel.take_udp_origin(&key).unwrap().is_some(), found);
    }
}
