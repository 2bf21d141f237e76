//! Java's trust stores with one more certificate: JKS as Debian writes it, PKCS #12 as the JDK ships it.
//!
//! Pure: bytes in, bytes out. The result is always JKS, which every JDK reads whatever its default format is
//! (`keystore.type.compat`). Never deals with private keys: a store that holds one is refused.

use sha1::{Digest as _, Sha1};

use super::certificate::{any, element};

/// What a JKS file begins with.
const MAGIC: u32 = 0xfeed_feed;
/// The version of today; version 1 spells entries in another way.
const VERSION: u32 = 2;
/// Tag of a trusted certificate; 1 is a private key.
const TRUSTED: u32 = 2;
/// Bytes of the digest at the end.
const DIGEST_LEN: usize = 20;
/// Certificates that are taken; the JDK ships 150.
const ENTRIES_MAX: u32 = 4096;
/// The password that every trust store is made with: it protects nothing, and is checked by nobody but `keytool`.
const PASSWORD: &str = "changeit";
/// What the format's digest begins with, after the password.
const SALT: &[u8] = b"Mighty Aphrodite";

const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const OCTET_STRING: u8 = 0x04;
const OBJECT: u8 = 0x06;
const EXPLICIT_0: u8 = 0xa0;
/// 1.2.840.113549.1.7.1, data in clear.
const OID_DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x01];
/// 1.2.840.113549.1.12.10.1.3, a bag with a certificate.
const OID_CERTIFICATE_BAG: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x0c, 0x0a, 0x01, 0x03];

/// A store that cannot be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum KeystoreError {
    /// Neither of the formats.
    #[error("it is neither a JKS nor a PKCS #12 store")]
    Foreign,
    /// The format is known, the content is not.
    #[error("the keystore is damaged, or holds more than trusted certificates")]
    Damaged,
    /// PKCS #12 that needs a password to be read.
    #[error("the keystore is encrypted: convert it with `keytool -importkeystore -deststoretype JKS`")]
    Encrypted,
}

/// The store `bytes` with `der` as one more trusted certificate, as JKS.
///
/// # Errors
/// See [`KeystoreError`].
pub fn with(bytes: &[u8], der: &[u8]) -> Result<Vec<u8>, KeystoreError> {
    let mut store = if bytes.starts_with(&MAGIC.to_be_bytes()) {
        checked_jks(bytes)?
    } else if bytes.first() == Some(&SEQUENCE) {
        let certificates = pkcs12_certificates(bytes)?;
        let mut store = header(certificates.len());
        for (number, certificate) in certificates.iter().enumerate() {
            push_entry(&mut store, &format!("root-{number}"), certificate);
        }
        store
    } else {
        return Err(KeystoreError::Foreign);
    };
    push_entry(&mut store, "crewtap", der);
    let count = store.get(8..12).and_then(word).ok_or(KeystoreError::Damaged)? + 1;
    let place = store.get_mut(8..12).ok_or(KeystoreError::Damaged)?;
    place.copy_from_slice(&count.to_be_bytes());
    let digest = digest(&store);
    store.extend(digest);
    Ok(store)
}

fn header(entries: usize) -> Vec<u8> {
    let entries = u32::try_from(entries).unwrap_or(u32::MAX);
    [MAGIC, VERSION, entries].iter().flat_map(|number| number.to_be_bytes()).collect()
}

fn word(bytes: &[u8]) -> Option<u32> {
    bytes.first_chunk().map(|bytes| u32::from_be_bytes(*bytes))
}

/// The store without its digest, when it holds trusted certificates only.
fn checked_jks(bytes: &[u8]) -> Result<Vec<u8>, KeystoreError> {
    let end = bytes.len().checked_sub(DIGEST_LEN).ok_or(KeystoreError::Damaged)?;
    let content = bytes.get(..end).ok_or(KeystoreError::Damaged)?;
    walk_jks(content).ok_or(KeystoreError::Damaged)?;
    Ok(content.to_vec())
}

