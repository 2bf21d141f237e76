//! Masks as values: what a rule looks for, where, and what it leaves.
//!
//! Owns the words of `masks.toml`. Never looks at content.

use serde::{Deserialize, Serialize};

pub use crate::bodies::Apply;

/// A number for a rule within one set of masks.
pub type RuleNumber = u16;

/// One mask.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rule {
    /// Its name: the table's in `masks.toml`, and the `mask` of its events.
    pub name: String,
    /// What it looks for.
    pub what: What,
    /// Where it looks; everywhere when there is none.
    pub places: Vec<Place>,
    /// For whom the values are hidden.
    pub apply: Apply,
    /// Names of the catalog's targets whose clients do not get the values either, where [`Apply::Wire`] is not for all.
    pub wire_targets: Vec<String>,
    /// How many of a value's last letters and digits stay readable. Never more than a quarter of them.
    pub keep_last: usize,
    /// Whether it holds for targets that do not name it.
    pub enabled: bool,
    /// Names of the catalog's targets that it holds for; all when there is none.
    pub targets: Vec<String>,
    /// Tags of the catalog's targets that it holds for; all when there is none.
    pub tags: Vec<String>,
}

/// What a rule looks for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum What {
    /// One of our own detectors.
    Kind(Kind),
    /// A regular expression over bytes of one field; the group `value`, where there is one, is what is hidden.
    Pattern {
        /// Its text (the `regex` crate's syntax).
        regex: String,
        /// What a find must pass besides.
        check: Option<Check>,
    },
    /// All of the field: of rules that say where.
    All,
}

/// Our own detectors.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Payment cards: issuer ranges, lengths, the check digit of ISO/IEC 7812-1.
    Card,
    /// International bank account numbers: ISO 13616, mod 97.
    Iban,
    /// Social security numbers of the United States.
    Ssn,
    /// Keys and tokens of the well-known shapes.
    ApiKey,
    /// JSON Web Tokens (RFC 7519).
    Jwt,
    /// Private keys in PEM (RFC 7468).
    PrivateKey,
    /// Passwords in URLs and connection strings.
    UrlPassword,
    /// E-mail addresses.
    Email,
    /// Telephone numbers.
    Phone,
    /// National identity numbers with check digits.
    NationalId,
    /// IP addresses.
    Ip,
}

/// Something that a find of a pattern must pass.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Check {
    /// The check digit of ISO/IEC 7812-1 over all digits.
    Luhn,
    /// ISO 7064 mod 97-10 over letters and digits, as IBANs have it.
    Mod97,
}

/// Where a rule looks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Place {
    /// A column of a result, a COPY or an INSERT, by its name in lower case.
    Column(String),
    /// A value in JSON.
    Json(Vec<JsonStep>),
    /// A header of HTTP, by its name in lower case.
    Header(String),
}

/// One step of a path into JSON.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum JsonStep {
    /// `.name`
    Key(String),
    /// `[*]`
    Every,
    /// `[3]`
    At(usize),
    /// `..`: any depth.
    Deep,
}

impl Kind {
    /// All there are.
    pub const ALL: [Self; 11] = [
        Self::Card,
        Self::Iban,
        Self::Ssn,
        Self::ApiKey,
        Self::Jwt,
        Self::PrivateKey,
        Self::UrlPassword,
        Self::Email,
        Self::Phone,
        Self::NationalId,
        Self::Ip,
    ];

    /// Its name in files and events.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Card => "card",
            Self::Iban => "iban",
            Self::Ssn => "ssn",
            Self::ApiKey => "api-key",
            Self::Jwt => "jwt",
            Self::PrivateKey => "private-key",
            Self::UrlPassword => "url-password",
            Self::Email => "email",
            Self::Phone => "phone",
            Self::NationalId => "national-id",
            Self::Ip => "ip",
        }
    }

    /// Whether it is on where nothing else is said.
    #[must_use]
    pub const fn is_default(self) -> bool {
        !matches!(self, Self::Email | Self::Phone | Self::NationalId | Self::Ip)
    }

    /// How many last characters stay readable where nothing else is said.
    #[must_use]
    pub const fn keeps_last(self) -> usize {
        match self {
            Self::Card | Self::Iban => 4,
            _ => 0,
        }
    }
}

impl Rule {
    /// One of our own detectors as it is where nothing else is said.
    #[must_use]
    pub fn of(kind: Kind) -> Self {
        Self {
            name: kind.as_str().into(),
            what: What::Kind(kind),
            places: Vec::new(),
            apply: Apply::Record,
            wire_targets: Vec::new(),
            keep_last: kind.keeps_last(),
            enabled: kind.is_default(),
            targets: Vec::new(),
            tags: Vec::new(),
        }
    }

    /// For whom the values of a target are hidden; none is one that the catalog does not know.
    #[must_use]
    pub fn apply_for(&self, target: Option<&str>) -> Apply {
        let is_meant =
            self.wire_targets.is_empty() || self.wire_targets.iter().any(|name| Some(name.as_str()) == target);
        if is_meant { self.apply } else { Apply::Record }
    }
}
