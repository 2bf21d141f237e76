//! The full-screen view: what waits on the left, all about the chosen one on the right, a line for keys and reasons below.
//!
//! Knows no agent and no terminal: what happens comes in, and what is to be done goes out. Everything recorded is made safe
//! before it is drawn.

use ratatui::Frame;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Modifier, Style};
use ratatui::text::Line;
use ratatui::widgets::{Block, List, ListState, Paragraph, Wrap};

use super::super::screen::{safe, short};
use super::watch::News;
use super::{facts, left, plain};
use crate::approvals::Waiting;
use crewtap_core::limits::REASON_BYTES_MAX;

/// What a key asks for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Effect {
    /// Nothing beyond the view.
    Nothing,
    /// The end.
    Leave,
    /// An answer.
    Answer { id: String, approve: bool, reason: Option<String> },
}

/// A reason that is being typed: for which approval is fixed when typing begins, so that a list that changes meanwhile changes
/// nothing.
#[derive(Debug)]
struct Prompt {
    id: String,
    approve: bool,
    reason: String,
}

/// What is on the screen.
#[derive(Debug, Default)]
pub(super) struct View {
    waiting: Vec<Waiting>,
    left_off: usize,
    /// The chosen one, by its id: the list moves.
    chosen: Option<String>,
    /// Of which approval the content is, and the content.
    content: Option<(String, String)>,
    /// Lines of the details that are above the window.
    scrolled: u16,
    prompt: Option<Prompt>,
    silent: Option<String>,
    told: String,
}

impl View {
    /// The list has changed.
    pub(super) fn hear(&mut self, news: News) {
        match news {
            News::Silent(why) => {
                self.waiting.clear();
                self.silent = Some(why);
            }
            News::List { waiting, left_off } => {
                // Where the chosen one has gone, the one in its place is next.
                let at = self.at().unwrap_or(0);
                (self.waiting, self.left_off, self.silent) = (waiting, left_off, None);
                if self.at().is_none() {
                    self.choose(at.min(self.waiting.len().saturating_sub(1)));
                }
            }
        }
    }

    /// The approval whose content is wanted and not there.
    pub(super) fn wants_content(&self) -> Option<String> {
        let chosen = self.chosen.as_ref().filter(|id| self.waiting.iter().any(|one| one.id == **id))?;
        let there = self.content.as_ref().is_some_and(|(id, _)| id == chosen);
        (!there).then(|| chosen.clone())
    }

    /// What would be sent.
    pub(super) fn content(&mut self, id: &str, content: String) {
        self.content = Some((id.to_owned(), content));
    }

    /// What became of an answer.
    pub(super) fn told(&mut self, what: String) {
        self.told = what;
    }

    /// A key was pressed.
    pub(super) fn key(&mut self, key: KeyEvent) -> Effect {
        if key.modifiers.contains(KeyModifiers::CONTROL) && key.code == KeyCode::Char('c') {
            return Effect::Leave;
        }
        if self.prompt.is_some() {
            return self.typed(key.code);
        }
        let at = self.at().unwrap_or(0);
        match key.code {
            KeyCode::Char('q') | KeyCode::Esc => return Effect::Leave,
            KeyCode::Down | KeyCode::Char('j') => self.choose(at.saturating_add(1)),
            KeyCode::Up | KeyCode::Char('k') => self.choose(at.saturating_sub(1)),
            KeyCode::PageDown | KeyCode::Char(' ') => self.scrolled = self.scrolled.saturating_add(10),
            KeyCode::PageUp => self.scrolled = self.scrolled.saturating_sub(10),
            KeyCode::Char(letter @ ('a' | 'd')) => {
                if let Some(id) = self.one().map(|one| one.id.clone()) {
                    self.told.clear();
                    self.prompt = Some(Prompt { id, approve: letter == 'a', reason: String::new() });
                }
            }
            _ => {}
        }
        Effect::Nothing
    }

