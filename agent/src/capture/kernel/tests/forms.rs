//! The less usual ways to connect: non-blocking, `io_uring`, fast open, MPTCP, threads, forks, real programs.

use super::lab::{Lab, read_all, stdout};
use crate::capture::kernel::{Mode, Origin, Transport};
use std::{io::Write, net::SocketAddr};

/// Runs a client that connects once and sends "hello", and returns what it printed with the origin.
fn one_connect(lab: &Lab, source: &str) -> (String, Origin) {
    let child = lab.python(source);
    let (mut stream, origin) = lab.accept_or_explain(child.id());
    assert_eq!(read_all(&mut stream), "hello");
    drop(stream);
    (stdout(&child.wait_with_output().unwrap()), origin)
}

fn destination() -> SocketAddr {
    "203.0.113.9:4443".parse().unwrap()
}

#[test]
fn non_blocking() {
    let lab = Lab::new(Mode::Record);
    let (printed, origin) = one_connect(
        &lab,
        "s = tcp(); s.setblocking(False); print(errno.errorcode[s.connect_ex(('203.0.113.9', 4443))])
select.select([], [s], [], 20); print(s.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)); s.sendall(b'hello')",
    );
    assert_eq!(origin.destination, destination());
    assert_eq!(printed, "EINPROGRESS\n0");
}

#[test]
fn fast_open() {
    let lab = Lab::new(Mode::Record);
    let sends = "s = tcp(); s.settimeout(None); print(s.sendto(b'hello', 0x20000000, ('203.0.113.9', 4443)))";
    let connects =
        "s = tcp(); s.settimeout(None); s.setsockopt(socket.IPPROTO_TCP, 30, 1); s.connect(('203.0.113.9', 4443))
print(s.send(b'hello')); print(s.getpeername()[0])";
    for source in [sends, connects, sends, connects] {
        let (printed, origin) = one_connect(&lab, source);
        assert_eq!(origin.destination, destination());
        assert!(printed.starts_with('5'), "{printed}");
    }
    let counters = lab.counters();
    assert_eq!((counters.redirected, counters.established), (4, 4));
    assert_eq!(lab.packets_out(), 0);
}

#[test]
fn mptcp() {
    let lab = Lab::new(Mode::Record);
    for (family, address) in [("AF_INET", "203.0.113.9"), ("AF_INET6", "2001:db8::5")] {
        let (printed, origin) = one_connect(
            &lab,
            &format!(
                "s = tcp(socket.{family}, 262); s.connect(('{address}', 4443)); s.sendall(b'hello')
print(s.getpeername()[0], os.getpid())"
            ),
        );
        assert_eq!(origin.destination.ip().to_string(), address);
        assert_eq!(printed, format!("{address} {}", origin.tgid));
        assert_eq!(origin.transport, Transport::Mptcp);
    }
    assert_eq!(lab.packets_out(), 0);
}

#[test]
fn io_uring() {
    let lab = Lab::new(Mode::Record);
    let (printed, origin) = one_connect(&lab, IO_URING);
    assert_eq!(origin.destination, destination());
    assert_eq!(printed, "0 203.0.113.9");
}

#[test]
fn threads_and_forks() {
    let lab = Lab::new(Mode::Record);
    let child = lab.python(
        "def one(i):
    s = tcp(); s.connect(('203.0.113.%d' % i, 4443)); s.sendall(b'%d' % i); s.shutdown(1); s.recv(1)
threads = [threading.Thread(target=one, args=(i,)) for i in range(1, 9)]
[t.start() for t in threads]
if os.fork() == 0:
    one(9); os.setsid()
    if os.fork() == 0: one(10)
    os._exit(0)
[t.join() for t in threads]",
    );
    let mut seen = Vec::new();
    for _ in 0..10 {
        let (mut stream, origin) = lab.accept_or_explain(child.id());
        let said = read_all(&mut stream);
        assert_eq!(origin.destination.to_string(), format!("203.0.113.{said}:4443"));
        seen.push((origin.tgid, origin.tid));
        stream.write_all(b"x").unwrap();
    }
    stdout(&child.wait_with_output().unwrap());
    let threads = seen.iter().filter(|(tgid, tid)| tgid != tid).count();
    assert_eq!(threads, 8, "{seen:?}");
}

#[test]
fn curl() {
    let lab = Lab::new(Mode::Record);
    lab.kernel.beat().unwrap();
    let child = lab.command(&["curl", "-s", "-w", "%{remote_ip}", "http://203.0.113.9:8080/x"]).spawn().unwrap();
    let (mut stream, origin) = lab.accept_or_explain(child.id());
    assert_eq!((origin.destination.to_string().as_str(), origin.comm.as_str()), ("203.0.113.9:8080", "curl"));
    stream.write_all(b"HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nhi ").unwrap();
    assert_eq!(stdout(&child.wait_with_output().unwrap()), "hi 203.0.113.9");
}

/// `io_uring_setup`, mmap of the rings, one connect submitted and reaped: without a library.
const IO_URING: &str = "
import mmap
libc = ctypes.CDLL(None, use_errno=True)
params = (ctypes.c_uint32 * 30)()
fd = libc.syscall(425, 4, params)
assert fd >= 0, os.strerror(ctypes.get_errno())
p = list(params); sq_off = p[10:20]; cq_off = p[20:30]
sq = mmap.mmap(fd, sq_off[6] + p[0] * 4, offset=0)
cq = mmap.mmap(fd, cq_off[5] + p[1] * 16, offset=0x8000000)
sqes = mmap.mmap(fd, p[0] * 64, offset=0x10000000)
s = socket.socket(); address = struct.pack('=HH4s8x', 2, socket.htons(4443), socket.inet_aton('203.0.113.9'))
buffer = ctypes.create_string_buffer(address, 16)
sqes[0:64] = struct.pack('=BBHiQQIIQ24x', 16, 0, 0, s.fileno(), 16, ctypes.addressof(buffer), 0, 0, 7)
array = struct.unpack_from('=I', struct.pack('=I', sq_off[6]))[0]
struct.pack_into('=I', sq, sq_off[6], 0); struct.pack_into('=I', sq, sq_off[1], 1)
assert libc.syscall(426, fd, 1, 1, 1, None, 0) == 1
user, result, flags = struct.unpack_from('=QiI', cq, cq_off[5])
s.sendall(b'hello'); print(result, s.getpeername()[0])
";
