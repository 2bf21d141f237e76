//! What a target says of the secrets that it was sent: nothing of it reaches the client or the record.
//!
//! Owns the search for exact occurrences, in heads and in content that is not coded, over the bounds of chunks and of reads.
//! Each is replaced by as many `*`, so that no length changes. A target that shows a secret in another form (coded, cut into
//! parts, turned around) is not seen through.

use std::ops::Range;

use crewtap_core::secret::Secret;
use crewtap_core::session::Side;
use crewtap_core::wire::http::{Conversation, Step};
use memchr::memmem;

use super::inject::percent_encoded;

/// Shorter ones would be found everywhere.
const NEEDLE_BYTES_MIN: usize = 4;

/// Most that waits for what could be the rest of a secret, in bytes: content that is cut into the smallest chunks.
const WITHHELD_BYTES_MAX: usize = 256 * 1024;

/// Secrets that are looked for, each in the forms in which it is likely to come back.
pub(super) struct Scrub {
    needles: Vec<Secret>,
}

/// Bytes of the target without the secrets.
pub(super) struct Scrubbed {
    /// All of them, those of the secrets replaced; none where nothing was.
    pub(super) clean: Option<Vec<u8>>,
    /// So many of them may be passed on; the rest could be the beginning of a secret.
    pub(super) safe: usize,
}

/// Bytes that are changed only once there is something to change.
struct Bytes<'b> {
    bytes: &'b [u8],
    clean: Option<Vec<u8>>,
}

impl Scrub {
    pub(super) fn new(secrets: &[Secret]) -> Self {
        let mut needles: Vec<Secret> = Vec::new();
        let mut add = |bytes: Vec<u8>| {
            let secret = Secret::new(bytes);
            let is_new = !needles.iter().any(|needle| needle.expose() == secret.expose());
            if secret.expose().len() >= NEEDLE_BYTES_MIN && is_new {
                needles.push(secret);
            }
        };
        for secret in secrets {
            add(secret.expose().to_vec());
            add(percent_encoded(secret.expose()));
            if let Ok(text) = std::str::from_utf8(secret.expose())
                && let Ok(json) = serde_json::to_string(text)
            {
                let json = json.trim_matches('"');
                add(json.as_bytes().to_vec());
                add(json.replace('/', "\\/").into_bytes());
            }
        }
        Self { needles }
    }

    /// Looks through what the target says next; `conversation` is where it is before these bytes.
    pub(super) fn look(&self, conversation: &Conversation, bytes: &[u8]) -> Scrubbed {
        let mut conversation = conversation.clone();
        let mut found = Bytes { bytes, clean: None };
        let (mut at, mut content, mut safe) = (0, Vec::new(), bytes.len());
        while let Ok(step) = conversation.next(Side::Server, bytes.get(at..).unwrap_or_default()) {
            let covered = at..at + step.len();
            at = covered.end;
            match step {
                Step::Body { .. } => content.push(covered),
                Step::End { .. } => {
                    self.hide(&mut found, &content, true);
                    content.clear();
                }
                Step::ResponseHead { .. } | Step::Trailers { .. } => {
                    self.hide(&mut found, &[covered], true);
                }
                Step::Upgraded => {
                    let rest = at..bytes.len();
                    self.hide(&mut found, std::slice::from_ref(&rest), true);
                    break;
                }
                step if step.is_empty() => break,
                _ => {}
            }
        }
        if let Some(tail) = self.hide(&mut found, &content, false)
            && bytes.len() - tail <= WITHHELD_BYTES_MAX
        {
            safe = tail;
        }
        Scrubbed { clean: found.clean, safe }
    }

    /// Hides secrets in pieces that belong together; where one could begin that goes on behind them, unless they are all.
    fn hide(&self, found: &mut Bytes<'_>, pieces: &[Range<usize>], whole: bool) -> Option<usize> {
        let joined;
        let text = match pieces {
            [] => return None,
            [piece] => found.bytes.get(piece.clone())?,
            pieces => {
                joined = pieces.iter().filter_map(|piece| found.bytes.get(piece.clone())).collect::<Vec<_>>().concat();
                &joined
            }
        };
        let places = self.needles.iter().flat_map(|needle| {
            let needle = needle.expose();
            memmem::find_iter(text, needle).map(move |begin| begin..begin + needle.len())
        });
        for place in places.collect::<Vec<_>>() {
            found.star(pieces, place);
        }
        let tail = (!whole).then(|| self.tail(text)).flatten()?;
        nth(pieces, tail)
    }

