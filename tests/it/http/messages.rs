//! Messages in all their forms: what arrives is what was sent, byte for byte, and what is on record is the same.

use crewtap_tests::host::{Host, succeeded, text};

use super::*;

const SEVERAL: &str = "import http.client, sys
c = http.client.HTTPConnection('127.0.0.1', int(sys.argv[1]))
for method, path, body in [('GET', '/first?page=2', None), ('POST', '/second', b'some content'), ('GET', '/third', None)]:
    c.request(method, path, body)
    answer = c.getresponse()
    print(answer.status, answer.read().decode())";

#[test]
fn several_requests_on_one_connection_are_exchanges_of_one_session() {
    let host = Host::new();
    let web = server(&host, |asked| {
        if asked.head.starts_with("POST") {
            asked.exactly(12);
        }
        let body = asked.path().to_owned();
        asked.answer(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()));
        true
    });
    let output = host.run(&["python3", "-c", SEVERAL, &web.port()]);
    assert_eq!(succeeded(&output), "200 /first?page=2\n200 /second\n200 /third\n");
    assert!(text(&output).contains("1 session, 3 exchanges"), "{}", text(&output));
    let rows = Rows::of_last_run(&host);
    rows.reconciled(1);
    let seen = web.seen().remove(0);
    assert_eq!(rows.session()["bytes_up"], seen.len());
    assert_eq!(rows.session()["recorded_up"], seen.len());
    assert_eq!(rows.session()["recorded_down"], rows.session()["bytes_down"]);
    assert_eq!(rows.run()["exchanges"], 3);
    let exchanges = exchanges(&host);
    assert_eq!(column(&exchanges, "verb"), ["GET", "POST", "GET"]);
    let base = format!("http://127.0.0.1:{}", web.port());
    assert_eq!(
        column(&exchanges, "subject"),
        ["/first?page=2", "/second", "/third"].map(|path| format!("{base}{path}"))
    );
    assert_eq!(column(&exchanges, "outcome"), ["success"; 3]);
    assert_eq!(message(&host, &exchanges[1], "client")["text"], "some content");
    assert_eq!(message(&host, &exchanges[2], "server")["text"], "/third");
    let lines = host.timeline(&host.last_run()).into_iter().filter(|line| line["event"] == "request").count();
    assert_eq!(lines, 3, "one line an exchange");
    host.verify();
}

/// Names and values that a proxy which makes messages anew would change.
const ODD: &[u8] = b"HTTP/1.1 203 Nearly  right\r\nx-SECOND: b\r\nX-First:   a   \r\nx-second: \tc\r\nEmpty:\r\n\
    Content-Length: 4\r\nDATE: never\r\n\r\n\x00\xff\r\n";

#[test]
fn what_arrives_is_what_was_sent_to_the_letter() {
    let host = Host::new();
    let web = always(&host, ODD);
    let url = format!("http://127.0.0.1:{}/%7Ea/../b?x=%20&&", web.port());
    let got = host.path("got");
    let out = got.to_str().unwrap();
    let curl = ["curl", "-sS", "-i", "--raw", "--path-as-is", "-o", out, "-H", "x-Odd:  1", "-H", "X-ODD: 2", &url];
    let _out = succeeded(&host.run(&curl));
    assert_eq!(std::fs::read(&got).unwrap(), ODD);
    let seen = String::from_utf8(web.seen().remove(0)).unwrap();
    assert!(
        seen.starts_with("GET /%7Ea/../b?x=%20&& HTTP/1.1\r\n") && seen.contains("x-Odd:  1\r\nX-ODD: 2\r\n"),
        "{seen}"
    );
    let exchanges = exchanges(&host);
    assert_eq!(message(&host, &exchanges[0], "client")["head"], seen);
    let head = String::from_utf8_lossy(&ODD[..ODD.len() - 4]).into_owned();
    assert_eq!(message(&host, &exchanges[0], "server")["head"], head);
    assert_eq!(message(&host, &exchanges[0], "server")["body_bytes"], 4);
}

const CHUNKED: &[u8] =
    b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\
    Trailer: X-Sum\r\n\r\n5;ext=1\r\nhello\r\n00006\r\n world\r\n0\r\nX-Sum: 11\r\n\r\n";

