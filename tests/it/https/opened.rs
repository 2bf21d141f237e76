//! TLS that is opened: what is inside is on record in clear, and each side sees what it would have seen without us.

use crewtap::authority::Authority;
use crewtap_tests::host::{succeeded, text};
use serde_json::json;

use super::ground::{ADDRESS, Ground, NAME, notes};
use super::pki::{sha256, valid};

#[test]
fn a_request_of_curl_is_on_record_in_clear() {
    let ground = Ground::with_web();
    let url = format!("https://{NAME}/v1/orders?state=open");
    let output = ground.run(&["curl", "-sSv", "--max-time", "30", "-d", "what is in the body", &url]);
    let said = succeeded(&output);
    assert!(said.contains("\"got\": \"what is in the body\""), "{said}");
    let seen = text(&output);
    assert!(seen.contains("issuer: O=crewtap"), "the client sees our leaf:\n{seen}");
    assert!(seen.contains(&format!("subjectAltName: host \"{NAME}\" matched")), "{seen}");
    assert!(seen.contains("SSL connection using TLSv1.3"), "{seen}");

    let rows = ground.rows(1);
    let session = rows.session();
    assert_eq!(session["tls"], "verified", "{session}");
    assert_eq!(
        (&session["protocol"], &session["host"], &session["proof"]),
        (&json!("http"), &json!(NAME), &json!("certificate"))
    );
    let facts = &session["tls_facts"];
    for leg in ["client", "target"] {
        assert_eq!(facts[leg]["version"], "TLSv1_3", "{facts}");
        assert_eq!(facts[leg]["group"], "X25519", "{facts}");
        assert_eq!(facts[leg]["cipher"], "TLS13_AES_256_GCM_SHA384", "{facts}");
    }
    let exchange = rows.table("exchanges")[0];
    assert_eq!((&exchange["verb"], &exchange["code"]), (&json!("POST"), &json!("200")), "{exchange}");
    let shown = ground.show(&format!("{}.1", session["id"].as_str().unwrap()));
    assert!(shown.contains("what is in the body") && shown.contains("/v1/orders?state=open"), "{shown}");
    let log = ground.log(443);
    assert_eq!((&log[0]["name"], &log[0]["body"]), (&json!(NAME), &json!("what is in the body")), "{log:?}");
    assert_eq!(notes(&rows), [""; 0]);
    ground.host.verify();
}

#[test]
fn version_protocol_and_certificate_are_the_targets() {
    let mut ground = Ground::new();
    let shown = ground.pki.leaf(&valid(&["old.target.test", "other.target.test"]));
    ground.add("old.target.test", 443, &shown, "web", &json!({"maximum": "TLSv1_2"}));
    ground.add("old.target.test", 8443, &shown, "echo", &json!({"alpn": ["h2", "http/1.1"]}));
    ground.serve();
    let seen = text(&ground.run(&["curl", "-sSv", "--max-time", "30", "https://old.target.test/"]));
    assert!(seen.contains("SSL connection using TLSv1.2"), "{seen}");
    assert!(seen.contains("server did not agree on a protocol"), "{seen}");
    let rows = ground.rows(1);
    let facts = &rows.session()["tls_facts"];
    assert_eq!((&facts["client"]["version"], &facts["target"]["version"]), (&json!("TLSv1_2"), &json!("TLSv1_2")));
    assert_eq!(facts["certificate_sha256"], sha256(&shown.chain));

    let ask = "printf 'GET / HTTP/1.1\r\nHost: x\r\n\r\n' | timeout 30 openssl s_client -ign_eof -alpn h2,http/1.1 \
        -connect old.target.test:8443 -servername old.target.test -verify_return_error";
    let seen = succeeded(&ground.run(&["sh", "-c", ask]));
    assert!(seen.contains("ALPN protocol: http/1.1"), "{seen}");
    assert_eq!(ground.log(8443)[0]["alpn"], "http/1.1");
    assert_eq!(ground.rows(1).session()["tls_facts"]["target"]["alpn"], "http/1.1");
}

/// A client of a protocol in which the server speaks first, inside of TLS.
const MAIL: &str = "import socket, ssl, sys
plain = socket.create_connection((sys.argv[1], int(sys.argv[2])))
tls = ssl.create_default_context().wrap_socket(plain, server_hostname=sys.argv[1])
lines = tls.makefile('rb')
print(lines.readline().decode().strip())
for line in (b'EHLO me', b'AUTH PLAIN ' + open(sys.argv[3], 'rb').read(), b'QUIT'):
    tls.sendall(line + b'\\r\\n')
    print(lines.readline().decode().strip())";

