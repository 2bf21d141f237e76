//! The media type of recorded frames, and what it says of the values in them.
//!
//! Owns its text form. Never holds more columns than a result can have.

use std::borrow::Cow;
use std::fmt;

use super::MEDIA_TYPE;
use super::facts::Form;

/// Columns or parameters that are kept; a result has at most 1,664 columns, a statement 65,535 parameters.
const FIELDS_MAX: usize = 65_535;

/// The parameter that has the names of columns.
const NAMES: &str = "names";

/// The parameter that says how they are copied.
const COPIED: &str = "copied";

/// How one value is written: its type, and text or binary.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Field {
    /// The type's oid; 0 where it is not known.
    pub oid: u32,
    /// Whether the value is in the type's binary form.
    pub binary: bool,
}

/// What is needed to read the values in frames that are not beside the frames that describe them.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Media {
    /// Of each column of the rows; empty when it is not told.
    pub columns: Vec<Field>,
    /// Of each parameter of a Bind; empty when it is not told.
    pub parameters: Vec<Field>,
    /// Names of the columns, of rows or of what a message says; told only on the way to masks that look for them, and never on
    /// record.
    pub names: Vec<String>,
    /// How rows of these columns are copied; told as the names are.
    pub copied: Option<Form>,
    /// The bytes begin inside of a frame that an earlier piece of the same side began.
    pub continued: bool,
}

impl Media {
    /// Reads a media type; none when it is another one. A parameter that is not understood counts as not told.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split(';').map(str::trim);
        if !parts.next()?.eq_ignore_ascii_case(MEDIA_TYPE) {
            return None;
        }
        let mut media = Self::default();
        for part in parts {
            match part.split_once('=') {
                Some(("columns", list)) => media.columns = fields(list).unwrap_or_default(),
                Some(("parameters", list)) => media.parameters = fields(list).unwrap_or_default(),
                Some((NAMES, list)) => media.names = list.split(',').take(FIELDS_MAX).map(unwritten).collect(),
                Some((COPIED, text)) => media.copied = form(text),
                Some(("continued", "true")) => media.continued = true,
                _ => {}
            }
        }
        Some(media)
    }
}

/// `text` or `csv`, and the delimiter in two hexadecimal digits.
fn form(text: &str) -> Option<Form> {
    let (kind, delimiter) = text.split_once('-')?;
    Some(Form { quoted: kind == "csv", delimiter: u8::from_str_radix(delimiter, 16).ok()? })
}

/// A media type as it is recorded: without names.
#[must_use]
pub fn recorded(media_type: &str) -> Cow<'_, str> {
    let is_names = |part: &str| part.split_once('=').is_some_and(|(name, _)| [NAMES, COPIED].contains(&name.trim()));
    if !media_type.split(';').any(is_names) {
        return Cow::Borrowed(media_type);
    }
    Cow::Owned(media_type.split(';').filter(|part| !is_names(part)).collect::<Vec<_>>().join(";"))
}

/// A name, as it stands in a list.
fn written(name: &str) -> String {
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
    name.bytes()
        .map(|byte| if is_plain(&byte) { char::from(byte).to_string() } else { format!("%{byte:02x}") })
        .collect()
}

fn unwritten(text: &str) -> String {
    let (mut bytes, mut rest) = (Vec::with_capacity(text.len()), text.as_bytes());
    while let Some((byte, behind)) = rest.split_first() {
        let digits = behind.get(..2).filter(|_| *byte == b'%').and_then(|two| std::str::from_utf8(two).ok());
        if let Some(value) = digits.and_then(|two| u8::from_str_radix(two, 16).ok()) {
            bytes.push(value);
            rest = behind.get(2..).unwrap_or_default();
        } else {
            bytes.push(*byte);
            rest = behind;
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn fields(list: &str) -> Option<Vec<Field>> {
    let field = |text: &str| {
        let (oid, format) = text.split_at_checked(text.len().checked_sub(1)?)?;
        let binary = match format {
            "b" => true,
            "t" => false,
            _ => return None,
        };
        Some(Field { oid: oid.parse().ok()?, binary })
    };
    list.split(',').take(FIELDS_MAX).map(field).collect()
}

impl fmt::Display for Media {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(MEDIA_TYPE)?;
        for (name, list) in [("columns", &self.columns), ("parameters", &self.parameters)] {
            for (at, Field { oid, binary }) in list.iter().enumerate() {
                let format = if *binary { 'b' } else { 't' };
                match at {
                    0 => write!(out, "; {name}={oid}{format}")?,
                    _ => write!(out, ",{oid}{format}")?,
                }
            }
        }
        for (at, name) in self.names.iter().enumerate() {
            let begin = if at == 0 { "; names=" } else { "," };
            write!(out, "{begin}{}", written(name))?;
        }
        if let Some(Form { quoted, delimiter }) = self.copied {
            write!(out, "; {COPIED}={}-{delimiter:02x}", if quoted { "csv" } else { "text" })?;
        }
        if self.continued { out.write_str("; continued=true") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::{Field, Form, Media, recorded};

    #[test]
    fn what_is_written_is_read() {
        let media = Media {
            columns: vec![Field { oid: 23, binary: true }, Field { oid: 25, binary: false }],
            parameters: vec![Field { oid: 0, binary: false }],
            names: vec!["id".into(), "a, ä;=%".into()],
            copied: Some(Form { quoted: true, delimiter: b';' }),
            continued: true,
        };
        let names = "names=id,a%2c%20%c3%a4%3b%3d%25";
        let text =
            format!("application/x-postgresql; columns=23b,25t; parameters=0t; {names}; copied=csv-3b; continued=true");
        let on_record = "application/x-postgresql; columns=23b,25t; parameters=0t; continued=true";
        assert_eq!(recorded(&text), on_record);
        assert_eq!(recorded(on_record), on_record);
        assert_eq!(media.to_string(), text);
        assert_eq!(Media::parse(&media.to_string()), Some(media));
        assert_eq!(Media::default().to_string(), super::MEDIA_TYPE);
    }

    #[test]
    fn another_type_is_none_and_nonsense_is_not_told() {
        assert_eq!(Media::parse("application/json; columns=23b"), None);
        for text in ["columns=", "columns=23", "columns=b", "columns=99999999999b", "columns=23b,", "rows=1"] {
            assert_eq!(Media::parse(&format!("Application/X-PostgreSQL;{text}")), Some(Media::default()), "{text}");
        }
    }
}
