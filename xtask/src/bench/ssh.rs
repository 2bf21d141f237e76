//! SSH: crewtap beside a direct connection, and ssh-mitm, which records, too.
//!
//! The load is OpenSSH's own clients (`ssh.py` times them), the target Debian's sshd in the same namespace. Ratios within a round.
//! Keys are exchanged in the same way by all arms where times are compared; what is agreed on otherwise is told beside it.

mod peers;

use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::streams::told;
use super::{Line, Place, cpu_seconds, figure, median, number};
use crate::shell::quietly;
use peers::Peers;

/// Commands of one round, each over a connection of its own.
const EXECS: u64 = 20;

/// The same of ssh-mitm, whose commands take a second.
const MITM_EXECS: u64 = 3;

/// Rounds of large transfers: each leaves twice their size in the journal.
const BULK_ROUNDS: usize = 3;

/// What ssh-mitm moves by SFTP, in MiB: it is slower by more than a size could change.
const MITM_MIB: u64 = 16;

/// What both legs of crewtap agree on with Debian's OpenSSH, and a direct connection with it.
const SAME_KEX: &str = "KexAlgorithms=curve25519-sha256";

/// The same for bulk; OpenSSH's clients would else prefer `ChaCha20`.
const AES: &str = "Ciphers=aes128-gcm@openssh.com";

/// How much is done.
#[derive(Clone, Copy)]
pub struct Load {
    pub rounds: usize,
    /// Size of a large transfer, in MiB.
    pub mebibytes: u64,
    /// Commands over one connection.
    pub commands: u64,
}

/// The way to the target.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Arm {
    Direct,
    Mitm,
    Captured,
}

/// What one transfer came to.
#[derive(Clone, Copy)]
struct Moved {
    mb_per_second: f64,
    cpu_per_gb: f64,
}

/// Measures all cases.
///
/// # Errors
/// When a program is missing or fails.
pub fn measure(place: &mut Place, load: Load, lines: &mut Vec<Line>) -> Result<()> {
    let peers = Peers::start(place, load.mebibytes)?;
    place.start_agent()?;
    agreed(place, &peers, lines)?;
    commands(place, &peers, load.rounds, lines)?;
    over_one_connection(place, &peers, load, lines)?;
    let mut different = 0.0;
    for (way, name) in [("down", "cat down"), ("up", "cat up"), ("get", "sftp get"), ("put", "sftp put")] {
        different += bulk(place, &peers, (way, name), load, lines)?;
    }
    lines.push(line("S4 transfers that did not arrive as they were", Some(0.0), different, ""));
    let peak = |pid: u32| super::streams::peak_mib(pid);
    lines.push(line("ssh, the agent's peak", None, peak(place.agent)?, "MiB"));
    if let Some(mitm) = peers.mitm {
        lines.push(line("ssh, ssh-mitm's peak", None, peak(mitm)?, "MiB"));
    }
    Ok(())
}

/// What is agreed on where nobody says anything, with crewtap and without; and whether less than without is told.
fn agreed(place: &Place, peers: &Peers, lines: &mut Vec<Line>) -> Result<()> {
    let of = |arm: Arm| -> Result<String> {
        let words = [&peers.ssh(arm, &["LogLevel=DEBUG1"])[..], &["true".to_owned()]].concat();
        let output = arm.command(place, &borrowed(&words)).output().context("cannot start ssh")?;
        let said = String::from_utf8_lossy(&output.stderr);
        let kex = said.lines().find_map(|line| line.split_once("kex: algorithm: "));
        let cipher = said.lines().find_map(|line| line.split_once("server->client cipher: "));
        let (kex, cipher) = kex.zip(cipher).with_context(|| format!("ssh told nothing of its keys: {said}"))?;
        Ok(format!("{} with {}", kex.1.trim(), cipher.1.split(' ').next().unwrap_or_default()))
    };
    let (direct, captured) = (of(Arm::Direct)?, of(Arm::Captured)?);
    let runs = told(place, &["runs"])?;
    let run = runs.first().and_then(|run| run.get("id")?.as_str()).context("there is no run")?;
    let session = told(place, &["show", run])?;
    let of_table = |rows: &[Value], name: &str| -> Vec<Value> {
        rows.iter().filter(|row| row.get("table").and_then(Value::as_str) == Some(name)).cloned().collect()
    };
    let mut notes = of_table(&session, "notes");
    for session in of_table(&session, "sessions") {
        let id = session.get("id").and_then(Value::as_str).context("a session has no id")?;
        notes.extend(of_table(&told(place, &["show", id])?, "notes"));
    }
    let text_of = |code: &str| {
        let note = notes.iter().find(|note| note.get("code").and_then(Value::as_str) == Some(code));
        note.and_then(|note| note.get("text")?.as_str().map(str::to_owned))
    };
    eprintln!("ssh by default: direct {direct}; through crewtap {captured}");
    eprintln!("ssh on record: {}", text_of("ssh_agreed").unwrap_or_default());
    let weaker = text_of("ssh_kex_weaker");
    eprintln!("ssh noted as weaker: {}", weaker.as_deref().unwrap_or("nothing"));
    let is_other = direct.split(' ').next() != captured.split(' ').next() && !captured.contains("mlkem");
    let silent = if is_other && weaker.is_none() { 1.0 } else { 0.0 };
    lines.push(line("S1 weaker exchanges of keys that are not told", Some(0.0), silent, ""));
    Ok(())
}

