//! Canaries: passwords and keys that crewtap logs in with are looked for wherever somebody could find them afterwards, or while
//! it is done, and in every form in which they could stand there.

use std::fs::{File, Permissions};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crewtap_tests::host::{Host, crewtap, succeeded};
use crewtap_tests::peer::Peer;
use crewtap_tests::postgres::{DATABASE, Postgres, user};
use rustix::process::Signal;

use crate::agent::{self, Ended};
use crate::postgres::captured::python;
use crate::redaction::{forms, found, holds};

/// The database's password, and the key of the web server. Nothing else on this machine has them in its memory.
const CANARIES: [&str; 2] = ["Kolibri-7Xk9w/Q4zT+pg", "Pelikan-3Vm2r/H8sJ+http"];

/// What is on record, in memory and in the answers: what looks for canaries finds this.
const WITNESS: &str = "witness-5Lp0q";

/// Logs in without a password, asks with a wrong key, shows all that it got, and stays until it is told to go.
const CLIENT: &str = "
import psycopg, sys, urllib.request
with psycopg.connect(sys.argv[1]) as connection:
    print(connection.execute('SELECT current_user, %s', [sys.argv[3]]).fetchone(), connection.info.get_parameters())
asked = urllib.request.Request(sys.argv[2] + '/' + sys.argv[3], headers={'Authorization': 'Basic bWluZTpvd24='})
answer = urllib.request.urlopen(asked)
print(answer.headers, answer.read().decode())
print('ready', flush=True)
sys.stdin.readline()
";

/// A web server that shows what it was sent.
fn mirror(host: &Host) -> Peer {
    Peer::serve(host, "127.0.0.1:0", |stream, keep| {
        let (mut bytes, mut head) = (vec![0; 4096], Vec::new());
        while !head.ends_with(b"\r\n\r\n") {
            let Ok(len @ 1..) = stream.read(&mut bytes) else { return };
            keep(&bytes[..len]);
            head.extend_from_slice(&bytes[..len]);
        }
        let answer = format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", head.len());
        stream.write_all(&[answer.as_bytes(), &head].concat()).unwrap();
    })
}

fn keep(file: &Path, secret: &str) {
    std::fs::write(file, secret).unwrap();
    std::fs::set_permissions(file, Permissions::from_mode(0o600)).unwrap();
}

/// Nothing that a reader could make a canary of.
fn assert_clean(place: &str, bytes: &[u8]) {
    let small = bytes.to_ascii_lowercase();
    for form in CANARIES.into_iter().flat_map(forms) {
        let form = form.to_ascii_lowercase();
        let found = memchr::memmem::find(&small, form.as_bytes());
        assert!(found.is_none(), "{form} is in {place}, at byte {found:?}");
    }
}

/// Command lines and environments of everything that runs on this machine: of the run, of the agent, and of whatever they made.
fn assert_no_process_shows_it() {
    for entry in std::fs::read_dir("/proc").unwrap().map_while(Result::ok) {
        for name in ["cmdline", "environ", "comm"] {
            // One that has just ended shows nothing.
            let bytes = std::fs::read(entry.path().join(name)).unwrap_or_default();
            assert_clean(&entry.path().join(name).display().to_string(), &bytes);
        }
    }
}

/// All memory of a process that can be read, as a core of it would be.
fn memory(pid: u32) -> Vec<u8> {
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let mut memory = File::open(format!("/proc/{pid}/mem")).unwrap();
    let mut all = Vec::new();
    for line in maps.lines().filter(|line| line.contains(" rw")) {
        let (from, to) = line.split(' ').next().unwrap().split_once('-').unwrap();
        let [from, to] = [from, to].map(|number| u64::from_str_radix(number, 16).unwrap());
        memory.seek(SeekFrom::Start(from)).unwrap();
        // What the kernel keeps to itself cannot be read, and holds nothing of the process.
        let _ = (&mut memory).take(to - from).read_to_end(&mut all);
    }
    all
}

/// An agent that could leave a core where it stands, and says everything that it has to say.
fn service(host: &Host, log: &Path) -> Child {
    let mut command = dumping(host, &host.path("cores"));
    command.arg(crewtap()).arg("--config").arg(host.path("crewtap.toml")).arg("--data-dir").arg(host.data_dir());
    command.arg("agent").env("CREWTAP_LOG", "trace").stdout(Stdio::null()).stderr(File::create(log).unwrap());
    let child = command.spawn().unwrap();
    assert_eq!(agent::pid(host), child.id());
    child
}

