//! First bytes -> protocol.
//!
//! Owns the names of protocols and the rules that tell them apart. Never decides what may happen with a
//! connection; a name found here is what the peer's bytes look like, not what they prove.

mod client;
mod server;

use crate::limits;

macro_rules! protocols {
    ($($(#[$doc:meta])* $name:ident = $text:literal),+ $(,)?) => {
        /// A protocol that can be told by its first bytes.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub enum Protocol {
            $($(#[$doc])* $name,)+
        }

        impl Protocol {
            /// Every protocol, for tables and tests.
            pub const ALL: &[Self] = &[$(Self::$name,)+];

            /// As journal, index and policy spell it.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)+
                }
            }

            /// The protocol that is spelled so.
            #[must_use]
            pub fn named(text: &str) -> Option<Self> {
                match text {
                    $($text => Some(Self::$name),)+
                    _ => None,
                }
            }
        }
    };
}

protocols! {
    /// TLS.
    Tls = "tls",
    /// HTTP/1.
    Http = "http",
    /// HTTP/2 in clear text, with prior knowledge.
    H2c = "h2c",
    /// `PostgreSQL`.
    Postgres = "postgres",
    /// SSH.
    Ssh = "ssh",
    /// `MySQL` and `MariaDB`.
    Mysql = "mysql",
    /// Redis and its kin.
    Redis = "redis",
    /// `MongoDB`.
    Mongodb = "mongodb",
    /// Microsoft SQL Server.
    Tds = "tds",
    /// Oracle.
    Oracle = "oracle",
    /// AMQP 0-9-1 and 1.0.
    Amqp = "amqp",
    /// Kafka.
    Kafka = "kafka",
    /// MQTT.
    Mqtt = "mqtt",
    /// NATS.
    Nats = "nats",
    /// Cassandra.
    Cassandra = "cassandra",
    /// Neo4j.
    Bolt = "bolt",
    /// `ClickHouse`.
    Clickhouse = "clickhouse",
    /// memcached, text form.
    Memcached = "memcached",
    /// SMTP.
    Smtp = "smtp",
    /// FTP.
    Ftp = "ftp",
    /// IMAP.
    Imap = "imap",
    /// POP3.
    Pop3 = "pop3",
    /// LDAP.
    Ldap = "ldap",
    /// DNS over TCP.
    Dns = "dns",
    /// SOCKS 4 and 5.
    Socks = "socks",
    /// SMB.
    Smb = "smb",
    /// Remote Desktop.
    Rdp = "rdp",
    /// VNC.
    Vnc = "vnc",
    /// rsync daemon.
    Rsync = "rsync",
    /// git daemon.
    Git = "git",
    /// Telnet.
    Telnet = "telnet",
}

/// What the bytes so far tell.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sniff {
    /// More bytes could still tell.
    NeedMore,
    /// They are this protocol; more bytes do not change the answer.
    Is(Protocol),
    /// No protocol that is known here; more bytes do not change the answer.
    Opaque,
}

/// How far bytes fit one rule.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fit {
    /// They never will.
    No,
    /// They do so far.
    Maybe,
    /// They do.
    Yes,
}

/// One rule: the protocol, the ports on which it holds (empty: any), its source, and the test.
struct Rule {
    protocol: Protocol,
    ports: &'static [u16],
    /// Where the format is written down; read by the test that wants one for each.
    #[cfg_attr(not(test), expect(dead_code, reason = "documentation that a test insists on"))]
    source: &'static str,
    fits: fn(&[u8]) -> Fit,
}

impl Rule {
    /// A shape that holds on every port.
    const fn any(protocol: Protocol, source: &'static str, fits: fn(&[u8]) -> Fit) -> Self {
        Self { protocol, ports: &[], source, fits }
    }

    /// A shape that is too weak to hold elsewhere.
    const fn on(ports: &'static [u16], protocol: Protocol, source: &'static str, fits: fn(&[u8]) -> Fit) -> Self {
        Self { protocol, ports, source, fits }
    }
}

/// Tells the protocol from everything that each side has sent so far and the port that was dialled.
///
/// The client's bytes go first; where they tell nothing (yet), the server's are asked. Rules are tried in order and
/// one that could still fit holds back those behind it, so an answer never changes when more bytes arrive.
#[must_use]
pub fn sniff(client: &[u8], server: &[u8], port: u16) -> Sniff {
    match (judge(client::RULES, client, port), judge(server::RULES, server, port)) {
        (Sniff::Is(protocol), _) | (_, Sniff::Is(protocol)) => Sniff::Is(protocol),
        (Sniff::Opaque, Sniff::NeedMore) if server.is_empty() => Sniff::Opaque,
        (Sniff::NeedMore, Sniff::Opaque) if client.is_empty() => Sniff::Opaque,
        (Sniff::NeedMore, _) | (_, Sniff::NeedMore) => Sniff::NeedMore,
        (Sniff::Opaque, Sniff::Opaque) => Sniff::Opaque,
    }
}

/// The answer when no more bytes come in time: what could still fit is taken not to.
#[must_use]
pub fn settle(client: &[u8], server: &[u8], port: u16) -> Option<Protocol> {
    let decided = |rules: &'static [Rule], bytes: &[u8]| {
        let mut fitting = rules.iter().filter(|rule| rule.ports.is_empty() || rule.ports.contains(&port));
        fitting.find(|rule| !bytes.is_empty() && (rule.fits)(bytes) == Fit::Yes).map(|rule| rule.protocol)
    };
    decided(client::RULES, client).or_else(|| decided(server::RULES, server))
}

