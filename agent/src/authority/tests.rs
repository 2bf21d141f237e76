//! The authority on disk, and its leaves as other people's verifiers see them.

use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;
use std::sync::Arc;

use crewtap_core::limits;
use crewtap_core::wire::certificate::{self, SubjectName};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use super::{Authority, AuthorityError, DAY, Dates, LeafError, LeafSpec, SignedBy, now_seconds};

fn dns(name: &str) -> LeafSpec {
    LeafSpec {
        names: vec![SubjectName::Dns(name.into())],
        common_name: Some(name.into()),
        dates: None,
        signed_by: SignedBy::Untrusted,
    }
}

fn trusted(name: &str, authority: &Authority) -> LeafSpec {
    let held = authority.trusted().unwrap().generation;
    LeafSpec { signed_by: SignedBy::Trusted { held }, ..dns(name) }
}

fn leaf_pem(authority: &Authority, spec: &LeafSpec) -> String {
    let leaf = authority.leaf(spec).unwrap();
    let body = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, &leaf.cert[0]);
    format!("-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n")
}

/// `openssl verify` in its strictest form: exit status, and what it printed.
fn openssl_verify(directory: &std::path::Path, roots: &str, leaf: &str, more: &[&str]) -> (bool, String) {
    let (roots_file, leaf_file) = (directory.join("roots.pem"), directory.join("leaf.pem"));
    std::fs::write(&roots_file, roots).unwrap();
    std::fs::write(&leaf_file, leaf).unwrap();
    let output = Command::new("openssl")
        .args(["verify", "-x509_strict", "-check_ss_sig", "-purpose", "sslserver", "-no-CApath", "-no-CAstore"])
        .args(more)
        .arg("-CAfile")
        .args([&roots_file, &leaf_file])
        .output()
        .unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}

#[test]
fn it_is_made_once_and_kept_closed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("authority");
    let first = Authority::open(&path).unwrap().trusted().unwrap();
    assert_eq!(Authority::open(&path).unwrap().trusted().unwrap(), first);
    assert_eq!(first.pem.matches("BEGIN CERTIFICATE").count(), 1);
    assert!(!first.pem.contains("PRIVATE"), "the key must not leave with the certificate");
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o700);
    let files: Vec<_> = std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap()).collect();
    assert_eq!(files.len(), 2, "{files:?}");
    for file in files {
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o7777, 0o600, "{file:?}");
    }
    let der = CertificateDer::from_pem_slice(first.pem.as_bytes()).unwrap();
    let facts = certificate::read(&der).unwrap();
    let host = nix::unistd::gethostname().unwrap().into_string().unwrap();
    let name = facts.common_name.unwrap();
    assert!(name.starts_with("crewtap authority 1 on "), "{name}");
    assert!(format!("crewtap authority 1 on {host}").starts_with(&name), "{name}");
}

#[test]
fn two_that_race_get_one() {
    let directory = tempfile::tempdir().unwrap();
    for round in 0..10 {
        let path = directory.path().join(round.to_string());
        let barrier = std::sync::Barrier::new(8);
        let found: Vec<_> = std::thread::scope(|scope| {
            let open = || {
                barrier.wait();
                let authority = Authority::open(&path).unwrap();
                let untrusted = authority.issuers.read().unwrap().untrusted.pem.clone();
                (authority.trusted().unwrap(), untrusted)
            };
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(open)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(found.iter().all(|one| *one == found[0]), "round {round}: {found:?}");
        assert_eq!(std::fs::read_dir(&path).unwrap().count(), 2, "round {round}: nothing stays behind");
    }
}

#[test]
fn damage_is_told_with_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("authority");
    Authority::open(&path).unwrap();
    let (file, other) = (path.join("trusted-1.pem"), path.join("untrusted-1.pem"));
    let (text, other) = (std::fs::read(&file).unwrap(), std::fs::read_to_string(&other).unwrap());
    let foreign_key = other.split_once("-----END CERTIFICATE-----\n").unwrap().1;
    let own_certificate = String::from_utf8(text.clone()).unwrap();
    let own_certificate = own_certificate.split_inclusive("-----END CERTIFICATE-----\n").next().unwrap();
    let swapped = format!("{own_certificate}{foreign_key}");
    for (damaged, why) in
        [(&text[..0], "no certificate"), (&text[..700], "no key"), (swapped.as_bytes(), "not that of its certificate")]
    {
        std::fs::write(&file, damaged).unwrap();
        let error = Authority::open(&path).unwrap_err().to_string();
        assert!(error.contains(why) && error.contains("trusted-1.pem") && error.contains("restore it"), "{error}");
    }
    std::fs::write(&file, &text).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o640)).unwrap();
    let error = Authority::open(&path).unwrap_err();
    assert!(matches!(error, AuthorityError::Open { mode: 0o640, .. }), "{error}");
}

