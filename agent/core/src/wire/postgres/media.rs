//! The media type of recorded frames, and what it says of the values in them.
//!
//! Owns its text form. Never holds more columns than a result can have.

use std::fmt;

use super::MEDIA_TYPE;

/// Columns or parameters that are kept; a result has at most 1,664 columns, a statement 65,535 parameters.
const FIELDS_MAX: usize = 65_535;

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
                Some(("continued", "true")) => media.continued = true,
                _ => {}
            }
        }
        Some(media)
    }
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
        if self.continued { out.write_str("; continued=true") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::{Field, Media};

    #[test]
    fn what_is_written_is_read() {
        let media = Media {
            columns: vec![Field { oid: 23, binary: true }, Field { oid: 25, binary: false }],
            parameters: vec![Field { oid: 0, binary: false }],
            continued: true,
        };
        let text = "application/x-postgresql; columns=23b,25t; parameters=0t; continued=true";
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
