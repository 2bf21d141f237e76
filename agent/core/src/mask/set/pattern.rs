//! What can be said of a user's regular expression before it has seen anything.
//!
//! Owns the reasons why one is malformed or can never hide a thing. Never compiles one: the detectors do.

use regex_syntax::ParserBuilder;
use regex_syntax::hir::{Class, Hir, HirKind};

use super::super::rule::Check;

/// Longest text of one, in bytes.
const LENGTH_MAX: usize = 4096;

/// The group of which the find is hidden, instead of all of it.
const GROUP: &str = "value";

/// Refuses a pattern that is malformed or can never hide anything.
///
/// # Errors
/// Says what is wrong with it.
pub(super) fn refuse(regex: &str, check: Option<Check>) -> Result<(), String> {
    if regex.len() > LENGTH_MAX {
        return Err(format!("`regex` is longer than {LENGTH_MAX} bytes: make several masks of it"));
    }
    // As for bytes: a pattern may say what is no UTF-8.
    let whole = ParserBuilder::new().utf8(false).build().parse(regex).map_err(|error| malformed(&error))?;
    let Some(shortest) = whole.properties().minimum_len() else {
        return Err("`regex` can never match: nothing is in it that a text could have".into());
    };
    if whole.properties().maximum_len() == Some(0) {
        return Err("`regex` matches nothing but the empty text: it can never hide anything".into());
    }
    if shortest == 0 {
        return Err(
            "`regex` also matches the empty text: ask for at least one character, as with `+` or `{1,64}`".into()
        );
    }
    let hidden = group(&whole).unwrap_or(&whole);
    let longest = hidden.properties().maximum_len();
    if longest == Some(0) {
        return Err(format!("the group `{GROUP}` of `regex` is always empty: it can never hide anything"));
    }
    // ISO 7064 mod 97-10 has a country, its two digits and at least one character of an account.
    let (name, needed) = match check {
        None => return Ok(()),
        Some(Check::Luhn) => ("luhn", 2),
        Some(Check::Mod97) => ("mod97", 5),
    };
    if !has_digit(hidden) || longest.is_some_and(|longest| longest < needed) {
        return Err(format!("what `regex` finds can never pass `check = \"{name}\"`: it has too few digits for that"));
    }
    Ok(())
}

/// In one line: the library's own text draws the pattern.
fn malformed(error: &regex_syntax::Error) -> String {
    let (what, span) = match error {
        regex_syntax::Error::Parse(error) => (error.kind().to_string(), *error.span()),
        regex_syntax::Error::Translate(error) => (error.kind().to_string(), *error.span()),
        other => return format!("`regex` is malformed: {}", other.to_string().replace('\n', " ")),
    };
    format!("`regex` is malformed at its character {}: {what}", span.start.column)
}

fn group(hir: &Hir) -> Option<&Hir> {
    match hir.kind() {
        HirKind::Capture(capture) if capture.name.as_deref() == Some(GROUP) => Some(&capture.sub),
        kind => kind.subs().iter().find_map(group),
    }
}

/// Whether anything that it matches can have an ASCII digit.
fn has_digit(hir: &Hir) -> bool {
    match hir.kind() {
        HirKind::Literal(literal) => literal.0.iter().any(u8::is_ascii_digit),
        HirKind::Class(Class::Unicode(class)) => {
            class.ranges().iter().any(|one| one.start() <= '9' && one.end() >= '0')
        }
        HirKind::Class(Class::Bytes(class)) => {
            class.ranges().iter().any(|one| one.start() <= b'9' && one.end() >= b'0')
        }
        kind => kind.subs().iter().any(has_digit),
    }
}
