//! Social security numbers of the United States.
//!
//! Owns their rules (20 CFR 422.103, SSA's randomisation of 2011) and the words that make nine plain digits one.

use super::view::{Found, Outcome, View, is_digit, is_word};

/// Numbers that advertisements printed, and that nobody has.
const PRINTED: [&[u8]; 2] = [b"078051120", b"219099999"];

/// Bytes between the word and the number.
const GAP_MAX: usize = 24;

/// 123-45-6789 and 123 45 6789.
pub(super) fn attempt(view: View<'_>, at: usize) -> Outcome {
    if view.before(at).is_some_and(|byte| is_word(byte) || matches!(byte, b'-' | b'.')) {
        return Ok(None);
    }
    if view.run(at, 4, is_digit)? != at + 3 {
        return Ok(None);
    }
    let Some(separator @ (b'-' | b' ')) = view.at(at + 3)? else { return Ok(None) };
    if view.run(at + 4, 3, is_digit)? != at + 6 || view.at(at + 6)? != Some(separator) {
        return Ok(None);
    }
    let end = view.run(at + 7, 5, is_digit)?;
    if end != at + 11 || view.goes_on(end)? || view.at(end)? == Some(b'-') {
        return Ok(None);
    }
    Ok(holds(view.slice(at, end)).then(|| Found::whole(at, end)))
}

/// Nine digits behind `ssn` or `social security`.
pub(super) fn near_word(view: View<'_>, at: usize) -> Outcome {
    if view.before(at).is_some_and(is_alphanumeric) {
        return Ok(None);
    }
    let behind = match view.word(at, b"ssn")? {
        Some(behind) => Some(behind),
        None => match view.word(at, b"social")? {
            Some(behind) if view.is(behind, is_joint)? => view.word(behind + 1, b"security")?,
            _ => None,
        },
    };
    let Some(behind) = behind else { return Ok(None) };
    let start = view.run(behind, GAP_MAX, is_between)?;
    if !view.is(start, is_digit)? || view.before(start).is_some_and(is_alphanumeric) {
        return Ok(None);
    }
    let end = view.run(start, 10, is_digit)?;
    let holds = end == start + 9 && !view.goes_on(end)? && holds(view.slice(start, end));
    Ok(holds.then(|| Found::whole(start, end)))
}

const fn is_alphanumeric(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
}

const fn is_joint(byte: u8) -> bool {
    matches!(byte, b' ' | b'_' | b'-')
}

/// What may stand between the word and the number: no digit, and nothing that another find would begin with.
const fn is_between(byte: u8) -> bool {
    byte.is_ascii_alphabetic()
        || matches!(
            byte,
            b' ' | b'\t' | b'_' | b':' | b'=' | b'"' | b'\'' | b'#' | b'-' | b'(' | b')' | b'\\' | b'>' | b'|'
        )
}

fn holds(bytes: &[u8]) -> bool {
    let mut digits = [0u8; 9];
    for (place, digit) in digits.iter_mut().zip(bytes.iter().filter(|byte| byte.is_ascii_digit())) {
        *place = *digit;
    }
    let [a, b, c, group @ .., _, _, _, _] = &digits;
    let area = [*a, *b, *c];
    *a != b'9'
        && area != *b"000"
        && area != *b"666"
        && group != b"00"
        && !digits.ends_with(b"0000")
        && !PRINTED.contains(&digits.as_slice())
}
