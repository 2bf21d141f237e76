//! The corpus: what real programs sent on loopback (tests/corpus/capture.py), replayed and bent.

use std::path::{Path, PathBuf};

use crate::mask::stream::{Redactor, fuzz_stream};
use crate::mask::{DigestKey, argv};
use crate::session::Side;
use crate::sniff::{Protocol, Sniff, fuzz_sniff, sniff};
use crate::wire::certificate::fuzz_certificate;
use crate::wire::dns::{self, Message, Refusal, refuse};
use crate::wire::http::{fuzz_http_conversation, fuzz_http_head};
use crate::wire::postgres::facts::fuzz_postgres_statement;
use crate::wire::postgres::{fuzz_postgres_conversation, fuzz_postgres_frames};
use crate::wire::ssh::known_hosts::fuzz_known_hosts;
use crate::wire::ssh::sftp::fuzz_sftp;
use crate::wire::tls::{ClientHello, Hello, client_hello, fuzz_client_hello};

/// The files of one folder by name; an empty one would test nothing.
fn corpus(folder: &str) -> Vec<(String, Vec<u8>)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/corpus").join(folder);
    let mut files: Vec<PathBuf> = std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty(), "{} is empty", path.display());
    let name = |path: &Path| path.file_name().unwrap().to_string_lossy().into_owned();
    files.iter().map(|path| (name(path), std::fs::read(path).unwrap())).collect()
}

/// Calls `entry` with `bytes` and with many bent forms of them, the same ones in every run.
fn bend(bytes: &[u8], entry: impl Fn(&[u8])) {
    let mut state = bytes.iter().fold(0x9e37_79b9_7f4a_7c15_u64, |sum, byte| sum.rotate_left(5) ^ u64::from(*byte));
    // xorshift64 (Marsaglia 2003): good enough to choose places, and needs no dependency.
    let mut next = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state >> 16).unwrap() % below.max(1)
    };
    entry(bytes);
    for _ in 0..120 {
        let mut bent = bytes.to_vec();
        for _ in 0..=next(4) {
            let (at, other) = (next(bent.len()), next(bent.len()));
            match next(5) {
                _ if bent.is_empty() => {}
                0 => bent[at] = u8::try_from(next(256)).unwrap(),
                1 => bent[at] ^= 1 << next(8),
                2 => bent.truncate(at),
                3 => drop(bent.drain(at.min(other)..at.max(other))),
                _ => {
                    let piece = bent[at.min(other)..at.max(other)].to_vec();
                    bent.splice(at..at, piece);
                }
            }
        }
        entry(&bent);
    }
}

/// Every way of reading a stream, for each choice of protocol and side.
fn bend_stream(bytes: &[u8]) {
    for choice in 0..16u8 {
        bend(&[&[choice, 3][..], bytes].concat(), fuzz_stream);
    }
}

#[test]
fn certificates_are_read_or_refused_however_they_are_bent() {
    for (_, bytes) in corpus("certificate") {
        bend(&bytes, fuzz_certificate);
    }
}

#[test]
fn known_hosts_are_read_however_they_are_bent() {
    for (_, bytes) in corpus("known_hosts") {
        bend(&bytes, fuzz_known_hosts);
    }
}

#[test]
fn sessions_of_a_real_sftp_are_told_the_same_however_they_are_bent_and_cut() {
    for (_, bytes) in corpus("sftp") {
        for piece in [0, 6, 255] {
            bend(&[&[piece], &bytes[..]].concat(), fuzz_sftp);
        }
    }
}

