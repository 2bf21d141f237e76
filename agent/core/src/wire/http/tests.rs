use super::*;
use crate::limits;
use crate::session::Side::{self, Client, Server};
use crate::wire::tls::{Hello, client_hello};

mod refusals;
mod split;

/// Steps of `bytes`, all at once, without what covers nothing and is no `End`; in words.
fn tell(conversation: &mut Conversation, side: Side, bytes: &[u8]) -> Vec<String> {
    let (mut told, mut at) = (Vec::new(), 0);
    loop {
        let step = match conversation.next(side, &bytes[at..]) {
            Ok(step) => step,
            Err(refusal) => {
                told.push(format!("refused {} {}", refusal.status(), refusal.code()));
                return told;
            }
        };
        at += step.len();
        told.push(match step {
            Step::RequestHead { exchange, head, .. } => format!("{exchange} {}", head.method),
            Step::ResponseHead { exchange, head, interim, .. } => {
                format!("{exchange} {}{}", head.status, if interim { " interim" } else { "" })
            }
            Step::Body { exchange, len } => format!("{exchange} body {len}"),
            Step::Framing { exchange, len } => format!("{exchange} framing {len}"),
            Step::Trailers { exchange, fields, .. } => format!("{exchange} trailers {}", fields.count()),
            Step::End { exchange, .. } => format!("{exchange} end"),
            Step::NeedMore if at == bytes.len() => return told,
            Step::NeedMore => "more".into(),
            Step::Wait => "wait".into(),
            Step::Over => "over".into(),
            Step::Upgraded => "upgraded".into(),
        });
        if matches!(step, Step::NeedMore | Step::Wait | Step::Over | Step::Upgraded) {
            return told;
        }
    }
}

/// Says in turn what the sides send, and compares what is told.
fn talk(turns: &[(Side, &str, &[&str])]) -> Conversation {
    let mut conversation = Conversation::new();
    for (side, bytes, expected) in turns {
        assert_eq!(tell(&mut conversation, *side, bytes.as_bytes()), *expected, "{side:?} {bytes:?}");
    }
    conversation
}

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const NOTHING: Ended = Ended { completed: None, cut: None, unanswered: Vec::new() };

