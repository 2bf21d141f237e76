//! Certificates as clients want them: an authority's own, and the leaves that it signs (RFC 5280).
//!
//! Never keeps a file, and never decides what a leaf says.

use std::sync::Arc;

use crewtap_core::wire::certificate::{self, SubjectName};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PublicKeyData as _, SanType, SerialNumber,
};
use rustls::crypto::aws_lc_rs::sign::any_ecdsa_type;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::{CertifiedKey, SigningKey};
use time::OffsetDateTime;
use zeroize::Zeroizing;

use super::store::Kind;
use super::{AuthorityError, DAY, Dates, KeyPem, LeafError, LeafSpec};

/// How long an authority is valid, in seconds.
const AUTHORITY_VALID: i64 = 730 * DAY;
/// How long a leaf is valid that mirrors no dates, in seconds: it never leaves this host, and is minted again at half.
const LEAF_VALID: i64 = 30 * DAY;
/// Certificates begin so long before now, in seconds: a container's or a test's clock may be behind.
const BACKDATED: i64 = DAY;
/// Longest common name (RFC 5280 appendix A.1, ub-common-name), in characters.
const COMMON_NAME_MAX: usize = 64;
/// Dates that a certificate can say, in seconds since 1970: the years 1950 to 9999.
const DATES: std::ops::RangeInclusive<i64> = -631_152_000..=253_402_300_799;

/// One authority, ready to sign.
pub(super) struct Issuing {
    /// Which of its kind, from 1.
    pub(super) number: u32,
    /// Its certificate in PEM.
    pub(super) pem: String,
    /// When it is valid.
    pub(super) dates: Dates,
    issuer: Issuer<'static, KeyPair>,
}

impl Issuing {
    /// A new authority, as the text of its file: certificate, then key.
    pub(super) fn make(kind: Kind, number: u32, now: i64) -> Result<KeyPem, AuthorityError> {
        let make = |error: rcgen::Error| AuthorityError::Make(error.to_string());
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).map_err(make)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = distinguished_name(Some(&authority_name(kind, number)));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.not_before = date(now - BACKDATED);
        params.not_after = date(now + AUTHORITY_VALID);
        params.serial_number = Some(serial_number().map_err(AuthorityError::Make)?);
        let certificate = params.self_signed(&key).map_err(make)?;
        let key = Zeroizing::new(key.serialize_pem());
        Ok(Zeroizing::new(format!("{}{}", certificate.pem(), *key)))
    }

    /// The authority whose file says `text`.
    ///
    /// # Errors
    /// With what is wrong with it.
    pub(super) fn read(number: u32, text: &[u8]) -> Result<Self, String> {
        let der = CertificateDer::from_pem_slice(text).map_err(|error| format!("no certificate in it: {error}"))?;
        let key = PrivateKeyDer::from_pem_slice(text).map_err(|error| format!("no key in it: {error}"))?;
        let key = KeyPair::try_from(&key).map_err(|error| format!("its key cannot be read: {error}"))?;
        let facts = certificate::read(&der).ok_or("its certificate cannot be read")?;
        if certificate::public_key(&der) != Some(key.subject_public_key_info().as_slice()) {
            return Err("its key is not that of its certificate".into());
        }
        let issuer = Issuer::from_ca_cert_der(&der, key).map_err(|error| error.to_string())?;
        let pem = pem_of(text).ok_or("its certificate has no end")?;
        let dates = Dates { not_before: facts.not_before, not_after: facts.not_after };
        Ok(Self { number, pem, dates, issuer })
    }

    /// Signs the leaf that `spec` asks for; with the second from which on it should be minted again.
    pub(super) fn leaf(&self, spec: &LeafSpec, key: &LeafKey, now: i64) -> Result<(Arc<CertifiedKey>, i64), LeafError> {
        let dates = spec.dates.unwrap_or(Dates {
            not_before: self.dates.not_before.max(now - BACKDATED),
            not_after: self.dates.not_after.min(now + LEAF_VALID),
        });
        let mut params = CertificateParams::default();
        params.distinguished_name = distinguished_name(spec.common_name.as_deref());
        params.subject_alt_names = spec.names.iter().filter_map(alternative_name).collect();
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        params.not_before = date(dates.not_before);
        params.not_after = date(dates.not_after);
        // One key signs for all leaves, and a serial number derived from it would be that of them all.
        params.serial_number = Some(serial_number().map_err(LeafError::Sign)?);
        let certificate =
            params.signed_by(&key.pair, &self.issuer).map_err(|error| LeafError::Sign(error.to_string()))?;
        let chain = vec![CertificateDer::from(certificate)];
        let renew_at = if spec.dates.is_some() { i64::MAX } else { now + (dates.not_after - now) / 2 };
        Ok((Arc::new(CertifiedKey::new(chain, Arc::clone(&key.signing))), renew_at))
    }
}

/// The key of all leaves of this process; never written anywhere.
pub(super) struct LeafKey {
    pair: KeyPair,
    signing: Arc<dyn SigningKey>,
}

impl LeafKey {
    pub(super) fn new() -> Result<Self, AuthorityError> {
        let pair = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)
            .map_err(|error| AuthorityError::Make(error.to_string()))?;
        let der = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(pair.serialized_der()));
        let signing = any_ecdsa_type(&der).map_err(|error| AuthorityError::Make(error.to_string()))?;
        Ok(Self { pair, signing })
    }
}

/// The certificate of the file, without its key.
fn pem_of(text: &[u8]) -> Option<String> {
    const END: &str = "-----END CERTIFICATE-----\n";
    let text = std::str::from_utf8(text).ok()?;
    let end = text.find(END)? + END.len();
    text.get(..end).map(str::to_owned)
}

fn authority_name(kind: Kind, number: u32) -> String {
    let host = nix::unistd::gethostname().unwrap_or_default().to_string_lossy().into_owned();
    let start = match kind {
        Kind::Trusted => format!("crewtap authority {number} on "),
        Kind::Untrusted => format!("crewtap unverified targets {number} on "),
    };
    let letters = host.chars().filter(char::is_ascii_graphic);
    start.chars().chain(letters).take(COMMON_NAME_MAX).collect()
}

/// The organisation says in every tool whose certificate this is, also where there is no common name.
fn distinguished_name(common_name: Option<&str>) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::OrganizationName, "crewtap");
    if let Some(common_name) = common_name.filter(|name| name.chars().count() <= COMMON_NAME_MAX) {
        name.push(DnType::CommonName, common_name);
    }
    name
}

fn alternative_name(name: &SubjectName) -> Option<SanType> {
    match name {
        SubjectName::Dns(name) => name.as_str().try_into().ok().map(SanType::DnsName),
        SubjectName::Address(address) => Some(SanType::IpAddress(*address)),
    }
}

/// 126 random bits: positive, and of at most 20 octets (RFC 5280 section 4.1.2.2).
fn serial_number() -> Result<SerialNumber, String> {
    let mut bytes = [0_u8; 16];
    getrandom::fill(&mut bytes).map_err(|error| error.to_string())?;
    // Never negative, and never with an octet of zeros in front, which DER forbids.
    let [first, ..] = &mut bytes;
    *first = *first & 0x7f | 0x40;
    Ok(SerialNumber::from_slice(&bytes))
}

fn date(seconds: i64) -> OffsetDateTime {
    let seconds = seconds.clamp(*DATES.start(), *DATES.end());
    OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}
