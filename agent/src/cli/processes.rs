//! The process tree of a run, out of its forks, execs and exits.
//!
//! Never guesses: a process whose parent is not on record stands at the left.

use std::collections::HashMap;
use std::io;

use super::screen::{Screen, Style, duration, short};
use crate::index::Process;

/// Characters of a command in the tree.
const COMMAND_CHARS: usize = 100;

/// Processes of a tree that are shown before "… N more".
const SHOWN_MAX: usize = 100;

/// One process: the programs it executed one after another, and its children.
#[derive(Debug)]
struct Node<'p> {
    programs: Vec<&'p Process>,
    children: Vec<usize>,
    root: bool,
}

/// Prints the tree; all of it, or its first part and how much more there is.
///
/// # Errors
/// When it cannot be written.
pub fn print(processes: &[Process], all: bool, screen: &mut Screen) -> io::Result<()> {
    let nodes = nodes(processes);
    let mut lines = Vec::new();
    // A stack of its own: a chain of forks as deep as the run likes must not overflow ours.
    let mut open: Vec<(usize, usize)> =
        (0..nodes.len()).rev().filter(|at| nodes.get(*at).is_some_and(|node| node.root)).map(|at| (at, 0)).collect();
    while let Some((at, depth)) = open.pop() {
        let Some(node) = nodes.get(at) else { continue };
        lines.push(line(node, depth));
        open.extend(node.children.iter().rev().map(|child| (*child, depth + 1)));
    }
    let shown = if all { lines.len() } else { SHOWN_MAX.min(lines.len()) };
    for line in lines.iter().take(shown) {
        screen.line(line)?;
    }
    if shown < lines.len() {
        let more = format!("  … {} more processes; --all shows them", lines.len() - shown);
        screen.line(&screen.styled(&more, Style::Faint))?;
    }
    Ok(())
}

fn nodes(processes: &[Process]) -> Vec<Node<'_>> {
    let mut nodes: Vec<Node> = Vec::new();
    let mut alive: HashMap<i64, usize> = HashMap::new();
    for process in processes {
        let known = alive.get(&process.pid).copied().filter(|at| {
            // The same pid is the same process only while it has not ended.
            let last = nodes.get(*at).and_then(|node| node.programs.last());
            last.is_some_and(|last| last.end_leaf.is_none_or(|end| end > process.leaf))
        });
        let goes_on = matches!(process.start.as_deref(), Some("exec") | None);
        if let Some(node) = known.filter(|_| goes_on).and_then(|at| nodes.get_mut(at)) {
            node.programs.push(process);
            continue;
        }
        let at = nodes.len();
        let parent = process.ppid.and_then(|ppid| alive.get(&ppid)).copied();
        nodes.push(Node { programs: vec![process], children: Vec::new(), root: parent.is_none() });
        if let Some(parent) = parent.and_then(|parent| nodes.get_mut(parent)) {
            parent.children.push(at);
        }
        alive.insert(process.pid, at);
    }
    nodes
}

fn line(node: &Node, depth: usize) -> String {
    let pid = node.programs.first().map_or(0, |process| process.pid);
    // A fork that executes at once shows what it became; its parent's arguments say nothing of it.
    let executed: Vec<&&Process> = node.programs.iter().filter(|one| one.start.as_deref() != Some("fork")).collect();
    let shown: Vec<String> = if executed.is_empty() {
        node.programs.iter().map(|process| command(process)).collect()
    } else {
        executed.iter().map(|process| command(process)).collect()
    };
    let (first, last) = (node.programs.first(), node.programs.last());
    let end = last.and_then(|process| process.ended_ns);
    let lasted = end.zip(first).map(|(end, first)| duration(Some(end.saturating_sub(first.at_ns).max(0) / 1000)));
    let status = last.and_then(|process| process.status).map(exit).unwrap_or_default();
    let lasted = match (lasted, end) {
        (Some(lasted), Some(_)) => format!("  ({lasted}{status})"),
        _ => "  (no exit on record)".into(),
    };
    format!("  {}{pid}  {}{lasted}", "  ".repeat(depth.min(40)), shown.join(" ⇒ "))
}

/// What a process executes, in one safe line. Of one that was gone before it was looked at, the kernel still told the
/// file that it executed.
pub fn command(process: &Process) -> String {
    let argv: Vec<&str> = process.argv.texts().collect();
    let file = [&process.exe, &process.filename].into_iter().flatten().find(|file| !file.is_empty());
    let command = if argv.is_empty() { file.cloned().unwrap_or_default() } else { argv.join(" ") };
    if command.is_empty() { "?".into() } else { short(&command, COMMAND_CHARS) }
}

/// A wait status in words, as a continuation.
pub fn exit(status: i64) -> String {
    match (status & 0x7f, (status >> 8) & 0xff) {
        (0, 0) => ", exit 0".into(),
        (0, code) => format!(", exit {code}"),
        (signal, _) => format!(", killed by signal {signal}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_was_gone_shows_the_file_that_the_kernel_named() {
        let gone = Process {
            leaf: 1,
            run: None,
            at_ns: 0,
            start: Some("exec".into()),
            pid: 7,
            start_ticks: None,
            ppid: None,
            uid: None,
            login_uid: None,
            exe: Some(String::new()),
            filename: Some("/usr/bin/true".into()),
            argv: crate::index::Json::default(),
            cwd: None,
            ancestors: crate::index::Json::default(),
            ended_ns: None,
            status: None,
            end_leaf: None,
        };
        assert_eq!(command(&gone), "/usr/bin/true");
        assert_eq!(command(&Process { exe: Some("/bin/other".into()), ..gone.clone() }), "/bin/other");
        assert_eq!(command(&Process { filename: None, ..gone }), "?");
    }
}
