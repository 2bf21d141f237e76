//! Dates, times and intervals.
//!
//! Owns their binary forms: days and microseconds from 2000-01-01. Never knows a zone: moments are shown in UTC.

use crate::wire::cursor::Cursor;

const SECOND: i64 = 1_000_000;
const DAY: i64 = 86_400 * SECOND;

/// Days from 0000-03-01 to 2000-01-01 in the proleptic Gregorian calendar.
const EPOCH_DAYS: i64 = 730_425;

/// The text of a value of one of the types of this module.
pub fn text(oid: u32, bytes: &[u8]) -> Option<String> {
    match oid {
        1082 => match i32::from_be_bytes(bytes.try_into().ok()?) {
            i32::MAX => Some("infinity".to_owned()),
            i32::MIN => Some("-infinity".to_owned()),
            days => {
                let (date, era) = date(i64::from(days));
                Some(format!("{date}{era}"))
            }
        },
        1083 => time(i64::from_be_bytes(bytes.try_into().ok()?)),
        1266 => {
            let mut cursor = Cursor::new(bytes);
            let (micros, west) = (i64::from_be_bytes(cursor.array()?), i32::from_be_bytes(cursor.array()?));
            let time = time(micros)?;
            cursor.is_empty().then(|| format!("{time}{}", zone(west)))
        }
        1114 => Some(moment(i64::from_be_bytes(bytes.try_into().ok()?), "")),
        1184 => Some(moment(i64::from_be_bytes(bytes.try_into().ok()?), "+00")),
        1186 => interval(bytes),
        _ => None,
    }
}

/// A day as `YYYY-MM-DD`, and ` BC` where it is before the year 1 (Hinnant, "chrono-compatible low-level date algorithms").
fn date(days: i64) -> (String, &'static str) {
    let day = days + EPOCH_DAYS;
    let (era, in_era) = (day.div_euclid(146_097), day.rem_euclid(146_097));
    let year = (in_era - in_era / 1460 + in_era / 36_524 - in_era / 146_096) / 365;
    let in_year = in_era - (365 * year + year / 4 - year / 100);
    let month = (5 * in_year + 2) / 153;
    let day = in_year - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    let year = year + era * 400 + next;
    if year > 0 {
        (format!("{year:04}-{month:02}-{day:02}"), "")
    } else {
        (format!("{:04}-{month:02}-{day:02}", 1 - year), " BC")
    }
}

/// Seconds with as many digits behind the point as count.
fn seconds(micros: i64) -> String {
    let (whole, part) = (micros / SECOND, micros % SECOND);
    if part == 0 {
        return format!("{whole:02}");
    }
    format!("{whole:02}.{part:06}").trim_end_matches('0').to_owned()
}

fn clock(micros: i64) -> String {
    let minutes = micros / (60 * SECOND);
    format!("{:02}:{:02}:{}", minutes / 60, minutes % 60, seconds(micros % (60 * SECOND)))
}

fn time(micros: i64) -> Option<String> {
    (0..=DAY).contains(&micros).then(|| clock(micros))
}

/// An offset, which is counted to the west.
fn zone(west: i32) -> String {
    let (sign, all) = if west > 0 { ('-', west) } else { ('+', west.saturating_neg()) };
    let (hours, minutes, seconds) = (all / 3600, all / 60 % 60, all % 60);
    match (minutes, seconds) {
        (0, 0) => format!("{sign}{hours:02}"),
        (_, 0) => format!("{sign}{hours:02}:{minutes:02}"),
        _ => format!("{sign}{hours:02}:{minutes:02}:{seconds:02}"),
    }
}

fn moment(micros: i64, zone: &str) -> String {
    match micros {
        i64::MAX => "infinity".to_owned(),
        i64::MIN => "-infinity".to_owned(),
        micros => {
            let (date, era) = date(micros.div_euclid(DAY));
            format!("{date} {}{zone}{era}", clock(micros.rem_euclid(DAY)))
        }
    }
}

/// Microseconds, days and months, each with a sign of its own.
fn interval(bytes: &[u8]) -> Option<String> {
    let mut cursor = Cursor::new(bytes);
    let micros = i64::from_be_bytes(cursor.array()?);
    let (days, months) = (i32::from_be_bytes(cursor.array()?), i32::from_be_bytes(cursor.array()?));
    if !cursor.is_empty() {
        return None;
    }
    // Since version 17.
    match (micros, days, months) {
        (i64::MAX, i32::MAX, i32::MAX) => return Some("infinity".to_owned()),
        (i64::MIN, i32::MIN, i32::MIN) => return Some("-infinity".to_owned()),
        _ => {}
    }
    let mut parts: Vec<String> = Vec::new();
    let mut after_negative = false;
    for (count, one, many) in [(months / 12, "year", "years"), (months % 12, "mon", "mons"), (days, "day", "days")] {
        if count != 0 {
            let plus = if after_negative && count > 0 { "+" } else { "" };
            parts.push(format!("{plus}{count} {}", if count == 1 { one } else { many }));
            after_negative = count < 0;
        }
    }
    if micros != 0 || parts.is_empty() {
        let sign = if micros < 0 {
            "-"
        } else if after_negative {
            "+"
        } else {
            ""
        };
        // The most negative number has no positive one.
        let all = i64::try_from(micros.unsigned_abs()).ok()?;
        parts.push(format!("{sign}{}", clock(all)));
    }
    Some(parts.join(" "))
}
