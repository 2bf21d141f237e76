//! `crewtap search QUERY`: what on record satisfies all terms, with what matched.

use std::process::ExitCode;

use super::runs::{finish, id_len, since};
use super::screen::{Screen, Style, ViewArgs, safe, short};
use super::store::{Store, StoreDir};
use crate::index::{Hit, Query};

/// Characters of what a hit is.
const SUBJECT_CHARS: usize = 100;

/// Search everything on record: words, "a phrase", word*, column:value, and -term to leave out; all must hold.
#[derive(clap::Args, Clone, Debug)]
pub struct SearchArgs {
    /// The terms; quote the whole query to keep phrases together. A word that begins with `-` goes inside quotes with
    /// others, or behind `--`.
    #[arg(required = true, num_args = 1..)]
    pub query: Vec<String>,
    /// Only what happened after this: 90m, 2h, 7d, 2026-11-23, or 2026-11-23T10:00.
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
    /// At most so many results.
    #[arg(long, value_name = "N", default_value_t = 50)]
    pub limit: usize,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub view: ViewArgs,
}

/// Prints what is found.
///
/// # Errors
/// When the query is not in the language or the store cannot be read; exit status 1 when nothing is found.
pub fn run(store: &StoreDir, args: &SearchArgs) -> anyhow::Result<ExitCode> {
    let query: Query = args.query.join(" ").parse()?;
    let store = store.open()?;
    store.tell();
    finish(print(&store, &query, args, &mut Screen::new(&mut std::io::stdout().lock(), &args.view)))
}

pub(super) fn print(store: &Store, query: &Query, args: &SearchArgs, screen: &mut Screen) -> anyhow::Result<bool> {
    let source = |leaf| store.journal.as_ref().ok().and_then(|journal| journal.record(leaf).ok().flatten());
    let since = args.since.as_deref().map(|text| since(text, screen)).transpose()?;
    let hits = store.index.search(query, (since.unwrap_or(0), args.limit), &source)?;
    if screen.json {
        for hit in &hits {
            screen.json(hit)?;
        }
        return Ok(!hits.is_empty());
    }
    if hits.is_empty() {
        screen.line("nothing found")?;
        return Ok(false);
    }
    let ids = hits.iter().flat_map(|hit| [hit.run.as_deref(), hit.session.as_deref()]).flatten();
    let len = id_len(&store.index, ids)?;
    for hit in &hits {
        print_hit(hit, len, screen)?;
    }
    if hits.len() == args.limit {
        screen.line(&format!("the newest {}; --limit N shows more", args.limit))?;
    }
    Ok(true)
}

fn print_hit(hit: &Hit, len: usize, screen: &mut Screen) -> std::io::Result<()> {
    let id = |id: &Option<String>| id.as_deref().unwrap_or("-").chars().take(len).collect::<String>();
    let session = match (&hit.session, hit.n) {
        (Some(_), Some(n)) => format!("  session {}.{n}", id(&hit.session)),
        (Some(_), None) => format!("  session {}", id(&hit.session)),
        _ => String::new(),
    };
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let what = match hit.kind.as_str() {
        "session" => format!("{} {} {}", text(&hit.target), text(&hit.protocol), text(&hit.outcome)),
        "exchange" => {
            format!("{} {} {} {}", text(&hit.target), text(&hit.verb), text(&hit.subject), text(&hit.outcome))
        }
        _ => format!("{} {}", text(&hit.subject), text(&hit.outcome)),
    };
    let line = format!(
        "{}  run {}{session}  {} {}",
        screen.short_time(hit.at_ns),
        id(&hit.run),
        hit.kind,
        short(&what, SUBJECT_CHARS)
    );
    screen.line(&line)?;
    if !hit.marked.is_empty() {
        let snippet: String = hit
            .marked
            .iter()
            .map(|(text, matched)| {
                let text = safe(text);
                if *matched { screen.styled(&text, Style::Match) } else { text.into_owned() }
            })
            .collect();
        screen.line(&format!("    {snippet}"))?;
    }
    Ok(())
}
