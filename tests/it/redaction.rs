//! Credentials in clear: the target gets them, the store never has them.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use crewtap_tests::host::{Host, succeeded};
use crewtap_tests::peer::Peer;

use crate::rows::Rows;

const PASSWORD: &str = "hunter2-Xk9wQ4zT";
const TOKEN: &str = "sk-proj-Abc123Def456Ghi789Jkl012Mno345Pqr678";
const API_KEY: &str = "k3y-77f0a9c1d2e8b4";
/// `alice:` and the password, as HTTP sends them (RFC 7617).
const BASIC: &str = "YWxpY2U6aHVudGVyMi1Yazl3UTR6VA==";

/// A web server that answers every request with 200.
fn web(host: &Host) -> Peer {
    Peer::serve(host, "127.0.0.1:0", |stream, keep| {
        let (mut bytes, mut head) = (vec![0; 4096], Vec::new());
        while !head.windows(4).any(|end| end == b"\r\n\r\n") {
            let len = stream.read(&mut bytes).unwrap();
            keep(&bytes[..len]);
            head.extend_from_slice(&bytes[..len]);
        }
        let answer = format!("Set-Cookie: session={API_KEY}; HttpOnly\r\nContent-Length: 2\r\n\r\nok");
        stream.write_all(format!("HTTP/1.1 200 OK\r\nConnection: close\r\n{answer}").as_bytes()).unwrap();
    })
}

fn files(directory: &Path, into: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files(&path, into) } else { into.push(path) }
    }
}

/// Whether a needle is anywhere in the store, in the bytes of its files.
pub(crate) fn in_store(host: &Host, needle: &str) -> Vec<PathBuf> {
    let mut all = Vec::new();
    files(&host.data_dir(), &mut all);
    let has = |path: &PathBuf| {
        std::fs::read(path).is_ok_and(|bytes| bytes.windows(needle.len()).any(|window| window == needle.as_bytes()))
    };
    all.into_iter().filter(has).collect()
}

/// Which of some values stand in the files of the store, capitals or not; compressed segments are unpacked.
pub(crate) fn found(host: &Host, values: &[String]) -> Vec<String> {
    let unpacked = "find \"$0\" -type f -print0 | xargs -0 -n1 sh -c 'zstd -dcq <\"$0\" 2>/dev/null || cat \"$0\"'";
    let mut search = std::process::Command::new("sh");
    search.args(["-c", &format!("{unpacked} | grep -aoiF \"$@\" | sort -u")]).arg(host.data_dir());
    let output = search.args(values.iter().flat_map(|value| ["-e", value])).env("LC_ALL", "C").output().unwrap();
    succeeded(&output).lines().map(str::to_owned).collect()
}

/// Whether a value stands in any file of the store.
pub(crate) fn holds(host: &Host, value: &str) -> bool {
    !found(host, &[value.to_owned()]).is_empty()
}

/// Every form in which a reader could still make out a secret: as it is, in a URL, in hexadecimal digits, in base64 wherever it
/// begins, and its longest word.
pub(crate) fn forms(secret: &str) -> Vec<String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._~".contains(c);
    let escaped = |c: char| if plain(c) { c.to_string() } else { format!("%{:02X}", u32::from(c)) };
    let word = secret.split(|c: char| !c.is_ascii_alphanumeric()).max_by_key(|word| word.len()).unwrap();
    let mut forms = vec![secret.to_owned(), secret.chars().map(escaped).collect(), word.to_owned()];
    forms.extend([secret, word].map(|text| crewtap_core::view::hexadecimal(text.as_bytes())));
    for shift in 0..3 {
        // Letters that other bytes around it would change are left out.
        let shifted = [&[0; 2][..shift], secret.as_bytes()].concat();
        let whole = shifted.len() / 3 * 4;
        let begin = [0, 2, 3][shift];
        for coded in [STANDARD_NO_PAD.encode(&shifted), URL_SAFE_NO_PAD.encode(&shifted)] {
            forms.push(coded[begin..whole].to_owned());
        }
    }
    forms
}

/// What the record shows of a head differs from what was sent only where secrets were.
fn assert_differs_only_in(sent: &str, shown: &str, secrets: &[&str]) {
    let mut expected = clear_parts(sent, secrets).into_iter();
    let mut rest = shown.strip_prefix(expected.next().unwrap()).unwrap_or_else(|| panic!("{shown}"));
    for clear in expected {
        let hidden = rest.strip_prefix("[hidden:").unwrap_or_else(|| panic!("{rest:?} in {shown}"));
        rest = hidden.split_once(']').unwrap().1.strip_prefix(clear).unwrap_or_else(|| panic!("{hidden:?} in {shown}"));
    }
    assert_eq!(rest, "", "{shown}");
}

/// What stands between the secrets.
fn clear_parts<'s>(sent: &'s str, secrets: &[&str]) -> Vec<&'s str> {
    let mut parts = vec![sent];
    for secret in secrets {
        parts = parts.into_iter().flat_map(|part| part.split(secret)).collect();
    }
    parts
}

/// Runs curl with these arguments against a web server: what it got, and what is on record.
fn curl(host: &Host, path: &str, args: &[&str], secrets: &[&str]) -> (String, Rows) {
    let web = web(host);
    let url = format!("http://127.0.0.1:{}{path}", web.port());
    let command = [&["curl", "-sS", "--max-time", "30"], args, &[&url]].concat();
    assert_eq!(succeeded(&host.run(&command)), "ok");
    let got = web.seen().remove(0);
    let rows = Rows::of_last_run(host);
    rows.reconciled(1);
    assert_eq!(rows.session()["protocol"], "http");
    let got = String::from_utf8(got).unwrap();
    let shown = host.json(&["show", &format!("{}.1", rows.session()["id"].as_str().unwrap())]);
    let shown = shown.iter().find(|row| row["table"] == "messages" && row["side"] == "client").unwrap();
    assert_differs_only_in(&got, shown["head"].as_str().unwrap(), secrets);
    assert_eq!(rows.session()["recorded_up"], got.len(), "bytes are counted as they were sent");
    assert!(rows.session()["masked"].as_i64().unwrap() > 0, "{}", rows.session());
    assert!(!rows.table("masks").is_empty());
    (got, rows)
}

