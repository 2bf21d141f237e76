//! Entries of SSH targets: host keys, credentials, and what must be proven before one is used.

use std::path::Path;

use super::super::{Catalog, Channel, HostKeys, Source, Withheld, hostkey};
use crate::target::{Name, Proof};

/// Two host keys: their lines, and one's fingerprint as ssh-keygen prints it.
const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAozzoc9orXDfMN04xRSGy7u+7fWMKaDCMsylM2qFmPd";
const OTHER: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBvfwr1N0ZAtUetdUbRf47Rk5cbNsGNQM76EycFbNtMc";

fn parse(more: &str) -> Result<Catalog, String> {
    let text = format!("[target.a]\nprotocol = 'ssh'\n{more}\n");
    Catalog::parse(&text, Path::new("/etc/crewtap")).map_err(|malformed| malformed.to_string())
}

fn wire(line: &str) -> Vec<u8> {
    let body = line.split(' ').nth(1).unwrap();
    base64::Engine::decode(&base64::engine::general_purpose::STANDARD, body).unwrap()
}

#[test]
fn faults_say_what_to_do() {
    let named = "match = { host = ['a.b'] }\n";
    let cases = [
        ("ssh = { hostkeys = ['x'] }", "is no host key: write the line of its public key file"),
        ("ssh = { hostkeys = ['SHA256:abc'] }", "is no host key"),
        (
            "ssh = { hostkeys = ['ssh-rsa AAAAC3NzaC1lZDI1NTE5AAAAIAozzoc9orXDfMN04xRSGy7u+7fWMKaDCMsylM2qFmPd'] }",
            "is no host key",
        ),
        ("ssh = { hostkeys = [] }", "`hostkeys` is empty"),
        ("ssh = { hostkey = [] }", "did you mean `hostkeys`?"),
        ("ssh = { trust_on_first_use = 'yes' }", "is true or false"),
        ("ssh = { trust_on_first_use = true }", "needs a `cidr`"),
        ("tls = { ca = 'a.pem' }", "`tls` is not for protocol \"ssh\""),
        ("credential = { user = 'a' }", "neither a `secret` (a password) nor a `key`"),
        ("credential = { secret = 'env:A' }", "`credential` has no `user`"),
        ("credential = { user = 'a', secret = 'env:A', key = 'env:B' }", "leave one out"),
        ("credential = { user = 'a', secret = 'env:A', passphrase = 'env:B' }", "belong to a `key`"),
        ("credential = { user = 'a', key = 'ssh-ed25519' }", "`key`: say where the secret is"),
        ("credential = { user = 'a', key = 'vault:https://v/a#b' }", "`vault:` needs a `token`"),
        ("credential = { user = 'a', key = 'env:A', header = 'b' }", "are for protocol \"http\""),
    ];
    for (more, wanted) in cases {
        let said = parse(&format!("{named}{more}")).unwrap_err();
        assert!(said.contains(wanted), "{more}\n{said}\n{wanted}");
    }
    let of_other = "[target.a]\nmatch = { host = ['a.b'] }\nprotocol = 'http'\nssh = { trust_on_first_use = true }";
    assert!(Catalog::parse(of_other, Path::new("/")).unwrap_err().to_string().contains("`ssh` is for protocol"));
}

#[test]
fn a_log_in_is_a_password_or_a_key_with_what_belongs_to_it() {
    let of = |credential: &str| {
        let catalog = parse(&format!("match = {{ host = ['a.b'] }}\ncredential = {credential}")).unwrap();
        (catalog.entries()[0].credential.clone().unwrap(), catalog.variables().map(str::to_owned).collect::<Vec<_>>())
    };
    let (password, variables) = of("{ user = 'u', secret = 'env:P' }");
    assert_eq!((password.key, password.secret, variables), (None, Some(Source::Env("P".into())), vec!["P".to_owned()]));
    let (key, variables) = of("{ user = 'u', key = 'file:id', passphrase = 'env:P', certificate = 'id-cert.pub' }");
    assert_eq!(key.place().unwrap().to_string(), "file:/etc/crewtap/id");
    let file = key.key.unwrap();
    assert_eq!(file.certificate.as_deref(), Some(Path::new("/etc/crewtap/id-cert.pub")));
    assert_eq!((file.passphrase, variables), (Some(Source::Env("P".into())), vec!["P".to_owned()]));
}

#[test]
fn pins_are_lines_fingerprints_and_authorities() {
    let catalog = parse(&format!(
        "match = {{ host = ['a.b'] }}\nssh = {{ hostkeys = ['{KEY} a comment', '@cert-authority {OTHER}'] }}"
    ));
    let keys: HostKeys = catalog.unwrap().entries()[0].ssh.clone();
    let (key, other) = (wire(KEY), wire(OTHER));
    assert!(keys.is_pinned(&key, None) && !keys.is_pinned(&other, None) && keys.is_pinned(&other, Some(&other)));
    assert!(!keys.is_pinned(&other, Some(&key)), "a host's key is no authority");
    assert_eq!(keys.pins[0].algorithm.as_deref(), Some("ssh-ed25519"));
    let fingerprint = hostkey::fingerprint(&key);
    let by_digest = parse(&format!("match = {{ host = ['a.b'] }}\nssh = {{ hostkeys = ['{fingerprint}'] }}")).unwrap();
    assert!(by_digest.entries()[0].ssh.is_pinned(&key, None) && !by_digest.entries()[0].ssh.is_pinned(&other, None));
}

#[test]
fn a_password_goes_only_to_a_host_that_has_proven_itself() {
    let (named, address) = ("host = ['*.corp']", "cidr = ['10.0.0.0/8']");
    let (password, key) = ("secret = 'env:A'", "key = 'env:A'");
    let pin = format!("ssh = {{ hostkeys = ['{KEY}'] }}");
    let other = format!("ssh = {{ hostkeys = ['{OTHER}'] }}");
    let authority = format!("ssh = {{ hostkeys = ['@cert-authority {OTHER}'] }}");
    // The entry, what it logs in with, how the name x.corp is known, whether somebody vouches, and whether it may be used.
    let cases = [
        (named, password, "", Proof::Hostkey, true, true),
        (named, password, "", Proof::Dns, true, false),
        (named, key, "", Proof::Dns, false, false),
        (address, password, "", Proof::Dns, false, false),
        (address, password, "", Proof::Dns, true, true),
        (address, key, "", Proof::Dns, false, true),
        (named, password, pin.as_str(), Proof::Claimed, false, true),
        (address, key, other.as_str(), Proof::Hostkey, true, false),
        (named, password, authority.as_str(), Proof::Claimed, false, true),
    ];
    for (selector, log_in, ssh, proof, verified, may) in cases {
        let text = format!("match = {{ {selector} }}\ncredential = {{ user = 'u', {log_in} }}\n{ssh}");
        let catalog = parse(&text).unwrap();
        let name = Name { host: "x.corp".into(), proof };
        let found = catalog.find("10.0.0.1:22".parse().unwrap(), Some(&name), "ssh").unwrap();
        let signed = wire(OTHER);
        let channel = Channel::Ssh { key: &wire(KEY), authority: Some(&signed), verified };
        let answer = found.may_lease_on(channel);
        assert_eq!(answer.is_ok(), may, "{text} {proof:?} {verified} {answer:?}");
        if ssh == other {
            assert!(matches!(answer, Err(Withheld::HostKey { .. })), "{answer:?}");
        }
        assert!(found.may_lease_on(Channel::Clear).is_ok() == (selector == address));
    }
}
