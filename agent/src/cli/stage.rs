//! The second stage of `crewtap run`, hidden: joins the capture, hides the store, becomes the user and the
//! command.
//!
//! A process of its own so that all this is done without `fork` in a running program, and in order: nothing
//! of the user's is loaded, opened or executed before the last step.

use std::ffi::{CString, OsStr};
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;
use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{SigSet, Signal};
use nix::unistd::{AccessFlags, Gid, Uid, access, execve, setgroups, setresgid, setresuid};
use rustix::thread::{CapabilitySet, remove_capability_from_bounding_set};
use serde_bytes::ByteBuf;

use super::FAILED_RUN;
use super::run::HIDDEN;
use super::run::pause::Pause;
use super::run::spec::{NotStarted, Sheet, Spec, c_string};
use crate::capture::filter;
use crate::capture::sys::{self, Disposition};

/// Where commands are looked up when PATH is not set; what `execvp` does.
const DEFAULT_PATH: &[u8] = b"/bin:/usr/bin";

#[derive(Args, Debug)]
pub(super) struct StageArgs {
    /// Pid of the parent
    parent: u32,
    /// Its descriptor of the specification
    spec: i32,
    /// Its descriptor of the report
    report: i32,
    /// Its descriptor of the pipe that takes the word that the mounts are private
    ready: i32,
    /// Its descriptor of the pipe that brings what the overlay adds
    laid: i32,
}

pub(super) fn run(args: &StageArgs) -> anyhow::Result<ExitCode> {
    let own = rustix::process::getppid().map(rustix::process::Pid::as_raw_nonzero);
    let is_child = own.is_some_and(|pid| u32::try_from(pid.get()).is_ok_and(|pid| pid == args.parent));
    anyhow::ensure!(is_child, "`stage` is for `crewtap run` itself");
    let mut report = Sheet::of_parent(args.parent, args.report)?;
    let spec = Sheet::of_parent(args.parent, args.spec)?.read::<Spec>()?.context("there is no specification")?;
    let pause = Pause::of_parent(args.parent, args.ready, args.laid)?;
    let failure = match become_command(spec, pause) {
        Err(error) => NotStarted { status: FAILED_RUN, why: format!("{error:#}") },
        Ok(failure) => failure,
    };
    eprintln!("crewtap: {}", failure.why);
    report.write(&failure)?;
    Ok(ExitCode::from(failure.status))
}

/// Does not return when all goes well.
fn become_command(mut spec: Spec, pause: Pause) -> anyhow::Result<NotStarted> {
    join(&spec.cgroup)?;
    hide(&spec.hide)?;
    add_missing(&mut spec.environment, pause.until_laid()?);
    let spec = &spec;
    if spec.no_raw_sockets {
        remove_capability_from_bounding_set(CapabilitySet::NET_RAW).context("cannot give up raw sockets")?;
        sys::filter_calls(&filter::sockets()).context("cannot filter the calls that make sockets")?;
    }
    if let Some((soft, hard)) = spec.core_limits {
        // Raising it needs a capability that root of a container may lack; nothing depends on it.
        let _refused = setrlimit(Resource::RLIMIT_CORE, soft, hard);
    }
    become_user(spec).context("cannot become the user")?;
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(spec.umask));
    if let Some(user) = &spec.foreign_user {
        access(".", AccessFlags::X_OK)
            .with_context(|| format!("{user} may not enter the working directory: change to another one first"))?;
    }
    restore_signals(spec)?;
    Ok(execute(spec)?)
}

/// From here on every connection is captured.
fn join(cgroup: &Path) -> anyhow::Result<()> {
    let procs = cgroup.join("cgroup.procs");
    fs::write(&procs, "0").with_context(|| format!("cannot join the capture cgroup by {}", procs.display()))
}

/// Lays an empty directory that nobody may enter over each of `directories`, for this process and all that
/// come from it. Mounts of the host still appear in the run; none of the run's appears on the host.
fn hide(directories: &[std::path::PathBuf]) -> anyhow::Result<()> {
    unshare(CloneFlags::CLONE_NEWNS).context("cannot make a mount namespace")?;
    let nothing = None::<&str>;
    mount(nothing, "/", nothing, MsFlags::MS_REC | MsFlags::MS_SLAVE, nothing)
        .context("cannot make the mounts of the run private")?;
    for directory in directories {
        let flags = MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
        mount(Some(HIDDEN), directory, Some("tmpfs"), flags, Some("mode=000,size=4k,nr_inodes=1"))
            .with_context(|| format!("cannot hide {} from the run", directory.display()))?;
    }
    Ok(())
}

/// Variables that the overlay brings, where the command has none of that name.
fn add_missing(environment: &mut Vec<ByteBuf>, additions: Vec<(String, String)>) {
    for (name, value) in additions {
        let begin = format!("{name}=");
        if !environment.iter().any(|word| word.starts_with(begin.as_bytes())) {
            environment.push(ByteBuf::from(begin + &value));
        }
    }
}

fn become_user(spec: &Spec) -> nix::Result<()> {
    // Readers of the evidence are not what is recorded in it: another process's /proc/PID/root would lead there.
    let analysts = nix::unistd::Group::from_name(crate::journal::GROUP)?.map(|group| group.gid);
    let groups = spec.groups.iter().map(|group| Gid::from_raw(*group));
    let groups: Vec<Gid> = groups.filter(|group| Some(*group) != analysts).collect();
    let (uid, gid) = (Uid::from_raw(spec.uid), Gid::from_raw(spec.gid));
    setgroups(&groups)?;
    setresgid(gid, gid, gid)?;
    setresuid(uid, uid, uid)
}

