//! What was read, as lines: statements behind a prompt, tables with aligned columns.
//!
//! Owns the form of lines. Never lets a value break one: a line that psql would print cannot be forged by a cell.

use super::{Column, Report, Shown};
use crate::session::Side;

/// Stands for NULL, which psql shows as nothing: an empty text looks different.
const NULL: &str = "∅";

/// Widest column that is aligned, in letters; a wider value moves the rest of its line.
const WIDTH_MAX: usize = 80;

/// Types whose values stand at the right of their column.
const NUMBERS: &[&str] =
    &["bigint", "smallint", "integer", "oid", "real", "double precision", "money", "numeric", "xid", "cid", "xid8"];

/// All lines.
pub fn print(shown: &[Shown]) -> String {
    let mut out = String::new();
    let mut line = |text: &str| {
        out.push_str(text.trim_end());
        out.push('\n');
    };
    let mut after_rows = false;
    for item in shown {
        let follows_rows = std::mem::replace(&mut after_rows, matches!(item, Shown::Rows { .. }));
        match item {
            Shown::Statement { text } => prompted(text, &mut line),
            Shown::Parameters { values } => {
                for (at, value) in values.iter().enumerate() {
                    line(&format!("${} = {}", at + 1, value.as_deref().map_or(NULL.into(), cell)));
                }
            }
            Shown::Rows { columns, rows, more } => table(columns, rows, *more, &mut line),
            // The number of rows has said it.
            Shown::Tag { text } if follows_rows && text.starts_with("SELECT") => {}
            Shown::Tag { text } | Shown::Note { text } => line(&cell(text)),
            Shown::Report(report) => reported(report, &mut line),
            Shown::Copy { side, text, more } => {
                let mark = if *side == Side::Client { "> " } else { "< " };
                text.lines().for_each(|text| line(&format!("{mark}{}", cell(text))));
                if *more > 0 {
                    line(&format!("{mark}… {more} more bytes"));
                }
            }
        }
    }
    out
}

/// A text in one line. Backslashes stay: this is for reading, and most of them are meant; `--json` tells them apart.
fn cell(text: &str) -> String {
    text.replace('\n', "\\n").replace('\r', "\\r").replace('\t', "\\t")
}

fn prompted(text: &str, line: &mut impl FnMut(&str)) {
    for (at, part) in text.lines().enumerate() {
        line(&format!("{} {}", if at == 0 { "=>" } else { "->" }, part.replace('\r', "\\r").replace('\t', "    ")));
    }
    if text.is_empty() {
        line("=>");
    }
}

fn reported(report: &Report, line: &mut impl FnMut(&str)) {
    line(&format!("{}:  {}: {}", cell(&report.severity), cell(&report.code), cell(&report.message)));
    let more = [("DETAIL", &report.detail), ("HINT", &report.hint), ("CONTEXT", &report.context)];
    for (name, text) in more {
        if let Some(text) = text {
            line(&format!("{name}:  {}", cell(text)));
        }
    }
}

fn table(columns: &[Column], rows: &[Vec<Option<String>>], more: u64, line: &mut impl FnMut(&str)) {
    let names: Vec<String> = columns.iter().map(|column| cell(&column.name)).collect();
    let cells: Vec<Vec<String>> =
        rows.iter().map(|row| row.iter().map(|value| value.as_deref().map_or(NULL.into(), cell)).collect()).collect();
    let mut widths: Vec<usize> = names.iter().map(|name| width(name)).collect();
    for row in &cells {
        for (at, text) in row.iter().enumerate() {
            match widths.get_mut(at) {
                Some(widest) => *widest = (*widest).max(width(text)),
                None => widths.push(width(text)),
            }
        }
    }
    let padded = |at: usize, text: &str, left: usize| {
        let space = widths.get(at).copied().unwrap_or(0).saturating_sub(width(text));
        let left = left.min(space);
        format!(" {}{text}{} ", " ".repeat(left), " ".repeat(space - left))
    };
    let centred =
        |at: usize, name: &str| padded(at, name, widths.get(at).copied().unwrap_or(0).saturating_sub(width(name)) / 2);
    let head: Vec<String> = names.iter().enumerate().map(|(at, name)| centred(at, name)).collect();
    line(&head.join("|"));
    line(&widths.iter().map(|width| "-".repeat(width + 2)).collect::<Vec<_>>().join("+"));
    for row in &cells {
        let aligned = row.iter().enumerate().map(|(at, text)| {
            let is_number = columns.get(at).is_some_and(|column| NUMBERS.contains(&column.kind.as_str()));
            padded(at, text, if is_number { WIDTH_MAX } else { 0 })
        });
        line(&aligned.collect::<Vec<_>>().join("|"));
    }
    if more > 0 {
        line(&format!(" … {more} more"));
    }
    let all = cells.len() as u64 + more;
    line(&format!("({all} {})", if all == 1 { "row" } else { "rows" }));
    line("");
}

fn width(text: &str) -> usize {
    text.chars().count().min(WIDTH_MAX)
}