fn walk_jks(content: &[u8]) -> Option<()> {
    let mut rest = content.get(4..)?;
    let mut take = |len: usize| {
        let (taken, behind) = rest.split_at_checked(len)?;
        rest = behind;
        Some(taken)
    };
    let version = word(take(4)?)?;
    let count = word(take(4)?)?;
    if version != VERSION || count > ENTRIES_MAX {
        return None;
    }
    for _ in 0..count {
        if word(take(4)?)? != TRUSTED {
            return None;
        }
        let alias = short(take(2)?)?;
        take(alias)?;
        take(8)?;
        let kind = short(take(2)?)?;
        take(kind)?;
        let len = usize::try_from(word(take(4)?)?).ok()?;
        take(len)?;
    }
    rest.is_empty().then_some(())
}

fn short(bytes: &[u8]) -> Option<usize> {
    bytes.first_chunk().map(|bytes| usize::from(u16::from_be_bytes(*bytes)))
}

fn push_entry(store: &mut Vec<u8>, alias: &str, der: &[u8]) {
    let text = |store: &mut Vec<u8>, text: &str| {
        store.extend(u16::try_from(text.len()).unwrap_or(0).to_be_bytes());
        store.extend(text.as_bytes());
    };
    store.extend(TRUSTED.to_be_bytes());
    text(store, alias);
    // Milliseconds since 1970: when the entry was made, which nobody asks for.
    store.extend(0u64.to_be_bytes());
    text(store, "X.509");
    store.extend(u32::try_from(der.len()).unwrap_or(0).to_be_bytes());
    store.extend(der);
}

fn digest(content: &[u8]) -> [u8; DIGEST_LEN] {
    let mut hash = Sha1::new();
    for unit in PASSWORD.encode_utf16() {
        hash.update(unit.to_be_bytes());
    }
    hash.update(SALT);
    hash.update(content);
    hash.finalize().into()
}

/// The certificates of a PKCS #12 store that is in clear (RFC 7292), as the JDK ships its own since version 18.
fn pkcs12_certificates(bytes: &[u8]) -> Result<Vec<&[u8]>, KeystoreError> {
    let safes = authenticated_safe(bytes).ok_or(KeystoreError::Foreign)?;
    let mut found = Vec::new();
    let mut rest = safes;
    while !rest.is_empty() {
        let (safe, behind) = element(rest, SEQUENCE).ok_or(KeystoreError::Damaged)?;
        rest = behind;
        let content = data_of(safe).ok_or(KeystoreError::Encrypted)?;
        let (bags, _) = element(content, SEQUENCE).ok_or(KeystoreError::Damaged)?;
        collect(bags, &mut found).ok_or(KeystoreError::Damaged)?;
    }
    Ok(found)
}

/// `PFX.authSafe`'s sequence.
fn authenticated_safe(bytes: &[u8]) -> Option<&[u8]> {
    let (store, _) = element(bytes, SEQUENCE)?;
    let (_, _, behind_version) = any(store)?;
    let (info, _) = element(behind_version, SEQUENCE)?;
    Some(element(data_of(info)?, SEQUENCE)?.0)
}

/// The octets of a `ContentInfo` that is in clear.
fn data_of(info: &[u8]) -> Option<&[u8]> {
    let (kind, rest) = element(info, OBJECT)?;
    if kind != OID_DATA {
        return None;
    }
    let (explicit, _) = element(rest, EXPLICIT_0)?;
    Some(element(explicit, OCTET_STRING)?.0)
}

fn collect<'a>(mut bags: &'a [u8], found: &mut Vec<&'a [u8]>) -> Option<()> {
    while !bags.is_empty() {
        let (bag, behind) = element(bags, SEQUENCE)?;
        bags = behind;
        let (kind, rest) = element(bag, OBJECT)?;
        if kind != OID_CERTIFICATE_BAG || found.len() >= usize::try_from(ENTRIES_MAX).ok()? {
            return None;
        }
        let (value, attributes) = element(rest, EXPLICIT_0)?;
        if !attributes.is_empty() {
            element(attributes, SET)?;
        }
        let (certificate, _) = element(value, SEQUENCE)?;
        let (_, rest) = element(certificate, OBJECT)?;
        let (explicit, _) = element(rest, EXPLICIT_0)?;
        found.push(element(explicit, OCTET_STRING)?.0);
    }
    Some(())
}

#[cfg(test)]
mod tests;
