//! Runs that have no person: token files that are replaced, and our own credentials.

use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use super::*;
use crate::identity::requests::now;

pub(super) fn service(unit: &str) -> Caller {
    let basis = Basis::Os { uid: 0, login_uid: None, sudo_user: None };
    let os = Identity { id: "os:0".into(), name: "root".into(), basis, ..Identity::unknown() };
    Caller { os, key: None, unit: Some(unit.to_owned()) }
}

pub(super) fn write(path: &PathBuf, text: &str) {
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
        assert!(desk.round().await.is_empty());
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

/// A volume with a projected token, as the kubelet makes it: the file is a link through `..data`, which is exchanged.
struct Volume {
    dir: tempfile::TempDir,
    count: u32,
}

impl Volume {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("..data/token", dir.path().join("token")).unwrap();
        Self { dir, count: 0 }
    }

    fn token(&self) -> PathBuf {
        self.dir.path().join("token")
    }

    fn project(&mut self, token: &str) {
        let name = format!("..2026_11_24_01_41_{:02}.{}", self.count, 1_000 + self.count);
        self.count += 1;
        let made = self.dir.path().join(&name);
        std::fs::create_dir(&made).unwrap();
        std::fs::write(made.join("token"), token).unwrap();
        let (data, beside) = (self.dir.path().join("..data"), self.dir.path().join("..data_tmp"));
        let before = std::fs::read_link(&data).ok();
        std::os::unix::fs::symlink(&name, &beside).unwrap();
        std::fs::rename(&beside, &data).unwrap();
        if let Some(before) = before {
            std::fs::remove_dir_all(self.dir.path().join(before)).unwrap();
        }
    }
}

/// A cluster, the volume of a pod in it, and a desk there.
fn cluster() -> (Fake, Volume, Desk) {
    let (fake, volume) = (Fake::start(), Volume::new());
    fake.is_cluster("the-pods-own");
    let own = volume.dir.path().join("own");
    std::fs::write(&own, "the-pods-own\n").unwrap();
    let table = format!(
        "groups = ['kubernetes.io', 'namespace']\naudience = ['crewtap']\ndiscovery_token = '{}'\n[oidc.k8s.workload]\ntoken_file = '{}'",
        own.display(),
        volume.token().display()
    );
    let desk = Desk::named("k8s", &fake, &table);
    (fake, volume, desk)
}

#[test]
fn a_projected_token_of_kubernetes_says_which_service_account_and_pod_it_is() {
    run(async {
        let (fake, mut volume, desk) = cluster();
        volume.project(&fake.projected(&json!({})));
        let found = desk.party.attribute(&service("crew.service")).await;
        assert_eq!(found.identity.id, "oidc:k8s:system:serviceaccount:crew:runner", "{:?}", found.notes);
        assert_eq!(found.identity.groups.to_vec(), ["oidc:k8s:crew"]);
        let told = found.identity.oidc().unwrap().kubernetes.clone().unwrap();
        assert_eq!((told.namespace.as_str(), told.service_account.as_str()), ("crew", "runner"));
        assert_eq!((told.pod.as_deref(), told.node.as_deref()), (Some("runner-7d4b9c-x2x5z"), Some("worker-1")));
        // The kubelet puts another one in its place before it expires.
        volume.project(&fake.projected(&json!({ "exp": now() + 7200 })));
        let found = desk.party.attribute(&service("crew.service")).await;
        assert!(!found.login.is_over((now() + 7000) * 1_000_000_000));
    });
}

#[test]
fn a_projected_token_that_does_not_count_is_nobodys() {
    run(async {
        let (fake, mut volume, desk) = cluster();
        for (changes, why) in [
            (json!({ "aud": ["https://kubernetes.default.svc.cluster.local"] }), "and not for crewtap"),
            (json!({ "exp": now() - 61 }), "has expired"),
            (json!({ "exp": null }), "exp"),
            (json!({ "iss": "https://kubernetes.default.svc" }), "issuer"),
            (json!({ "nbf": now() + 3600 }), "does not count yet"),
            (json!({ "sub": "" }), "no subject"),
        ] {
            volume.project(&fake.projected(&changes));
            let found = desk.party.attribute(&service("crew.service")).await;
            assert_eq!(found.identity.id, "os:0", "{changes}");
            assert!(found.notes.iter().any(|note| note.contains(why)), "{changes}: {:?}", found.notes);
        }
        let other = Fake::start();
        volume.project(&other.projected(&json!({ "iss": fake.issuer })));
        let found = desk.party.attribute(&service("crew.service")).await;
        assert!(found.notes[0].contains("by no key of the provider"), "another cluster's key: {:?}", found.notes);
        volume.project(&fake.projected(&json!({})));
        let found = desk.party.attribute(&service("crew.service")).await;
        assert_eq!(found.identity.id, "oidc:k8s:system:serviceaccount:crew:runner", "and a right one does");
    });
}

#[test]
fn a_cluster_that_tells_nobody_of_itself_is_named_as_such_and_nobody_logs_in_there() {
    run(async {
        let (fake, mut volume, desk) = cluster();
        volume.project(&fake.projected(&json!({})));
        let who = caller(1000, 7);
        let why = desk.party.begin(&who, None, 4711).await.unwrap_err().to_string();
        assert!(why.contains("offers no log-in for persons"), "{why}");
        let why = desk.party.begin_device(&who, None).await.unwrap_err().to_string();
        assert!(why.contains("offers no log-in for persons"), "{why}");
        let table = format!("[oidc.k8s.workload]\ntoken_file = '{}'", volume.token().display());
        let found = Desk::named("k8s", &fake, &table).party.attribute(&service("crew.service")).await;
        assert!(found.identity.id == "os:0" && found.notes[0].contains("`discovery_token`"), "{:?}", found.notes);
    });
}
