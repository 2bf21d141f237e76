//! The programs of the SSH bench: a real sshd, ssh-mitm in front of it, and how clients are called.
//!
//! Owns their files and the files that are moved. sshd sees a password of its own for root, by a mount that nobody else sees.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use crewtap_tests::world::cache_dir;

use super::{Arm, borrowed};
use crate::bench::Place;
use crate::shell::{loudly, quietly};

const SSHD: u16 = 7840;
const MITM: u16 = 7841;

/// The newest with which OpenSSH 9.2 can exchange keys: 6.0.1 breaks off at its `EXT_INFO`.
const MITM_PACKAGE: &str = "ssh-mitm==5.0.1";

/// What ssh-mitm passes on: it cannot log in with a key that only the client has.
const PASSWORD: &str = "bench";

/// See the module.
pub(super) struct Peers {
    directory: PathBuf,
    /// Where the disk takes no part.
    memory: PathBuf,
    pub(super) mitm: Option<u32>,
}

impl Peers {
    /// Starts both.
    pub(super) fn start(place: &mut Place, mebibytes: u64) -> Result<Self> {
        let directory = std::env::temp_dir().join(format!("{}-ssh", place.name));
        let memory = Path::new("/dev/shm").join(&place.name);
        let mut peers = Self { directory, memory, mitm: None };
        for directory in [&peers.directory, &peers.memory] {
            fs::create_dir_all(directory)?;
            fs::set_permissions(directory, fs::Permissions::from_mode(0o700))?;
        }
        fs::write(peers.script(), include_str!("../ssh.py"))?;
        let ask = peers.path("ask");
        fs::write(&ask, format!("#!/bin/sh\necho {PASSWORD}\n"))?;
        fs::set_permissions(&ask, fs::Permissions::from_mode(0o755))?;
        for key in ["host", "user"] {
            quietly(Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f", &peers.path(key)]))?;
        }
        for size in [mebibytes, super::MITM_MIB] {
            noise(Path::new(&peers.file(size)), size)?;
        }
        peers.sshd(place)?;
        peers.mitm = peers.start_mitm(place)?;
        Ok(peers)
    }

    fn path(&self, name: &str) -> String {
        self.directory.join(name).display().to_string()
    }

    /// `ssh.py`.
    pub(super) fn script(&self) -> String {
        self.path("ssh.py")
    }

    /// Of a connection that stays.
    pub(super) fn socket(&self) -> String {
        self.path("master")
    }

    /// What is moved.
    pub(super) fn file(&self, mebibytes: u64) -> String {
        self.memory.join(format!("{mebibytes}-mib")).display().to_string()
    }

    /// Where it goes.
    pub(super) fn out(&self) -> String {
        self.memory.join("out").display().to_string()
    }

    fn sshd(&self, place: &mut Place) -> Result<()> {
        fs::create_dir_all("/run/sshd")?;
        let hash = quietly(Command::new("openssl").args(["passwd", "-6", PASSWORD]))?;
        let shadow = self.path("shadow");
        fs::write(&shadow, format!("root:{}:20000::::::\nsshd:!:20000::::::\n", hash.trim()))?;
        fs::set_permissions(&shadow, fs::Permissions::from_mode(0o600))?;
        let own = "mount --bind \"$1\" /etc/shadow && shift && exec \"$@\"";
        let (listen, keys) =
            (format!("ListenAddress=127.0.0.1:{SSHD}"), format!("AuthorizedKeysFile={}", self.path("user.pub")));
        let key = self.path("host");
        let mut words =
            vec!["unshare", "-m", "sh", "-c", own, "sh", &shadow, "/usr/sbin/sshd", "-D", "-f", "/dev/null"];
        for option in [
            &listen,
            &keys,
            "PidFile=none",
            "UsePAM=no",
            "StrictModes=no",
            "PermitRootLogin=yes",
            "LogLevel=ERROR",
            "MaxSessions=300",
            "MaxStartups=1000",
            "Subsystem=sftp internal-sftp",
        ] {
            words.extend(["-o", option]);
        }
        words.extend(["-h", &key]);
        let child =
            place.inside(&words).stdout(Stdio::null()).stderr(Stdio::null()).spawn().context("cannot start sshd")?;
        place.children.push(child);
        self.answers(place, Arm::Direct)
    }

    fn start_mitm(&self, place: &mut Place) -> Result<Option<u32>> {
        let Some(program) = install() else { return Ok(None) };
        let (port, target, logs) = (MITM.to_string(), SSHD.to_string(), self.path("mitm"));
        let from = ["--listen-address", "127.0.0.1", "--listen-port", &port];
        let to = ["--remote-host", "127.0.0.1", "--remote-port", &target];
        let records = ["--session-log-dir", &logs, "--store-ssh-session", "--store-sftp-files", "--store-command-data"];
        let words = [&[program.as_str(), "server"][..], &from, &to, &records].concat();
        let mut command = place.inside(&words);
        command.env("HOME", &self.directory).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().context("cannot start ssh-mitm")?;
        let pid = child.id();
        place.children.push(child);
        self.answers(place, Arm::Mitm)?;
        Ok(Some(pid))
    }

    /// Waits until somebody answers at an arm's port.
    fn answers(&self, place: &Place, arm: Arm) -> Result<()> {
        let begin = Instant::now();
        loop {
            let words = [&self.ssh(arm, &[])[..], &["true".to_owned()]].concat();
            let mut command = place.inside(&borrowed(&words));
            self.with_password(arm, &mut command);
            match quietly(&mut command) {
                Ok(_) => return Ok(()),
                Err(error) => ensure!(begin.elapsed().as_secs() < 30, "a server does not answer: {error:#}"),
            }
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
    }

    /// How `ssh` is called.
    pub(super) fn ssh(&self, arm: Arm, options: &[&str]) -> Vec<String> {
        let mut words = self.client("ssh", arm, options);
        words.push("127.0.0.1".into());
        words
    }

    /// How `sftp` is called.
    pub(super) fn sftp(&self, arm: Arm, options: &[&str]) -> Vec<String> {
        let mut words = self.client("sftp", arm, options);
        words.push("127.0.0.1".into());
        words
    }

    fn client(&self, program: &str, arm: Arm, options: &[&str]) -> Vec<String> {
        let port = if arm == Arm::Mitm { MITM } else { SSHD };
        let key = format!("IdentityFile={}", self.path("user"));
        let by = match arm {
            Arm::Mitm => vec!["PubkeyAuthentication=no", "PreferredAuthentications=password", "BatchMode=no"],
            _ => vec![key.as_str(), "IdentitiesOnly=yes", "BatchMode=yes"],
        };
        let port = format!("Port={port}");
        // The first of two options counts.
        let rest = ["StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "LogLevel=ERROR", "User=root", &port];
        let mut words = vec![program.to_owned(), "-F".into(), "/dev/null".into()];
        for option in options.iter().chain(&by).chain(&rest) {
            words.extend(["-o".to_owned(), (*option).to_owned()]);
        }
        words
    }

    /// ssh-mitm wants a password.
    pub(super) fn with_password(&self, arm: Arm, command: &mut Command) {
        if arm == Arm::Mitm {
            command.env("SSH_ASKPASS", self.path("ask")).env("SSH_ASKPASS_REQUIRE", "force");
        }
    }
}

impl Drop for Peers {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.directory);
        let _ = fs::remove_dir_all(&self.memory);
    }
}

/// What no compression makes smaller.
fn noise(path: &Path, mebibytes: u64) -> Result<()> {
    let mut file = fs::File::create(path)?;
    let mut source = fs::File::open("/dev/urandom")?;
    let mut block = vec![0; 1 << 20];
    for _ in 0..mebibytes {
        std::io::Read::read_exact(&mut source, &mut block)?;
        file.write_all(&block)?;
    }
    Ok(())
}

/// What only the benchmark needs; none where it cannot be had.
fn install() -> Option<String> {
    let home = cache_dir().join("ssh-mitm");
    let program = home.join("bin/ssh-mitm");
    if !program.exists() {
        let made = loudly(Command::new("python3").args(["-m", "venv"]).arg(&home))
            .and_then(|()| loudly(Command::new(home.join("bin/pip")).args(["install", "-q", MITM_PACKAGE])));
        if let Err(error) = made {
            eprintln!("bench: ssh-mitm takes no part: {error:#}");
            return None;
        }
    }
    Some(program.display().to_string())
}
