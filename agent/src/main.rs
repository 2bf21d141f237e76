//! The crewtap program: hands the command line to the library.

/// The system's gives memory of bursts back to the kernel and takes it again, and costs a tenth of the processor time that
/// recording an exchange takes.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    crewtap::cli::main(crewtap::daemon::run)
}
