//! What two readers could understand in two ways is refused: nothing of it reaches the other side, and it is on record.

use crewtap_tests::host::Host;

use super::*;

/// Requests that smuggle another one past a reader: the classes of request smuggling since 2005, one of each.
const REQUESTS: &[(&str, &str)] = &[
    (
        "http_conflicting_length",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nX",
    ),
    ("http_conflicting_length", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nContent-Length: 44\r\n\r\n"),
    ("http_transfer_encoding", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, identity\r\n\r\n"),
    ("http_transfer_encoding", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n"),
    ("http_space_before_colon", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding : chunked\r\n\r\n"),
    ("http_obsolete_fold", "POST / HTTP/1.1\r\nHost: a\r\nX: 1\r\n Transfer-Encoding: chunked\r\n\r\n"),
    ("http_bare_lf", "GET / HTTP/1.1\r\nHost: a\nTransfer-Encoding: chunked\r\n\r\n"),
    ("http_bare_cr", "GET / HTTP/1.1\r\nHost: a\rTransfer-Encoding: chunked\r\n\r\n"),
    ("http_nul", "GET / HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n"),
    ("http_content_length", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +6\r\n\r\n"),
    ("http_host", "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"),
    ("http_host_mismatch", "GET http://a/ HTTP/1.1\r\nHost: b\r\n\r\n"),
    ("http_start_line", "GET /x y HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("http_connection_option", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\nConnection: Content-Length\r\n\r\n"),
    ("http_unexpected_transfer_encoding", "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"),
];

/// Sends each line's bytes on a connection of its own.
const EACH: &str = "
for line in sys.argv[2:]:
    s = socket.create_connection(('127.0.0.1', int(sys.argv[1])))
    s.sendall(bytes.fromhex(line))
    got = rest()
    print(got.split(b'\\r\\n')[0].decode(), b'<reset>' in got)";

const SECRET: &str = "sk-proj-Abc123Def456Ghi789Jkl012Mno345Pqr678";

/// What each gets, a line each.
fn each(host: &Host, peer: &Peer, said: &[Vec<u8>]) -> Vec<String> {
    let port = peer.port();
    let hexes: Vec<String> = said.iter().map(|bytes| hex(bytes)).collect();
    let args: Vec<&str> = std::iter::once(&*port).chain(hexes.iter().map(String::as_str)).collect();
    host.python(&format!("{HELPERS}{EACH}"), &args).lines().map(str::to_owned).collect()
}

#[test]
fn shapes_of_request_smuggling_are_refused_and_never_reach_the_server() {
    let host = Host::new();
    let web = always(&host, OK);
    let with_secret = |request: &str| {
        let (line, rest) = request.split_once("\r\n").unwrap();
        format!("{line}\r\nAuthorization: Bearer {SECRET}\r\n{rest}").into_bytes()
    };
    let said: Vec<_> = REQUESTS.iter().map(|(_, request)| with_secret(request)).collect();
    let told = each(&host, &web, &said);
    assert_eq!(told.len(), REQUESTS.len());
    for (line, (code, request)) in told.iter().zip(REQUESTS) {
        let status = if *code == "http_transfer_encoding" { "501 Not Implemented" } else { "400 Bad Request" };
        assert_eq!(*line, format!("HTTP/1.1 {status} False"), "{code}: {request:?}");
    }
    assert!(web.seen().iter().all(Vec::is_empty), "{:?}", web.seen());
    let exchanges = exchanges(&host);
    assert_eq!(column(&exchanges, "outcome"), vec!["blocked"; REQUESTS.len()]);
    assert_eq!(column(&exchanges, "verb"), vec!["UNPARSED"; REQUESTS.len()]);
    let rows = Rows::of_last_run(&host);
    let mut noted = notes(&host);
    let mut codes: Vec<_> = REQUESTS.iter().map(|(code, _)| (*code).to_owned()).collect();
    noted.sort();
    codes.sort();
    assert_eq!(noted, codes);
    assert!(rows.table("sessions").iter().all(|row| row["outcome"] == "refused" && row["bytes_up"] == 0));
    assert_eq!(crate::redaction::in_store(&host, SECRET), Vec::<std::path::PathBuf>::new());
    host.verify();
}

#[test]
fn what_is_smuggled_in_content_is_refused_there() {
    let host = Host::new();
    let web = always(&host, OK);
    let head = "POST /chunks HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    for (chunks, code) in [
        ("3\nabc\r\n", "http_bare_lf"),
        ("0x3\r\nabc\r\n", "http_chunk_size"),
        ("3\r\nabcGET /evil HTTP/1.1\r\n", "http_chunk_end"),
        ("0\r\nContent-Length: 3\r\n\r\n", "http_trailer_field"),
    ] {
        let got = raw(&host, &web, &format!("{head}{chunks}"), "show(rest())");
        assert!(got.starts_with("HTTP/1.1 ") && !got.contains("evil"), "{chunks:?}: {got}");
        assert!(notes(&host).contains(&code.to_owned()), "{chunks:?}: {:?}", notes(&host));
        let exchanges = exchanges(&host);
        assert_eq!(column(&exchanges, "verb"), ["POST"], "it is the exchange that had begun: {chunks:?}");
        assert!(web.seen().iter().all(|seen| !String::from_utf8_lossy(seen).contains("evil")));
    }
    host.verify();
}

#[test]
fn what_follows_a_good_request_and_is_not_clear_does_not_reach_the_server() {
    let host = Host::new();
    let web = always(&host, OK);
    let good = "GET /good HTTP/1.1\r\nHost: a\r\n\r\n";
    let evil = "GET /evil HTTP/1.1\r\nHost: a\r\nContent-Length : 3\r\n\r\n";
    let got = raw(&host, &web, good, &format!("show(until(b'ok')); s.sendall({evil:?}.encode()); show(rest())"));
    let (first, second) = got.split_once("\r\n\r\nok").unwrap();
    assert!(first.starts_with("HTTP/1.1 200 OK") && second.starts_with("HTTP/1.1 400 Bad Request"), "{got}");
    assert_eq!(web.seen(), [good.as_bytes()]);
    assert_eq!(column(&exchanges(&host), "outcome"), ["success", "blocked"]);
}

#[test]
fn a_refusal_is_not_written_into_another_answer() {
    let host = Host::new();
    let web = server(&host, |asked| {
        asked.answer("HTTP/1.1 200 OK\r\nContent-Length: 33554432\r\n\r\n");
        let _ = asked.stream.write_all(&vec![b'a'; 33_554_432]);
        false
    });
    let good = "GET /good HTTP/1.1\r\nHost: a\r\n\r\n";
    let then = "until(b'\\r\\n\\r\\n'); s.sendall(b'GET /evil HTTP/1.1\\r\\nHost : a\\r\\n\\r\\n')
got = rest()
print(len(got), set(got.replace(b'<reset>', b'')) - {97})";
    let got = raw(&host, &web, good, then);
    assert!(got.ends_with(" set()\n"), "nothing but what the server sent: {got}");
    assert!(!web.seen().iter().any(|seen| String::from_utf8_lossy(seen).contains("evil")));
}

/// Answers that a client and we could read differently; the word `evil` must not arrive.
const RESPONSES: &[(&str, &str)] = &[
    ("http_conflicting_length", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\nevil"),
    ("http_conflicting_length", "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 20\r\n\r\nevil"),
    ("http_content_length", "HTTP/1.1 200 OK\r\nContent-Length: -4\r\n\r\nevil"),
    ("http_transfer_encoding", "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nevil"),
    ("http_obsolete_fold", "HTTP/1.1 200 OK\r\nA: b\r\n Content-Length: 4\r\n\r\nevil"),
    ("http_space_before_colon", "HTTP/1.1 200 OK\r\nContent-Length : 4\r\n\r\nevil"),
    ("http_bare_lf", "HTTP/1.1 200 OK\nContent-Length: 4\n\nevil"),
    ("http_bare_cr", "HTTP/1.1 200 OK\r\nA: b\rContent-Length: 4\r\n\r\nevil"),
    ("http_nul", "HTTP/1.1 200 OK\r\nA: \0\r\n\r\nevil"),
    ("http_unasked_upgrade", "HTTP/1.1 101 Switching Protocols\r\nUpgrade: evil\r\n\r\nevil"),
    ("http_version", "HTTP/1.7 200 OK\r\n\r\nevil"),
    ("http_start_line", "ICY 200 OK\r\n\r\nevil"),
];

#[test]
fn malformed_answers_are_a_bad_gateway_and_never_reach_the_client() {
    let host = Host::new();
    let web = server(&host, |asked| {
        let number: usize = asked.path()[1..].parse().unwrap();
        asked.answer(RESPONSES[number].1);
        false
    });
    let ask = |number| format!("GET /{number} HTTP/1.1\r\nHost: a\r\n\r\n").into_bytes();
    let told = each(&host, &web, &(0..RESPONSES.len()).map(ask).collect::<Vec<_>>());
    assert_eq!(told, vec!["HTTP/1.1 502 Bad Gateway False"; RESPONSES.len()]);
    let exchanges = exchanges(&host);
    assert_eq!(column(&exchanges, "outcome"), vec!["blocked"; RESPONSES.len()]);
    let mut noted = notes(&host);
    let mut codes: Vec<_> = RESPONSES.iter().map(|(code, _)| (*code).to_owned()).collect();
    noted.sort();
    codes.sort();
    assert_eq!(noted, codes);
    host.verify();
}

#[test]
fn an_answer_that_nobody_asked_for_is_not_taken_for_the_next_one() {
    let host = Host::new();
    let web = server(&host, |asked| {
        asked.answer([OK, b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"].concat());
        asked.path() == "/"
    });
    let got = raw(&host, &web, "GET / HTTP/1.1\r\nHost: a\r\n\r\n", "show(rest())");
    assert!(got.contains("\r\n\r\nok") && !got.contains("evil"), "{got}");
    assert_eq!(notes(&host), ["http_unasked_response"]);
    let exchanges = exchanges(&host);
    assert_eq!(column(&exchanges, "outcome"), ["success"], "the exchange before it is none of its business");
}

#[test]
fn a_head_beyond_the_limits_is_refused_however_much_of_it_comes() {
    let host = Host::new();
    let web = always(&host, OK);
    let fields = "s.sendall(b'GET / HTTP/1.1\\r\\nHost: a\\r\\n' + b'X: 1\\r\\n' * 300 + b'\\r\\n'); show(rest())";
    // What is not read any more must not destroy the answer: the client is still sending when it comes.
    let long =
        "s.sendall(b'GET / HTTP/1.1\\r\\nHost: a\\r\\nX: ' + b'a' * 3000000); s.shutdown(socket.SHUT_WR); show(rest())";
    for (script, code) in [(fields, "http_too_many_fields"), (long, "http_head_too_large")] {
        let got = raw(&host, &web, "", script);
        assert!(got.starts_with("HTTP/1.1 431 Request Header Fields Too Large\r\n"), "{got}");
        assert!(got.ends_with(")\n"), "whole: {got}");
        assert_eq!(notes(&host), [code]);
    }
    assert!(web.seen().iter().all(Vec::is_empty));
}
