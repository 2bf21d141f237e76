//! An exchange as lines: those of a terminal's screen, or what a command was given and said.
//!
//! Never holds more than a line of each stream.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use crewtap_core::view::letters::Letters;
use serde::Serialize;

use super::super::screen::{Screen, Style, counted, safe, short};
use super::super::store::Evidence;
use crate::replay::commands::Commands;
use crate::replay::lines::{Lines, Told, ended, withheld};
use crate::replay::take::Take;
use crate::replay::tape::{Moment, Stream, Tape, What};

/// Bytes of a line at most; what is longer is printed in parts.
const LINE_BYTES_MAX: usize = 4096;

/// Characters of a command in a heading.
const COMMAND_CHARS: usize = 1000;

/// What of an exchange is wanted.
#[derive(Clone, Copy, Debug, Default)]
pub(in super::super) struct Cut {
    /// Nothing before this: nanoseconds since the beginning.
    pub from_ns: u64,
    /// With times.
    pub times: bool,
}

/// A moment, for programs.
#[derive(Debug, Default, Serialize)]
struct Frame<'m> {
    exchange: &'m str,
    at_us: u64,
    wall_ns: u64,
    leaf: u64,
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    stream: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'m str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    base64: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    columns: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rows: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<&'m str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    len: Option<u64>,
}

/// A command that was read off a screen, for programs.
#[derive(Debug, Serialize)]
struct Guessed<'m> {
    exchange: &'m str,
    at_us: u64,
    wall_ns: u64,
    command: &'m str,
    recovered: bool,
}

/// Prints an exchange.
///
/// # Errors
/// When nothing can be written.
pub(in super::super) fn print(
    evidence: &dyn Evidence,
    take: &Take,
    cut: Cut,
    screen: &mut Screen,
) -> anyhow::Result<()> {
    let tape = Tape::new(evidence, take);
    if screen.json {
        for moment in tape.filter(|moment| moment.at_ns >= cut.from_ns) {
            screen.json(&frame(&take.exchange.id, &moment))?;
        }
        return Ok(());
    }
    heading(take, screen)?;
    if take.terminal.is_some() { terminal(tape, take, cut, screen) } else { command(tape, cut, screen) }
}

fn heading(take: &Take, screen: &mut Screen) -> anyhow::Result<()> {
    let exchange = &take.exchange;
    let text = |text: &Option<String>| text.clone().unwrap_or_else(|| "?".into());
    let terminal =
        take.terminal.as_ref().map(|terminal| format!("  [{} {}x{}]", terminal.term, terminal.columns, terminal.rows));
    let line = format!(
        "exchange {}  {}  {}  {}{}",
        exchange.id,
        screen.time(exchange.started_ns),
        text(&exchange.target),
        text(&exchange.subject),
        terminal.unwrap_or_default()
    );
    Ok(screen.line(&screen.styled(&short(&line, COMMAND_CHARS), Style::Heading))?)
}

fn frame<'m>(exchange: &'m str, moment: &'m Moment) -> Frame<'m> {
    let plain =
        Frame { exchange, at_us: moment.at_ns / 1000, wall_ns: moment.wall_ns, leaf: moment.leaf, ..Frame::default() };
    match &moment.what {
        What::Said { stream, bytes } => {
            let text = std::str::from_utf8(bytes).ok().filter(|text| !text.contains('\0'));
            let base64 = text.is_none().then(|| BASE64_STANDARD.encode(bytes));
            Frame { kind: "said", stream: Some(stream.word()), text, base64, ..plain }
        }
        What::Resized { columns, rows } => {
            Frame { kind: "resized", columns: Some(*columns), rows: Some(*rows), ..plain }
        }
        What::Note { code, text } => Frame { kind: "note", code: Some(code), text: Some(text), ..plain },
        What::Ended { outcome, code } => Frame { kind: "ended", text: Some(outcome), code: code.as_deref(), ..plain },
        What::Withheld { stream, len } => {
            Frame { kind: "withheld", stream: Some(stream.word()), len: Some(*len), ..plain }
        }
        What::Lost(why) => Frame { kind: "lost", text: Some(why), ..plain },
    }
}

/// The lines of a terminal's screen, each with the time at which it was left.
fn terminal(tape: Tape<'_>, take: &Take, cut: Cut, screen: &mut Screen) -> anyhow::Result<()> {
    let mut lines = Lines::new(take)?;
    let mut last_ns = 0;
    for moment in tape {
        last_ns = moment.wall_ns;
        for told in lines.hear(&moment) {
            if moment.at_ns >= cut.from_ns {
                line(&told, moment.wall_ns, screen)?;
            }
        }
    }
    if let Some(rest) = lines.rest() {
        line(&Told::Line(rest), last_ns, screen)?;
    }
    Ok(())
}

fn line(told: &Told, wall_ns: u64, screen: &mut Screen) -> anyhow::Result<()> {
    let time = screen.clock(i64::try_from(wall_ns).unwrap_or(i64::MAX));
    let words = match told {
        Told::Line(text) => return Ok(screen.line(&format!("{time}  {}", safe(text)))?),
        Told::FullScreen => "a program takes the whole screen; `crewtap replay` shows it",
        Told::Back => "it gives the screen back",
        Told::Words(words) => words,
    };
    Ok(screen.line(&screen.styled(&format!("{time}  -- {}", safe(words)), Style::Faint))?)
}

/// A stream of a command, as lines.
#[derive(Debug, Default)]
struct Side {
    letters: Letters,
    line: String,
    /// Bytes that are no text.
    binary: i64,
}

/// What a command was given and what it said, told apart.
struct Sides<'s, 'w> {
    screen: &'s mut Screen<'w>,
    times: bool,
    streams: [Side; 3],
}

