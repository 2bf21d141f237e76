//! Roots that change, and rejections that are remembered.

use std::io::Write as _;

use crewtap_core::limits;
use rcgen::{CertificateParams, IsCa, KeyPair};
use time::{Duration, OffsetDateTime};

use crate::tls::learned::Learned;
use crate::tls::roots::Roots;
use crate::tls::server::Rejection;

fn root(days_left: i64) -> String {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.not_after = OffsetDateTime::now_utc() + Duration::days(days_left);
    params.self_signed(&KeyPair::generate().unwrap()).unwrap().pem()
}

#[test]
fn the_first_bundle_that_is_there_is_read_and_what_is_unusable_is_counted() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let damaged = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    std::fs::write(path("bundle.pem"), format!("# a comment\n{}{damaged}{}", root(10), root(-10))).unwrap();
    std::fs::write(path("second.pem"), root(10)).unwrap();
    let roots = Roots::system(vec![path("missing.pem"), path("bundle.pem"), path("second.pem")]);
    let anchors = roots.with(&[]);
    assert_eq!((anchors.len(), anchors.skipped()), (1, 2));
    assert_eq!(roots.with(&[path("second.pem"), path("missing.pem")]).len(), 2);
    assert_eq!(roots.only(&[path("second.pem")]).len(), 1);
    assert!(roots.only(&[path("missing.pem"), directory.path().into()]).is_empty());
}

#[test]
fn a_changed_file_is_read_again_and_an_unchanged_one_is_not() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("bundle.pem");
    std::fs::write(&path, root(10)).unwrap();
    let roots = Roots::system(vec![path.clone()]);
    let first = roots.with(&[]);
    assert!(std::sync::Arc::ptr_eq(&first, &roots.with(&[])));
    std::fs::OpenOptions::new().append(true).open(&path).unwrap().write_all(root(10).as_bytes()).unwrap();
    assert_eq!(roots.with(&[]).len(), 2);
    let other = directory.path().join("other.pem");
    std::fs::write(&other, root(10)).unwrap();
    std::fs::rename(&other, &path).unwrap();
    assert_eq!(roots.with(&[]).len(), 1);
    std::fs::remove_file(&path).unwrap();
    assert!(roots.with(&[]).is_empty());
}

#[test]
fn a_pipe_that_a_process_names_blocks_nobody() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("pipe.pem");
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert!(Roots::system(Vec::new()).with(&[path]).is_empty());
}

#[test]
fn the_hosts_own_bundle_can_be_read() {
    let anchors = Roots::default().with(&[]);
    assert!(anchors.len() > 20, "{} roots, {} skipped", anchors.len(), anchors.skipped());
}

#[test]
fn a_rejection_is_learned_for_its_program_and_name() {
    let learned = Learned::default();
    let alert = Rejection::Alert("UnknownCA".into());
    assert!(!learned.is_learned("/bin/a", "x.test"));
    assert!(learned.record("/bin/a", "x.test", &alert));
    assert!(learned.is_learned("/bin/a", "x.test"));
    assert!(!learned.is_learned("/bin/a", "y.test") && !learned.is_learned("/bin/b", "x.test"));
    assert!(!learned.record("/bin/a", "y.test", &Rejection::ClosedInHandshake), "it may have been impatient");
    assert!(learned.record("/bin/a", "y.test", &Rejection::ClosedInHandshake));
    assert!(learned.is_learned("/bin/a", "y.test"));
}

#[test]
fn a_close_after_the_handshake_counts_only_twice_in_a_row() {
    let learned = Learned::default();
    let close = Rejection::ClosedAfterHandshake;
    assert!(!learned.record("a", "x", &close));
    learned.accepted("a", "x");
    assert!(!learned.record("a", "x", &close));
    assert!(!learned.is_learned("a", "x"));
    assert!(learned.record("a", "x", &close));
    assert!(learned.is_learned("a", "x"));
}

#[test]
fn the_oldest_rejection_is_forgotten_first() {
    let learned = Learned::default();
    let alert = Rejection::Alert("UnknownCA".into());
    for number in 0..limits::REJECTIONS_MAX {
        learned.record("a", &number.to_string(), &alert);
    }
    learned.record("a", "0", &alert);
    learned.record("a", "new", &alert);
    let known = |name: &str| learned.is_learned("a", name);
    assert!(known("0") && known("new") && known("2") && !known("1"));
}
