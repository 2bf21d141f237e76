//! `crewtap policy check`: what is wrong with policy files, and what is likely not meant.

use std::collections::BTreeSet;

use crewtap_core::policy::catalog::Catalog;
use crewtap_core::policy::rules::{Fault, Known, Rules};
use crewtap_core::target::Resource;
use nix::unistd::Group;
use serde::Serialize;

use crate::cli::screen::{Screen, Style, counted, safe};

/// One finding.
#[derive(Serialize)]
struct Finding<'f> {
    weight: &'static str,
    file: &'f str,
    line: usize,
    text: &'f str,
}

/// The last line of `--json`.
#[derive(Serialize)]
struct Summary {
    files: usize,
    policies: usize,
    faults: usize,
    warnings: usize,
}

/// Names that policies may use; targets are compared only where there is a catalog.
pub(super) fn known(rules: &Rules, catalog: Option<&Catalog>) -> Known {
    let targets = catalog.map(|catalog| catalog.entries().iter().map(|entry| entry.name.clone()).collect());
    let tags = catalog.map(|catalog| {
        let tags = catalog.entries().iter().flat_map(|entry| entry.tags.iter().cloned());
        tags.chain([Resource::UNCATALOGUED.to_owned()]).collect()
    });
    Known { targets, tags, groups: Some(groups(&rules.groups())) }
}

/// Groups of the host: those of its file, for suggestions, and those of policies that any of its sources knows.
fn groups(named: &BTreeSet<String>) -> BTreeSet<String> {
    let file = std::fs::read_to_string("/etc/group").unwrap_or_default();
    let listed = file.lines().filter_map(|line| line.split(':').next()).map(|name| format!("os:{name}"));
    let exists = |group: &&String| {
        let name = group.strip_prefix("os:");
        // What cannot be asked is not said to be missing.
        name.is_some_and(|name| !matches!(Group::from_name(name), Ok(None)))
    };
    listed.chain(named.iter().filter(exists).cloned()).collect()
}

/// Prints what was found; whether nothing is wrong.
///
/// # Errors
/// When nothing can be printed.
pub(super) fn print(
    files: &[(String, String)],
    parsed: &Result<Rules, Vec<Fault>>,
    catalog: Option<&Catalog>,
    screen: &mut Screen,
) -> anyhow::Result<bool> {
    let (faults, warnings, policies) = match parsed {
        Ok(rules) => (&[][..], rules.warnings(&known(rules, catalog)), rules.len()),
        Err(faults) => (faults.as_slice(), Vec::new(), 0),
    };
    for (weight, style, found) in [("fault", Style::Alarm, faults), ("warning", Style::Heading, warnings.as_slice())] {
        for Fault { file, line, what } in found {
            if screen.json {
                screen.json(&Finding { weight, file, line: *line, text: what })?;
            } else {
                let weight = screen.styled(weight, style);
                screen.line(&format!("{}:{line}: {weight}: {}", safe(file), safe(what)))?;
            }
        }
    }
    let summary = Summary { files: files.len(), policies, faults: faults.len(), warnings: warnings.len() };
    if screen.json {
        screen.json(&summary)?;
        return Ok(faults.is_empty());
    }
    let many = |count: usize, one: &str, many: &str| counted(i64::try_from(count).unwrap_or(i64::MAX), one, many);
    let files = many(summary.files, "file", "files");
    let verdict = if faults.is_empty() {
        format!(
            "{} in {files}, {}",
            many(policies, "policy", "policies"),
            many(summary.warnings, "warning", "warnings")
        )
    } else {
        format!("{} in {files}: no policy of them comes into force", many(summary.faults, "fault", "faults"))
    };
    screen.line(&verdict)?;
    Ok(faults.is_empty())
}
