//! What a certificate binds a log-in to: `tls-server-end-point` of RFC 5929 section 4. Never judges the certificate.

use sha2::{Digest, Sha224, Sha256, Sha384, Sha512};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer as _;

/// The digest of a certificate (DER) by the hash of its own signature, and by SHA-256 where that is MD5 or SHA-1; none where
/// the signature has no single hash that the name of its algorithm tells (Ed25519, RSA-PSS), so that nothing can be bound.
#[must_use]
pub fn end_point(der: &[u8]) -> Option<Vec<u8>> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let algorithm = certificate.signature_algorithm.algorithm.to_id_string();
    Some(match algorithm.as_str() {
        // RSA with MD5, SHA-1, SHA-256; ECDSA with SHA-1, SHA-256; DSA with SHA-256.
        "1.2.840.113549.1.1.4"
        | "1.2.840.113549.1.1.5"
        | "1.2.840.113549.1.1.11"
        | "1.2.840.10045.4.1"
        | "1.2.840.10045.4.3.2"
        | "2.16.840.1.101.3.4.3.2" => Sha256::digest(der).to_vec(),
        "1.2.840.113549.1.1.14" | "1.2.840.10045.4.3.1" => Sha224::digest(der).to_vec(),
        "1.2.840.113549.1.1.12" | "1.2.840.10045.4.3.3" => Sha384::digest(der).to_vec(),
        "1.2.840.113549.1.1.13" | "1.2.840.10045.4.3.4" => Sha512::digest(der).to_vec(),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::end_point;

    #[test]
    fn what_is_no_certificate_binds_nothing() {
        assert_eq!(end_point(b""), None);
        assert_eq!(end_point(b"\x30\x03\x02\x01\x00"), None);
    }

    #[test]
    fn the_digest_is_over_the_whole_certificate() {
        let der = include_bytes!("../../../../tests/corpus/certificate/san.der");
        let digest = end_point(der).unwrap();
        assert_eq!(digest, <sha2::Sha256 as sha2::Digest>::digest(der).to_vec());
    }
}