#[test]
fn a_server_that_speaks_first_is_heard_and_its_bytes_are_on_record() {
    let mut ground = Ground::new();
    let shown = ground.pki.leaf(&valid(&["mail.target.test"]));
    for port in [465, 993, 5555] {
        ground.add("mail.target.test", port, &shown, "greets", &json!({}));
    }
    ground.serve();
    // What `alice` and her password are in it (RFC 4616).
    let token = "AGFsaWNlAGh1bnRlcjItWGs5d1E0elQ=";
    let file = ground.host.path("token");
    std::fs::write(&file, token).unwrap();
    let file = file.display().to_string();
    for port in ["465", "993", "5555"] {
        let said = succeeded(&ground.run(&["/usr/bin/python3", "-c", MAIL, "mail.target.test", port, &file]));
        let expected = "220 mail.test ESMTP\n250 EHLO me\n235 welcome\n221 bye\n";
        assert_eq!(said, expected);
        let rows = ground.rows(1);
        assert_eq!(rows.session()["tls"], "verified", "{}", rows.session());
        let shown = ground.show(rows.session()["id"].as_str().unwrap());
        for line in ["220 mail.test ESMTP", "EHLO me", "221 bye", "AUTH PLAIN "] {
            assert!(shown.contains(line), "{line}:\n{shown}");
        }
        assert!(!shown.contains(token), "{shown}");
    }
    ground.host.verify();
}

#[test]
fn a_run_goes_on_with_the_authority_that_it_holds_when_a_new_one_is_made() {
    let ground = Ground::with_web();
    let url = format!("https://{NAME}/");
    let issuer = format!("curl -sSv --max-time 30 -o /dev/null {url} 2>&1 | grep issuer:");
    let (go, gone) = (ground.host.path("go"), ground.host.path("gone"));
    for fifo in [&go, &gone] {
        nix::unistd::mkfifo(fifo, nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
    }
    let script = format!("{issuer}; echo >{}; read line <{}; {issuer}", gone.display(), go.display());
    let old = ground.crewtap_run().args(["bash", "-c", &script]).stdout(std::process::Stdio::piped()).spawn().unwrap();
    std::fs::read(&gone).unwrap();
    Authority::open(&ground.host.data_dir().join("authority")).unwrap().rotate().unwrap();
    let new = succeeded(&ground.run(&["bash", "-c", &issuer]));
    std::fs::write(&go, "\n").unwrap();
    let old = succeeded(&old.wait_with_output().unwrap());
    let issuers: Vec<&str> = old.lines().collect();
    assert_eq!(issuers.len(), 2, "{old}");
    assert_eq!(issuers[0], issuers[1], "the run stays with what it trusts");
    assert_ne!(issuers[0], new.trim(), "a new run has the new authority");
}

#[test]
fn an_address_without_a_name_is_opened() {
    let ground = Ground::with_web();
    let said = succeeded(&ground.run(&["curl", "-sS", "--max-time", "30", &format!("https://{ADDRESS}/by-address")]));
    assert!(said.contains("/by-address"), "{said}");
    assert_eq!(ground.log(443)[0]["name"], json!(null), "no name was sent to the target either");
    let rows = ground.rows(1);
    assert_eq!(rows.session()["tls"], "verified", "{}", rows.session());
    assert_eq!(rows.session()["exchanges"], 1);
}

#[test]
fn what_only_a_bundle_of_the_program_vouches_for_is_valid_to_it_and_proves_no_name() {
    let ground = Ground::with_web();
    let root = ground.pki.root_file().display().to_string();
    // Neither the host nor the configuration knows the target's authority.
    std::fs::write(ground.host.path("crewtap.toml"), "").unwrap();
    let url = format!("https://{NAME}/own");
    assert_eq!(ground.run(&["curl", "-sS", "--max-time", "30", &url]).status.code(), Some(60), "nobody vouches for it");
    let said = succeeded(&ground.run(&["curl", "-sS", "--max-time", "30", "--cacert", &root, &url]));
    assert!(said.contains("/own"), "{said}");
    let rows = ground.rows(1);
    let session = rows.session();
    assert_eq!((&session["tls"], &session["exchanges"]), (&json!("by_process"), &json!(1)), "{session}");
    assert_ne!(session["proof"], "certificate", "{session}");
    assert_eq!(notes(&rows), [""; 0]);
}
