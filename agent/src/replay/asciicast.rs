//! A terminal's exchange as an asciicast, version 3: the format of asciinema.
//!
//! Players write it to a terminal: unless the record is asked for as it is, only what draws is left in it.

use std::io;
use std::time::Duration;

use avt::parser::{DecModes, Function, Parser, State};
use crewtap_core::view::letters::Letters;
use serde_json::json;

use super::take::Take;
use super::tape::{Stream, Tape, What};
use crate::cli::screen::{Screen, ViewArgs, is_unsafe, safe};

/// Characters of one escape sequence at most; what is longer is none that draws.
const SEQUENCE_MAX: usize = 256;

/// Writes an exchange.
///
/// # Errors
/// When it cannot be written, or the exchange has no terminal.
pub fn write(take: &Take, tape: Tape<'_>, as_recorded: bool, out: &mut dyn io::Write) -> io::Result<()> {
    let no_terminal = || io::Error::other("it has no terminal: `--format text` exports its transcript");
    let terminal = take.terminal.as_ref().ok_or_else(no_terminal)?;
    let exchange = &take.exchange;
    let subject = exchange.subject.as_deref().unwrap_or_default();
    let header = json!({
        "version": 3,
        "term": { "cols": terminal.columns, "rows": terminal.rows, "type": terminal.term },
        "timestamp": tape.began_ns() / 1_000_000_000,
        "title": format!("{} {}: {subject}", exchange.id, exchange.target.as_deref().unwrap_or("?")),
        "tags": ["crewtap"],
    });
    let mut cast = Cast { screen: Screen::plain(out, &ViewArgs { json: true, utc: true }), last_us: 0 };
    cast.screen.json(&header)?;
    let (mut shown, mut typed) = (Text::new(as_recorded), Text::new(as_recorded));
    let (mut end, mut last_ns) = (None, 0);
    for moment in tape {
        last_ns = moment.at_ns;
        match moment.what {
            What::Said { stream: Stream::Terminal, bytes } => cast.event(last_ns, "o", &shown.take(&bytes))?,
            // Keys are no drawing, and no player writes them.
            What::Said { stream: Stream::Keys, bytes } => cast.event(last_ns, "i", &typed.letters.take(&bytes))?,
            What::Said { .. } => {}
            What::Resized { columns, rows } => cast.event(last_ns, "r", &format!("{columns}x{rows}"))?,
            What::Ended { outcome, code } => end = Some((outcome, code)),
            What::Note { code, text } => cast.comment(&format!("{code}: {text}"))?,
            What::Withheld { stream, len } => cast.comment(&super::lines::withheld(stream, len))?,
            What::Lost(why) => cast.comment(&format!("records are missing here: {why}"))?,
        }
    }
    cast.event(last_ns, "o", &shown.letters.rest())?;
    match end {
        // Output may have come behind the exit status: the last word is its.
        Some((_, Some(code))) if code.parse::<u32>().is_ok() => cast.event(last_ns, "x", &code),
        Some((outcome, code)) => cast.comment(&super::lines::ended(&outcome, code.as_deref())),
        None => cast.comment("no end is on record"),
    }
}

/// What is written.
struct Cast<'w> {
    screen: Screen<'w>,
    last_us: u64,
}

impl Cast<'_> {
    fn event(&mut self, at_ns: u64, code: &str, text: &str) -> io::Result<()> {
        if text.is_empty() {
            return Ok(());
        }
        // From the event before, without what rounding would add up to.
        let at_us = at_ns / 1000;
        let interval = Duration::from_micros(at_us.saturating_sub(self.last_us)).as_secs_f64();
        self.last_us = at_us;
        self.screen.json(&(interval, code, text))
    }

    fn comment(&mut self, text: &str) -> io::Result<()> {
        self.screen.line(&format!("# {}", safe(text)))
    }
}

/// Letters of a stream, and of these what draws.
struct Text {
    letters: Letters,
    sieve: Option<Sieve>,
}

impl Text {
    fn new(as_recorded: bool) -> Self {
        Self { letters: Letters::default(), sieve: (!as_recorded).then(Sieve::default) }
    }

    fn take(&mut self, bytes: &[u8]) -> String {
        let text = self.letters.take(bytes);
        match &mut self.sieve {
            Some(sieve) => sieve.take(&text),
            None => text,
        }
    }
}

/// Lets pass what draws on a screen: no titles, clipboards, questions that a terminal would answer, sizes, or modes of keyboard
/// and mouse.
#[derive(Debug, Default)]
pub struct Sieve {
    parser: Parser,
    /// A sequence that is not complete.
    held: String,
}

impl Sieve {
    /// What draws, of the next piece.
    pub fn take(&mut self, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        for letter in text.chars() {
            if letter == '\u{1b}' || ('\u{80}'..='\u{9f}').contains(&letter) {
                self.held.clear();
            }
            if self.held.len() < SEQUENCE_MAX {
                self.held.push(letter);
            }
            let function = self.parser.feed(letter);
            let complete = self.parser.state == State::Ground;
            match function {
                Some(function) if complete && self.held.len() < SEQUENCE_MAX => {
                    out.push_str(&drawn(&function, &self.held));
                }
                Some(_) if complete => {}
                // A control character within a sequence is obeyed at once.
                Some(function) => {
                    self.held.pop();
                    let mut own = [0; 4];
                    out.push_str(&drawn(&function, letter.encode_utf8(&mut own)));
                }
                None => {}
            }
            if complete {
                self.held.clear();
            }
        }
        out
    }
}

/// What of a function draws; `written` is how it was written.
fn drawn(function: &Function, written: &str) -> String {
    match function {
        Function::Osc(_) | Function::Xtwinops(_) => String::new(),
        Function::Print(letter) if is_unsafe(*letter) => char::REPLACEMENT_CHARACTER.into(),
        // Beside modes that draw there may be others.
        Function::Decset(modes) => set(modes, 'h'),
        Function::Decrst(modes) => set(modes, 'l'),
        _ => written.to_owned(),
    }
}

/// Modes as they are written.
fn set(modes: &DecModes, how: char) -> String {
    modes.as_slice().iter().fold(String::new(), |out, mode| format!("{out}\u{1b}[?{}{how}", *mode as u16))
}
