//! The player: where it is, what a key does, and what is drawn.
//!
//! Knows no terminal and no clock: time and keys come in, and a screen goes out, made of letters in cells.

use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use ratatui::Frame;
use ratatui::buffer::Buffer;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::Line;
use ratatui::widgets::Paragraph;

use super::super::screen::{safe, short};
use crate::replay::emulator::{letter, line_text};
use crate::replay::film::Film;
use crate::replay::take::Take;

/// How far left and right go.
const STEP_NS: u64 = 5_000_000_000;

/// How far up and down go.
const STRIDE_NS: u64 = 60_000_000_000;

/// Slowest and fastest.
const SPEEDS: (f64, f64) = (0.01, 1000.0);

/// Characters of a search at most.
const PATTERN_MAX: usize = 200;

/// Moments that are searched in one go: between two looks at the keys.
const LOOK_MOMENTS: usize = 500;

/// Characters of the title in the status line.
const TITLE_CHARS: usize = 200;

/// What plays.
pub(super) struct Player<'e> {
    film: Film<'e>,
    title: String,
    zone: TimeZone,
    speed: f64,
    idle_max: Option<Duration>,
    paused: bool,
    /// What is being typed to be searched for.
    typed: Option<String>,
    pattern: String,
    searching: Option<Search>,
    told: String,
}

/// A search that goes on.
struct Search {
    /// Where it began.
    from_ns: u64,
    /// How often the pattern was on the screen last.
    hits: usize,
}

impl<'e> Player<'e> {
    pub(super) fn new(film: Film<'e>, take: &Take, zone: TimeZone, speed: f64, idle_max: Option<Duration>) -> Self {
        let exchange = &take.exchange;
        let subject = exchange.subject.as_deref().unwrap_or_default();
        let title = short(&format!("{} {subject}", exchange.id), TITLE_CHARS);
        let (pattern, told) = (String::new(), String::new());
        Self { film, title, zone, speed, idle_max, paused: false, typed: None, pattern, searching: None, told }
    }

    /// Whether time passes.
    pub(super) fn plays(&self) -> bool {
        !self.paused && self.typed.is_none() && !self.ended()
    }

    fn ended(&self) -> bool {
        self.film.next_ns().is_none() && self.film.at_ns() >= self.film.length_ns()
    }

    /// Whether it searches: then there is no time to wait.
    pub(super) fn searches(&self) -> bool {
        self.searching.is_some()
    }

    /// Time passes.
    pub(super) fn tick(&mut self, passed: Duration) {
        if let Some(search) = self.searching.take() {
            return self.look(search);
        }
        if !self.plays() {
            return;
        }
        let passed = nanoseconds(passed.mul_f64(self.speed));
        let mut to = self.film.at_ns().saturating_add(passed);
        if let (Some(idle_max), Some(next)) = (self.idle_max, self.film.next_ns()) {
            // In the time of the film: what is played fast waits less.
            let waited = self.film.last_ns().saturating_add(nanoseconds(idle_max.mul_f64(self.speed)));
            if to >= waited && to < next {
                to = next;
            }
        }
        self.film.play_to(to);
    }

    /// Goes to a point.
    pub(super) fn seek(&mut self, at_ns: u64) {
        let sought = self.film.seek(at_ns.min(self.film.length_ns()));
        if let Err(error) = sought {
            self.told = error.to_string();
        }
    }

    /// A key was pressed; whether it is the end.
    pub(super) fn key(&mut self, key: KeyEvent) -> bool {
        if key.modifiers.contains(KeyModifiers::CONTROL) && key.code == KeyCode::Char('c') {
            return true;
        }
        if let Some(search) = self.searching.take() {
            self.seek(search.from_ns);
            self.told = "the search was left".into();
            return false;
        }
        if let Some(typed) = &mut self.typed {
            match key.code {
                KeyCode::Esc => self.typed = None,
                KeyCode::Backspace => drop(typed.pop()),
                KeyCode::Char(letter) if typed.chars().count() < PATTERN_MAX => typed.push(letter),
                KeyCode::Enter => {
                    self.pattern = self.typed.take().unwrap_or_default();
                    self.search();
                }
                _ => {}
            }
            return false;
        }
        self.told.clear();
        self.command(key.code)
    }

