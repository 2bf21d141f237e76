//! Hellos built by hand; those of real programs are in the corpus.

use proptest::prelude::*;

use super::{ClientHello, Hello, Unopened, client_hello, fuzz_client_hello, host_name};
use crate::limits;

fn vec16(body: &[u8]) -> Vec<u8> {
    [&u16::try_from(body.len()).unwrap().to_be_bytes(), body].concat()
}

fn extension(kind: u16, body: &[u8]) -> Vec<u8> {
    [kind.to_be_bytes().to_vec(), vec16(body)].concat()
}

fn sni(name: &[u8]) -> Vec<u8> {
    extension(0, &vec16(&[vec![0], vec16(name)].concat()))
}

fn message(extensions: &[u8]) -> Vec<u8> {
    let body = [&[3, 3][..], &[7; 32], &[0], &[0, 2, 0x13, 1], &[1, 0], &vec16(extensions)].concat();
    [&[1, 0], &u16::try_from(body.len()).unwrap().to_be_bytes()[..], &body].concat()
}

/// The message in records of `size` bytes.
fn records(message: &[u8], size: usize) -> Vec<u8> {
    message.chunks(size).flat_map(|piece| [vec![22, 3, 1], vec16(piece)].concat()).collect()
}

fn hello(extensions: &[u8]) -> Hello {
    client_hello(&records(&message(extensions), 16_384))
}

#[test]
fn a_hello_is_read_however_it_is_cut_into_records_and_packets() {
    let grease = 0x3a3au16.to_be_bytes();
    let alpn = [&[2][..], &grease, &[2], b"h2", &[8], b"http/1.1"].concat();
    let versions = [&[6][..], &grease, &[3, 4, 3, 3]].concat();
    let message = message(
        &[
            extension(0x0a0a, &[]),
            sni(b"API.Example.com."),
            extension(16, &vec16(&alpn)),
            extension(43, &versions),
            extension(10, &vec16(&[&grease[..], &[0x11, 0xec, 0, 29]].concat())),
            extension(0xfe0d, &[0; 40]),
        ]
        .concat(),
    );
    let expected = Hello::Is(ClientHello {
        sni: Some("api.example.com".into()),
        alpn: vec!["h2".into(), "http/1.1".into()],
        versions: vec![0x0304, 0x0303],
        groups: vec![0x11ec, 29],
        ech: true,
        ..ClientHello::default()
    });
    for size in 1..message.len() {
        let bytes = records(&message, size);
        assert_eq!(client_hello(&bytes), expected, "records of {size}");
        for cut in 0..bytes.len() {
            assert_eq!(client_hello(&bytes[..cut]), Hello::NeedMore, "records of {size} cut at {cut}");
        }
    }
}

#[test]
fn only_host_names_are_claims() {
    for name in [
        &b"127.0.0.1"[..],
        b"::1",
        b"[::1]",
        b"",
        b".",
        b"a..b",
        b"1.2",
        b"0x7f",
        b"host.0x1",
        b"b\xc3\xbccher.example",
        b"a b",
        b"a\0b",
    ] {
        assert_eq!(host_name(name), None, "{}", name.escape_ascii());
        let Hello::Is(hello) = hello(&sni(name)) else { panic!("{}", name.escape_ascii()) };
        assert_eq!((hello.sni, hello.sni_refused), (None, true));
    }
    assert_eq!(host_name(&[b'a'; 64]), None);
    assert_eq!(host_name(b"xn--bcher-kva.EXAMPLE.").as_deref(), Some("xn--bcher-kva.example"));
    assert_eq!(host_name(b"_dns.1-2.x").as_deref(), Some("_dns.1-2.x"));
}

#[test]
fn without_extensions_there_is_no_name() {
    let body = [&[3, 1][..], &[7; 32], &[0], &[0, 2, 0, 47], &[1, 0]].concat();
    let message = [&[1, 0, 0, u8::try_from(body.len()).unwrap()][..], &body].concat();
    let Hello::Is(hello) = client_hello(&records(&message, 100)) else { panic!() };
    assert_eq!((hello.sni, hello.versions), (None, vec![0x0301]));
}

