//! The repository's Rust files, and their text without comments and strings. Knows no rule.

use std::fs;
use std::path::Path;

/// One file.
pub struct Source {
    /// Its path from the root of the repository, with `/`.
    pub path: String,
    /// As it is on disk.
    pub text: String,
    /// The same, with comments, strings and characters blanked out.
    pub code: String,
}

impl Source {
    pub fn new(path: &str, text: &str) -> Self {
        Self { path: path.to_owned(), text: text.to_owned(), code: blank(text) }
    }

    /// The lines of code with their numbers.
    pub fn code_lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.code.lines().enumerate().map(|(index, line)| (index + 1, line))
    }

    /// Whether the comment right above a line, or on it, holds `word`.
    pub fn is_explained(&self, number: usize, word: &str) -> bool {
        let lines: Vec<&str> = self.text.lines().collect();
        let above = lines.iter().take(number - 1).rev().take_while(|line| {
            let line = line.trim_start();
            line.starts_with("//") || line.starts_with("#[") || line.ends_with('=') || line.ends_with('(')
        });
        above.chain(lines.get(number - 1)).any(|line| line.contains(word))
    }
}

pub fn clone_root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate lies in the clone")
}

/// All Rust files of the workspace.
pub fn all_sources() -> Vec<Source> {
    let mut found = Vec::new();
    for directory in ["agent", "agent-ebpf", "xtask", "tests"] {
        walk(&clone_root().join(directory), &mut found);
    }
    found
}

fn walk(directory: &Path, found: &mut Vec<Source>) {
    for entry in fs::read_dir(directory).expect("a readable directory") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() && !name.starts_with('.') && name != "target" {
            walk(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).expect("a source file is UTF-8");
            let path = path.strip_prefix(clone_root()).expect("below the root").to_string_lossy().into_owned();
            found.push(Source::new(&path, &text));
        }
    }
}

/// Replaces comments, strings and characters by blanks; line breaks stay.
fn blank(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(letter) = rest.chars().next() {
        let previous = out.chars().next_back().unwrap_or(' ');
        let skipped = match letter {
            '/' if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
            '/' if rest.starts_with("/*") => block_comment(rest),
            '"' => string(rest),
            'r' if !is_word(previous) || previous == 'b' => raw_string(rest),
            '\'' => character(rest),
            _ => 0,
        };
        let taken = if skipped == 0 { letter.len_utf8() } else { skipped };
        let (part, next) = rest.split_at(taken);
        if skipped == 0 {
            out.push_str(part);
        } else {
            out.extend(part.chars().map(|letter| if letter == '\n' { '\n' } else { ' ' }));
        }
        rest = next;
    }
    out
}

fn is_word(letter: char) -> bool {
    letter.is_alphanumeric() || letter == '_'
}

fn block_comment(rest: &str) -> usize {
    let mut depth = 0;
    for (index, _) in rest.char_indices() {
        let here = &rest[index..];
        if here.starts_with("/*") {
            depth += 1;
        } else if here.starts_with("*/") {
            depth -= 1;
            if depth == 0 {
                return index + 2;
            }
        }
    }
    rest.len()
}

fn string(rest: &str) -> usize {
    let mut escaped = false;
    for (index, letter) in rest.char_indices().skip(1) {
        match letter {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return index + 1,
            _ => {}
        }
    }
    rest.len()
}

/// The length of `r#"..."#` at the beginning, else 0.
fn raw_string(rest: &str) -> usize {
    let hashes = rest[1..].chars().take_while(|letter| *letter == '#').count();
    if !rest[1 + hashes..].starts_with('"') {
        return 0;
    }
    let end = format!("\"{}", "#".repeat(hashes));
    let start = hashes + 2;
    rest[start..].find(&end).map_or(rest.len(), |at| start + at + end.len())
}

/// The length of a character literal at the beginning; 0 for a lifetime.
fn character(rest: &str) -> usize {
    if rest.starts_with("'\\") {
        return rest[3..].find('\'').map_or(0, |at| at + 4);
    }
    let mut letters = rest.char_indices().skip(2);
    letters.next().filter(|(_, letter)| *letter == '\'').map_or(0, |(index, _)| index + 1)
}

#[test]
fn blanking_keeps_code_and_lines() {
    let text = "let a = \"x // y\"; // todo!\nlet b = 'c'; let d: &'static str = r#\"unsafe \"# /* x\n */;\n";
    let code = blank(text);
    assert_eq!(code.lines().count(), text.lines().count());
    assert!(code.contains("let a =") && code.contains("&'static str"));
    assert!(!code.contains("todo") && !code.contains("unsafe") && !code.contains("'c'"));
    assert_eq!(blank("b'\\'' + '\\u{1F600}' x"), "b     +             x");
}