/// S1: commands, each over a connection of its own.
fn commands(place: &Place, peers: &Peers, rounds: usize, lines: &mut Vec<Line>) -> Result<()> {
    let exec = |arm: Arm, options: &[&str], count: u64| -> Result<f64> {
        let said = peers.timed(place, arm, &["exec", &count.to_string()], &peers.ssh(arm, options))?;
        number(&said, "p50_ms").context("no time was told")
    };
    let (mut same, mut added, mut default, mut mitm) = (vec![], vec![], vec![], vec![]);
    for round in 0..rounds {
        let direct = exec(Arm::Direct, &[SAME_KEX], EXECS)?;
        let captured = exec(Arm::Captured, &[SAME_KEX], EXECS)?;
        same.push(captured / direct);
        added.push(captured - direct);
        let direct = exec(Arm::Direct, &[], EXECS)?;
        default.push(exec(Arm::Captured, &[], EXECS)? / direct);
        if round == 0 && peers.mitm.is_some() {
            mitm.push(exec(Arm::Mitm, &[], MITM_EXECS)? / direct);
        }
    }
    lines.push(line("S1 exec at equal KEX, our time / direct", Some(1.0 / 0.95), median(same), "x"));
    lines.push(line("exec at equal KEX, added p50", None, median(added), "ms"));
    lines.push(line("exec by default, our time / direct", None, median(default), "x"));
    if !mitm.is_empty() {
        lines.push(line("exec by default, ssh-mitm's time / direct", None, median(mitm), "x"));
    }
    Ok(())
}

/// S2: commands over one connection.
fn over_one_connection(place: &Place, peers: &Peers, load: Load, lines: &mut Vec<Line>) -> Result<()> {
    let (mut added, mut lost, mut done) = (vec![], 0.0, 0);
    let rounds = u64::try_from(load.rounds)?.max(1);
    let count = load.commands.div_ceil(rounds);
    let socket = peers.socket();
    for _ in 0..rounds {
        let exec = |arm: Arm, count: u64| {
            peers.timed(place, arm, &["master", &count.to_string(), &socket], &peers.ssh(arm, &[SAME_KEX]))
        };
        let direct = exec(Arm::Direct, count.min(200))?;
        let captured = exec(Arm::Captured, count)?;
        let p50 = |said: &Value| number(said, "p50_ms").context("no time was told");
        added.push(p50(&captured)? - p50(&direct)?);
        lost += number(&captured, "lost").context("no count was told")?;
        done += count;
    }
    eprintln!("ssh over one connection: {done} commands");
    lines.push(line("S2 ControlMaster exec, added p50", Some(3.0), median(added), "ms"));
    lines.push(line("S2 exit statuses that were lost", Some(0.0), lost, ""));
    Ok(())
}

