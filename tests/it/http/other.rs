//! What is not, or no longer, HTTP: upgrades, tunnels, forward proxies, and protocols whose first bytes look like it.

use crewtap_tests::host::{Host, succeeded};

use super::*;

const TOKEN: &str = "sk-proj-Abc123Def456Ghi789Jkl012Mno345Pqr678";

/// Answers one line with the same line in capitals, until the end.
fn shout(asked: &mut Asked) {
    loop {
        let line = asked.until(b"\n");
        if line.is_empty() {
            return;
        }
        asked.answer(line.to_ascii_uppercase());
    }
}

#[test]
fn an_upgrade_is_relayed_as_it_is_and_its_bytes_are_on_record_without_credentials() {
    let host = Host::new();
    let web = server(&host, |asked| {
        asked.answer("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: shout\r\n\r\nWELCOME\n");
        shout(asked);
        false
    });
    let said = "GET /up HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: shout\r\n\r\n";
    let then = format!(
        "show(until(b'WELCOME\\n'))
s.sendall(b'hello\\n'); show(until(b'\\n'))
s.sendall(b'Authorization: Bearer {TOKEN}\\n'); show(until(b'\\n'))
s.shutdown(socket.SHUT_WR); show(rest())"
    );
    let got = raw(&host, &web, said, &then);
    assert!(got.ends_with(&format!("WELCOME\nHELLO\nAUTHORIZATION: BEARER {}\n", TOKEN.to_uppercase())), "{got}");
    assert!(String::from_utf8_lossy(&web.seen()[0]).contains(TOKEN));
    let exchanges = exchanges(&host);
    assert_eq!(
        (column(&exchanges, "code"), column(&exchanges, "outcome")),
        (vec!["101".into()], vec!["success".into()])
    );
    assert!(stream(&host, "client").starts_with("hello\nAuthorization: Bearer *"), "{}", stream(&host, "client"));
    assert!(stream(&host, "server").starts_with("WELCOME\nHELLO\n"));
    assert_eq!(crate::redaction::in_store(&host, TOKEN), Vec::<std::path::PathBuf>::new());
    let rows = Rows::of_last_run(&host);
    assert_eq!(rows.session()["recorded_up"], web.seen()[0].len());
    assert_eq!(rows.session()["outcome"], "completed");
    host.verify();
}

#[test]
fn a_tunnel_through_a_forward_proxy_is_relayed_as_it_is() {
    let host = Host::new();
    let proxy = server(&host, |asked| {
        assert!(asked.head.starts_with("CONNECT inner.example:443 HTTP/1."), "{}", asked.head);
        asked.answer("HTTP/1.1 200 Connection established\r\n\r\n");
        shout(asked);
        false
    });
    // Python before 3.12 and many others tunnel with HTTP/1.0: their request is the last of HTTP, not of the client.
    for version in ["1.0", "1.1"] {
        let said = format!("CONNECT inner.example:443 HTTP/{version}\r\nHost: inner.example:443\r\n\r\n");
        let then = "show(until(b'\\r\\n\\r\\n')); s.sendall(b'GET inside\\n'); show(until(b'\\n'))
s.shutdown(socket.SHUT_WR); show(rest())";
        let got = raw(&host, &proxy, &said, then);
        assert_eq!(got, "HTTP/1.1 200 Connection established\r\n\r\nGET INSIDE\n");
        let exchanges = exchanges(&host);
        assert_eq!(column(&exchanges, "verb"), ["CONNECT"]);
        assert_eq!(column(&exchanges, "subject"), ["inner.example:443"]);
        assert_eq!(stream(&host, "client"), "GET inside\n");
        assert_eq!(stream(&host, "server"), "GET INSIDE\n");
    }
    host.verify();
}

#[test]
fn a_tunnel_that_is_refused_is_followed_by_http() {
    let host = Host::new();
    let proxy = server(&host, |asked| {
        asked.answer(if asked.head.starts_with("CONNECT") {
            b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n"
        } else {
            OK
        });
        true
    });
    let said = "CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\nGET http://a/ HTTP/1.1\r\nHost: a\r\n\r\n";
    let got = raw(&host, &proxy, said, "show(until(b'ok')); s.close()");
    assert!(got.contains(" 407 ") && got.ends_with("\r\n\r\nok"), "{got}");
    assert_eq!(column(&exchanges(&host), "code"), ["407", "200"]);
}

#[test]
fn a_forward_proxy_is_asked_with_whole_urls() {
    let host = Host::new();
    let proxy = always(&host, OK);
    let through = format!("http://alice:hunter2-Xk9wQ4zT@127.0.0.1:{}", proxy.port());
    let curl = ["curl", "-sS", "-x", &through, "http://stock.example/items?key=abc123secret"];
    assert_eq!(succeeded(&host.run(&curl)), "ok");
    let seen = String::from_utf8(proxy.seen().remove(0)).unwrap();
    assert!(seen.starts_with("GET http://stock.example/items?key=abc123secret HTTP/1.1\r\n"), "{seen}");
    let exchanges = exchanges(&host);
    let subject = exchanges[0]["subject"].as_str().unwrap();
    assert!(subject.starts_with("http://stock.example/items?key=[hidden:"), "{subject}");
    assert_eq!(exchanges[0]["facts"]["claimed_host"], "stock.example");
    assert_eq!(crate::redaction::in_store(&host, "abc123secret"), Vec::<std::path::PathBuf>::new());
}

#[test]
fn a_protocol_that_only_looks_like_http_is_relayed_as_it_is() {
    let host = Host::new();
    let store = Peer::serve(&host, "127.0.0.1:0", |stream, keep| {
        while let line @ [_, ..] = &*read_until(stream, keep, b"\n") {
            stream.write_all(&line.to_ascii_uppercase()).unwrap();
        }
    });
    for said in ["GET counter\r\n", "OPTIONS rtsp://camera/ RTSP/1.0\r\n"] {
        let then = "show(until(b'\\n')); s.sendall(b'GET more\\r\\n'); show(until(b'\\n')); s.close()";
        let got = raw(&host, &store, said, then);
        assert_eq!(got, format!("{}GET MORE\r\n", said.to_uppercase()));
        assert_eq!(notes(&host), ["http_foreign"]);
        assert_eq!(stream(&host, "client"), format!("{said}GET more\r\n"));
        let rows = Rows::of_last_run(&host);
        assert_eq!((&rows.session()["outcome"], &rows.session()["exchanges"]), (&"completed".into(), &0.into()));
    }
    host.verify();
}
