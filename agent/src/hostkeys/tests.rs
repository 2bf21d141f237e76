//! Judging host keys by real files; keys and certificates as ssh-keygen would make them.

use std::os::unix::fs::{PermissionsExt as _, chown, symlink};

use crewtap_core::policy::catalog::{Catalog, Channel};
use crewtap_core::target::{Name, Proof};
use russh::keys::ssh_key::certificate::{Builder, CertType};
use russh::keys::{Algorithm, HashAlg, PrivateKey};

use super::*;

/// Whose files the lab's user has.
const UID: u32 = 65_534;

struct Lab {
    dir: tempfile::TempDir,
    keys: HostKeys,
    user: User,
    catalog: Catalog,
    hosts: Vec<String>,
    address: SocketAddr,
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap()
}

fn new_key() -> PrivateKey {
    PrivateKey::random(&mut rand::rng(), Algorithm::Ed25519).unwrap()
}

fn line(host: &str, key: &PrivateKey) -> String {
    format!("{host} {}\n", key.public_key().to_openssh().unwrap().trim())
}

fn plain(key: &PrivateKey) -> PublicKeyOrCertificate {
    key.public_key().clone().into()
}

fn certificate(key: &PrivateKey, authority: &PrivateKey, names: &[&str], from: i64, to: i64) -> PublicKeyOrCertificate {
    let now = i64::try_from(clock::now().wall_ns / 1_000_000_000).unwrap();
    let seconds = |offset: i64| u64::try_from(now + offset).unwrap();
    let subject = key.public_key().clone();
    let mut builder = Builder::new_with_random_nonce(&mut rand::rng(), subject, seconds(from), seconds(to)).unwrap();
    builder.cert_type(CertType::Host).unwrap().key_id("t").unwrap();
    for name in names {
        builder.valid_principal(*name).unwrap();
    }
    builder.sign(authority).unwrap().into()
}

impl Lab {
    /// The entry's table `ssh`; empty: the catalog does not know the target.
    fn new(entry: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let home = dir.path().join("home");
        std::fs::create_dir_all(home.join(".ssh")).unwrap();
        chown(home.join(".ssh"), Some(UID), Some(UID)).unwrap();
        std::fs::write(dir.path().join("hosts"), "127.0.0.1 localhost\n10.0.0.5 Alias.test other # x\n").unwrap();
        let system = ["known", "known2"].map(|name| dir.path().join(name)).to_vec();
        let keys = HostKeys::with(system, dir.path().join("hosts"), dir.path());
        let text = "[target.a]\nmatch = { host = ['name.test'], cidr = ['10.0.0.0/8'] }\nprotocol = 'ssh'\n";
        let text = if entry.is_empty() { String::new() } else { format!("{text}ssh = {entry}\n") };
        Self {
            keys,
            user: User { uid: UID, gid: UID, homes: vec![home], ..User::default() },
            catalog: Catalog::parse(&text, Path::new("/")).unwrap(),
            hosts: vec!["name.test".into()],
            address: "10.0.0.5:22".parse().unwrap(),
            dir,
        }
    }

    fn system(&self, text: &str) {
        std::fs::write(self.dir.path().join("known"), text).unwrap();
    }

    fn own(&self, text: &str) {
        let path = self.dir.path().join("home/.ssh/known_hosts");
        std::fs::write(&path, text).unwrap();
        chown(&path, Some(UID), Some(UID)).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    }

