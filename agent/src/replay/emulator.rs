//! The screen of a terminal, emulated.
//!
//! Takes bytes that were recorded and gives letters in cells: what else the bytes would do to a terminal (its clipboard, its
//! title, its answers, its size) is swallowed here.

use avt::{Cell, InvalidSize, Line, ScreenKind};
use crewtap_core::view::letters::Letters;
use unicode_width::UnicodeWidthChar;

use crate::cli::screen::is_unsafe;

/// Columns and rows at most: a client may claim any size.
const SIZE_MAX: (u32, u32) = (500, 200);

/// A screen, and what its stream has begun and not ended.
#[derive(Debug)]
pub struct Emulator {
    terminal: Terminal,
    letters: Letters,
}

/// Keeps `Debug` of what holds it short.
struct Terminal(avt::Terminal);

impl std::fmt::Debug for Terminal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Terminal{:?}", self.0.size())
    }
}

/// A screen that can be gone back to.
#[derive(Clone, Debug)]
pub struct Kept {
    size: (usize, usize),
    dump: String,
    letters: Letters,
}

impl Kept {
    /// Bytes that it holds.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.dump.len()
    }
}

/// A size within bounds.
fn bounded(columns: u32, rows: u32) -> (usize, usize) {
    let of = |value: u32, max: u32| usize::try_from(value.clamp(1, max)).unwrap_or(1);
    (of(columns, SIZE_MAX.0), of(rows, SIZE_MAX.1))
}

impl Emulator {
    /// An empty screen; a size beyond what can be shown is cut.
    ///
    /// # Errors
    /// Never in practice: no size is zero.
    pub fn new(columns: u32, rows: u32) -> Result<Self, InvalidSize> {
        let (columns, rows) = bounded(columns, rows);
        Ok(Self { terminal: Terminal(avt::Terminal::new(columns, rows)?), letters: Letters::default() })
    }

    /// A screen as it was.
    ///
    /// # Errors
    /// Never in practice: a kept size was one.
    pub fn of(kept: &Kept) -> Result<Self, InvalidSize> {
        let mut terminal = avt::Terminal::new(kept.size.0, kept.size.1)?;
        terminal.feed(kept.dump.as_str());
        Ok(Self { terminal: Terminal(terminal), letters: kept.letters.clone() })
    }

    /// The screen, to come back to it.
    #[must_use]
    pub fn kept(&self) -> Kept {
        Kept { size: self.terminal.0.size(), dump: self.terminal.0.dump(), letters: self.letters.clone() }
    }

    /// The screen gets bytes.
    pub fn feed(&mut self, bytes: &[u8]) {
        let text = self.letters.take(bytes);
        self.terminal.0.feed(text.as_str());
    }

    /// The screen gets bytes, watched.
    pub fn feed_with<O: avt::Observer>(&mut self, bytes: &[u8], observer: O) -> O::Output {
        let text = self.letters.take(bytes);
        self.terminal.0.feed_with(text.as_str(), observer)
    }

    /// The screen gets another size.
    pub fn resize(&mut self, columns: u32, rows: u32) {
        let (columns, rows) = bounded(columns, rows);
        self.terminal.0.resize(columns, rows);
    }

    /// Columns and rows.
    #[must_use]
    pub fn size(&self) -> (usize, usize) {
        self.terminal.0.size()
    }

    /// The screen itself.
    #[must_use]
    pub fn terminal(&self) -> &avt::Terminal {
        &self.terminal.0
    }

    /// Whether a program has the whole screen for itself.
    #[must_use]
    pub fn is_alternate(&self) -> bool {
        self.terminal.0.active_screen_kind() == ScreenKind::Alternate
    }

    /// Column and row of the cursor, where it is shown.
    #[must_use]
    pub fn cursor(&self) -> Option<(usize, usize)> {
        self.terminal.0.cursor().position()
    }

    /// The rows that are seen.
    pub fn lines(&self) -> impl Iterator<Item = &Line> {
        self.terminal.0.screen().visible_lines()
    }

    /// The same as text.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        for line in self.lines() {
            text.push_str(line_text(line).trim_end());
            text.push('\n');
        }
        text
    }
}

/// The letters of a row.
#[must_use]
pub fn line_text(line: &Line) -> String {
    line.cells().iter().filter(|cell| cell.width() > 0).map(letter).collect()
}

/// The letter of a cell; what is none, or is not as wide as its cell, is told by U+FFFD.
#[must_use]
pub fn letter(cell: &Cell) -> char {
    let letter = cell.char();
    let fits = letter.width() == Some(usize::from(cell.width()));
    if fits && !is_unsafe(letter) { letter } else { char::REPLACEMENT_CHARACTER }
}
