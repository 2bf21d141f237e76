//! Masks with `apply = "wire"`: what clients get of heads, bodies, forms and streams, and that all of it still reads.

use std::sync::mpsc;
use std::time::{Duration, Instant};

use crewtap::journal::Reader;
use crewtap_core::bodies::Apply;
use crewtap_core::event::Body;
use crewtap_tests::host::{Host, succeeded, text};
use crewtap_tests::world::{cache_dir, clients_project};
use flate2::Compression;
use flate2::write::GzEncoder;

use super::*;
use crate::redaction::in_store;

const CARD: &str = "4012888888881881";
const IBAN: &str = "DE89370400440532013000";
const KEY: &str = "AKIAQYLPMN5HHHFPZAM2";

const MASKS: &str = "
[mask.card]
apply = 'wire'
[mask.iban]
apply = 'wire'
[mask.api-key]
apply = 'wire'
[mask.name]
where = ['json:$.customer.name', 'header:x-customer']
apply = 'wire'
";

struct Ground(Host);

impl Ground {
    fn new() -> Self {
        let host = Host::new();
        std::fs::write(host.path("masks.toml"), MASKS).unwrap();
        std::fs::write(host.path("crewtap.toml"), "masks = 'masks.toml'\n").unwrap();
        Self(host)
    }

    fn run(&self, words: &[&str]) -> String {
        let config = self.0.path("crewtap.toml").display().to_string();
        let mut command = self.0.crewtap(&["--config", &config, "run", "-q", "--"]);
        let output = command.args(words).env("OPENAI_API_KEY", "sk-test").output().unwrap();
        assert!(output.status.success(), "{}", text(&output));
        succeeded(&output)
    }

    fn curl(&self, words: &[&str]) -> String {
        self.run(&[&["curl", "-sS"], words].concat())
    }

    fn python(&self, script: &str, words: &[&str]) -> String {
        let python = clients_project(&cache_dir()).join(".venv/bin/python");
        self.run(&[&[python.to_str().unwrap(), "-c", script], words].concat())
    }

    /// Nobody has printed a value, and nothing on record has one.
    fn assert_absent(&self, said: &str) {
        for clear in [CARD, "88888881881", IBAN, KEY, "Ada Lovelace"] {
            assert!(!said.contains(clear), "{clear} in {said}");
            assert_eq!(in_store(&self.0, clear), Vec::<std::path::PathBuf>::new(), "{clear}");
        }
        self.0.verify();
    }

    fn events(&self) -> Vec<Body> {
        Reader::open(&self.0.data_dir()).unwrap().from(0).map(|record| record.unwrap().event.body).collect()
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut coded = GzEncoder::new(Vec::new(), Compression::default());
    coded.write_all(bytes).unwrap();
    coded.finish().unwrap()
}

fn json() -> String {
    format!(
        r#"{{"iban": "{IBAN}", "n": {CARD}, "customer": {{"name": "Ada Lovelace", "no": 7}}, "x": "\u0034{}"}}"#,
        &CARD[1..]
    )
}

fn masked_json() -> &'static str {
    r#"{"iban": "******************3000", "n": 9999999999991881, "customer": {"name": "************", "no": 7}, "x": "\u002a***********1881"}"#
}

