//! The words of a command, as a POSIX shell would split them: what policies see as `argv`.
//!
//! Owns quoting only. A command in which something would be expanded, or run before the rest (`$`, a backquote, `;`, `|`, `&`,
//! a redirection, a newline), means more than its words say, which `*` among them tells: a shell at the other end decides.

use std::collections::BTreeSet;

/// Stands among the words for whatever else the command may come to.
pub const ANYTHING: &str = "*";

/// The words of a command; never empty.
#[must_use]
#[allow(clippy::match_same_arms, reason = "an arm for each rule of quoting")]
pub fn words(command: &[u8]) -> BTreeSet<String> {
    let mut words = BTreeSet::new();
    let mut word: Option<Vec<u8>> = None;
    let mut quote: Option<u8> = None;
    let mut more = false;
    let mut bytes = command.iter().copied();
    while let Some(byte) = bytes.next() {
        match (quote, byte) {
            (Some(open), _) if byte == open => quote = None,
            (Some(b'\''), _) => word.get_or_insert_default().push(byte),
            (_, 0) => {
                more = true;
                word.get_or_insert_default().push(byte);
            }
            (_, b'\\') => match bytes.next() {
                // The line goes on: what stands there is one word.
                Some(b'\n') => more = true,
                Some(next) if quote.is_some() && !b"$`\"\\".contains(&next) => {
                    word.get_or_insert_default().extend([b'\\', next]);
                }
                Some(next) => word.get_or_insert_default().push(next),
                None => more = true,
            },
            (_, b'$' | b'`') => {
                more = true;
                word.get_or_insert_default().push(byte);
            }
            (Some(_), _) => word.get_or_insert_default().push(byte),
            (None, b'\'' | b'"') => {
                quote = Some(byte);
                word.get_or_insert_default();
            }
            (None, b' ' | b'\t') => words.extend(word.take().map(text)),
            (None, b'\n' | b';' | b'|' | b'&' | b'<' | b'>' | b'(' | b')') => {
                more = true;
                words.extend(word.take().map(text));
            }
            (None, b'*' | b'?' | b'[' | b'~' | b'{' | b'#' | b'!' | b'^' | b'%' | b'=') => {
                more |= byte != b'=';
                word.get_or_insert_default().push(byte);
            }
            (None, _) => word.get_or_insert_default().push(byte),
        }
    }
    words.extend(word.map(text));
    if more || quote.is_some() || words.is_empty() || std::str::from_utf8(command).is_err() {
        words.insert(ANYTHING.to_owned());
    }
    words
}

#[allow(clippy::needless_pass_by_value, reason = "a word that is over")]
fn text(word: Vec<u8>) -> String {
    String::from_utf8_lossy(&word).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(command: &str) -> Vec<String> {
        words(command.as_bytes()).into_iter().collect()
    }

    #[test]
    fn quotes_are_undone_and_what_means_more_says_so() {
        assert_eq!(of("rm -rf '/srv/my data' \"a\\\"b\""), ["-rf", "/srv/my data", "a\"b", "rm"]);
        for more in [
            "rm $HOME",
            "a; b",
            "a | b",
            "`id`",
            "a \"$(id)\"",
            "ls *",
            "it's",
            "a\nb",
            "",
            "a > b",
            "a\\",
            "r\\\nm -rf /",
            "rm\0x",
        ] {
            assert!(of(more).contains(&ANYTHING.to_owned()), "{more}");
        }
        assert_eq!(of("echo '$HOME'"), ["$HOME", "echo"]);
        assert_eq!(of("env A=b true"), ["A=b", "env", "true"]);
        assert!(words(b"rm \xff").contains(ANYTHING));
    }
}
