//! The searches of `text` without their bound: each begins anew at its mark. What they find is what must be found.

use super::super::Span;
use super::super::text::{SHAPES, is_secret_name};
use crate::mask::names;

pub fn spans(text: &str, whole: bool) -> Vec<Span> {
    let mut found = Vec::new();
    url_passwords(text, &mut found);
    assignments(text, whole, &mut found);
    tokens(text, &mut found);
    found
}

/// `scheme://user:password@host`.
fn url_passwords(text: &str, found: &mut Vec<Span>) {
    for (at, _) in text.match_indices("://") {
        let start = at + 3;
        let rest = text.get(start..).unwrap_or_default();
        let url = rest.split([' ', '\t', '\r', '\n', '"', '<', '>']).next().unwrap_or_default();
        let authority = url.split(['/', '?', '#']).next().unwrap_or_default();
        // A password may hold an unescaped `/`, `?` or `#`: then what follows the `:` is no port.
        let port = authority.rsplit(':').next().unwrap_or_default();
        let broken = !authority.contains('@') && !port.bytes().all(|byte| byte.is_ascii_digit());
        let userinfo = if broken { url.rsplit_once('@') } else { authority.rsplit_once('@') };
        if let Some((user, password)) = userinfo.and_then(|(userinfo, _)| userinfo.split_once(':')) {
            let start = start + user.len() + 1;
            found.push(Span { range: start..start + password.len(), scheme: "url-password" });
        }
    }
}

/// `name=value`, `name = value` and `"name": "value"`.
fn assignments(text: &str, whole: bool, found: &mut Vec<Span>) {
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
        let range = value_range(value, scheme == "query", rest_of_word);
        found.push(Span { range: start + range.start..start + range.end, scheme });
    }
}

/// Where the value at the start of `value` stands.
fn value_range(value: &str, query: bool, rest_of_word: bool) -> std::ops::Range<usize> {
    let escaped_quotes = usize::from(value.starts_with("\\\""));
    if let Some(mark @ ('"' | '\'')) = value.get(escaped_quotes..).and_then(|value| value.chars().next()) {
        let start = escaped_quotes + 1;
        let mut escaped = false;
        for (index, letter) in value.char_indices().skip_while(|(index, _)| *index < start) {
            match letter {
                letter if letter == mark && (!escaped || escaped_quotes > 0) => {
                    return start..index - usize::from(escaped && escaped_quotes > 0);
                }
                '\\' => escaped = !escaped,
                _ => escaped = false,
            }
        }
        return start..value.len();
    }
    if query {
        return 0..value.find(['&', '#', ' ', '\t', '\n', '"', '\'', '<', '>']).unwrap_or(value.len());
    }
    if rest_of_word {
        return 0..value.len();
    }
    let end = value.find([' ', '\t', '\n', '&', ';', ',', '"', '\'']).unwrap_or(value.len());
    // A separator with no further assignment behind it is part of the value.
    let separates = value.get(end..).is_some_and(|rest| rest.contains(['=', '"', '\'', '\n']) || rest.starts_with(' '));
    0..if separates { end } else { value.len() }
}

fn tokens(text: &str, found: &mut Vec<Span>) {
    let is_token = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '_' | '-' | '.');
    let boundary = |at: usize| !text.get(..at).unwrap_or_default().ends_with(|l: char| l.is_ascii_alphanumeric());
    let length =
        |at: usize| text.get(at..).map_or(0, |rest| rest.find(|letter| !is_token(letter)).unwrap_or(rest.len()));
    for (prefix, more) in SHAPES {
        for (at, _) in text.match_indices(prefix) {
            let len = length(at);
            if boundary(at) && len >= prefix.len() + more {
                found.push(Span { range: at..at + len, scheme: "token" });
            }
        }
    }
    // A JSON web token: three parts, the first two JSON objects in base64 (RFC 7519 section 3.1).
    for (at, _) in text.match_indices("eyJ") {
        let len = length(at);
        let token = text.get(at..at + len).unwrap_or_default();
        if boundary(at) && token.split('.').count() >= 3 && len >= 20 {
            found.push(Span { range: at..at + len, scheme: "jwt" });
        }
    }
}
