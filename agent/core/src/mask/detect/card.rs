//! Payment cards.
//!
//! Owns issuers' ranges with their lengths (ISO/IEC 7812-1, the issuers' published tables), and the ways in which people group
//! the digits. Visa's numbers of 13 digits are not among them: none has been issued since the nineties, and one in ten
//! bar codes would be one.

use super::check::{digits, luhn};
use super::view::{Found, More, Outcome, View, is_digit, is_word};

/// The longest number.
const DIGITS_MAX: usize = 19;

/// The shortest.
const DIGITS_MIN: usize = 12;

/// Looks for a card at a position.
pub(super) fn attempt(view: View<'_>, at: usize) -> Outcome {
    if view.before(at).is_some_and(|byte| is_word(byte) || byte == b'.') {
        return Ok(None);
    }
    let end = view.run(at, DIGITS_MAX + 1, is_digit)?;
    match end - at {
        DIGITS_MIN..=DIGITS_MAX => {
            let is_card = !view.goes_on(end)? && holds(view.slice(at, end), false);
            Ok(is_card.then(|| Found::whole(at, end)))
        }
        4 => match view.at(end)? {
            Some(separator @ (b' ' | b'-' | b'.')) => grouped(view, at, separator),
            _ => Ok(None),
        },
        _ => Ok(None),
    }
}

/// 4-4-4-4, 4-4-4-4-3, 4-6-5 and 4-6-4.
fn grouped(view: View<'_>, at: usize, separator: u8) -> Outcome {
    let Some((second, end)) = group(view, at + 4, separator)? else { return Ok(None) };
    let Some((third, end)) = group(view, end, separator)? else { return Ok(None) };
    let shortest = match (second, third) {
        (4, 4) => match group(view, end, separator)? {
            Some((4, end)) => end,
            _ => return Ok(None),
        },
        (6, 4 | 5) => end,
        _ => return Ok(None),
    };
    if second == 4
        && let Some((3, longest)) = group(view, shortest, separator)?
        && !view.goes_on(longest)?
        && holds(view.slice(at, longest), true)
    {
        return Ok(Some(Found::whole(at, longest)));
    }
    // Behind a space something else may follow: an expiry date, a code. A further group of the other kinds belongs to it.
    let goes_on = view.goes_on(shortest)?
        || separator == b'-' && view.at(shortest)? == Some(b'-') && view.is(shortest + 1, is_digit)?;
    Ok((!goes_on && holds(view.slice(at, shortest), true)).then(|| Found::whole(at, shortest)))
}

/// The digits of one more group, and where it ends.
fn group(view: View<'_>, at: usize, separator: u8) -> Result<Option<(usize, usize)>, More> {
    if view.at(at)? != Some(separator) {
        return Ok(None);
    }
    let end = view.run(at + 1, 7, is_digit)?;
    Ok(Some((end - at - 1, end)))
}

/// Whether digits are a card's: issuer, length and check digit.
fn holds(bytes: &[u8], grouped: bool) -> bool {
    let length = digits(bytes).count();
    let prefix = digits(bytes).take(6).fold(0u32, |number, digit| number * 10 + u32::from(digit));
    issued(prefix, length, grouped) && luhn(bytes)
}

/// Whether digits are a card's by another check of theirs: for the slow reference.
#[cfg(test)]
pub(super) fn issued_and_checked(value: &str, grouped: bool, check: fn(&str) -> bool) -> bool {
    let number: String = value.chars().filter(char::is_ascii_digit).collect();
    let prefix = number.get(..6).and_then(|prefix| prefix.parse().ok());
    (DIGITS_MIN..=DIGITS_MAX).contains(&number.len())
        && prefix.is_some_and(|prefix| issued(prefix, number.len(), grouped))
        && check(&number)
}

/// Whether an issuer makes numbers with these six first digits in this length.
fn issued(prefix: u32, length: usize, grouped: bool) -> bool {
    let (two, three, four) = (prefix / 10_000, prefix / 1000, prefix / 100);
    match length {
        12..=13 => is_maestro(four),
        14 => matches!(three, 300..=305 | 309) || matches!(two, 36 | 38 | 39) || is_maestro(four),
        15 => matches!(two, 34 | 37) || is_maestro(four),
        16 => {
            matches!(two, 40..=49 | 51..=55 | 36 | 38 | 39 | 62 | 65)
                || matches!(three, 300..=305 | 309 | 644..=649)
                || matches!(four, 2200..=2204 | 2221..=2720 | 3528..=3589 | 6011 | 9792 | 8100..=8171)
                || matches!(prefix, 506_099..=506_198)
                || is_maestro(four)
                // All that ISO left to Maestro holds order numbers, too: nobody groups those like a card.
                || grouped && matches!(two, 50 | 56..=69)
        }
        17..=19 => {
            matches!(two, 62 | 65)
                || length == 19 && (40..=49).contains(&two)
                || matches!(three, 644..=649)
                || matches!(four, 2200..=2204 | 3528..=3589 | 6011 | 8100..=8171)
                || length != 17 && matches!(prefix, 506_099..=506_198)
                || is_maestro(four)
        }
        _ => false,
    }
}

/// What Maestro's issuers did take.
const fn is_maestro(four: u32) -> bool {
    matches!(four, 5018 | 5020 | 5038 | 5893 | 6304 | 6759 | 6761..=6763)
}
