//! Sockets of other families, which only the tracepoint of socket(2) sees, and other network namespaces.

use super::lab::{Lab, stdout};
use crate::capture::kernel::{BypassKind, KernelEvent, Mode};

#[test]
fn packet_sockets_are_reported() {
    let mut lab = Lab::watching(Mode::Record, true);
    let output = lab.run_python(
        "print(attempt(lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))))
socket.socket(socket.AF_UNIX); socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0); socket.socket()",
    );
    assert_eq!(stdout(&output), "ok");
    let families: Vec<_> = lab
        .events()
        .iter()
        .filter_map(|event| match event {
            KernelEvent::Bypass { kind: BypassKind::OddFamily, family, socket_type, .. } => {
                Some((*family, *socket_type))
            }
            _ => None,
        })
        .collect();
    assert_eq!(families, [(17, 3)]);
}

#[test]
fn another_network_namespace_is_refused() {
    let mut lab = Lab::new(Mode::Record);
    lab.kernel.beat().unwrap();
    let source = "import socket, subprocess
subprocess.run(['ip', 'link', 'set', 'lo', 'up'])
s = socket.socket()
try: s.connect(('203.0.113.9', 4443)); print('connected')
except OSError as e: print(e.errno)";
    let output = lab.command(&["unshare", "-n", "/usr/bin/python3", "-c", source]).output().unwrap();
    assert_eq!(stdout(&output), "1");
    assert_eq!(lab.counters().refused_namespace, 1);
    let seen = |event: &KernelEvent| matches!(event, KernelEvent::Bypass { kind: BypassKind::Namespace, .. });
    assert!(lab.events().iter().any(seen));
}
