//! Each way to log in, and what becomes of it.

use super::*;

/// Whether something of the data directory holds a text; the file of logins is not looked at.
fn holders(desk: &Desk, needle: &str) -> Vec<String> {
    let found = desk
        .host
        .command("grep")
        .args(["-rlaF", "--exclude=logins.json", needle])
        .arg(desk.host.data_dir())
        .output()
        .unwrap();
    String::from_utf8(found.stdout).unwrap().lines().map(str::to_owned).collect()
}

fn kept(desk: &Desk) -> Value {
    serde_json::from_slice(&std::fs::read(desk.host.data_dir().join("logins.json")).unwrap()).unwrap()
}

#[test]
fn a_person_logs_in_with_a_browser_and_their_runs_carry_it() {
    let desk = Desk::new(&json!({}), "", "");
    assert_eq!(desk.run(&["true"])["identity"], "os:0");
    let (status, said) = desk.login("alice", &[]);
    assert_eq!(status, Some(0), "{said}");
    assert!(said.contains("logged in at corp as alice@example.com (oidc:corp:alice)"), "{said}");
    assert!(said.contains("groups: oidc:corp:dba, oidc:corp:sre"), "{said}");
    let run = desk.run(&["true"]);
    assert_eq!((&run["identity"], &run["identity_name"]), (&json!("oidc:corp:alice"), &json!("alice@example.com")));
    let basis = &run["basis"];
    assert_eq!((&basis["kind"], &basis["way"], &basis["uid"]), (&json!("oidc"), &json!("code"), &json!(0)));
    assert_eq!(basis["issuer"], desk.provider.issuer());
    assert!(
        basis["bound"].as_str().unwrap().starts_with("leader:")
            || basis["bound"].as_str().unwrap().starts_with("audit:")
    );
    assert!(run["groups"].as_array().unwrap().contains(&json!("oidc:corp:sre")), "{run}");
    let id = run["id"].as_str().unwrap();
    let shown = succeeded(&desk.crewtap(&["show", id]).output().unwrap());
    assert!(
        shown.contains(
            "invoked by  alice@example.com (oidc:corp:alice), known by corp (http://127.0.0.1:9400): logged in 20"
        ),
        "{shown}"
    );
    for filter in [
        &["--identity", "alice"][..],
        &["--identity", "oidc:corp:*"],
        &["--group", "sre"],
        &["--group", "oidc:corp:dba"],
    ] {
        let found = desk.host.json(&[&["runs"], filter].concat());
        assert_eq!(found.iter().map(|run| run["id"].as_str().unwrap()).collect::<Vec<_>>(), [id], "{filter:?}");
    }
    assert!(desk.host.json(&["runs", "--identity", "bob"]).is_empty());
    let found = desk.host.json(&["search", "--since", "1h", "identity:alice kind:run"]);
    assert_eq!((found.len(), &found[0]["run"]), (1, &json!(id)));
    assert!(!desk.host.json(&["search", "group:sre kind:process"]).is_empty());
    let notes = desk.host.json(&["search", "code:logged_in"]);
    assert_eq!(notes.len(), 1, "the login itself is on record");
    for secret in ["refresh", "access"] {
        let token = kept(&desk)["logins"][0][secret].as_str().unwrap().to_owned();
        assert!(token.len() > 20 && holders(&desk, &token).is_empty(), "{secret} is in {:?}", holders(&desk, &token));
    }
    desk.host.verify();
}

#[test]
fn a_captured_process_cannot_ask_who_it_is_nor_log_in_nor_read_the_file() {
    let desk = Desk::new(&json!({}), "", "");
    let _agent = desk.agent();
    desk.login("alice", &[]);
    let store = desk.host.data_dir().display().to_string();
    let program = crewtap().display().to_string();
    let config = desk.config().display().to_string();
    for verb in ["whoami", "login", "logout"] {
        let output = desk
            .crewtap(&["run", "-q", "--", &program, "--config", &config, "--data-dir", &store, verb])
            .output()
            .unwrap();
        assert!(!output.status.success() && !text(&output).contains("alice"), "{verb}: {}", text(&output));
    }
    let output = desk.crewtap(&["run", "-q", "--", "cat", &format!("{store}/logins.json")]).output().unwrap();
    assert!(!output.status.success() && output.stdout.is_empty(), "{}", text(&output));
    let whoami = desk.crewtap(&["whoami"]).output().unwrap();
    assert!(succeeded(&whoami).contains("oidc:corp:alice"), "and is still logged in");
}

