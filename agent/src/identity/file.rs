//! Files that say who a workload is: tokens, and the keys that they are judged by.
//!
//! Bounded. Never writes, and never takes what others could have put there.

use std::fs::OpenOptions;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use zeroize::Zeroizing;

/// Largest file, in bytes.
const BYTES_MAX: u64 = 4 * 1024 * 1024;

/// What tells one state of a file from the next.
pub(super) type Stamp = (u64, u64, i64, i64, u64);

/// Whose a file may be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Of {
    /// Anybody's who alone may write it: what it holds is signed, and whoever keeps it fresh owns it.
    Keeper,
    /// Root's (or that of the agent's user): what it holds is believed as it stands.
    Root,
}

/// Reads one, where it may block.
pub(super) async fn read(path: &Path, of: Of) -> Result<Zeroizing<Vec<u8>>, String> {
    let place = path.to_path_buf();
    let read = tokio::task::spawn_blocking(move || read_now(&place, of)).await.map_err(|error| error.to_string())?;
    read.map_err(|why| format!("{}: {why}", path.display()))
}

/// Reads the one line of a token.
pub(super) async fn read_token(path: &Path) -> Result<Zeroizing<String>, String> {
    let bytes = read(path, Of::Keeper).await?;
    let token = std::str::from_utf8(&bytes).map(str::trim);
    let is_token = |token: &&str| !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic());
    let token = token.ok().filter(is_token).ok_or_else(|| format!("{} holds no token", path.display()))?;
    Ok(Zeroizing::new(token.to_owned()))
}

fn read_now(path: &Path, of: Of) -> Result<Zeroizing<Vec<u8>>, String> {
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC).open(path);
    let file = file.map_err(|error| error.to_string())?;
    let found = file.metadata().map_err(|error| error.to_string())?;
    if !found.is_file() {
        return Err("it is no file".into());
    }
    if found.mode() & 0o022 != 0 {
        return Err("others could replace it: `chmod go-w`".into());
    }
    if of == Of::Root && found.uid() != 0 && found.uid() != nix::unistd::geteuid().as_raw() {
        return Err("it is not root's, and whoever it belongs to could replace it: `chown root`".into());
    }
    let mut bytes =
        Zeroizing::new(Vec::with_capacity(usize::try_from(found.len().min(BYTES_MAX)).unwrap_or_default() + 1));
    file.take(BYTES_MAX + 1).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    if u64::try_from(bytes.len()).is_ok_and(|len| len > BYTES_MAX) {
        return Err(format!("it has more than {BYTES_MAX} bytes"));
    }
    Ok(bytes)
}

/// Kubernetes replaces a file by exchanging a link above it: what it leads to is looked at.
pub(super) fn stamp(path: &Path) -> Option<Stamp> {
    let found = std::fs::metadata(path).ok()?;
    Some((found.dev(), found.ino(), found.mtime(), found.mtime_nsec(), found.size()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_file_that_others_may_write_is_no_proof() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        std::fs::write(&path, "a.b.c\n").unwrap();
        assert_eq!(&**read_now(&path, Of::Keeper).unwrap(), b"a.b.c\n");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o664)).unwrap();
        assert!(read_now(&path, Of::Keeper).unwrap_err().contains("chmod go-w"));
        assert!(read_now(dir.path(), Of::Keeper).is_err());
    }

    #[test]
    fn keys_are_roots_and_no_file_is_without_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keys");
        std::fs::write(&path, "{}").unwrap();
        assert!(read_now(&path, Of::Root).is_ok());
        if nix::unistd::geteuid().is_root() {
            std::os::unix::fs::chown(&path, Some(65534), None).unwrap();
            assert!(read_now(&path, Of::Keeper).is_ok());
            assert!(read_now(&path, Of::Root).unwrap_err().contains("chown root"));
        }
        std::fs::File::create(&path).unwrap().set_len(BYTES_MAX + 1).unwrap();
        assert!(read_now(&path, Of::Keeper).unwrap_err().contains("more than"));
    }
}
