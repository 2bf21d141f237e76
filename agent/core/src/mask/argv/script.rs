//! The words of a shell script, as far as finding options needs them.
//!
//! Owns splitting at blanks, separators and line ends outside of quotes. Never expands or executes anything.

use super::Word;

/// Splits `script`, which stands at `at` of its argument. Quotes around a whole word are left off.
pub(super) fn words(script: &str, at: usize, argument: usize) -> Vec<Word<'_>> {
    let mut words = Vec::new();
    let mut start = None;
    let mut quote = None;
    let mut escaped = false;
    let mut push = |from: usize, to: usize| {
        let text = script.get(from..to).unwrap_or_default();
        let inner = ['"', '\''].into_iter().find_map(|mark| text.strip_prefix(mark)?.strip_suffix(mark));
        let (text, skipped) = inner.map_or((text, 0), |inner| (inner, 1));
        // What quotes hold together is one argument, blanks and all.
        words.push(Word { text, at: at + from + skipped, argument, whole: skipped > 0 });
    };
    for (index, letter) in script.char_indices() {
        let skip = std::mem::take(&mut escaped);
        match (quote, letter) {
            (Some('\''), '\\') => {}
            (_, '\\') if !skip => escaped = true,
            (Some(mark), letter) if letter == mark && !skip => quote = None,
            (None, '"' | '\'') if !skip => quote = Some(letter),
            (None, letter) if letter.is_whitespace() || is_separator(letter) => {
                if let Some(from) = start.take() {
                    push(from, index);
                }
                if !letter.is_whitespace() {
                    push(index, index + letter.len_utf8());
                }
                continue;
            }
            _ => {}
        }
        start.get_or_insert(index);
    }
    if let Some(from) = start {
        push(from, script.len());
    }
    words
}

/// Whether a word of a script ends a command, so that another program follows.
pub(super) fn ends_command(word: &str) -> bool {
    let mut letters = word.chars();
    matches!((letters.next(), letters.next()), (Some(letter), None) if is_separator(letter))
}

const fn is_separator(letter: char) -> bool {
    matches!(letter, ';' | '|' | '&' | '(' | ')' | '\n')
}
