//! PostgreSQL's tokens, exactly as its scanner tells them (src/backend/parser/scan.l of versions 12 to 18).
//!
//! Owns the boundaries of tokens, comments and strings, and the names in them. Never guesses: what the scanner would refuse,
//! or what versions tell differently, is an error.

use std::borrow::Cow;

/// Bytes of a name that count; the server cuts the rest (`NAMEDATALEN` - 1).
const NAME_BYTES_MAX: usize = 63;

/// Longest operator (NAMEDATALEN less its NUL).
const OPERATOR_BYTES_MAX: usize = 63;

/// What a token is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A keyword or a name without quotes.
    Word,
    /// A name in double quotes.
    Quoted,
    /// A name in double quotes behind `U&`.
    UnicodeQuoted,
    /// A string, in whichever quotes.
    Text,
    /// A bit string, `B''` or `X''`.
    Bits,
    /// A number.
    Number,
    /// A parameter, `$1`.
    Parameter,
    /// An operator, among them `+`, `*`, `=`, and `::`, `:=`, `=>`, `..`.
    Operator,
    /// One of `( ) [ ] , ; . :`.
    Symbol,
}

/// One token.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Token<'s> {
    /// What it is.
    pub kind: Kind,
    /// As it is written.
    pub text: &'s str,
}

/// The text is not what PostgreSQL's scanner takes, or not the same for all of its versions.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Unlexed;

impl Token<'_> {
    /// Whether it is this keyword, which is given in lower case.
    pub fn is(&self, keyword: &str) -> bool {
        self.kind == Kind::Word && self.text.eq_ignore_ascii_case(keyword)
    }

    /// Whether it is one of these keywords.
    pub fn is_one_of(&self, keywords: &[&str]) -> bool {
        keywords.iter().any(|keyword| self.is(keyword))
    }

    /// Whether it is this symbol or operator.
    pub fn is_mark(&self, mark: &str) -> bool {
        matches!(self.kind, Kind::Symbol | Kind::Operator) && self.text == mark
    }

    /// Whether it can be a name.
    pub const fn is_name(&self) -> bool {
        matches!(self.kind, Kind::Word | Kind::Quoted | Kind::UnicodeQuoted)
    }

    /// Whether it says nothing but a value.
    pub fn is_literal(&self) -> bool {
        match self.kind {
            Kind::Text | Kind::Bits | Kind::Number | Kind::Parameter => true,
            Kind::Word => self.is_one_of(&["null", "true", "false", "default"]),
            _ => false,
        }
    }

    /// The name as the server knows it: folded, without quotes, cut. `escape` is that of `UESCAPE`, else a backslash.
    pub fn name(&self, escape: char) -> Result<String, Unlexed> {
        let inner = |prefix: usize| self.text.get(prefix + 1..self.text.len() - 1).ok_or(Unlexed);
        let name = match self.kind {
            Kind::Word => Cow::Owned(self.text.to_ascii_lowercase()),
            Kind::Quoted => unquoted(inner(0)?),
            Kind::UnicodeQuoted => Cow::Owned(unescaped(&unquoted(inner(2)?), escape)?),
            _ => return Err(Unlexed),
        };
        if name.is_empty() || name.contains('\0') {
            return Err(Unlexed);
        }
        let mut cut = name.len().min(NAME_BYTES_MAX);
        while !name.is_char_boundary(cut) {
            cut -= 1;
        }
        let mut name = name.into_owned();
        name.truncate(cut);
        Ok(name)
    }
}

fn unquoted(inner: &str) -> Cow<'_, str> {
    if inner.contains("\"\"") { Cow::Owned(inner.replace("\"\"", "\"")) } else { Cow::Borrowed(inner) }
}

/// Undoes `\0061`, `\+000061` and `\\` (`str_udeescape` in parser.c).
fn unescaped(inner: &str, escape: char) -> Result<String, Unlexed> {
    let mut units: Vec<u16> = Vec::with_capacity(inner.len());
    let mut rest = inner;
    while let Some(letter) = rest.chars().next() {
        rest = rest.get(letter.len_utf8()..).unwrap_or_default();
        if letter != escape {
            units.extend_from_slice(letter.encode_utf16(&mut [0; 2]));
        } else if let Some(after) = rest.strip_prefix(escape) {
            units.extend_from_slice(escape.encode_utf16(&mut [0; 2]));
            rest = after;
        } else {
            let (from, digits) = if rest.starts_with('+') { (1, 6) } else { (0, 4) };
            let code = rest.get(from..from + digits).ok_or(Unlexed)?;
            if !code.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                return Err(Unlexed);
            }
            let code = u32::from_str_radix(code, 16).map_err(|_| Unlexed)?;
            match (u16::try_from(code), char::from_u32(code)) {
                // Halves of a surrogate pair are joined below.
                (Ok(unit), _) => units.push(unit),
                (_, Some(letter)) => units.extend_from_slice(letter.encode_utf16(&mut [0; 2])),
                _ => return Err(Unlexed),
            }
            rest = rest.get(from + digits..).unwrap_or_default();
        }
    }
    String::from_utf16(&units).map_err(|_| Unlexed)
}

