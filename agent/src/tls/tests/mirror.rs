//! What is wrong with a target reaches the client as if we were not there.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use rcgen::{CertificateParams, DnType};
use time::{Duration, OffsetDateTime};

use super::lab::{NAME, Pki, Proxy, Server, Shown, leaf_params};
use crate::tls::server::{EndError, Rejection};
use crate::tls::validity::{Defect, Validity};

/// Connects in four ways, from the strictest to the most careless, and says how each ended.
const PYTHON: &str = r#"
import socket, ssl, sys
host, port, name, ca = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4]
for mode in ("x509_strict", "default", "any_name", "anything"):
    context = ssl.create_default_context(cafile=ca)
    if mode == "x509_strict": context.verify_flags |= ssl.VERIFY_X509_STRICT
    if mode in ("any_name", "anything"): context.check_hostname = False
    if mode == "anything": context.verify_mode = ssl.CERT_NONE
    try:
        with context.wrap_socket(socket.create_connection((host, port)), server_hostname=name) as stream:
            stream.sendall(b"GET / HTTP/1.0\r\n\r\n")
            print(mode, "got", stream.recv(15).decode(), stream.version())
    except ssl.SSLCertVerificationError as error:
        print(mode, "refused", error.verify_code)
    except Exception as error:
        print(mode, "failed", type(error).__name__, error)
"#;

