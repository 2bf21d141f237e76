//! One value as psql shows it.
//!
//! Owns the way from a type's text or binary form to the server's own text, with `DateStyle` ISO and `IntervalStyle`
//! postgres. Never fails: what is not of its type's form is shown in hexadecimal.

mod compound;
mod moment;
mod network;
mod number;

use std::borrow::Cow;

use super::media::Field;
use crate::view::hexadecimal;
use crate::wire::cursor::Cursor;

/// Arrays, records and ranges in each other; what is deeper is shown in hexadecimal.
const NESTED_MAX: usize = 16;

/// The text of one value that is not NULL, at most about `max` bytes of it; then it ends in `…`.
#[must_use]
pub fn text(field: Field, bytes: &[u8], max: usize) -> String {
    let mut text = if field.binary {
        binary(field.oid, bytes, 0).unwrap_or_else(|| hex(bytes.get(..max).unwrap_or(bytes)))
    } else {
        // One more than fits shows that it was cut.
        lossy(bytes.get(..max.saturating_add(4)).unwrap_or(bytes))
    };
    if text.len() > max {
        let fits = (0..=max).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(fits);
        text.push('…');
    }
    text
}

/// The name of a type as psql's `\gdesc` gives it, or its oid.
#[must_use]
pub fn type_name(oid: u32) -> Cow<'static, str> {
    match TYPES.binary_search_by_key(&oid, |(known, _)| *known) {
        Ok(at) => TYPES.get(at).map_or(Cow::Borrowed("unknown"), |(_, name)| Cow::Borrowed(*name)),
        Err(_) => match compound::array_element(oid) {
            Some(element) => Cow::Owned(format!("{}[]", type_name(element))),
            None => Cow::Owned(oid.to_string()),
        },
    }
}

const TYPES: &[(u32, &str)] = &[
    (16, "boolean"),
    (17, "bytea"),
    (18, "\"char\""),
    (19, "name"),
    (20, "bigint"),
    (21, "smallint"),
    (22, "int2vector"),
    (23, "integer"),
    (24, "regproc"),
    (25, "text"),
    (26, "oid"),
    (27, "tid"),
    (28, "xid"),
    (29, "cid"),
    (30, "oidvector"),
    (114, "json"),
    (142, "xml"),
    (194, "pg_node_tree"),
    (600, "point"),
    (601, "lseg"),
    (602, "path"),
    (603, "box"),
    (604, "polygon"),
    (628, "line"),
    (650, "cidr"),
    (700, "real"),
    (701, "double precision"),
    (705, "unknown"),
    (718, "circle"),
    (774, "macaddr8"),
    (790, "money"),
    (829, "macaddr"),
    (869, "inet"),
    (1033, "aclitem"),
    (1042, "character"),
    (1043, "character varying"),
    (1082, "date"),
    (1083, "time without time zone"),
    (1114, "timestamp without time zone"),
    (1184, "timestamp with time zone"),
    (1186, "interval"),
    (1266, "time with time zone"),
    (1560, "bit"),
    (1562, "bit varying"),
    (1700, "numeric"),
    (1790, "refcursor"),
    (2202, "regprocedure"),
    (2203, "regoper"),
    (2204, "regoperator"),
    (2205, "regclass"),
    (2206, "regtype"),
    (2249, "record"),
    (2275, "cstring"),
    (2278, "void"),
    (2950, "uuid"),
    (3220, "pg_lsn"),
    (3614, "tsvector"),
    (3615, "tsquery"),
    (3734, "regconfig"),
    (3769, "regdictionary"),
    (3802, "jsonb"),
    (3904, "int4range"),
    (3906, "numrange"),
    (3908, "tsrange"),
    (3910, "tstzrange"),
    (3912, "daterange"),
    (3926, "int8range"),
    (4072, "jsonpath"),
    (4089, "regnamespace"),
    (4096, "regrole"),
    (5069, "xid8"),
];

/// The text of a value in binary form; none when it is not of its type's form.
fn binary(oid: u32, bytes: &[u8], nested: usize) -> Option<String> {
    let plain = || std::str::from_utf8(bytes).ok().map(str::to_owned);
    match oid {
        16 => Some(if *bytes.first().filter(|_| bytes.len() == 1)? == 0 { "f" } else { "t" }.to_owned()),
        17 => Some(hex(bytes)),
        18 => number::character(bytes),
        // What is text in both forms.
        19 | 25 | 114 | 142 | 194 | 705 | 1042 | 1043 | 1790 | 2275 => plain(),
        20 => bytes.try_into().ok().map(|bytes| i64::from_be_bytes(bytes).to_string()),
        21 => bytes.try_into().ok().map(|bytes| i16::from_be_bytes(bytes).to_string()),
        23 => bytes.try_into().ok().map(|bytes| i32::from_be_bytes(bytes).to_string()),
        // The registers are shown by number: their names are the server's.
        24 | 2202..=2206 | 3734 | 3769 | 4089 | 4096 => number::register(bytes),
        26 | 28 | 29 => bytes.try_into().ok().map(|bytes| u32::from_be_bytes(bytes).to_string()),
        27 => number::tuple(bytes),
        22 | 30 => compound::vector(bytes),
        600..=604 | 628 | 718 => number::geometry(oid, bytes),
        650 | 869 => network::address(bytes),
        774 | 829 => network::hardware(bytes),
        700 => bytes.try_into().ok().map(|bytes| {
            let value = f32::from_be_bytes(bytes);
            number::float(f64::from(value), &value.to_string(), 6)
        }),
        701 => bytes.try_into().ok().map(|bytes| {
            let value = f64::from_be_bytes(bytes);
            number::float(value, &value.to_string(), 15)
        }),
        // Its sign and digits behind the point are the locale's.
        790 => bytes.try_into().ok().map(|bytes| number::money(i64::from_be_bytes(bytes))),
        1082 | 1083 | 1114 | 1184 | 1186 | 1266 => moment::text(oid, bytes),
        1560 | 1562 => number::bits(bytes),
        1700 => number::numeric(bytes),
        2249 => compound::record(bytes, nested),
        2278 => Some(String::new()).filter(|_| bytes.is_empty()),
        2950 => number::uuid(bytes),
        3220 => number::position(bytes),
        3802 | 4072 => {
            // A version in front of the text.
            let (version, text) = bytes.split_first()?;
            std::str::from_utf8(text).ok().filter(|_| *version == 1).map(str::to_owned)
        }
        5069 => bytes.try_into().ok().map(|bytes| u64::from_be_bytes(bytes).to_string()),
        3904 => compound::range(23, bytes, nested),
        3906 => compound::range(1700, bytes, nested),
        3908 => compound::range(1114, bytes, nested),
        3910 => compound::range(1184, bytes, nested),
        3912 => compound::range(1082, bytes, nested),
        3926 => compound::range(20, bytes, nested),
        oid if compound::array_element(oid).is_some() => compound::array(bytes, nested),
        _ => None,
    }
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Bytes as the server writes them with `bytea_output` hex.
fn hex(bytes: &[u8]) -> String {
    format!("\\x{}", hexadecimal(bytes))
}

/// What follows a 32-bit length.
enum Sized<'b> {
    Null,
    Value(&'b [u8]),
}

/// A 32-bit length and as many bytes.
fn sized<'b>(cursor: &mut Cursor<'b>) -> Option<Sized<'b>> {
    match cursor.u32()? {
        u32::MAX => Some(Sized::Null),
        len => cursor.take(usize::try_from(len).ok()?).map(Sized::Value),
    }
}

#[cfg(test)]
mod tests;
