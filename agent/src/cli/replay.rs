//! `crewtap replay ID`: a recorded terminal on one's own, with its timing; or what a command said, as a transcript.
//!
//! Owns which exchange is meant and how it is shown. Never sends a recorded byte to the terminal as it is.

mod play;
pub(super) mod transcript;
mod view;

#[cfg(test)]
mod tests;

use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::time::Duration;

use super::runs::{finish, since};
use super::screen::{Screen, Style, ViewArgs, duration, safe, short};
use super::show::nothing;
use super::store::{Evidence, Store, StoreDir};
use crate::index::{Exchange, Found};
use crate::replay::take::Take;

/// Characters of what an exchange is, in a list.
const SUBJECT_CHARS: usize = 100;

/// Exchanges whose transcripts a session shows in a row.
const TRANSCRIPTS_MAX: usize = 1000;

/// Watch a recorded terminal again, or read what a recorded command said.
#[derive(clap::Args, Clone, Debug)]
#[command(
    after_help = "Keys: space pause, + and - speed, left and right 5 s, up and down 1 min, 0 to 9 tenths, . the next \
    moment, / search, n the next hit, q quit.\n\nWithout a terminal on standard output, with --text or --json, a transcript is \
    printed. Other sessions: crewtap show SESSION."
)]
pub struct ReplayArgs {
    /// Any unique prefix of a session's id, SESSION.N, or a run.
    pub id: String,
    /// Play so many times as fast.
    #[arg(long, value_name = "N", default_value_t = 1.0, value_parser = speed)]
    pub speed: f64,
    /// Wait at most so many seconds where nothing happens.
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub idle_max: Option<Duration>,
    /// Begin here: 90, 1:30 or 1m30s after the beginning, or a point in time.
    #[arg(long, value_name = "TIME")]
    pub from: Option<String>,
    /// The exchange, by its number in the session.
    #[arg(long, value_name = "N")]
    pub exchange: Option<u32>,
    /// Print a transcript.
    #[arg(long)]
    pub text: bool,
    /// Print times in the transcript of a command; a terminal's has them always.
    #[arg(long)]
    pub times: bool,
    /// List the commands that were typed, as they can be read off the screen: recovered, not proof.
    #[arg(long)]
    pub commands: bool,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub view: ViewArgs,
}

/// What an id and an exchange's number select.
pub(super) enum Chosen {
    /// One exchange.
    One(Box<Take>),
    /// Several terminals: one must be named.
    List(Vec<Take>),
    /// Commands, one after the other.
    All(Vec<Take>),
    /// Nothing; it was said why.
    Nothing,
}

fn speed(text: &str) -> Result<f64, String> {
    let speed = text.trim_end_matches('x').parse::<f64>().ok().filter(|speed| (0.01..=1000.0).contains(speed));
    speed.ok_or_else(|| "give a number from 0.01 to 1000".into())
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.trim_end_matches('s').parse::<f64>().ok();
    let wait = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    wait.ok_or_else(|| "give a number of seconds, as 2 or 0.5".into())
}

/// Plays or prints what the id names.
///
/// # Errors
/// When the store cannot be read or the id is ambiguous; exit status 1 when there is nothing to play.
pub fn run(store: &StoreDir, args: &ReplayArgs) -> anyhow::Result<ExitCode> {
    let store = store.open()?;
    store.tell();
    let on_screen = std::io::stdout().is_terminal() && std::io::stdin().is_terminal();
    let plain = args.text || args.view.json || args.commands || args.times || !on_screen;
    let chosen = choose(&store, &args.id, args.exchange)?;
    if let (Chosen::One(take), false) = (&chosen, plain)
        && take.terminal.is_some()
    {
        return play::run(evidence(&store)?, take, args);
    }
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    let printed = print(&store, &chosen, args, &mut Screen::new(&mut out, &args.view));
    finish(printed.and_then(|found| Ok(std::io::Write::flush(&mut out).map(|()| found)?)))
}

/// The journal, or why it cannot be read.
pub(super) fn evidence(store: &Store) -> anyhow::Result<&dyn Evidence> {
    store.journal.as_deref().map_err(|why| anyhow::anyhow!("the journal cannot be read: {why}"))
}

