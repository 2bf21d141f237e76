//! Programs that do not take our leaf: noticed once, then let pass as they are, and marked so that nobody overlooks it.

use crewtap_tests::host::{succeeded, text};
use serde_json::json;

use super::ground::{Ground, NAME, notes};

/// A program that has its own roots inside: no overlay can know them.
const PINNING: &str = "import ssl, sys, urllib.request
context = ssl.create_default_context(cadata=sys.stdin.read() if len(sys.argv) < 3 else open(sys.argv[2]).read())
try: print(urllib.request.urlopen(sys.argv[1], context=context, timeout=30).read().decode())
except Exception as error: print(type(error).__name__, getattr(error, 'reason', error))";

#[test]
fn a_program_with_roots_of_its_own_is_let_pass_after_its_first_failure_and_others_are_still_opened() {
    let ground = Ground::with_web();
    let program = ground.host.path("pinning.py");
    std::fs::write(&program, PINNING).unwrap();
    let (program, root) = (program.display(), ground.pki.root_file().display().to_string());
    let url = format!("https://{NAME}/pinned");
    let script =
        format!("for i in 1 2 3; do /usr/bin/python3 {program} {url} <{root}; done; curl -sS --max-time 30 {url}");
    let said = succeeded(&ground.run(&["sh", "-c", &script]));
    let lines: Vec<&str> = said.lines().collect();
    assert!(lines[0].contains("CERTIFICATE_VERIFY_FAILED"), "{said}");
    assert!(lines[1..].iter().all(|line| line.contains("/pinned")), "{said}");
    assert_eq!(lines.len(), 4, "{said}");

    let rows = ground.rows(4);
    let sessions = rows.table("sessions");
    let states: Vec<_> = sessions.iter().map(|session| session["tls"].as_str().unwrap()).collect();
    assert_eq!(states[1..], ["passed", "passed", "verified"], "{sessions:#?}");
    assert_eq!(sessions[0]["outcome"], "client_reset");
    assert!(sessions[0]["error"].as_str().unwrap().contains("are not opened for some minutes"), "{}", sessions[0]);
    for passed in &sessions[1..3] {
        assert!(passed["tls_facts"]["why"].as_str().unwrap().starts_with("tls_rejected"), "{passed}");
        assert_eq!((&passed["outcome"], &passed["exchanges"]), (&json!("completed"), &json!(0)));
        assert!(passed["recorded_down"].as_u64().unwrap() > 500, "its bytes are on record: {passed}");
        assert!(ground.show(passed["id"].as_str().unwrap()).contains("NOT OPENED"));
    }
    assert_eq!(notes(&rows), ["tls_rejected"; 3]);
    assert_eq!(sessions[3]["exchanges"], 1);
}

/// The key of the server on port 443 as curl pins it.
const PIN: &str =
    "openssl x509 -noout -pubkey -in \"$0\" | openssl pkey -pubin -outform der | openssl dgst -sha256 -binary | base64";

#[test]
fn a_program_that_pins_a_key_is_let_pass_once_it_has_left_twice_without_a_word() {
    let mut ground = Ground::new();
    let shown = ground.pki.leaf(&super::pki::valid(&[NAME]));
    ground.add(NAME, 443, &shown, "web", &json!({}));
    ground.serve();
    let pin = succeeded(&ground.direct(&["sh", "-ec", PIN, shown.chain.to_str().unwrap()]));
    let root = ground.pki.root_file().display().to_string();
    let script = "for i in 1 2 3; do curl -sS --max-time 30 --cacert \"$0\" --pinnedpubkey \"sha256//$1\" \"$2\"; echo \"=$?\"; done";
    let said = succeeded(&ground.run(&["sh", "-c", script, &root, pin.trim(), &format!("https://{NAME}/pinned")]));
    let statuses: Vec<&str> = said.split('=').skip(1).map(|rest| rest.lines().next().unwrap()).collect();
    assert_eq!(statuses, ["90", "90", "0"], "{said}");
    assert!(said.contains("/pinned"), "{said}");
    let rows = ground.rows(3);
    assert_eq!(rows.table("sessions")[2]["tls"], "passed");
    assert_eq!(notes(&rows), ["tls_rejected"; 2], "of the second, from which it is learned, and of the third");
}

