//! What is laid in the environments of a run, and what is lifted for an installer that works there.
//!
//! Owns the bookkeeping: an environment is looked through once, and again when its packages have changed or one of its
//! bundles shows through. Never decides when: the hold calls it with one execve at a time.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::capture::process;

use super::Authority;
use super::base::{lay_bundle, lay_hashed_directory, lay_keystore};
use super::environment::{Environment, Stamp, is_python, stamp};
use super::execution::{Execution, shebang};
use super::ground::{Ground, LayError};
use super::homes::Homes;
use super::installer::{self, Work};
use super::known_hosts;
use super::named::named;
use super::notes::Notes;

/// Interpreters whose environment is remembered; the oldest are looked through again.
const ENVIRONMENTS_MAX: usize = 256;

/// Names outside of environments that are remembered.
const NAMES_MAX: usize = 1024;

/// Failures that are noted; the same path is noted once.
const NOTED_MAX: usize = 256;

/// Installers that are watched at one time; each holds a descriptor.
const INSTALLERS_MAX: usize = 64;

/// Parents of a process among which an installer is looked for.
const ANCESTORS_MAX: usize = 8;

/// May write to every user's files.
const ROOT: u32 = 0;

/// The roots that pip brings along.
const OF_PIP: &str = "/pip/_vendor/";

/// An environment as it was laid.
struct Known {
    environment: Environment,
    /// Home directory of the user whose packages belong to it.
    home: Option<PathBuf>,
    /// Bundles by their name, and where they are when links are followed.
    laid: Vec<(PathBuf, PathBuf)>,
}

/// An installer at work.
pub(super) struct Installer {
    pid: u32,
    /// Readable when it has ended.
    pub(super) ending: OwnedFd,
    work: Work,
}

/// A descriptor that tells the end of a living process.
fn ending(pid: u32) -> Option<OwnedFd> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw)?;
    pidfd_open(pid, PidfdFlags::empty()).ok()
}

fn is_alive(ending: &OwnedFd) -> bool {
    let mut watched = [PollFd::new(ending, PollFlags::IN)];
    matches!(poll(&mut watched, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })), Ok(0))
}

/// See the module.
pub(super) struct Keeper {
    ground: Ground,
    authority: Authority,
    notes: Notes,
    environments: HashMap<PathBuf, Known>,
    /// Files that commands have named, and where they are when links are followed.
    names: HashMap<PathBuf, PathBuf>,
    /// What could not be laid, and is not tried again before it has changed.
    refused: HashMap<PathBuf, Stamp>,
    installers: Vec<Installer>,
    noted: BTreeSet<PathBuf>,
    homes: Homes,
}

impl Keeper {
    pub(super) fn new(ground: Ground, authority: Authority, notes: Notes) -> Self {
        Self {
            ground,
            authority,
            notes,
            environments: HashMap::new(),
            names: HashMap::new(),
            refused: HashMap::new(),
            installers: Vec::new(),
            noted: BTreeSet::new(),
            homes: Homes::default(),
        }
    }

    pub(super) fn note(&self, text: String) {
        self.notes.note(text);
    }

    pub(super) fn installers(&self) -> &[Installer] {
        &self.installers
    }

    /// Prepares for one execve. `start` is the beginning of the file and `real` its path without links.
    pub(super) fn prepare(&mut self, task: u32, execution: &Execution, start: &[u8], real: &Path) {
        let pid = process_of(task);
        // Whatever it was before, it becomes something else now.
        self.installers.retain(|installer| installer.pid != pid);
        self.lay_named(execution);
        self.lay_java(real);
        self.lay_known_hosts(pid, execution);
        let interpreter = interpreter(execution, start, real);
        let home = execution.variable("HOME").filter(|home| !home.is_empty()).map(|home| execution.path(home));
        let environment = interpreter
            .as_ref()
            .and_then(|interpreter| self.known(interpreter, home.as_deref()).map(Path::to_path_buf));
        if let Some(work) = installer::work(execution, environment.as_deref()) {
            self.make_way(pid, work);
        }
        if let (Some(interpreter), Some(prefix)) = (interpreter, environment) {
            self.lay_environment(pid, execution, &interpreter, &prefix);
        }
    }

