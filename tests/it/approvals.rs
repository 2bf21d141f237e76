//! Who reaches the approvers' doors, and who does not: a captured process gets to neither, as whoever it runs. What an
//! override leaves behind when the agent is killed.

use std::collections::BTreeSet;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;

use crewtap::approvals::{Approvals, Asked};
use crewtap::config::approvals::{ApprovalsConfig, OverrideConfig};
use crewtap::journal::{Journal, Options};
use crewtap::recorder::Recorder;
use crewtap_core::bodies::Note;
use crewtap_core::id::{RunId, SessionId, Ulid};
use crewtap_core::identity::Identity;
use crewtap_core::secret::Secret;
use crewtap_core::target::Resource;
use crewtap_core::verdict::Terms;
use crewtap_tests::host::{Host, crewtap, succeeded, text};
use rustix::process::Signal;

use crate::agent;

const PORT: u16 = 7099;
const TOKEN: &str = "the approver's own";

/// Prints the first line of the API's answer to whoever has the token, or what is in the way.
const ASK: &str = "import socket, sys
try:
    s = socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=20)
    s.sendall(b'GET /approvals HTTP/1.1\\r\\nHost: 127.0.0.1:%s\\r\\nAuthorization: Bearer %s\\r\\n\\r\\n' % (sys.argv[2].encode(), sys.argv[3].encode()))
    print((s.recv(4096).split(b'\\r\\n')[0] or b'ended').decode())
except OSError as error:
    print('failed', error.errno)";

/// Speaks with the control socket, wherever it can be found: by its path, and through the roots of other processes.
const CONTROL: &str = r#"import glob, os, socket, sys
path, found = sys.argv[1], 0
for at in [path] + sorted(glob.glob('/proc/[0-9]*/root' + path)):
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(20)
    try:
        here = os.open(os.path.dirname(at), os.O_PATH)
        s.connect('/proc/self/fd/%d/control.sock' % here)
    except OSError: continue
    found += 1
    try: s.sendall(b'{"v":1,"verb":"approvals","what":"list"}\n')
    except OSError: pass # refused before it was read: the answer is there
    try:
        print(s.recv(4096).decode().strip())
    except OSError as error: print('failed', error.errno)
    break
print('found', found)"#;

fn config(host: &Host) -> PathBuf {
    let write = |name: &str, mode: u32, text: &str| {
        let path = host.path(name);
        let mut file =
            std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&path).unwrap();
        file.write_all(text.as_bytes()).unwrap();
        path
    };
    write("token", 0o600, TOKEN);
    let text = format!(
        "[approvals.api]\nlisten = '127.0.0.1:{PORT}'\n[[approvals.api.approver]]\nname = 'alice'\ntoken = 'file:token'\n\
         [override]\ngroups = ['os:root']\n"
    );
    write("crewtap.toml", 0o600, &text)
}

/// A crewtap command by this configuration.
fn with(host: &Host, args: &[&str]) -> Command {
    let mut command = host.crewtap(&[]);
    command.arg("--config").arg(config(host)).args(args);
    command
}

