//! The command line: the verbs, their help, and what their exit status means. One file per verb.
//!
//! Never does a verb's work itself.

pub mod agent;
pub mod approvals;
pub mod authority;
mod completions;
mod dialogue;
pub mod export;
mod full_screen;
mod guide;
pub mod login;
pub mod logout;
pub mod masks;
mod message;
pub mod overrides;
mod policy;
mod processes;
pub mod reindex;
pub mod replay;
pub mod run;
pub mod runs;
pub(crate) mod screen;
pub mod search;
pub mod show;
mod show_run;
mod show_session;
mod stage;
pub mod store;
mod stream;
mod table;
pub mod targets;
pub mod timeline;
pub mod verify;
pub mod whoami;

#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory, Parser, Subcommand};

use crate::capture::sys;
use crate::config::{Config, ConfigError};
use crate::selftest;
use agent::Launch;
use store::StoreDir;

/// The agent behind `crewtap agent`: serves until its life ends. Given by the program, so that the command
/// line does not depend on what is behind it.
pub type Serve = fn(&mut Launch) -> anyhow::Result<()>;

/// Exit status of crewtap's own failure where the status belongs to the captured command.
pub const FAILED_RUN: u8 = 125;

/// Exit status of wrong use and of failure.
pub const FAILED: u8 = 2;

/// Records what AI agents on this host do: every outbound connection of a captured program goes through a
/// local proxy and is kept as tamper-evident evidence.
#[derive(Parser, Debug)]
#[command(
    name = "crewtap",
    version,
    max_term_width = 100,
    after_help = "Examples:\n  \
        sudo crewtap run -- crewai run     capture one program: no configuration at all\n  \
        crewtap runs                       what was captured\n  \
        crewtap show RUN                   what a run did\n  \
        crewtap help policy                a guide with examples; also: targets, approvals, identity, masks\n\n\
        Exit status: 0 done or found, 1 nothing found or refused, 2 wrong use or failure; `crewtap run` \
        returns the command's own."
)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    verb: Verb,
}

/// Options of every verb.
#[derive(Args, Debug, Clone)]
pub struct Global {
    /// Configuration file
    ///
    /// Without it, /etc/crewtap/crewtap.toml where there is one; no file means all defaults.
    #[arg(long, value_name = "FILE", env = "CREWTAP_CONFIG", hide_env_values = true, global = true)]
    pub config: Option<PathBuf>,
    /// Where the evidence is kept [default: /var/lib/crewtap]
    #[arg(long, value_name = "DIR", env = "CREWTAP_DATA_DIR", hide_env_values = true, global = true)]
    pub data_dir: Option<PathBuf>,
}

impl Global {
    /// The configuration that these options name.
    ///
    /// # Errors
    /// See [`ConfigError`].
    pub fn config(&self) -> Result<Config, ConfigError> {
        // An empty variable is one that is not set.
        let named = |path: &Option<PathBuf>| path.clone().filter(|path| !path.as_os_str().is_empty());
        Config::load(named(&self.config).as_deref(), named(&self.data_dir).as_deref())
    }
}

#[derive(Subcommand, Debug)]
enum Verb {
    Run(run::RunArgs),
    Agent(agent::AgentArgs),
    Runs(runs::RunsArgs),
    Show(show::ShowArgs),
    Timeline(timeline::TimelineArgs),
    Search(search::SearchArgs),
    Replay(replay::ReplayArgs),
    Export(export::ExportArgs),
    Verify(verify::VerifyArgs),
    Reindex(reindex::ReindexArgs),
    Authority(authority::AuthorityArgs),
    Login(login::LoginArgs),
    Logout(logout::LogoutArgs),
    Whoami(whoami::WhoAmIArgs),
    Approvals(approvals::ApprovalsArgs),
    Override(overrides::OverrideArgs),
    Policy(policy::PolicyArgs),
    Targets(targets::TargetsArgs),
    Masks(masks::MasksArgs),
    #[command(hide = true)]
    SelfTest,
    Completions(completions::CompletionsArgs),
    Man(completions::ManArgs),
    #[command(hide = true)]
    Stage(stage::StageArgs),
    #[command(hide = true)]
    Witness,
}

