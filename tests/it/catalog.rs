//! The catalog as the program uses it: broken ones stop it, and secrets in the environment stay with the agent.

use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};

use crewtap_tests::host::{Host, text};

const TARGETS: &str = "[target.db]\nmatch = { cidr = ['127.0.0.1'] }\nprotocol = 'postgres'\n\
                       credential = { user = 'crew', secret = 'env:CREWTAP_TEST_SECRET' }\n";

fn run(host: &Host, targets: &str, command: &[&str]) -> Command {
    std::fs::write(host.path("targets.toml"), targets).unwrap();
    std::fs::write(host.path("crewtap.toml"), "targets = 'targets.toml'\n").unwrap();
    let config = host.path("crewtap.toml").display().to_string();
    let mut run = host.crewtap(&["--config", &config, "run", "-q", "--"]);
    run.args(command).env("CREWTAP_TEST_SECRET", "hunter2-Xk9wQ4zT").env("CREWTAP_TEST_OTHER", "stays");
    run
}

#[test]
fn a_secret_in_the_environment_is_the_agents_and_not_the_commands() {
    let host = Host::new();
    let mut command = run(&host, TARGETS, &["sh", "-c", "echo ready; read go; env"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    output.read_line(&mut String::new()).unwrap();
    let agents = std::fs::read(format!("/proc/{}/environ", host.agent())).unwrap();
    let agents = String::from_utf8_lossy(&agents).into_owned();
    drop(child.stdin.take());
    let mut commands = String::new();
    output.read_to_string(&mut commands).unwrap();
    child.wait().unwrap();
    assert!(
        agents.contains("CREWTAP_TEST_SECRET=hunter2-Xk9wQ4zT") && !agents.contains("CREWTAP_TEST_OTHER"),
        "{agents}"
    );
    assert!(commands.contains("CREWTAP_TEST_OTHER=stays") && !commands.contains("hunter2"), "{commands}");
    assert_eq!(crate::redaction::in_store(&host, "hunter2"), Vec::<std::path::PathBuf>::new());
}

#[test]
fn a_broken_catalog_stops_a_run_before_its_command() {
    let host = Host::new();
    let ran = host.path("ran").display().to_string();
    let output = run(&host, &TARGETS.replace("protocol", "protocl"), &["touch", &ran]).output().unwrap();
    let said = text(&output);
    assert_eq!(output.status.code(), Some(125), "{said}");
    assert!(said.contains("targets.toml:3: unknown key `protocl`: did you mean `protocol`?"), "{said}");
    assert!(!host.path("ran").exists());
}

#[test]
fn masks_that_cannot_hold_stop_a_run_before_its_command() {
    let host = Host::new();
    let ran = host.path("ran").display().to_string();
    let begin = |masks: &str, targets: &str| {
        let mut command = run(&host, targets, &["touch", &ran]);
        std::fs::write(host.path("masks.toml"), masks).unwrap();
        std::fs::write(host.path("crewtap.toml"), "targets = 'targets.toml'\nmasks = 'masks.toml'\n").unwrap();
        command.output().unwrap()
    };
    let output = begin("[mask.a]\nregex = '('\n[mask.card]\nkeep_last = 40\n", TARGETS);
    let said = text(&output);
    assert_eq!(output.status.code(), Some(125), "{said}");
    assert!(said.contains("masks.toml:2: `regex` is malformed at its character 1: unclosed group"), "{said}");
    assert!(said.contains("masks.toml:4: `keep_last` must be a number from 0 to 16"), "{said}");
    let output = begin("", &format!("{TARGETS}masks = ['customer-no']\n"));
    let said = text(&output);
    assert_eq!(output.status.code(), Some(125), "{said}");
    assert!(said.contains("targets.toml:5: `masks` of [target.db] names \"customer-no\""), "{said}");
    assert!(!host.path("ran").exists());
    let output = begin("[mask.customer-no]\nregex = 'C-[0-9]{8}'\n", &format!("{TARGETS}masks = ['customer-no']\n"));
    assert!(output.status.success() && host.path("ran").exists(), "{}", text(&output));
}

#[test]
fn masks_are_read_again_for_each_run_of_an_agent_that_lives_on() {
    let host = Host::new();
    let config = host.path("crewtap.toml").display().to_string();
    std::fs::write(&config, "masks = 'masks.toml'\n").unwrap();
    let begin = |masks: &str, command: &[&str]| {
        std::fs::write(host.path("masks.toml"), masks).unwrap();
        let mut run = host.crewtap(&["--config", &config, "run", "-q", "--"]);
        run.args(command);
        run
    };
    let mut first = begin("", &["sh", "-c", "echo ready; read go"]);
    let mut first = first.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    BufReader::new(first.stdout.take().unwrap()).read_line(&mut String::new()).unwrap();
    let agent = host.agent();
    let refused = begin("[mask.a]\n", &["true"]).output().unwrap();
    let said = text(&refused);
    assert_eq!(refused.status.code(), Some(125), "{said}");
    assert!(said.contains("masks.toml:1: [mask.a] needs a `regex`, or `where`"), "{said}");
    let taken = begin("[mask.a]\nregex = 'a{2}'\n", &["true"]).output().unwrap();
    assert!(taken.status.success(), "{}", text(&taken));
    assert_eq!(host.agent(), agent, "another agent");
    drop(first.stdin.take());
    first.wait().unwrap();
}
