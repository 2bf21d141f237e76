//! Masks by themselves: how much of the labelled corpus is found and how much is found wrongly, beside Presidio's pattern
//! recognisers without a model; and megabytes a second by rules and by how many values there are.
//!
//! Presidio comes from PyPI into the cache; where it cannot be had, it takes no part.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};
use crewtap_tests::world::cache_dir;
use serde_json::Value;

use super::{Line, number, release};
use crate::shell::{loudly, quietly};

/// M1 of the research, in megabytes a second on one core: typical text with all that is on by default.
const GOAL_MB_PER_S: f64 = 400.0;

/// How much faster than Presidio.
const GOAL_RATIO: f64 = 50.0;

/// Measures masks; nothing is captured for it.
pub(super) fn measure(lines: &mut Vec<Line>) -> Result<()> {
    let ours = told(&quietly(&mut example("quality"))?)?;
    let theirs = match presidio() {
        Ok(said) => told(&said)?,
        Err(error) => {
            eprintln!("bench: Presidio takes no part: {error:#}");
            Vec::new()
        }
    };
    println!("{:<14} {:>9} {:>9} {:>16} {:>16}", "kind", "recall", "precision", "Presidio recall", "precision");
    for row in &ours {
        let kind = row.get("kind").and_then(Value::as_str).unwrap_or_default();
        let other = theirs.iter().find(|row| row.get("kind").and_then(Value::as_str) == Some(kind));
        let (recall, precision) = shares(row);
        print!("{kind:<14} {recall:>9.4} {precision:>9.4}");
        match other.map(shares) {
            Some((recall, precision)) => println!(" {recall:>16.4} {precision:>16.4}"),
            None => println!(" {:>16} {:>16}", "-", "-"),
        }
    }
    let mut typical = f64::NAN;
    println!("{:<26} {:<28} {:>8} {:>8}", "rules", "text", "MB/s", "values");
    for row in told(&quietly(&mut example("speed"))?)? {
        let word = |key: &str| row.get(key).and_then(Value::as_str).unwrap_or_default();
        let rate = number(&row, "mb_per_s").unwrap_or(f64::NAN);
        println!(
            "{:<26} {:<28} {rate:>8.0} {:>8}",
            word("rules"),
            word("text"),
            number(&row, "hits").unwrap_or_default()
        );
        if (word("rules"), word("text")) == ("defaults", "prose") {
            typical = rate;
        }
    }
    // Goals of lines are upper bounds: what must be fast enough is told as time.
    let per_mb = |rate: f64| 1e6 / rate;
    lines.push(Line {
        name: "M1 default masks, typical text",
        goal: Some(per_mb(GOAL_MB_PER_S)),
        value: per_mb(typical),
        unit: "us/MB",
    });
    if let Some(rate) = theirs.iter().find_map(|row| number(row, "mb_per_s")) {
        lines.push(Line {
            name: "default masks, time / Presidio's",
            goal: Some(1.0 / GOAL_RATIO),
            value: rate / typical,
            unit: "x",
        });
    }
    Ok(())
}

/// Recall and precision of one row.
fn shares(row: &Value) -> (f64, f64) {
    let count = |key: &str| number(row, key).unwrap_or_default();
    let right = count("right");
    (right / (right + count("missed")), right / (right + count("wrong")))
}

fn told(said: &str) -> Result<Vec<Value>> {
    said.lines().map(|line| serde_json::from_str(line).context("a line is no JSON")).collect()
}

fn example(mode: &str) -> Command {
    let mut command = Command::new(release("examples/mask_cost"));
    command.arg(mode);
    command
}

/// What Presidio says of the corpus.
fn presidio() -> Result<String> {
    let home = cache_dir().join("presidio");
    let python = home.join("bin/python");
    if !home.join("bin/tldextract").exists() {
        loudly(Command::new("python3").args(["-m", "venv"]).arg(&home))?;
        loudly(Command::new(home.join("bin/pip")).args(["install", "-q", "presidio-analyzer"]))?;
    }
    let corpus: PathBuf = std::env::temp_dir().join(format!("crewtap-masks-{}.jsonl", std::process::id()));
    std::fs::write(&corpus, quietly(&mut example("corpus"))?)?;
    let said = quietly(Command::new(python).args(["-c", include_str!("masks.py")]).arg(&corpus));
    std::fs::remove_file(&corpus)?;
    said
}
