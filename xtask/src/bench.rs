//! `cargo xtask bench`: what redirect, relay and journal cost, as ratios between arms that run in turn in each round.
//!
//! Never a test: a shared machine decides the absolute figures. Everything runs in a network namespace of its own.

mod decision;
mod http;
mod masked;
mod masks;
mod postgres;
mod ssh;
mod streams;

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode, Stdio};

use anyhow::{Context, Result, ensure};
use clap::Args;
use serde_json::{Value, json};

use crate::shell::{clone_root, is_root, loudly, quietly};

/// What the user may choose.
#[derive(Args)]
pub struct Options {
    /// Measure this alone
    #[arg(value_enum)]
    only: Option<Arms>,
    /// JSON Lines: name, goal, value, pass
    #[arg(long)]
    json: bool,
    /// Rounds; a ratio is the median over them
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// Mebibytes of each large transfer over SSH
    #[arg(long, default_value_t = 512)]
    ssh_mib: u64,
    /// Commands over one connection of SSH
    #[arg(long, default_value_t = 1000)]
    ssh_commands: u64,
}

/// What is measured.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Arms {
    /// Connections and bytes without a protocol
    Relay,
    /// HTTPS beside nginx and mitmproxy
    Http,
    /// PostgreSQL beside pgbouncer
    Postgres,
    /// PostgreSQL under a hundred policies, beside mode record
    Ruled,
    /// SSH beside ssh-mitm
    Ssh,
    /// The journal by itself
    Journal,
    /// Policy by itself
    Decision,
    /// Masks by themselves
    Masks,
}

/// One finished measure.
struct Line {
    name: &'static str,
    goal: Option<f64>,
    value: f64,
    unit: &'static str,
}

/// The ways to the server, one behind the other in each round.
const ARMS: [&str; 3] = ["direct", "tokio", "crewtap"];

/// Loads: what, how many.
const LOADS: [(&str, u64); 4] = [("connect", 1500), ("ping", 8000), ("down", 4000), ("up", 4000)];

/// Connects in a row where connect alone is measured.
const DIALS: u64 = 2000;

const SERVER: &str = "127.0.0.1:7801";
const RELAY: &str = "127.0.0.1:7802";

/// Runs the benchmark.
///
/// # Errors
/// When the build, the namespace or a program fails; a missed goal is only reported.
pub fn run(options: &Options) -> Result<ExitCode> {
    let captures = !matches!(options.only, Some(Arms::Decision | Arms::Masks));
    ensure!(!captures || is_root(), "the benchmark captures a process: run it as root, or through sudo");
    let mut build = Command::new("cargo");
    build.current_dir(clone_root()).args(["build", "--release", "-p", "crewtap-core", "--examples"]);
    if captures {
        build.args(["-p", "crewtap", "--bins"]);
    }
    loudly(&mut build)?;
    let mut lines = Vec::new();
    let wanted = |arms| options.only.is_none_or(|only| only == arms);
    if wanted(Arms::Relay) {
        let mut place = Place::make()?;
        attached(&mut place, options.rounds, &mut lines)?;
        place.start_agent()?;
        measure(&place, options.rounds, &mut lines)?;
    }
    if wanted(Arms::Http) {
        http::measure(&mut Place::make()?, options.rounds, &mut lines)?;
    }
    if wanted(Arms::Postgres) {
        postgres::measure(&mut Place::make()?, options.rounds, &mut lines)?;
    }
    if wanted(Arms::Ruled) {
        postgres::ruled::measure(&mut Place::make()?, options.rounds, &mut lines)?;
    }
    if wanted(Arms::Ssh) {
        let Options { rounds, ssh_mib: mebibytes, ssh_commands: commands, .. } = *options;
        ssh::measure(&mut Place::make()?, ssh::Load { rounds, mebibytes, commands }, &mut lines)?;
    }
    if wanted(Arms::Journal) {
        journal(&mut lines)?;
    }
    if wanted(Arms::Decision) {
        decision::measure(&mut lines)?;
    }
    if wanted(Arms::Masks) {
        masks::measure(&mut lines)?;
    }
    for line in &lines {
        line.print(options.json);
    }
    Ok(ExitCode::SUCCESS)
}

/// A namespace with loopback, and the programs in it; all gone when it is dropped.
struct Place {
    name: String,
    store: PathBuf,
    children: Vec<Child>,
    agent: u32,
}

impl Place {
    fn make() -> Result<Self> {
        let name = format!("crewtap-bench-{}", std::process::id());
        quietly(Command::new("ip").args(["netns", "add", &name]))?;
        let store = std::env::temp_dir().join(&name);
        let mut place = Self { name, store, children: Vec::new(), agent: 0 };
        std::fs::write(place.config(), "")?;
        quietly(Command::new("ip").args(["-n", &place.name, "link", "set", "lo", "up"]))?;
        let peer = release("examples/bench_peer");
        place.start(&[&peer, "serve", SERVER])?;
        place.start(&[&peer, "relay", RELAY, SERVER])?;
        Ok(place)
    }