fn nowhere_in_store(host: &Host, secrets: &[&str]) {
    assert!(!in_store(host, "127.0.0.1").is_empty(), "what is on record is found");
    for secret in secrets {
        assert_eq!(in_store(host, secret), Vec::<PathBuf>::new(), "{secret}");
    }
    host.verify();
}

#[test]
fn a_password_reaches_the_target_and_not_the_store() {
    let host = Host::new();
    let (got, rows) = curl(&host, "/", &["-u", &format!("alice:{PASSWORD}")], &[BASIC]);
    assert!(got.contains(&format!("Authorization: Basic {BASIC}\r\n")), "{got}");
    nowhere_in_store(&host, &[PASSWORD, BASIC, API_KEY]);
    assert!(rows.run()["command"].as_str().unwrap().contains("curl"));
}

#[test]
fn a_bearer_token_reaches_the_target_and_not_the_store() {
    let host = Host::new();
    let (got, _) = curl(&host, "/v1/models", &["-H", &format!("Authorization: Bearer {TOKEN}")], &[TOKEN]);
    assert!(got.contains(&format!("Authorization: Bearer {TOKEN}\r\n")), "{got}");
    nowhere_in_store(&host, &[TOKEN, API_KEY]);
}

#[test]
fn a_key_in_a_query_reaches_the_target_and_not_the_store() {
    let host = Host::new();
    let (got, _) = curl(&host, &format!("/search?q=cats&api_key={API_KEY}&page=2"), &[], &[API_KEY]);
    assert!(got.starts_with(&format!("GET /search?q=cats&api_key={API_KEY}&page=2 HTTP/1.1\r\n")), "{got}");
    nowhere_in_store(&host, &[API_KEY]);
}

#[test]
fn credentials_in_headers_of_other_names_reach_the_target_and_not_the_store() {
    let host = Host::new();
    let value = |name: &str| format!("{name}{API_KEY}");
    for (header, value) in [
        ("X-Api-Key", value("")),
        ("Cookie", value("session=")),
        ("Proxy-Authorization", value("Bearer ")),
        ("api-key", value("")),
    ] {
        // A scheme's word is no secret.
        let secret = value.strip_prefix("Bearer ").unwrap_or(&value);
        let (header, hidden) = (format!("{header}: {value}"), [secret]);
        let (got, _) = curl(&host, "/", &["-H", &header], &hidden);
        assert!(got.contains(&format!("{header}\r\n")), "{got}");
    }
    nowhere_in_store(&host, &[API_KEY]);
}

#[test]
fn a_password_in_a_script_for_a_shell_is_not_in_the_store() {
    let host = Host::new();
    let web = web(&host);
    let url = format!("http://127.0.0.1:{}/", web.port());
    let script =
        format!("curl -sS -u alice:{PASSWORD} -H 'Authorization: Bearer {TOKEN}' {url}; API_KEY={API_KEY} true");
    assert_eq!(succeeded(&host.run(&["sh", "-c", &script])), "ok");
    nowhere_in_store(&host, &[PASSWORD, TOKEN, API_KEY]);
}

/// A header that comes in two packets, with the credential cut in half.
const IN_HALVES: &str = "import os, socket, sys
token = os.read(0, 1000).decode().strip()
s = socket.create_connection(('127.0.0.1', int(sys.argv[1])))
s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
head = f'POST /a HTTP/1.1\\r\\nHost: x\\r\\nAuthorization: Bearer {token}'
half = len(head) - len(token) // 2
s.sendall(head[:half].encode())
import select; select.select([s], [], [], 0.5)
s.sendall((head[half:] + '\\r\\n\\r\\n').encode())
print(s.recv(15).decode())";

#[test]
fn a_token_that_comes_in_two_halves_is_not_in_the_store_either() {
    let host = Host::new();
    let web = web(&host);
    std::fs::write(host.path("token"), TOKEN).unwrap();
    let mut run = host.crewtap(&["run", "--", "python3", "-c", IN_HALVES, &web.port()]);
    let run = run.stdin(std::fs::File::open(host.path("token")).unwrap()).output().unwrap();
    assert!(succeeded(&run).starts_with("HTTP/1.1 200"));
    assert!(String::from_utf8(web.seen().remove(0)).unwrap().contains(&format!("Bearer {TOKEN}\r\n")));
    let (first, second) = TOKEN.split_at(TOKEN.len() / 2);
    nowhere_in_store(&host, &[TOKEN, first, second, API_KEY]);
}

#[test]
fn a_password_in_the_command_line_is_not_in_the_store() {
    let host = Host::new();
    let url = format!("postgresql://app:{PASSWORD}@127.0.0.1:1/orders");
    let script = "import sys; print(len(sys.argv))";
    let token = format!("--api-key={API_KEY}");
    assert_eq!(host.python(script, &[&url, &token, "--password", PASSWORD, TOKEN]), "6\n");
    assert!(!in_store(&host, "postgresql://app:").is_empty(), "the rest of the command line is on record");
    for secret in [PASSWORD, API_KEY, TOKEN] {
        assert_eq!(in_store(&host, secret), Vec::<PathBuf>::new(), "{secret}");
    }
}
