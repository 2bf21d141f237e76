//! `crewtap agent`: the long-running form, and the one that `crewtap run` starts for itself.
//!
//! Owns how the process becomes a daemon and how its failure is told. What an agent does is given to it.

use std::process::{Command, ExitCode, Stdio};

use clap::Args;

use super::{FAILED, Global, Serve};
use crate::capture::sys;
use crate::config::Config;
use crate::control::launch::Ready;

/// Run the agent until it is told to stop (SIGTERM)
///
/// `crewtap run` starts an agent by itself where none is running; this is the form for a service.
#[derive(Args, Debug)]
pub struct AgentArgs {
    /// Started by `crewtap run`: detach, and end with the last process of the last run
    #[arg(long, hide = true)]
    on_demand: bool,
    /// The second step of --on-demand
    #[arg(long, hide = true, conflicts_with = "on_demand")]
    detached: bool,
}

/// How long an agent lives.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Life {
    /// Until it is told to stop.
    Service,
    /// Until its last run has no process left.
    OnDemand,
}

/// What an agent is started with.
#[derive(Debug)]
pub struct Launch {
    /// The configuration.
    pub config: Config,
    /// How long it lives.
    pub life: Life,
    /// To be told once the control socket is served.
    pub ready: Ready,
}

/// The store is in the hands of another agent; what [`Serve`] returns then.
#[derive(Debug, thiserror::Error)]
#[error("another agent{} works in {store}: stop it, or use another --data-dir", of_pid(*.holder))]
pub struct Busy {
    /// The data directory.
    pub store: String,
    /// The other agent's pid, where it has told it already.
    pub holder: Option<u32>,
}

fn of_pid(holder: Option<u32>) -> String {
    holder.map(|pid| format!(" (pid {pid})")).unwrap_or_default()
}

pub(super) fn run(args: &AgentArgs, global: &Global, serve: Serve) -> anyhow::Result<ExitCode> {
    if args.on_demand {
        return detach();
    }
    let life = if args.detached { Life::OnDemand } else { Life::Service };
    let ready = if args.detached { Ready::on_stdout() } else { Ready::nobody() };
    log_to_stderr();
    let mut launch = Launch { config: Config::default(), life, ready };
    let result = start(&mut launch, global, serve);
    match &result {
        Err(error) if error.is::<Busy>() => launch.ready.busy(),
        Err(error) => launch.ready.fail(&format!("{error:#}")),
        Ok(()) => {}
    }
    result.map(|()| ExitCode::SUCCESS)
}

fn start(launch: &mut Launch, global: &Global, serve: Serve) -> anyhow::Result<()> {
    launch.config = global.config()?;
    anyhow::ensure!(
        nix::unistd::geteuid().is_root(),
        "the agent loads programs into the kernel and must be root: sudo crewtap agent"
    );
    serve(launch)
}

/// Leaves the session of whoever typed `crewtap run`, so that neither a hang-up nor the end of the terminal
/// reaches the agent. The parent ends at once: the agent is nobody's child, and can get no terminal any more.
fn detach() -> anyhow::Result<ExitCode> {
    sys::Inherited::look()?.close();
    nix::unistd::setsid()?;
    let words = std::env::args_os().skip(1).map(|word| match word.to_str() {
        Some("--on-demand") => "--detached".into(),
        _ => word,
    });
    let started = Command::new("/proc/self/exe").args(words).stdin(Stdio::null()).spawn();
    started.map_or_else(
        |error| {
            println!("cannot start: {error}");
            Ok(ExitCode::from(FAILED))
        },
        |_child| Ok(ExitCode::SUCCESS),
    )
}

fn log_to_stderr() {
    let filter = tracing_subscriber::EnvFilter::try_from_env("CREWTAP_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(false).with_writer(std::io::stderr);
    // The log may lie on the disk that is full: what it tells of its own failure goes there too, and would panic.
    let log = log.log_internal_errors(false);
    // Set already only where a test has done so.
    let _ = log.try_init();
}
