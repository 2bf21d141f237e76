//! What clients say first: one rule per form, each with its source.
//!
//! Owns shapes only. Never looks further into a message than the answer needs.

use super::{Fit, Protocol, Rule, any, header, prefix, prefix_any_case};
use crate::wire::cursor::Cursor;

/// In order: exact magic numbers first, then shapes, then what only a port makes likely.
pub(super) const RULES: &[Rule] = &[
    Rule::any(Protocol::Tls, "RFC 8446 section 5.1 (record, handshake, client_hello)", tls),
    Rule::any(Protocol::Ssh, "RFC 4253 section 4.2", |b| prefix(b, b"SSH-")),
    Rule::any(Protocol::H2c, "RFC 9113 section 3.4", |b| prefix(b, b"PRI * HTTP/2.0\r\n")),
    Rule::any(Protocol::Http, "RFC 9112 section 3, methods of the IANA registry", http),
    // Before PostgreSQL, whose version 3 looks like Kafka's Metadata request of that number.
    Rule::on(&[9092, 9093, 9094, 19092, 29092], Protocol::Kafka, "Kafka protocol guide, request header", |b| {
        kafka(b, 0..=92)
    }),
    Rule::any(
        Protocol::Postgres,
        "PostgreSQL 17 manual, section 53.7 (StartupMessage, SSLRequest, GSSENCRequest, CancelRequest)",
        postgres,
    ),
    Rule::any(Protocol::Amqp, "AMQP 0-9-1 section 4.2.2; AMQP 1.0 part 2.2", amqp),
    Rule::any(Protocol::Bolt, "Bolt protocol, handshake: 0x6060B017", |b| prefix(b, &[0x60, 0x60, 0xb0, 0x17])),
    Rule::on(&[1080, 1081, 7890, 9050, 9150], Protocol::Socks, "RFC 1928 section 3; SOCKS 4 memo (Koblas)", socks),
    Rule::any(Protocol::Mongodb, "MongoDB wire protocol, standard message header", mongodb),
    Rule::any(Protocol::Mqtt, "MQTT 3.1.1 section 3.1 (CONNECT), MQTT 5 section 3.1", mqtt),
    Rule::any(Protocol::Tds, "MS-TDS section 2.2.3.1 (packet header), 2.2.6.5 (PRELOGIN)", tds),
    Rule::any(Protocol::Rdp, "MS-RDPBCGR section 2.2.1.1 (TPKT, X.224 connection request)", rdp),
    Rule::any(Protocol::Smb, "MS-SMB2 section 2.1 (direct TCP transport), 2.2.1", smb),
    // A Cassandra frame has no or few flags where SOCKS counts its methods.
    Rule::any(Protocol::Socks, "RFC 1928 section 3; SOCKS 4 memo (Koblas)", socks),
    Rule::any(Protocol::Cassandra, "Cassandra native protocol v4 section 2, v5 section 2.3", cassandra),
    Rule::any(Protocol::Clickhouse, "ClickHouse native protocol, ClientHello", clickhouse),
    Rule::any(Protocol::Oracle, "Oracle Net (TNS) connect packet, as described by Wireshark's dissector", oracle),
    Rule::any(Protocol::Ldap, "RFC 4511 sections 4.2 (bind), 4.5 (search), 4.12 (extended)", ldap),
    Rule::any(Protocol::Git, "gitprotocol-pack, git transport", git),
    Rule::any(Protocol::Rsync, "rsyncd greeting, csprotocol.txt", |b| prefix(b, b"@RSYNCD:")),
    Rule::any(Protocol::Redis, "RESP specification, array of bulk strings", redis_array),
    Rule::on(&[53], Protocol::Dns, "RFC 7766 section 8, RFC 1035 section 4.1.1", |b| dns(b, false)),
    Rule::any(Protocol::Dns, "RFC 7766 section 8, RFC 1035 section 4.1.1 (recursion desired, no answers)", |b| {
        dns(b, true)
    }),
    Rule::any(Protocol::Kafka, "Kafka protocol guide, request header with ApiVersions (key 18)", |b| kafka(b, 18..=18)),
    Rule::any(Protocol::Smtp, "RFC 5321 section 4.1.1.1", |b| {
        any([prefix_any_case(b, b"EHLO "), prefix_any_case(b, b"HELO ")])
    }),
    Rule::on(&[21, 2121], Protocol::Ftp, "RFC 959 section 5.3.1", |b| {
        any([prefix_any_case(b, b"USER "), prefix_any_case(b, b"AUTH "), prefix_any_case(b, b"FEAT\r")])
    }),
    Rule::on(&[110], Protocol::Pop3, "RFC 1939 section 7, RFC 2449 section 5", |b| {
        any([
            prefix_any_case(b, b"USER "),
            prefix_any_case(b, b"CAPA\r"),
            prefix_any_case(b, b"APOP "),
            prefix_any_case(b, b"STLS\r"),
        ])
    }),
    Rule::on(&[6379, 6380], Protocol::Redis, "RESP specification, inline commands", |b| {
        any([prefix_any_case(b, b"PING"), prefix_any_case(b, b"AUTH "), prefix_any_case(b, b"INFO")])
    }),
    Rule::on(&[11211], Protocol::Memcached, "memcached protocol.txt", |b| {
        any([
            prefix(b, b"get "),
            prefix(b, b"gets "),
            prefix(b, b"set "),
            prefix(b, b"add "),
            prefix(b, b"stats"),
            prefix(b, b"version\r"),
            prefix(b, b"mg "),
            prefix(b, b"ms "),
        ])
    }),
];

