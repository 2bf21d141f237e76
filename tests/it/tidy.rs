//! Rules of the house that no compiler checks, applied to every source file of the repository. Each rule is tried on a bad
//! sample as well, so that it cannot pass by finding nothing.

mod floors;
mod source;

use source::{Source, all_sources};

/// One rule: what is wrong with a file, as `line: what to do`.
type Rule = fn(&Source) -> Vec<String>;

/// Files longer than this are to be split.
const MAX_LINES: usize = 500;

/// The one file outside of agent-ebpf that may hold `unsafe`.
const UNSAFE_FILE: &str = "agent/src/capture/sys.rs";

/// Names that say nothing about what a file owns.
const EMPTY_NAMES: &[&str] =
    &["handler", "handlers", "manager", "service", "helper", "helpers", "util", "utils", "common", "data", "info"];

fn length(source: &Source) -> Vec<String> {
    let lines = source.text.lines().count();
    if lines > MAX_LINES { vec![format!("{lines} lines; split it, {MAX_LINES} are the limit")] } else { Vec::new() }
}

fn opening(source: &Source) -> Vec<String> {
    // A module's `tests.rs` belongs to the module, which has said it.
    if source.text.starts_with("//! ") || source.path.ends_with("/tests.rs") {
        return Vec::new();
    }
    vec!["1: open with `//!`: what the file owns and what it never does".to_owned()]
}

fn naming(source: &Source) -> Vec<String> {
    let parts = source.path.trim_end_matches(".rs").split('/');
    let empty = parts.filter(|part| EMPTY_NAMES.contains(part));
    empty.map(|part| format!("`{part}` is no name; say what it owns")).collect()
}

fn unsafety(source: &Source) -> Vec<String> {
    let may = source.path.starts_with("agent-ebpf/") || source.path == UNSAFE_FILE;
    let mut wrong = Vec::new();
    for (number, line) in source.code_lines() {
        if !contains_word(line, "unsafe") {
            continue;
        }
        if !may {
            wrong.push(format!("{number}: `unsafe` lives in agent-ebpf and in {UNSAFE_FILE}"));
        } else if (line.contains("unsafe {") || line.contains("unsafe impl")) && !source.is_explained(number, "SAFETY:")
        {
            wrong.push(format!("{number}: say why it is sound, with `// SAFETY:` right above"));
        }
    }
    wrong
}

fn bounds(source: &Source) -> Vec<String> {
    let unbounded = ["unbounded_channel", "UnboundedSender", "UnboundedReceiver", "mpsc::channel()", "unbounded()"];
    find(source, &unbounded, "no queue without a bound: a full one slows the traffic down")
}

fn leftovers(source: &Source) -> Vec<String> {
    find(source, &["todo!", "unimplemented!", "dbg!", "#[ignore"], "finish it, or take it out")
}

fn find(source: &Source, wanted: &[&str], why: &str) -> Vec<String> {
    let lines = source.code_lines();
    let hits = lines.flat_map(|(number, line)| {
        wanted.iter().filter(move |word| line.contains(**word)).map(move |word| (number, word))
    });
    hits.map(|(number, word)| format!("{number}: `{word}`: {why}")).collect()
}

fn contains_word(line: &str, word: &str) -> bool {
    line.split(|letter: char| !letter.is_alphanumeric() && letter != '_').any(|part| part == word)
}

