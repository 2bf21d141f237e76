//! A terminal's stream as the lines that stood on its screen, each when its cursor left it.
//!
//! Full-screen programs draw no lines: that there was one is told. Holds one screen and one line.

use avt::parser::Function;
use avt::{InvalidSize, Line, Observation, Observer, Operation, ScreenKind};

use super::emulator::{Emulator, line_text};
use super::take::Take;
use super::tape::{Moment, Stream, What};

/// Bytes of one line at most: what is longer comes in parts.
const LINE_BYTES_MAX: usize = 16 * 1024;

/// What is told of a terminal.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Told {
    /// A line that the cursor has left.
    Line(String),
    /// A program has taken the whole screen.
    FullScreen,
    /// It has given it back.
    Back,
    /// Something else, in words.
    Words(String),
}

/// Reads lines out of moments.
#[derive(Debug)]
pub struct Lines {
    screen: Emulator,
    watcher: Watcher,
}

/// Sees each line that the cursor leaves.
#[derive(Debug, Default)]
struct Watcher {
    told: Vec<Told>,
    /// The beginning of a line that is longer than the screen is high.
    head: String,
    alternate: bool,
}

impl Lines {
    /// For an exchange with a terminal.
    ///
    /// # Errors
    /// Never in practice: see [`Emulator::new`].
    pub fn new(take: &Take) -> Result<Self, InvalidSize> {
        let (columns, rows) = take.terminal.as_ref().map_or((80, 24), |terminal| (terminal.columns, terminal.rows));
        Ok(Self { screen: Emulator::new(columns, rows)?, watcher: Watcher::default() })
    }

    /// A moment happens; what there is to tell after it.
    pub fn hear(&mut self, moment: &Moment) -> Vec<Told> {
        let told = match &moment.what {
            What::Said { stream: Stream::Terminal, bytes } => {
                self.screen.feed_with(bytes, &mut self.watcher);
                return std::mem::take(&mut self.watcher.told);
            }
            What::Said { .. } => return Vec::new(),
            What::Resized { columns, rows } => {
                self.screen.resize(*columns, *rows);
                format!("the terminal has {columns} columns and {rows} rows now")
            }
            What::Note { code, text } => format!("{code}: {text}"),
            What::Ended { outcome, code } => ended(outcome, code.as_deref()),
            What::Withheld { stream, len } => withheld(*stream, *len),
            What::Lost(why) => format!("records are missing here: {why}"),
        };
        vec![Told::Words(told)]
    }

    /// What stands in the line of the cursor.
    #[must_use]
    pub fn current(&self) -> String {
        let terminal = self.screen.terminal();
        let cursor = terminal.cursor();
        let mut text = logical(terminal, cursor.row, Some(cursor.col)).0;
        text.insert_str(0, &self.watcher.head);
        text
    }

    /// Whether a program has the whole screen for itself.
    #[must_use]
    pub fn is_full_screen(&self) -> bool {
        self.screen.is_alternate()
    }

    /// What stands in a line that nothing has ended.
    #[must_use]
    pub fn rest(&self) -> Option<String> {
        let terminal = self.screen.terminal();
        let (text, _) = logical(terminal, terminal.cursor().row, None);
        let text = text.trim_end();
        (!self.is_full_screen() && !text.is_empty()).then(|| text.to_owned())
    }
}

/// How it ended, in words.
#[must_use]
pub fn ended(outcome: &str, code: Option<&str>) -> String {
    let code = code.map(|code| format!(" {code}")).unwrap_or_default();
    format!("ended: {outcome}{code}")
}

/// What is not on record, in words.
#[must_use]
pub fn withheld(stream: Stream, len: u64) -> String {
    format!("{len} bytes of {} passed and are not on record: crewtap ended before its masks had decided", stream.word())
}

/// The line around a row, joined where the screen has broken it, up to a column of that row; and whether its beginning may be
/// above the screen.
fn logical(terminal: &avt::Terminal, row: usize, until: Option<usize>) -> (String, bool) {
    let screen = terminal.screen();
    let continues = |row: usize| screen.line(row).is_some_and(Line::is_wrapped);
    let mut first = row;
    while first > 0 && continues(first - 1) {
        first -= 1;
    }
    let mut text: String = (first..row).filter_map(|row| screen.line(row)).map(line_text).collect();
    if let Some(line) = screen.line(row) {
        match until {
            None => text.push_str(&line_text(line)),
            Some(column) => {
                let cells = line.cells().iter().take(column).filter(|cell| cell.width() > 0);
                text.extend(cells.map(super::emulator::letter));
            }
        }
    }
    (text, first == 0)
}

impl Observer for Watcher {
    type Output = ();

    fn before(&mut self, context: &mut Observation<'_>, operation: &Operation) {
        let terminal = context.terminal();
        let is_break = matches!(operation, Operation::Function(Function::Lf | Function::Nel));
        if !is_break || terminal.active_screen_kind() == ScreenKind::Alternate {
            return;
        }
        let (mut text, from_top) = logical(terminal, terminal.cursor().row, None);
        if from_top {
            text.insert_str(0, &std::mem::take(&mut self.head));
        }
        self.told.push(Told::Line(text.trim_end().to_owned()));
    }

    fn after(&mut self, context: &mut Observation<'_>, _: &Operation) {
        let alternate = context.terminal().active_screen_kind() == ScreenKind::Alternate;
        if alternate != std::mem::replace(&mut self.alternate, alternate) {
            self.told.push(if alternate { Told::FullScreen } else { Told::Back });
        }
    }

    fn evicted(&mut self, _: &mut Observation<'_>, line: &Line) {
        if !line.is_wrapped() {
            return self.head.clear();
        }
        self.head.push_str(&line_text(line));
        if self.head.len() > LINE_BYTES_MAX {
            self.told.push(Told::Line(std::mem::take(&mut self.head)));
        }
    }

    fn end(&mut self, _: &mut Observation<'_>) {}
}