#[test]
fn heads_and_bodies_are_masked_and_lengths_stay_right() {
    let ground = Ground::new();
    let web = server(&ground.0, |asked| {
        let body = if asked.path() == "/form" { format!("a=1&card={}&b=2", "4012+8888+8888+1881") } else { json() };
        let kind = if asked.path() == "/form" { "application/x-www-form-urlencoded" } else { "application/json" };
        let head = format!("HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nX-Echo: {KEY}\r\nX-Customer: Ada Lovelace\r\n");
        match asked.path() {
            "/chunked" => {
                let chunks: Vec<String> = body
                    .as_bytes()
                    .chunks(7)
                    .map(|piece| format!("{:x}\r\n{}\r\n", piece.len(), String::from_utf8_lossy(piece)))
                    .collect();
                asked.answer(format!(
                    "{head}Transfer-Encoding: chunked\r\n\r\n{}0\r\nX-End: {KEY}\r\n\r\n",
                    chunks.concat()
                ));
                true
            }
            "/close" => {
                asked.answer(format!("{head}\r\n{body}"));
                false
            }
            _ => {
                asked.answer(format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()));
                true
            }
        }
    });
    let url = |path: &str| format!("http://127.0.0.1:{}{path}", web.port());
    for path in ["/", "/chunked", "/close"] {
        let said = ground.curl(&["-i", "--compressed", "-r", "0-20", &url(path)]);
        assert!(said.contains("X-Echo: ********************\r\nX-Customer: ************\r\n"), "{said}");
        assert!(said.contains(masked_json()), "{path}: {said}");
        assert!(path != "/chunked" || said.contains("X-End: *******"), "{said}");
        ground.assert_absent(&said);
    }
    let said = ground.curl(&[&url("/"), &url("/form"), &url("/")]);
    assert_eq!(said, format!("{0}a=1&card=***************1881&b=2{0}", masked_json()), "one connection goes on");
    for seen in web.seen() {
        let seen = String::from_utf8(seen).unwrap().to_lowercase();
        assert!(!seen.contains("gzip") && !seen.contains("range:"), "{seen}");
    }
    let wired =
        |body: &Body| matches!(body, Body::Masked(masked) if masked.apply == Apply::Wire && masked.mask == "name");
    assert!(ground.events().iter().any(wired));
    let httpx = ground.python(
        "import httpx, sys; r = httpx.get(sys.argv[1]); print(r.json()['customer'], r.json()['n'])",
        &[&url("/")],
    );
    assert_eq!(httpx, "{'name': '************', 'no': 7} 9999999999991881\n");
}

#[test]
fn what_comes_coded_all_the_same_is_decoded_or_refused() {
    let ground = Ground::new();
    let web = server(&ground.0, |asked| {
        let body = gzip(json().as_bytes());
        let coding = if asked.path() == "/sdch" { "sdch" } else { "gzip" };
        let head = format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Encoding: {coding}\r\n");
        match asked.path() {
            "/chunked" => {
                asked.answer(format!("{head}Transfer-Encoding: chunked\r\n\r\n"));
                for piece in body.chunks(11) {
                    asked.answer([format!("{:x}\r\n", piece.len()).as_bytes(), piece, b"\r\n"].concat());
                }
                asked.answer("0\r\n\r\n");
            }
            "/cut" => {
                let half = &body[..body.len() / 2];
                asked.answer([format!("{head}Content-Length: {}\r\n\r\n", half.len()).as_bytes(), half].concat());
            }
            _ => {
                let head = format!("{head}Content-Length: {}\r\n\r\n", body.len());
                let content: &[u8] = if asked.head.starts_with("HEAD") { b"" } else { &body };
                asked.answer([head.as_bytes(), content].concat());
            }
        }
        true
    });
    let url = |path: &str| format!("http://127.0.0.1:{}{path}", web.port());
    let said = ground.curl(&["-i", "--compressed", &url("/"), &url("/chunked")]);
    assert_eq!(said.matches(masked_json()).count(), 2, "{said}");
    assert!(!said.to_lowercase().contains("content-encoding") && said.contains("transfer-encoding: chunked"), "{said}");
    assert!(ground.curl(&["-I", &url("/"), &url("/")]).contains("Content-Encoding: gzip"), "nothing to decode");
    let refused = ground.curl(&["-w", "%{http_code}", &url("/sdch")]);
    assert!(refused.contains("its coding (sdch) is not known") && refused.ends_with("502"), "{refused}");
    let old = ground.curl(&["-0", "-w", "%{http_code}", &url("/")]);
    assert!(old.contains("HTTP/1.0") && old.ends_with("502"), "{old}");
    let script = format!("curl -sS '{}' || echo cut off", url("/cut"));
    let cut = ground.run(&["sh", "-c", &script]);
    assert!(cut.ends_with("cut off\n"), "{cut}");
    ground.assert_absent(&[said, refused, old, cut].concat());
}

