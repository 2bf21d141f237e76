//! What every process of a run may look at, whatever it is: the system's bundles, OpenSSL's directories, Java's trust
//! store, the user's root of PostgreSQL.
//!
//! Knows where distributions keep them. Never makes a path that is not there.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use super::Authority;
use super::certificate;
use super::ground::{Ground, LayError, Place, has, make_directory, make_link, write_file};
use super::keystore;
use super::known_hosts;

/// Directories that OpenSSL looks into by hash, `GnuTLS` and Go by reading all; most are links to one another.
const DIRECTORIES: [&str; 8] = [
    "/etc/ssl/certs",
    "/usr/lib/ssl/certs",
    "/usr/local/ssl/certs",
    "/etc/pki/tls/certs",
    "/etc/openssl/certs",
    "/etc/ca-certificates/extracted/cadir",
    "/var/lib/ca-certificates/openssl",
    "/usr/local/etc/openssl@3/certs",
];

/// Bundles, in the order in which programs look for them.
const BUNDLES: [&str; 16] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/ssl/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
    "/etc/ssl/ca-bundle.pem",
    "/usr/lib/ssl/cert.pem",
    "/usr/local/ssl/cert.pem",
    "/usr/local/etc/openssl@3/cert.pem",
    "/etc/pki/tls/cert.pem",
    "/etc/pki/tls/cacert.pem",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/pki/tls/certs/ca-bundle.trust.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/pki/ca-trust/extracted/openssl/ca-bundle.trust.crt",
    "/etc/ca-certificates/extracted/tls-ca-bundle.pem",
    "/var/lib/ca-certificates/ca-bundle.pem",
    "/usr/share/ssl/certs/ca-bundle.crt",
];

/// Java's trust stores outside of a JDK; one in a JDK is found when its `java` is executed.
const KEYSTORES: [&str; 3] = [
    "/etc/ssl/certs/java/cacerts",
    "/etc/pki/ca-trust/extracted/java/cacerts",
    "/var/lib/ca-certificates/java-cacerts",
];

/// Names of bundles inside of the directories.
const BUNDLE_NAMES: [&str; 6] =
    ["ca-certificates.crt", "ca-bundle.crt", "ca-bundle.trust.crt", "ca-bundle.pem", "tls-ca-bundle.pem", "cert.pem"];

/// Name of the file with our certificate alone in a directory that was laid.
const OWN_NAME: &str = "crewtap.pem";

/// Entries of one directory of certificates that are copied; Debian has 300.
const ENTRIES_MAX: usize = 8192;

/// Directories in directories that are copied; Debian has `java` one level down.
const DEPTH_MAX: usize = 3;

/// What the base has come to.
#[derive(Debug, Default)]
pub(super) struct Base {
    /// A file with our certificate alone, as the run sees it.
    pub(super) own_file: Option<PathBuf>,
    /// At least one of the system's directories or bundles is laid.
    pub(super) has_roots: bool,
    /// What could not be laid, and why.
    pub(super) failed: Vec<String>,
}

/// Lays everything that is there.
pub(super) fn lay(ground: &mut Ground, authority: &Authority, home: Option<&Path>) -> Base {
    let mut base = Base::default();
    for path in DIRECTORIES.map(Path::new) {
        match lay_directory(ground, authority, path) {
            Ok(real) => {
                base.own_file.get_or_insert(real.join(OWN_NAME));
                base.has_roots = true;
            }
            Err(LayError::Missing) => {}
            Err(error) => base.failed.push(format!("{}: {error}", path.display())),
        }
    }
    let root_of_user = home.map(|home| home.join(".postgresql/root.crt"));
    for path in BUNDLES.map(Path::new) {
        let laid = lay_bundle(ground, authority, path);
        base.has_roots |= laid.is_ok();
        base.note(path, laid);
    }
    if let Some(path) = root_of_user {
        base.note(&path, lay_bundle(ground, authority, &path));
    }
    if let Some(ssh) = &authority.ssh {
        known_hosts::lay_of_host(ground, ssh, &mut base.failed);
        for path in home.iter().flat_map(|home| known_hosts::of_home(home)) {
            base.note(&path, known_hosts::lay_of_user(ground, ssh, &path, None));
        }
    }
    for path in KEYSTORES.map(Path::new) {
        base.note(path, lay_keystore(ground, authority, path));
    }
    if base.own_file.is_none() {
        base.failed.push("there is no directory of certificates: install the package ca-certificates".into());
    }
    base
}

impl Base {
    fn note(&mut self, path: &Path, laid: Result<PathBuf, LayError>) {
        match laid {
            Ok(_) | Err(LayError::Missing) => {}
            Err(error) => self.failed.push(format!("{}: {error}", path.display())),
        }
    }
}

