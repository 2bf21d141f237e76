#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use std::cell::RefCell;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::rc::Rc;
use std::sync::mpsc;

use crewtap_core::id::Ulid;
use crewtap_core::limits;

use super::*;

/// Grants everything and writes down what it is told.
#[derive(Default)]
struct Diary(RefCell<Vec<String>>, Option<mpsc::SyncSender<String>>);

impl Diary {
    fn note(&self, what: String) {
        if let Some(sender) = &self.1 {
            sender.send(what.clone()).unwrap();
        }
        self.0.borrow_mut().push(what);
    }
}

impl Agent for Diary {
    async fn start_run(&self, peer: Peer, request: StartRun) -> Result<Started, Refusal> {
        assert_eq!(peer.pid, std::process::id());
        if request.argv.is_empty() {
            return Err(Refusal("there is nothing to run".into()));
        }
        let run = RunId(Ulid::from_bytes([7; 16]));
        let notes = vec!["mind the gap".into()];
        Ok(Started { run, cgroup: "/cg".into(), hide: vec!["/store".into()], mode: Mode::Shadow, notes })
    }

    async fn run_exited(&self, _run: RunId, exit: Exit) -> Result<(), Refusal> {
        self.note(format!("{exit:?}"));
        Ok(())
    }

    async fn run_summary(&self, _run: RunId) -> Result<Summary, Refusal> {
        Ok(Summary { sessions: 3, complete: true, ..Summary::default() })
    }

    async fn status(&self) -> Status {
        Status { pid: 1, version: "v".into(), runs: Vec::new() }
    }
}

/// Serves in a thread of its own for as long as the process lives; what is noted comes out of the channel.
fn agent(dir: &Path, captured: fn(u32) -> bool) -> mpsc::Receiver<String> {
    let path = socket_path(dir);
    let (diary, notes) = mpsc::sync_channel(64);
    let (ready, is_ready) = mpsc::sync_channel(64);
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = bind(&path).unwrap();
            ready.send(()).unwrap();
            let (clients, _) = tokio::sync::watch::channel(0);
            serve(listener, Rc::new(Diary(RefCell::default(), Some(diary))), captured, clients).await.unwrap();
        });
    });
    is_ready.recv().unwrap();
    notes
}

fn nobody(_: u32) -> bool {
    false
}

fn start() -> StartRun {
    let argv = vec!["crewai".into(), "run".into()];
    StartRun { name: None, argv, cwd: "/".into(), uid: 0, gid: 0, invoker: 1, mode: None }
}

#[test]
fn a_run_from_its_start_to_its_summary() {
    let dir = tempfile::tempdir().unwrap();
    let notes = agent(dir.path(), nobody);
    let mut client = Client::connect(dir.path()).unwrap();
    let started = client.start_run(start()).unwrap();
    assert_eq!((started.mode, started.notes.len()), (Mode::Shadow, 1));
    client.run_exited(started.run, Exit::Code { code: 3 }).unwrap();
    client.begin_summary(started.run).unwrap();
    assert_eq!(client.finish_summary().unwrap().sessions, 3);
    assert_eq!(client.status().unwrap().pid, 1);
    let refused = client.start_run(StartRun { argv: Vec::new(), ..start() }).unwrap_err();
    assert_eq!(refused.to_string(), "there is nothing to run");
    drop(client);
    assert_eq!(notes.recv().unwrap(), "Code { code: 3 }");
    assert!(notes.try_recv().is_err());
}

#[test]
fn a_wrapper_that_vanishes_is_reported() {
    let dir = tempfile::tempdir().unwrap();
    let notes = agent(dir.path(), nobody);
    let mut client = Client::connect(dir.path()).unwrap();
    client.start_run(start()).unwrap();
    drop(client);
    assert_eq!(notes.recv().unwrap(), "Unreported");
}

#[test]
fn captured_processes_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let _notes = agent(dir.path(), |pid| pid == std::process::id());
    let refused = Client::connect(dir.path()).unwrap().start_run(start()).unwrap_err();
    assert!(refused.to_string().contains("captured process"), "{refused}");
}

#[test]
fn the_socket_is_roots_alone_and_replaces_a_dead_one() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    assert!(matches!(Client::connect(dir.path()), Err(ClientError::NoAgent(_))));
    drop(std::os::unix::net::UnixListener::bind(socket_path(dir.path())).unwrap());
    assert!(matches!(Client::connect(dir.path()), Err(ClientError::NoAgent(_))));
    let _notes = agent(dir.path(), nobody);
    assert!(Client::connect(dir.path()).is_ok());
    let mode = std::fs::metadata(socket_path(dir.path())).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

fn raw(dir: &Path, line: &[u8]) -> String {
    let mut stream = UnixStream::connect(socket_path(dir)).unwrap();
    // The server may close before it has read everything: its answer counts.
    let _ = stream.write_all(line);
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer).unwrap();
    answer
}

#[test]
fn nonsense_other_versions_and_too_much_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let _notes = agent(dir.path(), nobody);
    assert!(raw(dir.path(), b"GET / HTTP/1.1\r\n").contains("not a line of the control protocol"));
    assert!(raw(dir.path(), b"{\"v\":2,\"verb\":\"sing\"}\n").contains("version 2"));
    assert!(raw(dir.path(), b"{\"v\":1,\"verb\":\"sing\"}\n").contains("not a line"));
    let long = vec![b'x'; limits::CONTROL_BYTES_MAX];
    assert!(raw(dir.path(), &long).contains("more than"));
    assert!(raw(dir.path(), b"{\"v\":1,\"verb\":\"status\"}\n").contains("\"pid\":1"));
}
