//! International bank account numbers (ISO 13616).
//!
//! Owns the registry's structures: which country writes how many digits and letters. Never asks whether a bank exists.

use super::check::mod97;
use super::view::{Found, Outcome, View, is_word};

/// Country, and its basic account number: counts of `n` digits, `a` letters, `c` of both.
pub(super) const COUNTRIES: &[(&[u8; 2], &str)] = &[
    (b"AD", "8n12c"),
    (b"AE", "19n"),
    (b"AL", "8n16c"),
    (b"AT", "16n"),
    (b"AZ", "4a20c"),
    (b"BA", "16n"),
    (b"BE", "12n"),
    (b"BG", "4a6n8c"),
    (b"BH", "4a14c"),
    (b"BI", "23n"),
    (b"BR", "23n1a1c"),
    (b"BY", "4c4n16c"),
    (b"CH", "5n12c"),
    (b"CR", "18n"),
    (b"CY", "8n16c"),
    (b"CZ", "20n"),
    (b"DE", "18n"),
    (b"DJ", "23n"),
    (b"DK", "14n"),
    (b"DO", "4c20n"),
    (b"EE", "16n"),
    (b"EG", "25n"),
    (b"ES", "20n"),
    (b"FI", "14n"),
    (b"FK", "2a12n"),
    (b"FO", "14n"),
    (b"FR", "10n11c2n"),
    (b"GB", "4a14n"),
    (b"GE", "2a16n"),
    (b"GI", "4a15c"),
    (b"GL", "14n"),
    (b"GR", "7n16c"),
    (b"GT", "24c"),
    (b"HN", "4a20n"),
    (b"HR", "17n"),
    (b"HU", "24n"),
    (b"IE", "4a14n"),
    (b"IL", "19n"),
    (b"IQ", "4a15n"),
    (b"IS", "22n"),
    (b"IT", "1a10n12c"),
    (b"JO", "4a4n18c"),
    (b"KW", "4a22c"),
    (b"KZ", "3n13c"),
    (b"LB", "4n20c"),
    (b"LC", "4a24c"),
    (b"LI", "5n12c"),
    (b"LT", "16n"),
    (b"LU", "3n13c"),
    (b"LV", "4a13c"),
    (b"LY", "21n"),
    (b"MC", "10n11c2n"),
    (b"MD", "20c"),
    (b"ME", "18n"),
    (b"MK", "3n10c2n"),
    (b"MN", "16n"),
    (b"MR", "23n"),
    (b"MT", "4a5n18c"),
    (b"MU", "4a19n3a"),
    (b"NI", "4a20n"),
    (b"NL", "4a10n"),
    (b"NO", "11n"),
    (b"OM", "3n16c"),
    (b"PK", "4a16c"),
    (b"PL", "24n"),
    (b"PS", "4a21c"),
    (b"PT", "21n"),
    (b"QA", "4a21c"),
    (b"RO", "4a16c"),
    (b"RS", "18n"),
    (b"RU", "14n15c"),
    (b"SA", "2n18c"),
    (b"SC", "4a20n3a"),
    (b"SD", "14n"),
    (b"SE", "20n"),
    (b"SI", "15n"),
    (b"SK", "20n"),
    (b"SM", "1a10n12c"),
    (b"SO", "19n"),
    (b"ST", "21n"),
    (b"SV", "4a20n"),
    (b"TL", "19n"),
    (b"TN", "20n"),
    (b"TR", "6n16c"),
    (b"UA", "6n19c"),
    (b"VA", "18n"),
    (b"VG", "4a16n"),
    (b"XK", "16n"),
    (b"YE", "4a4n18c"),
];

/// The longest number without separators.
const LENGTH_MAX: usize = 34;

/// Looks for an account number at a position.
pub(super) fn attempt(view: View<'_>, at: usize) -> Outcome {
    if view.before(at).is_some_and(is_word) {
        return Ok(None);
    }
    let (Some(first), Some(second)) = (view.at(at)?, view.at(at + 1)?) else { return Ok(None) };
    let code = [first.to_ascii_uppercase(), second.to_ascii_uppercase()];
    let Some((_, structure)) = COUNTRIES.iter().find(|(country, _)| **country == code) else { return Ok(None) };
    let mut number = [0u8; LENGTH_MAX];
    let mut places = number.iter_mut();
    let mut separator = None;
    let (mut here, mut count) = (at, 0);
    for class in [b'a', b'a', b'n', b'n'].into_iter().chain(classes(structure)) {
        if count == 4 {
            separator = view.at(here)?.filter(|byte| matches!(byte, b' ' | b'-'));
        }
        if count > 0 && count % 4 == 0 && separator.is_some() {
            if view.at(here)? != separator {
                return Ok(None);
            }
            here += 1;
        }
        let Some(byte) = view.at(here)?.filter(|byte| fits(*byte, class)) else { return Ok(None) };
        if let Some(place) = places.next() {
            *place = byte;
        }
        (here, count) = (here + 1, count + 1);
    }
    let holds = !view.goes_on(here)? && mod97(number.get(..count).unwrap_or_default());
    Ok(holds.then(|| Found::whole(at, here)))
}

/// The class of each place: `8n12c` is eight times `n`, twelve times `c`.
fn classes(structure: &'static str) -> impl Iterator<Item = u8> {
    let parts = structure.split_inclusive(|letter: char| letter.is_ascii_alphabetic());
    parts.flat_map(|part| {
        let (count, class) = part.split_at(part.len() - 1);
        std::iter::repeat_n(class.bytes().next().unwrap_or(b'c'), count.parse().unwrap_or(0))
    })
}

const fn fits(byte: u8, class: u8) -> bool {
    match class {
        b'n' => byte.is_ascii_digit(),
        b'a' => byte.is_ascii_alphabetic(),
        _ => byte.is_ascii_alphanumeric(),
    }
}
