//! `crewtap run`: one program, captured, and otherwise exactly as it would have run.
//!
//! Owns the order of things around the command. The agent owns the capture.

mod invocation;
mod names;
pub(super) mod pause;
pub(super) mod spec;
pub(super) mod witness;
mod wrapper;

use std::ffi::{OsStr, OsString};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, bail, ensure};
use clap::{Args, ValueEnum};
use crewtap_core::id::RunId;
use crewtap_core::limits;
use crewtap_core::run::Mode;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;

use super::Global;
use crate::capture::{process, sys};
use crate::config::Config;
use crate::control::launch::{Variables, connect_or_start};
use crate::control::{Client, ClientError, StartRun, Started, Summary};
use invocation::Invocation;
use spec::Spec;
use wrapper::{End, Signals, Wrapped, end_like};

/// Source of the mounts that hide the store; seeing one means to be in a run.
pub(super) const HIDDEN: &str = "crewtap-hidden";

/// Run a command with everything it connects to on record
///
/// The command runs as the user who asks, also under sudo: with that user's environment, groups and
/// directory, on the same terminal. Nothing is set for it but variables that make Node, Deno and uv trust
/// crewtap's authority as well; its children are captured too, also those that outlive it.
#[derive(Args, Debug)]
#[command(
    override_usage = "crewtap run [OPTIONS] [--] CMD [ARGS]...",
    after_help = "Examples:\n  \
    sudo crewtap run -- crewai run\n  \
    sudo crewtap run --name nightly -- python -m my_crew --topic prices\n  \
    sudo crewtap run --user ci -q -- make crew\n\n\
    Exit status: the command's own; 125 when crewtap itself fails, 126 when the command cannot be executed, \
    127 when it is not found. A command that a signal ended ends `crewtap run` by the same signal."
)]
pub struct RunArgs {
    /// Run the command as this user instead of the one who asks
    #[arg(long, value_name = "USER")]
    user: Option<String>,
    /// A name for the run, to find it by
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// What happens with what policy would refuse [default: the configuration's]
    #[arg(long, value_enum)]
    mode: Option<ModeArg>,
    /// Say nothing unless something fails
    #[arg(short, long)]
    quiet: bool,
    /// The command and its arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "CMD")]
    command: Vec<OsString>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum ModeArg {
    /// Everything passes and is on record
    Record,
    /// Everything passes; what enforce would have done is on record
    Shadow,
    /// Nothing passes that no policy permits
    Enforce,
}

impl From<ModeArg> for Mode {
    fn from(mode: ModeArg) -> Self {
        match mode {
            ModeArg::Record => Self::Record,
            ModeArg::Shadow => Self::Shadow,
            ModeArg::Enforce => Self::Enforce,
        }
    }
}

/// `umask` is the one that this process was started with.
pub(super) fn run(args: &RunArgs, global: &Global, umask: u32) -> anyhow::Result<ExitCode> {
    ensure!(
        nix::unistd::geteuid().is_root(),
        "capturing needs root; the command still runs as you: sudo crewtap run -- {}",
        args.command.iter().map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
    );
    let inherited = sys::Inherited::look().context("cannot read /proc")?;
    refuse_inside_a_run()?;
    let ignored = process::status(std::process::id()).context("cannot read /proc")?.ignored;
    // With SIGCHLD ignored the kernel would keep no status to wait for.
    sys::set_disposition(Signal::SIGCHLD, sys::Disposition::Default)?;
    let config = global.config()?;
    let mut invocation = invocation::resolve(args.user.as_deref(), umask)?;
    let secrets = take_secrets(&config, &mut invocation)?;
    let (mut agent, started) = start(&config, &request(args, &invocation)?, &secrets)?;
    refuse_hidden_directory(&started)?;
    if !args.quiet {
        for note in started.notes.iter().cloned().chain(names::note()) {
            eprintln!("crewtap: {note}");
        }
    }
    let signals = Signals::take()?;
    let mut spec = specification(args, invocation, &started, &signals);
    spec.ignore_child = ignored & (1 << (libc::SIGCHLD - 1)) != 0;
    let lay = || lay_overlay(&mut agent, started.run, &spec, args.quiet);
    let mut command = Wrapped::start(&spec, lay).context("cannot start the command")?;
    let_go(inherited).context("cannot let go of the command's input and output")?;
    let end = command.supervise(&signals).context("cannot watch the command")?;
    let told = tell_end(&mut agent, started.run, &end, &signals);
    if !args.quiet {
        say_end(&started, told);
    }
    end_like(&end)
}

/// The variables that hold secrets of the catalog and of approvals: for an agent that is started for this run, and not for the command.
fn take_secrets(config: &Config, invocation: &mut Invocation) -> anyhow::Result<Vec<(OsString, OsString)>> {
    let catalog = config.catalog()?;
    let variables = || catalog.variables().chain(config.approvals.variables()).chain(config.variables_of_providers());
    let is_secret = |word: &OsString| {
        let name = word.as_bytes().split(|byte| *byte == b'=').next();
        variables().any(|variable| name == Some(variable.as_bytes()))
    };
    invocation.environment.retain(|word| !is_secret(word));
    Ok(variables().filter_map(|name| Some((name.into(), std::env::var_os(name)?))).collect())
}

/// An agent that was just ending may take the request with it; the next one gets it then.
fn start(config: &Config, request: &StartRun, secrets: &Variables) -> anyhow::Result<(Client, Started)> {
    let mut attempts = 1..=limits::AGENT_ATTEMPTS_MAX;
    loop {
        let mut agent = connect_or_start(&config.data_dir, &agent_arguments(config), secrets)?;
        match agent.start_run(request.clone()) {
            Err(ClientError::Gone) if attempts.next().is_some() => {}
            other => return Ok((agent, other?)),
        }
    }
}

/// A pipe ends when the command closes it, not when this process ends. Standard error is kept for the last line.
fn let_go(inherited: sys::Inherited) -> anyhow::Result<()> {
    let null = std::fs::File::options().read(true).write(true).open("/dev/null")?;
    nix::unistd::dup2_stdin(&null)?;
    nix::unistd::dup2_stdout(&null)?;
    inherited.close();
    Ok(())
}

fn refuse_inside_a_run() -> anyhow::Result<()> {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").context("cannot read the mounts")?;
    let hidden = mounts.lines().any(|line| line.split(" - ").nth(1).is_some_and(is_hiding));
    ensure!(!hidden, "this is a captured run already: start the command without `crewtap run`");
    Ok(())
}

/// The part of a mountinfo line behind the dash: type, source, options.
fn is_hiding(mount: &str) -> bool {
    mount.split(' ').nth(1) == Some(HIDDEN)
}

/// What an agent that is started for this run is told; absolute, because its directory is `/`.
fn agent_arguments(config: &Config) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = vec!["--data-dir".into(), config.data_dir.clone().into()];
    if let Some(file) = &config.file {
        arguments.extend(["--config".into(), file.clone().into()]);
    }
    arguments
}

