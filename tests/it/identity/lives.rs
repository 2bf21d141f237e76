//! What happens to a login later: keys that are rotated, groups that change, a provider that is down, and the end in mid-run.

use super::*;

fn groups(run: &Value) -> Vec<&str> {
    let all = run["groups"].as_array().unwrap().iter().filter_map(Value::as_str);
    all.filter(|group| group.starts_with("oidc:")).collect()
}

#[test]
fn groups_of_today_count_keys_are_rotated_and_the_provider_may_be_down() {
    let desk = Desk::new(&json!({}), "", "renew = '0s'");
    let _agent = desk.agent();
    desk.login("alice", &[]);
    assert_eq!(groups(&desk.run(&["true"])), ["oidc:corp:dba", "oidc:corp:sre"]);
    desk.change("groups?login=alice&group=interns");
    desk.change("rotate");
    let renewed = desk.run(&["true"]);
    assert_eq!(groups(&renewed), ["oidc:corp:interns"]);
    assert_eq!(renewed["identity"], "oidc:corp:alice");
    desk.change("down");
    let output = desk.crewtap(&["run", "--", "true"]).output().unwrap();
    assert!(
        text(&output).contains("could not be renewed: the identity provider corp does not answer"),
        "{}",
        text(&output)
    );
    assert_eq!(desk.last()["identity"], "oidc:corp:alice", "it counts as long as the provider has said");
}

#[test]
fn the_next_agent_finds_the_login() {
    let desk = Desk::new(&json!({}), "", "");
    desk.login("alice", &[]);
    agent::wait_idle(&desk.host);
    desk.provider.change(desk.host.command("curl"), "down").unwrap();
    assert_eq!(desk.run(&["true"])["identity"], "oidc:corp:alice", "without asking anybody");
}

#[test]
fn ten_thousand_groups_are_carried_and_all_of_them_are_on_record() {
    let many: Vec<String> = (0..10_000).map(|n| format!("6f9619ff-8b86-d011-b42d-{n:012}")).collect();
    let account = json!({ "password": "wonder", "claims": { "email": "carol@example.com", "email_verified": true, "groups": many } });
    let desk = Desk::new(&json!({ "accounts": { "carol": account } }), "", "");
    let (status, said) = desk.login("carol", &[]);
    assert_eq!(status, Some(0), "{said}");
    assert!(said.contains("and 9992 more"), "{said}");
    let run = desk.run(&["true"]);
    assert!(groups(&run).len() > 100 && groups(&run).len() < 1000, "{}", groups(&run).len());
    let journal = crewtap::journal::Reader::open(&desk.host.data_dir()).unwrap();
    let record = journal.record(run["leaf"].as_u64().unwrap()).unwrap().unwrap();
    let content = String::from_utf8(record.payload).unwrap();
    assert_eq!(content.lines().filter(|group| group.starts_with("oidc:corp:6f9619ff")).count(), 10_000);
    desk.host.verify();
}

/// Waits until the login that a run carries has expired, as its basis says: what is tested is what a clock does to it.
fn until_it_expires(run: &Value) {
    let expires = run["basis"]["expires"].as_u64().unwrap();
    let at = std::time::UNIX_EPOCH + std::time::Duration::from_secs(expires);
    std::thread::sleep(at.duration_since(std::time::SystemTime::now()).unwrap_or_default());
}

/// Asks for a page, waits until it is told to go on, and asks again.
const TWICE: &str = "import sys, urllib.request
def ask():
    try: return urllib.request.urlopen(sys.argv[1], timeout=20).status
    except urllib.error.HTTPError as error: return error.code
    except OSError as error: return 'refused'
import urllib.error
print(ask(), flush=True)
sys.stdin.readline()
print(ask(), flush=True)
sys.stdin.readline()
print(ask(), flush=True)";

#[test]
fn a_run_whose_login_has_expired_waits_for_its_person() {
    let policy = tempfile::tempdir().unwrap();
    std::fs::write(
        policy.path().join("all.cedar"),
        "@id(\"all\") permit (principal in Group::\"oidc:corp:sre\", action, resource);",
    )
    .unwrap();
    let rest = format!("policy = '{}'", policy.path().display());
    let desk = Desk::new(&json!({}), &rest, "on_expiry = 'refuse'\nlasts = '4s'");
    let _agent = desk.agent();
    let mut web = desk
        .host
        .command("python3")
        .args(["-m", "http.server", "8000", "--bind", "127.0.0.1"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    until("the web server", || {
        let asked = desk.host.command("curl").args(["--silent", "--fail", "http://127.0.0.1:8000/"]).output().unwrap();
        asked.status.success().then_some(())
    });
    desk.login("alice", &[]);
    let mut child = desk
        .crewtap(&["run", "-q", "--", "python3", "-c", TWICE, "http://127.0.0.1:8000/"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut said = || {
        let mut line = String::new();
        out.read_line(&mut line).unwrap();
        line.trim().to_owned()
    };
    let mut go_on = || {
        use std::io::Write;
        child.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
    };
    assert_eq!(said(), "200");
    until_it_expires(&desk.last());
    go_on();
    let refused = said();
    assert!(refused == "403" || refused == "refused", "{refused}");
    let (status, told) = desk.login("alice", &[]);
    assert_eq!(status, Some(0), "{told}");
    go_on();
    assert_eq!(said(), "200", "the same person is back");
    assert!(child.wait().unwrap().success());
    let denied = desk.host.json(&["search", "kind:decision verdict:deny"]);
    assert!(!denied.is_empty());
    let timeline = desk.host.timeline(&desk.last());
    assert!(
        timeline.iter().any(|event| event.to_string().contains("the login behind this run has expired")),
        "{timeline:#?}"
    );
    web.kill().unwrap();
    web.wait().unwrap();
}
