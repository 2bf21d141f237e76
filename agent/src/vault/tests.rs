use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use super::*;

struct Kept {
    _dir: tempfile::TempDir,
    path: PathBuf,
}

fn kept(content: &[u8], mode: u32) -> Kept {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("secret");
    std::fs::write(&path, content).unwrap();
    std::fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
    Kept { _dir: dir, path }
}

fn read_kept(content: &[u8], mode: u32) -> Result<Vec<u8>, String> {
    let kept = kept(content, mode);
    read(&Source::File(kept.path)).map(|secret| secret.expose().to_vec()).map_err(|error| error.to_string())
}

#[test]
fn a_file_of_root_that_is_closed_to_others_is_read_without_its_line_break() {
    for (content, wanted) in
        [("hunter2", "hunter2"), ("hunter2\n", "hunter2"), ("hunter2\r\n", "hunter2"), ("a\n\n", "a\n"), (" a ", " a ")]
    {
        assert_eq!(read_kept(content.as_bytes(), 0o600).unwrap(), wanted.as_bytes(), "{content:?}");
    }
    assert_eq!(read_kept(b"\xff\0", 0o400).unwrap(), b"\xff\0");
}

#[test]
fn a_file_that_others_may_read_or_write_is_refused() {
    for mode in [0o640, 0o604, 0o620, 0o602, 0o610, 0o660] {
        let said = read_kept(b"hunter2", mode).unwrap_err();
        assert!(said.contains(&format!("has mode {mode:04o}")) && said.contains("chmod 0600"), "{said}");
        assert!(!said.contains("hunter2"), "{said}");
    }
    let kept = kept(b"hunter2", 0o600);
    std::os::unix::fs::chown(&kept.path, Some(60_007), None).unwrap();
    let said = read(&Source::File(kept.path.clone())).unwrap_err().to_string();
    assert!(said.contains("owner 60007"), "{said}");
}

#[test]
fn what_holds_no_secret_is_refused() {
    assert!(read_kept(b"", 0o600).unwrap_err().contains("is empty"));
    assert!(read_kept(b"\n", 0o600).unwrap_err().contains("is empty"));
    assert_eq!(read_kept(&vec![b'a'; SECRET_BYTES_MAX], 0o600).unwrap().len(), SECRET_BYTES_MAX);
    assert!(read_kept(&vec![b'a'; SECRET_BYTES_MAX + 1], 0o600).unwrap_err().contains("is too long"));
    assert!(read_kept(&vec![b'a'; 1 << 20], 0o600).unwrap_err().contains("is too long"));
    let dir = tempfile::tempdir().unwrap();
    assert!(matches!(read(&Source::File(dir.path().into())), Err(VaultError::Shape { .. })));
    let fifo = dir.path().join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert!(matches!(read(&Source::File(fifo)), Err(VaultError::Shape { .. })), "a FIFO is waited for");
    assert!(matches!(read(&Source::File(dir.path().join("none"))), Err(VaultError::Read { .. })));
}

#[test]
fn a_rotated_secret_counts_at_once() {
    let kept = kept(b"old", 0o600);
    let source = Source::File(kept.path.clone());
    assert_eq!(read(&source).unwrap().expose(), b"old");
    std::fs::write(&kept.path, "new").unwrap();
    assert_eq!(read(&source).unwrap().expose(), b"new");
}

#[test]
fn variables_are_the_agents_own() {
    // Every test program has one that is not empty.
    let path = std::env::var_os("PATH").unwrap();
    assert_eq!(read(&Source::Env("PATH".into())).unwrap().expose(), path.as_encoded_bytes());
    let said = read(&Source::Env("CREWTAP_NO_SUCH_VARIABLE".into())).unwrap_err().to_string();
    assert!(said.contains("no variable CREWTAP_NO_SUCH_VARIABLE"), "{said}");
}

fn script(dir: &std::path::Path, text: &str, mode: u32) -> PathBuf {
    let path = dir.join("program");
    std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
    std::fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
    path
}

fn printed(text: &str, mode: u32, arguments: &[&str]) -> Result<Vec<u8>, String> {
    let dir = tempfile::tempdir().unwrap();
    let program = script(dir.path(), text, mode);
    let arguments = arguments.iter().map(|&word| word.to_owned()).collect();
    read(&Source::Command { program, arguments })
        .map(|secret| secret.expose().to_vec())
        .map_err(|error| error.to_string())
}