fn service(host: &Host) -> agent::Ended {
    let child = with(host, &["agent"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    assert_eq!(agent::pid(host), child.id());
    agent::Ended(child)
}

fn run(host: &Host, words: &[&str]) -> Output {
    with(host, &[&["run", "-q", "--"], words].concat()).output().unwrap()
}

#[test]
fn a_captured_process_reaches_neither_the_api_nor_the_control_socket_whoever_it_is() {
    let host = Host::new();
    let _agent = service(&host);
    let port = PORT.to_string();
    let outside = host.command("python3").args(["-c", ASK, "127.0.0.1", &port, TOKEN]).output().unwrap();
    assert_eq!(succeeded(&outside).trim(), "HTTP/1.1 200 OK", "whoever is not captured has an answer");
    let without = host.command("python3").args(["-c", ASK, "127.0.0.1", &port, "guessed"]).output().unwrap();
    assert_eq!(succeeded(&without).trim(), "HTTP/1.1 401 Unauthorized");
    let as_nobody = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"];
    for (who, whoever) in [("root", &[][..]), ("nobody", &as_nobody)] {
        for address in ["127.0.0.1", "127.1.2.3", "0.0.0.0", "::ffff:127.0.0.1"] {
            let asked = run(&host, &[whoever, &["/usr/bin/python3", "-c", ASK, address, &port, TOKEN]].concat());
            let said = succeeded(&asked);
            assert!(!said.contains("HTTP/"), "{who} at {address}: {said}");
            let bypassed = host.timeline(&host.last_run()).iter().any(|event| event["event"] == "bypass");
            assert!(bypassed || said.starts_with("failed"), "{who} at {address}: {said}");
        }
        let path = host.data_dir().join("control.sock").display().to_string();
        let said = succeeded(&run(&host, &[whoever, &["/usr/bin/python3", "-c", CONTROL, &path]].concat()));
        let refused = said.contains("a captured process may not speak with the agent");
        let expected = if who == "root" { refused } else { said.trim() == "found 0" };
        assert!(expected && !said.contains("\"list\""), "{who}: {said}");
    }
    let own = crewtap().display().to_string();
    let store = host.data_dir().display().to_string();
    for verb in [&["approvals"][..], &["override", "--list"]] {
        let said = run(&host, &[&[own.as_str(), "--data-dir", &store], verb].concat());
        assert!(!said.status.success(), "{verb:?}: {}", text(&said));
    }
}

#[test]
fn an_override_is_told_in_every_run_and_ends_with_the_agent_that_was_killed() {
    let host = Host::new();
    let mut served = service(&host);
    let said = with(&host, &["override", "--reason", "none", "--for", "1m", "no-such-target"]).output().unwrap();
    assert_eq!(said.status.code(), Some(1), "{}", text(&said));
    assert!(text(&said).contains("the catalog has no target `no-such-target`"), "{}", text(&said));
    let wrong = with(&host, &["override", "--for", "1m", "tcp:127.0.0.1:80"]).output().unwrap();
    assert_eq!(wrong.status.code(), Some(2), "without a reason: {}", text(&wrong));
    let begin = ["override", "--reason", "incident 7\x1b[2J", "--for", "10m", "tcp:127.0.0.1:80"];
    let begun = with(&host, &begin).output().unwrap();
    assert!(succeeded(&begun).contains("incident 7 [2J"), "{}", text(&begun));
    assert_eq!(run(&host, &["true"]).status.code(), Some(0));
    let told = |host: &Host| {
        let events = host.timeline(&host.last_run());
        let of: Vec<String> = events
            .iter()
            .filter(|event| event["event"] == "override" && event["alarm"] == true)
            .map(|event| event["text"].as_str().unwrap().to_owned())
            .collect();
        of
    };
    let first = told(&host);
    assert_eq!(first.len(), 1, "{first:?}");
    assert!(first[0].contains("OVERRIDE: everything passes to tcp:127.0.0.1:80"), "{first:?}");
    let shown = host.crewtap(&["show", host.last_run()["id"].as_str().unwrap()]).output().unwrap();
    assert!(succeeded(&shown).contains("! OVERRIDE: policy did not hold for tcp:127.0.0.1:80"), "{}", text(&shown));
    agent::signal(served.0.id(), Signal::KILL);
    served.0.wait().unwrap();
    let _next = service(&host);
    agent::until("the end of the lost override", || (told(&host).len() == 2).then_some(()));
    let list = with(&host, &["override", "--list"]).output().unwrap();
    assert_eq!(
        (list.status.code(), text(&list).contains("no override is in force")),
        (Some(1), true),
        "{}",
        text(&list)
    );
    host.verify();
}

#[test]
fn what_a_killed_agent_has_asked_ends_as_lost_with_the_next_one() {
    let host = Host::new();
    let (run, session) = (RunId(Ulid::generate()), SessionId(Ulid::generate()));
    std::fs::create_dir(host.data_dir()).unwrap();
    let journal = Journal::open(&host.data_dir(), &Options::default(), None).unwrap();
    let recorder = Recorder::new(journal.clone());
    let approvals =
        Approvals::new(ApprovalsConfig::default(), OverrideConfig::default(), journal.store_key(), recorder.clone());
    recorder.record_in_run(run, Note { code: "begun".into(), text: "a run".into() }.into()).unwrap();
    let held = approvals.ask(Asked {
        run,
        session,
        exchange: Some(2),
        identity: Identity::unknown(),
        resource: Resource { id: "orders-db".into(), tags: Vec::new() },
        verb: "query",
        subject: "DELETE FROM orders".into(),
        policies: vec!["no-delete".into()],
        terms: Terms { groups: BTreeSet::new(), approvers: 1, whole_session: false },
        clear: Arc::new(Secret::new(b"secret".to_vec())),
        shown: b"***".as_slice().into(),
        media_type: "text/plain".into(),
    });
    assert_eq!(approvals.waiting().len(), 1);
    // As if it had been killed: nothing is told of what still waits.
    journal.close().unwrap();
    let id = held.id.clone();
    drop(held);
    drop((approvals, recorder, journal));
    let _agent = service(&host);
    let row = agent::until("the end of the lost question", || {
        let rows = host.json(&["show", &run.to_string()]);
        rows.into_iter().find(|row| row["table"] == "approvals" && row["answer"] == "lost")
    });
    assert_eq!((row["id"].as_str(), row["n"].as_i64()), (Some(id.as_str()), Some(2)));
    assert_eq!(row["reason"], "the agent was killed");
    host.verify();
}

#[test]
fn nothing_waits_and_the_verbs_say_so() {
    let host = Host::new();
    let none = host.crewtap(&["approvals"]).output().unwrap();
    assert_eq!(none.status.code(), Some(1));
    assert!(text(&none).contains("no agent is running"), "{}", text(&none));
    let _agent = service(&host);
    let list = with(&host, &["approvals"]).output().unwrap();
    assert!(list.status.code() == Some(1) && text(&list).contains("nothing waits for an approval"), "{}", text(&list));
    let answer = with(&host, &["approvals", "approve", "01K"]).output().unwrap();
    assert!(answer.status.code() == Some(1) && text(&answer).contains("no approval that waits"), "{}", text(&answer));
    let mut stranger = agent::as_nobody(&host, 65534, crewtap().to_str().unwrap());
    let stranger = stranger.arg("--data-dir").arg(host.data_dir()).arg("approvals").output().unwrap();
    assert_eq!(stranger.status.code(), Some(2), "{}", text(&stranger));
}

/// Runs a program on a terminal of its own, sends it a signal or a key once it has taken the screen, and tells whether it gave
/// the screen back, and how it ended.
const ON_A_TERMINAL: &str = "import fcntl, os, pty, signal, struct, sys, termios
pid, fd = pty.fork()
if pid == 0: os.execvp(sys.argv[2], sys.argv[2:])
fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack('HHHH', 30, 100, 0, 0))
out = b''
def read():
    global out
    try: more = os.read(fd, 65536)
    except OSError: more = b''
    out += more
    return more
while b'nothing' not in out and read(): pass
if sys.argv[1] == 'q': os.write(fd, b'q')
else: os.kill(pid, getattr(signal, sys.argv[1]))
while read(): pass
status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
print(out.count(b'\\x1b[?1049h'), out.count(b'\\x1b[?1049l'), out.rfind(b'\\x1b[?25h') > out.rfind(b'\\x1b[?25l'), status)";

#[test]
fn a_watch_gives_the_terminal_back_however_it_ends() {
    let host = Host::new();
    let _agent = service(&host);
    for (end, status) in [("q", 0), ("SIGTERM", 143), ("SIGHUP", 129)] {
        let mut command = host.command("python3");
        command.args(["-c", ON_A_TERMINAL, end]).arg(crewtap()).arg("--data-dir").arg(host.data_dir());
        let ended = command.args(["approvals", "watch"]).env("TERM", "xterm").output().unwrap();
        assert_eq!(succeeded(&ended).trim(), format!("1 1 True {status}"), "{end}: {}", text(&ended));
    }
}
