//! The agent of a host's store as a process: its pid, its listeners, its end, and what it leaves in the kernel.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crewtap::control::Client;
use crewtap::index::AgentLock;
use crewtap_tests::host::Host;
use rustix::process::{Pid, Signal, kill_process};

/// Patience with the machine, not part of what is tested.
pub(crate) const LONG: Duration = Duration::from_mins(1);

/// Asks again and again until there is an answer; what takes longer than [`LONG`] has failed.
pub(crate) fn until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + LONG;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "{what} did not happen");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The pid of the agent that serves the store.
pub(crate) fn pid(host: &Host) -> u32 {
    until("an agent", || try_pid(&host.data_dir()))
}

fn try_pid(data_dir: &Path) -> Option<u32> {
    Some(Client::connect(data_dir).ok()?.status().ok()?.pid)
}

/// Waits until the host's agent, if there is one, has found that it has nothing to do and has ended.
pub(crate) fn wait_idle(host: &Host) {
    if let Some(pid) = try_pid(&host.data_dir()) {
        wait_gone(pid);
    }
}

/// Sends a signal; a stop has come to every thread when this returns.
pub(crate) fn signal(pid: u32, signal: Signal) {
    kill_process(Pid::from_raw(pid.cast_signed()).unwrap(), signal).unwrap();
    if signal == Signal::STOP {
        until("the stop of every thread", || {
            let threads = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
            let mut states = threads.map(|thread| std::fs::read_to_string(thread.unwrap().path().join("stat")));
            states.all(|stat| stat.is_ok_and(|stat| stat.contains(") T "))).then_some(())
        });
    }
}

/// Waits until a process is gone, or waits only to be collected.
pub(crate) fn wait_gone(pid: u32) {
    until("the end of a process", || {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        (stat.is_empty() || stat.contains(") Z ")).then_some(())
    });
}

/// kill -9, and its end.
pub(crate) fn kill(host: &Host) {
    let pid = pid(host);
    signal(pid, Signal::KILL);
    wait_gone(pid);
}

/// Waits until no agent has the store.
pub(crate) fn wait_end(host: &Host) {
    until("the agent's own end", || (!AgentLock::is_taken(&host.data_dir())).then_some(()));
}

/// `crewtap agent`, as a service would run it, once it serves.
pub(crate) fn service(host: &Host) -> Child {
    let child = host.crewtap(&["agent"]).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    // `nsenter` executes it: the pid is the agent's.
    assert_eq!(pid(host), child.id());
    child
}

/// The store's name in the kernel.
fn store_name(host: &Host) -> String {
    let reader = crewtap::journal::Reader::open(&host.data_dir()).unwrap();
    reader.key().store().to_string().to_lowercase()[10..].to_owned()
}

/// Cgroups and pins of the store.
pub(crate) fn left_in_kernel(host: &Host) -> Vec<PathBuf> {
    let name = store_name(host);
    let root = crewtap::capture::cgroup::mount_point().unwrap();
    let cgroups = std::fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path());
    let cgroups = cgroups.filter(|path| path.file_name().unwrap().to_str().unwrap().contains(&name));
    let pins = PathBuf::from("/sys/fs/bpf/crewtap").join(&name);
    cgroups.chain(pins.exists().then_some(pins)).collect()
}

/// Ports on which anybody but `others` listens in the host's namespace: the agent's.
pub(crate) fn ports(host: &Host, others: &[u16]) -> Vec<u16> {
    let output = host.command("cat").args(["/proc/net/tcp", "/proc/net/tcp6"]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let listening = text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let local = words.nth(1)?;
        (words.nth(1)? == "0A").then(|| u16::from_str_radix(local.rsplit(':').next()?, 16).ok())?
    });
    listening.filter(|port| !others.contains(port)).collect::<BTreeSet<_>>().into_iter().collect()
}

/// What a session's client sent, by session, as the journal has it; and how many bytes of it are told by their digest alone.
pub(crate) fn recorded_up(host: &Host) -> Vec<(Vec<u8>, u64)> {
    use crewtap_core::event::Body;
    use crewtap_core::session::Side;
    let mut sessions = BTreeMap::<String, (Vec<u8>, u64)>::new();
    for record in crewtap::journal::Reader::open(&host.data_dir()).unwrap().from(0) {
        let record = record.unwrap();
        if let (Body::Chunk(chunk), Some(session)) = (&record.event.body, record.event.session)
            && chunk.side == Side::Client
        {
            let (bytes, pending) = sessions.entry(session.to_string()).or_default();
            bytes.extend_from_slice(&record.payload);
            *pending = chunk.pending.as_ref().map_or(0, |pending| pending.len);
        }
    }
    sessions.into_values().collect()
}

/// A process that is ended with its test.
pub(crate) struct Ended(pub(crate) Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A command of another user in the host's namespace.
pub(crate) fn as_nobody(host: &Host, group: u32, program: &str) -> Command {
    let mut command = host.command("setpriv");
    command.args(["--reuid", "65534", "--regid", &group.to_string(), "--clear-groups", program]);
    command
}
