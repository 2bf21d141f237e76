//! Protocols whose first bytes are those of an HTTP request and whose first line is none: RTSP, SIP, ICAP, Redis with inline
//! commands on a strange port.
//!
//! Never takes anything for foreign that a lenient HTTP server could read as a request of version 1: whatever has the word
//! HTTP in its line is HTTP, however malformed.

/// Whether what a client says first is surely no HTTP/1 request, as far as it has come.
pub(super) fn is_foreign(bytes: &[u8]) -> bool {
    let (line, whole) = match bytes.iter().position(|byte| *byte == b'\n') {
        Some(end) => (bytes.get(..end).unwrap_or(bytes), true),
        None => (bytes, false),
    };
    // Within a line of text, a control character is what only another protocol, or somebody who tries servers, sends.
    let speaks_of_http = line.windows(4).any(|word| word.eq_ignore_ascii_case(b"http"));
    whole && !speaks_of_http && !line.is_empty() && line != b"\r"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_http_gives_way_and_whatever_could_be_does_not() {
        for foreign in [
            "OPTIONS rtsp://camera/stream RTSP/1.0\r\nCSeq: 1\r\n\r\n",
            "OPTIONS sip:bob@example.org SIP/2.0\r\n",
            "OPTIONS icap://scanner/respmod ICAP/1.0\r\n",
            "GET counter\r\n",
            "GET counter\n",
            "GET /an/older/page\r\n",
        ] {
            assert!(is_foreign(foreign.as_bytes()), "{foreign:?}");
        }
        for http in [
            "",
            "GET",
            "GET / HT",
            "GET counter",
            "\r\nGET / HTTP/1.1\r\n",
            "\r\n",
            "GET / HTTP/1.1\r\n",
            "GET / http/1.1\r\n",
            "GET  / HTTP/1.1 \r\n",
            "GET / HTTP/1.1\n",
            "GET /\0 HTTP/1.1\r\n",
            "GET / HTTP/9.9\r\n",
        ] {
            assert!(!is_foreign(http.as_bytes()), "{http:?}");
        }
    }
}
