//! The person behind the demo's run: logs in at a local provider, as a user would, before the crew is started.
//!
//! Never tells crewtap who they are: the provider does.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use crewtap_tests::provider::{PORT, Provider, browse, person, public_client};
use crewtap_tests::world::World;
use serde_json::{Value, json};

/// Who logs in.
const LOGIN: &str = "ada";
const EMAIL: &str = "ada.auditor@company.example";

/// Starts the provider in the near namespace, and logs the person in from the session that the crew will be started in.
pub(super) fn log_in(world: &World, program: &Path, config: &Path, evidence: &Path) -> Result<Provider> {
    let settings = json!({
        "port": PORT,
        "clients": [public_client("/oidc/company")],
        "accounts": { LOGIN: person(EMAIL, &["auditors"]) },
    });
    let provider = Provider::start(world.as_root("node"), world.directory(), settings)?;
    let mut command = if world.crew().uid == 0 {
        world.as_crew(program)
    } else {
        let mut command = world.as_crew("sudo");
        command.arg(program);
        command
    };
    command.args(["login", "--config"]).arg(config).arg("--data-dir").arg(evidence);
    eprintln!("demo: sudo crewtap login   (Ada Auditor, at a provider of the company)");
    let mut login = world.spawn(command.stderr(Stdio::piped()))?;
    let mut errors = BufReader::new(login.stderr.take().context("login has no output")?);
    let mut said = String::new();
    let page = loop {
        let mut line = String::new();
        ensure!(errors.read_line(&mut line)? > 0, "crewtap login names no page: {said}");
        if line.starts_with("http") {
            break line.trim().to_owned();
        }
        said.push_str(&line);
    };
    browse(world.as_root("python3"), &page, LOGIN, "wonder")?;
    errors.read_to_string(&mut said)?;
    let status = login.wait()?;
    eprint!("{said}");
    ensure!(status.success(), "nobody has logged in ({status})");
    Ok(provider)
}

/// The run, as `runs --json` lists it, belongs to the person who has logged in.
pub(super) fn is_on_record(listed: &str) -> Result<()> {
    let run: Value = serde_json::from_str(listed.lines().next().context("crewtap lists no run")?)?;
    let of = |pointer: &str| run.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
    ensure!(of("/identity") == format!("oidc:company:{LOGIN}"), "the run belongs to {}", of("/identity"));
    ensure!(
        of("/identity_name") == EMAIL && of("/basis/kind") == "oidc",
        "nobody vouches for {}",
        of("/identity_name")
    );
    eprintln!("demo: the run is Ada Auditor's, who had logged in at the company's provider");
    Ok(())
}
