//! The SSH side as OpenSSH's own tools see it.

use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use russh::keys::PublicKey;

use super::*;

const TARGET: &[u8] = b"the key of a target";

fn fingerprints(face: &Face) -> Vec<String> {
    face.keys.iter().map(|key| key.fingerprint(ssh_key::HashAlg::Sha256).to_string()).collect()
}

fn ssh_keygen(arguments: &[&str]) -> String {
    let output = Command::new("ssh-keygen").args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn it_is_made_at_its_first_use_kept_closed_and_kept() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("authority");
    let authority = Authority::open(&path).unwrap();
    assert!(!path.join("ssh-trusted-1").exists());
    let generation = authority.trusted().unwrap().generation;
    let trusted = authority.ssh_trusted(generation).unwrap();
    let algorithms: Vec<&str> = trusted.keys.iter().map(|key| key.split(' ').next().unwrap()).collect();
    assert_eq!(algorithms, ["ssh-ed25519", "ecdsa-sha2-nistp256", "ssh-rsa"]);
    let mode = std::fs::metadata(path.join("ssh-trusted-1")).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o600);
    assert_eq!(Authority::open(&path).unwrap().ssh_trusted(generation).unwrap(), trusted, "the same after a start");
    let signed_by = SignedBy::Trusted { held: generation };
    let face = authority.ssh_face(signed_by, &["a.test".into()], TARGET).unwrap();
    let shown: Vec<String> = face.keys.iter().map(|key| told(key.public_key()).unwrap()).collect();
    assert_eq!(shown, trusted.keys);
    let rsa = &face.keys[2];
    let bits = ssh_keygen(&["-l", "-f", path.join("ssh-trusted-1").to_str().unwrap()]);
    assert!(bits.contains("ED25519"), "{bits}");
    assert!(
        matches!(rsa.public_key().key_data().rsa(), Some(key) if key.n().as_positive_bytes().unwrap().len() == 384)
    );
}

#[test]
fn certificates_are_for_the_names_and_openssh_reads_them() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::open(&directory.path().join("authority")).unwrap();
    let generation = authority.trusted().unwrap().generation;
    let trusted = authority.ssh_trusted(generation).unwrap();
    let names = ["ssh.example.test".to_owned(), "192.0.2.7".into()];
    let face = authority.ssh_face(SignedBy::Trusted { held: generation }, &names, TARGET).unwrap();
    assert_eq!(face.certificates.len(), 3);
    let signer = PublicKey::from_openssh(&trusted.authority).unwrap().fingerprint(ssh_key::HashAlg::Sha256);
    let file = directory.path().join("cert.pub");
    for certificate in &face.certificates {
        certificate.validate_at(u64::try_from(now_seconds()).unwrap(), [&signer]).unwrap();
        std::fs::write(&file, certificate.to_openssh().unwrap()).unwrap();
        let said = ssh_keygen(&["-L", "-f", file.to_str().unwrap()]);
        for wanted in ["host certificate", "ssh.example.test", "192.0.2.7", &signer.to_string()] {
            assert!(said.contains(wanted), "{wanted} is missing in {said}");
        }
    }
    let again = authority.ssh_face(SignedBy::Trusted { held: generation }, &names, b"another target").unwrap();
    assert!(Arc::ptr_eq(&face, &again), "the same names are the same face, whatever the target");
}

#[test]
fn an_untrusted_face_changes_with_the_targets_key_and_has_no_certificate() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("authority");
    let authority = Authority::open(&path).unwrap();
    let of = |authority: &Authority, key: &[u8]| {
        let face = authority.ssh_face(SignedBy::Untrusted, &["a.test".into()], key).unwrap();
        assert!(face.certificates.is_empty());
        fingerprints(&face)
    };
    let (one, other) = (of(&authority, TARGET), of(&authority, b"another key"));
    assert!(one[0] != other[0] && one[1] != other[1]);
    assert_eq!(of(&Authority::open(&path).unwrap(), TARGET), one, "the same after a start");
    let held = authority.trusted().unwrap().generation;
    let nameless = authority.ssh_face(SignedBy::Trusted { held }, &[], TARGET).unwrap();
    assert!(nameless.certificates.is_empty(), "one without names is valid for all hosts");
    let trusted = fingerprints(&nameless);
    assert!(one.iter().all(|key| !trusted.contains(key)), "no overlay lists one of them");
}

#[test]
fn a_rotation_leaves_running_runs_with_the_keys_that_they_hold() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("authority");
    let authority = Authority::open(&path).unwrap();
    let before = authority.trusted().unwrap().generation;
    let old = authority.ssh_face(SignedBy::Trusted { held: before }, &["a.test".into()], TARGET).unwrap();
    Authority::open(&path).unwrap().rotate().unwrap();
    let after = authority.trusted().unwrap().generation;
    let of = |held| fingerprints(&authority.ssh_face(SignedBy::Trusted { held }, &["a.test".into()], TARGET).unwrap());
    assert_eq!(of(before), fingerprints(&old));
    assert_ne!(of(after)[0], of(before)[0]);
}

