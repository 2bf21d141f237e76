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
    let output = run(&host, &TARGETS.replace("protocol", "protocl"), &["touch", "ran"]).output().unwrap();
    let said = text(&output);
    assert_eq!(output.status.code(), Some(125), "{said}");
    assert!(said.contains("targets.toml:3: unknown key `protocl`: did you mean `protocol`?"), "{said}");
    assert!(!host.path("ran").exists());
}