/// Scripts that are called by relative names, of one interpreter.
const TWO_SCRIPTS: &str = "/usr/bin/python3 pinning.py $0 <root; /usr/bin/python3 pinning.py $0 <root
/usr/bin/python3 other.py $0";

#[test]
fn another_script_of_the_same_interpreter_is_still_opened() {
    let ground = Ground::with_web();
    std::fs::write(ground.host.path("pinning.py"), PINNING).unwrap();
    std::fs::write(ground.host.path("root"), ground.pki.root()).unwrap();
    let other = "import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1], timeout=30).read().decode())";
    std::fs::write(ground.host.path("other.py"), other).unwrap();
    let mut run = ground.crewtap_run();
    run.args(["sh", "-c", TWO_SCRIPTS, &format!("https://{NAME}/")]).current_dir(ground.host.path(""));
    let said = succeeded(&run.output().unwrap());
    assert!(said.starts_with("URLError") && said.matches("\"path\"").count() == 2, "{said}");
    let rows = ground.rows(3);
    let states: Vec<_> = rows.table("sessions").iter().map(|session| session["tls"].clone()).collect();
    assert_eq!(states[1..], ["passed", "verified"], "{states:?}");
}

#[test]
fn a_rejection_counts_for_its_name_only() {
    let mut ground = Ground::new();
    let shown = ground.pki.leaf(&super::pki::valid(&[NAME, "second.target.test"]));
    ground.add(NAME, 443, &shown, "web", &json!({}));
    ground.serve();
    ground.name("second.target.test", super::ground::ADDRESS);
    let program = ground.host.path("pinning.py");
    std::fs::write(&program, PINNING).unwrap();
    let program = format!("/usr/bin/python3 {}", program.display());
    let root = ground.pki.root_file().display().to_string();
    let script = format!("{program} https://{NAME}/ <{root}; {program} https://second.target.test/ <{root}");
    let said = succeeded(&ground.run(&["sh", "-c", &script]));
    assert_eq!(said.matches("CERTIFICATE_VERIFY_FAILED").count(), 2, "{said}");
}

#[test]
fn what_was_refused_because_of_the_targets_own_defect_is_not_learned() {
    let mut ground = Ground::new();
    let shown = ground.pki.self_signed(&super::pki::valid(&[NAME]));
    ground.add(NAME, 443, &shown, "web", &json!({}));
    ground.serve();
    let url = format!("https://{NAME}/");
    let script = format!("for i in 1 2 3; do curl -sS --max-time 30 {url}; done; curl -skS --max-time 30 {url}");
    let output = ground.run(&["sh", "-c", &script]);
    assert!(output.status.success(), "{}", text(&output));
    let rows = ground.rows(4);
    let sessions = rows.table("sessions");
    assert_eq!(sessions[3]["tls"], "unverified", "{}", sessions[3]);
    assert!(sessions.iter().all(|session| !session["tls_facts"]["why"].to_string().contains("rejected crewtap")));
}

/// Opens a connection, ends the handshake, and says nothing: a health check.
const HEALTH_CHECK: &str = "import socket, ssl, sys
for i in range(int(sys.argv[2])):
    with ssl.create_default_context().wrap_socket(socket.create_connection((sys.argv[1], 443)), server_hostname=sys.argv[1]) as tls:
        tls.unwrap()";

#[test]
fn a_health_check_that_says_nothing_is_no_rejection() {
    let ground = Ground::with_web();
    let script = format!("/usr/bin/python3 -c \"$0\" {NAME} 1 && curl -sS --max-time 30 https://{NAME}/");
    let said = succeeded(&ground.run(&["sh", "-c", &script, HEALTH_CHECK]));
    assert!(said.contains("GET"), "{said}");
    let rows = ground.rows(2);
    let sessions = rows.table("sessions");
    assert_eq!((&sessions[0]["tls"], &sessions[0]["outcome"]), (&json!("verified"), &json!("completed")));
    assert_eq!(sessions[1]["tls"], "verified", "{}", sessions[1]);
    assert_eq!(notes(&rows), [""; 0]);
}