    /// The prefix of an interpreter's environment, looked up anew when packages have changed.
    fn known(&mut self, interpreter: &Path, home: Option<&Path>) -> Option<&Path> {
        let is_current = self.environments.get(interpreter).is_some_and(|known| known.environment.is_current());
        if !is_current {
            let environment = Environment::of(interpreter, home)?;
            if self.environments.len() >= ENVIRONMENTS_MAX {
                self.environments.clear();
            }
            let wanted = environment.bundles();
            let real = |path: PathBuf| (fs::canonicalize(&path).unwrap_or_else(|_| path.clone()), path);
            let laid = wanted.into_iter().map(real).map(|(real, path)| (path, real)).collect();
            let known = Known { environment, home: home.map(Path::to_path_buf), laid };
            self.environments.insert(interpreter.to_path_buf(), known);
        }
        self.environments.get(interpreter).map(|known| known.environment.prefix.as_path())
    }

    fn lay_environment(&mut self, pid: u32, execution: &Execution, interpreter: &Path, prefix: &Path) {
        if installer::is_of_a_build(prefix) {
            return;
        }
        let parents = parents(pid);
        let mut keeps_own = false;
        let mut is_busy = false;
        self.installers.retain(|installer| {
            let is_parent = parents.contains(&installer.pid);
            let concerns = installer.work.places.iter().any(|place| prefix.starts_with(place));
            if concerns && installer.work.hands_over && is_parent && !installer::is_probe(execution) {
                return false;
            }
            is_busy |= concerns;
            keeps_own |= concerns && installer.work.keeps_own_roots;
            true
        });
        self.lay_bundles(interpreter, |path| !is_busy || keeps_own && is_of_pip(path));
    }

    /// Lays what is not laid, among the bundles of an environment that `wanted` picks.
    fn lay_bundles(&mut self, interpreter: &Path, wanted: impl Fn(&Path) -> bool) {
        let Some(known) = self.environments.get_mut(interpreter) else { return };
        let mut failed = Vec::new();
        for (path, real) in &mut known.laid {
            let is_laid = |real: &Path| fs::metadata(real).is_ok_and(|found| self.ground.is_laid(&found));
            if !wanted(path) || is_laid(real) || is_refused(&self.refused, path) {
                continue;
            }
            match lay_bundle(&mut self.ground, &self.authority, path) {
                Ok(laid) => *real = laid,
                Err(error) => failed.push((path.clone(), error)),
            }
        }
        for (path, error) in failed {
            self.refuse(&path, &error);
        }
    }

    /// Lifts what is in the way of an installer, and watches for its end.
    fn make_way(&mut self, pid: u32, mut work: Work) {
        let places: Vec<PathBuf> = work
            .places
            .iter()
            .flat_map(|place| [Some(place.clone()), fs::canonicalize(place).ok()])
            .flatten()
            .collect();
        let below = |path: &Path| places.iter().any(|place| path.starts_with(place));
        let laid = self.environments.values().flat_map(|known| known.laid.iter());
        let found = laid.filter(|(name, real)| below(name) || below(real));
        let lifted: BTreeSet<PathBuf> = found
            .filter(|(name, _)| !(work.keeps_own_roots && is_of_pip(name)))
            .map(|(_, real)| real.clone())
            .collect();
        for path in &lifted {
            if let Err(error) = self.ground.lift(path) {
                self.note_once(path, &error);
            }
        }
        let concerns_any = self.environments.values().any(|known| below(&known.environment.prefix));
        // What has nothing of ours in its way, and never will, need not be watched.
        if lifted.is_empty() && !concerns_any && !work.hands_over && !work.keeps_own_roots {
            return;
        }
        if self.installers.len() < INSTALLERS_MAX
            && let Some(ending) = ending(pid)
        {
            work.places = places;
            self.installers.push(Installer { pid, ending, work });
        }
    }

