//! One first message per rule, and the promise that answers never change.

use proptest::prelude::*;

use super::{
    Fit, Protocol, Sniff, by_port, client, fuzz_sniff, may_become, server, server_speaks_first, settle, sniff,
};

const CLIENTS: &[(&[u8], u16, Protocol)] = &[
    (b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03", 443, Protocol::Tls),
    (b"SSH-2.0-OpenSSH_9.2\r\n", 22, Protocol::Ssh),
    (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 50051, Protocol::H2c),
    (b"POST /v1/chat/completions HTTP/1.1\r\n", 8000, Protocol::Http),
    (b"CONNECT api.openai.com:443 HTTP/1.1\r\n", 3128, Protocol::Http),
    (b"\0\0\0\x08\x04\xd2\x16\x2f", 5432, Protocol::Postgres),
    (b"\0\0\0\x08\x04\xd2\x16\x30", 6432, Protocol::Postgres),
    (b"\0\0\0\x10\x04\xd2\x16\x2e\0\0\0\x01\0\0\0\x02", 5432, Protocol::Postgres),
    (b"\0\0\0\x24\0\x03\0\0user\0me\0database\0d\0\0", 5433, Protocol::Postgres),
    (b"AMQP\0\0\x09\x01", 5672, Protocol::Amqp),
    (b"\x60\x60\xb0\x17\0\0\x04\x04", 7687, Protocol::Bolt),
    (b"\x3a\0\0\0\x01\0\0\0\0\0\0\0\xd4\x07\0\0\0\0\0\0admin.$cmd\0", 27017, Protocol::Mongodb),
    (b"\x10\x10\0\x04MQTT\x04\x02\0\x3c\0\x04test", 1883, Protocol::Mqtt),
    (b"\x12\x01\0\x2f\0\0\x01\0\0\0\x1a\0\x06", 1433, Protocol::Tds),
    (b"\x03\0\0\x13\x0e\xe0\0\0\0\0\0\x01\0\x08\0\x03\0\0\0", 3389, Protocol::Rdp),
    (b"\0\0\0\x45\xffSMBr\0", 445, Protocol::Smb),
    (b"\x04\0\0\0\x05\0\0\0\0", 9042, Protocol::Cassandra),
    (b"\0\x11ClickHouse client\x15\x08", 9000, Protocol::Clickhouse),
    (b"\0\xc8\0\0\x01\0\0\0\x01\x3e\x01\x2c", 1521, Protocol::Oracle),
    (b"\x30\x0c\x02\x01\x01\x60\x07\x02\x01\x03\x04\0\x80\0", 389, Protocol::Ldap),
    (b"003fgit-upload-pack /project.git\0host=h\0", 9418, Protocol::Git),
    (b"@RSYNCD: 31.0\n", 873, Protocol::Rsync),
    (b"*1\r\n$4\r\nPING\r\n", 6379, Protocol::Redis),
    (b"\0\x1d\xab\xcd\x01\0\0\x01\0\0\0\0\0\0\x07example\x03com\0\0\x01\0\x01", 53, Protocol::Dns),
    (b"\0\x1d\xab\xcd\x01\0\0\x01\0\0\0\0\0\0\x07example\x03com\0\0\x01\0\x01", 5353, Protocol::Dns),
    (b"\0\0\0\x1c\0\x12\0\x03\0\0\0\x01\0\x06client\0", 12345, Protocol::Kafka),
    (b"\0\0\0\x1c\0\x03\0\x09\0\0\0\x01\0\x06client\0", 9092, Protocol::Kafka),
    (b"\x05\x02\0\x02", 1080, Protocol::Socks),
    (b"\x04\x01\0\x50\x7f\0\0\x01me\0", 1080, Protocol::Socks),
    (b"ehlo me\r\n", 1025, Protocol::Smtp),
    (b"USER me\r\n", 21, Protocol::Ftp),
    (b"USER me\r\n", 110, Protocol::Pop3),
    (b"PING\r\n", 6379, Protocol::Redis),
    (b"get key\r\n", 11211, Protocol::Memcached),
];

const SERVERS: &[(&[u8], u16, Protocol)] = &[
    (b"SSH-2.0-OpenSSH_9.2\r\n", 22, Protocol::Ssh),
    (b"\x4a\0\0\0\x0a8.0.36\0\x08\0\0\0", 3306, Protocol::Mysql),
    (b"\x45\0\0\0\xff\x6a\x04Host is not allowed", 3306, Protocol::Mysql),
    (b"RFB 003.008\n", 5900, Protocol::Vnc),
    (b"INFO {\"server_id\":", 4222, Protocol::Nats),
    (b"@RSYNCD: 31.0\n", 873, Protocol::Rsync),
    (b"* OK [CAPABILITY IMAP4rev1] ready\r\n", 143, Protocol::Imap),
    (b"+OK ready\r\n", 110, Protocol::Pop3),
    (b"220 mail ready\r\n", 25, Protocol::Smtp),
    (b"220 (vsFTPd 3.0.3)\r\n", 2121, Protocol::Ftp),
    (b"220 mail.example ESMTP Postfix\r\n", 1025, Protocol::Smtp),
    (b"220 ProFTPD Server\r\n", 4021, Protocol::Ftp),
    (b"\xff\xfd\x18\xff\xfd\x20", 23, Protocol::Telnet),
];

#[test]
fn first_messages_are_told() {
    for (bytes, port, protocol) in CLIENTS {
        assert_eq!(sniff(bytes, b"", *port), Sniff::Is(*protocol), "{}", bytes.escape_ascii());
    }
    for (bytes, port, protocol) in SERVERS {
        assert_eq!(sniff(b"", bytes, *port), Sniff::Is(*protocol), "{}", bytes.escape_ascii());
    }
}

#[test]
fn every_rule_has_a_source_and_an_example_that_it_alone_decides() {
    for (rules, examples) in [(client::RULES, CLIENTS), (server::RULES, SERVERS)] {
        for rule in rules {
            assert!(rule.source.len() > 8, "{:?}", rule.protocol);
            let fits = |(bytes, port, protocol): &&(&[u8], u16, Protocol)| {
                *protocol == rule.protocol
                    && (rule.ports.is_empty() || rule.ports.contains(port))
                    && (rule.fits)(bytes) == Fit::Yes
            };
            assert!(examples.iter().any(|example| fits(&example)), "no example for {:?}", rule.protocol);
        }
    }
}

#[test]
fn every_protocol_is_told_by_a_rule_and_its_name_is_its_own() {
    for protocol in Protocol::ALL {
        let ruled = client::RULES.iter().chain(server::RULES).any(|rule| rule.protocol == *protocol);
        assert!(ruled, "{}", protocol.as_str());
        assert_eq!(Protocol::ALL.iter().filter(|other| other.as_str() == protocol.as_str()).count(), 1);
    }
}

#[test]
fn unknown_bytes_are_opaque_and_none_are_not_yet_known() {
    assert_eq!(sniff(b"", b"", 80), Sniff::NeedMore);
    for bytes in [&b"hello\n"[..], b"\x7fELF", b"\0\0\0\0\0\0\0\0", b"{\"jsonrpc\":\"2.0\"}", b"GETX /"] {
        assert_eq!(sniff(bytes, b"", 4444), Sniff::Opaque, "{}", bytes.escape_ascii());
    }
    assert_eq!(sniff(b"PING\r\n", b"", 4444), Sniff::Opaque, "inline redis needs its port");
    assert_eq!(sniff(b"GE", b"", 80), Sniff::NeedMore);
    assert_eq!(sniff(b"x", b"220 m ESMTP\r\n", 99), Sniff::Is(Protocol::Smtp), "the server's greeting tells");
}

#[test]
fn a_short_message_is_settled_when_no_more_comes() {
    // A SOCKS client on an unusual port waits for its answer, and MongoDB could still begin like this.
    assert_eq!(sniff(b"\x05\x01\0", b"", 4444), Sniff::NeedMore);
    assert_eq!(settle(b"\x05\x01\0", b"", 4444), Some(Protocol::Socks));
    assert_eq!(settle(b"GE", b"", 80), None);
    assert_eq!(settle(b"", b"", 80), None);
    assert_eq!(settle(b"", b"+OK\r\n", 99), Some(Protocol::Pop3));
}

#[test]
fn ports_of_servers_that_greet() {
    for port in [21, 22, 25, 110, 143, 587, 3306] {
        assert!(server_speaks_first(port) && by_port(port).is_some(), "{port}");
    }
    for port in [80, 443, 5432, 6379, 27017, 9092] {
        assert!(!server_speaks_first(port) && by_port(port).is_some(), "{port}");
    }
}

#[test]
fn an_answer_holds_at_every_cut() {
    for (bytes, port, protocol) in CLIENTS.iter().chain(SERVERS) {
        for cut in 1..bytes.len() {
            for early in [sniff(&bytes[..cut], b"", *port), sniff(b"", &bytes[..cut], *port)] {
                let late = [sniff(bytes, b"", *port), sniff(b"", bytes, *port)];
                assert!(early == Sniff::NeedMore || late.contains(&early), "{protocol:?} cut at {cut}: {early:?}");
            }
        }
    }
}

proptest! {
    #[test]
    fn no_answer_ever_changes(data in proptest::collection::vec(any::<u8>(), 0..64)) {
        fuzz_sniff(&data);
    }

    #[test]
    fn nor_with_a_changed_byte(which in 0..CLIENTS.len(), at in 0usize..40, with in any::<u8>()) {
        let (bytes, port, _) = CLIENTS[which];
        let mut data = [&port.to_be_bytes(), bytes].concat();
        let at = 2 + at % (data.len() - 2);
        data[at] = with;
        fuzz_sniff(&data);
        for cut in 2..data.len() {
            fuzz_sniff(&data[..cut]);
        }
    }
}

#[test]
fn what_can_still_become_a_protocol_is_told_from_what_cannot() {
    let decoded = [Protocol::Postgres, Protocol::Http];
    for bytes in [&b"\0"[..], b"\0\0\0", b"\0\0\0\x29\0\x03", b"GE", b"P"] {
        assert!(may_become(&decoded, bytes, 4000), "{bytes:?}");
    }
    for bytes in [&b"ab"[..], b"\x16", b"GET / HTTP/1.1\r\n", b"\0\x01", b"get"] {
        assert!(!may_become(&decoded, bytes, 4000), "{bytes:?}");
    }
}
