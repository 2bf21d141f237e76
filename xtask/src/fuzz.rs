//! `cargo xtask fuzz`: the fuzz targets of `tests/fuzz`, for longer than a test may take.
//!
//! Works with the stable toolchain of the machine: what the sanitizer needs of a nightly one is switched on for these
//! builds alone. What is found on the way stays in a cache beside the build, never in the clone.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, ensure};

use crate::shell;

/// Every target, and what of `tests/corpus` it starts from.
const TARGETS: &[(&str, &[&str])] = &[
    ("argv", &[]),
    ("client_hello", &["tls"]),
    ("dns", &["dns"]),
    ("http_conversation", &["http"]),
    ("http_head", &["http"]),
    ("known_hosts", &["known_hosts"]),
    ("mask_detect", &[]),
    ("postgres_conversation", &["postgres"]),
    ("postgres_frames", &["pg", "postgres"]),
    ("postgres_statement", &["statement"]),
    ("sftp", &["sftp"]),
    ("sniff", &["http", "pg", "tls"]),
    ("stream", &["http", "pg"]),
];

/// Options of `cargo xtask fuzz`.
#[derive(clap::Args)]
pub struct Options {
    /// One target instead of all: argv, `client_hello`, dns, `http_conversation`, `http_head`, `known_hosts`,
    /// `mask_detect`, `postgres_conversation`, `postgres_frames`, `postgres_statement`, sftp, sniff or stream
    target: Option<String>,
    /// How long each target runs
    #[arg(long, value_name = "N", default_value_t = 60)]
    seconds: u32,
}

/// Runs the task.
///
/// # Errors
/// When the target is not known, cargo-fuzz cannot be had, or a target has found something.
pub fn run(options: &Options) -> Result<()> {
    let wanted = |name: &str| options.target.as_deref().is_none_or(|target| target == name);
    let chosen: Vec<_> = TARGETS.iter().filter(|(name, _)| wanted(name)).collect();
    ensure!(
        !chosen.is_empty(),
        "there is no such target: take one of {}",
        TARGETS.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
    );
    if shell::find("cargo-fuzz").is_none() {
        eprintln!("fuzz: cargo-fuzz is missing; installing it with `cargo install --locked cargo-fuzz`");
        shell::loudly(Command::new("cargo").args(["install", "--locked", "cargo-fuzz"]))?;
    }
    for (name, seeds) in &chosen {
        one(shell::clone_root(), name, seeds, options.seconds)?;
    }
    for (name, seeds) in &chosen {
        println!("fuzz: {name} ran for {} s from {seeds:?} of tests/corpus and found nothing", options.seconds);
    }
    Ok(())
}

fn one(root: &Path, name: &str, seeds: &[&str], seconds: u32) -> Result<()> {
    let build = root.join("target/fuzz");
    let found = build.join("found").join(name);
    std::fs::create_dir_all(&found)?;
    let mut command = Command::new("cargo");
    command.current_dir(root).env("RUSTC_BOOTSTRAP", "1");
    command.args(["fuzz", "run", "--fuzz-dir", "tests/fuzz", "--target-dir"]).arg(&build).arg(name).arg(&found);
    command.args(seeds.iter().map(|seed| root.join("tests/corpus").join(seed)));
    shell::loudly(command.args(["--", &format!("-max_total_time={seconds}")]))
}