#[test]
fn a_program_prints_a_secret_without_a_shell_and_without_our_environment() {
    assert_eq!(printed("printf '%s\\n' \"$1\"", 0o700, &["a b; $(id)"]).unwrap(), b"a b; $(id)");
    let env = String::from_utf8(printed("/usr/bin/env", 0o755, &[]).unwrap()).unwrap();
    assert!(
        env.lines().all(|line| line.starts_with("PATH=") || line.starts_with("PWD=") || line.starts_with("_=")),
        "{env}"
    );
    let stat = String::from_utf8(printed("cut -d' ' -f1,6 /proc/$$/stat", 0o700, &[]).unwrap()).unwrap();
    let (pid, session) = stat.split_once(' ').unwrap();
    assert_eq!(pid, session, "it is not in a session of its own");
}

#[test]
fn a_program_that_fails_or_that_others_may_change_gives_none() {
    for (text, mode, wanted) in [
        ("echo hunter2; exit 3", 0o700, "exit status: 3"),
        ("exit 0", 0o700, "it is empty"),
        ("yes hunter2 | head -c 100000", 0o700, "prints too much"),
        ("echo hunter2", 0o722, "others than root could change"),
        ("echo hunter2", 0o600, "cannot be run"),
        ("echo hunter2 >&2; exit 1", 0o700, "exit status: 1"),
    ] {
        let said = printed(text, mode, &[]).unwrap_err();
        assert!(said.contains(wanted) && !said.contains("hunter2"), "{said}");
    }
}

#[test]
fn a_program_that_hangs_is_ended_with_all_that_it_has_started() {
    let dir = tempfile::tempdir().unwrap();
    let pids = dir.path().join("pids");
    let text = format!("sleep 1000 & echo $! > {}; echo hunter2; wait", pids.display());
    let begun = std::time::Instant::now();
    let said = printed(&text, 0o700, &[]).unwrap_err();
    assert!(said.contains("longer than 10 s") && begun.elapsed().as_secs() < 20, "{said}");
    let child = std::fs::read_to_string(&pids).unwrap();
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.trim()));
    assert!(stat.is_err() || stat.unwrap().contains(" Z "), "what it started goes on");
}

/// A stand-in for a store, which says one answer.
fn store(answer: &'static str) -> (String, std::thread::JoinHandle<String>) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/v1/secret/data/crew", listener.local_addr().unwrap());
    let served = std::thread::spawn(move || {
        use std::io::{BufRead, Write};
        let (mut stream, _) = listener.accept().unwrap();
        let mut lines = std::io::BufReader::new(stream.try_clone().unwrap()).lines();
        let mut asked = String::new();
        while let Some(line) = lines.next().map(Result::unwrap).filter(|line| !line.is_empty()) {
            asked = asked + &line + "\n";
        }
        stream.write_all(answer.as_bytes()).unwrap();
        asked
    });
    (url, served)
}

#[test]
fn a_store_gives_a_field_to_who_has_its_token() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("token");
    std::fs::write(&path, "hvs.token\n").unwrap();
    std::fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    let ask = |answer, field: &str| {
        let (url, served) = store(answer);
        let source = Source::Vault { url, field: field.into(), token: Box::new(Source::File(path.clone())), ca: None };
        let secret = read(&source).map(|secret| secret.expose().to_vec()).map_err(|error| error.to_string());
        (secret, served.join().unwrap())
    };
    let whole = "HTTP/1.1 200 OK\r\nContent-Length: 72\r\n\r\n\
                 {\"data\":{\"data\":{\"key\":\"hunter2\",\"n\":5},\"metadata\":{\"version\":3}}}      ";
    let (secret, asked) = ask(whole, "key");
    assert_eq!(secret.unwrap(), b"hunter2");
    assert!(
        asked.starts_with("GET /v1/secret/data/crew HTTP/1.1\n") && asked.contains("x-vault-token: hvs.token\n"),
        "{asked}"
    );
    for (answer, field, wanted) in [
        (whole, "other", "it has no field other"),
        (whole, "n", "its field n is no text"),
        ("HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\n{}", "key", "the store answers 403"),
        (
            "HTTP/1.1 307 T\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n",
            "key",
            "the store answers 307",
        ),
        ("HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{", "key", "not whole"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n{", "key", "no JSON"),
    ] {
        let said = ask(answer, field).0.unwrap_err();
        assert!(said.contains(wanted) && !said.contains("hvs.token") && !said.contains("hunter2"), "{said}");
    }
}
