//! Streams as programs send them, cut everywhere, and compared with a slow reading of the whole.

use proptest::prelude::*;

use super::{Redactor, fuzz_stream};
use crate::mask::DigestKey;
use crate::session::Side;
use crate::sniff::Protocol;

fn key() -> DigestKey {
    DigestKey::new(&[7; 32])
}

/// What is shown of `bytes`, and the values as `scheme length`.
fn shown(protocol: Option<Protocol>, side: Side, bytes: &[u8]) -> (String, Vec<String>) {
    let mut redactor = Redactor::new(protocol, side, &key());
    let shown = redactor.feed(bytes).into_owned();
    redactor.finish();
    let values = redactor.values().iter().map(|value| format!("{} {}", value.scheme, value.len)).collect();
    // Any cut gives the same, positions included.
    for size in [1, 2, 3, 5, 7, 11] {
        let mut pieces = Redactor::new(protocol, side, &key());
        let joined: Vec<u8> = bytes.chunks(size).flat_map(|piece| pieces.feed(piece).into_owned()).collect();
        pieces.finish();
        assert_eq!((&joined, pieces.values()), (&shown, redactor.values()), "pieces of {size}");
    }
    assert_eq!(redactor.count(), redactor.values().len() as u64);
    (String::from_utf8_lossy(&shown).into_owned(), values)
}

fn check(protocol: Option<Protocol>, cases: &[(&str, &str, &[&str])]) {
    for (sent, expected, values) in cases {
        assert_eq!(
            shown(protocol, Side::Client, sent.as_bytes()),
            ((*expected).into(), values.iter().map(|v| (*v).into()).collect()),
            "{sent:?}"
        );
    }
}

#[test]
fn headers_lose_their_credentials() {
    check(
        Some(Protocol::Http),
        &[
            (
                "GET / HTTP/1.1\r\nAuthorization: Bearer sk-abc\r\nX: y\r\n\r\n",
                "GET / HTTP/1.1\r\nAuthorization: Bearer ******\r\nX: y\r\n\r\n",
                &["authorization:bearer 6"],
            ),
            (
                "proxy-AUTHORIZATION:basic  dTpw\n",
                "proxy-AUTHORIZATION:basic  ****\n",
                &["proxy-authorization:basic 4"],
            ),
            ("Authorization: zsecret\r\nHost: h\r\n", "Authorization: *******\r\nHost: h\r\n", &["authorization 7"]),
            // It shares `bea` with a scheme: that much had passed before it could be known.
            ("Authorization: beak x\r\n", "Authorization: bea***\r\n", &["authorization 6"]),
            ("Authorization: Negotiate\r\nA: b\r\n", "Authorization: Negotiate\r\nA: b\r\n", &[]),
            ("Authorization : Bearer x\r\n", "Authorization : Bearer *\r\n", &["authorization:bearer 1"]),
            (
                "Cookie: a=b; c=d\r\n e=f\r\n\tg\r\nHost: h\r\n",
                "Cookie: ********\r\n ***\r\n\t*\r\nHost: h\r\n",
                &["cookie 12"],
            ),
            (
                "Authorization:\r\n Bearer x\r\nHost: h\r\n",
                "Authorization:\r\n ********\r\nHost: h\r\n",
                &["authorization 8"],
            ),
            (
                "X-Api-Key: k\r\napi-key:k2\r\nX-Goog-Api-Key: k3\r\n",
                "X-Api-Key: *\r\napi-key:**\r\nX-Goog-Api-Key: **\r\n",
                &["x-api-key 1", "api-key 2", "x-goog-api-key 2"],
            ),
            ("Cookies: a\r\nX-Cookie: a\r\nCookie monster\r\n", "Cookies: a\r\nX-Cookie: a\r\nCookie monster\r\n", &[]),
        ],
    );
    let response =
        b"HTTP/1.1 302 Found\r\nSet-Cookie: s=1; Path=/\r\nLocation: https://h/cb#access_token=abc&state=1\r\n\r\n";
    let (text, values) = shown(Some(Protocol::Http), Side::Server, response);
    assert_eq!(
        text,
        "HTTP/1.1 302 Found\r\nSet-Cookie: ***********\r\nLocation: https://h/cb#access_token=***&state=1\r\n\r\n"
    );
    assert_eq!(values, ["set-cookie 11", "query:access_token 3"]);
}