/// What is meant. What cannot be played is said on standard error.
pub(super) fn choose(store: &Store, id: &str, exchange: Option<u32>) -> anyhow::Result<Chosen> {
    let (mut exchanges, what) = match store.index.find(id) {
        Ok(Found::Exchange(exchange)) => (vec![*exchange], "exchange"),
        Ok(Found::Session(session)) => (store.index.exchanges(&session.id)?, "session"),
        Ok(Found::Run(run)) => (store.index.exchanges_of_run(&run.id)?, "run"),
        Err(error) => return nothing(error).map(|_| Chosen::Nothing),
    };
    if let Some(n) = exchange {
        exchanges.retain(|one| one.n == i64::from(n));
        anyhow::ensure!(what != "run" || exchanges.len() <= 1, "exchange {n} of which session? name SESSION.{n}");
    }
    let (count, protocol) = (exchanges.len(), exchanges.first().and_then(|one| one.protocol.clone()));
    let mut takes = Vec::new();
    for exchange in exchanges {
        takes.extend(Take::of(&store.index, exchange)?);
    }
    let is_terminal = |take: &Take| take.terminal.is_some();
    if takes.iter().filter(|take| is_terminal(take)).count() == 1 && exchange.is_none() {
        takes.retain(is_terminal);
    }
    Ok(match takes.len() {
        0 => {
            let protocol = protocol.map(|protocol| format!(" of {}", safe(&protocol))).unwrap_or_default();
            let among = if count == 0 { String::new() } else { format!(" among {count} exchanges{protocol}") };
            let id = safe(id);
            eprintln!(
                "crewtap: nothing can be played in this {what}: no terminal and no command{among}; `crewtap show {id}` shows it"
            );
            Chosen::Nothing
        }
        1 => takes.pop().map_or(Chosen::Nothing, |take| Chosen::One(Box::new(take))),
        _ if takes.iter().any(is_terminal) => Chosen::List(takes),
        _ => Chosen::All(takes),
    })
}

fn print(store: &Store, chosen: &Chosen, args: &ReplayArgs, screen: &mut Screen) -> anyhow::Result<bool> {
    let takes = match chosen {
        Chosen::Nothing => return Ok(false),
        Chosen::One(take) => std::slice::from_ref(&**take),
        Chosen::List(takes) if args.commands => takes,
        Chosen::List(takes) => {
            list(takes, screen)?;
            return Ok(true);
        }
        Chosen::All(takes) => takes,
    };
    let mut found = !args.commands;
    for take in takes.iter().take(TRANSCRIPTS_MAX) {
        let from = args.from.as_deref().map(|from| offset(from, &take.exchange, screen)).transpose()?.unwrap_or(0);
        let cut = transcript::Cut { from_ns: from, times: args.times };
        if args.commands {
            found |= transcript::commands(evidence(store)?, take, screen)?;
        } else {
            transcript::print(evidence(store)?, take, cut, screen)?;
        }
    }
    if takes.len() > TRANSCRIPTS_MAX {
        screen.line(&format!("… {} more; name one: SESSION.N", takes.len() - TRANSCRIPTS_MAX))?;
    }
    if !found {
        eprintln!("crewtap: no command can be read off the screen");
    }
    Ok(found)
}

/// What can be played, to choose from.
pub(super) fn list(takes: &[Take], screen: &mut Screen) -> anyhow::Result<()> {
    if screen.json {
        for take in takes {
            screen.json(&take.exchange)?;
        }
        return Ok(());
    }
    screen.line(&screen.styled("several can be played: name one", Style::Heading))?;
    for take in takes {
        let exchange = &take.exchange;
        let terminal = take.terminal.as_ref().map_or_else(
            || "no terminal".into(),
            |terminal| format!("{} {}x{}", safe(&terminal.term), terminal.columns, terminal.rows),
        );
        let subject = exchange.subject.as_deref().unwrap_or("?");
        let line = format!(
            "  {}  {}  {}  {terminal}  {}",
            exchange.id,
            screen.short_time(exchange.started_ns),
            duration(exchange.duration_us),
            short(subject, SUBJECT_CHARS)
        );
        screen.line(&line)?;
    }
    Ok(())
}

/// A point of an exchange, in nanoseconds since its beginning.
fn offset(text: &str, exchange: &Exchange, screen: &Screen) -> anyhow::Result<u64> {
    let parts: Vec<Option<f64>> = text.split(':').map(|part| part.parse().ok()).collect();
    let seconds = parts.iter().try_fold(0.0, |sum: f64, part| part.map(|part| sum.mul_add(60.0, part)));
    if let Some(after) = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()) {
        return Ok(u64::try_from(after.as_nanos()).unwrap_or(u64::MAX));
    }
    if let Ok(after) = text.parse::<jiff::SignedDuration>() {
        return Ok(u64::try_from(after.as_nanos()).unwrap_or_default());
    }
    let at = since(text, screen)?.saturating_sub(exchange.started_ns.unwrap_or_default());
    Ok(u64::try_from(at).unwrap_or_default())
}
