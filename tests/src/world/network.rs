//! The two network namespaces and the cable between them. Neither has a route out, so that nothing that a test does can
//! leave the machine.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, gettid};

use super::paths::must;
use super::{NAMES, RESOLVERS};

/// The namespaces, held open by their files.
#[derive(Debug)]
pub(super) struct Network {
    near: File,
    far: File,
}

impl Network {
    /// Moves the calling thread into a new mount namespace and into the near network namespace.
    pub(super) fn make() -> Result<Self> {
        unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET).context("cannot make namespaces")?;
        let far = current_namespace()?;
        ip("link set lo up")?;
        ip("link add world0 type veth peer name crew0")?;
        let names = NAMES.iter().flat_map(|(_, addresses)| addresses.iter());
        for address in names.chain(RESOLVERS).collect::<BTreeSet<_>>() {
            ip(&format!("addr add {} dev world0 nodad", with_prefix(address)))?;
        }
        unshare(CloneFlags::CLONE_NEWNET).context("cannot make a second network namespace")?;
        let near = current_namespace()?;
        let network = Self { near, far };
        let here = gettid();
        // The kernel takes a thread's number here: its namespace is where the cable's end goes.
        must(
            Command::new("nsenter")
                .arg(format!("--net=/proc/{}/fd/{}", std::process::id(), network.far.as_raw_fd()))
                .args(["ip", "link", "set", "crew0", "netns", &here.to_string()]),
        )?;
        ip("link set lo up")?;
        ip("addr add 10.77.0.1/24 dev crew0")?;
        ip("addr add fd77::1/64 dev crew0 nodad")?;
        ip("link set crew0 up")?;
        network.far(|| ip("link set world0 up"))?;
        Ok(network)
    }

    /// Runs `work` with the calling thread in the far namespace.
    pub(super) fn far<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<T> {
        setns(&self.far, CloneFlags::CLONE_NEWNET).context("cannot enter the servers' namespace")?;
        let outcome = work();
        setns(&self.near, CloneFlags::CLONE_NEWNET).context("cannot return to the crew's namespace")?;
        outcome
    }

    /// Ends every process that is in one of the namespaces, whoever started it: first politely, then at once.
    pub(super) fn end_processes(&self) {
        for (signal, patience) in [(Signal::SIGTERM, 3), (Signal::SIGKILL, 10)] {
            let deadline = Instant::now() + Duration::from_secs(patience);
            let mut told = BTreeSet::new();
            loop {
                let left = processes_in(&[&self.near, &self.far]);
                if left.is_empty() {
                    return;
                }
                for pid in left.iter().filter(|pid| signal == Signal::SIGKILL || told.insert(**pid)) {
                    // It may have ended meanwhile.
                    let _ = kill(Pid::from_raw(*pid), signal);
                }
                if Instant::now() > deadline {
                    break;
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    }

    pub(super) fn wait_until_near_is_empty(&self, seconds: u64) -> bool {
        let deadline = Instant::now() + Duration::from_secs(seconds);
        while !processes_in(&[&self.near]).is_empty() {
            if Instant::now() > deadline {
                return false;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        true
    }
}

fn current_namespace() -> Result<File> {
    File::open("/proc/thread-self/ns/net").context("cannot open this thread's network namespace")
}

fn with_prefix(address: &str) -> String {
    let prefix = if address.contains(':') { 64 } else { 24 };
    format!("{address}/{prefix}")
}

fn ip(arguments: &str) -> Result<()> {
    must(Command::new("ip").args(arguments.split(' '))).map(drop)
}

/// Processes whose main thread is in one of the namespaces. Our own main thread never is.
fn processes_in(namespaces: &[&File]) -> Vec<i32> {
    let wanted: Vec<u64> = namespaces.iter().filter_map(|file| file.metadata().ok()).map(|file| file.ino()).collect();
    let numbers = fs::read_dir("/proc").into_iter().flatten().filter_map(Result::ok);
    numbers
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid: &i32| fs::metadata(format!("/proc/{pid}/ns/net")).is_ok_and(|file| wanted.contains(&file.ino())))
        .collect()
}