#[test]
fn chunks_early_hints_and_trailers_pass_as_they_are() {
    let host = Host::new();
    let web = server(&host, |asked| {
        asked.until(b"\r\n0\r\n\r\n");
        asked.answer(CHUNKED);
        true
    });
    let url = format!("http://127.0.0.1:{}/", web.port());
    std::fs::write(host.path("body"), "a".repeat(100_000)).unwrap();
    let body = format!("@{}", host.path("body").display());
    let chunked = ["-H", "Transfer-Encoding: chunked", "-H", "Expect:", "--data-binary", &body];
    let curl = [&["curl", "-sS", "-i", "--raw"][..], &chunked, &[&url]].concat();
    assert_eq!(succeeded(&host.run(&curl)).as_bytes(), CHUNKED);
    let rows = Rows::of_last_run(&host);
    assert_eq!(rows.session()["recorded_up"], web.seen()[0].len());
    assert_eq!(rows.session()["recorded_down"], CHUNKED.len());
    let exchanges = exchanges(&host);
    assert_eq!(exchanges.len(), 1);
    assert_eq!(exchanges[0]["bytes_down"], CHUNKED.len());
    let asked = message(&host, &exchanges[0], "client");
    assert_eq!((asked["body_bytes"].as_u64(), asked["text"].as_str().unwrap().len()), (Some(100_000), 100_000));
    let answer = message(&host, &exchanges[0], "server");
    assert_eq!(answer["text"], "hello world");
    let head = answer["head"].as_str().unwrap();
    assert!(head.contains("103 Early Hints") && head.contains("X-Sum: 11"), "{head}");
    host.verify();
}

const LARGE: usize = 3 << 20;

#[test]
fn a_client_that_asks_whether_it_may_is_answered_by_the_server() {
    let host = Host::new();
    let web = server(&host, |asked| {
        let expects = asked.head.contains("Expect: 100-continue\r\n");
        if asked.path() == "/no" && expects {
            asked.answer("HTTP/1.1 417 Expectation Failed\r\nContent-Length: 0\r\n\r\n");
            return true;
        }
        if expects {
            asked.answer("HTTP/1.1 100 Continue\r\n\r\n");
        }
        assert_eq!(asked.exactly(LARGE), vec![b'a'; LARGE]);
        asked.answer(OK);
        true
    });
    // curl asks by itself for a body of this size, and sends it unasked when it is told 417.
    std::fs::write(host.path("body"), vec![b'a'; LARGE]).unwrap();
    let body = format!("@{}", host.path("body").display());
    for (path, codes) in [("/yes", &["200"][..]), ("/no", &["417", "200"])] {
        let url = format!("http://127.0.0.1:{}{path}", web.port());
        let expects = ["--expect100-timeout", "60", "--data-binary", &body];
        assert_eq!(succeeded(&host.run(&[&["curl", "-sS"][..], &expects, &[&url]].concat())), "ok", "{path}");
        assert_eq!(column(&exchanges(&host), "code"), codes, "{path}");
    }
}

const WITHOUT: &str = "import http.client, sys
c = http.client.HTTPConnection('127.0.0.1', int(sys.argv[1]))
for method, path in [('HEAD', '/head'), ('GET', '/204'), ('GET', '/304'), ('GET', '/0'), ('GET', '/')]:
    c.request(method, path)
    answer = c.getresponse()
    print(answer.status, len(answer.read()), end=' ')";

#[test]
fn answers_without_content_are_followed_by_the_next() {
    let host = Host::new();
    let web = server(&host, |asked| {
        asked.answer(match asked.path() {
            "/head" => &b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\nContent-Encoding: gzip\r\n\r\n"[..],
            "/204" => b"HTTP/1.1 204 No Content\r\n\r\n",
            "/304" => b"HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\n\r\n",
            "/0" => b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
            _ => OK,
        });
        true
    });
    assert_eq!(host.python(WITHOUT, &[&web.port()]).trim(), "200 0 204 0 304 0 404 0 200 2");
    let exchanges = exchanges(&host);
    assert_eq!(column(&exchanges, "code"), ["200", "204", "304", "404", "200"]);
    assert_eq!(column(&exchanges, "outcome"), ["success", "success", "success", "failure", "success"]);
    assert_eq!(Rows::of_last_run(&host).session()["outcome"], "completed");
}