#[test]
fn urls_lose_their_credentials() {
    check(
        None,
        &[
            (
                "GET /a?key=abc&b=1&api%5Fkey=d HTTP/1.1\r\n",
                "GET /a?key=***&b=1&api%5Fkey=* HTTP/1.1\r\n",
                &["query:key 3", "query:api_key 1"],
            ),
            ("GET /a?monkey=abc&keys=1&key HTTP/1.1\r\n", "GET /a?monkey=abc&keys=1&key HTTP/1.1\r\n", &[]),
            (
                "GET http://u:p%40w@h:80/x HTTP/1.1\r\n",
                "GET http://u:*****@h:**/x HTTP/1.1\r\n",
                &["url-password 5", "url-port 2"],
            ),
            ("Referer: http://u@h/?token=t#x\r\n", "Referer: http://u@h/?token=*#x\r\n", &["query:token 1"]),
            ("Origin: http://[::1]:8080\r\n", "Origin: http://[::1]:****\r\n", &["url-port 4"]),
            ("Date: Mon, 01 Jan 2024 10:00:00 GMT\r\n", "Date: Mon, 01 Jan 2024 10:00:00 GMT\r\n", &[]),
            // A body without a line end, and the next request right behind it.
            (
                "{\"a\":\"b?key=c\"}POST /v1?key=abc HTTP/1.1\r\nCookie: d\r\n",
                "{\"a\":\"b?key=c\"}POST /v1?key=*** HTTP/1.1\r\nCookie: *\r\n",
                &["query:key 3", "cookie 1"],
            ),
        ],
    );
    let mut redactor = Redactor::new(None, Side::Client, &key());
    redactor.feed(b"Origin: http://h:8080\r\n");
    assert_eq!(redactor.take()[0].to_string(), "url-port 4 8080", "a port is told, it is no secret");
    assert!(redactor.values().is_empty());
}

#[test]
fn digests_are_those_of_the_whole_values() {
    let mut redactor = Redactor::new(Some(Protocol::Http), Side::Client, &key());
    for byte in b"GET / HTTP/1.1\r\nAuthorization: Basic dTpw\r\nAuthorization: beak\r\n\r\n" {
        redactor.feed(&[*byte]);
    }
    let values = redactor.take();
    assert_eq!((values[0].digest.as_str(), values[0].offset), (key().digest(b"dTpw").as_str(), 37));
    assert_eq!((values[1].digest.as_str(), values[1].offset), (key().digest(b"beak").as_str(), 58));
    assert_ne!(key().digest(b"dTpw"), DigestKey::new(&[8; 32]).digest(b"dTpw"));
}

#[test]
fn kept_values_are_bounded_and_all_are_counted() {
    let mut redactor = Redactor::new(None, Side::Client, &key());
    for _ in 0..1000 {
        redactor.feed(b"Cookie: a\r\n");
    }
    redactor.finish();
    assert_eq!((redactor.values().len(), redactor.count()), (crate::limits::REDACTED_VALUES_MAX, 1000));
}

#[test]
fn an_event_tells_what_is_new() {
    let mut redactor = Redactor::new(None, Side::Client, &key());
    redactor.feed(b"Cookie: a\r\nHost: h\r\nCookie: b");
    let masked = redactor.masked().unwrap();
    assert_eq!((masked.mask.as_str(), masked.count, masked.values.len()), ("credentials", 1, 1));
    assert_eq!(redactor.masked(), None, "the second one is still open");
    redactor.finish();
    assert_eq!(redactor.masked().unwrap().values, [format!("cookie 1 {}", key().digest(b"b"))]);
}