#[test]
fn a_connection_carries_one_exchange_after_the_other() {
    let mut conversation = talk(&[
        (Client, GET, &["1 GET", "1 end"]),
        (Server, OK, &["1 200", "1 body 2", "1 end"]),
        (Client, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nab", &["2 POST", "2 body 2"]),
        (Client, "c", &["2 body 1", "2 end"]),
        (Server, "HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n", &["2 204", "2 end"]),
    ]);
    assert_eq!((conversation.end(Client), conversation.end(Server)), (NOTHING, NOTHING));
    assert_eq!((conversation.exchanges(), conversation.outstanding()), (2, 0));
}

#[test]
fn pipelined_requests_are_answered_in_their_order() {
    let two = format!("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n{GET}");
    let answers = "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nHTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n";
    talk(&[
        (Client, &two, &["1 HEAD", "1 end", "2 GET", "2 end"]),
        (Server, answers, &["1 200", "1 end", "2 304", "2 end"]),
    ]);
}

#[test]
fn a_full_pipeline_waits_and_loses_nothing() {
    let mut conversation = Conversation::new();
    let told = tell(&mut conversation, Client, GET.repeat(limits::HTTP_PIPELINE_MAX + 1).as_bytes());
    assert_eq!(told.last().unwrap(), "wait");
    assert_eq!(conversation.outstanding(), limits::HTTP_PIPELINE_MAX);
    tell(&mut conversation, Server, OK.as_bytes());
    assert_eq!(tell(&mut conversation, Client, GET.as_bytes()), ["65 GET", "65 end"]);
}

#[test]
fn chunks_keep_their_extensions_and_trailers() {
    let body = "3;a=b;c=\"d e\"\r\nabc\r\n0A\r\n0123456789\r\n0;last\r\nX-Sum: 1\r\nX-More: 2\r\n\r\n";
    let head = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n";
    talk(&[
        (
            Client,
            &format!("{head}{body}"),
            &[
                "1 POST",
                "1 framing 15",
                "1 body 3",
                "1 framing 2",
                "1 framing 4",
                "1 body 10",
                "1 framing 2",
                "1 framing 8",
                "1 trailers 2",
                "1 end",
            ],
        ),
        (
            Server,
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            &["1 200", "1 framing 3", "1 framing 2", "1 end"],
        ),
    ]);
}

#[test]
fn a_response_without_a_length_ends_with_the_connection() {
    let mut conversation = talk(&[
        (Client, GET, &["1 GET", "1 end"]),
        (Server, "HTTP/1.1 200 OK\r\n\r\nabc", &["1 200", "1 body 3"]),
        (Client, GET, &["over"]),
        (Server, "HTTP/1.1 200 OK\r\n\r\n", &["1 body 19"]),
    ]);
    assert_eq!(conversation.end(Server), Ended { completed: Some(1), ..NOTHING });
    assert_eq!(conversation.outstanding(), 0);
}

#[test]
fn http_1_0_closes_unless_both_keep_it_open() {
    let old = "GET / HTTP/1.0\r\n\r\n";
    talk(&[(Client, old, &["1 GET", "1 end", "over"]), (Server, OK, &["1 200", "1 body 2", "1 end", "over"])]);
    let kept = "GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n";
    let answer = "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 0\r\n\r\n";
    talk(&[
        (Client, kept, &["1 GET", "1 end"]),
        (Server, answer, &["1 200", "1 end"]),
        (Client, old, &["2 GET", "2 end", "over"]),
        (Server, "HTTP/1.0 200\r\n\r\nx", &["2 200", "2 body 1"]),
    ]);
}

#[test]
fn close_ends_the_conversation() {
    let closing = "GET / HTTP/1.1\r\nHost: a\r\nConnection: foo, Close\r\n\r\n";
    talk(&[
        (Client, &format!("{closing}{GET}"), &["1 GET", "1 end", "over"]),
        (Server, OK, &["1 200", "1 body 2", "1 end", "over"]),
    ]);
    let answer = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
    let mut conversation = talk(&[
        (Client, &GET.repeat(2), &["1 GET", "1 end", "2 GET", "2 end"]),
        (Server, &format!("{answer}{OK}"), &["1 200", "1 end", "over"]),
        (Client, GET, &["over"]),
    ]);
    assert_eq!(conversation.end(Server).unanswered, [2]);
}

#[test]
fn a_client_that_waits_for_100_gets_it_and_goes_on() {
    let head = "PUT / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n";
    talk(&[
        (Client, head, &["1 PUT"]),
        (
            Server,
            "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n",
            &["1 103 interim", "1 100 interim"],
        ),
        (Client, "ok", &["1 body 2", "1 end"]),
        (Server, OK, &["1 200", "1 body 2", "1 end"]),
    ]);
    // Refused before its content: what comes next is content or a request, and nobody can tell.
    let refused = "HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n";
    talk(&[(Client, head, &["1 PUT"]), (Server, refused, &["1 401", "1 end", "over"]), (Client, GET, &["over"])]);
    // Told to go on, or already sending: it is content.
    for first in ["HTTP/1.1 100 Continue\r\n\r\n", ""] {
        let mut conversation = talk(&[(Client, head, &["1 PUT"])]);
        tell(&mut conversation, Server, first.as_bytes());
        if first.is_empty() {
            tell(&mut conversation, Client, b"o");
        }
        assert_eq!(tell(&mut conversation, Server, refused.as_bytes()), ["1 401", "1 end"]);
        let rest = if first.is_empty() { "k" } else { "ok" };
        assert_eq!(tell(&mut conversation, Client, rest.as_bytes()).last().unwrap(), "1 end");
        assert_eq!(tell(&mut conversation, Client, GET.as_bytes()), ["2 GET", "2 end"]);
    }
}

#[test]
fn an_early_answer_leaves_the_request_its_content() {
    talk(&[
        (Client, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nab", &["1 POST", "1 body 2"]),
        (Server, OK, &["1 200", "1 body 2", "1 end"]),
        (Client, "cd", &["1 body 2", "1 end"]),
        (Client, GET, &["2 GET", "2 end"]),
        (Server, OK, &["2 200", "2 body 2", "2 end"]),
    ]);
}

#[test]
fn an_upgrade_is_opaque_once_the_server_says_so() {
    let ask = "GET /chat HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    let switched = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n\x01\x02";
    let mut conversation = talk(&[
        (Client, &format!("{ask}early"), &["1 GET", "1 end", "wait"]),
        (Server, switched, &["1 101", "1 end", "upgraded"]),
        (Client, "early", &["upgraded"]),
    ]);
    assert_eq!((conversation.end(Client), conversation.end(Server)), (NOTHING, NOTHING));
    talk(&[
        (Client, ask, &["1 GET", "1 end"]),
        (Server, OK, &["1 200", "1 body 2", "1 end"]),
        (Client, GET, &["2 GET", "2 end"]),
    ]);
    // The client's content comes first, the other protocol behind it.
    let with_body = "POST / HTTP/1.1\r\nHost: a\r\nUpgrade: h2c\r\nContent-Length: 2\r\n\r\n";
    talk(&[
        (Client, with_body, &["1 POST"]),
        (Server, switched, &["1 101", "1 end", "upgraded"]),
        (Client, "ok\x01", &["1 body 2", "1 end", "upgraded"]),
    ]);
}

#[test]
fn a_tunnel_is_opaque_once_it_stands() {
    let ask = "CONNECT api.example.com:443 HTTP/1.1\r\nHost: api.example.com\r\n\r\n";
    talk(&[
        (Client, &format!("{ask}\x16"), &["1 CONNECT", "1 end", "wait"]),
        (
            Server,
            "HTTP/1.1 200 Connection established\r\nContent-Length: 5\r\n\r\n\x16",
            &["1 200", "1 end", "upgraded"],
        ),
        (Client, "\x16", &["upgraded"]),
    ]);
    let refused = "HTTP/1.1 407 No\r\nContent-Length: 2\r\n\r\nno";
    talk(&[
        (Client, ask, &["1 CONNECT", "1 end"]),
        (Server, refused, &["1 407", "1 body 2", "1 end"]),
        (Client, GET, &["2 GET", "2 end"]),
    ]);
    // HTTP/1.0 CONNECT, as old clients send it, closes unless it is answered with a tunnel.
    talk(&[
        (Client, "CONNECT a:443 HTTP/1.0\r\n\r\n", &["1 CONNECT", "1 end"]),
        (Server, "HTTP/1.0 200 OK\r\n\r\n", &["1 200", "1 end", "upgraded"]),
        (Client, "\x16", &["upgraded"]),
    ]);
}

#[test]
fn an_idle_server_may_say_why_it_closes() {
    let mut conversation = talk(&[
        (
            Server,
            "HTTP/1.1 408 Request Timeout\r\nContent-Length: 2\r\n\r\nno",
            &["0 408", "0 body 2", "0 end", "over"],
        ),
        (Client, GET, &["over"]),
    ]);
    assert_eq!(conversation.end(Server), NOTHING);
    talk(&[(Server, OK, &["refused 502 unasked_response"])]);
}

#[test]
fn the_end_of_a_side_tells_what_it_cut() {
    let mut conversation = talk(&[(Client, "GET / HT", &["more"])]);
    assert_eq!(conversation.end(Client).cut, Some(1));
    let mut conversation = talk(&[
        (Client, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nab", &["1 POST", "1 body 2"]),
        (Server, "HTTP/1.1 200", &["more"]),
    ]);
    assert_eq!(conversation.end(Client).cut, Some(1));
    let ended = conversation.end(Server);
    assert_eq!((ended.cut, ended.unanswered), (Some(1), vec![1]));
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab";
    let mut conversation =
        talk(&[(Client, GET, &["1 GET", "1 end"]), (Server, chunked, &["1 200", "1 framing 3", "1 body 2"])]);
    let ended = conversation.end(Server);
    assert_eq!((ended.completed, ended.cut, ended.unanswered), (None, Some(1), vec![]));
}

#[test]
fn an_empty_line_before_a_request_is_tolerated_once() {
    talk(&[(
        Client,
        &format!("\r\n{GET}\r\n{GET}"),
        &["0 framing 2", "1 GET", "1 end", "0 framing 2", "2 GET", "2 end"],
    )]);
}

#[test]
fn a_request_head_tells_its_url() {
    let url = |head: &str| RequestHead::parse(head.as_bytes()).unwrap().url("https", "dflt:1");
    assert_eq!(url("GET /a?b#c HTTP/1.1\r\nHost: h:8\r\n\r\n"), "https://h:8/a?b#c");
    assert_eq!(url("GET /a HTTP/1.0\r\n\r\n"), "https://dflt:1/a");
    assert_eq!(url("GET http://H/a HTTP/1.1\r\nHost: h:80\r\n\r\n"), "http://H/a");
    assert_eq!(url("OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n"), "https://h");
    assert_eq!(url("CONNECT h:443 HTTP/1.1\r\nHost: h\r\n\r\n"), "h:443");
    let head = "GET http://me:pw@h/a%2F?x=1?2 HTTP/1.1\r\nHOST: h\r\nAccept: a , b\r\nACCEPT: c\r\n\r\n";
    let head = RequestHead::parse(head.as_bytes()).unwrap();
    assert_eq!(
        (head.host().unwrap().as_str(), head.path().unwrap(), head.query().unwrap()),
        ("h", &b"/a%2F"[..], &b"x=1?2"[..])
    );
    assert_eq!(head.fields.members("accept").collect::<Vec<_>>(), [b"a", b"b", b"c"]);
    assert_eq!(target::name_of(b"me:pw@Example.COM:80").unwrap(), "example.com");
    assert_eq!(target::name_of(b"[::1]:80").unwrap(), "::1");
}

#[test]
fn what_is_printed_for_developers_holds_no_credentials() {
    let head = "GET http://me:s3cret@a/?key=s3cret HTTP/1.1\r\nHost: a\r\nCookie: s3cret\r\n\r\n";
    let text = format!("{:?}", Conversation::new().next(Client, head.as_bytes()).unwrap());
    assert!(text.contains("GET") && text.contains("Cookie") && !text.contains("s3cret"), "{text}");
}

#[test]
fn real_clients_are_understood() {
    for name in
        ["curl-basic", "curl-bearer-post", "curl-cookie", "curl-proxy", "node-fetch", "python-urllib", "wget-basic"]
    {
        let path = format!("{}/../../tests/corpus/http/{name}.bin", env!("CARGO_MANIFEST_DIR"));
        let bytes = std::fs::read(path).unwrap();
        assert_eq!(client_hello(&bytes), Hello::NotTls);
        let mut conversation = Conversation::new();
        let told = tell(&mut conversation, Client, &bytes);
        assert!(told.contains(&"1 end".to_owned()) && !told.concat().contains("refused"), "{name}: {told:?}");
    }
}

#[test]
fn a_tunnel_may_follow_the_last_request() {
    let mut conversation = Conversation::new();
    tell(&mut conversation, Client, b"CONNECT a:443 HTTP/1.0\r\n\r\n");
    assert_eq!(conversation.next(Client, b""), Ok(Step::NeedMore));
    assert_eq!(conversation.next(Client, b"hello"), Ok(Step::Wait), "its answer decides");
    tell(&mut conversation, Server, b"HTTP/1.1 200 OK\r\n\r\n");
    assert_eq!(conversation.next(Client, b"hello"), Ok(Step::Upgraded));
    let mut conversation = Conversation::new();
    tell(&mut conversation, Client, b"CONNECT a:443 HTTP/1.0\r\n\r\n");
    tell(&mut conversation, Server, b"HTTP/1.1 407 No\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(conversation.next(Client, b"hello"), Ok(Step::Over));
}
