//! The crewtap program: hands the command line to the library.

fn main() -> std::process::ExitCode {
    crewtap::cli::main(crewtap::daemon::run)
}
