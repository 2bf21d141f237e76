//! However the bytes are cut, the same is told, and every byte is told once.

use proptest::prelude::*;

use super::*;

/// A message's content, in chunks where there are several pieces.
fn message(start: &str, pieces: &[Vec<u8>], chunked: bool) -> (Vec<u8>, Vec<u8>) {
    let content = pieces.concat();
    let mut bytes = start.as_bytes().to_vec();
    if !chunked {
        bytes.extend_from_slice(format!("Content-Length: {}\r\n\r\n", content.len()).as_bytes());
        bytes.extend_from_slice(&content);
        return (bytes, content);
    }
    bytes.extend_from_slice(b"Transfer-Encoding: chunked\r\n\r\n");
    for piece in pieces.iter().filter(|piece| !piece.is_empty()) {
        bytes.extend_from_slice(format!("{:X};n=\"{}\"\r\n", piece.len(), piece.len()).as_bytes());
        bytes.extend_from_slice(piece);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(if content.len() % 2 == 0 { b"0\r\n\r\n" } else { b"000\r\nX-Sum: 1\r\n\r\n" });
    (bytes, content)
}

/// The slow oracle: the content of a chunked body, read in the plainest way.
fn unchunked(body: &[u8]) -> Vec<u8> {
    let line_end = body.windows(2).position(|pair| pair == b"\r\n").unwrap();
    let line = String::from_utf8(body[..line_end].to_vec()).unwrap();
    let size = usize::from_str_radix(line.split(';').next().unwrap(), 16).unwrap();
    let (content, rest) = body[line_end + 2..].split_at(size);
    if size == 0 { Vec::new() } else { [content, &unchunked(&rest[2..])].concat() }
}

/// Walks `bytes` in pieces; gives the content of each exchange, and all that was covered.
fn walk(conversation: &mut Conversation, side: Side, bytes: &[u8], cuts: &[usize]) -> (Vec<Vec<u8>>, Vec<u8>) {
    let (mut at, mut contents, mut covered) = (0, Vec::new(), Vec::new());
    let mut ends: Vec<usize> = cuts.iter().map(|cut| cut % (bytes.len() + 1)).chain([bytes.len()]).collect();
    ends.sort_unstable();
    for end in ends {
        loop {
            let step = conversation.next(side, &bytes[at..end]).unwrap();
            let piece = &bytes[at..at + step.len()];
            covered.extend_from_slice(piece);
            at += step.len();
            match step {
                Step::RequestHead { .. } | Step::ResponseHead { interim: false, .. } => contents.push(Vec::new()),
                Step::Body { .. } => contents.last_mut().unwrap().extend_from_slice(piece),
                Step::NeedMore => break,
                Step::Framing { .. } | Step::Trailers { .. } | Step::End { .. } | Step::ResponseHead { .. } => {}
                Step::Wait | Step::Over | Step::Upgraded => panic!("{step:?}"),
            }
        }
    }
    (contents, covered)
}

fn messages() -> impl Strategy<Value = Vec<(Vec<Vec<u8>>, bool)>> {
    let pieces = prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..5);
    prop::collection::vec((pieces, any::<bool>()), 1..5)
}

proptest! {
    #[test]
    fn any_cut_tells_the_same_and_loses_nothing(
        messages in messages(),
        cuts in prop::collection::vec(any::<usize>(), 0..12),
    ) {
        let mut conversation = Conversation::new();
        for (side, start) in [(Client, "POST /a HTTP/1.1\r\nHost: a\r\n"), (Server, "HTTP/1.1 200 OK\r\nX: \u{fc}\r\n")] {
            let (mut bytes, mut expected) = (Vec::new(), Vec::new());
            for (pieces, chunked) in &messages {
                let (message, content) = message(start, pieces, *chunked);
                if *chunked {
                    let head = message.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
                    prop_assert_eq!(unchunked(&message[head + 4..]), content.clone());
                }
                bytes.extend(message);
                expected.push(content);
            }
            let (contents, covered) = walk(&mut conversation, side, &bytes, &cuts);
            prop_assert_eq!(contents, expected);
            prop_assert_eq!(covered, bytes);
        }
        prop_assert_eq!(conversation.outstanding(), 0);
    }

    #[test]
    fn no_bytes_break_it(cut in any::<u8>(), at in any::<u16>(), parts in prop::collection::vec(any::<prop::sample::Index>(), 0..30)) {
        const PARTS: &[&str] = &[
            "GET / HTTP/1.1\r\n", "HEAD / HTTP/1.1\r\n", "POST http://a/ HTTP/1.0\r\n", "CONNECT a:1 HTTP/1.1\r\n", "Host: a\r\n",
            "Content-Length: 3\r\n", "Transfer-Encoding: chunked\r\n", "Connection: close\r\n", "Connection: keep-alive\r\n",
            "Upgrade: x\r\n", "Expect: 100-continue\r\n", "\r\n", "\r\n", "abc", "3\r\nabc\r\n", "0\r\n\r\n", "HTTP/1.1 200 OK\r\n",
            "HTTP/1.1 100 Continue\r\n\r\n", "HTTP/1.1 101 X\r\n", "HTTP/1.1 404 \r\n", "HTTP/1.0 204\r\n", "\n", "\r", "\0",
        ];
        let text: String = parts.iter().map(|part| *part.get(PARTS)).collect();
        let at = at % u16::try_from(text.len() + 1).unwrap();
        fuzz_http_conversation(&[&[cut % 9][..], &at.to_be_bytes(), text.as_bytes()].concat());
        fuzz_http_head(text.as_bytes());
    }
}
