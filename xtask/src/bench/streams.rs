//! Bodies that do not end soon: events at a steady pace, each of which must pass at once, and gibibytes in little memory.
//!
//! The peer is `streams.py`; the record is read back through the command line, as an analyst would.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::http::Arm;
use super::{Line, Place, cpu_seconds, median};
use crate::shell::quietly;

/// Port of the peer.
pub const PORT: u16 = 7813;

/// Port of nginx in front of it, which holds nothing back.
pub const NGINX_PORT: u16 = 7814;

const STREAMS: u64 = 6;

/// Events of each, 50 a second.
const EVENTS: u64 = 100;

/// The huge body.
pub const HUGE_BYTES: u64 = 1 << 30;

/// Growth of the agent's memory that a huge body may cost, in MiB: a few batches and buffers.
const GROWTH_MAX_MIB: f64 = 32.0;

/// Starts the peer.
///
/// # Errors
/// When it cannot be started.
pub fn serve(place: &mut Place, directory: &Path) -> Result<()> {
    let script = directory.join("streams.py");
    fs::write(&script, include_str!("streams.py"))?;
    let path = |name: &str| directory.join(name).display().to_string();
    place.start(&["python3", &path("streams.py"), "serve", &PORT.to_string(), &path("cert.pem"), &path("key.pem")])
}

/// H5: what is added to the way of an event, beside nginx; and whether every event is on record.
///
/// # Errors
/// When a program fails, or an event is missing: at the client, or on record.
pub fn events(place: &Place, directory: &Path, rounds: usize, lines: &mut Vec<Line>) -> Result<()> {
    let script = directory.join("streams.py").display().to_string();
    let read = |arm: Arm, port: u16| -> Result<f64> {
        let url = format!("https://127.0.0.1:{port}/events");
        let words = ["python3", &script, "read", &url, &STREAMS.to_string(), &EVENTS.to_string()];
        let said = quietly(&mut arm.command(place, &words))?;
        let (p50, count) = said.trim().split_once(' ').context("the reader of events said nothing")?;
        ensure!(count.parse() == Ok(STREAMS * EVENTS), "{count} events came of {}", STREAMS * EVENTS);
        Ok(p50.parse()?)
    };
    let (mut ours, mut ratio, mut missing) = (vec![], vec![], 0.0);
    for _ in 0..rounds {
        let direct = read(Arm::Direct, PORT)?;
        let nginx = (read(Arm::Direct, NGINX_PORT)? - direct).max(1.0);
        let added = (read(Arm::Captured, PORT)? - direct).max(1.0);
        ours.push(added);
        ratio.push(added / nginx);
        #[allow(clippy::cast_precision_loss, reason = "hundreds")]
        {
            missing += (STREAMS * EVENTS) as f64 - recorded(place)? as f64;
        }
    }
    lines.push(Line {
        name: "H5 events over TLS, added p50 / nginx's",
        goal: Some(1.0),
        value: median(ratio),
        unit: "x",
    });
    lines.push(Line { name: "events over TLS, added p50", goal: None, value: median(ours), unit: "us" });
    lines.push(Line { name: "H5 events that are not on record", goal: Some(0.0), value: missing, unit: "" });
    Ok(())
}

/// Events in the record of the newest run: in the payloads of its sessions, as `show` prints them.
fn recorded(place: &Place) -> Result<usize> {
    let runs = told(place, &["runs"])?;
    let run = runs.first().and_then(|run| run.get("id")?.as_str()).context("there is no run")?;
    let mut count = 0;
    for row in told(place, &["show", run])? {
        if row.get("table").and_then(Value::as_str) != Some("exchanges") {
            continue;
        }
        let id = row.get("id").and_then(Value::as_str).context("an exchange has no id")?;
        let shown = quietly(&mut place.crewtap(&["show", "--all", id]))?;
        count += shown.matches("data: ").count();
    }
    Ok(count)
}

/// One of crewtap's own words, as JSON Lines.
///
/// # Errors
/// When it fails.
pub(super) fn told(place: &Place, words: &[&str]) -> Result<Vec<Value>> {
    let said = quietly(&mut place.crewtap(&[words, &["--json"]].concat()))?;
    said.lines().map(|line| serde_json::from_str(line).context("a line is no JSON")).collect()
}

/// A gibibyte each way: the agent's memory must not grow with it.
///
/// # Errors
/// When curl fails.
pub fn huge(place: &Place, directory: &Path, lines: &mut Vec<Line>) -> Result<()> {
    let file = directory.join("www/huge").display().to_string();
    let down = format!("{}/huge", super::http::ORIGIN);
    let up = format!("https://127.0.0.1:{PORT}/sink");
    let ways: [(_, _, &[&str]); 2] = [
        ("1 GiB down over TLS, growth of the agent", "1 GiB down over TLS, agent CPU", &[&down]),
        ("1 GiB up over TLS, growth of the agent", "1 GiB up over TLS, agent CPU", &["-T", &file, &up]),
    ];
    for (memory, cpu, words) in ways {
        let (peak, spent) = (peak_mib(place.agent)?, cpu_seconds(place.agent));
        quietly(&mut Arm::Captured.command(place, &[&["curl", "-kfsS", "-o", "/dev/null"], words].concat()))?;
        let grown = peak_mib(place.agent)? - peak;
        lines.push(Line { name: memory, goal: Some(GROWTH_MAX_MIB), value: grown, unit: "MiB" });
        #[allow(clippy::cast_precision_loss, reason = "a gibibyte")]
        let per_gb = (cpu_seconds(place.agent) - spent) / (HUGE_BYTES as f64 / 1e9);
        lines.push(Line { name: cpu, goal: None, value: per_gb, unit: "s/GB" });
    }
    Ok(())
}

/// The largest memory that a process had so far (`VmHWM`).
///
/// # Errors
/// When it has ended.
pub(super) fn peak_mib(pid: u32) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM")?;
    let kib: f64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kib / 1024.0)
}
