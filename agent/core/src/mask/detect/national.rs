//! National identity numbers that have check digits, or a form that nothing else has.
//!
//! Owns each country's arithmetic. Numbers of plain digits whose check is weak count beside their name only.

use super::check::{digits, luhn, verhoeff, weighted};
use super::view::{Found, More, Outcome, View, is_alphanumeric, is_digit, is_word};

/// Bytes between a name and its number.
const GAP_MAX: usize = 24;

/// Says whether digits are a number of some country.
type Holds = fn(&[u8]) -> bool;

/// Names of numbers, and what a number of theirs must be.
const NAMES: &[(&[u8], Holds)] = &[
    (b"bsn", is_bsn),
    (b"burgerservicenummer", is_bsn),
    (b"pesel", is_pesel),
    (b"cpf", is_cpf),
    (b"aadhaar", is_aadhaar),
    (b"aadhar", is_aadhaar),
    (b"social insurance", is_sin),
    (b"steuer", is_steuer_id),
    (b"tax id", is_steuer_id),
    (b"idnr", is_steuer_id),
];

/// Numbers that begin with a digit: Spain, France, Poland, Germany, Brazil, India, Canada.
pub(super) fn number(view: View<'_>, at: usize) -> Outcome {
    if view.before(at).is_some_and(|byte| is_word(byte) || matches!(byte, b'.' | b'-' | b'/')) {
        return Ok(None);
    }
    let end = view.run(at, 16, is_digit)?;
    let text = view.slice(at, end);
    let whole = |end: usize| Ok(Some(Found::whole(at, end)));
    match end - at {
        8 => {
            let end = view.run(end, 1, |byte| byte == b'-')?;
            if view.is(end, |byte| byte.is_ascii_uppercase())?
                && !view.goes_on(end + 1)?
                && is_dni(text, view.slice(end, end + 1))
            {
                return whole(end + 1);
            }
        }
        11 if !view.goes_on(end)? && (is_pesel(text) || is_cpf(text) || is_steuer_id(text)) => return whole(end),
        15 if !view.goes_on(end)? && is_nir(text) => return whole(end),
        1 | 3 | 4 => return grouped(view, at),
        _ => {}
    }
    Ok(None)
}

/// The forms with separators: 123.456.789-09, 1234 5678 9012, 046-454-286, 2 55 08 14 168 025 38.
fn grouped(view: View<'_>, at: usize) -> Outcome {
    for (form, check) in [
        ("ddd.ddd.ddd-dd", is_cpf as Holds),
        ("dddd dddd dddd", is_aadhaar),
        ("dddd-dddd-dddd", is_aadhaar),
        ("ddd-ddd-ddd", is_sin),
        ("ddd ddd ddd", is_sin),
        ("d dd dd dd ddd ddd dd", is_nir),
    ] {
        if fits(view, at, form)? {
            let end = at + form.len();
            let apart =
                view.goes_on(end)? || matches!(view.at(end)?, Some(b'-' | b' ')) && view.is(end + 1, is_digit)?;
            if !apart && check(view.slice(at, end)) {
                return Ok(Some(Found::whole(at, end)));
            }
        }
    }
    Ok(None)
}