/// A command whose core has all the room that it needs.
fn dumping(host: &Host, directory: &Path) -> Command {
    let mut command = host.command("sh");
    command.args(["-c", "ulimit -c unlimited; exec \"$0\" \"$@\""]).current_dir(directory);
    command
}

#[test]
fn what_crewtap_logs_in_with_is_nowhere_but_at_the_target() {
    let host = Host::new();
    let server = Postgres::on(&host).start();
    assert_eq!(server.query(&format!("ALTER ROLE {} PASSWORD '{}'", user::SCRAM, CANARIES[0])), "");
    let web = mirror(&host);
    let targets = format!(
        "[target.shop]\nmatch = {{ cidr = ['127.0.0.1'], port = [{}] }}\nprotocol = 'postgres'\n\
         credential = {{ user = '{}', secret = 'file:pg' }}\n\
         [target.api]\nmatch = {{ cidr = ['127.0.0.1'], port = [{}] }}\nprotocol = 'http'\n\
         credential = {{ user = 'crew', secret = 'file:http' }}\n",
        server.port(),
        user::SCRAM,
        web.port()
    );
    std::fs::write(host.path("targets.toml"), targets).unwrap();
    std::fs::write(host.path("crewtap.toml"), "targets = 'targets.toml'\n").unwrap();
    keep(&host.path("pg"), CANARIES[0]);
    keep(&host.path("http"), CANARIES[1]);
    std::fs::create_dir(host.path("cores")).unwrap();
    let log = host.path("agent.log");
    let mut served = Ended(service(&host, &log));
    let place = format!("postgresql://nobody@127.0.0.1:{}/{DATABASE}?sslmode=disable", server.port());
    let url = format!("http://127.0.0.1:{}", web.port());
    let mut run = host.crewtap(&["run", "--", &python(), "-u", "-c", CLIENT, &place, &url, WITNESS]);
    let run = run.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = run.env_remove("PGPASSWORD").env("HOME", "/nonexistent").spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut said = String::new();
    while !said.ends_with("ready\n") {
        said += &(lines.next().unwrap_or_else(|| panic!("{said}")).unwrap() + "\n");
    }
    // Both have let it in.
    assert!(
        said.contains(&format!("('{}', '{WITNESS}')", user::SCRAM)) && said.contains("authorization: ***"),
        "{said}"
    );
    let got = String::from_utf8(web.seen().concat()).unwrap();
    assert!(forms(&format!("crew:{}", CANARIES[1])).iter().any(|form| got.contains(form)), "{got}");
    assert_clean("what the client got", said.as_bytes());
    assert_no_process_shows_it();
    let pids = host.command("pgrep").args(["-f", &format!("^[^ ]*python.*{WITNESS}")]).output().unwrap();
    let captured = succeeded(&pids).lines().last().unwrap().parse().unwrap();
    let memory = memory(captured);
    assert!(memchr::memmem::find(&memory, WITNESS.as_bytes()).is_some(), "this is not its memory");
    assert_clean("the memory of the captured process", &memory);
    drop(child.stdin.take());
    let ended = child.wait_with_output().unwrap();
    assert!(ended.status.success());
    assert_clean("what crewtap run said", &ended.stderr);
    assert_dumps_nothing(&host, &mut served.0);
    assert_clean("the agent's log", &std::fs::read(&log).unwrap());
    assert!(holds(&host, WITNESS), "what is searched does not hold what it should");
    let forms: Vec<String> = CANARIES.into_iter().flat_map(forms).collect();
    assert_eq!(found(&host, &forms), [""; 0], "in the store");
}

/// The agent has had the secrets in its memory a moment ago; killed as by a fault of its own, it leaves none of it.
fn assert_dumps_nothing(host: &Host, agent: &mut Child) {
    let directory = host.path("cores");
    let control = dumping(host, &directory).args(["sh", "-c", "kill -ABRT $$"]).status().unwrap();
    let cores = || std::fs::read_dir(&directory).unwrap().count();
    let (left, pattern) = (cores(), std::fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap());
    assert!(control.core_dumped(), "no program of this machine leaves a core, by {pattern}: {control}");
    agent::signal(agent.id(), Signal::ABORT);
    let status = agent.wait().unwrap();
    assert_eq!((status.signal(), status.core_dumped()), (Some(6), false), "{status}");
    assert_eq!(cores(), left, "the agent has left a core");
}
