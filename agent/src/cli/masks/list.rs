//! `crewtap masks list`: all rules, and for whom they hold.

use crewtap_core::mask::rule::{Apply, Check, Kind, Place, Rule, What};
use crewtap_core::mask::set::Masks;
use crewtap_core::policy::catalog::Catalog;
use serde::Serialize;

use super::in_force;
use crate::cli::screen::{Screen, Style};
use crate::cli::table::{Align, Table};
use crate::proto;

/// One rule of a list.
#[derive(Debug, Serialize)]
struct Row<'m> {
    name: &'m str,
    /// One of ours.
    kind: Option<Kind>,
    regex: Option<&'m str>,
    check: Option<Check>,
    /// For people.
    looks_for: String,
    #[serde(rename = "where")]
    places: Vec<String>,
    apply: Apply,
    /// Targets whose clients do not get the values, where that is not for all.
    wire_targets: &'m [String],
    keep_last: usize,
    enabled: bool,
    targets: &'m [String],
    tags: &'m [String],
    /// Targets of the catalog whose `masks` name it.
    named_by: Vec<&'m str>,
}

impl<'m> Row<'m> {
    fn of(rule: &'m Rule, catalog: &'m Catalog) -> Self {
        let (kind, regex, check, looks_for) = match &rule.what {
            What::Kind(kind) => (Some(*kind), None, None, said(*kind).to_owned()),
            What::Pattern { regex, check } => {
                let passing = match check {
                    Some(Check::Luhn) => " that passes luhn",
                    Some(Check::Mod97) => " that passes mod97",
                    None => "",
                };
                (None, Some(regex.as_str()), *check, format!("/{regex}/{passing}"))
            }
            What::All => (None, None, None, "all that stands there".into()),
        };
        let naming = catalog.entries().iter().filter(|entry| entry.masks.contains(&rule.name));
        Self {
            name: &rule.name,
            kind,
            regex,
            check,
            looks_for,
            places: rule.places.iter().map(Place::to_string).collect(),
            apply: rule.apply,
            wire_targets: &rule.wire_targets,
            keep_last: rule.keep_last,
            enabled: rule.enabled,
            targets: &rule.targets,
            tags: &rule.tags,
            named_by: naming.map(|entry| entry.name.as_str()).collect(),
        }
    }

    /// From whom values are hidden.
    fn applies(&self) -> String {
        let apply = self.apply.as_str();
        if self.wire_targets.is_empty() { apply.into() } else { format!("{apply} for {}", self.wire_targets.join(" ")) }
    }

    /// For whom it holds.
    fn holds_for(&self) -> String {
        let mut groups = Vec::new();
        if self.enabled {
            let own = self.targets.iter().cloned();
            groups.extend((!self.targets.is_empty()).then(|| own.collect::<Vec<_>>().join(" ")));
            groups.extend((!self.tags.is_empty()).then(|| format!("tags {}", self.tags.join(" "))));
            return if groups.is_empty() { "all".into() } else { groups.join(" with ") };
        }
        if self.named_by.is_empty() { "none: off".into() } else { self.named_by.join(" ") }
    }
}

/// What a detector of ours looks for, in a few words.
fn said(kind: Kind) -> &'static str {
    match kind {
        Kind::Card => "payment card numbers",
        Kind::Iban => "bank account numbers (IBAN)",
        Kind::Ssn => "US social security numbers",
        Kind::ApiKey => "API keys and tokens",
        Kind::Jwt => "JSON Web Tokens",
        Kind::PrivateKey => "private keys (PEM)",
        Kind::UrlPassword => "passwords in URLs and connection strings",
        Kind::Email => "e-mail addresses",
        Kind::Phone => "telephone numbers",
        Kind::NationalId => "national identity numbers",
        Kind::Ip => "IP addresses",
    }
}

/// Prints all rules, or those in force for a target; whether there is one.
///
/// # Errors
/// When there is no such target, or nothing can be printed.
pub(super) fn print(
    masks: &Masks,
    catalog: &Catalog,
    target: Option<&str>,
    screen: &mut Screen,
) -> anyhow::Result<bool> {
    let rules: Vec<&Rule> = match target {
        Some(_) => in_force(masks, catalog, target)?.into_iter().map(|(_, rule)| rule).collect(),
        None => masks.rules().map(|(_, rule)| rule).collect(),
    };
    let mut table = Table::new(&[
        ("MASK", Align::Left),
        ("LOOKS FOR", Align::Left),
        ("WHERE", Align::Left),
        ("APPLY", Align::Left),
        ("KEEPS", Align::Right),
        ("TARGETS", Align::Left),
    ]);
    for row in rules.iter().map(|rule| Row::of(rule, catalog)) {
        if screen.json {
            screen.json(&row)?;
            continue;
        }
        let apply = row.applies();
        let places = if row.places.is_empty() { "anywhere".to_owned() } else { row.places.join(" ") };
        let holds_for = row.holds_for();
        table.row([row.name.to_owned(), row.looks_for, places, apply, row.keep_last.to_string(), holds_for]);
    }
    if !screen.json && !rules.is_empty() {
        table.print(screen)?;
        if rules.iter().any(|rule| rule.apply == Apply::Wire) {
            let protocols = proto::MASKED_FOR_CLIENTS.join(" and ");
            let note = format!(
                "wire: hidden from the client, too, where {protocols} is spoken; elsewhere in the record alone, and enforce refuses"
            );
            let note = screen.styled(&note, Style::Faint);
            screen.line(&note)?;
        }
    }
    Ok(!rules.is_empty())
}
