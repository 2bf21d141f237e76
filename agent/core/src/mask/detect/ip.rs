//! IP addresses.
//!
//! Owns where one ends; the standard library says whether it is one.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::view::{Found, Outcome, View, is_digit, is_word};

/// Longest text of an IPv6 address, with an IPv4 address at its end.
const TEXT_MAX: usize = 45;

/// 192.0.2.1
pub(super) fn four(view: View<'_>, at: usize) -> Outcome {
    if view.before(at).is_some_and(|byte| is_word(byte) || matches!(byte, b'.' | b'-' | b':')) {
        return Ok(None);
    }
    let mut end = at;
    for number in 0..4 {
        if number > 0 {
            if view.at(end)? != Some(b'.') {
                return Ok(None);
            }
            end += 1;
        }
        let behind = view.run(end, 4, is_digit)?;
        if !(1..=3).contains(&(behind - end)) {
            return Ok(None);
        }
        end = behind;
    }
    let holds = !view.goes_on(end)? && parsed::<Ipv4Addr>(view.slice(at, end)).is_some();
    Ok(holds.then(|| Found::whole(at, end)))
}

/// `2001:db8::1`
pub(super) fn six(view: View<'_>, at: usize) -> Outcome {
    if view.before(at).is_some_and(|byte| is_word(byte) || matches!(byte, b':' | b'.')) {
        return Ok(None);
    }
    // Hardly anything that is not an address has a colon behind four digits at most.
    let first = view.run(at, 5, |byte| byte.is_ascii_hexdigit())?;
    if first - at > 4 || view.at(first)? != Some(b':') {
        return Ok(None);
    }
    let mut end = view.run(at, TEXT_MAX + 1, |byte| byte.is_ascii_hexdigit() || matches!(byte, b':' | b'.'))?;
    if end - at > TEXT_MAX || view.is(end, is_word)? {
        return Ok(None);
    }
    // The end of a sentence, or what the address introduces.
    while matches!(view.before(end), Some(b'.' | b':')) && !view.slice(at, end).ends_with(b"::") && end > at {
        end -= 1;
    }
    let text = view.slice(at, end);
    // `a::b` is a path in some languages; addresses have a digit, and more than two colons or a long group.
    let holds = text.len() > 3 && text.iter().any(u8::is_ascii_digit) || text.starts_with(b"::1");
    Ok((holds && parsed::<Ipv6Addr>(text).is_some()).then(|| Found::whole(at, end)))
}

fn parsed<A: std::str::FromStr>(text: &[u8]) -> Option<A> {
    std::str::from_utf8(text).ok()?.parse().ok()
}
