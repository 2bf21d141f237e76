use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use crewtap_core::bodies::Classified;
use crewtap_core::event::Body;
use crewtap_core::id::{RunId, Ulid};
use crewtap_core::identity::Identity;
use crewtap_core::origin::Origin;
use crewtap_core::policy::catalog::Catalog;
use crewtap_core::run::{Mode, Process};
use crewtap_core::target::{Name, Proof, Target};

use super::*;
use crate::capture::listen::ListenerPorts;
use crate::capture::netns::NetworkNamespace;
use crate::clock::Zone;
use crate::gate::Gate;
use crate::journal::{Journal, Options, Reader};
use crate::namespace::Namespace;
use crate::recorder::Recorder;
use crate::runs::Run;
use crate::session::{Ground, Holding};

const PORTS: ListenerPorts = ListenerPorts { netns_cookie: 0, tcp4: 1, tcp6: [0; 16], dns4: 1, dns6: [0; 16] };

const SECRET: &str = "canary-Xk9wQ4zT";

struct Lab {
    dir: tempfile::TempDir,
    journal: Journal,
    session: Session,
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().build().unwrap()
}

impl Lab {
    fn new(targets: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        std::fs::write(&path, SECRET).unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        let journal = Journal::open(&dir.path().join("store"), &Options::default(), None).unwrap();
        let catalog = Arc::new(Catalog::parse(targets, dir.path()).unwrap());
        let ground = Ground {
            ssh: None,
            tunnels: None,
            gate: Gate::default(),
            key: journal.store_key(),
            catalog,
            masks: Arc::default(),
            plans: Arc::default(),
            waits_for_disk: false,
            zone: Zone::default(),
            holding: Holding::default(),
        };
        let namespace = Namespace::new(NetworkNamespace::current().unwrap(), PORTS).unwrap();
        let recorder = Recorder::new(journal.clone());
        let id = RunId(Ulid::generate());
        let run = Run::new(id, 1, Identity::unknown(), Mode::Record, Arc::new(namespace), recorder);
        let address = "10.1.0.5:5432".parse().unwrap();
        let origin = Origin {
            destination: address,
            bound: None,
            cgroup: 1,
            pid: 1,
            tid: 1,
            uid: 0,
            gid: 0,
            cookie: 1,
            mono_ns: 0,
            program_ns: 0,
            comm: "crew".into(),
        };
        let process = Process::default();
        let session = Session::open(Arc::new(ground), Arc::new(run), origin, address, process).unwrap();
        Self { dir, journal, session }
    }

    fn permit(&self, name: Option<(&str, Proof)>) -> Permit {
        let name = name.map(|(host, proof)| Name { host: host.into(), proof });
        let target = Target { address: self.session.origin().destination, name };
        let classified =
            Classified { protocol: "postgres".into(), driver: "postgres".into(), target, sni: None, alpn: Vec::new() };
        runtime().block_on(self.session.ask_connect(&classified)).unwrap()
    }

    fn lease(&self, name: Option<(&str, Proof)>, channel: Channel<'_>) -> Result<Option<Lease>, LeaseError> {
        let permit = self.permit(name);
        runtime().block_on(self.session.lease(&permit, "postgres", channel))
    }

    /// What is on record of credentials.
    fn told(&self) -> Vec<String> {
        let reader = Reader::open(&self.dir.path().join("store")).unwrap();
        let bodies = (0..self.journal.end()).map(|leaf| reader.record(leaf).unwrap().unwrap().event.body);
        bodies
            .filter_map(|body| match body {
                Body::Injected(Injected { target, credential, user }) => Some(format!("{target} {user} {credential}")),
                Body::Note(note) => Some(note.code),
                _ => None,
            })
            .collect()
    }

    fn secret(&self) -> std::path::PathBuf {
        self.dir.path().join("secret")
    }
}

const BY_ADDRESS: &str = "[target.db]\nmatch = { cidr = ['10.1.0.0/16'] }\nprotocol = 'postgres'\n\
                          credential = { user = 'crew_ro', secret = 'file:secret' }\n";

fn clear(lease: Result<Option<Lease>, LeaseError>) -> (String, Vec<u8>) {
    let lease = lease.unwrap().unwrap();
    assert!(!format!("{lease:?}").contains(SECRET));
    (lease.user().to_owned(), lease.secret().unwrap().expose().to_vec())
}

fn stored(store: &Path, needle: &str) -> bool {
    std::fs::read_dir(store).unwrap().map(|entry| entry.unwrap().path()).any(|path| {
        if path.is_dir() {
            return stored(&path, needle);
        }
        String::from_utf8_lossy(&std::fs::read(path).unwrap()).contains(needle)
    })
}

#[test]
fn a_lease_is_on_record_without_its_secret_and_rotation_takes_effect() {
    let lab = Lab::new(BY_ADDRESS);
    assert_eq!(clear(lab.lease(None, Channel::Clear)), ("crew_ro".to_owned(), SECRET.into()));
    std::fs::write(lab.secret(), "rotated").unwrap();
    assert_eq!(clear(lab.lease(None, Channel::Clear)).1, b"rotated");
    let told = format!("db crew_ro file:{}", lab.secret().display());
    assert_eq!(lab.told(), [told.clone(), told]);
    let store = lab.dir.path().join("store");
    assert!(stored(&store, "crew_ro"), "nothing was searched");
    assert!(!stored(&store, SECRET));
}

