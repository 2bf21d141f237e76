//! Reading keys of a TOML text so that a fault names its line and what to do. Never opens a file.

use std::borrow::Cow;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// A key as it stands in the text.
pub type Key<'t> = Spanned<Cow<'t, str>>;

/// A value as it stands in the text.
pub type Value<'t> = Spanned<DeValue<'t>>;

/// What is wrong, and where.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fault {
    /// Bytes of the text that it is about.
    pub at: Range<usize>,
    /// A sentence for the user: what is wrong, and what to do.
    pub what: String,
}

impl Fault {
    /// A fault of this value.
    #[must_use]
    pub fn of(value: &Value<'_>, what: impl Into<String>) -> Self {
        Self { at: value.span(), what: what.into() }
    }

    /// The line, from 1.
    #[must_use]
    pub fn line(&self, text: &str) -> usize {
        1 + text.bytes().take(self.at.start).filter(|byte| *byte == b'\n').count()
    }
}

/// The top table of a text.
///
/// # Errors
/// When it is no TOML.
pub fn parse(text: &str) -> Result<Spanned<DeTable<'_>>, Fault> {
    DeTable::parse(text)
        .map_err(|error| Fault { at: error.span().unwrap_or_default(), what: error.message().to_owned() })
}

/// The entries of a table in the order of the text, so that the first fault is told first.
#[must_use]
pub fn in_order<'a, 't>(table: &'a DeTable<'t>) -> Vec<(&'a Key<'t>, &'a Value<'t>)> {
    let mut entries: Vec<_> = table.iter().collect();
    entries.sort_by_key(|(key, _)| key.span().start);
    entries
}

/// A table.
///
/// # Errors
/// When it is none.
pub fn table<'a, 't>(key: &str, value: &'a Value<'t>) -> Result<&'a DeTable<'t>, Fault> {
    value.get_ref().as_table().ok_or_else(|| wrong_type(key, "a table", value))
}

/// A number of bytes up to `max`.
///
/// # Errors
/// When it is none, or larger.
pub fn bytes(key: &str, value: &Value<'_>, max: u32) -> Result<usize, Fault> {
    let number = value.get_ref().as_integer().and_then(|n| i64::from_str_radix(n.as_str(), n.radix()).ok());
    let number = number.filter(|bytes| (0..=max.into()).contains(bytes)).and_then(|bytes| usize::try_from(bytes).ok());
    number.ok_or_else(|| Fault::of(value, format!("`{key}` must be a number of bytes up to {max}")))
}

/// A text that is not empty.
///
/// # Errors
/// When it is none.
pub fn text<'a>(key: &str, value: &'a Value<'_>) -> Result<&'a str, Fault> {
    match value.get_ref().as_str() {
        Some("") => Err(Fault::of(value, format!("`{key}` is empty"))),
        Some(text) => Ok(text),
        None => Err(wrong_type(key, "a text in quotes", value)),
    }
}

/// A list of texts, each made into what it means.
///
/// # Errors
/// When it is no such list, or a text means nothing.
pub fn texts<T>(
    key: &str,
    value: &Value<'_>,
    mut meaning: impl FnMut(&str) -> Result<T, String>,
) -> Result<Vec<T>, Fault> {
    list(key, value, "texts", |value| {
        meaning(text(key, value)?).map_err(|what| Fault::of(value, format!("`{key}`: {what}")))
    })
}

/// A list of port numbers.
///
/// # Errors
/// When it is none.
pub fn ports(key: &str, value: &Value<'_>) -> Result<Vec<u16>, Fault> {
    list(key, value, "port numbers", |value| {
        let number = value.get_ref().as_integer().and_then(|n| u16::from_str_radix(n.as_str(), n.radix()).ok());
        number.filter(|port| *port > 0).ok_or_else(|| wrong_type(key, "a list of port numbers from 1 to 65535", value))
    })
}

/// One of a few words.
///
/// # Errors
/// When it is none of them.
pub fn one_of<T: Copy>(key: &str, value: &Value<'_>, all: &[(&str, T)]) -> Result<T, Fault> {
    let found = text(key, value)?;
    all.iter().find(|(name, _)| *name == found).map(|(_, value)| *value).ok_or_else(|| {
        let names: Vec<String> = all.iter().map(|(name, _)| format!("\"{name}\"")).collect();
        Fault::of(value, format!("`{key}` cannot be \"{found}\": it is one of {}", names.join(", ")))
    })
}

/// What to say of a key that is not known: the nearest that is.
#[must_use]
pub fn unknown<'k>(key: &str, known: impl IntoIterator<Item = &'k &'k str>) -> String {
    let nearest =
        known.into_iter().max_by(|a, b| strsim::jaro_winkler(a, key).total_cmp(&strsim::jaro_winkler(b, key)));
    match nearest {
        Some(nearest) => format!("unknown key `{key}`: did you mean `{nearest}`?"),
        None => format!("unknown key `{key}`"),
    }
}

fn list<'a, 't, T>(
    key: &str,
    value: &'a Value<'t>,
    of: &str,
    meaning: impl FnMut(&'a Value<'t>) -> Result<T, Fault>,
) -> Result<Vec<T>, Fault> {
    let Some(list) = value.get_ref().as_array() else {
        return Err(wrong_type(key, &format!("a list of {of}"), value));
    };
    list.iter().map(meaning).collect()
}

fn wrong_type(key: &str, wanted: &str, value: &Value<'_>) -> Fault {
    Fault::of(value, format!("`{key}` must be {wanted}, not of type {}", value.get_ref().type_str()))
}