/// Whether what a client has said so far can still become one of these protocols.
#[must_use]
pub fn may_become(protocols: &[Protocol], client: &[u8], port: u16) -> bool {
    let mut fitting = client::RULES
        .iter()
        .filter(|rule| protocols.contains(&rule.protocol) && (rule.ports.is_empty() || rule.ports.contains(&port)));
    client.len() < limits::PEEK_BYTES_MAX && fitting.any(|rule| (rule.fits)(client) == Fit::Maybe)
}

fn judge(rules: &[Rule], bytes: &[u8], port: u16) -> Sniff {
    if bytes.is_empty() {
        return Sniff::NeedMore;
    }
    for rule in rules.iter().filter(|rule| rule.ports.is_empty() || rule.ports.contains(&port)) {
        match (rule.fits)(bytes) {
            Fit::Yes => return Sniff::Is(rule.protocol),
            Fit::Maybe if bytes.len() < limits::PEEK_BYTES_MAX => return Sniff::NeedMore,
            Fit::Maybe | Fit::No => {}
        }
    }
    Sniff::Opaque
}

/// Ports of protocols in which the server talks first, so that waiting for the client's first bytes only costs time.
/// Sources: RFC 959 (21), 4253 (22), 854 (23), 5321 (25), 1939 (110), 3501 (143), 6409 (587); the `MySQL` protocol
/// (3306), NATS (4222), RFC 6143 (5900). SSH clients send their version without waiting, but may wait.
#[must_use]
pub const fn server_speaks_first(port: u16) -> bool {
    matches!(
        port,
        21 | 22 | 23 | 25 | 110 | 119 | 143 | 587 | 873 | 2222 | 2525 | 3306 | 3307 | 4222 | 33060 | 5900..=5909
    )
}

/// The protocol that usually lives on a port, for a session in which nobody said anything that tells.
#[must_use]
pub fn by_port(port: u16) -> Option<Protocol> {
    Some(match port {
        21 => Protocol::Ftp,
        22 | 2222 => Protocol::Ssh,
        23 => Protocol::Telnet,
        25 | 587 | 2525 => Protocol::Smtp,
        53 => Protocol::Dns,
        80 | 8080 => Protocol::Http,
        110 => Protocol::Pop3,
        143 => Protocol::Imap,
        389 => Protocol::Ldap,
        443 | 8443 => Protocol::Tls,
        445 => Protocol::Smb,
        873 => Protocol::Rsync,
        1080 => Protocol::Socks,
        1433 => Protocol::Tds,
        1521 => Protocol::Oracle,
        1883 => Protocol::Mqtt,
        3306 => Protocol::Mysql,
        3389 => Protocol::Rdp,
        4222 => Protocol::Nats,
        5432 => Protocol::Postgres,
        5672 => Protocol::Amqp,
        5900 => Protocol::Vnc,
        6379 => Protocol::Redis,
        7687 => Protocol::Bolt,
        9000 => Protocol::Clickhouse,
        9042 => Protocol::Cassandra,
        9092 => Protocol::Kafka,
        9418 => Protocol::Git,
        11211 => Protocol::Memcached,
        27017 => Protocol::Mongodb,
        _ => return None,
    })
}

/// Fits when the bytes begin with `wanted`.
fn prefix(bytes: &[u8], wanted: &[u8]) -> Fit {
    if bytes.starts_with(wanted) {
        Fit::Yes
    } else if wanted.starts_with(bytes) {
        Fit::Maybe
    } else {
        Fit::No
    }
}

/// Fits when the bytes begin with `wanted`, in either case.
fn prefix_any_case(bytes: &[u8], wanted: &[u8]) -> Fit {
    let shared = bytes.len().min(wanted.len());
    match (bytes.get(..shared), wanted.get(..shared)) {
        (Some(a), Some(b)) if a.eq_ignore_ascii_case(b) => {
            if shared == wanted.len() {
                Fit::Yes
            } else {
                Fit::Maybe
            }
        }
        _ => Fit::No,
    }
}

/// The best fit of several.
fn any(fits: impl IntoIterator<Item = Fit>) -> Fit {
    let mut best = Fit::No;
    for fit in fits {
        match fit {
            Fit::Yes => return Fit::Yes,
            Fit::Maybe => best = Fit::Maybe,
            Fit::No => {}
        }
    }
    best
}

/// Judges a fixed header of `N` bytes once it is there; `begins` may refuse it earlier, byte by byte.
fn header<const N: usize>(bytes: &[u8], begins: &[Option<u8>], test: impl Fn(&[u8; N]) -> bool) -> Fit {
    let fits = bytes.iter().zip(begins).all(|(byte, wanted)| wanted.is_none_or(|wanted| wanted == *byte));
    if !fits {
        return Fit::No;
    }
    match bytes.first_chunk::<N>() {
        Some(head) if test(head) => Fit::Yes,
        Some(_) => Fit::No,
        None => Fit::Maybe,
    }
}

/// Fuzz entry: an answer never changes when more bytes arrive.
///
/// # Panics
/// Where it does; the fuzzer and the tests look for it.
pub fn fuzz_sniff(data: &[u8]) {
    let Some(([high, low], bytes)) = data.split_first_chunk::<2>() else { return };
    let port = u16::from_be_bytes([*high, *low]);
    let half = bytes.get(..bytes.len() / 2).unwrap_or_default();
    for (early, late) in
        [(sniff(half, &[], port), sniff(bytes, &[], port)), (sniff(&[], half, port), sniff(&[], bytes, port))]
    {
        assert!(early == Sniff::NeedMore || early == late, "{early:?} became {late:?}");
    }
}

#[cfg(test)]
mod tests;
