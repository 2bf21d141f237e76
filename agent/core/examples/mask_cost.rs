//! What masks find, and how fast: prints JSON lines. `quality` counts right and wrong finds of each kind on the half of the
//! labelled corpus that is for testing only, `corpus` prints that half, `speed` measures one core.
//!
//! Never the place for goals; `cargo xtask bench` compares these figures with them.

use std::hint::black_box;
use std::time::Instant;

use crewtap_core::mask::detect::{Detectors, Edges, Hit};
use crewtap_core::mask::rule::{Check, Kind, Rule, What};

#[path = "../../../tests/corpus/masks/generator.rs"]
mod generator;

/// The seed of the committed corpus.
const SEED: u64 = 20_261_123;

fn main() -> Result<(), String> {
    match std::env::args().nth(1).as_deref() {
        Some("corpus") => corpus(),
        Some("quality") => quality()?,
        Some("speed") => speed()?,
        _ => return Err("say what to measure: corpus, quality or speed".into()),
    }
    Ok(())
}

fn corpus() {
    for sample in generator::samples(SEED).into_iter().filter(|sample| sample.test) {
        let kind = sample.kind.unwrap_or_default();
        println!(
            "{}",
            serde_json::json!({ "text": sample.text, "kind": kind, "start": sample.start, "end": sample.end })
        );
    }
}

fn quality() -> Result<(), String> {
    let samples = generator::samples(SEED);
    for kind in Kind::ALL.into_iter().filter(|kind| *kind != Kind::NationalId) {
        // As they are used: with those that are on beside it. What is another's value is not its own.
        let on = Kind::ALL.into_iter().filter(|other| other.is_default() || *other == kind);
        let rules: Vec<(u16, Rule)> = on.map(|other| (u16::from(other != kind), Rule::of(other))).collect();
        let detectors = compiled(&rules)?;
        let (mut right, mut missed, mut wrong) = (0, 0, 0);
        for sample in samples.iter().filter(|sample| sample.test) {
            let mut hits = hits(&detectors, sample.text.as_bytes());
            hits.retain(|hit| hit.rule == 0);
            let labelled = sample.kind == Some(kind.as_str());
            let found =
                hits.iter().filter(|hit| labelled && hit.start == sample.start && hit.end == sample.end).count();
            right += found;
            missed += usize::from(labelled && found == 0);
            wrong += hits.len() - found;
            if std::env::var_os("MASK_SHOW").is_some() && (labelled && found == 0 || hits.len() > found) {
                eprintln!("{} {labelled} {:?} {}", kind.as_str(), hits, sample.text);
            }
        }
        println!("{}", serde_json::json!({ "kind": kind.as_str(), "right": right, "missed": missed, "wrong": wrong }));
    }
    Ok(())
}

fn compiled(rules: &[(u16, Rule)]) -> Result<Detectors, String> {
    Detectors::compile(rules.iter().map(|(number, rule)| (*number, rule))).map_err(|error| error.to_string())
}

fn hits(detectors: &Detectors, text: &[u8]) -> Vec<Hit> {
    let mut hits = Vec::new();
    detectors.find(text, Edges { before: None, inside: None, ends: true }, &mut hits);
    hits
}

/// Megabytes a second: by what text, how many values are in it, and how many rules there are.
fn speed() -> Result<(), String> {
    let samples = generator::samples(SEED);
    let text = |wanted: &dyn Fn(usize, &generator::Sample) -> bool| {
        let mut text = String::new();
        for (_, sample) in samples.iter().enumerate().filter(|(number, sample)| wanted(*number, sample)) {
            text.push_str(&sample.text);
            text.push('\n');
        }
        text.repeat((16 << 20) / text.len().max(1) + 1)
    };
    let prose = include_str!("../../../ARCHITECTURE.md").repeat(400);
    let texts = [
        ("prose", prose),
        ("no values", text(&|_, sample| sample.kind.is_none())),
        ("a value in every 25th line", text(&|number, sample| sample.kind.is_none() || number % 5 == 0)),
        ("a value in every line", text(&|_, sample| sample.kind.is_some())),
    ];
    let defaults: Vec<Rule> = Kind::ALL.into_iter().filter(|kind| kind.is_default()).map(Rule::of).collect();
    let all: Vec<Rule> = Kind::ALL.into_iter().map(Rule::of).collect();
    let user = |number: usize| Rule {
        what: What::Pattern { regex: format!(r"\bEMP{number}-[0-9]{{6}}\b"), check: None::<Check> },
        ..Rule::of(Kind::Ssn)
    };
    let patterned: Vec<Rule> = defaults.iter().cloned().chain((0..10).map(user)).collect();
    let one = [Rule::of(Kind::Card)];
    for (rules, list) in
        [("card", &one[..]), ("defaults", &defaults), ("defaults and 10 patterns", &patterned), ("all kinds", &all)]
    {
        let detectors = Detectors::compile((0..).zip(list)).map_err(|error| error.to_string())?;
        for (name, text) in &texts {
            let (rate, found) = rate(&detectors, text.as_bytes());
            println!("{}", serde_json::json!({ "rules": rules, "text": name, "mb_per_s": rate, "hits": found }));
        }
    }
    Ok(())
}

/// The best of some rounds, in windows as the relay has them.
#[allow(clippy::cast_precision_loss, reason = "megabytes")]
fn rate(detectors: &Detectors, text: &[u8]) -> (f64, usize) {
    let (mut best, mut found) = (f64::INFINITY, 0);
    for _ in 0..5 {
        let start = Instant::now();
        let mut hits = Vec::new();
        found = 0;
        for window in text.chunks(64 * 1024) {
            hits.clear();
            detectors.find(window, Edges { before: None, inside: None, ends: true }, &mut hits);
            found += black_box(&hits).len();
        }
        best = best.min(start.elapsed().as_secs_f64());
    }
    (text.len() as f64 / 1e6 / best, found)
}