/// The record header of a handshake and the type of its first message.
fn tls(bytes: &[u8]) -> Fit {
    header::<6>(bytes, &[Some(22), Some(3), None, None, None, Some(1)], |[_, _, minor, high, low, _]| {
        *minor <= 4 && (1..=1 << 14).contains(&u16::from_be_bytes([*high, *low]))
    })
}

/// Methods of the IANA registry that clients use, and the space behind them.
fn http(bytes: &[u8]) -> Fit {
    const METHODS: &[&[u8]] = &[
        b"GET ",
        b"HEAD ",
        b"POST ",
        b"PUT ",
        b"DELETE ",
        b"CONNECT ",
        b"OPTIONS ",
        b"TRACE ",
        b"PATCH ",
        b"QUERY ",
        b"PROPFIND ",
        b"PROPPATCH ",
        b"MKCOL ",
        b"COPY ",
        b"MOVE ",
        b"LOCK ",
        b"UNLOCK ",
        b"REPORT ",
        b"SEARCH ",
    ];
    any(METHODS.iter().map(|method| prefix(bytes, method)))
}

fn postgres(bytes: &[u8]) -> Fit {
    /// The server refuses more.
    const PACKET_BYTES_MAX: u32 = 10_004;
    let known = header::<8>(bytes, &[Some(0), Some(0)], |head| {
        let mut fields = Cursor::new(head);
        let (len, code) = (fields.u32().unwrap_or_default(), fields.u32().unwrap_or_default());
        match code {
            // SSLRequest, GSSENCRequest: they have 8 bytes, and servers take longer ones.
            80_877_103 | 80_877_104 => (8..=PACKET_BYTES_MAX).contains(&len),
            // CancelRequest: 16 bytes until 3.0, a longer key since 3.2.
            80_877_102 => (16..=268).contains(&len),
            // StartupMessage of version 2, which servers took until PostgreSQL 13.
            0x0002_0000 => len == 296,
            // StartupMessage 3.0, 3.2, and the 3.9999 of clients that probe.
            _ => matches!(code, 0x0003_0000 | 0x0003_0002 | 0x0003_270f) && (9..=PACKET_BYTES_MAX).contains(&len),
        }
    });
    // Servers take any 3.x. What tells it from a request of Kafka is what follows: a name, and not the upper byte of a number
    // that counts requests.
    let other = header::<9>(bytes, &[Some(0), Some(0), None, None, Some(0), Some(3)], |head| {
        let len = Cursor::new(head).u32().unwrap_or_default();
        (9..=PACKET_BYTES_MAX).contains(&len) && head.last().is_some_and(|byte| *byte != 0)
    });
    any([known, other])
}

fn amqp(bytes: &[u8]) -> Fit {
    header::<8>(bytes, &[Some(b'A'), Some(b'M'), Some(b'Q'), Some(b'P')], |[.., id, major, _, _]| {
        *id <= 3 && *major <= 1
    })
}