#[test]
fn leaves_pass_the_strictest_of_openssl_and_only_under_their_own_authority() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::open(&directory.path().join("authority")).unwrap();
    let roots = authority.trusted().unwrap().pem;
    let mut spec = trusted("api.example.test", &authority);
    spec.names.push(SubjectName::Dns("*.wild.test".into()));
    spec.names.push(SubjectName::Address(IpAddr::V4(Ipv4Addr::new(10, 1, 2, 3))));
    let leaf = leaf_pem(&authority, &spec);
    for check in
        [["-verify_hostname", "api.example.test"], ["-verify_hostname", "a.wild.test"], ["-verify_ip", "10.1.2.3"]]
    {
        let (valid, said) = openssl_verify(directory.path(), &roots, &leaf, &check);
        assert!(valid, "{check:?}: {said}");
    }
    let (valid, said) = openssl_verify(directory.path(), &roots, &leaf, &["-verify_hostname", "b.example.test"]);
    assert!(!valid && said.contains("hostname mismatch"), "{said}");
    let (valid, said) = openssl_verify(directory.path(), &roots, &leaf_pem(&authority, &dns("x.test")), &[]);
    assert!(!valid && said.contains("unable to get local issuer"), "{said}");
    let long = "a.".repeat(100) + "test";
    let (valid, said) = openssl_verify(
        directory.path(),
        &roots,
        &leaf_pem(&authority, &trusted(&long, &authority)),
        &["-verify_hostname", &long],
    );
    assert!(valid, "a name longer than a common name may be: {said}");
}

#[test]
fn dates_are_mirrored_and_serial_numbers_never_repeat() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::open(&directory.path().join("authority")).unwrap();
    let roots = authority.trusted().unwrap().pem;
    let now = now_seconds();
    for (dates, says) in [
        (Dates { not_before: now - 20 * DAY, not_after: now - DAY }, "expired"),
        (Dates { not_before: now + DAY, not_after: now + 20 * DAY }, "not yet valid"),
        (Dates { not_before: i64::MIN, not_after: 0 }, "expired"),
    ] {
        let spec = LeafSpec { dates: Some(dates), ..trusted("old.test", &authority) };
        let facts = certificate::read(&authority.leaf(&spec).unwrap().cert[0]).unwrap();
        assert_eq!(facts.not_after, dates.not_after);
        let (valid, said) = openssl_verify(directory.path(), &roots, &leaf_pem(&authority, &spec), &[]);
        assert!(!valid && said.contains(says), "{said}");
    }
    let forever = LeafSpec { dates: Some(Dates { not_before: 0, not_after: i64::MAX }), ..dns("forever.test") };
    let facts = certificate::read(&authority.leaf(&forever).unwrap().cert[0]).unwrap();
    assert_eq!((facts.not_before, facts.not_after), (0, 253_402_300_799));
    let serials: std::collections::HashSet<_> = (0..100)
        .map(|number| {
            let leaf = authority.leaf(&dns(&format!("{number}.test"))).unwrap();
            leaf.cert[0][..60].to_vec()
        })
        .collect();
    assert_eq!(serials.len(), 100);
}

