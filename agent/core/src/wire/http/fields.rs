//! Field lines of heads and trailer sections (RFC 9110 section 5), as they stand in the bytes.
//!
//! Owns their grammar and look-ups. Never copies, joins or reorders; never repairs a line.

use std::fmt;

use super::fault::Fault;
use crate::limits;

/// The field lines of one head or trailer section, checked, in the order and the case in which they came.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Fields<'a> {
    /// Lines, each with its CRLF, without the empty one.
    lines: &'a [u8],
}

/// One field line.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Field<'a> {
    /// Its name, as it was spelled.
    pub name: &'a str,
    /// Its value, without the white space around it. Any bytes but control characters; often UTF-8.
    pub value: &'a [u8],
}

impl<'a> Fields<'a> {
    /// Checks `lines`: whole lines that end in CRLF, without the empty one behind them.
    ///
    /// # Errors
    /// For the first line that is not as RFC 9112 section 5 wants it.
    pub fn parse(lines: &'a [u8]) -> Result<Self, Fault> {
        let mut count = 0;
        for line in split(lines) {
            let line = line.ok_or(Fault::Field)?;
            count += 1;
            if count > limits::HTTP_HEADERS_MAX {
                return Err(Fault::TooManyFields);
            }
            field(line)?;
        }
        Ok(Self { lines })
    }

    /// The fields in their order.
    pub fn iter(&self) -> impl Iterator<Item = Field<'a>> + use<'a> {
        split(self.lines).filter_map(|line| checked(line?))
    }

    /// The value of the first field of that name, in any case.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&'a [u8]> {
        self.all(name).next()
    }

    /// The values of all fields of that name, in any case.
    pub fn all<'n>(&self, name: &'n str) -> impl Iterator<Item = &'a [u8]> + use<'a, 'n> {
        // A line's first colon ends its name, and no name that is asked for has one.
        split(self.lines).filter_map(move |line| {
            let (begin, rest) = line?.split_at_checked(name.len())?;
            let is_it = begin.eq_ignore_ascii_case(name.as_bytes());
            rest.strip_prefix(b":").filter(|_| is_it).map(trim_blanks)
        })
    }

    /// The members of a comma-separated list (RFC 9110 section 5.6.1) over all fields of that name; quotes are not
    /// looked at.
    pub fn members<'n>(&self, name: &'n str) -> impl Iterator<Item = &'a [u8]> + use<'a, 'n> {
        self.all(name)
            .flat_map(|value| value.split(|byte| *byte == b','))
            .map(<[u8]>::trim_ascii)
            .filter(|member| !member.is_empty())
    }

    /// Whether such a list has `member`, in any case.
    #[must_use]
    pub fn has_member(&self, name: &str, member: &str) -> bool {
        self.members(name).any(|found| found.eq_ignore_ascii_case(member.as_bytes()))
    }

    /// How many field lines there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.iter().count()
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }
}

/// Names only: values may be credentials, and must not reach a log.
impl fmt::Debug for Fields<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// The name only.
impl fmt::Debug for Field<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// The lines of `bytes` without their CRLF; none for one that does not end so.
fn split(bytes: &[u8]) -> impl Iterator<Item = Option<&[u8]>> {
    bytes.split_inclusive(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r\n"))
}

/// The field of a line that was checked when the section was.
fn checked(line: &[u8]) -> Option<Field<'_>> {
    let colon = line.iter().position(|byte| *byte == b':')?;
    let (name, value) = line.split_at(colon);
    let name = std::str::from_utf8(name).ok()?;
    Some(Field { name, value: trim_blanks(value.get(1..).unwrap_or_default()) })
}

fn field(line: &[u8]) -> Result<Field<'_>, Fault> {
    if line.first().is_some_and(|byte| is_blank(*byte)) {
        return Err(Fault::ObsoleteFold);
    }
    let colon = line.iter().position(|byte| *byte == b':').ok_or(Fault::Field)?;
    let (name, value) = line.split_at(colon);
    if name.last().is_some_and(|byte| is_blank(*byte)) {
        return Err(Fault::SpaceBeforeColon);
    }
    let name = token(name).ok_or(Fault::Field)?;
    let value = trim_blanks(value.get(1..).unwrap_or_default());
    if value.iter().all(|byte| is_text(*byte)) { Ok(Field { name, value }) } else { Err(Fault::Control) }
}

/// `bytes` as a token (RFC 9110 section 5.6.2), which is ASCII.
pub(super) fn token(bytes: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(bytes).ok()?;
    (!text.is_empty() && bytes.iter().all(|byte| is_token(*byte))).then_some(text)
}

/// Without the optional white space around it (RFC 9110 section 5.6.3).
pub(super) fn trim_blanks(value: &[u8]) -> &[u8] {
    let begin = value.iter().position(|byte| !is_blank(*byte)).unwrap_or(value.len());
    let end = value.iter().rposition(|byte| !is_blank(*byte)).map_or(begin, |last| last + 1);
    value.get(begin..end).unwrap_or_default()
}

pub(super) const fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

/// What a value or a reason phrase may hold (RFC 9110 section 5.5): no control character but the tabulator.
pub(super) const fn is_text(byte: u8) -> bool {
    matches!(byte, b'\t' | b' '..=b'~' | 0x80..)
}

const fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~'
        )
}
