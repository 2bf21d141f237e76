//! The real crew under the real program, as the README says it: a user's shell with an active virtual environment and
//! an exported key, real sudo, and nothing set for crewtap's sake.

use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use crewtap_tests::host::crewtap;
use crewtap_tests::world::{Statement, World, within};

/// The key that [`World::as_crew`] exports.
const KEY: &[u8] = b"sk-proj-demo-0123456789abcdefghijklmnopqrstuvwxyz";

/// Files below a directory that contain `needle`.
fn containing(directory: &Path, needle: &[u8]) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        let kind = std::fs::symlink_metadata(&path)?.file_type();
        if kind.is_dir() {
            found.extend(containing(&path, needle)?);
        } else if kind.is_file() && std::fs::read(&path)?.windows(needle.len()).any(|part| part == needle) {
            found.push(path.display().to_string());
        }
    }
    Ok(found)
}

/// `sudo crewtap run -- COMMAND` as the crew's user; its standard output.
fn sudo_run(world: &World, evidence: &Path, words: &[&str]) -> Result<String> {
    let mut command = world.as_crew("sudo");
    command.arg(crewtap()).args(["run", "--config"]).arg(world.config()).arg("--data-dir").arg(evidence);
    command.arg("--").args(words);
    world.run_for_output(command.stderr(Stdio::inherit()))
}

fn ask(world: &World, evidence: &Path, words: &[&str]) -> Result<String> {
    let mut command = world.as_root(crewtap());
    world.run_for_output(command.args(words).arg("--data-dir").arg(evidence))
}

/// What the crew's `psycopg` asked and got, and what its `SQLAlchemy` wrote, with values.
fn check_statements(statements: &[Statement]) {
    let row = |cells: &[&str]| cells.iter().map(|cell| Some((*cell).to_owned())).collect::<Vec<_>>();
    let of = |word: &str| statements.iter().find(|statement| statement.text.contains(word)).expect("a statement");
    let orders = [
        row(&["1001", "7731", "A-100", "1840.00", "**** **** **** 1111"]),
        row(&["1004", "7740", "B-200", "2215.50", "**** **** **** 0004"]),
    ];
    assert_eq!(of("amount > 1000").rows, orders);
    let report = of("INSERT INTO reports");
    assert!(report.parameters.contains("= 'B-200 is out of stock'"), "{report:?}");
    assert_eq!(report.rows, [row(&["1"])]);
}

#[test]
fn the_sessions_of_a_real_crew_are_the_connections_in_the_servers_logs() {
    let recorded = within(|world| {
        let evidence = world.directory().join("evidence");
        let output = sudo_run(world, &evidence, &["crewai", "run"])?;
        ensure!(output.contains("RESULT: Report 1 is filed"), "{output}");
        ensure!(world.wait_until_quiet(60), "processes of the run, or its agent, are still there");
        let listed = ask(world, &evidence, &["runs", "--json"])?;
        let run: serde_json::Value = serde_json::from_str(listed.lines().next().context("no run")?)?;
        let id = run["id"].as_str().context("a run without its id")?;
        let show = |id: &str| ask(world, &evidence, &["show", id, "--all", "--json"]);
        let shown = show(id)?;
        let sessions = world.compare(&shown)?;
        let exchanges = world.compare_exchanges(id, show)?;
        let statements = world.compare_statements(id, show)?;
        ask(world, &evidence, &["verify"])?;
        let keys = containing(&evidence, KEY)?;
        Ok((run, sessions, exchanges, statements, shown, keys))
    });
    let (run, sessions, exchanges, statements, shown, keys) = recorded.expect("a recorded crew");
    assert!(exchanges >= 10, "{exchanges}");
    check_statements(&statements);
    let opened = |row: &serde_json::Value| row["table"] == "sessions" && !row["sni"].is_null();
    for session in shown.lines().map(|line| serde_json::from_str(line).unwrap()).filter(opened) {
        assert_eq!((&session["tls"], &session["proof"]), (&"verified".into(), &"certificate".into()), "{session}");
    }
    assert!(sessions >= 5, "{sessions}");
    assert_eq!(run["sessions"], sessions, "{run}");
    assert_eq!((&run["complete"], &run["status"], &run["bypasses"]), (&true.into(), &0.into(), &0.into()), "{run}");
    assert_eq!(keys, Vec::<String>::new(), "the key is in the store");
}

#[test]
fn sudo_keeps_the_users_environment_and_directory() {
    let said = within(|world| {
        let script = "id -u; pwd; echo $VIRTUAL_ENV $OPENAI_API_KEY; command -v crewai; env | grep -c ^SUDO_; true";
        let evidence = world.directory().join("evidence");
        let captured = sudo_run(world, &evidence, &["sh", "-c", script])?;
        let plain = world.run_for_output(world.as_crew("sh").args(["-c", script]))?;
        Ok((captured, plain))
    });
    let (captured, plain) = said.expect("a command through sudo");
    assert_eq!(captured, plain);
}