/// S3 and S4: a large file one way; how many transfers did not arrive as they were.
fn bulk(place: &Place, peers: &Peers, (way, name): (&str, &str), load: Load, lines: &mut Vec<Line>) -> Result<f64> {
    let is_sftp = matches!(way, "get" | "put");
    let (mut rate, mut cpu, mut mitm, mut different) = (vec![], vec![], vec![], 0.0);
    let mut one = |arm: Arm, options: &[&str], mebibytes: u64| -> Result<Moved> {
        let client = if is_sftp { peers.sftp(arm, options) } else { peers.ssh(arm, options) };
        let between = peers.between(place, arm);
        let before = between.map_or(0.0, cpu_seconds);
        let said = peers.timed(place, arm, &[way, &peers.file(mebibytes), &peers.out()], &client)?;
        let spent = between.map_or(0.0, cpu_seconds) - before;
        if said.get("same").and_then(Value::as_bool) != Some(true) {
            different += 1.0;
        }
        let gigabytes = number(&said, "bytes").unwrap_or(0.0) / 1e9;
        Ok(Moved { mb_per_second: figure(&said), cpu_per_gb: spent / gigabytes })
    };
    for round in 0..load.rounds.min(BULK_ROUNDS) {
        let direct = one(Arm::Direct, &[SAME_KEX, AES], load.mebibytes)?;
        let captured = one(Arm::Captured, &[SAME_KEX, AES], load.mebibytes)?;
        eprintln!(
            "ssh {name}: direct {:.0} MB/s, through crewtap {:.0} MB/s at {:.2} CPU-s/GB",
            direct.mb_per_second, captured.mb_per_second, captured.cpu_per_gb
        );
        rate.push(direct.mb_per_second / captured.mb_per_second);
        cpu.push(captured.cpu_per_gb);
        if round == 0 && is_sftp && peers.mitm.is_some() {
            let theirs = one(Arm::Mitm, &[], MITM_MIB)?;
            eprintln!("ssh {name}: ssh-mitm {:.1} MB/s at {:.0} CPU-s/GB", theirs.mb_per_second, theirs.cpu_per_gb);
            mitm.push(theirs.mb_per_second / captured.mb_per_second);
        }
    }
    let named = |before: &str, after: &str| -> &'static str { format!("{before}{name}{after}").leak() };
    lines.push(line(named("S3 ", ", our time / direct"), Some(1.0 / 0.85), median(rate), "x"));
    lines.push(line(named("S3 ", ", agent CPU"), Some(3.2), median(cpu), "s/GB"));
    if !mitm.is_empty() {
        lines.push(line(named("S4 ", ", ssh-mitm's MB/s / ours"), Some(1.0 / 40.0), median(mitm), "x"));
    }
    if way == "down" {
        // What OpenSSH's clients agree on with everybody who has it.
        let direct = one(Arm::Direct, &[], load.mebibytes)?;
        let captured = one(Arm::Captured, &[], load.mebibytes)?;
        let ratio = direct.mb_per_second / captured.mb_per_second;
        lines.push(line("cat down by default, our time / direct", None, ratio, "x"));
        lines.push(line("cat down by default, agent CPU", None, captured.cpu_per_gb, "s/GB"));
    }
    Ok(different)
}

impl Arm {
    fn command(self, place: &Place, words: &[&str]) -> Command {
        match self {
            Self::Direct | Self::Mitm => place.inside(words),
            Self::Captured => place.captured(words),
        }
    }
}

impl Peers {
    /// One load of `ssh.py`.
    fn timed(&self, place: &Place, arm: Arm, load: &[&str], client: &[String]) -> Result<Value> {
        let script = self.script();
        let words = [&["python3", &script], load, &["--"], &borrowed(client)].concat();
        let mut command = arm.command(place, &words);
        self.with_password(arm, &mut command);
        let said = quietly(&mut command)?;
        let line = said.lines().last().context("a load said nothing")?;
        ensure!(line.starts_with('{'), "a load said {line:?}");
        Ok(serde_json::from_str(line)?)
    }

    /// The process in between.
    fn between(&self, place: &Place, arm: Arm) -> Option<u32> {
        match arm {
            Arm::Direct => None,
            Arm::Mitm => self.mitm,
            Arm::Captured => Some(place.agent),
        }
    }
}

fn borrowed(words: &[String]) -> Vec<&str> {
    words.iter().map(String::as_str).collect()
}

fn line(name: &'static str, goal: Option<f64>, value: f64, unit: &'static str) -> Line {
    Line { name, goal, value, unit }
}
