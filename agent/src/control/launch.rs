//! Starting an agent on demand, and telling the one who waits that it is ready, or why not.
//!
//! Owns the data directory's start lock and the readiness pipe (the agent's standard output). Never decides
//! whether the agent may run: the store's lock does, in the agent.

use std::ffi::OsString;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use crewtap_core::limits;
use nix::fcntl::{Flock, FlockArg};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use super::{Client, ClientError};

/// An agent that could not be started.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// The data directory cannot be used.
    #[error("cannot use the data directory {path}: {source}")]
    DataDir {
        /// The directory.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// The agent's program could not be started.
    #[error("cannot start the agent: {0}")]
    Spawn(io::Error),
    /// The agent said why it does not run.
    #[error("the agent does not start: {0}")]
    Failed(String),
    /// Another agent holds the store's lock and does not serve.
    #[error("another agent holds the data directory but does not answer: see its agent.log")]
    Silent,
    /// It runs, but cannot be spoken with.
    #[error(transparent)]
    Client(#[from] ClientError),
}

/// What the agent writes when it serves.
const READY: &str = "ready";

/// What the agent writes when another one, perhaps just starting, holds the store's lock.
const BUSY: &str = "busy";

/// Variables of the caller's environment that the catalog names as places of secrets.
pub type Variables = [(OsString, OsString)];

/// Connects to the agent of `data_dir`; where there is none, starts one with `arguments` (of this very
/// program) and, of its environment, `variables`. Of several that do so at the same time, one starts it and the others wait for it.
///
/// # Errors
/// See [`LaunchError`].
pub fn connect_or_start(data_dir: &Path, arguments: &[OsString], variables: &Variables) -> Result<Client, LaunchError> {
    match Client::connect(data_dir) {
        Err(ClientError::NoAgent(_)) => {}
        other => return Ok(other?),
    }
    let failed = |source| LaunchError::DataDir { path: data_dir.display().to_string(), source };
    make_data_dir(data_dir).map_err(failed)?;
    let _starting = start_lock(data_dir).map_err(failed)?;
    // Somebody may have been faster.
    match Client::connect(data_dir) {
        Err(ClientError::NoAgent(_)) => {}
        other => return Ok(other?),
    }
    let watch = Watch::new(data_dir).map_err(failed)?;
    let until = Instant::now() + limits::AGENT_START_WAIT;
    loop {
        match start(data_dir, arguments, variables)? {
            Outcome::Ready => match Client::connect(data_dir) {
                // Stopped the moment it was ready.
                Err(ClientError::NoAgent(_)) if Instant::now() < until => {}
                other => return Ok(other?),
            },
            Outcome::Failed(why) => return Err(LaunchError::Failed(why)),
            // `crewtap agent` is starting by itself, or the last one is just ending.
            Outcome::Busy => match watch.client(data_dir) {
                Some(client) => return Ok(client),
                None if Instant::now() < until => {}
                None => return Err(LaunchError::Silent),
            },
        }
    }
}

/// Makes the data directory, for root and the group crewtap (where there is one).
///
/// # Errors
/// When it cannot be made.
pub fn make_data_dir(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    if let Some(parent) = path.parent() {
        DirBuilder::new().recursive(true).mode(0o755).create(parent)?;
    }
    match DirBuilder::new().mode(0o750).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
        other => other?,
    }
    if let Ok(Some(group)) = nix::unistd::Group::from_name("crewtap") {
        nix::unistd::chown(path, None, Some(group.gid))?;
    }
    Ok(())
}

fn start_lock(data_dir: &Path) -> io::Result<Flock<File>> {
    let mut options = OpenOptions::new();
    let file = options.write(true).create(true).truncate(false).mode(0o600).open(data_dir.join("start.lock"))?;
    Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, errno)| errno.into())
}

enum Outcome {
    Ready,
    Busy,
    Failed(String),
}

/// Nothing of the caller's environment reaches the agent but these variables.
fn start(data_dir: &Path, arguments: &[OsString], variables: &Variables) -> Result<Outcome, LaunchError> {
    let mut options = OpenOptions::new();
    let log = options.append(true).create(true).mode(0o640).open(data_dir.join("agent.log"));
    let mut agent = Command::new("/proc/self/exe")
        .args(["agent", "--on-demand"])
        .args(arguments)
        .env_clear()
        .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        .envs(variables.iter().map(|(name, value)| (name, value)))
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log.map_err(LaunchError::Spawn)?)
        .spawn()
        .map_err(LaunchError::Spawn)?;
    let mut said = String::new();
    if let Some(pipe) = agent.stdout.take() {
        let most = u64::try_from(limits::CONTROL_BYTES_MAX).unwrap_or(u64::MAX);
        pipe.take(most).read_to_string(&mut said).map_err(LaunchError::Spawn)?;
    }
    // What was started is the parent of the agent only; it ends at once.
    let status = agent.wait().map_err(LaunchError::Spawn)?;
    Ok(match said.trim() {
        READY => Outcome::Ready,
        BUSY => Outcome::Busy,
        "" => Outcome::Failed(format!("it ended without a word ({status}); see agent.log")),
        why => Outcome::Failed(why.into()),
    })
}

/// The agent's end of the readiness pipe.
#[derive(Debug)]
pub struct Ready {
    told: bool,
    waited_for: bool,
}

impl Ready {
    /// Of an agent that somebody waits for on its standard output.
    #[must_use]
    pub fn on_stdout() -> Self {
        Self { told: false, waited_for: true }
    }

    /// Of an agent that nobody waits for.
    #[must_use]
    pub fn nobody() -> Self {
        Self { told: false, waited_for: false }
    }

    /// The control socket is served: to be called once.
    pub fn tell(&mut self) {
        self.say(READY);
    }

    /// Another agent holds the store's lock: who waits will speak with that one.
    pub fn busy(&mut self) {
        self.say(BUSY);
    }

    /// Says why the agent does not start; after [`Ready::tell`] nobody listens any more.
    pub fn fail(&mut self, why: &str) {
        self.say(why);
    }

    fn say(&mut self, word: &str) {
        if std::mem::replace(&mut self.told, true) || !self.waited_for {
            return;
        }
        // Who waited may be gone; that is no reason not to serve.
        let _gone = writeln!(io::stdout(), "{word}").and_then(|()| io::stdout().flush());
        // Its end of file is what the one who waits reads up to.
        if let Ok(null) = OpenOptions::new().write(true).open("/dev/null") {
            let _ = nix::unistd::dup2_stdout(null);
        }
    }
}

/// Waits for a control socket that somebody else is about to put in its place.
struct Watch(Inotify);

impl Watch {
    fn new(data_dir: &Path) -> io::Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
        inotify.add_watch(data_dir, AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVED_TO)?;
        Ok(Self(inotify))
    }

    /// A connection, when the socket appears soon.
    fn client(&self, data_dir: &Path) -> Option<Client> {
        let until = Instant::now() + limits::AGENT_RETRY_INTERVAL;
        loop {
            if let Ok(client) = Client::connect(data_dir) {
                return Some(client);
            }
            let left = until.checked_duration_since(Instant::now())?;
            let timeout = PollTimeout::try_from(left).ok()?;
            let mut fds = [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
            poll(&mut fds, timeout).ok()?;
            let _drained = self.0.read_events();
        }
    }
}
