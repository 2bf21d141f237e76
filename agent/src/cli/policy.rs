//! `crewtap policy`: policies before they come into force, and what they said afterwards.
//!
//! Owns the options and where the files come from. Never changes a policy and never judges what is going on.

mod check;
mod explain;
mod recorded;
mod suggest;
#[cfg(test)]
mod tests;
mod trial;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use crewtap_core::policy::catalog::Catalog;
use crewtap_core::policy::rules::{Fault, Rules, SCHEMA};
use crewtap_core::run::Mode;
use crewtap_core::verdict::Effect;

use super::Global;
use super::reindex::bar;
use super::runs::{finish, since};
use super::screen::{Screen, ViewArgs, safe};
use super::show::nothing;
use super::store::{Store, StoreDir};
use crate::config::Config;
use crate::index::{Found, Run};
use crate::rules;

/// Runs that one `policy test` reads.
const RUNS_MAX: usize = 100_000;

/// Check policies, and see what they said or would have said.
#[derive(Args, Clone, Debug)]
pub struct PolicyArgs {
    #[command(subcommand)]
    verb: PolicyVerb,
}

#[derive(Subcommand, Clone, Debug)]
enum PolicyVerb {
    /// Say what is wrong with policy files, and what is likely not meant
    ///
    /// Exit status 1 when an agent would not take them into force.
    Check {
        /// Directories of `*.cedar` files, or such files; what `policy` in crewtap.toml names when it is left out.
        #[arg(value_name = "DIR|FILE")]
        paths: Vec<PathBuf>,
        /// Print JSON Lines: a line for each finding, then the summary.
        #[arg(long)]
        json: bool,
    },
    /// Print the schema that every policy is held against
    Schema,
    /// Say which policies decided on a session or an exchange, and what each of them saw
    Explain {
        /// Any unique prefix of a session's id, or SESSION.N.
        #[arg(value_name = "SESSION|EXCHANGE")]
        id: String,
        /// Policies to explain it by; what `policy` in crewtap.toml names when it is left out.
        #[arg(long, value_name = "DIR|FILE")]
        policies: Vec<PathBuf>,
        #[command(flatten)]
        view: ViewArgs,
    },
    /// Judge what was recorded again, and list each verdict that would be another
    ///
    /// What passed in mode record counts as allowed. Exit status 1 when a verdict would be another.
    Test {
        /// Directories of `*.cedar` files, or such files; what `policy` in crewtap.toml names when it is left out.
        #[arg(value_name = "DIR|FILE")]
        paths: Vec<PathBuf>,
        /// Only this run: any unique prefix of its id.
        #[arg(long, value_name = "RUN", conflicts_with = "since")]
        run: Option<String>,
        /// Only runs that began since then: 90m, 2h, 1d, 2026-11-23, 10:00.
        #[arg(long, value_name = "TIME")]
        since: Option<String>,
        #[command(flatten)]
        view: ViewArgs,
    },
    /// Print the policies under which a run would have passed, to begin with
    Suggest {
        /// Any unique prefix of the run's id.
        run: String,
    },
}

/// Does what a verb says.
///
/// # Errors
/// When files or the store cannot be read; exit status 1 when something is wrong, would differ, or was not found.
pub fn run(args: &PolicyArgs, global: &Global) -> anyhow::Result<ExitCode> {
    let mut out = std::io::stdout().lock();
    match &args.verb {
        PolicyVerb::Check { paths, json } => {
            let config = global.config()?;
            let files = files(paths, &config)?;
            let catalog = config.targets.is_some().then(|| config.catalog()).transpose()?;
            let view = ViewArgs { json: *json, utc: false };
            finish(check::print(&files, &Rules::parse(&files), catalog.as_ref(), &mut Screen::new(&mut out, &view)))
        }
        PolicyVerb::Schema => {
            let mut screen = Screen::new(&mut out, &ViewArgs::default());
            finish(screen.line(SCHEMA).map(|()| true).map_err(Into::into))
        }
        PolicyVerb::Explain { id, policies, view } => {
            let config = global.config()?;
            let store = store(&config)?;
            let rules = files(policies, &config).and_then(|files| parsed(&files));
            finish(explain(&store, id, rules, &mut Screen::new(&mut out, view)))
        }
        PolicyVerb::Test { paths, run, since, view } => {
            let config = global.config()?;
            let rules = parsed(&files(paths, &config)?)?;
            let store = store(&config)?;
            let mut screen = Screen::new(&mut out, view);
            finish(test(&store, &config, &rules, (run.as_deref(), since.as_deref()), &mut screen))
        }
        PolicyVerb::Suggest { run } => {
            let config = global.config()?;
            let store = store(&config)?;
            let mut screen = Screen::new(&mut out, &ViewArgs::default());
            finish(suggest(&store, &config, run, &mut screen))
        }
    }
}