#[test]
fn a_rotation_leaves_running_runs_with_what_they_hold() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("authority");
    let authority = Authority::open(&path).unwrap();
    let before = authority.trusted().unwrap();
    let old_run = LeafSpec { signed_by: SignedBy::Trusted { held: before.generation }, ..dns("a.test") };
    // Another process rotates, as the command line does.
    Authority::open(&path).unwrap().rotate().unwrap();
    let after = authority.trusted().unwrap();
    assert!(after.generation > before.generation);
    assert!(after.pem.starts_with(&before.pem) && after.pem.len() > before.pem.len(), "overlays hold both");
    let new_run = LeafSpec { signed_by: SignedBy::Trusted { held: after.generation }, ..dns("a.test") };
    let only_new = after.pem.strip_prefix(&before.pem).unwrap();
    for (spec, roots, expected) in [
        (&old_run, before.pem.as_str(), true),
        (&old_run, only_new, false),
        (&new_run, only_new, true),
        (&new_run, before.pem.as_str(), false),
        (&new_run, after.pem.as_str(), true),
    ] {
        let (valid, said) = openssl_verify(directory.path(), roots, &leaf_pem(&authority, spec), &[]);
        assert_eq!(valid, expected, "{said}");
    }
}

#[test]
fn the_next_one_is_made_in_time_and_an_expired_one_goes() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("authority");
    drop(Authority::open(&path).unwrap());
    // Times at which the existing one would have been made.
    let (nearly_over, over) = (now_seconds() - 701 * DAY, now_seconds() - 731 * DAY);
    let rewrite = |number: u32, made_at: i64| {
        let text = super::issuer::Issuing::make(super::store::Kind::Trusted, number, made_at).unwrap();
        std::fs::write(path.join(format!("trusted-{number}.pem")), text.as_bytes()).unwrap();
    };
    rewrite(1, nearly_over);
    let authority = Authority::open(&path).unwrap();
    let both = authority.trusted().unwrap();
    assert_eq!(both.pem.matches("BEGIN CERTIFICATE").count(), 2, "the old and the new one");
    let held = super::Generation(1);
    let spec = LeafSpec { signed_by: SignedBy::Trusted { held }, ..dns("a.test") };
    let facts = certificate::read(&authority.leaf(&spec).unwrap().cert[0]).unwrap();
    assert!(facts.not_after <= now_seconds() + 29 * DAY, "a leaf does not outlive its authority");
    rewrite(1, over);
    let one = authority.trusted().unwrap();
    assert_eq!(one.pem.matches("BEGIN CERTIFICATE").count(), 1);
    assert!(!path.join("trusted-1.pem").exists(), "an expired key is of no more use");
    assert!(matches!(authority.leaf(&spec), Err(LeafError::Expired)), "a run that holds only the expired one");
}

#[test]
fn ten_thousand_names_keep_the_cache_bounded() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::open(&directory.path().join("authority")).unwrap();
    let favourite = dns("favourite.test");
    let kept = authority.leaf(&favourite).unwrap();
    for number in 0..10_000 {
        authority.leaf(&dns(&format!("{number}.test"))).unwrap();
        assert!(authority.leaves_cached() <= limits::LEAVES_CACHED_MAX);
        if number % 1000 == 0 {
            assert!(Arc::ptr_eq(&authority.leaf(&favourite).unwrap(), &kept), "what is asked for stays");
        }
    }
    assert!(authority.leaves_cached() > limits::LEAVES_CACHED_MAX / 2);
    let other = LeafSpec { dates: Some(Dates { not_before: 0, not_after: 1 }), ..favourite.clone() };
    assert!(!Arc::ptr_eq(&authority.leaf(&other).unwrap(), &kept), "other dates are another leaf");
}
