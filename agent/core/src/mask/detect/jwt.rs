//! JSON Web Tokens: signed (RFC 7515) and encrypted (RFC 7516), in their compact form.
//!
//! Owns how one is told from other base64: its header is JSON that names an algorithm. Never verifies a signature.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::view::{Outcome, View, is_token, is_word};

/// Longest header, in bytes of base64url. Certificates may be in it; the usual one has fifty.
const HEADER_MAX: usize = 3072;

/// Looks for a token at a position.
pub(super) fn attempt(view: View<'_>, at: usize) -> Outcome {
    if view.before(at).is_some_and(is_word) {
        return Ok(None);
    }
    let dot = view.run(at, HEADER_MAX, is_token)?;
    if view.at(dot)? != Some(b'.') {
        return Ok(None);
    }
    let Ok(header) = URL_SAFE_NO_PAD.decode(view.slice(at, dot)) else { return Ok(None) };
    let names = |name: &[u8]| header.windows(name.len()).any(|window| window == name);
    if !names(b"\"alg\"") {
        return Ok(None);
    }
    let encrypted = names(b"\"enc\"");
    // The claims are an object: `{"`, `{ `, `{}` or `{` and the end of a line.
    let claims = view.at(dot + 1)? == Some(b'e') && view.is(dot + 2, |byte| matches!(byte, b'y' | b'w' | b'3'))?;
    if encrypted || claims {
        // Where the key is agreed on directly, the second part is empty.
        let body = if encrypted && view.at(dot + 1)? == Some(b'.') { dot + 2 } else { dot + 1 };
        return rest(view, at, body);
    }
    Ok(None)
}

/// A token goes on: base64url, and dots between it.
pub(super) fn rest(view: View<'_>, start: usize, from: usize) -> Outcome {
    let mut at = from;
    loop {
        match view.bytes.get(at) {
            Some(byte) if is_token(*byte) => at += 1,
            Some(b'.') => match view.bytes.get(at + 1) {
                Some(byte) if is_token(*byte) => at += 1,
                None if !view.ends() => return view.unfinished(start, at),
                _ => return Ok(Some(view.closed(start, at))),
            },
            Some(_) => return Ok(Some(view.closed(start, at))),
            None if view.ends() => return Ok(Some(view.closed(start, at))),
            None => return view.unfinished(start, at),
        }
    }
}
