//! Certificates that OpenSSL made; bent forms of them are in the corpus test.

use super::{SubjectName, public_key, read};

const SAN: &[u8] = include_bytes!("../../../../../tests/corpus/certificate/san.der");
const VERSION_1: &[u8] = include_bytes!("../../../../../tests/corpus/certificate/version-1.der");
const LONG: &[u8] = include_bytes!("../../../../../tests/corpus/certificate/long.der");

#[test]
fn names_and_dates_are_read_as_they_stand() {
    let certificate = read(SAN).unwrap();
    let expected = [
        SubjectName::Dns("api.example.com".into()),
        SubjectName::Dns("*.Example.com".into()),
        SubjectName::Address([10, 0, 0, 1].into()),
        SubjectName::Address("2001:db8::1".parse().unwrap()),
    ];
    assert_eq!(certificate.names, expected);
    assert_eq!(certificate.common_name.as_deref(), Some("api.example.com"), "the last one counts");
    assert_eq!(certificate.subject, "O=Corp, CN=first, CN=api.example.com");
    assert_eq!(certificate.issuer, certificate.subject);
    assert_eq!((certificate.not_before, certificate.not_after), (1_795_412_659, 1_795_412_659 + 3 * 86_400));
}

#[test]
fn old_versions_and_odd_dates_are_read_too() {
    let certificate = read(VERSION_1).unwrap();
    assert!(certificate.names.is_empty());
    assert_eq!(certificate.common_name.as_deref(), Some("v1.example.com"));
    let certificate = read(LONG).unwrap();
    assert_eq!((certificate.not_before, certificate.not_after), (-662_688_000, 253_402_300_799));
}

#[test]
fn the_key_is_the_same_in_all_of_them_and_in_none_that_is_cut() {
    let key = public_key(SAN).unwrap();
    assert_eq!(key.len(), 91, "a P-256 key");
    assert!(public_key(VERSION_1) == Some(key) && public_key(LONG) == Some(key));
    for cut in 0..SAN.len() {
        assert_eq!((read(&SAN[..cut]), public_key(&SAN[..cut])), (None, None), "cut at {cut}");
    }
}