#[test]
fn postgres_log_ins_lose_their_bodies() {
    let startup = b"\0\0\0\x17\0\x03\0\0user\0me\0pp\0p\0\0\0";
    let sent = [
        &b"\0\0\0\x08\x04\xd2\x16\x2f"[..],
        startup,
        b"p\0\0\0\x0bsecret\0",
        b"Q\0\0\0\x0dSELECT 1\0",
        b"p\0\0\0\x04",
        b"p\0\0\0\x05x",
        b"X\0\0\0\x04",
    ]
    .concat();
    let (text, values) = shown(Some(Protocol::Postgres), Side::Client, &sent);
    let expected = [
        &b"\0\0\0\x08\x04\xd2\x16\x2f"[..],
        startup,
        b"p\0\0\0\x0b*******",
        b"Q\0\0\0\x0dSELECT 1\0",
        b"p\0\0\0\x04",
        b"p\0\0\0\x05*",
        b"X\0\0\0\x04",
    ]
    .concat();
    assert_eq!(text.as_bytes(), String::from_utf8_lossy(&expected).as_bytes());
    assert_eq!(values, ["postgres-password 7", "postgres-password 1"]);
    // TLS as agreed passes; what cannot be followed is hidden.
    let tls = b"\0\0\0\x08\x04\xd2\x16\x2f\x16\x03\x01\x02\0\x01\0\x01\xfcrest";
    assert_eq!(shown(Some(Protocol::Postgres), Side::Client, tls).1, [""; 0]);
    let lost = [startup, &b"Q\0\0\0\x01p\0\0\0\x0bsecret"[..]].concat();
    let (text, values) = shown(Some(Protocol::Postgres), Side::Client, &lost);
    assert!(text.ends_with("***********") && !text.contains("secret"), "{text}");
    assert_eq!(values, ["postgres-unparsed 11"]);
}

#[test]
fn line_protocols_lose_their_log_ins() {
    check(
        Some(Protocol::Ftp),
        &[
            ("USER me\r\nPASS a b\r\nLIST\r\n", "USER me\r\nPASS ***\r\nLIST\r\n", &["pass 3"]),
            ("pass x\r\nAUTH TLS\r\nPBSZ 0\r\n", "pass *\r\nAUTH TLS\r\nPBSZ 0\r\n", &["pass 1"]),
        ],
    );
    check(
        Some(Protocol::Smtp),
        &[
            (
                "EHLO h\r\nAUTH PLAIN AG1lAHB3\r\nMAIL FROM:<a>\r\n",
                "EHLO h\r\nAUTH PLAIN ********\r\nMAIL FROM:<a>\r\n",
                &["sasl 8"],
            ),
            ("AUTH PLAIN\r\nAG1lAHB3\r\nMAIL\r\n", "AUTH PLAIN\r\n********\r\nMAIL\r\n", &["sasl 8"]),
            ("auth login\r\nbWU=\r\ncHc=\r\nMAIL\r\n", "auth login\r\n****\r\n****\r\nMAIL\r\n", &["sasl 4", "sasl 4"]),
            ("AUTH LOGIN bWU=\r\ncHc=\r\nMAIL\r\n", "AUTH LOGIN ****\r\n****\r\nMAIL\r\n", &["sasl 4", "sasl 4"]),
        ],
    );
    check(Some(Protocol::Pop3), &[("APOP me c4c9\r\nSTAT\r\n", "APOP me ****\r\nSTAT\r\n", &["apop 4"])]);
    check(
        Some(Protocol::Imap),
        &[
            ("a1 LOGIN me \"p w\"\r\na2 SELECT x\r\n", "a1 LOGIN ********\r\na2 SELECT x\r\n", &["imap-login 8"]),
            (
                "a1 login {2}\r\nme {3+}\r\np\rw\r\na2 NOOP\r\n",
                "a1 login ***\r\n*******\r\n***\r\na2 NOOP\r\n",
                &["imap-login 13"],
            ),
            ("a AUTHENTICATE PLAIN\r\nAG1l\r\nb NOOP\r\n", "a AUTHENTICATE PLAIN\r\n****\r\nb NOOP\r\n", &["sasl 4"]),
        ],
    );
}

