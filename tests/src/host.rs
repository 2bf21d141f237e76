//! One network namespace with loopback up, one data directory, and crewtap commands inside.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::missing_panics_doc)]

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, setns};
use serde_json::Value;

static NUMBER: AtomicU32 = AtomicU32::new(0);

/// A host of a test's own.
pub struct Host {
    netns: String,
    dir: tempfile::TempDir,
}

/// The crewtap binary under test: beside the test binary's directory, or where `CREWTAP_PROGRAM` says.
#[must_use]
pub fn crewtap() -> PathBuf {
    std::env::var_os("CREWTAP_PROGRAM").map_or_else(
        || {
            let exe = std::env::current_exe().unwrap();
            exe.parent().unwrap().parent().unwrap().join("crewtap")
        },
        PathBuf::from,
    )
}

fn ip(args: &[&str]) {
    let output = Command::new("ip").args(args).output().expect("iproute2 is installed by `cargo xtask setup`");
    assert!(output.status.success(), "ip {args:?}: {}", String::from_utf8_lossy(&output.stderr));
}

impl Host {
    /// A namespace named after the process and a number, with nothing but loopback in it.
    #[must_use]
    pub fn new() -> Self {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let netns = format!("ct-{}-{number}", std::process::id());
        ip(&["netns", "add", &netns]);
        let dir = tempfile::Builder::new().prefix("crewtap-test-").tempdir().unwrap();
        let host = Self { netns, dir };
        host.ip(&["link", "set", "lo", "up"]);
        host
    }

    /// Runs `ip` inside the namespace.
    pub fn ip(&self, args: &[&str]) {
        ip(&[&["-n", &self.netns], args].concat());
    }

    /// Gives loopback a further address, IPv4 or IPv6, for a server.
    pub fn address(&self, address: &str) {
        let prefix = if address.contains(':') { "128" } else { "32" };
        let mut args = vec!["addr", "add"];
        let address = format!("{address}/{prefix}");
        args.extend([address.as_str(), "dev", "lo"]);
        if address.contains(':') {
            args.push("nodad");
        }
        self.ip(&args);
    }

    /// A device with a default route through it, so that addresses elsewhere have a route that leads nowhere.
    /// Its other end drops everything: it is a veth, because not every kernel has dummy devices.
    pub fn route_to_nowhere(&self) {
        self.ip(&["link", "add", "nowhere", "arp", "off", "type", "veth", "peer", "name", "nobody"]);
        self.ip(&["addr", "add", "10.99.0.1/24", "dev", "nowhere"]);
        self.ip(&["link", "set", "nobody", "up"]);
        self.ip(&["link", "set", "nowhere", "up"]);
        self.ip(&["route", "add", "default", "dev", "nowhere"]);
    }

    /// The store.
    #[must_use]
    pub fn data_dir(&self) -> PathBuf {
        self.dir.path().join("store")
    }

    /// A place for files of the test.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The namespace's name.
    #[must_use]
    pub fn netns(&self) -> &str {
        &self.netns
    }

    /// A command that runs inside the namespace.
    #[must_use]
    pub fn command(&self, program: impl AsRef<Path>) -> Command {
        // `ip netns exec` mounts another /sys, without cgroups.
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{}", self.netns)).arg(program.as_ref());
        command.stdin(Stdio::null());
        command
    }

    /// A crewtap command on this host's store.
    #[must_use]
    pub fn crewtap(&self, args: &[&str]) -> Command {
        let mut command = self.command(crewtap());
        command.arg("--data-dir").arg(self.data_dir()).args(args);
        command
    }

