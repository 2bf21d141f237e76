//! What reaches the terminal: safe text, times, sizes, colour only where it is wanted, JSON Lines.
//!
//! Recorded bytes are hostile: nothing that was recorded may move a cursor, change a title, or turn text around.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Serialize;

/// How the verbs that show something are asked to show it.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct ViewArgs {
    /// Print JSON Lines; field names are the index's columns.
    #[arg(long)]
    pub json: bool,
    /// Print times in UTC instead of local time.
    #[arg(long)]
    pub utc: bool,
}

/// Where a verb prints, and how.
pub struct Screen<'w> {
    out: &'w mut dyn Write,
    colour: bool,
    zone: TimeZone,
    /// JSON Lines instead of text.
    pub json: bool,
}

/// A style that means something, not a colour.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Style {
    /// A heading.
    Heading,
    /// Something an analyst must see.
    Alarm,
    /// What matched a search.
    Match,
    /// Beside the point.
    Faint,
}

impl<'w> Screen<'w> {
    /// A screen that prints as asked; colour only on a terminal without `NO_COLOR`.
    pub fn new(out: &'w mut dyn Write, view: &ViewArgs) -> Self {
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        let colour = wanted && !dumb && !view.json && io::stdout().is_terminal();
        let zone = if view.utc { TimeZone::UTC } else { TimeZone::system() };
        Self { out, colour, zone, json: view.json }
    }

    /// The same for a file: no colour.
    pub fn plain(out: &'w mut dyn Write, view: &ViewArgs) -> Self {
        Self { colour: false, ..Self::new(out, view) }
    }

    /// The zone of the times.
    pub fn zone(&self) -> &TimeZone {
        &self.zone
    }

    /// Prints a line whose recorded parts were made safe by [`safe`].
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn line(&mut self, line: &str) -> io::Result<()> {
        writeln!(self.out, "{}", line.trim_end())
    }

    /// Prints one JSON line; control and direction characters are escaped beyond what JSON asks for.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn json(&mut self, value: &impl Serialize) -> io::Result<()> {
        let text = serde_json::to_string(value).map_err(io::Error::other)?;
        let mut line = String::with_capacity(text.len());
        for c in text.chars() {
            if is_unsafe(c) {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    // Writing to a String does not fail.
                    let _ = write!(line, "\\u{unit:04x}");
                }
            } else {
                line.push(c);
            }
        }
        writeln!(self.out, "{line}")
    }

    /// A text in a style, where there is colour.
    #[must_use]
    pub fn styled(&self, text: &str, style: Style) -> String {
        if !self.colour || text.is_empty() {
            return text.to_owned();
        }
        let code = match style {
            Style::Heading => "1",
            Style::Alarm => "1;31",
            Style::Match => "1;33",
            Style::Faint => "2",
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }

    /// A time to the millisecond, with its zone's offset.
    #[must_use]
    pub fn time(&self, ns: Option<i64>) -> String {
        self.formatted(ns, "%Y-%m-%d %H:%M:%S%.3f %:z")
    }

    /// A time to the second, for tables.
    #[must_use]
    pub fn short_time(&self, ns: Option<i64>) -> String {
        self.formatted(ns, "%Y-%m-%d %H:%M:%S")
    }

    /// The time of day to the millisecond, for lines of one run.
    #[must_use]
    pub fn clock(&self, ns: i64) -> String {
        self.formatted(Some(ns), "%H:%M:%S%.3f")
    }

    fn formatted(&self, ns: Option<i64>, format: &str) -> String {
        let stamp = ns.and_then(|ns| Timestamp::from_nanosecond(i128::from(ns)).ok());
        stamp.map_or_else(|| "-".into(), |stamp| stamp.to_zoned(self.zone.clone()).strftime(format).to_string())
    }
}

