//! Addresses of mail.
//!
//! Owns the forms that mail servers take in practice (RFC 5321 without quotes and comments). Never asks whether one exists.

use super::view::{Found, Outcome, View, is_word};

/// Longest local part, in bytes (RFC 5321 section 4.5.3.1.1).
const LOCAL_MAX: usize = 64;

/// Longest domain, in bytes.
const DOMAIN_MAX: usize = 253;

/// Looks for an address at a position.
pub(super) fn attempt(view: View<'_>, at: usize) -> Outcome {
    if view.before(at).is_some_and(is_local) {
        return Ok(None);
    }
    let sign = view.run(at, LOCAL_MAX + 1, is_local)?;
    if sign == at || sign - at > LOCAL_MAX || view.at(sign)? != Some(b'@') {
        return Ok(None);
    }
    let local = view.slice(at, sign);
    if local.starts_with(b".") || local.ends_with(b".") || local.windows(2).any(|pair| pair == b"..") {
        return Ok(None);
    }
    let run = view.run(sign + 1, DOMAIN_MAX + 1, |byte| is_domain(byte) || byte == b'.')?;
    let mut domain = view.slice(sign + 1, run);
    // A sentence ends behind an address, or a hyphen follows it.
    while let Some(shorter) = domain.strip_suffix(b".").or_else(|| domain.strip_suffix(b"-")) {
        domain = shorter;
    }
    let labels = || domain.split(|byte| *byte == b'.');
    let holds = domain.len() <= DOMAIN_MAX
        && labels().count() > 1
        && labels().all(|label| (1..=63).contains(&label.len()) && !label.starts_with(b"-") && !label.ends_with(b"-"))
        && labels()
            .next_back()
            .is_some_and(|top| top.len() > 1 && top.first().is_some_and(|byte| !byte.is_ascii_digit()));
    let end = sign + 1 + domain.len();
    Ok((holds && view.at(end)? != Some(b'@')).then(|| Found::whole(at, end)))
}

/// Local parts have letters of all languages (RFC 6531), and so have domains.
const fn is_local(byte: u8) -> bool {
    is_word(byte)
        || byte >= 0x80
        || matches!(byte, b'.' | b'-' | b'+' | b'%' | b'!' | b'#' | b'$' | b'&' | b'*' | b'~' | b'^')
}

const fn is_domain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'-' || byte >= 0x80
}