fn request(args: &RunArgs, invocation: &Invocation) -> anyhow::Result<StartRun> {
    let cwd = std::env::current_dir().context("the working directory is gone: change to another one first")?;
    Ok(StartRun {
        name: args.name.clone(),
        argv: process::bounded(args.command.iter().map(|word| word.to_string_lossy().into_owned())),
        cwd: cwd.to_string_lossy().into_owned(),
        uid: invocation.uid,
        gid: invocation.gid,
        invoker: invocation.invoker,
        mode: args.mode.map(Mode::from),
    })
}

/// A working directory stays what it is when something is mounted over it: the run would see the evidence.
fn refuse_hidden_directory(started: &Started) -> anyhow::Result<()> {
    let cwd = std::env::current_dir()?;
    let inside = |hidden: &Path| cwd.starts_with(hidden);
    if started.hide.iter().any(|hidden| inside(hidden)) {
        bail!("the working directory belongs to crewtap and is hidden from runs: change to another one first");
    }
    Ok(())
}

/// Asks the agent to lay the trust overlay; the variables that the command gets for it.
fn lay_overlay(agent: &mut Client, run: RunId, spec: &Spec, quiet: bool) -> anyhow::Result<Vec<(String, String)>> {
    let home = spec.environment.iter().find_map(|word| word.strip_prefix(b"HOME=")).filter(|home| !home.is_empty());
    let home = home.map(|home| PathBuf::from(OsStr::from_bytes(home)));
    let laid = agent.lay_overlay(run, home)?;
    if !quiet {
        laid.notes.iter().for_each(|note| eprintln!("crewtap: {note}"));
    }
    Ok(laid.environment)
}

