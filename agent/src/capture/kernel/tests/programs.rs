//! The facts of a connection are those of the program that made it: also when the process runs another one by now, and
//! when its pid is another process's.

use super::lab::{LONG, Lab, read_all, stdout};
use crate::capture::{
    kernel::{KernelEvent, Mode, Origin},
    process::{ProcessCache, Program},
};
use crewtap_core::run::Process;
use std::{
    io::{BufRead, BufReader, Write},
    sync::Arc,
};

/// Programs of one process, one after another.
const CHAIN: usize = 200;

fn cache(lab: &Lab) -> ProcessCache {
    let kernel = lab.kernel.clone();
    ProcessCache::new(Box::new(|_| String::new()), Box::new(move |pid| kernel.program_of(pid))).unwrap()
}

fn wait<T>(what: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(what)
}

fn facts(cache: &ProcessCache, origin: &Origin) -> Arc<Process> {
    wait(cache.of_program(Program { pid: origin.tgid, since_ns: origin.program_ns, at_ns: origin.at_ns }))
}

/// As the agent does with each exec that it is told of.
fn follow(lab: &mut Lab, cache: &ProcessCache) {
    let began: Vec<_> =
        lab.events().iter().filter(|event| matches!(event, KernelEvent::Exec { .. })).cloned().collect();
    lab.seen.clear();
    for event in began {
        let (pid, at_ns) = (event.moment().tgid, event.moment().at_ns);
        wait(cache.of_program(Program { pid, since_ns: at_ns, at_ns }));
    }
}

/// Bash connects to port 5000 + n before anything else, perhaps waits for an answer, and becomes the next bash.
fn chain(lab: &Lab, wait: &str) -> std::process::Child {
    let last = CHAIN - 1;
    let script = format!(
        "exec 3<>/dev/tcp/203.0.113.9/$((5000 + $1)); {wait}; [ $1 = {last} ] || exec bash -c \"$0\" \"$0\" $(($1 + 1))"
    );
    lab.kernel.beat().unwrap();
    lab.command(&["bash", "-c", &script, &script, "0"]).spawn().unwrap()
}

#[test]
fn a_program_that_connects_at_once_is_told_from_the_one_before() {
    let mut lab = Lab::new(Mode::Record);
    let cache = cache(&lab);
    let child = chain(&lab, "read -n 1 -u 3");
    let mut times = Vec::new();
    for _ in 0..CHAIN {
        let (mut stream, origin) = lab.accept_or_explain(child.id());
        let number = usize::from(origin.destination.port() - 5000);
        if number % 2 == 1 {
            // The agent hears of the exec before the connection, or after it.
            follow(&mut lab, &cache);
        }
        let process = facts(&cache, &origin);
        assert_eq!(process.argv.last(), Some(&number.to_string()), "{process:?}");
        assert_eq!((process.argv.len(), process.missing.as_ref()), (5, None));
        times.push(origin.program_ns);
        follow(&mut lab, &cache);
        assert!(Arc::ptr_eq(&process, &facts(&cache, &origin)), "read once");
        stream.write_all(b"x").unwrap();
    }
    assert!(times.is_sorted_by(|one, next| one < next), "each exec is another program");
    assert!(child.wait_with_output().unwrap().status.success());
}

#[test]
fn a_program_that_is_gone_when_its_connection_is_accepted_lends_it_no_other_facts() {
    let mut lab = Lab::new(Mode::Record);
    let cache = cache(&lab);
    let child = chain(&lab, "exec 3>&-");
    let mut known = 0;
    for _ in 0..CHAIN {
        let (_stream, origin) = lab.accept_or_explain(child.id());
        follow(&mut lab, &cache);
        let process = facts(&cache, &origin);
        let number = (origin.destination.port() - 5000).to_string();
        match process.argv.last() {
            Some(last) => {
                assert_eq!(*last, number);
                known += 1;
            }
            None => assert!(process.missing.is_some() && process.exe.is_empty(), "{process:?}"),
        }
    }
    println!("{known} of {CHAIN} were still known");
    assert!(child.wait_with_output().unwrap().status.success());
}

#[test]
fn a_child_that_executes_nothing_is_itself() {
    let lab = Lab::new(Mode::Record);
    let cache = cache(&lab);
    let child = lab.python(
        "s = tcp(); s.connect(('203.0.113.9', 5000)); s.recv(1)
if os.fork() == 0: s = tcp(); s.connect(('203.0.113.9', 5001)); s.recv(1); os._exit(0)
t = threading.Thread(target=lambda: (lambda s: (s.connect(('203.0.113.9', 5002)), s.recv(1)))(tcp())); t.start(); t.join(); os.wait()",
    );
    let mut seen = Vec::new();
    for _ in 0..3 {
        let (stream, origin) = lab.accept_or_explain(child.id());
        let process = facts(&cache, &origin);
        assert_eq!(process.missing, None);
        assert_eq!(process.pid, origin.tgid);
        seen.push((origin.destination.port(), origin.tgid, process));
        drop(stream);
    }
    seen.sort_by_key(|(port, ..)| *port);
    assert!(Arc::ptr_eq(&seen[0].2, &seen[2].2), "a thread is its process");
    assert_ne!(seen[1].1, seen[0].1);
    assert_eq!((seen[1].2.ppid, &seen[1].2.argv), (seen[0].1, &seen[0].2.argv));
    stdout(&child.wait_with_output().unwrap());
}

/// A process of a chosen pid (clone3 with `set_tid`): what the kernel does by chance when pids have gone round.
const REBORN: &str = "import ctypes, os, struct, sys
libc = ctypes.CDLL(None, use_errno=True)
tid = ctypes.c_int(int(sys.argv[1]))
args = ctypes.create_string_buffer(struct.pack('=11Q', 0, 0, 0, 0, 17, 0, 0, 0, ctypes.addressof(tid), 1, 0), 88)
pid = libc.syscall(435, args, 88)
assert pid >= 0, os.strerror(ctypes.get_errno())
if pid == 0:
    os.execvp('sh', ['sh', '-c', 'echo born; read x', 'another'])
os.waitpid(pid, 0)";

#[test]
fn a_pid_that_came_again_is_another_process() {
    let lab = Lab::new(Mode::Record);
    let cache = cache(&lab);
    for inside in [false, true] {
        let client = lab.python("s = tcp(); s.connect(('203.0.113.9', 5000)); s.sendall(b'bye')");
        let pid = client.id();
        stdout(&client.wait_with_output().unwrap());
        let program = ["/usr/bin/python3", "-c", REBORN, &pid.to_string()];
        let mut reborn = if inside { lab.command(&program) } else { lab.outside(&program) }.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(reborn.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "born\n");
        // Only now does anybody accept.
        let (mut stream, origin) = lab.accept_origin();
        assert_eq!((origin.tgid, read_all(&mut stream).as_str()), (pid, "bye"));
        let process = facts(&cache, &origin);
        let nothing = Process { pid, missing: process.missing.clone(), ..Process::default() };
        assert_eq!(*process, nothing);
        assert!(process.missing.is_some());
        drop(reborn.stdin.take());
        assert!(reborn.wait().unwrap().success());
    }
    assert!(lab.run.wait_until_empty(LONG).unwrap());
}
