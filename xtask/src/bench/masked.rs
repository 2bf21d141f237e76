//! What masks cost: the same loads without any, with the usual ones, and with those that hide from the client, too.
//!
//! One agent serves all: each run has the masks that the file has when it starts.

use std::fs;
use std::io::Write;

use anyhow::{Context, Result};

use super::{Line, Place, cpu_seconds, median};

/// The masks of a run.
#[derive(Clone, Copy)]
pub(super) enum Masks {
    None,
    Usual,
    Wire,
}

/// What is on where nothing else is said.
const USUAL: [&str; 7] = ["card", "iban", "ssn", "api-key", "jwt", "private-key", "url-password"];

/// The columns of a table.
const ALL: [Masks; 3] = [Masks::None, Masks::Usual, Masks::Wire];

/// Has the agent, which is not started yet, read the file.
///
/// # Errors
/// When its configuration cannot be written.
pub(super) fn prepare(place: &Place) -> Result<()> {
    Masks::Usual.set(place)?;
    let mut config = fs::OpenOptions::new().create(true).append(true).open(place.config())?;
    writeln!(config, "masks = \"{}\"", file(place)).context("cannot write the agent's configuration")
}

fn file(place: &Place) -> String {
    place.store.with_extension("masks.toml").display().to_string()
}

impl Masks {
    /// For the runs that start from now on.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub(super) fn set(self, place: &Place) -> Result<()> {
        let rule = |name: &&str| match self {
            Self::None => format!("[mask.{name}]\nenabled = false\n"),
            Self::Usual => format!("[mask.{name}]\nenabled = true\n"),
            Self::Wire => format!("[mask.{name}]\napply = \"wire\"\n"),
        };
        fs::write(file(place), USUAL.iter().map(rule).collect::<String>()).context("cannot write the masks")
    }
}

/// One load with each set of masks, round by round: agent's processor time, and something of the load's own.
///
/// # Errors
/// When a load fails.
pub(super) fn compared(
    place: &Place,
    rounds: usize,
    mut load: impl FnMut() -> Result<f64>,
) -> Result<[(Vec<f64>, Vec<f64>); 3]> {
    let mut all: [(Vec<f64>, Vec<f64>); 3] = Default::default();
    for _ in 0..rounds {
        for (masks, (spent, own)) in ALL.into_iter().zip(&mut all) {
            masks.set(place)?;
            let before = cpu_seconds(place.agent);
            own.push(load()?);
            spent.push(cpu_seconds(place.agent) - before);
        }
    }
    Masks::Usual.set(place)?;
    Ok(all)
}

/// Processor time that masks add to a transfer, in seconds for each gigabyte.
///
/// # Errors
/// When a transfer fails.
pub(super) fn transfer(
    place: &Place,
    (name, gigabytes, rounds): (&str, f64, usize),
    lines: &mut Vec<Line>,
    load: impl FnMut() -> Result<f64>,
) -> Result<()> {
    let [(none, _), (usual, _), (wire, _)] = compared(place, rounds, load)?;
    for (what, goal, spent) in [("masks", Some(2.5), usual), ("wire masks", None, wire)] {
        let added = spent.iter().zip(&none).map(|(with, without)| (with - without) / gigabytes).collect();
        let name = format!("{}{name}, CPU that {what} add", if goal.is_some() { "P5 " } else { "" }).leak();
        lines.push(Line { name, goal, value: median(added), unit: "s/GB" });
    }
    Ok(())
}

/// Processor time with masks over that without, where `load` says how many times something was done.
///
/// # Errors
/// When a load fails.
pub(super) fn repeated(
    place: &Place,
    (name, rounds): (&str, usize),
    lines: &mut Vec<Line>,
    load: impl FnMut() -> Result<f64>,
) -> Result<()> {
    let [none, usual, wire] = compared(place, rounds, load)?;
    let each = |(spent, done): &(Vec<f64>, Vec<f64>)| -> Vec<f64> {
        spent.iter().zip(done).map(|(spent, done)| spent / done).collect()
    };
    let without = each(&none);
    for (what, with) in [("masks", usual), ("wire masks", wire)] {
        let ratio = each(&with).iter().zip(&without).map(|(with, without)| with / without).collect();
        let name = format!("{name}, CPU with {what} / without").leak();
        lines.push(Line { name, goal: None, value: median(ratio), unit: "x" });
    }
    Ok(())
}
