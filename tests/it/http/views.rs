//! What an analyst finds of exchanges: words inside of coded bodies, pretty JSON, the same after a reindex.

use crewtap_tests::host::{Host, succeeded};

use super::*;
use crate::agent;

/// The text `{"answer":"the hidden wombat sleeps","n":[1,2]}` in three codings.
const CODED: &[(&str, &[u8])] = &[
    ("gzip", b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\x03\xab\x56\x4a\xcc\x2b\x2e\x4f\x2d\x52\xb2\x52\x2a\xc9\x48\x55\xc8\xc8\x4c\x49\x49\xcd\x53\x28\xcf\xcf\x4d\x4a\x2c\x51\x28\xce\x49\x4d\x2d\x28\x56\xd2\x51\xca\x53\xb2\x8a\x36\xd4\x31\x8a\xad\x05\x00\x24\xae\x15\xc7\x2f\x00\x00\x00"),
    ("br", b"\x0b\x17\x80\x7b\x22\x61\x6e\x73\x77\x65\x72\x22\x3a\x22\x74\x68\x65\x20\x68\x69\x64\x64\x65\x6e\x20\x77\x6f\x6d\x62\x61\x74\x20\x73\x6c\x65\x65\x70\x73\x22\x2c\x22\x6e\x22\x3a\x5b\x31\x2c\x32\x5d\x7d\x03"),
    ("zstd", b"\x28\xb5\x2f\xfd\x20\x2f\x79\x01\x00\x7b\x22\x61\x6e\x73\x77\x65\x72\x22\x3a\x22\x74\x68\x65\x20\x68\x69\x64\x64\x65\x6e\x20\x77\x6f\x6d\x62\x61\x74\x20\x73\x6c\x65\x65\x70\x73\x22\x2c\x22\x6e\x22\x3a\x5b\x31\x2c\x32\x5d\x7d"),
];

fn found(host: &Host, query: &str) -> Vec<Value> {
    host.json(&["search", query])
}

#[test]
fn words_inside_of_coded_bodies_are_found_and_shown_as_text() {
    let host = Host::new();
    let web = server(&host, |asked| {
        let (coding, body) = CODED.iter().find(|(coding, _)| asked.path() == format!("/{coding}")).unwrap();
        let kind = "Content-Type: application/json; charset=utf-8";
        let head =
            format!("HTTP/1.1 200 OK\r\n{kind}\r\nContent-Encoding: {coding}\r\nTransfer-Encoding: chunked\r\n\r\n");
        asked.answer(head);
        // In pieces, so that no record of the journal holds a whole word.
        for byte in *body {
            asked.answer([b"1\r\n", std::slice::from_ref(byte), b"\r\n"].concat());
        }
        asked.answer("0\r\n\r\n");
        true
    });
    for (coding, body) in CODED {
        let url = format!("http://127.0.0.1:{}/{coding}", web.port());
        let out = host.path("got");
        let _out = succeeded(&host.run(&["curl", "-sS", "-o", out.to_str().unwrap(), &url]));
        assert_eq!(std::fs::read(&out).unwrap(), *body, "as it was sent: {coding}");
        let exchange = exchanges(&host).remove(0);
        let (session, run) = (exchange["session"].clone(), host.last_run()["id"].clone());
        let hits = found(&host, "\"hidden wombat\"");
        assert!(
            hits.iter().any(|hit| hit["session"] == session && hit["run"] == run && hit["n"] == 1),
            "{coding}: {hits:#?}"
        );
        let shown = message(&host, &exchange, "server");
        assert_eq!(shown["text"], r#"{"answer":"the hidden wombat sleeps","n":[1,2]}"#, "{coding}");
        // Under masks a body is on record as it reads, with its coding as a fact.
        assert_eq!((&shown["coding"], shown["body_bytes"].as_u64()), (&Value::Null, Some(47)), "{coding}");
        let telling = succeeded(&host.crewtap(&["show", exchange["id"].as_str().unwrap(), "--json"]).output().unwrap());
        assert!(telling.contains(&format!(r#""content_coding":"{coding}""#)), "{telling}");
        let screen = succeeded(&host.crewtap(&["show", exchange["id"].as_str().unwrap()]).output().unwrap());
        assert!(screen.contains("\"answer\": \"the hidden wombat sleeps\",\n"), "pretty: {screen}");
        assert!(screen.contains("Content-Encoding: ") && screen.contains("GET /"), "{screen}");
    }
    host.verify();
}

#[test]
fn requests_are_found_by_column_and_by_what_they_sent() {
    let host = Host::new();
    let web = server(&host, |asked| {
        if asked.head.starts_with("POST") {
            asked.exactly(33);
        }
        asked.answer(OK);
        true
    });
    let url = format!("http://127.0.0.1:{}/v1/chat", web.port());
    let json = ["-H", "Content-Type: application/json", "-d", r#"{"model":"gpt-9","note":"quokka"}"#];
    let _out = succeeded(&host.run(&[&["curl", "-sS"][..], &json, &[&url]].concat()));
    let exchange = exchanges(&host).remove(0);
    for query in ["quokka", "verb:POST quokka", "code:200 verb:POST", "outcome:success"] {
        let hits = found(&host, query);
        assert!(hits.iter().any(|hit| hit["session"] == exchange["session"] && hit["n"] == 1), "{query}: {hits:#?}");
    }
    assert_eq!(exchange["facts"]["content_type"], "application/json");
    assert_eq!(exchange["facts"]["path"], "/v1/chat");
    assert!(found(&host, "verb:DELETE").is_empty());
}

#[test]
fn a_reindex_gives_the_same_exchanges() {
    let host = Host::new();
    let web = server(&host, |asked| {
        match asked.path() {
            "/cut" => asked.answer("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf"),
            "/gzip" => {
                let (_, body) = CODED[0];
                let head =
                    format!("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {}\r\n\r\n", body.len());
                asked.answer([head.as_bytes(), body].concat());
            }
            _ => asked.answer(OK),
        }
        asked.path() != "/cut"
    });
    let base = format!("http://127.0.0.1:{}", web.port());
    let script = format!(
        "curl -sS {base}/gzip {base}/a -H 'Cookie: a=b' -o /dev/null; curl -s {base}/cut; curl -s -H 'X : 1' {base}/; true"
    );
    let _out = host.run(&["sh", "-c", &script]);
    crate::agent::wait_end(&host);
    let everything = || {
        let run = host.last_run();
        let mut rows = vec![run.clone()];
        rows.extend(host.timeline(&run));
        rows.extend(host.json(&["show", run["id"].as_str().unwrap()]));
        for exchange in exchanges(&host) {
            rows.extend(host.json(&["show", exchange["id"].as_str().unwrap(), "--all"]));
        }
        rows.extend(found(&host, "wombat"));
        rows
    };
    let before = everything();
    let columns: Vec<_> = exchanges(&host).iter().map(|row| row["outcome"].as_str().unwrap().to_owned()).collect();
    assert_eq!(columns, ["success", "success", "aborted", "blocked"]);
    agent::wait_idle(&host);
    let _out = succeeded(&host.crewtap(&["reindex"]).output().unwrap());
    assert_eq!(everything(), before);
}