fn fits(view: View<'_>, at: usize, form: &str) -> Result<bool, More> {
    for (place, wanted) in form.bytes().enumerate() {
        let Some(byte) = view.at(at + place)? else { return Ok(false) };
        if !(wanted == b'd' && is_digit(byte) || wanted == byte) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Numbers that begin with a letter: Britain, Spain's of foreigners, Italy.
pub(super) fn lettered(view: View<'_>, at: usize) -> Outcome {
    if view.before(at).is_some_and(is_word) {
        return Ok(None);
    }
    let end = view.run(at, 17, is_alphanumeric)?;
    let text = view.slice(at, end);
    let holds = match text.len() {
        2 => return spaced_nino(view, at),
        9 => is_nino(text) || is_nie(text),
        16 => is_codice_fiscale(text),
        _ => false,
    };
    Ok((holds && !view.goes_on(end)?).then(|| Found::whole(at, end)))
}

/// QQ 12 34 56 C
fn spaced_nino(view: View<'_>, at: usize) -> Outcome {
    const LENGTH: usize = 13;
    let mut number = [0u8; 9];
    let mut places = number.iter_mut();
    for place in 0..LENGTH {
        let Some(byte) = view.at(at + place)? else { return Ok(None) };
        let blank = matches!(place, 2 | 5 | 8 | 11);
        if blank != (byte == b' ') {
            return Ok(None);
        }
        if !blank && let Some(into) = places.next() {
            *into = byte;
        }
    }
    let end = at + LENGTH;
    Ok((!view.goes_on(end)? && is_nino(&number)).then(|| Found::whole(at, end)))
}

/// A number behind its name.
pub(super) fn named(view: View<'_>, at: usize) -> Outcome {
    if view.before(at).is_some_and(is_alphanumeric) {
        return Ok(None);
    }
    for (name, check) in NAMES {
        let Some(behind) = view.word(at, name)? else { continue };
        let start = view.run(behind, GAP_MAX, is_between)?;
        let end = view.run(start, 16, is_digit)?;
        if start > behind && end > start && !view.goes_on(end)? && check(view.slice(start, end)) {
            return Ok(Some(Found::whole(start, end)));
        }
    }
    Ok(None)
}

const fn is_between(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || matches!(byte, b' ' | b'\t' | b'_' | b':' | b'=' | b'"' | b'\'' | b'#' | b'-' | b'\\')
}

fn value(bytes: &[u8]) -> u64 {
    digits(bytes).fold(0, |value, digit| value * 10 + u64::from(digit))
}

fn counts(bytes: &[u8], wanted: usize) -> bool {
    let first = digits(bytes).next();
    digits(bytes).count() == wanted && digits(bytes).any(|digit| Some(digit) != first)
}

const DNI_LETTERS: &[u8; 23] = b"TRWAGMYFPDXBNJZSQVHLCKE";

fn is_dni(number: &[u8], letter: &[u8]) -> bool {
    let wanted = usize::try_from(value(number) % 23).ok().and_then(|rest| DNI_LETTERS.get(rest));
    counts(number, 8) && letter.first() == wanted
}

fn is_nie(text: &[u8]) -> bool {
    let ([first @ (b'X' | b'Y' | b'Z'), number @ ..], Some((letter, _))) = (text, text.split_last()) else {
        return false;
    };
    let Some(number) = number.get(..7).filter(|number| number.iter().all(u8::is_ascii_digit)) else { return false };
    let wanted = (u64::from(first - b'X') * 10_000_000 + value(number)) % 23;
    usize::try_from(wanted).ok().and_then(|rest| DNI_LETTERS.get(rest)) == Some(letter)
}

/// Britain's has no check digit, but a form that nothing else has.
fn is_nino(text: &[u8]) -> bool {
    let [first, second, number @ .., suffix] = text else { return false };
    let barred = [b"BG", b"GB", b"KN", b"NK", b"NT", b"TN", b"ZZ"].iter().any(|pair| text.starts_with(*pair));
    first.is_ascii_uppercase()
        && second.is_ascii_uppercase()
        && !b"DFIQUV".contains(first)
        && !b"DFIOQUV".contains(second)
        && !barred
        && number.len() == 6
        && number.iter().all(u8::is_ascii_digit)
        && matches!(suffix, b'A'..=b'D')
}

fn is_codice_fiscale(text: &[u8]) -> bool {
    /// What the letters and digits at odd places count (decree of 23 December 1976).
    const ODD: [u32; 26] =
        [1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24, 23];
    const FORM: &[u8; 16] = b"aaaaaaddaddaddda";
    /// Letters stand for digits where two people would have the same.
    const FOR_DIGITS: &[u8] = b"LMNPQRSTUV";
    let fits = |(byte, class): (&u8, &u8)| match class {
        b'a' => byte.is_ascii_uppercase(),
        _ => byte.is_ascii_digit() || FOR_DIGITS.contains(byte),
    };
    if text.len() != FORM.len() || !text.iter().zip(FORM).all(fits) {
        return false;
    }
    let rank = |byte: u8| u32::from(if byte.is_ascii_digit() { byte - b'0' } else { byte - b'A' });
    let counted = text.iter().take(15).enumerate().map(|(place, byte)| match place % 2 {
        0 => ODD.get(rank(*byte) as usize).copied().unwrap_or_default(),
        _ => rank(*byte),
    });
    text.last().is_some_and(|last| counted.sum::<u32>() % 26 == rank(*last))
}

fn is_nir(text: &[u8]) -> bool {
    let number = value(text);
    let month = number / 10_000_000_000 % 100;
    counts(text, 15)
        && matches!(digits(text).next(), Some(1 | 2))
        && matches!(month, 1..=12 | 20 | 30..=42 | 50..=99)
        && 97 - (number / 100) % 97 == number % 100
}

fn is_steuer_id(text: &[u8]) -> bool {
    // Of the first ten digits one stands twice or thrice, and so one or two are missing.
    let mut times = [0u8; 10];
    for digit in digits(text).take(10) {
        if let Some(count) = times.get_mut(usize::from(digit)) {
            *count += 1;
        }
    }
    let repeated = times.iter().filter(|count| **count > 1).count();
    let most = times.iter().max().copied().unwrap_or_default();
    if !counts(text, 11) || digits(text).next() == Some(0) || repeated != 1 || most > 3 {
        return false;
    }
    // ISO/IEC 7064 mod 11,10.
    let product = digits(text).take(10).fold(10u32, |product, digit| {
        let sum = (product + u32::from(digit)) % 10;
        (if sum == 0 { 10 } else { sum }) * 2 % 11
    });
    digits(text).next_back().map(u32::from) == Some((11 - product) % 10)
}

fn is_bsn(text: &[u8]) -> bool {
    const WEIGHTS: [u32; 9] = [9, 8, 7, 6, 5, 4, 3, 2, 10];
    counts(text, 9) && weighted(text, &WEIGHTS).is_multiple_of(11)
}

fn is_pesel(text: &[u8]) -> bool {
    const WEIGHTS: [u32; 11] = [1, 3, 7, 9, 1, 3, 7, 9, 1, 3, 1];
    let number = value(text);
    let (month, day) = (number / 10_000_000 % 100, number / 100_000 % 100);
    counts(text, 11)
        && matches!(month % 20, 1..=12)
        && matches!(day, 1..=31)
        && weighted(text, &WEIGHTS).is_multiple_of(10)
}

fn is_cpf(text: &[u8]) -> bool {
    let check = |places: usize| {
        let weights: Vec<u32> = (2..).take(places).collect();
        let sum: u32 =
            digits(text).take(places).zip(weights.iter().rev()).map(|(digit, weight)| u32::from(digit) * weight).sum();
        let wanted = sum * 10 % 11 % 10;
        digits(text).nth(places).map(u32::from) == Some(wanted)
    };
    counts(text, 11) && check(9) && check(10)
}

fn is_aadhaar(text: &[u8]) -> bool {
    counts(text, 12) && matches!(digits(text).next(), Some(2..=9)) && verhoeff(text)
}

fn is_sin(text: &[u8]) -> bool {
    counts(text, 9) && !matches!(digits(text).next(), Some(0 | 8)) && luhn(text)
}
