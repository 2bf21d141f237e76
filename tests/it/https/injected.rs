//! Credentials of the catalog inside of TLS: real clients have a wrong one or none, the target gets the right one, and nobody
//! else ever has it.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use crewtap_tests::host::{succeeded, text};
use crewtap_tests::world::{cache_dir, clients_project};
use serde_json::{Value, json};

use super::ground::{ADDRESS, Ground, NAME, notes};
use super::pki::{Pki, valid};
use crate::redaction::{forms, found, holds};

const SECRET: &str = "Reiher-9Xk4w/Q4zT";

/// The same, where it stands in a URL.
const IN_URL: &str = "Reiher-9Xk4w%2FQ4zT";

const TOKEN: &str = "hvs.Zeisig-of-the-store";

/// Where the store of secrets listens.
const KV: u16 = 8200;

/// One request by each library, with a key that is none.
const CLIENTS: &str = "
import aiohttp, asyncio, httpx, openai, requests, sys
base, wrong = sys.argv[1], {'Authorization': 'Bearer mine-own', 'X-Api-Key': 'mine-own'}
print(httpx.get(base + '/mirror/httpx?key=mine-own', headers=wrong).text)
print(requests.get(base + '/mirror/requests?key=mine-own', headers=wrong).text)
async def ask():
    async with aiohttp.ClientSession() as session, session.get(base + '/mirror/aiohttp?key=mine-own', headers=wrong) as got:
        print(await got.text())
asyncio.run(ask())
client = openai.OpenAI(api_key='mine-own', base_url=base + '/v1', default_headers={'X-Api-Key': 'mine-own'})
asked = [{'role': 'user', 'content': 'prompt of openai'}]
print(client.chat.completions.create(model='gpt-4o', messages=asked).choices[0].message.content)";

/// How many requests all clients make.
const REQUESTS: usize = 5;

fn ground() -> Ground {
    let mut ground = Ground::new();
    let shown = ground.pki.leaf(&valid(&[NAME]));
    ground.add(NAME, 443, &shown, "api", &json!({}));
    ground.serve();
    keep(&ground.host.path("key"), SECRET);
    ground
}

fn keep(file: &Path, secret: &str) {
    std::fs::write(file, format!("{secret}\n")).unwrap();
    std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o600)).unwrap();
}

fn catalog(ground: &Ground, credential: &str) {
    let entry = format!(
        "[target.api]\nmatch = {{ host = ['{NAME}'], port = [443, 8443] }}\nprotocol = 'http'\ncredential = {{ {credential} }}\n"
    );
    std::fs::write(ground.host.path("targets.toml"), entry).unwrap();
    ground.configure("targets = 'targets.toml'");
}

fn assert_nowhere(ground: &Ground, said: &str, secret: &str) {
    for form in forms(secret) {
        assert!(!said.contains(&form), "the client got {form}: {said}");
    }
    assert_eq!(found(&ground.host, &forms(secret)), [""; 0], "on record");
}

/// What the target was sent since so many requests.
fn sent(ground: &Ground, before: usize) -> Vec<Value> {
    ground.log(443).split_off(before).into_iter().filter(|entry| entry.get("headers").is_some()).collect()
}

#[test]
fn clients_with_a_wrong_key_get_in_and_neither_they_nor_the_record_have_the_right_one() {
    let ground = ground();
    let python = clients_project(&cache_dir()).join(".venv/bin/python").display().to_string();
    let base = format!("https://{NAME}");
    let curl = "curl -sS --max-time 30 -H 'Authorization: Bearer mine-own' -H 'X-Api-Key: mine-own' \"$2/mirror/curl?key=mine-own\"";
    let script = format!("set -e; {curl}; \"$0\" -c \"$1\" \"$2\"");
    let bearer = format!("Bearer {SECRET}");
    let basic = format!("Basic {}", STANDARD.encode(format!("u:{SECRET}")));
    for (credential, field, wanted) in [
        ("header = 'authorization', scheme = 'bearer', secret = 'file:key'", "authorization", bearer.as_str()),
        ("user = 'u', secret = 'file:key'", "authorization", &basic),
        ("header = 'x-api-key', secret = 'file:key'", "x-api-key", SECRET),
        ("placeholder = 'mine-own', secret = 'file:key'", "authorization", &bearer),
        ("query = 'key', secret = 'file:key'", "", IN_URL),
    ] {
        catalog(&ground, credential);
        let before = ground.log(443).len();
        let output = ground.run(&["sh", "-c", &script, &python, CLIENTS, &base]);
        let said = succeeded(&output);
        let sent = sent(&ground, before);
        assert_eq!(sent.len(), REQUESTS, "{credential}: {sent:?}");
        for request in &sent {
            let got = if field.is_empty() { &request["path"] } else { &request["headers"][field] };
            let got = got.as_str().unwrap();
            assert!(
                if field.is_empty() { got.ends_with(&format!("key={wanted}")) } else { got == wanted },
                "{credential}: {request}"
            );
        }
        assert!(said.contains("***") && said.contains("answer to prompt of openai"), "{credential}: {said}");
        assert_nowhere(&ground, &text(&output), SECRET);
        let rows = ground.rows(REQUESTS as u64);
        assert!(rows.table("sessions").iter().all(|session| session["tls"] == "verified"), "{credential}");
        assert_eq!(notes(&rows).iter().filter(|code| *code == "injected").count(), REQUESTS, "{:?}", notes(&rows));
    }
    // What was searched does hold what it should.
    assert!(holds(&ground.host, "/mirror/requests"));
    ground.host.verify();
}

