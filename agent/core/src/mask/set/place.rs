//! Places as they are written: `column:NAME`, `header:NAME`, `json:PATH`.
//!
//! Owns their grammar in both directions. Never looks into a column, a header or JSON.

use std::fmt;
use std::iter::Peekable;
use std::str::Chars;

use super::super::rule::{JsonStep, Place};
use crate::policy::catalog::is_token;

/// Longest name of a column that PostgreSQL keeps, in bytes (`NAMEDATALEN` less its end).
const COLUMN_BYTES_MAX: usize = 63;

/// Steps of a path into JSON.
const STEPS_MAX: usize = 32;

/// What a path may have, for who has written something else.
const STEPS: &str = "a path has `.name`, `['name']`, `[3]`, `[*]`, and `..` before a name or a bracket for any depth";

impl Place {
    /// The place that a text names.
    ///
    /// # Errors
    /// Says why it names none.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            Some(("column", name)) => column(name),
            Some(("header", name)) if is_token(name) => Ok(Self::Header(name.to_ascii_lowercase())),
            Some(("header", name)) => Err(format!("\"{name}\" is no name of a header field")),
            Some(("json", path)) => steps(path).map(Self::Json).map_err(|what| format!("\"{path}\": {what}")),
            _ => Err(format!("\"{text}\" is no place: \"column:NAME\", \"json:$.PATH\" or \"header:NAME\"")),
        }
    }
}

fn column(name: &str) -> Result<Place, String> {
    if name.is_empty() || name.chars().any(char::is_control) {
        return Err(format!("\"{name}\" is no name of a column"));
    }
    if name.len() > COLUMN_BYTES_MAX {
        return Err(format!("a column's name has at most {COLUMN_BYTES_MAX} bytes: \"{name}\" can be none"));
    }
    Ok(Place::Column(name.to_lowercase()))
}

/// The steps of a path: those of RFC 9535 that name a value by its place.
fn steps(path: &str) -> Result<Vec<JsonStep>, String> {
    let mut rest = path.chars().peekable();
    if rest.next() != Some('$') {
        return Err("a path begins with `$`".into());
    }
    let mut steps = Vec::new();
    while let Some(next) = rest.next() {
        let step = match (next, rest.peek()) {
            ('.', Some('.')) if steps.last() == Some(&JsonStep::Deep) => return Err(STEPS.into()),
            ('.', Some('.')) => {
                steps.push(JsonStep::Deep);
                rest.next();
                if rest.next_if_eq(&'[').is_some() { bracket(&mut rest)? } else { name(&mut rest)? }
            }
            ('.', _) => name(&mut rest)?,
            ('[', _) => bracket(&mut rest)?,
            _ => return Err(STEPS.into()),
        };
        steps.push(step);
        if steps.len() > STEPS_MAX {
            return Err(format!("a path of more than {STEPS_MAX} steps"));
        }
    }
    if steps.is_empty() {
        return Err("it names all there is; say which value".into());
    }
    Ok(steps)
}

/// Behind a dot.
fn name(rest: &mut Peekable<Chars<'_>>) -> Result<JsonStep, String> {
    let mut name = String::new();
    while let Some(letter) = rest.next_if(|letter| is_plain(*letter)) {
        name.push(letter);
    }
    if name.is_empty() { Err(STEPS.into()) } else { Ok(JsonStep::Key(name)) }
}

/// Behind `[`.
fn bracket(rest: &mut Peekable<Chars<'_>>) -> Result<JsonStep, String> {
    let step = match rest.peek() {
        Some('*') => {
            rest.next();
            JsonStep::Every
        }
        Some(&quote @ ('\'' | '"')) => {
            rest.next();
            JsonStep::Key(quoted(rest, quote)?)
        }
        Some('0'..='9') => {
            let mut digits = String::new();
            while let Some(digit) = rest.next_if(char::is_ascii_digit) {
                digits.push(digit);
            }
            JsonStep::At(digits.parse().map_err(|_| format!("[{digits}] is no element that an array can have"))?)
        }
        _ => return Err(STEPS.into()),
    };
    if rest.next() == Some(']') { Ok(step) } else { Err(STEPS.into()) }
}

/// Up to the quote; a backslash takes what follows as it is.
fn quoted(rest: &mut Peekable<Chars<'_>>, quote: char) -> Result<String, String> {
    let mut name = String::new();
    loop {
        match rest.next() {
            Some(letter) if letter == quote => return Ok(name),
            Some('\\') => name.push(rest.next_if(|next| matches!(next, '\\' | '\'' | '"')).ok_or(STEPS)?),
            Some(letter) => name.push(letter),
            None => return Err("a quote without an end".into()),
        }
    }
}

fn is_plain(letter: char) -> bool {
    !letter.is_whitespace() && !letter.is_control() && !".[]'\"*?@()$,:\\".contains(letter)
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Column(name) => write!(f, "column:{name}"),
            Self::Header(name) => write!(f, "header:{name}"),
            Self::Json(steps) => {
                f.write_str("json:$")?;
                let mut is_deep = false;
                for step in steps {
                    match step {
                        JsonStep::Deep => f.write_str("..")?,
                        JsonStep::Every => f.write_str("[*]")?,
                        JsonStep::At(number) => write!(f, "[{number}]")?,
                        JsonStep::Key(name) if !name.is_empty() && name.chars().all(is_plain) => {
                            write!(f, "{}{name}", if is_deep { "" } else { "." })?;
                        }
                        JsonStep::Key(name) => {
                            write!(f, "['{}']", name.replace('\\', "\\\\").replace('\'', "\\'"))?;
                        }
                    }
                    is_deep = *step == JsonStep::Deep;
                }
                Ok(())
            }
        }
    }
}
