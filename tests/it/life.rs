//! The life of runs and of their agent, with the real program: who starts, who serves, who ends, what is left.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};

use crewtap_tests::host::{Host, crewtap, succeeded, text};
use crewtap_tests::peer::Peer;
use rustix::process::Signal;

use crate::agent;

/// A group that nobody on a machine has.
const GROUP: u32 = 54_321;

/// Talks once, says its pid, and waits for the end of its input.
const WAITING: &str = "import os, socket, sys
s = socket.create_connection(('127.0.0.1', int(sys.argv[1])), timeout=20)
s.sendall(b'hello'); s.recv(5)
print(os.getpid(), flush=True)
sys.stdin.read()";

/// A run whose command waits; its pid.
fn waiting(host: &Host, target: &Peer) -> (Child, u32) {
    let mut command = host.crewtap(&["run", "-q", "--", "python3", "-c", WAITING, &target.port()]);
    let mut run = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(run.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    (run, line.trim().parse().unwrap())
}

fn nothing_left(host: &Host) {
    assert_eq!(agent::left_in_kernel(host), Vec::<PathBuf>::new());
}

#[test]
fn three_runs_at_once_end_in_every_order() {
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        let host = Host::new();
        let targets = [(); 3].map(|()| Peer::echo(&host, "127.0.0.1:0"));
        let mut runs: Vec<_> = targets.iter().map(|target| waiting(&host, target)).collect();
        let agent = agent::pid(&host);
        for at in order {
            let (run, pid) = &mut runs[at];
            agent::signal(*pid, Signal::KILL);
            run.wait().unwrap();
            assert!(!PathBuf::from(format!("/proc/{pid}")).exists());
        }
        agent::wait_end(&host);
        agent::wait_gone(agent);
        let recorded = host.json(&["runs"]);
        assert_eq!(recorded.len(), 3);
        for run in &recorded {
            assert_eq!((&run["complete"], &run["sessions"], &run["status"]), (&true.into(), &1.into(), &137.into()));
        }
        // Each has its own session, and no other's.
        for target in &targets {
            let address = target.address.to_string();
            let sessions = recorded.iter().flat_map(|run| host.json(&["show", run["id"].as_str().unwrap()]));
            let of_target = |row: &serde_json::Value| row["table"] == "sessions" && row["address"] == address;
            assert_eq!(sessions.filter(of_target).count(), 1);
            assert_eq!(target.seen(), [b"hello"]);
        }
        host.verify();
        nothing_left(&host);
    }
}

#[test]
fn a_second_agent_says_who_has_the_store() {
    let host = Host::new();
    let mut service = agent::Ended(agent::service(&host));
    let second = host.crewtap(&["agent"]).output().unwrap();
    assert_eq!(second.status.code(), Some(2));
    let said = text(&second);
    let (pid, store) = (service.0.id(), host.data_dir().display().to_string());
    assert!(said.contains(&format!("another agent (pid {pid}) works in {store}")), "{said}");
    // What it said did not disturb the first.
    assert_eq!(agent::pid(&host), pid);
    agent::signal(pid, Signal::TERM);
    assert!(service.0.wait().unwrap().success());
}

#[test]
fn run_uses_the_agent_that_is_there_and_sigterm_drains_it() {
    let host = Host::new();
    let target = Peer::echo(&host, "127.0.0.1:0");
    let mut service = agent::Ended(agent::service(&host));
    let pid = service.0.id();
    assert_eq!(succeeded(&host.run(&["true"])), "");
    let (mut run, _) = waiting(&host, &target);
    assert_eq!(agent::pid(&host), pid, "it is the same agent, and it stays");
    agent::signal(pid, Signal::TERM);
    assert!(service.0.wait().unwrap().success());
    drop(run.stdin.take());
    assert!(run.wait().unwrap().success(), "the command's status is its own");
    let open = host.last_run();
    let shown = host.json(&["show", open["id"].as_str().unwrap()]);
    let sessions: Vec<_> = shown.iter().filter(|row| row["table"] == "sessions").collect();
    assert_eq!(sessions.len(), 1);
    assert!(sessions[0]["outcome"].is_string(), "closed on record: {}", sessions[0]);
    assert_eq!((&sessions[0]["bytes_up"], &sessions[0]["bytes_down"]), (&5.into(), &5.into()));
    let output = host.crewtap(&["verify", "--json"]).output().unwrap();
    let last: serde_json::Value = serde_json::from_str(succeeded(&output).lines().last().unwrap()).unwrap();
    assert_eq!((&last["intact"], &last["signed"]), (&true.into(), &last["records"]), "{last}");
    // The next agent tells how it went on, and clears up.
    assert_eq!(succeeded(&host.run(&["true"])), "");
    agent::wait_end(&host);
    let runs = host.json(&["runs"]);
    let found = runs.iter().find(|run| run["id"] == open["id"]).unwrap();
    assert_eq!(found["outcome"], "lost");
    nothing_left(&host);
}

