//! The kernel's table of TCP connections of this network namespace: whose socket the other end of a loopback connection is.
//!
//! Owns how the table is read. Never takes a socket that nobody holds any more for anybody's: the kernel shows those as root's.

use std::fs;
use std::net::{IpAddr, SocketAddr};

/// `ESTABLISHED`, `FIN_WAIT1`, `FIN_WAIT2` and `CLOSE_WAIT`, as the kernel numbers them: both ends have seen each other.
const CONNECTED: [&str; 4] = ["01", "04", "05", "08"];

/// A socket that some process holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Socket {
    /// The user that made it.
    pub uid: u32,
    /// Its number among the files of processes.
    pub inode: u64,
}

/// The socket whose own address is `local` and whose peer is `remote`. Takes milliseconds where there are many connections.
#[must_use]
pub fn find(local: SocketAddr, remote: SocketAddr) -> Option<Socket> {
    let table = |name: &str| fs::read_to_string(format!("/proc/thread-self/net/{name}")).ok();
    let six = || found(&table("tcp6")?, &spelled(mapped(local)), &spelled(mapped(remote)));
    if local.is_ipv6() {
        return six();
    }
    // A program may reach an address of IPv4 by a socket of IPv6.
    found(&table("tcp")?, &spelled(local), &spelled(remote)).or_else(six)
}

fn found(table: &str, local: &str, remote: &str) -> Option<Socket> {
    table.lines().skip(1).find_map(|line| {
        let columns: Vec<&str> = line.split_ascii_whitespace().collect();
        let is_it = columns.get(1) == Some(&local) && columns.get(2) == Some(&remote);
        let is_connected = CONNECTED.contains(columns.get(3)?);
        let (uid, inode) = (columns.get(7)?.parse().ok()?, columns.get(9)?.parse().ok()?);
        (is_it && is_connected && inode != 0).then_some(Socket { uid, inode })
    })
}

fn mapped(address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(ip) => SocketAddr::new(ip.to_ipv6_mapped().into(), address.port()),
        IpAddr::V6(_) => address,
    }
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::net::{Shutdown, TcpListener, TcpStream};

    use super::*;

    #[test]
    fn the_kernel_spells_addresses_so() {
        let word = u32::from_ne_bytes([127, 0, 0, 1]);
        assert_eq!(spelled("127.0.0.1:8080".parse().unwrap()), format!("{word:08X}:1F90"));
    }

    #[test]
    fn a_socket_is_its_users_and_one_that_was_closed_is_nobodys_and_not_roots() {
        for listen in ["127.0.0.1:0", "[::1]:0"] {
            let listener = TcpListener::bind(listen).unwrap();
            let ours = listener.local_addr().unwrap();
            let own = TcpStream::connect(ours).unwrap();
            let (accepted, client) = listener.accept().unwrap();
            let socket = find(client, ours).unwrap();
            assert_eq!(socket.uid, nix::unistd::geteuid().as_raw());
            // One that has said all that it had to say is still held by somebody.
            own.shutdown(Shutdown::Write).unwrap();
            assert_eq!(find(client, ours), Some(socket));
            drop(own);
            assert_eq!(find(client, ours), None, "the kernel still knows the connection, and shows no owner but root");
            drop(accepted);
        }
    }

    #[test]
    fn a_socket_of_ipv6_reaches_an_address_of_ipv4() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let ours = listener.local_addr().unwrap();
        let _own = TcpStream::connect(mapped(ours)).unwrap();
        let (_accepted, client) = listener.accept().unwrap();
        assert_eq!(find(client, ours).unwrap().uid, nix::unistd::geteuid().as_raw());
    }
}