    /// `crewtap run -- COMMAND`, to its end, and until all of it is indexed: where the disk is slow, the command itself
    /// says "so far" after some seconds.
    #[must_use]
    pub fn run(&self, command: &[&str]) -> Output {
        let output = self.crewtap(&["run", "--"]).args(command).output().unwrap();
        if let Some(run) = unfinished(&String::from_utf8_lossy(&output.stderr)) {
            let deadline = Instant::now() + INDEXED_WAIT;
            while !self.json(&["runs"]).iter().any(|row| row["id"] == *run && !row["ended_ns"].is_null()) {
                if Instant::now() >= deadline {
                    // A session may still be draining: what the test looks for then fails in its own words.
                    break;
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        output
    }

    /// `crewtap run -- COMMAND` in the background.
    #[must_use]
    pub fn spawn_run(&self, command: &[&str]) -> Child {
        self.crewtap(&["run", "--"]).args(command).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// `crewtap run -- python3 -c SCRIPT ARGS…`, which must succeed; its standard output.
    #[must_use]
    pub fn python(&self, script: &str, args: &[&str]) -> String {
        let output = self.run(&[&["python3", "-c", script], args].concat());
        succeeded(&output)
    }

    /// The JSON Lines that an analyst's verb prints; an empty answer is an empty list.
    #[must_use]
    pub fn json(&self, args: &[&str]) -> Vec<Value> {
        let output = self.crewtap(args).arg("--json").output().unwrap();
        let code = output.status.code();
        assert!(
            matches!(code, Some(0 | 1)),
            "crewtap {args:?} ended with {code:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// The run that was started last.
    #[must_use]
    pub fn last_run(&self) -> Value {
        self.json(&["runs"]).into_iter().max_by_key(|run| run["id"].as_str().unwrap().to_owned()).expect("a run")
    }

    /// Every event of a run, in order.
    #[must_use]
    pub fn timeline(&self, run: &Value) -> Vec<Value> {
        self.json(&["timeline", run["id"].as_str().unwrap()])
    }

    /// The agent that serves this host's store now.
    #[must_use]
    pub fn agent(&self) -> u32 {
        let store = self.data_dir().display().to_string();
        let is_agent = |words: &str| words.contains(&store) && words.split('\0').any(|word| word == "agent");
        let processes = std::fs::read_dir("/proc").unwrap().map_while(Result::ok);
        let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        let words = |pid: &u32| std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let agents: Vec<u32> = pids.filter(|pid| is_agent(&words(pid))).collect();
        assert_eq!(agents.len(), 1, "{agents:?}");
        agents[0]
    }

    /// `crewtap verify` must find nothing wrong.
    pub fn verify(&self) {
        let output = self.crewtap(&["verify"]).output().unwrap();
        assert!(output.status.success(), "{}", text(&output));
    }

    /// Runs a closure on a thread of its own inside the namespace.
    pub fn inside<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> std::thread::JoinHandle<T> {
        let netns = File::open(format!("/run/netns/{}", self.netns)).unwrap();
        std::thread::spawn(move || {
            setns(&netns, CloneFlags::CLONE_NEWNET).unwrap();
            work()
        })
    }
}

impl Default for Host {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // A test that failed may have left an agent; it ends by itself with its last process.
        let _ = Command::new("ip").args(["netns", "del", &self.netns]).output();
    }
}

/// Standard output of a command that must have succeeded.
#[must_use]
pub fn succeeded(output: &Output) -> String {
    assert!(output.status.success(), "{:?}\n{}", output.status, text(output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Both outputs of a command, for a failure's text.
#[must_use]
pub fn text(output: &Output) -> String {
    format!(
        "stdout:\n{}\nstderr:\n{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// How long a slow disk may keep a run from being indexed.
const INDEXED_WAIT: Duration = Duration::from_mins(1);

/// The run whose last line says that its record was not complete yet, and that no process is left that could go on.
fn unfinished(stderr: &str) -> Option<String> {
    let told = stderr.lines().rev().find_map(|line| line.strip_prefix("crewtap: run "))?;
    let (run, rest) = told.split_once(' ')?;
    (rest.starts_with("so far") && !rest.contains(" outlive")).then(|| run.to_owned())
}
