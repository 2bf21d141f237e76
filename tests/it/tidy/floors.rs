//! The floors of the house: which module may name which. ARCHITECTURE.md draws the same list.

use super::source::Source;

/// From the ground up, per crate. A module may name its own floor and those below it.
const CORE: &[&[&str]] = &[
    &[
        "limits", "secret", "id", "run", "session", "origin", "identity", "target", "action", "verdict", "event",
        "bodies",
    ],
    &["policy", "mask", "sniff", "wire", "chain", "view"],
];

const AGENT: &[&[&str]] = &[
    &["clock", "names"],
    &["journal", "index", "capture", "overlay", "authority", "vault", "identity", "config"],
    &["recorder", "namespace", "attribute", "selftest", "cancels"],
    &["runs"],
    &["gate", "approvals", "rules"],
    &["dial", "session", "lease", "leg", "relay", "redacted", "tls", "hostkeys", "intercept"],
    &["proto"],
    &["classify"],
    &["proxy"],
    &["daemon", "control", "cli", "console", "replay", "export", "main", "lib"],
];

/// Drivers of `proto` know the floor below and what is in `proto` itself, never each other.
const BLIND_SIBLINGS: &str = "proto";

pub fn check(source: &Source) -> Vec<String> {
    let crates = [("agent/core/src/", CORE), ("agent/src/", AGENT)];
    let Some((root, floors)) = crates.into_iter().find(|(root, _)| source.path.starts_with(root)) else {
        return Vec::new();
    };
    let inside = source.path.trim_start_matches(root).trim_end_matches(".rs").trim_end_matches("/mod");
    let module: Vec<&str> = inside.split('/').collect();
    let (Some(top), false) = (module.first(), module.last() == Some(&"tests")) else { return Vec::new() };
    if *top == "lib" && floors.len() == CORE.len() {
        return Vec::new();
    }
    let Some(here) = floor(floors, top) else {
        return vec![format!(
            "module `{top}` is on no floor: place it in tests/it/tidy/floors.rs and in ARCHITECTURE.md"
        )];
    };
    let mut wrong = Vec::new();
    for (number, relative, named) in named_paths(&source.code, &module) {
        let Some(other) = named.first() else { continue };
        // Types and macros at a crate's root, and names that are no modules of this crate.
        if other.chars().next().is_none_or(|letter| !letter.is_lowercase()) || other == top && *top != BLIND_SIBLINGS {
            continue;
        }
        match floor(floors, other) {
            Some(there) if there > here => {
                wrong.push(format!("{number}: `{top}` names `{other}`, which is on a higher floor"));
            }
            // Where modules are written in one file, `super` is that file, and what it names no module of the crate.
            None if relative => {}
            None => wrong.push(format!("{number}: `{other}` is on no floor: place it in tests/it/tidy/floors.rs")),
            Some(_) if other == BLIND_SIBLINGS && *top == BLIND_SIBLINGS => {
                wrong.extend(sibling(number, &module, &named));
            }
            Some(_) => {}
        }
    }
    wrong
}

/// `proto/a.rs` naming `crate::proto::b::X`; `proto.rs` itself knows all its drivers.
fn sibling(number: usize, module: &[&str], named: &[String]) -> Option<String> {
    let (own, other) = (module.get(1)?, named.get(1)?);
    let is_module = other.chars().next()?.is_lowercase();
    (is_module && own != other).then(|| format!("{number}: driver `{own}` names its sibling `{other}`"))
}

fn floor(floors: &[&[&str]], module: &str) -> Option<usize> {
    floors.iter().position(|names| names.contains(&module))
}

/// Every path that begins with `crate::`, or with enough `super::` to leave the top module, with its line
/// and whether it is relative.
fn named_paths(code: &str, module: &[&str]) -> Vec<(usize, bool, Vec<String>)> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices("::") {
        let before =
            code[..at].rsplit(|letter: char| !letter.is_alphanumeric() && letter != '_').next().unwrap_or_default();
        let begins = !code[..at - before.len()].ends_with("::") && !code[..at - before.len()].ends_with('$');
        if !begins || !["crate", "super"].contains(&before) {
            continue;
        }
        let mut rest = &code[at + 2..];
        let mut climbed = usize::from(before == "super");
        while let Some(further) = rest.strip_prefix("super::") {
            climbed += 1;
            rest = further;
        }
        // `super` of a top-level file is the crate's root, and so on upwards.
        if before == "super" && climbed < module.len() {
            continue;
        }
        let number = code[..at].matches('\n').count() + 1;
        found.extend(first_names(rest).into_iter().map(|path| (number, before == "super", path)));
    }
    found
}

/// The first two names of each path in `a::b`, `{a, b::c}` or `{a::{b, c}, d}`.
fn first_names(rest: &str) -> Vec<Vec<String>> {
    let Some(group) = rest.strip_prefix('{') else { return vec![two_names(rest)] };
    let (mut depth, mut start, mut paths) = (1, 0, Vec::new());
    for (at, letter) in group.char_indices() {
        match letter {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 || (depth == 1 && letter == ',') {
            paths.push(two_names(group[start..at].trim()));
            start = at + 1;
        }
        if depth == 0 {
            break;
        }
    }
    paths
}

fn two_names(path: &str) -> Vec<String> {
    let is_name = |letter: &char| letter.is_alphanumeric() || *letter == '_';
    let name = |part: &str| part.chars().take_while(is_name).collect::<String>();
    let (first, rest) = (name(path), path);
    let second = rest.strip_prefix(&format!("{first}::")).map(name).unwrap_or_default();
    [first, second].into_iter().filter(|name| !name.is_empty()).collect()
}