    /// Starts an agent, and waits until a first run has gone through it; what that costs is nobody's measure.
    fn start_agent(&mut self) -> Result<()> {
        let mut agent =
            self.inside(&[&release("crewtap"), "--config", &self.config(), "--data-dir", &self.store(), "agent"]);
        let agent = agent.stdout(Stdio::null()).stderr(Stdio::null()).spawn().context("cannot start the agent")?;
        self.agent = agent.id();
        self.children.push(agent);
        // A run that finds no agent would start one of its own.
        let socket = self.store.join("control.sock");
        for _ in 0..500 {
            if socket.exists() {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        quietly(&mut self.captured(&["true"])).map(drop)
    }

    /// Ends the agent: afterwards nothing is attached.
    fn stop_agent(&mut self) -> Result<()> {
        let mut agent = self.children.pop().context("there is no agent")?;
        let pid = nix::unistd::Pid::from_raw(agent.id().cast_signed());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM)?;
        ensure!(agent.wait()?.success(), "the agent did not end well");
        Ok(())
    }

    /// Beside the store: what the agent is configured by.
    fn config(&self) -> String {
        self.store.with_extension("toml").display().to_string()
    }

    fn store(&self) -> String {
        self.store.display().to_string()
    }

    fn inside(&self, words: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{}", self.name)).args(words).stdin(Stdio::null());
        command
    }

    fn captured(&self, words: &[&str]) -> Command {
        let store = self.store();
        let crewtap = release("crewtap");
        self.inside(&[&[&crewtap, "--data-dir", &store, "run", "-q", "--"], words].concat())
    }

    /// One of crewtap's own words, on the record.
    fn crewtap(&self, words: &[&str]) -> Command {
        let mut command = Command::new(release("crewtap"));
        command.args(["--data-dir", &self.store()]).args(words).stdin(Stdio::null());
        command
    }

    /// Starts a program and waits until it says that it listens.
    fn start(&mut self, words: &[&str]) -> Result<()> {
        let mut child = self.inside(words).stdout(Stdio::piped()).spawn().context("cannot start a peer")?;
        let stdout = child.stdout.take().context("a peer has no output")?;
        self.children.push(child);
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        ensure!(line.trim() == "ready", "a peer does not listen");
        Ok(())
    }

    /// One load through one arm: what it says, and the processor seconds of the relay in between.
    fn load(&self, arm: &str, what: &str, count: u64) -> Result<(Value, f64)> {
        let peer = release("examples/bench_peer");
        let count = count.to_string();
        let address = if arm == "tokio" { RELAY } else { SERVER };
        let words = [peer.as_str(), "load", address, what, &count];
        let mut command = if arm == "crewtap" { self.captured(&words) } else { self.inside(&words) };
        let between = match arm {
            "crewtap" => Some(self.agent),
            "tokio" => self.children.get(1).map(Child::id),
            _ => None,
        };
        let before = between.map_or(0.0, cpu_seconds);
        let said = quietly(&mut command)?;
        let spent = between.map_or(0.0, cpu_seconds) - before;
        let line = said.lines().last().context("a load said nothing")?;
        Ok((serde_json::from_str(line)?, spent))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        for child in self.children.iter_mut().rev() {
            let pid = nix::unistd::Pid::from_raw(child.id().cast_signed());
            let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
            let _ = child.wait();
        }
        let _ = quietly(Command::new("ip").args(["netns", "del", &self.name]));
        let _ = std::fs::remove_dir_all(&self.store);
        let _ = std::fs::remove_file(self.config());
    }
}

fn release(program: &str) -> String {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| clone_root().join("target"), PathBuf::from);
    target.join("release").join(program).display().to_string()
}

/// User and system time of a process, from `/proc/PID/stat` in ticks of 10 ms.
fn cpu_seconds(pid: u32) -> f64 {
    let line = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields = line.rsplit(')').next().unwrap_or_default().split_ascii_whitespace();
    let ticks: f64 = fields.skip(11).take(2).filter_map(|field| field.parse::<f64>().ok()).sum();
    ticks / 100.0
}

/// connect(2) alone: without an agent on the host, with one but outside of a run, and inside. An agent starts and ends in
/// every round.
fn attached(place: &mut Place, rounds: usize, lines: &mut Vec<Line>) -> Result<()> {
    let (mut outside, mut inside) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        let without = figure(&place.load("direct", "dial", DIALS)?.0);
        place.start_agent()?;
        outside.push(figure(&place.load("direct", "dial", DIALS)?.0) / without);
        inside.push(figure(&place.load("crewtap", "dial", DIALS)?.0) / without);
        place.stop_agent()?;
    }
    lines.push(Line { name: "connect p50, attached / no agent", goal: None, value: median(outside), unit: "x" });
    lines.push(Line { name: "connect p50, redirected / no agent", goal: None, value: median(inside), unit: "x" });
    Ok(())
}

