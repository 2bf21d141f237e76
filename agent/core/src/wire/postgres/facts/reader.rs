//! A reader over tokens.
//!
//! Owns keywords, names and lists of names as PostgreSQL's grammar has them. Never reads behind its end.

use super::lexer::{Token, Unlexed};

/// The tokens that are left to read.
#[derive(Clone, Copy)]
pub struct Reader<'t, 's> {
    rest: &'t [Token<'s>],
}

impl<'t, 's> Reader<'t, 's> {
    pub const fn new(tokens: &'t [Token<'s>]) -> Self {
        Self { rest: tokens }
    }

    pub const fn rest(&self) -> &'t [Token<'s>] {
        self.rest
    }

    pub fn peek(&self) -> Option<Token<'s>> {
        self.rest.first().copied()
    }

    pub fn next(&mut self) -> Option<Token<'s>> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*first)
    }

    /// Whether the next token is this keyword; it is read.
    pub fn eat(&mut self, keyword: &str) -> bool {
        let is = self.peek().is_some_and(|token| token.is(keyword));
        if is {
            self.next();
        }
        is
    }

    /// Whether the next tokens are these keywords; they are read.
    pub fn eat_all(&mut self, keywords: &[&str]) -> bool {
        let mut ahead = *self;
        let are = keywords.iter().all(|keyword| ahead.eat(keyword));
        if are {
            *self = ahead;
        }
        are
    }

    /// Reads these keywords wherever they come next, in any order.
    pub fn skip(&mut self, keywords: &[&str]) {
        while self.peek().is_some_and(|token| token.is_one_of(keywords)) {
            self.next();
        }
    }

    /// Whether the next token is this mark; it is read.
    pub fn eat_mark(&mut self, mark: &str) -> bool {
        let is = self.peek().is_some_and(|token| token.is_mark(mark));
        if is {
            self.next();
        }
        is
    }

    /// What is inside of the parentheses that come next; they are read.
    pub fn group(&mut self) -> Option<&'t [Token<'s>]> {
        let inside = self.rest.get(1..matching(self.rest)?)?;
        self.rest = self.rest.get(inside.len() + 2..)?;
        Some(inside)
    }

    /// A name with the schema that it is written with.
    pub fn name(&mut self) -> Result<String, Unlexed> {
        let mut parts = Vec::new();
        loop {
            let token = self.next().filter(Token::is_name).ok_or(Unlexed)?;
            parts.push(token.name('\\')?);
            if !self.eat_mark(".") {
                return Ok(joined(parts.iter().map(String::as_str)));
            }
        }
    }

    /// Names of tables: `[ONLY] name [*] [, …]`, each in parentheses of its own or not.
    pub fn tables(&mut self) -> Result<Vec<String>, Unlexed> {
        let mut names = Vec::new();
        loop {
            self.eat("only");
            let open = self.eat_mark("(");
            names.push(self.name()?);
            self.eat_mark("*");
            if open && !self.eat_mark(")") {
                return Err(Unlexed);
            }
            if !self.eat_mark(",") {
                return Ok(names);
            }
        }
    }
}

/// Where the parenthesis is that closes the one at the start.
pub fn matching(tokens: &[Token<'_>]) -> Option<usize> {
    if !tokens.first()?.is_mark("(") {
        return None;
    }
    let mut depth = 0_usize;
    for (at, token) in tokens.iter().enumerate() {
        if token.is_mark("(") {
            depth += 1;
        } else if token.is_mark(")") {
            depth -= 1;
            if depth == 0 {
                return Some(at);
            }
        }
    }
    None
}

/// Parts of a name with points between; one that could be taken for more than one part, or for any, gets its quotes.
pub fn joined<'p>(parts: impl Iterator<Item = &'p str>) -> String {
    let mut name = String::new();
    for part in parts {
        if !name.is_empty() {
            name.push('.');
        }
        if part.contains(['.', '"', '*']) {
            name.push('"');
            name.push_str(&part.replace('"', "\"\""));
            name.push('"');
        } else {
            name.push_str(part);
        }
    }
    name
}
