//! The world's own view of the file system: bind mounts over single files, in a mount namespace that ends with it.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use nix::mount::{MsFlags, mount};

use super::RESOLVERS;
use super::trust::Trust;

const NOTHING: Option<&str> = None;

/// Cuts the namespace off from the host's: what is mounted here is not seen there.
pub(super) fn make_private() -> Result<()> {
    mount(NOTHING, "/", NOTHING, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NOTHING).context("cannot make mounts private")
}

/// Lays the world's names and users over the host's.
pub(super) fn cover(directory: &Path) -> Result<()> {
    let etc = directory.join("etc");
    let host = nix::unistd::gethostname().context("cannot read the host's name")?;
    let host = host.to_string_lossy();
    let resolver = RESOLVERS.first().context("the world has no name server")?;
    fs::write(etc.join("resolv.conf"), format!("nameserver {resolver}\noptions timeout:2 attempts:2\n"))?;
    fs::write(etc.join("hosts"), format!("127.0.0.1 localhost {host}\n::1 localhost ip6-localhost\n"))?;
    fs::write(etc.join("nsswitch.conf"), "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\n")?;

    // Resolved before /run is covered: a link into /run leads to nothing afterwards.
    let targets = ["resolv.conf", "hosts", "nsswitch.conf", "passwd", "group", "shadow", "sudoers"]
        .map(|file| (etc.join(file), follow(&Path::new("/etc").join(file))));
    cover_run()?;
    for (file, target) in targets {
        if target.starts_with("/run") && !target.exists() {
            fs::create_dir_all(target.parent().unwrap_or(Path::new("/run")))?;
            fs::write(&target, "")?;
        }
        bind(&file, &target)?;
    }
    Ok(())
}

/// Adds the company's CA to the roots that its administrator would add it to.
pub(super) fn add_roots(directory: &Path, trust: &Trust, project: &Path) -> Result<()> {
    let etc = directory.join("etc");
    for (number, bundle) in trust_bundles(project).into_iter().enumerate() {
        let merged = etc.join(format!("roots-{number}.pem"));
        trust.add_to(&bundle, &merged)?;
        bind(&merged, &bundle)?;
    }
    Ok(())
}

/// Sockets of the host's resolver, name-service cache and log are not part of an isolated world.
fn cover_run() -> Result<()> {
    mount(Some("tmpfs"), "/run", Some("tmpfs"), MsFlags::MS_NOSUID | MsFlags::MS_NODEV, Some("mode=755"))
        .context("cannot cover /run")?;
    // sshd separates its privileges there.
    fs::create_dir("/run/sshd")?;
    Ok(())
}

fn bind(file: &Path, target: &Path) -> Result<()> {
    mount(Some(file), target, NOTHING, MsFlags::MS_BIND, NOTHING)
        .with_context(|| format!("cannot lay {} over {}", file.display(), target.display()))
}

fn follow(path: &Path) -> PathBuf {
    let Ok(link) = fs::read_link(path) else { return path.to_owned() };
    follow(&path.parent().unwrap_or(Path::new("/")).join(link))
}

/// The roots that a company's administrator would add the CA to: the system's and those of the project's environment.
fn trust_bundles(project: &Path) -> Vec<PathBuf> {
    let libraries = fs::read_dir(project.join(".venv/lib")).into_iter().flatten().filter_map(Result::ok);
    let python = libraries.map(|library| library.path().join("site-packages/certifi/cacert.pem"));
    let system = fs::canonicalize("/etc/ssl/certs/ca-certificates.crt").into_iter();
    python.chain(system).filter(|bundle| bundle.is_file()).collect()
}
