//! The users of the world: the one that crews run as, and the one that they log in as over SSH. They exist in the world's
//! own copies of the account files and nowhere else.

use std::fmt::Write;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::paths::must;

/// An ordinary user number that no distribution gives away.
const CREW_UID: u32 = 60_007;
const DEPLOY_UID: u32 = 60_008;

/// Who crews run as.
#[derive(Debug, Clone)]
pub struct CrewUser {
    /// The login name.
    pub name: String,
    /// The user's number.
    pub uid: u32,
    /// The primary group's number.
    pub gid: u32,
}

impl CrewUser {
    /// A user of the world's own where everybody may enter the project; else the owner of the project, who may.
    pub(super) fn choose(project: &Path) -> Result<Self> {
        let interpreter = fs::canonicalize(project.join(".venv/bin/python")).context("the project has no Python")?;
        if is_open_to_all(project) && is_open_to_all(&interpreter) {
            return Ok(Self { name: "crew".to_owned(), uid: CREW_UID, gid: CREW_UID });
        }
        let owner = fs::metadata(project)?;
        let name = if owner.uid() == 0 { "root" } else { "crew" };
        Ok(Self { name: name.to_owned(), uid: owner.uid(), gid: owner.gid() })
    }
}

fn is_open_to_all(path: &Path) -> bool {
    path.ancestors().all(|part| fs::metadata(part).is_ok_and(|found| found.permissions().mode() & 0o001 != 0))
}

/// SSH keys: the server's own, and the one that the crew's user logs in with.
#[derive(Debug)]
pub(super) struct Keys {
    /// The server's private host key.
    pub(super) host: PathBuf,
    /// The public keys that may log in.
    pub(super) authorized: PathBuf,
}

/// Writes account files, home directories and SSH keys below `directory`.
pub(super) fn write(directory: &Path, crew: &CrewUser) -> Result<Keys> {
    let etc = directory.join("etc");
    fs::create_dir(&etc)?;
    let home = directory.join("home");
    let deploy_home = directory.join("deploy");
    write_accounts(&etc, crew, &home, &deploy_home)?;

    let keys = Keys { host: directory.join("ssh_host_key"), authorized: etc.join("authorized_keys") };
    let ssh = home.join(".ssh");
    fs::create_dir_all(&ssh)?;
    make_key(&keys.host)?;
    make_key(&ssh.join("id_ed25519"))?;
    fs::copy(ssh.join("id_ed25519.pub"), &keys.authorized)?;
    let host_key = fs::read_to_string(keys.host.with_extension("pub"))?;
    fs::write(ssh.join("known_hosts"), format!("ssh.internal {host_key}"))?;
    fs::create_dir(&deploy_home)?;
    chown(&deploy_home, Some(DEPLOY_UID), Some(DEPLOY_UID))?;
    fs::set_permissions(&ssh, fs::Permissions::from_mode(0o700))?;
    must(Command::new("chown").arg("-R").arg(format!("{}:{}", crew.uid, crew.gid)).arg(&home))?;
    fs::create_dir(directory.join("root"))?;
    Ok(keys)
}

fn make_key(path: &Path) -> Result<()> {
    must(Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-C", "demo", "-f"]).arg(path)).map(drop)
}

/// Copies of the host's files, with our users at the top, so that they win.
fn write_accounts(etc: &Path, crew: &CrewUser, home: &Path, deploy_home: &Path) -> Result<()> {
    let deploy = CrewUser { name: "deploy".to_owned(), uid: DEPLOY_UID, gid: DEPLOY_UID };
    let (mut passwd, mut group, mut shadow) = (String::new(), String::new(), String::new());
    for (user, home) in [(crew, home), (&deploy, deploy_home)].into_iter().filter(|(user, _)| user.uid != 0) {
        let CrewUser { name, uid, gid } = user;
        writeln!(passwd, "{name}:x:{uid}:{gid}::{}:/bin/bash", home.display())?;
        writeln!(group, "{name}:x:{gid}:")?;
        writeln!(shadow, "{name}:*:20000:0:99999:7:::")?;
    }
    for (file, ours, mode) in [("passwd", passwd, 0o644), ("group", group, 0o644), ("shadow", shadow, 0o640)] {
        let path = etc.join(file);
        let theirs =
            fs::read_to_string(Path::new("/etc").join(file)).with_context(|| format!("cannot read /etc/{file}"))?;
        fs::write(&path, ours + &theirs)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
    }
    let sudoers = etc.join("sudoers");
    fs::write(
        &sudoers,
        "Defaults env_reset\n\
         Defaults secure_path=\"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\"\n\
         root ALL=(ALL:ALL) ALL\n\
         crew ALL=(ALL:ALL) NOPASSWD: ALL\n",
    )?;
    fs::set_permissions(&sudoers, fs::Permissions::from_mode(0o440))?;
    Ok(())
}
