//! Servers inside the run, the process tree, and the agent's own death.

use super::lab::{LONG, Lab, stdout, tool};
use crate::capture::{
    Kernel, KernelOptions,
    cgroup::{self, Cgroup},
    kernel::{KernelEvent, Mode, RunOptions},
    netns::{NetworkNamespace, Reach},
};
use std::{
    env,
    io::{BufRead, BufReader, Write},
    path::PathBuf,
    process::{Command, Stdio},
};

#[test]
fn a_server_inside_an_enforced_run() {
    let mut lab = Lab::new(Mode::Enforce);
    let mut server = lab.python(
        "a = socket.create_server(('0.0.0.0', 8123)); b = socket.create_server(('::', 8124), family=socket.AF_INET6)
print(os.getpid(), flush=True)
if os.fork() == 0:
    c, _ = a.accept(); c.sendall(b'four'); c.close(); os._exit(0)
c, _ = b.accept(); c.sendall(b'six'); c.close(); os.wait()",
    );
    let mut line = String::new();
    BufReader::new(server.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    let client = "import socket
for a in (('198.18.0.2', 8123), ('2001:db8:18::2', 8124)):
    print(socket.create_connection(a, timeout=20).makefile().read())";
    let output = lab.outside(&["/usr/bin/python3", "-c", client]).output().unwrap();
    assert_eq!(stdout(&output), "four\nsix");
    assert!(server.wait().unwrap().success());
    let accepted: Vec<_> = lab
        .events()
        .iter()
        .filter_map(|event| match event {
            KernelEvent::Accepted { moment, peer, local } => Some((moment.tgid, peer.ip(), *local)),
            _ => None,
        })
        .collect();
    let pid = line.trim().parse().unwrap();
    assert_eq!(accepted.len(), 2);
    assert_eq!(accepted[0], (pid, "198.18.0.2".parse().unwrap(), "198.18.0.2:8123".parse().unwrap()));
    assert_eq!(accepted[1].2, "[2001:db8:18::2]:8124".parse().unwrap());
    assert_eq!(lab.counters().accepted, 2);
    assert!(!lab.seen.iter().any(|event| matches!(event, KernelEvent::Bypass { .. })), "{:?}", lab.seen);
}

#[test]
fn the_process_tree() {
    let mut lab = Lab::new(Mode::Record);
    let output = lab.command(&["sh", "-c", "echo $$; /bin/true; /bin/true & wait"]).output().unwrap();
    let shell: u32 = stdout(&output).parse().unwrap();
    let names: Vec<String> = lab
        .events()
        .iter()
        .filter_map(|event| match event {
            KernelEvent::Exec { filename, .. } => Some(String::from_utf8(filename.clone()).unwrap()),
            _ => None,
        })
        .collect();
    assert_eq!(names, ["/usr/bin/sh", "/bin/true", "/bin/true"]);
    let children: Vec<u32> = lab
        .seen
        .iter()
        .filter_map(|event| match event {
            KernelEvent::Fork { moment, child } if moment.tgid == shell => Some(*child),
            _ => None,
        })
        .collect();
    assert_eq!(children.len(), 2);
    for child in children.into_iter().chain([shell]) {
        let ended = |event: &&KernelEvent| matches!(event, KernelEvent::Exit { moment, last } if moment.tgid == child && *last != Some(false));
        assert_eq!(lab.seen.iter().filter(ended).count(), 1);
    }
}

#[test]
fn sub_cgroups_count_and_runs_know_their_processes() {
    let lab = Lab::new(Mode::Record);
    let below = lab.run.create_child("below").unwrap();
    let child = lab.python(&format!(
        "open('{}/cgroup.procs', 'w').write('0'); s = tcp(); s.connect(('203.0.113.9', 4443)); s.recv(1)",
        below.path().display()
    ));
    let (stream, origin) = lab.accept_or_explain(child.id());
    assert_eq!(origin.run, lab.run.id());
    assert_eq!(cgroup::run_of_process(lab.kernel.parent(), origin.tgid).unwrap().as_deref(), Some("run"));
    assert!(lab.run.pids().unwrap().contains(&origin.tgid));
    drop(stream);
    child.wait_with_output().unwrap();
    assert!(lab.run.wait_until_empty(LONG).unwrap());
    assert_eq!(cgroup::run_of_process(lab.kernel.parent(), std::process::id()).unwrap(), None);
}

/// The agent of the next test, in a process of its own that the test kills: it says what it listens on, and waits.
#[test]
fn agent_process() {
    let Ok(name) = env::var("CREWTAP_TEST_AGENT") else { return };
    let namespace = NetworkNamespace::open(&PathBuf::from(format!("/run/netns/{name}"))).unwrap();
    let listeners = crate::capture::Listeners::bind(&namespace).unwrap();
    let kernel = Kernel::load(&KernelOptions::new(&name)).unwrap();
    let reach = Reach { route4: true, route6: true, addresses: Vec::new() };
    let run = kernel.add_run("run", &RunOptions::new(Mode::Record, listeners.ports(), &reach)).unwrap();
    println!("\nready {} {}", listeners.ports().tcp4, run.path().display());
    std::io::stdout().flush().unwrap();
    let mut line = String::new();
    let _ = std::io::stdin().read_line(&mut line);
}

/// Law 3: an agent killed with another uid waiting for its port. The client connects without pause from before the
/// kill to after; it must never reach the other.
#[test]
fn the_agent_is_killed_and_somebody_waits_on_its_port() {
    let name = format!("ct{}kill", std::process::id());
    tool(&format!("ip netns add {name}"));
    tool(&format!("ip -n {name} link set lo up"));
    let test = "capture::kernel::tests::life::agent_process";
    let mut agent = Command::new(env::current_exe().unwrap());
    agent.args(["--exact", test, "--nocapture"]).env("CREWTAP_TEST_AGENT", &name);
    let mut agent = agent.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(agent.stdout.take().unwrap()).lines();
    let ready = lines.find_map(|line| line.unwrap().strip_prefix("ready ").map(str::to_owned)).unwrap();
    let (port, run) = ready.split_once(' ').unwrap();
    let inside = |program: &[&str]| {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{name}")).args(program);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        command
    };
    let thief = format!(
        "import socket, os
os.setuid(65534); print('waiting', flush=True)
while True:
    try:
        s = socket.create_server(('0.0.0.0', {port}), reuse_port=False); break
    except OSError: pass
print('listening', flush=True); s.settimeout(4)
try: s.accept(); print('caught')
except OSError: print('nothing')"
    );
    let mut thief = inside(&["/usr/bin/python3", "-c", &thief]).spawn().unwrap();
    let client = "import socket, sys, errno
print('going', flush=True); results = {}
while results.get('EPERM', 0) < 20000:
    s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b'\\1\\0\\0\\0\\0\\0\\0\\0')
    try: s.connect(('203.0.113.9', 4443)); r = 'ok'
    except OSError as e: r = errno.errorcode[e.errno]
    results[r] = results.get(r, 0) + 1; s.close()
print(sorted(results))";
    let script = "echo $$ > \"$0\" && exec \"$@\"";
    let procs = format!("{run}/cgroup.procs");
    let mut client = inside(&["sh", "-c", script, &procs, "/usr/bin/python3", "-c", client]).spawn().unwrap();
    let mut thief_says = BufReader::new(thief.stdout.take().unwrap()).lines();
    let mut client_says = BufReader::new(client.stdout.take().unwrap()).lines();
    assert_eq!(thief_says.next().unwrap().unwrap(), "waiting");
    assert_eq!(client_says.next().unwrap().unwrap(), "going");
    // Somebody stays in it: other tests' agents sweep what is dead and empty.
    let left = stay(&PathBuf::from(run));
    agent.kill().unwrap();
    agent.wait().unwrap();
    assert_eq!(thief_says.next().unwrap().unwrap(), "listening");
    let results = client_says.next().unwrap().unwrap();
    assert!(results.contains("EPERM"), "{results}");
    assert_eq!(thief_says.next().unwrap().unwrap(), "nothing");
    client.wait().unwrap();
    thief.wait().unwrap();
    the_next_agent_cleans_up(&name, &PathBuf::from(run), left);
    tool(&format!("ip netns del {name}"));
}

