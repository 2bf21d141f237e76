//! What is typed in answer to a prompt for a secret, in a terminal or through pipes (`sudo -S`).
//!
//! Owns the guess: a program that asks for a password ends its prompt with a word for it and a colon, and does not show what is
//! typed. What is typed up to the end of the line is then hidden. A guess can miss; what it hides is told by length.

use std::borrow::Cow;

/// Bytes of what was said last that are looked at.
const PROMPT_BYTES: usize = 256;

/// Words of prompts for secrets, in lower case.
const WORDS: [&[u8]; 6] = [b"password", b"passphrase", b"passcode", b"pin", b"secret", b"verification code"];

/// Follows one exchange.
#[derive(Debug, Default)]
pub struct Typed {
    /// The end of what was said last.
    said: Vec<u8>,
    /// A prompt waits for an answer that has not ended.
    hides: bool,
}

impl Typed {
    /// Output that the other side has shown.
    pub fn said(&mut self, bytes: &[u8]) {
        let tail = bytes.get(bytes.len().saturating_sub(PROMPT_BYTES)..).unwrap_or_default();
        self.said.extend_from_slice(tail);
        let over = self.said.len().saturating_sub(PROMPT_BYTES);
        self.said.drain(..over);
        // What is shown while somebody types is an echo, or the prompt of another secret: only a line's end ends the answer.
        self.hides |= self.asks();
    }

    /// What was typed, as it may be recorded; how many bytes of it were hidden.
    pub fn typed<'b>(&mut self, bytes: &'b [u8]) -> (Cow<'b, [u8]>, usize) {
        let is_end = |byte: &u8| matches!(*byte, b'\r' | b'\n');
        if !self.hides {
            // A file that is piped in is most of what is ever typed: nothing of it is looked at while nothing was said.
            if !self.said.is_empty() && bytes.iter().any(is_end) {
                self.said.clear();
            }
            return (Cow::Borrowed(bytes), 0);
        }
        let end = bytes.iter().position(is_end);
        if end.is_some() {
            self.hides = false;
            self.said.clear();
        }
        let (answer, rest) = bytes.split_at_checked(end.unwrap_or(bytes.len())).unwrap_or_default();
        (Cow::Owned([&vec![b'*'; answer.len()], rest].concat()), answer.len())
    }

    /// Whether the last line ends like a prompt for a secret.
    fn asks(&self) -> bool {
        let line = self.said.rsplit(|byte| matches!(byte, b'\n' | b'\r')).next().unwrap_or_default();
        let line = line.trim_ascii_end().to_ascii_lowercase();
        let Some(prompt) = line.strip_suffix(b":").or_else(|| line.strip_suffix(b"?")) else { return false };
        WORDS.iter().any(|word| prompt.windows(word.len()).any(|window| window == *word))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_answers_a_prompt_is_hidden_up_to_the_lines_end() {
        let mut typed = Typed::default();
        typed.said(b"$ ");
        assert_eq!(typed.typed(b"sudo id\r"), (b"sudo id\r"[..].into(), 0));
        typed.said(b"sudo id\r\n[sudo] password for crew: ");
        assert_eq!(typed.typed(b"hun"), (b"***"[..].into(), 3));
        assert_eq!(typed.typed(b"ter2\rls\r"), (b"****\rls\r"[..].into(), 4));
        for prompt in ["Password: ", "Enter passphrase for key 'x': ", "PIN:", "Verification code: "] {
            let mut typed = Typed::default();
            let (one, other) = prompt.as_bytes().split_at(3);
            typed.said(one);
            typed.said(other);
            assert_eq!(typed.typed(b"s\n"), (b"*\n"[..].into(), 1), "{prompt}");
        }
        let mut typed = Typed::default();
        typed.said(b"your password:\nlogin: ");
        assert_eq!(typed.typed(b"crew\n").1, 0, "the last line asks for something else");
    }
}
