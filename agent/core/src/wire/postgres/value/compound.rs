//! Values of values: arrays, vectors, records, ranges.
//!
//! Owns their binary forms and the quotes of their texts. Never believes a count: what is kept grows with the bytes.

use super::{NESTED_MAX, Sized, binary, hex, sized};
use crate::wire::cursor::Cursor;

/// Dimensions that an array of the server can have.
const DIMENSIONS_MAX: usize = 6;

/// The type of the elements of an array type.
pub fn array_element(array: u32) -> Option<u32> {
    ARRAYS
        .binary_search_by_key(&array, |(array, _)| *array)
        .ok()
        .and_then(|at| ARRAYS.get(at))
        .map(|(_, element)| *element)
}

/// Array types and their elements, in order.
const ARRAYS: &[(u32, u32)] = &[
    (143, 142),
    (199, 114),
    (629, 628),
    (651, 650),
    (719, 718),
    (775, 774),
    (791, 790),
    (1000, 16),
    (1001, 17),
    (1002, 18),
    (1003, 19),
    (1005, 21),
    (1006, 22),
    (1007, 23),
    (1008, 24),
    (1009, 25),
    (1010, 27),
    (1011, 28),
    (1012, 29),
    (1013, 30),
    (1014, 1042),
    (1015, 1043),
    (1016, 20),
    (1017, 600),
    (1018, 601),
    (1019, 602),
    (1020, 603),
    (1021, 700),
    (1022, 701),
    (1027, 604),
    (1028, 26),
    (1040, 829),
    (1041, 869),
    (1115, 1114),
    (1182, 1082),
    (1183, 1083),
    (1185, 1184),
    (1187, 1186),
    (1231, 1700),
    (1270, 1266),
    (1561, 1560),
    (1563, 1562),
    (2201, 1790),
    (2207, 2202),
    (2210, 2205),
    (2211, 2206),
    (2287, 2249),
    (2951, 2950),
    (3221, 3220),
    (3807, 3802),
    (3905, 3904),
    (3907, 3906),
    (3909, 3908),
    (3911, 3910),
    (3913, 3912),
    (3927, 3926),
    (4073, 4072),
];

/// The text of one value in another one; in hexadecimal where its type is not known.
fn inner(oid: u32, bytes: &[u8], nested: usize) -> Option<String> {
    if nested >= NESTED_MAX {
        return None;
    }
    Some(binary(oid, bytes, nested + 1).unwrap_or_else(|| hex(bytes)))
}

/// Dimensions, whether there is a NULL, the elements' type; each dimension's length and lower bound; the elements.
pub fn array(bytes: &[u8], nested: usize) -> Option<String> {
    let mut cursor = Cursor::new(bytes);
    let (count, _nulls, oid) = (usize::try_from(cursor.u32()?).ok()?, cursor.u32()?, cursor.u32()?);
    if count > DIMENSIONS_MAX {
        return None;
    }
    let dimensions: Option<Vec<(usize, i64)>> = (0..count)
        .map(|_| Some((usize::try_from(cursor.u32()?).ok()?, i64::from(i32::from_be_bytes(cursor.array()?)))))
        .collect();
    let dimensions = dimensions?;
    let total = dimensions.iter().try_fold(1_usize, |total, (len, _)| total.checked_mul(*len))?;
    if dimensions.is_empty() || total == 0 {
        return cursor.is_empty().then(|| "{}".to_owned());
    }
    // Each element has a length of four bytes at least.
    if total > cursor.rest().len() / 4 {
        return None;
    }
    let mut text = String::new();
    if dimensions.iter().any(|(_, lower)| *lower != 1) {
        for (len, lower) in &dimensions {
            let upper = lower + i64::try_from(*len).ok()? - 1;
            text.extend(["[", &lower.to_string(), ":", &upper.to_string(), "]"]);
        }
        text.push('=');
    }
    // Boxes are told apart by semicolons, since their own texts hold commas.
    let mark = if oid == 603 { ';' } else { ',' };
    for at in 0..total {
        let boundary = |dimension: usize| {
            let size: usize = dimensions.get(dimension..).unwrap_or_default().iter().map(|(len, _)| len).product();
            (at % size == 0, (at + 1) % size == 0)
        };
        if at > 0 {
            text.push(mark);
        }
        text.extend((0..count).filter(|dimension| boundary(*dimension).0).map(|_| '{'));
        match sized(&mut cursor)? {
            Sized::Null => text.push_str("NULL"),
            Sized::Value(element) => text.push_str(&array_quoted(&inner(oid, element, nested)?, mark)),
        }
        text.extend((0..count).filter(|dimension| boundary(*dimension).1).map(|_| '}'));
    }
    cursor.is_empty().then_some(text)
}

fn array_quoted(text: &str, mark: char) -> String {
    let special = |letter: char| "{}\"\\".contains(letter) || letter == mark || is_space(letter);
    if !text.is_empty() && !text.eq_ignore_ascii_case("null") && !text.contains(special) {
        return text.to_owned();
    }
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// What `isspace` of C takes.
const fn is_space(letter: char) -> bool {
    matches!(letter, ' ' | '\t' | '\n' | '\r' | '\x0b' | '\x0c')
}

/// oidvector and int2vector: an array of one dimension, shown with blanks between.
pub fn vector(bytes: &[u8]) -> Option<String> {
    let text = array(bytes, 0)?;
    // Their lower bound is 0.
    let list = text.split_once('=').map_or(text.as_str(), |(_, list)| list);
    Some(list.trim_matches(['{', '}']).replace(',', " "))
}

/// Columns with their types.
pub fn record(bytes: &[u8], nested: usize) -> Option<String> {
    let mut cursor = Cursor::new(bytes);
    let count = cursor.u32()?;
    let mut text = String::from("(");
    for at in 0..count {
        if at > 0 {
            text.push(',');
        }
        let oid = cursor.u32()?;
        if let Sized::Value(value) = sized(&mut cursor)? {
            text.push_str(&doubled(&inner(oid, value, nested)?, "(),\"\\"));
        }
    }
    text.push(')');
    cursor.is_empty().then_some(text)
}

/// Quotes as in records and ranges: quotes and backslashes are doubled.
fn doubled(text: &str, special: &str) -> String {
    if !text.is_empty() && !text.contains(|letter: char| special.contains(letter) || is_space(letter)) {
        return text.to_owned();
    }
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\"\""))
}

/// Flags, and the bounds that there are.
pub fn range(element: u32, bytes: &[u8], nested: usize) -> Option<String> {
    const EMPTY: u8 = 0x01;
    const LOWER_IN: u8 = 0x02;
    const UPPER_IN: u8 = 0x04;
    const LOWER_NONE: u8 = 0x08;
    const UPPER_NONE: u8 = 0x10;
    let mut cursor = Cursor::new(bytes);
    let flags = cursor.u8()?;
    let is = |flag: u8| flags & flag != 0;
    if is(EMPTY) {
        return cursor.is_empty().then(|| "empty".to_owned());
    }
    let mut bound = |none: bool| {
        if none {
            return Some(String::new());
        }
        let Sized::Value(value) = sized(&mut cursor)? else { return None };
        Some(doubled(&inner(element, value, nested)?, "()[],\"\\"))
    };
    let (lower, upper) = (bound(is(LOWER_NONE))?, bound(is(UPPER_NONE))?);
    let (open, close) = (if is(LOWER_IN) { '[' } else { '(' }, if is(UPPER_IN) { ']' } else { ')' });
    cursor.is_empty().then(|| format!("{open}{lower},{upper}{close}"))
}
