//! What is typed in answer to a prompt for a secret, in a terminal or through pipes (`sudo -S`).
//!
//! Owns the guess: a program that asks for a password ends its prompt with a word for it and a colon, and does not show what is
//! typed. What is typed up to the end of the line is then hidden. A guess can miss; what it hides is told by length.

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
    pub fn typed(&mut self, bytes: &[u8]) -> (Vec<u8>, usize) {
        let mut shown = bytes.to_vec();
        let mut hidden = 0;
        for byte in &mut shown {
            if matches!(*byte, b'\r' | b'\n') {
                self.hides = false;
                self.said.clear();
            } else if self.hides {
                *byte = b'*';
                hidden += 1;
            }
        }
        (shown, hidden)
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
        assert_eq!(typed.typed(b"sudo id\r"), (b"sudo id\r".to_vec(), 0));
        typed.said(b"sudo id\r\n[sudo] password for crew: ");
        assert_eq!(typed.typed(b"hun"), (b"***".to_vec(), 3));
        assert_eq!(typed.typed(b"ter2\rls\r"), (b"****\rls\r".to_vec(), 4));
        for prompt in ["Password: ", "Enter passphrase for key 'x': ", "PIN:", "Verification code: "] {
            let mut typed = Typed::default();
            let (one, other) = prompt.as_bytes().split_at(3);
            typed.said(one);
            typed.said(other);
            assert_eq!(typed.typed(b"s\n"), (b"*\n".to_vec(), 1), "{prompt}");
        }
        let mut typed = Typed::default();
        typed.said(b"your password:\nlogin: ");
        assert_eq!(typed.typed(b"crew\n").1, 0, "the last line asks for something else");
    }
}
