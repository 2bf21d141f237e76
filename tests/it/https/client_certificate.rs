//! Targets that want a certificate from their client: only the client has it, so the connection passes as it is.

use crewtap_tests::host::{succeeded, text};
use serde_json::json;

use super::ground::{ADDRESS, Ground, NAME, notes};
use super::pki::valid;

/// nginx that wants a client's certificate, and says whose it was.
fn ground(settings: &str) -> Ground {
    let mut ground = Ground::new();
    let shown = ground.pki.leaf(&valid(&[NAME]));
    ground.name(NAME, ADDRESS);
    let server = format!(
        "server {{ listen {ADDRESS}:443 ssl; ssl_certificate {}; ssl_certificate_key {}; \
         ssl_client_certificate {}; ssl_verify_depth 3; {settings} \
         location / {{ return 200 \"[$ssl_client_verify $ssl_client_s_dn]\"; }} }}",
        shown.chain.display(),
        shown.key.display(),
        ground.pki.root_file().display(),
    );
    ground.nginx(&server);
    ground
}

#[test]
fn a_client_logs_in_with_its_certificate() {
    for version in ["TLSv1.2", "TLSv1.3"] {
        let ground = ground(&format!("ssl_verify_client on; ssl_protocols {version};"));
        let own = ground.pki.leaf(&valid(&["crew"]));
        let root = ground.pki.root_file().display().to_string();
        let (chain, key) = (own.chain.display().to_string(), own.key.display().to_string());
        let url = format!("https://{NAME}/");
        let curl = ["curl", "-sS", "--max-time", "30", "--cacert", &root, "--cert", &chain, "--key", &key, &url];
        assert_eq!(succeeded(&ground.run(&curl)), "[SUCCESS CN=crew]", "{version}");
        let rows = ground.rows(1);
        let session = rows.session();
        assert_eq!((&session["tls"], &session["outcome"]), (&json!("passed"), &json!("completed")), "{session}");
        assert!(session["tls_facts"]["why"].as_str().unwrap().starts_with("tls_client_certificate"), "{session}");
        assert_eq!(notes(&rows), ["tls_client_certificate"]);
    }
}

#[test]
fn a_client_without_one_is_told_by_the_target() {
    let ground = ground("ssl_verify_client on;");
    let root = ground.pki.root_file().display().to_string();
    let curl = ["curl", "-sS", "--max-time", "30", "--cacert", &root, &format!("https://{NAME}/")];
    let (captured, direct) = (ground.run(&curl), ground.direct(&curl));
    assert!(text(&captured).contains("No required SSL certificate was sent"), "{}", text(&captured));
    assert_eq!(captured.stdout, direct.stdout);
}

#[test]
fn a_target_that_would_take_a_certificate_passes_too() {
    let ground = ground("ssl_verify_client optional;");
    let root = ground.pki.root_file().display().to_string();
    let curl = ["curl", "-sS", "--max-time", "30", "--cacert", &root, &format!("https://{NAME}/")];
    assert_eq!(succeeded(&ground.run(&curl)), "[NONE ]");
    assert_eq!(notes(&ground.rows(1)), ["tls_client_certificate"]);
}