#[test]
fn a_server_that_has_not_proven_the_name_gets_no_request_though_its_client_takes_any_certificate() {
    let mut ground = Ground::new();
    let stranger = ground.pki.leaf_of_a_stranger(&valid(&[NAME]));
    ground.add(NAME, 443, &stranger, "api", &json!({}));
    let other = ground.pki.leaf(&valid(&["other.target.test"]));
    ground.add("other.target.test", 8443, &other, "api", &json!({}));
    ground.serve();
    keep(&ground.host.path("key"), SECRET);
    catalog(&ground, "header = 'authorization', scheme = 'bearer', secret = 'file:key'");
    for port in [443, 8443] {
        let url = format!("https://{NAME}:{port}/mirror/x");
        let said =
            text(&ground.run(&["curl", "-sSk", "-i", "--max-time", "30", "-H", "Authorization: Bearer own", &url]));
        assert!(said.contains("502 Bad Gateway") && said.contains("urn:crewtap:credential"), "{port}: {said}");
        let asked: Vec<Value> = ground.log(port).into_iter().filter(|entry| entry.get("headers").is_some()).collect();
        assert!(asked.is_empty(), "whoever is there has {asked:?}");
        assert!(notes(&ground.rows(1)).contains(&"credential_withheld".to_owned()), "{:?}", notes(&ground.rows(1)));
    }
}

/// The catalog's credential, from the store of secrets that is verified with a file.
fn from_store(ground: &Ground, place: &str, authority: Option<&Path>) {
    let ca = authority.map(|file| format!(", ca = '{}'", file.display())).unwrap_or_default();
    let secret = format!("vault:https://{place}:{KV}/v1/secret/data/crew#key");
    catalog(ground, &format!("header = 'x-api-key', secret = '{secret}', token = 'file:token'{ca}"));
}

#[test]
fn a_store_of_secrets_is_verified_before_it_gets_its_token() {
    let mut ground = ground();
    keep(&ground.host.path("token"), TOKEN);
    let shown = ground.pki.leaf(&valid(&[ADDRESS]));
    ground.add("kv.target.test", KV, &shown, "kv", &json!({"token": TOKEN, "secret": SECRET}));
    ground.serve();
    let url = format!("https://{NAME}/mirror/kv");
    let ask = |ground: &Ground| ground.run(&["curl", "-sS", "-i", "--max-time", "30", "-H", "X-Api-Key: own", &url]);
    let root = ground.pki.root_file();
    from_store(&ground, ADDRESS, Some(&root));
    let output = ask(&ground);
    assert!(succeeded(&output).contains("200 OK"), "{}", text(&output));
    assert_eq!(sent(&ground, 0)[0]["headers"]["x-api-key"], SECRET);
    assert_eq!(ground.log(KV), [json!({"asked": "GET /v1/secret/data/crew HTTP/1.1", "may": true})]);
    for secret in [SECRET, TOKEN] {
        assert_nowhere(&ground, &text(&output), secret);
    }
    // An authority that has not signed for it, the host's own, and another name than the certificate's.
    let other = Pki::new(ground.host.path("other")).root_file();
    for (place, authority) in [(ADDRESS, Some(other.as_path())), (ADDRESS, None), ("kv.target.test", Some(&root))] {
        from_store(&ground, place, authority);
        let before = ground.log(KV).len();
        let said = text(&ask(&ground));
        assert!(said.contains("502 Bad Gateway") && !said.contains(TOKEN), "{place} {authority:?}: {said}");
        let asked: Vec<Value> = ground.log(KV).split_off(before);
        assert!(asked.iter().all(|entry| entry.get("may").is_none()), "{place} {authority:?} was asked: {asked:?}");
        assert!(notes(&ground.rows(1)).contains(&"credential_unavailable".to_owned()));
        assert_nowhere(&ground, &said, TOKEN);
    }
    assert_eq!(sent(&ground, 0).len(), 1, "a request without its credential has gone to the target");
}
