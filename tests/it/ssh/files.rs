//! Files: SFTP, scp in both of its protocols, rsync and git, whole and on record, each operation by its path.

use crewtap_tests::host::{succeeded, text};

use super::ground::Ground;

#[test]
fn files_arrive_whole_and_each_operation_is_on_record() {
    let mut ground = Ground::new();
    ground.known_server();
    let place = ground.host.path("there");
    std::fs::create_dir(&place).unwrap();
    let place = place.display();
    let script = format!(
        "cd ~; head -c 5000000 /dev/urandom >big; scp -q big t:{place}/a && cmp big {place}/a && scp -q t:{place}/a b && \
         cmp big b && scp -q -O big t:{place}/c && cmp big {place}/c && echo copied; \
         printf 'ls {place}\\nmkdir {place}/d\\nrename {place}/a {place}/d/e\\nrm {place}/d/e\\nrmdir {place}/d\\n-get {place}/none\\n' \
         | sftp -q -b - t; rm big b"
    );
    let shown = text(&ground.run(&script));
    assert!(shown.contains("copied"), "{shown}");
    let exchanges = ground.exchanges();
    let line = |row: &serde_json::Value| {
        let word = |name: &str| row[name].as_str().unwrap_or_default().to_owned();
        format!("{} {} {}", word("verb"), word("subject"), word("outcome"))
    };
    let lines: Vec<String> = exchanges.iter().map(line).collect();
    for wanted in [
        format!("WRITE_FILE {place}/a success"),
        format!("READ_FILE {place}/a success"),
        format!("LIST {place}/ success"),
        format!("MKDIR {place}/d success"),
        format!("RENAME {place}/a to {place}/d/e success"),
        format!("REMOVE {place}/d/e success"),
        format!("RMDIR {place}/d success"),
    ] {
        assert!(lines.iter().any(|line| line.starts_with(&wanted)), "{wanted}: {lines:#?}");
    }
    assert!(lines.iter().any(|line| line.contains(&format!("{place}/none failure"))), "{lines:#?}");
    let written = exchanges.iter().find(|row| row["verb"] == "WRITE_FILE").unwrap();
    assert_eq!(written["facts"]["bytes_written"], 5_000_000, "{written}");
    let read = exchanges.iter().find(|row| row["verb"] == "READ_FILE" && row["outcome"] == "success").unwrap();
    assert_eq!(read["facts"]["digest_read"], written["facts"]["digest_written"], "the same content");
    assert!(read["facts"]["digest_read"].is_string(), "in the order of the file: {read}");
    ground.host.verify();
}

#[test]
fn policies_decide_by_path_before_the_target_hears_of_it() {
    let mut ground = Ground::new();
    ground.known_server();
    let (open, closed) = (ground.host.path("open"), ground.host.path("closed"));
    std::fs::create_dir(&open).unwrap();
    std::fs::create_dir(&closed).unwrap();
    std::fs::write(open.join("x"), "read me\n").unwrap();
    std::fs::write(closed.join("x"), "not me\n").unwrap();
    ground.policy(&format!(
        "@id(\"connects\") permit (principal, action in [Action::\"connect\", Action::\"resolve\"], resource);\n\
         @id(\"open-files\") permit (principal, action in [Action::\"read_file\", Action::\"write_file\"], resource)\n\
         when {{ context.path like \"{}*\" }};\n",
        open.display()
    ));
    ground.configure("policy = 'policy'\n");
    let (open, closed) = (open.display(), closed.display());
    let script = format!(
        "cd ~; printf -- '-get {open}/x got\\n-get {closed}/x secret\\n-put /etc/hostname {closed}/y\\n\
         -get {open}/../closed/x around\\n-put /etc/hostname {open}/y\\n' | sftp -q -b - t; cat got; ls; ssh t id; echo rc=$?"
    );
    let shown = text(&ground.run(&script));
    assert!(shown.contains("read me") && !shown.contains("not me"), "{shown}");
    assert!(
        !std::path::Path::new(&format!("{closed}/y")).exists() && std::path::Path::new(&format!("{open}/y")).exists()
    );
    for file in ["secret", "around"] {
        assert!(!ground.host.path(&format!("root/{file}")).exists(), "{file}: {shown}");
    }
    assert!(shown.contains("Permission denied") || shown.contains("crewtap: refused by policy"), "{shown}");
    assert!(
        shown.contains("rc=126") && shown.contains("policies: none allows it"),
        "a command needs a permit: {shown}"
    );
    let blocked = ground.exchanges().into_iter().filter(|row| row["outcome"] == "blocked").count();
    assert!(blocked >= 4, "{blocked}");
}

