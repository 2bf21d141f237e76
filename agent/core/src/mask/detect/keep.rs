//! What of a value stays readable.
//!
//! Owns the bound: however a rule is written, three quarters of a value are hidden.

/// How many bytes at the end of `value` stay readable when its last `wanted` letters and digits may: never more than a quarter
/// of them. What separates them comes along.
pub(in crate::mask) fn kept(value: &[u8], wanted: usize) -> usize {
    let places = value.iter().filter(|byte| byte.is_ascii_alphanumeric()).count();
    let wanted = wanted.min(places / 4);
    let Some(last) = wanted.checked_sub(1) else { return 0 };
    let first = value.iter().rev().enumerate().filter(|(_, byte)| byte.is_ascii_alphanumeric()).nth(last);
    first.map_or(0, |(from_end, _)| from_end + 1)
}
