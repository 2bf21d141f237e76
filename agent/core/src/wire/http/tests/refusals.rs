//! Shapes that are known to be read differently by different peers, and what is broken beyond that: each is refused,
//! with its code.

use super::*;

/// Requests, with the code that refuses each.
const REQUESTS: &[(&str, &str)] = &[
    // Two lengths (CL.TE, TE.CL and their kin).
    ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n", "conflicting_length"),
    ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 6\r\n\r\n", "conflicting_length"),
    ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\nContent-Length: 6\r\n\r\n", "conflicting_length"),
    ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\nContent-Length: 7\r\n\r\n", "conflicting_length"),
    ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\ncontent-length: 6\r\n\r\n", "conflicting_length"),
    ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 6, 6\r\n\r\n", "conflicting_length"),
    ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0,6\r\n\r\n", "conflicting_length"),
    // Lengths that are none.
    ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +6\r\n\r\n", "content_length"),
    ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -6\r\n\r\n", "content_length"),
    ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x6\r\n\r\n", "content_length"),
    ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 6 6\r\n\r\n", "content_length"),
    ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 6_0\r\n\r\n", "content_length"),
    ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: \r\n\r\n", "content_length"),
    ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: \"6\"\r\n\r\n", "content_length"),
    ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9223372036854775808\r\n\r\n", "content_length"),
    ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 18446744073709551622\r\n\r\n", "content_length"),
    // Transfer codings (TE.TE).
    ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", "transfer_encoding"),
    ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, identity\r\n\r\n", "transfer_encoding"),
    ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity\r\n\r\n", "transfer_encoding"),
    ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, chunked\r\n\r\n", "transfer_encoding"),
    ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n\r\n", "transfer_encoding"),
    ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: x\r\nTransfer-Encoding: chunked\r\n\r\n", "transfer_encoding"),
    ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \"chunked\"\r\n\r\n", "transfer_encoding"),
    ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked;q=1\r\n\r\n", "transfer_encoding"),
    ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\r\n\r\n", "transfer_encoding"),
    ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \x0bchunked\r\n\r\n", "control_character"),
    ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\x0c\r\n\r\n", "control_character"),
    ("POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", "unexpected_transfer_encoding"),
    // Field lines.
    ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding : chunked\r\n\r\n", "space_before_colon"),
    ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length\t: 6\r\n\r\n", "space_before_colon"),
    ("POST / HTTP/1.1\r\nHost: a\r\nX: 1\r\n Transfer-Encoding: chunked\r\n\r\n", "obsolete_fold"),
    ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\r\n\tchunked\r\n\r\n", "obsolete_fold"),
    ("POST / HTTP/1.1\r\n Host: a\r\n\r\n", "obsolete_fold"),
    ("POST / HTTP/1.1\r\nHost: a\r\nTransfer Encoding: chunked\r\n\r\n", "field"),
    ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length abc: 6\r\n\r\n", "field"),
    ("POST / HTTP/1.1\r\nHost: a\r\n: empty\r\n\r\n", "field"),
    ("POST / HTTP/1.1\r\nHost: a\r\nno colon\r\n\r\n", "field"),
    ("POST / HTTP/1.1\r\nHost: a\r\n\u{e9}: x\r\n\r\n", "field"),
    ("POST / HTTP/1.1\r\nHost: a\r\nX: a\x7fb\r\n\r\n", "control_character"),
    ("POST / HTTP/1.1\r\nHost: a\r\nX: a\x01\r\n\r\n", "control_character"),
    ("POST / HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n", "nul"),
    // Line ends.
    ("GET / HTTP/1.1\nHost: a\n\n", "bare_lf"),
    ("GET / HTTP/1.1\r\nHost: a\nTransfer-Encoding: chunked\r\n\r\n", "bare_lf"),
    ("GET / HTTP/1.1\r\nHost: a\r\n\n", "bare_lf"),
    ("GET / HTTP/1.1\r\nHost: a\rTransfer-Encoding: chunked\r\n\r\n", "bare_cr"),
    ("GET / HTTP/1.1\r\nHost: a\r\r\n\r\n", "bare_cr"),
    ("GET / HTTP/1.1\r\nHost: a\r\n\rX: 1\r\n\r\n", "bare_cr"),
    ("\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", "empty_lines"),
    ("\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", "bare_lf"),
    // Request lines.
    ("GET  / HTTP/1.1\r\nHost: a\r\n\r\n", "start_line"),
    ("GET / HTTP/1.1 \r\nHost: a\r\n\r\n", "start_line"),
    ("GET / x HTTP/1.1\r\nHost: a\r\n\r\n", "start_line"),
    (" GET / HTTP/1.1\r\nHost: a\r\n\r\n", "start_line"),
    ("GET /\tHTTP/1.1\r\nHost: a\r\n\r\n", "start_line"),
    ("GET /\r\n\r\n", "start_line"),
    ("G(T / HTTP/1.1\r\nHost: a\r\n\r\n", "start_line"),
    ("GET / http/1.1\r\nHost: a\r\n\r\n", "start_line"),
    ("GET / HTTP/1.10\r\nHost: a\r\n\r\n", "start_line"),
    ("GET / HTTP/01.1\r\nHost: a\r\n\r\n", "start_line"),
    ("GET / HTTP/1.2\r\nHost: a\r\n\r\n", "version"),
    ("GET / HTTP/0.9\r\nHost: a\r\n\r\n", "version"),
    ("PRI * HTTP/2.0\r\n\r\n", "version"),
    ("GET /\x01 HTTP/1.1\r\nHost: a\r\n\r\n", "target"),
    ("GET /\x0b HTTP/1.1\r\nHost: a\r\n\r\n", "target"),
    ("GET a.b/c HTTP/1.1\r\nHost: a\r\n\r\n", "target"),
    ("GET * HTTP/1.1\r\nHost: a\r\n\r\n", "target"),
    ("GET a:80 HTTP/1.1\r\nHost: a\r\n\r\n", "target"),
    ("GET http:///x HTTP/1.1\r\nHost: a\r\n\r\n", "target"),
    ("CONNECT / HTTP/1.1\r\nHost: a\r\n\r\n", "target"),
    ("CONNECT a HTTP/1.1\r\nHost: a\r\n\r\n", "target"),
    ("CONNECT me@a:443 HTTP/1.1\r\nHost: a\r\n\r\n", "target"),
    // Hosts.
    ("GET / HTTP/1.1\r\n\r\n", "host"),
    ("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", "host"),
    ("GET / HTTP/1.0\r\nHost: a\r\nhost: b\r\n\r\n", "host"),
    ("GET / HTTP/1.1\r\nHost: a, b\r\n\r\n", "host"),
    ("GET / HTTP/1.1\r\nHost: a@b\r\n\r\n", "host"),
    ("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", "host"),
    ("GET / HTTP/1.1\r\nHost: a:8x\r\n\r\n", "host"),
    ("GET http://a/ HTTP/1.1\r\nHost: b\r\n\r\n", "host_mismatch"),
    ("GET http://a:81/ HTTP/1.1\r\nHost: a\r\n\r\n", "host_mismatch"),
    ("GET http://a@b/ HTTP/1.1\r\nHost: a\r\n\r\n", "host_mismatch"),
    // Fields that a proxy on the way would take out.
    ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\nConnection: Content-Length\r\n\r\n", "connection_option"),
    ("GET / HTTP/1.1\r\nHost: a\r\nConnection: close, host\r\n\r\n", "connection_option"),
];

