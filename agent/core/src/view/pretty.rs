//! JSON for reading: one member a line.
//!
//! Owns white space only: values stay as they were written, digits, escapes and the order of members included. Never
//! builds a tree, so that depth costs no stack; what is no JSON is not shown as such.

/// Deepest nesting that is indented; what is deeper is no JSON for us.
const DEPTH_MAX: usize = 128;

/// Where in a text the next token is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Expect {
    Value,
    /// A value, or the end of the array.
    First,
    /// A member's name, or the end of the object.
    FirstName,
    Name,
    Colon,
    /// A comma, or the end of what is open.
    Next,
    Nothing,
}

/// `text` with line breaks and indentation, at most about `max` bytes of it; then it ends in `…`. None where it is no
/// JSON text (RFC 8259), or where it is cut before the bound is reached.
#[must_use]
pub fn json(text: &str, max: usize) -> Option<String> {
    let mut printer = Printer { out: String::new(), open: Vec::new(), expect: Expect::Value };
    let mut rest = text.trim_start_matches(is_space);
    while !rest.is_empty() {
        let len = printer.token(rest)?;
        if printer.out.len() > max {
            let fits = (0..=max).rev().find(|at| printer.out.is_char_boundary(*at)).unwrap_or(0);
            printer.out.truncate(fits);
            printer.out.push('…');
            return Some(printer.out);
        }
        rest = rest.get(len..)?.trim_start_matches(is_space);
    }
    (printer.expect == Expect::Nothing).then_some(printer.out)
}

struct Printer {
    out: String,
    /// What closes each bracket that is open.
    open: Vec<char>,
    expect: Expect,
}

impl Printer {
    /// Prints the token at the start of `rest`; gives its length.
    fn token(&mut self, rest: &str) -> Option<usize> {
        let first = rest.chars().next()?;
        match (first, self.expect) {
            ('{', Expect::Value | Expect::First) => self.begin('}', Expect::FirstName),
            ('[', Expect::Value | Expect::First) => self.begin(']', Expect::First),
            ('}', Expect::FirstName) | (']', Expect::First) => self.end(first, true),
            ('}' | ']', Expect::Next) => self.end(first, false),
            (',', Expect::Next) => {
                self.out.push(',');
                self.line();
                self.expect = if self.open.last() == Some(&'}') { Expect::Name } else { Expect::Value };
                Some(1)
            }
            (':', Expect::Colon) => {
                self.out.push_str(": ");
                self.expect = Expect::Value;
                Some(1)
            }
            ('"', Expect::FirstName | Expect::Name) => {
                self.first_line();
                self.expect = Expect::Colon;
                self.print(rest, string(rest)?)
            }
            (_, Expect::Value | Expect::First) => {
                self.first_line();
                let len = if first == '"' { string(rest)? } else { word(rest)? };
                self.value_over();
                self.print(rest, len)
            }
            _ => None,
        }
    }

    fn begin(&mut self, closes: char, expect: Expect) -> Option<usize> {
        self.first_line();
        self.out.push(if closes == '}' { '{' } else { '[' });
        self.open.push(closes);
        self.expect = expect;
        (self.open.len() <= DEPTH_MAX).then_some(1)
    }

    fn end(&mut self, closes: char, empty: bool) -> Option<usize> {
        if self.open.pop() != Some(closes) {
            return None;
        }
        if !empty {
            self.line();
        }
        self.out.push(closes);
        self.value_over();
        Some(1)
    }

    fn value_over(&mut self) {
        self.expect = if self.open.is_empty() { Expect::Nothing } else { Expect::Next };
    }

    fn first_line(&mut self) {
        if matches!(self.expect, Expect::First | Expect::FirstName) {
            self.line();
        }
    }

    fn line(&mut self) {
        self.out.push('\n');
        self.out.extend(std::iter::repeat_n("  ", self.open.len()));
    }

    fn print(&mut self, rest: &str, len: usize) -> Option<usize> {
        self.out.push_str(rest.get(..len)?);
        Some(len)
    }
}

/// The length of the string at the start, with its quotes.
fn string(rest: &str) -> Option<usize> {
    let mut escaped = false;
    for (at, byte) in rest.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return Some(at + 1),
            0..b' ' => return None,
            _ => {}
        }
    }
    None
}

/// The length of the number or word at the start.
fn word(rest: &str) -> Option<usize> {
    let len =
        rest.find(|letter: char| !letter.is_ascii_alphanumeric() && !"+-.".contains(letter)).unwrap_or(rest.len());
    let word = rest.get(..len)?;
    let known = matches!(word, "true" | "false" | "null");
    (known || word.starts_with(|letter: char| letter.is_ascii_digit() || letter == '-')).then_some(len)
}

const fn is_space(letter: char) -> bool {
    matches!(letter, ' ' | '\t' | '\n' | '\r')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_gets_lines_and_keeps_its_values() {
        let text = r#" {"b":[1,-2.50e3,{"é":"a\"\u00e9,"}],"a":{},"c":[ ],"d":null} "#;
        let expected = "{\n  \"b\": [\n    1,\n    -2.50e3,\n    {\n      \"é\": \"a\\\"\\u00e9,\"\n    }\n  ],\n  \"a\": {},\n  \"c\": [],\n  \"d\": null\n}";
        assert_eq!(json(text, 1000).unwrap(), expected);
        assert_eq!(json("true", 9).unwrap(), "true");
        assert_eq!(json(text, 20).unwrap(), "{\n  \"b\": [\n    1,\n  …");
    }

    #[test]
    fn what_is_no_json_is_not_printed_as_such() {
        for text in [
            "",
            "plain",
            "{\"a\":1",
            "[1,]",
            "{,}",
            "{\"a\" 1}",
            "[1 2]",
            "]",
            "{]",
            "1 2",
            "\"a",
            "{\"a\":1}}",
            "[1}",
            "{1:2}",
            "\"a\nb\"",
        ] {
            assert_eq!(json(text, 1000), None, "{text:?}");
        }
        assert_eq!(json(&"[".repeat(100_000), 1 << 20), None);
    }

    #[test]
    fn printing_changes_white_space_only() {
        let text = r#"[{"role":"user","content":"a b\n"},[[]],[{}],false,0]"#;
        let printed: serde_json::Value = serde_json::from_str(&json(text, 1000).unwrap()).unwrap();
        assert_eq!(printed, serde_json::from_str::<serde_json::Value>(text).unwrap());
    }
}
