//! Queries, INSERT, UPDATE, DELETE and MERGE: from our tokens to sqlparser's tree.
//!
//! Owns the translation of tokens and what is asked of the parser. Never lets the parser tell tokens or statements apart,
//! and believes no tree that the tokens contradict.

use sqlparser::ast::{Statement, Visit};
use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::keywords::Keyword;
use sqlparser::parser::Parser;
use sqlparser::tokenizer::{Span, Token as Foreign, TokenWithSpan, Word};

use super::depth::is_shallow;
use super::lexer::{Kind, Token, Unlexed};
use super::nets;
use super::reader::matching;
use super::tally::Tally;
use super::walk::Walk;

/// Calls of the parser that may be open. A subquery takes two or three, and about 40 KiB of stack.
const PARSER_DEPTH: usize = 36;

/// Tokens that are parsed, after literals of a list were taken for one. A tree takes some hundred bytes for each.
const TOKENS_MAX: usize = 40_000;

/// What a query or a statement that writes rows does.
pub fn classify(tokens: &[Token<'_>], tally: &mut Tally) -> Result<(), Unlexed> {
    let few = fewer(tokens);
    if few.len() > TOKENS_MAX || !is_shallow(&few) {
        return Err(Unlexed);
    }
    let statement = parse(foreign(&few)?)?;
    let mut walk = Walk::new();
    if statement.visit(&mut walk).is_break() {
        return Err(Unlexed);
    }
    nets::check(tokens, &mut walk)?;
    walk.tell(tally);
    Ok(())
}

fn parse(tokens: Vec<TokenWithSpan>) -> Result<Statement, Unlexed> {
    let dialect = PostgreSqlDialect {};
    let parser = Parser::new(&dialect).with_recursion_limit(PARSER_DEPTH);
    let mut parser = parser.with_tokens_with_locations(tokens);
    let statement = parser.parse_statement().map_err(|_| Unlexed)?;
    if parser.peek_token_ref().token == Foreign::EOF { Ok(statement) } else { Err(Unlexed) }
}

/// Without literals that follow a literal in a list, and rows that follow a row of one: they tell nothing more, and texts
/// that insert thousands of rows consist of them.
fn fewer<'s>(tokens: &[Token<'s>]) -> Vec<Token<'s>> {
    let mut few: Vec<Token<'s>> = Vec::with_capacity(tokens.len().min(TOKENS_MAX));
    let mut at = 0;
    while let Some(token) = tokens.get(at) {
        let ends = |at: usize| tokens.get(at).is_some_and(|next| [",", ")", "]"].iter().any(|mark| next.is_mark(mark)));
        let is_next_literal = token.is_mark(",") && tokens.get(at + 1).is_some_and(Token::is_literal) && ends(at + 2);
        if let [.., before, last] = few.as_slice()
            && is_next_literal
            && last.is_literal()
            && ["(", "[", ","].iter().any(|mark| before.is_mark(mark))
        {
            at += 2;
            continue;
        }
        few.push(*token);
        at += 1;
        if token.is_mark(")") && is_row_again(&few) {
            few.truncate(few.len() - 4);
        }
    }
    few
}