/// As the invoker had them; the Rust runtime and the wrapper have changed these.
fn restore_signals(spec: &Spec) -> nix::Result<()> {
    let disposition = |ignore| if ignore { Disposition::Ignore } else { Disposition::Default };
    sys::set_disposition(Signal::SIGPIPE, disposition(spec.ignore_pipe))?;
    if spec.ignore_child {
        sys::set_disposition(Signal::SIGCHLD, Disposition::Ignore)?;
    }
    let blocked = spec.blocked.iter().filter_map(|number| Signal::try_from(*number).ok());
    blocked.collect::<SigSet>().thread_set_mask()
}

/// As `execvp` and every shell do: all of PATH is tried, a file that may not be executed is remembered, and
/// one without a format is a script of `/bin/sh`.
fn execute(spec: &Spec) -> io::Result<NotStarted> {
    let words = spec.argv.iter().map(|word| c_string(word)).collect::<io::Result<Vec<_>>>()?;
    let environment = spec.environment.iter().map(|word| c_string(word)).collect::<io::Result<Vec<_>>>()?;
    let name: &[u8] = spec.argv.first().map(|word| word.as_slice()).unwrap_or_default();
    let shown = OsStr::from_bytes(name).display();
    let mut denied = None;
    for candidate in candidates(name, &spec.environment) {
        match attempt(&candidate, &words, &environment)? {
            Errno::ENOENT | Errno::ENOTDIR if !exists(&candidate) => {}
            // The file is there, its interpreter is not.
            Errno::ENOENT => {
                let why = format!("{}: its interpreter is not there", OsStr::from_bytes(&candidate).display());
                return Ok(NotStarted { status: 126, why });
            }
            Errno::EACCES => denied = Some((candidate, Errno::EACCES)),
            errno => {
                denied = Some((candidate, errno));
                break;
            }
        }
    }
    Ok(match denied {
        Some((path, errno)) => {
            let why = format!("{}: {}", OsStr::from_bytes(&path).display(), errno.desc());
            NotStarted { status: 126, why }
        }
        None if name.contains(&b'/') => NotStarted { status: 127, why: format!("{shown}: no such file") },
        None => NotStarted { status: 127, why: format!("{shown}: command not found") },
    })
}

fn exists(path: &[u8]) -> bool {
    fs::metadata(OsStr::from_bytes(path)).is_ok()
}

fn candidates(name: &[u8], environment: &[serde_bytes::ByteBuf]) -> Vec<Vec<u8>> {
    if name.contains(&b'/') {
        return vec![name.to_vec()];
    }
    if name.is_empty() {
        return Vec::new();
    }
    let path = environment.iter().find_map(|word| word.strip_prefix(b"PATH=")).unwrap_or(DEFAULT_PATH);
    let directories = path.split(|byte| *byte == b':');
    directories
        .map(|directory| if directory.is_empty() { &b"."[..] } else { directory })
        .map(|directory| [directory, name].join(&b'/'))
        .collect()
}

/// Returns why the file could not be executed.
fn attempt(path: &[u8], words: &[CString], environment: &[CString]) -> io::Result<Errno> {
    if fs::metadata(OsStr::from_bytes(path)).is_ok_and(|file| file.is_dir()) {
        return Ok(Errno::EACCES);
    }
    let path = c_string(path)?;
    let Err(errno) = execve(&path, words, environment);
    if errno != Errno::ENOEXEC {
        return Ok(errno);
    }
    let mut script = vec![c_string(b"/bin/sh")?, path];
    script.extend(words.iter().skip(1).cloned());
    let Err(errno) = execve(c"/bin/sh", &script, environment);
    Ok(errno)
}

#[cfg(test)]
mod tests {
    use serde_bytes::ByteBuf;

    use super::{add_missing, candidates};

    #[test]
    fn variables_of_the_overlay_never_replace_the_users() {
        let mut environment = vec![ByteBuf::from("DENO_CERT=/mine.pem"), ByteBuf::from("NODE=x")];
        add_missing(
            &mut environment,
            [("DENO_CERT", "/c.pem"), ("NODE_EXTRA_CA_CERTS", "/c.pem")]
                .map(|(name, value)| (name.into(), value.into()))
                .into(),
        );
        let expected = ["DENO_CERT=/mine.pem", "NODE=x", "NODE_EXTRA_CA_CERTS=/c.pem"].map(ByteBuf::from);
        assert_eq!(environment, expected);
    }

    #[test]
    fn commands_are_looked_up_in_the_path_they_were_given() {
        let environment = [ByteBuf::from("HOME=/x"), ByteBuf::from("PATH=/v/bin::rel")];
        let found = candidates(b"crewai", &environment);
        assert_eq!(found, [&b"/v/bin/crewai"[..], b"./crewai", b"rel/crewai"]);
        assert_eq!(candidates(b"./x", &environment), [b"./x"]);
        assert_eq!(candidates(b"x", &[]), [&b"/bin/x"[..], b"/usr/bin/x"]);
        assert!(candidates(b"", &environment).is_empty());
    }
}