#[test]
fn what_is_not_proven_or_cannot_be_read_is_on_record_and_no_lease() {
    let by_name = BY_ADDRESS.replace("cidr = ['10.1.0.0/16']", "host = ['db.corp']");
    let lab = Lab::new(&by_name);
    for proof in [Proof::Claimed, Proof::Dns] {
        let refused = lab.lease(Some(("db.corp", proof)), Channel::Clear);
        assert!(matches!(refused, Err(LeaseError::Withheld(_))), "{refused:?}");
    }
    let proven = Channel::Tls { certificate: b"it", verified: true, authority: None };
    assert_eq!(clear(lab.lease(Some(("db.corp", Proof::Certificate)), proven)).1, SECRET.as_bytes());
    std::fs::set_permissions(lab.secret(), Permissions::from_mode(0o644)).unwrap();
    let refused = lab.lease(Some(("db.corp", Proof::Certificate)), proven);
    assert!(matches!(refused, Err(LeaseError::Vault(_))), "{refused:?}");
    let injected = format!("db crew_ro file:{}", lab.secret().display());
    let wanted = ["credential_withheld", "credential_withheld", injected.as_str(), "credential_unavailable"];
    assert_eq!(lab.told(), wanted);
}

#[test]
fn without_an_entry_or_a_credential_the_clients_own_log_in_passes() {
    let lab = Lab::new("");
    assert!(lab.lease(None, Channel::Clear).unwrap().is_none());
    let lab = Lab::new("[target.db]\nmatch = { host = ['db.corp'] }\nprotocol = 'postgres'\n");
    assert!(lab.lease(Some(("db.corp", Proof::Claimed)), Channel::Clear).unwrap().is_none());
    assert!(lab.told().is_empty());
    let lab = Lab::new(&BY_ADDRESS.replace(", secret = 'file:secret'", ""));
    assert!(lab.lease(None, Channel::Clear).unwrap().unwrap().secret().is_none());
    assert_eq!(lab.told(), ["db crew_ro none"]);
}

/// Makes a key as people do.
fn ssh_keygen(words: &[&str]) {
    let output = std::process::Command::new("ssh-keygen").args(words).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_private_key_is_leased_with_its_passphrase_and_certificate() {
    let entry = "[target.host]\nmatch = { cidr = ['10.1.0.0/16'], port = [5432] }\nprotocol = 'ssh'\n\
                 credential = { user = 'crew', key = 'file:id', passphrase = 'file:secret', certificate = 'id-cert.pub' }\n";
    let lab = Lab::new(entry);
    let path = |name: &str| lab.dir.path().join(name).to_str().unwrap().to_owned();
    ssh_keygen(&["-q", "-t", "ed25519", "-N", SECRET, "-f", &path("id")]);
    ssh_keygen(&["-q", "-t", "ed25519", "-N", "", "-f", &path("ca")]);
    ssh_keygen(&["-q", "-s", &path("ca"), "-I", "t", "-n", "crew", &path("id.pub")]);
    let lease = || {
        let target = Target { address: lab.session.origin().destination, name: None };
        let classified =
            Classified { protocol: "ssh".into(), driver: "ssh".into(), target, sni: None, alpn: Vec::new() };
        let permit = runtime().block_on(lab.session.ask_connect(&classified)).unwrap();
        let channel = Channel::Ssh { key: b"any", authority: None, verified: false };
        runtime().block_on(lab.session.lease(&permit, "ssh", channel)).unwrap().unwrap()
    };
    let leased = lease();
    assert!(leased.secret().is_none() && !format!("{leased:?}").contains(SECRET));
    let (key, certificate) = runtime().block_on(leased.key().unwrap().open()).unwrap();
    assert!(!key.is_encrypted());
    assert_eq!(certificate.unwrap().valid_principals(), ["crew"]);
    assert_eq!(lab.told(), [format!("host crew file:{}", path("id"))]);

    std::fs::write(lab.secret(), "wrong").unwrap();
    let said = runtime().block_on(lease().key().unwrap().open()).unwrap_err().to_string();
    assert!(said.contains(&path("id")) && said.contains("another `passphrase`") && !said.contains("wrong"), "{said}");
    std::fs::write(lab.secret(), SECRET).unwrap();
    ssh_keygen(&["-q", "-t", "ed25519", "-N", "", "-f", &path("other")]);
    ssh_keygen(&["-q", "-s", &path("ca"), "-I", "t", "-n", "crew", &path("other.pub")]);
    std::fs::copy(path("other-cert.pub"), path("id-cert.pub")).unwrap();
    let said = runtime().block_on(lease().key().unwrap().open()).unwrap_err().to_string();
    assert!(said.contains("is for another key"), "{said}");
    std::fs::write(path("id-cert.pub"), "damaged").unwrap();
    assert!(runtime().block_on(lease().key().unwrap().open()).unwrap_err().to_string().contains("cannot be read"));
}