fn specification(args: &RunArgs, invocation: Invocation, started: &Started, signals: &Signals) -> Spec {
    Spec {
        cgroup: started.cgroup.clone(),
        hide: started.hide.clone(),
        uid: invocation.uid,
        gid: invocation.gid,
        groups: invocation.groups,
        argv: args.command.iter().map(|word| spec::bytes(word)).collect(),
        environment: invocation.environment.iter().map(|word| spec::bytes(word)).collect(),
        umask: invocation.umask,
        core_limits: invocation.core_limits,
        blocked: signals.blocked_before(),
        ignore_pipe: sys::sigpipe_was_ignored(),
        ignore_child: false,
        no_raw_sockets: started.mode == Mode::Enforce,
        foreign_user: invocation.foreign_user,
    }
}

/// Tells the agent, and asks what is on record; Ctrl-C shortens the wait.
fn tell_end(agent: &mut Client, run: RunId, end: &End, signals: &Signals) -> Result<Summary, ClientError> {
    agent.run_exited(run, end.exit())?;
    agent.begin_summary(run)?;
    let until = Instant::now() + limits::SUMMARY_WAIT + limits::SUMMARY_WAIT;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO);
        let mut fds = [PollFd::new(agent.as_fd(), PollFlags::POLLIN), PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
        let ready = poll(&mut fds, timeout).map_err(std::io::Error::from)?;
        let answered = fds.first().and_then(PollFd::any).unwrap_or(false);
        if answered {
            return agent.finish_summary();
        }
        if ready == 0 || signals.asked_to_end() {
            return Err(ClientError::Io(std::io::ErrorKind::TimedOut.into()));
        }
    }
}

fn say_end(started: &Started, told: Result<Summary, ClientError>) {
    let run = started.run;
    match told {
        Ok(summary) => eprintln!("crewtap: {}", summary_line(run, &summary)),
        Err(error) => eprintln!("crewtap: run {run}: {error}; what is on record: crewtap show {run}"),
    }
}

fn summary_line(run: RunId, summary: &Summary) -> String {
    let count = |number: u64, one: &str, many: &str| match number {
        1 => format!("1 {one}"),
        number => format!("{number} {many}"),
    };
    let so_far = if summary.complete { "" } else { " so far" };
    let goes_on = match summary.processes {
        0 => String::new(),
        1 => "1 process outlives the command and stays captured; ".into(),
        many => format!("{many} processes outlive the command and stay captured; "),
    };
    let kernel = past_the_proxy(summary.bypassed, summary.dropped, summary.map_full);
    let kernel = if kernel.is_empty() { kernel } else { format!(" ({kernel})") };
    format!(
        "run {run}{so_far}: {}, {}, {} refused, {} held, {}{kernel}; {goes_on}next: crewtap show {run}",
        count(summary.sessions, "session", "sessions"),
        count(summary.exchanges, "exchange", "exchanges"),
        summary.refused,
        summary.held,
        count(summary.alarms, "alarm", "alarms"),
    )
}

/// What the kernel counted beside connections; empty where there was nothing.
pub(super) fn past_the_proxy(bypassed: u64, dropped: u64, map_full: u64) -> String {
    let told = [
        (bypassed, "times past the proxy"),
        (dropped, "packets dropped by the kernel"),
        (map_full, "connections that found no room in the kernel"),
    ];
    let told = told.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}"));
    told.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_tells_all_in_one() {
        let run: RunId = "01J00000000000000000000000".parse().unwrap();
        let summary = Summary { sessions: 1, exchanges: 12, complete: true, ..Summary::default() };
        assert_eq!(
            summary_line(run, &summary),
            "run 01J00000000000000000000000: 1 session, 12 exchanges, 0 refused, 0 held, 0 alarms; \
             next: crewtap show 01J00000000000000000000000"
        );
        let open = Summary { processes: 2, alarms: 1, ..Summary::default() };
        let line = summary_line(run, &open);
        let bypassed = Summary { bypassed: 3, dropped: 2, alarms: 1, ..Summary::default() };
        let told = summary_line(run, &bypassed);
        assert!(told.contains(", 1 alarm (3 times past the proxy, 2 packets dropped by the kernel); "), "{told}");
        assert!(line.contains(" so far: 0 sessions") && line.contains(", 1 alarm; 2 processes outlive"), "{line}");
    }

    #[test]
    fn only_our_own_mounts_tell_that_this_is_a_run() {
        assert!(is_hiding("tmpfs crewtap-hidden ro,size=4k"));
        assert!(!is_hiding("tmpfs tmpfs rw"));
    }
}
