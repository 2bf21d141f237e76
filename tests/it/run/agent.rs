//! The life of the agent that `crewtap run` finds or starts.

use std::process::{Command, Output, Stdio};

use crewtap::control::Client;

use super::bare::{CREWTAP, Store};

fn run(store: &Store, arguments: &[&str]) -> Output {
    let data_dir = store.path();
    let mut command = Command::new(CREWTAP);
    command.arg("--data-dir").arg(&data_dir).arg("run").args(arguments).env("OPENAI_API_KEY", "sk-test");
    command.stdin(Stdio::null()).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn the_store_is_hidden_from_the_command_and_a_run_inside_is_refused() {
    let store = Store::new();
    let path = store.path().display().to_string();
    let seen =
        run(&store, &["--", "sh", "-c", &format!("ls -A {path}; {CREWTAP} --data-dir {path} run true; echo $?")]);
    assert_eq!(text(&seen.stdout), "125\n");
    assert!(text(&seen.stderr).contains("this is a captured run already"), "{}", text(&seen.stderr));
    // The host itself sees the store as before.
    assert!(store.path().join("requests").exists());
}

#[test]
fn nothing_of_the_environment_reaches_the_agent() {
    let store = Store::new();
    let mut command = Command::new(CREWTAP);
    command.arg("--data-dir").arg(store.path()).args([
        "run",
        "-q",
        "--",
        "sh",
        "-c",
        "echo $OPENAI_API_KEY; read x; exit 0",
    ]);
    let mut child =
        command.env("OPENAI_API_KEY", "sk-test").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = [0; 8];
    std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut line).unwrap();
    assert_eq!(&line, b"sk-test\n");
    let agent = Client::connect(&store.path()).unwrap().status().unwrap();
    assert_eq!(agent.runs.len(), 1);
    let environment = std::fs::read(format!("/proc/{}/environ", agent.pid)).unwrap();
    assert!(text(&environment).starts_with("PATH=/usr/local/sbin:"));
    assert!(!text(&environment).contains("sk-test"));
    // Nobody's child, in a session of its own, in the root directory, with nothing of the caller's open.
    let stat = crewtap::capture::process::stat(agent.pid).unwrap();
    assert_ne!(stat.ppid, child.id());
    assert_ne!(stat.session, crewtap::capture::process::stat(std::process::id()).unwrap().session);
    assert_eq!(std::fs::read_link(format!("/proc/{}/cwd", agent.pid)).unwrap(), std::path::Path::new("/"));
    drop(child.stdin.take());
    assert!(child.wait().unwrap().success());
}

#[test]
fn many_runs_at_once_share_one_agent() {
    let store = Store::new();
    let started = |_| {
        let mut command = Command::new(CREWTAP);
        command.arg("--data-dir").arg(store.path()).args(["run", "-q", "--", "sh", "-c", "echo up; read x; exit 3"]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap()
    };
    let mut children: Vec<_> = (0..6).map(started).collect();
    for child in &mut children {
        let mut up = [0; 3];
        std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut up).unwrap();
    }
    assert_eq!(Client::connect(&store.path()).unwrap().status().unwrap().runs.len(), 6);
    for mut child in children {
        drop(child.stdin.take());
        assert_eq!(child.wait().unwrap().code(), Some(3));
    }
}

#[test]
fn runs_in_quick_succession_never_meet_an_agent_that_has_just_left() {
    let store = Store::new();
    for _ in 0..30 {
        let ended = run(&store, &["-q", "--", "true"]);
        assert_eq!((ended.status.code(), text(&ended.stderr)), (Some(0), String::new()));
    }
}

#[test]
fn an_agent_that_cannot_start_says_why() {
    let store = Store::new();
    std::fs::create_dir(store.path()).unwrap();
    std::fs::write(store.path().join("broken"), "").unwrap();
    let failed = run(&store, &["--", "true"]);
    assert_eq!(failed.status.code(), Some(125));
    assert_eq!(text(&failed.stderr), "crewtap: the agent does not start: the store is broken: repair it\n");
}

#[test]
fn a_socket_left_by_a_dead_agent_is_replaced() {
    let store = Store::new();
    std::fs::create_dir(store.path()).unwrap();
    drop(std::os::unix::net::UnixListener::bind(store.path().join("control.sock")).unwrap());
    assert_eq!(run(&store, &["-q", "--", "true"]).status.code(), Some(0));
}

#[test]
fn the_store_as_working_directory_is_refused() {
    let store = Store::new();
    std::fs::create_dir(store.path()).unwrap();
    let mut command = Command::new(CREWTAP);
    command.arg("--data-dir").arg(store.path()).args(["run", "--", "ls"]).current_dir(store.path());
    let refused = command.output().unwrap();
    assert_eq!(refused.status.code(), Some(125));
    assert!(text(&refused.stderr).contains("hidden from runs"), "{}", text(&refused.stderr));
}

#[test]
fn the_agent_learns_how_each_command_ended() {
    let store = Store::new();
    let _ = run(&store, &["--name", "first", "--mode", "enforce", "--", "sh", "-c", "exit 4"]);
    let _ = run(&store, &["-q", "--", "no-such-command"]);
    let asked = store.requests();
    assert_eq!(asked[0]["start"]["name"], "first");
    assert_eq!(asked[0]["start"]["mode"], "enforce");
    assert_eq!(asked[0]["start"]["argv"], serde_json::json!(["sh", "-c", "exit 4"]));
    assert_eq!(asked[0]["start"]["invoker"], std::process::id());
    assert_eq!(asked[1]["exit"], serde_json::json!({ "how": "code", "code": 4 }));
    assert_eq!(
        asked[3]["exit"],
        serde_json::json!({ "how": "not_started", "why": "no-such-command: command not found" })
    );
}

#[test]
fn in_enforce_mode_even_root_has_no_raw_sockets() {
    let store = Store::new();
    let try_raw = "import socket\ntry: socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)\nexcept PermissionError: print('no')\nelse: print('yes')";
    assert_eq!(text(&run(&store, &["-q", "--", "python3", "-c", try_raw]).stdout), "yes\n");
    assert_eq!(text(&run(&store, &["-q", "--mode", "enforce", "--", "python3", "-c", try_raw]).stdout), "no\n");
}

#[test]
fn wrong_use_of_run_is_crewtaps_own_failure() {
    let code = |arguments: &[&str]| Command::new(CREWTAP).args(arguments).output().unwrap().status.code();
    assert_eq!(code(&["run"]), Some(125));
    assert_eq!(code(&["--data-dir", "/nowhere", "run"]), Some(125));
    assert_eq!(code(&["nonsense"]), Some(2));
    assert_eq!(code(&["run", "--help"]), Some(0));
}

#[test]
fn pipes_end_when_the_command_closes_them() {
    use std::io::Read;
    let store = Store::new();
    // Standard output and descriptor 3 both lead to the pipe; the command lets go of both and lives on.
    let script = format!(
        "exec {CREWTAP} --data-dir {} run -q -- sh -c 'echo up; exec >&- 3>&-; read x; exit 5' 3>&1",
        store.path().display()
    );
    let mut shell = Command::new("bash");
    let mut child = shell.args(["-c", &script]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut all = String::new();
    // Ends only if neither the wrapper nor the agent holds the pipe.
    child.stdout.take().unwrap().read_to_string(&mut all).unwrap();
    assert_eq!(all, "up\n");
    assert_eq!(Client::connect(&store.path()).unwrap().status().unwrap().runs.len(), 1);
    drop(child.stdin.take());
    assert_eq!(child.wait().unwrap().code(), Some(5));
}
