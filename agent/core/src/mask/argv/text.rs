//! Credentials inside one word: URLs, headers, assignments, JSON members, and tokens with a shape.
//!
//! Owns finding them in a text that is there as a whole. Where a value ends is in doubt, the longer one is taken.

use super::Span;
use super::ahead::Ahead;
use crate::mask::names::{self, HeaderRule};

/// Everything in `text` that is to be replaced, in no order; `whole`: it is an argument of its own, not part of a script.
pub(super) fn spans(text: &str, whole: bool) -> Vec<Span> {
    let mut found = searched(text, whole);
    found.extend(header(text));
    private_keys(text, &mut found);
    found
}

/// What is found by looking ahead from a mark.
pub(super) fn searched(text: &str, whole: bool) -> Vec<Span> {
    let mut found = Vec::new();
    url_passwords(text, &mut found);
    assignments(text, whole, &mut found);
    tokens(text, &mut found);
    found
}

/// Names of variables, options and members that hold credentials: by their last word, in any spelling.
pub(super) fn is_secret_name(name: &str) -> bool {
    /// Endings without separators; `PWD` and `OLDPWD` are directories.
    const ENDINGS: &[&str] = &[
        "password",
        "passwd",
        "passphrase",
        "token",
        "secret",
        "apikey",
        "secretkey",
        "accesskey",
        "accountkey",
        "privatekey",
        "sharedkey",
        "credential",
        "credentials",
        "signingkey",
        "encryptionkey",
        "authkey",
        "bearer",
    ];
    /// Whole last words.
    const WORDS: &[&str] = &["pass", "pwd", "pw"];
    let bare = name.trim_start_matches('-');
    let lower = bare.to_ascii_lowercase();
    if matches!(bare, "PWD" | "OLDPWD") || lower.starts_with("no-") || lower.starts_with("no_") {
        return false;
    }
    let joined: String = lower.chars().filter(|letter| !matches!(letter, '-' | '_' | '.')).collect();
    let last = lower.rsplit(['-', '_', '.']).next().unwrap_or_default();
    ENDINGS.iter().any(|ending| joined.ends_with(ending)) || WORDS.contains(&last)
}

/// `Name: value` of a listed header, also behind `-H` or `--header=`.
fn header(text: &str) -> Option<Span> {
    let line = text
        .strip_prefix("--header=")
        .or_else(|| text.strip_prefix("--proxy-header="))
        .or_else(|| text.strip_prefix("-H"))
        .unwrap_or(text)
        .trim_start();
    let (name, value) = line.split_once(':')?;
    let (scheme, rule) = names::header(name.trim_end().as_bytes())?;
    let mut value = value.trim_start();
    if rule == HeaderRule::AfterScheme
        && let Some((word, credential)) = value.split_once(char::is_whitespace)
        && names::scheme(word.as_bytes()).is_some()
    {
        value = credential.trim_start();
    }
    Some(Span { range: text.len() - value.len()..text.len(), scheme })
}

/// `scheme://user:password@host`.
fn url_passwords(text: &str, found: &mut Vec<Span>) {
    let mut url_end = Ahead::new(text, |letter| matches!(letter, ' ' | '\t' | '\r' | '\n' | '"' | '<' | '>'));
    let mut authority_end = Ahead::new(text, |letter| matches!(letter, '/' | '?' | '#'));
    // All that begin in one URL have its last `@` in common.
    let mut last_at = (0, None);
    for (at, _) in text.match_indices("://") {
        let start = at + 3;
        let end = url_end.from(start);
        if last_at.0 != end {
            last_at = (end, text.get(start..end).and_then(|url| url.rfind('@')).map(|distance| start + distance));
        }
        let authority = text.get(start..authority_end.from(start).min(end)).unwrap_or_default();
        // A password may hold an unescaped `/`, `?` or `#`: then what follows the `:` is no port.
        let port = authority.rsplit(':').next().unwrap_or_default();
        let own_at = authority.rfind('@').map(|distance| start + distance);
        let broken = own_at.is_none() && !port.bytes().all(|byte| byte.is_ascii_digit());
        let Some(userinfo_end) = (if broken { last_at.1 } else { own_at }) else { continue };
        // The `:` of the next `://` is the last one that this can run into.
        let userinfo = text.get(start..userinfo_end).unwrap_or_default();
        if let Some(colon) = userinfo.find(':') {
            found.push(Span { range: start + colon + 1..userinfo_end, scheme: "url-password" });
        }
    }
}

/// `name=value`, `name = value` and `"name": "value"`.
fn assignments(text: &str, whole: bool, found: &mut Vec<Span>) {
    let mut ends = ValueEnds::new(text);
    for (at, mark) in text.match_indices(['=', ':']) {
        let before = text.get(..at).unwrap_or_default().trim_end_matches(' ');
        let quoted = before.ends_with(['"', '\'']);
        if mark == ":" && !quoted {
            continue;
        }
        let before = before.trim_end_matches(['"', '\'', '\\']);
        let is_name = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '_' | '-' | '.');
        let name = before.get(before.trim_end_matches(is_name).len()..).unwrap_or_default();
        let name_at = before.len() - name.len();
        let in_query = before.get(..name_at).is_some_and(|head| head.ends_with(['?', '&', '#']));
        let scheme = match (in_query, mark) {
            (true, _) if names::parameter(name.as_bytes()).is_some() || is_secret_name(name) => "query",
            (false, "=") if is_secret_name(name) => "assignment",
            (false, ":") if is_secret_name(name) => "member",
            _ => continue,
        };
        let after = text.get(at + 1..).unwrap_or_default();
        let value = if before.len() < at || quoted { after.trim_start() } else { after };
        let start = text.len() - value.len();
        let rest_of_word = whole && name_at == 0 && (name.starts_with('-') || !name.contains(char::is_lowercase));
        let range = quoted_value(value).map(|range| start + range.start..start + range.end);
        let range = range.unwrap_or_else(|| match (scheme, rest_of_word) {
            ("query", _) => start..ends.query.from(start),
            (_, true) => start..text.len(),
            (_, false) => start..ends.unquoted(start),
        });
        found.push(Span { range, scheme });
    }
}

