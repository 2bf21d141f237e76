//! The crewtap program: hands the command line to the library.

fn main() -> std::process::ExitCode {
    // The integrator's place: the daemon's entry (`fn(&mut Launch) -> anyhow::Result<()>`).
    crewtap::cli::main(|_launch| anyhow::bail!("this build has no capture yet"))
}