#[test]
fn hellos_of_real_clients_are_read_at_every_cut() {
    for (name, bytes) in corpus("tls") {
        assert_eq!(sniff(&bytes, b"", 8443), Sniff::Is(Protocol::Tls), "{name}");
        let Hello::Is(hello) = client_hello(&bytes) else { panic!("{name}: {:?}", client_hello(&bytes)) };
        let ClientHello { sni, sni_refused, alpn, versions, groups, ech, too_large } = hello;
        assert!(!sni_refused && !ech && !too_large, "{name}");
        assert!(groups.contains(&0x0017), "every client offers P-256: {name}: {groups:04x?}");
        let expected = match name.as_str() {
            // Java sends no name that has no dot; the others know no such rule.
            "openssl-no-sni.bin" | "curl-address.bin" | "java.bin" => None,
            "wget-gnutls.bin" | "uv-rustls.bin" => Some("localhost"),
            _ => Some("api.example.com"),
        };
        assert_eq!(sni.as_deref(), expected, "{name}");
        let protocols: &[&str] = match name.as_str() {
            "openssl-alpn.bin" | "curl.bin" | "curl-address.bin" | "uv-rustls.bin" => &["h2", "http/1.1"],
            "curl-http11.bin" | "python-alpn.bin" => &["http/1.1"],
            "node.bin" => &["h2"],
            _ => &[],
        };
        assert_eq!(alpn, protocols, "{name}");
        assert_eq!(versions.contains(&0x0304), name != "openssl-tls12.bin", "{name}: {versions:04x?}");
        for cut in 0..bytes.len() {
            assert_eq!(client_hello(&bytes[..cut]), Hello::NeedMore, "{name} cut at {cut}");
        }
        bend(&bytes, fuzz_client_hello);
        bend(&[&[1, 187], &bytes[..]].concat(), fuzz_sniff);
    }
}

#[test]
fn messages_of_real_resolvers_are_read() {
    let files = corpus("dns");
    for (name, bytes) in &files {
        let message = Message::parse(bytes).unwrap_or_else(|error| panic!("{name}: {error}"));
        let (asked, kind) = name.split('.').next().zip(name.rsplit('-').next()).unwrap();
        assert!(message.name().starts_with(asked), "{name}: {}", message.name());
        assert_eq!(kind.split('.').next(), Some(message.record()), "{name}");
        assert_eq!(message.response, name.contains(".reply."), "{name}");
        if !message.response {
            let refusal = Message::parse(&refuse(bytes, Refusal::Servfail).unwrap()).unwrap();
            assert_eq!((refusal.id, refusal.code.as_str(), refusal.edns), (message.id, "SERVFAIL", message.edns));
            let framed = [&u16::try_from(bytes.len()).unwrap().to_be_bytes(), &bytes[..]].concat();
            assert_eq!(sniff(&framed, b"", 53), Sniff::Is(Protocol::Dns), "{name}");
        }
        bend(bytes, dns::fuzz_dns);
    }
    let reply = |wanted: &str| Message::parse(&files.iter().find(|(name, _)| name == wanted).unwrap().1).unwrap();
    let glibc = reply("glibc.example.com-A.reply.bin");
    let found: Vec<String> = glibc.addresses().iter().map(|(address, name)| format!("{name}={address}")).collect();
    assert_eq!(found, ["glibc.example.com=192.0.2.7", "glibc.example.com=192.0.2.8"]);
    assert_eq!(reply("glibc.example.com-AAAA.reply.bin").answers[0].text, "2001:db8::7");
    assert_eq!(reply("missing.example.com-A.reply.bin").code, "NXDOMAIN");
    assert_eq!(reply("txt.example.com-TXT.reply.bin").answers[0].text, "\"v=spf1 -all\"");
    assert_eq!(reply("_pg._tcp.example.com-SRV.reply.bin").answers[0].text, "1 2 5432 db.example");
}

/// What is shown of a stream, and how many values were hidden.
fn shown(protocol: Protocol, side: Side, bytes: &[u8]) -> (String, u64) {
    let mut redactor = Redactor::new(Some(protocol), side, &DigestKey::new(&[1; 32]));
    let shown: Vec<u8> = bytes.chunks(7).flat_map(|piece| redactor.feed(piece).into_owned()).collect();
    redactor.finish();
    assert_eq!(shown.len(), bytes.len());
    (String::from_utf8_lossy(&shown).into_owned(), redactor.count())
}