/// Every row of the index but those of the full-text search, and what that finds.
const DUMP: &str = "import sqlite3, sys
db = sqlite3.connect('file:%s?mode=ro' % sys.argv[1], uri=True)
tables = dict(db.execute(\"SELECT name, sql FROM sqlite_master WHERE type = 'table'\"))
# How full-text search lays out its own tables depends on how many records came at a time.
own = [n + part for n, sql in tables.items() if 'VIRTUAL' in sql for part in ('', '_data', '_idx', '_config')]
for name in sorted(set(tables) - set(own)):
    for row in sorted(map(repr, db.execute('SELECT * FROM \"%s\"' % name))): print(name, row)";

fn dump(host: &Host) -> String {
    let index = host.data_dir().join(crewtap::index::FILE_NAME);
    let output = Command::new("python3").args(["-c", DUMP]).arg(index).output().unwrap();
    succeeded(&output)
}

#[test]
fn the_index_made_anew_is_the_one_that_followed() {
    let host = Host::new();
    let target = Peer::echo(&host, "127.0.0.1:0");
    let script = "import socket, subprocess, sys
for n in range(20):
    s = socket.create_connection(('127.0.0.1', int(sys.argv[1])), timeout=20)
    s.sendall(b'needle %d' % n * 100); s.recv(9000); s.close()
try: socket.create_connection(('127.0.0.1', 1), timeout=20).recv(1)
except OSError: pass
subprocess.run(['true'])";
    assert_eq!(host.python(script, &[&target.port()]), "");
    assert_eq!(host.run(&["sh", "-c", "exit 3"]).status.code(), Some(3));
    agent::wait_end(&host);
    let answers = || {
        let runs = host.json(&["runs"]);
        let found = host.json(&["search", "needle"]);
        assert!(!found.is_empty());
        let of_run = |verb: &str| runs.iter().flat_map(|run| host.json(&[verb, run["id"].as_str().unwrap()])).collect();
        let (shown, timeline): (Vec<_>, Vec<_>) = (of_run("show"), of_run("timeline"));
        (runs.clone(), shown, timeline, found)
    };
    let (followed, rows) = (answers(), dump(&host));
    assert!(rows.lines().filter(|line| line.starts_with("sessions ")).count() == 21, "{rows}");
    let reindexed = succeeded(&host.crewtap(&["reindex"]).output().unwrap());
    assert!(reindexed.contains("records indexed"), "{reindexed}");
    let again = dump(&host);
    let difference: Vec<_> = rows.lines().zip(again.lines()).find(|(old, new)| old != new).into_iter().collect();
    assert!(rows == again, "{difference:?}");
    assert_eq!(answers(), followed);
}

/// An analyst's verb, by somebody who is neither root nor the store's owner.
fn by(host: &Host, group: u32, verb: &[&str]) -> Output {
    let mut command = agent::as_nobody(host, group, crewtap().to_str().unwrap());
    command.arg("--data-dir").arg(host.data_dir()).args(verb).output().unwrap()
}

/// The group exists in a private copy of /etc/group, for the agent alone.
fn agent_with_group(host: &Host) -> agent::Ended {
    let groups = std::fs::read_to_string("/etc/group").unwrap();
    let others: Vec<_> = groups.lines().filter(|line| !line.starts_with("crewtap:")).collect();
    std::fs::write(host.path("group"), format!("{}\ncrewtap:x:{GROUP}:\n", others.join("\n"))).unwrap();
    let script = "mount --bind \"$0\" /etc/group && exec \"$@\"";
    let mut command = host.command("unshare");
    command.args(["--mount", "--propagation=private", "sh", "-c", script]).arg(host.path("group")).arg(crewtap());
    let child = command.arg("--data-dir").arg(host.data_dir()).arg("agent").spawn().unwrap();
    assert_eq!(agent::pid(host), child.id());
    agent::Ended(child)
}

#[test]
fn a_member_of_the_group_reads_while_the_agent_works_is_stopped_and_was_killed() {
    let host = Host::new();
    std::fs::set_permissions(host.path(""), std::fs::Permissions::from_mode(0o755)).unwrap();
    let reads = |what: &str| {
        let listed = succeeded(&by(&host, GROUP, &["runs", "--json"]));
        let run: serde_json::Value = serde_json::from_str(listed.lines().next().unwrap()).unwrap();
        let id = run["id"].as_str().unwrap();
        for verb in [&["runs"][..], &["show", id], &["timeline"], &["search", "hello"], &["verify"]] {
            let output = by(&host, GROUP, verb);
            assert!(output.status.success(), "{what}: {verb:?}: {}", text(&output));
        }
        let stranger = by(&host, 65534, &["runs"]);
        let said = String::from_utf8(stranger.stderr).unwrap();
        let store = host.data_dir().display().to_string();
        assert_eq!(said, format!("crewtap: {store} is readable by root and members of the group crewtap\n"));
        assert_eq!(stranger.status.code(), Some(2));
    };
    let target = Peer::echo(&host, "127.0.0.1:0");
    let mut agent = agent_with_group(&host);
    let (mut run, _) = waiting(&host, &target);
    reads("while it works");
    drop(run.stdin.take());
    run.wait().unwrap();
    agent::signal(agent.0.id(), Signal::TERM);
    assert!(agent.0.wait().unwrap().success());
    reads("stopped");
    let mut agent = agent_with_group(&host);
    let (mut run, _) = waiting(&host, &target);
    agent::signal(agent.0.id(), Signal::KILL);
    agent.0.wait().unwrap();
    reads("killed");
    drop(run.stdin.take());
    run.wait().unwrap();
}

#[test]
fn exit_statuses() {
    let host = Host::new();
    let code = |words: &[&str]| host.run(words).status.code();
    assert_eq!(code(&["sh", "-c", "exit 3"]), Some(3));
    assert_eq!(code(&["/etc/passwd"]), Some(126));
    assert_eq!(code(&["no-such-command"]), Some(127));
    let killed = host.run(&["sh", "-c", "kill -TERM $$"]).status;
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&killed), Some(15));
    assert_eq!(host.crewtap(&["run"]).output().unwrap().status.code(), Some(125));
    let statuses: Vec<_> = host.json(&["runs"]).iter().map(|run| run["status"].clone()).collect();
    assert_eq!(statuses, [143.into(), serde_json::Value::Null, serde_json::Value::Null, 3.into()]);
    assert_eq!(host.crewtap(&["show", "ZZZZ"]).output().unwrap().status.code(), Some(1));
}