    fn command(&mut self, key: KeyCode) -> bool {
        let (at, length) = (self.film.at_ns(), self.film.length_ns());
        match key {
            KeyCode::Char('q') | KeyCode::Esc => return true,
            KeyCode::Char(' ') if self.ended() => {
                self.paused = false;
                self.seek(0);
            }
            KeyCode::Char(' ') => self.paused = !self.paused,
            KeyCode::Char('+' | '=') => self.speed = (self.speed * 2.0).min(SPEEDS.1),
            KeyCode::Char('-') => self.speed = (self.speed / 2.0).max(SPEEDS.0),
            KeyCode::Left => self.seek(at.saturating_sub(STEP_NS)),
            KeyCode::Right => self.seek(at.saturating_add(STEP_NS)),
            KeyCode::Down => self.seek(at.saturating_sub(STRIDE_NS)),
            KeyCode::Up => self.seek(at.saturating_add(STRIDE_NS)),
            KeyCode::Home => self.seek(0),
            KeyCode::End => self.seek(length),
            KeyCode::Char(digit @ '0'..='9') => {
                self.seek(length / 10 * u64::from(digit.to_digit(10).unwrap_or_default()));
            }
            KeyCode::Char('.') => {
                self.paused = true;
                self.film.step();
            }
            KeyCode::Char('/') => self.typed = Some(String::new()),
            KeyCode::Char('n') => self.search(),
            _ => {}
        }
        false
    }

    /// Goes to the next moment that brings the pattern onto the screen once more.
    fn search(&mut self) {
        if self.pattern.is_empty() {
            self.told = "nothing to search for: /text and Enter".into();
            return;
        }
        self.searching = Some(Search { from_ns: self.film.at_ns(), hits: self.hits() });
    }

    fn look(&mut self, mut search: Search) {
        for _ in 0..LOOK_MOMENTS {
            if self.film.step().is_none() {
                self.seek(search.from_ns);
                self.told = format!("`{}` does not come any more", safe(&self.pattern));
                return;
            }
            let hits = self.hits();
            if hits > search.hits {
                self.paused = true;
                return;
            }
            search.hits = hits;
        }
        self.searching = Some(search);
    }

    /// How often the pattern is on the screen.
    fn hits(&self) -> usize {
        let rows = self.film.screen().lines().map(line_text);
        rows.map(|row| found(&row.chars().collect::<Vec<_>>(), &self.pattern).len()).sum()
    }

    /// Draws everything.
    pub(super) fn draw(&self, frame: &mut Frame<'_>) {
        let [body, below] = Layout::vertical([Constraint::Min(1), Constraint::Length(1)]).areas(frame.area());
        let screen = self.film.screen();
        let (columns, rows) = screen.size();
        // Of what is too large the part with the cursor is seen.
        let cursor = screen.terminal().cursor();
        let left = (cursor.col + 1).min(columns).saturating_sub(body.width.into());
        let above = (cursor.row + 1).min(rows).saturating_sub(body.height.into());
        for (y, line) in screen.lines().skip(above).take(body.height.into()).enumerate() {
            let y = body.y + u16::try_from(y).unwrap_or(u16::MAX);
            self.draw_row(line, left, Rect { y, height: 1, ..body }, frame.buffer_mut());
        }
        if let (Some((column, row)), None) = (screen.cursor(), &self.typed) {
            let place = (u16::try_from(column.saturating_sub(left)), u16::try_from(row.saturating_sub(above)));
            if let (Ok(x), Ok(y)) = place {
                let x = x.min(body.width.saturating_sub(1));
                frame.set_cursor_position((body.x + x, body.y + y));
            }
        }
        frame.render_widget(Paragraph::new(self.below()).style(Modifier::REVERSED), below);
    }

