use std::process::Command;

use super::*;

/// A certificate that OpenSSL makes, and the hash that it gives it.
fn made(subject: &str, more: &[&str]) -> (Vec<u8>, String) {
    let directory = tempfile::tempdir().unwrap();
    let (key, certificate) = (directory.path().join("k.pem"), directory.path().join("c.pem"));
    let mut command = Command::new("openssl");
    command.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]);
    command.args(["-utf8", "-multivalue-rdn", "-subj", subject, "-keyout"]).arg(&key).arg("-out").arg(&certificate);
    let output = command.args(more).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let hash = Command::new("openssl").args(["x509", "-noout", "-subject_hash", "-in"]).arg(&certificate).output();
    let hash = String::from_utf8(hash.unwrap().stdout).unwrap().trim().to_owned();
    (std::fs::read(certificate).unwrap(), hash)
}

#[test]
fn subjects_hash_as_openssl_hashes_them() {
    let subjects = [
        "/CN=crewtap",
        "/C=DE/O=Example  GmbH \t of  Things/CN= Crewtap CA ",
        "/O=Ünïcode Straße/OU=ÄÖÜ/CN=名前",
        "/O=x+OU=a+CN=b/emailAddress=Root@Example.COM",
        "/DC=org/DC=Example/CN=Mixed Case",
    ];
    for subject in subjects {
        let (pem, hash) = made(subject, &[]);
        assert_eq!(subject_hash(&first_der(&pem).unwrap()).unwrap(), hash, "{subject}");
    }
    let (pem, hash) = made("/C=DE/CN=latin text", &["-config", "/dev/null"]);
    assert_eq!(subject_hash(&first_der(&pem).unwrap()).unwrap(), hash);
}

#[test]
fn every_root_of_the_system_hashes_to_its_link() {
    let mut seen = 0;
    for entry in std::fs::read_dir("/etc/ssl/certs").unwrap().map_while(Result::ok) {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some((hash, _)) = name.rsplit_once('.').filter(|(hash, number)| hash.len() == 8 && number.len() == 1)
        else {
            continue;
        };
        let Ok(pem) = std::fs::read(entry.path()) else { continue };
        assert_eq!(subject_hash(&first_der(&pem).unwrap()).unwrap(), hash, "{name}");
        seen += 1;
    }
    assert!(seen > 20, "only {seen} links in /etc/ssl/certs");
}

#[test]
fn nonsense_is_refused() {
    assert_eq!(first_der(b"no certificate"), Err(CertificateError::NoPem));
    assert_eq!(first_der(b"-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----"), Err(CertificateError::NotX509));
    for der in [&b""[..], b"\x30", b"\x30\x84\xff\xff\xff\xff", b"\x30\x80\x00\x00", b"\x30\x03\x30\x01\x02"] {
        assert_eq!(subject_hash(der), Err(CertificateError::NotX509));
    }
}

#[test]
fn what_was_there_stays_as_it_was() {
    assert_eq!(with(b"a".to_vec(), b"b"), b"a\nb\n");
    assert_eq!(with(b"a\n".to_vec(), b"b\n"), b"a\nb\n");
    assert_eq!(with(Vec::new(), b"b\n"), b"b\n");
    assert!(has_pem(b"# x\n-----BEGIN CERTIFICATE-----\n") && !has_pem(b"-----BEGIN PRIVATE KEY-----"));
}
