//! What an X.509 certificate says of itself (RFC 5280): names, dates, issuer.
//!
//! Owns the reading of one certificate, tolerantly: what a strict verifier would refuse is still shown. Never judges
//! whether any of it is true.

use std::net::IpAddr;

use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer as _;

use crate::limits;

/// A name that a certificate claims for its holder.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum SubjectName {
    /// A host name, possibly with a wildcard; as it stands in the certificate.
    Dns(String),
    /// An address.
    Address(IpAddr),
}

/// The claims of one certificate.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Certificate {
    /// Host names and addresses of the subject's alternative names, at most [`limits::CERTIFICATE_NAMES_MAX`].
    pub names: Vec<SubjectName>,
    /// Last common name of the subject.
    pub common_name: Option<String>,
    /// The subject in one line.
    pub subject: String,
    /// The issuer in one line.
    pub issuer: String,
    /// Valid from: seconds since 1970.
    pub not_before: i64,
    /// Valid until and including: seconds since 1970.
    pub not_after: i64,
}

/// Reads a certificate in DER; none where it is none.
#[must_use]
pub fn read(der: &[u8]) -> Option<Certificate> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let alternative = certificate.subject_alternative_name().ok().flatten();
    let names = alternative.map(|extension| extension.value.general_names.iter()).into_iter().flatten();
    let validity = certificate.validity();
    Some(Certificate {
        names: names.filter_map(subject_name).take(limits::CERTIFICATE_NAMES_MAX).collect(),
        common_name: certificate
            .subject()
            .iter_common_name()
            .filter_map(|name| name.as_str().ok())
            .last()
            .map(str::to_owned),
        subject: certificate.subject().to_string(),
        issuer: certificate.issuer().to_string(),
        not_before: validity.not_before.timestamp(),
        not_after: validity.not_after.timestamp(),
    })
}

/// The public key of a certificate (`SubjectPublicKeyInfo`, DER); none where it is no certificate.
#[must_use]
pub fn public_key(der: &[u8]) -> Option<&[u8]> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    Some(certificate.tbs_certificate.subject_pki.raw)
}

fn subject_name(name: &GeneralName<'_>) -> Option<SubjectName> {
    match name {
        GeneralName::DNSName(name) => Some(SubjectName::Dns((*name).to_owned())),
        GeneralName::IPAddress(bytes) => address(bytes).map(SubjectName::Address),
        _ => None,
    }
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    <[u8; 4]>::try_from(bytes).map(IpAddr::from).or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok()
}

/// Fuzz entry: any bytes are read or refused, and never more names than the limit.
///
/// # Panics
/// Where that does not hold; the fuzzer and the tests look for it.
pub fn fuzz_certificate(data: &[u8]) {
    let names = read(data).map_or(0, |certificate| certificate.names.len());
    assert!(names <= limits::CERTIFICATE_NAMES_MAX, "{names} names");
    let key = public_key(data).unwrap_or_default();
    assert!(key.len() <= data.len(), "a key of {} bytes in {} bytes", key.len(), data.len());
}

#[cfg(test)]
mod tests;
