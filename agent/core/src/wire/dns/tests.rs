//! Messages from real programs, broken ones, and every other one.

use std::net::IpAddr;

use hickory_proto::op::Message as Oracle;
use proptest::prelude::*;

use super::{DnsError, Framing, Message, Refusal, first_question, fuzz_dns, refuse};

/// A header with these flags and counts.
fn head(flags: u16, counts: [u16; 4]) -> Vec<u8> {
    let mut bytes = vec![0x12, 0x34];
    bytes.extend(flags.to_be_bytes());
    for count in counts {
        bytes.extend(count.to_be_bytes());
    }
    bytes
}

fn wire_name(name: &str) -> Vec<u8> {
    let mut bytes: Vec<u8> = name
        .split('.')
        .filter(|label| !label.is_empty())
        .flat_map(|label| [&[u8::try_from(label.len()).unwrap()], label.as_bytes()].concat())
        .collect();
    bytes.push(0);
    bytes
}

fn question(name: &str, kind: u16) -> Vec<u8> {
    [wire_name(name), kind.to_be_bytes().to_vec(), vec![0, 1]].concat()
}

fn record(name: &[u8], kind: u16, data: &[u8]) -> Vec<u8> {
    let len = u16::try_from(data.len()).unwrap().to_be_bytes();
    [name, &kind.to_be_bytes(), &[0, 1, 0, 0, 0, 60], &len, data].concat()
}

#[test]
fn addresses_follow_the_aliases_of_the_asked_name_and_no_other() {
    let mut bytes = head(0x8180, [1, 5, 0, 0]);
    bytes.extend(question("API.Example.com", 1));
    // In an order that no server sends: the chain must be found all the same.
    bytes.extend(record(&wire_name("edge.example.net"), 1, &[192, 0, 2, 1]));
    bytes.extend(record(&wire_name("api.example.com"), 5, &wire_name("cdn.example.net")));
    bytes.extend(record(&wire_name("cdn.example.net"), 5, &wire_name("edge.example.net")));
    bytes.extend(record(&wire_name("evil.example"), 1, &[192, 0, 2, 66]));
    bytes.extend(record(&wire_name("edge.example.net"), 5, &wire_name("api.example.com")));
    let message = Message::parse(&bytes).unwrap();
    assert_eq!((message.id, message.name(), message.record()), (0x1234, "api.example.com", "A"));
    let named: IpAddr = "192.0.2.1".parse().unwrap();
    assert_eq!(message.addresses(), [(named, "api.example.com".into())]);
}

#[test]
fn an_error_and_a_query_name_nothing() {
    for flags in [0x8183, 0x0100] {
        let mut bytes = head(flags, [1, 1, 0, 0]);
        bytes.extend(question("a.example", 1));
        bytes.extend(record(&[0xc0, 12], 1, &[192, 0, 2, 1]));
        assert_eq!(Message::parse(&bytes).unwrap().addresses(), []);
    }
}

