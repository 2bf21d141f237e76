//! Commands as they can be read off a terminal's screen: what stood behind the prompt when Enter was typed.
//!
//! A guess, never proof: programs draw what they like, and what is typed need not be what runs.

use std::collections::VecDeque;

use avt::InvalidSize;

use super::lines::{Lines, Told};
use super::take::Take;
use super::tape::{Moment, Stream, What};

/// Enters that wait for their line at most.
const ENTERS_MAX: usize = 1024;

/// What prompts end with.
const PROMPT_ENDS: [&str; 6] = ["$ ", "# ", "% ", "> ", "❯ ", "» "];

/// A command that was read off the screen.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Recovered {
    /// When Enter was typed: nanoseconds since the exchange began.
    pub at_ns: u64,
    /// Nanoseconds since the Unix epoch.
    pub wall_ns: u64,
    /// As it stood there.
    pub command: String,
}

/// Reads commands out of moments.
#[derive(Debug)]
pub struct Commands {
    lines: Lines,
    /// What stood before the cursor when the first key of a line was typed.
    prompt: Option<String>,
    /// The prompt behind which a command was found last: who types ahead of it types on an empty line.
    known: String,
    enters: VecDeque<(u64, u64, Option<String>)>,
}

impl Commands {
    /// For an exchange with a terminal.
    ///
    /// # Errors
    /// Never in practice: see [`super::emulator::Emulator::new`].
    pub fn new(take: &Take) -> Result<Self, InvalidSize> {
        Ok(Self { lines: Lines::new(take)?, prompt: None, known: String::new(), enters: VecDeque::new() })
    }

    /// A moment happens; the commands that can be read now.
    pub fn hear(&mut self, moment: &Moment) -> Vec<Recovered> {
        if let What::Said { stream: Stream::Keys, bytes } = &moment.what {
            self.typed(moment, bytes);
        }
        let mut found = Vec::new();
        for told in self.lines.hear(moment) {
            let Told::Line(line) = told else { continue };
            let Some((at_ns, wall_ns, prompt)) = self.enters.pop_front() else { continue };
            let command = self.behind(prompt, &line).trim();
            if !command.is_empty() {
                found.push(Recovered { at_ns, wall_ns, command: command.to_owned() });
            }
        }
        found
    }

    /// What stands behind the prompt that was there when its first key was typed.
    fn behind<'a>(&mut self, prompt: Option<String>, line: &'a str) -> &'a str {
        match prompt {
            None => behind_prompt(line),
            Some(prompt) if prompt.is_empty() => line.strip_prefix(&*self.known).unwrap_or(line),
            Some(prompt) => {
                let command = line.strip_prefix(prompt.trim_end()).unwrap_or_default();
                if !command.trim().is_empty() {
                    prompt.trim_end().clone_into(&mut self.known);
                }
                command
            }
        }
    }

    fn typed(&mut self, moment: &Moment, keys: &[u8]) {
        if self.lines.is_full_screen() {
            return;
        }
        for key in keys {
            match key {
                b'\r' | b'\n' => {
                    let typed_ahead = !self.enters.is_empty();
                    let prompt = self.prompt.take().or_else(|| (!typed_ahead).then(|| self.lines.current()));
                    if self.enters.len() < ENTERS_MAX {
                        self.enters.push_back((moment.at_ns, moment.wall_ns, prompt));
                    }
                }
                // Whoever interrupts begins anew.
                3 => self.prompt = None,
                _ if self.prompt.is_none() && self.enters.is_empty() => self.prompt = Some(self.lines.current()),
                _ => {}
            }
        }
    }
}

/// What stands behind what looks like a prompt.
fn behind_prompt(line: &str) -> &str {
    let ends = PROMPT_ENDS.iter().filter_map(|end| line.find(end).map(|at| at + end.len()));
    ends.min().and_then(|at| line.get(at..)).unwrap_or(line)
}