/// The tokens of a text. `backslashes` says that `''` takes them as escapes (`standard_conforming_strings` is off).
pub fn tokens(sql: &str, backslashes: bool) -> Result<Vec<Token<'_>>, Unlexed> {
    let mut scanner = Scanner { sql, bytes: sql.as_bytes(), at: 0, backslashes };
    let mut found = Vec::with_capacity(sql.len() / 4);
    loop {
        scanner.skip_blank()?;
        let from = scanner.at;
        let Some(first) = scanner.peek(0) else { return Ok(found) };
        let kind = scanner.token(first)?;
        let text = sql.get(from..scanner.at).ok_or(Unlexed)?;
        found.push(Token { kind, text });
    }
}

struct Scanner<'s> {
    sql: &'s str,
    bytes: &'s [u8],
    at: usize,
    backslashes: bool,
}

impl Scanner<'_> {
    fn peek(&self, ahead: usize) -> Option<u8> {
        self.bytes.get(self.at + ahead).copied()
    }

    fn starts(&self, with: &[u8]) -> bool {
        self.bytes.get(self.at..).is_some_and(|rest| rest.starts_with(with))
    }

    fn skip_while(&mut self, wanted: fn(u8) -> bool) {
        while self.peek(0).is_some_and(wanted) {
            self.at += 1;
        }
    }

    /// White space and comments.
    fn skip_blank(&mut self) -> Result<(), Unlexed> {
        loop {
            self.skip_while(is_space);
            if self.starts(b"--") {
                self.skip_while(|byte| byte != b'\n' && byte != b'\r');
            } else if self.starts(b"/*") {
                self.comment()?;
            } else {
                return Ok(());
            }
        }
    }

    /// `/* … */`, which nests.
    fn comment(&mut self) -> Result<(), Unlexed> {
        let mut depth = 0_usize;
        loop {
            if self.starts(b"/*") {
                depth += 1;
                self.at += 2;
            } else if self.starts(b"*/") {
                depth -= 1;
                self.at += 2;
                if depth == 0 {
                    return Ok(());
                }
            } else if self.at < self.bytes.len() {
                self.at += 1;
            } else {
                return Err(Unlexed);
            }
        }
    }

    fn token(&mut self, first: u8) -> Result<Kind, Unlexed> {
        let second = self.peek(1);
        match (first, second) {
            (b'\'', _) => self.string(0, self.backslashes).map(|()| Kind::Text),
            (b'e' | b'E', Some(b'\'')) => self.string(1, true).map(|()| Kind::Text),
            (b'n' | b'N', Some(b'\'')) => self.string(1, self.backslashes).map(|()| Kind::Text),
            (b'b' | b'B' | b'x' | b'X', Some(b'\'')) => self.bits().map(|()| Kind::Bits),
            (b'u' | b'U', Some(b'&')) if self.peek(2) == Some(b'\'') => {
                // The server refuses them where backslashes escape: it could not tell what they mean.
                if self.backslashes { Err(Unlexed) } else { self.string(2, false).map(|()| Kind::Text) }
            }
            (b'u' | b'U', Some(b'&')) if self.peek(2) == Some(b'"') => self.quoted(2).map(|()| Kind::UnicodeQuoted),
            (b'"', _) => self.quoted(0).map(|()| Kind::Quoted),
            (b'$', Some(b'0'..=b'9')) => self.parameter(),
            (b'$', _) => self.dollar().map(|()| Kind::Text),
            (b'0'..=b'9', _) | (b'.', Some(b'0'..=b'9')) => self.number(),
            _ if is_name_start(first) => {
                self.skip_while(is_name_part);
                Ok(Kind::Word)
            }
            (b'.', Some(b'.')) | (b':', Some(b':' | b'=')) => {
                self.at += 2;
                Ok(Kind::Operator)
            }
            (b'(' | b')' | b'[' | b']' | b',' | b';' | b'.' | b':', _) => {
                self.at += 1;
                Ok(Kind::Symbol)
            }
            _ if is_operator(first) => self.operator(),
            _ => Err(Unlexed),
        }
    }

    /// A string in single quotes, and those that continue it on a further line.
    fn string(&mut self, prefix: usize, escapes: bool) -> Result<(), Unlexed> {
        self.at += prefix + 1;
        loop {
            match self.peek(0) {
                None => return Err(Unlexed),
                Some(b'\\') if escapes => self.at += 2,
                Some(b'\'') if self.peek(1) == Some(b'\'') => self.at += 2,
                Some(b'\'') => {
                    self.at += 1;
                    if !self.continues() {
                        return Ok(());
                    }
                }
                Some(_) => self.at += 1,
            }
        }
    }

    fn bits(&mut self) -> Result<(), Unlexed> {
        self.at += 2;
        loop {
            self.skip_while(|byte| byte != b'\'');
            if self.at >= self.bytes.len() {
                return Err(Unlexed);
            }
            self.at += 1;
            if !self.continues() {
                return Ok(());
            }
        }
    }

    /// Whether white space with a line break, and then a quote, follow: they are passed.
    fn continues(&mut self) -> bool {
        let from = self.at;
        let mut broken = false;
        loop {
            match self.peek(0) {
                Some(byte) if is_space(byte) => {
                    broken |= matches!(byte, b'\n' | b'\r');
                    self.at += 1;
                }
                Some(b'-') if self.starts(b"--") => {
                    self.skip_while(|byte| byte != b'\n' && byte != b'\r');
                    // A comment without an end of line behind it is no white space between strings.
                    if self.at >= self.bytes.len() {
                        break;
                    }
                }
                Some(b'\'') if broken => {
                    self.at += 1;
                    return true;
                }
                _ => break,
            }
        }
        self.at = from;
        false
    }

    fn quoted(&mut self, prefix: usize) -> Result<(), Unlexed> {
        self.at += prefix + 1;
        loop {
            self.skip_while(|byte| byte != b'"');
            match (self.peek(0), self.peek(1)) {
                (None, _) => return Err(Unlexed),
                (_, Some(b'"')) => self.at += 2,
                _ => {
                    self.at += 1;
                    return Ok(());
                }
            }
        }
    }

    /// `$tag$ … $tag$`.
    fn dollar(&mut self) -> Result<(), Unlexed> {
        let rest = self.sql.get(self.at..).ok_or(Unlexed)?;
        let tag = rest.get(1..).and_then(|tag| tag.split_once('$')).ok_or(Unlexed)?.0;
        let mut letters = tag.bytes();
        let is_tag = letters.next().is_none_or(is_name_start) && letters.all(is_name_part);
        let delimiter = rest.get(..tag.len() + 2).filter(|_| is_tag).ok_or(Unlexed)?;
        let body = rest.get(delimiter.len()..).ok_or(Unlexed)?;
        let end = body.find(delimiter).ok_or(Unlexed)?;
        self.at += end + 2 * delimiter.len();
        Ok(())
    }

    fn parameter(&mut self) -> Result<Kind, Unlexed> {
        self.at += 1;
        self.skip_while(|byte| byte.is_ascii_digit());
        self.apart(Kind::Parameter)
    }

    /// A number with its point and exponent; since version 16 also `0x1f` and `1_000`.
    fn number(&mut self) -> Result<Kind, Unlexed> {
        let is_digit = |byte: u8| byte.is_ascii_digit() || byte == b'_';
        if self.peek(0) == Some(b'0') && matches!(self.peek(1), Some(b'x' | b'X' | b'o' | b'O' | b'b' | b'B')) {
            self.at += 2;
            self.skip_while(|byte| byte.is_ascii_hexdigit() || byte == b'_');
            return self.apart(Kind::Number);
        }
        self.skip_while(is_digit);
        // In `1..10` the dots are an operator.
        if self.peek(0) == Some(b'.') && self.peek(1) != Some(b'.') {
            self.at += 1;
            self.skip_while(is_digit);
        }
        if matches!(self.peek(0), Some(b'e' | b'E')) {
            let signed = usize::from(matches!(self.peek(1), Some(b'+' | b'-')));
            if self.peek(1 + signed).is_some_and(|byte| byte.is_ascii_digit()) {
                self.at += 1 + signed;
                self.skip_while(is_digit);
            }
        }
        self.apart(Kind::Number)
    }

    /// Before version 15 a name could follow a number without white space; later ones refuse it.
    fn apart(&self, kind: Kind) -> Result<Kind, Unlexed> {
        if self.peek(0).is_some_and(is_name_start) { Err(Unlexed) } else { Ok(kind) }
    }

    fn operator(&mut self) -> Result<Kind, Unlexed> {
        let from = self.at;
        self.skip_while(is_operator);
        let run = self.bytes.get(from..self.at).unwrap_or_default();
        let comment = run.windows(2).position(|pair| pair == b"--" || pair == b"/*").unwrap_or(run.len());
        let run = run.get(..comment).unwrap_or_default();
        // Longer ones are no operators for the server either, and what is cut off below would be read again and again.
        if run.len() > OPERATOR_BYTES_MAX {
            return Err(Unlexed);
        }
        // A sign at the end belongs to what follows, unless the operator has a letter that the standard's have not.
        let own = run.iter().any(|byte| b"~!@#^&|`?%".contains(byte));
        let signs = run.iter().skip(1).rev().take_while(|byte| matches!(byte, b'+' | b'-')).count();
        self.at = from + if own { run.len() } else { run.len() - signs };
        Ok(Kind::Operator)
    }
}

const fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c)
}

const fn is_name_start(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte == b'_' || byte >= 0x80
}

const fn is_name_part(byte: u8) -> bool {
    is_name_start(byte) || byte.is_ascii_digit() || byte == b'$'
}

fn is_operator(byte: u8) -> bool {
    b"~!@#^&|`?+-*/%<>=".contains(&byte)
}