/// The program: parses the command line and does what it says.
#[must_use]
pub fn main(serve: Serve) -> ExitCode {
    let umask = nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o027)).bits();
    let words: Vec<OsString> = std::env::args_os().collect();
    if let Some(guide) = guide::asked(&words) {
        let printed = for_a_pipe(|| Ok(guide::print(guide).map(|()| ExitCode::SUCCESS)?));
        return printed.unwrap_or_else(|_| ExitCode::from(FAILED));
    }
    let cli = match Cli::try_parse_from(&words) {
        Ok(cli) => cli,
        Err(error) => return usage(&error, &words),
    };
    let (result, failed) = match cli.verb {
        Verb::Run(args) => (run::run(&args, &cli.global, umask), FAILED_RUN),
        Verb::Stage(args) => (stage::run(&args), FAILED_RUN),
        Verb::SelfTest => (Ok(if selftest::child() { ExitCode::SUCCESS } else { ExitCode::FAILURE }), FAILED),
        Verb::Witness => (run::witness::run(), FAILED_RUN),
        Verb::Agent(args) => (agent::run(&args, &cli.global, serve), FAILED),
        Verb::Runs(args) => (in_store(&cli.global, |store| runs::run(store, &args)), FAILED),
        Verb::Show(args) => (in_store(&cli.global, |store| show::run(store, &args)), FAILED),
        Verb::Timeline(args) => (in_store(&cli.global, |store| timeline::run(store, &args)), FAILED),
        Verb::Search(args) => (in_store(&cli.global, |store| search::run(store, &args)), FAILED),
        Verb::Replay(args) => (in_store(&cli.global, |store| replay::run(store, &args)), FAILED),
        Verb::Export(args) => (in_store(&cli.global, |store| export::run(store, &args)), FAILED),
        Verb::Verify(args) => (in_store(&cli.global, |store| verify::run(store, &args)), FAILED),
        Verb::Reindex(args) => (in_store(&cli.global, |store| reindex::run(store, &args)), FAILED),
        Verb::Authority(args) => (in_store(&cli.global, |store| authority::run(store, &args)), FAILED),
        Verb::Login(args) => (login::run(&args, &cli.global), FAILED),
        Verb::Logout(args) => (logout::run(&args, &cli.global), FAILED),
        Verb::Whoami(args) => (for_a_pipe(|| whoami::run(&args, &cli.global)), FAILED),
        Verb::Approvals(args) => (for_a_pipe(|| approvals::run(&args, &cli.global)), FAILED),
        Verb::Override(args) => (for_a_pipe(|| overrides::run(&args, &cli.global)), FAILED),
        Verb::Policy(args) => (for_a_pipe(|| policy::run(&args, &cli.global)), FAILED),
        Verb::Targets(args) => (for_a_pipe(|| targets::run(&cli.global, &args)), FAILED),
        Verb::Masks(args) => (for_a_pipe(|| masks::run(&args, &cli.global)), FAILED),
        Verb::Completions(args) => (for_a_pipe(|| completions::run(&args)), FAILED),
        Verb::Man(args) => (for_a_pipe(|| completions::man(&args)), FAILED),
    };
    result.unwrap_or_else(|error| {
        eprintln!("crewtap: {error:#}");
        ExitCode::from(failed)
    })
}

/// A verb that prints for people: it ends quietly when the reader of its pipe has seen enough.
fn for_a_pipe(verb: impl FnOnce() -> anyhow::Result<ExitCode>) -> anyhow::Result<ExitCode> {
    sys::set_disposition(nix::sys::signal::Signal::SIGPIPE, sys::Disposition::Default)?;
    verb()
}

/// An analyst's verb, on the store that the options name.
fn in_store(global: &Global, verb: impl FnOnce(&StoreDir) -> anyhow::Result<ExitCode>) -> anyhow::Result<ExitCode> {
    let store = StoreDir::new(global.config()?.data_dir);
    for_a_pipe(|| verb(&store))
}

/// Help and version go to standard output with status 0. Wrong use is told apart by verb, because the status
/// of `run` otherwise belongs to the command.
fn usage(error: &clap::Error, words: &[OsString]) -> ExitCode {
    let _broken_pipe = error.print();
    if !error.use_stderr() {
        return ExitCode::SUCCESS;
    }
    if verb_of(words).is_some_and(|verb| verb == "run") { ExitCode::from(FAILED_RUN) } else { ExitCode::from(FAILED) }
}

/// The verb of a command line that could not be parsed.
fn verb_of(words: &[OsString]) -> Option<&OsString> {
    let mut words = words.iter().skip(1);
    loop {
        let word = words.next()?;
        if word == "--config" || word == "--data-dir" {
            words.next()?;
        } else if !word.as_encoded_bytes().starts_with(b"-") {
            return Some(word);
        }
    }
}

/// The command line as clap sees it, for completions and manual pages.
fn command() -> clap::Command {
    Cli::command()
}

#[cfg(test)]
mod consistency {
    #[test]
    fn the_command_line_is_consistent() {
        super::command().debug_assert();
    }

    #[test]
    fn options_of_search_may_follow_its_terms() {
        use clap::Parser;
        let parse = |words: &[&str]| super::Cli::try_parse_from([&["crewtap", "search"], words].concat());
        let super::Verb::Search(args) = parse(&["a", "b", "--json", "--limit", "3"]).unwrap().verb else {
            panic!("another verb");
        };
        assert_eq!((args.query, args.limit, args.view.json), (vec!["a".into(), "b".into()], 3, true));
        assert!(parse(&["a -b"]).is_ok());
        assert!(parse(&["a", "--", "-b"]).is_ok());
    }
}
