//! Requests that are refused, and requests that wait for a human: nothing of them reaches the target before it may.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use crewtap::session::Holding;
use crewtap_core::action::{Action, Verb};
use crewtap_core::run::Mode;
use crewtap_core::verdict::Effect;
use crewtap_tests::host::Host;
use crewtap_tests::peer::Peer;

use super::gatehouse::{Gatehouse, PORT, Plan, by_word, fact};
use super::*;
use crate::agent::until;

const WAIT: Duration = Duration::from_secs(20);

/// A client inside the host's namespace.
pub struct Client {
    stream: TcpStream,
    said: Vec<u8>,
}

impl Client {
    pub fn of(host: &Host) -> Self {
        let stream = host.inside(|| TcpStream::connect(("127.0.0.1", PORT)).unwrap()).join().unwrap();
        stream.set_read_timeout(Some(WAIT)).unwrap();
        Self { stream, said: Vec::new() }
    }

    pub fn say(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        self.stream.write_all(bytes.as_ref()).unwrap();
        self
    }

    fn get(&mut self, path: &str) -> &mut Self {
        self.say(format!("GET {path} HTTP/1.1\r\nHost: api.test\r\n\r\n"))
    }

    /// The next answer: its status line, and its content.
    pub fn answer(&mut self) -> (String, String) {
        let (head, content) = self.whole();
        (head.lines().next().unwrap_or_default().to_owned(), content)
    }

    /// The next answer: its head, and its content.
    pub fn whole(&mut self) -> (String, String) {
        let head = self.head();
        let len = length(&head);
        while self.said.len() < len {
            assert!(self.read(), "an answer is cut off: {head}");
        }
        let content: Vec<u8> = self.said.drain(..len).collect();
        (head, String::from_utf8(content).unwrap())
    }

    /// The next answer's head, in small letters; nothing at the connection's end.
    fn head(&mut self) -> String {
        let end = loop {
            match self.said.windows(4).position(|window| window == b"\r\n\r\n") {
                Some(end) => break end + 4,
                None if !self.read() => return String::new(),
                None => {}
            }
        };
        let head: Vec<u8> = self.said.drain(..end).collect();
        String::from_utf8(head).unwrap().to_lowercase()
    }

    fn status(&mut self) -> u16 {
        self.answer().0.split(' ').nth(1).map_or(0, |status| status.parse().unwrap())
    }

    /// Whether more came before the connection's end.
    fn read(&mut self) -> bool {
        let mut bytes = [0; 8192];
        match self.stream.read(&mut bytes) {
            Ok(0) => false,
            Ok(len) => {
                self.said.extend_from_slice(&bytes[..len]);
                true
            }
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => false,
            Err(error) => panic!("{error}"),
        }
    }

    /// Everything to the connection's end.
    pub fn rest(&mut self) -> String {
        while self.read() {}
        String::from_utf8_lossy(&std::mem::take(&mut self.said)).into_owned()
    }

    /// Reads up to these bytes, and drops them.
    pub fn read_until(&mut self, end: &[u8]) {
        while !self.said.ends_with(end) {
            assert!(self.read());
        }
        self.said.clear();
    }

    fn has_ended(&mut self) -> bool {
        self.said.is_empty() && !self.read()
    }
}

/// What a head in small letters says of its content.
fn length(head: &str) -> usize {
    head.lines().find_map(|line| line.strip_prefix("content-length: ")).map_or(0, |len| len.parse().unwrap())
}

