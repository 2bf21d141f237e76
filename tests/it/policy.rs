//! Policies from files, through the real capture: what passes, what does not, how a client is told, and what is on record of
//! it.

mod approved;
mod attempts;
mod connects;
mod names;
mod reload;
mod statements;
mod suggested;

use std::path::Path;
use std::process::{Command, Output};

use crewtap_tests::host::Host;
use serde_json::Value;

use crate::agent::until;
use crate::rows::Rows;

/// Puts policies into force for the runs of a host that begin from now on, with more lines of configuration.
pub fn rule(host: &Host, more: &str, policies: &str) {
    let directory = host.path("policy");
    std::fs::create_dir_all(&directory).unwrap();
    write(&directory.join("test.cedar"), policies);
    std::fs::write(host.path("crewtap.toml"), format!("policy = 'policy'\ntimezone = 'UTC'\n{more}\n")).unwrap();
}

/// As an editor does it: whoever reads the file reads it whole.
pub fn write(file: &Path, text: &str) {
    let new = file.with_extension("new");
    std::fs::write(&new, text).unwrap();
    std::fs::rename(new, file).unwrap();
}

/// `crewtap run -- …` with the host's configuration.
pub fn crewtap_run(host: &Host, words: &[&str]) -> Command {
    let config = host.path("crewtap.toml").display().to_string();
    let mut command = host.crewtap(&["--config", &config, "run", "--"]);
    command.args(words);
    command
}

/// The same to its end.
pub fn run(host: &Host, words: &[&str]) -> Output {
    crewtap_run(host, words).output().unwrap()
}

/// A verb of somebody beside the run.
pub fn crewtap(host: &Host, words: &[&str]) -> Output {
    host.crewtap(words).output().unwrap()
}

/// The only question that waits.
pub fn question(host: &Host) -> Value {
    until("a question", || {
        let said = String::from_utf8(crewtap(host, &["approvals", "--json"]).stdout).unwrap();
        said.lines().next().map(|line| serde_json::from_str(line).unwrap())
    })
}

/// Decisions of the last run: verb, subject, effect, and the policies.
pub fn decisions(host: &Host) -> Vec<String> {
    let rows = Rows::of_last_run(host);
    let told = |row: &Value| {
        let word = |name: &str| row[name].as_str().unwrap_or("?").to_owned();
        let policies: Vec<_> = row["policies"].as_array().unwrap().iter().map(|id| id.as_str().unwrap()).collect();
        [word("verb"), word("subject"), word("effect"), policies.join(",")].join(" ").trim_end().to_owned()
    };
    rows.table("decisions").into_iter().map(told).collect()
}

/// How the sessions of the last run ended.
pub fn outcomes(host: &Host) -> Vec<String> {
    let rows = Rows::of_last_run(host);
    rows.table("sessions").iter().map(|row| row["outcome"].as_str().unwrap_or("?").to_owned()).collect()
}
