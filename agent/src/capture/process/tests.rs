#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::io::Read;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::*;

fn wait<T>(what: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(what)
}

fn outside(pid: u32) -> Process {
    wait(ProcessCache::new(no_digest(), Box::new(|_| None)).unwrap().outside(pid))
}

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
    let process = outside(child.id());
    assert_eq!(process.argv, ["sh", "-c", "echo; read x", "name"]);
    assert_eq!(process.cwd, "/usr");
    assert_eq!(process.exe, std::fs::canonicalize("/bin/sh").unwrap().to_str().unwrap());
    assert_eq!(process.ppid, std::process::id());
    assert_eq!(process.ancestors[0].pid, std::process::id());
    assert!(process.start_ticks > 0);
    child.kill().unwrap();
    child.wait().unwrap();
    let gone = outside(child.id());
    assert_eq!(gone, Process { pid: child.id(), missing: gone.missing.clone(), ..Process::default() });
    assert!(gone.missing.is_some());
}

/// A cache whose kernel says what the test says.
fn cache(says: &Arc<AtomicU64>) -> ProcessCache {
    let says = says.clone();
    ProcessCache::new(no_digest(), Box::new(move |_| Some(says.load(Ordering::Relaxed)).filter(|since| *since != 0)))
        .unwrap()
}

