//! `approvals watch` without a terminal: a line for every question that begins to wait, and one when it does not any more.
//!
//! Never asks for an answer: there is nobody to ask.

use std::collections::BTreeMap;
use std::io::{self, Write};

use super::super::screen::{safe, short};
use super::SUBJECT_CHARS;
use crate::approvals::Waiting;

/// What was told.
#[derive(Debug, Default)]
pub(super) struct Lines {
    told: BTreeMap<String, String>,
}

impl Lines {
    /// Tells what has changed.
    pub(super) fn tell(&mut self, waiting: &[Waiting], out: &mut dyn Write) -> io::Result<()> {
        for one in waiting {
            let line = format!(
                "{} {} {} {}",
                safe(&one.identity.name),
                safe(&one.target),
                safe(&one.verb),
                short(&one.subject, SUBJECT_CHARS)
            );
            if self.told.insert(one.id.clone(), line.clone()).is_none() {
                writeln!(out, "waits {} {line}", one.id)?;
            }
        }
        let gone: Vec<String> =
            self.told.keys().filter(|id| !waiting.iter().any(|one| one.id == **id)).cloned().collect();
        for id in gone {
            self.told.remove(&id);
            writeln!(out, "gone  {id}")?;
        }
        out.flush()
    }
}