#[test]
fn a_login_is_of_this_login_session_and_of_no_other() {
    let desk = Desk::new(&json!({}), "", "");
    let _agent = desk.agent();
    desk.login("alice", &[]);
    let other = desk.elsewhere("crewtap whoami; crewtap run -q -- true");
    assert!(text(&other).contains("identity  root (os:0)"), "{}", text(&other));
    assert_eq!(desk.last()["identity"], "os:0");
    let bob = desk.elsewhere("login bob && crewtap run -q -- true && crewtap whoami --json");
    let who: Value = serde_json::from_str(succeeded(&bob).lines().last().unwrap()).unwrap();
    assert_eq!((&who["identity"]["id"], &who["os"]["id"]), (&json!("oidc:corp:bob"), &json!("os:0")));
    assert_eq!(desk.last()["identity"], "oidc:corp:bob");
    assert_eq!(desk.run(&["true"])["identity"], "oidc:corp:alice");
    // The session that bob has logged in from is over, and so is his login.
    let whoami = desk.crewtap(&["whoami", "--json"]).output().unwrap();
    assert!(!succeeded(&whoami).contains("bob"));
}

#[test]
fn a_person_logs_in_on_another_device() {
    let desk = Desk::new(&json!({}), "", "");
    let begun = desk.begin(&["--device", "--issuer", "corp"]);
    assert!(begun.said.contains("in any browser, and type: "), "{}", begun.said);
    browse(desk.python(), begun.url.as_ref().unwrap(), "bob", "wonder").unwrap();
    let (status, said) = begun.end();
    assert_eq!(status, Some(0), "{said}");
    let run = desk.run(&["true"]);
    assert_eq!((&run["identity"], &run["basis"]["way"]), (&json!("oidc:corp:bob"), &json!("device")));
}

#[test]
fn groups_come_from_userinfo_where_the_token_has_none() {
    let desk = Desk::new(&json!({ "userinfo_only": true }), "", "");
    let (status, said) = desk.login("alice", &[]);
    assert_eq!(status, Some(0), "{said}");
    let run = desk.run(&["true"]);
    assert_eq!(
        (&run["basis"]["groups_from"], &run["basis"]["email"]),
        (&json!("userinfo"), &json!("alice@example.com"))
    );
    assert!(run["groups"].as_array().unwrap().contains(&json!("oidc:corp:sre")), "{run}");
}

#[test]
fn logging_out_has_the_provider_forget() {
    let desk = Desk::new(&json!({}), "", "");
    let _agent = desk.agent();
    desk.login("alice", &[]);
    let refresh = kept(&desk)["logins"][0]["refresh"].as_str().unwrap().to_owned();
    let out = desk.crewtap(&["logout", "--json"]).output().unwrap();
    let ended: Value = serde_json::from_str(succeeded(&out).trim()).unwrap();
    assert_eq!((&ended["identity"], &ended["revoked"]), (&json!("oidc:corp:alice"), &json!(true)));
    let url = format!("{}/token", desk.provider.issuer());
    let mut curl = desk.host.command("curl");
    curl.args(["--silent", "-d", "grant_type=refresh_token", "-d", "client_id=crewtap", "-d"]);
    let tried = curl.arg(format!("refresh_token={refresh}")).arg(url).output().unwrap();
    assert!(succeeded(&tried).contains("invalid_grant"), "{}", text(&tried));
    assert_eq!(desk.run(&["true"])["identity"], "os:0");
    assert_eq!(desk.crewtap(&["logout"]).output().unwrap().status.code(), Some(1), "nobody is left");
    assert_eq!(desk.crewtap(&["whoami"]).output().unwrap().status.code(), Some(1));
}

