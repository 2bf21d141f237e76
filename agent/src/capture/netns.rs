//! Network namespaces: doing something inside one, and what can be reached from it. It never makes or removes one.

use crewtap_ebpf::Words;
use nix::sched::{CloneFlags, setns};
use std::{
    fs::{self, File},
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    os::{fd::AsFd, unix::fs::MetadataExt},
    path::{Path, PathBuf},
};

/// The namespace of the thread that looks.
const THIS_THREADS: &str = "/proc/thread-self/ns/net";
/// `RTF_UP` (route(4)).
const ROUTE_UP: u32 = 0x1;
/// `RTF_REJECT`.
const ROUTE_REJECT: u32 = 0x200;

/// A network namespace, kept alive by an open file.
#[derive(Debug)]
pub struct NetworkNamespace {
    file: File,
    inode: u64,
}

impl NetworkNamespace {
    /// Opens `path` (a bind mount of `ip netns`, or a file below /proc).
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let inode = file.metadata()?.ino();
        Ok(Self { file, inode })
    }

    /// The namespace of a process.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn of_process(pid: u32) -> io::Result<Self> {
        Self::open(&PathBuf::from(format!("/proc/{pid}/ns/net")))
    }

    /// The namespace of this thread.
    ///
    /// # Errors
    /// When /proc is not mounted.
    pub fn current() -> io::Result<Self> {
        Self::open(Path::new(THIS_THREADS))
    }

    /// Its number, as in `net:[…]`.
    #[must_use]
    pub fn inode(&self) -> u64 {
        self.inode
    }

    /// Runs `work` inside, on a thread of its own unless the caller's is there already: the caller's thread never
    /// changes namespace, so there is no way back that could fail. Sockets made inside stay there.
    ///
    /// # Errors
    /// When the kernel makes no thread or refuses to enter, or `work` panics on its thread.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> io::Result<T> {
        if fs::metadata(THIS_THREADS).is_ok_and(|here| here.ino() == self.inode) {
            return Ok(work());
        }
        std::thread::scope(|scope| {
            let inside = std::thread::Builder::new().spawn_scoped(scope, || {
                setns(self.file.as_fd(), CloneFlags::CLONE_NEWNET)?;
                Ok(work())
            })?;
            inside.join().unwrap_or_else(|_| Err(io::Error::other("the work inside the network namespace failed")))
        })
    }

    /// What can be reached from it.
    ///
    /// # Errors
    /// When its tables cannot be read.
    pub fn reach(&self) -> io::Result<Reach> {
        self.enter(|| Reach::read(Path::new("/proc/thread-self/net")))?
    }
}

/// What can be reached from a network namespace, and from which addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reach {
    /// It has an IPv4 route that is not loopback.
    pub route4: bool,
    /// It has an IPv6 route that is neither loopback nor link-local.
    pub route6: bool,
    /// Its own addresses.
    pub addresses: Vec<IpAddr>,
}

impl Reach {
    /// Reads the tables of a namespace from its `net` directory below /proc.
    ///
    /// # Errors
    /// When /proc is not mounted. Tables of a family that the kernel does not have are empty.
    pub fn read(directory: &Path) -> io::Result<Self> {
        let text = |name: &str| match fs::read_to_string(directory.join(name)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
            read => read,
        };
        let mut addresses = ipv4_addresses(&text("fib_trie")?);
        addresses.extend(ipv6_addresses(&text("if_inet6")?));
        Ok(Self { route4: has_ipv4_route(&text("route")?), route6: has_ipv6_route(&text("ipv6_route")?), addresses })
    }
}

/// /proc/net/route: interface, destination, gateway, flags, …
fn has_ipv4_route(table: &str) -> bool {
    table.lines().skip(1).any(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let flags = fields.get(3).and_then(|flags| u32::from_str_radix(flags, 16).ok()).unwrap_or(0);
        fields.first().is_some_and(|device| *device != "lo") && flags & ROUTE_UP != 0 && flags & ROUTE_REJECT == 0
    })
}

/// /`proc/net/ipv6_route`: destination, its prefix length, source, its length, next hop, metric, two counters, flags,
/// interface. Link-local and multicast routes exist on every device and lead nowhere.
fn has_ipv6_route(table: &str) -> bool {
    table.lines().any(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (Some(destination), Some(flags), Some(device)) = (fields.first(), fields.get(8), fields.get(9)) else {
            return false;
        };
        let flags = u32::from_str_radix(flags, 16).unwrap_or(0);
        let leads_nowhere = destination.starts_with("fe80") || destination.starts_with("ff");
        *device != "lo" && flags & ROUTE_UP != 0 && flags & ROUTE_REJECT == 0 && !leads_nowhere
    })
}

/// /`proc/net/fib_trie`: an address line, then under it `/32 host LOCAL` where it is one of our own.
fn ipv4_addresses(trie: &str) -> Vec<IpAddr> {
    let mut addresses: Vec<IpAddr> = Vec::new();
    let mut last = None;
    for line in trie.lines() {
        let line = line.trim();
        if let Some(address) = line.strip_prefix("|-- ") {
            last = address.parse::<Ipv4Addr>().ok();
        } else if line.starts_with("/32 host LOCAL")
            && let Some(address) = last
            && !addresses.contains(&address.into())
        {
            addresses.push(address.into());
        }
    }
    addresses
}

/// /`proc/net/if_inet6`: the address in hexadecimal first.
fn ipv6_addresses(table: &str) -> Vec<IpAddr> {
    let address = |line: &str| u128::from_str_radix(line.split_whitespace().next()?, 16).ok();
    table.lines().filter_map(address).map(|bits| Ipv6Addr::from(bits).into()).collect()
}

/// An address as the kernel programs spell it.
#[must_use]
pub fn to_words(address: IpAddr) -> Words {
    let bytes = match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    };
    let mut words = Words::default();
    for (word, bytes) in words.iter_mut().zip(bytes.chunks_exact(4)) {
        *word = u32::from_ne_bytes(bytes.try_into().unwrap_or_default());
    }
    words
}

/// The address that the kernel programs spell so; mapped IPv4 comes out as IPv4.
#[must_use]
pub fn from_words(words: Words) -> IpAddr {
    let [a, b, c, d] = words.map(u32::from_be);
    let bits = u128::from(a) << 96 | u128::from(b) << 64 | u128::from(c) << 32 | u128::from(d);
    Ipv6Addr::from(bits).to_canonical()
}

#[cfg(test)]
mod tests;