#[test]
fn requests_of_real_http_clients_lose_their_credentials_and_nothing_else() {
    for (name, bytes) in corpus("http") {
        let side = if name.starts_with("server") { Side::Server } else { Side::Client };
        let protocol = if name.contains("h2c") { Protocol::H2c } else { Protocol::Http };
        if side == Side::Client {
            assert_eq!(sniff(&bytes, b"", 8000), Sniff::Is(protocol), "{name}");
        }
        let (text, count) = shown(protocol, side, &bytes);
        assert!(!text.contains("made-up") && !text.contains("bWU6bWFkZS11cC1wdw"), "{name}: {text}");
        let expected = match name.as_str() {
            "curl-bearer-post.bin" | "curl-cookie.bin" | "node-fetch.bin" | "python-urllib.bin" => 2,
            // The port in the request line is hidden too, and told.
            "curl-proxy.bin" => 3,
            _ => 1,
        };
        assert_eq!(count, expected, "{name}: {text}");
        let unchanged = bytes.iter().zip(text.as_bytes()).filter(|(from, to)| from == to).count();
        assert!(unchanged * 3 > bytes.len(), "{name} keeps {unchanged} of {} bytes", bytes.len());
        bend_stream(&bytes);
        bend(&bytes, fuzz_http_head);
        // All of it is the client's, or its half is the server's.
        for half in [usize::MAX, bytes.len() / 2] {
            let client = u16::try_from(half.min(0xffff)).unwrap().to_be_bytes();
            bend(&[&[3][..], &client, &bytes].concat(), fuzz_http_conversation);
        }
    }
}

#[test]
fn log_ins_of_a_real_psql_lose_their_secrets_and_nothing_else() {
    for (name, bytes) in corpus("pg") {
        assert_eq!(sniff(&bytes, b"", 5432), Sniff::Is(Protocol::Postgres), "{name}");
        let (text, count) = shown(Protocol::Postgres, Side::Client, &bytes);
        assert!(!text.contains("made-up") && !text.contains("SCRAM") && !text.contains("p="), "{name}: {text}");
        assert!(text.contains("user\0me\0") && text.contains("select 41 + 1"), "{name}: {text}");
        assert_eq!(count, if name.contains("scram") { 2 } else { 1 }, "{name}: {text}");
        bend_stream(&bytes);
        bend(&[&[0x15, 0x38], &bytes[..]].concat(), fuzz_sniff);
    }
}

#[test]
fn statements_are_told_consistently_however_they_are_bent() {
    for (_, bytes) in corpus("statement") {
        for text in bytes.split(|byte| *byte == b'\n').filter(|text| !text.starts_with(b"#=")) {
            bend(&[&[0][..], text].concat(), fuzz_postgres_statement);
        }
    }
}

#[test]
fn sessions_of_real_postgresql_clients_are_told_the_same_however_they_are_bent_and_cut() {
    // What is large in the largest is one value, and slow to print.
    for (_, bytes) in corpus("postgres").into_iter().filter(|(_, bytes)| bytes.len() < 50_000) {
        for cut in [0, 6] {
            bend(&[&[cut], &bytes[..]].concat(), fuzz_postgres_conversation);
        }
        // Behind the first turn's own three bytes, a row of frames begins.
        bend(&bytes[3..], fuzz_postgres_frames);
    }
    for (_, bytes) in corpus("pg") {
        bend(&bytes, fuzz_postgres_frames);
    }
}

#[test]
fn no_bent_file_breaks_another_parser() {
    for folder in ["tls", "dns", "http", "pg"] {
        for (_, bytes) in corpus(folder) {
            let entries = [
                fuzz_client_hello,
                dns::fuzz_dns,
                fuzz_sniff,
                argv::fuzz_argv,
                fuzz_http_conversation,
                fuzz_http_head,
                fuzz_postgres_conversation,
                fuzz_postgres_frames,
                fuzz_sftp,
            ];
            for entry in entries {
                bend(&bytes, entry);
            }
        }
    }
}
