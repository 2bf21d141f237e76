//! `crewtap export ID`: an exchange as a file that other programs read.
//!
//! Never exports proofs: a recording that is to convince others needs the journal and its checkpoints.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;

use super::replay::transcript::{self, Cut};
use super::replay::{Chosen, choose, evidence, list};
use super::runs::finish;
use super::screen::{Screen, ViewArgs};
use super::store::{Store, StoreDir};
use crate::replay::asciicast;
use crate::replay::tape::Tape;

/// Write a recorded terminal or command as a file for other programs.
#[derive(clap::Args, Clone, Debug)]
#[command(
    after_help = "asciicast is version 3, for asciinema 3: `asciinema play FILE`. It holds what was drawn and typed, and \
    no proofs: that nothing was changed is told by `crewtap verify` on the store, not by an exported file; \
    a bundle with its proofs cannot be exported yet."
)]
pub struct ExportArgs {
    /// Any unique prefix of a session's id, or SESSION.N.
    pub id: String,
    /// What to write.
    #[arg(long, value_enum)]
    pub format: Format,
    /// The file, which must not be there; standard output without it.
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// The exchange, by its number in the session.
    #[arg(long, value_name = "N")]
    pub exchange: Option<u32>,
    /// Keep escape sequences that do more than draw (titles, clipboard, questions): a player writes them to its terminal.
    #[arg(long)]
    pub raw: bool,
    /// Write times in UTC instead of local time.
    #[arg(long)]
    pub utc: bool,
}

/// A format.
#[derive(clap::ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum Format {
    /// The format of asciinema, version 3.
    Asciicast,
    /// A transcript.
    Text,
}

/// Writes what the id names.
///
/// # Errors
/// When the store cannot be read, the id is ambiguous, or the file cannot be written; exit status 1 when there is nothing to
/// export.
pub fn run(store: &StoreDir, args: &ExportArgs) -> anyhow::Result<ExitCode> {
    let store = store.open()?;
    store.tell();
    let chosen = choose(&store, &args.id, args.exchange)?;
    finish(match &args.output {
        // Nothing is made for what cannot be exported.
        _ if matches!(chosen, Chosen::Nothing) => Ok(false),
        Some(path) => {
            let opened = File::options().write(true).create_new(true).open(path);
            let file = opened.with_context(|| format!("cannot make {}", path.display()))?;
            write(&store, &chosen, args, file)
        }
        None => write(&store, &chosen, args, std::io::stdout().lock()),
    })
}

fn write(store: &Store, chosen: &Chosen, args: &ExportArgs, out: impl Write) -> anyhow::Result<bool> {
    let mut out = BufWriter::new(out);
    let found = export(store, chosen, args, &mut out)?;
    out.flush()?;
    Ok(found)
}

/// Writes what was chosen.
pub(super) fn export(store: &Store, chosen: &Chosen, args: &ExportArgs, out: &mut dyn Write) -> anyhow::Result<bool> {
    let view = ViewArgs { json: false, utc: args.utc };
    let takes = match chosen {
        Chosen::Nothing => return Ok(false),
        Chosen::One(take) => std::slice::from_ref(&**take),
        Chosen::All(takes) if args.format == Format::Text => takes,
        Chosen::List(takes) | Chosen::All(takes) => {
            list(takes, &mut Screen::new(&mut std::io::stderr().lock(), &view))?;
            return Ok(false);
        }
    };
    for take in takes {
        match args.format {
            Format::Asciicast => asciicast::write(take, Tape::new(evidence(store)?, take), args.raw, out)?,
            Format::Text => {
                let cut = Cut { times: true, ..Cut::default() };
                transcript::print(evidence(store)?, take, cut, &mut Screen::plain(out, &view))?;
            }
        }
    }
    Ok(true)
}