/// Where the value stands that begins with a quotation mark; it is read up to its end, which is where the next one
/// of the same mark may begin.
fn quoted_value(value: &str) -> Option<std::ops::Range<usize>> {
    let escaped_quotes = usize::from(value.starts_with("\\\""));
    let mark = value.get(escaped_quotes..)?.chars().next().filter(|mark| matches!(mark, '"' | '\''))?;
    let start = escaped_quotes + 1;
    let mut escaped = false;
    for (index, letter) in value.char_indices().skip_while(|(index, _)| *index < start) {
        match letter {
            letter if letter == mark && (!escaped || escaped_quotes > 0) => {
                return Some(start..index - usize::from(escaped && escaped_quotes > 0));
            }
            '\\' => escaped = !escaped,
            _ => escaped = false,
        }
    }
    Some(start..value.len())
}

/// Where values without quotation marks end.
struct ValueEnds<'a> {
    text: &'a str,
    query: Ahead<'a, fn(char) -> bool>,
    separator: Ahead<'a, fn(char) -> bool>,
    assignment: Ahead<'a, fn(char) -> bool>,
}

impl<'a> ValueEnds<'a> {
    fn new(text: &'a str) -> Self {
        Self {
            text,
            query: Ahead::new(text, |letter| matches!(letter, '&' | '#' | ' ' | '\t' | '\n' | '"' | '\'' | '<' | '>')),
            separator: Ahead::new(text, |letter| matches!(letter, ' ' | '\t' | '\n' | '&' | ';' | ',' | '"' | '\'')),
            assignment: Ahead::new(text, |letter| matches!(letter, '=' | '"' | '\'' | '\n')),
        }
    }

    fn unquoted(&mut self, start: usize) -> usize {
        let end = self.separator.from(start);
        // A separator with no further assignment behind it is part of the value.
        let separates = self.assignment.from(end) < self.text.len()
            || self.text.get(end..).is_some_and(|rest| rest.starts_with(' '));
        if separates { end } else { self.text.len() }
    }
}

/// Prefixes that issuers give their tokens, and how many characters follow at least.
pub(super) const SHAPES: &[(&str, usize)] = &[
    ("sk-", 16),
    ("sk_live_", 16),
    ("sk_test_", 16),
    ("rk_live_", 16),
    ("gsk_", 20),
    ("xai-", 20),
    ("ghp_", 20),
    ("gho_", 20),
    ("ghu_", 20),
    ("ghs_", 20),
    ("ghr_", 20),
    ("github_pat_", 20),
    ("glpat-", 16),
    ("AKIA", 16),
    ("ASIA", 16),
    ("AIza", 30),
    ("xoxb-", 10),
    ("xoxp-", 10),
    ("xoxa-", 10),
    ("xoxo-", 10),
    ("xoxr-", 10),
    ("xoxs-", 10),
    ("xapp-", 10),
    ("hf_", 20),
    ("npm_", 30),
    ("pypi-", 30),
    ("hvs.", 20),
    ("dop_v1_", 30),
    ("SG.", 30),
    ("ya29.", 20),
    ("sq0csp-", 20),
    ("shpat_", 20),
];

fn tokens(text: &str, found: &mut Vec<Span>) {
    let is_token = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '_' | '-' | '.');
    let boundary = |at: usize| !text.get(..at).unwrap_or_default().ends_with(|l: char| l.is_ascii_alphanumeric());
    for (prefix, more) in SHAPES {
        let mut ends = Ahead::new(text, |letter| !is_token(letter));
        for (at, _) in text.match_indices(prefix) {
            let end = ends.from(at);
            if boundary(at) && end - at >= prefix.len() + more {
                found.push(Span { range: at..end, scheme: "token" });
            }
        }
    }
    // A JSON web token: three parts, the first two JSON objects in base64 (RFC 7519 section 3.1).
    let mut ends = Ahead::new(text, |letter| !is_token(letter));
    let (mut first_dot, mut second_dot) = (Ahead::new(text, |l| l == '.'), Ahead::new(text, |l| l == '.'));
    for (at, _) in text.match_indices("eyJ") {
        let end = ends.from(at);
        let three_parts = second_dot.from(first_dot.from(at).saturating_add(1).min(text.len())) < end;
        if boundary(at) && three_parts && end - at >= 20 {
            found.push(Span { range: at..end, scheme: "jwt" });
        }
    }
}

fn private_keys(text: &str, found: &mut Vec<Span>) {
    for (at, _) in text.match_indices("-----BEGIN ") {
        let Some(rest) = text.get(at..) else { continue };
        if rest.get(11..).is_some_and(|label| label.split("-----").next().is_some_and(|l| l.ends_with("PRIVATE KEY"))) {
            found.push(Span { range: at..text.len(), scheme: "private-key" });
        }
    }
}