/// A server that answers each request with its path, and keeps what it was sent.
fn echo(host: &Host) -> Peer {
    server(host, |asked| {
        let head = asked.head.to_lowercase();
        let len = length(&head);
        if head.contains("expect: 100-continue") {
            asked.answer("HTTP/1.1 100 Continue\r\n\r\n");
        }
        asked.exactly(len);
        if head.contains("transfer-encoding: chunked") {
            asked.until(b"0\r\n");
            asked.until(b"\r\n\r\n");
        }
        let path = asked.path().to_owned();
        asked.answer(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{path}", path.len()));
        true
    })
}

pub fn reached(peer: &Peer) -> String {
    peer.seen().into_iter().map(|seen| String::from_utf8_lossy(&seen).into_owned()).collect()
}

fn house(host: &Host, web: &Peer) -> Gatehouse {
    Gatehouse::start(host, &web.port(), Plan::new(by_word))
}

#[test]
fn a_refused_request_is_answered_and_its_connection_goes_on() {
    let host = Host::new();
    let web = echo(&host);
    let house = house(&host, &web);
    let mut client = Client::of(&host);
    assert_eq!(client.get("/a").answer().1, "/a");
    let (head, said) = client.get("/denied?x=1").whole();
    assert!(head.starts_with("http/1.1 403") && head.contains("application/problem+json"), "{head}");
    let said: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(said["policies"], serde_json::json!(["the-script"]));
    assert_eq!((said["exchange"].as_i64(), said["status"].as_i64()), (Some(2), Some(403)));
    let body = "POST /denied HTTP/1.1\r\nHost: api.test\r\nContent-Length: 5\r\n\r\n";
    assert_eq!(client.say(body).status(), 403);
    assert_eq!(client.say("12345GET /b HTTP/1.1\r\nHost: api.test\r\n\r\n").answer().1, "/b");
    client.say("HEAD /denied HTTP/1.1\r\nHost: api.test\r\n\r\n");
    assert!(client.head().starts_with("http/1.1 403"));
    assert_eq!(client.get("/c").answer().1, "/c");
    drop(client);
    assert!(!reached(&web).contains("denied") && !reached(&web).contains("12345"), "{}", reached(&web));
    let rows = house.exchanges(&host);
    assert_eq!(column(&rows, "outcome"), ["success", "blocked", "blocked", "success", "blocked", "success"]);
    assert_eq!(column(&rows, "verdict"), ["allow", "deny", "deny", "allow", "deny", "allow"]);
    assert!(rows[0]["session"].as_str().unwrap().starts_with(said["session"].as_str().unwrap()));
}

#[test]
fn what_is_pipelined_is_judged_in_turn_and_answered_in_order() {
    let host = Host::new();
    let web = echo(&host);
    let house = house(&host, &web);
    let mut client = Client::of(&host);
    let all = ["/1", "/denied/2", "/3", "/denied/4", "/denied/5", "/6"];
    let said: Vec<String> = all.iter().map(|path| format!("GET {path} HTTP/1.1\r\nHost: api.test\r\n\r\n")).collect();
    let said = said.concat();
    client.say(said);
    for path in all {
        let (status, content) = client.answer();
        assert_eq!(status.contains("403"), path.contains("denied"), "{path}: {status}");
        assert!(status.contains("403") || content == path, "{path}: {content}");
    }
    drop(client);
    assert!(!reached(&web).contains("denied"));
    assert_eq!(column(&house.exchanges(&host), "outcome").join(" "), "success blocked success blocked blocked success");
}

#[test]
fn a_held_request_waits_whole_and_what_was_approved_is_what_is_sent() {
    let host = Host::new();
    let web = echo(&host);
    let house = house(&host, &web);
    let mut client = Client::of(&host);
    let head = "POST /held HTTP/1.1\r\nHost: api.test\r\nAuthorization: Bearer s3cret-token\r\nTransfer-Encoding: chunked\r\n\r\n";
    let request = format!("{head}5\r\nhello\r\n6\r\n world\r\n0\r\nX-Sum: 1\r\n\r\n");
    for piece in request.as_bytes().chunks(7) {
        client.say(piece);
    }
    let question = house.questions.recv_timeout(WAIT).unwrap();
    assert_eq!((question.verb, String::from_utf8(question.clear).unwrap()), (Verb::HttpRequest, request.clone()));
    assert!(question.shown.contains("hello world") && question.shown.contains("X-Sum: 1"), "{}", question.shown);
    assert!(!question.shown.contains("s3cret-token"), "{}", question.shown);
    // What comes behind it waits, too, and changes nothing of it.
    client.get("/behind");
    assert_eq!(reached(&web), "");
    question.answer.send(Some(true)).unwrap();
    assert_eq!(client.answer().1, "/held");
    assert_eq!(client.answer().1, "/behind");
    assert!(reached(&web).starts_with(&request), "{}", reached(&web));
    client.get("/held/2");
    house.questions.recv_timeout(WAIT).unwrap().answer.send(Some(false)).unwrap();
    let (status, said) = client.answer();
    assert!(status.contains("403") && said.contains("not today"), "{status} {said}");
    assert_eq!(client.get("/c").answer().1, "/c");
    drop(client);
    assert!(!reached(&web).contains("held/2"));
    let rows = house.exchanges(&host);
    assert_eq!(column(&rows, "outcome"), ["success", "success", "blocked", "success"]);
    assert_eq!(column(&rows, "verdict"), ["ask", "allow", "ask", "allow"]);
}

#[test]
fn a_client_that_waits_for_100_is_told_to_go_on_once() {
    let host = Host::new();
    let web = echo(&host);
    let house = house(&host, &web);
    let mut client = Client::of(&host);
    let head = |path: &str| {
        format!("POST {path} HTTP/1.1\r\nHost: api.test\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n")
    };
    client.say(head("/held"));
    assert_eq!(client.status(), 100);
    client.say("body");
    house.questions.recv_timeout(WAIT).unwrap().answer.send(Some(true)).unwrap();
    assert_eq!(client.answer(), ("http/1.1 200 ok".into(), "/held".into()), "the target's own 100 reached the client");
    // Judged by its head alone: the target says it.
    client.say(head("/plain"));
    assert_eq!(client.status(), 100);
    assert_eq!(client.say("body").answer().1, "/plain");
    // Nobody can tell whether the content comes: the connection ends.
    let (head, _) = client.say(head("/denied")).whole();
    assert!(head.contains(" 403 ") && head.contains("connection: close"), "{head}");
    assert!(client.has_ended());
    drop(client);
    house.exchanges(&host);
    assert!(notes(&host).contains(&"http_continued".to_owned()));
}

#[test]
fn a_large_body_of_a_refused_request_is_neither_sent_nor_kept() {
    let host = Host::new();
    let web = echo(&host);
    let house = house(&host, &web);
    let mut client = Client::of(&host);
    client.say("POST /denied HTTP/1.1\r\nHost: api.test\r\nContent-Length: 1073741824\r\n\r\n");
    let piece = vec![b'x'; 1 << 20];
    let mut sent = 0;
    for _ in 0..1024 {
        match client.stream.write_all(&piece) {
            Ok(()) => sent += 1,
            Err(_) => break,
        }
    }
    let (head, _) = client.whole();
    assert!(head.contains(" 403 ") && head.contains("connection: close"), "{sent} MiB: {head}");
    drop(client);
    assert_eq!(reached(&web), "");
    let rows = house.exchanges(&host);
    assert_eq!(column(&rows, "outcome"), ["blocked"]);
    let size: u64 = std::fs::read_dir(host.data_dir().join("journal"))
        .unwrap()
        .map(|file| file.unwrap().metadata().unwrap().len())
        .sum();
    assert!(size < 256 << 20, "{size}");
}

#[test]
fn more_than_can_be_held_is_refused() {
    let host = Host::new();
    let web = echo(&host);
    let holding = Holding { body_max: 1000, ..Holding::default() };
    let house = Gatehouse::start(&host, &web.port(), Plan { holding, ..Plan::new(by_word) });
    let mut client = Client::of(&host);
    client.say("POST /held HTTP/1.1\r\nHost: api.test\r\nContent-Length: 1001\r\n\r\n");
    let (status, said) = client.answer();
    assert!(status.contains("413") && said.contains("1000 bytes"), "{status} {said}");
    let mut client = Client::of(&host);
    client.say("POST /held HTTP/1.1\r\nHost: api.test\r\nTransfer-Encoding: chunked\r\n\r\n");
    for _ in 0..200 {
        if client.stream.write_all(b"5\r\nhello\r\n").is_err() {
            break;
        }
    }
    assert_eq!(client.status(), 413);
    let mut client = Client::of(&host);
    let body = "x".repeat(1000);
    client.say(format!("POST /held HTTP/1.1\r\nHost: api.test\r\nContent-Length: 1000\r\n\r\n{body}"));
    house.questions.recv_timeout(WAIT).unwrap().answer.send(Some(true)).unwrap();
    assert_eq!(client.status(), 200);
    drop(client);
    assert!(house.questions.try_recv().is_err(), "somebody was asked for what nobody can see");
    let rows = house.exchanges(&host);
    assert_eq!(column(&rows, "code"), ["413", "413", "200"]);
    assert_eq!(column(&rows, "verdict"), ["ask", "ask", "ask"]);
}

#[test]
fn who_has_waited_long_enough_asks_again_and_gets_the_answer() {
    let host = Host::new();
    let web = echo(&host);
    let holding = Holding { http_wait: Some(Duration::from_millis(300)), ..Holding::default() };
    let house = Gatehouse::start(&host, &web.port(), Plan { holding, ..Plan::new(by_word) });
    let mut client = Client::of(&host);
    let (head, said) = client.get("/held").whole();
    assert!(head.contains(" 403 ") && head.contains("retry-after: "), "{head}");
    let said: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(said["operation"], "operation-1");
    assert_eq!(house.withdrawn(), 0, "the question was not left open");
    house.questions.recv_timeout(WAIT).unwrap().answer.send(Some(true)).unwrap();
    assert_eq!(client.get("/held").answer().1, "/held");
    // Another request is another question.
    assert_eq!(client.get("/held?x").status(), 403);
    assert!(house.questions.recv_timeout(WAIT).is_ok());
}

#[test]
fn who_has_gone_withdraws_and_nothing_is_sent() {
    let host = Host::new();
    let web = echo(&host);
    let house = house(&host, &web);
    let mut client = Client::of(&host);
    client.get("/held");
    let question = house.questions.recv_timeout(WAIT).unwrap();
    drop(client);
    let begun = Instant::now();
    until("the withdrawal", || (house.withdrawn() == 1).then_some(()));
    assert!(begun.elapsed() < WAIT);
    let _ = question.answer.send(Some(true));
    // One that ends in the middle of its body was never judged.
    let mut client = Client::of(&host);
    client.say("POST /held HTTP/1.1\r\nHost: api.test\r\nContent-Length: 10\r\n\r\nabc");
    client.stream.shutdown(Shutdown::Write).unwrap();
    assert!(client.has_ended());
    drop(client);
    assert_eq!(reached(&web), "");
    let rows = house.exchanges(&host);
    assert_eq!(column(&rows, "outcome"), ["aborted", "aborted"]);
}

/// Allows one host, one model and no tools but one.
fn strict(action: &Action) -> Effect {
    let is_ours = action.verb == Verb::Connect || fact(action, "host") == "api.test";
    let may_call = action.verb != Verb::LlmCall
        || fact(action, "model") == "gpt-4o" && ["", "search"].contains(&&*fact(action, "tools"));
    if is_ours && may_call { Effect::Allow } else { Effect::Deny }
}

#[test]
fn models_and_tools_are_judged_by_the_whole_body_however_it_comes() {
    let host = Host::new();
    let web = echo(&host);
    let house = Gatehouse::start(&host, &web.port(), Plan::new(strict));
    let post = |path: &str, fields: &str, body: &[u8]| {
        let head = format!("POST {path} HTTP/1.1\r\nHost: api.test\r\n{fields}Content-Length: {}\r\n\r\n", body.len());
        [head.as_bytes(), body].concat()
    };
    let chat = "/v1/chat/completions";
    let good = br#"{"model":"gpt-4o","messages":[],"tools":[{"type":"function","function":{"name":"search"}}]}"#;
    let bad = br#"{"model":"gpt-4o","messages":[],"tools":[{"type":"function","function":{"name":"delete"}}]}"#;
    let gzip = |bytes: &[u8]| {
        let mut child = std::process::Command::new("gzip")
            .arg("-c")
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(bytes).unwrap();
        child.wait_with_output().unwrap().stdout
    };
    let cases: Vec<(Vec<u8>, u16)> = vec![
        (post(chat, "Content-Type: application/json\r\n", good), 200),
        (post(chat, "Content-Type: application/json\r\n", bad), 403),
        (post(chat, "Content-Encoding: gzip\r\n", &gzip(good)), 200),
        (post(chat, "Content-Encoding: gzip\r\n", &gzip(bad)), 403),
        (post(chat, "Content-Encoding: unheard-of\r\n", good), 403),
        (post(chat, "", br#"{"model":"gpt-4o","model":"o1"}"#), 403),
        (post("/v1/chat//completions", "", good), 403),
        (post("/v1/chat/%63ompletions", "", bad), 403),
        (post("/v1/embeddings", "", br#"{"model":"gpt-4o","input":"x"}"#), 200),
        (post("/files", "", br#"{"model":"o1"}"#), 200),
    ];
    for (request, status) in cases {
        let mut client = Client::of(&host);
        for piece in request.chunks(request.len() / 3 + 1) {
            client.say(piece);
        }
        assert_eq!(client.status(), status, "{}", String::from_utf8_lossy(&request));
    }
    drop(house);
    assert!(!reached(&web).contains("delete"), "{}", reached(&web));
}

#[test]
fn the_host_that_is_named_is_judged_and_not_the_one_that_is_connected_to() {
    let host = Host::new();
    let web = echo(&host);
    let house = Gatehouse::start(&host, &web.port(), Plan::new(strict));
    for (named, status) in [
        ("Host: api.test", 200),
        ("Host: API.test.", 200),
        ("Host: api.test:8443", 200),
        ("Host: evil.test", 403),
        ("Host: api.test.evil.test", 403),
        ("Host: 127.0.0.1", 403),
        ("Host: ", 200),
        ("Host: a~b", 403),
        ("Host: api.test\r\nHost: evil.test", 400),
    ] {
        let mut client = Client::of(&host);
        client.say(format!("GET / HTTP/1.1\r\n{named}\r\n\r\n"));
        assert_eq!(client.status(), status, "{named}");
    }
    for (target, named, status) in [
        ("http://evil.test/", "evil.test", 403),
        ("http://api.test/", "api.test", 200),
        ("http://evil.test/", "api.test", 400),
    ] {
        let mut client = Client::of(&host);
        client.say(format!("GET {target} HTTP/1.1\r\nHost: {named}\r\n\r\n"));
        assert_eq!(client.status(), status, "{target} {named}");
    }
    drop(house);
    assert!(!reached(&web).contains("evil"), "{}", reached(&web));
}

#[test]
fn what_servers_could_take_in_another_way_is_unparsed() {
    let host = Host::new();
    let web = echo(&host);
    let house = Gatehouse::start(&host, &web.port(), Plan::new(|_| Effect::Allow));
    let mut client = Client::of(&host);
    let mut judged = |request: &str| {
        client.say(format!("{request}\r\n\r\n"));
        assert_eq!(client.status(), 200);
        house.next_judged()
    };
    let plain = judged("GET /a%62c?x=1 HTTP/1.1\r\nHost: api.test\r\nContent-Type: text/plain; charset=utf-8");
    assert_eq!((fact(&plain, "path"), fact(&plain, "raw_path")), ("/abc".into(), "/a%62c".into()));
    assert_eq!((fact(&plain, "query"), fact(&plain, "content_type")), ("x=1".into(), "text/plain".into()));
    assert_eq!((fact(&plain, "host"), fact(&plain, "proof")), ("api.test".into(), "dns".into()));
    assert_eq!(fact(&judged("GET /a/../b HTTP/1.1\r\nHost: api.test"), "path"), "UNPARSED");
    assert_eq!(fact(&judged("delete / HTTP/1.1\r\nHost: api.test"), "method"), "DELETE");
    assert_eq!(
        fact(&judged("POST / HTTP/1.1\r\nHost: api.test\r\nX-HTTP-Method-Override: DELETE"), "method"),
        "UNPARSED"
    );
    assert_eq!(fact(&judged("GET / HTTP/1.1\r\nHost: api.test\r\nX-Original-URL: /admin"), "path"), "UNPARSED");
    let claimed = judged("GET / HTTP/1.1\r\nHost: other.test");
    assert_eq!((fact(&claimed, "host"), fact(&claimed, "proof")), ("other.test".into(), "claimed".into()));
}

#[test]
fn shadow_tells_what_would_have_been_and_stops_nothing() {
    let host = Host::new();
    let web = echo(&host);
    let house = Gatehouse::start(&host, &web.port(), Plan { mode: Mode::Shadow, ..Plan::new(by_word) });
    let mut client = Client::of(&host);
    assert_eq!(client.get("/denied").answer().1, "/denied");
    assert_eq!(client.say("POST /held HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nok").answer().1, "/held");
    drop(client);
    let rows = house.exchanges(&host);
    assert_eq!(column(&rows, "verdict"), ["deny", "ask"]);
    assert_eq!(column(&rows, "outcome"), ["success", "success"]);
}
