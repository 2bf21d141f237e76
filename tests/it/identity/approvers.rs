//! Who approves is who has logged in; four eyes compares persons, and not users of this host.

use super::*;

const POLICY: &str = "@id(\"all\") permit (principal, action, resource);
@id(\"looked-at\") @approval(\"oidc:corp:dba\")
forbid (principal, action == Action::\"http_request\", resource) unless { context.approved };
";

#[test]
fn somebody_else_approves_although_both_are_root_here() {
    let policy = tempfile::tempdir().unwrap();
    std::fs::write(policy.path().join("all.cedar"), POLICY).unwrap();
    let desk = Desk::new(&json!({}), &format!("policy = '{}'", policy.path().display()), "");
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
    let run = desk
        .crewtap(&["run", "-q", "--", "curl", "--silent", "--fail", "http://127.0.0.1:8000/"])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let id = until("a question", || {
        let waiting = desk.host.json(&["approvals"]);
        waiting.first().map(|one| {
            assert_eq!(one["identity"]["id"], "oidc:corp:alice");
            one["id"].as_str().unwrap().to_owned()
        })
    });
    let own = desk.crewtap(&["approvals", "approve", &id]).output().unwrap();
    assert!(text(&own).contains("it is alice@example.com's own run"), "{}", text(&own));
    let nobody = desk.elsewhere(&format!("crewtap approvals approve {id}"));
    assert!(text(&nobody).contains("is not in oidc:corp:dba"), "{}", text(&nobody));
    // From another login session, and as the same user of this host: still the same person.
    let again = desk.elsewhere(&format!("login alice; crewtap approvals approve {id}"));
    assert!(text(&again).contains("own run"), "{}", text(&again));
    let bob = desk.elsewhere(&format!("login bob; crewtap approvals approve {id} --reason 'looked at'"));
    let _said = succeeded(&bob);
    let output = run.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    let timeline = desk.host.timeline(&desk.last());
    let told: Vec<&str> = timeline.iter().filter_map(|event| event["text"].as_str()).collect();
    let answer = told.iter().find(|text| text.contains("approved by bob@example.com (oidc:corp:bob)"));
    assert!(answer.is_some_and(|text| text.contains("looked at")), "{told:#?}");
    web.kill().unwrap();
    web.wait().unwrap();
}
