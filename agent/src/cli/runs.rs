//! `crewtap runs`: the runs on record, the newest first.

use std::io::Write;
use std::process::ExitCode;

use jiff::{Timestamp, Zoned, civil};

use super::screen::{Screen, ViewArgs, bytes, duration, short};
use super::store::{Store, StoreDir};
use super::table::{Align, Table};
use crate::index::{Index, IndexError, Run};

/// Characters of a command that a table shows.
const COMMAND_CHARS: usize = 60;

/// List the runs on record, the newest first.
#[derive(clap::Args, Clone, Debug)]
pub struct RunsArgs {
    /// Only runs that started after this: 90m, 2h, 1d, 2026-11-23, or 2026-11-23T10:00.
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
    /// Only runs of this person: user, e-mail address or identity; `*` stands for anything.
    #[arg(long, value_name = "WHO")]
    pub identity: Option<String>,
    /// Only runs of members of this group: oidc:NAME:GROUP, os:GROUP, or its last part.
    #[arg(long, value_name = "GROUP")]
    pub group: Option<String>,
    /// At most so many.
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub limit: usize,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub view: ViewArgs,
}

/// Prints the runs.
///
/// # Errors
/// When the store cannot be read; exit status 1 when there are none.
pub fn run(store: &StoreDir, args: &RunsArgs) -> anyhow::Result<ExitCode> {
    let store = store.open()?;
    store.tell();
    finish(list(&store, args, &mut Screen::new(&mut std::io::stdout().lock(), &args.view)))
}

/// Prints a verb's notices where they do not mix with its output.
impl Store {
    /// Tells the notices on stderr.
    pub(super) fn tell(&self) {
        for notice in &self.notices {
            let _ = writeln!(std::io::stderr(), "crewtap: {notice}");
        }
    }
}

/// The exit status of a verb that printed: found or not. A reader that went away (`| head`) is no failure.
pub(super) fn finish(found: anyhow::Result<bool>) -> anyhow::Result<ExitCode> {
    match found {
        Ok(found) => Ok(if found { ExitCode::SUCCESS } else { ExitCode::from(1) }),
        Err(error) if is_broken_pipe(&error) => Ok(ExitCode::SUCCESS),
        Err(error) => Err(error),
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}

pub(super) fn list(store: &Store, args: &RunsArgs, screen: &mut Screen) -> anyhow::Result<bool> {
    let since = args.since.as_deref().map(|text| since(text, screen)).transpose()?;
    let (who, group) = (args.identity.as_deref(), args.group.as_deref());
    let runs = store.index.runs_of(since.unwrap_or(0), who, group, args.limit)?;
    if screen.json {
        for run in &runs {
            screen.json(run)?;
        }
        return Ok(!runs.is_empty());
    }
    if runs.is_empty() {
        let of = if who.is_some() || group.is_some() { "no such runs" } else { "no runs" };
        screen.line(&format!("{of} {}", if since.is_some() { "since then" } else { "on record" }))?;
        return Ok(false);
    }
    table(&store.index, &runs, screen)?.print(screen)?;
    if runs.len() == args.limit {
        screen.line(&format!("the newest {}; --limit N shows more", args.limit))?;
    }
    Ok(true)
}

fn table(index: &Index, runs: &[Run], screen: &Screen) -> Result<Table, IndexError> {
    let mut table = Table::new(&[
        ("RUN", Align::Left),
        ("STARTED", Align::Left),
        ("DURATION", Align::Right),
        ("WHO", Align::Left),
        ("NAME", Align::Left),
        ("COMMAND", Align::Left),
        ("STATUS", Align::Left),
        ("SESSIONS", Align::Right),
        ("REFUSED", Align::Right),
        ("UP", Align::Right),
        ("DOWN", Align::Right),
        ("COMPLETE", Align::Left),
    ]);
    let len = id_len(index, runs.iter().map(|run| run.id.as_str()))?;
    for run in runs {
        table.row([
            run.id.chars().take(len).collect(),
            screen.short_time(run.started_ns),
            duration(run.duration_us),
            run.identity_name.clone().unwrap_or_else(|| "?".into()),
            run.name.clone().unwrap_or_default(),
            short(run.command.as_deref().unwrap_or("?"), COMMAND_CHARS),
            status(run),
            run.sessions.to_string(),
            run.refused.to_string(),
            bytes(run.bytes_up),
            bytes(run.bytes_down),
            complete(run).into(),
        ]);
    }
    Ok(table)
}

/// Characters of an id that name each of these among all.
pub(super) fn id_len<'i>(index: &Index, ids: impl Iterator<Item = &'i str>) -> Result<usize, IndexError> {
    let mut len = 0;
    for id in ids {
        len = len.max(index.unique_len(id)?);
    }
    Ok(len)
}

/// How a run ended, in a word or two.
pub(super) fn status(run: &Run) -> String {
    match (run.outcome.as_deref(), run.status) {
        (None, _) => "open".into(),
        (Some("exited"), Some(status)) => format!("exit {status}"),
        (Some(outcome), Some(status)) => format!("{outcome}, exit {status}"),
        (Some(outcome), None) => outcome.into(),
    }
}

/// Whether everything that the kernel saw is on record.
pub(super) fn complete(run: &Run) -> &'static str {
    match run.complete {
        Some(true) if run.bypasses == 0 => "yes",
        Some(true) => "bypassed",
        Some(false) => "NO",
        None if run.outcome.as_deref() == Some("lost") => "lost",
        None => "not counted",
    }
}

/// A point in time: how long ago, or a date, with or without a time of day.
pub(super) fn since(text: &str, screen: &Screen) -> anyhow::Result<i64> {
    let zone = screen.zone().clone();
    let zoned = if let Ok(span) = text.parse::<jiff::Span>() {
        Zoned::now().with_time_zone(zone).checked_sub(if span.is_negative() { -span } else { span })?
    } else if let Ok(stamp) = text.parse::<Timestamp>() {
        stamp.to_zoned(zone)
    } else if let Ok(date_time) = text.parse::<civil::DateTime>() {
        date_time.to_zoned(zone)?
    } else if let Ok(time) = text.parse::<civil::Time>() {
        Zoned::now().with_time_zone(zone).date().to_datetime(time).to_zoned(screen.zone().clone())?
    } else {
        anyhow::bail!("`{text}` is no time: give 90m, 2h, 1d, 2026-11-23, 2026-11-23T10:00 or 10:00")
    };
    Ok(i64::try_from(zoned.timestamp().as_nanosecond()).unwrap_or(i64::MAX))
}