/// Lays a bundle with our certificate over the one at `path`; where it is when all links are followed.
pub(super) fn lay_bundle(ground: &mut Ground, authority: &Authority, path: &Path) -> Result<PathBuf, LayError> {
    let place = Ground::find(path)?;
    ground.lay_file(&place, |content| bundle_with(content, authority))?;
    ground.remember(&place);
    Ok(place.path)
}

fn bundle_with(content: Vec<u8>, authority: &Authority) -> Result<Vec<u8>, LayError> {
    if !certificate::has_pem(&content) {
        return Err(LayError::Unfit("no text with certificates"));
    }
    Ok(certificate::with(content, &authority.pem))
}

/// Lays a Java trust store with our certificate over the one at `path`; where it is when all links are followed.
pub(super) fn lay_keystore(ground: &mut Ground, authority: &Authority, path: &Path) -> Result<PathBuf, LayError> {
    let place = Ground::find(path)?;
    ground.lay_file(&place, |content| Ok(keystore::with(&content, &authority.der)?))?;
    Ok(place.path)
}

/// Lays a copy of a directory of certificates over it, with ours filed under its hash and the bundles in it longer by
/// ours; where it is when all links are followed.
pub(super) fn lay_directory(ground: &mut Ground, authority: &Authority, path: &Path) -> Result<PathBuf, LayError> {
    let place = Ground::find(path)?;
    if ground.is_laid(&place.found) {
        return Ok(place.path);
    }
    if !place.found.is_dir() {
        return Err(LayError::Unfit("no directory"));
    }
    let (name, directory) = ground.make_directory(&place)?;
    let laid = copy(authority, &place, directory.as_fd(), DEPTH_MAX)
        .and_then(|()| file_own(authority, &place, directory.as_fd()))
        .and_then(|()| ground.attach(&name, &place));
    if laid.is_err() {
        ground.discard(&name);
    }
    laid.map(|()| place.path)
}

/// As [`lay_directory`], for a directory that a command names: only one that is filed by hash, so that nobody has all of
/// `/usr` copied.
pub(super) fn lay_hashed_directory(
    ground: &mut Ground,
    authority: &Authority,
    path: &Path,
) -> Result<PathBuf, LayError> {
    let place = Ground::find(path)?;
    if !ground.is_laid(&place.found) && !Ground::entries(&place, ENTRIES_MAX)?.iter().any(|entry| is_hash(&entry.name))
    {
        return Err(LayError::Unfit("no directory of certificates that are filed by hash"));
    }
    lay_directory(ground, authority, path)
}

/// `0a1b2c3d.0`.
fn is_hash(name: &str) -> bool {
    let is = |hash: &str| hash.len() == 8 && hash.chars().all(|letter| letter.is_ascii_hexdigit());
    name.split_once('.').is_some_and(|(hash, number)| is(hash) && number.chars().all(|digit| digit.is_ascii_digit()))
}

fn copy(authority: &Authority, from: &Place, into: BorrowedFd<'_>, depth: usize) -> Result<(), LayError> {
    for entry in Ground::entries(from, ENTRIES_MAX)? {
        let kind = entry.place.found.file_type();
        if kind.is_symlink() {
            make_link(into, &entry.name, &entry.place.link()?)?;
        } else if kind.is_dir() && depth > 0 {
            let directory = make_directory(into, &entry.name, &entry.place.found)?;
            copy(authority, &entry.place, directory.as_fd(), depth - 1)?;
        } else if kind.is_file() {
            let content = copied(authority, &entry.name, Ground::read(&entry.place)?);
            write_file(into, &entry.name, &content, &entry.place.found)?;
        }
    }
    Ok(())
}

/// A file as it is in the copy of its directory; what cannot be made longer stays as it is.
fn copied(authority: &Authority, name: &str, content: Vec<u8>) -> Vec<u8> {
    if BUNDLE_NAMES.contains(&name) && certificate::has_pem(&content) {
        return certificate::with(content, &authority.pem);
    }
    match name {
        "cacerts" | "java-cacerts" => keystore::with(&content, &authority.der).unwrap_or(content),
        _ => content,
    }
}

/// Files our certificate under its own name and, as `c_rehash` does, under the first free number of its hash.
fn file_own(authority: &Authority, like: &Place, directory: BorrowedFd<'_>) -> Result<(), LayError> {
    write_file(directory, OWN_NAME, &authority.pem, &like.found)?;
    let free = (0..ENTRIES_MAX).map(|number| format!("{}.{number}", authority.hash));
    match free.into_iter().find(|name| !has(directory, name)) {
        Some(name) => make_link(directory, &name, Path::new(OWN_NAME)),
        None => Err(LayError::Unfit("a directory full of certificates of the same name")),
    }
}
