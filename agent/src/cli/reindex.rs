//! `crewtap reindex`: the index made anew from the journal.

use std::process::ExitCode;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use super::store::StoreDir;
use crate::index::rebuild;

/// Make the index anew from the journal.
#[derive(clap::Args, Clone, Debug)]
pub struct ReindexArgs {
    /// Print the outcome as JSON.
    #[arg(long)]
    pub json: bool,
}

/// What a reindex did.
#[derive(Debug, serde::Serialize)]
struct Outcome {
    records: u64,
    damaged: u64,
}

/// Rebuilds the index. The old one stays until the new one is whole.
///
/// # Errors
/// When an agent is running or the journal cannot be read; exit status 1 when parts of the journal are damaged.
pub fn run(store: &StoreDir, args: &ReindexArgs) -> anyhow::Result<ExitCode> {
    store.readable()?;
    let journal = store.journal().map_err(anyhow::Error::msg)?;
    let total = journal.count().map_err(anyhow::Error::msg)?;
    let bar = bar(total, "records");
    let mut damaged = 0;
    let records = journal.records(0).filter_map(|record| match record {
        Ok(record) => Some(record),
        Err(error) => {
            damaged += 1;
            bar.suspend(|| eprintln!("crewtap: {}", super::screen::safe(&error)));
            None
        }
    });
    let count = rebuild(store.path(), records, |done| bar.set_position(done))?;
    bar.finish_and_clear();
    if args.json {
        println!("{}", serde_json::to_string(&Outcome { records: count, damaged })?);
    } else {
        println!("{count} records indexed");
    }
    Ok(if damaged == 0 { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

/// A progress bar on stderr; nothing where that is not a terminal.
pub(super) fn bar(total: u64, unit: &str) -> ProgressBar {
    let bar = ProgressBar::new(total);
    let template = format!("{{bar:40}} {{human_pos}}/{{human_len}} {unit}  {{eta}}");
    if let Ok(style) = ProgressStyle::with_template(&template) {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}