/// Whether the end is `( literal ) , ( literal )`.
fn is_row_again(few: &[Token<'_>]) -> bool {
    let Some([open, value, close, comma, again, other, _]) = few.last_chunk::<7>() else { return false };
    open.is_mark("(")
        && value.is_literal()
        && close.is_mark(")")
        && comma.is_mark(",")
        && again.is_mark("(")
        && other.is_literal()
}

/// The parser's tokens. `TABLE x` becomes the `SELECT * FROM x` that it stands for, and ONLY, which the parser takes for a
/// name, is left out.
fn foreign(tokens: &[Token<'_>]) -> Result<Vec<TokenWithSpan>, Unlexed> {
    let mut out = Vec::with_capacity(tokens.len() + 2);
    let mut put = |token: Foreign| out.push(TokenWithSpan { token, span: Span::empty() });
    let mut before: Option<Token<'_>> = None;
    let (mut at, mut closing) = (0, None);
    while let Some(token) = tokens.get(at) {
        at += 1;
        let is_after = |words: &[&str]| before.is_some_and(|before| before.is_one_of(words));
        let is_part = before.is_some_and(|before| before.is_mark(".")) || is_after(&["as"]);
        let rest = tokens.get(at..).unwrap_or_default();
        if token.is("only") && !is_part && !is_after(&["row", "rows"]) {
            // `ONLY (x)` is `ONLY x`.
            if let Some(close) = matching(rest) {
                at += 1;
                closing = Some(at + close - 1);
            }
            continue;
        }
        if closing == Some(at - 1) || is_left_out(tokens.get(..at - 1).unwrap_or_default(), *token, rest) {
            continue;
        }
        if token.is("table") && !is_part && !is_after(&["into", "temp", "temporary", "unlogged", "local", "global"]) {
            for word in ["select", "*", "from"] {
                put(if word == "*" { Foreign::Mul } else { Foreign::make_keyword(word) });
            }
            before = Some(*token);
            continue;
        }
        if token.kind == Kind::UnicodeQuoted {
            let (escape, len) = uescape(rest)?;
            at += len;
            put(quoted(token.name(escape)?));
        } else {
            let is_unicode = token.kind == Kind::Text && token.text.starts_with(['u', 'U']);
            at += if is_unicode { uescape(rest)?.1 } else { 0 };
            put(translated(*token)?);
        }
        before = Some(*token);
    }
    Ok(out)
}

/// Words that the parser does not know and that change nothing here: `FOR [NO] KEY …`, `trim(BOTH FROM …)`,
/// `xmlelement(NAME …)`, `f(VARIADIC …)`, and `CURRENT OF` a cursor, whose name then stands for a column.
fn is_left_out(earlier: &[Token<'_>], token: Token<'_>, rest: &[Token<'_>]) -> bool {
    let is_next = |word: &str| rest.first().is_some_and(|next| next.is(word));
    let sides = ["both", "leading", "trailing"];
    let is_one = match earlier {
        [.., before] if token.is("variadic") => before.is_mark("(") || before.is_mark(","),
        [.., before] if before.is("for") => token.is("no") && is_next("key") || token.is("key") && is_next("share"),
        [.., before] if before.is("where") => token.is("current") && is_next("of"),
        [.., call, before] if before.is_mark("(") && call.is_one_of(&["xmlelement", "xmlpi"]) => token.is("name"),
        [.., before] if before.is_mark("(") => token.is_one_of(&sides) && is_next("from") || token.is("from"),
        _ => false,
    };
    is_one
        || match earlier {
            [.., first, second] if first.is("for") && second.is("no") => token.is("key"),
            [.., first, second] if first.is("where") && second.is("current") => token.is("of"),
            [.., first, second] if first.is_mark("(") && second.is_one_of(&sides) => token.is("from"),
            _ => false,
        }
}

/// The letter of `UESCAPE '!'` behind a `U&"…"`, and how many tokens it takes.
fn uescape(rest: &[Token<'_>]) -> Result<(char, usize), Unlexed> {
    let [word, letter, ..] = rest else { return Ok(('\\', 0)) };
    if !word.is("uescape") {
        return Ok(('\\', 0));
    }
    let mut inner = letter.text.strip_prefix('\'').and_then(|text| text.strip_suffix('\'')).ok_or(Unlexed)?.chars();
    match (inner.next(), inner.next()) {
        (Some(escape), None) if escape.is_ascii_punctuation() && !"+'\"".contains(escape) => Ok((escape, 2)),
        _ => Err(Unlexed),
    }
}

fn quoted(value: String) -> Foreign {
    Foreign::Word(Word { value, quote_style: Some('"'), keyword: Keyword::NoKeyword })
}

fn translated(token: Token<'_>) -> Result<Foreign, Unlexed> {
    Ok(match token.kind {
        Kind::Word => {
            let name = token.name('\\')?;
            // Keywords are ASCII: no other letter may be folded into one.
            if name.is_ascii() {
                Foreign::make_word(&name, None)
            } else {
                Foreign::Word(Word { value: name, quote_style: None, keyword: Keyword::NoKeyword })
            }
        }
        Kind::Quoted | Kind::UnicodeQuoted => quoted(token.name('\\')?),
        Kind::Text => Foreign::SingleQuotedString(String::new()),
        Kind::Bits => Foreign::HexStringLiteral(String::new()),
        Kind::Number => Foreign::Number(token.text.to_owned(), false),
        Kind::Parameter => Foreign::Placeholder(token.text.to_owned()),
        Kind::Operator | Kind::Symbol => mark(token.text)?,
    })
}

fn mark(text: &str) -> Result<Foreign, Unlexed> {
    Ok(match text {
        "(" => Foreign::LParen,
        ")" => Foreign::RParen,
        "[" => Foreign::LBracket,
        "]" => Foreign::RBracket,
        "," => Foreign::Comma,
        "." => Foreign::Period,
        ":" => Foreign::Colon,
        "::" => Foreign::DoubleColon,
        // Both name an argument.
        ":=" | "=>" => Foreign::RArrow,
        ";" | ".." => return Err(Unlexed),
        "=" => Foreign::Eq,
        "<>" | "!=" => Foreign::Neq,
        "<" => Foreign::Lt,
        ">" => Foreign::Gt,
        "<=" => Foreign::LtEq,
        ">=" => Foreign::GtEq,
        "+" => Foreign::Plus,
        "-" => Foreign::Minus,
        "*" => Foreign::Mul,
        "/" => Foreign::Div,
        "%" => Foreign::Mod,
        "^" => Foreign::Caret,
        "||" => Foreign::StringConcat,
        // Those that can stand before what they work on.
        "~" => Foreign::Tilde,
        "@" => Foreign::AtSign,
        "|/" => Foreign::PGSquareRoot,
        "||/" => Foreign::PGCubeRoot,
        "!!" => Foreign::DoubleExclamationMark,
        "@-@" => Foreign::AtDashAt,
        "?-" => Foreign::QuestionMarkDash,
        "?|" => Foreign::QuestionPipe,
        "#" => Foreign::Sharp,
        other => Foreign::CustomBinaryOperator(other.to_owned()),
    })
}
