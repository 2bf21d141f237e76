//! The company's CA, and the servers' certificates. Made anew for each world, and gone with it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::NAMES;
use super::paths::must;

/// A CA that lives as long as the world.
#[derive(Debug)]
pub(super) struct Trust {
    directory: PathBuf,
}

impl Trust {
    pub(super) fn make(directory: &Path) -> Result<Self> {
        fs::create_dir(directory)?;
        let trust = Self { directory: directory.to_owned() };
        must(
            openssl(directory)
                .args("req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30".split(' '))
                .args(["-subj", "/O=Example Company/CN=Example Company Root CA", "-keyout", "ca.key", "-out", "ca.pem"])
                .args(["-addext", "keyUsage=critical,keyCertSign,cRLSign"]),
        )?;
        for (name, _) in NAMES {
            trust.issue(name)?;
        }
        Ok(trust)
    }

    /// The CA's certificate.
    pub(super) fn ca(&self) -> PathBuf {
        self.directory.join("ca.pem")
    }

    /// A server's certificate and key.
    pub(super) fn certificate(&self, name: &str) -> (PathBuf, PathBuf) {
        (self.directory.join(format!("{name}.pem")), self.directory.join(format!("{name}.key")))
    }

    fn issue(&self, name: &str) -> Result<()> {
        let (certificate, key) = self.certificate(name);
        let extensions = self.directory.join(format!("{name}.ext"));
        fs::write(&extensions, format!("subjectAltName=DNS:{name}\nextendedKeyUsage=serverAuth\n"))?;
        let request = must(
            openssl(&self.directory)
                .args("req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes".split(' '))
                .args(["-subj", &format!("/CN={name}"), "-keyout"])
                .arg(key),
        )?;
        let request_file = self.directory.join(format!("{name}.csr"));
        fs::write(&request_file, request)?;
        must(
            openssl(&self.directory)
                .args("x509 -req -days 30 -CA ca.pem -CAkey ca.key -CAcreateserial -in".split(' '))
                .arg(request_file)
                .arg("-extfile")
                .arg(extensions)
                .arg("-out")
                .arg(certificate),
        )?;
        Ok(())
    }

    /// Writes `bundle` plus our CA to a file of its own, as a company adds its CA to what was there.
    pub(super) fn add_to(&self, bundle: &Path, merged: &Path) -> Result<()> {
        let mut roots = fs::read(bundle).with_context(|| format!("cannot read {}", bundle.display()))?;
        roots.push(b'\n');
        roots.extend(fs::read(self.ca())?);
        fs::write(merged, roots).with_context(|| format!("cannot write {}", merged.display()))
    }
}

fn openssl(directory: &Path) -> Command {
    let mut command = Command::new("openssl");
    command.current_dir(directory);
    command
}