#[test]
fn redis_log_ins_lose_their_passwords() {
    check(
        Some(Protocol::Redis),
        &[
            (
                "*2\r\n$4\r\nAUTH\r\n$3\r\npw1\r\n*1\r\n$4\r\nPING\r\n",
                "*2\r\n$4\r\nAUTH\r\n$3\r\n***\r\n*1\r\n$4\r\nPING\r\n",
                &["redis-password 3"],
            ),
            (
                "*3\r\n$4\r\nauth\r\n$2\r\nme\r\n$4\r\np\r\nw\r\n",
                "*3\r\n$4\r\nauth\r\n$2\r\nme\r\n$4\r\n****\r\n",
                &["redis-password 4"],
            ),
            (
                "*5\r\n$5\r\nHELLO\r\n$1\r\n3\r\n$4\r\nAUTH\r\n$2\r\nme\r\n$2\r\npw\r\n",
                "*5\r\n$5\r\nHELLO\r\n$1\r\n3\r\n$4\r\nAUTH\r\n$2\r\nme\r\n$2\r\n**\r\n",
                &["redis-password 2"],
            ),
            ("*3\r\n$3\r\nSET\r\n$4\r\nAUTH\r\n$2\r\npw\r\n", "*3\r\n$3\r\nSET\r\n$4\r\nAUTH\r\n$2\r\npw\r\n", &[]),
            (
                "*4\r\n$3\r\nACL\r\n$7\r\nSETUSER\r\n$1\r\nu\r\n$3\r\n>pw\r\n",
                "*4\r\n$3\r\nACL\r\n$7\r\nSETUSER\r\n$1\r\nu\r\n$3\r\n>**\r\n",
                &["redis-password 2"],
            ),
            (
                "*4\r\n$6\r\nCONFIG\r\n$3\r\nSET\r\n$11\r\nrequirepass\r\n$2\r\npw\r\n",
                "*4\r\n$6\r\nCONFIG\r\n$3\r\nSET\r\n$11\r\nrequirepass\r\n$2\r\n**\r\n",
                &["redis-password 2"],
            ),
            ("AUTH me pw\r\nPING\r\n", "AUTH *****\r\nPING\r\n", &["redis-password 5"]),
            ("*2\r\n$3\r\nGET\r\n$100000\r\nshort", "*2\r\n$3\r\nGET\r\n$100000\r\nshort", &[]),
        ],
    );
}

#[test]
fn http2_header_blocks_are_hidden_and_data_is_shown() {
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let frames = b"\0\0\0\x04\0\0\0\0\0\0\0\x04\x01\x05\0\0\0\x01abcd\0\0\x03\0\x01\0\0\0\x01xyz";
    let hidden = b"\0\0\0\x04\0\0\0\0\0\0\0\x04\x01\x05\0\0\0\x01****\0\0\x03\0\x01\0\0\0\x01xyz";
    let text = |head: &[u8], tail: &[u8]| String::from_utf8([head, tail].concat()).unwrap();
    let whole = [&preface[..], frames].concat();
    assert_eq!(shown(Some(Protocol::H2c), Side::Client, &whole).0, text(preface, hidden));
    assert_eq!(shown(Some(Protocol::H2c), Side::Server, frames).0, text(b"", hidden));
    let upgrade = b"GET / HTTP/1.1\r\nUpgrade: h2c\r\n\r\n";
    let upgraded = [&upgrade[..], &whole].concat();
    assert_eq!(shown(Some(Protocol::Http), Side::Client, &upgraded).0, text(&[&upgrade[..], preface].concat(), hidden));
}