#[test]
fn damage_is_told_and_two_that_race_get_one() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("authority");
    let generation = Authority::open(&path).unwrap().trusted().unwrap().generation;
    let barrier = std::sync::Barrier::new(4);
    let found: Vec<SshTrusted> = std::thread::scope(|scope| {
        let open = || {
            let authority = Authority::open(&path).unwrap();
            barrier.wait();
            authority.ssh_trusted(generation).unwrap()
        };
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(open)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(found.iter().all(|one| *one == found[0]));
    let file = path.join("ssh-trusted-1");
    let text = std::fs::read_to_string(&file).unwrap();
    let cut = text.len() - 200;
    for (damaged, why) in
        [(&text[..cut], "cannot be read"), ("", "no key"), (&text[..text.find(END).unwrap() + END.len()], "missing")]
    {
        std::fs::write(&file, damaged).unwrap();
        let error = Authority::open(&path).unwrap().ssh_trusted(generation).unwrap_err().to_string();
        assert!(error.contains("ssh-trusted-1") && error.contains(why), "{error}");
    }
}

/// Lets nobody in: whoever comes as far has taken the host key.
struct Closed;

impl russh::server::Handler for Closed {
    type Error = russh::Error;
}

/// What the real `ssh` says to a server with this face, when it knows `known` and `global`.
fn ssh_to(face: &Face, directory: &std::path::Path, known: &str, global: &str, more: &[&str]) -> String {
    let config = russh::server::Config {
        keys: face.keys.clone(),
        certificates: face.certificates.clone(),
        auth_rejection_time: std::time::Duration::ZERO,
        ..russh::server::Config::default()
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = runtime.spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let running = russh::server::run_stream(Arc::new(config), stream, Closed).await;
        if let Ok(running) = running {
            let _ended = running.await;
        }
    });
    let (own, of_host) = (directory.join("own"), directory.join("global"));
    std::fs::write(&own, known.replace("HOST", &format!("[127.0.0.1]:{port}"))).unwrap();
    std::fs::write(&of_host, global).unwrap();
    let output = Command::new("ssh")
        .args(["-F", "none", "-v", "-p", &port.to_string(), "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes"])
        .arg("-o")
        .arg(format!("UserKnownHostsFile={}", own.display()))
        .arg("-o")
        .arg(format!("GlobalKnownHostsFile={}", of_host.display()))
        .args(more)
        .args(["-o", "IdentityFile=/nonexistent", "127.0.0.1", "true"])
        .output()
        .unwrap();
    server.abort();
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn openssh_takes_the_trusted_face_by_certificate_and_by_every_plain_key_and_no_other() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::open(&directory.path().join("authority")).unwrap();
    let held = authority.trusted().unwrap().generation;
    let ours = authority.ssh_trusted(held).unwrap();
    let face = authority.ssh_face(SignedBy::Trusted { held }, &["127.0.0.1".into()], TARGET).unwrap();
    let untrusted = authority.ssh_face(SignedBy::Untrusted, &[], TARGET).unwrap();
    let global = format!("@cert-authority * {}\n", ours.authority);
    let own: String = ours.keys.iter().map(|key| format!("HOST {key}\n")).collect::<Vec<_>>().concat();
    let to =
        |face: &Face, known: &str, global: &str, more: &[&str]| ssh_to(face, directory.path(), known, global, more);
    let by_certificate = to(&face, "", &global, &[]);
    let taken = |said: &str| said.contains("Permission denied") && !said.contains("verification failed");
    assert!(taken(&by_certificate) && by_certificate.contains("ssh-ed25519-cert-v01@openssh.com"), "{by_certificate}");
    for algorithm in ["ssh-ed25519", "ecdsa-sha2-nistp256", "rsa-sha2-512", "rsa-sha2-256"] {
        let more = format!("HostKeyAlgorithms={algorithm}");
        let said = to(&face, &own, "", &["-o", &more]);
        assert!(taken(&said) && said.contains(&format!("host key algorithm: {algorithm}")), "{algorithm}: {said}");
        let said = to(&untrusted, &own, &global, &["-o", &more]);
        assert!(!taken(&said) && said.contains("REMOTE HOST IDENTIFICATION HAS CHANGED"), "{algorithm}: {said}");
    }
    for algorithm in ["ecdsa-sha2-nistp256-cert-v01@openssh.com", "rsa-sha2-512-cert-v01@openssh.com"] {
        let said = to(&face, "", &global, &["-o", &format!("HostKeyAlgorithms={algorithm}")]);
        assert!(taken(&said), "{algorithm}: {said}");
    }
    let said = to(&untrusted, "", &global, &[]);
    assert!(said.contains("Host key verification failed") && !said.contains("CHANGED"), "a stranger: {said}");
    let elsewhere = authority.ssh_face(SignedBy::Trusted { held }, &["other.test".into()], TARGET).unwrap();
    let said = to(&elsewhere, "", &global, &[]);
    assert!(said.contains("Host key verification failed"), "a certificate for another: {said}");
}
