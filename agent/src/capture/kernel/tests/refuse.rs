//! What is refused, and that nothing of it leaves the namespace.

use super::lab::{LONG, Lab, read_all, stdout};
use crate::capture::{
    kernel::{BypassKind, KernelEvent, Mode},
    netns::Reach,
};
use std::{net::Shutdown, time::Duration};

/// The bypasses reported so far.
fn bypasses(lab: &mut Lab) -> Vec<(BypassKind, String, bool)> {
    let of = |event: &KernelEvent| match event {
        KernelEvent::Bypass { kind, destination, refused, .. } => {
            Some((*kind, destination.map(|one| one.to_string()).unwrap_or_default(), *refused))
        }
        _ => None,
    };
    lab.events().iter().filter_map(of).collect()
}

#[test]
fn bound_to_a_device_or_a_foreign_source() {
    let mut lab = Lab::new(Mode::Record);
    let output = lab.run_python(
        "s = tcp(); s.setsockopt(socket.SOL_SOCKET, 25, b'out0\\0')
print(attempt(lambda: s.connect(('203.0.113.9', 4443))))
s = tcp(); s.setsockopt(socket.SOL_IP, 15, 1); s.bind(('198.18.0.77', 0))
print(attempt(lambda: s.connect(('203.0.113.9', 4443))))
s = tcp(socket.AF_INET6); s.setsockopt(socket.SOL_SOCKET, 25, b'out0\\0')
print(attempt(lambda: s.connect(('2001:db8::5', 4443))))",
    );
    assert_eq!(stdout(&output), "EPERM\nEPERM\nEPERM");
    let counters = lab.counters();
    assert_eq!((counters.refused_device, counters.refused_source, counters.redirected), (2, 1, 0));
    let seen = bypasses(&mut lab);
    assert!(seen.contains(&(BypassKind::Device, "203.0.113.9:4443".to_owned(), true)), "{seen:?}");
    assert!(seen.contains(&(BypassKind::Source, "203.0.113.9:4443".to_owned(), true)), "{seen:?}");
    assert_eq!(lab.packets_out(), 0);
}

#[test]
fn bound_to_an_own_address_or_to_lo_passes() {
    let lab = Lab::new(Mode::Record);
    let child = lab.python(
        "s = tcp(); s.bind(('198.18.0.2', 40123)); s.connect(('203.0.113.9', 4443)); s.sendall(b'a')
s = tcp(); s.setsockopt(socket.SOL_SOCKET, 25, b'lo\\0'); s.connect(('203.0.113.9', 4443)); s.sendall(b'b')",
    );
    let (mut stream, origin) = lab.accept_or_explain(child.id());
    assert_eq!(origin.source, Some("198.18.0.2:40123".parse().unwrap()));
    assert_eq!(read_all(&mut stream), "a");
    let (mut stream, _) = lab.accept_or_explain(child.id());
    assert_eq!(read_all(&mut stream), "b");
    stdout(&child.wait_with_output().unwrap());
    assert_eq!(lab.packets_out(), 0);
}

#[test]
fn bound_to_a_device_after_connect_never_leaves() {
    let mut lab = Lab::new(Mode::Record);
    let child = lab.python(
        "s = tcp(); s.bind(('198.18.0.2', 0)); s.connect(('203.0.113.9', 4443))
s.setsockopt(socket.SOL_SOCKET, 25, b'out0\\0'); s.setsockopt(socket.IPPROTO_TCP, 18, 1500)
print(attempt(lambda: (s.send(b'secret'), time.sleep(2), s.send(b'secret'))))",
    );
    let (stream, _) = lab.accept_or_explain(child.id());
    stdout(&child.wait_with_output().unwrap());
    drop(stream);
    assert!(lab.counters().dropped_escape > 0, "{:?}", lab.counters());
    assert!(bypasses(&mut lab).iter().any(|(kind, _, refused)| *kind == BypassKind::Escape && *refused));
    assert_eq!(lab.packets_out(), 0);
}

#[test]
fn source_routes_never_leave() {
    let lab = Lab::new(Mode::Record);
    // Loose source route over a router on the device.
    let output = lab.run_python(
        "s = tcp(); s.settimeout(3)
option = bytes([0x83, 7, 4]) + socket.inet_aton('198.18.0.1') + b'\\0'
print(attempt(lambda: s.setsockopt(socket.SOL_IP, socket.IP_OPTIONS, option)))
try: s.connect(('203.0.113.9', 4443)); print('connected')
except OSError as e: print('refused')",
    );
    assert!(stdout(&output).ends_with("refused"), "{output:?}");
    assert_eq!(lab.packets_out(), 0);
}

