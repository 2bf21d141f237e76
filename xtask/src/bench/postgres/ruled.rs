//! What a hundred policies cost a database: pgbench in mode enforce beside mode record, in turn in each round.
//!
//! One agent serves both: each run has the mode that the catalog gives the target when it starts. Of the policies ten can
//! apply to a statement; the others are those of other teams and targets.

use std::fmt::Write as _;
use std::fs;

use anyhow::{Context, Result, ensure};

use crewtap_tests::postgres::{DATABASE, user};

use super::{Arm, Figures, Load, POSTGRES, PREPARED, Peers, Place, SIMPLE, idle, line, median, pgbench, program};
use crate::bench::Line;

/// All policies.
const POLICIES: usize = 100;

/// Record's rate over that with policies: 0.95 of it is to be left (1 / 0.95).
const GOAL: f64 = 1.053;

/// The modes of a round, beside a direct connection.
const MODES: [&str; 2] = ["record", "enforce"];

const LOADS: [Load; 3] = [
    Load { name: "prepared", words: PREPARED, clients: 1 },
    Load { name: "prepared", words: PREPARED, clients: 8 },
    Load { name: "simple", words: SIMPLE, clients: 8 },
];

/// The ten that look at a statement of the benchmark: as people write them.
const NEAR: [&str; 10] = [
    "permit (principal, action == Action::\"connect\", resource == Target::\"bench\");",
    "permit (principal == Identity::\"os:0\", action == Action::\"query\", resource == Target::\"bench\")\n\
     when { [\"SELECT\", \"SHOW\", \"SET\", \"BEGIN\", \"COMMIT\"].containsAll(context.kinds) };",
    "forbid (principal, action == Action::\"query\", resource) when { context.kinds.containsAny([\"DROP\", \"TRUNCATE\"]) };",
    "forbid (principal, action == Action::\"query\", resource in Tag::\"prod\") when { context.unfiltered };",
    "forbid (principal, action, resource) when { context.address.isInRange(ip(\"169.254.0.0/16\")) };",
    "forbid (principal, action == Action::\"query\", resource in Tag::\"prod\")\n\
     when { (context.hour < 6 || context.weekday == \"sunday\") && !context.kinds.contains(\"SELECT\") };",
    "@approval(\"os:dba\") forbid (principal, action == Action::\"query\", resource in Tag::\"prod\")\n\
     when { context.kinds.containsAny([\"DELETE\", \"UPDATE\"]) } unless { context.approved };",
    "forbid (principal, action == Action::\"query\", resource)\n\
     when { context.functions.containsAny([\"pg_sleep\", \"lo_export\", \"pg_read_file\"]) };",
    "forbid (principal, action == Action::\"query\", resource in Tag::\"prod\") when { context.tables.contains(\"salaries\") };",
    "forbid (principal, action, resource) when { context.host like \"*.evil.example\" };",
];

/// Measures all loads.
///
/// # Errors
/// When a program is missing or fails, or a statement was refused.
pub fn measure(place: &mut Place, rounds: usize, lines: &mut Vec<Line>) -> Result<()> {
    let mut peers = Peers::start(place)?;
    let directory = place.store.with_extension("policy");
    let written = write(place);
    let measured = written.and_then(|()| {
        place.start_agent()?;
        peers.idle = idle(place)?;
        MODES.into_iter().try_for_each(|mode| is_in_force(place, mode))?;
        eprintln!("{:<16} {:<10} {:>9} {:>9} {:>9} {:>12}", "load", "arm", "tps", "p50 us", "p99 us", "CPU s/M");
        LOADS.into_iter().try_for_each(|load| compared(place, &peers, load, rounds, lines))
    });
    let _ = fs::remove_dir_all(directory);
    let _ = fs::remove_file(catalog(place));
    measured
}