#[test]
fn what_breaks_the_format_is_told_apart() {
    for bytes in [
        &b"GET / HTTP/1.1\r\n"[..],
        b"\x16\x02",
        b"\x16\x03\x05",
        b"\x16\x03\x01\0\0",
        b"\x16\x03\x01\x41\0",
        b"\x80\x2e\x01",
    ] {
        assert_eq!(client_hello(bytes), Hello::NotTls, "{}", bytes.escape_ascii());
    }
    assert_eq!(client_hello(b"\x16\x03\x01\0\x01\x02"), Hello::Malformed, "a ServerHello");
    let mut alert_inside = records(&message(&sni(b"a.example")), 30);
    alert_inside[35] = 21;
    assert_eq!(client_hello(&alert_inside), Hello::Malformed);
    assert_eq!(hello(&[sni(b"a.example"), sni(b"b.example")].concat()), Hello::Malformed, "two names");
    assert_eq!(hello(&extension(0, &[0, 9, 0, 0])), Hello::Malformed);
    assert_eq!(hello(&extension(16, &[0, 1, 0])), Hello::Malformed);
}

#[test]
fn a_hello_that_is_too_large_is_tls_without_a_name() {
    let announced = [&[22, 3, 1, 0x40, 0, 1, 0, 0x80, 0][..], &[0; 100]].concat();
    let slow = records(&[&[1, 0, 0x20, 0][..], &[0; 8000]].concat(), 1);
    for bytes in [announced, slow[..limits::PEEK_BYTES_MAX].to_vec()] {
        let Hello::Is(hello) = client_hello(&bytes) else { panic!() };
        assert!(hello.too_large && hello.sni.is_none());
    }
}

proptest! {
    #[test]
    fn no_bytes_break_it(data in proptest::collection::vec(any::<u8>(), 0..300)) {
        fuzz_client_hello(&data);
        fuzz_client_hello(&[&[22, 3, 1, 0, 200, 1, 0, 0, 196][..], &data].concat());
    }

    #[test]
    fn no_changed_byte_breaks_it(at in 0usize..150, with in any::<u8>(), size in 1usize..60) {
        let mut bytes = records(&message(&[sni(b"a.example"), extension(43, &[2, 3, 4])].concat()), size);
        let at = at % bytes.len();
        bytes[at] = with;
        fuzz_client_hello(&bytes);
    }
}

#[test]
fn what_may_be_opened_speaks_http_1_1_or_says_nothing_and_a_version_of_today() {
    let unopened = |alpn: &[&str], versions: &[u16]| {
        let alpn = alpn.iter().map(|protocol| (*protocol).to_owned()).collect();
        ClientHello { alpn, versions: versions.to_vec(), ..ClientHello::default() }.unopened()
    };
    assert_eq!(unopened(&[], &[0x0303]), None);
    assert_eq!(unopened(&["h2", "http/1.1"], &[0x0304]), None);
    assert_eq!(unopened(&["h2"], &[0x0304, 0x0303]), Some(Unopened::Alpn));
    assert_eq!(unopened(&["postgresql"], &[0x0304]), None);
    assert_eq!(unopened(&["imap"], &[0x0304]), Some(Unopened::Alpn));
    assert_eq!(unopened(&[], &[0x0302, 0x0301]), Some(Unopened::Old));
    assert_eq!(unopened(&[], &[]), Some(Unopened::Old));
    let with_ech = ClientHello { ech: true, versions: vec![0x0304], ..ClientHello::default() };
    assert_eq!(with_ech.unopened(), None);
    let large = ClientHello { too_large: true, ..ClientHello::default() };
    assert_eq!(large.unopened().map(Unopened::code), Some("tls_too_large"));
}

#[test]
fn groups_that_break_their_format_are_no_groups_and_the_hello_stays_one() {
    for content in [&[][..], &[0], &[0, 0], &[0, 3, 0, 29, 0], &[0, 4, 0, 29], &[0, 2, 0, 29, 0]] {
        let Hello::Is(hello) = hello(&[extension(10, content), sni(b"a.test")].concat()) else { panic!("{content:?}") };
        assert_eq!((hello.groups, hello.sni.as_deref()), (vec![], Some("a.test")), "{content:?}");
    }
}
