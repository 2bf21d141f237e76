//! The judgement of the host key that an SSH target shows: by the catalog's pins, by the files of known hosts that the
//! captured process would have read without us, and by what was kept of the first use where the catalog wants that.
//!
//! Owns the reading of those files, always the originals: never what an overlay has laid. Never dials, never writes a
//! user's file, and never decides what a client is shown: it says what the target deserves.
//!
//! What only the user's own files say vouches for what the client would have accepted; it proves nothing to others, because
//! the captured process can write there. A credential must not follow it.

mod files;
mod first_use;
mod names;
mod preference;
#[cfg(test)]
mod tests;
mod weigh;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crewtap_core::limits::{HOST_NAMES_MAX, KNOWN_HOSTS_WAIT};
use crewtap_core::policy::catalog::{self, Found};
use crewtap_core::run::Process;
use russh::keys::PublicKeyOrCertificate;

pub use self::files::User;
use self::files::{Files, Read};
use self::first_use::FirstUse;
pub use self::preference::Preference;
pub use self::weigh::{By, Refused, Standing, Trust, Unverified};
use crate::clock;

/// The host's own files, in the order in which OpenSSH reads them.
const SYSTEM_FILES: [&str; 2] = ["/etc/ssh/ssh_known_hosts", "/etc/ssh/ssh_known_hosts2"];

/// Where names of addresses are that no name server was asked for.
const HOSTS_FILE: &str = "/etc/hosts";

/// The file of what was kept of the first use, in the data directory.
pub const FIRST_USE_FILE: &str = "ssh_first_use";

/// The target whose host key is judged, and who asks.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// Names by which the captured process may know the target: what was looked up. The address, and the names that
    /// `/etc/hosts` has for it, come on top.
    pub hosts: &'a [String],
    /// The address that is dialled.
    pub address: SocketAddr,
    /// Whose files are read, on top of the host's: [`HostKeys::user`].
    pub user: Option<&'a User>,
    /// What the catalog says of the target; none where it does not know it.
    pub found: Option<&'a Found<'a>>,
}

/// Judges host keys. One for each agent.
#[derive(Clone, Debug)]
pub struct HostKeys {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    files: Files,
    system: Vec<PathBuf>,
    hosts: PathBuf,
    first_use: FirstUse,
}

impl HostKeys {
    /// With the host's own files, and the store of this data directory.
    #[must_use]
    pub fn new(data_dir: &Path) -> Self {
        Self::with(SYSTEM_FILES.map(PathBuf::from).to_vec(), HOSTS_FILE.into(), data_dir)
    }

    /// With other files in place of the host's.
    #[must_use]
    pub fn with(system: Vec<PathBuf>, hosts: PathBuf, data_dir: &Path) -> Self {
        let first_use = FirstUse::new(data_dir.join(FIRST_USE_FILE));
        Self { shared: Arc::new(Shared { files: Files::default(), system, hosts, first_use }) }
    }

    /// The user of a process, whose files are to be read, and what its command line says of them.
    pub async fn user(&self, process: &Process) -> User {
        let process = process.clone();
        let found = tokio::task::spawn_blocking(move || User::of(&process));
        let found = tokio::time::timeout(KNOWN_HOSTS_WAIT, found).await;
        // Without an answer there is nobody whose files could vouch.
        found.ok().and_then(Result::ok).unwrap_or_else(User::nobody)
    }

    /// What the target deserves that has shown this. Where it is to be trusted on first use and nothing is known of it, its
    /// key is kept on the disk before this returns.
    pub async fn judge(&self, asked: &Asked<'_>, shown: &PublicKeyOrCertificate) -> Standing {
        let shared = Arc::clone(&self.shared);
        let wanted = Wanted::of(asked);
        let key = match weigh::Key::of(shown, clock::now().wall_ns / 1_000_000_000) {
            Ok(key) => key,
            Err(why) => return Standing::unreadable(why),
        };
        let unread = Standing::unread(&key);
        let judged = tokio::task::spawn_blocking(move || {
            let read = shared.read(&wanted);
            weigh::weigh(&wanted, &read, &key, &shared.first_use)
        });
        match tokio::time::timeout(KNOWN_HOSTS_WAIT, judged).await {
            Ok(Ok(standing)) => standing,
            // A defect, or a file system that hangs: nobody has vouched.
            Ok(Err(_)) | Err(_) => unread,
        }
    }

    /// The algorithms to ask the target for, those of the keys that it is known by first: as OpenSSH does, so that a target
    /// with several keys shows the one that is known.
    pub async fn preference(&self, asked: &Asked<'_>) -> Preference {
        let shared = Arc::clone(&self.shared);
        let wanted = Wanted::of(asked);
        let preferred = tokio::task::spawn_blocking(move || {
            let read = shared.read(&wanted);
            preference::of(&wanted, &read, &shared.first_use)
        });
        match tokio::time::timeout(KNOWN_HOSTS_WAIT, preferred).await {
            Ok(Ok(preference)) => preference,
            Ok(Err(_)) | Err(_) => Preference::default(),
        }
    }
}

/// [`Asked`], to be taken to another thread.
#[derive(Debug)]
struct Wanted {
    hosts: Vec<String>,
    address: SocketAddr,
    user: Option<User>,
    entry: catalog::HostKeys,
    /// The name by which the catalog knows the target.
    catalogued: Option<String>,
}

impl Wanted {
    fn of(asked: &Asked<'_>) -> Self {
        let address = SocketAddr::new(asked.address.ip().to_canonical(), asked.address.port());
        Self {
            hosts: asked.hosts.to_vec(),
            address,
            user: asked.user.cloned(),
            entry: asked.found.map(|found| found.entry.ssh.clone()).unwrap_or_default(),
            catalogued: asked.found.and_then(Found::name).map(str::to_owned),
        }
    }
}

/// All that is judged by.
struct Vouchers {
    /// By which the target may be known, the best first: the names that were looked up, those of the host, the address.
    hosts: Vec<String>,
    /// The host's files, then the user's.
    files: Vec<Read>,
    /// How many of them are the host's.
    system: usize,
}

impl Shared {
    fn read(&self, wanted: &Wanted) -> Vouchers {
        let mut files: Vec<Read> = self.system.iter().filter_map(|path| self.files.of_host(path)).collect();
        let system = files.len();
        if let Some(user) = &wanted.user {
            files.extend(user.files().iter().filter_map(|path| self.files.of_user(path, user)));
        }
        let mut hosts: Vec<String> = Vec::new();
        let of_host = names::of(&self.hosts, wanted.address.ip());
        let address = wanted.address.ip().to_string();
        let alias = wanted.user.iter().filter_map(|user| user.alias.as_ref());
        let names = alias.chain(&wanted.hosts).map(|host| host.to_ascii_lowercase()).chain(of_host);
        for host in names.take(HOST_NAMES_MAX - 1) {
            if host != address && !hosts.contains(&host) {
                hosts.push(host);
            }
        }
        hosts.push(address);
        Vouchers { hosts, files, system }
    }
}