fn python(address: SocketAddr, name: &str, roots: &Path) -> Vec<String> {
    let output = Command::new("/usr/bin/python3")
        .args(["-c", PYTHON, &address.ip().to_string(), &address.port().to_string(), name])
        .arg(roots)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

/// curl's exit status, and openssl's verdict, each strict and careless.
fn curl_and_openssl(address: SocketAddr, roots: &Path) -> Vec<Option<i32>> {
    let (port, url) = (address.port(), format!("https://{NAME}:{}/", address.port()));
    let resolve = format!("{NAME}:{port}:127.0.0.1");
    let curl = |more: &[&str]| {
        let mut command = Command::new("curl");
        command.args(["-s", "-o", "/dev/null", "--noproxy", "*", "--resolve", &resolve]).args(more).arg("--cacert");
        command.arg(roots).arg(&url).status().unwrap().code()
    };
    let openssl = |more: &[&str]| {
        let mut command = Command::new("openssl");
        command.args(["s_client", "-connect", &address.to_string(), "-servername", NAME]).args(more);
        command.arg("-CAfile").arg(roots).stdin(std::process::Stdio::null()).output().unwrap().status.code()
    };
    vec![
        curl(&[]),
        curl(&["-k"]),
        openssl(&["-verify_return_error", "-verify_hostname", NAME, "-x509_strict"]),
        openssl(&[]),
    ]
}

fn dated(params: &mut CertificateParams, from: i64, to: i64) {
    params.not_before = OffsetDateTime::now_utc() + Duration::days(from);
    params.not_after = OffsetDateTime::now_utc() + Duration::days(to);
}

/// Serves `shown` with and without the proxy, compares, and checks what the proxy recorded of each connection.
fn outcome_equals_direct(pki: &Pki, shown: &Shown, expected: &[Defect]) -> Vec<String> {
    let directory = pki.directory.path();
    let server = Server::start(directory, shown, &[]);
    let proxy = Proxy::start(directory, &pki.root_file(), server.address, Some(NAME));
    let direct = python(server.address, NAME, &proxy.overlay);
    assert_eq!(python(proxy.address, NAME, &proxy.overlay), direct, "{expected:?}: Python as without us");
    for line in &direct {
        let seen = proxy.next();
        let report = seen.target.unwrap();
        assert_eq!(report.validity.defects(), expected, "{line}");
        let refused = matches!(seen.client, Some(Err(EndError::Rejected(Rejection::Alert(_)))));
        assert_eq!(refused, line.contains("refused"), "{line}: {:?}", seen.client);
    }
    let direct_exits = curl_and_openssl(server.address, &proxy.overlay);
    assert_eq!(
        curl_and_openssl(proxy.address, &proxy.overlay),
        direct_exits,
        "{expected:?}: curl and openssl as without us"
    );
    direct
}

#[test]
fn a_valid_target_is_valid() {
    let pki = Pki::new();
    let direct = outcome_equals_direct(&pki, &pki.leaf(&leaf_params(), true), &[]);
    assert!(direct.iter().all(|line| line.ends_with("got HTTP/1.0 200 ok TLSv1.3")), "{direct:?}");
}

#[test]
fn an_expired_target_is_expired() {
    let pki = Pki::new();
    let mut params = leaf_params();
    dated(&mut params, -20, -1);
    let direct = outcome_equals_direct(&pki, &pki.leaf(&params, true), &[Defect::Expired]);
    assert_eq!(direct[1], "default refused 10");
}

#[test]
fn a_target_that_is_not_valid_yet_is_not() {
    let pki = Pki::new();
    let mut params = leaf_params();
    dated(&mut params, 1, 20);
    let direct = outcome_equals_direct(&pki, &pki.leaf(&params, true), &[Defect::NotYetValid]);
    assert_eq!(direct[1], "default refused 9");
}

#[test]
fn a_target_of_another_name_is_taken_by_those_who_take_any_name() {
    let pki = Pki::new();
    let mut params = leaf_params();
    params.subject_alt_names = CertificateParams::new(vec!["other.test".to_owned()]).unwrap().subject_alt_names;
    let direct = outcome_equals_direct(&pki, &pki.leaf(&params, true), &[Defect::WrongName]);
    assert_eq!(direct[1], "default refused 62");
    assert!(direct[2].starts_with("any_name got"), "{direct:?}");
}

#[test]
fn a_target_named_in_its_common_name_only_is_left_to_the_client() {
    let pki = Pki::new();
    let mut params = leaf_params();
    params.subject_alt_names = Vec::new();
    outcome_equals_direct(&pki, &pki.leaf(&params, true), &[Defect::WrongName]);
}

#[test]
fn a_missing_intermediate_is_an_unknown_issuer() {
    let pki = Pki::new();
    let direct = outcome_equals_direct(&pki, &pki.leaf(&leaf_params(), false), &[Defect::UnknownIssuer]);
    assert_eq!(direct[1], "default refused 20");
    assert!(direct[3].starts_with("anything got"), "{direct:?}");
}

#[test]
fn an_unknown_issuer_stays_unknown_and_its_dates_are_told_too() {
    let (pki, foreign) = (Pki::new(), Pki::new());
    outcome_equals_direct(&pki, &foreign.leaf(&leaf_params(), true), &[Defect::UnknownIssuer]);
    let mut params = leaf_params();
    dated(&mut params, -20, -1);
    params.subject_alt_names = Vec::new();
    let all = [Defect::Expired, Defect::UnknownIssuer, Defect::WrongName];
    outcome_equals_direct(&pki, &foreign.leaf(&params, true), &all);
}

#[test]
fn a_self_signed_target_is_taken_where_it_is_itself_a_root() {
    let pki = Pki::new();
    let shown = Pki::self_signed(&leaf_params());
    let server = Server::start(pki.directory.path(), &shown, &[]);
    for (roots, validity) in [
        (pki.file("other.pem", ""), Validity::Unverified(vec![Defect::UnknownIssuer])),
        (pki.file("own.pem", &shown.chain), Validity::Verified),
    ] {
        let proxy = Proxy::start(pki.directory.path(), &roots, server.address, Some(NAME));
        let direct = python(server.address, NAME, &proxy.overlay);
        let opened = python(proxy.address, NAME, &proxy.overlay);
        let ends = |lines: &[String]| -> Vec<bool> { lines.iter().map(|line| line.contains(" got ")).collect() };
        // Verification codes differ: 18 for the target's own certificate, 20 for one whose issuer is not there.
        assert_eq!(ends(&opened)[1..], ends(&direct)[1..], "{validity:?}: {opened:?}, {direct:?}");
        assert_eq!(proxy.next().target.unwrap().validity, validity);
    }
}

#[test]
fn an_address_is_judged_as_an_address() {
    let pki = Pki::new();
    let server = Server::start(pki.directory.path(), &pki.leaf(&leaf_params(), true), &[]);
    let proxy = Proxy::start(pki.directory.path(), &pki.root_file(), server.address, None);
    let opened = python(proxy.address, "127.0.0.1", &proxy.overlay);
    assert!(opened.iter().all(|line| line.contains(" got ")), "{opened:?}");
    assert_eq!(proxy.next().target.unwrap().name, "127.0.0.1");
    let mut params = leaf_params();
    params.subject_alt_names.pop();
    let server = Server::start(pki.directory.path(), &pki.leaf(&params, true), &[]);
    let proxy = Proxy::start(pki.directory.path(), &pki.root_file(), server.address, None);
    assert_eq!(python(proxy.address, "127.0.0.1", &proxy.overlay), python(server.address, "127.0.0.1", &proxy.overlay));
    assert_eq!(proxy.next().target.unwrap().validity, Validity::Unverified(vec![Defect::WrongName]));
}

#[test]
fn a_certificate_of_version_1_is_passed_on_to_those_who_check_nothing() {
    let pki = Pki::new();
    let directory = pki.directory.path();
    let script = format!(
        "openssl req -newkey rsa:2048 -nodes -keyout v1.key -subj /CN={NAME} -out v1.csr &&
         openssl x509 -req -in v1.csr -signkey v1.key -days 3 -out v1.pem"
    );
    let made = Command::new("sh").args(["-ec", &script]).current_dir(directory).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let read = |name| std::fs::read_to_string(directory.join(name)).unwrap();
    let shown = Shown { chain: read("v1.pem"), key: read("v1.key") };
    for version in ["-tls1_2", "-tls1_3"] {
        let server = Server::start(directory, &shown, &[version]);
        let proxy = Proxy::start(directory, &pki.root_file(), server.address, Some(NAME));
        let opened = python(proxy.address, NAME, &proxy.overlay);
        let taken: Vec<bool> = opened.iter().map(|line| line.contains(" got ")).collect();
        assert_eq!(taken, [false, false, false, true], "{version}: {opened:?}");
        assert!(!proxy.next().target.unwrap().validity.has_known_issuer());
    }
}

#[test]
fn the_leaf_says_what_the_target_says() {
    let pki = Pki::new();
    let mut params = leaf_params();
    dated(&mut params, -20, -1);
    params.distinguished_name.push(DnType::CommonName, "shown to people");
    let server = Server::start(pki.directory.path(), &pki.leaf(&params, true), &[]);
    let proxy = Proxy::start(pki.directory.path(), &pki.root_file(), server.address, Some(NAME));
    let shown = |address: SocketAddr| {
        let script = "openssl s_client -connect $0 </dev/null 2>/dev/null |
            openssl x509 -noout -dates -ext subjectAltName,extendedKeyUsage";
        let output = Command::new("sh").args(["-c", script, &address.to_string()]).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let (direct, opened) = (shown(server.address), shown(proxy.address));
    assert!(direct.contains("notAfter="), "{direct}");
    let dates_and_names = |text: &str| -> Vec<String> {
        text.lines().filter(|line| line.contains("not") || line.contains("DNS:")).map(str::to_owned).collect()
    };
    assert_eq!(dates_and_names(&opened), dates_and_names(&direct));
    assert!(opened.contains("TLS Web Server Authentication"), "{opened}");
}
