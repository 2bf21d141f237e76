//! A workload whose token a cluster has given out: what its run carries, and that nobody logs in there.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use rcgen::SigningKey as _;

use super::*;

/// Where the documents are served.
const CLUSTER: &str = "http://127.0.0.1:9410";

fn encoded(value: &Value) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(value.to_string())
}

/// The documents of an API server, as files of a directory.
fn documents(directory: &std::path::Path, key: &rcgen::KeyPair) {
    let discovery = json!({
        "issuer": CLUSTER, "jwks_uri": format!("{CLUSTER}/openid/v1/jwks"), "response_types_supported": ["id_token"],
        "subject_types_supported": ["public"], "id_token_signing_alg_values_supported": ["EdDSA"],
    });
    let x = BASE64_URL_SAFE_NO_PAD.encode(key.public_key_raw());
    let jwk = json!({ "use": "sig", "kty": "OKP", "crv": "Ed25519", "kid": "k1", "alg": "EdDSA", "x": x });
    for (path, text) in [(".well-known/openid-configuration", discovery), ("openid/v1/jwks", json!({ "keys": [jwk] }))]
    {
        let path = directory.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text.to_string()).unwrap();
    }
}

#[test]
fn a_pods_runs_carry_its_service_account_and_nobody_logs_in_at_a_cluster() {
    let files = tempfile::tempdir().unwrap();
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    documents(files.path(), &key);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let claims = json!({
        "aud": ["crewtap"], "exp": now + 3600, "iat": now, "nbf": now, "iss": CLUSTER, "jti": "5c9a6cb0",
        "kubernetes.io": {
            "namespace": "crew", "pod": { "name": "runner-x2x5z", "uid": "0f3c" },
            "serviceaccount": { "name": "runner", "uid": "a7c1" },
        },
        "sub": "system:serviceaccount:crew:runner",
    });
    let said = format!("{}.{}", encoded(&json!({ "alg": "EdDSA", "kid": "k1" })), encoded(&claims));
    let token = format!("{said}.{}", BASE64_URL_SAFE_NO_PAD.encode(key.sign(said.as_bytes()).unwrap()));
    std::fs::write(files.path().join("token"), &token).unwrap();
    let more = format!(
        "issuer = '{CLUSTER}'\nclient_id = 'crewtap'\n[oidc.corp.workload]\ntoken_file = '{}'",
        files.path().join("token").display()
    );
    let desk = Desk::new(&json!({}), "", &more);
    let mut server = desk
        .host
        .command("python3")
        .args(["-m", "http.server", "9410", "--bind", "127.0.0.1", "--directory"])
        .arg(files.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    until("the cluster", || {
        let asked = desk.host.command("curl").args(["--silent", "--fail", CLUSTER]).output().unwrap();
        asked.status.success().then_some(())
    });
    let run = desk.run(&["true"]);
    assert_eq!(
        (&run["identity"], &run["basis"]["way"]),
        (&json!("oidc:corp:system:serviceaccount:crew:runner"), &json!("token_file"))
    );
    let told = json!({ "namespace": "crew", "service_account": "runner", "pod": "runner-x2x5z" });
    assert_eq!(run["basis"]["kubernetes"], told);
    let shown = succeeded(&desk.crewtap(&["show", run["id"].as_str().unwrap()]).output().unwrap());
    assert!(shown.contains("service account runner of namespace crew, pod runner-x2x5z"), "{shown}");
    for how in [&[][..], &["--device"]] {
        let (status, said) = desk.login("alice", how);
        assert!(status == Some(1) && said.contains("offers no log-in for persons"), "{said}");
    }
    server.kill().unwrap();
    server.wait().unwrap();
}