/// Length, request id, response to nothing, and an opcode that a client may begin with.
fn mongodb(bytes: &[u8]) -> Fit {
    /// Drivers say hello first, and hello is short.
    const HELLO_BYTES_MAX: u32 = 65_535;
    let begins = [
        None,
        None,
        None,
        None,
        None,
        None,
        None,
        None,
        Some(0),
        Some(0),
        Some(0),
        Some(0),
        None,
        None,
        Some(0),
        Some(0),
    ];
    let word = |at: usize| bytes.get(at..at + 4).and_then(|word| word.try_into().ok()).map(u32::from_le_bytes);
    header::<16>(bytes, &begins, |_| matches!(word(12), Some(2004 | 2010 | 2011 | 2012 | 2013)))
        // Decided early, so that short messages of others do not wait for 16 bytes.
        .unless(word(0).is_some_and(|len| !(26..=HELLO_BYTES_MAX).contains(&len)))
}

/// CONNECT with a remaining length of one to four bytes, then the protocol's name.
fn mqtt(bytes: &[u8]) -> Fit {
    let Some((first, rest)) = bytes.split_first() else { return Fit::Maybe };
    if *first != 0x10 {
        return Fit::No;
    }
    let continued = rest.iter().take_while(|byte| **byte & 0x80 != 0).count();
    if continued > 3 {
        return Fit::No;
    }
    let Some(rest) = rest.get(continued + 1..) else { return Fit::Maybe };
    any([prefix(rest, b"\x00\x04MQTT"), prefix(rest, b"\x00\x06MQIsdp")])
}

/// PRELOGIN (or a bare LOGIN7) in one or more packets; window is always 0, the packet id begins at 0 or 1.
fn tds(bytes: &[u8]) -> Fit {
    header::<8>(bytes, &[], |[kind, status, high, low, spid_high, spid_low, packet, window]| {
        matches!(kind, 0x12 | 0x10)
            && *status <= 1
            && (16..=4096).contains(&u16::from_be_bytes([*high, *low]))
            && [*spid_high, *spid_low, *window] == [0, 0, 0]
            && *packet <= 1
    })
    .unless(bytes.first().is_some_and(|kind| !matches!(kind, 0x12 | 0x10)))
}

fn rdp(bytes: &[u8]) -> Fit {
    header::<6>(bytes, &[Some(3), Some(0), None, None, None, Some(0xe0)], |[_, _, high, low, indicator, _]| {
        let len = u16::from_be_bytes([*high, *low]);
        (11..=1024).contains(&len) && u16::from(*indicator) + 5 == len
    })
}

fn smb(bytes: &[u8]) -> Fit {
    header::<8>(bytes, &[Some(0), Some(0), None, None, None, Some(b'S'), Some(b'M'), Some(b'B')], |head| {
        matches!(head, [_, _, _, _, 0xff | 0xfe, ..])
    })
}

/// OPTIONS (5) or STARTUP (1) as the first frame, with the length of a hello.
fn cassandra(bytes: &[u8]) -> Fit {
    header::<9>(bytes, &[None, None, None, None, None, Some(0), Some(0)], |[version, flags, _, _, opcode, len @ ..]| {
        (3..=5).contains(version)
            && *flags <= 0x1f
            && matches!((opcode, u32::from_be_bytes(*len)), (5, 0) | (1, 22..=4096))
    })
    .unless(bytes.first().is_some_and(|version| !(3..=5).contains(version)))
}

/// Packet type 0 and the client's name as a string behind its length.
fn clickhouse(bytes: &[u8]) -> Fit {
    match bytes {
        [0] => Fit::Maybe,
        [0, len @ 10..=64, name @ ..] if usize::from(*len) >= b"ClickHouse".len() => prefix(name, b"ClickHouse"),
        _ => Fit::No,
    }
}

fn oracle(bytes: &[u8]) -> Fit {
    header::<8>(
        bytes,
        &[None, None, Some(0), Some(0), Some(1), None, Some(0), Some(0)],
        |[high, low, _, _, _, reserved, ..]| (58..=4096).contains(&u16::from_be_bytes([*high, *low])) && *reserved <= 8,
    )
}

/// SEQUENCE, a short message id, then a bind, search, extended or unbind request.
fn ldap(bytes: &[u8]) -> Fit {
    let mut fields = Cursor::new(bytes);
    let mut judge = || -> Option<bool> {
        if fields.u8()? != 0x30 {
            return Some(false);
        }
        match fields.u8()? {
            short if short < 0x80 => {}
            long @ 0x81..=0x84 => {
                fields.take(usize::from(long & 0x7f))?;
            }
            _ => return Some(false),
        }
        if fields.u8()? != 0x02 {
            return Some(false);
        }
        let id_len = fields.u8()?;
        if !(1..=4).contains(&id_len) {
            return Some(false);
        }
        fields.take(usize::from(id_len))?;
        Some(matches!(fields.u8()?, 0x60 | 0x63 | 0x77))
    };
    Fit::of(judge())
}

