//! How deep the tree of a text can get.
//!
//! Owns an upper bound from the tokens alone, so that no text can make a parser, a walk over its tree or the tree's release
//! run out of stack. Never exact: chains of operators lean to the left, and each operator is a level.

use super::lexer::{Kind, Token};

/// Levels of operators over all open parentheses. What people and libraries write stays below 200; a walk takes about
/// 1 KiB of stack for each in a build that is not optimised.
const DEPTH_MAX: usize = 600;

/// Parentheses in parentheses. The parser's own limit comes first, where it counts them.
const NESTING_MAX: usize = 40;

/// Joins that wait for their ON or USING: `a JOIN b JOIN c ON … ON …` is read by calls in calls.
const JOINS_MAX: usize = 12;

/// What is open in one pair of parentheses, for the item of a list that is being read.
#[derive(Clone, Copy, Default)]
struct Level {
    sets: usize,
    ors: usize,
    ands: usize,
    others: usize,
    /// The longest chains of ANDs and of other operators in it.
    ands_max: usize,
    others_max: usize,
    /// Joins that wait for their condition, and whether the next one needs none.
    joins: usize,
    unconditional: bool,
    /// The deepest that is in parentheses in it.
    inner: usize,
    /// The deepest item so far.
    item_max: usize,
}

impl Level {
    fn depth(&self) -> usize {
        let item = self.ors + self.ands_max.max(self.ands) + self.others_max.max(self.others) + self.inner;
        self.sets + self.item_max.max(item)
    }

    fn end_item(&mut self) {
        let Self { sets, joins, unconditional, .. } = *self;
        self.sets = 0;
        *self = Self { sets, joins, unconditional, item_max: self.depth(), ..Self::default() };
    }

    fn join(&mut self, word: Token<'_>) {
        if word.is_one_of(&["natural", "cross"]) {
            self.unconditional = true;
        } else if word.is("join") {
            self.joins += usize::from(!std::mem::take(&mut self.unconditional));
        } else if word.is_one_of(&["on", "using"]) {
            self.joins = self.joins.saturating_sub(1);
        }
    }

    fn or(&mut self) {
        self.ors += 1;
        self.end_and();
    }

    fn and(&mut self) {
        self.ands += 1;
        self.others_max = self.others_max.max(self.others);
        self.others = 0;
    }

    fn end_and(&mut self) {
        self.ands_max = self.ands_max.max(self.ands);
        self.others_max = self.others_max.max(self.others);
        (self.ands, self.others) = (0, 0);
    }
}

/// Whether the tree of these tokens is shallow enough to be built. Parentheses that do not match are not.
pub fn is_shallow(tokens: &[Token<'_>]) -> bool {
    let mut open = vec![Level::default()];
    for token in tokens {
        let is_open = token.is_mark("(") || token.is_mark("[");
        if is_open {
            open.push(Level::default());
            if open.len() > NESTING_MAX {
                return false;
            }
        }
        let closed = if token.is_mark(")") || token.is_mark("]") { open.pop() } else { None };
        let Some(level) = open.last_mut() else { return false };
        if let Some(closed) = closed {
            level.inner = level.inner.max(closed.depth() + 1);
            // `x[1][2]` and `(x)(y)`: what stands behind a parenthesis can be one level more.
            level.others += 1;
        } else if !is_open {
            level.join(*token);
            count(level, *token);
            if level.joins > JOINS_MAX {
                return false;
            }
        }
        if open.iter().map(Level::depth).sum::<usize>() > DEPTH_MAX {
            return false;
        }
    }
    open.len() == 1
}

fn count(level: &mut Level, token: Token<'_>) {
    match token.kind {
        Kind::Symbol if token.text == "," => level.end_item(),
        Kind::Symbol | Kind::Operator => level.others += 1,
        Kind::Word if token.is_one_of(&["union", "intersect", "except"]) => {
            level.end_item();
            level.sets += 1;
        }
        Kind::Word if token.is("or") => level.or(),
        Kind::Word if token.is("and") => level.and(),
        Kind::Word if token.is_one_of(CLAUSES) => level.end_item(),
        Kind::Word if !token.is_literal() => level.others += 1,
        _ => {}
    }
}

/// Words that begin a clause, in which a chain cannot go on.
const CLAUSES: &[&str] = &[
    "select",
    "from",
    "where",
    "group",
    "having",
    "order",
    "limit",
    "on",
    "join",
    "set",
    "values",
    "returning",
    "using",
];
