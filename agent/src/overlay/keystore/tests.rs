use std::path::Path;
use std::process::Command;

use super::super::certificate::first_der;
use super::*;

fn keytool(arguments: &[&str], store: &Path) -> String {
    let output =
        Command::new("keytool").args(arguments).args(["-storepass", PASSWORD, "-keystore"]).arg(store).output();
    let output = output.unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}");
    text
}

fn authority(directory: &Path) -> Vec<u8> {
    let (key, certificate) = (directory.join("k.pem"), directory.join("c.pem"));
    let mut command = Command::new("openssl");
    command.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]);
    command.args(["-subj", "/CN=keystore test", "-keyout"]).arg(key).arg("-out").arg(&certificate);
    assert!(command.output().unwrap().status.success());
    first_der(&std::fs::read(certificate).unwrap()).unwrap()
}

#[test]
fn keytool_reads_what_was_added_to_jks_and_to_pkcs12() {
    if Command::new("keytool").arg("-version").output().is_err() {
        println!("skip: there is no keytool");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let der = authority(directory.path());
    let pem = directory.path().join("c.pem");
    for kind in ["JKS", "PKCS12"] {
        let store = directory.path().join(kind);
        let import = ["-importcert", "-noprompt", "-alias", "first", "-storetype", kind];
        // The JDK's own store is neither encrypted nor sealed.
        let clear = ["-J-Dkeystore.pkcs12.certProtectionAlgorithm=NONE", "-J-Dkeystore.pkcs12.macAlgorithm=NONE"];
        let file = ["-file", pem.to_str().unwrap()];
        keytool(&[&import[..], &clear, &file].concat(), &store);
        let longer = with(&std::fs::read(&store).unwrap(), &der).unwrap();
        std::fs::write(&store, longer).unwrap();
        let listed = keytool(&["-list"], &store);
        assert!(listed.contains("contains 2 entries") && listed.contains("crewtap, "), "{listed}");
    }
    let encrypted = directory.path().join("encrypted");
    keytool(
        &["-importcert", "-noprompt", "-alias", "first", "-storetype", "PKCS12", "-file", pem.to_str().unwrap()],
        &encrypted,
    );
    assert_eq!(with(&std::fs::read(encrypted).unwrap(), &der), Err(KeystoreError::Encrypted));
}

#[test]
fn a_store_that_is_none_is_refused() {
    let mut keys = header(1);
    keys.extend(1u32.to_be_bytes());
    keys.extend([0; 64]);
    assert_eq!(with(&keys, b"x"), Err(KeystoreError::Damaged));
    assert_eq!(with(&header(0), b"x"), Err(KeystoreError::Damaged));
    assert_eq!(with(b"", b"x"), Err(KeystoreError::Foreign));
    assert_eq!(with(b"\x30\x00", b"x"), Err(KeystoreError::Foreign));
    let empty = [header(0), vec![0; DIGEST_LEN]].concat();
    assert_eq!(with(&empty, b"xy").unwrap().len(), empty.len() + 4 + 9 + 8 + 7 + 4 + 2);
}
