//! Telephone numbers: E.164 with its `+`, and the national forms that people write with separators.
//!
//! Owns the forms. Plain digits without any mark are never a telephone number here: they are everything else more often.

use super::check::digits;
use super::view::{Found, More, Outcome, View, is_digit, is_word};

/// Fewest and most digits of an international number (ITU-T E.164).
const DIGITS: std::ops::RangeInclusive<usize> = 8..=15;

/// Most bytes of one number with its separators.
const BYTES_MAX: usize = 32;

/// Looks for a number at a position: of a `+`, a `(` or a digit.
pub(super) fn attempt(view: View<'_>, at: usize) -> Outcome {
    if view.before(at).is_some_and(|byte| is_word(byte) || matches!(byte, b'.' | b'-' | b'+' | b'/')) {
        return Ok(None);
    }
    let (end, groups) = groups(view, at)?;
    if end == at
        || end - at > BYTES_MAX
        || view.goes_on(end)?
        || view.at(end)? == Some(b'-')
        || view.at(end)? == Some(b'/')
    {
        return Ok(None);
    }
    let text = view.slice(at, end);
    let count = digits(text).count();
    let holds = match text {
        [b'+', b'1'..=b'9', ..] => DIGITS.contains(&count),
        [b'0', b'0', b'1'..=b'9', ..] => groups.count > 1 && DIGITS.contains(&(count.saturating_sub(2))),
        // North America: 3-3-4 with areas and exchanges that do not begin with 0 or 1.
        [b'(' | b'2'..=b'9', ..] if count == 10 => groups.lengths == [3, 3, 4] && is_north_american(text),
        [b'1', ..] if count == 11 => {
            groups.lengths == [1, 3, 3] && is_north_american(text.get(1..).unwrap_or_default())
        }
        // A trunk prefix: 030 1234567, 0171/1234567, 020 7946 0958, 01 23 45 67 89.
        [b'0', b'1'..=b'9', ..] | [b'(', b'0', ..] => groups.count > 1 && (9..=12).contains(&count) && !is_date(text),
        _ => false,
    };
    Ok(holds.then(|| Found::whole(at, end)))
}

/// The first three groups of digits, and how many there are.
struct Groups {
    lengths: [usize; 3],
    count: usize,
}

/// Behind the groups of digits that begin at a position.
fn groups(view: View<'_>, from: usize) -> Result<(usize, Groups), More> {
    let mut groups = Groups { lengths: [0; 3], count: 0 };
    let mut at = view.run(from, 1, |byte| byte == b'+')?;
    let mut end = from;
    while at - from <= BYTES_MAX {
        let open = view.run(at, 1, |byte| byte == b'(')?;
        let behind = view.run(open, 16, is_digit)?;
        if behind == open {
            break;
        }
        if let Some(length) = groups.lengths.get_mut(groups.count) {
            *length = behind - open;
        }
        groups.count += 1;
        end = if open > at { view.run(behind, 1, |byte| byte == b')')? } else { behind };
        let separator = view.run(end, 1, |byte| matches!(byte, b' ' | b'-' | b'.' | b'/'))?;
        // A space may stand before the bracket as well.
        at = separator;
        if separator == end && !view.is(end, |byte| byte == b'(')? && view.before(end) != Some(b')') {
            break;
        }
    }
    Ok((end, groups))
}

fn is_north_american(text: &[u8]) -> bool {
    let mut places = digits(text);
    matches!((places.next(), places.nth(2)), (Some(2..=9), Some(2..=9)))
}

/// 01.02.2026 and 01/02/2026 12.
fn is_date(text: &[u8]) -> bool {
    let mut parts = text.split(|byte| !byte.is_ascii_digit());
    let (Some([_, _]), Some([_, _]), Some(year)) = (parts.next(), parts.next(), parts.next()) else { return false };
    matches!(year, [b'1', b'9', _, _] | [b'2', b'0', _, _])
}
