//! What servers say first: one rule per greeting, each with its source.
//!
//! Owns shapes only. A greeting that several protocols share (`220 …`) is told apart by its words, then by the port.

use super::{Fit, Protocol, Rule, header, prefix, prefix_any_case};

pub(super) const RULES: &[Rule] = &[
    Rule::any(Protocol::Ssh, "RFC 4253 section 4.2", |b| prefix(b, b"SSH-")),
    Rule::any(Protocol::Mysql, "MySQL internals, Protocol::HandshakeV10 and ERR packet", mysql),
    Rule::any(Protocol::Vnc, "RFC 6143 section 7.1.1", |b| prefix(b, b"RFB 0")),
    Rule::any(Protocol::Nats, "NATS client protocol, INFO", |b| prefix(b, b"INFO {")),
    Rule::any(Protocol::Rsync, "rsyncd greeting, csprotocol.txt", |b| prefix(b, b"@RSYNCD:")),
    Rule::any(Protocol::Imap, "RFC 3501 section 7.1 (greeting)", |b| {
        super::any([prefix_any_case(b, b"* OK"), prefix_any_case(b, b"* PREAUTH"), prefix_any_case(b, b"* BYE")])
    }),
    Rule::any(Protocol::Pop3, "RFC 1939 section 4", |b| prefix(b, b"+OK")),
    Rule::on(&[25, 587, 2525], Protocol::Smtp, "RFC 5321 section 4.2 (220, 554)", reply),
    Rule::on(&[21, 2121], Protocol::Ftp, "RFC 959 section 5.4 (120, 220, 421)", reply),
    Rule::any(Protocol::Smtp, "RFC 5321 section 4.2: ESMTP in the greeting", |b| greeting(b, b"SMTP")),
    Rule::any(Protocol::Ftp, "RFC 959 section 5.4: FTP in the greeting", |b| greeting(b, b"FTP")),
    Rule::any(Protocol::Telnet, "RFC 854: IAC and DO, DONT, WILL or WONT", |b| {
        header::<2>(b, &[Some(255)], |[_, verb]| (251..=254).contains(verb))
    }),
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