#[test]
fn a_provider_is_asked_over_tls_that_its_own_authority_vouches_for() {
    let authority = rcgen::KeyPair::generate().unwrap();
    let mut root = rcgen::CertificateParams::new(Vec::new()).unwrap();
    root.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let issuer = rcgen::CertifiedIssuer::self_signed(root, authority).unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let leaf = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: String| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let (key, cert, ca) = (write("key", key.serialize_pem()), write("cert", leaf.pem()), write("ca", issuer.pem()));
    let settings = json!({ "tls": { "key": key, "cert": cert } });
    let secure = format!("issuer = 'https://127.0.0.1:{PORT}'\n");
    let desk = Desk::new(&settings, "", &format!("{secure}ca = '{ca}'"));
    let (status, said) = desk.login("alice", &[]);
    assert_eq!(status, Some(0), "{said}");
    let desk = Desk::new(&settings, "", &secure);
    let (status, said) = desk.login("alice", &[]);
    assert!(status == Some(1) && said.contains("no TLS with 127.0.0.1:9400"), "{said}");
}

#[test]
fn what_nobody_can_log_in_with_is_told() {
    let desk = Desk::new(&json!({}), "", "");
    let begun = desk.begin(&[]);
    let url = begun.url.clone().unwrap();
    // The form's own word: there is nobody of that name.
    assert!(browse(desk.python(), &url, "mallory", "wonder").is_err());
    let wrong = format!("{}?error=access_denied&error_description=no&state=guess", redirect_of(&url));
    let forged =
        desk.host.command("curl").args(["--silent", "-o", "/dev/null", "-w", "%{http_code}", &wrong]).output().unwrap();
    assert_eq!(succeeded(&forged), "400", "an answer that is not to this login changes nothing");
    // Another user of this host, who knows all that the person knows.
    let other = desk
        .host
        .command("setpriv")
        .args(["--reuid", "65534", "--regid", "65534", "--clear-groups", "curl", "--silent", "-o", "/dev/null"])
        .args(["-w", "%{http_code}", &format!("{}?code=stolen&state={}", redirect_of(&url), state_of(&url))])
        .output()
        .unwrap();
    assert_eq!(succeeded(&other), "403", "the page is there for who logs in, and for root");
    let state = state_of(&url);
    let refused =
        format!("{}?error=access_denied&state={state}&iss=http%3A%2F%2F127.0.0.1%3A{PORT}", redirect_of(&url));
    let told = desk
        .host
        .command("curl")
        .args(["--silent", "-o", "/dev/null", "-w", "%{http_code}", &refused])
        .output()
        .unwrap();
    assert_eq!(succeeded(&told), "403");
    let (status, said) = begun.end();
    assert!(
        status == Some(1) && said.contains("not logged in: the identity provider corp refuses: access_denied"),
        "{said}"
    );
    assert!(said.contains("user 65534 of this host, who does not log in here, has called"), "{said}");
    let (status, said) = desk.login("alice", &["--issuer", "other"]);
    assert!(status == Some(1) && said.contains("no identity provider is called `other`: there are corp"), "{said}");
}

fn state_of(url: &str) -> &str {
    url.split("state=").nth(1).unwrap().split('&').next().unwrap()
}

fn redirect_of(url: &str) -> String {
    let redirect = url.split("redirect_uri=").nth(1).unwrap().split('&').next().unwrap();
    redirect.replace("%3A", ":").replace("%2F", "/")
}

#[test]
fn a_unit_without_a_person_is_known_by_our_own_credentials() {
    let secret = tempfile::tempdir().unwrap();
    let path = secret.path().join("secret");
    {
        use std::io::Write;
        use std::os::unix::fs::OpenOptionsExt;
        let mut options = std::fs::OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600).open(&path).unwrap().write_all(b"hunter2").unwrap();
    }
    let more = format!(
        "client_id = 'crew-nightly'\nsecret = 'file:{}'\nscopes = ['run']\naudience = ['urn:crewtap']\n[oidc.corp.workload]\nclient_credentials = true",
        path.display()
    );
    let desk = Desk::new(&json!({}), "", &more);
    let run = desk.run(&["true"]);
    assert_eq!(
        (&run["identity"], &run["basis"]["way"]),
        (&json!("oidc:corp:crew-nightly"), &json!("client_credentials")),
        "{run}"
    );
    assert!(holders(&desk, "hunter2").is_empty());
}
