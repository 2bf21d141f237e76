//! Check digits.
//!
//! Owns the arithmetic of the standards. Never looks at what is around a number.

/// ISO/IEC 7812-1 annex B over the digits of `bytes`; others are passed over.
pub(super) fn luhn(bytes: &[u8]) -> bool {
    let mut sum = 0u64;
    let mut count = 0usize;
    for digit in digits(bytes).rev() {
        let doubled = if count % 2 == 1 { digit * 2 } else { digit };
        sum += u64::from(if doubled > 9 { doubled - 9 } else { doubled });
        count += 1;
    }
    count > 1 && sum.is_multiple_of(10)
}

/// ISO 7064 mod 97-10 as ISO 13616 uses it: the first four letters and digits count last.
pub(super) fn mod97(bytes: &[u8]) -> bool {
    let places = || bytes.iter().copied().filter(u8::is_ascii_alphanumeric);
    if places().count() < 5 {
        return false;
    }
    let rest = places().skip(4).chain(places().take(4)).fold(0u32, |rest, byte| match byte {
        b'0'..=b'9' => (rest * 10 + u32::from(byte - b'0')) % 97,
        letter => (rest * 100 + u32::from(letter.to_ascii_uppercase() - b'A') + 10) % 97,
    });
    rest == 1
}

/// Verhoeff's check digit: the dihedral group of order ten.
pub(super) fn verhoeff(bytes: &[u8]) -> bool {
    /// The permutation that is applied once for each place.
    const TURN: [u8; 10] = [1, 5, 7, 6, 2, 8, 3, 0, 9, 4];
    let product = |left: u8, right: u8| match (left < 5, right < 5) {
        (true, true) => (left + right) % 5,
        (true, false) => (left + right - 5) % 5 + 5,
        (false, true) => (left - 5 + 5 - right) % 5 + 5,
        (false, false) => (left + 5 - right) % 5,
    };
    let mut check = 0;
    for (place, digit) in digits(bytes).rev().enumerate() {
        let turned = (0..place % 8).fold(digit, |digit, _| TURN.get(usize::from(digit)).copied().unwrap_or_default());
        check = product(check, turned);
    }
    check == 0
}

/// The digits of `bytes` as numbers.
pub(super) fn digits(bytes: &[u8]) -> impl DoubleEndedIterator<Item = u8> {
    bytes.iter().filter(|byte| byte.is_ascii_digit()).map(|byte| byte - b'0')
}

/// The sum of digits, each times its weight.
pub(super) fn weighted(bytes: &[u8], weights: &[u32]) -> u32 {
    digits(bytes).zip(weights).map(|(digit, weight)| u32::from(digit) * weight).sum()
}
