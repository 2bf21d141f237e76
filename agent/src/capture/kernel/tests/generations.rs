//! What agents leave behind is swept by agents of other stores when they are dead and nobody is in it, never before.

use super::lab::{LONG, tool};
use crate::capture::{Kernel, KernelOptions, cgroup};
use std::{
    env, fs,
    io::{BufRead, BufReader},
    path::PathBuf,
    process::{Child, Command, Stdio},
};

/// An agent in a process of its own; its run's directory, and its pins.
struct Agent {
    child: Child,
    run: PathBuf,
    pins: PathBuf,
}

impl Agent {
    fn start(name: &str) -> Self {
        let test = "capture::kernel::tests::life::agent_process";
        let mut agent = Command::new(env::current_exe().unwrap());
        agent.args(["--exact", test, "--nocapture"]).env("CREWTAP_TEST_AGENT", name);
        let mut child = agent.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let ready = lines.find_map(|line| line.unwrap().strip_prefix("ready ").map(str::to_owned)).unwrap();
        let run = PathBuf::from(ready.split_once(' ').unwrap().1);
        let number = run.parent().unwrap().extension().unwrap().to_owned();
        Self { child, run, pins: PathBuf::from("/sys/fs/bpf/crewtap").join(name).join(number) }
    }

    fn is_left(&self) -> bool {
        let (cgroup, pins) = (self.run.exists(), self.pins.exists());
        assert_eq!(cgroup, pins, "programs and cgroup go together");
        cgroup
    }
}

/// Starts and ends an agent of another store.
fn another(name: &str) {
    let kernel = Kernel::load(&KernelOptions::new(name)).unwrap();
    kernel.unload().unwrap();
}

#[test]
fn a_dead_agent_of_another_store_is_swept_when_nobody_is_left() {
    let name = format!("ct{}dead", std::process::id());
    let other = format!("ct{}other", std::process::id());
    tool(&format!("ip netns add {name}"));
    tool(&format!("ip -n {name} link set lo up"));
    let mut agent = Agent::start(&name);
    another(&other);
    assert!(agent.is_left(), "it lives");
    let mut left = Command::new("sh");
    left.args(["-c", "echo $$ > \"$0\" && echo in && exec sleep 1000"]).arg(agent.run.join("cgroup.procs"));
    let mut left = left.stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(left.stdout.take().unwrap()).read_line(&mut line).unwrap();
    agent.child.kill().unwrap();
    agent.child.wait().unwrap();
    another(&other);
    assert!(agent.is_left(), "a process is in it, and must stay refused");
    assert!(cgroup::is_captured(left.id()));
    left.kill().unwrap();
    left.wait().unwrap();
    // The kernel lets go of a process a moment after it was waited for.
    let deadline = std::time::Instant::now() + LONG;
    while fs::read_to_string(agent.run.join("cgroup.events")).is_ok_and(|text| text.contains("populated 1")) {
        assert!(std::time::Instant::now() < deadline);
        std::thread::yield_now();
    }
    // An agent passes by what another process holds, and so does a child of this one that has not executed its program yet:
    // the next one sees to it.
    while agent.run.exists() || agent.pins.exists() {
        assert!(std::time::Instant::now() < deadline, "{}", agent.run.display());
        another(&other);
    }
    assert!(!agent.pins.parent().unwrap().exists(), "the store goes with its last generation");
    tool(&format!("ip netns del {name}"));
}
