//! What of a payload a person can search for: its text, or the printable runs of what is not text.
//!
//! Bounded in three ways, so that the index stays small beside the journal: per payload, per side of a session, and
//! nothing of what is known to be ciphertext. A word that is cut by a chunk's boundary is not found whole.

use std::borrow::Cow;

use crewtap_core::limits::{SEARCHED_PAYLOAD_BYTES, SEARCHED_STREAM_BYTES};

/// Shortest printable run that is kept of binary bytes: of 64 KiB of random bytes about twenty are that long.
const RUN_MIN: usize = 8;

/// Of a hundred bytes, how many must be printable for a payload to be taken as text.
const TEXT_PERCENT: usize = 90;

/// The searchable text of a payload that begins at an offset of its stream; none where there is nothing to find.
pub(super) fn searchable<'p>(payload: &'p [u8], offset: u64, protocol: &str) -> Option<Cow<'p, str>> {
    if offset >= SEARCHED_STREAM_BYTES || is_ciphertext(payload, protocol) {
        return None;
    }
    let bytes = payload.get(..SEARCHED_PAYLOAD_BYTES).unwrap_or(payload);
    if is_plain(bytes) {
        let text = std::str::from_utf8(bytes).unwrap_or_default();
        return (!text.trim_ascii().is_empty()).then_some(Cow::Borrowed(text));
    }
    let text = if is_text(bytes) { text(bytes) } else { Cow::Owned(printable_runs(bytes)) };
    (!text.trim().is_empty()).then_some(text)
}

/// A TLS record's header, or a protocol that ends in ciphertext after its greeting.
fn is_ciphertext(payload: &[u8], protocol: &str) -> bool {
    protocol == "tls" || matches!(payload, [0x14..=0x17, 3, 0..=4, ..])
}

/// Whether bytes are ASCII without a control character: most of what passes, told in one go without a branch for each byte.
fn is_plain(bytes: &[u8]) -> bool {
    let is_odd = |byte: u8| byte >= 0x7f || byte < 0x20 && !matches!(byte, b'\t' | b'\n' | b'\r');
    bytes.chunks(256).all(|chunk| !chunk.iter().fold(false, |odd, byte| odd | is_odd(*byte)))
}

/// Whether bytes are text to a reader: printable for the most part, and UTF-8 but for a character cut at either end.
#[must_use]
pub fn is_text(bytes: &[u8]) -> bool {
    let printable = bytes.iter().filter(|byte| matches!(byte, b'\t' | b'\n' | b'\r' | 0x20..=0x7e | 0x80..)).count();
    printable * 100 >= bytes.len() * TEXT_PERCENT && mostly_utf8(bytes)
}

/// Whether the bytes above ASCII are UTF-8, but for a character that is cut at either end.
fn mostly_utf8(bytes: &[u8]) -> bool {
    let body = bytes.iter().position(|byte| byte & 0xc0 != 0x80).map_or(bytes, |start| bytes.split_at(start).1);
    let start = bytes.len() - body.len();
    start <= 3 && std::str::from_utf8(body).map_or_else(|error| error.error_len().is_none(), |_| true)
}

fn text(bytes: &[u8]) -> Cow<'_, str> {
    let text = String::from_utf8_lossy(bytes);
    if text.contains(|c: char| c.is_control() && !c.is_whitespace()) {
        Cow::Owned(text.replace(|c: char| c.is_control() && !c.is_whitespace(), " "))
    } else {
        text
    }
}

/// Runs of printable ASCII, as strings(1) finds them, a space between two.
fn printable_runs(bytes: &[u8]) -> String {
    let mut out = String::new();
    for run in bytes.split(|byte| !(0x20..=0x7e).contains(byte)).filter(|run| run.len() >= RUN_MIN) {
        if !out.is_empty() {
            out.push(' ');
        }
        out.extend(run.iter().map(|byte| char::from(*byte)));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_kept_and_controls_are_not() {
        assert_eq!(searchable(b"GET /a\x1b[2J b", 0, "").unwrap(), "GET /a [2J b");
        assert_eq!(searchable("grüße".as_bytes(), 0, "").unwrap(), "grüße");
    }

    #[test]
    fn a_character_cut_by_the_boundary_does_not_make_text_binary() {
        let euros = "€€€ for tea".as_bytes();
        assert!(searchable(&euros[1..], 0, "").unwrap().contains("for tea"));
        assert!(searchable(&"for tea €".as_bytes()[..9], 0, "").unwrap().contains("for tea"));
    }

    #[test]
    fn binary_leaves_its_printable_runs() {
        let bytes = b"\0\x01\x02SELECT * FROM t\0\xff\xfeabc\0\0\0\0\0\0password_hash\0\0";
        assert_eq!(searchable(bytes, 0, "").unwrap(), "SELECT * FROM t password_hash");
    }

    #[test]
    fn ciphertext_and_what_lies_beyond_the_bounds_are_left_out() {
        assert_eq!(searchable(b"\x17\x03\x03 nothing to read here", 0, ""), None);
        assert_eq!(searchable(b"nothing to read here", 0, "tls"), None);
        assert_eq!(searchable(b"too far in the stream", SEARCHED_STREAM_BYTES, ""), None);
        let long = vec![b'a'; SEARCHED_PAYLOAD_BYTES + 1];
        assert_eq!(searchable(&long, 0, "").unwrap().len(), SEARCHED_PAYLOAD_BYTES);
        assert_eq!(searchable(b"", 0, ""), None);
    }
}
