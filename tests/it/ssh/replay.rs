//! What was recorded of terminals and commands, played again and exported.

use std::io::Write as _;
use std::process::{Command, Stdio};

use crewtap_tests::host::{succeeded, text};
use serde_json::Value;

use super::ground::Ground;

/// Of a test range; passes the check of cards.
const CARD: &str = "4012888888881881";

/// A shell on a terminal, by the real client: typed at, resized, with a card and a hostile stream.
const SHELL: &str = r#"
import fcntl, os, pty, signal, struct, termios
def size(rows, columns): fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack('HHHH', rows, columns, 0, 0))
go = os.pipe()
pid, fd = pty.fork()
if pid == 0:
    os.read(go[0], 1)
    os.environ['TERM'] = 'xterm-256color'
    os.execvp('ssh', ['ssh', '-tt', '-o', 'SetEnv=LANG=C.UTF-8', 't'])
size(24, 80)
os.write(go[1], b'x')
signal.alarm(120)
def until(text):
    seen = b''
    while text.encode() not in seen:
        seen += os.read(fd, 1000)
def type(keys, text):
    os.write(fd, keys.encode())
    until(text)
type('PS1="crew@t""> "; unset PROMPT_COMMAND\r', 'crew@t> ')
for key in 'echo grüße-$((6*7))':
    os.write(fd, key.encode())
type('\r', 'e-42')
size(30, 100)
type('until [ "$(stty size)" = "30 100" ]; do :; done; stty size\r', '30 100\r\n')
type('echo card 401288888""8881881\r', '4012888888881881')
type("printf '\\033]52;c;c2VjcmV0\\007\\033]0;owned\\007\\033[6ndone%s\\n' 1\r", 'done1')
os.write(fd, b'exit 5\r')
try:
    while os.read(fd, 1000): pass
