//! Runs that have no person: token files that are replaced, and our own credentials.

use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use super::*;
use crate::identity::requests::now;

fn service(unit: &str) -> Caller {
    let basis = Basis::Os { uid: 0, login_uid: None, sudo_user: None };
    let os = Identity { id: "os:0".into(), name: "root".into(), basis, ..Identity::unknown() };
    Caller { os, key: None, unit: Some(unit.to_owned()) }
}

fn write(path: &PathBuf, text: &str) {
    use std::io::Write;
    let beside = path.with_extension("new");
    let mut options = std::fs::OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&beside).unwrap();
    file.write_all(text.as_bytes()).unwrap();
    std::fs::rename(&beside, path).unwrap();
}

#[test]
fn a_token_file_is_read_again_when_it_was_replaced() {
    run(async {
        let fake = Fake::start();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        let table = format!(
            "audience = ['hosts']\n[oidc.k8s.workload]\ntoken_file = '{}'\nunits = ['crew.service']",
            path.display()
        );
        let desk = Desk::of(&[("k8s", &fake, &table)]);
        let token = |subject: &str, exp: u64| {
            fake.token(&json!({ "sub": subject, "aud": ["hosts"], "exp": exp, "groups": ["system:serviceaccounts"] }))
        };
        let none = desk.party.attribute(&service("crew.service")).await;
        assert!(none.identity.id == "os:0" && none.notes[0].contains("token"), "{:?}", none.notes);
        write(&path, &token("system:serviceaccount:crew:a", now() + 600));
        let found = desk.party.attribute(&service("crew.service")).await;
        assert_eq!(found.identity.id, "oidc:k8s:system:serviceaccount:crew:a");
        let basis = found.identity.oidc().unwrap();
        assert_eq!((basis.way.as_str(), basis.bound.as_str()), ("token_file", "unit:crew.service"));
        assert!(found.identity.groups.contains(&"oidc:k8s:system:serviceaccounts".to_owned()));
        assert_eq!(desk.party.attribute(&service("other.service")).await.identity.id, "os:0");
        write(&path, &token("system:serviceaccount:crew:b", now() + 600));
        let found = desk.party.attribute(&service("crew.service")).await;
        assert_eq!(found.identity.id, "oidc:k8s:system:serviceaccount:crew:b");
        // One that does not count takes the place of one that did.
        write(&path, &token("system:serviceaccount:crew:b", now() - 600));
        let found = desk.party.attribute(&service("crew.service")).await;
        assert!(found.identity.id == "os:0" && found.notes[0].contains("has expired"), "{:?}", found.notes);
    });
}

#[test]
fn a_token_that_a_run_carries_is_followed_while_it_is_rotated() {
    run(async {
        let fake = Fake::start();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        let table = format!(
            "audience = ['hosts']\n[oidc.k8s.workload]\ntoken_file = '{}'\nunits = ['crew.service']",
            path.display()
        );
        let desk = Desk::of(&[("k8s", &fake, &table)]);
        let token = |exp: u64| fake.token(&json!({ "sub": "s", "aud": "hosts", "exp": exp }));
        fake.userinfo(json!({ "sub": "s" }));
        write(&path, &token(now() + 5));
        let carried = desk.party.attribute(&service("crew.service")).await.login;
        write(&path, &token(now() + 900));
        assert!(desk.party.keep().await.is_empty());
        assert!(!carried.is_over((now() + 600) * 1_000_000_000));
    });
}

#[test]
fn a_unit_has_our_own_credentials_where_it_is_configured() {
    run(async {
        let fake = Fake::start();
        let dir = tempfile::tempdir().unwrap();
        let secret = dir.path().join("secret");
        write(&secret, "hunter2\n");
        let table = format!(
            "secret = 'file:{}'\nauth = 'post'\naudience = ['hosts']\n[oidc.corp.workload]\nclient_credentials = true\nunits = ['crew.service']",
            secret.display()
        );
        let desk = Desk::of(&[("corp", &fake, &table)]);
        fake.gives(|form| {
            assert_eq!(
                (form["grant_type"].as_str(), form["client_secret"].as_str()),
                ("client_credentials", "hunter2")
            );
            (200, json!({ "access_token": "opaque", "token_type": "Bearer", "expires_in": 60 }))
        });
        let found = desk.party.attribute(&service("crew.service")).await;
        assert_eq!(found.identity.id, "oidc:corp:crewtap");
        assert_eq!(found.identity.oidc().unwrap().way.as_str(), "client_credentials");
        let desk = Desk::of(&[("corp", &fake, &table)]);
        let token = fake.token(&json!({ "sub": "crew-service", "aud": "hosts", "groups": ["batch"] }));
        fake.gives(move |_| (200, json!({ "access_token": token, "token_type": "Bearer", "expires_in": 60 })));
        let found = desk.party.attribute(&service("crew.service")).await;
        assert_eq!(found.identity.id, "oidc:corp:crew-service");
        assert_eq!(found.identity.groups.to_vec(), ["oidc:corp:batch"]);
        let desk = Desk::of(&[("corp", &fake, &table)]);
        fake.gives(|_| (401, json!({ "error": "invalid_client" })));
        let found = desk.party.attribute(&service("crew.service")).await;
        assert!(found.identity.id == "os:0" && found.notes[0].contains("invalid_client"), "{:?}", found.notes);
    });
}
