//! Which directories of packages a Python interpreter will read, and which bundles of roots lie in them.
//!
//! Owns the layout of virtual environments, of distributions' Pythons and of conda. Only looks; never lays anything.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::execution::normal;

/// Links that are followed from the name of an interpreter to its binary.
const LINKS_MAX: usize = 16;

/// Packages of one directory that are looked into; the largest environments have 500.
const PACKAGES_MAX: usize = 4096;

/// Bytes of a `pyvenv.cfg` that are read.
const CONFIGURATION_BYTES_MAX: u64 = 16 * 1024;

/// Directories of packages of one environment: each costs a look at every execve of its interpreter.
const DIRECTORIES_MAX: usize = 64;

/// Entries of a `lib` that are looked at; Debian's has 200.
const LIB_ENTRIES_MAX: usize = 4096;

/// Bundles of one environment.
const BUNDLES_MAX: usize = 128;

/// Where packages keep a bundle, below their own directory.
const PLACES: [&str; 11] = [
    "cacert.pem",
    "cacerts.pem",
    "cacerts.txt",
    "roots.pem",
    "ca-bundle.crt",
    "ca-certificates.crt",
    "data/ca-certificates.crt",
    "_vendor/certifi/cacert.pem",
    "vendor/certifi/cacert.pem",
    "_vendor/requests/cacert.pem",
    "_cython/_credentials/roots.pem",
];

/// Bundles of a prefix itself: OpenSSL of conda.
const OF_PREFIX: [&str; 2] = ["ssl/cacert.pem", "ssl/cert.pem"];

/// What an interpreter stands in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Environment {
    /// Its prefix, links followed; what an installer is compared with.
    pub(super) prefix: PathBuf,
    /// Directories of packages.
    packages: Vec<PathBuf>,
    /// What changes when packages come and go.
    stamps: Vec<(PathBuf, Option<Stamp>)>,
}

/// The identity of a directory or file, and when its entries or bytes last changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Stamp {
    inode: u64,
    device: u64,
    changed: (i64, i64),
}

/// Of what is there when links are followed; none where nothing is.
pub(super) fn stamp(path: &Path) -> Option<Stamp> {
    let found = fs::metadata(path).ok()?;
    Some(Stamp { inode: found.ino(), device: found.dev(), changed: (found.mtime(), found.mtime_nsec()) })
}

/// Whether a program of this name is Python.
pub(super) fn is_python(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    name.starts_with("python") || name.starts_with("pypy")
}

impl Environment {
    /// Of an interpreter as it was named; `home` is the user's.
    pub(super) fn of(interpreter: &Path, home: Option<&Path>) -> Option<Self> {
        let (prefix, base) = prefixes(interpreter)?;
        let mut packages = Vec::new();
        let mut watched = vec![prefix.clone(), prefix.join("lib")];
        for prefix in [Some(&prefix), base.as_ref()].into_iter().flatten() {
            directories_of(prefix, &mut packages, &mut watched);
        }
        if let Some(home) = home {
            let lib = home.join(".local/lib");
            versions(&lib, &mut packages);
            watched.push(lib);
        }
        watched.extend(packages.iter().cloned());
        let stamps = watched.into_iter().map(|path| (stamp(&path), path)).map(|(stamp, path)| (path, stamp)).collect();
        Some(Self { prefix: fs::canonicalize(&prefix).unwrap_or(prefix), packages, stamps })
    }

    /// Whether no package has come or gone since.
    pub(super) fn is_current(&self) -> bool {
        self.stamps.iter().all(|(path, before)| stamp(path) == *before)
    }

    /// Every bundle in it that there is, by its name; links are not followed.
    pub(super) fn bundles(&self) -> Vec<PathBuf> {
        let mut found: Vec<PathBuf> = OF_PREFIX.iter().map(|name| self.prefix.join(name)).filter(is_there).collect();
        for directory in &self.packages {
            let Ok(entries) = fs::read_dir(directory) else { continue };
            for entry in entries.map_while(Result::ok).take(PACKAGES_MAX) {
                // Metadata and single modules hold no bundle.
                let name = entry.file_name();
                if name.as_encoded_bytes().ends_with(b"-info") || name.as_encoded_bytes().ends_with(b".py") {
                    continue;
                }
                let package = entry.path();
                found.extend(PLACES.iter().map(|place| package.join(place)).filter(is_there));
            }
        }
        found.truncate(BUNDLES_MAX);
        found
    }
}

fn is_there(path: &PathBuf) -> bool {
    fs::symlink_metadata(path).is_ok_and(|found| !found.is_dir())
}

/// The prefix that an interpreter finds for itself, and that of its base where it shares packages: as `getpath` does,
/// the links of the name are followed until there is a `pyvenv.cfg`.
fn prefixes(interpreter: &Path) -> Option<(PathBuf, Option<PathBuf>)> {
    let mut path = interpreter.to_path_buf();
    for _ in 0..LINKS_MAX {
        let directory = path.parent()?.to_path_buf();
        let above = directory.parent().unwrap_or(&directory).to_path_buf();
        for prefix in [&above, &directory] {
            if let Some(configuration) = configuration(&prefix.join("pyvenv.cfg")) {
                return Some((prefix.clone(), shared_base(&configuration)));
            }
        }
        match fs::read_link(&path) {
            Ok(target) => path = normal(&directory.join(target)),
            Err(_) => return Some((above, None)),
        }
    }
    None
}