/// What may follow the head of a chunked message.
const CHUNKS: &[(&str, &str)] = &[
    ("\r\n", "chunk_size"),
    ("x\r\n", "chunk_size"),
    ("0x3\r\nabc\r\n", "chunk_size"),
    ("+3\r\nabc\r\n", "chunk_size"),
    ("-3\r\nabc\r\n", "chunk_size"),
    (" 3\r\nabc\r\n", "chunk_size"),
    ("3 \r\nabc\r\n", "chunk_size"),
    ("3 3\r\nabc\r\n", "chunk_size"),
    ("3_0\r\nabc\r\n", "chunk_size"),
    ("10000000000000003\r\nabc\r\n", "chunk_size"),
    ("ffffffffffffffff\r\nabc\r\n", "chunk_size"),
    ("00000000000000003\r\nabc\r\n", "chunk_size"),
    ("3;\x01\r\nabc\r\n", "chunk_size"),
    // The end of an extension (2025: TERM.EXT and its kin), and of content.
    ("3;a\nabc\r\n", "bare_lf"),
    ("3\nabc\r\n", "bare_lf"),
    ("3\rabc\r\n", "bare_cr"),
    ("3;a\rb\r\nabc\r\n", "bare_cr"),
    ("3\r\nabcd\r\n", "chunk_end"),
    ("3\r\nabc\n0\r\n", "chunk_end"),
    ("3\r\nabcXX0\r\n", "chunk_end"),
    ("3\r\nabc\r0\r\n", "chunk_end"),
    ("3;\0\r\nabc\r\n", "nul"),
    // Trailers.
    ("0\r\nContent-Length: 3\r\n\r\n", "trailer_field"),
    ("0\r\nTransfer-Encoding: chunked\r\n\r\n", "trailer_field"),
    ("0\r\nHost: b\r\n\r\n", "trailer_field"),
    ("0\r\nX : b\r\n\r\n", "space_before_colon"),
    ("0\r\nX: b\r\n c\r\n\r\n", "obsolete_fold"),
    ("0\r\nX: b\n\r\n", "bare_lf"),
    ("0\r\n\n", "bare_lf"),
    ("0\r\nGET / HTTP/1.1\r\n\r\n", "field"),
];