#[test]
fn what_a_command_leaves_running_stays_on_record() {
    let host = Host::new();
    let target = Peer::echo(&host, "127.0.0.1:0");
    let pipe = host.path("go");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let daemon = format!(
        "import os, socket, sys
between = os.fork()
if between: os.waitpid(between, 0); os._exit(0)
os.setsid()
if os.fork(): os._exit(0)
null = os.open('/dev/null', os.O_RDWR)
for fd in range(3): os.dup2(null, fd)
open({:?}).read()
s = socket.create_connection(('127.0.0.1', int(sys.argv[1])), timeout=20)
s.sendall(b'later'); s.recv(5)",
        pipe.display().to_string()
    );
    let ended = host.run(&["python3", "-c", &daemon, &target.port()]);
    assert_eq!(ended.status.code(), Some(0));
    let line = String::from_utf8(ended.stderr).unwrap();
    assert!(line.contains("1 process outlives the command and stays captured"), "{line}");
    assert_eq!(host.last_run()["outcome"], serde_json::Value::Null);
    std::fs::File::options().write(true).open(&pipe).unwrap().write_all(b"go").unwrap();
    agent::wait_end(&host);
    let run = host.last_run();
    assert_eq!((&run["outcome"], &run["status"]), (&"exited".into(), &0.into()));
    assert_eq!((&run["sessions"], &run["complete"]), (&1.into(), &true.into()));
    assert_eq!(target.seen(), [b"later"]);
    host.verify();
    nothing_left(&host);
}

/// `ip netns exec` lays a /sys without cgroups over the host's.
#[test]
fn a_run_inside_ip_netns_exec() {
    let host = Host::new();
    let target = Peer::echo(&host, "127.0.0.1:0");
    let script = "import socket, sys
s = socket.create_connection(('127.0.0.1', int(sys.argv[1])), timeout=20); s.sendall(b'hi'); print(s.recv(2).decode())";
    let inside = || {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", host.netns()]).arg(crewtap()).arg("--data-dir").arg(host.data_dir());
        command.args(["run", "-q", "--", "python3", "-c", script, &target.port()]).output().unwrap()
    };
    assert_eq!(succeeded(&inside()), "hi\n", "the agent is started inside");
    agent::wait_end(&host);
    nothing_left(&host);
    let mut service = agent::Ended(agent::service(&host));
    assert_eq!(succeeded(&inside()), "hi\n", "the agent was started outside");
    agent::signal(service.0.id(), Signal::TERM);
    service.0.wait().unwrap();
    let runs = host.json(&["runs"]);
    assert!(runs.len() == 2 && runs.iter().all(|run| run["complete"] == true && run["sessions"] == 1), "{runs:?}");
}

/// Where process 1 is out of reach, bpffs was private to the dead agent and is gone with it; its cgroup is not.
#[test]
fn an_agent_killed_inside_ip_netns_exec_leaves_nothing_to_the_next() {
    let host = Host::new();
    let target = Peer::echo(&host, "127.0.0.1:0");
    let mut command = Command::new("ip");
    command.args(["netns", "exec", host.netns()]).arg(crewtap()).arg("--data-dir").arg(host.data_dir());
    command.args(["run", "-q", "--", "python3", "-c", WAITING, &target.port()]);
    let mut run = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(run.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    agent::kill(&host);
    drop(run.stdin.take());
    run.wait().unwrap();
    assert!(!agent::left_in_kernel(&host).is_empty());
    assert_eq!(succeeded(&host.run(&["true"])), "");
    agent::wait_end(&host);
    nothing_left(&host);
}