    fn asked<T>(&self, ask: impl AsyncFnOnce(&Asked<'_>) -> T) -> T {
        let name = Name { host: self.hosts[0].clone(), proof: Proof::Dns };
        let found = self.catalog.find(self.address, Some(&name), "ssh");
        let asked = Asked { hosts: &self.hosts, address: self.address, user: Some(&self.user), found: found.as_ref() };
        runtime().block_on(ask(&asked))
    }

    fn judge(&self, shown: &PublicKeyOrCertificate) -> Standing {
        self.asked(async |asked| self.keys.judge(asked, shown).await)
    }

    /// The word for the record, and the name that is proven.
    fn told(&self, shown: &PublicKeyOrCertificate) -> (&'static str, Option<String>) {
        let standing = self.judge(shown);
        (standing.trust.as_str(), standing.proven)
    }
}

#[test]
fn the_hosts_own_files_prove_a_name_and_the_users_own_only_vouch() {
    let lab = Lab::new("");
    let (key, other) = (new_key(), new_key());
    assert_eq!(lab.told(&plain(&key)), ("unknown", None));
    lab.own(&line("name.test", &key));
    assert_eq!(lab.told(&plain(&key)), ("known_hosts", None), "the captured process can write there");
    lab.system(&line("name.test", &key));
    assert_eq!(lab.told(&plain(&key)), ("known_hosts", Some("name.test".into())), "a file that changed is read again");
    let standing = lab.judge(&plain(&key));
    assert_eq!(standing.name(), Some(Name { host: "name.test".into(), proof: Proof::Hostkey }));
    assert!(matches!(standing.channel(), Channel::Ssh { verified: true, .. }));
    assert_eq!(standing.fingerprint, key.fingerprint(HashAlg::Sha256).to_string());
    assert_eq!(standing.names, ["name.test", "alias.test", "other", "10.0.0.5"]);
    let changed = lab.judge(&plain(&other));
    assert_eq!(changed.trust.as_str(), "changed");
    let (code, text) = changed.note.unwrap();
    assert!(code == "hostkey_changed" && text.contains("known:1") && text.contains("SHA256:"), "{code} {text}");
}

#[test]
fn the_name_stands_before_the_address_and_a_name_of_the_host_counts() {
    let lab = Lab::new("");
    let (key, other) = (new_key(), new_key());
    lab.system(&format!("{}{}", line("name.test", &key), line("10.0.0.5", &other)));
    assert_eq!(lab.told(&plain(&key)), ("known_hosts", Some("name.test".into())));
    assert_eq!(lab.judge(&plain(&key)).names, ["name.test", "alias.test", "other"], "not for the address");
    assert_eq!(lab.told(&plain(&other)).0, "changed", "the address does not excuse the name");
    lab.system(&line("alias.test", &key));
    assert_eq!(lab.told(&plain(&key)), ("known_hosts", Some("alias.test".into())));
    lab.system(&line("10.0.0.5", &key));
    let standing = lab.judge(&plain(&key));
    assert!(standing.is_proven() && standing.name().is_none(), "an address is no name");
}

#[test]
fn revoked_keys_and_other_algorithms() {
    let lab = Lab::new("{ trust_on_first_use = true }");
    let key = new_key();
    let curve = russh::keys::EcdsaCurve::NistP256;
    let ecdsa = PrivateKey::random(&mut rand::rng(), Algorithm::Ecdsa { curve }).unwrap();
    lab.own(&line("name.test", &key));
    assert_eq!(lab.told(&plain(&ecdsa)), ("other_algorithm", None));
    assert!(!lab.dir.path().join(FIRST_USE_FILE).exists(), "a host that is known is not used for the first time");
    lab.system(&format!("@revoked {}", line("10.0.0.5", &key)));
    assert_eq!(lab.told(&plain(&key)).0, "revoked", "whoever else vouches, and by whatever name");
}

#[test]
fn a_certificate_counts_for_its_names_while_it_is_in_force() {
    let lab = Lab::new("");
    let (key, authority) = (new_key(), new_key());
    lab.system(&format!("@cert-authority {}", line("*.test", &authority)));
    let of = |names: &[&str], from, to| lab.told(&certificate(&key, &authority, names, from, to));
    assert_eq!(of(&["name.test"], -60, 60), ("authority", Some("name.test".into())));
    assert_eq!(of(&["*.test"], -60, 60).0, "authority", "names may be patterns");
    assert_eq!(of(&["elsewhere.test"], -60, 60), ("unknown", None));
    assert_eq!(of(&["name.test"], -60, -1).0, "unknown", "it is over");
    assert_eq!(of(&["name.test"], 30, 60).0, "unknown", "not yet");
    assert_eq!(lab.told(&certificate(&key, &new_key(), &["name.test"], -60, 60)).0, "unknown", "another authority");
    lab.own(&line("name.test", &key));
    assert_eq!(of(&["elsewhere.test"], -60, 60).0, "known_hosts", "the key in it is known by itself");
    let preference = lab.asked(async |asked| lab.keys.preference(asked).await);
    assert!(preference.certificates.contains(&Algorithm::Ed25519) && preference.is_known);
}

#[test]
fn pins_decide_alone() {
    let (key, other) = (new_key(), new_key());
    let lab = Lab::new(&format!("{{ hostkeys = ['{}'] }}", key.fingerprint(HashAlg::Sha256)));
    lab.own(&line("name.test", &other));
    assert_eq!(lab.told(&plain(&key)), ("pin", Some("name.test".into())));
    assert_eq!(lab.told(&plain(&other)).0, "pin_mismatch");
    let mut by_address = Lab::new(&format!("{{ hostkeys = ['{}'] }}", key.fingerprint(HashAlg::Sha256)));
    let text = format!(
        "[target.a]\nmatch = {{ cidr = ['10.0.0.0/8'] }}\nprotocol = 'ssh'\nssh = {{ hostkeys = ['{}'] }}",
        key.fingerprint(HashAlg::Sha256)
    );
    by_address.catalog = Catalog::parse(&text, Path::new("/")).unwrap();
    assert_eq!(by_address.told(&plain(&key)), ("pin", None), "a name that the entry does not have could be another's");
}

#[test]
fn the_key_of_the_first_use_is_kept_and_wanted_from_then_on() {
    let lab = Lab::new("{ trust_on_first_use = true }");
    let (key, other) = (new_key(), new_key());
    let first = lab.judge(&plain(&key));
    assert_eq!((first.trust.as_str(), first.proven.as_deref()), ("first_use", Some("10.0.0.5")));
    assert_eq!(first.note.unwrap().0, "hostkey_first_use");
    let file = lab.dir.path().join(FIRST_USE_FILE);
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o7777, 0o600);
    let again = lab.judge(&plain(&key));
    assert_eq!((again.trust.as_str(), again.note), ("first_use", None));
    assert_eq!(lab.judge(&plain(&other)).note.unwrap().0, "hostkey_changed");
    assert_eq!(std::fs::read_to_string(&file).unwrap().lines().count(), 1, "nothing is kept of what is refused");
    let preference = lab.asked(async |asked| lab.keys.preference(asked).await);
    assert!(preference.is_known && preference.keys[0] == Algorithm::Ed25519);
    std::fs::write(&file, "damaged\n").unwrap();
    let (trust, note) = (lab.judge(&plain(&key)).trust, lab.judge(&plain(&key)).note);
    assert!(trust == Trust::Unverified(Unverified::Unknown) && note.unwrap().1.contains("damaged"));
}

