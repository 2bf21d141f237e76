//! `crewtap masks`: which masks there are, whether they hold, and what they would hide in a text.
//!
//! Never changes a file, and never looks into the store.

mod check;
mod list;
#[cfg(test)]
mod tests;
mod trial;

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read, stdin};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, ensure};
use clap::{Args, Subcommand};
use crewtap_core::mask::rule::{Place, Rule, RuleNumber};
use crewtap_core::mask::set::Masks;
use crewtap_core::policy::catalog::Catalog;
use crewtap_core::target::Resource;

use super::Global;
use super::runs::finish;
use super::screen::{Screen, ViewArgs};
use crate::config::Config;

/// Largest text that one `masks test` reads, in bytes: it is held in memory.
const TEXT_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Check masks, list them, and try them on a text
#[derive(Args, Clone, Debug)]
#[command(after_help = "Examples:\n  \
    crewtap masks list                        what is hidden on this host\n  \
    crewtap masks check masks.toml            whether an agent would take it\n  \
    echo 'card 4111 1111 1111 1111' | crewtap masks test\n  \
    crewtap masks test --target orders-db --where column:note notes.txt")]
pub struct MasksArgs {
    #[command(subcommand)]
    verb: MasksVerb,
}

#[derive(Subcommand, Clone, Debug)]
enum MasksVerb {
    /// Say what is wrong with a file of masks, and where it and the catalog do not agree
    ///
    /// Exit status 1 when an agent would not start with it.
    Check {
        /// The file; what `masks` in crewtap.toml names when it is left out.
        file: Option<PathBuf>,
        /// Print JSON Lines: a line for each fault, then the summary.
        #[arg(long)]
        json: bool,
    },
    /// List the masks: what they look for, where, for whom it is hidden, and for which targets they hold
    List {
        /// Only those in force for this target of the catalog.
        #[arg(long, value_name = "NAME")]
        target: Option<String>,
        /// Print JSON Lines.
        #[arg(long)]
        json: bool,
    },
    /// Print a text with what masks find in it hidden, and a table of the finds
    ///
    /// The text is taken for one field of what a session says. Exit status 1 when nothing was found.
    Test {
        /// The text's file; standard input with `-` or when it is left out.
        #[arg(value_name = "FILE|-")]
        file: Option<PathBuf>,
        /// With the masks in force for this target of the catalog, not those for what is not in it.
        #[arg(long, value_name = "NAME")]
        target: Option<String>,
        /// Take the text for the content of this place, as the rule has it: `column:NAME`, `json:$.PATH`, `header:NAME`.
        #[arg(long = "where", value_name = "PLACE", value_parser = Place::parse)]
        place: Option<Place>,
        /// Print JSON Lines: a line for each find, then the text.
        #[arg(long)]
        json: bool,
    },
}

/// Does what is asked.
///
/// # Errors
/// When a file cannot be read or used; exit status 1 when something is wrong, or nothing was found.
pub fn run(args: &MasksArgs, global: &Global) -> anyhow::Result<ExitCode> {
    let config = global.config()?;
    let mut out = std::io::stdout().lock();
    let (MasksVerb::Check { json, .. } | MasksVerb::List { json, .. } | MasksVerb::Test { json, .. }) = &args.verb;
    let screen = &mut Screen::new(&mut out, &ViewArgs { json: *json, utc: false });
    match &args.verb {
        MasksVerb::Check { file, .. } => {
            let masks = file.clone().or_else(|| config.masks.clone());
            let config = Config { masks, ..config };
            let catalog = config.catalog()?;
            finish(check::print(&config, &catalog, screen))
        }
        MasksVerb::List { target, .. } => {
            let catalog = config.catalog()?;
            let masks = config.masks(&catalog)?;
            finish(list::print(&masks, &catalog, target.as_deref(), screen))
        }
        MasksVerb::Test { file, target, place, .. } => {
            let catalog = config.catalog()?;
            let masks = config.masks(&catalog)?;
            let rules = in_force(&masks, &catalog, target.as_deref())?;
            let text = read(file.as_deref())?;
            finish(trial::print(&masks, (target.as_deref(), &rules), place.as_ref(), &text, screen))
        }
    }
}

/// The rules for a target of the catalog, or for what is not in it.
fn in_force<'m>(
    masks: &'m Masks,
    catalog: &Catalog,
    target: Option<&str>,
) -> anyhow::Result<Vec<(RuleNumber, &'m Rule)>> {
    let Some(name) = target else {
        let tags = BTreeSet::from([Resource::UNCATALOGUED.to_owned()]);
        return Ok(masks.for_target(None, &tags, &[]));
    };
    let entry = catalog.entries().iter().find(|entry| entry.name == name);
    let missing = || format!("the catalog has no target `{name}`: `crewtap targets list` names them");
    let entry = entry.with_context(missing)?;
    Ok(masks.for_target(Some(name), &entry.tags.iter().cloned().collect(), &entry.masks))
}

/// All of a file, or of standard input.
fn read(file: Option<&Path>) -> anyhow::Result<Vec<u8>> {
    let mut text = Vec::new();
    let file = file.filter(|path| *path != Path::new("-"));
    let read = match file {
        Some(path) => File::open(path).and_then(|file| file.take(TEXT_BYTES_MAX + 1).read_to_end(&mut text)),
        None => stdin().take(TEXT_BYTES_MAX + 1).read_to_end(&mut text),
    };
    let name = || file.map_or("standard input".into(), |path| path.display().to_string());
    read.with_context(|| format!("cannot read {}", name()))?;
    ensure!(text.len() as u64 <= TEXT_BYTES_MAX, "{} has more than {TEXT_BYTES_MAX} bytes: give a part of it", name());
    Ok(text)
}