fn store(config: &Config) -> anyhow::Result<Store> {
    let store = StoreDir::new(&config.data_dir).open()?;
    store.tell();
    Ok(store)
}

/// Names and texts of policy files, as the agent would read them.
fn files(paths: &[PathBuf], config: &Config) -> anyhow::Result<Vec<(String, String)>> {
    let configured: Vec<PathBuf> = config.policy.iter().cloned().collect();
    let paths = if paths.is_empty() { &configured } else { paths };
    anyhow::ensure!(!paths.is_empty(), "no policies: name a directory or files, or set `policy` in crewtap.toml");
    let mut files = Vec::new();
    for path in paths {
        if path.is_dir() {
            files.extend(rules::read(path)?);
        } else {
            files.push((name(path), rules::read_file(path)?));
        }
    }
    Ok(files)
}

/// As it is in its directory, so that policies have the same names in both ways.
fn name(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

fn parsed(files: &[(String, String)]) -> anyhow::Result<Rules> {
    Rules::parse(files).map_err(|faults| {
        let told: Vec<String> = faults.iter().map(Fault::to_string).collect();
        anyhow::anyhow!("the policies have faults:\n{}", safe(&told.join("\n")))
    })
}

fn explain(store: &Store, id: &str, rules: anyhow::Result<Rules>, screen: &mut Screen) -> anyhow::Result<bool> {
    let rules = rules.map_err(|error| format!("{error:#}"));
    let rules = rules.as_ref().map_err(String::as_str);
    match store.index.find(id) {
        Ok(Found::Session(session)) => explain::print(store, &session, None, rules, screen),
        Ok(Found::Exchange(exchange)) => {
            let session = store.index.find_session(&exchange.session)?;
            explain::print(store, &session, Some(&exchange), rules, screen)
        }
        Ok(Found::Run(run)) => anyhow::bail!(
            "{} is a run: name one of its sessions or exchanges (`crewtap show {}` lists them)",
            safe(id),
            run.id
        ),
        Err(error) => nothing(error),
    }
}

/// The runs that are asked for, the oldest first; none where there is no such.
fn runs(store: &Store, (run, since): (Option<&str>, Option<i64>)) -> anyhow::Result<Option<Vec<Run>>> {
    match run.map(|typed| store.index.find_run(typed)) {
        Some(Ok(run)) => Ok(Some(vec![run])),
        Some(Err(error)) => nothing(error).map(|_| None),
        None => {
            let mut runs = store.index.runs(since.unwrap_or(0), RUNS_MAX)?;
            runs.reverse();
            Ok(Some(runs))
        }
    }
}

fn test(
    store: &Store,
    config: &Config,
    rules: &Rules,
    (run, time): (Option<&str>, Option<&str>),
    screen: &mut Screen,
) -> anyhow::Result<bool> {
    let from = time.map(|time| since(time, screen)).transpose()?;
    let Some(runs) = runs(store, (run, from))? else { return Ok(false) };
    let catalog = config.catalog()?;
    let journal = store.journal.as_ref().map_err(|error| anyhow::anyhow!("{error}"))?;
    let (first, last) = trial::span(&runs);
    let end = last.map_or_else(|| journal.count().unwrap_or(first), |last| last + 1);
    let bar = bar(end.saturating_sub(first), "records");
    let mut progress = |done| bar.set_position(done);
    let summary = trial::run(journal.as_ref(), &runs, rules, (&catalog, &config.zone), &mut progress, screen);
    bar.finish_and_clear();
    Ok(summary?.differ == 0)
}

fn suggest(store: &Store, config: &Config, run: &str, screen: &mut Screen) -> anyhow::Result<bool> {
    let Some(runs) = runs(store, (Some(run), None))? else { return Ok(false) };
    let catalog: Catalog = config.catalog()?;
    let journal = store.journal.as_ref().map_err(|error| anyhow::anyhow!("{error}"))?;
    let mut suggestion = suggest::Suggestion::default();
    let mut take = |asked| suggestion.take(&asked);
    trial::each(journal.as_ref(), &runs, (&catalog, &config.zone), &mut |_| (), &mut take);
    let id = runs.first().map(|run| run.id.clone()).context("a run was found and is not there")?;
    let place = config.policy.as_ref().map_or_else(
        || "a directory that `policy` in crewtap.toml names".to_owned(),
        |directory| directory.display().to_string(),
    );
    screen.line(&suggestion.text(&id, &place))?;
    Ok(true)
}

fn spelled(effect: Effect) -> &'static str {
    match effect {
        Effect::Allow => "allow",
        Effect::Ask => "ask",
        Effect::Deny => "deny",
    }
}

fn mode(mode: Mode) -> &'static str {
    match mode {
        Mode::Record => "record",
        Mode::Shadow => "shadow",
        Mode::Enforce => "enforce",
    }
}