#[test]
fn clients_of_http_1_0_are_served_as_they_ask() {
    let host = Host::new();
    let web = server(&host, |asked| {
        let keeps = asked.head.contains("Keep-Alive\r\n");
        // A request that asks for the end is not the client's end: many servers would give up here.
        asked.stream.set_read_timeout(Some(std::time::Duration::from_millis(300))).unwrap();
        let more = asked.stream.read(&mut [0]);
        assert!(more.is_err(), "the target was told of an end before its answer: {more:?}");
        asked.stream.set_read_timeout(None).unwrap();
        asked.answer(if keeps {
            &b"HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\nContent-Length: 2\r\n\r\nok"[..]
        } else {
            b"HTTP/1.0 200 OK\r\n\r\nuntil the end"
        });
        keeps
    });
    let first = "GET /a HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n";
    let then = "show(until(b'ok')); s.sendall(b'GET /b HTTP/1.0\\r\\n\\r\\n'); show(rest())";
    let got = raw(&host, &web, first, then);
    assert!(got.ends_with("okHTTP/1.0 200 OK\r\n\r\nuntil the end"), "{got}");
    let exchanges = exchanges(&host);
    assert_eq!(column(&exchanges, "outcome"), ["success", "success"]);
    assert_eq!(message(&host, &exchanges[1], "server")["text"], "until the end");
    assert_eq!(Rows::of_last_run(&host).session()["outcome"], "completed");
}

#[test]
fn a_close_that_is_asked_for_is_not_the_end_of_the_client() {
    let host = Host::new();
    let web = server(&host, |asked| {
        asked.stream.set_read_timeout(Some(std::time::Duration::from_millis(300))).unwrap();
        assert!(asked.stream.read(&mut [0]).is_err(), "the target was told of an end before its answer");
        asked.answer(OK);
        false
    });
    let url = format!("http://127.0.0.1:{}/", web.port());
    assert_eq!(succeeded(&host.run(&["curl", "-sS", "-H", "Connection: close", &url])), "ok");
    assert_eq!(Rows::of_last_run(&host).session()["outcome"], "completed");
}

/// Each event is acknowledged over another connection before the server says the next.
const EVENTS: &str = "acks = socket.create_connection(('127.0.0.1', int(sys.argv[3])))
until(b'\\r\\n\\r\\n')
for number in range(50):
    event = until(b'\\n\\n')
    assert event == b'data: %d\\n\\n' % number, event
    acks.sendall(b'.')
show(rest())";

#[test]
fn events_of_a_server_arrive_as_they_come() {
    let host = Host::new();
    let (acknowledged, acks) = std::sync::mpsc::sync_channel(100);
    let (acknowledged, acks) = (std::sync::Mutex::new(acknowledged), std::sync::Mutex::new(acks));
    let listens = Peer::serve(&host, "127.0.0.1:0", move |stream, _| {
        while let Ok(1) = stream.read(&mut [0]) {
            acknowledged.lock().unwrap().send(()).unwrap();
        }
    });
    let web = server(&host, move |asked| {
        asked.answer("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n");
        for number in 0..50 {
            asked.answer(format!("data: {number}\n\n"));
            let ack = acks.lock().unwrap().recv_timeout(std::time::Duration::from_mins(1));
            ack.expect("the client has the event before the next is sent");
        }
        false
    });
    let script = format!("{HELPERS}{CONNECTED}{EVENTS}");
    let said = hex(b"GET /events HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(host.python(&script, &[&web.port(), &said, &listens.port()]), "");
    let shown = exchanges(&host).into_iter().find(|row| row["verb"] == "GET").unwrap();
    let text = message(&host, &shown, "server")["text"].as_str().unwrap().to_owned();
    assert!(text.starts_with("data: 0\n\n") && text.ends_with("data: 49\n\n"), "{text}");
}
