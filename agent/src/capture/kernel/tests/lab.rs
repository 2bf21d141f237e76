//! What the tests share: a network namespace of their own, a loaded kernel side, a run, and programs inside it.

use crate::capture::{
    Cgroup, Kernel, KernelOptions, Listeners,
    kernel::{Counters, Events, KernelEvent, Mode, Origin, RunOptions},
    listen::connection_key,
    netns::{NetworkNamespace, Reach},
};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::{
    io::Read,
    net::TcpStream,
    os::fd::AsFd,
    path::PathBuf,
    process::{Child, Command, Output, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

/// Patience with the machine, not part of what is tested.
pub const LONG: Duration = Duration::from_secs(20);

static NUMBER: AtomicU32 = AtomicU32::new(0);

/// A test's machine room.
pub struct Lab {
    pub name: String,
    pub kernel: Arc<Kernel>,
    pub listeners: Listeners,
    pub run: Cgroup,
    pub events: Events,
    pub seen: Vec<KernelEvent>,
}

/// Runs a tool that must succeed.
pub fn tool(line: &str) {
    let mut words = line.split(' ');
    let output = Command::new(words.next().unwrap()).args(words).output().unwrap();
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
}

impl Lab {
    /// A namespace with lo, a veth pair into a second namespace that answers nothing, and default routes into it.
    pub fn new(mode: Mode) -> Self {
        Self::watching(mode, false)
    }

    /// As [`Self::new`], and with the tracepoint of socket(2).
    pub fn watching(mode: Mode, watch_families: bool) -> Self {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("ct{}x{number}", std::process::id());
        tool(&format!("ip netns add {name}"));
        tool(&format!("ip netns add {name}o"));
        tool(&format!("ip -n {name} link set lo up"));
        tool(&format!("ip -n {name} link add out0 type veth peer name in0 netns {name}o"));
        tool(&format!("ip -n {name}o link set in0 address 02:00:00:00:00:01"));
        tool(&format!("ip -n {name}o link set in0 up"));
        tool(&format!("ip -n {name} link set out0 up"));
        tool(&format!("ip -n {name} addr add 198.18.0.2/24 dev out0"));
        tool(&format!("ip -n {name} addr add 2001:db8:18::2/64 dev out0 nodad"));
        tool(&format!("ip -n {name} neigh add 198.18.0.1 lladdr 02:00:00:00:00:01 dev out0"));
        tool(&format!("ip -n {name} neigh add 2001:db8:18::1 lladdr 02:00:00:00:00:01 dev out0"));
        tool(&format!("ip -n {name} route add default via 198.18.0.1"));
        tool(&format!("ip -n {name} -6 route add default via 2001:db8:18::1"));
        let namespace = NetworkNamespace::open(&PathBuf::from(format!("/run/netns/{name}"))).unwrap();
        let listeners = Listeners::bind(&namespace).unwrap();
        let reach = namespace.reach().unwrap();
        assert!(reach.route4 && reach.route6, "{reach:?}");
        let mut options = KernelOptions::new(&name);
        options.watch_families = watch_families;
        let kernel = Kernel::load(&options).unwrap_or_else(|error| panic!("{error}"));
        let run = kernel.add_run("run", &RunOptions::new(mode, listeners.ports(), &reach)).unwrap();
        kernel.set_local_addresses(run.id(), &reach.addresses).unwrap();
        let events = kernel.events().unwrap();
        Self { name, kernel: Arc::new(kernel), listeners, run, events, seen: Vec::new() }
    }

    /// Changes the run's options.
    pub fn options(&self, mode: Mode, reach: &Reach) -> RunOptions {
        RunOptions::new(mode, self.listeners.ports(), reach)
    }

    /// A command inside the namespace and the run.
    pub fn command(&self, program: &[&str]) -> Command {
        let mut command = self.outside(&["sh", "-c", "echo $$ > \"$0\" && exec \"$@\""]);
        command.arg(self.run.path().join("cgroup.procs")).args(program);
        command
    }

    /// A command inside the namespace, outside the run.
    pub fn outside(&self, program: &[&str]) -> Command {
        // Not `ip netns exec`, which mounts another /sys.
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{}", self.name)).args(program);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Starts a Python program in the run.
    pub fn python(&self, source: &str) -> Child {
        self.kernel.beat().unwrap();
        self.command(&["/usr/bin/python3", "-c", &format!("{PRELUDE}{source}")]).spawn().unwrap()
    }

    /// Runs a Python program in the run, to its end.
    pub fn run_python(&self, source: &str) -> Output {
        self.python(source).wait_with_output().unwrap()
    }

    /// The next connection that some listener accepts.
    pub fn accept(&self) -> TcpStream {
        self.try_accept(Duration::from_secs(8)).unwrap_or_else(|| panic!("nobody connected: {:?}", self.counters()))
    }

    /// The next connection, if one comes in time.
    pub fn try_accept(&self, limit: Duration) -> Option<TcpStream> {
        let deadline = Instant::now() + limit;
        loop {
            self.kernel.beat().unwrap();
            for listener in &self.listeners.tcp {
                if let Ok((stream, _)) = listener.accept() {
                    stream.set_nonblocking(false).unwrap();
                    stream.set_read_timeout(Some(LONG)).unwrap();
                    return Some(stream);
                }
            }
            let left = deadline.checked_duration_since(Instant::now())?;
            let mut fds: Vec<PollFd> =
                self.listeners.tcp.iter().map(|one| PollFd::new(one.as_fd(), PollFlags::POLLIN)).collect();
            let _ = poll(&mut fds, PollTimeout::try_from(left.min(Duration::from_secs(1))).unwrap());
        }
    }

    /// The origin of an accepted connection.
    pub fn origin(&self, stream: &TcpStream) -> Option<Origin> {
        let key = connection_key(stream, stream.peer_addr().unwrap()).unwrap();
        self.kernel.take_origin(&key).unwrap()
    }

    /// Whether the kernel still has an origin for it (its SYN is gone, so every key of its addresses is asked).
    pub fn origin_again(&self, stream: &TcpStream) -> Option<u32> {
        let port = stream.peer_addr().unwrap().port();
        let keys = self.kernel.origins.keys(1000).unwrap();
        keys.iter().find(|key| key.client_port == port).map(|key| key.sequence)
    }

    /// Accepts a connection and takes its origin, which must be there.
    pub fn accept_origin(&self) -> (TcpStream, Origin) {
        let stream = self.accept();
        let origin = self.origin(&stream).expect("no origin");
        (stream, origin)
    }

    /// As [`Self::accept_origin`], but when nobody connects, the client `pid` is asked to say where it hangs.
    pub fn accept_or_explain(&self, pid: u32) -> (TcpStream, Origin) {
        let Some(stream) = self.try_accept(LONG) else {
            let stack = Command::new("sh").args(["-c", &format!("cat /proc/{pid}/stack /proc/{pid}/wchan")]).output();
            panic!("nobody connected: {:?} {stack:?}", self.counters());
        };
        let origin = self.origin(&stream).expect("no origin");
        (stream, origin)
    }

    /// The run's counters.
    pub fn counters(&self) -> Counters {
        self.kernel.counters(self.run.id()).unwrap().unwrap()
    }

    /// All events so far.
    pub fn events(&mut self) -> &[KernelEvent] {
        while let Some(event) = self.events.next_event() {
            self.seen.push(event);
        }
        &self.seen
    }

    /// Packets that reached the namespace on the other side of the veth pair: all of IPv4, and unicast IPv6 (a device
    /// that comes up announces itself by multicast).
    pub fn packets_out(&self) -> u64 {
        let namespace = format!("--net=/run/netns/{}o", self.name);
        let tables = ["/proc/net/snmp", "/proc/net/snmp6"];
        let output = Command::new("nsenter").args([&namespace, "cat"]).args(tables).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let ipv4 = text.lines().filter(|line| line.starts_with("Ip: ")).nth(1).unwrap();
        let ipv4: u64 = ipv4.split(' ').nth(3).unwrap().parse().unwrap();
        let of = |name: &str| -> u64 {
            let line = text.lines().find(|line| line.split_whitespace().next() == Some(name)).unwrap();
            line.split_whitespace().nth(1).unwrap().parse().unwrap()
        };
        ipv4 + of("Ip6InReceives") - of("Ip6InMcastPkts")
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let _ = self.run.kill();
        let _ = self.run.wait_until_empty(LONG);
        let _ = self.kernel.remove_run(&self.run);
        let _ = self.kernel.parent.remove();
        let _ = self.kernel.generation.remove_pins();
        let _ = std::fs::remove_dir(format!("/sys/fs/bpf/crewtap/{}", self.name));
        for name in [self.name.clone(), format!("{}o", self.name)] {
            let _ = Command::new("ip").args(["netns", "del", &name]).output();
        }
    }
}

/// Reads a stream to its end.
pub fn read_all(stream: &mut TcpStream) -> String {
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

/// What a program wrote; it must have ended well.
pub fn stdout(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap().trim().to_owned()
}

const PRELUDE: &str = "
import socket, os, sys, time, struct, errno, select, threading, ctypes
def tcp(family=socket.AF_INET, protocol=0):
    s = socket.socket(family, socket.SOCK_STREAM, protocol); s.settimeout(20); return s
def attempt(f):
    try: f(); return 'ok'
    except OSError as e: return errno.errorcode[e.errno]
";
