//! Redaction of command lines: credentials in arguments become scheme, length and keyed digest.
//!
//! Owns the places in which programs take credentials: options (`--password X`, `--token=X`, `mysql -pX`, `curl -u
//! user:X`), assignments (`PGPASSWORD=X`, connection strings), URLs, headers, JSON members, and tokens whose issuer
//! gave them a shape. Scripts behind `sh -c` are read word by word. Everything else stays byte for byte. What no rule
//! knows (a password as a bare argument of a program that is not listed) is not found: that is out of reach here.

mod ahead;
mod programs;
mod script;
mod text;

use std::ops::Range;

use programs::{Rule, Shape};

/// A command line without its credentials.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Redacted {
    /// The arguments; each credential is replaced by `[redacted:SCHEME:LENGTH:DIGEST]`.
    pub argv: Vec<String>,
    /// How many credentials were replaced.
    pub count: u64,
    /// What was replaced, as `SCHEME LENGTH DIGEST`.
    pub values: Vec<String>,
}

/// A part of one argument that is to be replaced.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Span {
    range: Range<usize>,
    scheme: &'static str,
}

/// One word: an argument, or a part of one that is a script.
#[derive(Clone, Copy)]
struct Word<'a> {
    text: &'a str,
    /// Where it begins in its argument.
    at: usize,
    /// The argument's number.
    argument: usize,
    /// It is a whole argument, so that spaces in it belong to its value.
    whole: bool,
}

/// Replaces the credentials of a command line; `digest` gives the keyed digest of a clear value.
#[must_use]
pub fn redact(argv: &[String], digest: &dyn Fn(&[u8]) -> String) -> Redacted {
    let words: Vec<Word<'_>> =
        argv.iter().enumerate().map(|(argument, text)| Word { text, at: 0, argument, whole: true }).collect();
    let mut spans = vec![Vec::new(); argv.len()];
    scan(&words, 0, &mut spans);
    let mut redacted = Redacted::default();
    for (text, spans) in argv.iter().zip(spans) {
        redacted.argv.push(replaced(text, spans, digest, &mut redacted.values));
    }
    redacted.count = redacted.values.len() as u64;
    redacted
}

/// What the word before means for the next one.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Expect {
    Nothing,
    Value(&'static str, Shape),
    Script,
}

/// Scripts within scripts that are read; people nest two. Each is read as a whole once more.
const SCRIPT_DEPTH_MAX: usize = 8;

fn scan(words: &[Word<'_>], depth: usize, spans: &mut [Vec<Span>]) {
    let mut program = None;
    let mut login = false;
    let mut expect = Expect::Nothing;
    for word in words {
        let expected = std::mem::replace(&mut expect, Expect::Nothing);
        let remote = program == Some("ssh") && word.whole && word.text.contains(char::is_whitespace);
        let is_script = remote || expected == Expect::Script;
        let mut found = text::spans(word.text, word.whole && !is_script);
        match expected {
            Expect::Value(scheme, shape) if !word.text.starts_with("--") => {
                found.extend(shape.span(word.text, 0, scheme));
            }
            _ if is_script => {
                if depth < SCRIPT_DEPTH_MAX {
                    scan(&script::words(word.text, word.at, word.argument), depth + 1, spans);
                }
            }
            _ => {
                if script::ends_command(word.text) && !word.whole {
                    (program, login) = (None, false);
                }
                if let Some(known) = programs::program(word.text) {
                    program = Some(known);
                }
                login |= word.text == "login";
                expect = option(word.text, program, login, &mut found);
            }
        }
        if let Some(into) = spans.get_mut(word.argument) {
            into.extend(
                found.into_iter().map(|span| Span {
                    range: span.range.start + word.at..span.range.end + word.at,
                    scheme: span.scheme,
                }),
            );
        }
    }
}

/// Reads `word` as an option: its attached value goes to `found`, a separate one is expected.
fn option(word: &str, program: Option<&'static str>, login: bool, found: &mut Vec<Span>) -> Expect {
    if !word.starts_with('-') {
        return Expect::Nothing;
    }
    if programs::takes_script(program, word) {
        return Expect::Script;
    }
    for Rule { flag, attached, separate, shape, scheme } in programs::rules(program, login) {
        let Some(rest) = word.strip_prefix(flag) else { continue };
        let value = if flag.starts_with("--") { rest.strip_prefix('=') } else { Some(rest) };
        match value {
            _ if rest.is_empty() && *separate => return Expect::Value(scheme, *shape),
            Some(value) if *attached && !value.is_empty() => {
                found.extend(shape.span(word, word.len() - value.len(), scheme));
                return Expect::Nothing;
            }
            _ => {}
        }
    }
    if word.len() > 2 && !word.contains('=') && text::is_secret_name(word) {
        return Expect::Value("option", Shape::Whole);
    }
    Expect::Nothing
}

fn replaced(text: &str, mut spans: Vec<Span>, digest: &dyn Fn(&[u8]) -> String, values: &mut Vec<String>) -> String {
    // The widest of those that begin together wins; what lies inside another is part of it.
    spans.sort_by_key(|span| (span.range.start, std::cmp::Reverse(span.range.end)));
    let mut shown = String::with_capacity(text.len());
    let mut at = 0;
    for Span { range, scheme } in spans {
        let start = range.start.max(at);
        let Some(value) = text.get(start..range.end).filter(|value| !value.is_empty()) else { continue };
        shown.push_str(text.get(at..start).unwrap_or_default());
        let (len, digest) = (value.len(), digest(value.as_bytes()));
        shown.extend(["[redacted:", scheme, ":", &len.to_string(), ":", &digest, "]"]);
        values.push(format!("{scheme} {len} {digest}"));
        at = range.end;
    }
    shown.push_str(text.get(at..).unwrap_or_default());
    shown
}

/// Fuzz entry: arguments between NUL bytes.
///
/// # Panics
/// Where the number of arguments changes; the fuzzer and the tests look for it.
pub fn fuzz_argv(data: &[u8]) {
    let argv: Vec<String> =
        data.split(|byte| *byte == 0).map(|arg| String::from_utf8_lossy(arg).into_owned()).collect();
    let redacted = redact(&argv, &|value| value.len().to_string());
    assert_eq!(argv.len(), redacted.argv.len());
    assert!(redacted.count > 0 || argv == redacted.argv, "nothing was found, and something changed");
}

#[cfg(test)]
mod tests;
