//! Servers inside a run, and modes other than `record`.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};

use crewtap_tests::host::{Host, succeeded, text};
use crewtap_tests::peer::Peer;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::rows::Rows;

const TALK: &str = "import socket, sys
try:
    s = socket.create_connection((sys.argv[1], int(sys.argv[2])))
    s.sendall(b'hello')
    print(s.recv(100).decode())
except ConnectionResetError: print('reset')";

/// `crewtap run --mode MODE -- COMMAND`, with its output piped.
fn in_mode(host: &Host, mode: &str, command: &[&str]) -> Child {
    let mut run = host.crewtap(&["run", "--mode", mode, "--"]);
    run.args(command).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

#[test]
fn a_server_inside_a_run_is_reached_from_outside_even_in_enforce_mode() {
    let host = Host::new();
    std::fs::write(host.path("greeting.txt"), "good morning\n").unwrap();
    let directory = host.path("").display().to_string();
    let command = ["python3", "-u", "-m", "http.server", "0", "--bind", "127.0.0.1", "--directory", &directory];
    let mut run = in_mode(&host, "enforce", &command);
    // "Serving HTTP on 127.0.0.1 port 34567 (http://127.0.0.1:34567/) ..."
    let mut serving = String::new();
    BufReader::new(run.stdout.as_mut().unwrap()).read_line(&mut serving).unwrap();
    let port = serving.split_whitespace().nth(5).unwrap_or_else(|| panic!("{serving:?}"));
    let url = format!("http://127.0.0.1:{port}/greeting.txt");
    let answer = host.command("curl").args(["-sS", "--max-time", "30", &url]).output().unwrap();
    assert_eq!(succeeded(&answer), "good morning\n");
    kill(Pid::from_raw(i32::try_from(run.id()).unwrap()), Signal::SIGTERM).unwrap();
    let _ended = run.wait_with_output().unwrap();
    let rows = Rows::of_last_run(&host);
    rows.reconciled(0);
    let accepted = rows.table("accepted");
    assert_eq!(accepted.len(), 1, "{accepted:#?}");
    assert!(accepted[0]["peer"].as_str().unwrap().starts_with("127.0.0.1:"), "{}", accepted[0]);
    assert_eq!(accepted[0]["local"], format!("127.0.0.1:{port}"));
    assert_eq!(rows.table("bypasses").len(), 0);
}

#[test]
fn enforce_refuses_what_no_policy_permits_and_records_the_refusal() {
    let host = Host::new();
    let echo = Peer::echo(&host, "127.0.0.1:0");
    let run = in_mode(&host, "enforce", &["python3", "-c", TALK, "127.0.0.1", &echo.port()]);
    let output = run.wait_with_output().unwrap();
    assert_eq!(succeeded(&output).trim(), "reset", "{}", text(&output));
    assert!(echo.seen().is_empty(), "the target saw no connection at all");
    let rows = Rows::of_last_run(&host);
    rows.reconciled(1);
    let decisions = rows.table("decisions");
    assert_eq!(decisions.len(), 1, "{decisions:?}");
    assert_eq!((&decisions[0]["effect"], &decisions[0]["verb"]), (&"deny".into(), &"connect".into()));
    assert_eq!(decisions[0]["mode"], "enforce");
    assert_eq!(rows.session()["outcome"], "refused");
    assert_eq!(rows.run()["refused"], 1);
}

#[test]
fn shadow_passes_and_records_what_enforce_would_have_refused() {
    let host = Host::new();
    let echo = Peer::echo(&host, "127.0.0.1:0");
    let run = in_mode(&host, "shadow", &["python3", "-c", TALK, "127.0.0.1", &echo.port()]);
    assert_eq!(succeeded(&run.wait_with_output().unwrap()).trim(), "hello");
    assert_eq!(echo.seen(), [b"hello"]);
    let rows = Rows::of_last_run(&host);
    rows.reconciled(1);
    let decisions = rows.table("decisions");
    assert_eq!((&decisions[0]["effect"], &decisions[0]["mode"]), (&"deny".into(), &"shadow".into()));
    assert_eq!(rows.session()["outcome"], "completed");
}

/// Every way to a socket: 64-bit calls, 32-bit ones by `int 0x80` (socket and socketcall), and `io_uring`.
const WAYS: &str = "
import ctypes, errno, mmap, os, socket, struct
libc = ctypes.CDLL(None, use_errno=True)
code = mmap.mmap(-1, 4096, prot=7)
# push rbx; eax = edi; ebx = esi; r8d = ecx; ecx = edx; edx = r8d; int 0x80; pop rbx; ret
code.write(bytes.fromhex('5389f889f34189c889d14489c2cd805bc3'))
address = lambda memory: ctypes.addressof(ctypes.c_char.from_buffer(memory))
old = ctypes.CFUNCTYPE(ctypes.c_int, *[ctypes.c_uint] * 4)(address(code))
low = mmap.mmap(-1, 4096, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x40)
def said(name, result):
    print(name, 'ok' if result >= 0 else errno.errorcode[-result])
def new(number, *args):
    result = libc.syscall(number, *args)
    return result if result >= 0 else -ctypes.get_errno()
def multiplexed(*args):
    low[:12] = struct.pack('=3I', *args)
    return old(102, 1, address(low), 0)
for name, args in (('packet', (17, 3, 0)), ('vsock', (40, 1, 0)), ('can', (29, 3, 1)), ('inet', (2, 1, 0)), ('unix', (1, 1, 0))):
    said('new ' + name, new(41, *args)); said('x32 ' + name, new(41 | 0x40000000, *args))
    said('old ' + name, old(359, *args)); said('old call ' + name, multiplexed(*args))
said('ring', new(425, 8, ctypes.create_string_buffer(120)))
";

fn ways(mode: &str) -> Vec<String> {
    let host = Host::new();
    let output = in_mode(&host, mode, &["python3", "-c", WAYS]).wait_with_output().unwrap();
    let said = succeeded(&output).lines().map(str::to_owned).collect();
    if mode == "enforce" {
        let rows = Rows::of_last_run(&host);
        let packet = |row: &&&serde_json::Value| row["kind"] == "odd_family";
        assert_eq!(rows.table("bypasses").iter().filter(packet).count(), 1, "a packet socket is still on record");
    }
    said
}

#[test]
#[cfg(target_arch = "x86_64")]
fn enforce_makes_no_socket_that_the_kernel_side_does_not_see() {
    let passes = ways("record");
    for way in ["new packet ok", "old packet ok", "old call packet ok", "new vsock ok", "old vsock ok", "ring ok"] {
        assert!(
            passes.contains(&way.to_owned()),
            "without the filter it works, so the filter is what refuses: {passes:?}"
        );
    }
    let refused = ways("enforce");
    let expected = |way: &str| {
        let (how, what) = way.rsplit_once(' ').unwrap_or(("", way));
        match (how, what) {
            ("", _) => "ENOSYS",
            // Its arguments are in memory, where a filter cannot look.
            ("old call", _) => "EPERM",
            // Few kernels have this way at all.
            ("x32", "inet" | "unix" | "packet") => return None,
            (_, "inet" | "unix") => "ok",
            _ => "EPERM",
        }
        .into()
    };
    assert_eq!(refused.len(), passes.len());
    for line in &refused {
        let (way, result) = line.rsplit_once(' ').unwrap();
        let expected: Option<&str> = expected(way);
        assert!(expected.is_none_or(|expected| expected == result), "{line}: {refused:?}");
    }
}

#[test]
fn enforce_leaves_setuid_programs_as_they_are() {
    let host = Host::new();
    let script = "grep -E '^(NoNewPrivs|Seccomp):' /proc/self/status";
    let run = in_mode(&host, "enforce", &["sh", "-c", script]);
    assert_eq!(succeeded(&run.wait_with_output().unwrap()), "NoNewPrivs:\t0\nSeccomp:\t2\n");
}