/// A program that has begun when this returns.
fn begun() -> std::process::Child {
    let mut child = Command::new("sh");
    let mut child =
        child.args(["-c", "echo; read x", "name"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdout.take().unwrap().read_exact(&mut [0]).unwrap();
    child
}

#[test]
fn the_cache_reads_once_per_program_and_remembers_what_has_ended() {
    let says = Arc::new(AtomicU64::new(7));
    let cache = cache(&says);
    let mut child = begun();
    let program = |since_ns| Program { pid: child.id(), since_ns, at_ns: crate::clock::mono_ns() };
    let (before, after) = (program(7), program(8));
    let first = wait(cache.of_program(before));
    assert_eq!(first.argv.last().unwrap(), "name");
    assert!(Arc::ptr_eq(&first, &wait(cache.of_program(before))));
    says.store(8, Ordering::Relaxed);
    assert!(!Arc::ptr_eq(&first, &wait(cache.of_program(after))));
    child.kill().unwrap();
    child.wait().unwrap();
    says.store(0, Ordering::Relaxed);
    assert!(Arc::ptr_eq(&first, &wait(cache.of_program(before))), "its connection may be accepted after its end");
}

#[test]
fn facts_of_another_program_are_left_out() {
    // The kernel says that another program runs, or that it does not know; then it changes while /proc is read.
    let reads = Arc::new(AtomicU64::new(0));
    let counted = reads.clone();
    let changing: Box<Programs> =
        Box::new(move |_| Some(if counted.fetch_add(1, Ordering::Relaxed) == 0 { 7 } else { 8 }));
    let mut child = begun();
    let unproven = |programs: Box<Programs>, since_ns| {
        let cache = ProcessCache::new(no_digest(), programs).unwrap();
        // The kernel tells the start in ticks of 10 ms: two later it is certain.
        let at_ns = crate::clock::mono_ns() + 20_000_000;
        let process = wait(cache.of_program(Program { pid: child.id(), since_ns, at_ns }));
        assert_eq!((process.argv.len(), process.exe.as_str(), process.cwd.as_str()), (0, "", ""), "{process:?}");
        assert!(process.missing.is_some());
        assert_eq!((process.ppid, process.start_ticks), (std::process::id(), stat(child.id()).unwrap().start_ticks));
    };
    unproven(Box::new(|_| Some(8)), 7);
    unproven(Box::new(|_| None), 7);
    unproven(Box::new(|_| None), 0);
    unproven(changing, 7);
    assert_eq!(reads.load(Ordering::Relaxed), 2);
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_process_that_started_later_is_not_the_one() {
    let mut child = begun();
    let started = stat(child.id()).unwrap();
    let before =
        Program { pid: child.id(), since_ns: 7, at_ns: crate::clock::mono_ns().saturating_sub(10_000_000_000) };
    assert!(!started_before(&started, before.at_ns));
    let cache = ProcessCache::new(no_digest(), Box::new(|_| None)).unwrap();
    let process = wait(cache.of_program(before));
    let nothing = Process { pid: child.id(), missing: process.missing.clone(), ..Process::default() };
    assert_eq!(*process, nothing);
    assert!(process.missing.is_some());
    child.kill().unwrap();
    child.wait().unwrap();
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

/// A `/proc` in which some command lines never answer: each is a pipe that nobody writes to.
struct Proc(tempfile::TempDir);

impl Proc {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn add(&self, pid: u32, answers: bool) {
        let at = self.0.path().join(pid.to_string());
        std::fs::create_dir(&at).unwrap();
        for name in ["stat", "status"] {
            std::fs::write(at.join(name), std::fs::read(format!("/proc/self/{name}")).unwrap()).unwrap();
        }
        std::os::unix::fs::symlink("/bin/true", at.join("exe")).unwrap();
        if answers {
            std::fs::write(at.join("cmdline"), "true\0word\0").unwrap();
        } else {
            nix::unistd::mkfifo(&at.join("cmdline"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        }
    }

    /// Lets those read on that wait for `pid`.
    fn answer(&self, pid: u32) {
        drop(
            std::fs::OpenOptions::new().write(true).open(self.0.path().join(pid.to_string()).join("cmdline")).unwrap(),
        );
    }
}

#[test]
fn a_command_line_that_never_answers_holds_up_nobody() {
    let proc = Proc::new();
    let held = u32::try_from(limits::ARGUMENT_READERS).unwrap();
    (1..=held).for_each(|pid| proc.add(pid, false));
    (100..104).for_each(|pid| proc.add(pid, true));
    let cache = ProcessCache::under(proc.0.path(), Box::new(|_| Some(7)));
    let program = |pid| Program { pid, since_ns: 7, at_ns: 7 };
    let unreadable = Some("its arguments were not readable in time".to_owned());
    wait(async {
        // All readers but one are held up, at once; the thread that asks goes on meanwhile.
        let began = std::time::Instant::now();
        let held_up = (1..held).map(|pid| cache.of_program(program(pid)));
        let (all, other) = tokio::join!(futures_of(held_up), async {
            let other = cache.of_program(program(100)).await;
            (other, began.elapsed())
        });
        assert!(other.1 < limits::ARGUMENTS_WAIT, "{:?}", other.1);
        assert_eq!((other.0.argv.join(" ").as_str(), &other.0.missing), ("true word", &None));
        for process in &all {
            assert_eq!((process.argv.len(), process.exe.as_str(), &process.missing), (0, "/bin/true", &unreadable));
        }
        assert!(began.elapsed() < 3 * limits::ARGUMENTS_WAIT, "they are held up side by side: {:?}", began.elapsed());
        // Its next connection does not wait again.
        assert!(Arc::ptr_eq(&all[0], &cache.of_program(program(1)).await));
        // With the last reader gone the facts say so; nobody waits for ever.
        assert_eq!(cache.of_program(program(held)).await.missing, unreadable);
        assert_eq!(cache.of_program(program(101)).await.missing, unreadable);
        (1..=held).for_each(|pid| proc.answer(pid));
        assert_eq!(cache.of_program(program(102)).await.argv, ["true", "word"]);
    });
}

/// Awaits all, at the same time.
async fn futures_of<T>(all: impl Iterator<Item = impl Future<Output = T>>) -> Vec<T> {
    let mut all: Vec<_> = all.map(Box::pin).collect();
    let mut done = Vec::new();
    std::future::poll_fn(|context| {
        all.retain_mut(|one| match one.as_mut().poll(context) {
            std::task::Poll::Ready(value) => {
                done.push(value);
                false
            }
            std::task::Poll::Pending => true,
        });
        if all.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
    done
}
