//! Whose process is on the other side of a loopback connection.
//!
//! The redirect and `dial` keep captured processes away already; this is the lock behind the locked door. It judges the
//! socket's owners: who cannot be found counts as captured.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use crate::capture::{cgroup, sockets};

/// Whether the client's socket belongs to a captured process, to the agent itself (whose proxy dials for captured ones), or
/// to nobody that can be found. Reads `/proc`, which takes milliseconds.
pub(super) fn is_captured(client: SocketAddr, ours: SocketAddr) -> bool {
    let Some(socket) = sockets::find(client, ours) else { return true };
    let owners = owners(socket.inode);
    owners.is_empty() || owners.iter().any(|pid| *pid == std::process::id() || cgroup::is_captured(*pid))
}

/// Processes that hold the socket.
fn owners(inode: u64) -> Vec<u32> {
    let name = format!("socket:[{inode}]");
    let Ok(processes) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = processes.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid| holds(*pid, Path::new(&name))).collect()
}

fn holds(pid: u32, socket: &Path) -> bool {
    let Ok(descriptors) = fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
    descriptors.flatten().any(|entry| fs::read_link(entry.path()).is_ok_and(|target| target == socket))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};
    use std::process::{Command, Stdio};

    #[test]
    fn the_agent_itself_is_refused_and_so_is_who_has_gone_and_another_process_is_not() {
        for listen in ["127.0.0.1:0", "[::1]:0"] {
            let listener = TcpListener::bind(listen).unwrap();
            let ours = listener.local_addr().unwrap();
            let own = TcpStream::connect(ours).unwrap();
            assert!(is_captured(own.local_addr().unwrap(), ours), "the proxy dials for captured processes");
            let gone = own.local_addr().unwrap();
            drop(own);
            drop(listener.accept().unwrap());
            assert!(is_captured(gone, ours));
            let script = "import socket,sys; s=socket.create_connection((sys.argv[1], int(sys.argv[2]))); s.recv(1)";
            let (ip, port) = (ours.ip().to_string(), ours.port().to_string());
            let mut other =
                Command::new("python3").args(["-c", script, &ip, &port]).stdin(Stdio::null()).spawn().unwrap();
            let (stream, client) = listener.accept().unwrap();
            assert!(!is_captured(client, ours));
            drop(stream);
            other.wait().unwrap();
        }
    }
}
