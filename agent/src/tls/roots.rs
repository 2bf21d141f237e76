//! The roots that a captured process would have trusted without us: the host's bundle, and files that it names itself.
//!
//! Owns reading them, and reading them again when they change. Never writes one, and never adds our own.

use std::collections::HashMap;
use std::fs::{self, Metadata, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use crewtap_core::limits;
use crewtap_core::wire::certificate;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, TrustAnchor};

use crate::clock;

/// Where distributions keep their bundle; the first that is there is taken.
pub const SYSTEM_BUNDLES: [&str; 6] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
    "/usr/local/share/certs/ca-root-nss.crt",
];

/// The roots that one certificate is judged by.
#[derive(Debug, Default)]
pub struct Anchors {
    roots: Vec<TrustAnchor<'static>>,
    /// The certificates themselves: a target may show one of them.
    certificates: Vec<CertificateDer<'static>>,
    skipped: usize,
}

impl Anchors {
    pub(super) fn as_slice(&self) -> &[TrustAnchor<'static>] {
        &self.roots
    }

    pub(super) fn contains(&self, certificate: &CertificateDer<'_>) -> bool {
        self.certificates.iter().any(|root| root.as_ref() == certificate.as_ref())
    }

    /// How many roots there are.
    pub fn len(&self) -> usize {
        self.roots.len()
    }

    /// There is none, so that nothing can be verified.
    pub fn is_empty(&self) -> bool {
        self.roots.is_empty()
    }

    /// Entries of the files that are no usable root: damaged, or expired.
    pub fn skipped(&self) -> usize {
        self.skipped
    }
}

/// Reads files of roots, and keeps them until they change.
#[derive(Debug)]
pub struct Roots {
    system: Vec<PathBuf>,
    kept: Mutex<HashMap<Vec<PathBuf>, Kept>>,
}

#[derive(Debug)]
struct Kept {
    versions: Vec<Option<Version>>,
    anchors: Arc<Anchors>,
    /// Second from which on one of them has expired.
    until: i64,
}

/// Tells whether a file is still the one that was read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Version {
    device: u64,
    inode: u64,
    modified: (i64, i64),
    changed: (i64, i64),
    len: u64,
}

impl From<&Metadata> for Version {
    fn from(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
            len: metadata.len(),
        }
    }
}

impl Default for Roots {
    fn default() -> Self {
        Self::system(SYSTEM_BUNDLES.map(PathBuf::from).to_vec())
    }
}

impl Roots {
    /// The host's bundle is the first of `paths` that is there.
    #[must_use]
    pub fn system(paths: Vec<PathBuf>) -> Self {
        Self { system: paths, kept: Mutex::default() }
    }

    /// The host's roots and those of `extra`, files that the process names: as they are now. A file that is not there
    /// adds nothing, as it would to the process itself.
    pub fn with(&self, extra: &[PathBuf]) -> Arc<Anchors> {
        let bundle = self.system.iter().find(|path| path.is_file());
        self.read(bundle.into_iter().chain(extra).cloned().collect())
    }

    /// The roots of `files` alone: for a process that names its bundle in place of the host's.
    pub fn only(&self, files: &[PathBuf]) -> Arc<Anchors> {
        self.read(files.to_vec())
    }

    fn read(&self, files: Vec<PathBuf>) -> Arc<Anchors> {
        let versions: Vec<_> = files.iter().map(|path| fs::metadata(path).ok().as_ref().map(Version::from)).collect();
        let now = i64::try_from(clock::now().wall_ns / 1_000_000_000).unwrap_or(i64::MAX);
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = kept.get(&files).filter(|kept| kept.versions == versions && now < kept.until) {
            return Arc::clone(&found.anchors);
        }
        let (anchors, until) = read_all(&files, now);
        let anchors = Arc::new(anchors);
        if kept.len() >= limits::ROOT_FILES_CACHED_MAX {
            // A host has a handful of combinations; where there are more, all are read again.
            kept.clear();
        }
        kept.insert(files, Kept { versions, anchors: Arc::clone(&anchors), until });
        anchors
    }
}

/// The usable roots of `files`, and the second at which the first of them expires.
fn read_all(files: &[PathBuf], now: i64) -> (Anchors, i64) {
    let (mut anchors, mut until) = (Anchors::default(), i64::MAX);
    for path in files {
        let text = match read_file(path) {
            Ok(text) => text,
            Err(error) => {
                tracing::debug!(path = %path.display(), %error, "a file of root certificates could not be read");
                continue;
            }
        };
        for certificate in CertificateDer::pem_slice_iter(&text) {
            let usable = certificate.ok().and_then(|certificate| {
                let not_after = certificate::read(&certificate)?.not_after;
                let anchor = webpki::anchor_from_trusted_cert(&certificate).ok()?.to_owned();
                (not_after >= now).then_some((certificate, anchor, not_after))
            });
            let Some((certificate, anchor, not_after)) = usable else {
                anchors.skipped += 1;
                continue;
            };
            until = until.min(not_after.saturating_add(1));
            anchors.roots.push(anchor);
            anchors.certificates.push(certificate);
        }
    }
    (anchors, until)
}

fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    // Without waiting: where a process names a pipe, nobody may be at its other end.
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is no file"));
    }
    file.take(limits::ROOT_FILE_BYTES_MAX).read_to_end(&mut text)?;
    Ok(text)
}