/// Responses to a GET.
const RESPONSES: &[(&str, &str)] = &[
    ("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", "conflicting_length"),
    ("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", "conflicting_length"),
    ("HTTP/1.1 200 OK\r\nContent-Length: 1 \r\n\t2\r\n\r\n", "obsolete_fold"),
    ("HTTP/1.1 200 OK\r\nContent-Length: a\r\n\r\n", "content_length"),
    ("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", "transfer_encoding"),
    ("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "unexpected_transfer_encoding"),
    ("HTTP/1.1 204 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "unexpected_transfer_encoding"),
    ("HTTP/1.1 103 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "unexpected_transfer_encoding"),
    ("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n", "unasked_upgrade"),
    ("HTTP/1.1 20 OK\r\n\r\n", "start_line"),
    ("HTTP/1.1 2000 OK\r\n\r\n", "start_line"),
    ("HTTP/1.1 099 OK\r\n\r\n", "start_line"),
    ("HTTP/1.1  200 OK\r\n\r\n", "start_line"),
    ("HTTP/2 200 OK\r\n\r\n", "start_line"),
    ("HTTP/1.7 200 OK\r\n\r\n", "version"),
    ("ICY 200 OK\r\n\r\n", "start_line"),
    ("<html>", "start_line"),
    ("\r\nHTTP/1.1 200 OK\r\n\r\n", "start_line"),
    ("HTTP/1.1 200 O\x01K\r\n\r\n", "control_character"),
    ("HTTP/1.1 200 OK\nA: b\n\n", "bare_lf"),
    ("HTTP/1.1 200 OK\r\nA: b\rSet-Cookie: c\r\n\r\n", "bare_cr"),
    ("HTTP/1.1 200 OK\r\nA : b\r\n\r\n", "space_before_colon"),
    ("HTTP/1.1 200 OK\r\nA: \0\r\n\r\n", "nul"),
];

/// Tells the bytes whole and one by one: the last word must be the same.
fn refused(before: &[(Side, &str)], side: Side, bytes: &str) -> String {
    let mut last = Vec::new();
    for piece in [bytes.len().max(1), 1] {
        let mut conversation = Conversation::new();
        for (side, bytes) in before {
            tell(&mut conversation, *side, bytes.as_bytes());
        }
        let (mut at, mut refusal) = (0, String::new());
        for end in (1..=bytes.len()).filter(|end| end % piece == 0) {
            while let Ok(step) = conversation.next(side, &bytes.as_bytes()[at..end]) {
                at += step.len();
                if step.is_empty() && !matches!(step, Step::End { .. }) {
                    break;
                }
            }
        }
        if let Err(found) = conversation.next(side, &bytes.as_bytes()[at..]) {
            refusal = found.code().into();
            assert_eq!(found.side, side);
            assert!(!found.to_string().is_empty());
        }
        last.push(refusal);
    }
    assert_eq!(last[0], last[1], "a cut changed the refusal of {bytes:?}");
    last.remove(0)
}

#[test]
fn requests_that_can_be_read_in_two_ways_are_refused() {
    for (request, code) in REQUESTS {
        assert_eq!(refused(&[], Client, request), *code, "{request:?}");
    }
}

#[test]
fn chunks_that_can_be_read_in_two_ways_are_refused_from_both_sides() {
    for (chunks, code) in CHUNKS {
        let request = format!("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}");
        assert_eq!(refused(&[], Client, &request), *code, "{chunks:?}");
        let response = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}");
        assert_eq!(refused(&[(Client, GET)], Server, &response), *code, "{chunks:?}");
    }
}

#[test]
fn responses_that_can_be_read_in_two_ways_are_refused() {
    for (response, code) in RESPONSES {
        assert_eq!(refused(&[(Client, GET)], Server, response), *code, "{response:?}");
    }
}

/// What a first request is answered with where it is refused; none where it is not, or not yet.
fn status(bytes: &[u8]) -> Option<(u16, &'static str)> {
    Conversation::new().next(Client, bytes).err().map(|refusal| (refusal.status(), refusal.code()))
}

#[test]
fn heads_have_limits() {
    let head = |fields: usize| format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: 1\r\n".repeat(fields - 1));
    assert_eq!(status(head(limits::HTTP_HEADERS_MAX).as_bytes()), None);
    assert_eq!(status(head(limits::HTTP_HEADERS_MAX + 1).as_bytes()), Some((431, "too_many_fields")));
    let padded = |len: usize| {
        let begin = "GET / HTTP/1.1\r\nHost: a\r\nX: ";
        format!("{begin}{}\r\n\r\n", "a".repeat(len - begin.len() - 4))
    };
    assert_eq!(status(padded(limits::HTTP_HEAD_BYTES_MAX).as_bytes()), None);
    assert_eq!(status(padded(limits::HTTP_HEAD_BYTES_MAX + 1).as_bytes()), Some((431, "head_too_large")));
    assert_eq!(status(&vec![b'a'; limits::HTTP_HEAD_BYTES_MAX]), Some((431, "head_too_large")));
    assert_eq!(status(&vec![b'a'; limits::HTTP_HEAD_BYTES_MAX - 1]), None);
    let line = format!("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1;{}", "a".repeat(4096));
    assert_eq!(tell(&mut Conversation::new(), Client, line.as_bytes()).last().unwrap(), "refused 400 chunk_line");
    assert_eq!(tell(&mut Conversation::new(), Client, b"GET / HTTP/3.0\r\n\r\n"), ["refused 505 version"]);
}

#[test]
fn a_refusal_is_final() {
    let mut conversation = Conversation::new();
    let refusal = conversation.next(Client, b"GET / HTTP/1.1\n").unwrap_err();
    assert_eq!(conversation.next(Client, GET.as_bytes()), Err(refusal));
    assert_eq!(conversation.next(Server, OK.as_bytes()), Err(refusal));
}
