//! Canaries in every part of HTTP messages, in both directions: client and server see them, the store never does.

use crewtap_tests::host::{Host, succeeded, text};
use flate2::Compression;
use flate2::write::GzEncoder;

use super::*;
use crate::redaction::in_store;

const CARD: &str = "4012888888881881";
const GROUPED: &str = "5555 5555 5555 4444";
const IBAN: &str = "DE89370400440532013000";
const KEY: &str = "AKIAQYLPMN5HHHFPZAM2";
const IN_URL: &str = "https://crew:Gr8-s3cret-pw@db.internal/";

/// Nothing of any canary that a reader could put together again.
fn assert_absent(host: &Host) {
    for clear in [CARD, GROUPED, "5555 5555", "55555555", IBAN, "3704 0044", KEY, "Gr8-s3cret-pw"] {
        assert_eq!(in_store(host, clear), Vec::<std::path::PathBuf>::new(), "{clear}");
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut coded = GzEncoder::new(Vec::new(), Compression::default());
    coded.write_all(bytes).unwrap();
    coded.finish().unwrap()
}

#[test]
fn canaries_are_in_no_part_of_a_message_on_record() {
    let host = Host::new();
    let sent = format!(r#"{{"prompt": "pay with {GROUPED}", "nested": "{{\"card\": \"\\u0034012888888881881\"}}"}}"#);
    let len = sent.len();
    let web = server(&host, move |asked| {
        asked.exactly(len);
        let body = gzip(format!(r#"{{"iban": "{IBAN}", "n": {CARD}, "url": "{IN_URL}"}}"#).as_bytes());
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nX-Echo: {KEY}\r\nContent-Encoding: gzip\r\n\
             Content-Length: {}\r\n\r\n",
            body.len()
        );
        asked.answer([head.into_bytes(), body].concat());
        true
    });
    let url = format!("http://127.0.0.1:{}/pay/{CARD}?again=%34012888888881881&iban={IBAN}", web.port());
    let header = format!("X-Key: {KEY}");
    let json = "Content-Type: application/json";
    let curl = ["curl", "-sS", "--compressed", "-H", json, "-H", &header, "-d", &sent, &url];
    let output = host.run(&curl);
    let wanted = format!(r#"{{"iban": "{IBAN}", "n": {CARD}, "url": "{IN_URL}"}}"#);
    assert_eq!(succeeded(&output), wanted, "the client gets what was sent");
    let seen = String::from_utf8(web.seen().remove(0)).unwrap();
    assert!(seen.contains(&sent) && seen.contains(&header) && seen.contains(&format!("/pay/{CARD}")), "{seen}");
    assert_absent(&host);
    let exchange = exchanges(&host).remove(0);
    let told = message(&host, &exchange, "server");
    let body: Value = serde_json::from_str(told["text"].as_str().unwrap()).unwrap();
    assert_eq!(body["iban"], "******************3000", "it is still JSON: {body}");
    assert_eq!(body["n"], 9_999_999_999_991_881_u64);
    let asked = message(&host, &exchange, "client");
    let body: Value = serde_json::from_str(asked["text"].as_str().unwrap()).unwrap();
    assert_eq!(body["prompt"], "pay with **** **** **** 4444");
    assert!(body["nested"].as_str().unwrap().ends_with("1881\"}"), "{body}");
    assert!(exchange["subject"].as_str().unwrap().contains("/pay/************1881"), "{exchange}");
    assert!(exchange["masked"].as_i64().unwrap() >= 6, "{exchange}");
    // Bytes on the wire count as they were.
    let rows = Rows::of_last_run(&host);
    rows.reconciled(1);
    assert!(text(&output).contains("1 session"), "{}", text(&output));
    host.verify();
}

#[test]
fn a_value_that_a_model_tells_in_pieces_is_hidden_in_all_of_them() {
    let host = Host::new();
    let deltas = ["Your card 5555", " 5555 ", "5555", " 4444 was", " charged"];
    let web = server(&host, move |asked| {
        asked.answer("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n");
        for delta in deltas {
            let event = format!("data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{delta}\"}}}}]}}\n\n");
            asked.answer(format!("{:x}\r\n{event}\r\n", event.len()));
        }
        asked.answer("e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n");
        true
    });
    let url = format!("http://127.0.0.1:{}/v1/chat", web.port());
    let output = host.run(&["curl", "-sSN", &url]);
    assert!(succeeded(&output).contains("\"Your card 5555\""));
    assert_absent(&host);
    let shown = message(&host, &exchanges(&host)[0], "server");
    let shown = shown["text"].as_str().unwrap();
    for wanted in ["\"Your card ****\"", "\" **** \"", "\"****\"", "\" 4444 was\"", "\" charged\"", "[DONE]"] {
        assert!(shown.contains(wanted), "{wanted} in {shown}");
    }
    host.verify();
}

#[test]
fn what_cannot_be_decoded_is_not_on_record() {
    let host = Host::new();
    let web = always(&host, b"HTTP/1.1 200 OK\r\nContent-Encoding: sdch\r\nContent-Length: 16\r\n\r\n4012888888881881");
    let url = format!("http://127.0.0.1:{}/", web.port());
    assert_eq!(succeeded(&host.run(&["curl", "-sS", &url])), CARD);
    assert_absent(&host);
    let run = host.last_run();
    let notes: Vec<_> =
        host.timeline(&run).into_iter().filter(|line| line.to_string().contains("mask_undecoded")).collect();
    assert_eq!(notes.len(), 1, "{notes:?}");
    host.verify();
}

#[test]
fn canaries_are_in_no_command_line_and_in_no_bytes_that_nobody_reads() {
    let host = Host::new();
    let peer = Peer::serve(&host, "127.0.0.1:0", |stream, keep| {
        let mut bytes = [0; 512];
        while let Ok(len @ 1..) = stream.read(&mut bytes) {
            keep(&bytes[..len]);
        }
    });
    let script = "import socket, sys, time
s = socket.create_connection(('127.0.0.1', int(sys.argv[1])))
five, four = '5' * 4, '4' * 4
for piece in (f'\\x01\\x02 pan={five} {five}', f' {five}', f' {four} \\x1b[1m', 'x\\n'):
    s.sendall(piece.encode())
";
    let _out = succeeded(&host.run(&["python3", "-c", script, &peer.port(), CARD, &format!("--iban={IBAN}"), IN_URL]));
    let seen = peer.seen().remove(0);
    assert!(seen.windows(19).any(|window| window == GROUPED.as_bytes()));
    assert_absent(&host);
    let run = host.last_run();
    let shown = host.json(&["show", run["id"].as_str().unwrap(), "--all"]);
    let text = serde_json::to_string(&shown).unwrap();
    assert!(text.contains("--iban=******************3000"), "{text}");
    host.verify();
}

#[test]
fn canaries_in_names_of_files_are_hidden() {
    let host = Host::new();
    let web = server(&host, |asked| {
        asked.until(b"--\r\n");
        let name = format!("attachment; filename=\"pay-{CARD}.pdf\"; filename*=UTF-8''pay-%34{}.pdf", &CARD[1..]);
        asked.answer(format!("HTTP/1.1 200 OK\r\nContent-Disposition: {name}\r\nContent-Length: 0\r\n\r\n"));
        true
    });
    std::fs::write(host.path("upload"), format!("iban {IBAN}\n")).unwrap();
    let file = format!("file=@{};filename=pay-{CARD}.pdf", host.path("upload").display());
    let url = format!("http://127.0.0.1:{}/", web.port());
    let said = succeeded(&host.run(&["curl", "-sS", "-i", "-F", &file, "-F", &format!("key={KEY}"), &url]));
    assert_eq!(said.matches(CARD).count(), 2, "{said}");
    let seen = String::from_utf8(web.seen().remove(0)).unwrap();
    assert!(
        seen.contains(&format!("filename=\"pay-{CARD}.pdf\"")) && seen.contains(IBAN) && seen.contains(KEY),
        "{seen}"
    );
    assert_absent(&host);
    assert_eq!(in_store(&host, &CARD[1..]), Vec::<std::path::PathBuf>::new());
    host.verify();
}
