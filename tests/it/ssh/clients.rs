//! Other people's programs over SSH, as they are: what they do is done, and on record.

use crewtap_tests::host::{succeeded, text};
use crewtap_tests::world::cache_dir;
use serde_json::Value;

use super::ground::{ADDRESS, Ground, PORT};

/// A program of the clients' environment.
fn client(name: &str) -> String {
    cache_dir().join("clients/.venv/bin").join(name).display().to_string()
}

/// `VERB SUBJECT OUTCOME` of each exchange.
fn lines(exchanges: &[Value]) -> Vec<String> {
    let word = |row: &Value, name: &str| row[name].as_str().unwrap_or_default().to_owned();
    let line = |row: &Value| format!("{} {} {}", word(row, "verb"), word(row, "subject"), word(row, "outcome"));
    exchanges.iter().map(line).collect()
}

fn has(lines: &[String], verb: &str, part: &str, outcome: &str) -> bool {
    lines.iter().any(|line| line.starts_with(verb) && line.contains(part) && line.ends_with(outcome))
}

#[test]
fn an_exit_status_that_comes_behind_the_end_of_output_is_not_lost() {
    let mut ground = Ground::new();
    ground.known_server();
    // The client has ended its input: it closes the channel as soon as it hears of the end of output. Through one connection, since
    // there the client's process learns the status by the channel alone.
    let late = "'exec >&- 2>&-; sleep 0.3; exit 7'";
    let script = format!(
        "ssh t {late} </dev/null; echo first rc=$?; ssh -MNf -S /root/master t; \
         ssh -S /root/master t {late} </dev/null; echo second rc=$?; \
         for n in $(seq 60); do ssh -S /root/master t \"exit $n\" </dev/null; [ $? = $n ] || echo lost $n; done; \
         ssh -S /root/master -O exit t; echo all"
    );
    let shown = text(&ground.run(&script));
    assert!(shown.contains("first rc=7") && shown.contains("second rc=7") && shown.contains("all"), "{shown}");
    assert!(!shown.contains("lost"), "{shown}");
    let lines = lines(&ground.exchanges());
    assert!(!lines.iter().any(|line| line.starts_with("EXEC") && line.ends_with("aborted")), "{lines:#?}");
}

#[test]
fn ansible_copies_its_modules_and_runs_them() {
    let mut ground = Ground::new();
    ground.known_server();
    let place = ground.host.path("there");
    std::fs::create_dir(&place).unwrap();
    let place = place.display();
    let inventory = ground.host.path("inventory");
    let host = format!(
        "t ansible_host={ADDRESS} ansible_port={PORT} ansible_user=root ansible_remote_tmp={place}/tmp \
         ansible_python_interpreter=/usr/bin/python3\n"
    );
    std::fs::write(&inventory, host).unwrap();
    // Its own connection stays for a minute (ControlPersist): whoever runs it in a script ends that.
    let ansible = format!("ANSIBLE_NOCOLOR=1 {} t -i {}", client("ansible"), inventory.display());
    let script = format!(
        "set -e; cd /root; echo configured >wanted; {ansible} -m ping; {ansible} -m command -a 'cat /etc/hostname'; \
         {ansible} -m copy -a 'src=wanted dest={place}/got'; cmp wanted {place}/got; \
         {ansible} -m fetch -a 'src={place}/got dest=back flat=yes'; cmp wanted back; \
         ! {ansible} -m command -a 'sh -c \"exit 7\"'; for s in .ansible/cp/*; do ssh -S $s -O exit t; done; echo whole"
    );
    let shown = succeeded(&ground.run(&script));
    assert!(shown.contains("\"ping\": \"pong\"") && shown.contains("rc=7") && shown.contains("whole"), "{shown}");
    let hostname = std::fs::read_to_string("/etc/hostname").unwrap();
    assert!(shown.contains(&format!("rc=0 >>\n{hostname}")), "{shown}");
    let lines = lines(&ground.exchanges());
    assert!(has(&lines, "WRITE_FILE", "AnsiballZ_ping.py", "success"), "{lines:#?}");
    assert!(has(&lines, "EXEC", "AnsiballZ_command.py", "success"), "{lines:#?}");
    ground.host.verify();
}

/// Fabric reads `~/.ssh/config` and the known hosts by itself.
const FABRIC: &str = "
import sys
from fabric import Connection
place = sys.argv[1]
with Connection('t') as there:
    said = there.run('echo out; echo err >&2; exit 5', hide=True, warn=True)
    print('ran', said.stdout.strip(), said.stderr.strip(), said.exited)
    there.put('/root/wanted', place + '/got')
    there.get(place + '/got', '/root/back')
    print('same', open('/root/wanted').read() == open('/root/back').read())
    print('pty', there.run('test -t 0 && echo terminal', pty=True, hide=True).stdout.strip())
";

