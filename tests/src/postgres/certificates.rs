//! A company's certificate authority, made by openssl in a directory of the test: certificates for PostgreSQL servers,
//! and for the clients that log in with one. Never leaves that directory.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::host::succeeded;

/// The authority.
pub struct Certificates {
    directory: PathBuf,
}

/// A certificate and its key, in PEM.
#[derive(Clone, Debug)]
pub struct Shown {
    /// The certificate.
    pub chain: PathBuf,
    /// Its key, without a passphrase.
    pub key: PathBuf,
}

impl Certificates {
    /// A new authority whose files are in `directory`.
    #[must_use]
    pub fn new(directory: &Path) -> Self {
        fs::create_dir_all(directory).unwrap();
        let certificates = Self { directory: directory.to_owned() };
        certificates.openssl(
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -keyout ca.key -out ca.pem \
             -subj /CN=postgres-test-root -addext keyUsage=critical,keyCertSign,cRLSign",
        );
        certificates
    }

    /// The authority's own certificate: what `sslrootcert` and `ca` name.
    #[must_use]
    pub fn root(&self) -> PathBuf {
        self.directory.join("ca.pem")
    }

    /// A server's certificate for this name, `localhost` and 127.0.0.1, signed with this digest (`sha256`, `sha384`,
    /// `sha512`, `sha1`).
    #[must_use]
    pub fn leaf(&self, name: &str, digest: &str) -> Shown {
        self.issue(
            name,
            digest,
            &format!("subjectAltName=DNS:{name},DNS:localhost,IP:127.0.0.1\nextendedKeyUsage=serverAuth\n"),
        )
    }

    /// A certificate that a client logs in with as this user.
    #[must_use]
    pub fn client(&self, user: &str) -> Shown {
        self.issue(user, "sha256", "extendedKeyUsage=clientAuth\n")
    }

    fn issue(&self, name: &str, digest: &str, extensions: &str) -> Shown {
        let stem = format!("{name}.{}", fs::read_dir(&self.directory).unwrap().count());
        fs::write(self.directory.join(format!("{stem}.ext")), extensions).unwrap();
        self.openssl(&format!(
            "req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN={name} -keyout {stem}.key -out {stem}.csr"
        ));
        self.openssl(&format!(
            "x509 -req -days 30 -{digest} -CA ca.pem -CAkey ca.key -CAcreateserial -in {stem}.csr -extfile {stem}.ext \
             -out {stem}.pem"
        ));
        Shown { chain: self.directory.join(format!("{stem}.pem")), key: self.directory.join(format!("{stem}.key")) }
    }

    fn openssl(&self, arguments: &str) {
        let mut openssl = Command::new("openssl");
        let _ = succeeded(&openssl.args(arguments.split_whitespace()).current_dir(&self.directory).output().unwrap());
    }
}