    fn typed(&mut self, key: KeyCode) -> Effect {
        let Some(prompt) = &mut self.prompt else { return Effect::Nothing };
        match key {
            KeyCode::Esc => self.prompt = None,
            KeyCode::Backspace => drop(prompt.reason.pop()),
            KeyCode::Char(letter) if prompt.reason.len() + letter.len_utf8() <= REASON_BYTES_MAX => {
                prompt.reason.push(letter);
            }
            KeyCode::Enter => {
                if let Some(Prompt { id, approve, reason }) = self.prompt.take() {
                    let reason = Some(reason.trim().to_owned()).filter(|reason| !reason.is_empty());
                    return Effect::Answer { id, approve, reason };
                }
            }
            _ => {}
        }
        Effect::Nothing
    }

    fn at(&self) -> Option<usize> {
        let chosen = self.chosen.as_ref()?;
        self.waiting.iter().position(|one| one.id == *chosen)
    }

    fn one(&self) -> Option<&Waiting> {
        self.waiting.get(self.at()?)
    }

    fn choose(&mut self, at: usize) {
        let at = at.min(self.waiting.len().saturating_sub(1));
        let id = self.waiting.get(at).map(|one| one.id.clone());
        if id != self.chosen {
            self.scrolled = 0;
        }
        self.chosen = id;
    }

    /// Draws everything.
    pub(super) fn draw(&self, frame: &mut Frame<'_>, now_ns: u64) {
        let [body, below] = Layout::vertical([Constraint::Min(3), Constraint::Length(2)]).areas(frame.area());
        let [list, details] = Layout::horizontal([Constraint::Percentage(38), Constraint::Min(20)]).areas(body);
        self.draw_list(frame, list, now_ns);
        self.draw_details(frame, details, now_ns);
        frame.render_widget(Paragraph::new(self.below()), below);
    }

    fn draw_list(&self, frame: &mut Frame<'_>, area: Rect, now_ns: u64) {
        let title = match (&self.silent, self.left_off) {
            (Some(_), _) => " no agent ".to_owned(),
            (None, 0) => format!(" {} wait ", self.waiting.len()),
            (None, more) => format!(" {} wait, and {more} more ", self.waiting.len()),
        };
        let block = Block::bordered().title(title);
        if self.waiting.is_empty() {
            let why = self.silent.as_deref().map_or_else(|| "nothing waits for an approval".into(), safe);
            frame.render_widget(Paragraph::new(why.into_owned()).wrap(Wrap { trim: true }).block(block), area);
            return;
        }
        let width = usize::from(area.width.saturating_sub(2));
        let lines = self.waiting.iter().map(|one| {
            let line = format!("{:>6} {} {} {}", left(one, now_ns), one.target, one.verb, one.subject);
            Line::from(short(&line, width.max(1)))
        });
        let list = List::new(lines).block(block).highlight_style(Style::new().add_modifier(Modifier::REVERSED));
        let mut state = ListState::default().with_selected(self.at());
        frame.render_stateful_widget(list, area, &mut state);
    }

    fn draw_details(&self, frame: &mut Frame<'_>, area: Rect, now_ns: u64) {
        let block = Block::bordered().title(" what would happen ");
        let Some(one) = self.one() else {
            frame.render_widget(block, area);
            return;
        };
        let bold = Style::new().add_modifier(Modifier::BOLD);
        let mut lines: Vec<Line<'_>> = facts(one, now_ns)
            .into_iter()
            .map(|(label, text)| Line::from(vec![format!("{label:<9} ").into(), plain(&text).into()]))
            .collect();
        lines.push(Line::from(""));
        let content = self.content.as_ref().filter(|(id, _)| *id == one.id).map(|(_, content)| content.as_str());
        lines.extend(content.unwrap_or("…").lines().map(|line| Line::styled(plain(line), bold)));
        let details = Paragraph::new(lines).wrap(Wrap { trim: false }).scroll((self.scrolled, 0)).block(block);
        frame.render_widget(details, area);
    }

    fn below(&self) -> Vec<Line<'_>> {
        match &self.prompt {
            Some(Prompt { id, approve, reason }) => {
                let what = if *approve { "approve" } else { "deny" };
                let heading = Line::styled(format!("{what} {id}?  Enter does it, Esc does not"), Modifier::BOLD);
                vec![heading, Line::from(format!("reason: {}_", safe(reason)))]
            }
            None => vec![
                Line::from("a approve   d deny   ↑↓ choose   PgUp PgDn read   q leave"),
                Line::from(safe(&self.told).into_owned()),
            ],
        }
    }
}