#[test]
fn a_target_is_asked_for_the_keys_that_it_is_known_by() {
    let lab = Lab::new("");
    let curve = russh::keys::EcdsaCurve::NistP256;
    let ecdsa = PrivateKey::random(&mut rand::rng(), Algorithm::Ecdsa { curve }).unwrap();
    let of = || lab.asked(async |asked| lab.keys.preference(asked).await);
    assert_eq!(of(), Preference::default());
    lab.own(&line("name.test", &ecdsa));
    assert_eq!(of().keys[..2], [Algorithm::Ecdsa { curve }, Algorithm::Ed25519]);
    assert_eq!(of().keys.len(), Preference::default().keys.len(), "the others are still taken");
    let rsa = "name.test ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAAgQDQ\n";
    lab.own(rsa);
    let sha2 = |hash| Algorithm::Rsa { hash: Some(hash) };
    assert_eq!(of().keys[..3], [sha2(HashAlg::Sha512), sha2(HashAlg::Sha256), Algorithm::Ed25519]);
    assert_eq!(of().keys.last(), Some(&Algorithm::Rsa { hash: None }), "SHA-1 only where there is nothing else");
}

#[test]
fn a_users_file_is_read_as_the_user_and_only_a_regular_one() {
    let lab = Lab::new("");
    let key = new_key();
    let ssh = lab.dir.path().join("home/.ssh");
    let secret = lab.dir.path().join("of-root");
    std::fs::write(&secret, line("name.test", &key)).unwrap();
    std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o600)).unwrap();
    symlink(&secret, ssh.join("known_hosts")).unwrap();
    assert_eq!(lab.told(&plain(&key)).0, "unknown", "root's file through a link");
    std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(lab.told(&plain(&key)).0, "known_hosts", "a link to what the user may read");
    for (target, what) in [("/proc/self/environ", "the agent's own"), ("/dev/zero", "a device")] {
        std::fs::remove_file(ssh.join("known_hosts")).unwrap();
        symlink(target, ssh.join("known_hosts")).unwrap();
        assert_eq!(lab.told(&plain(&key)).0, "unknown", "{what}");
    }
    std::fs::remove_file(ssh.join("known_hosts")).unwrap();
    nix::unistd::mkfifo(&ssh.join("known_hosts"), nix::sys::stat::Mode::S_IRUSR).unwrap();
    assert_eq!(lab.told(&plain(&key)).0, "unknown", "a pipe that nobody writes to");
}

#[test]
fn what_the_command_line_names_stands_in_for_the_home() {
    let mut lab = Lab::new("");
    let key = new_key();
    lab.own(&line("name.test", &key));
    assert_eq!(lab.told(&plain(&key)).0, "known_hosts");
    lab.user.named = Some(vec!["/dev/null".into()]);
    assert_eq!(lab.told(&plain(&key)).0, "unknown", "the client would not have known it either");
    lab.user.named = None;
    lab.own(&line("alias.elsewhere", &key));
    assert_eq!(lab.told(&plain(&key)).0, "unknown");
    lab.user.alias = Some("Alias.elsewhere".into());
    assert_eq!(lab.told(&plain(&key)).0, "known_hosts", "the client looks for its alias");
}

#[test]
fn a_process_says_whose_files_and_which() {
    let mut process = Process { pid: std::process::id(), uid: 0, cwd: "/srv".into(), ..Process::default() };
    let keys = HostKeys::new(Path::new("/nowhere"));
    let of = |process: &Process| runtime().block_on(keys.user(process));
    let plain = of(&process);
    assert!(plain.homes[0] == Path::new("/root") && plain.named.is_none() && plain.alias.is_none(), "{plain:?}");
    process.argv = ["ssh", "-oUserKnownHostsFile=a ~/b", "-oHostKeyAlias=x", "h"].map(str::to_owned).to_vec();
    let named = of(&process);
    assert_eq!(named.named, Some(vec!["/srv/a".into(), "/root/b".into()]));
    assert_eq!(named.alias.as_deref(), Some("x"));
    process.argv = vec!["ssh".into(), "-oUserKnownHostsFile=none".into()];
    assert_eq!(of(&process).named, Some(Vec::new()));
}