#[test]
fn a_stream_still_streams_and_values_in_its_deltas_are_masked() {
    let ground = Ground::new();
    let (tell, told) = mpsc::sync_channel::<()>(1);
    let told = std::sync::Mutex::new(told);
    let web = server(&ground.0, move |asked| {
        let len: usize = asked
            .head
            .lines()
            .find_map(|line| line.to_lowercase().strip_prefix("content-length: ").map(|len| len.parse().unwrap()))
            .unwrap();
        asked.exactly(len);
        asked.answer("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n");
        for (number, delta) in
            ["Hello there. ", "Your card 4012", " 8888 ", "8888", " 1881 was", " charged."].iter().enumerate()
        {
            let event = format!(
                "data: {{\"id\":\"1\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\",\"choices\":[{{\"index\":0,\
                 \"delta\":{{\"content\":\"{delta}\"}},\"finish_reason\":null}}]}}\n\n"
            );
            asked.answer(format!("{:x}\r\n{event}\r\n", event.len()));
            if number == 0 {
                // Goes on only once the client has the first event.
                told.lock().unwrap().recv_timeout(Duration::from_secs(20)).unwrap();
            }
        }
        asked.answer("e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n");
        true
    });
    let script = "
import openai, sys
client = openai.OpenAI(base_url=sys.argv[1])
stream = client.chat.completions.create(model='m', messages=[{'role': 'user', 'content': 'hi'}], stream=True)
for chunk in stream:
    print(chunk.choices[0].delta.content, flush=True)
    open(sys.argv[2], 'a').close()
";
    let first = ground.0.path("first");
    let waiting = first.clone();
    let watch = std::thread::spawn(move || {
        let begun = Instant::now();
        while !waiting.exists() && begun.elapsed() < Duration::from_secs(20) {
            std::thread::yield_now();
        }
        tell.send(()).unwrap();
    });
    let url = format!("http://127.0.0.1:{}/v1", web.port());
    let said = ground.python(script, &[&url, first.to_str().unwrap()]);
    watch.join().unwrap();
    assert_eq!(said, "Hello there. \nYour card ****\n **** \n****\n 1881 was\n charged.\n");
    ground.assert_absent(&said);
}

#[test]
fn bytes_that_nobody_reads_are_noted() {
    let ground = Ground::new();
    let peer = Peer::serve(&ground.0, "127.0.0.1:0", |stream, keep| {
        let mut bytes = [0; 512];
        if let Ok(len @ 1..) = stream.read(&mut bytes) {
            keep(&bytes[..len]);
            let _ = stream.write_all(format!("pan={CARD}\n").as_bytes());
        }
    });
    let script = "import socket, sys
s = socket.create_connection(('127.0.0.1', int(sys.argv[1])))
s.sendall(b'\\x01\\x02 what is it?')
print(s.recv(100))
";
    let said = ground.run(&["python3", "-c", script, &peer.port()]);
    assert!(said.contains(CARD), "{said}");
    assert_eq!(in_store(&ground.0, CARD), Vec::<std::path::PathBuf>::new());
    let events = ground.events();
    let noted = events.iter().filter(|body| matches!(body, Body::Note(note) if note.code == "mask_wire_unkept"));
    assert_eq!(noted.count(), 1);
    assert!(events.iter().any(|body| matches!(body, Body::Masked(masked) if masked.mask == "card")));
    assert!(!events.iter().any(|body| matches!(body, Body::Masked(masked) if masked.apply == Apply::Wire)));
    ground.0.verify();
}