except OSError: pass
print('status', os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"#;

fn shell(ground: &Ground) -> String {
    let file = ground.host.path("shell.py");
    std::fs::write(&file, SHELL).unwrap();
    succeeded(&ground.run(&format!("python3 {}", file.display())))
}

fn session(ground: &Ground, verb: &str) -> (String, String) {
    let exchanges = ground.exchanges();
    let one = exchanges.iter().find(|row| row["verb"] == verb).unwrap_or_else(|| panic!("{exchanges:?}"));
    (one["session"].as_str().unwrap().to_owned(), one["id"].as_str().unwrap().to_owned())
}

/// An asciicast, read as strictly as its definition says: events with absolute times.
fn cast(file: &str) -> (Value, Vec<(f64, String, String)>) {
    let mut lines = file.lines();
    let header: Value = serde_json::from_str(lines.next().unwrap()).unwrap();
    let mut at = 0.0;
    let events = lines.filter(|line| !line.starts_with('#')).map(|line| {
        let (interval, code, text): (f64, String, String) = serde_json::from_str(line).unwrap();
        assert!(interval >= 0.0 && ["o", "i", "r", "x"].contains(&code.as_str()), "{line}");
        at += interval;
        (at, code, text)
    });
    (header, events.collect())
}

#[test]
fn a_shell_is_told_listed_exported_and_played() {
    let mut ground = Ground::new();
    ground.known_server();
    let shown = shell(&ground);
    assert!(shown.contains("status 5"), "{shown}");
    let (session, exchange) = session(&ground, "SHELL");
    let crewtap = |words: &[&str]| ground.host.crewtap(words).output().unwrap();

    let told = succeeded(&crewtap(&["replay", &session]));
    for line in
        ["crew@t> echo grüße-$((6*7))", "grüße-42", "the terminal has 100 columns and 30 rows now", "30 100", "done1"]
    {
        assert!(told.contains(line), "{line}: {told}");
    }
    assert!(told.contains("ended: failure 5") && !told.contains(CARD) && !told.contains('\x1b'), "{told}");

    let commands = ground.host.json(&["replay", &session, "--commands"]);
    let commands: Vec<&str> = commands.iter().map(|row| row["command"].as_str().unwrap()).collect();
    assert!(
        commands.contains(&"echo grüße-$((6*7))") && commands.contains(&"echo card 401288888\"\"8881881"),
        "{commands:?}"
    );
    assert!(commands.contains(&"exit 5"), "{commands:?}");

    let file = ground.host.path("shell.cast");
    let path = file.to_str().unwrap();
    let _ = succeeded(&crewtap(&["export", &exchange, "--format", "asciicast", "-o", path]));
    let (header, events) = cast(&std::fs::read_to_string(&file).unwrap());
    assert_eq!(header["version"], 3);
    assert_eq!(header["term"]["type"], "xterm-256color");
    assert_eq!((header["term"]["cols"].as_u64(), header["term"]["rows"].as_u64()), (Some(80), Some(24)));
    assert_eq!(events.last().map(|(_, code, text)| (code.as_str(), text.as_str())), Some(("x", "5")));
    assert!(events.iter().any(|(_, code, text)| code == "r" && text == "100x30"));
    let of = |wanted: &str| -> String {
        events.iter().filter(|(_, code, _)| code == wanted).map(|(_, _, text)| text.as_str()).collect()
    };
    assert!(of("o").contains("grüße-42") && of("i").contains("echo gr\u{fc}\u{df}e"), "{events:?}");
    assert!(!of("o").contains("\x1b]") && !of("o").contains("\x1b[6n"), "{:?}", of("o"));
    assert!(!of("o").contains(CARD) && !of("i").contains(CARD));
    let again = crewtap(&["export", &exchange, "--format", "asciicast", "-o", path]);
    assert_eq!(again.status.code(), Some(2), "a file that is there is left alone: {}", text(&again));
    let raw = succeeded(&crewtap(&["export", &exchange, "--format", "asciicast", "--raw"]));
    assert!(cast(&raw).1.iter().any(|(_, _, text)| text.contains("\x1b]52;c;c2VjcmV0\x07")), "{raw}");
    let transcript = succeeded(&crewtap(&["export", &exchange, "--format", "text"]));
    assert!(transcript.contains("grüße-42"), "{transcript}");

    let played = play(&ground, &session, &["--idle-max", "0.1", "--speed", "20"], b"");
    assert!(played.contains("grüße-42") && played.contains("ended"), "{played:?}");
    for swallowed in ["\x1b]52", "\x1b]0;", "\x1b[6n", CARD] {
        assert!(!played.contains(swallowed), "{swallowed}: {played:?}");
    }
    let found = play(&ground, &session, &["--speed", "0.01"], b"/done1\r");
    assert!(found.contains("done1") && found.contains("paused") && found.contains("100x30"), "{found:?}");
}

/// Plays on a terminal of its own, with these keys and then `q` once it has ended or paused; what that terminal got.
fn play(ground: &Ground, session: &str, options: &[&str], keys: &[u8]) -> String {
    let mut words = vec!["replay", session];
    words.extend(options);
    let line = ground.host.crewtap(&words);
    let program = std::iter::once(line.get_program()).chain(line.get_args());
    let quoted: Vec<String> = program.map(|word| format!("'{}'", word.to_str().unwrap())).collect();
    // `script` gives the program a terminal, and passes keys and bytes as they are.
    let mut script = Command::new("script");
    script.args(["-q", "-e", "-c", &format!("stty cols 120 rows 40; {}", quoted.join(" ")), "/dev/null"]);
    script.env("TERM", "xterm-256color").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
    let mut child = script.spawn().unwrap();
    let mut typed = child.stdin.take().unwrap();
    let mut shown = child.stdout.take().unwrap();
    let mut seen = Vec::new();
    let mut piece = [0; 4096];
    let has = |seen: &[u8], word: &str| String::from_utf8_lossy(seen).contains(word);
    let (mut sent, mut left) = (keys.is_empty(), false);
    loop {
        let len = std::io::Read::read(&mut shown, &mut piece).unwrap();
        if len == 0 {
            break;
        }
        seen.extend_from_slice(&piece[..len]);
        if !sent && has(&seen, "plays") {
            typed.write_all(keys).unwrap();
            sent = true;
        }
        if !left && (has(&seen, "ended") || has(&seen, "paused")) {
            typed.write_all(b"q").unwrap();
            left = true;
        }
    }
    let status = child.wait().unwrap();
    let seen = String::from_utf8_lossy(&seen).into_owned();
    assert!(status.success(), "{status}: {seen:?}");
    seen
}

#[test]
fn a_command_is_a_transcript_and_what_cannot_be_played_says_what_shows_it() {
    let mut ground = Ground::new();
    ground.known_server();
    let _ = succeeded(
        &ground.run("echo typed | ssh t 'cat; echo oops >&2; head -c 300 /dev/zero; exit 3' >/dev/null; true"),
    );
    let (session, exchange) = session(&ground, "EXEC");
    let crewtap = |words: &[&str]| ground.host.crewtap(words).output().unwrap();
    let told = succeeded(&crewtap(&["replay", &session]));
    let lines: Vec<&str> = told.lines().collect();
    for line in
        ["in  | typed", "out | typed", "err | oops", "out | (300 bytes that are no text)", "-- ended: failure 3"]
    {
        assert!(lines.contains(&line), "{line}: {told}");
    }
    assert_eq!(*lines.last().unwrap(), "-- ended: failure 3");
    let rows = ground.host.json(&["replay", &exchange]);
    assert!(rows.iter().any(|row| row["stream"] == "stderr" && row["text"] == "oops\n"), "{rows:?}");
    assert!(rows.iter().any(|row| row["kind"] == "ended" && row["code"] == "3"), "{rows:?}");
    let refused = crewtap(&["export", &exchange, "--format", "asciicast"]);
    assert!(!refused.status.success() && text(&refused).contains("--format text"), "{}", text(&refused));
    let login = crewtap(&["replay", &format!("{session}.1")]);
    assert_eq!(login.status.code(), Some(1));
    assert!(
        text(&login).contains("`crewtap show") && text(&login).contains("nothing can be played"),
        "{}",
        text(&login)
    );
}
