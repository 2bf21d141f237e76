//! The private halves of keys with which a captured process logs in.
//!
//! A log-in with a key signs what the two ends of one connection have agreed on, so that it cannot be passed on: it is made again,
//! with the same key, and only for a client that has signed with it itself. Owns where the key is looked for: the files that the
//! process's program would read, with the rights of its user, and its agent. Never keeps a key, and never opens one with more
//! rights than the process has.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crewtap_core::limits::KNOWN_HOSTS_WAIT;
use crewtap_core::origin::Origin;
use crewtap_core::run::Process;
use russh::keys::{PrivateKey, PublicKey};
use zeroize::Zeroizing;

use crate::capture::user::AsUser;

/// Names of a directory that are looked at.
const NAMES_MAX: usize = 256;

/// Files that are looked at for one log-in.
const FILES_MAX: usize = 64;

/// Bytes of an environment that are looked at.
const ENVIRONMENT_BYTES_MAX: u64 = 256 * 1024;

/// Largest file of a key, or of a configuration, in bytes.
const FILE_BYTES_MAX: u64 = 64 * 1024;

/// Where a private key was found.
#[derive(Debug)]
pub(super) enum Found {
    /// In a file; ready to sign.
    File(Arc<PrivateKey>, PathBuf),
    /// Behind the socket of an agent.
    Agent(PathBuf),
    /// It is there, and cannot be used: encrypted, or on a device.
    Closed(PathBuf, &'static str),
    /// Nowhere.
    Nowhere,
}

/// Where a process's keys may be.
#[derive(Clone, Debug)]
pub(super) struct Places {
    uid: u32,
    gid: u32,
    root: PathBuf,
    home: Option<PathBuf>,
    /// Keys that its command line names.
    named: Vec<PathBuf>,
    /// The configuration that its command line names.
    configuration: Option<PathBuf>,
    agent: Option<PathBuf>,
}

impl Places {
    /// Of the process that made a connection. A process can let the reading of its environment wait: then there are none.
    pub(super) async fn look_up(origin: &Origin, process: &Process) -> Self {
        let (of, argv, cwd) = (origin.clone(), process.argv.clone(), process.cwd.clone());
        let looked = tokio::task::spawn_blocking(move || Self::of(&of, &argv, &cwd));
        match tokio::time::timeout(KNOWN_HOSTS_WAIT, looked).await {
            Ok(Ok(places)) => places,
            Ok(Err(_)) | Err(_) => Self::none(origin.uid, origin.gid),
        }
    }

    fn none(uid: u32, gid: u32) -> Self {
        let root = PathBuf::from("/nonexistent");
        Self { uid, gid, root, home: None, named: Vec::new(), configuration: None, agent: None }
    }

    fn of(origin: &Origin, argv: &[String], cwd: &str) -> Self {
        let proc = PathBuf::from(format!("/proc/{}", origin.pid));
        let mut environment = Zeroizing::new(Vec::new());
        if let Ok(file) = File::open(proc.join("environ")) {
            // What is missing behind the bound is not found.
            let _ = file.take(ENVIRONMENT_BYTES_MAX).read_to_end(&mut environment);
        }
        let variable = |name: &str| {
            let mut lines = environment.split(|byte| *byte == 0);
            let value = lines.find_map(|line| line.strip_prefix(name.as_bytes())?.strip_prefix(b"="))?;
            std::str::from_utf8(value).ok().filter(|value| !value.is_empty()).map(PathBuf::from)
        };
        let of_account = || {
            let user = nix::unistd::User::from_uid(nix::unistd::Uid::from_raw(origin.uid)).ok()??;
            Some(user.dir)
        };
        Self {
            uid: origin.uid,
            gid: origin.gid,
            root: proc.join("root"),
            home: variable("HOME").filter(|home| home.is_absolute()).or_else(of_account),
            named: named(argv, "-i", "identityfile").into_iter().map(|path| Path::new(cwd).join(path)).collect(),
            configuration: named(argv, "-F", "").pop().map(|path| Path::new(cwd).join(path)),
            agent: variable("SSH_AUTH_SOCK").filter(|path| path.is_absolute()),
        }
    }

    /// The same, for as long as files may take.
    pub(super) async fn search(&self, key: &PublicKey) -> Found {
        let (places, wanted) = (self.clone(), key.clone());
        let searched = tokio::task::spawn_blocking(move || places.find(&wanted));
        match tokio::time::timeout(KNOWN_HOSTS_WAIT, searched).await {
            Ok(Ok(found)) => found,
            Ok(Err(_)) | Err(_) => Found::Nowhere,
        }
    }

