#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::io::Read;
use std::process::{Command, Stdio};
use std::sync::Arc;

use super::*;

fn no_digest() -> Box<Digest> {
    Box::new(|_| String::new())
}

#[test]
fn a_name_with_parentheses_and_blanks_does_not_shift_the_fields() {
    let line = b"42 (a) b (c) S 7 8 9 34816 8 4194304 1 2 3 4 5 6 7 8 20 0 1 0 98765 1 2 3";
    let stat = parse_stat(line).unwrap();
    assert_eq!(stat, Stat { comm: "a) b (c".into(), state: 'S', ppid: 7, group: 8, session: 9, start_ticks: 98765 });
    assert_eq!(parse_stat(b"42 (cut) S 7 8"), None);
}

#[test]
fn status_tells_ids_groups_and_umask() {
    let text = "Name:\tx\nUmask:\t0027\nUid:\t1000\t0\t0\t0\nGid:\t1001\t0\t0\t0\nGroups:\t4 27 1001 \nSigIgn:\t0000000000001000\n";
    let expected = Status { uid: 1000, gid: 1001, groups: vec![4, 27, 1001], umask: Some(0o27), ignored: 0x1000 };
    assert_eq!(parse_status(text), Some(expected));
}

#[test]
fn facts_of_a_living_process() {
    let mut child = Command::new("sh")
        .args(["-c", "echo; read x", "name"])
        .current_dir("/usr")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    // `spawn` returns before the kernel has put the arguments in their place: a line from the program says that they are.
    child.stdout.take().unwrap().read_exact(&mut [0]).unwrap();
    let process = read(child.id(), &*no_digest());
    assert_eq!(process.argv, ["sh", "-c", "echo; read x", "name"]);
    assert_eq!(process.cwd, "/usr");
    assert_eq!(process.exe, std::fs::canonicalize("/bin/sh").unwrap().to_str().unwrap());
    assert_eq!(process.ppid, std::process::id());
    assert_eq!(process.ancestors[0].pid, std::process::id());
    assert!(process.start_ticks > 0);
    child.kill().unwrap();
    child.wait().unwrap();
    let gone = read(child.id(), &*no_digest());
    assert_eq!(gone, Process { pid: child.id(), ..Process::default() });
}

#[test]
fn the_cache_reads_once_per_program_and_notices_the_end() {
    let cache = ProcessCache::new(no_digest());
    let mut child = Command::new("sleep").arg("60").spawn().unwrap();
    let first = cache.get(child.id());
    assert!(Arc::ptr_eq(&first, &cache.get(child.id())));
    cache.executed(child.id());
    let second = cache.get(child.id());
    assert!(!Arc::ptr_eq(&first, &second));
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(cache.get(child.id()).argv, Vec::<String>::new());
}

#[test]
fn a_long_argument_vector_is_cut_and_says_so() {
    let long = "x".repeat(limits::ARGV_BYTES_MAX);
    let mut child = Command::new("sh")
        .args(["-c", "echo; read x; exit 0", "name", &long, "behind"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    // Until the program runs, the kernel has not yet put its arguments in their place.
    child.stdout.take().unwrap().read_exact(&mut [0]).unwrap();
    let argv = arguments(child.id()).unwrap();
    assert_eq!(argv.last().unwrap(), "…");
    assert!(argv.iter().map(|word| word.len() + 1).sum::<usize>() <= limits::ARGV_BYTES_MAX + 8);
    drop(child.stdin.take());
    child.wait().unwrap();
    assert_eq!(bounded([long.clone(), "b".into()]), [long[..limits::ARGV_BYTES_MAX - 1].to_owned(), "…".into()]);
}

#[test]
fn what_stands_for_credentials_does_not_grow_beyond_the_bound() {
    let mut argv = vec!["mysql".to_owned()];
    argv.resize(8000, "-pX".into());
    let written = redacted(&argv, &|_| "0123456789abcdef".into());
    let bytes: usize = written.iter().map(|word| word.len() + 1).sum();
    assert!(bytes <= limits::ARGV_BYTES_MAX + 8, "{bytes}");
    assert_eq!(written.last().map(String::as_str), Some("…"));
    assert!(!written.iter().any(|word| word == "-pX"));
}
