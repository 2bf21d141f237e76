//! Development tasks that are not a plain cargo command.

mod ebpf;

use clap::{Parser, Subcommand};

#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Rebuild the kernel programs, or compare the committed object with a rebuilt one
    Ebpf(ebpf::Options),
}

fn main() -> anyhow::Result<()> {
    match Arguments::parse().task {
        Task::Ebpf(options) => ebpf::run(&options),
    }
}