    /// Looks for the private half of a key. Blocks: files may lie on a slow file system.
    pub(super) fn find(&self, key: &PublicKey) -> Found {
        let mut closed = None;
        for path in self.files() {
            let Some(text) = self.read(&path) else { continue };
            let Ok(text) = std::str::from_utf8(&text) else { continue };
            match private(text, key) {
                Some(Ok(private)) => return Found::File(Arc::new(private), path),
                Some(Err(why)) => closed = Some(Found::Closed(path, why)),
                None => {}
            }
        }
        match &self.agent {
            Some(agent) => Found::Agent(self.inside(agent)),
            None => closed.unwrap_or(Found::Nowhere),
        }
    }

    /// Files that may hold keys.
    fn files(&self) -> Vec<PathBuf> {
        let mut files: Vec<PathBuf> = self.named.clone();
        if let Some(home) = &self.home {
            let ssh = home.join(".ssh");
            let usual = [ssh.join("config"), PathBuf::from("/etc/ssh/ssh_config")];
            for path in self.configuration.iter().cloned().chain(usual) {
                let text = self.read(&path).unwrap_or_default();
                files.extend(configured_in(&String::from_utf8_lossy(&text), home));
            }
            let listed = AsUser::new(self.uid, self.gid).and_then(|_as_user| std::fs::read_dir(self.inside(&ssh)));
            let names = listed.into_iter().flatten().flatten().take(NAMES_MAX).map(|entry| entry.file_name());
            let keys = names.filter(|name| {
                let name = name.to_string_lossy();
                !name.ends_with(".pub") && !name.starts_with("known_hosts") && !name.starts_with("authorized_keys")
            });
            files.extend(keys.map(|name| ssh.join(name)));
        }
        // In this order: what is named comes first.
        let mut seen = BTreeSet::new();
        files.into_iter().filter(|file| seen.insert(file.clone())).take(FILES_MAX).collect()
    }

    fn inside(&self, path: &Path) -> PathBuf {
        self.root.join(path.strip_prefix("/").unwrap_or(path))
    }

    /// Reads a regular file as the user would; none where that is not possible.
    fn read(&self, path: &Path) -> Option<Zeroizing<Vec<u8>>> {
        let open = || -> io::Result<File> {
            let flags = libc::O_NOFOLLOW | libc::O_CLOEXEC | libc::O_NONBLOCK | libc::O_NOCTTY;
            File::options().read(true).custom_flags(flags).open(self.inside(path))
        };
        let file = AsUser::new(self.uid, self.gid).and_then(|_as_user| open()).ok()?;
        let kind = file.metadata().ok()?;
        if !kind.is_file() || kind.len() > FILE_BYTES_MAX {
            return None;
        }
        let mut bytes = Zeroizing::new(Vec::with_capacity(usize::try_from(kind.len()).ok()? + 1));
        file.take(FILE_BYTES_MAX).read_to_end(&mut bytes).ok()?;
        Some(bytes)
    }
}

/// The private key in a text, where it is this one's half; why it cannot be used, where it is.
fn private(text: &str, key: &PublicKey) -> Option<Result<PrivateKey, &'static str>> {
    if !text.contains("PRIVATE KEY-----") {
        return None;
    }
    if let Ok(private) = russh::keys::decode_secret_key(text, None) {
        return (private.public_key().key_data() == key.key_data()).then_some(Ok(private));
    }
    // OpenSSH's own form says in clear whose half is encrypted.
    let private = PrivateKey::from_openssh(text).ok()?;
    let fits = private.public_key().key_data() == key.key_data();
    fits.then_some(Err(if private.is_encrypted() { "it is encrypted" } else { "it cannot be used" }))
}

/// Values that a command line gives: `-i VALUE`, `-iVALUE`, or `-o Option=VALUE`.
fn named(argv: &[String], flag: &str, option: &str) -> Vec<String> {
    let of_option = |text: &str| {
        let (name, value) = text.split_once(['=', ' '])?;
        name.trim().eq_ignore_ascii_case(option).then(|| value.trim().trim_matches('"').to_owned())
    };
    let mut found = Vec::new();
    let mut words = argv.iter().skip(1).peekable();
    while let Some(word) = words.next() {
        let value = if word == flag {
            words.peek().map(|next| (*next).clone())
        } else if word == "-o" {
            words.peek().and_then(|next| of_option(next))
        } else {
            word.strip_prefix(flag).map(str::to_owned).or_else(|| word.strip_prefix("-o").and_then(of_option))
        };
        found.extend(value.filter(|value| !value.is_empty() && !word.starts_with("--")));
    }
    found
}

