//! What servers say first: one rule per greeting, each with its source.
//!
//! Owns shapes only. A greeting that several protocols share (`220 …`) is told apart by its words, then by the port.

use super::{Fit, Protocol, Rule, header, prefix, prefix_any_case};

pub(super) const RULES: &[Rule] = &[
    Rule {
        protocol: Protocol::Ssh,
        ports: &[],
        source: "RFC 4253 section 4.2",
        fits: |b| prefix(b, b"SSH-"),
    },
    Rule {
        protocol: Protocol::Mysql,
        ports: &[],
        source: "MySQL internals, Protocol::HandshakeV10 and ERR packet",
        fits: mysql,
    },
    Rule {
        protocol: Protocol::Vnc,
        ports: &[],
        source: "RFC 6143 section 7.1.1",
        fits: |b| prefix(b, b"RFB 0"),
    },
    Rule {
        protocol: Protocol::Nats,
        ports: &[],
        source: "NATS client protocol, INFO",
        fits: |b| prefix(b, b"INFO {"),
    },
    Rule {
        protocol: Protocol::Rsync,
        ports: &[],
        source: "rsyncd greeting, csprotocol.txt",
        fits: |b| prefix(b, b"@RSYNCD:"),
    },
    Rule {
        protocol: Protocol::Imap,
        ports: &[],
        source: "RFC 3501 section 7.1 (greeting)",
        fits: |b| {
            super::any([
                prefix_any_case(b, b"* OK"),
                prefix_any_case(b, b"* PREAUTH"),
                prefix_any_case(b, b"* BYE"),
            ])
        },
    },
    Rule { protocol: Protocol::Pop3, ports: &[], source: "RFC 1939 section 4", fits: |b| prefix(b, b"+OK") },
    Rule {
        protocol: Protocol::Smtp,
        ports: &[25, 587, 2525],
        source: "RFC 5321 section 4.2 (220, 554)",
        fits: reply,
    },
    Rule {
        protocol: Protocol::Ftp,
        ports: &[21, 2121],
        source: "RFC 959 section 5.4 (120, 220, 421)",
        fits: reply,
    },
    Rule {
        protocol: Protocol::Smtp,
        ports: &[],
        source: "RFC 5321 section 4.2: ESMTP in the greeting",
        fits: |b| greeting(b, b"SMTP"),
    },
    Rule {
        protocol: Protocol::Ftp,
        ports: &[],
        source: "RFC 959 section 5.4: FTP in the greeting",
        fits: |b| greeting(b, b"FTP"),
    },
    Rule {
        protocol: Protocol::Telnet,
        ports: &[],
        source: "RFC 854: IAC and DO, DONT, WILL or WONT",
        fits: |b| header::<2>(b, &[Some(255)], |[_, verb]| (251..=254).contains(verb)),
    },
];

/// Packet 0 with protocol version 10 and a version text, or the error of a server that refuses this host.
fn mysql(bytes: &[u8]) -> Fit {
    header::<6>(bytes, &[None, None, Some(0), Some(0)], |[low, high, _, _, kind, next]| {
        let len = u16::from_le_bytes([*low, *high]);
        match kind {
            10 => (32..=512).contains(&len) && next.is_ascii_digit(),
            // ERR before the hand-shake: code 1040 (too many connections) or 1129, 1130 (this host).
            0xff => (7..=512).contains(&len) && matches!(next, 0x10 | 0x69 | 0x6a),
            _ => false,
        }
    })
}

/// A three-digit code of class 1, 2, 4 or 5 with a space or a hyphen.
fn reply(bytes: &[u8]) -> Fit {
    header::<4>(bytes, &[], |[class, tens, ones, mark]| {
        matches!(class, b'1' | b'2' | b'4' | b'5')
            && tens.is_ascii_digit()
            && ones.is_ascii_digit()
            && matches!(mark, b' ' | b'-')
    })
    .and_begins(bytes, |first| matches!(first, b'1' | b'2' | b'4' | b'5'))
}

/// `220` and `word` somewhere in the greeting's first line.
fn greeting(bytes: &[u8], word: &[u8]) -> Fit {
    /// Greetings are one line; RFC 5321 section 4.5.3.1.5 allows 512 bytes.
    const LINE_BYTES_MAX: usize = 512;
    match prefix(bytes, b"220") {
        Fit::Yes => {}
        other => return other,
    }
    let line = bytes.get(..LINE_BYTES_MAX).unwrap_or(bytes);
    let end = line.iter().position(|byte| *byte == b'\n');
    let text = line.get(..end.unwrap_or(line.len())).unwrap_or_default();
    if text.windows(word.len()).any(|window| window.eq_ignore_ascii_case(word)) {
        Fit::Yes
    } else if end.is_some() || line.len() == LINE_BYTES_MAX {
        Fit::No
    } else {
        Fit::Maybe
    }
}

impl Fit {
    fn and_begins(self, bytes: &[u8], first: impl Fn(&u8) -> bool) -> Self {
        if bytes.first().is_some_and(first) { self } else { Self::No }
    }
}
