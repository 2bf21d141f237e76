//! `cargo xtask`: everything that is done with the repository rather than by the product. Never part of what is shipped.

mod bench;
mod check;
mod demo;
mod ebpf;
mod fuzz;
mod install;
mod setup;
mod shell;
mod test;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Set up, build, try, test and install crewtap", version)]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Install what building, testing and the demo need; under five seconds when all is there
    Setup(setup::Options),
    /// Run a real CrewAI crew under crewtap in an isolated network, and show what was recorded
    Demo(demo::Options),
    /// Run every test; the closing line is `N passed, N failed, N skipped`
    Test(test::Options),
    /// Measure what redirect, relay and journal cost, against direct and against a bare copy
    Bench(bench::Options),
    /// Put crewtap on this machine, or take it off again
    Install(install::Options),
    /// Run the fuzz targets for a while, from the recorded corpus
    Fuzz(fuzz::Options),
    /// Check licences, banned crates and sources of the dependencies with cargo-deny
    Deny,
    /// Rebuild the kernel programs, or compare the committed object with a rebuilt one
    Ebpf(ebpf::Options),
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().task {
        Task::Setup(options) => setup::run(&options).map(|()| ExitCode::SUCCESS),
        Task::Demo(options) => demo::run(&options),
        Task::Test(options) => test::run(&options),
        Task::Bench(options) => bench::run(&options),
        Task::Install(options) => install::run(&options).map(|()| ExitCode::SUCCESS),
        Task::Ebpf(options) => ebpf::run(&options).map(|()| ExitCode::SUCCESS),
        Task::Fuzz(options) => fuzz::run(&options).map(|()| ExitCode::SUCCESS),
        Task::Deny => check::dependencies().map(|()| ExitCode::SUCCESS),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("xtask: {error:#}");
        ExitCode::from(2)
    })
}