    fn draw_row(&self, line: &avt::Line, left: usize, area: Rect, buffer: &mut Buffer) {
        let letters: Vec<char> = line.cells().iter().map(letter).collect();
        let hits = if self.pattern.is_empty() { Vec::new() } else { found(&letters, &self.pattern) };
        let len = self.pattern.chars().count();
        for (at, cell) in line.cells().iter().enumerate().skip(left).take(area.width.into()) {
            let x = area.x + u16::try_from(at - left).unwrap_or(u16::MAX);
            let Some(place) = buffer.cell_mut((x, area.y)) else { break };
            let hit = hits.iter().any(|hit| (*hit..*hit + len).contains(&at));
            let mut style = style(cell.pen());
            if hit {
                style = style.bg(Color::Yellow).fg(Color::Black);
            }
            place.set_style(style);
            match cell.width() {
                2 if x + 1 < area.right() => place.set_char(letter(cell)),
                1 => place.set_char(letter(cell)),
                // The second half of a wide letter, or a first one without room for the second.
                _ => place.set_char(' '),
            };
        }
    }

    /// The status line.
    fn below(&self) -> Line<'static> {
        if let Some(typed) = &self.typed {
            return Line::from(format!("/{}_", safe(typed)));
        }
        let state = match () {
            () if self.searches() => "searches",
            () if self.ended() => "ended",
            () if self.paused => "paused",
            () => "plays",
        };
        let at = self.film.at_ns();
        let wall = i128::from(self.film.began_ns()) + i128::from(at);
        let wall = Timestamp::from_nanosecond(wall).map(|wall| wall.to_zoned(self.zone.clone()));
        let wall = wall.map_or_else(|_| String::new(), |wall| wall.strftime("%Y-%m-%d %H:%M:%S").to_string());
        let (columns, rows) = self.film.screen().size();
        let place = format!("{} / {}  {}x", clock(at), clock(self.film.length_ns()), self.speed);
        if !self.told.is_empty() {
            return Line::from(format!(" {state}  {place}  {}", self.told));
        }
        Line::from(format!(" {state}  {place}  {wall}  {columns}x{rows}  {}  space + - / n q", self.title))
    }
}

/// Hours, minutes and seconds.
fn clock(ns: u64) -> String {
    let seconds = ns / 1_000_000_000;
    format!("{}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Where a pattern is in a row; capitals count only where it has some.
fn found(row: &[char], pattern: &str) -> Vec<usize> {
    let exact = pattern.chars().any(char::is_uppercase);
    let fold = |letter: char| if exact { letter } else { letter.to_lowercase().next().unwrap_or(letter) };
    let pattern: Vec<char> = pattern.chars().map(fold).collect();
    let windows = row.windows(pattern.len().max(1)).enumerate();
    let hits = windows.filter(|(_, window)| window.iter().zip(&pattern).all(|(have, want)| fold(*have) == *want));
    hits.map(|(at, _)| at).collect()
}

/// A pen as a style.
fn style(pen: &avt::Pen) -> Style {
    let colour = |colour: Option<avt::Color>| match colour {
        None => Color::Reset,
        Some(avt::Color::Indexed(index)) => Color::Indexed(index),
        Some(avt::Color::RGB(rgb)) => Color::Rgb(rgb.r, rgb.g, rgb.b),
    };
    let modifiers = [
        (pen.is_bold(), Modifier::BOLD),
        (pen.is_faint(), Modifier::DIM),
        (pen.is_italic(), Modifier::ITALIC),
        (pen.is_underline(), Modifier::UNDERLINED),
        (pen.is_strikethrough(), Modifier::CROSSED_OUT),
        (pen.is_inverse(), Modifier::REVERSED),
    ];
    let set = modifiers.into_iter().filter(|(is, _)| *is).map(|(_, modifier)| modifier);
    Style::new().fg(colour(pen.foreground())).bg(colour(pen.background())).add_modifier(set.collect::<Modifier>())
}