#[test]
fn data_is_told_as_text() {
    let cases: &[(u16, Vec<u8>, &str)] = &[
        (28, vec![0; 16], "::"),
        (15, [&[0, 10][..], &[0xc0, 12]].concat(), "10 a.example"),
        (33, [&[0, 1, 0, 2, 0x15, 0x38][..], &wire_name("db.example")].concat(), "1 2 5432 db.example"),
        (16, b"\x05a\"b\xff\x00\x00".to_vec(), r#""a\"b\xff\x00" """#),
        (65, [&[0, 1, 0][..], &[0, 1, 0, 3, 2, b'h', b'2']].concat(), "1 . alpn=\\x02h2"),
        (257, b"\x00\x05issueca.example".to_vec(), "0 issue \"ca.example\""),
        (65280, vec![1, 2], "\\# 2 0102"),
    ];
    for (kind, data, text) in cases {
        let mut bytes = head(0x8180, [1, 1, 0, 0]);
        bytes.extend(question("a.example", *kind));
        bytes.extend(record(&[0xc0, 12], *kind, data));
        assert_eq!(Message::parse(&bytes).unwrap().answers[0].text, *text);
    }
}

#[test]
fn unprintable_names_are_escaped() {
    let mut bytes = head(0x0100, [1, 0, 0, 0]);
    bytes.extend(b"\x06A.b\\\x1b\xff\x00\x00\x01\x00\x01");
    assert_eq!(Message::parse(&bytes).unwrap().name(), "a\\.b\\\\\\027\\255");
    assert_eq!(first_question(&bytes).unwrap().1.name, "a\\.b\\\\\\027\\255");
}

#[test]
fn broken_messages_are_malformed() {
    let ends_early = head(0x0100, [1, 0, 0, 0]);
    assert_eq!(Message::parse(&ends_early), Err(DnsError::Truncated));
    assert_eq!(Message::parse(&ends_early[..7]), Err(DnsError::Truncated));
    let counts = [head(0x8180, [1, 0xffff, 0, 0]), question("a", 1)].concat();
    assert_eq!(Message::parse(&counts), Err(DnsError::Truncated));
    for pointer in [12u8, 13, 14, 200] {
        let to_itself = [head(0x0100, [1, 0, 0, 0]), vec![0xc0, pointer, 0, 1, 0, 1]].concat();
        assert_eq!(Message::parse(&to_itself), Err(DnsError::Name), "{pointer}");
    }
    let reserved = [head(0x0100, [1, 0, 0, 0]), vec![0x40, 1, 2, 0, 0, 1, 0, 1]].concat();
    assert_eq!(Message::parse(&reserved), Err(DnsError::Name));
    let long = [head(0x0100, [1, 0, 0, 0]), question(&["abcdefghi"; 26].join("."), 1)].concat();
    assert_eq!(Message::parse(&long), Err(DnsError::Name));
    let mut short_address = head(0x8180, [1, 1, 0, 0]);
    short_address.extend(question("a", 1));
    short_address.extend(record(&[0xc0, 12], 1, &[192, 0, 2]));
    assert_eq!(Message::parse(&short_address), Err(DnsError::Record));
    assert_eq!(first_question(&short_address).unwrap().1.record, "A");
}

#[test]
fn answers_are_bounded() {
    let mut bytes = head(0x8180, [1, 3000, 0, 0]);
    bytes.extend(question("a.example", 1));
    for n in 0..3000u16 {
        let [high, low] = n.to_be_bytes();
        bytes.extend(record(&[0xc0, 12], 1, &[192, 0, high, low]));
    }
    let message = Message::parse(&bytes).unwrap();
    assert_eq!((message.answers.len(), message.answers_total), (crate::limits::DNS_ANSWERS_MAX, 3000));
}

#[test]
fn a_refusal_repeats_the_question_and_edns() {
    let mut query = head(0x0120, [1, 0, 0, 1]);
    query.extend(question("Api.Example", 28));
    query.extend([0, 0, 41, 4, 0xd0, 0, 0, 0, 0, 0, 0]);
    for (refusal, code) in [(Refusal::Servfail, "SERVFAIL"), (Refusal::Refused, "REFUSED")] {
        let bytes = refuse(&query, refusal).unwrap();
        assert_eq!(bytes[12..12 + 13 + 4], query[12..12 + 13 + 4], "the question's letters keep their case");
        let answer = Message::parse(&bytes).unwrap();
        assert_eq!((answer.id, answer.response, answer.edns, answer.code.as_str()), (0x1234, true, true, code));
        let oracle = Oracle::from_vec(&bytes).unwrap();
        assert_eq!(oracle.queries[0].name().to_ascii(), "Api.Example.");
    }
    query[2] |= 0x80;
    assert_eq!(refuse(&query, Refusal::Refused), None, "an answer is not answered");
    assert_eq!(refuse(&query[..9], Refusal::Refused), None);
}

#[test]
fn framed_messages_come_out_whole_however_they_are_cut() {
    let stream = [&[0, 3, 1, 2, 3][..], &[0, 0], &[1, 0], &[9; 256], &[0, 5, 1]].concat();
    for size in 1..stream.len() {
        let mut framing = Framing::default();
        let mut messages = Vec::new();
        for piece in stream.chunks(size) {
            framing.feed(piece, |message| messages.push(message.to_vec()));
        }
        assert_eq!(messages, [vec![1, 2, 3], vec![], vec![9; 256]], "pieces of {size}");
        assert!(framing.is_partial());
    }
}

proptest! {
    #[test]
    fn no_bytes_break_the_parser(data in proptest::collection::vec(any::<u8>(), 0..600)) {
        fuzz_dns(&data);
    }

    #[test]
    fn almost_messages_do_not_break_it(cut in 0usize..80, at in 0usize..80, with in any::<u8>()) {
        let mut bytes = head(0x8180, [1, 2, 0, 1]);
        bytes.extend(question("a.example", 1));
        bytes.extend(record(&[0xc0, 12], 5, &[1, b'b', 0xc0, 12]));
        bytes.extend(record(&[1, b'b', 0xc0, 12], 1, &[192, 0, 2, 1]));
        bytes.extend([0, 0, 41, 4, 0xd0, 1, 0, 0, 0, 0, 0]);
        if let Some(byte) = bytes.get_mut(at) { *byte = with; }
        bytes.truncate(bytes.len() - cut.min(bytes.len()));
        fuzz_dns(&bytes);
        // What another implementation reads, ours reads too, and finds the same question.
        if let Ok(oracle) = Oracle::from_vec(&bytes) {
            let message = Message::parse(&bytes);
            prop_assert!(message.is_ok(), "{:?}", message);
            prop_assert_eq!(message.unwrap().questions.len(), oracle.queries.len());
        }
    }
}
