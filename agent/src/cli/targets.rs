//! `crewtap targets`: what the catalog says, whether it holds, and what a run would have it say.
//!
//! Never shows a secret, and changes no file.

mod check;
mod suggest;

use std::process::ExitCode;

use clap::Subcommand;
use crewtap_core::policy::catalog::{Catalog, Entry, HostPattern};
use crewtap_core::run::Mode;
use serde::Serialize;

use super::Global;
use super::runs::finish;
use super::screen::{Screen, ViewArgs};
use super::store::StoreDir;
use super::table::{Align, Table};

/// List, check and suggest targets of the catalog
#[derive(clap::Args, Clone, Debug)]
#[command(after_help = "Examples:\n  \
    crewtap targets list                what the catalog knows\n  \
    sudo crewtap targets check api      dial it, verify it, read its secret, log in\n  \
    crewtap targets suggest RUN         entries for what a run used")]
pub struct TargetsArgs {
    #[command(subcommand)]
    verb: TargetsVerb,
}

#[derive(Subcommand, Clone, Debug)]
enum TargetsVerb {
    /// List the targets of the catalog, in its order
    List {
        #[command(flatten)]
        view: ViewArgs,
    },
    /// Dial each target that has an address, verify it, read its secret, and log in where that is what a secret is for
    ///
    /// Nothing is asked of a target but a handshake, and of a database a log-in. Exit status 1 when something is wrong.
    Check {
        /// Only this target
        name: Option<String>,
        #[command(flatten)]
        view: ViewArgs,
    },
    /// Write entries, as comments, for the targets that a run used
    Suggest {
        /// The run, by any unique beginning of its id
        run: String,
    },
}

/// Does what is asked.
///
/// # Errors
/// When the catalog or the store cannot be read.
pub fn run(global: &Global, args: &TargetsArgs) -> anyhow::Result<ExitCode> {
    let config = global.config()?;
    match &args.verb {
        TargetsVerb::List { view } => {
            finish(list(&config.catalog()?, view, &mut Screen::new(&mut std::io::stdout().lock(), view)))
        }
        TargetsVerb::Check { name, view } => {
            let catalog = config.catalog()?;
            finish(check::run(&config, &catalog, name.as_deref(), view))
        }
        TargetsVerb::Suggest { run } => {
            let store = StoreDir::new(config.data_dir).open()?;
            store.tell();
            let text = suggest::of(&store, run)?;
            print!("{text}");
            Ok(if text.is_empty() { ExitCode::from(1) } else { ExitCode::SUCCESS })
        }
    }
}

/// One target of a list.
#[derive(Debug, Serialize)]
struct Row {
    name: String,
    protocol: String,
    hosts: Vec<String>,
    networks: Vec<String>,
    ports: Vec<u16>,
    mode: Option<Mode>,
    tags: Vec<String>,
    /// Where its secrets go, and where they are.
    credentials: Vec<String>,
}

impl Row {
    fn of(entry: &Entry) -> Self {
        let log_in = entry.credential.as_ref().map(|credential| match credential.place() {
            Some(secret) => format!("{} ({secret})", credential.user),
            None => credential.user.clone(),
        });
        let injections = entry.injections.iter().map(|injection| format!("{} ({})", injection.form, injection.secret));
        Self {
            name: entry.name.clone(),
            protocol: entry.protocol.clone(),
            hosts: entry.hosts.iter().map(HostPattern::to_string).collect(),
            networks: entry.networks.iter().map(ToString::to_string).collect(),
            ports: entry.ports.clone(),
            mode: entry.mode,
            tags: entry.tags.clone(),
            credentials: log_in.into_iter().chain(injections).collect(),
        }
    }
}

fn list(catalog: &Catalog, view: &ViewArgs, screen: &mut Screen<'_>) -> anyhow::Result<bool> {
    let mut table = Table::new(&[
        ("TARGET", Align::Left),
        ("PROTOCOL", Align::Left),
        ("MATCH", Align::Left),
        ("PORTS", Align::Left),
        ("MODE", Align::Left),
        ("TAGS", Align::Left),
        ("CREDENTIALS", Align::Left),
    ]);
    for row in catalog.entries().iter().map(Row::of) {
        if view.json {
            screen.json(&row)?;
            continue;
        }
        let ports: Vec<String> = row.ports.iter().map(u16::to_string).collect();
        let place = [row.hosts, row.networks].concat().join(" ");
        let mode = match row.mode {
            Some(Mode::Record) => "record",
            Some(Mode::Shadow) => "shadow",
            Some(Mode::Enforce) => "enforce",
            None => "",
        };
        table.row([
            row.name,
            row.protocol,
            place,
            ports.join(" "),
            mode.to_owned(),
            row.tags.join(" "),
            row.credentials.join(", "),
        ]);
    }
    if !view.json && !catalog.entries().is_empty() {
        table.print(screen)?;
    }
    Ok(!catalog.entries().is_empty())
}

#[cfg(test)]
mod tests;