fn command(tape: Tape<'_>, cut: Cut, screen: &mut Screen) -> anyhow::Result<()> {
    let mut sides = Sides { screen, times: cut.times, streams: Default::default() };
    let (mut end, mut last_ns) = (None, 0);
    for moment in tape {
        last_ns = moment.wall_ns;
        if moment.at_ns < cut.from_ns && !matches!(moment.what, What::Ended { .. }) {
            continue;
        }
        match moment.what {
            What::Said { stream, bytes } => sides.said(stream, &bytes, last_ns)?,
            What::Ended { outcome, code } => end = Some(ended(&outcome, code.as_deref())),
            What::Note { code, text } => sides.words(&format!("{code}: {text}"), last_ns)?,
            What::Withheld { stream, len } => sides.words(&withheld(stream, len), last_ns)?,
            What::Lost(why) => sides.words(&format!("records are missing here: {why}"), last_ns)?,
            What::Resized { .. } => {}
        }
    }
    for stream in [Stream::Stdin, Stream::Stdout, Stream::Stderr] {
        sides.flush(stream, last_ns)?;
    }
    sides.words(end.as_deref().unwrap_or("no end is on record"), last_ns)
}

impl Sides<'_, '_> {
    fn said(&mut self, stream: Stream, bytes: &[u8], wall_ns: u64) -> anyhow::Result<()> {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let Some(side) = self.streams.get_mut(place(stream)) else { return Ok(()) };
            let text = side.letters.take(piece);
            if text.contains(['\0', char::REPLACEMENT_CHARACTER]) {
                side.binary += i64::try_from(piece.len()).unwrap_or(i64::MAX);
                if !side.line.is_empty() {
                    self.print_line(stream, wall_ns)?;
                }
                continue;
            }
            side.line.push_str(&text);
            let whole = text.ends_with('\n') || side.line.len() > LINE_BYTES_MAX;
            self.binary(stream, wall_ns)?;
            if whole {
                self.print_line(stream, wall_ns)?;
            }
        }
        Ok(())
    }

    fn print_line(&mut self, stream: Stream, wall_ns: u64) -> anyhow::Result<()> {
        let line = self.streams.get_mut(place(stream)).map(|side| std::mem::take(&mut side.line)).unwrap_or_default();
        let line = line.strip_suffix('\n').unwrap_or(&line);
        let line = line.strip_suffix('\r').unwrap_or(line);
        let cells: Vec<_> = line.split('\t').map(safe).collect();
        self.print(stream, &cells.join("\t"), wall_ns)
    }

    /// Tells of bytes that are no text, once they are over.
    fn binary(&mut self, stream: Stream, wall_ns: u64) -> anyhow::Result<()> {
        let count = self.streams.get_mut(place(stream)).map_or(0, |side| std::mem::take(&mut side.binary));
        if count == 0 {
            return Ok(());
        }
        self.print(stream, &format!("({} that are no text)", counted(count, "byte", "bytes")), wall_ns)
    }

    fn flush(&mut self, stream: Stream, wall_ns: u64) -> anyhow::Result<()> {
        self.binary(stream, wall_ns)?;
        let Some(side) = self.streams.get_mut(place(stream)) else { return Ok(()) };
        let rest = side.letters.rest();
        side.line.push_str(&rest);
        if side.line.is_empty() { Ok(()) } else { self.print_line(stream, wall_ns) }
    }

    /// A line whose text was made safe.
    fn print(&mut self, stream: Stream, line: &str, wall_ns: u64) -> anyhow::Result<()> {
        let label = match stream {
            Stream::Keys | Stream::Stdin => "in ",
            Stream::Stderr => "err",
            Stream::Stdout | Stream::Terminal | Stream::Other => "out",
        };
        let time = self.time(wall_ns);
        let label = self.screen.styled(label, Style::Faint);
        Ok(self.screen.line(&format!("{time}{label} | {line}"))?)
    }

    fn words(&mut self, words: &str, wall_ns: u64) -> anyhow::Result<()> {
        let line = format!("{}-- {}", self.time(wall_ns), safe(words));
        Ok(self.screen.line(&self.screen.styled(&line, Style::Faint))?)
    }

    fn time(&self, wall_ns: u64) -> String {
        let time = || format!("{}  ", self.screen.clock(i64::try_from(wall_ns).unwrap_or(i64::MAX)));
        if self.times { time() } else { String::new() }
    }
}

fn place(stream: Stream) -> usize {
    match stream {
        Stream::Keys | Stream::Stdin => 0,
        Stream::Stdout | Stream::Terminal | Stream::Other => 1,
        Stream::Stderr => 2,
    }
}

/// Lists the commands that can be read off a terminal's screen; whether there was one.
///
/// # Errors
/// When nothing can be written.
pub(super) fn commands(evidence: &dyn Evidence, take: &Take, screen: &mut Screen) -> anyhow::Result<bool> {
    if take.terminal.is_none() {
        return Ok(false);
    }
    let mut commands = Commands::new(take)?;
    let mut found = false;
    for moment in Tape::new(evidence, take) {
        for one in commands.hear(&moment) {
            if screen.json {
                let command = one.command.as_str();
                let (at_us, wall_ns) = (one.at_ns / 1000, one.wall_ns);
                screen.json(&Guessed { exchange: &take.exchange.id, at_us, wall_ns, command, recovered: true })?;
            } else {
                if !found {
                    let line = format!("{}  read off the screen: recovered, not proof", take.exchange.id);
                    screen.line(&screen.styled(&line, Style::Heading))?;
                }
                let time = screen.clock(i64::try_from(one.wall_ns).unwrap_or(i64::MAX));
                screen.line(&format!("{time}  {}", safe(&one.command)))?;
            }
            found = true;
        }
    }
    Ok(found)
}
