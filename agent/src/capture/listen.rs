//! The sockets to which captured connections are sent, and the key by which an accepted connection finds its origin.
//! It never accepts, relays or answers anything.
//!
//! All are bound to the loopback device: 0.0.0.0 on lo serves all of 127.0.0.0/8 and nothing else. Ports are chosen by
//! the kernel at each start, so that nobody can wait on them for the next one (law 3).

use super::{
    netns::{NetworkNamespace, to_words},
    sys,
};
use crewtap_ebpf::{ConnectionKey, DatagramKey, IPV6_PORTS};
use nix::{
    cmsg_space,
    libc::{in_addr, in_pktinfo, in6_addr, in6_pktinfo},
    sys::socket::{
        ControlMessage, ControlMessageOwned, MsgFlags, SockaddrIn, SockaddrIn6, SockaddrStorage, recvmsg, sendmsg,
        setsockopt,
        sockopt::{Ipv4PacketInfo, Ipv6RecvPacketInfo},
    },
};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use std::{
    io::{self, IoSlice, IoSliceMut},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket},
    os::fd::{AsFd, AsRawFd},
};

/// Connections that wait for accept. The kernel cuts it to net.core.somaxconn.
const BACKLOG: i32 = 4096;
/// The device to which everything is bound.
const LOOPBACK: &[u8] = b"lo";

/// The ports of one namespace's listeners, as the kernel programs need them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListenerPorts {
    /// The namespace's cookie; 0: the kernel does not tell (before 5.14).
    pub netns_cookie: u64,
    /// TCP on 0.0.0.0.
    pub tcp4: u16,
    /// TCP on `::1`; 0: this namespace has no IPv6.
    pub tcp6: [u16; IPV6_PORTS],
    /// DNS on 0.0.0.0.
    pub dns4: u16,
    /// DNS on `::1`; 0: this namespace has no IPv6.
    pub dns6: [u16; IPV6_PORTS],
}

/// The listeners of one network namespace. All are non-blocking.
#[derive(Debug)]
pub struct Listeners {
    /// TCP: IPv4 first, then the IPv6 ones.
    pub tcp: Vec<TcpListener>,
    /// DNS over UDP: IPv4 first, then the IPv6 ones.
    pub dns: Vec<DnsSocket>,
    ports: ListenerPorts,
}

impl Listeners {
    /// Binds all of them in `namespace`, where lo must be up.
    ///
    /// # Errors
    /// When the kernel refuses; that IPv6 is missing is no error.
    pub fn bind(namespace: &NetworkNamespace) -> io::Result<Self> {
        namespace.enter(Self::bind_here)?
    }

    /// Binds all of them in this thread's namespace.
    ///
    /// # Errors
    /// As for [`Self::bind`].
    pub fn bind_here() -> io::Result<Self> {
        let tcp4 = tcp(Ipv4Addr::UNSPECIFIED.into())?;
        let dns4 = DnsSocket::bind(Ipv4Addr::UNSPECIFIED.into())?;
        let mut ports = ListenerPorts {
            netns_cookie: sys::netns_cookie(&tcp4)?.unwrap_or(0),
            tcp4: tcp4.local_addr()?.port(),
            tcp6: [0; IPV6_PORTS],
            dns4: dns4.port()?,
            dns6: [0; IPV6_PORTS],
        };
        let mut listeners = Self { tcp: vec![tcp4], dns: vec![dns4], ports };
        for index in 0..IPV6_PORTS {
            let (tcp6, dns6) = match (tcp(Ipv6Addr::LOCALHOST.into()), DnsSocket::bind(Ipv6Addr::LOCALHOST.into())) {
                (Ok(tcp6), Ok(dns6)) => (tcp6, dns6),
                (Err(error), _) | (_, Err(error)) if is_family_missing(&error) && index == 0 => break,
                (Err(error), _) | (_, Err(error)) => return Err(error),
            };
            if let (Some(tcp), Some(dns)) = (ports.tcp6.get_mut(index), ports.dns6.get_mut(index)) {
                (*tcp, *dns) = (tcp6.local_addr()?.port(), dns6.port()?);
            }
            listeners.tcp.push(tcp6);
            listeners.dns.push(dns6);
        }
        listeners.ports = ports;
        Ok(listeners)
    }

