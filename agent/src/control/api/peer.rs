//! Whose process is on the other side of a loopback connection.
//!
//! The redirect and `dial` keep captured processes away already; this is the lock behind the locked door. It judges the
//! socket's owners: who cannot be found counts as captured.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use crate::capture::cgroup;

/// Whether the client's socket belongs to a captured process, to the agent itself (whose proxy dials for captured ones), or
/// to nobody that can be found. Reads `/proc`, which takes milliseconds.
pub(super) fn is_captured(client: SocketAddr, ours: SocketAddr) -> bool {
    let Some(inode) = inode_of(client, ours) else { return true };
    let owners = owners(inode);
    owners.is_empty() || owners.iter().any(|pid| *pid == std::process::id() || cgroup::is_captured(*pid))
}

/// The inode of the socket whose own address is `client` and whose peer is `ours`.
fn inode_of(client: SocketAddr, ours: SocketAddr) -> Option<u64> {
    let table = if client.is_ipv4() { "/proc/thread-self/net/tcp" } else { "/proc/thread-self/net/tcp6" };
    let (client, ours) = (spelled(client), spelled(ours));
    let table = fs::read_to_string(table).ok()?;
    table.lines().skip(1).find_map(|line| {
        let mut columns = line.split_ascii_whitespace();
        let (local, remote) = (columns.nth(1)?, columns.next()?);
        let inode = columns.nth(6)?;
        (local == client && remote == ours).then(|| inode.parse().ok())?.filter(|inode| *inode != 0)
    })
}

/// An address as the kernel prints it: words of four bytes in the host's order, hexadecimal.
fn spelled(address: SocketAddr) -> String {
    let octets = match address {
        SocketAddr::V4(address) => address.ip().octets().to_vec(),
        SocketAddr::V6(address) => address.ip().octets().to_vec(),
    };
    let word = |bytes: &[u8]| bytes.try_into().map(u32::from_ne_bytes).unwrap_or_default();
    let words: Vec<String> = octets.chunks(4).map(|bytes| format!("{:08X}", word(bytes))).collect();
    format!("{}:{:04X}", words.concat(), address.port())
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
    fn the_kernel_spells_addresses_so() {
        assert_eq!(
            spelled("127.0.0.1:8080".parse().unwrap()),
            format!("{:08X}:1F90", u32::from_ne_bytes([127, 0, 0, 1]))
        );
    }

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
