//! `crewtap masks test`: a text with what is found in it hidden, and what was found.
//!
//! Takes the text for one field. How streams and protocols are cut into fields is not tried here.

use std::collections::BTreeMap;

use crewtap_core::mask::detect::{Detectors, Edges, Hit};
use crewtap_core::mask::digest::DigestKey;
use crewtap_core::mask::flow::field;
use crewtap_core::mask::plan::{Finds, Plan};
use crewtap_core::mask::rule::{Place, Rule, RuleNumber, What};
use crewtap_core::mask::set::Masks;
use serde::Serialize;

use crate::cli::screen::{Screen, Style, counted, safe};
use crate::cli::table::{Align, Table};

/// One find.
#[derive(Debug, Serialize)]
pub(super) struct Row<'m> {
    pub(super) mask: &'m str,
    /// Line, from 1.
    pub(super) line: usize,
    /// First byte in the text, from 0.
    at: usize,
    /// Bytes.
    length: usize,
    /// Bytes at its end that stay readable.
    kept: usize,
}

/// The last line of `--json`.
#[derive(Debug, Serialize)]
struct Summary<'m> {
    text: String,
    finds: usize,
    /// Masks that look only elsewhere.
    elsewhere: Vec<&'m str>,
}

/// Prints the text and its finds; whether there is one.
///
/// # Errors
/// When a rule cannot be compiled, or nothing can be printed.
pub(super) fn print(
    masks: &Masks,
    (target, rules): (Option<&str>, &[(RuleNumber, &Rule)]),
    place: Option<&Place>,
    text: &[u8],
    screen: &mut Screen,
) -> anyhow::Result<bool> {
    // What a shell appends is no part of a field.
    let text = if place.is_some() { text.strip_suffix(b"\n").unwrap_or(text) } else { text };
    let is_here = |rule: &Rule| rule.places.is_empty() || place.is_some_and(|place| rule.places.contains(place));
    let (here, elsewhere): (Vec<_>, Vec<_>) = rules.iter().copied().partition(|(_, rule)| is_here(rule));
    let hits = found(&here, text)?;
    let rows = Row::all(&hits, masks, text);
    let elsewhere: Vec<&str> = elsewhere.iter().map(|(_, rule)| rule.name.as_str()).collect();
    // As the record would keep it: by the same way, not by the finds.
    let plan = Plan::compile_for(target, rules)?;
    let hidden = field(&plan, place, text, &mut Finds::new(&DigestKey::new(&[0; 32])));
    let is_hidden = hidden != text;
    if screen.json {
        rows.iter().try_for_each(|row| screen.json(row))?;
        let text = String::from_utf8_lossy(&hidden).into_owned();
        screen.json(&Summary { text, finds: rows.len(), elsewhere })?;
        return Ok(!rows.is_empty() || is_hidden);
    }
    String::from_utf8_lossy(&hidden).lines().try_for_each(|line| screen.line(&safe(line)))?;
    screen.line("")?;
    told(&rows, text, screen)?;
    if !elsewhere.is_empty() {
        let note = format!("Looked for only in their own places (try --where): {}", elsewhere.join(" "));
        let note = screen.styled(&safe(&note), Style::Faint);
        screen.line(&note)?;
    }
    Ok(!rows.is_empty() || is_hidden)
}

/// The finds in a table, and how many there are of each.
fn told(rows: &[Row<'_>], text: &[u8], screen: &mut Screen) -> anyhow::Result<()> {
    let many = |count: usize, one: &str, many: &str| counted(i64::try_from(count).unwrap_or(i64::MAX), one, many);
    if rows.is_empty() {
        screen.line(&format!("nothing found in {}", many(text.len(), "byte", "bytes")))?;
        return Ok(());
    }
    let mut table = Table::new(&[
        ("MASK", Align::Left),
        ("LINE", Align::Right),
        ("AT", Align::Right),
        ("LENGTH", Align::Right),
        ("KEPT", Align::Right),
    ]);
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for row in rows {
        *counts.entry(row.mask).or_default() += 1;
        let numbers = [row.line, row.at, row.length, row.kept].map(|number| number.to_string());
        let [line, at, length, kept] = numbers;
        table.row([row.mask.to_owned(), line, at, length, kept]);
    }
    table.print(screen)?;
    let counts: Vec<String> = counts.iter().map(|(mask, count)| format!("{mask} {count}")).collect();
    let finds = many(rows.len(), "value", "values");
    screen.line(&format!("{finds} in {}: {}", many(text.len(), "byte", "bytes"), counts.join(", ")))?;
    Ok(())
}

impl<'m> Row<'m> {
    /// A row for each hit; they come in the order of the text.
    pub(super) fn all(hits: &[Hit], masks: &'m Masks, text: &[u8]) -> Vec<Self> {
        let (mut line, mut at) = (1, 0);
        let row = |hit: &Hit| {
            let between = text.get(at..hit.start).unwrap_or_default();
            line += between.split(|byte| *byte == b'\n').count() - 1;
            at = hit.start;
            let mask = masks.rule(hit.rule).map_or("", |rule| rule.name.as_str());
            Self { mask, line, at, length: hit.end - hit.start, kept: hit.keep }
        };
        hits.iter().map(row).collect()
    }
}

/// What these rules find in one whole field.
fn found(rules: &[(RuleNumber, &Rule)], text: &[u8]) -> anyhow::Result<Vec<Hit>> {
    let whole = rules.iter().find(|(_, rule)| rule.what == What::All && !text.is_empty());
    if let Some((number, rule)) = whole {
        return Ok(vec![Hit { rule: *number, start: 0, end: text.len(), keep: kept(text, rule.keep_last) }]);
    }
    let detectors = Detectors::compile(rules.iter().copied())?;
    let mut hits = Vec::new();
    detectors.find(text, Edges { before: None, inside: None, ends: true }, &mut hits);
    Ok(hits)
}

/// Bytes that hold the last letters and digits: never more than a quarter of them.
fn kept(text: &[u8], last: usize) -> usize {
    let is_counted = |byte: &&u8| byte.is_ascii_alphanumeric();
    let wanted = last.min(text.iter().filter(is_counted).count() / 4);
    let places = text.iter().rev().enumerate().filter(|(_, byte)| byte.is_ascii_alphanumeric());
    places.take(wanted).last().map_or(0, |(behind, _)| behind + 1)
}