/// Every round runs every load through every arm; ratios are taken within the round.
fn measure(place: &Place, rounds: usize, lines: &mut Vec<Line>) -> Result<()> {
    for (what, count) in LOADS {
        let (mut to_direct, mut to_tokio, mut cpu) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..rounds {
            let mut figures = Vec::new();
            for arm in ARMS {
                let (said, spent) = place.load(arm, what, count)?;
                figures.push((figure(&said), spent, number(&said, "bytes").unwrap_or(0.0) / 1e9));
            }
            if let [direct, tokio, crewtap] = figures.as_slice() {
                to_direct.push(crewtap.0 / direct.0);
                to_tokio.push(crewtap.0 / tokio.0);
                cpu.push((tokio.1, crewtap.1, crewtap.2));
            }
        }
        report(what, to_direct, to_tokio, &cpu, lines);
    }
    Ok(())
}

/// Microseconds at the median of single operations, megabytes a second of streams.
fn figure(said: &Value) -> f64 {
    number(said, "p50_us")
        .unwrap_or_else(|| number(said, "bytes").unwrap_or(0.0) / 1e6 / number(said, "seconds").unwrap_or(1.0))
}

fn number(said: &Value, key: &str) -> Option<f64> {
    said.get(key)?.as_f64()
}

fn report(what: &'static str, to_direct: Vec<f64>, to_tokio: Vec<f64>, cpu: &[(f64, f64, f64)], lines: &mut Vec<Line>) {
    let names = match what {
        "connect" => ("connect+1B p50 / direct", "connect+1B p50 / tokio copy"),
        "ping" => ("ping-pong 300 B p50 / direct", "ping-pong 300 B p50 / tokio copy"),
        "down" => ("stream down MB/s / direct", "stream down MB/s / tokio copy"),
        _ => ("stream up MB/s / direct", "stream up MB/s / tokio copy"),
    };
    lines.push(Line { name: names.0, goal: None, value: median(to_direct), unit: "x" });
    lines.push(Line { name: names.1, goal: None, value: median(to_tokio), unit: "x" });
    if what == "down" || what == "up" {
        let per_gb = |pick: fn(&(f64, f64, f64)) -> f64| median(cpu.iter().map(|c| pick(c) / c.2).collect());
        let (ours, theirs) = if what == "down" {
            ("relay and record down, agent CPU", "tokio copy down, CPU")
        } else {
            ("relay and record up, agent CPU", "tokio copy up, CPU")
        };
        lines.push(Line { name: ours, goal: None, value: per_gb(|c| c.1), unit: "s/GB" });
        lines.push(Line { name: theirs, goal: None, value: per_gb(|c| c.0), unit: "s/GB" });
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// R1, R2 and D2 of the research: events and bytes of the journal, without a network in between.
fn journal(lines: &mut Vec<Line>) -> Result<()> {
    let place = std::env::temp_dir().join(format!("crewtap-bench-journal-{}", std::process::id()));
    std::fs::create_dir_all(&place)?;
    let said = quietly(Command::new(release("examples/journal_cost")).arg(&place));
    std::fs::remove_dir_all(&place)?;
    for line in said?.lines() {
        let said: Value = serde_json::from_str(line)?;
        let value = |key: &str| number(&said, key).unwrap_or(f64::NAN);
        match (said.get("case").and_then(Value::as_str), said.get("payload").and_then(Value::as_u64)) {
            (Some("append"), Some(300)) => {
                lines.push(Line {
                    name: "R1 event of 300 B, all CPU",
                    goal: Some(4.0),
                    value: value("cpu_us_with_follower"),
                    unit: "us",
                });
                lines.push(Line {
                    name: "D2 append before forward p50",
                    goal: None,
                    value: value("p50_us"),
                    unit: "us",
                });
            }
            (Some("append"), Some(65_536)) => {
                lines.push(Line {
                    name: "R2 bytes, appending thread",
                    goal: Some(0.6),
                    value: value("append_cpu_s_per_gb"),
                    unit: "s/GB",
                });
                lines.push(Line {
                    name: "R2 bytes, with hashing and tree",
                    goal: None,
                    value: value("all_cpu_s_per_gb"),
                    unit: "s/GB",
                });
            }
            _ => {}
        }
    }
    Ok(())
}

impl Line {
    fn print(&self, as_json: bool) {
        let pass = self.goal.map(|goal| self.value <= goal);
        if as_json {
            println!(
                "{}",
                json!({ "name": self.name, "goal": self.goal, "value": self.value, "unit": self.unit, "pass": pass })
            );
            return;
        }
        let verdict = match (self.goal, pass) {
            (Some(goal), Some(true)) => format!("goal {goal} met"),
            (Some(goal), _) => format!("goal {goal} MISSED"),
            (None, _) => String::new(),
        };
        println!("{:<40} {:>9.2} {:<5} {verdict}", self.name, self.value, self.unit);
    }
}
