//! Secrets that crewtap puts into requests: the target gets them, and nobody else.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;

use crewtap_core::run::Mode;
use crewtap_core::verdict::Effect;
use crewtap_tests::host::Host;
use crewtap_tests::peer::Peer;

use super::gatehouse::{Gatehouse, Plan};
use super::judged::{Client, reached};
use super::*;

const SECRET: &str = "canary-Xk9w/Q4zT";

/// A server that shows what it was sent: in its head, and cut into chunks in its content.
fn mirror(host: &Host) -> Peer {
    server(host, |asked| {
        let shown = asked.head.replace("\r\n", "|");
        let chunks: Vec<String> = shown
            .as_bytes()
            .chunks(5)
            .map(|chunk| format!("{:x}\r\n{}\r\n", chunk.len(), String::from_utf8_lossy(chunk)))
            .collect();
        let chunks = chunks.concat();
        let head = shown.split('|').find(|line| line.starts_with("authorization")).unwrap_or("none: x").to_owned();
        asked.answer(format!(
            "HTTP/1.1 200 OK\r\nX-Echo: {head}\r\nX-Length: {}\r\nTransfer-Encoding: chunked\r\n\r\n",
            shown.len()
        ));
        for piece in format!("{chunks}0\r\n\r\n").as_bytes().chunks(3) {
            asked.answer(piece);
        }
        !asked.head.contains("Connection: close")
    })
}

fn keep(host: &Host, secret: &str) {
    std::fs::write(host.path("key"), secret).unwrap();
    std::fs::set_permissions(host.path("key"), Permissions::from_mode(0o600)).unwrap();
}

fn plan(web: &Peer, mode: Mode, credential: &str) -> Plan {
    let catalog = format!(
        "[target.api]\nmatch = {{ cidr = ['127.0.0.1'], port = [{}] }}\nprotocol = 'http'\ncredential = {credential}\n",
        web.port()
    );
    Plan { mode, catalog, ..Plan::new(|_| Effect::Allow) }
}

/// Everything that the client gets for one request.
fn got(client: &mut Client, request: &str) -> String {
    client.say(format!("{request}Connection: close\r\n\r\n"));
    client.rest()
}

const REQUEST: &str = "GET /a?x=1 HTTP/1.1\r\nHost: api.test\r\nAuthorization: Bearer mine-own\r\n";

#[test]
fn the_target_gets_the_secret_and_the_client_and_the_record_do_not() {
    for mode in [Mode::Record, Mode::Enforce] {
        for (credential, wanted) in [
            (
                "{ header = 'authorization', scheme = 'bearer', secret = 'file:key' }",
                format!("authorization: Bearer {SECRET}\r\n"),
            ),
            ("{ user = 'u', secret = 'file:key' }", "authorization: Basic dTpjYW5hcnktWGs5dy9RNHpU\r\n".into()),
            ("{ header = 'x-api-key', secret = 'file:key' }", format!("x-api-key: {SECRET}\r\n")),
            ("{ query = 'key', secret = 'file:key' }", "GET /a?x=1&key=canary-Xk9w%2FQ4zT HTTP/1.1\r\n".into()),
            ("{ placeholder = 'mine-own', secret = 'file:key' }", format!("Authorization: Bearer {SECRET}\r\n")),
        ] {
            let host = Host::new();
            keep(&host, &format!("{SECRET}\n"));
            let web = mirror(&host);
            let house = Gatehouse::start(&host, &web.port(), plan(&web, mode, credential));
            let got = got(&mut Client::of(&host), REQUEST);
            assert!(got.starts_with("HTTP/1.1 200"), "{got}");
            assert!(reached(&web).contains(&wanted), "{credential}: {}", reached(&web));
            assert_eq!(reached(&web).to_lowercase().matches("authorization:").count(), 1, "{}", reached(&web));
            let plain: String = got
                .split("\r\n")
                .filter(|line| line.len() > 3 || line.contains(|c: char| !c.is_ascii_hexdigit()))
                .collect();
            for form in [SECRET, "canary", "Xk9w", "dTpjYW5hcnk"] {
                assert!(!plain.contains(form), "{credential}: {form} in {got}");
            }
            assert!(got.contains("***"), "{got}");
            let rows = house.exchanges(&host);
            assert_eq!(column(&rows, "outcome"), ["success"]);
            for form in [SECRET, "Xk9w", "dTpjYW5hcnk", "mine-own"] {
                let found = crate::redaction::in_store(&host, form);
                // What the client sends of its own, where nothing replaces it, comes back in the content.
                let allowed = form == "mine-own" && !wanted.starts_with("authorization");
                assert!(allowed || found.is_empty(), "{credential}: {form} in {found:?}");
            }
        }
    }
}

#[test]
fn a_secret_that_cannot_be_used_lets_no_request_pass() {
    let host = Host::new();
    let web = mirror(&host);
    let bearer = "{ header = 'authorization', scheme = 'bearer', secret = 'file:key' }";
    keep(&host, "two\nlines");
    let house = Gatehouse::start(&host, &web.port(), plan(&web, Mode::Record, bearer));
    assert!(got(&mut Client::of(&host), REQUEST).starts_with("HTTP/1.1 502"));
    std::fs::set_permissions(host.path("key"), Permissions::from_mode(0o644)).unwrap();
    let said = got(&mut Client::of(&host), REQUEST);
    assert!(said.starts_with("HTTP/1.1 502") && !said.contains("key\""), "{said}");
    assert_eq!(reached(&web), "");
    // Rotated, it counts at the next session.
    keep(&host, "first-secret");
    let mut client = Client::of(&host);
    client.say("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    client.read_until(b"0\r\n\r\n");
    keep(&host, "second-secret");
    client.say("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    client.read_until(b"0\r\n\r\n");
    got(&mut Client::of(&host), REQUEST);
    drop(client);
    assert_eq!(reached(&web).matches("first-secret").count(), 2, "{}", reached(&web));
    assert_eq!(reached(&web).matches("second-secret").count(), 1, "{}", reached(&web));
    // What would show it is not asked.
    let said = got(&mut Client::of(&host), "TRACE / HTTP/1.1\r\nHost: a\r\n");
    assert!(said.starts_with("HTTP/1.1 403"), "{said}");
    drop(house);
}

#[test]
fn a_name_alone_selects_no_credential() {
    let host = Host::new();
    let web = mirror(&host);
    keep(&host, SECRET);
    let bearer = "{ header = 'authorization', scheme = 'bearer', secret = 'file:key' }";
    let mut plan = plan(&web, Mode::Record, bearer);
    plan.catalog = plan.catalog.replace("cidr = ['127.0.0.1']", "host = ['api.test']");
    let house = Gatehouse::start(&host, &web.port(), plan);
    assert!(got(&mut Client::of(&host), REQUEST).starts_with("HTTP/1.1 502"));
    assert_eq!(reached(&web), "");
    drop(house);
}
