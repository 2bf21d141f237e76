//! Numbers, bits, identifiers and shapes.
//!
//! Owns their binary forms. Never rounds.

use crate::view::hexadecimal;
use crate::wire::cursor::Cursor;

/// Decimal digits of one digit of a numeric, which counts to 10,000.
const DIGITS: usize = 4;

/// `"char"`: one byte; those that are not ASCII in octal.
pub fn character(bytes: &[u8]) -> Option<String> {
    match bytes {
        [0] => Some(String::new()),
        [byte @ 1..0x80] => Some(char::from(*byte).to_string()),
        [byte] => Some(format!("\\{byte:03o}")),
        _ => None,
    }
}

/// An oid, or `-` where there is none.
pub fn register(bytes: &[u8]) -> Option<String> {
    match u32::from_be_bytes(bytes.try_into().ok()?) {
        0 => Some("-".to_owned()),
        oid => Some(oid.to_string()),
    }
}

/// A row's place: `(block,offset)`.
pub fn tuple(bytes: &[u8]) -> Option<String> {
    let mut cursor = Cursor::new(bytes);
    let (block, offset) = (cursor.u32()?, cursor.u16()?);
    cursor.is_empty().then(|| format!("({block},{offset})"))
}

/// A place in the write-ahead log.
pub fn position(bytes: &[u8]) -> Option<String> {
    let place = u64::from_be_bytes(bytes.try_into().ok()?);
    Some(format!("{:X}/{:X}", place >> 32, place & 0xffff_ffff))
}

/// 8-4-4-4-12 digits.
pub fn uuid(bytes: &[u8]) -> Option<String> {
    let bytes: &[u8; 16] = bytes.try_into().ok()?;
    let digits = hexadecimal(bytes);
    let part = |from: usize, to: usize| digits.get(from..to).unwrap_or_default();
    Some([part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32)].join("-"))
}

/// A number of bits, and the bits.
pub fn bits(bytes: &[u8]) -> Option<String> {
    let mut cursor = Cursor::new(bytes);
    let count = usize::try_from(cursor.u32()?).ok()?;
    let bytes = cursor.rest();
    if bytes.len() != count.div_ceil(8) {
        return None;
    }
    let all = bytes.iter().flat_map(|byte| (0..8).rev().map(move |at| if byte >> at & 1 == 1 { '1' } else { '0' }));
    Some(all.take(count).collect())
}

/// A floating-point number, given its shortest digits: as `printf`'s `%g` would with as many. From ten to the power of
/// `precise` on it is written with an exponent.
pub fn float(value: f64, shortest: &str, precise: i32) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "Infinity" } else { "-Infinity" }.to_owned();
    }
    let (sign, digits) = shortest.strip_prefix('-').map_or(("", shortest), |digits| ("-", digits));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let all = format!("{whole}{fraction}");
    let leading = all.len() - all.trim_start_matches('0').len();
    let significant = all.trim_matches('0');
    if significant.is_empty() {
        return format!("{sign}0");
    }
    // The power of ten of the first digit that counts; texts of numbers are short.
    let exponent = i32::try_from(whole.len()).unwrap_or(0) - 1 - i32::try_from(leading).unwrap_or(0);
    if (-4..precise).contains(&exponent) {
        return shortest.to_owned();
    }
    let (first, rest) = significant.split_at_checked(1).unwrap_or((significant, ""));
    let point = if rest.is_empty() { "" } else { "." };
    let direction = if exponent < 0 { '-' } else { '+' };
    format!("{sign}{first}{point}{rest}e{direction}{:02}", exponent.unsigned_abs())
}

fn coordinate(cursor: &mut Cursor<'_>) -> Option<String> {
    let value = f64::from_be_bytes(cursor.array()?);
    Some(float(value, &value.to_string(), 15))
}

fn point(cursor: &mut Cursor<'_>) -> Option<String> {
    Some(format!("({},{})", coordinate(cursor)?, coordinate(cursor)?))
}

/// Points, lines and what is made of them.
pub fn geometry(oid: u32, bytes: &[u8]) -> Option<String> {
    let mut cursor = Cursor::new(bytes);
    let it = &mut cursor;
    let text = match oid {
        600 => point(it)?,
        601 => format!("[{},{}]", point(it)?, point(it)?),
        603 => format!("{},{}", point(it)?, point(it)?),
        628 => format!("{{{},{},{}}}", coordinate(it)?, coordinate(it)?, coordinate(it)?),
        718 => format!("<{},{}>", point(it)?, coordinate(it)?),
        602 | 604 => {
            let closed = oid == 604 || it.u8()? != 0;
            let count = it.u32()?;
            let points: Option<Vec<String>> = (0..count).map(|_| point(it)).collect();
            let points = points?.join(",");
            if closed { format!("({points})") } else { format!("[{points}]") }
        }
        _ => return None,
    };
    cursor.is_empty().then_some(text)
}

/// Cents as dollars: the form of the C and the American locale.
pub fn money(cents: i64) -> String {
    let (whole, part) = (cents.unsigned_abs() / 100, cents.unsigned_abs() % 100);
    let digits = whole.to_string();
    let mut grouped = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at) % 3 == 0 {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    format!("{}${grouped}.{part:02}", if cents < 0 { "-" } else { "" })
}

/// A numeric: digits to the base of 10,000, the weight of the first, a sign, and digits behind the point.
pub fn numeric(bytes: &[u8]) -> Option<String> {
    let mut cursor = Cursor::new(bytes);
    let (count, weight, sign, scale) = (cursor.u16()?, cursor.u16()?.cast_signed(), cursor.u16()?, cursor.u16()?);
    let negative = match sign {
        0 => false,
        0x4000 => true,
        0xc000 => return Some("NaN".to_owned()),
        0xd000 => return Some("Infinity".to_owned()),
        0xf000 => return Some("-Infinity".to_owned()),
        _ => return None,
    };
    let digits: Option<Vec<u16>> = (0..count).map(|_| cursor.u16().filter(|digit| *digit < 10_000)).collect();
    let digits = digits?;
    if !cursor.is_empty() || scale > 0x3fff {
        return None;
    }
    let digit = |place: i32| usize::try_from(i32::from(weight) - place).ok().and_then(|at| digits.get(at)).copied();
    let mut text = if negative { "-".to_owned() } else { String::new() };
    let four = |place: i32| format!("{:0DIGITS$}", digit(place).unwrap_or(0));
    let whole: String = (0..=i32::from(weight).max(0)).rev().map(four).collect();
    let trimmed = whole.trim_start_matches('0');
    text.push_str(if trimmed.is_empty() { "0" } else { trimmed });
    if scale > 0 {
        let mut fraction = String::new();
        let mut place = -1;
        while fraction.len() < usize::from(scale) {
            fraction.push_str(&four(place));
            place -= 1;
        }
        fraction.truncate(usize::from(scale));
        text.push('.');
        text.push_str(&fraction);
    }
    Some(text)
}