#[test]
fn encrypted_streams_pass_without_a_copy() {
    let bytes = b"\nAuthorization: Bearer x\r\n";
    for protocol in [Protocol::Tls, Protocol::Ssh] {
        let mut redactor = Redactor::new(Some(protocol), Side::Client, &key());
        assert!(matches!(redactor.feed(bytes), std::borrow::Cow::Borrowed(_)));
    }
}

/// The rule for headers, read from the whole text: slow, and obviously right.
fn oracle(text: &str) -> String {
    let mut shown = String::new();
    let mut secret = false;
    for line in text.split_inclusive('\n') {
        let (body, end) = line.strip_suffix('\n').map_or((line, ""), |body| (body, "\n"));
        let stars = |value: &str| value.chars().map(|c| if c == '\r' { '\r' } else { '*' }).collect::<String>();
        let folded = body.starts_with([' ', '\t']);
        let name = body.split_once(':').map(|(name, _)| name.trim_end_matches([' ', '\t']).to_lowercase());
        let listed = name.is_some_and(|name| ["cookie", "x-api-key"].contains(&name.as_str()));
        let blanks = |text: &str| text.len() - text.trim_start_matches([' ', '\t', '\r']).len();
        let at = match (folded, listed) {
            (true, _) if secret => blanks(body),
            (false, true) => body.find(':').unwrap() + 1 + blanks(&body[body.find(':').unwrap() + 1..]),
            _ => body.len(),
        };
        secret = (folded && secret) || (!folded && listed);
        shown += &body[..at];
        shown += &stars(&body[at..]);
        shown += end;
    }
    shown
}

/// What the protocols are made of.
const WORDS: &[&[u8]] = &[
    b"Authorization: ",
    b"Bearer ",
    b"\r\n",
    b"\n",
    b" ",
    b"http://u:p@h:1/",
    b"?key=v&",
    b"GET /",
    b"x",
    b"Cookie: a",
    b"*2\r\n$4\r\nAUTH\r\n$2\r\npw\r\n",
    b"AUTH LOGIN\r\n",
    b"a LOGIN {3}\r\nxyz",
    b"p\0\0\0\x08abcd",
    b"\0\0\0\x09\0\x03\0\0\0",
    b"\0\0\x04\x01\x04\0\0\0\x01abcd",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
];

proptest! {
    #[test]
    fn headers_agree_with_a_slow_reading(lines in proptest::collection::vec(
        "(Cookie|X-Api-Key|x-api-key |Host|Cookie2x|\\{x| |\t)(:| )?[ \t]?[ a-z=\r]{0,6}", 0..12), lf in any::<bool>()) {
        let text = lines.join(if lf { "\n" } else { "\r\n" });
        let (found, _) = shown(None, Side::Client, text.as_bytes());
        prop_assert_eq!(found, oracle(&text));
    }

    #[test]
    fn no_cut_changes_anything(data in proptest::collection::vec(any::<u8>(), 2..200)) {
        fuzz_stream(&data);
    }

    #[test]
    fn nor_in_almost_protocols(choice in any::<u8>(), cut in any::<u8>(), words in proptest::collection::vec(proptest::sample::select(WORDS), 0..24)) {
        fuzz_stream(&[&[choice, cut][..], &words.concat()].concat());
    }

    #[test]
    fn a_credential_in_its_place_never_shows(secret in "[A-Z0-9]{16,32}", cut in 1usize..9) {
        let text = format!("POST /x?api_key={secret} HTTP/1.1\r\nAuthorization: Bearer {secret}\r\nCookie: s={secret}\r\n t={secret}\r\nReferer: http://u:{secret}@h/\r\n\r\n{{}}GET /?token={secret}");
        let mut redactor = Redactor::new(Some(Protocol::Http), Side::Client, &key());
        let shown: Vec<u8> = text.as_bytes().chunks(cut).flat_map(|piece| redactor.feed(piece).into_owned()).collect();
        prop_assert!(!String::from_utf8(shown).unwrap().contains(&secret));
        redactor.finish();
        prop_assert_eq!(redactor.count(), 5);
    }
}
