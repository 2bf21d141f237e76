//! `crewtap show ID`: a run, a session or an exchange, with everything on record about it.

use std::process::ExitCode;

use super::runs::finish;
use super::screen::{Screen, ViewArgs, safe};
use super::store::{Store, StoreDir};
use super::stream::Shown;
use super::{show_run, show_session};
use crate::index::{Found, NotFound};

/// Show a run, a session, or an exchange (SESSION.N).
#[derive(clap::Args, Clone, Debug)]
pub struct ShowArgs {
    /// Any unique prefix of a run's or a session's id, or SESSION.N.
    pub id: String,
    /// Show payloads, sessions and processes whole.
    #[arg(long, conflicts_with = "bytes")]
    pub all: bool,
    /// Show the first N bytes of each payload.
    #[arg(long, value_name = "N")]
    pub bytes: Option<u64>,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub view: ViewArgs,
}

/// Prints what the id names.
///
/// # Errors
/// When the store cannot be read or the id is ambiguous; exit status 1 when it names nothing.
pub fn run(store: &StoreDir, args: &ShowArgs) -> anyhow::Result<ExitCode> {
    let store = store.open()?;
    store.tell();
    finish(show(&store, args, &mut Screen::new(&mut std::io::stdout().lock(), &args.view)))
}

pub(super) fn show(store: &Store, args: &ShowArgs, screen: &mut Screen) -> anyhow::Result<bool> {
    let shown = match args.bytes {
        _ if args.all => Shown::All,
        Some(limit) => Shown::Bytes(limit),
        None => Shown::First,
    };
    match store.index.find(&args.id) {
        Ok(Found::Run(run)) => show_run::print(store, &run, args.all, screen)?,
        Ok(Found::Session(session)) => show_session::print(store, &session, shown, screen)?,
        Ok(Found::Exchange(exchange)) => show_session::exchange(store, &exchange, shown, screen)?,
        Err(error) => return nothing(error),
    }
    Ok(true)
}

/// An id that names nothing is an answer; an ambiguous one is wrong use.
pub(super) fn nothing(error: NotFound) -> anyhow::Result<bool> {
    match error {
        NotFound::Nothing { .. } => {
            eprintln!("crewtap: {}", safe(&error.to_string()));
            Ok(false)
        }
        // The candidates are told with what was recorded of them.
        NotFound::Ambiguous { prefix, candidates } => {
            let candidates = candidates.iter().map(|candidate| safe(candidate).into_owned()).collect();
            Err(NotFound::Ambiguous { prefix: safe(&prefix).into_owned(), candidates }.into())
        }
        NotFound::Index(_) => Err(error.into()),
    }
}
