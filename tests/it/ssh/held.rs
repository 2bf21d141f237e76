//! Commands that wait for a person, and commands that are refused.

use std::process::{Child, Stdio};

use crewtap_tests::host::{succeeded, text};
use serde_json::Value;

use super::ground::Ground;
use crate::agent::until;

const POLICIES: &str = "@id(\"all\")\npermit (principal, action, resource);\n\
    @id(\"removals\")\n@approval(\"os:root\")\nforbid (principal, action == Action::\"exec\", resource)\n\
    when { context.argv.contains(\"rm\") } unless { context.approved };\n\
    @id(\"never\")\nforbid (principal, action == Action::\"exec\", resource)\n\
    when { context.command like \"*shutdown*\" };\n";

fn ground() -> Ground {
    let mut ground = Ground::new();
    ground.known_server();
    ground.policy(POLICIES);
    ground.configure("policy = 'policy'\n[approvals]\nfour_eyes = false\n");
    ground
}

fn begin(ground: &Ground, script: &str) -> Child {
    ground.command(script).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn question(ground: &Ground) -> Value {
    until("a question", || {
        let output = ground.host.crewtap(&["approvals", "--json"]).output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        said.lines().next().map(|line| serde_json::from_str(line).unwrap())
    })
}

fn answer(ground: &Ground, verb: &str) {
    let asked = question(ground);
    assert_eq!(asked["policies"][0], "removals", "{asked}");
    let words = ["approvals", verb, asked["id"].as_str().unwrap(), "--reason", "looked at it"];
    let _ = succeeded(&ground.host.crewtap(&words).output().unwrap());
}

#[test]
fn a_command_waits_for_a_person_and_runs_or_does_not() {
    let ground = ground();
    let file = ground.host.path("victim");
    std::fs::write(&file, "x").unwrap();
    let script = format!("ssh t 'rm {}; echo removed'; echo rc=$?", file.display());
    let child = begin(&ground, &script);
    let asked = question(&ground);
    assert!(asked["subject"].as_str().unwrap().starts_with("rm "), "{asked}");
    assert!(file.exists(), "it has not run yet");
    answer(&ground, "deny");
    let said = text(&child.wait_with_output().unwrap());
    assert!(said.contains("crewtap: refused by policy; session") && said.contains("policies: removals"), "{said}");
    assert!(said.contains("rc=126") && !said.contains("removed") && file.exists(), "{said}");
    let child = begin(&ground, &script);
    answer(&ground, "approve");
    let said = text(&child.wait_with_output().unwrap());
    assert!(said.contains("removed") && said.contains("rc=0") && !file.exists(), "{said}");
    ground.host.verify();
}

#[test]
fn what_is_forbidden_is_told_on_standard_error_and_other_channels_are_not_held() {
    let ground = ground();
    let shown = text(&ground.run("ssh t 'shutdown now'; echo rc=$?"));
    assert!(shown.contains("policies: never") && shown.contains("rc=126"), "{shown}");
    let exec = ground.exchanges().into_iter().find(|row| row["verb"] == "EXEC").unwrap();
    assert_eq!(exec["outcome"], "blocked");
    // One connection: a command that waits does not hold up another one.
    let script = "ssh -o ControlMaster=yes -o ControlPath=~/cm -N -f t; \
                  mkfifo ~/go; ssh -o ControlPath=~/cm t 'rm /nonexistent' >~/held 2>&1 & read x <~/go; \
                  ssh -o ControlPath=~/cm t 'echo meanwhile' >~/said; echo rc=$?; wait $!; ssh -o ControlPath=~/cm -O exit t";
    let child = begin(&ground, script);
    let _asked = question(&ground);
    std::fs::write(ground.host.path("root/go"), "\n").unwrap();
    until("the other command", || {
        let said = std::fs::read_to_string(ground.host.path("root/said")).unwrap_or_default();
        said.contains("meanwhile").then_some(())
    });
    answer(&ground, "deny");
    let said = text(&child.wait_with_output().unwrap());
    assert!(said.contains("rc=0"), "{said}");
    let held = std::fs::read_to_string(ground.host.path("root/held")).unwrap();
    assert!(held.contains("policies: removals"), "{held}");
}

#[test]
fn a_client_that_leaves_withdraws_its_question() {
    let ground = ground();
    let child = begin(&ground, "timeout 2 ssh t 'rm /nonexistent'; echo rc=$?");
    let asked = question(&ground);
    let said = text(&child.wait_with_output().unwrap());
    assert!(said.contains("rc=124"), "{said}");
    let exec = ground.exchanges().into_iter().find(|row| row["verb"] == "EXEC").unwrap();
    assert_eq!(exec["outcome"], "blocked", "{exec}");
    let words = ["approvals", "approve", asked["id"].as_str().unwrap()];
    assert!(!ground.host.crewtap(&words).output().unwrap().status.success(), "nobody waits for it any more");
}