#[test]
fn fabric_runs_puts_and_gets() {
    let mut ground = Ground::new();
    ground.known_server();
    let place = ground.host.path("there");
    std::fs::create_dir(&place).unwrap();
    let script = ground.host.path("with_fabric.py");
    std::fs::write(&script, FABRIC).unwrap();
    std::fs::write(ground.host.path("root/wanted"), "for fabric\n").unwrap();
    let shown = succeeded(&ground.run(&format!("{} {} {}", client("python"), script.display(), place.display())));
    assert!(shown.contains("ran out err 5\nsame True\npty terminal\n"), "{shown}");
    let lines = lines(&ground.exchanges());
    assert!(has(&lines, "EXEC", "echo out; echo err >&2; exit 5", "failure"), "{lines:#?}");
    for verb in ["WRITE_FILE", "READ_FILE"] {
        assert!(has(&lines, verb, "/got", "success"), "{verb}: {lines:#?}");
    }
    ground.host.verify();
}

/// libssh2 checks what its caller asks it to: here against the user's known hosts, as curl does.
const LIBSSH2: &str = "
import os, socket, sys
from ssh2.session import Session
from ssh2.knownhost import LIBSSH2_KNOWNHOST_TYPE_PLAIN, LIBSSH2_KNOWNHOST_KEYENC_RAW
from ssh2.sftp import LIBSSH2_FXF_CREAT, LIBSSH2_FXF_WRITE, LIBSSH2_FXF_READ
address, place = sys.argv[1], sys.argv[2]
plain = socket.create_connection((address, 2222))
session = Session(); session.handshake(plain)
known = session.knownhost_init(); known.readfile('/root/.ssh/known_hosts')
key, kind = session.hostkey()
# LIBSSH2_KNOWNHOST_KEY_... has one kind more than LIBSSH2_HOSTKEY_TYPE_....
known.checkp(address.encode(), 2222, key, LIBSSH2_KNOWNHOST_TYPE_PLAIN | LIBSSH2_KNOWNHOST_KEYENC_RAW | (kind + 1) << 18)
session.userauth_publickey_fromfile('root', '/root/.ssh/id_ed25519')
channel = session.open_session(); channel.execute('echo said; exit 9')
said = b''
while True:
    count, more = channel.read()
    if count <= 0: break
    said += more
channel.close(); channel.wait_closed()
print('ran', said, channel.get_exit_status())
sftp, content = session.sftp_init(), os.urandom(300000)
with sftp.open(place + '/two', LIBSSH2_FXF_CREAT | LIBSSH2_FXF_WRITE, 0o600) as file: file.write(content)
with sftp.open(place + '/two', LIBSSH2_FXF_READ, 0) as file: print('same', b''.join(more for _, more in file) == content)
";

#[test]
fn libssh2_runs_and_moves_files() {
    let mut ground = Ground::new();
    ground.known_server();
    let place = ground.host.path("there");
    std::fs::create_dir(&place).unwrap();
    let script = ground.host.path("with_libssh2.py");
    std::fs::write(&script, LIBSSH2).unwrap();
    let shown =
        succeeded(&ground.run(&format!("{} {} {ADDRESS} {}", client("python"), script.display(), place.display())));
    assert!(shown.contains("ran b'said\\n' 9\nsame True\n"), "{shown}");
    let lines = lines(&ground.exchanges());
    assert!(has(&lines, "EXEC", "echo said; exit 9", "failure"), "{lines:#?}");
    for verb in ["WRITE_FILE", "READ_FILE"] {
        assert!(has(&lines, verb, "/two", "success"), "{verb}: {lines:#?}");
    }
    ground.host.verify();
}

#[test]
fn curl_moves_files_by_sftp_and_scp() {
    let mut ground = Ground::new();
    ground.known_server();
    let place = ground.host.path("there");
    std::fs::create_dir(&place).unwrap();
    let place = place.display();
    let (user, url) = ("-sS -u root: --key /root/.ssh/id_ed25519", format!("//{ADDRESS}:{PORT}{place}"));
    let script = format!(
        "set -e; cd /root; head -c 3000000 /dev/urandom >f; curl {user} -T f sftp:{url}/by-sftp; cmp f {place}/by-sftp; \
         curl {user} -o g sftp:{url}/by-sftp; cmp f g; curl {user} -T f scp:{url}/by-scp; cmp f {place}/by-scp; \
         curl {user} -o h scp:{url}/by-scp; cmp f h; ! curl {user} sftp:{url}/none; echo whole"
    );
    assert!(succeeded(&ground.run(&script)).contains("whole"));
    let lines = lines(&ground.exchanges());
    for (verb, part, outcome) in [
        ("WRITE_FILE", "/by-sftp", "success"),
        ("READ_FILE", "/by-sftp", "success"),
        // The server of scp ends in its own way when its client closes the channel first.
        ("EXEC", "scp -t", ""),
        ("EXEC", "scp -pf", ""),
        ("READ_FILE", "/none", "failure"),
    ] {
        assert!(has(&lines, verb, part, outcome), "{verb} {part}: {lines:#?}");
    }
    ground.host.verify();
}
