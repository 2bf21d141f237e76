//! `crewtap masks check`: what is wrong with a file of masks.

use std::collections::BTreeSet;

use crewtap_core::mask::rule::Apply;
use crewtap_core::mask::set::{File, MaskFault, Masks};
use crewtap_core::policy::catalog::Catalog;
use serde::Serialize;

use crate::cli::screen::{Screen, Style, counted, safe};
use crate::config::{Config, ConfigError};
use crate::proto;

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
    /// Rules that there are, ours included.
    masks: usize,
    /// Rules that are on.
    enabled: usize,
    faults: usize,
}

/// Prints what was found; whether nothing is wrong.
///
/// # Errors
/// When the file cannot be read, or nothing can be printed.
pub(super) fn print(config: &Config, catalog: &Catalog, screen: &mut Screen) -> anyhow::Result<bool> {
    let (masks, fault) = match config.masks(catalog) {
        Ok(masks) => (Some(masks), None),
        Err(ConfigError::Masks { fault, .. }) => (None, Some(fault)),
        Err(error) => return Err(error.into()),
    };
    let flaws = fault.map_or_else(Vec::new, |MaskFault { flaws }| flaws);
    for flaw in &flaws {
        let file = if flaw.file == File::Masks { &config.masks } else { &config.targets };
        let file = file.as_ref().map_or_else(|| "-".to_owned(), |path| path.display().to_string());
        if screen.json {
            screen.json(&Finding { weight: "fault", file: &file, line: flaw.line, text: &flaw.what })?;
        } else {
            let weight = screen.styled("fault", Style::Alarm);
            screen.line(&format!("{}:{}: {weight}: {}", safe(&file), flaw.line, safe(&flaw.what)))?;
        }
    }
    if let Some(masks) = &masks {
        unkept(masks, catalog, screen)?;
    }
    let rules = || masks.iter().flat_map(Masks::rules);
    let summary = Summary {
        masks: rules().count(),
        enabled: rules().filter(|(_, rule)| rule.enabled).count(),
        faults: flaws.len(),
    };
    if screen.json {
        screen.json(&summary)?;
        return Ok(flaws.is_empty());
    }
    let many = |count: usize, one: &str, many: &str| counted(i64::try_from(count).unwrap_or(i64::MAX), one, many);
    let verdict = if flaws.is_empty() {
        let beside = if config.masks.is_some() { "" } else { "; there is no file, so all are ours as they are" };
        format!("{}, {} of them on{beside}", many(summary.masks, "mask", "masks"), summary.enabled)
    } else {
        format!("{}: no agent starts with it", many(summary.faults, "fault", "faults"))
    };
    screen.line(&verdict)?;
    Ok(flaws.is_empty())
}

/// Says for which targets of the catalog masks cannot be kept on the wire. They hold in the record, so it is no fault.
fn unkept(masks: &Masks, catalog: &Catalog, screen: &mut Screen) -> anyhow::Result<()> {
    for entry in catalog.entries().iter().filter(|entry| !proto::MASKED_FOR_CLIENTS.contains(&entry.protocol.as_str()))
    {
        let tags: BTreeSet<String> = entry.tags.iter().cloned().collect();
        let rules = masks.for_target(Some(&entry.name), &tags, &entry.masks);
        let wired: Vec<&str> = rules
            .iter()
            .filter(|(_, rule)| rule.apply_for(Some(&entry.name)) == Apply::Wire)
            .map(|(_, rule)| rule.name.as_str())
            .collect();
        if wired.is_empty() {
            continue;
        }
        let text = format!(
            "`apply = \"wire\"` of {} cannot be kept for [target.{}], which speaks {}: it holds in the record, and mode enforce \
             refuses the connection",
            wired.join(", "),
            entry.name,
            entry.protocol
        );
        if screen.json {
            screen.json(&Finding { weight: "note", file: "-", line: 0, text: &text })?;
        } else {
            let weight = screen.styled("note", Style::Heading);
            screen.line(&format!("{weight}: {}", safe(&text)))?;
        }
    }
    Ok(())
}