/// A process in a cgroup, once it is there.
fn stay(run: &std::path::Path) -> std::process::Child {
    let mut left = Command::new("sh");
    left.args(["-c", "echo $$ > \"$0\" && echo in && exec sleep 1000"]).arg(run.join("cgroup.procs"));
    let mut left = left.stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(left.stdout.take().unwrap()).read_line(&mut line).unwrap();
    left
}

/// What the dead agent left is listed while a process is in it, and removed when it is empty.
fn the_next_agent_cleans_up(name: &str, run: &std::path::Path, mut left: std::process::Child) {
    let kernel = Kernel::load(&KernelOptions::new(name)).unwrap();
    let stale = kernel.stale().unwrap();
    assert_eq!(stale.len(), 1);
    assert_eq!(stale[0].runs.iter().map(Cgroup::path).collect::<Vec<_>>(), [run]);
    assert_eq!(stale[0].runs[0].pids().unwrap(), [left.id()]);
    kernel.sweep().unwrap();
    assert!(run.exists());
    stale[0].runs[0].kill().unwrap();
    left.wait().unwrap();
    assert!(stale[0].runs[0].wait_until_empty(LONG).unwrap());
    kernel.sweep().unwrap();
    assert!(!run.exists());
    assert!(kernel.stale().unwrap().is_empty());
    let parent = kernel.parent().path().to_owned();
    kernel.unload().unwrap();
    assert!(!parent.exists());
    assert!(!PathBuf::from(format!("/sys/fs/bpf/crewtap/{name}")).exists());
}

/// A child that is born outside (`CLONE_INTO_CGROUP`) passes no `cgroup_attach_task`; its first exec gives it away.
#[test]
fn born_outside_the_run() {
    let mut lab = Lab::new(Mode::Record);
    let root = lab.kernel.parent().path().parent().unwrap().to_owned();
    let output = lab.run_python(&format!(
        "fd = os.open('{}', os.O_RDONLY | os.O_DIRECTORY)
args = struct.pack('=11Q', 0x200000000, 0, 0, 0, 17, 0, 0, 0, 0, 0, fd)
libc = ctypes.CDLL(None, use_errno=True); buffer = ctypes.create_string_buffer(args, 88)
pid = libc.syscall(435, buffer, 88)
if pid == 0: os.execv('/bin/true', ['true'])
assert pid > 0, os.strerror(ctypes.get_errno())
os.waitpid(pid, 0); print(pid)",
        root.display()
    ));
    let pid: u32 = stdout(&output).parse().unwrap();
    let moved = |event: &&KernelEvent| matches!(event, KernelEvent::Moved { moment, cgroup: None, by: None } if moment.tgid == pid);
    assert_eq!(lab.events().iter().filter(moved).count(), 1, "{:?}", lab.seen);
}
