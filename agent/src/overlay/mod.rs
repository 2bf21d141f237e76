//! The trust overlay: private mounts that make the processes of one run trust crewtap's authority, without a word to
//! them and without touching an original.
//!
//! Owns what is laid in the mount namespace of a run, from the moment before its command starts until it ends. Never
//! mounts anything in a namespace that processes outside of the run share.

mod base;
pub mod certificate;
mod environment;
mod execution;
mod ground;
mod hold;
mod homes;
mod installer;
mod keeper;
pub mod keystore;
mod known_hosts;
mod named;
mod notes;

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use certificate::CertificateError;
use ground::Ground;
pub use ground::{LayError, SOURCE};
pub use hold::HOLD_MAX;
use hold::Hold;
use keeper::Keeper;
use notes::Notes;

/// The authority that a run is to trust.
#[derive(Clone, Debug)]
pub struct Authority {
    pem: Vec<u8>,
    der: Vec<u8>,
    hash: String,
    ssh: Option<Ssh>,
}

/// The SSH side of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ssh {
    /// Signs host certificates; `ALGORITHM BASE64`.
    pub authority: String,
    /// The plain host keys that stand in for those of targets, each `ALGORITHM BASE64`.
    pub keys: Vec<String>,
}

impl Authority {
    /// From the certificate in PEM.
    ///
    /// # Errors
    /// When there is no certificate in it.
    pub fn new(pem: &[u8]) -> Result<Self, CertificateError> {
        let der = certificate::first_der(pem)?;
        let hash = certificate::subject_hash(&der)?;
        Ok(Self { pem: pem.to_vec(), der, hash, ssh: None })
    }

    /// With host keys of SSH that are to be trusted, too.
    #[must_use]
    pub fn with_ssh(self, ssh: Ssh) -> Self {
        Self { ssh: Some(ssh), ..self }
    }
}

/// Bundles of roots that the processes of a run had before ours was added, at most [`BUNDLES_MAX`].
#[derive(Clone, Debug, Default)]
pub struct Bundles(Arc<Mutex<BTreeSet<PathBuf>>>);

/// Bundles whose originals are remembered for one run: an environment has a handful.
const BUNDLES_MAX: usize = 64;

impl Bundles {
    /// Where they are, in the run and (but for mounts that it makes itself) on the host.
    #[must_use]
    pub fn paths(&self) -> Vec<PathBuf> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    fn add(&self, path: &Path) {
        let mut paths = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if paths.len() < BUNDLES_MAX {
            paths.insert(path.to_owned());
        }
    }
}

/// What an overlay is laid for.
pub struct Wanted {
    /// The authority to be trusted.
    pub authority: Authority,
    /// A process that is in the mount namespace of the run.
    pub pid: u32,
    /// Home directory of the run's user.
    pub home: Option<PathBuf>,
    /// Told of every bundle that is laid.
    pub bundles: Bundles,
    /// Takes what an analyst should know: what could not be laid, and why. Called on a thread that stays in the agent's
    /// own mount namespace.
    pub note: Box<dyn Fn(String) + Send>,
}

/// What has come of the base, and what the command is to get for it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Laid {
    /// Variables for runtimes that carry their roots inside; each only where the command has none of that name.
    pub environment: Vec<(String, String)>,
    /// At least one of the system's bundles or directories of roots is laid.
    pub roots: bool,
    /// Every execve waits until what it will read is laid.
    pub held: bool,
}

impl Laid {
    /// Why the run's programs cannot be taken to trust the authority; none when they can.
    #[must_use]
    pub fn lacks(&self) -> Option<&'static str> {
        match (self.roots, self.held) {
            (false, _) => Some("none of the system's certificates could be laid"),
            (true, false) => Some("its programs cannot be held until their certificates are laid"),
            (true, true) => None,
        }
    }
}

/// Why there is no overlay.
#[derive(Debug, thiserror::Error)]
pub enum OverlayError {
    /// The run cannot be entered.
    #[error("the mounts of the run cannot be entered: {0}")]
    Enter(#[source] LayError),
    /// The process is gone, or there is no thread for this.
    #[error("the mounts of the run cannot be reached: {0}")]
    Reach(#[from] io::Error),
    /// The thread has ended.
    #[error("the overlay of the run has ended; see the log for the defect")]
    Ended,
}

/// The overlay of one run; what is laid stays until the run's mount namespace ends, what comes is no longer held when
/// this is dropped.
#[derive(Debug)]
pub struct Overlay {
    /// Closed to end the thread, which nobody waits for: a file system of the run may hang it.
    _stop: OwnedFd,
}

impl Overlay {
    /// Lays the base into the run of `wanted.pid`; returns when it is there. Blocks for some milliseconds.
    ///
    /// # Errors
    /// When the run's mount namespace cannot be entered. What alone could not be laid is noted.
    pub fn start(wanted: Wanted) -> Result<(Self, Laid), OverlayError> {
        let run = File::open(format!("/proc/{}/ns/mnt", wanted.pid))?;
        let Wanted { authority, home, bundles, note, .. } = wanted;
        let notes = Notes::begin(note)?;
        let (stopped, stop) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).map_err(io::Error::from)?;
        let (tell, told) = sync_channel(1);
        let thread = std::thread::Builder::new().name("overlay".into());
        thread.spawn(move || {
            let ground = match Ground::enter(run, bundles) {
                Ok(ground) => ground,
                Err(error) => {
                    let _gone = tell.send(Err(OverlayError::Enter(error)));
                    return;
                }
            };
            live(ground, authority, home.as_deref(), notes, &tell, &stopped);
        })?;
        let laid = told.recv().map_err(|_| OverlayError::Ended)??;
        Ok((Self { _stop: stop }, laid))
    }
}

fn live(
    mut ground: Ground,
    authority: Authority,
    home: Option<&Path>,
    notes: Notes,
    tell: &SyncSender<Result<Laid, OverlayError>>,
    stop: &OwnedFd,
) {
    let base = base::lay(&mut ground, &authority, home);
    for failed in &base.failed {
        notes.note(format!("not trusted in the run: {failed}"));
    }
    let mut keeper = Keeper::new(ground, authority, notes);
    let hold = Hold::begin();
    let laid = Laid { environment: environment(&base), roots: base.has_roots, held: hold.is_ok() };
    let _gone = tell.send(Ok(laid));
    // A defect must not hold anybody: unwinding closes the kernel's queue, which lets every execve go.
    let served = catch_unwind(AssertUnwindSafe(|| hold.and_then(|hold| hold.serve(&mut keeper, stop))));
    keeper.leave();
    let why = match served {
        Ok(Ok(())) => return,
        Ok(Err(error)) => error.to_string(),
        Err(_) => "a defect, see the log".to_owned(),
    };
    keeper.note(format!("only what reads the system's roots trusts crewtap in this run: execve is not held: {why}"));
}

/// For runtimes that carry their roots inside and have a variable that adds to them.
fn environment(base: &base::Base) -> Vec<(String, String)> {
    let mut words = vec![("UV_SYSTEM_CERTS".to_owned(), "1".to_owned())];
    if let Some(own) = base.own_file.as_ref().and_then(|path| path.to_str()) {
        words.extend(["NODE_EXTRA_CA_CERTS", "DENO_CERT"].map(|name| (name.to_owned(), own.to_owned())));
    }
    words
}