    /// Where the end of a text begins that is the beginning of a secret.
    fn tail(&self, text: &[u8]) -> Option<usize> {
        let longest = self.needles.iter().map(|needle| needle.expose().len()).max()?;
        let begin = text.len().saturating_sub(longest - 1);
        (begin..text.len()).find(|at| {
            let end = text.get(*at..).unwrap_or_default();
            self.needles.iter().any(|needle| needle.expose().len() > end.len() && needle.expose().starts_with(end))
        })
    }
}

impl Bytes<'_> {
    /// Replaces a part of the pieces' text.
    fn star(&mut self, pieces: &[Range<usize>], place: Range<usize>) {
        let clean = self.clean.get_or_insert_with(|| self.bytes.to_vec());
        let mut begun = 0;
        for piece in pieces {
            let end = begun + piece.len();
            let (from, to) = (place.start.max(begun), place.end.min(end));
            if from < to
                && let Some(bytes) = clean.get_mut(piece.start + from - begun..piece.start + to - begun)
            {
                bytes.fill(b'*');
            }
            begun = end;
        }
    }
}

/// Where the byte of the pieces' text with this number is.
fn nth(pieces: &[Range<usize>], mut number: usize) -> Option<usize> {
    for piece in pieces {
        if number < piece.len() {
            return Some(piece.start + number);
        }
        number -= piece.len();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "sk-canary/7Q";

    /// What passes of an answer that comes in these pieces.
    fn passed(answer: &[u8], cuts: &[usize]) -> Vec<u8> {
        let scrub = Scrub::new(&[Secret::new(SECRET.into())]);
        let mut conversation = Conversation::new();
        let request = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        conversation.next(Side::Client, request).unwrap();
        conversation.next(Side::Client, b"").unwrap();
        let (mut held, mut passed, mut from) = (Vec::new(), Vec::new(), 0);
        for to in cuts.iter().copied().chain([answer.len()]) {
            held.extend_from_slice(&answer[from..to]);
            from = to;
            let Scrubbed { clean, safe } = scrub.look(&conversation, &held);
            let shown = clean.unwrap_or_else(|| held.clone());
            let mut at = 0;
            while let Ok(step) = conversation.next(Side::Server, &shown[at..safe]) {
                if step.is_empty() && !matches!(step, Step::End { .. }) {
                    break;
                }
                at += step.len();
            }
            passed.extend_from_slice(&shown[..at]);
            held.drain(..at);
        }
        passed.extend_from_slice(&held);
        passed
    }

    fn chunked(pieces: &[&str]) -> String {
        let chunks: Vec<_> = pieces.iter().map(|piece| format!("{:x}\r\n{piece}\r\n", piece.len())).collect();
        let chunks = chunks.concat();
        format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}0\r\n\r\n")
    }

    #[test]
    fn a_secret_that_comes_back_is_hidden_wherever_it_is_cut() {
        let content = format!("you sent {SECRET}, did you not? s sk-can");
        let plain =
            format!("HTTP/1.1 200 OK\r\nX-Echo: Bearer {SECRET}\r\nContent-Length: {}\r\n\r\n{content}", content.len());
        let json =
            format!("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{{\"got\":\"{}\"}}", SECRET.replace('/', "\\/"));
        let cut = chunked(&["you sent sk-c", "a", "n", "ary/7Q, and more sk-cana", "x"]);
        for answer in [plain, json, cut] {
            let wanted = passed(answer.as_bytes(), &[]);
            assert_eq!(wanted.len(), answer.len());
            let shown = String::from_utf8(wanted.clone()).unwrap();
            assert!(!shown.contains("canary") && shown.contains("***"), "{shown}");
            for at in 0..answer.len() {
                assert_eq!(passed(answer.as_bytes(), &[at]), wanted, "cut at {at}: {answer}");
                let next = (at + 3).min(answer.len());
                assert_eq!(passed(answer.as_bytes(), &[at, next]), wanted, "cut at {at} and {next}: {answer}");
            }
        }
    }

    #[test]
    fn what_holds_no_secret_passes_as_it_is() {
        let answer = chunked(&["some text sk-", "cana", "da and s", "k-"]);
        assert_eq!(passed(answer.as_bytes(), &[]), answer.as_bytes());
        let scrub = Scrub::new(&[Secret::new(SECRET.into())]);
        assert!(scrub.look(&Conversation::new(), b"HTTP/1.1 408 a\r\n\r\n").clean.is_none());
    }
}