#[test]
fn no_route() {
    let lab = Lab::new(Mode::Record);
    let reach = Reach { route4: true, route6: false, addresses: Vec::new() };
    // The namespace's own address needs no route.
    lab.kernel.update_run(lab.run.id(), &lab.options(Mode::Record, &reach)).unwrap();
    let child = lab.python(
        "s = tcp(socket.AF_INET6); print(attempt(lambda: s.connect(('2001:db8::5', 4443))))
s = tcp(socket.AF_INET6); s.connect(('::1', 4443)); print('loopback')
s = tcp(socket.AF_INET6); s.connect(('2001:db8:18::2', 4443)); print('own')",
    );
    drop(lab.accept_or_explain(child.id()));
    drop(lab.accept_or_explain(child.id()));
    assert_eq!(stdout(&child.wait_with_output().unwrap()), "ENETUNREACH\nloopback\nown");
    assert_eq!(lab.counters().refused_route, 1);
}

#[test]
fn odd_sockets() {
    let source = "print(attempt(lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)))
print(attempt(lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 255)))
print(attempt(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM, 136)))
print(attempt(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM, 17)))";
    let mut lab = Lab::new(Mode::Record);
    assert_eq!(stdout(&lab.run_python(source)), "ok\nok\nok\nok");
    let kinds: Vec<_> = bypasses(&mut lab).into_iter().map(|(kind, _, refused)| (kind, refused)).collect();
    assert_eq!(kinds, [(BypassKind::RawSocket, false), (BypassKind::OddProtocol, false)]);
    assert_eq!(lab.counters().bypass[0], 2);
    let lab = Lab::new(Mode::Enforce);
    assert_eq!(stdout(&lab.run_python(source)), "EPERM\nEPERM\nEPERM\nok");
    assert_eq!(lab.counters().refused_mode, 3);
}

#[test]
fn raw_packets() {
    let source = "s = socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)
print(attempt(lambda: s.sendto(b'\\x08\\0\\xf7\\xff\\0\\0\\0\\0', ('203.0.113.9', 0))))";
    let mut lab = Lab::new(Mode::Record);
    assert_eq!(stdout(&lab.run_python(source)), "ok");
    assert!(bypasses(&mut lab).contains(&(BypassKind::Packet, "203.0.113.9:0".to_owned(), false)));
    assert_eq!(lab.packets_out(), 1, "the counter of leaks sees what leaves");
}

#[test]
fn a_socket_from_another_run() {
    let mut lab = Lab::new(Mode::Record);
    // A child leaves the run with a socket of the run, and connects.
    let output = lab.run_python(&format!(
        "s = tcp()
if os.fork() == 0:
    open('{}/cgroup.procs', 'w').write('0')
    print(attempt(lambda: s.connect(('203.0.113.9', 4443))), flush=True); os._exit(0)
os.wait()",
        lab.run.path().parent().unwrap().parent().unwrap().display()
    ));
    assert_eq!(stdout(&output), "EPERM");
    assert_eq!(lab.counters().refused_foreign, 1);
    let left = lab.events().iter().any(|event| matches!(event, KernelEvent::Moved { by: Some(_), .. }));
    assert!(left, "{:?}", lab.seen);
    assert_eq!(lab.packets_out(), 0);
}

#[test]
fn a_hung_agent() {
    let lab = Lab::new(Mode::Record);
    let mut child = lab.python(
        "s = tcp(); s.connect(('203.0.113.9', 4443)); sys.stdin.readline()
print(attempt(lambda: tcp().connect(('203.0.113.9', 4443))))
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
print(attempt(lambda: s.sendto(b'x', ('203.0.113.9', 53))))
print(attempt(lambda: s.sendto(b'x', ('203.0.113.9', 9999))))",
    );
    let (stream, _) = lab.accept_or_explain(child.id());
    // The heartbeat as it is after 6 s without a beat.
    let stale = crate::clock::mono_ns() - 6_000_000_000;
    lab.kernel.heartbeat.set(&0, stale).unwrap();
    std::io::Write::write_all(child.stdin.as_mut().unwrap(), b"go\n").unwrap();
    assert_eq!(stdout(&child.wait_with_output().unwrap()), "EPERM\nEPERM\nEPERM");
    let counters = lab.counters();
    assert_eq!((counters.refused_dead, counters.dropped_dead), (2, 1));
    stream.shutdown(Shutdown::Both).unwrap();
    assert!(lab.try_accept(Duration::from_millis(1)).is_none());
    assert_eq!(lab.packets_out(), 0);
    assert!(lab.run.wait_until_empty(LONG).unwrap());
}