    /// Lays again what ended installers had lifted.
    pub(super) fn bury_installers(&mut self) {
        let (alive, ended): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.installers).into_iter().partition(|installer| is_alive(&installer.ending));
        self.installers = alive;
        if ended.is_empty() {
            return;
        }
        let interpreters: Vec<PathBuf> = self.environments.keys().cloned().collect();
        for interpreter in interpreters {
            let Some(known) = self.environments.get(&interpreter) else { continue };
            let prefix = known.environment.prefix.clone();
            let below = |installer: &Installer| installer.work.places.iter().any(|place| prefix.starts_with(place));
            if ended.iter().any(below) && !self.installers.iter().any(below) {
                let home = known.home.clone();
                self.known(&interpreter, home.as_deref());
                self.lay_bundles(&interpreter, |_| true);
            }
        }
    }

    /// Files of roots that the command names itself.
    fn lay_named(&mut self, execution: &Execution) {
        let named = named(execution);
        for path in &named.files {
            self.lay_once(path, lay_bundle);
        }
        for path in &named.directories {
            self.lay_once(path, lay_hashed_directory);
        }
        for path in &named.keystores {
            self.lay_once(path, lay_keystore);
        }
    }

    /// The trust store of a JDK whose `java` is executed.
    fn lay_java(&mut self, real: &Path) {
        if real.file_name().is_some_and(|name| name == "java")
            && let Some(home) = real.parent().and_then(Path::parent)
        {
            self.lay_once(&home.join("lib/security/cacerts"), lay_keystore);
        }
    }

    /// Known hosts of the user who executes, in the home that the environment says and in that of the user database: OpenSSH
    /// looks into the one, Python's clients into the other.
    fn lay_known_hosts(&mut self, pid: u32, execution: &Execution) {
        let Some(ssh) = self.authority.ssh.clone() else { return };
        let Some((wanted, stands)) = self.homes.of(pid, execution) else { return };
        // Whose file it is not, must not keep its owner from it either: root and others come by in one chain of commands.
        let is_own =
            |path: &&PathBuf| fs::metadata(path).is_ok_and(|found| wanted.uid == ROOT || found.uid() == wanted.uid);
        for path in stands.iter().chain(&wanted.files).filter(is_own) {
            self.lay_once(path, |ground, _, path| {
                known_hosts::lay_of_user(ground, &ssh, path, Some(wanted.uid).filter(|uid| *uid != ROOT))
            });
        }
        for path in &wanted.global {
            self.lay_once(path, |ground, _, path| known_hosts::lay_named_global(ground, &ssh, path));
        }
    }

    /// The run has ended: nothing of it stays on the host.
    pub(super) fn leave(&mut self) {
        self.homes.leave(&mut self.ground);
    }

    fn lay_once(&mut self, path: &Path, lay: impl FnOnce(&mut Ground, &Authority, &Path) -> Result<PathBuf, LayError>) {
        let is_laid = |real: &PathBuf| fs::metadata(real).is_ok_and(|found| self.ground.is_laid(&found));
        if self.names.get(path).is_some_and(is_laid) {
            return;
        }
        if is_refused(&self.refused, path) {
            return;
        }
        match lay(&mut self.ground, &self.authority, path) {
            Ok(real) => {
                if self.names.len() >= NAMES_MAX {
                    self.names.clear();
                }
                self.names.insert(path.to_path_buf(), real);
            }
            Err(error) => self.refuse(path, &error),
        }
    }

    /// Whatever the reason: what failed is not tried at each execve, lest a run make every one of them slow.
    fn refuse(&mut self, path: &Path, error: &LayError) {
        if let Some(now) = stamp(path) {
            if self.refused.len() >= NAMES_MAX {
                self.refused.clear();
            }
            self.refused.insert(path.to_path_buf(), now);
        }
        self.note_once(path, error);
    }

    /// What is not there is no failure: many environments name files that they do not have.
    fn note_once(&mut self, path: &Path, error: &LayError) {
        if matches!(error, LayError::Missing) || self.noted.len() >= NOTED_MAX || !self.noted.insert(path.to_path_buf())
        {
            return;
        }
        self.note(format!("not trusted in the run: {}: {error}", path.display()));
    }
}

/// Whether it has failed before, and is still what it was.
fn is_refused(refused: &HashMap<PathBuf, Stamp>, path: &Path) -> bool {
    refused.get(path).is_some_and(|before| stamp(path).as_ref() == Some(before))
}

fn is_of_pip(path: &Path) -> bool {
    path.to_str().is_some_and(|path| path.contains(OF_PIP))
}

/// The Python that will run: the file itself, or what the script's first line names.
fn interpreter(execution: &Execution, start: &[u8], real: &Path) -> Option<PathBuf> {
    match shebang(start) {
        Some((path, _)) => Some(execution.path(path.as_os_str().as_encoded_bytes())).filter(|path| is_python(path)),
        None => (is_python(&execution.name) || is_python(real)).then(|| execution.name.clone()),
    }
}

/// The process of a task; it will be the one that executes, whichever of its threads has asked.
fn process_of(task: u32) -> u32 {
    let status = fs::read_to_string(format!("{task}/status")).unwrap_or_default();
    let group = status.lines().find_map(|line| line.strip_prefix("Tgid:")).and_then(|id| id.trim().parse().ok());
    group.unwrap_or(task)
}

fn parents(task: u32) -> Vec<u32> {
    let mut found = vec![];
    let mut next = task;
    while found.len() < ANCESTORS_MAX
        && let Ok(stat) = process::stat(next)
        && stat.ppid > 1
    {
        next = stat.ppid;
        found.push(next);
    }
    found
}