/// A text in one line that no terminal takes for more than text. Controls and characters that hide or turn text are
/// spelled out; everything else stays as it is.
#[must_use]
pub fn safe(text: &str) -> Cow<'_, str> {
    if !text.contains(is_unsafe) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if !is_unsafe(c) => out.push(c),
            // Writing to a String does not fail.
            c if c.is_ascii() => drop(write!(out, "\\x{:02x}", u32::from(c))),
            c => drop(write!(out, "\\u{{{:x}}}", u32::from(c))),
        }
    }
    Cow::Owned(out)
}

/// Control characters, and format characters: invisible ones, separators of lines, and those that turn direction.
#[must_use]
pub fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{600}'..='\u{605}' | '\u{61c}' | '\u{6dd}' | '\u{70f}' | '\u{180e}'
            | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
}

/// A text in one line of at most so many characters.
#[must_use]
pub fn short(text: &str, max: usize) -> String {
    let text = safe(text);
    if text.chars().count() <= max {
        return text.into_owned();
    }
    text.chars().take(max.saturating_sub(1)).chain(['…']).collect()
}

/// A number of bytes.
#[must_use]
pub fn bytes(count: i64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if count < 1024 {
        return format!("{count} B");
    }
    // Two digits behind the point are all that is shown of it.
    #[allow(clippy::cast_precision_loss)]
    let mut value = count as f64 / 1024.0;
    let mut unit = UNITS[0];
    for next in &UNITS[1..] {
        if value < 1024.0 {
            break;
        }
        value /= 1024.0;
        unit = next;
    }
    if value < 10.0 { format!("{value:.1} {unit}") } else { format!("{value:.0} {unit}") }
}

/// A duration from microseconds.
#[must_use]
pub fn duration(us: Option<i64>) -> String {
    let Some(us) = us else { return "-".into() };
    let (ms, s) = (us / 1000, us / 1_000_000);
    match s {
        _ if us < 1000 => format!("{us} µs"),
        0 => format!("{}.{} ms", ms, us % 1000 / 100),
        1..60 => format!("{}.{:02} s", s, ms % 1000 / 10),
        60..3600 => format!("{} min {:02} s", s / 60, s % 60),
        _ => format!("{} h {:02} min", s / 3600, s % 3600 / 60),
    }
}

/// A count with its noun.
#[must_use]
pub fn counted(count: i64, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn hostile_text_is_spelled_out() {
        assert_eq!(safe("a\x1b]0;owned\x07b\u{9b}2J\u{202e}c\r\n"), "a\\x1b]0;owned\\x07b\\u{9b}2J\\u{202e}c\\r\\n");
        assert_eq!(safe("grüße 日本 👍"), "grüße 日本 👍");
    }

    #[test]
    fn sizes_and_durations_read_well() {
        let sizes = [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (70_000, "68 KiB"), (5 << 30, "5.0 GiB")];
        for (count, shown) in sizes {
            assert_eq!(bytes(count), shown);
        }
        let durations = [
            (7, "7 µs"),
            (1500, "1.5 ms"),
            (1_234_567, "1.23 s"),
            (61_000_000, "1 min 01 s"),
            (3_660_000_000, "1 h 01 min"),
        ];
        for (us, shown) in durations {
            assert_eq!(duration(Some(us)), shown);
        }
    }

    proptest! {
        #[test]
        fn nothing_unsafe_passes(text in any::<String>()) {
            prop_assert!(!safe(&text).contains(is_unsafe));
            prop_assert!(!short(&text, 20).contains(is_unsafe));
        }

        #[test]
        fn json_lines_are_safe_and_mean_the_same(text in any::<String>()) {
            let mut out = Vec::new();
            Screen::new(&mut out, &ViewArgs { json: true, utc: true }).json(&text).unwrap();
            let line = String::from_utf8(out).unwrap();
            prop_assert!(!line.trim_end_matches('\n').contains(is_unsafe));
            prop_assert_eq!(serde_json::from_str::<String>(&line).unwrap(), text);
        }
    }
}