    /// Their ports.
    #[must_use]
    pub fn ports(&self) -> ListenerPorts {
        self.ports
    }
}

impl ListenerPorts {
    /// Whether one of them has this port in this family: dialling it would be dialling ourselves. A server of the other family can
    /// have the same number.
    #[must_use]
    pub fn contains(&self, is_ipv4: bool, port: u16) -> bool {
        let of_ipv4 = port == self.tcp4 || port == self.dns4;
        let of_ipv6 = || self.tcp6.contains(&port) || self.dns6.contains(&port);
        port != 0 && if is_ipv4 { of_ipv4 } else { of_ipv6() }
    }
}

/// No `::1`, or no IPv6 at all.
fn is_family_missing(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EADDRNOTAVAIL | libc::EAFNOSUPPORT))
}

fn socket(address: IpAddr, kind: Type, protocol: Protocol) -> io::Result<Socket> {
    let domain = if address.is_ipv4() { Domain::IPV4 } else { Domain::IPV6 };
    let socket = Socket::new(domain, kind, Some(protocol))?;
    socket.set_nonblocking(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind_device(Some(LOOPBACK))?;
    Ok(socket)
}

fn tcp(address: IpAddr) -> io::Result<TcpListener> {
    let socket = socket(address, Type::STREAM, Protocol::TCP)?;
    sys::save_syn(&socket)?;
    socket.bind(&SockAddr::from(SocketAddr::new(address, 0)))?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// The key of a connection that accept returned with the peer `client`. It can be asked for once: the kernel forgets
/// the SYN. A connection that the client has reset meanwhile has its key too, but no longer tells its peer.
///
/// # Errors
/// When its SYN was not kept (a SYN cookie during a flood): such a connection has no origin and must be refused
/// (law 2).
pub fn connection_key(connection: &(impl AsFd + AsRawFd), client: SocketAddr) -> io::Result<ConnectionKey> {
    let listener = socket2::SockRef::from(connection).local_addr()?;
    let listener = listener.as_socket().ok_or_else(|| io::Error::other("not an internet connection"))?;
    let syn = sys::saved_syn(connection)?;
    let sequence = syn_sequence(&syn).ok_or_else(|| io::Error::other("the connection's SYN was not kept"))?;
    Ok(ConnectionKey {
        client: to_words(client.ip()),
        listener: to_words(listener.ip()),
        client_port: client.port(),
        listener_port: listener.port(),
        sequence,
    })
}

/// The sequence number of a SYN, behind its IPv4 (RFC 791) or IPv6 (RFC 8200) header. IPv6 extension headers do not
/// occur: the listeners are on `::1`, and a socket with a routing header does not get there.
fn syn_sequence(headers: &[u8]) -> Option<u32> {
    let first = headers.first()?;
    let transport = match first >> 4 {
        4 => usize::from(first & 0xf) * 4,
        6 if headers.get(6) == Some(&6) => 40,
        _ => return None,
    };
    Some(u32::from_be_bytes(headers.get(transport + 4..transport + 8)?.try_into().ok()?))
}

/// A UDP socket of the DNS relay, which answers from the address that it was asked at.
#[derive(Debug)]
pub struct DnsSocket {
    socket: UdpSocket,
    is_v4: bool,
}

/// Where a datagram came from and at which relay address it arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DatagramPath {
    /// The client.
    pub client: SocketAddr,
    /// The relay, as the client addressed it.
    pub relay: SocketAddr,
}

impl DatagramPath {
    /// The key by which [`super::Kernel::take_udp_origin`] knows the datagram that carried `message`.
    #[must_use]
    pub fn key(&self, message: &[u8]) -> DatagramKey {
        DatagramKey {
            client: to_words(self.client.ip()),
            relay: to_words(self.relay.ip()),
            client_port: self.client.port(),
            relay_port: self.relay.port(),
            id: message.first_chunk().map_or(0, |id| u16::from_be_bytes(*id)),
            padding: 0,
        }
    }
}

impl AsFd for DnsSocket {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsRawFd for DnsSocket {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        self.socket.as_raw_fd()
    }
}

impl DnsSocket {
    fn bind(address: IpAddr) -> io::Result<Self> {
        let socket = socket(address, Type::DGRAM, Protocol::UDP)?;
        if address.is_ipv4() {
            setsockopt(&socket, Ipv4PacketInfo, &true)?;
        } else {
            setsockopt(&socket, Ipv6RecvPacketInfo, &true)?;
        }
        socket.bind(&SockAddr::from(SocketAddr::new(address, 0)))?;
        Ok(Self { socket: socket.into(), is_v4: address.is_ipv4() })
    }

    /// Its port.
    ///
    /// # Errors
    /// When the socket is broken.
    pub fn port(&self) -> io::Result<u16> {
        Ok(self.socket.local_addr()?.port())
    }

    /// Receives one datagram; `WouldBlock` when there is none.
    ///
    /// # Errors
    /// What recvmsg(2) says.
    pub fn receive(&self, into: &mut [u8]) -> io::Result<(usize, DatagramPath)> {
        let port = self.port()?;
        let mut control = cmsg_space!(in6_pktinfo, in_pktinfo);
        let mut buffers = [IoSliceMut::new(into)];
        let message = recvmsg::<SockaddrStorage>(
            self.socket.as_raw_fd(),
            &mut buffers,
            Some(&mut control),
            MsgFlags::MSG_DONTWAIT,
        )?;
        let mut relay = None;
        for control in message.cmsgs()? {
            relay = match control {
                ControlMessageOwned::Ipv4PacketInfo(arrived) => {
                    Some(IpAddr::from(Ipv4Addr::from(arrived.ipi_addr.s_addr.to_ne_bytes())))
                }
                ControlMessageOwned::Ipv6PacketInfo(arrived) => Some(IpAddr::from(arrived.ipi6_addr.s6_addr)),
                _ => relay,
            };
        }
        let client = message.address.as_ref().and_then(to_socket_address);
        let (Some(client), Some(relay)) = (client, relay) else {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a datagram without addresses"));
        };
        Ok((message.bytes, DatagramPath { client, relay: SocketAddr::new(relay, port) }))
    }

    /// Answers along `path`, from the address that was asked.
    ///
    /// # Errors
    /// What sendmsg(2) says; `WouldBlock` when the buffer is full.
    pub fn send(&self, answer: &[u8], path: &DatagramPath) -> io::Result<usize> {
        let buffers = [IoSlice::new(answer)];
        let flags = MsgFlags::MSG_DONTWAIT;
        let socket = self.socket.as_raw_fd();
        match (path.client, path.relay.ip()) {
            (SocketAddr::V4(client), IpAddr::V4(relay)) if self.is_v4 => {
                let source = in_addr { s_addr: u32::from_ne_bytes(relay.octets()) };
                let sent_from = in_pktinfo { ipi_ifindex: 0, ipi_spec_dst: source, ipi_addr: in_addr { s_addr: 0 } };
                let control = [ControlMessage::Ipv4PacketInfo(&sent_from)];
                Ok(sendmsg(socket, &buffers, &control, flags, Some(&SockaddrIn::from(client)))?)
            }
            (SocketAddr::V6(client), IpAddr::V6(relay)) if !self.is_v4 => {
                let sent_from = in6_pktinfo { ipi6_addr: in6_addr { s6_addr: relay.octets() }, ipi6_ifindex: 0 };
                let control = [ControlMessage::Ipv6PacketInfo(&sent_from)];
                Ok(sendmsg(socket, &buffers, &control, flags, Some(&SockaddrIn6::from(client)))?)
            }
            _ => Err(io::Error::new(io::ErrorKind::InvalidInput, "an answer of another family than its question")),
        }
    }
}

fn to_socket_address(address: &SockaddrStorage) -> Option<SocketAddr> {
    if let Some(v4) = address.as_sockaddr_in() {
        return Some(SocketAddr::new(v4.ip().into(), v4.port()));
    }
    address.as_sockaddr_in6().map(|v6| SocketAddr::new(v6.ip().into(), v6.port()))
}

#[cfg(test)]
mod tests;