/// A pkt-line with one of the services.
fn git(bytes: &[u8]) -> Fit {
    let (len, rest) = bytes.split_at(bytes.len().min(4));
    if !len.iter().all(u8::is_ascii_hexdigit) {
        return Fit::No;
    }
    any([prefix(rest, b"git-upload-pack "), prefix(rest, b"git-receive-pack "), prefix(rest, b"git-upload-archive ")])
}

/// `*N\r\n$L\r\n` and the first letter of a command.
fn redis_array(bytes: &[u8]) -> Fit {
    fn number(bytes: &[u8], sign: u8) -> Result<&[u8], Fit> {
        let Some((first, rest)) = bytes.split_first() else { return Err(Fit::Maybe) };
        let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        if *first != sign || digits > 7 {
            return Err(Fit::No);
        }
        let Some(end) = rest.get(digits..) else { return Err(Fit::Maybe) };
        match end {
            [] => Err(Fit::Maybe),
            [b'\r'] if digits > 0 => Err(Fit::Maybe),
            [b'\r', b'\n', rest @ ..] if digits > 0 => Ok(rest),
            _ => Err(Fit::No),
        }
    }
    match number(bytes, b'*').and_then(|rest| number(rest, b'$')) {
        Ok(rest) => rest.first().map_or(Fit::Maybe, |byte| if byte.is_ascii_alphabetic() { Fit::Yes } else { Fit::No }),
        Err(fit) => fit,
    }
}

/// A framed query: one question, no answers. Off port 53 its flags and name must look right too.
fn dns(bytes: &[u8], strict: bool) -> Fit {
    let mut fields = Cursor::new(bytes);
    let mut judge = || -> Option<bool> {
        let len = fields.u16()?;
        if !(17..=1024).contains(&len) {
            return Some(false);
        }
        fields.u16()?;
        let flags = fields.u16()?;
        // Query, opcode 0, not authoritative, not truncated, no recursion available, no code.
        if flags & 0xfe8f != 0 || (strict && flags & 0x0100 == 0) {
            return Some(false);
        }
        if fields.array::<6>()? != [0, 1, 0, 0, 0, 0] {
            return Some(false);
        }
        if fields.u16()? > 2 {
            return Some(false);
        }
        let label = fields.u8()?;
        Some(label <= 63)
    };
    Fit::of(judge())
}

/// Size, api key, version, correlation id and a client id (or none) that fits into the size.
fn kafka(bytes: &[u8], keys: std::ops::RangeInclusive<u16>) -> Fit {
    let mut fields = Cursor::new(bytes);
    let mut judge = || -> Option<bool> {
        let size = fields.u32()?;
        if !(10..=1 << 20).contains(&size) {
            return Some(false);
        }
        let (key, version) = (fields.u16()?, fields.u16()?);
        if !keys.contains(&key) || version > 20 {
            return Some(false);
        }
        fields.u32()?;
        let client_id = fields.u16()?;
        Some(client_id == 0xffff || u32::from(client_id) + 10 <= size.min(266))
    };
    Fit::of(judge())
}

/// SOCKS 5: as many methods as announced, each assigned. SOCKS 4: command, port, address, user id and its end.
fn socks(bytes: &[u8]) -> Fit {
    match bytes {
        [4 | 5] => Fit::Maybe,
        [5, count @ 1..=9, methods @ ..] => {
            let assigned = |method: &u8| *method <= 9 || *method >= 0x80;
            let count = usize::from(*count);
            if !methods.iter().take(count).all(assigned) {
                Fit::No
            } else if methods.len() < count {
                Fit::Maybe
            } else {
                Fit::Yes
            }
        }
        [4, 1 | 2, rest @ ..] => {
            let user = rest.iter().skip(6).take(64);
            if user.clone().any(|byte| *byte == 0) {
                Fit::Yes
            } else if rest.len() < 70 && user.clone().all(u8::is_ascii_graphic) {
                Fit::Maybe
            } else {
                Fit::No
            }
        }
        _ => Fit::No,
    }
}

impl Fit {
    /// The answer of a test that runs out of bytes with `None`.
    fn of(answer: Option<bool>) -> Self {
        match answer {
            Some(true) => Self::Yes,
            Some(false) => Self::No,
            None => Self::Maybe,
        }
    }

    fn unless(self, refused: bool) -> Self {
        if refused { Self::No } else { self }
    }
}