fn configuration(path: &Path) -> Option<String> {
    use std::io::Read as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    if !fs::metadata(path).ok()?.is_file() {
        return None;
    }
    let file = fs::File::options().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path).ok()?;
    let mut text = String::new();
    file.take(CONFIGURATION_BYTES_MAX).read_to_string(&mut text).ok()?;
    Some(text)
}

fn shared_base(configuration: &str) -> Option<PathBuf> {
    let value = |key: &str| {
        let line = configuration.lines().find_map(|line| line.split_once('=').filter(|(name, _)| name.trim() == key));
        line.map(|(_, value)| value.trim())
    };
    if !value("include-system-site-packages")?.eq_ignore_ascii_case("true") {
        return None;
    }
    Some(Path::new(value("home")?).parent()?.to_path_buf())
}

/// Directories of packages below a prefix; Debian has its own.
fn directories_of(prefix: &Path, packages: &mut Vec<PathBuf>, watched: &mut Vec<PathBuf>) {
    let mut roots = vec![prefix.join("lib")];
    if fs::symlink_metadata(prefix.join("lib64")).is_ok_and(|found| found.is_dir()) {
        roots.push(prefix.join("lib64"));
    }
    if prefix == Path::new("/usr") || prefix == Path::new("/") {
        roots.extend(["/usr/lib", "/usr/local/lib"].map(PathBuf::from));
    }
    roots.dedup();
    for root in roots {
        versions(&root, packages);
        watched.push(root);
    }
}

fn versions(lib: &Path, packages: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(lib) else { return };
    let entries = entries.map_while(Result::ok).take(LIB_ENTRIES_MAX);
    for entry in entries.filter(|entry| is_python(&entry.path())) {
        if packages.len() >= DIRECTORIES_MAX {
            return;
        }
        for name in ["site-packages", "dist-packages"] {
            let directory = entry.path().join(name);
            if directory.is_dir() && !packages.contains(&directory) {
                packages.push(directory);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// `base/bin/python3.11`, and `venv` with a link to it.
    fn made(share: &str) -> (tempfile::TempDir, PathBuf, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().canonicalize().unwrap();
        let (base, venv) = (root.join("base"), root.join("venv"));
        for prefix in [&base, &venv] {
            fs::create_dir_all(prefix.join("bin")).unwrap();
            let package = prefix.join("lib/python3.11/site-packages/certifi");
            fs::create_dir_all(&package).unwrap();
            fs::write(package.join("cacert.pem"), "x").unwrap();
        }
        fs::write(base.join("bin/python3.11"), "").unwrap();
        symlink(base.join("bin/python3.11"), venv.join("bin/python")).unwrap();
        let home = format!("home = {}/bin\ninclude-system-site-packages = {share}\n", base.display());
        fs::write(venv.join("pyvenv.cfg"), home).unwrap();
        (directory, base, venv)
    }

    #[test]
    fn a_virtual_environment_is_found_by_the_name_that_was_executed() {
        let (_kept, base, venv) = made("false");
        let of = |name: &Path| Environment::of(name, None).unwrap();
        assert_eq!(of(&venv.join("bin/python")).prefix, venv);
        assert_eq!(
            of(&venv.join("bin/python")).bundles(),
            [venv.join("lib/python3.11/site-packages/certifi/cacert.pem")]
        );
        assert_eq!(of(&base.join("bin/python3.11")).prefix, base);
        let elsewhere = base.join("bin/crew-python");
        symlink(venv.join("bin/python"), &elsewhere).unwrap();
        assert_eq!(of(&elsewhere).prefix, venv);
    }

    #[test]
    fn an_environment_that_shares_the_bases_packages_has_its_bundles_too() {
        let (_kept, base, venv) = made("true");
        let environment = Environment::of(&venv.join("bin/python"), Some(&base)).unwrap();
        assert_eq!(environment.bundles().len(), 2);
    }

    #[test]
    fn a_home_full_of_versions_costs_no_more_than_an_ordinary_one() {
        let (_kept, base, venv) = made("false");
        for number in 0..DIRECTORIES_MAX * 2 {
            fs::create_dir_all(base.join(format!(".local/lib/python{number}/site-packages"))).unwrap();
        }
        let environment = Environment::of(&venv.join("bin/python"), Some(&base)).unwrap();
        assert!(environment.packages.len() <= DIRECTORIES_MAX + 1, "{}", environment.packages.len());
        assert!(environment.packages.iter().any(|path| path.starts_with(&venv)), "its own come first");
    }

    #[test]
    fn a_package_that_comes_is_noticed() {
        let (_kept, _, venv) = made("false");
        let environment = Environment::of(&venv.join("bin/python"), None).unwrap();
        assert!(environment.is_current());
        fs::create_dir(venv.join("lib/python3.11/site-packages/grpc")).unwrap();
        assert!(!environment.is_current());
    }
}