#[test]
fn rsync_and_git_go_their_way() {
    let mut ground = Ground::new();
    ground.known_server();
    let place = ground.host.path("there");
    std::fs::create_dir(&place).unwrap();
    let place = place.display();
    let script = format!(
        "set -e; cd ~; mkdir src; seq 100000 >src/numbers; rsync -a src/ t:{place}/copy/; cmp src/numbers {place}/copy/numbers; \
         git init -q --bare {place}/r.git; git init -q w; cd w; git config user.email a@b; git config user.name n; seq 1000 >f; \
         git add f; git commit -qm one; git push -q t:{place}/r.git HEAD:main; cd ..; git clone -q -b main t:{place}/r.git c; cmp w/f c/f; \
         rm -rf src w c; echo whole"
    );
    assert!(succeeded(&ground.run(&script)).contains("whole"));
    let verbs: Vec<String> = ground.exchanges().iter().map(|row| row["subject"].to_string()).collect();
    for wanted in ["rsync --server", "git-receive-pack", "git-upload-pack"] {
        assert!(verbs.iter().any(|verb| verb.contains(wanted)), "{wanted}: {verbs:?}");
    }
}

/// Speaks SFTP by hand: what a library would never say.
const BY_HAND: &str = "
import paramiko, struct, sys
place = sys.argv[1].encode()
client = paramiko.SSHClient(); client.load_system_host_keys(); client.connect(sys.argv[2], 2222, 'root')
def text(value): return struct.pack('>I', len(value)) + value
def packet(kind, number, body): return struct.pack('>IBI', 5 + len(body), kind, number) + body
def read(channel, count):
    said = b''
    while len(said) < count:
        more = channel.recv(count - len(said))
        if not more: return None
        said += more
    return said
def answer(channel):
    head = read(channel, 4)
    return head and read(channel, struct.unpack('>I', head)[0])
def begin():
    channel = client.get_transport().open_session(); channel.invoke_subsystem('sftp')
    channel.sendall(struct.pack('>IBI', 5, 1, 3)); answer(channel)
    return channel
opens = lambda number, name: packet(3, number, text(place + name) + struct.pack('>II', 0x1a, 0))
writes = lambda number, handle: packet(6, number, text(handle) + struct.pack('>Q', 0) + text(b'unseen'))
# The server's handles can be guessed: a write before anybody has got one.
channel = begin()
channel.sendall(opens(1, b'/guessed') + writes(2, bytes(4)))
print('guessed', sorted([answer(channel)[0], answer(channel)[0]]))
# Two requests under one number.
channel = begin()
channel.sendall(opens(5, b'/twice') + packet(16, 5, text(b'/')))
print('twice', answer(channel))
# Something before the server has told its version.
channel = client.get_transport().open_session(); channel.invoke_subsystem('sftp')
channel.sendall(struct.pack('>IBI', 5, 1, 3) + opens(0, b'/early')); said = answer(channel)
print('early', said is None or answer(channel))
# A length that cannot be.
channel = begin(); channel.sendall(b'\\xff' * 8); print('long', answer(channel))
# A terminal would change what the server reads.
channel = client.get_transport().open_session(); channel.get_pty(); channel.invoke_subsystem('sftp')
print('terminal', channel.closed)
";

#[test]
fn nothing_reaches_a_file_that_is_not_on_record_by_its_handle_and_number() {
    let mut ground = Ground::new();
    ground.known_server();
    let place = ground.host.path("there");
    std::fs::create_dir(&place).unwrap();
    let file = ground.host.path("hand.py");
    std::fs::write(&file, BY_HAND).unwrap();
    let python = crewtap_tests::world::cache_dir().join("clients/.venv/bin/python");
    let script = format!("{} {} {} {}", python.display(), file.display(), place.display(), super::ground::ADDRESS);
    let shown = text(&ground.run(&script));
    // 102: a handle for the one that opens; 101: a failure for the one that writes.
    assert!(shown.contains("guessed [101, 102]"), "{shown}");
    assert!(shown.contains("twice None") && shown.contains("early True") && shown.contains("long None"), "{shown}");
    let guessed = std::fs::read(place.join("guessed")).unwrap_or_default();
    assert!(guessed.is_empty(), "it was written to");
    assert!(!place.join("early").exists());
    assert!(ground.notes().matches("sftp_malformed").count() >= 3, "{}", ground.notes());
    let of_terminal = ground.exchanges().into_iter().filter(|row| row["verb"] == "SUBSYSTEM").count();
    assert!(of_terminal >= 4);
    ground.host.verify();
}

#[test]
fn of_a_files_content_as_much_is_on_record_as_is_configured() {
    let mut ground = Ground::new();
    ground.known_server();
    ground.configure("[ssh]\ncontent_max = 1000\n");
    let place = ground.host.path("there");
    let script = format!(
        "cd ~; (echo head-$((6*7))-of-it; seq 1000; echo tail-$((6*7))-of-it) >f; scp -q f t:{0} && cmp f {0} && echo copied",
        place.display()
    );
    assert!(succeeded(&ground.run(&script)).contains("copied"));
    assert!(ground.holds("head-42-of-it") && !ground.holds("tail-42-of-it"), "1000 bytes are on record");
    let written = ground.exchanges().into_iter().find(|row| row["verb"] == "WRITE_FILE").unwrap();
    assert_eq!(written["facts"]["bytes_written"], std::fs::metadata(&place).unwrap().len(), "{written}");
}
