//! A company's certificate authority: root, intermediate, and the certificates that its servers show.

use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, Certificate, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use time::{Duration, OffsetDateTime};

type Authority = (Certificate, Issuer<'static, KeyPair>);

/// The authority, and a directory with the files that servers and clients read.
pub struct Pki {
    directory: PathBuf,
    root: Authority,
    intermediate: Authority,
}

/// What a server shows: certificate chain and key, in PEM.
#[derive(Clone)]
pub struct Shown {
    pub chain: PathBuf,
    pub key: PathBuf,
}

/// A certificate that is valid from two days ago for four days, for these names and addresses.
pub fn valid(names: &[&str]) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    let mut params = CertificateParams::new(names.clone()).unwrap();
    params.distinguished_name.push(DnType::CommonName, names[0].as_str());
    params.is_ca = IsCa::ExplicitNoCa;
    params.use_authority_key_identifier_extension = true;
    dated(&mut params, -2, 2);
    params
}

/// Valid from and until so many days from now.
pub fn dated(params: &mut CertificateParams, from: i64, until: i64) {
    params.not_before = OffsetDateTime::now_utc() + Duration::days(from);
    params.not_after = OffsetDateTime::now_utc() + Duration::days(until);
}

fn authority(name: &str, signed_by: Option<&Issuer<'static, KeyPair>>) -> Authority {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::OrganizationName, "Example Company");
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params.use_authority_key_identifier_extension = signed_by.is_some();
    let certificate = match signed_by {
        Some(issuer) => params.signed_by(&key, issuer).unwrap(),
        None => params.self_signed(&key).unwrap(),
    };
    (certificate, Issuer::new(params, key))
}

impl Pki {
    /// A new authority whose files are in `directory`.
    pub fn new(directory: PathBuf) -> Self {
        std::fs::create_dir_all(&directory).unwrap();
        let root = authority("Example Company root", None);
        let intermediate = authority("Example Company servers", Some(&root.1));
        let pki = Self { directory, root, intermediate };
        std::fs::write(pki.root_file(), pki.root.0.pem()).unwrap();
        pki
    }

    /// What servers of the company are verified with.
    pub fn root_file(&self) -> PathBuf {
        self.directory.join("root.pem")
    }

    /// The root as text, for programs that take it as such.
    pub fn root(&self) -> String {
        self.root.0.pem()
    }

    /// Signed by the intermediate, which is shown too.
    pub fn leaf(&self, params: &CertificateParams) -> Shown {
        let key = KeyPair::generate().unwrap();
        let leaf = params.signed_by(&key, &self.intermediate.1).unwrap();
        self.shown(&(leaf.pem() + &self.intermediate.0.pem()), &key)
    }

    /// Signed by the intermediate, which is kept back.
    pub fn leaf_alone(&self, params: &CertificateParams) -> Shown {
        let key = KeyPair::generate().unwrap();
        self.shown(&params.signed_by(&key, &self.intermediate.1).unwrap().pem(), &key)
    }

    /// Signed by nobody else.
    pub fn self_signed(&self, params: &CertificateParams) -> Shown {
        let key = KeyPair::generate().unwrap();
        self.shown(&params.self_signed(&key).unwrap().pem(), &key)
    }

    /// Signed by an authority that nobody knows.
    pub fn leaf_of_a_stranger(&self, params: &CertificateParams) -> Shown {
        let key = KeyPair::generate().unwrap();
        let stranger = authority("stranger", None);
        self.shown(&(params.signed_by(&key, &stranger.1).unwrap().pem() + &stranger.0.pem()), &key)
    }

    fn shown(&self, chain: &str, key: &KeyPair) -> Shown {
        let number = std::fs::read_dir(&self.directory).unwrap().count();
        let path = |name: &str| self.directory.join(format!("{number}.{name}"));
        let shown = Shown { chain: path("pem"), key: path("key") };
        std::fs::write(&shown.chain, chain).unwrap();
        std::fs::write(&shown.key, key.serialize_pem()).unwrap();
        shown
    }
}

/// SHA-256 of the first certificate of a file, as openssl tells it.
pub fn sha256(chain: &Path) -> String {
    let mut openssl = std::process::Command::new("openssl");
    let output = openssl.args(["x509", "-noout", "-fingerprint", "-sha256", "-in"]).arg(chain).output();
    let text = crewtap_tests::host::succeeded(&output.unwrap());
    text.trim().rsplit('=').next().unwrap().replace(':', "").to_lowercase()
}
