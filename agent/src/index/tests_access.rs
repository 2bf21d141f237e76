//! Who can read the index, and when: a member of the group, while the agent writes, when it has closed, and when it
//! was killed. The readers and the writer that is killed are processes of their own: this test binary, run again.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::sample::Sample;
use super::{Index, Indexer, rebuild};

/// Group and user that no machine has; a member is who runs with this group.
const GROUP: u32 = 64_321;
const USER: u32 = 64_322;

const ROLE: &str = "CREWTAP_TEST_ROLE";
const STORE: &str = "CREWTAP_TEST_STORE";

/// A directory as the agent makes it: 0750, of the group.
fn store() -> tempfile::TempDir {
    let dir = tempfile::tempdir_in("/var/tmp").unwrap();
    chown(dir.path(), None, Some(GROUP)).unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o750)).unwrap();
    dir
}

fn again(binary: &Path, role: &str, store: &Path) -> Command {
    let mut command = Command::new(binary);
    command.args(["--exact", "index::tests_access::as_another_process", "--nocapture", "--test-threads=1"]);
    command.env(ROLE, role).env(STORE, store).stdin(Stdio::piped()).stdout(Stdio::piped());
    command
}

/// This binary, where other users can execute it too.
struct Readers {
    dir: tempfile::TempDir,
}

impl Readers {
    fn new() -> Self {
        let dir = tempfile::tempdir_in("/var/tmp").unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        // By a process of its own: what this one writes, a child of another test could still hold open, and then nobody may
        // execute it.
        let own = std::env::current_exe().unwrap();
        assert!(Command::new("cp").arg(own).arg(dir.path().join("reader")).status().unwrap().success());
        fs::set_permissions(dir.path().join("reader"), fs::Permissions::from_mode(0o755)).unwrap();
        Self { dir }
    }

    /// What a process with this user and group reads: the number of runs, or the error.
    fn read_as(&self, uid: u32, gid: u32, store: &Path) -> String {
        self.try_as("read", uid, gid, store)
    }

    fn try_as(&self, role: &str, uid: u32, gid: u32, store: &Path) -> String {
        let mut command = again(&self.dir.path().join("reader"), role, store);
        let output = command.current_dir("/").uid(uid).gid(gid).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let answer = text.lines().find_map(|line| line.split_once("ANSWER ").map(|(_, answer)| answer.to_owned()));
        answer.unwrap_or_else(|| panic!("{text}{}", String::from_utf8_lossy(&output.stderr)))
    }
}

fn files(dir: &Path) -> Vec<(String, u32, u32, u64)> {
    let mut files: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            let meta = entry.metadata().unwrap();
            (entry.file_name().into_string().unwrap(), meta.mode() & 0o7777, meta.gid(), meta.len())
        })
        .collect();
    files.sort();
    files
}

/// Runs only as a child of the tests below; as a test of its own it has nothing to do.
#[test]
fn as_another_process() {
    let (Ok(role), Ok(dir)) = (std::env::var(ROLE), std::env::var(STORE)) else { return };
    let dir = Path::new(&dir);
    if role == "rebuild" {
        println!("\nANSWER {}", rebuild(dir, std::iter::empty(), |_| ()).unwrap_err());
        return;
    }
    if role == "read" {
        match Index::open(dir).and_then(|index| index.runs(0, 100)) {
            Ok(runs) => println!("\nANSWER {} runs", runs.len()),
            Err(error) => println!("\nANSWER {error}"),
        }
        return;
    }
    let (sample, ..) = Sample::story();
    let mut indexer = Indexer::open(dir, |_| None).unwrap();
    indexer.apply(&sample.records).unwrap();
    println!("\nANSWER written");
    std::io::stdout().flush().unwrap();
    // Until it is killed, or its parent has gone.
    std::io::stdin().read_line(&mut String::new()).unwrap();
}

fn writer(dir: &Path) -> Child {
    let mut child = again(&std::env::current_exe().unwrap(), "write", dir).spawn().unwrap();
    let lines = BufReader::new(child.stdout.as_mut().unwrap()).lines();
    assert!(lines.map(Result::unwrap).any(|line| line.contains("ANSWER written")));
    child
}

#[test]
fn a_member_reads_while_the_writer_writes_after_it_closed_and_after_it_was_killed() {
    let (dir, readers) = (store(), Readers::new());
    let mut child = writer(dir.path());
    assert_eq!(readers.read_as(USER, GROUP, dir.path()), "1 runs", "while it writes");
    assert_eq!(readers.read_as(USER, USER, dir.path()), forbidden(dir.path()), "who is no member");
    child.kill().unwrap();
    child.wait().unwrap();
    let before = files(dir.path());
    assert!(before.iter().any(|(name, .., len)| name == "index.sqlite-wal" && *len > 0), "nothing to recover");
    assert_eq!(readers.read_as(USER, GROUP, dir.path()), "1 runs", "after kill -9");
    assert_eq!(files(dir.path()), before, "a reader changed something");

    let (mut sample, ..) = Sample::story();
    let run = sample.run_id();
    sample.start_run(run, &["second"]);
    let stamps: Vec<_> = sample.records.iter().map(|record| record.event.at).collect();
    let mut indexer = Indexer::open(dir.path(), |leaf| stamps.get(usize::try_from(leaf).unwrap()).copied()).unwrap();
    assert_eq!(indexer.indexed_leaf(), 30);
    indexer.apply(&sample.records).unwrap();
    drop(indexer);
    assert_eq!(readers.read_as(USER, GROUP, dir.path()), "2 runs", "after it closed");

    rebuild(dir.path(), sample.records.iter().cloned(), |_| ()).unwrap();
    assert_eq!(readers.read_as(USER, GROUP, dir.path()), "2 runs", "after a rebuild");
    let error = readers.try_as("rebuild", USER, GROUP, dir.path());
    assert!(error.starts_with("only root writes the index of "), "{error}");
    for (name, mode, gid, _) in files(dir.path()) {
        assert_eq!((mode, gid), (0o640, GROUP), "{name}");
    }
}

#[test]
fn where_there_is_nothing_one_sentence_says_so() {
    let (dir, readers) = (store(), Readers::new());
    assert!(readers.read_as(USER, GROUP, dir.path()).starts_with("there is no index at "));
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o700)).unwrap();
    assert_eq!(readers.read_as(USER, GROUP, dir.path()), forbidden(dir.path()));
}

fn forbidden(dir: &Path) -> String {
    format!("{} is readable by root and members of the group crewtap", dir.display())
}