/// Applies a rule to the whole repository.
fn holds_everywhere(rule: Rule) {
    let sources = all_sources();
    assert!(sources.len() > 10, "found only {} source files: the walk is broken", sources.len());
    let wrong: Vec<String> = sources
        .iter()
        .flat_map(|source| rule(source).into_iter().map(|what| format!("{}:{what}", source.path)))
        .collect();
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

/// Asserts that a rule objects to the first text, and not to the second.
fn tells_apart(rule: Rule, path: &str, bad: &str, good: &str) {
    assert!(!rule(&Source::new(path, bad)).is_empty(), "the rule does not see what is wrong in {bad:?}");
    assert_eq!(rule(&Source::new(path, good)), Vec::<String>::new(), "the rule objects to {good:?}");
}

#[test]
fn files_are_short() {
    tells_apart(length, "agent/src/relay.rs", &"\n".repeat(MAX_LINES + 1), &"\n".repeat(MAX_LINES));
    holds_everywhere(length);
}

#[test]
fn files_open_by_saying_what_they_own() {
    tells_apart(opening, "agent/src/relay.rs", "use std::io;\n", "//! Relays bytes.\n");
    holds_everywhere(opening);
}

#[test]
fn files_have_names_that_say_something() {
    let text = "//! x\n";
    assert!(!naming(&Source::new("agent/src/journal/util.rs", text)).is_empty());
    assert!(naming(&Source::new("agent/src/journal/segment.rs", text)).is_empty());
    holds_everywhere(naming);
}

#[test]
fn unsafe_has_one_place_and_a_reason() {
    let bad = "fn f() { unsafe { g() } }\n";
    tells_apart(unsafety, "agent/src/relay.rs", bad, "// unsafe is a word here\n#![forbid(unsafe_code)]\n");
    tells_apart(unsafety, UNSAFE_FILE, bad, "// SAFETY: g has no precondition.\nlet x = unsafe { g() };\n");
    holds_everywhere(unsafety);
}

#[test]
fn queues_have_bounds() {
    tells_apart(
        bounds,
        "agent/src/relay.rs",
        "let (a, b) = mpsc::unbounded_channel();\n",
        "let (a, b) = mpsc::channel(8);\n",
    );
    tells_apart(
        bounds,
        "agent/src/relay.rs",
        "let (a, b) = mpsc::channel();\n",
        "let (a, b) = mpsc::sync_channel(8);\n",
    );
    holds_everywhere(bounds);
}

#[test]
fn nothing_is_left_unfinished() {
    tells_apart(leftovers, "agent/src/relay.rs", "fn f() { todo!() }\n", "let text = \"todo!\"; // dbg!(x)\n");
    tells_apart(leftovers, "tests/it/x.rs", "#[ignore]\nfn f() {}\n", "#[test]\nfn f() {}\n");
    holds_everywhere(leftovers);
}

#[test]
fn imports_go_down_only() {
    tells_apart(
        floors::check,
        "agent/src/journal/segment.rs",
        "use crate::proxy::Proxy;\n",
        "use crate::capture::sys;\n",
    );
    tells_apart(
        floors::check,
        "agent/src/gate.rs",
        "use crate::{config, proxy};\n",
        "use crate::{config::Config, vault};\n",
    );
    tells_apart(
        floors::check,
        "agent/src/relay.rs",
        "fn f() { crate::cli::print() }\n",
        "fn f() { crate::gate::ask() }\n",
    );
    tells_apart(
        floors::check,
        "agent/src/proto/opaque.rs",
        "use crate::proto::http::X;\n",
        "use crate::proto::Driver;\n",
    );
    tells_apart(floors::check, "agent/core/src/event.rs", "use crate::mask::Masker;\n", "use crate::run::RunId;\n");
    tells_apart(floors::check, "agent/src/journal.rs", "use super::daemon::X;\n", "use super::index::X;\n");
    tells_apart(floors::check, "agent/src/journal/a.rs", "use super::super::daemon::X;\n", "use super::b::X;\n");
    tells_apart(floors::check, "agent/src/gate.rs", "use crate::sideroom::X;\n", "// crate::proxy in a comment\n");
    assert!(!floors::check(&Source::new("agent/src/sideroom.rs", "")).is_empty(), "a module on no floor is not seen");
    holds_everywhere(floors::check);
}

#[test]
fn every_crate_follows_the_workspace_lints() {
    let manifests = ["agent", "agent/core", "agent-ebpf", "xtask", "tests"];
    for manifest in manifests {
        let text = std::fs::read_to_string(source::clone_root().join(manifest).join("Cargo.toml")).expect("a manifest");
        assert!(
            text.contains("[lints]\nworkspace = true"),
            "{manifest}/Cargo.toml does not take the workspace's lints"
        );
    }
}
