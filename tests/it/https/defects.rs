//! Targets whose certificate is not as it should be: what a client makes of it is what it would have made of it without
//! us, and the record says what is wrong.

use crewtap_tests::host::text;
use serde_json::json;

use super::ground::{Ground, notes};
use super::pki::{Pki, Shown, dated, sha256, valid};

/// A target, the certificate that it shows, and what is to be found wrong with it.
struct Defective {
    name: &'static str,
    shown: Shown,
    defects: &'static [&'static str],
}

fn all(pki: &Pki) -> Vec<Defective> {
    let from = |name, from, until| {
        let mut params = valid(&[name]);
        dated(&mut params, from, until);
        params
    };
    let defective = |name, shown, defects| Defective { name, shown, defects };
    vec![
        defective("expired.test", pki.leaf(&from("expired.test", -9, -2)), &["expired"]),
        defective("early.test", pki.leaf(&from("early.test", 2, 9)), &["not_yet_valid"]),
        defective("wrong.test", pki.leaf(&valid(&["right.test"])), &["wrong_name"]),
        defective("stranger.test", pki.leaf_of_a_stranger(&valid(&["stranger.test"])), &["unknown_issuer"]),
        defective("alone.test", pki.leaf_alone(&valid(&["alone.test"])), &["unknown_issuer"]),
        defective("self.test", pki.self_signed(&valid(&["self.test"])), &["unknown_issuer"]),
        defective(
            "worst.test",
            pki.self_signed(&from("right.test", -9, -2)),
            &["expired", "unknown_issuer", "wrong_name"],
        ),
    ]
}

fn ground() -> (Ground, Vec<(Defective, u16)>) {
    let mut ground = Ground::new();
    let targets: Vec<_> = all(&ground.pki).into_iter().zip(443..).collect();
    for (target, port) in &targets {
        ground.add(target.name, *port, &target.shown, "web", &json!({}));
    }
    ground.serve();
    (ground, targets)
}

#[test]
fn a_strict_client_refuses_what_it_would_have_refused() {
    let (ground, targets) = ground();
    let root = ground.pki.root_file().display().to_string();
    for (target, port) in &targets {
        let url = format!("https://{}:{port}/", target.name);
        let curl = ["curl", "-sS", "--max-time", "30", "-w", "%{ssl_verify_result}", &url];
        let captured = ground.run(&curl);
        let direct = ground.direct(&[&curl[..], &["--cacert", &root]].concat());
        assert_eq!(direct.status.code(), Some(60), "{}: {}", target.name, text(&direct));
        assert_eq!(captured.status.code(), Some(60), "{}: {}", target.name, text(&captured));
        // That an issuer is unknown has several numbers; dates and names have one each.
        if !target.defects.contains(&"unknown_issuer") {
            assert_eq!(captured.stdout, direct.stdout, "{}", target.name);
        }
        assert_eq!(ground.log(*port).iter().filter(|entry| entry.get("path").is_some()).count(), 0);
        let rows = ground.rows(1);
        let facts = &rows.session()["tls_facts"];
        assert_eq!(facts["defects"], json!(target.defects), "{facts}");
        assert_eq!(facts["certificate_sha256"], sha256(&target.shown.chain), "{facts}");
        // It has refused the target's certificate and not ours: nothing is to be learned from that.
        assert!(!facts["why"].to_string().contains("are not opened for"), "{facts}");
        let again = ground.run(&["curl", "-skS", "--max-time", "30", "-o", "/dev/null", &url]);
        assert!(again.status.success(), "{}", text(&again));
        assert_eq!(ground.rows(1).session()["tls"], "unverified");
    }
}

#[test]
fn a_careless_client_goes_on_and_the_record_says_what_is_wrong() {
    let (ground, targets) = ground();
    for (target, port) in &targets {
        let url = format!("https://{}:{port}/careless", target.name);
        let output = ground.run(&["curl", "-skS", "--max-time", "30", &url]);
        assert!(output.status.success() && text(&output).contains("/careless"), "{}: {}", target.name, text(&output));
        let rows = ground.rows(1);
        let session = rows.session();
        assert_eq!((&session["tls"], &session["exchanges"]), (&json!("unverified"), &json!(1)), "{session}");
        assert_eq!(session["tls_facts"]["defects"], json!(target.defects), "{session}");
        assert_eq!(session["tls_facts"]["certificate_sha256"], sha256(&target.shown.chain), "{session}");
        assert_ne!(session["proof"], "certificate", "{session}");
        let shown = ground.show(session["id"].as_str().unwrap());
        assert!(shown.contains(&format!("NOT valid ({})", target.defects.join(", "))), "{shown}");
        assert_eq!(notes(&rows), [""; 0]);
    }
    ground.host.verify();
}

/// Checks chain and dates, and no name: as database drivers do with `verify-ca`.
const ANY_NAME: &str = "import socket, ssl, sys
context = ssl.create_default_context()
context.check_hostname = False
plain = socket.create_connection((sys.argv[1], int(sys.argv[2])))
tls = context.wrap_socket(plain, server_hostname=sys.argv[1])
tls.sendall(b'GET /any-name HTTP/1.1\\r\\nHost: x\\r\\nConnection: close\\r\\n\\r\\n')
print(tls.recv(12).decode())";

#[test]
fn a_client_that_takes_any_name_of_a_known_issuer_goes_on() {
    let (ground, targets) = ground();
    for (target, port) in &targets {
        let output = ground.run(&["/usr/bin/python3", "-c", ANY_NAME, target.name, &port.to_string()]);
        let takes = target.defects == ["wrong_name"];
        assert_eq!(output.status.success(), takes, "{}: {}", target.name, text(&output));
    }
}
