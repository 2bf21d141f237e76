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