/// Files that an `ssh_config` names, whatever hosts it names them for: a key is found by its public half.
fn configured_in(text: &str, home: &Path) -> Vec<PathBuf> {
    let values = text.lines().filter_map(|line| {
        let (name, value) = line.trim().split_once(|letter: char| letter == '=' || letter.is_whitespace())?;
        name.eq_ignore_ascii_case("identityfile").then(|| value.trim_matches([' ', '\t', '=', '"']).to_owned())
    });
    let there = |value: String| match value.strip_prefix("~/").or_else(|| value.strip_prefix("%d/")) {
        Some(rest) => home.join(rest),
        None => home.join(value),
    };
    values.map(there).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use russh::keys::Algorithm;
    use russh::keys::ssh_key::LineEnding;

    fn key() -> PrivateKey {
        PrivateKey::random(&mut rand::rng(), Algorithm::Ed25519).unwrap()
    }

    fn here(home: &Path) -> Places {
        Places {
            uid: 0,
            gid: 0,
            root: "/".into(),
            home: Some(home.into()),
            named: Vec::new(),
            configuration: None,
            agent: None,
        }
    }

    #[test]
    fn a_key_is_found_by_its_public_half_and_an_encrypted_one_says_so() {
        let home = tempfile::tempdir().unwrap();
        let ssh = home.path().join(".ssh");
        std::fs::create_dir(&ssh).unwrap();
        let (one, other, locked) = (key(), key(), key());
        let write = |name: &str, key: &PrivateKey| {
            std::fs::write(ssh.join(name), &*key.to_openssh(LineEnding::LF).unwrap()).unwrap();
        };
        write("id_one", &one);
        write("other", &other);
        write("locked", &locked.encrypt(&mut rand::rng(), "x").unwrap());
        let places = here(home.path());
        assert!(matches!(places.find(other.public_key()), Found::File(_, path) if path.ends_with("other")));
        assert!(
            matches!(places.find(locked.public_key()), Found::Closed(path, why) if path.ends_with("locked") && why.contains("encrypted"))
        );
        assert!(matches!(places.find(key().public_key()), Found::Nowhere));
        std::os::unix::fs::symlink(ssh.join("id_one"), ssh.join("link")).unwrap();
        std::fs::rename(ssh.join("id_one"), home.path().join("elsewhere")).unwrap();
        assert!(matches!(places.find(one.public_key()), Found::Nowhere), "a link is not followed");
    }

    #[test]
    fn what_the_user_may_not_read_is_not_read_for_it() {
        if !nix::unistd::geteuid().is_root() {
            println!("skip: only root can read for another user");
            return;
        }
        let home = tempfile::tempdir().unwrap();
        let ssh = home.path().join(".ssh");
        std::fs::create_dir(&ssh).unwrap();
        let key = key();
        std::fs::write(ssh.join("id"), &*key.to_openssh(LineEnding::LF).unwrap()).unwrap();
        std::fs::set_permissions(ssh.join("id"), std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        std::fs::set_permissions(home.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let places = Places { uid: 65534, gid: 65534, ..here(home.path()) };
        assert!(matches!(places.find(key.public_key()), Found::Nowhere), "root's key is not nobody's");
        assert!(matches!(here(home.path()).find(key.public_key()), Found::File(..)));
    }

    #[test]
    fn files_are_named_by_command_line_and_configuration() {
        let argv =
            ["ssh", "-i", "a", "-ib", "-o", "IdentityFile=c", "-oidentityfile d", "--ipc", "host"].map(String::from);
        assert_eq!(named(&argv, "-i", "identityfile"), ["a", "b", "c", "d"]);
        assert_eq!(named(&["ssh", "-F", "f", "h"].map(String::from), "-F", ""), ["f"]);
        let text = "Host x\n  IdentityFile ~/.ssh/deploy\nidentityfile=\"/k/e\"\n# IdentityFile no\n";
        assert_eq!(configured_in(text, Path::new("/h")), [Path::new("/h/.ssh/deploy"), Path::new("/k/e")]);
    }
}
