//! One line of known hosts: whom it is about, and which key it names. Never looks at another line.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha1::Sha1;

/// Begins a hashed name: `|1|SALT|HASH`.
const HASHED: &str = "|1|";

/// Patterns of one line: OpenSSH has no limit, people write a handful.
const PATTERNS_MAX: usize = 1024;

/// What a line says of its key.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Marker {
    /// The host has this key.
    None,
    /// Whoever has this key signs the host's certificates.
    Authority,
    /// The host must never be taken for itself with this key.
    Revoked,
}

/// One line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Line {
    /// Its number in the file, from 1.
    pub number: usize,
    /// What it says of the key.
    pub marker: Marker,
    /// The key's algorithm, `ssh-ed25519` for instance.
    pub algorithm: String,
    /// The public key as it goes over the wire (RFC 4253 section 6.6).
    pub key: Vec<u8>,
    hosts: Hosts,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Hosts {
    Hashed { salt: Vec<u8>, hash: [u8; 20] },
    Patterns(Vec<Pattern>),
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct Pattern {
    is_negated: bool,
    /// Lower case.
    text: String,
}

/// Where the parts of a line are, before they are understood.
#[derive(Clone, Copy, Debug)]
pub(super) struct Parts<'t> {
    pub(super) marker: Marker,
    pub(super) hosts: &'t str,
    algorithm: &'t str,
    key: &'t str,
}

/// Neither a key nor meant to be one.
pub(super) fn is_blank(text: &[u8]) -> bool {
    let text = text.trim_ascii();
    text.is_empty() || text.starts_with(b"#")
}

pub(super) fn parts(text: &[u8]) -> Option<Parts<'_>> {
    let text = std::str::from_utf8(text).ok()?;
    let mut words = text.split([' ', '\t', '\r']).filter(|word| !word.is_empty());
    let first = words.next()?;
    let (marker, hosts) = match first {
        "@cert-authority" => (Marker::Authority, words.next()?),
        "@revoked" => (Marker::Revoked, words.next()?),
        marker if marker.starts_with('@') => return None,
        hosts => (Marker::None, hosts),
    };
    Some(Parts { marker, hosts, algorithm: words.next()?, key: words.next()? })
}

impl Line {
    pub(super) fn parse(number: usize, text: &[u8]) -> Option<Self> {
        let parts = parts(text)?;
        let key = STANDARD.decode(parts.key).ok()?;
        // The key says itself what it is; a line that contradicts it is damaged.
        (algorithm_of(&key)? == parts.algorithm).then_some(())?;
        let hosts = Hosts::parse(parts.hosts)?;
        Some(Self { number, marker: parts.marker, algorithm: parts.algorithm.to_owned(), key, hosts })
    }

    /// Whether the line is about a host, as [`super::written`] writes it.
    #[must_use]
    pub fn is_about(&self, written: &str) -> bool {
        match &self.hosts {
            Hosts::Hashed { salt, hash } => {
                let Ok(mut mac) = Hmac::<Sha1>::new_from_slice(salt) else { return false };
                mac.update(written.as_bytes());
                mac.finalize().into_bytes().as_slice() == hash
            }
            Hosts::Patterns(patterns) => {
                let mut matching =
                    patterns.iter().filter(|pattern| matches(pattern.text.as_bytes(), written.as_bytes()));
                // One that is negated outdoes all others, wherever it stands.
                let mut is_meant = false;
                matching.all(|pattern| {
                    is_meant = true;
                    !pattern.is_negated
                }) && is_meant
            }
        }
    }
}

impl Hosts {
    fn parse(text: &str) -> Option<Self> {
        if let Some(hashed) = text.strip_prefix(HASHED) {
            let (salt, hash) = hashed.split_once('|')?;
            let hash = STANDARD.decode(hash).ok()?.try_into().ok()?;
            return Some(Self::Hashed { salt: STANDARD.decode(salt).ok()?, hash });
        }
        if text.starts_with('|') || text.split(',').count() > PATTERNS_MAX {
            return None;
        }
        let pattern = |text: &str| {
            let (is_negated, text) = text.strip_prefix('!').map_or((false, text), |text| (true, text));
            Pattern { is_negated, text: text.to_ascii_lowercase() }
        };
        Some(Self::Patterns(text.split(',').filter(|text| !text.is_empty()).map(pattern).collect()))
    }
}

/// The algorithm that a public key names in its first field.
#[must_use]
pub fn algorithm_of(key: &[u8]) -> Option<&str> {
    let (len, rest) = key.split_first_chunk::<4>()?;
    let len = usize::try_from(u32::from_be_bytes(*len)).ok()?;
    let (name, rest) = rest.split_at_checked(len)?;
    let is_name = !name.is_empty() && name.iter().all(u8::is_ascii_graphic) && !rest.is_empty();
    is_name.then(|| std::str::from_utf8(name).ok()).flatten()
}

/// `*` for any number of characters, `?` for one. Goes back to the last star only, so that the time is the product of both
/// lengths at most.
#[must_use]
pub fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut at, mut in_text) = (0, 0);
    let mut last_star = None;
    while let Some(letter) = text.get(in_text) {
        match pattern.get(at) {
            Some(b'*') => {
                at += 1;
                last_star = Some((at, in_text));
            }
            Some(wanted) if *wanted == b'?' || wanted == letter => {
                at += 1;
                in_text += 1;
            }
            _ => {
                let Some((behind, from)) = last_star else { return false };
                at = behind;
                in_text = from + 1;
                last_star = Some((behind, in_text));
            }
        }
    }
    pattern.get(at..).is_some_and(|rest| rest.iter().all(|byte| *byte == b'*'))
}