/// One load, round by round.
fn compared(place: &Place, peers: &Peers, load: Load, rounds: usize, lines: &mut Vec<Line>) -> Result<()> {
    let mut all: [Vec<Figures>; 3] = Default::default();
    for _ in 0..rounds {
        let [direct, by_mode @ ..] = &mut all;
        direct.push(pgbench(place, peers, Arm::Direct, load)?);
        for (of_mode, mode) in by_mode.iter_mut().zip(MODES) {
            set(place, mode)?;
            of_mode.push(pgbench(place, peers, Arm::Captured, load)?);
        }
    }
    let [direct, record, ruled] = &all;
    let ratio = |above: &[Figures], below: &[Figures], of: fn(&Figures) -> f64| {
        median(above.iter().zip(below).map(|(above, below)| of(above) / of(below)).collect())
    };
    let Load { name, clients, .. } = load;
    let label = |what: &str| -> &'static str { format!("P2 {name} c{clients}, {what}").leak() };
    let tps: fn(&Figures) -> f64 = |figures| figures.tps;
    lines.push(line(label("record tps / 100 policies"), Some(GOAL), ratio(record, ruled, tps), "x"));
    lines.push(line(label("CPU, 100 policies / record"), None, ratio(ruled, record, |figures| figures.cpu_us), "x"));
    let added = ruled.iter().zip(record).map(|(ruled, record)| ruled.p50_us - record.p50_us).collect();
    lines.push(line(label("p50 that 100 policies add"), None, median(added), "us"));
    for (figures, arm) in [(direct, "direct"), (record, "record"), (ruled, "enforce")] {
        let of = |pick: fn(&Figures) -> f64| median(figures.iter().map(pick).collect());
        let [tps, p50, p99, cpu] = [of(|f| f.tps), of(|f| f.p50_us), of(|f| f.p99_us), of(|f| f.cpu_us)];
        eprintln!("{name:<12} c{clients:<2} {arm:<10} {tps:>9.0} {p50:>9.0} {p99:>9.0} {cpu:>12.1}");
    }
    Ok(())
}

/// The policies and the agent's configuration.
fn write(place: &Place) -> Result<()> {
    let directory = place.store.with_extension("policy");
    fs::create_dir_all(&directory)?;
    let mut text = NEAR.join("\n");
    for other in NEAR.len()..POLICIES {
        let _ = writeln!(
            text,
            "\npermit (principal in Group::\"os:team-{other}\", action == Action::\"query\", resource == Target::\"db-{other}\")\n\
             when {{ [\"SELECT\"].containsAll(context.kinds) && context.database == \"d{other}\" }};"
        );
    }
    fs::write(directory.join("bench.cedar"), text)?;
    set(place, "record")?;
    let config = format!(
        "mode = \"record\"\ntimezone = \"UTC\"\npolicy = \"{}\"\ntargets = \"{}\"\n",
        directory.display(),
        catalog(place)
    );
    fs::write(place.config(), config).context("cannot write the agent's configuration")
}

fn catalog(place: &Place) -> String {
    place.store.with_extension("targets.toml").display().to_string()
}

/// The mode of the target in the runs that start from now on.
fn set(place: &Place, mode: &str) -> Result<()> {
    let entry = format!(
        "[target.bench]\nmatch = {{ cidr = [\"127.0.0.1\"], port = [{POSTGRES}] }}\nprotocol = \"postgres\"\n\
         tags = [\"prod\"]\nmode = \"{mode}\"\n"
    );
    fs::write(catalog(place), entry).context("cannot write the catalog")
}

/// A statement that policies forbid fails by them in mode enforce and nowhere else: what is never asked would cost nothing.
fn is_in_force(place: &Place, mode: &str) -> Result<()> {
    set(place, mode)?;
    let (psql, port) = (program("psql")?, POSTGRES.to_string());
    let words = [&psql, "-X", "-h", "127.0.0.1", "-p", &port, "-U", user::TRUSTED, "-c", "DROP TABLE none", DATABASE];
    let mut command = Arm::Captured.command(place, &words);
    let output = command.current_dir("/").env("PGSSLMODE", "disable").output().context("cannot start psql")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(said.contains("refused by policy") == (mode == "enforce"), "mode {mode} is not in force: {said}");
    Ok(())
}
