//! Every form of connect is redirected, finds its origin, and shows the client the peer that it asked for.

use super::lab::{Lab, read_all, stdout};
use crate::capture::{
    kernel::{Family, Mode, Origin},
    listen::connection_key,
};

/// Runs a client that connects once and sends "hello", and returns what it printed with the origin.
fn one_connect(lab: &Lab, source: &str) -> (String, Origin) {
    let child = lab.python(source);
    let (mut stream, origin) = lab.accept_or_explain(child.id());
    assert_eq!(read_all(&mut stream), "hello");
    drop(stream);
    (stdout(&child.wait_with_output().unwrap()), origin)
}

#[test]
fn families_and_loopback() {
    let lab = Lab::new(Mode::Record);
    let cases = [
        ("AF_INET", "203.0.113.9", "203.0.113.9:4443", Family::V4, "203.0.113.9"),
        ("AF_INET6", "2001:db8::5", "[2001:db8::5]:4443", Family::V6, "2001:db8::5"),
        ("AF_INET6", "::ffff:203.0.113.9", "203.0.113.9:4443", Family::Mapped, "::ffff:203.0.113.9"),
        ("AF_INET", "127.0.0.1", "127.0.0.1:4443", Family::V4, "127.0.0.1"),
        ("AF_INET6", "::1", "[::1]:4443", Family::V6, "::1"),
    ];
    for (index, (family, address, destination, spelled, peer)) in cases.into_iter().enumerate() {
        let (printed, origin) = one_connect(
            &lab,
            &format!(
                "s = tcp(socket.{family}); s.connect(('{address}', 4443)); s.sendall(b'hello')
print(os.getpid(), s.getpeername()[0], s.getpeername()[1])"
            ),
        );
        assert_eq!(origin.destination, destination.parse().unwrap());
        assert_eq!(origin.family, spelled);
        assert_eq!(origin.run, lab.run.id());
        assert_eq!(origin.uid, 0);
        assert_eq!(printed, format!("{} {peer} 4443", origin.tgid));
        let counters = lab.counters();
        assert_eq!((counters.redirected, counters.established), (index as u64 + 1, index as u64 + 1));
    }
    assert_eq!(lab.packets_out(), 0);
}

/// A client that resets before the proxy accepts is attributed all the same, and leaves nothing behind.
#[test]
fn reset_before_accept() {
    let lab = Lab::new(Mode::Record);
    let mut taken = 0;
    for address in ["203.0.113.9", "2001:db8::5"] {
        let output = lab.run_python(&format!(
            "for port in range(4000, 4100):
    s = tcp(socket.AF_INET6 if ':' in '{address}' else socket.AF_INET); s.connect(('{address}', port))
    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0)); s.close()"
        ));
        assert_eq!(stdout(&output), "");
        for listener in &lab.listeners.tcp {
            while let Ok((stream, peer)) = listener.accept() {
                assert!(stream.peer_addr().is_err(), "not reset");
                let key = connection_key(&stream, peer).unwrap();
                let origin = lab.kernel.take_origin(&key).unwrap().expect("no origin");
                assert_eq!(origin.destination.ip().to_string(), address);
                taken += 1;
            }
        }
    }
    assert_eq!(taken, 200);
    assert_eq!(lab.counters().established, 200);
    assert!(lab.kernel.origins.keys(1000).unwrap().is_empty());
}
