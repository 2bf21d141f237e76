//! What the overlay must know of a certificate: its DER form, and the name that OpenSSL's directories file it under.
//!
//! Pure: bytes in, values out. Never judges whether a certificate is valid.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha1::{Digest as _, Sha1};

const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
const END: &str = "-----END CERTIFICATE-----";

/// DER tags that this file meets.
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const EXPLICIT_0: u8 = 0xa0;
const UTF8_STRING: u8 = 0x0c;
const T61_STRING: u8 = 0x14;
const BMP_STRING: u8 = 0x1e;
const UNIVERSAL_STRING: u8 = 0x1c;
/// Strings whose bytes are ASCII, or are taken for it: Numeric, Printable, IA5, Visible.
const ASCII_STRINGS: [u8; 4] = [0x12, 0x13, 0x16, 0x1a];

/// A certificate that cannot be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CertificateError {
    /// There is no PEM block.
    #[error("there is no PEM certificate in it")]
    NoPem,
    /// The block's content is not base64, or not an X.509 certificate.
    #[error("the PEM block does not hold an X.509 certificate")]
    NotX509,
}

/// The DER form of the first certificate in a PEM text.
///
/// # Errors
/// When there is none, or it is not base64.
pub fn first_der(pem: &[u8]) -> Result<Vec<u8>, CertificateError> {
    let text = String::from_utf8_lossy(pem);
    let body = text.split_once(BEGIN).and_then(|(_, rest)| rest.split_once(END)).ok_or(CertificateError::NoPem)?.0;
    let packed: String = body.split_ascii_whitespace().collect();
    STANDARD.decode(packed).map_err(|_| CertificateError::NotX509)
}

/// Whether a text holds a certificate in PEM, OpenSSL's `TRUSTED CERTIFICATE` included.
#[must_use]
pub fn has_pem(text: &[u8]) -> bool {
    let marks: [&[u8]; 2] = [BEGIN.as_bytes(), b"-----BEGIN TRUSTED CERTIFICATE-----"];
    marks.iter().any(|mark| text.windows(mark.len()).any(|window| window == *mark))
}

/// A text of certificates with one more: what was there, unchanged, then `pem`.
#[must_use]
pub fn with(mut bundle: Vec<u8>, pem: &[u8]) -> Vec<u8> {
    if bundle.last().is_some_and(|last| *last != b'\n') {
        bundle.push(b'\n');
    }
    bundle.extend_from_slice(pem);
    if pem.last().is_some_and(|last| *last != b'\n') {
        bundle.push(b'\n');
    }
    bundle
}

/// The hash of the subject's canonical form, as `openssl x509 -subject_hash` prints it (since OpenSSL 1.0).
///
/// # Errors
/// When the DER is not a certificate.
pub fn subject_hash(der: &[u8]) -> Result<String, CertificateError> {
    let canonical = subject(der).and_then(canonical).ok_or(CertificateError::NotX509)?;
    let digest = Sha1::digest(&canonical);
    let first = digest.first_chunk::<4>().ok_or(CertificateError::NotX509)?;
    Ok(format!("{:08x}", u32::from_le_bytes(*first)))
}

/// The content of the subject's name: RFC 5280 section 4.1.
fn subject(der: &[u8]) -> Option<&[u8]> {
    let (certificate, _) = element(der, SEQUENCE)?;
    let (mut rest, _) = element(certificate, SEQUENCE)?;
    if rest.first() == Some(&EXPLICIT_0) {
        rest = any(rest)?.2;
    }
    // Serial number, signature algorithm, issuer, validity.
    for _ in 0..4 {
        rest = any(rest)?.2;
    }
    Some(element(rest, SEQUENCE)?.0)
}

/// `x509_name_canon` of OpenSSL: the sets alone, strings as UTF-8, lower case, blanks folded.
fn canonical(mut name: &[u8]) -> Option<Vec<u8>> {
    let mut whole = Vec::new();
    while !name.is_empty() {
        let (mut set, rest) = element(name, SET)?;
        name = rest;
        let mut attributes = Vec::new();
        while !set.is_empty() {
            let (attribute, rest) = element(set, SEQUENCE)?;
            set = rest;
            attributes.push(encode(SEQUENCE, &canonical_attribute(attribute)?));
        }
        attributes.sort();
        whole.extend(encode(SET, &attributes.concat()));
    }
    Some(whole)
}

fn canonical_attribute(attribute: &[u8]) -> Option<Vec<u8>> {
    let (_, _, value) = any(attribute)?;
    let kind = attribute.get(..attribute.len().checked_sub(value.len())?)?;
    let (tag, content, _) = any(value)?;
    let text = match tag {
        UTF8_STRING => String::from_utf8(content.to_vec()).ok(),
        tag if tag == T61_STRING || ASCII_STRINGS.contains(&tag) => {
            Some(content.iter().map(|byte| char::from(*byte)).collect())
        }
        BMP_STRING => Some(content.chunks_exact(2).filter_map(wide).collect()),
        UNIVERSAL_STRING => Some(content.chunks_exact(4).filter_map(wide).collect()),
        _ => None,
    };
    let encoded = match text {
        Some(text) => {
            let words: Vec<&str> = text.split(is_blank).filter(|word| !word.is_empty()).collect();
            encode(UTF8_STRING, words.join(" ").to_ascii_lowercase().as_bytes())
        }
        None => encode(tag, content),
    };
    Some([kind, encoded.as_slice()].concat())
}

/// What C's `isspace` takes for one.
fn is_blank(letter: char) -> bool {
    matches!(letter, ' ' | '\t' | '\n' | '\r' | '\x0b' | '\x0c')
}

fn wide(bytes: &[u8]) -> Option<char> {
    char::from_u32(bytes.iter().fold(0, |value, byte| value << 8 | u32::from(*byte)))
}

/// The content of the element at the start, when it has this tag, and what comes after it.
pub(super) fn element(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (found, content, rest) = any(bytes)?;
    (found == tag).then_some((content, rest))
}

/// Tag, content and rest of the DER element at the start.
pub(super) fn any(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (tag, rest) = bytes.split_first()?;
    let (first, rest) = rest.split_first()?;
    let (len, rest) = if *first < 0x80 {
        (usize::from(*first), rest)
    } else {
        let count = usize::from(*first & 0x7f);
        if count == 0 || count > 4 {
            return None;
        }
        let (digits, rest) = rest.split_at_checked(count)?;
        (digits.iter().fold(0, |len, digit| len << 8 | usize::from(*digit)), rest)
    };
    let (content, rest) = rest.split_at_checked(len)?;
    Some((*tag, content, rest))
}

fn encode(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut encoded = vec![tag];
    match u8::try_from(content.len()) {
        Ok(len) if len < 0x80 => encoded.push(len),
        _ => {
            let digits: Vec<u8> = content.len().to_be_bytes().into_iter().skip_while(|digit| *digit == 0).collect();
            encoded.push(0x80 | u8::try_from(digits.len()).unwrap_or(0x7f));
            encoded.extend(digits);
        }
    }
    encoded.extend_from_slice(content);
    encoded
}

#[cfg(test)]
mod tests;
