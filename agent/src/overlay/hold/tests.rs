#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::sync::mpsc::channel;

use nix::mount::{MsFlags, mount};

use super::*;

#[test]
fn mounts_that_hold_programs_are_told_from_those_that_do_not() {
    let line = "36 35 98:0 /mnt1 /mnt\\0402 rw,noatime master:1 - ext3 /dev/root rw,errors=continue";
    assert_eq!(executable_mount(line), Some((36, "/mnt 2".into())));
    assert_eq!(executable_mount("22 1 0:21 / /proc rw - proc proc rw"), None);
    assert_eq!(executable_mount("23 1 0:22 /f /x ro shared:1 - tmpfs crewtap-overlay rw"), None);
    assert_eq!(unescaped("/a\\134b\\"), Path::new("/a\\b\\"));
}

#[test]
fn the_loader_is_known_by_its_name() {
    assert!(is_loader(Path::new("/usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2")));
    assert!(!is_loader(Path::new("/usr/bin/ld")) && !is_loader(Path::new("/usr/bin/ldd")));
}

/// Runs `work` with a hold on a mount namespace of its own, in which `program` is being executed by another thread; how
/// long that one took to begin.
fn held(program: &Path, work: impl FnOnce(Hold) + Send + 'static) -> Option<Duration> {
    if !nix::unistd::Uid::effective().is_root() {
        println!("skip: only root has mount namespaces");
        return None;
    }
    let program = program.to_owned();
    let (tell, told) = channel();
    let holding = std::thread::spawn(move || {
        unshare(CloneFlags::CLONE_FS | CloneFlags::CLONE_NEWNS).unwrap();
        mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>).unwrap();
        std::env::set_current_dir("/proc").unwrap();
        // A child of this process would hold a copy of the kernel's queue until it has executed.
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", "read go; \"$0\""]).arg(program).stdin(Stdio::piped());
        let mut shell = shell.spawn().unwrap();
        let hold = Hold::begin().unwrap();
        std::thread::spawn(move || {
            let begun = Instant::now();
            writeln!(shell.stdin.take().unwrap(), "go").unwrap();
            let status = shell.wait();
            let _gone = tell.send((begun.elapsed(), status.unwrap().success()));
        });
        let mut waits = [PollFd::new(&hold.desk.fanotify, PollFlags::IN)];
        poll(&mut waits, None).unwrap();
        work(hold);
    });
    let (took, succeeded) = told.recv_timeout(HOLD_MAX * 3).expect("the program is still held");
    assert!(succeeded);
    let _panicked = holding.join();
    Some(took)
}

#[test]
fn a_defect_lets_every_execve_go_at_once() {
    let took = held(Path::new("/bin/true"), |hold| {
        let _held = hold;
        panic!("a defect, as the test wants it");
    });
    assert!(took.is_none_or(|took| took < AGE_MAX), "{took:?}");
}

#[test]
fn an_execve_behind_slow_ones_waits_no_longer_than_one() {
    let took = held(Path::new("/bin/true"), |hold| {
        // A worker that is at work on one slow path after another, and never comes to this one.
        let mut looks = [PollFd::new(&hold.mounts, PollFlags::empty())];
        let short = rustix::event::Timespec { tv_sec: 0, tv_nsec: 200_000_000 };
        let begun = Instant::now();
        while begun.elapsed() < HOLD_MAX * 2 {
            hold.desk.waiting().busy = Some(Instant::now());
            poll(&mut looks, Some(&short)).unwrap();
        }
    });
    // It is opened once for the program, and once for its loader.
    assert!(took.is_none_or(|took| took > AGE_MAX && took < HOLD_MAX * 2), "{took:?}");
}

#[test]
fn only_the_systems_own_loaders_are_ignored_and_no_more_than_there_are() {
    let directory = tempfile::tempdir().unwrap();
    let place = directory.path().to_owned();
    let checked = held(Path::new("/bin/true"), move |hold| {
        let ignored = |name: &str, mode: u32, owner: u32| {
            let path = place.join(name);
            fs::write(&path, "").unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            std::os::unix::fs::chown(&path, Some(owner), None).unwrap();
            let before = hold.desk.loaders.load(Ordering::Relaxed);
            hold.desk.ignore(std::os::fd::AsFd::as_fd(&File::open(&path).unwrap()));
            hold.desk.loaders.load(Ordering::Relaxed) > before
        };
        assert!(!ignored("ld-linux-of-somebody", 0o755, 65534));
        assert!(!ignored("ld-linux-for-everybody", 0o777, 0));
        let all: Vec<bool> =
            (0..LOADERS_MAX + 8).map(|number| ignored(&format!("ld-linux-{number}"), 0o755, 0)).collect();
        assert_eq!(all.iter().filter(|ignored| **ignored).count(), LOADERS_MAX);
        fs::write(place.join("checked"), "").unwrap();
    });
    assert!(checked.is_none() || directory.path().join("checked").exists());
}
